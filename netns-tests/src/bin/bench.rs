//! The benchmark: vipd and keepalived in one run, by turns, with the same interval, priorities
//! and preemption, failed at random moments; ratios of medians.

#![allow(clippy::print_stdout, reason = "the result is what it prints")]

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use netns_tests::looking::{CHECKS, Looking, Mix};
use netns_tests::paint::{Paint, Tone, left, right};
use netns_tests::peer::keepalived::{self, Instance};
use netns_tests::peer::vipd::{Setup, Vipd};
use netns_tests::stats::{Summary, short};
use netns_tests::usage::{Usage, cpu_percent};
use netns_tests::{Dice, Error, Host, Lab, Probe, Proc, Result, Stamp, Watch, pause, tree};

const INTERVAL: Duration = Duration::from_millis(100);
/// Two nodes, and a third where they vote.
const PRIORITIES: [u8; 3] = [200, 150, 100];
const ADDRESSES: [&str; 3] = ["192.168.34.132", "192.168.34.133", "192.168.34.134"];
const PORT: u16 = 7;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Elections of the processor measurement.
const MANY: u8 = 200;
/// How often processor time is measured; the median counts.
const WINDOWS: usize = 5;
/// Whose figures stand beside a holder's, where its daemon is killed.
const BACKUP: &str = "a backup's";
/// Resident memory of vipd that is too much, MiB.
const RSS_LIMIT: f64 = 12.0;

/// Measures vipd against keepalived: outages, processor time, memory.
#[derive(Parser)]
struct Arguments {
    /// Faults of each kind, for each of the two
    #[arg(long, default_value_t = 20, value_name = "N")]
    faults: usize,
    /// Seconds for each measurement of processor time
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    window: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a target is missed
    #[arg(long)]
    check: bool,
    /// Measure one of the two only
    #[arg(long)]
    only: Option<Kind>,
}

/// Whose daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Keepalived,
    Vipd,
    /// vipd on three hosts, with a lease.
    Lease,
    /// vipd on one host, with hundreds of checks.
    Checks,
}

/// What is done to the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    PowerLoss,
    Stop,
    Deleted,
    /// The daemon is killed, and started again at once.
    Restart,
    /// The same on the second host, which no client can notice: what of it is a daemon's start, on
    /// the processors that all hosts share.
    Control,
}

const FAULTS: [Fault; 3] = [Fault::PowerLoss, Fault::Stop, Fault::Deleted];
const LEASE_FAULTS: [Fault; 3] = [Fault::PowerLoss, Fault::Stop, Fault::Restart];

