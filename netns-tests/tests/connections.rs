//! What clients with open connections notice when an address moves, with the daemon and with
//! keepalived.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the lab measures and waits in real time, and prints the figures"
)]

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use netns_tests::cluster::{said, wait_event};
use netns_tests::netns::run_in;
use netns_tests::peer::haproxy::{self, Mode};
use netns_tests::peer::keepalived::{self, Instance};
use netns_tests::peer::vipd::binary;
use netns_tests::session::{Database, Habit, Session, wait_all_ended};
use netns_tests::stats::Summary;
use netns_tests::trio::{Daemon, ECHO, GROUP, Kind, Trio, VIP};
use netns_tests::usage::cpu_percent;
use netns_tests::{
    Capture, Error, Frame, Host, Probe, Proc, Result, Stamp, paint, pause, wait_until,
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const PORT: u16 = 5000;
const VIP6: &str = "fd00:34::85";
/// Clients of each habit.
const EACH: usize = 5;
/// How long those are watched that nobody tells.
const WATCHED: Duration = Duration::from_secs(5);
/// Within which all are told once the address is served again: two rounds and room.
const TOLD: Duration = Duration::from_secs(2);

/// What happens to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// `vipctl move`; keepalived is stopped in order.
    Move,
    PowerLoss,
}

/// Three hosts with HAProxy in front of one database.
struct Stack {
    proxies: Vec<Proc>,
    _database: Database,
    trio: Trio,
}

impl Stack {
    fn start(label: &str, kind: Kind) -> Result<Self> {
        let mut trio = Trio::new(label, kind)?;
        for (n, host) in trio.hosts.iter().enumerate() {
            host.ip(&format!("addr add fd00:34::13{}/64 dev eth0 nodad\n", n + 2))?;
        }
        trio.client.ip("addr add fd00:34::200/64 dev eth0 nodad\n")?;
        let db = trio.lab.host("db", &["192.168.34.140/24"])?;
        let database = Database::start(&db, 5432)?;
        let servers = [("db", "192.168.34.140:5432".parse().unwrap())];
        let start = |host: &Host| haproxy::start(host, Mode::Tcp, PORT, &servers);
        let proxies = trio.hosts.iter().map(start).collect::<Result<_>>()?;
        let config = both_families(&trio.config());
        for n in 0..3 {
            if kind == Kind::Keepalived {
                trio.daemons[n] = Some(Daemon::Keepalived(keepalived_of_both(&trio.hosts[n], n)?));
            } else {
                trio.start_with(n, &config)?;
            }
        }
        trio.wait_holder(10 * SECOND)?;
        Ok(Self { proxies, _database: database, trio })
    }

    /// Clients of each habit.
    fn clients(&self, ip: IpAddr) -> Result<Vec<Session>> {
        let to = SocketAddr::new(ip, PORT);
        let open = |habit| Session::open(&self.trio.client, to, habit);
        wait_until("a proxy that serves", 10 * SECOND, || Ok(open(Habit::Idle).is_ok()))?;
        let habits = Habit::ALL.into_iter().flat_map(|habit| [habit; EACH]);
        habits.map(open).collect()
    }

    /// How many connections number `n` knows of.
    fn known(&mut self, n: usize) -> Result<u64> {
        let status = self.trio.vipd(n).status()?;
        Ok(status["connections"][0]["known"].as_u64().unwrap_or(0))
    }

    fn wait_known(&mut self, n: usize, count: usize) -> Result<Stamp> {
        let count = u64::try_from(count).unwrap();
        wait_until(
            &format!("{count} connections known"),
            5 * SECOND,
            || Ok(self.known(n)? == count),
        )
    }

    fn fail(&mut self, holder: usize, fault: Fault, kind: Kind) -> Result<Stamp> {
        let at = Stamp::now();
        match (fault, kind) {
            (Fault::PowerLoss, _) => return self.power_loss(holder),
            (Fault::Move, Kind::Keepalived) => self.trio.process(holder).term()?,
            (Fault::Move, _) => {
                let to = (holder + 1) % 3;
                let name = self.trio.hosts[to].name().to_owned();
                let said = self.trio.vipd(to).ctl(&["move", GROUP, &name])?;
                assert!(said.status.success(), "{said:?}");
            }
        }
        Ok(at)
    }

