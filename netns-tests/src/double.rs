//! Whether two hosts serve one address at once, asked past every switch and every cache.
//!
//! Each host is asked straight at its hardware address, whatever ARP or the switch believe, so
//! that one that should have stopped is found although no client would talk to it any more. A
//! request was served somewhere between the moment it was sent and the moment its answer came, so
//! a [`Tenure`] lasted at least from its first answer to the last request that it answered; two
//! that overlap were real, however busy the machine was.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Stamp, pause};
use crate::forge::udp_frame;
use crate::frame::Frame;
use crate::host::Host;
use crate::netns::run_in;
use crate::packet_socket::{Hears, PacketSocket};
use crate::worker::{Stop, Worker};
use crate::{Error, Result};

mod report;

pub use report::{Outage, Overlap, Report, Served, Tenure, Way};

/// What a client that waits notices, and a machine that is busy for a moment does not cause.
const NOTICED: Duration = Duration::from_millis(50);
/// One ARP question to each host for so many rounds of datagrams.
const ARP_EVERY: u32 = 16;
/// Where the answers go: a port that somebody has, so that nobody refuses them.
const PORT: u16 = 40_007;
/// Before the hosts' echoes and clients, after their daemons: what is measured is them.
const PRIORITY: i32 = 40;
/// The hardware address that ARP answers go to: nobody's, and the number of the round.
const ASKER: [u8; 2] = [0x02, 0xce];
/// Who sends the ARP questions.
const NOBODY: [u8; 6] = [0x02, 0, 0, 0xce, 0x05, 0x06];

/// Asks several hosts for one address all the time, each of them directly.
#[derive(Debug)]
pub struct Double {
    names: Vec<String>,
    log: Arc<Mutex<Log>>,
    _port: UdpSocket,
    _worker: Worker,
}

/// What the thread has seen.
#[derive(Debug, Default)]
struct Log {
    rounds: Vec<Stamp>,
    served: Vec<Served>,
}

/// How the questions look.
struct Questions {
    client: Ipv4Addr,
    vip: Ipv4Addr,
    port: u16,
    hosts: Vec<[u8; 6]>,
}

impl Double {
    /// Asks `hosts` for `vip` from `client`, once `every`; they answer on `port` of
    /// [`Host::echo`], with ARP by themselves.
    pub fn start(
        client: &Host,
        hosts: &[Host],
        (vip, port): (Ipv4Addr, u16),
        every: Duration,
    ) -> Result<Self> {
        let own = client.addresses()?.into_iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        let own = own.ok_or_else(|| bad(client.name(), "has no IPv4 address"))?;
        let questions = Questions {
            client: own,
            vip,
            port,
            hosts: hosts.iter().map(Host::hardware).collect::<Result<_>>()?,
        };
        let held = run_in(client.namespace(), || {
            UdpSocket::bind((own, PORT)).map_err(Error::io(format!("bind port {PORT}")))
        })?;
        let socket = PacketSocket::open(client.namespace(), "eth0", Hears::Others)?;
        let log = Arc::<Mutex<Log>>::default();
        let kept = Arc::clone(&log);
        let worker = Worker::start("double", move |stop| {
            // Without the right to it the figures are coarser, and no less true.
            let _ = vipd::io::realtime::enter(PRIORITY);
            ask(&stop, &socket, &questions, every, &kept);
        })?;
        let names = hosts.iter().map(|host| host.name().to_owned()).collect();
        Ok(Self { names, log, _port: held, _worker: worker })
    }

    /// What was seen of the questions asked from `from` on.
    pub fn report(&self, from: Stamp) -> Report {
        let log = self.lock();
        // Both rise with time, so that a look at the end of a long storm does not hold up the thread
        // that asks. What came before `from` was asked before it.
        let rounds = log.rounds[log.rounds.partition_point(|at| *at < from)..].to_vec();
        let came = &log.served[log.served.partition_point(|s| s.at < from)..];
        let served = came.iter().filter(|s| s.sent >= from).copied().collect();
        Report::new(self.names.clone(), rounds, served)
    }

