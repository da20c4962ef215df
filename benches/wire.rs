//! One advert in and one out: each is to stay below 200 ns. One message between voters sealed or
//! opened: below 10 us.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use vipd::types::{
    Centis, Digest, GateId, Incarnation, Instant, Mac, Priority, Version, VoterIx, Voters, VrId,
};
use vipd::wire::announce;
use vipd::wire::peer::{Channel, Entry, Head, Keyring, News};
use vipd::wire::vrrp::{self, Expect, Flavour, Meta, Template};

const SRC: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));
const DST: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

fn wire(c: &mut Criterion) {
    let expect = Expect { version: Version::V3, min_hops: vrrp::HOPS, password: None };
    let meta = Meta { src: SRC, dst: DST, hops: vrrp::HOPS };
    for count in [1, 255] {
        let addresses = vec![IpAddr::V4(VIP); count];
        let (Some(vrid), Some(interval)) = (VrId::new(7), Centis::new(10)) else { return };
        let Ok(template) = Template::new(Version::V3, vrid, interval, &addresses, None) else {
            return;
        };
        let mut buf = Vec::with_capacity(template.len());
        c.bench_function(&format!("emit v3 IPv4 {count}"), |b| {
            b.iter(|| {
                buf.clear();
                let template = black_box(&template);
                template.emit(black_box(Priority(200)), Flavour::Pseudo, SRC, DST, &mut buf);
                black_box(&mut buf);
            });
        });
        c.bench_function(&format!("parse v3 IPv4 {count}"), |b| {
            b.iter(|| vrrp::parse(black_box(&meta), black_box(&expect), black_box(&buf)).is_ok());
        });
    }
    let mac = Mac([0, 0, 0x5e, 0, 1, 7]);
    c.bench_function("gratuitous ARP", |b| {
        b.iter(|| announce::gratuitous_arp(black_box(mac), black_box(VIP)));
    });
    let vip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
    c.bench_function("unsolicited NA", |b| {
        b.iter(|| announce::unsolicited_na(black_box(mac), black_box(vip), false));
    });
    let frame = announce::unsolicited_na(mac, vip, false);
    c.bench_function("parse NA", |b| b.iter(|| announce::parse_nd(black_box(&frame))));
}

const KEY: &[u8] = b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Two voters that have a session.
fn pair() -> Option<(Channel, Channel)> {
    let keys = Keyring::parse(KEY).ok()?;
    let new = |voter, run| Channel::new(VoterIx(voter), "bench", keys.clone(), Incarnation(run), 2);
    let (mut a, mut b) = (new(0, 1), new(1, 2));
    let (now, mut out) = (Instant::BOOT, Vec::new());
    a.tick(now, &mut out);
    while let Some(datagram) = out.pop() {
        let to = if datagram.to == VoterIx(0) { &mut a } else { &mut b };
        to.open(now, 0, &datagram.bytes, &mut out).ok()?;
    }
    Some((a, b))
}

fn peer(c: &mut Criterion) {
    let Some((mut a, mut b)) = pair() else { return };
    let (active, clock) = (Digest(1), Instant::BOOT);
    let (gate, watchdog) = (Some(GateId(7)), None);
    let head =
        Head { active, next: active, settled: true, heard: Voters(3), clock, gate, watchdog };
    let entry = |group| {
        let news = News::Request { gate: GateId(7), round: 8, epoch: 9 };
        Entry { group, news }
    };
    // The last is as much as fits.
    for count in [1, 10, 31] {
        let entries: Vec<_> = (0..count).map(entry).collect();
        let mut buf = Vec::with_capacity(1200);
        c.bench_function(&format!("seal for a voter {count}"), |b| {
            b.iter(|| a.seal(VoterIx(1), black_box(&head), black_box(&entries), &mut buf));
        });
        let mut out = Vec::new();
        c.bench_function(&format!("open from a voter {count}"), |bencher| {
            let sealed = || {
                let mut buf = Vec::new();
                a.seal(VoterIx(1), &head, &entries, &mut buf);
                buf
            };
            let open = |bytes: Vec<u8>| b.open(clock, 0, black_box(&bytes), &mut out).is_ok();
            bencher.iter_batched(sealed, open, BatchSize::SmallInput);
        });
    }
    c.bench_function("drop a forged datagram", |bencher| {
        let mut buf = Vec::new();
        a.seal(VoterIx(1), &head, &[], &mut buf);
        if let Some(last) = buf.last_mut() {
            *last ^= 1;
        }
        let mut out = Vec::new();
        bencher.iter(|| b.open(clock, 0, black_box(&buf), &mut out).is_err());
    });
}

criterion_group!(benches, wire, peer);
criterion_main!(benches);
