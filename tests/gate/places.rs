//! Where the gate is, and where it is not.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;

use super::frames::{OTHER4, OTHER6, VIP4, VIP6, packet4, packet6};
use super::namespace::{Far, enter, index, ip};
use super::*;

fn tc(arguments: &str) -> String {
    let output = std::process::Command::new("tc").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "tc {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn whoever_deletes_disciplines_leaves_the_gate() {
    let cable = Cable::new();
    let (mut gate, _, _) = gate(&Pins::new(), Some(Mode::Tcx));
    tc("qdisc add dev v0 clsact");
    tc("qdisc del dev v0 clsact");
    ip("link set v0 down");
    ip("link set v0 up");
    cable.settle();
    assert!(!cable.passes(&gate, Way::Out, &ipv4([0xff; 6], VIP4, OTHER4)));
    assert_eq!(gate.verify().changed, [].into());
}

#[test]
fn filters_that_are_gone_are_missed_and_put_back() {
    let cable = Cable::new();
    let (mut gate, _, _) = gate(&Pins::new(), Some(Mode::Clsact));
    assert_eq!(gate.verify().changed, [].into());
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    tc("qdisc del dev v0 clsact");
    assert!(cable.passes(&gate, Way::Out, &frame));
    let coverage = gate.verify();
    assert!(coverage.is_complete());
    assert_eq!(coverage.changed, [cable.index].into());
    assert!(!cable.passes(&gate, Way::Out, &frame));
    // One that another has put before ours.
    let other = "filter add dev v0 egress pref 1 protocol all bpf da bytecode";
    let code = ["1,6 0 0 4294967295,"];
    let mut other = std::process::Command::new("tc").args(other.split(' ').chain(code)).spawn();
    assert!(other.as_mut().unwrap().wait().unwrap().success());
    let coverage = gate.verify();
    assert_eq!(coverage.changed, [cable.index].into(), "{}", tc("filter show dev v0 egress"));
    assert!(!cable.passes(&gate, Way::Out, &frame));
}

#[test]
fn a_filter_outlives_its_daemon_and_is_found_again() {
    let cable = Cable::new();
    let pins = Pins::new();
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    drop(gate(&pins, Some(Mode::Clsact)));
    let (mut gate, ..) = Gate::open(&pins.0, Some(Mode::Clsact)).unwrap();
    assert!(!cable.passes(&gate, Way::Out, &frame));
    let coverage = gate.cover(&present().unwrap());
    assert_eq!(coverage.changed, [].into());
    assert_eq!(coverage.links.get(&cable.index), Some(&Cover::Covered(Mode::Clsact)));
    gate.dismantle().unwrap();
    assert!(!tc("filter show dev v0 egress").contains("vipd"));
}

#[test]
fn another_program_that_comes_before_the_gate_loses_its_place() {
    let cable = Cable::new();
    let pins = Pins::new();
    let (mut gate, _, _) = gate(&pins, Some(Mode::Tcx));
    // Another gate, shut too, which has taken the first place.
    let (mut other, slots, _) = Gate::open(&pins.0.with_file_name("other"), None).unwrap();
    let slot = slots.claim(OWNER, clock::now()).unwrap();
    other.set_addresses(&addresses(slot)).unwrap();
    cover(&mut other);
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    let counts = gate.drops().unwrap();
    cable.send(&frame);
    assert_eq!(gate.drops().unwrap(), counts, "the other drops it");
    assert_eq!(other.drops().unwrap()[1], 1);
    let coverage = gate.verify();
    assert!(coverage.is_complete());
    assert_eq!(coverage.changed.len(), 2, "lo and v0: {coverage:?}");
    assert!(!cable.passes(&gate, Way::Out, &frame));
    assert_eq!(gate.verify().changed, [].into());
    assert_eq!(other.verify().changed.len(), 2);
}

/// What the gate lets pass is not thereby let pass by all.
#[test]
fn the_next_program_has_its_say_too() {
    let cable = Cable::new();
    let pins = Pins::new();
    let frame = ipv4([0xff; 6], VIP4, OTHER4);
    for mode in [Mode::Clsact, Mode::Tcx] {
        let at = |name| pins.0.with_file_name(format!("{mode:?}-{name}"));
        let (mut behind, slots, _) = Gate::open(&at("behind"), Some(mode)).unwrap();
        behind.set_addresses(&addresses(slots.claim(OWNER, clock::now()).unwrap())).unwrap();
        cover(&mut behind);
        let (mut first, slots, _) = Gate::open(&at("first"), Some(mode)).unwrap();
        let slot = slots.claim(OWNER, clock::now()).unwrap();
        first.set_addresses(&addresses(slot)).unwrap();
        cover(&mut first);
        let counts = || [&first, &behind].map(|gate| gate.drops().unwrap()[1]);
        cable.send(&frame);
        assert_eq!(counts(), [1, 0], "{mode:?}");
        slots.open_until(slot, clock::now() + LONG);
        cable.send(&frame);
        assert_eq!(counts(), [1, 1], "{mode:?}");
        first.dismantle().unwrap();
        behind.dismantle().unwrap();
    }
}

