//! What looking at a process and a port does not see: the blind spots of a load balancer whose
//! address keepalived looks after, before and after. `docs/blind-spots.md` is the table.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::time::Duration;

use netns_tests::front::{Front, PORT, Tier, says};
use netns_tests::peer::haproxy;
use netns_tests::trio::{GROUP, Kind};
use netns_tests::{Error, Host, Result, Stamp, pause, wait_until};

const SECOND: Duration = Duration::from_secs(1);
/// Of every check here.
const INTERVAL: Duration = SECOND;
/// A move by lease, and a machine that is busy with other things.
const ROOM: Duration = Duration::from_millis(250);
/// Far more than a script of keepalived's needs to fail: twice each second.
const WATCHED: Duration = Duration::from_secs(6);

/// HAProxy answers for itself and has a server.
fn admin_socket(host: &Host) -> String {
    let socket = haproxy::socket(host);
    format!(
        "[[check]]\nname = \"haproxy\"\nhaproxy = \"{}\"\nbackend = \"production\"\n\
         interval = \"1s\"\ntimeout = \"300ms\"\nfall = 1\n",
        socket.display()
    )
}

/// The same as people write it, with what is the default.
fn admin_socket_by_default(host: &Host) -> String {
    let socket = haproxy::socket(host);
    format!(
        "[[check]]\nname = \"haproxy\"\nhaproxy = \"{}\"\nbackend = \"production\"\n",
        socket.display()
    )
}

/// A client is let in through HAProxy.
fn handshake(_: &Host) -> String {
    format!(
        "[[check]]\nname = \"writes\"\npostgresql = \"127.0.0.1:{PORT}\"\n\
         interval = \"1s\"\ntimeout = \"300ms\"\nfall = 1\n"
    )
}

/// Blind spot 3, before: a hung HAProxy is a process, and its kernel accepts.
#[test]
fn a_hung_proxy_keeps_the_address_with_keepalived() -> Result {
    let mut front = Front::new("hung-keepalived", Kind::Keepalived, Tier::Plain)?;
    let holder = front.start_keepalived()?;
    assert!(front.serves()?);
    let moves = front.moves();
    front.proxy(holder).freeze()?;
    pause(WATCHED);
    assert_eq!((front.moves(), front.trio.holders()?), (moves, vec![holder]));
    assert!(!front.serves()?, "and nobody is served");
    println!("keepalived: {WATCHED:?} after the proxy hung: not moved, nobody served");

    // What it looks at it does see.
    front.proxy(holder).kill_tree()?;
    let at = Stamp::now();
    let (_, took) = front.moved(holder, at, WATCHED)?;
    println!("keepalived: moved {took:.2?} after the proxy was killed");
    assert!(front.serves()?);
    Ok(())
}

/// Blind spot 3: whoever does not answer in time is not there.
fn hung(label: &str, check: fn(&Host) -> String, words: &str, within: Duration) -> Result {
    let mut front = Front::new(label, Kind::Lease, Tier::Plain)?;
    let mut holder = front.start(check)?;
    for turn in 1..=3 {
        // At another moment of the interval each time.
        pause(turn * INTERVAL / 4);
        let at = Stamp::now();
        front.proxy(holder).freeze()?;
        let (new, took) = front.moved(holder, at, 5 * SECOND)?;
        println!("{label}: moved {took:.2?} after the proxy hung");
        assert!(took < within, "{took:?}");
        assert!(front.serves()?);
        let said = front.explain(holder)?;
        says(&said, &["cannot serve well", words, "does not answer within 300ms"]);
        says(&said, &[&format!("hap{} holds it", new + 1)]);
        let said = front.explain(new)?;
        says(&said, &[&format!("hap{}, this node, holds it", new + 1), "passes"]);
        front.proxy(holder).thaw()?;
        front.wait_verdict(holder, true)?;
        // And until everybody has heard that.
        pause(SECOND);
        holder = front.trio.wait_holder(SECOND)?;
        assert_eq!(holder, new, "nothing moves back by itself");
    }
    Ok(())
}

#[test]
fn a_hung_proxy_does_not_answer_through_its_admin_socket() -> Result {
    hung("hung-socket", admin_socket, "check haproxy fails", 2 * INTERVAL)
}

/// Two bad looks in a row, the second soon after the first.
#[test]
fn a_hung_proxy_is_left_within_two_intervals_by_default() -> Result {
    hung("hung-default", admin_socket_by_default, "check haproxy fails", 2 * INTERVAL + ROOM)
}

#[test]
fn a_hung_proxy_does_not_let_a_client_in() -> Result {
    hung("hung-handshake", handshake, "check writes fails", 2 * INTERVAL)
}

