//! Who answers for an address, asked with ARP again and again.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Result;
use crate::capture::hex;
use crate::clock::Stamp;
use crate::frame::Frame;
use crate::host::Host;
use crate::packet_socket::{Hears, PacketSocket};
use crate::worker::{Stop, Worker};

/// Asks everybody on the link for an address, as a duplicate-address check does, so that no
/// neighbour cache changes: each host that serves it answers, not only the one a client would
/// talk to.
#[derive(Debug)]
pub struct Census {
    rounds: Arc<Mutex<Vec<Round>>>,
    _worker: Worker,
}

/// One question and its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// When it was asked.
    pub at: Stamp,
    /// The hardware addresses that answered until the next question, as hexadecimal digits.
    pub macs: BTreeSet<String>,
}

impl Census {
    /// Asks for `ip` on `eth0` of `client`, once `every`.
    pub fn start(client: &Host, ip: Ipv4Addr, every: Duration) -> Result<Self> {
        let socket = PacketSocket::open(client.namespace(), "eth0", Hears::All)?;
        let rounds = Arc::<Mutex<Vec<Round>>>::default();
        let kept = Arc::clone(&rounds);
        let worker = Worker::start("census", move |stop| ask(&stop, &socket, ip, every, &kept))?;
        Ok(Self { rounds, _worker: worker })
    }

    /// The rounds so far.
    pub fn rounds(&self) -> Vec<Round> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rounds in which more than one answered.
    pub fn disputed(&self) -> Vec<Round> {
        self.rounds().into_iter().filter(|round| round.macs.len() > 1).collect()
    }
}

/// Who asks: nobody's hardware address.
const ASKER: [u8; 6] = [0x02, 0, 0, 0xce, 0x05, 0x05];

fn ask(
    stop: &Stop,
    socket: &PacketSocket,
    ip: Ipv4Addr,
    every: Duration,
    rounds: &Mutex<Vec<Round>>,
) {
    let mut buffer = vec![0; 2048];
    let mut next = Stamp::now();
    while stop.wait([socket.as_fd()], Some(next.since(Stamp::now()))).is_some() {
        while let Some(frame) = socket.receive(&mut buffer) {
            let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(mac), Some(round)) = (answer(&frame, ip), rounds.last_mut()) {
                round.macs.insert(mac);
            }
        }
        let now = Stamp::now();
        if now >= next {
            let round = Round { at: now, macs: BTreeSet::new() };
            rounds.lock().unwrap_or_else(PoisonError::into_inner).push(round);
            // A question that cannot be sent is a round without answers.
            let _ = socket.send(&question(ip));
            next = now + every;
        }
    }
}

fn question(ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(ASKER);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(ASKER);
    frame.extend([0; 4 + 6]);
    frame.extend(ip.octets());
    frame
}

/// The hardware address that claims `ip` in an ARP reply to the asker.
fn answer(frame: &Frame, ip: Ipv4Addr) -> Option<String> {
    let arp = frame.bytes.get(14..42).filter(|_| frame.is_arp())?;
    let wanted = arp[6..8] == [0, 2] && arp[14..18] == ip.octets() && arp[18..24] == ASKER;
    wanted.then(|| hex(&arp[8..14]))
}