#[test]
fn a_new_interface_is_covered_when_it_is_named() {
    let cable = Cable::new();
    let pins = Pins::new();
    let (mut gate, _, _) = gate(&pins, None);
    let links = || std::fs::read_dir(&pins.0).unwrap().count();
    let before = links();
    ip("link add w0 type veth peer name w1");
    let coverage = gate.cover(&present().unwrap());
    assert!(coverage.is_complete());
    assert_eq!(coverage.changed, [index("w0"), index("w1")].into());
    assert_eq!(links(), before + 4);
    ip("link del w0");
    let coverage = gate.verify();
    assert!(!coverage.is_complete(), "two that are gone: {coverage:?}");
    let coverage = gate.cover(&present().unwrap());
    assert!(coverage.is_complete() && coverage.changed.is_empty());
    assert_eq!(links(), before, "what was kept for them is gone too");
    let _ = cable;
}

#[test]
fn the_ports_of_a_bridge_are_left_alone() {
    enter();
    ip("link add br0 type bridge");
    let pins = Pins::new();
    let (mut gate, _, _) = gate(&pins, None);
    let skipped = || present().unwrap().into_iter().filter(|link| link.skip).collect::<Vec<_>>();
    assert_eq!(skipped(), []);
    ip("link set v0 master br0");
    let v0 = GateLink { index: index("v0"), name: "v0".into(), skip: true };
    assert_eq!(skipped(), [v0]);
    let coverage = gate.cover(&present().unwrap());
    assert!(coverage.is_complete() && !coverage.links.contains_key(&index("v0")));
    assert!(coverage.links.contains_key(&index("br0")));
    let kept = format!("link-{}-in", index("v0"));
    assert!(!pins.0.join(kept).exists());
}

#[test]
fn a_local_client_does_not_reach_a_shut_address() {
    enter();
    ip("addr add 192.0.2.9/32 dev lo");
    let (gate, slots, slot) = gate(&Pins::new(), None);
    let server = std::net::UdpSocket::bind("192.0.2.9:0").unwrap();
    server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let asks = || {
        let _ = client.send_to(b"hello", server.local_addr().unwrap());
        server.recv(&mut [0; 16]).is_ok()
    };
    assert!(!asks());
    slots.open_until(slot, clock::now() + LONG);
    assert!(asks());
    let _ = gate;
}

/// A tunnel's packets have no Ethernet header.
#[test]
fn tunnels_are_gated_too() {
    enter();
    ip("tuntap add mode tun name t0");
    let mut tunnel = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    attach(&tunnel);
    ip("link set t0 up");
    ip("addr add 192.0.2.9/32 dev t0");
    ip("addr add 192.0.2.1/32 dev t0");
    ip("route add 192.0.2.8/32 dev t0");
    let (gate, slots, slot) = gate(&Pins::new(), None);
    let inward = [
        packet4(OTHER4, VIP4, b"hello"),
        packet6(OTHER6, VIP6, 59, &[0; 16]),
        // What would be the type of an Ethernet frame says something else here.
        packet4([8, 6, 2, 8].into(), VIP4, b"hello"),
    ];
    for packet in inward {
        let before = gate.drops().unwrap();
        slots.shut(slot);
        tunnel.write_all(&packet).unwrap();
        assert_eq!(gate.drops().unwrap(), [before[0] + 1, before[1]], "{packet:x?}");
        slots.open_until(slot, clock::now() + LONG);
        tunnel.write_all(&packet).unwrap();
        assert_eq!(gate.drops().unwrap(), [before[0] + 1, before[1]]);
    }
    let send = |from: &str| {
        let socket = std::net::UdpSocket::bind((from, 0)).unwrap();
        let _ = socket.send_to(from.as_bytes(), "192.0.2.8:9");
    };
    slots.shut(slot);
    send("192.0.2.9");
    send("192.0.2.1");
    slots.open_until(slot, clock::now() + LONG);
    send("192.0.2.9");
    let mut senders = Vec::new();
    while senders.len() < 2 {
        let mut packet = [0; 2048];
        let length = tunnel.read(&mut packet).unwrap();
        if packet[0] == 0x45 {
            senders.push(String::from_utf8_lossy(&packet[28..length]).into_owned());
        }
    }
    assert_eq!(senders, ["192.0.2.1", "192.0.2.9"]);
}

/// Makes `file` the other end of the tunnel `t0`.
#[allow(unsafe_code, reason = "nothing safe attaches to a tunnel")]
fn attach(file: &File) {
    // SAFETY: an `ifreq` of zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b't', b'0'].map(u8::cast_signed));
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI).try_into().unwrap();
    // SAFETY: the request is valid for the call, which reads it and writes its name.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn networks_do_not_share_a_gate() {
    let cable = Cable::new();
    let pins = Pins::new();
    drop(gate(&pins, Some(Mode::Tcx)));
    // The same directory, and interfaces of the same numbers, in another network.
    enter();
    let (mut second, ..) = pins.open();
    let coverage = second.cover(&present().unwrap());
    assert!(coverage.is_complete());
    assert_eq!(coverage.changed.len(), 3, "those of the first network are of no use: {coverage:?}");
    let _: &Far = &cable.far;
}
