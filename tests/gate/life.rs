//! What outlives the daemon, and what stands in its way.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use super::frames::{OTHER4, VIP4};
use super::*;

/// Set for a process that is another daemon: what it is to do, and where.
const CHILD: &str = "VIPD_TEST_GATE";
const DIRECTORY: &str = "VIPD_TEST_GATE_DIRECTORY";
/// How long the other daemon keeps the gate open.
const HELD: Duration = Duration::from_millis(1500);

/// This program as another process in the same network, started by `with`.
fn other(with: &str, doing: &str, pins: &Pins) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words = with.split_whitespace();
    let mut command = match words.next() {
        Some(first) => Command::new(first),
        None => Command::new(&program),
    };
    if !with.is_empty() {
        command.args(words).arg(&program);
    }
    command.args(["life::another_process", "--exact", "--nocapture", "--ignored"]);
    command.env(CHILD, doing).env(DIRECTORY, &pins.0).stdout(Stdio::piped());
    command
}

/// What it has to say.
fn answer(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = lines.map(Result::unwrap).skip_while(|line| !line.contains("said: "));
    said.next().unwrap().split_once("said: ").unwrap().1.to_owned()
}

#[test]
#[ignore = "only run by the tests, in a process of its own"]
fn another_process() {
    let Ok(doing) = std::env::var(CHILD) else { return };
    let directory = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    match Gate::open(&directory, None) {
        Err(e) => println!("said: {e}"),
        Ok((mut gate, slots, inherited)) if doing == "hold" => {
            let slot = slots.claim(OWNER, clock::now()).unwrap();
            gate.set_addresses(&addresses(slot)).unwrap();
            cover(&mut gate);
            let deadline = clock::now() + HELD;
            slots.open_until(slot, deadline);
            println!("said: {} {slot} {}", inherited.id.0, deadline.nanos());
            loop {
                nix::unistd::pause();
            }
        }
        Ok(_) => println!("said: it works"),
    }
    // The harness has something to say too, and nobody listens any more.
    std::process::exit(0);
}

