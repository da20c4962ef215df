//! Hooks: what scripts and webhooks are told, held against keepalived, and that nobody waits for
//! them.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netns_tests::netns::run_in;
use netns_tests::peer::keepalived::{self, Instance};
use netns_tests::peer::vipd::Vipd;
use netns_tests::{Host, Lab, Proc, Result, Stamp, Watch, pause, wait_until};

use common::*;

/// Where each call of a script is written down.
fn log(host: &Host) -> PathBuf {
    host.dir().join("calls")
}

/// A script that writes its arguments down, or what `text` makes of it: `LOG` is the file.
fn script(host: &Host, text: &str) -> Result<PathBuf> {
    let log = log(host);
    std::fs::write(&log, "").unwrap();
    set(&log, 0o666);
    let text = text.replace("LOG", &log.to_string_lossy());
    let path = host.write("notify", &format!("#!/bin/sh\n{text}\n"))?;
    set(&path, 0o755);
    Ok(path)
}

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn calls(host: &Host) -> Vec<String> {
    let text = std::fs::read_to_string(log(host)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_calls(host: &Host, n: usize) -> Result<Vec<String>> {
    let done = wait_until(&format!("{n} calls on {}", host.name()), 10 * SECOND, || {
        Ok(calls(host).len() >= n)
    });
    done.inspect_err(|_| eprintln!("{}: {:#?}", host.name(), calls(host)))?;
    Ok(calls(host))
}

const NODES: [(&str, u8, u8); 2] = [("hap1", 132, 150), ("hap2", 133, 100)];

/// The file of two nodes with `hooks`.
fn file(hooks: &str) -> String {
    let keys = format!("preempt = true\n{hooks}");
    File { nodes: &NODES, routers: &[], addresses: &[VIP_NET], keys }.text()
}

fn two(lab: &Lab) -> Result<[Host; 2]> {
    Ok([host(lab, "hap1", 132)?, host(lab, "hap2", 133)?])
}

// ---- keepalived's words ----

/// Either daemon.
enum Daemon {
    Keepalived(Proc),
    Vipd(Vipd),
}

impl Daemon {
    fn start(host: &Host, priority: u8, vipd: bool) -> Result<Self> {
        let path = script(host, "echo \"$@\" >>LOG")?;
        let path = path.display();
        if vipd {
            let hook = format!("[[hook]]\nrun = [\"{path}\", \"mine\"]\nstyle = \"keepalived\"\n");
            return Ok(Self::Vipd(start(host, &file(&hook))?));
        }
        let text = keepalived::config(host.name(), &[Instance::new(VRID, priority, &[VIP_NET])]);
        let (instance, _) = text.trim_end().rsplit_once('}').unwrap();
        let text = format!("{instance}  notify \"{path} mine\"\n}}\n");
        let safe = "global_defs {\n  script_user root\n  enable_script_security\n";
        let text = text.replacen("global_defs {\n", safe, 1);
        keepalived::start_with(host, &text).map(Self::Keepalived)
    }

    fn process(&mut self) -> &mut Proc {
        match self {
            Self::Keepalived(process) => process,
            Self::Vipd(vipd) => &mut vipd.process,
        }
    }
}

/// One bad day of two routers: what the scripts of both are called with.
fn day(vipd: bool) -> Result<[Vec<String>; 2]> {
    let lab = Lab::new(if vipd { "hook-vipd" } else { "hook-peer" })?;
    let hosts = two(&lab)?;
    let watch = watch(&[&hosts[0], &hosts[1]])?;
    let ip = IpAddr::V4(VIP);
    let mut one = Daemon::start(&hosts[0], 150, vipd)?;
    watch.wait_holders(ip, &["hap1"], 10 * SECOND)?;
    let mut two = Daemon::start(&hosts[1], 100, vipd)?;
    wait_calls(&hosts[1], 1)?;
    pause(SECOND);
    hosts[0].link_down()?;
    wait_calls(&hosts[0], 3)?;
    watch.wait_holders(ip, &["hap2"], 10 * SECOND)?;
    pause(SECOND);
    hosts[0].link_up()?;
    watch.wait_holders(ip, &["hap1"], 10 * SECOND)?;
    wait_calls(&hosts[1], 3)?;
    pause(SECOND);
    one.process().term()?;
    one.process().wait(10 * SECOND)?;
    watch.wait_holders(ip, &["hap2"], 10 * SECOND)?;
    wait_calls(&hosts[1], 4)?;
    two.process().term()?;
    two.process().wait(10 * SECOND)?;
    pause(SECOND / 2);
    // The names of groups and instances are the operator's.
    let name = if vipd { GROUP.to_owned() } else { format!("v{VRID}_4") };
    let normal = |line: String| line.replace(&name, "NAME");
    Ok([0, 1].map(|n| calls(&hosts[n]).into_iter().map(normal).collect()))
}

#[test]
fn a_notify_script_is_called_as_keepalived_calls_it() -> Result {
    let theirs = day(false)?;
    println!("keepalived: {theirs:#?}");
    let ours = day(true)?;
    assert_eq!(ours, theirs);
    let expected = |n: usize, states: &[&str]| {
        let line = |state: &&str| format!("mine INSTANCE NAME {state} {}", [150, 100][n]);
        assert_eq!(ours[n], states.iter().map(line).collect::<Vec<_>>());
    };
    expected(0, &["BACKUP", "MASTER", "FAULT", "BACKUP", "MASTER", "STOP"]);
    expected(1, &["BACKUP", "MASTER", "BACKUP", "MASTER", "STOP"]);
    Ok(())
}

// ---- an alert agent ----

/// As the contract of alert agents has it: everything comes in variables, nothing as an argument.
const AGENT: &str = r#"[ $# -eq 0 ] || echo "arguments: $*" >>LOG
case "$CRM_alert_kind" in
node) echo "$CRM_alert_recipient: $CRM_alert_node is $CRM_alert_desc" ;;
resource)
    [ "$CRM_alert_rc" = "$CRM_alert_target_rc" ] || failed=" failed"
    echo "$CRM_alert_recipient: $CRM_alert_task of $CRM_alert_rsc on $CRM_alert_node$failed" ;;
