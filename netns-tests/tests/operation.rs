//! Starting, stopping, reloading, killing and pausing the daemon, and asking it.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use netns_tests::cluster::{Cluster, NODES, events, said, wait_event};
use netns_tests::peer::vipd::{Vipd, binary, ctl};
use netns_tests::{Dice, Error, Host, Lab, Proc, Result, Stamp, pause, wait_until};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const GROUP: &str = "postgres";
const VIP: &str = "192.168.34.85";
const ONE: &str = r#"
[[group]]
name = "postgres"
vrid = 85
addresses = ["192.168.34.85/24"]
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// `hap1` alone, holding the address.
fn alone(label: &str) -> Result<(Lab, Host, Vipd)> {
    let lab = Lab::new(label)?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    let mut vipd = Vipd::start(&host, &format!("{NODES}{ONE}"))?;
    vipd.wait_role(GROUP, "active", 5 * SECOND)?;
    Ok((lab, host, vipd))
}

/// The command line of a daemon, for those that are not started as usual.
fn command(config: &Path, node: &str, runtime: &Path) -> Result<Vec<String>> {
    let [program, config, runtime] =
        [&binary("vipd")?, config, runtime].map(|path| path.to_string_lossy().into_owned());
    let node = node.to_owned();
    Ok([program, "-c".into(), config, "-n".into(), node, "--runtime-dir".into(), runtime].into())
}

/// Runs a daemon that is expected to end by itself.
fn run(host: &Host, argv: &[String]) -> Result<Output> {
    host.run(&argv.iter().map(String::as_str).collect::<Vec<_>>())
}

// ---- instances ----

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() -> Result {
    let (_lab, host, vipd) = alone("second")?;
    let config = host.dir().join("vipd/vipd.toml");
    let same_directory = run(&host, &command(&config, "hap2", vipd.runtime())?)?;
    assert_eq!(same_directory.status.code(), Some(1));
    assert!(said(&same_directory).contains("another vipd already uses"), "{same_directory:?}");

    let same_node = run(&host, &command(&config, "hap1", &host.dir().join("other"))?)?;
    assert_eq!(same_node.status.code(), Some(1));
    assert!(
        said(&same_node).contains("another vipd already runs for node \"hap1\""),
        "{same_node:?}"
    );
    assert_eq!(vipd.role(GROUP)?, "active");
    assert!(host.has(ip(VIP))?);
    Ok(())
}

#[test]
fn instances_of_several_clusters_share_a_host() -> Result {
    let (_lab, host, mut vipd) = alone("several")?;
    host.ip("addr add 192.168.34.142/24 dev eth0\n")?;
    let config = host.write(
        "other.toml",
        "[cluster]\nname = \"other\"\n\
         [[node]]\nname = \"web1\"\naddress = \"192.168.34.142\"\n\
         [[group]]\nname = \"web\"\nvrid = 86\naddresses = [\"192.168.34.86/24\"]\n",
    )?;
    let runtime = host.dir().join("other");
    let argv = command(&config, "web1", &runtime)?;
    let mut other = host.spawn("other", &argv.iter().map(String::as_str).collect::<Vec<_>>())?;
    wait_until("the other cluster's address", 3 * SECOND, || host.has(ip("192.168.34.86")))?;
    assert!(host.has(ip(VIP))?);
    let status = ctl(&host, &runtime, &["status"])?;
    assert!(said(&status).contains("cluster other, node web1"), "{status:?}");
    other.term()?;
    assert_eq!(other.wait(3 * SECOND)?.code(), Some(0));
    assert!(host.has(ip(VIP))? && !host.has(ip("192.168.34.86"))?);
    vipd.wait_role(GROUP, "active", SECOND)?;
    Ok(())
}

// ---- the end ----

#[test]
fn a_graceful_end_leaves_nothing_behind() -> Result {
    let cluster = Cluster::new("sigterm")?;
    let (mut one, mut two) = cluster.start(ONE, GROUP)?;
    let at = Stamp::now();
    one.process.term()?;
    assert_eq!(one.process.wait(5 * SECOND)?.code(), Some(0));
    two.wait_role(GROUP, "active", SECOND)?;
    let moved = cluster.watch.wait_holders(ip(VIP), &["hap2"], SECOND)?;
    println!("moved in {:?}", moved.since(at));
    assert_eq!(cluster.watch.two_holders(ip(VIP)), []);
    let left = std::fs::read_dir(one.runtime()).map_err(Error::io("list the runtime directory"))?;
    let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
    // The lock's file stays: a file that is removed can be locked twice.
    assert_eq!(left, ["vipd.lock"]);
    Ok(())
}

