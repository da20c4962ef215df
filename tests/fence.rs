//! Fence agents as they are run: small ones that were made to fail, and Debian's own.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use vipd::config::{Device, Secret, SecretSource};
use vipd::io::clock;
use vipd::io::fence::{Agents, Outcome, Verb, check, metadata};

const SECRET: &str = "correct horse $(battery) staple";
/// By which the killed daemon knows that it is one.
const ROLE: &str = "VIPD_TEST_FENCE_ROLE";

/// A directory of one test, with agents in it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fence").join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// An agent whose input is the file `input` in the directory, where it runs `script`.
    fn agent(&self, name: &str, script: &str) -> Device {
        let path = self.path(name);
        let dir = self.0.display();
        let head =
            "#!/bin/sh\ninput=$(cat)\nverb=$(printf '%s\\n' \"$input\" | sed -n 's/^action=//p')\n";
        let mute =
            if script.contains("metadata") { "" } else { "[ $verb = metadata ] && exit 1\n" };
        fs::write(&path, format!("{head}dir={dir}\n{mute}{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Device {
            agent: path.display().to_string(),
            level: 1,
            timeout: Duration::from_secs(10),
            attempts: 1,
            delay: Duration::ZERO,
            parameters: Vec::new(),
            secrets: Vec::new(),
        }
    }

    fn secret(&self) -> Secret {
        let file = self.path("secret");
        fs::write(&file, format!("{SECRET}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Secret { parameter: "password".to_owned(), source: SecretSource::File(file) }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn agents(&self) -> Agents {
        Agents::new(&self.0)
    }

    /// How many processes carry the mark of this place.
    fn alive(&self) -> usize {
        let mark = format!("VIPD_FENCE={}#", self.0.display());
        let marked = |path: PathBuf| {
            let environ = fs::read(path.join("environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|v| v.starts_with(mark.as_bytes()))
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter(|e| e.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok()))
            .filter(|e| marked(e.path()))
            .count()
    }

    async fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: not within 5 s; {} processes", self.alive());
    }
}

fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { why } | Outcome::NotStarted { why } => why,
        Outcome::Done | Outcome::On | Outcome::Off | Outcome::TimedOut => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn every_end_has_its_name() {
    let place = Place::new("ends");
    let agents = place.agents();
    let device = place.agent("exit", "exit $(cat $dir/code)");
    for (code, verb, expected) in [
        (0, Verb::Off, Outcome::Done),
        (0, Verb::On, Outcome::Done),
        (0, Verb::Status, Outcome::On),
        (2, Verb::Status, Outcome::Off),
        (0, Verb::Monitor, Outcome::Done),
        (2, Verb::Monitor, Outcome::Done),
        (2, Verb::Off, Outcome::Failed { why: "exit status 2".to_owned() }),
        (1, Verb::Status, Outcome::Failed { why: "exit status 1".to_owned() }),
    ] {
        fs::write(place.path("code"), code.to_string()).unwrap();
        assert_eq!(agents.run(&device, verb, "hap1").await.outcome, expected, "{code} {verb:?}");
    }
    let script = "echo 'Executing' >&2\n\
                  echo '2026-11-24 18:00:00,123 ERROR: Unable to connect/login' >&2; echo bye; exit 1";
    let run = agents.run(&place.agent("words", script), Verb::Off, "hap1").await;
    assert_eq!(failed(&run.outcome), "Unable to connect/login");
    assert!(run.output.contains("Executing\n") && run.output.ends_with("bye\n"), "{run:?}");
    let run = agents.run(&place.agent("signal", "kill -9 $$"), Verb::Off, "hap1").await;
    assert_eq!(failed(&run.outcome), "killed by signal 9");
}

#[tokio::test]
async fn what_cannot_be_run_is_not() {
    let place = Place::new("refused");
    let agents = place.agents();
    let device = place.agent("agent", "exit 0");
    let run = async || agents.run(&device, Verb::Off, "hap1").await.outcome;
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let path = place.path("agent");
    mode(&path, 0o644);
    assert!(failed(&run().await).contains("is not executable"));
    mode(&path, 0o757);
    assert!(failed(&run().await).contains("it can be changed by everybody"));
    mode(&path, 0o755);
    mode(&place.0, 0o777);
    assert!(failed(&run().await).contains("a directory above it can be changed by everybody"));
    mode(&place.0, 0o755);
    assert_eq!(run().await, Outcome::Done);
    fs::remove_file(&path).unwrap();
    assert!(failed(&run().await).contains("No such file"));
    let mut device = place.agent("agent", "exit 0");
    device.secrets = vec![place.secret()];
    fs::remove_file(place.path("secret")).unwrap();
    assert!(
        failed(&agents.run(&device, Verb::Off, "hap1").await.outcome).contains("secret: No such")
    );
    fs::write(place.path("secret"), "a\nb\n").unwrap();
    assert!(
        failed(&agents.run(&device, Verb::Off, "hap1").await.outcome)
            .contains("more than one line")
    );
    device.secrets.clear();
    device.parameters = vec![("x".to_owned(), "a\naction=on".to_owned())];
    assert!(
        failed(&agents.run(&device, Verb::Off, "hap1").await.outcome)
            .contains("more than one line")
    );
}

/// The action is the first line, there are no arguments, hardly any variables, and a secret is
/// neither in them nor in what people are shown.
#[tokio::test]
async fn an_agent_is_told_on_its_input_only() {
    let place = Place::new("input");
    let script = "printf '%s\\n' \"$input\" >$dir/input; echo \"$#\" >$dir/count\n\
                  cat /proc/$$/environ | tr '\\0' '\\n' >$dir/environ; pwd >$dir/cwd\n\
                  tr '\\0' ' ' </proc/$$/cmdline >$dir/cmdline; cut -d' ' -f5,6,7 /proc/$$/stat >$dir/ids\n\
                  grep Cap /proc/$$/status >$dir/caps; ls /proc/$$/fd >$dir/fds; echo $$ >$dir/pid\n\
                  printf '%s\\n' \"$input\" >&2; exit 1";
    let mut device = place.agent("agent", script);
    device.parameters =
        vec![("ip".to_owned(), "10.0.0.1".to_owned()), ("note".to_owned(), "\"a\"".to_owned())];
    device.secrets = vec![place.secret()];
    let run = place.agents().run(&device, Verb::Off, "hap1").await;
    let expected =
        format!("action=off\nnodename=hap1\nip=10.0.0.1\nnote=\"\"a\"\"\npassword={SECRET}\n");
    assert_eq!(place.read("input"), expected);
    assert_eq!((place.read("count").as_str(), place.read("cwd").as_str()), ("0\n", "/\n"));
    assert!(!place.read("environ").contains("horse") && !place.read("cmdline").contains("horse"));
    let names: Vec<_> =
        place.read("environ").lines().map(|l| l.split('=').next().unwrap().to_owned()).collect();
    let mut names: Vec<_> = names.into_iter().filter(|n| n != "PWD").collect();
    names.sort();
    assert_eq!(names, ["HOME", "LC_ALL", "PATH", "PYTHONWARNINGS", "VIPD_FENCE"]);
    let pid = place.read("pid").trim().to_owned();
    assert_eq!(place.read("ids").trim(), format!("{pid} {pid} 0"), "own group and session, no tty");
    for line in place.read("caps").lines() {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    assert!(!run.output.contains("horse"), "{}", run.output);
    assert!(run.output.contains("password=****"), "{}", run.output);
}

/// Whoever left the session and whoever ignores signals goes as well.
#[tokio::test]
async fn at_the_limit_everything_goes() {
    let place = Place::new("limit");
    let script = "trap '' TERM HUP\nsleep 1000 & setsid sleep 1000 & echo x >$dir/started\n\
                  echo half a line >&2\nsleep 1000";
    let mut device = place.agent("agent", script);
    device.timeout = Duration::from_millis(800);
    let run = place.agents().run(&device, Verb::Off, "hap1").await;
    assert_eq!(run.outcome, Outcome::TimedOut);
    assert_eq!(run.output, "half a line\n");
    assert!(run.took >= device.timeout && run.took < Duration::from_secs(3), "{run:?}");
    assert_eq!(place.read("started"), "x\n");
    place.wait("the end", |p| p.alive() == 0).await;
    // The same for what an agent leaves behind that succeeds.
    let run = place
        .agents()
        .run(
            &place.agent("daemon", "setsid sleep 1000 >/dev/null 2>&1 &\nexit 0"),
            Verb::Off,
            "hap1",
        )
        .await;
    assert_eq!(run.outcome, Outcome::Done);
    place.wait("the end", |p| p.alive() == 0).await;
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_is_killed() {
    let place = Place::new("dropped");
    let device = place.agent("agent", "echo x >$dir/started\nsleep 1000 & sleep 1000");
    let agents = place.agents();
    tokio::select! {
        run = agents.run(&device, Verb::Off, "hap1") => panic!("{run:?}"),
        () = place.wait("the start", |p| !p.read("started").is_empty()) => {}
    }
    assert!(
        place.alive() == 0 || {
            place.wait("the end", |p| p.alive() == 0).await;
            true
        }
    );
}

#[tokio::test]
async fn a_flood_is_read_and_cut() {
    let place = Place::new("flood");
    let script =
        "yes 'many words' | head -c 3000000 >&2\necho >&2\necho 'ERROR: the last' >&2\nexit 1";
    let run = place.agents().run(&place.agent("agent", script), Verb::Off, "hap1").await;
    assert_eq!(failed(&run.outcome), "the last");
    assert!(run.output.len() <= 4096 && run.output.len() > 3000, "{}", run.output.len());
}

#[tokio::test]
async fn off_is_what_the_status_says() {
    let place = Place::new("verified");
    let agents = place.agents();
    let off = "[ $verb = status ] || exit 0\n";
    let run = agents.off_verified(&place.agent("honest", &format!("{off}exit 2")), "hap1").await;
    assert_eq!(run.outcome, Outcome::Off);
    let mut liar = place.agent("liar", &format!("{off}exit 0"));
    liar.timeout = Duration::from_millis(1500);
    let run = agents.off_verified(&liar, "hap1").await;
    assert_eq!(failed(&run.outcome), "the agent turned it off, and then says that it is on");
    assert!(run.took < Duration::from_secs(3), "{run:?}");
    let mute = place.agent("mute", &format!("{off}echo 'no answer' >&2; exit 1"));
    let run = agents.off_verified(&mute, "hap1").await;
    assert_eq!(failed(&run.outcome), "not seen to be off: no answer");
    let slow = format!("{off}[ -e $dir/asked ] && exit 2; touch $dir/asked; exit 0");
    let run = agents.off_verified(&place.agent("slow", &slow), "hap1").await;
    assert_eq!(run.outcome, Outcome::Off);
    let metadata = "<resource-agent><parameters><parameter name=\"port\"/></parameters>\
                    <actions><action name=\"off\"/></actions></resource-agent>";
    let blind = format!(
        "[ $verb = metadata ] && echo '{metadata}' && exit 0\n[ $verb = off ] || exit 1\n\
         printf '%s\\n' \"$input\" >$dir/told; exit 0"
    );
    let run = agents.off_verified(&place.agent("blind", &blind), "hap1").await;
    assert_eq!(run.outcome, Outcome::Off);
    assert_eq!(place.read("told"), "action=off\nnodename=hap1\nport=hap1\n");
    let blind = blind.replace("= off ]", "= monitor ]");
    let run = agents.probe(&place.agent("blind", &blind), "hap1").await;
    assert_eq!(run.outcome, Outcome::Done);
}

/// The part of the daemon in the test below.
#[tokio::test]
async fn role_of_a_daemon_that_is_killed() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    let place = Place(PathBuf::from(dir));
    let script = "echo x >$dir/started\nsleep 1000 & setsid sleep 1000 & sleep 1000";
    let device = place.agent("agent", script);
    place.agents().run(&device, Verb::Off, "hap1").await;
}

#[tokio::test]
async fn nothing_of_a_killed_daemon_acts_after_the_next_start() {
    let (place, other) = (Place::new("killed"), Place::new("killed-not"));
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role_of_a_daemon_that_is_killed", "--nocapture"])
        .env(ROLE, &place.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    place.wait("the start", |p| p.alive() >= 4).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    // The agent goes with the daemon; what it started does not know.
    place.wait("the agent's end", |p| p.alive() == 3).await;
    assert_eq!(other.agents().reap(), 0);
    assert_eq!(
        Agents::new(Path::new(
            &place.0.display().to_string()[..place.0.display().to_string().len() - 1]
        ))
        .reap(),
        0
    );
    assert_eq!(place.alive(), 3);
    assert_eq!(place.agents().reap(), 3);
    place.wait("the end", |p| p.alive() == 0).await;
    assert_eq!(place.agents().reap(), 0);
}

/// A device of one of Debian's agents.
fn debian(agent: &str, parameters: &[(&str, &str)]) -> Device {
    let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    Device {
        agent: agent.to_owned(),
        level: 1,
        timeout: Duration::from_secs(30),
        attempts: 1,
        delay: Duration::ZERO,
        parameters: parameters.iter().map(pair).collect(),
        secrets: Vec::new(),
    }
}

#[tokio::test]
async fn debians_dummy_goes_off_and_on() {
    let place = Place::new("dummy");
    let agents = place.agents();
    let state = place.path("state").display().to_string();
    let device = debian("fence_dummy", &[("status_file", &state)]);
    assert_eq!(check::against(&device, &agents.metadata(&device).await.unwrap()), []);
    for (verb, expected) in [
        (Verb::On, Outcome::Done),
        (Verb::Status, Outcome::On),
        (Verb::Off, Outcome::Done),
        (Verb::Status, Outcome::Off),
        (Verb::Monitor, Outcome::Done),
    ] {
        let run = agents.run(&device, verb, "hap1").await;
        assert_eq!(run.outcome, expected, "{verb:?}: {}", run.output);
    }
    assert_eq!(agents.run(&device, Verb::On, "hap1").await.outcome, Outcome::Done);
    let run = agents.off_verified(&device, "hap1").await;
    assert_eq!(run.outcome, Outcome::Off, "{run:?}");
    let start = clock::now();
    agents.metadata(&device).await.unwrap();
    assert!(clock::now().since(start) < Duration::from_millis(50), "it was asked again");
}

#[tokio::test]
async fn every_agent_of_debians_is_understood() {
    let place = Place::new("debian");
    let agents = place.agents();
    let mut names: Vec<_> = fs::read_dir("/usr/sbin")
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().into_string().ok())
        .filter(|n| n.starts_with("fence_"))
        .collect();
    names.sort();
    let mut fabric = Vec::new();
    for name in [
        "fence_brocade",
        "fence_ipmilan",
        "fence_redfish",
        "fence_scsi",
        "fence_virsh",
        "fence_apc_snmp",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} is not installed: make deps");
        let found = agents.metadata(&debian(name, &[])).await.unwrap();
        assert!(found.has("off") && found.parameters.len() > 10, "{name}: {found:?}");
        if found.unfences() {
            fabric.push(name);
        }
    }
    assert_eq!(fabric, ["fence_brocade", "fence_scsi"]);
    let ipmi = agents.metadata(&debian("fence_ipmilan", &[])).await.unwrap();
    assert_eq!(ipmi.host_argument(), Some("plug"));
    assert!(matches!(ipmi.parameter("auth").unwrap().kind, metadata::Kind::OneOf(_)));
}