*) echo "kind $CRM_alert_kind" ;;
esac >>LOG
for name in version timestamp timestamp_epoch timestamp_usec node_sequence; do
    eval "value=\$CRM_alert_$name"
    [ -n "$value" ] || echo "no $name" >>LOG
done"#;

#[test]
fn an_alert_agent_gets_what_it_needs() -> Result {
    let lab = Lab::new("hook-agent")?;
    let hosts = two(&lab)?;
    let watch = watch(&[&hosts[0], &hosts[1]])?;
    let mut vipds = Vec::new();
    for host in &hosts {
        let path = script(host, AGENT)?;
        let hook = format!(
            "[[hook]]\nrun = [\"{}\"]\nstyle = \"pacemaker\"\nrecipient = \"ops\"\n\
             on = [\"active\", \"backup\", \"fault\", \"stop\", \"fencing\", \"peer\"]\n",
            path.display()
        );
        vipds.push(start(host, &file(&hook))?);
        watch.wait_holders(IpAddr::V4(VIP), &["hap1"], 10 * SECOND)?;
    }
    // The holder asks its peers whether they are there.
    wait_until("hap2 is seen", 20 * SECOND, || {
        Ok(vipds[0].status()?["peers"][0]["reachable"] == true)
    })?;
    hosts[1].cut()?;
    wait_until("a word of hap2", 20 * SECOND, || Ok(calls(&hosts[0]).len() >= 2))?;
    hosts[1].heal()?;
    wait_until("another", 20 * SECOND, || Ok(calls(&hosts[0]).len() >= 3))?;
    vipds[0].process.term()?;
    vipds[0].process.wait(10 * SECOND)?;
    let expected =
        ["start of postgres on hap1", "hap2 is lost", "hap2 is member", "stop of postgres on hap1"];
    assert_eq!(calls(&hosts[0]), expected.map(|line| format!("ops: {line}")));
    Ok(())
}

// ---- a webhook ----

#[test]
fn a_webhook_hears_of_a_takeover_with_its_reason() -> Result {
    let lab = Lab::new("hook-web")?;
    let hosts = two(&lab)?;
    let client = lab.host("client", &["192.168.34.200/24"])?;
    let listener = run_in(client.namespace(), || {
        Ok(TcpListener::bind(("0.0.0.0", 9093)).expect("nobody else is on this host"))
    })?;
    let token = hosts[0].write("token", "s3cret\n")?;
    set(&token, 0o600);
    let hook = format!(
        "[[hook]]\nname = \"web\"\nurl = \"http://192.168.34.200:9093/vipd\"\n\
         on = [\"active\"]\ntoken-file = \"{}\"\n",
        token.display()
    );
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(5 * SECOND)).unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 1024];
        while !asked.ends_with(b"}") {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "half a request");
            asked.extend_from_slice(&buffer[..n]);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        String::from_utf8(asked).unwrap()
    });
    let mut vipd = start(&hosts[0], &file(&hook))?;
    vipd.wait_role(GROUP, "active", 10 * SECOND)?;
    let asked = receiver.join().unwrap();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /vipd HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer s3cret"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    println!("{body:#}");
    for (key, value) in
        [("kind", "active"), ("was", "backup"), ("group", GROUP), ("node", "hap1"), ("hook", "web")]
    {
        assert_eq!(body[key], value, "{key}");
    }
    assert_eq!(body["reason"], "nobody else was heard");
    wait_until("the call is counted", 5 * SECOND, || Ok(vipd.status()?["hooks"][0]["calls"] == 1))?;
    assert!(vipd.status()?["hooks"][0]["last"]["failed"].is_null());
    assert!(!vipd.process.log().contains("s3cret"));
    Ok(())
}

