//! Fencing: devices, defaults, and what the voters must have alike.

use std::path::PathBuf;
use std::time::Duration;

use super::values::good;
use vipd::config::{Config, Device, FenceAction, Fencing, Safety, Secret, SecretSource, When};

/// Two nodes that need nobody else.
const PAIR: &str = r#"
[cluster]
name = "lb"
secret = "/etc/vipd/secret"

[[node]]
name = "hap1"
address = "192.168.34.132"
fence = { agent = "fence_ipmilan", ip = "10.0.0.11", username = "vipd", lanplus = true, power-wait = 0, password-file = "/etc/vipd/bmc1" }

[[node]]
name = "hap2"
address = "192.168.34.133"

[[node.fence]]
agent = "/opt/bin/plug"
level = 2
timeout = "5s"
attempts = 1
delay = "1500ms"
port = "hap2"
verbose = false
password-credential = "bmc2"
api-key-file = "/etc/vipd/key"

[[node.fence]]
agent = "fence_ipmilan"
ip = "10.0.0.12"

[[group]]
name = "postgres"
vrid = 85
safety = "lease+fence"
addresses = ["192.168.34.85/24"]
"#;

fn with(from: &str, to: &str) -> Config {
    assert!(PAIR.contains(from), "{from}");
    good(&PAIR.replacen(from, to, 1))
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn devices_are_what_the_file_says() {
    let config = good(PAIR);
    let parameters =
        [("ip", "10.0.0.11"), ("username", "vipd"), ("lanplus", "1"), ("power_wait", "0")];
    let secret = |parameter: &str, source| Secret { parameter: parameter.to_owned(), source };
    let file = |path: &str| SecretSource::File(PathBuf::from(path));
    let device = Device {
        agent: "fence_ipmilan".to_owned(),
        level: 1,
        timeout: Duration::from_mins(1),
        attempts: 2,
        delay: Duration::ZERO,
        parameters: pairs(&parameters),
        secrets: vec![secret("password", file("/etc/vipd/bmc1"))],
    };
    assert_eq!(config.nodes[0].fence.as_slice(), std::slice::from_ref(&device));
    assert_eq!(device.path(), PathBuf::from("/usr/sbin/fence_ipmilan"));
    assert_eq!(device.parameter(&["ipaddr", "ip"]), Some("10.0.0.11"));
    let [plug, ipmi] = config.nodes[1].fence.as_slice() else { panic!("{config:?}") };
    assert_eq!((plug.level, plug.attempts), (2, 1));
    assert_eq!((plug.timeout, plug.delay), (Duration::from_secs(5), Duration::from_millis(1500)));
    assert_eq!(plug.path(), PathBuf::from("/opt/bin/plug"));
    assert_eq!(plug.parameters, pairs(&[("port", "hap2"), ("verbose", "0")]));
    let credential = SecretSource::Credential("bmc2".to_owned());
    let secrets = [secret("password", credential), secret("api_key", file("/etc/vipd/key"))];
    assert_eq!(plug.secrets, secrets);
    assert_eq!(ipmi.parameters, pairs(&[("ip", "10.0.0.12")]));
}

#[test]
fn the_defaults_and_the_rest() {
    let config = good(PAIR);
    assert_eq!(config.fencing, Fencing::default());
    assert_eq!(config.groups[0].safety, Safety::LeaseFence);
    assert!(config.needs_lease() && config.has_devices());
    assert!(Safety::Lease.is_leased() && !Safety::Vrrp.is_leased());
    let text = format!(
        "{PAIR}\n[fencing]\nwhen = [\"rival\", \"stuck\", \"rival\"]\naction = \"off\"\n\
         head-start = \"3s\"\nrandom-delay = \"1s\"\nstartup-wait = \"1m\"\nlimit = 5\n\
         check = \"never\"\n"
    );
    let fencing = Fencing {
        when: vec![When::Stuck, When::Rival],
        action: FenceAction::Off,
        head_start: Duration::from_secs(3),
        random_delay: Duration::from_secs(1),
        startup_wait: Duration::from_mins(1),
        limit: 5,
        check: None,
    };
    assert_eq!(good(&text).fencing, fencing);
}

#[test]
fn voters_agree_on_who_can_be_fenced_and_when() {
    let base = good(PAIR);
    let differ = |other: &Config| {
        let (a, b) = (base.parts(), other.parts());
        assert_eq!(base.digest() == other.digest(), a == b);
        a.into_iter().zip(b).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect::<Vec<_>>()
    };
    let more = |line: &str| good(&format!("{PAIR}\n[fencing]\n{line}\n"));
    for line in ["action = \"off\"", "when = []", "head-start = \"3s\"", "limit = 4"] {
        assert_eq!(differ(&more(line)), ["fencing"], "{line}");
    }
    assert_eq!(differ(&more("check = \"2m\"")), [""; 0]);
    assert_eq!(differ(&with("10.0.0.12", "10.0.0.13")), [""; 0]);
    let lease = PAIR.replacen("lease+fence", "lease", 1);
    let lease = lease.replacen(
        "[[group]]",
        "[[node]]\nname = \"hap3\"\naddress = \"192.168.34.134\"\n[[group]]",
        1,
    );
    let fenced = lease.replacen("fence = {", "paths = []\n# ", 1);
    let (lease, fenced) = (good(&lease), good(&fenced));
    let changed: Vec<_> =
        lease.parts().into_iter().zip(fenced.parts()).filter(|(a, b)| a != b).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].0.0, "fencing");
}

#[test]
fn the_meaning() {
    let meaning = good(PAIR).meaning().join("\n");
    for line in [
        "fencing: reboot for lost-holder, stuck, rival",
        "  hap1          by fence_ipmilan",
        "  hap2          by fence_ipmilan, then /opt/bin/plug",
        "  check         every device is asked for its status every 60s",
        "  safety        lease+fence: nobody holds whom a majority does not let, and a lost holder has no power",
    ] {
        assert!(meaning.contains(line), "{line}\n{meaning}");
    }
}