#[test]
fn a_killed_holder_that_returns_at_any_moment_makes_one_holder() -> Result {
    let cluster = Cluster::new("kill-9")?;
    let (mut one, mut two) = cluster.start(ONE, GROUP)?;
    let config = format!("{NODES}{ONE}");
    let mut dice = Dice::new(Stamp::now().nanos());
    for _ in 0..4 {
        let holds = one.role(GROUP)? == "active";
        let (vipd, host) =
            if holds { (&mut one, &cluster.hap1) } else { (&mut two, &cluster.hap2) };
        vipd.process.kill()?;
        vipd.process.wait(SECOND)?;
        pause(dice.time_below(600 * MS));
        *vipd = Vipd::start(host, &config)?;
        let converged = || {
            let roles = [one.role(GROUP), two.role(GROUP)];
            let roles = roles.map(Result::unwrap_or_default);
            let active = roles.iter().filter(|role| *role == "active").count();
            let backup = roles.iter().filter(|role| *role == "backup").count();
            Ok((active, backup) == (1, 1) && cluster.watch.holders_now(ip(VIP)).len() == 1)
        };
        wait_until("one holder and one Backup", 3 * SECOND, converged)?;
        pause(500 * MS);
        assert!(converged()?, "it lasts");
    }
    Ok(())
}

#[test]
fn a_paused_backup_hears_what_it_missed_before_it_decides() -> Result {
    let cluster = Cluster::new("pause-backup")?;
    let (one, two) = cluster.start(ONE, GROUP)?;
    for time in [3 * SECOND, 400 * MS, 500 * MS, 600 * MS] {
        two.process.freeze()?;
        pause(time);
        two.process.thaw()?;
        pause(300 * MS);
        let told = events(&two)?;
        assert!(!told.iter().any(|event| event.kind == "active"), "{time:?}: {told:?}");
    }
    assert_eq!((one.role(GROUP)?, two.role(GROUP)?), ("active".to_owned(), "backup".to_owned()));
    assert_eq!(cluster.watch.two_holders(ip(VIP)), []);
    Ok(())
}

#[test]
fn a_paused_holder_gives_way_as_soon_as_it_runs_again() -> Result {
    let cluster = Cluster::new("pause-holder")?;
    let (mut one, mut two) = cluster.start(ONE, GROUP)?;
    one.process.freeze()?;
    two.wait_role(GROUP, "active", 3 * SECOND)?;
    pause(SECOND);
    let at = Stamp::now();
    one.process.thaw()?;
    let single = wait_until("a single holder", 2 * SECOND, || {
        Ok(cluster.watch.holders_now(ip(VIP)).len() == 1)
    })?;
    println!("two holders for {:?} after the pause", single.since(at));
    // The paused one has the higher priority: it hears the other, and either of them yields.
    pause(SECOND);
    let holders = cluster.watch.holders_now(ip(VIP));
    assert_eq!(holders.len(), 1, "{holders:?}");
    let after: Vec<_> =
        cluster.watch.two_holders(ip(VIP)).into_iter().filter(|(_, to)| *to >= at).collect();
    assert!(after.len() <= 1, "it is decided once: {after:?}");
    let (winner, loser) =
        if holders.contains("hap1") { (&mut one, &mut two) } else { (&mut two, &mut one) };
    winner.wait_role(GROUP, "active", SECOND)?;
    loser.wait_role(GROUP, "backup", SECOND)?;
    Ok(())
}

// ---- other settings ----