/// Something measured of both, and how much of its peer's vipd may take.
#[derive(Clone, Debug, serde::Serialize)]
struct Measure {
    name: String,
    unit: &'static str,
    /// The greatest ratio of medians allowed, if there is one.
    target: Option<f64>,
    /// The greatest median of vipd allowed, if there is one.
    limit: Option<f64>,
    /// Whose figures those of vipd are compared with.
    peer: &'static str,
    theirs: Vec<f64>,
    vipd: Vec<f64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(measures) => {
            let missed = measures.iter().filter(|m| m.missed()).count();
            let print = if arguments.json { print_json } else { print_table };
            print(&measures);
            ExitCode::from(u8::from(arguments.check && missed > 0))
        }
        Err(error) => {
            eprintln!("\nbench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Vec<Measure>> {
    let window = Duration::from_secs(arguments.window);
    if arguments.only == Some(Kind::Checks) {
        return checks(window);
    }
    let kinds: Vec<Kind> = [Kind::Keepalived, Kind::Vipd, Kind::Lease]
        .into_iter()
        .filter(|kind| arguments.only.is_none_or(|only| only == *kind))
        .collect();
    let mut measures = outages(&kinds, arguments.faults)?;
    let plain: Vec<Kind> = kinds.iter().copied().filter(|k| *k != Kind::Lease).collect();
    if !plain.is_empty() {
        measures.extend(idle(&plain, window)?);
        measures.extend(many(&plain, window)?);
    }
    if kinds.contains(&Kind::Lease) {
        measures.extend(seven(window)?);
    }
    if arguments.only.is_none() {
        measures.extend(checks(window)?);
    }
    say("");
    Ok(measures)
}

/// The outage of a client after each fault.
fn outages(kinds: &[Kind], faults: usize) -> Result<Vec<Measure>> {
    let mut measures: Vec<Measure> =
        FAULTS.iter().map(|f| Measure::new(f.name(), "ms", Some(f.target()))).collect();
    let mut lease: Vec<Measure> = LEASE_FAULTS.iter().map(|f| f.leased()).collect();
    let mut beds = if faults > 0 { start_beds(kinds, 1)? } else { Vec::new() };
    let mut dice = Dice::new(Stamp::now().nanos());
    for turn in 0..faults {
        for fault in FAULTS.into_iter().chain([Fault::Restart, Fault::Control]) {
            // None is always the first.
            beds.rotate_left(1);
            for bed in beds.iter_mut().filter(|bed| fault.concerns(bed.kind)) {
                say(&format!("fault {}/{faults}: {}, {:?}", turn + 1, fault.name(), bed.kind));
                pause(dice.time_below(INTERVAL));
                let outage = bed.fail(fault)?.as_secs_f64() * 1000.0;
                let plain = FAULTS.iter().position(|f| *f == fault).map(|ix| &mut measures[ix]);
                if let Some(measure) = plain.filter(|_| bed.kind != Kind::Lease) {
                    measure.add(bed.kind, outage);
                }
                if fault == Fault::Control {
                    lease
                        .iter_mut()
                        .filter(|m| m.peer == BACKUP)
                        .for_each(|m| m.theirs.push(outage));
                }
                let with_lease = LEASE_FAULTS.iter().position(|f| *f == fault);
                if let Some(measure) = with_lease.map(|ix| &mut lease[ix])
                    && bed.kind != Kind::Vipd
                {
                    measure.add(bed.kind, outage);
                }
            }
        }
    }
    measures.extend(lease.into_iter().filter(|_| kinds.contains(&Kind::Lease)));
    Ok(measures)
}

/// Processor time and memory of a daemon with hundreds of checks; of those that HAProxy has too,
/// beside one that runs the same.
fn checks(window: Duration) -> Result<Vec<Measure>> {
    let look = |looking: &Looking, cpu: &mut Measure| {
        for figures in (0..WINDOWS).map(|_| looking.cpu(window)) {
            if let [ours, theirs @ ..] = figures.as_slice() {
                cpu.vipd.push(*ours);
                cpu.theirs.extend(theirs);
            }
        }
    };
    say("hundreds of checks");
    let looking = Looking::start(Mix::All)?;
    let mut cpu = Measure::new(&format!("CPU, {CHECKS} checks a second"), "% of a core", None);
    cpu.limit = Some(3.0);
    look(&looking, &mut cpu);
    let mut rss = Measure::new(&format!("memory, {CHECKS} checks"), "MiB RSS", None);
    rss.limit = Some(20.0);
    rss.add(Kind::Checks, looking.rss_mib());
    drop(looking);

    say("hundreds of checks beside HAProxy");
    let name = format!("CPU, {CHECKS} checks, and HAProxy");
    let mut beside = Measure::new(&name, "% of a core", Some(1.0));
    beside.peer = "HAProxy";
    look(&Looking::start(Mix::Common)?, &mut beside);
    Ok(vec![cpu, rss, beside])
}

/// Processor time of seven nodes that hold fifty groups by lease, the busiest one's.
fn seven(window: Duration) -> Result<Vec<Measure>> {
    const NODES: usize = 7;
    const GROUPS: u8 = 50;
    say("seven nodes, fifty groups");
    let lab = Lab::new("seven")?;
    let address = |n: usize| format!("192.168.34.{}", 132 + n);
    let mut config = cluster(&lab)?;
    for n in 0..NODES {
        config.push_str(&node(n, &address(n), 100));
    }
    for n in 1..=GROUPS {
        config += &group(n);
    }
    let start = |n| {
        let host = lab.host(&format!("hap{n}"), &[&format!("{}/22", address(n))])?;
        Ok(Vipd::start(&host, &config)?.process)
    };
    let daemons = (0..NODES).map(start).collect::<Result<Vec<_>>>()?;
    pause(3 * SECOND);
    let pids: Vec<Vec<i32>> = daemons.iter().map(|d| tree(d.pid())).collect();
    let pids: Vec<&[i32]> = pids.iter().map(Vec::as_slice).collect();
    let mut measure = Measure::new("lease: CPU, 7 nodes, 50 groups", "% of a core", None);
    measure.limit = Some(2.0);
    for _ in 0..WINDOWS {
        let busiest = cpu_percent(&pids, window).into_iter().fold(0.0, f64::max);
        measure.add(Kind::Lease, busiest);
    }
    Ok(vec![measure])
}

/// The head of a file for voters, and their key.
fn cluster(lab: &Lab) -> Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = lab.dir().join("secret");
    let wrote =
        std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    wrote
        .and_then(|mut file| file.write_all("5a0f".repeat(16).as_bytes()))
        .map_err(Error::io("write a secret"))?;
    Ok(format!("[cluster]\nname = \"lb\"\nsecret = \"{}\"\n", path.display()))
}

fn node(n: usize, address: &str, priority: u8) -> String {
    format!("[[node]]\nname = \"hap{n}\"\naddress = \"{address}\"\npriority = {priority}\n")
}

/// A group that prefers the first node.
fn group(n: u8) -> String {
    format!(
        "[[group]]\nname = \"g{n}\"\nvrid = {n}\nsafety = \"lease\"\npreempt = true\naddresses = [\"{}/22\"]\n",
        vip(n)
    )
}

/// Processor time and memory with one election and nothing to do.
fn idle(kinds: &[Kind], window: Duration) -> Result<Vec<Measure>> {
    say("idle");
    let beds = start_beds(kinds, 1)?;
    let mut measures = processor(&beds, "idle CPU", window)?;
    let mut rss = Measure::new("memory, holder", "MiB RSS", None);
    rss.limit = Some(RSS_LIMIT);
    let mut pss = Measure::new("memory, holder", "MiB PSS", None);
    for bed in &beds {
        let usage = Usage::of(&bed.pids(0)?);
        let mib = |kib: u64| u32::try_from(kib).map_or(f64::MAX, f64::from) / 1024.0;
        rss.add(bed.kind, mib(usage.rss_kib));
        pss.add(bed.kind, mib(usage.pss_kib));
    }
    measures.extend([rss, pss]);
    Ok(measures)
}

/// Processor time with many elections.
fn many(kinds: &[Kind], window: Duration) -> Result<Vec<Measure>> {
    say(&format!("{MANY} elections"));
    let beds = start_beds(kinds, MANY)?;
    pause(2 * SECOND);
    processor(&beds, &format!("CPU, {MANY} elections"), window)
}

/// Both beds are measured at the same time, so that a busy machine is busy for both.
fn processor(beds: &[Bed], name: &str, window: Duration) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for (index, role) in ["holder", "backup"].into_iter().enumerate() {
        let mut measure = Measure::new(&format!("{name}, {role}"), "% of a core", Some(1.0));
        let pids = beds.iter().map(|bed| bed.pids(index)).collect::<Result<Vec<_>>>()?;
        let groups: Vec<&[i32]> = pids.iter().map(Vec::as_slice).collect();
        for _ in 0..WINDOWS {
            for (bed, percent) in beds.iter().zip(cpu_percent(&groups, window)) {
                measure.add(bed.kind, percent);
            }
        }
        measures.push(measure);
    }
    Ok(measures)
}

