//! The demo: three load balancers with HAProxy, two web servers and a client, in namespaces. The
//! host that holds the address is failed in several ways; the client says what it noticed.

#![allow(clippy::print_stdout, reason = "it is a show")]

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use netns_tests::double::Double;
use netns_tests::paint::{Paint, Tone, left, right};
use netns_tests::peer::backend::Backend;
use netns_tests::peer::haproxy;
use netns_tests::trio::{GROUP, Kind, Trio, VIP};
use netns_tests::{Dice, Error, Gap, HttpProbe, Result, Stamp, pause, stats, wait_until};

const PORT: u16 = 5000;
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two requests of the client.
const EVERY: Duration = Duration::from_millis(2);
const SECOND: Duration = Duration::from_secs(1);

/// Three load balancers in network namespaces, failed in seven ways: what a client notices
#[derive(Parser)]
struct Arguments {
    /// What keeps two of them from serving at once
    #[arg(long, value_enum, default_value_t = Safety::Lease)]
    safety: Safety,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Safety {
    /// The votes of a majority, and a gate in the kernel
    Lease,
    /// The timers of VRRP, as with keepalived
    Vrrp,
}

fn main() -> ExitCode {
    let Arguments { safety } = Arguments::parse();
    let paint = Paint::of_stdout();
    match show(paint, safety) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!();
            eprintln!("{} {error}", paint.tone(Tone::Bad, "demo:"));
            ExitCode::FAILURE
        }
    }
}

/// How the holder is failed.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Stop,
    PowerLoss,
    Cable,
    Network,
    Proxy,
    Address,
    Kill,
}

const FAULTS: [Fault; 7] = [
    Fault::Stop,
    Fault::PowerLoss,
    Fault::Cable,
    Fault::Network,
    Fault::Proxy,
    Fault::Address,
    Fault::Kill,
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "vipd stopped (systemctl stop)",
            Self::PowerLoss => "power loss",
            Self::Cable => "cable pulled",
            Self::Network => "network lost, link still up",
            Self::Proxy => "HAProxy killed",
            Self::Address => "address deleted by hand",
            Self::Kill => "vipd and its HAProxy killed (-9)",
        }
    }
}

/// What a fault did.
struct Outcome {
    fault: Fault,
    before: String,
    after: String,
    outage: Gap,
    /// How long two hosts served.
    twice: Duration,
}

fn show(paint: Paint, safety: Safety) -> Result {
    let what = "three load balancers, two web servers, a client";
    let mut stage = progress(paint, what, || Stage::set(safety))?;
    progress(paint, "vipd on each of them; one takes the address", || stage.start_all())?;
    let holder = stage.holder()?;
    let title = format!("$ vipctl status     (on {})", stage.name(holder));
    println!("\n{}", paint.tone(Tone::Strong, &title));
    println!("{}", stage.trio.ctl(holder, &["status"])?.trim_end());
    println!(
        "\nA client asks http://{VIP}:{PORT}/ on a new connection every {} ms.\n",
        EVERY.as_millis()
    );
    let mut outcomes = Vec::new();
    for fault in FAULTS {
        let what = format!("{}: {}", stage.name(stage.holder()?), fault.name());
        outcomes.push(progress(paint, &what, || stage.fail(fault))?);
    }
    print_table(paint, &outcomes);
    if safety == Safety::Lease {
        println!(
            "with VRRP alone: {}",
            paint.tone(Tone::Strong, "target/release/demo --safety vrrp")
        );
    }
    drop(stage);
    println!("{}", paint.tone(Tone::Dim, "Everything is cleaned up."));
    Ok(())
}

/// Shows `what` while it is done, and that it is.
fn progress<T>(paint: Paint, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if paint.terminal {
        print!("  {what} ...");
        // Not shown at once is no reason to stop.
        let _ = std::io::stdout().flush();
    }
    let done = work()?;
    let mark = paint.tone(Tone::Good, if paint.unicode { "✓" } else { "+" });
    println!(
        "{}{mark} {what}{}",
        if paint.terminal { "\r" } else { "" },
        if paint.terminal { "    " } else { "" }
    );
    Ok(done)
}

fn print_table(paint: Paint, outcomes: &[Outcome]) {
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    let longest = outcomes.iter().map(|o| ms(o.outage.length())).fold(1.0, f64::max);
    println!(
        "\n{}",
        paint.tone(
            Tone::Strong,
            &format!("{} {}  {}  who answers", left("fault", 32), right("outage", 9), left("", 24))
        )
    );
    println!("{}", paint.rule(86));
    for Outcome { fault, before, after, outage, twice } in outcomes {
        let length = ms(outage.length());
        let tone = if length < 50.0 { Tone::Good } else { Tone::Note };
        let who =
            if before == after { format!("still {after}") } else { format!("{before} > {after}") };
        let twice = if twice.is_zero() {
            String::new()
        } else {
            paint.tone(Tone::Note, &format!("  (two served for {} ms)", twice.as_millis()))
        };
        println!(
            "{} {} ms  {}  {who}{twice}",
            left(fault.name(), 32),
            right(&stats::short(length), 6),
            paint.tone(tone, &left(&paint.bar(length, longest, 24), 24)),
        );
    }
    println!("{}", paint.rule(86));
    let note = format!(
        "outage: the longest time without an answer, {} ms or less being none",
        EVERY.as_millis() + 1
    );
    println!("{}", paint.tone(Tone::Dim, &note));
    if outcomes.iter().all(|o| o.twice.is_zero()) {
        println!("two that served at once: {}", paint.tone(Tone::Good, "never"));
    }
}

