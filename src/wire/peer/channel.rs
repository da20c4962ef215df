//! The authenticated channel to all voters: seals what is to be sent, opens what came in. PURE.
//!
//! Who has the keys may speak; nobody else can change, invent, repeat or send back anything. It
//! is not secret what is said. See `link.rs` for how two voters find each other.

use super::datagram::{Header, Kind, ROOM};
use super::keys::{Cluster, Keyring, Nonce, Seal};
use super::link::{Link, PATHS};
use super::{Dropped, Entry, Head, Message, codec};
use crate::types::{Incarnation, Instant, VoterIx};

/// Something to be sent to a voter, over every path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// To whom.
    pub to: VoterIx,
    /// Sealed.
    pub bytes: Vec<u8>,
}

/// What a datagram said that is authentic, fresh, and came for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A message.
    Data {
        /// Whose.
        from: VoterIx,
        /// What it says.
        message: Message,
    },
    /// What a node tells of the connections to what it holds, as [`connections`] has it.
    ///
    /// [`connections`]: super::connections
    Connections {
        /// Who.
        from: VoterIx,
        /// Which run of it.
        run: Incarnation,
        /// A sheet, not looked at yet: that is for whoever has the time.
        sheet: Vec<u8>,
    },
    /// Something between the channels.
    Control,
    /// A voter is there, or is there again: it proved to live now.
    Up {
        /// Who.
        from: VoterIx,
        /// Which run of it. Another than before means that it started anew.
        run: Incarnation,
    },
    /// A run that had been followed by another one proved to live still: two have the same name.
    /// Neither is heard or told anything until they have not alternated for ten seconds.
    Twin {
        /// Whose name it is.
        from: VoterIx,
    },
}

/// Who we are.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) voter: VoterIx,
    pub(super) run: Incarnation,
    pub(super) cluster: Cluster,
    pub(super) keys: Keyring,
    nonces: Seal,
    made: u64,
}

impl Me {
    /// A challenge: new each time, and nobody without a key can foresee it.
    ///
    /// That is all it has to be, so it is derived and needs no randomness: the run is random, the
    /// count makes it new within a channel, and the time makes it new where a channel is made
    /// anew in the same run, or a virtual machine goes on from a copy of its memory.
    pub(super) fn nonce(&mut self, now: Instant, peer: VoterIx) -> Nonce {
        self.made += 1;
        let mut text = Vec::with_capacity(17);
        text.extend(now.nanos().to_be_bytes());
        text.extend(self.made.to_be_bytes());
        text.push(peer.0);
        self.nonces.tag(&text)
    }
}

/// The channel of one voter to all others.
///
/// Whoever has one sends what [`open`](Self::open) and [`tick`](Self::tick) want sent, and calls
/// `tick` at [`deadline`](Self::deadline).
#[derive(Debug)]
pub struct Channel {
    me: Me,
    /// By voter; ours is never used.
    links: Vec<Link>,
}

impl Channel {
    /// Of voter `me` among the first `voters`, at most [`VoterIx::MOST`]; `run` is random.
    ///
    /// Greetings are due at once.
    pub fn new(me: VoterIx, cluster: &str, keys: Keyring, run: Incarnation, voters: usize) -> Self {
        let cluster = Cluster::new(cluster);
        // Later keys change nothing here: who could foresee a challenge has the keys anyway.
        let nonces = keys.nonces(run);
        let me = Me { voter: me, run, cluster, keys, nonces, made: 0 };
        let voters = u8::try_from(voters.min(VoterIx::MOST)).unwrap_or(0);
        let links = (0..voters).map(|peer| Link::new(&me, VoterIx(peer))).collect();
        Self { me, links }
    }

    /// From now on with these keys. Sessions go on with every peer that has one of them; the
    /// peers are told which keys there are now as soon as [`tick`](Self::tick) is called.
    pub fn set_keys(&mut self, keys: Keyring) {
        if self.me.keys.ids().eq(keys.ids()) {
            return;
        }
        self.me.keys = keys;
        for link in &mut self.links {
            link.set_keys(&self.me);
        }
    }

    /// Which run of `voter` there is a session with.
    pub fn run(&self, voter: VoterIx) -> Option<Incarnation> {
        self.links.get(voter.index())?.run()
    }

    /// When something authentic of `voter` last came over `path` of ours, a copy of what came
    /// over another one included.
    pub fn heard(&self, voter: VoterIx, path: usize) -> Option<Instant> {
        debug_assert!(path < PATHS);
        self.links.get(voter.index())?.heard(path)
    }

    /// When [`tick`](Self::tick) is to be called next; `None` where there is nobody else.
    pub fn deadline(&self) -> Option<Instant> {
        self.peers().map(Link::deadline).min()
    }

    /// Does what is due, such as greeting peers.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Datagram>) {
        for (ix, link) in self.links.iter_mut().enumerate() {
            if ix != self.me.voter.index() {
                link.tick(&mut self.me, now, out);
            }
        }
    }

    /// Appends to `out` a datagram for `to` with as many of `entries` as it has room for, and tells
    /// how many that are. `None` while there is no session, and nothing is to be sent.
    pub fn seal(
        &mut self,
        to: VoterIx,
        head: &Head,
        entries: &[Entry],
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        self.seal_with(Kind::Data, to, out, |out| codec::encode(head, entries, ROOM, out))
    }

    /// Appends to `out` a datagram for `to` that tells of connections. `None` while there is no session,
    /// and for more than a datagram has room for.
    pub fn seal_connections(&mut self, to: VoterIx, sheet: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.seal_with(Kind::Connections, to, out, |out| {
            out.extend(sheet);
            (sheet.len() <= ROOM).then_some(())
        })
    }

    /// Like [`seal`](Self::seal), of whatever a peer could say: how to find out whether readers
    /// survive it. `None` also for more than a datagram has room for.
    pub fn seal_any(&mut self, to: VoterIx, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.seal_with(Kind::Data, to, out, |out| {
            out.extend(body);
            (body.len() <= ROOM).then_some(())
        })
    }

    fn seal_with<T>(
        &mut self,
        kind: Kind,
        to: VoterIx,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Option<T>,
    ) -> Option<T> {
        let session = self.links.get_mut(to.index())?.outgoing()?;
        session.seal(kind, &self.me.cluster, out, write)
    }

    /// What a datagram says that came over `path` of ours; pushes to `out` what is to be sent
    /// because of it.
    ///
    /// What is cheap is looked at first: without a header of ours no tag is computed.
    ///
    /// # Errors
    /// Why it is to be counted instead.
    pub fn open(
        &mut self,
        now: Instant,
        path: usize,
        datagram: &[u8],
        out: &mut Vec<Datagram>,
    ) -> Result<Opened, Dropped> {
        let header = Header::read(datagram).ok_or(Dropped::NotOurs)?;
        if header.cluster != self.me.cluster.id() {
            return Err(Dropped::OtherCluster);
        }
        if header.to != self.me.voter {
            return Err(Dropped::NotForUs);
        }
        let link = self.links.get_mut(header.from.index());
        let link = link.filter(|_| header.from != self.me.voter).ok_or(Dropped::NotAVoter)?;
        link.open(&mut self.me, (now, path), (&header, datagram), out)
    }

    fn peers(&self) -> impl Iterator<Item = &Link> {
        let others = self.links.iter().enumerate().filter(|(ix, _)| *ix != self.me.voter.index());
        others.map(|(_, link)| link)
    }
}
