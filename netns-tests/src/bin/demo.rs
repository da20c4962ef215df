//! The demo: three load balancers with HAProxy, two web servers and a client, in namespaces. The
//! host that holds the address is failed in several ways; the client says what it noticed.

#![allow(clippy::print_stdout, reason = "it is a show")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use netns_tests::paint::{Paint, Tone, left, right};
use netns_tests::peer::backend::Backend;
use netns_tests::peer::haproxy;
use netns_tests::peer::vipd::{Setup, Vipd};
use netns_tests::{
    Dice, Error, Gap, Host, HttpProbe, Lab, Result, Stamp, Watch, pause, stats, wait_until,
};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 34, 85);
const PORT: u16 = 5000;
const GROUP: &str = "postgres";
const NODES: [(&str, &str, u8); 3] = [
    ("hap1", "192.168.34.132", 120),
    ("hap2", "192.168.34.133", 110),
    ("hap3", "192.168.34.134", 100),
];
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two requests of the client.
const EVERY: Duration = Duration::from_millis(2);
const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let paint = Paint::of_stdout();
    match show(paint) {
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
            Self::Kill => "vipd killed (-9), restarted",
        }
    }
}

/// What a fault did.
struct Outcome {
    fault: Fault,
    before: String,
    after: String,
    outage: Gap,
    /// How long two hosts had the address.
    twice: Duration,
}

fn show(paint: Paint) -> Result {
    let mut stage = progress(paint, "three load balancers, two web servers, a client", Stage::set)?;
    progress(paint, "vipd on each of them; one takes the address", || stage.start_all())?;
    let holder = stage.holder()?;
    println!("\n{}", paint.tone(Tone::Strong, &format!("$ vipctl status     (on {holder})")));
    let status = stage.daemon(&holder)?.ctl(&["status"])?;
    println!("{}", String::from_utf8_lossy(&status.stdout).trim_end());
    println!(
        "\nA client asks http://{VIP}:{PORT}/ on a new connection every {} ms.\n",
        EVERY.as_millis()
    );
    let mut outcomes = Vec::new();
    for fault in FAULTS {
        let what = format!("{}: {}", stage.holder()?, fault.name());
        outcomes.push(progress(paint, &what, || stage.fail(fault))?);
    }
    print_table(paint, &outcomes);
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
            &format!("{} {}  {}  who answers", left("fault", 30), right("outage", 9), left("", 24))
        )
    );
    println!("{}", paint.rule(84));
    for Outcome { fault, before, after, outage, twice } in outcomes {
        let length = ms(outage.length());
        let tone = if length < 50.0 { Tone::Good } else { Tone::Note };
        let who =
            if before == after { format!("still {after}") } else { format!("{before} > {after}") };
        let twice = if twice.is_zero() {
            String::new()
        } else {
            paint.tone(Tone::Note, &format!("  (two had the address for {} ms)", twice.as_millis()))
        };
        println!(
            "{} {} ms  {}  {who}{twice}",
            left(fault.name(), 30),
            right(&stats::short(length), 6),
            paint.tone(tone, &left(&paint.bar(length, longest, 24), 24)),
        );
    }
    println!("{}", paint.rule(84));
    let note = format!(
        "outage: the longest time without an answer, {} ms or less being none; adverts every {} ms",
        EVERY.as_millis() + 1,
        INTERVAL.as_millis()
    );
    println!("{}", paint.tone(Tone::Dim, &note));
}

/// Everything on it.
struct Stage {
    // Dropped first to last: the daemons before the lab they run in.
    daemons: BTreeMap<String, Vipd>,
    probe: Option<HttpProbe>,
    _backends: Vec<Backend>,
    hosts: Vec<Host>,
    watch: Watch,
    config: String,
    dice: Dice,
    client: Host,
    _lab: Lab,
}

impl Stage {
    fn set() -> Result<Self> {
        let lab = Lab::new("demo")?;
        let mut backends = Vec::new();
        let mut servers = Vec::new();
        for (name, address) in [("web1", "192.168.34.10"), ("web2", "192.168.34.11")] {
            let host = lab.host(name, &[&format!("{address}/24")])?;
            backends.push(Backend::start(&host, 8000)?);
            let address: Ipv4Addr = address.parse().map_err(|_| unexpected(address))?;
            servers.push((name, SocketAddr::from((address, 8000))));
        }
        let haproxy = haproxy::write_shared_config(lab.dir(), PORT, &servers)?;
        let groups = [(GROUP.to_owned(), 85, vec![format!("{VIP}/24")])];
        let command = haproxy::command(&haproxy);
        let setup = Setup {
            nodes: &NODES,
            interval: INTERVAL,
            preempt: false,
            groups: &groups,
            proxy: Some(&command),
        };
        let watch = Watch::new();
        let mut hosts = Vec::new();
        for (name, address, _) in NODES {
            let host = lab.host(name, &[&format!("{address}/24")])?;
            watch.follow(&host)?;
            hosts.push(host);
        }
        let client = lab.host("client", &["192.168.34.200/24"])?;
        Ok(Self {
            daemons: BTreeMap::new(),
            probe: None,
            _backends: backends,
            hosts,
            watch,
            config: setup.text(),
            dice: Dice::new(Stamp::now().nanos()),
            client,
            _lab: lab,
        })
    }

