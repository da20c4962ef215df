//! A client that asks all the time, over UDP.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::clock::{Stamp, wait_until};
use crate::host::Host;
use crate::netns::run_in;
use crate::timeline::{Answer, Timeline};
use crate::worker::{Stop, Worker};
use crate::{Error, Result};

/// A client that sends a datagram every so often; hosts with [`Host::echo`] answer with their
/// name.
#[derive(Debug)]
pub struct Probe {
    from: Stamp,
    seen: Arc<Seen>,
    _worker: Worker,
}

/// What the client's thread has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) asked: AtomicUsize,
    pub(crate) answers: Mutex<Vec<Answer>>,
}

impl Probe {
    /// Asks `target` from `client`, once `every`.
    pub fn start(client: &Host, target: SocketAddr, every: Duration) -> Result<Self> {
        let from = Stamp::now();
        let socket = run_in(client.namespace(), || socket(target))?;
        let seen = Arc::<Seen>::default();
        let kept = Arc::clone(&seen);
        let worker = Worker::start("probe", move |stop| ask(&stop, &socket, target, every, &kept))?;
        Ok(Self { from, seen, _worker: worker })
    }

    /// What it has seen so far.
    pub fn timeline(&self) -> Timeline {
        self.seen.timeline(self.from)
    }

    /// Waits for an answer to something asked after `from`, by whom does not matter.
    pub fn wait_answer(&self, from: Stamp, within: Duration) -> Result<Answer> {
        self.seen.wait_answer(from, within)
    }
}

impl Seen {
    pub(crate) fn timeline(&self, from: Stamp) -> Timeline {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Timeline { from, to: Stamp::now(), asked: self.asked.load(Ordering::Relaxed), answers }
    }

    pub(crate) fn wait_answer(&self, from: Stamp, within: Duration) -> Result<Answer> {
        let what = "an answer to the probe";
        let mut found = None;
        wait_until(what, within, || {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            found = answers.iter().rev().find(|a| a.sent >= from).cloned();
            Ok(found.is_some())
        })?;
        found.ok_or_else(|| Error::Timeout { what: what.to_owned(), within })
    }

    pub(crate) fn add(&self, answer: Answer) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }
}

fn ask(stop: &Stop, socket: &UdpSocket, target: SocketAddr, every: Duration, seen: &Seen) {
    let mut next = Stamp::now();
    while stop.wait([socket.as_fd()], Some(next.since(Stamp::now()))).is_some() {
        while let Some(answer) = receive(socket) {
            seen.add(answer);
        }
        let now = Stamp::now();
        if now < next {
            continue;
        }
        let mut question = [0; 16];
        question[8..].copy_from_slice(&now.nanos().to_be_bytes());
        // Unreachable right now is a lost probe, nothing else.
        let _ = socket.send_to(&question, target);
        seen.asked.fetch_add(1, Ordering::Relaxed);
        // After a stall the missed ones are not sent in a burst.
        next = if now.since(next) > 10 * every { now + every } else { next + every };
    }
}

fn receive(socket: &UdpSocket) -> Option<Answer> {
    let mut buffer = [0_u8; 64];
    let mut control = cmsg_space!(TimeSpec);
    let mut io = [IoSliceMut::new(&mut buffer)];
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let message = recvmsg::<SockaddrStorage>(fd, &mut io, Some(&mut control), flags).ok()?;
    let at = message.cmsgs().ok()?.find_map(|control| {
        if let ControlMessageOwned::ScmTimestampns(at) = control { Some(at.into()) } else { None }
    });
    let length = message.bytes;
    let sent = u64::from_be_bytes(buffer.get(8..16)?.try_into().ok()?);
    let who = String::from_utf8_lossy(buffer.get(16..length)?).into_owned();
    Some(Answer { sent: Stamp::from_nanos(sent), at: at.unwrap_or_else(Stamp::now), who })
}

fn socket(target: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).map_err(Error::io("open a UDP socket"))?;
    socket.set_nonblocking(true).map_err(Error::io("O_NONBLOCK"))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
        .map_err(Error::errno("SO_TIMESTAMPNS"))?;
    Ok(socket)
}