fn start_beds(kinds: &[Kind], elections: u8) -> Result<Vec<Bed>> {
    kinds.iter().map(|kind| Bed::start(*kind, elections)).collect()
}

/// Two hosts with one kind of daemon, three where they vote, and a client.
struct Bed {
    kind: Kind,
    elections: u8,
    // Dropped first to last: the daemons before the lab they run in.
    daemons: Vec<Option<Proc>>,
    probe: Probe,
    hosts: Vec<Host>,
    watch: Watch,
    client: Host,
    lab: Lab,
}

impl Bed {
    fn start(kind: Kind, elections: u8) -> Result<Self> {
        let lab = Lab::new("bench")?;
        let count = if kind == Kind::Lease { 3 } else { 2 };
        let hosts: Vec<Host> = (0..count)
            .map(|n| lab.host(&format!("hap{}", n + 1), &[&net(n)]))
            .collect::<Result<_>>()?;
        let client = lab.host("client", &["192.168.34.200/22"])?;
        let watch = Watch::new();
        for host in &hosts {
            host.echo(PORT)?;
            watch.follow(host)?;
        }
        let probe = ask(&client)?;
        let daemons = hosts.iter().map(|_| None).collect();
        let mut bed = Self { kind, elections, daemons, probe, hosts, watch, client, lab };
        for index in 0..count {
            bed.start_daemon(index)?;
        }
        bed.settle()?;
        Ok(bed)
    }

