//! The daemon on real kernels.

use std::net::Ipv4Addr;
use std::time::Duration;

use netns_tests::peer::vipd::{Setup, Vipd};
use netns_tests::{Dice, Host, Lab, Result, Stamp, Watch, pause};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 85);

const GROUP: &str = "postgres";

/// The file of a cluster of two without a proxy.
fn config() -> String {
    let groups = [(GROUP.to_owned(), 85, vec![format!("{VIP}/24")])];
    Setup {
        nodes: &[("hap1", "192.168.34.132", 120), ("hap2", "192.168.34.133", 110)],
        interval: 100 * MS,
        preempt: false,
        groups: &groups,
        proxy: None,
    }
    .text()
}

/// Deletes the address on `host` and sees it come back within 50 ms.
fn delete(host: &Host, vipd: &Vipd, watch: &Watch) -> Result {
    let at = Stamp::now();
    host.ip(&format!("addr del {VIP}/24 dev eth0\n"))?;
    let gone = watch.wait_event(VIP.into(), false, at, SECOND)?;
    let back = watch
        .wait_event(VIP.into(), true, gone.at, 2 * SECOND)
        .inspect_err(|_| eprintln!("{:?}\n{}", vipd.status(), vipd.process.log()))?;
    assert!(back.at.since(gone.at) < 50 * MS, "{:?}", back.at.since(gone.at));
    pause(20 * MS);
    assert!(host.has(VIP.into())?, "it stays\n{}", vipd.process.log());
    Ok(())
}

#[test]
fn a_deleted_address_is_back_at_once() -> Result {
    let lab = Lab::new("deleted")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    let watch = Watch::new();
    watch.follow(&host)?;
    let mut vipd = Vipd::start(&host, &config())?;
    vipd.wait_role(GROUP, "active", 5 * SECOND)?;
    let mut dice = Dice::new(Stamp::now().nanos());
    // Fewer than the restore limit of a minute.
    for _ in 0..4 {
        pause(300 * MS + dice.time_below(100 * MS));
        delete(&host, &vipd, &watch)?;
    }
    assert_eq!(vipd.role(GROUP)?, "active");
    Ok(())
}

/// The daemon's own deletion, at the loss of the carrier, must not be taken for the one by hand
/// that comes later.
#[test]
fn a_deleted_address_is_back_after_the_daemon_itself_had_deleted_it() -> Result {
    for _ in 0..5 {
        let lab = Lab::new("deleted-later")?;
        let host = lab.host("hap1", &["192.168.34.132/24"])?;
        let watch = Watch::new();
        watch.follow(&host)?;
        let mut vipd = Vipd::start(&host, &config())?;
        vipd.wait_role(GROUP, "active", 5 * SECOND)?;
        for _ in 0..2 {
            host.carrier_down()?;
            watch.wait_holders(VIP.into(), &[], 2 * SECOND)?;
            host.carrier_up()?;
            vipd.wait_role(GROUP, "active", 5 * SECOND)?;
            watch.wait_holders(VIP.into(), &["hap1"], SECOND)?;
        }
        delete(&host, &vipd, &watch)?;
    }
    Ok(())
}