    fn start_all(&mut self) -> Result {
        for host in self.hosts.clone() {
            self.start(&host)?;
            // One after the other, as machines boot: the first holds before the next is there.
            let vipd = self.daemons.get_mut(host.name()).ok_or_else(|| unexpected(host.name()))?;
            let role = if host.name() == NODES[0].0 { "active" } else { "backup" };
            vipd.wait_role(GROUP, role, 10 * SECOND)?;
        }
        let begin = Stamp::now();
        let probe = HttpProbe::start(&self.client, (VIP, PORT).into(), EVERY, SECOND)?;
        probe.wait_answer(begin, 10 * SECOND)?;
        self.probe = Some(probe);
        self.settle()
    }

    fn start(&mut self, host: &Host) -> Result {
        let vipd = Vipd::start(host, &self.config)?;
        self.daemons.insert(host.name().to_owned(), vipd);
        Ok(())
    }

    /// Waits until one host holds the address, the others stand by, and every proxy runs.
    fn settle(&mut self) -> Result {
        wait_until("one holder, two to stand by", 15 * SECOND, || {
            let mut roles: Vec<String> = Vec::new();
            for vipd in self.daemons.values() {
                let ready = vipd.proxy_runs(GROUP).unwrap_or(false);
                roles.extend(vipd.role(GROUP).ok().filter(|_| ready));
            }
            roles.sort();
            Ok(roles == ["active", "backup", "backup"]
                && self.watch.holders_now(VIP.into()).len() == 1)
        })?;
        Ok(())
    }

    fn holder(&self) -> Result<String> {
        self.watch.holders_now(VIP.into()).pop_first().ok_or_else(|| unexpected("nobody"))
    }

    fn daemon(&self, name: &str) -> Result<&Vipd> {
        self.daemons.get(name).ok_or_else(|| unexpected(name))
    }

    /// Fails the holder at any moment of its interval, sees what the client saw, and repairs it.
    fn fail(&mut self, fault: Fault) -> Result<Outcome> {
        pause(2 * INTERVAL + self.dice.time_below(INTERVAL));
        let before = self.holder()?;
        let host = self.hosts.iter().find(|h| h.name() == before).cloned();
        let host = host.ok_or_else(|| unexpected(&before))?;
        let at = Stamp::now();
        self.strike(fault, &host)?;
        // Long enough for the slowest of them; the answers say when it was over.
        pause(8 * INTERVAL);
        let answer = self.probe()?.wait_answer(Stamp::now(), 10 * SECOND)?;
        let outage = self.probe()?.timeline().outage_after(at);
        let twice = self.twice_since(at);
        self.repair(fault, &host)?;
        self.settle()?;
        Ok(Outcome { fault, before, after: name_of(&answer.who), outage, twice })
    }

    fn strike(&mut self, fault: Fault, host: &Host) -> Result {
        match fault {
            Fault::Stop => self.daemon(host.name())?.process.term(),
            Fault::PowerLoss => host.power_loss().map(drop),
            Fault::Cable => host.carrier_down().map(drop),
            Fault::Network => host.cut().map(drop),
            Fault::Proxy => {
                let tree = netns_tests::tree(self.daemon(host.name())?.process.pid());
                for pid in tree.into_iter().skip(1) {
                    netns_tests::run::output(&["kill", "-9", &pid.to_string()], "", SECOND)?;
                }
                Ok(())
            }
            Fault::Address => host.ip(&format!("addr del {VIP}/24 dev eth0\n")),
            Fault::Kill => {
                self.daemon(host.name())?.process.kill()?;
                // What systemd does by default before it starts a service again.
                pause(INTERVAL);
                self.start(host)
            }
        }
    }

    fn repair(&mut self, fault: Fault, host: &Host) -> Result {
        match fault {
            Fault::Stop => {
                if let Some(mut stopped) = self.daemons.remove(host.name()) {
                    stopped.process.wait(10 * SECOND)?;
                }
                self.start(host)
            }
            Fault::PowerLoss => {
                host.power_on()?;
                self.watch.follow(host)?;
                self.start(host)
            }
            Fault::Cable => host.carrier_up().map(drop),
            Fault::Network => host.heal().map(drop),
            Fault::Proxy | Fault::Address | Fault::Kill => Ok(()),
        }
    }

    /// How long two hosts had the address since `at`.
    fn twice_since(&self, at: Stamp) -> Duration {
        let times = self.watch.two_holders(VIP.into());
        times.iter().filter(|(_, to)| *to > at).map(|(from, to)| to.since((*from).max(at))).sum()
    }

    fn probe(&self) -> Result<&HttpProbe> {
        self.probe.as_ref().ok_or_else(|| unexpected("no client"))
    }
}

/// The node whose own address `who` is.
fn name_of(who: &str) -> String {
    let named = who.parse::<IpAddr>().is_ok().then(|| NODES.iter().find(|n| n.1 == who)).flatten();
    named.map_or(who, |node| node.0).to_owned()
}

fn unexpected(what: &str) -> Error {
    Error::Answer { what: "the demo".to_owned(), text: format!("unexpected: {what}") }
}