// ---- nobody waits ----

/// How long the address is nobody's when its holder loses power.
fn takeover(label: &str, hook: &str) -> Result<Duration> {
    let lab = Lab::new(label)?;
    let hosts = two(&lab)?;
    let watch = Watch::new();
    hosts.iter().try_for_each(|host| watch.follow(host))?;
    let ip = IpAddr::V4(VIP);
    let mut vipds = Vec::new();
    for host in &hosts {
        let path = script(host, "echo $VIPD_KIND >>LOG\nexec sleep 1000")?;
        vipds.push(start(host, &file(&hook.replace("PATH", &path.to_string_lossy())))?);
        watch.wait_holders(ip, &["hap1"], 10 * SECOND)?;
    }
    if !hook.is_empty() {
        // It hangs already when it is needed.
        wait_calls(&hosts[1], 1)?;
    }
    let from = Stamp::now();
    hosts[0].power_loss()?;
    let to = watch.wait_event(ip, true, from, 10 * SECOND)?;
    assert_eq!(to.host, "hap2");
    let status = vipds[1].status()?;
    println!("{}", status["hooks"]);
    vipds[1].process.term()?;
    let begun = Stamp::now();
    vipds[1].process.wait(20 * SECOND)?;
    println!(
        "{label}: taken over after {:?}, stopped in {:?}",
        to.at.since(from),
        Stamp::now().since(begun)
    );
    assert!(Stamp::now().since(begun) < 13 * SECOND, "the last calls have a limit");
    wait_until("nothing is left of the scripts", 2 * SECOND, || {
        Ok(hosts[1].processes().is_empty())
    })?;
    Ok(to.at.since(from))
}

#[test]
fn a_hook_that_hangs_delays_nothing() -> Result {
    let without = takeover("hook-none", "")?;
    let hook = "[[hook]]\nrun = [\"PATH\"]\ntimeout = \"1h\"\n";
    let with = takeover("hook-hangs", hook)?;
    // Three adverts, the skew of priority 100, and where in an interval the power went.
    let bound = 3 * 100 * MS + 61 * MS + SLACK;
    println!("without {without:?}, with {with:?}, bound {bound:?}");
    assert!(without <= bound && with <= bound);
    Ok(())
}

#[test]
fn a_bad_script_is_named_and_can_be_tried() -> Result {
    let lab = Lab::new("hook-bad")?;
    let hosts = two(&lab)?;
    let path = script(&hosts[0], "id -un; echo $VIPD_REASON; echo $VIPD_KIND >>LOG; exit 7")?;
    let text = file(&format!("[[hook]]\nrun = [\"{}\"]\n", path.display()));
    let vipd = start(&hosts[0], &text)?;
    wait_condition(&vipd, "hook-failed", 10 * SECOND)?;
    wait_calls(&hosts[0], 2)?;
    let said = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = vipd.ctl(arguments)?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
    };
    let (code, text) = said(&["hook", "notify", "--state", "fault"])?;
    println!("{text}");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("exit status 7") && text.contains("\n  nobody\n  a test: "), "{text}");
    assert_eq!(calls(&hosts[0]).last().map(String::as_str), Some("fault"));
    let (_, text) = said(&["status"])?;
    assert!(text.contains("!  warning hook-failed since"), "{text}");
    let (_, text) = said(&["hook"])?;
    println!("{text}");
    assert!(text.contains("exit status 7"), "{text}");
    let (_, text) = said(&["events"])?;
    assert!(text.contains("hook-failed") && text.contains("exit status 7"), "{text}");

    let config = hosts[0].dir().join("vipd/vipd.toml").to_string_lossy().into_owned();
    set(&path, 0o777);
    let (code, text) = said(&["check", &config])?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("error: hook notify: vipd would refuse it: "), "{text}");
    let (_, text) = said(&["hook", "notify"])?;
    assert!(text.contains("refused: ") && text.contains("everybody may write to it"), "{text}");
    Ok(())
}