/// The admin socket is gone while HAProxy serves: nobody can tell how it is, hence somebody takes
/// over of whom that can be told; if that is so everywhere, nothing moves.
#[test]
fn a_proxy_without_its_admin_socket_is_named() -> Result {
    let mut front = Front::new("socket-gone", Kind::Lease, Tier::Plain)?;
    let holder = front.start(admin_socket)?;
    let remove = |front: &Front, n: usize| {
        std::fs::remove_file(haproxy::socket(&front.trio.hosts[n])).map_err(Error::io("remove"))
    };
    let at = Stamp::now();
    remove(&front, holder)?;
    let (new, took) = front.moved(holder, at, 5 * SECOND)?;
    println!("moved {took:.2?} after the admin socket was gone");
    says(&front.explain(holder)?, &["check haproxy fails: there is no", "haproxy.sock"]);

    let others = (0..3).filter(|n| *n != holder);
    others.clone().try_for_each(|n| remove(&front, n))?;
    others.clone().try_for_each(|n| front.wait_verdict(n, false))?;
    let moves = front.moves();
    pause(3 * SECOND);
    assert_eq!((front.moves(), front.trio.holders()?), (moves, vec![new]));
    assert!(front.serves()?, "and all the same clients are served");
    says(&front.explain(new)?, &["holds it, though it cannot serve well: nobody better is known"]);
    Ok(())
}

/// HAProxy is killed and started again and again by somebody else: the address leaves once, and
/// does not come back meanwhile.
#[test]
fn a_proxy_that_restarts_in_a_loop_loses_the_address_once() -> Result {
    let mut front = Front::new("loop", Kind::Lease, Tier::Plain)?;
    let holder = front.start(admin_socket)?;
    let moves = front.moves();
    let from = Stamp::now();
    let mut times = 0;
    while Stamp::now().since(from) < 12 * SECOND {
        front.proxies[holder] = None;
        pause(SECOND * 3 / 4);
        front.start_proxy(holder)?;
        pause(SECOND * 3 / 4);
        times += 1;
    }
    println!("{times} restarts in {:.1?}", Stamp::now().since(from));
    assert_ne!(front.trio.holders()?, [holder]);
    // It went there, and came here.
    assert_eq!(front.moves(), moves + 2, "{:?}", front.trio.watch.events());
    let said = front.trio.ctl(holder, &["events", "--group", GROUP])?;
    println!("{said}");
    says(&said, &["check haproxy"]);
    Ok(())
}

/// Blind spot 8: HAProxy takes every server for up until it has looked. Who prefers a host gets it
/// back only when its proxy has looked and found somebody. Whether it took the address before.
fn first_round(label: &str, kind: Kind) -> Result<bool> {
    let mut front = Front::new(label, kind, Tier::Plain)?;
    front.prefer_first();
    let vipd = kind != Kind::Keepalived;
    if vipd {
        front.start(admin_socket)?
    } else {
        front.start_keepalived()?
    };
    wait_until("the preferred host", 20 * SECOND, || Ok(front.trio.holders()? == [0]))?;
    // It boots where the database cannot be reached.
    front.proxies[0] = None;
    front.trio.process(0).term()?;
    wait_until("another host", 10 * SECOND, || {
        Ok(front.trio.holders()?.first().is_some_and(|n| *n != 0))
    })?;
    front.trio.kill(0);
    front.trio.hosts[0].cut_between(&front.db)?;
    front.start_proxy(0)?;
    if vipd {
        front.start_one(0, admin_socket)?;
    } else {
        front.start_one_keepalived(0)?;
    }
    let until = Stamp::now() + 8 * SECOND;
    let mut unchecked = false;
    while Stamp::now() < until {
        if vipd && let Ok((found, _)) = front.check(0) {
            unchecked |= found.contains("not yet checked");
        }
        if front.trio.holders()? == [0] {
            return Ok(true);
        }
        pause(SECOND / 20);
    }
    if vipd {
        assert!(unchecked, "its first round was seen");
        says(&front.explain(0)?, &["check haproxy fails", "production: 0 of 1 servers up"]);
        front.trio.hosts[0].heal()?;
        let at = Stamp::now();
        wait_until("the preferred host", 30 * SECOND, || Ok(front.trio.holders()? == [0]))?;
        println!("{label}: it was back {:.1?} after it had a server", Stamp::now().since(at));
        assert!(front.serves()?);
    }
    Ok(false)
}

#[test]
fn a_host_whose_proxy_has_not_looked_yet_takes_nothing() -> Result {
    assert!(!first_round("first-round", Kind::Lease)?);
    Ok(())
}

#[test]
fn with_keepalived_it_takes_the_address_and_serves_nobody() -> Result {
    assert!(first_round("first-round-keepalived", Kind::Keepalived)?);
    Ok(())
}