    /// `vipctl move --drain`, asked of number `n`.
    fn drain(&mut self, n: usize, to: &str, limit: &str) -> Result<Proc> {
        let program = binary("vipctl")?.to_string_lossy().into_owned();
        let runtime = self.trio.vipd(n).runtime().to_string_lossy().into_owned();
        let argv = [&*program, "--runtime-dir", &runtime, "move", GROUP, to, "--drain", limit];
        self.trio.hosts[n].spawn(&format!("drain-{}", Stamp::now().nanos()), &argv)
    }

    fn power_loss(&mut self, holder: usize) -> Result<Stamp> {
        let at = Stamp::now();
        self.trio.power_loss(holder)?;
        Ok(at)
    }
}

/// keepalived on host number `n`, with an address of either family that go together.
fn keepalived_of_both(host: &Host, n: usize) -> Result<Proc> {
    let link_local = "fe80::85/64".to_owned();
    let instance = |addresses: &[String]| {
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let priority = u8::try_from(150 - 10 * n).unwrap_or(1);
        Instance { preempt: false, ..Instance::new(85, priority, &addresses) }
    };
    let both = [instance(&[format!("{VIP}/24")]), instance(&[link_local, format!("{VIP6}/64")])];
    let together = "vrrp_sync_group both {\n  group {\n    v85_4\n    v85_6\n  }\n}\n";
    keepalived::start_with(host, &(keepalived::config(host.name(), &both) + together))
}

/// The file with an address of either family.
fn both_families(config: &str) -> String {
    let mut text = config.replace(
        &format!("addresses = [\"{VIP}/24\"]"),
        &format!("addresses = [\"{VIP}/24\", \"{VIP6}/64\"]"),
    );
    for n in 2..=4 {
        let v4 = format!("address = \"192.168.34.13{n}\"\n");
        text = text.replace(&v4, &format!("{v4}address6 = \"fd00:34::13{n}\"\n"));
    }
    text
}

/// What the clients of one run noticed.
struct Seen {
    what: String,
    /// From the fault until somebody else served.
    outage: Duration,
    /// How long each client hung, by habit; `None` for those that nobody told.
    hung: Vec<(Habit, Option<Duration>)>,
}

impl Seen {
    fn of(&self, habit: Habit) -> impl Iterator<Item = Option<Duration>> {
        self.hung.iter().filter(move |(is, _)| *is == habit).map(|(_, hung)| *hung)
    }

    /// A cell of the table.
    fn cell(&self, habit: Habit) -> String {
        let told: Vec<f64> = self.of(habit).flatten().map(|d| d.as_secs_f64() * 1000.0).collect();
        match Summary::of(&told) {
            None => format!("all {EACH} for ever"),
            Some(all) if told.len() == EACH => format!("{all}"),
            Some(some) => format!("{some}, {} for ever", EACH - told.len()),
        }
    }
}

fn print(table: &[Seen]) {
    let row = |cells: [String; 5]| {
        let [first, rest @ ..] = cells;
        let rest: Vec<_> = rest.iter().map(|cell| paint::right(cell, 22)).collect();
        println!("{}{}", paint::left(&first, 26), rest.concat());
    };
    println!("how long clients hung, ms: median (least-most)");
    row(["", "served again after", "idle", "waiting", "busy"].map(str::to_owned));
    for seen in table {
        let [idle, waiting, busy] = Habit::ALL.map(|habit| seen.cell(habit));
        row([seen.what.clone(), format!("{:.0?}", seen.outage), idle, waiting, busy]);
    }
}

/// Resets from the virtual address.
fn is_reset(frame: &Frame) -> bool {
    const RST: u8 = 4;
    let tcp = |at: usize| frame.bytes.get(at + 13).is_some_and(|flags| flags & RST != 0);
    match frame.bytes.get(12..14) {
        Some([0x08, 0x00]) => frame.bytes.get(26..30) == Some(&VIP.octets()) && tcp(34),
        Some([0x86, 0xdd]) => frame.bytes.get(20) == Some(&6) && tcp(54),
        _ => false,
    }
}

