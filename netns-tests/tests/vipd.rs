//! The daemon on real kernels.

use std::net::Ipv4Addr;
use std::time::Duration;

use netns_tests::peer::vipd::{Setup, Vipd};
use netns_tests::{Dice, Lab, Result, Stamp, Watch, pause};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 85);

#[test]
fn a_deleted_address_is_back_at_once() -> Result {
    let lab = Lab::new("deleted")?;
    let host = lab.host("hap1", &["192.168.34.132/24"])?;
    let groups = [("postgres".to_owned(), 85, vec![format!("{VIP}/24")])];
    let setup = Setup {
        nodes: &[("hap1", "192.168.34.132", 120), ("hap2", "192.168.34.133", 110)],
        interval: 100 * MS,
        preempt: false,
        groups: &groups,
        proxy: None,
    };
    let watch = Watch::new();
    watch.follow(&host)?;
    let mut vipd = Vipd::start(&host, &setup.text())?;
    vipd.wait_role("postgres", "active", 5 * SECOND)?;
    let mut dice = Dice::new(Stamp::now().nanos());
    // Fewer than the restore limit of a minute.
    for turn in 0..4 {
        pause(300 * MS + dice.time_below(100 * MS));
        let at = Stamp::now();
        host.ip(&format!("addr del {VIP}/24 dev eth0\n"))?;
        let gone = watch.wait_event(VIP.into(), false, at, SECOND)?;
        let back = watch.wait_event(VIP.into(), true, gone.at, 2 * SECOND).inspect_err(|_| {
            eprintln!("turn {turn}: {:?}\n{}", vipd.status(), vipd.process.log());
        })?;
        assert!(back.at.since(gone.at) < 50 * MS, "{:?}", back.at.since(gone.at));
    }
    assert_eq!(vipd.role("postgres")?, "active");
    Ok(())
}