    fn start_daemon(&mut self, index: usize) -> Result {
        let host = &self.hosts[index];
        let daemon = match self.kind {
            Kind::Keepalived => {
                let instance = |n| Instance {
                    interval: INTERVAL,
                    ..Instance::new(n, PRIORITIES[index], &[&format!("{}/22", vip(n))])
                };
                let instances: Vec<_> = (1..=self.elections).map(instance).collect();
                keepalived::start_with(
                    host,
                    &real_time(&keepalived::config(host.name(), &instances)),
                )?
            }
            Kind::Vipd | Kind::Checks => Vipd::start(host, &vipd_config(self.elections))?.process,
            Kind::Lease => Vipd::start(host, &lease_config(&self.lab)?)?.process,
        };
        self.daemons[index] = Some(daemon);
        Ok(())
    }

    /// Waits until the higher priority holds every address and answers, and the other listens.
    fn settle(&mut self) -> Result {
        for n in [1, self.elections] {
            self.watch.wait_holders(vip(n).into(), &["hap1"], 20 * SECOND)?;
        }
        // Three intervals and a skew: whoever listens has heard the holder by then.
        pause(5 * INTERVAL);
        self.watch.wait_holders(vip(1).into(), &["hap1"], 20 * SECOND)?;
        self.probe.wait_answer(Stamp::now(), 10 * SECOND)?;
        Ok(())
    }

    /// Fails the holder, gives the client's outage, and repairs it.
    fn fail(&mut self, fault: Fault) -> Result<Duration> {
        self.probe = ask(&self.client)?;
        self.probe.wait_answer(Stamp::now(), 10 * SECOND)?;
        pause(20 * MS);
        let at = Stamp::now();
        match fault {
            Fault::PowerLoss => self.hosts[0].power_loss().map(drop)?,
            Fault::Stop => self.daemon(0)?.term()?,
            Fault::Restart => self.restart(0)?,
            Fault::Control => self.restart(1)?,
            Fault::Deleted => self.hosts[0].ip(&format!("addr del {}/22 dev eth0\n", vip(1)))?,
        }
        // Longer than the longest of them lasts.
        pause(7 * INTERVAL);
        self.probe.wait_answer(Stamp::now(), 20 * SECOND)?;
        let outage = self.probe.timeline().outage_after(at).length();
        self.repair(fault)?;
        self.settle()?;
        Ok(outage)
    }

    fn restart(&mut self, index: usize) -> Result {
        if let Some(mut killed) = self.daemons[index].take() {
            killed.kill()?;
            killed.wait(10 * SECOND)?;
        }
        self.start_daemon(index)
    }

    fn repair(&mut self, fault: Fault) -> Result {
        match fault {
            Fault::PowerLoss => {
                self.hosts[0].power_on()?;
                self.watch.follow(&self.hosts[0])?;
                self.start_daemon(0)
            }
            Fault::Stop => {
                if let Some(mut stopped) = self.daemons[0].take() {
                    stopped.wait(10 * SECOND)?;
                }
                self.start_daemon(0)
            }
            Fault::Deleted | Fault::Restart | Fault::Control => Ok(()),
        }
    }

