//! What is of this host and its network: processes, files, interfaces, neighbours, scripts.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use vipd::config::Probe;
use vipd::io::check::Prober;
use vipd::io::clock;

use super::namespace::{Far, ip};
use super::rig::{Dir, Peer, SHORT, SOON, inside, look, look_shortly, mode, until};

fn says(seen: Result<String, String>, good: &str) {
    assert_eq!(seen.unwrap(), good);
}

fn complains(seen: Result<String, String>, words: &str) {
    let why = seen.unwrap_err();
    assert!(why.contains(words), "{why:?}, not {words:?}");
}

#[test]
fn the_end_of_a_process_is_seen_at_once() {
    inside(|| async {
        let dir = Dir::new("process");
        let path = dir.path("pid");
        let mut prober = Prober::new(&Probe::Process(path.clone()));
        complains(prober.look(SOON).await, "there is no /");
        dir.write("pid", "none\n");
        complains(prober.look(SOON).await, "holds no process number");
        let peer = Peer::run(&["sleep", "1000"]);
        let pid = peer.id();
        dir.write("pid", &format!("{pid}\n"));
        says(prober.look(SOON).await, &format!("process {pid} is there"));
        let early = tokio::time::timeout(SHORT, prober.changed()).await;
        assert!(early.is_err(), "nothing has changed");
        let before = clock::now();
        // Nobody reaps it yet: it is a zombie, and yet it serves nobody.
        peer.signal(Signal::SIGKILL);
        tokio::time::timeout(SOON, prober.changed()).await.expect("its end is seen");
        println!("the end of a process was seen after {:?}", clock::now() - before);
        complains(prober.look(SOON).await, "is gone");
        let next = Peer::run(&["sleep", "1000"]);
        dir.write("pid", &format!("{}\n", next.id()));
        says(prober.look(SOON).await, &format!("process {} is there", next.id()));
        peer.end(Signal::SIGKILL);
    });
}

#[test]
fn a_file_is_a_switch() {
    inside(|| async {
        let dir = Dir::new("file");
        let path = dir.path("offline");
        let absent = Probe::File { path: path.clone(), value: None };
        let holds = Probe::File { path: path.clone(), value: Some("on duty".into()) };
        says(look(&absent).await, &format!("{} is not there", path.display()));
        complains(look(&holds).await, "there is no /");
        dir.write("offline", " on duty\n");
        complains(look(&absent).await, "is there");
        says(look(&holds).await, &format!("{} holds \"on duty\"", path.display()));
        dir.write("offline", "off\n");
        complains(look(&holds).await, "holds \"off\", not \"on duty\"");
        // Nothing is missed that is as long as what was there, however soon it comes.
        let mut prober = Prober::new(&holds);
        for n in 0..90 {
            let is_on = n % 5 == 0;
            dir.write("offline", if is_on { "on duty" } else { "no duty" });
            for _ in 0..=n % 3 {
                assert_eq!(prober.look(SOON).await.is_ok(), is_on, "{n}");
            }
            tokio::time::sleep(Duration::from_millis(n / 30 * 30)).await;
            assert_eq!(prober.look(SOON).await.is_ok(), is_on, "{n}");
        }
        fs::remove_file(&path).unwrap();
        // A pipe that nobody writes to hangs whoever opens it: the time is up, and the next look
        // waits for the same thread.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut prober = Prober::new(&holds);
        complains(prober.look(SHORT).await, "cannot be read within");
        complains(prober.look(SHORT).await, "cannot be read within");
        fs::write(&path, "on duty").unwrap();
        says(prober.look(SOON).await, &format!("{} holds \"on duty\"", path.display()));
    });
}

/// Looks only when told of a change, until `expected` is seen.
async fn follow(prober: &mut Prober, expected: &Result<&str, &str>) {
    loop {
        let told = tokio::time::timeout(SOON, prober.changed()).await;
        told.unwrap_or_else(|_| panic!("no change leads to {expected:?}"));
        let seen = prober.look(SOON).await;
        if seen.as_deref().map_err(String::as_str) == *expected {
            return;
        }
    }
}

#[test]
fn an_interface_has_carrier_or_not() {
    inside(|| async {
        let mut prober = Prober::new(&Probe::Interface("v0".into()));
        // The kernel takes a moment to find carrier.
        until(&Probe::Interface("v0".into()), &Ok("v0 is up")).await;
        says(prober.look(SOON).await, "v0 is up");
        ip("link set v1 down");
        follow(&mut prober, &Err("v0 has no carrier")).await;
        ip("link set v0 down");
        follow(&mut prober, &Err("v0 is down")).await;
        ip("link set v0 up");
        ip("link set v1 up");
        follow(&mut prober, &Ok("v0 is up")).await;
        complains(look(&Probe::Interface("v9".into())).await, "there is no v9");
    });
}

#[test]
fn neighbours_are_asked_and_not_remembered() {
    inside(|| async {
        let far = Far::with("v1");
        for command in ["address add 10.0.0.1/24 dev v0", "address add 2001:db8::1/64 dev v0 nodad"]
        {
            ip(command);
        }
        far.run(|| {
            ip("address add 10.0.0.2/24 dev v1");
            ip("address add 2001:db8::2/64 dev v1 nodad");
        });
        for address in ["10.0.0.2", "2001:db8::2"] {
            let address = address.parse().unwrap();
            let mut neighbour = Prober::new(&Probe::Neighbour(address));
            let ping = Probe::Ping(address);
            // Link-local addresses take a moment until they may be used.
            let mut seen = neighbour.look(SOON).await;
            for _ in 0..100 {
                if seen.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                seen = neighbour.look(SOON).await;
            }
            let seen = seen.unwrap();
            assert!(seen.starts_with(&format!("{address} is at ")), "{seen}");
            says(look(&ping).await, &format!("{address} answers ping"));
            far.run(|| ip("link set v1 arp off"));
            far.run(|| {
                ip(&format!(
                    "address del {address}/{} dev v1",
                    if address.is_ipv4() { 24 } else { 64 }
                ))
            });
            complains(neighbour.look(SHORT).await, "does not answer ARP/ND on v0 within");
            complains(look_shortly(&ping).await, "does not answer ping within");
            far.run(|| ip("link set v1 arp on"));
        }
        let elsewhere = Probe::Neighbour("10.9.9.9".parse().unwrap());
        complains(look(&elsewhere).await, "10.9.9.9 is in no network of this host");
        complains(look(&Probe::Ping("10.9.9.9".parse().unwrap())).await, "Network is unreachable");
    });
}

#[test]
fn a_script_is_judged_by_its_end() {
    inside(|| async {
        let dir = Dir::new("run");
        let script = |text: &str| {
            let path = dir.write("healthy", &format!("#!/bin/sh\n{text}\n"));
            mode(&path, 0o755);
            Probe::Run { argv: vec![path.to_str().unwrap().into(), "x".into()], user: None }
        };
        says(look(&script("id -un; echo \"good: $1\"")).await, "good: x");
        says(look(&script("[ \"$(id -un)\" = nobody ]")).await, "exit status 0");
        complains(look(&script("echo no primary >&2; exit 3")).await, "exit status 3: no primary");
        let hanging = script("sleep 4711 & sleep 4711");
        complains(look_shortly(&hanging).await, "killed: not done after 300ms");
        let left = Command::new("pgrep").args(["-f", "^sleep 4711"]).output().unwrap();
        assert!(left.stdout.is_empty(), "{left:?}");
        let writable = script("true");
        mode(&dir.path("healthy"), 0o757);
        complains(look(&writable).await, "everybody may write to it");
    });
}
