//! What looking at a process and a port does not see: the blind spots of a load balancer whose
//! address keepalived looks after, before and after. `docs/blind-spots.md` is the table.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::time::Duration;

use netns_tests::front::{Front, PORT, Tier};
use netns_tests::peer::haproxy;
use netns_tests::trio::{GROUP, Kind};
use netns_tests::{Host, Result, Stamp, pause, wait_until};

const SECOND: Duration = Duration::from_secs(1);
/// Of every check here.
const INTERVAL: Duration = SECOND;
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

/// A client is let in through HAProxy.
fn handshake(_: &Host) -> String {
    format!(
        "[[check]]\nname = \"writes\"\npostgresql = \"127.0.0.1:{PORT}\"\n\
         interval = \"1s\"\ntimeout = \"300ms\"\nfall = 1\n"
    )
}

/// What `vipctl explain` says on host number `n`, with single spaces.
fn explained(front: &mut Front, n: usize) -> Result<String> {
    let said = front.trio.ctl(n, &["explain", GROUP])?;
    println!("{said}");
    Ok(said.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// `said` has all of `parts`.
#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

/// Waits until another host than number `old` holds the address alone; how long after `from`.
fn moved(front: &Front, old: usize, from: Stamp, within: Duration) -> Result<(usize, Duration)> {
    let new = front.trio.wait_holder_but(Some(old), within)?;
    let took = Stamp::now().since(from);
    wait_until("one holder", SECOND, || Ok(front.trio.holders()? == [new]))?;
    Ok((new, took))
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
    let (_, took) = moved(&front, holder, at, WATCHED)?;
    println!("keepalived: moved {took:.2?} after the proxy was killed");
    assert!(front.serves()?);
    Ok(())
}

/// Blind spot 3: whoever does not answer in time is not there.
fn hung(label: &str, check: fn(&Host) -> String, words: &str) -> Result {
    let mut front = Front::new(label, Kind::Lease, Tier::Plain)?;
    let mut holder = front.start(check)?;
    for turn in 1..=3 {
        // At another moment of the interval each time.
        pause(turn * INTERVAL / 4);
        let at = Stamp::now();
        front.proxy(holder).freeze()?;
        let (new, took) = moved(&front, holder, at, 5 * SECOND)?;
        println!("{label}: moved {took:.2?} after the proxy hung");
        assert!(took < 2 * INTERVAL, "{took:?}");
        assert!(front.serves()?);
        let said = explained(&mut front, holder)?;
        says(&said, &["cannot serve well", words, "does not answer within 300ms"]);
        says(&said, &[&format!("hap{} holds it", new + 1)]);
        let said = explained(&mut front, new)?;
        says(&said, &[&format!("hap{}, this node, holds it", new + 1), "passes"]);
        front.proxy(holder).thaw()?;
        let back =
            || Ok(front.trio.vipd(holder).status()?["groups"][0]["checks"][0]["verdict"] == true);
        wait_until("a check that passes", 10 * SECOND, back)?;
        // And until everybody has heard that.
        pause(SECOND);
        holder = front.trio.wait_holder(SECOND)?;
        assert_eq!(holder, new, "nothing moves back by itself");
    }
    Ok(())
}

#[test]
fn a_hung_proxy_does_not_answer_through_its_admin_socket() -> Result {
    hung("hung-socket", admin_socket, "check haproxy fails")
}

#[test]
fn a_hung_proxy_does_not_let_a_client_in() -> Result {
    hung("hung-handshake", handshake, "check writes fails")
}