    /// Waits until exactly one host has served for `lasting`, with no outage that a client would
    /// notice; who it is.
    pub fn wait_single(&self, lasting: Duration, within: Duration) -> Result<String> {
        let begin = Stamp::now();
        let mut from = begin;
        while Stamp::now().since(begin) < within {
            pause(NOTICED / 2);
            let report = self.report(from);
            let mut hosts = report.hosts();
            if hosts.len() > 1 || !report.outages(NOTICED).is_empty() {
                from = Stamp::now();
            } else if Stamp::now().since(from) >= lasting
                && let Some(who) = hosts.pop_first()
            {
                return Ok(who);
            }
        }
        let report = self.report(begin);
        let text = format!(
            "no single one for {lasting:?} within {within:?}: {:?} answered {:.3} of all, overlaps \
             {:?}, outages {:?}",
            report.hosts(),
            report.availability(),
            report.overlaps(),
            report.outages(NOTICED)
        );
        Err(bad("who serves", &text))
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask(
    stop: &Stop,
    socket: &PacketSocket,
    questions: &Questions,
    every: Duration,
    log: &Mutex<Log>,
) {
    let mut buffer = vec![0; 2048];
    let mut next = Stamp::now();
    let mut round: u32 = 0;
    while stop.wait([socket.as_fd()], Some(next.since(Stamp::now()))).is_some() {
        while let Some(frame) = socket.receive(&mut buffer) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let served = questions.answer(&frame, &log.rounds);
            log.served.extend(served);
        }
        let now = Stamp::now();
        if now < next {
            continue;
        }
        log.lock().unwrap_or_else(PoisonError::into_inner).rounds.push(now);
        for host in &questions.hosts {
            // A question that cannot be sent is one without an answer.
            let _ = socket.send(&questions.datagram(*host, round));
            if round.is_multiple_of(ARP_EVERY) {
                let _ = socket.send(&questions.arp(*host, round));
            }
        }
        round += 1;
        next = if now.since(next) > 10 * every { now + every } else { next + every };
    }
}

impl Questions {
    /// A UDP datagram with the number of the round, which the echo sends back.
    fn datagram(&self, to: [u8; 6], round: u32) -> Vec<u8> {
        let mut payload = [0; 16];
        payload[..4].copy_from_slice(&round.to_be_bytes());
        udp_frame(to, (self.client, PORT), (self.vip, self.port), &payload)
    }

    /// An ARP question that nobody learns from, with the number of the round in the hardware
    /// address that the answer is for.
    fn arp(&self, to: [u8; 6], round: u32) -> Vec<u8> {
        let mut frame = Vec::with_capacity(42);
        frame.extend(to);
        frame.extend(NOBODY);
        frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
        frame.extend(ASKER);
        frame.extend(round.to_be_bytes());
        frame.extend([0; 4 + 6]);
        frame.extend(self.vip.octets());
        frame
    }

    /// What a frame says of who served which round.
    fn answer(&self, frame: &Frame, rounds: &[Stamp]) -> Option<Served> {
        let bytes = &frame.bytes;
        let way = if frame.is_arp() { Way::Arp } else { Way::Udp };
        let round = match way {
            Way::Arp => {
                let arp = bytes.get(14..42)?;
                let wanted = arp[6..8] == [0, 2] && arp[14..18] == self.vip.octets();
                (wanted && arp[18..20] == ASKER).then(|| &arp[20..24])?
            }
            Way::Udp => {
                let ip = bytes.get(14..14 + 20 + 8 + 16)?;
                let (port, to) = (self.port.to_be_bytes(), PORT.to_be_bytes());
                let wanted = bytes[12..14] == [0x08, 0] && ip[9] == 17;
                let ours = ip[12..16] == self.vip.octets() && ip[20..22] == port;
                (wanted && ours && ip[22..24] == to).then(|| &ip[28..32])?
            }
        };
        let round = u32::from_be_bytes(round.try_into().ok()?);
        let sent = *rounds.get(usize::try_from(round).ok()?)?;
        let host = self.hosts.iter().position(|mac| bytes[6..12] == *mac)?;
        Some(Served { host, way, sent, at: frame.at })
    }
}

fn bad(what: &str, text: &str) -> Error {
    Error::Answer { what: what.to_owned(), text: text.to_owned() }
}