fn run(kind: Kind, fault: Fault, ip: IpAddr) -> Result<Seen> {
    let name = if kind == Kind::Keepalived { "keepalived" } else { "vipd" };
    let family = if ip.is_ipv4() { "" } else { ", IPv6" };
    let what = match fault {
        Fault::Move => "planned move",
        Fault::PowerLoss => "power loss",
    };
    let mut stack = Stack::start(&format!("clients-{name}-{}", what.replace(' ', "-")), kind)?;
    let holder = stack.trio.wait_holder(SECOND)?;
    let sessions = stack.clients(ip)?;
    if kind == Kind::Keepalived {
        pause(SECOND);
    } else {
        for n in 0..3 {
            stack.wait_known(n, sessions.len())?;
        }
    }
    let probe = Probe::start(&stack.trio.client, (VIP, ECHO).into(), MS)?;
    probe.wait_answer(Stamp::now(), 5 * SECOND)?;
    let resets = Capture::start(&stack.trio.client, "eth0", is_reset)?;
    let old = stack.trio.hosts[holder].hardware()?;

    let at = stack.fail(holder, fault, kind)?;
    let new = stack.trio.wait_holder_but(Some(holder), 10 * SECOND)?;
    // Told or not told: this long is enough to see which.
    let _ = wait_all_ended(&sessions, WATCHED);
    let gap = probe.timeline().outage_after(at);
    let hung = |s: &Session| (s.habit, s.end().map(|end| end.at.since(at)));
    let seen = Seen {
        what: format!("{name}, {what}{family}"),
        outage: gap.to.since(at),
        hung: sessions.iter().map(hung).collect(),
    };
    print(std::slice::from_ref(&seen));

    if kind != Kind::Keepalived {
        for session in &sessions {
            let end = session.end().expect("everybody is told");
            assert!(end.reset, "{:?} is reset", session.habit);
            assert!(end.at.since(gap.to) < TOLD, "{:?}", end.at.since(gap.to));
        }
        let from_old = |frame: &&Frame| frame.bytes.get(6..12) == Some(&old[..]);
        let frames = resets.frames();
        assert!(!frames.is_empty(), "they were seen on the wire");
        assert_eq!(frames.iter().filter(from_old).count(), 0, "the old holder resets nobody");
        // A client that was told too early would have met nobody.
        let first = frames.iter().map(|frame| frame.at).min().unwrap();
        assert!(first + 50 * MS >= gap.to, "{:?} before it is served", gap.to.since(first));
        let told = format!("{} client(s) of an earlier holder", sessions.len());
        wait_event(stack.trio.vipd(new), "clients-told", &told, 5 * SECOND)?;
    }
    // Whoever serves now serves on: nothing that was told harmed the listener.
    let again = Session::open(&stack.trio.client, SocketAddr::new(ip, PORT), Habit::Busy)?;
    pause(SECOND / 2);
    assert_eq!(again.end(), None);
    for (n, proxy) in stack.proxies.iter_mut().enumerate() {
        assert!(proxy.is_running() || (n == holder && fault == Fault::PowerLoss));
    }
    Ok(seen)
}

/// Both faults with the daemon and with keepalived, whose clients wait for ever where they only wait.
fn compare(ip: IpAddr) -> Result {
    let mut table = Vec::new();
    for fault in [Fault::Move, Fault::PowerLoss] {
        for kind in [Kind::Lease, Kind::Keepalived] {
            table.push(run(kind, fault, ip)?);
        }
    }
    print(&table);
    for seen in table.iter().filter(|seen| seen.what.starts_with("keepalived")) {
        for habit in [Habit::Idle, Habit::Waiting] {
            assert!(seen.of(habit).all(|hung| hung.is_none()), "{}: {habit:?}", seen.what);
        }
    }
    Ok(())
}

#[test]
fn clients_are_told_when_their_load_balancer_is_gone() -> Result {
    compare(VIP.into())
}

#[test]
fn clients_over_ipv6_are_told_alike() -> Result {
    compare(VIP6.parse().unwrap())
}

/// As many as HAProxy takes, with room for those that are tried first.
const CROWD: usize = 1500;

