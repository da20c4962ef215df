//! One advert in and one out: each is to stay below 200 ns.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, criterion_group, criterion_main};
use vipd::types::{Centis, Mac, Priority, Version, VrId};
use vipd::wire::announce;
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

criterion_group!(benches, wire);
criterion_main!(benches);