/// Gives a daemon another file and has it read it.
fn reload(host: &Host, vipd: &Vipd, config: &str) -> Result<Output> {
    host.write("vipd/vipd.toml", config)?;
    vipd.ctl(&["reload"])
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_bad() -> Result {
    let cluster = Cluster::new("reload-bad")?;
    let (one, _two) = cluster.start(ONE, GROUP)?;
    let from = Stamp::now();
    let bad = format!("{NODES}{}", ONE.replace("vrid", "vird"));
    let refused = reload(&cluster.hap1, &one, &bad)?;
    assert_eq!(refused.status.code(), Some(1));
    let line = bad.lines().position(|line| line.starts_with("vird")).expect("a bad line") + 1;
    for part in [&format!("vipd.toml:{line}:1"), "unknown key `vird`", "write `vrid`"] {
        assert!(said(&refused).contains(part), "{part}: {refused:?}");
    }

    one.process.signal(nix::sys::signal::Signal::SIGHUP)?;
    let told = || Ok(one.process.log().contains(&format!("vipd.toml:{line}:1")));
    wait_until("the mistake in the log", 2 * SECOND, told)?;
    // A file that is gone or not for this node is as bad.
    let stranger = reload(&cluster.hap1, &one, &NODES.replace("hap1", "hap9"))?;
    assert_eq!(stranger.status.code(), Some(1), "{stranger:?}");
    pause(300 * MS);
    assert_eq!(one.role(GROUP)?, "active");
    let changes: Vec<_> = cluster.watch.events().into_iter().filter(|e| e.at > from).collect();
    assert!(changes.is_empty(), "{changes:?}");
    Ok(())
}

#[test]
fn a_good_file_changes_only_what_differs() -> Result {
    let cluster = Cluster::new("reload-good")?;
    let (mut one, mut two) = cluster.start(ONE, GROUP)?;
    let everywhere = |groups: &str, nodes: &str| -> Result<Stamp> {
        let at = Stamp::now();
        for (host, vipd) in [(&cluster.hap1, &one), (&cluster.hap2, &two)] {
            let output = reload(host, vipd, &format!("{nodes}{groups}"))?;
            assert!(output.status.success(), "{output:?}");
        }
        Ok(at)
    };
    // Priorities the other way round: without preempt nothing moves.
    let upside_down = format!("{ONE}priorities = {{ hap1 = 100, hap2 = 200 }}\n");
    let from = everywhere(&upside_down, NODES)?;
    pause(500 * MS);
    assert_eq!(cluster.watch.holders_now(ip(VIP)), ["hap1".to_owned()].into());

    let two_addresses =
        ONE.replace(r#"["192.168.34.85/24"]"#, r#"["192.168.34.85/24", "192.168.34.86/24"]"#);
    everywhere(&two_addresses, NODES)?;
    cluster.watch.wait_holders(ip("192.168.34.86"), &["hap1"], SECOND)?;
    everywhere(ONE, NODES)?;
    cluster.watch.wait_holders(ip("192.168.34.86"), &[], SECOND)?;

    let web = |vrid: u8| {
        format!("[[group]]\nname = \"web\"\nvrid = {vrid}\naddresses = [\"192.168.34.87/24\"]\n")
    };
    everywhere(&format!("{ONE}{}", web(87)), NODES)?;
    wait_until("a holder of the new group", 2 * SECOND, || {
        Ok(cluster.watch.holders_now(ip("192.168.34.87")).len() == 1)
    })?;
    let changed = everywhere(&format!("{ONE}{}", web(88)), NODES)?;
    wait_until("the other group to have stopped and started", 3 * SECOND, || {
        let came = cluster
            .watch
            .events()
            .into_iter()
            .any(|e| e.at > changed && e.added && e.ip == ip("192.168.34.87"));
        Ok(came && cluster.watch.holders_now(ip("192.168.34.87")).len() == 1)
    })?;
    everywhere(ONE, NODES)?;
    cluster.watch.wait_holders(ip("192.168.34.87"), &[], SECOND)?;

    // Through all of that the first address was left alone.
    let touched: Vec<_> =
        cluster.watch.events().into_iter().filter(|e| e.at > from && e.ip == ip(VIP)).collect();
    assert!(touched.is_empty(), "{touched:?}");
    let one_active = events(&one)?.into_iter().filter(|e| e.kind == "active").count();
    assert!(one_active <= 3, "postgres once, web at most twice: {:?}", events(&one)?);
    wait_event(&one, "reconfigured", "priority 150 -> 100", SECOND)?;
    one.wait_role(GROUP, "active", SECOND)?;
    two.wait_role(GROUP, "backup", SECOND)?;
    Ok(())
}

// ---- asking ----

#[test]
fn the_command_line_shows_what_is() -> Result {
    let (_lab, host, vipd) = alone("ctl")?;
    let status = vipd.ctl(&["status"])?;
    let text = said(&status);
    assert!(status.status.success() && text.contains("cluster lb, node hap1"), "{text}");
    assert!(text.contains("Active") && text.contains("192.168.34.85/24"), "{text}");
    let detail = said(&vipd.ctl(&["status", GROUP])?);
    assert!(detail.contains("192.168.34.85/24"), "{detail}");
    let json = vipd.status()?;
    assert_eq!((&json["cluster"], &json["node"]), (&"lb".into(), &"hap1".into()));
    assert_eq!(json["groups"][0]["addresses"][0]["state"], "present");
    assert_eq!(vipd.ctl(&["status", "mysql"])?.status.code(), Some(1));

    let told = said(&vipd.ctl(&["events"])?);
    assert!(told.contains("nobody else was heard"), "{told}");
    assert!(events(&vipd)?.iter().any(|e| e.kind == "active"));

    // `--watch` goes on until it is stopped: some snapshots in two seconds.
    let vipctl = binary("vipctl")?.display().to_string();
    let runtime = vipd.runtime().display().to_string();
    let watch = ["timeout", "2", &vipctl, "--runtime-dir", &runtime, "status", "--json"];
    let watched = host.run(&[&watch[..], &["--watch", "0.2"]].concat())?;
    let snapshots = String::from_utf8_lossy(&watched.stdout).lines().count();
    assert!((3..=10).contains(&snapshots), "{snapshots}: {watched:?}");
    Ok(())
}

#[test]
fn a_daemon_that_does_not_run_cannot_be_asked() -> Result {
    let (_lab, host, mut vipd) = alone("not-running")?;
    vipd.process.kill()?;
    vipd.process.wait(SECOND)?;
    for command in ["status", "events", "reload"] {
        let output = vipd.ctl(&[command])?;
        assert_eq!(output.status.code(), Some(3), "{command}: {output:?}");
        assert!(output.stdout.is_empty() && said(&output).contains("vipd.sock"), "{output:?}");
    }
    let nowhere = ctl(&host, Path::new("/nonexistent"), &["status"])?;
    assert_eq!(nowhere.status.code(), Some(3), "{nowhere:?}");
    Ok(())
}

// ---- where it cannot run ----

#[test]
fn a_runtime_directory_that_cannot_be_made_is_named() -> Result {
    let lab = Lab::new("unwritable")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    let config = host.write("vipd.toml", &format!("{NODES}{ONE}"))?;
    let runtime = host.write("file", "")?.join("vipd");
    let output = run(&host, &command(&config, "hap1", &runtime)?)?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains(&runtime.display().to_string()), "{output:?}");
    Ok(())
}

/// Something that everybody may read, or write to if it is a directory.
fn open_up(path: &Path, mode: u32) -> Result {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(Error::io(format!("chmod {}", path.display())))
}

/// A copy of the daemon that everybody can execute, and a runtime directory for everybody.
fn for_everybody(host: &Host) -> Result<(PathBuf, PathBuf)> {
    let program = host.dir().join("vipd-copy");
    std::fs::copy(binary("vipd")?, &program).map_err(Error::io("copy vipd"))?;
    open_up(&program, 0o755)?;
    let runtime = host.run_dir()?.join("everybody");
    std::fs::create_dir_all(&runtime).map_err(Error::io("make the runtime directory"))?;
    open_up(&runtime, 0o777)?;
    Ok((program, runtime))
}

fn nobody() -> Vec<String> {
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(str::to_owned).into()
}

#[test]
fn without_capabilities_it_says_so() -> Result {
    let lab = Lab::new("nobody")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    let config = host.write("vipd.toml", &format!("{NODES}{ONE}"))?;
    let (program, runtime) = for_everybody(&host)?;
    let mut argv = command(&config, "hap1", &runtime)?;
    argv[0] = program.display().to_string();
    let argv: Vec<String> = nobody().into_iter().chain(argv).collect();
    let output = run(&host, &argv)?;
    println!("{}", said(&output));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("CAP_NET_ADMIN"), "{output:?}");
    Ok(())
}