    /// The processes of the daemon on the host with the `index`th priority.
    fn pids(&self, index: usize) -> Result<Vec<i32>> {
        Ok(tree(self.daemon(index)?.pid()))
    }

    fn daemon(&self, index: usize) -> Result<&Proc> {
        self.daemons[index].as_ref().ok_or_else(|| Error::Answer {
            what: format!("{:?} on {}", self.kind, self.hosts[index].name()),
            text: "not running".to_owned(),
        })
    }
}

/// A probe for each millisecond; a new one for each fault, so that it stays short.
fn ask(client: &Host) -> Result<Probe> {
    Probe::start(client, (vip(1), PORT).into(), MS)
}

/// The `n`th virtual address, out of the way of the hosts' own.
const fn vip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 35, n)
}

fn net(index: usize) -> String {
    format!("{}/22", ADDRESSES[index])
}

/// vipd is real-time unless it may not be; so is keepalived here, at the same priority and with
/// the same limit, as its own of 10 ms ends it when it adds 200 addresses.
fn real_time(config: &str) -> String {
    let settings = "global_defs {\n  vrrp_rt_priority 50\n  vrrp_rlimit_rttime 2000000\n";
    config.replacen("global_defs {\n", settings, 1)
}

/// The checksum is the one keepalived sends, so that both put the same packets on the wire: left to
/// itself, a vipd that has heard nobody sends each advert in both forms. And it would yield to
/// whoever deletes an address as often as this does.
fn vipd_config(elections: u8) -> String {
    let nodes = [("hap1", ADDRESSES[0], PRIORITIES[0]), ("hap2", ADDRESSES[1], PRIORITIES[1])];
    let group = |n| (format!("g{n}"), n, vec![format!("{}/22", vip(n))]);
    let groups: Vec<_> = (1..=elections).map(group).collect();
    Setup { nodes: &nodes, interval: INTERVAL, preempt: true, groups: &groups, proxy: None }
        .text()
        .replace("[[group]]\n", "[[group]]\nchecksum = \"pseudo\"\nrestore-limit = 100\n")
}

/// Three nodes that vote, the first one preferred.
fn lease_config(lab: &Lab) -> Result<String> {
    let mut config = cluster(lab)?;
    for (n, (address, priority)) in (1..).zip(ADDRESSES.iter().zip(PRIORITIES)) {
        config.push_str(&node(n, address, priority));
    }
    Ok(config + &group(1))
}

impl Fault {
    /// Whether that is done to such a daemon.
    fn concerns(self, kind: Kind) -> bool {
        match self {
            Self::PowerLoss | Self::Stop => true,
            Self::Deleted => kind != Kind::Lease,
            Self::Restart | Self::Control => kind == Kind::Lease,
        }
    }

    /// What is measured of it with a lease, and what that may be.
    fn leased(self) -> Measure {
        let (target, limit) = match self {
            Self::PowerLoss => (Some(1.0), None),
            Self::Stop => (Some(0.25), Some(10.0)),
            Self::Restart | Self::Control | Self::Deleted => (None, Some(2.0)),
        };
        let mut measure = Measure::new(&format!("lease: {}", self.name()), "ms", target);
        measure.limit = limit;
        if self == Self::Restart {
            measure.peer = BACKUP;
        }
        measure
    }

    const fn name(self) -> &'static str {
        match self {
            Self::PowerLoss => "outage, power loss",
            Self::Stop => "outage, graceful stop",
            Self::Deleted => "outage, address deleted",
            Self::Restart => "outage, daemon killed",
            Self::Control => "a backup's daemon killed",
        }
    }

    const fn target(self) -> f64 {
        match self {
            Self::PowerLoss | Self::Stop | Self::Restart | Self::Control => 1.1,
            Self::Deleted => 0.2,
        }
    }
}