#[test]
fn a_crowd_is_told_too_and_costs_little_while_nothing_happens() -> Result {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most).unwrap();
    let mut stack = Stack::start("crowd", Kind::Lease)?;
    let holder = stack.trio.wait_holder(SECOND)?;
    let to = SocketAddr::new(VIP.into(), PORT);
    drop(stack.clients(VIP.into())?);
    let new = (holder + 1) % 3;
    stack.wait_known(new, 0)?;
    let pid = stack.trio.process(holder).pid();
    let alone = cpu_percent(&[&[pid]], 2 * SECOND);
    let mut crowd = run_in(stack.trio.client.namespace(), || {
        let open = |_| {
            let stream = TcpStream::connect_timeout(&to, SECOND)?;
            stream.set_nonblocking(true).map(|()| stream)
        };
        let all: std::io::Result<Vec<TcpStream>> = (0..CROWD).map(open).collect();
        all.map_err(Error::io("connect"))
    })?;
    stack.wait_known(new, CROWD)?;

    // All of it was told and told again by then.
    pause(SECOND);
    let crowded = cpu_percent(&[&[pid]], 2 * SECOND);
    println!("% of a core without connections: {alone:.1?}, with {CROWD} idle ones: {crowded:.1?}");

    stack.fail(holder, Fault::Move, Kind::Lease)?;
    let at = Stamp::now();
    let mut reset = 0;
    // A busy HAProxy closes some that it finds no database for, before the move.
    let mut is_over = |stream: &mut TcpStream| match stream.read(&mut [0]) {
        Ok(_) => true,
        Err(e) => {
            let told = e.kind() == std::io::ErrorKind::ConnectionReset;
            reset += usize::from(told);
            told
        }
    };
    wait_until("everybody to be told", 3 * SECOND, || {
        crowd.retain_mut(|stream| !is_over(stream));
        Ok(crowd.is_empty())
    })?;
    assert!(reset > CROWD * 9 / 10, "{reset} were reset");
    println!("{reset} clients were told within {:.0?} of the move", Stamp::now().since(at));
    wait_event(stack.trio.vipd(new), "clients-told", "client(s) of an earlier", 5 * SECOND)?;
    Ok(())
}

#[test]
fn a_move_that_drains_waits_for_the_connections_that_there_were() -> Result {
    let mut stack = Stack::start("drain", Kind::Lease)?;
    let to = SocketAddr::new(VIP.into(), PORT);
    let client = stack.trio.client.clone();
    let open = || Session::open(&client, to, Habit::Busy);
    let holder = stack.trio.wait_holder(SECOND)?;
    let next = (holder + 1) % 3;
    let names: Vec<_> = stack.trio.hosts.iter().map(|host| host.name().to_owned()).collect();
    drop(stack.clients(VIP.into())?);

    // Those that come later are served, and not waited for.
    let old = [open()?, open()?];
    stack.wait_known(next, 2)?;
    let mut drain = stack.drain(next, &names[next], "20s")?;
    pause(SECOND);
    let later = open()?;
    pause(SECOND);
    assert!(drain.is_running() && old.iter().all(|session| session.end().is_none()));
    assert_eq!(stack.trio.holders()?, [holder]);
    drop(old);
    assert!(drain.wait(5 * SECOND)?.success());
    let log = drain.log();
    assert!(log.starts_with("2 connection(s) to postgres on"), "{log}");
    assert!(log.contains("every connection has ended"), "{log}");
    assert_eq!(stack.trio.wait_holder(SECOND)?, next);
    wait_all_ended(&[later], TOLD)?;

    // A limit is one; what is left is told.
    let left = open()?;
    stack.wait_known(holder, 1)?;
    let at = Stamp::now();
    let back = ["move", GROUP, &names[holder], "--drain", "1s"];
    let output = stack.trio.vipd(holder).ctl(&back)?;
    assert!(output.status.success() && Stamp::now().since(at) >= SECOND, "{output:?}");
    assert!(said(&output).contains("1 connection(s) are cut"), "{output:?}");
    assert_eq!(stack.trio.wait_holder(SECOND)?, holder);
    wait_all_ended(&[left], TOLD)?;

    // Ctrl-C leaves everything as it was.
    let kept = open()?;
    stack.wait_known(next, 1)?;
    let mut drain = stack.drain(next, &names[next], "20s")?;
    pause(SECOND / 2);
    drain.signal(Signal::SIGINT)?;
    assert!(drain.wait(SECOND)?.success());
    drop(kept);
    pause(2 * SECOND);
    assert_eq!(stack.trio.holders()?, [holder]);
    Ok(())
}

#[test]
fn what_was_connected_in_the_last_moment_of_a_tenure_is_told_too() -> Result {
    let mut stack = Stack::start("last-moment", Kind::Lease)?;
    drop(stack.clients(VIP.into())?);
    for _ in 0..4 {
        pause(SECOND / 2);
        let holder = stack.trio.wait_holder(SECOND)?;
        let session =
            Session::open(&stack.trio.client, SocketAddr::new(VIP.into(), PORT), Habit::Idle)?;
        // Before the holder has looked: its last list has this connection.
        stack.fail(holder, Fault::Move, Kind::Lease)?;
        let at = Stamp::now();
        let told = wait_all_ended(&[session], TOLD)?;
        println!("told {:.1?} after the move", told.since(at));
    }
    Ok(())
}