/// Everything on it.
struct Stage {
    // Dropped first to last: who asks before the hosts that are asked.
    probe: Option<HttpProbe>,
    double: Double,
    _backends: Vec<Backend>,
    config: String,
    dice: Dice,
    trio: Trio,
}

impl Stage {
    fn set(safety: Safety) -> Result<Self> {
        let kind = match safety {
            Safety::Lease => Kind::Lease,
            Safety::Vrrp => Kind::Vrrp,
        };
        let trio = Trio::new("demo", kind)?;
        let mut backends = Vec::new();
        let mut servers = Vec::new();
        for (name, address) in
            [("web1", Ipv4Addr::new(192, 168, 34, 10)), ("web2", Ipv4Addr::new(192, 168, 34, 11))]
        {
            let host = trio.lab.host(name, &[&format!("{address}/24")])?;
            backends.push(Backend::start(&host, 8000)?);
            servers.push((name, SocketAddr::from((address, 8000))));
        }
        let command =
            haproxy::command(&haproxy::write_shared_config(trio.lab.dir(), PORT, &servers)?);
        let proxy = format!("\n[group.proxy]\ncommand = {command:?}\nrun = \"always\"\n");
        Ok(Self {
            probe: None,
            double: trio.double(Duration::from_millis(1))?,
            _backends: backends,
            config: trio.config() + &proxy,
            dice: Dice::new(Stamp::now().nanos()),
            trio,
        })
    }

    fn start_all(&mut self) -> Result {
        for n in 0..3 {
            self.start(n)?;
        }
        let begin = Stamp::now();
        let probe = HttpProbe::start(&self.trio.client, (VIP, PORT).into(), EVERY, SECOND)?;
        probe.wait_answer(begin, 10 * SECOND)?;
        self.probe = Some(probe);
        self.settle()
    }

    fn start(&mut self, n: usize) -> Result {
        self.trio.start_with(n, &self.config)
    }

    /// Waits until one host holds the address, the others stand by, and every proxy runs.
    fn settle(&mut self) -> Result {
        wait_until("one holder, two to stand by", 15 * SECOND, || {
            let mut roles = Vec::new();
            for n in 0..3 {
                let vipd = self.trio.vipd(n);
                if vipd.proxy_runs(GROUP)? {
                    roles.push(vipd.role(GROUP)?);
                }
            }
            roles.sort();
            Ok(roles == ["active", "backup", "backup"] && self.trio.holders()?.len() == 1)
        })?;
        Ok(())
    }

    fn holder(&self) -> Result<usize> {
        self.trio.holders()?.first().copied().ok_or_else(|| unexpected("nobody"))
    }

    fn name(&self, n: usize) -> &str {
        self.trio.hosts[n].name()
    }

    /// Fails the holder at any moment of its interval, sees what the client saw, and repairs it.
    fn fail(&mut self, fault: Fault) -> Result<Outcome> {
        pause(2 * INTERVAL + self.dice.time_below(INTERVAL));
        let before = self.holder()?;
        let at = Stamp::now();
        self.strike(fault, before)?;
        // Long enough for the slowest of them; the answers say when it was over.
        pause(8 * INTERVAL);
        let answer = self.probe()?.wait_answer(Stamp::now(), 10 * SECOND)?;
        let outage = self.probe()?.timeline().outage_after(at);
        self.repair(fault, before)?;
        self.settle()?;
        let twice = self.double.report(at).overlaps().iter().map(|both| both.lasted).sum();
        let before = self.name(before).to_owned();
        Ok(Outcome { fault, before, after: self.name_of(&answer.who), outage, twice })
    }

    fn strike(&mut self, fault: Fault, n: usize) -> Result {
        let host = &self.trio.hosts[n];
        match fault {
            Fault::Stop => self.trio.process(n).term(),
            Fault::PowerLoss => host.power_loss().map(drop),
            Fault::Cable => host.carrier_down().map(drop),
            Fault::Network => host.cut().map(drop),
            Fault::Proxy => {
                for pid in netns_tests::tree(self.trio.process(n).pid()).into_iter().skip(1) {
                    netns_tests::run::output(&["kill", "-9", &pid.to_string()], "", SECOND)?;
                }
                Ok(())
            }
            Fault::Address => host.ip(&format!("addr del {VIP}/24 dev eth0\n")),
            Fault::Kill => {
                self.trio.kill(n);
                // What systemd does by default before it starts a service again.
                pause(INTERVAL);
                self.start(n)
            }
        }
    }

    fn repair(&mut self, fault: Fault, n: usize) -> Result {
        match fault {
            Fault::Stop => {
                self.trio.vipd(n).process.wait(10 * SECOND)?;
                self.start(n)
            }
            Fault::PowerLoss => {
                self.trio.hosts[n].power_on()?;
                self.trio.watch.follow(&self.trio.hosts[n])?;
                self.start(n)
            }
            Fault::Cable => self.trio.hosts[n].carrier_up().map(drop),
            Fault::Network => self.trio.hosts[n].heal().map(drop),
            Fault::Proxy | Fault::Address | Fault::Kill => Ok(()),
        }
    }

    fn probe(&self) -> Result<&HttpProbe> {
        self.probe.as_ref().ok_or_else(|| unexpected("no client"))
    }

    /// The host whose own address `who` is.
    fn name_of(&self, who: &str) -> String {
        let has = |n: &usize| who == format!("192.168.34.13{}", n + 2);
        (0..3).find(has).map_or(who, |n| self.name(n)).to_owned()
    }
}

fn unexpected(what: &str) -> Error {
    Error::Answer { what: "the demo".to_owned(), text: format!("unexpected: {what}") }
}