// ---- secrets ----

#[test]
fn a_password_is_never_told() -> Result {
    let lab = Lab::new("secret")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    let password = host.write("password", "s3cr3t-x\n")?;
    open_up(&password, 0o600)?;
    let group = format!(
        "{ONE}version = 2\ninterval = \"1s\"\npassword-file = \"{}\"\n",
        password.display()
    );
    let config = host.write("vipd.toml", &format!("{NODES}{group}"))?;
    let runtime = host.run_dir()?.join("vipd");
    let argv = [command(&config, "hap1", &runtime)?, vec!["-l".into(), "trace".into()]].concat();
    let vipd: Proc = host.spawn("vipd", &argv.iter().map(String::as_str).collect::<Vec<_>>())?;
    wait_until("the address", 10 * SECOND, || host.has(ip(VIP)))?;
    // A secret in the shared file itself is refused, and starred out where the line is shown.
    let literal = group.replace("password-file = \"", "password = \"s3cr3t-x\" # \"");
    host.write("vipd.toml", &format!("{NODES}{literal}"))?;
    let refused = ctl(&host, &runtime, &["reload"])?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("password"), "{refused:?}");
    let told: Vec<String> = [&["status", "--json"][..], &["status", GROUP], &["events", "--json"]]
        .iter()
        .map(|arguments| ctl(&host, &runtime, arguments).map(|output| said(&output)))
        .collect::<Result<_>>()?;
    for text in told.iter().chain([&said(&refused), &vipd.log()]) {
        assert!(!text.is_empty() && !text.contains("s3cr3t"), "{text}");
    }
    Ok(())
}