#[test]
fn a_gate_outlives_whoever_opened_it_and_shuts_by_itself() {
    let cable = Cable::new();
    let pins = Pins::new();
    // The bpffs is mounted before, since the other's would be its own.
    let (_, _, nothing) = pins.open();
    let mut child = other("", "hold", &pins).spawn().unwrap();
    let said = answer(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let numbers: Vec<u128> = said.split(' ').map(|n| n.parse().unwrap()).collect();
    let deadline = Instant::from_nanos(numbers[2].try_into().unwrap());
    let slot = u16::try_from(numbers[1]).unwrap();

    let (mut gate, slots, inherited) = pins.open();
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    let passed = cable.passes(&gate, Way::Out, &frame);
    assert!(passed && clock::now() < deadline, "the machine is too slow for this test");
    assert_eq!(inherited.id.0, numbers[0]);
    assert_eq!(inherited.id, nothing.id);
    assert_eq!(inherited.open, [(OWNER, slot, deadline)]);
    assert_eq!(slots.claim(OWNER, clock::now()), Some(slot));
    assert_ne!(slots.claim(2, clock::now()), Some(slot));
    let coverage = gate.cover(&present().unwrap());
    assert_eq!(coverage.changed, [].into(), "it is on the interfaces as it was");
    while clock::now() < deadline {
        assert!(cable.passes(&gate, Way::Out, &frame) || clock::now() >= deadline);
    }
    assert!(!cable.passes(&gate, Way::Out, &frame));
}

#[test]
fn nothing_but_the_pins_is_needed() {
    let cable = Cable::new();
    let pins = Pins::new();
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    let (first, slots, slot) = gate(&pins, None);
    let deadline = clock::now() + LONG;
    slots.open_until(slot, deadline);
    drop((first, slots));
    // Nobody has a descriptor now.
    let far = cable.far.run(|| frames::Tap::open(namespace::index("v1"), IPV4));
    let near = frames::Tap::open(cable.index, 0);
    near.send_as(&frame, 0);
    assert!(far.next(2000).is_some());
    let (second, slots, inherited) = pins.open();
    assert_eq!(inherited.open, [(OWNER, slot, deadline)]);
    slots.shut(slot);
    drop((second, slots));
    near.send_as(&frame, 0);
    assert!(far.next(300).is_none());
    let (second, _, _) = pins.open();
    second.dismantle().unwrap();
    near.send_as(&frame, 0);
    assert!(far.next(2000).is_some());
    let files = std::fs::read_dir(&pins.0).unwrap().map(|file| file.unwrap().file_name());
    let mut ours = files.filter(|name| !name.to_string_lossy().ends_with(".debug"));
    assert_eq!(ours.next(), None, "but what the kernel puts there itself");
}

#[test]
fn a_gate_that_cannot_be_understood_is_waited_for() {
    namespace::enter();
    let pins = Pins::new();
    let (first, slots, slot) = gate(&pins, None);
    let (_, _, before) = pins.open();
    // As if another version had made it.
    std::fs::remove_file(pins.0.join("identity")).unwrap();
    slots.open_until(slot, clock::now() + LONG);
    let error = Gate::open(&pins.0, None).unwrap_err().to_string();
    assert!(error.starts_with("/mnt/gate/slots was made by another version of vipd"), "{error}");
    slots.shut(slot);
    let (mut second, slots, inherited) = pins.open();
    assert_ne!(inherited.id, before.id);
    assert_eq!(slots.owner(slot), None);
    // The programs in the old links use the old deadlines until they are replaced.
    second.set_addresses(&addresses(slot)).unwrap();
    let coverage = second.cover(&present().unwrap());
    assert!(coverage.is_complete());
    assert_eq!(coverage.changed.len(), 3);
    drop(first);
    // A map of another size in the place of the deadlines.
    std::fs::rename(pins.0.join("drops"), pins.0.join("slots")).unwrap();
    let (_, _, third) = pins.open();
    assert_ne!(third.id, inherited.id);
}

#[test]
fn a_program_with_other_maps_is_replaced_in_its_place() {
    let cable = Cable::new();
    let pins = Pins::new();
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    let (first, slots, slot) = gate(&pins, Some(Mode::Tcx));
    slots.open_until(slot, clock::now() + LONG);
    drop(first);
    // A new table of addresses beside a program that looks into the old one.
    std::fs::remove_file(pins.0.join("addresses")).unwrap();
    let (mut second, slots, _) = pins.open();
    second.set_addresses(&addresses(slot)).unwrap();
    let coverage = second.cover(&present().unwrap());
    assert_eq!(coverage.changed.len(), 2, "lo and v0");
    assert!(cable.passes(&second, Way::Out, &frame), "one gate, not two");
    second.set_addresses(&BTreeMap::new()).unwrap();
    slots.shut(slot);
    assert!(cable.passes(&second, Way::Out, &frame), "the old table is out of use");
}

#[test]
fn another_clock_is_refused() {
    namespace::enter();
    let pins = Pins::new();
    drop(pins.open());
    let mut child = other("unshare -T --boottime 100", "open", &pins).spawn().unwrap();
    let said = answer(&mut child);
    assert!(said.contains("off the kernel's: vipd runs in a time namespace"), "{said}");
    child.wait().unwrap();
    let (gate, ..) = pins.open();
    assert_eq!(gate.clock_offset().unwrap(), Duration::ZERO);
}

#[test]
fn whoever_may_not_is_told_what_is_missing() {
    namespace::enter();
    let pins = Pins::new();
    let nobody = |pins: &Pins| {
        let mut child = other("", "open", pins).uid(65534).gid(65534).spawn().unwrap();
        let said = answer(&mut child);
        child.wait().unwrap();
        said
    };
    let said = nobody(&pins);
    assert!(said.contains("is on no BPF file system") && said.contains("mount -t bpf"), "{said}");
    let (gate, ..) = pins.open();
    gate.dismantle().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&pins.0, open).unwrap();
    let said = nobody(&pins);
    assert!(said.starts_with("not allowed to make the BPF map"), "{said}");
    assert!(said.contains("CAP_BPF and CAP_NET_ADMIN"), "{said}");
}