impl Measure {
    fn new(name: &str, unit: &'static str, target: Option<f64>) -> Self {
        let (theirs, vipd) = (Vec::new(), Vec::new());
        let (name, peer) = (name.to_owned(), "keepalived");
        Self { name, unit, target, limit: None, peer, theirs, vipd }
    }

    fn add(&mut self, kind: Kind, value: f64) {
        match kind {
            Kind::Keepalived => self.theirs.push(value),
            Kind::Vipd | Kind::Lease | Kind::Checks => self.vipd.push(value),
        }
    }

    /// vipd's median in its peer's.
    fn ratio(&self) -> Option<f64> {
        let (theirs, ours) = (Summary::of(&self.theirs)?, Summary::of(&self.vipd)?);
        (theirs.median > 0.0).then(|| ours.median / theirs.median)
    }

    fn missed(&self) -> bool {
        let above =
            |value: Option<f64>, most: Option<f64>| value.zip(most).is_some_and(|(v, m)| v > m);
        let ours = Summary::of(&self.vipd).map(|s| s.median);
        above(self.ratio(), self.target) || above(ours, self.limit)
    }

    fn goal(&self) -> String {
        let ratio = self.target.map(|t| format!("<= {t}x"));
        let limit = self.limit.map(|l| format!("<= {l} {}", self.unit));
        [ratio, limit].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn print_json(measures: &[Measure]) {
    for measure in measures {
        let line = serde_json::json!({
            "name": measure.name,
            "unit": measure.unit,
            "peer": measure.peer,
            "theirs": Summary::of(&measure.theirs),
            "vipd": Summary::of(&measure.vipd),
            "ratio": measure.ratio(),
            "target": measure.target,
            "limit": measure.limit,
            "missed": measure.missed(),
        });
        println!("{line}");
    }
}

fn print_table(measures: &[Measure]) {
    let paint = Paint::of_stdout();
    let row = |name: &str, unit: &str, theirs: &str, ours: &str, ratio: &str| {
        let (name, unit) = (left(name, 31), left(unit, 11));
        format!("{name} {unit} {} {} {}", right(theirs, 20), right(ours, 20), right(ratio, 7))
    };
    let heading = row("median (min-max)", "", "keepalived", "vipd", "ratio");
    println!("{}", paint.tone(Tone::Strong, &format!("{heading}  target")));
    println!("{}", paint.rule(112));
    for measure in measures {
        let cell = |values: &[f64]| Summary::of(values).map_or("-".to_owned(), |s| s.to_string());
        let ratio = measure.ratio().map_or("-".to_owned(), |r| format!("{}x", short(r)));
        let (theirs, ours) = (cell(&measure.theirs), cell(&measure.vipd));
        let goal = measure.goal();
        let verdict = match (measure.vipd.is_empty() || goal.is_empty(), measure.missed()) {
            (true, _) => goal,
            (false, true) => paint.tone(Tone::Bad, &format!("{goal}, missed")),
            (false, false) => paint.tone(Tone::Good, &format!("{goal}, met")),
        };
        println!("{}  {verdict}", row(&measure.name, measure.unit, &theirs, &ours, &ratio));
    }
    let n = measures.first().map_or(0, |m| m.theirs.len().max(m.vipd.len()));
    println!("{}", paint.rule(112));
    println!(
        "{n} faults of each kind at random moments, by turns; adverts every {} ms, priorities \
         {PRIORITIES:?},\npreemption on, both real-time, the same packets, one probe a millisecond; CPU: {WINDOWS} windows, both at \
         the same time.\nChecks that HAProxy has too are run by one beside it, whose figure is the one in \
         keepalived's place.\nIn its place beside a killed daemon: the same with the daemon of a backup, which no client can \
         notice.",
        INTERVAL.as_millis()
    );
}

/// What is being done, on one line of the terminal.
fn say(what: &str) {
    use std::io::IsTerminal as _;
    let mut err = std::io::stderr();
    if err.is_terminal() {
        // Progress that cannot be shown is no reason to stop.
        let _ = write!(err, "\r\x1b[K{what}");
        let _ = err.flush();
    }
}
