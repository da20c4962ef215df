//! What the core thread tells of clients: which addresses are served here, and what others say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::mpsc;

use crate::types::{Incarnation, VoterIx};
use crate::wire::peer::connections::Connection;

/// What may wait; lists of others beyond that are lost, and told again.
const WAITING: usize = 1024;

/// What the service runtime hears.
#[derive(Debug)]
pub(in crate::daemon) enum Told {
    /// Addresses came here and are announced (`true`), or went away, in this order.
    Moved(Vec<(IpAddr, bool)>),
    /// The connections to these addresses were ended: these.
    Ended(Vec<IpAddr>, Vec<Connection>),
    /// Another node's sheet.
    Sheet { from: VoterIx, run: Incarnation, bytes: Vec<u8> },
    /// Another node has come, and knows nothing.
    Up,
}

/// The core thread's side; nothing here waits.
#[derive(Debug)]
pub(in crate::daemon) struct Desk {
    to: mpsc::Sender<Told>,
    served: BTreeSet<IpAddr>,
    moved: Vec<(IpAddr, bool)>,
}

/// Both sides.
pub(in crate::daemon) fn desk() -> (Desk, mpsc::Receiver<Told>) {
    let (to, told) = mpsc::channel(WAITING);
    (Desk { to, served: BTreeSet::new(), moved: Vec::new() }, told)
}

impl Desk {
    /// `ip` is announced: whatever could be in its way is done.
    pub(in crate::daemon) fn serves(&mut self, ip: IpAddr) {
        if !self.served.contains(&ip) {
            self.served.insert(ip);
            self.moved.push((ip, true));
        }
    }

    /// `ip` is to go.
    pub(in crate::daemon) fn gives_up(&mut self, ip: IpAddr) {
        if self.served.remove(&ip) {
            self.moved.push((ip, false));
        }
    }

    /// The connections to `addresses`, which are gone, were ended: these, if that could be seen.
    pub(in crate::daemon) fn ended(&mut self, addresses: Vec<IpAddr>, clients: Vec<Connection>) {
        for ip in &addresses {
            self.gives_up(*ip);
        }
        self.flush();
        if !clients.is_empty() {
            // Without the last of them, those that were seen before have to do.
            let _ = self.to.try_send(Told::Ended(addresses, clients));
        }
    }

    /// What another node told.
    pub(in crate::daemon) fn hear(&self, told: Told) {
        // It is told again.
        let _ = self.to.try_send(told);
    }

    /// Tells what has moved since; what there is no room for waits here.
    pub(in crate::daemon) fn flush(&mut self) {
        if !self.moved.is_empty()
            && let Ok(room) = self.to.try_reserve()
        {
            room.send(Told::Moved(std::mem::take(&mut self.moved)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_waits_for_room_and_what_others_say_does_not() {
        let (mut desk, mut told) = desk();
        let [one, two] = [1, 2].map(|n| IpAddr::from([192, 0, 2, n]));
        for _ in 0..=WAITING {
            desk.hear(Told::Up);
        }
        desk.serves(one);
        desk.flush();
        desk.serves(one);
        desk.serves(two);
        desk.gives_up(one);
        desk.gives_up(one);
        desk.flush();
        for _ in 0..WAITING {
            assert!(matches!(told.try_recv(), Ok(Told::Up)));
        }
        assert!(told.try_recv().is_err(), "one was lost");
        desk.flush();
        let Ok(Told::Moved(moved)) = told.try_recv() else { panic!("it waited") };
        assert_eq!(moved, [(one, true), (two, true), (one, false)], "each once, in its order");
        desk.flush();
        assert!(told.try_recv().is_err());
    }
}
