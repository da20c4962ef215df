//! What there is with one peer: greetings, the session, and whether its name is used twice.
//!
//! ```text
//!  a                                  b
//!  Hello  run a, challenge a       ->      proves nothing: it may be old
//!                                  <- Answer  run b, challenge b, echo of a's
//!  b lives; a has the session
//!  Answer echo of b's, the last    ->      a lives; b has the session
//!                                  <- Ready   in the session
//!  data                           <->      data
//! ```
//!
//! Who has its own fresh challenge back knows that the run that answers lives now; nothing less
//! changes anything (a replayed `Hello` costs one answer). Both ends derive the same session from
//! runs and challenges, also when both say `Hello` at once: then each `Answer` finds the other's.

use std::time::Duration;

use super::channel::{Datagram, Me, Opened};
use super::datagram::{self, Echo, Greeting, Header, Kind};
use super::keys::{End, KeyId, Nonce, Seal};
use super::session::Session;
use super::{Dropped, codec};
use crate::types::{Incarnation, Instant, VoterIx};

/// Between the first two greetings; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Between greetings to a peer that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A peer in session that said nothing for so long is greeted: it may have lost its session.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the other end has to confirm a session before it is greeted again.
const CONFIRM: Duration = Duration::from_millis(250);
/// A challenge is used for so long, that several greetings on their way can be answered.
const CHALLENGE_USED: Duration = Duration::from_secs(2);
/// And accepted back for so long. An answer that is held back longer by somebody is void.
const CHALLENGE_LIFE: Duration = Duration::from_secs(5);
/// After so long without alternation, two with one name are taken for one again.
const TWIN_QUIET: Duration = Duration::from_secs(10);

/// Answers to greetings: so many at once, and then one in each such time.
const ANSWERS: (u32, Duration) = (16, Duration::from_millis(20));
/// Greetings because of a datagram that could not be read.
const PROVOKED: (u32, Duration) = (3, Duration::from_millis(100));

/// Runs of a peer that are remembered.
const RUNS: usize = 8;
/// Sessions with its run that are kept.
const SESSIONS: usize = 4;
/// Paths to a peer that are told apart.
pub(super) const PATHS: usize = 8;

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    since: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, (most, every): (u32, Duration)) -> bool {
        let earned = now.since(self.since).as_nanos() / every.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(most);
        self.since = if self.left == most { now } else { self.since + every * earned };
        let is_some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_some
    }
}

/// A run of the peer that was heard of.
#[derive(Clone, Copy, Debug)]
struct Known {
    run: Incarnation,
    /// The highest counter of its greetings.
    greeted: u64,
    /// Whether a later one proved to live.
    is_superseded: bool,
}

#[derive(Clone, Copy, Debug)]
struct Challenge {
    nonce: Nonce,
    made: Instant,
}

#[derive(Debug)]
struct GreetingSeals {
    key: KeyId,
    from_them: Seal,
    to_them: Seal,
}

/// A peer, as seen by the channel.
#[derive(Debug)]
pub(super) struct Link {
    peer: VoterIx,
    seals: Vec<GreetingSeals>,
    challenge: Option<Challenge>,
    /// The counter of our latest greeting.
    greeted: u64,
    /// Which run proved to live last.
    run: Option<Incarnation>,
    /// Others too, the one heard of last at the end.
    runs: Vec<Known>,
    /// With the run in session, the newest at the end. Several: one that the other end has not
    /// confirmed may never be, and what was sent in an older one is still on its way.
    sessions: Vec<Session>,
    /// The peer does not know our keys.
    is_stale: bool,
    /// Until when its name is taken to be used twice.
    twin_until: Option<Instant>,
    due: Instant,
    pause: Duration,
    heard: Instant,
    paths: [Option<Instant>; PATHS],
    answers: Bucket,
    provoked: Bucket,
}

impl Link {
    pub(super) fn new(me: &Me, peer: VoterIx) -> Self {
        let full = |(left, _)| Bucket { left, since: Instant::BOOT };
        let mut link = Self {
            peer,
            seals: Vec::new(),
            challenge: None,
            greeted: 0,
            run: None,
            runs: Vec::with_capacity(RUNS),
            sessions: Vec::with_capacity(SESSIONS + 1),
            is_stale: false,
            twin_until: None,
            due: Instant::BOOT,
            pause: FIRST_PAUSE,
            heard: Instant::BOOT,
            paths: [None; PATHS],
            answers: full(ANSWERS),
            provoked: full(PROVOKED),
        };
        link.set_keys(me);
        link
    }

    /// From now on with the keys that `me` has; what can go on with them goes on.
    pub(super) fn set_keys(&mut self, me: &Me) {
        let seals = |key: &super::keys::Key| GreetingSeals {
            key: key.id,
            from_them: key.greeting(&me.cluster, self.peer, me.voter),
            to_them: key.greeting(&me.cluster, me.voter, self.peer),
        };
        self.seals = me.keys.keys().iter().map(seals).collect();
        self.sessions.retain_mut(|session| session.set_keys(&me.keys, &me.cluster));
        // The peer learns in a handshake which keys there are now; not in one that is on its way
        // with those there were.
        self.challenge = None;
        self.is_stale = true;
        self.due = Instant::BOOT;
        self.pause = FIRST_PAUSE;
    }

    /// Which run proved to live last, if there is a session with it and nobody else has its name.
    pub(super) fn run(&self) -> Option<Incarnation> {
        if self.twin_until.is_some() { None } else { self.sessions.last().map(|s| s.theirs.run) }
    }

    /// When something authentic last came over `path`.
    pub(super) fn heard(&self, path: usize) -> Option<Instant> {
        self.paths.get(path).copied().flatten()
    }

    /// The next moment at which time alone changes something.
    pub(super) fn deadline(&self) -> Instant {
        self.twin_until.map_or(self.due, |twin| twin.min(self.due))
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, me: &mut Me, now: Instant, out: &mut Vec<Datagram>) {
        if self.twin_until.is_some_and(|until| until <= now) {
            // Whoever is left has to prove it, and is then told about.
            self.twin_until = None;
            self.run = None;
            self.sessions.clear();
            (self.due, self.pause) = (now, FIRST_PAUSE);
        }
        if self.due > now {
            return;
        }
        let is_well = self.sessions.last().is_some_and(|session| session.is_confirmed);
        if is_well && !self.is_stale && now.since(self.heard) < SILENCE {
            self.due = self.heard + SILENCE;
        } else {
            self.hello(me, now, out);
            self.due = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The session to send in: the newest that the other end is known to have; before there is
    /// one, the newest.
    pub(super) fn outgoing(&mut self) -> Option<&mut Session> {
        if self.twin_until.is_some() {
            return None;
        }
        let confirmed = self.sessions.iter().rposition(|session| session.is_confirmed);
        let at = confirmed.or_else(|| self.sessions.len().checked_sub(1))?;
        self.sessions.get_mut(at)
    }

    /// The other end has the session at `at`. That the newest is fine calms down.
    fn confirm(&mut self, now: Instant, at: usize) {
        let is_newest = at + 1 == self.sessions.len();
        if let Some(session) = self.sessions.get_mut(at).filter(|session| !session.is_confirmed) {
            session.is_confirmed = true;
            if is_newest {
                (self.due, self.pause) = (now + SILENCE, FIRST_PAUSE);
            }
        }
    }

    /// What a datagram of this peer to us says.
    pub(super) fn open(
        &mut self,
        me: &mut Me,
        (now, path): (Instant, usize),
        (header, datagram): (&Header, &[u8]),
        out: &mut Vec<Datagram>,
    ) -> Result<Opened, Dropped> {
        match header.kind.ok_or(Dropped::Malformed)? {
            kind @ (Kind::Hello | Kind::Answer) => {
                let seals = self.seals.iter().find(|seals| seals.key == header.key);
                let seals = seals.ok_or(Dropped::UnknownKey)?;
                let body = datagram::body(&seals.from_them, datagram).ok_or(Dropped::BadTag)?;
                let greeting = Greeting::read(body, kind == Kind::Answer);
                // Who seals with a key has it.
                let greeting = greeting.filter(|g| g.keys.contains(&header.key));
                let greeting = greeting.ok_or(Dropped::Malformed)?;
                match greeting.echo {
                    None => self.greeted(me, now, header, &greeting, out),
                    Some(echo) => self.answered(me, (now, path), header.key, (greeting, echo), out),
                }
            }
            kind @ (Kind::Ready | Kind::Data | Kind::Connections) => {
                let opened = self.told(now, path, kind, header, datagram);
                let is_foreign = matches!(opened, Err(Dropped::NoSession | Dropped::UnknownKey));
                if is_foreign && self.provoked.take(now, PROVOKED) {
                    // One of us started anew, or has other keys. Nobody proved it, so that this
                    // must stay rare; but a peer that started anew is to be found at once.
                    self.hello(me, now, out);
                }
                opened
            }
        }
    }

    /// A datagram of a session.
    fn told(
        &mut self,
        now: Instant,
        path: usize,
        kind: Kind,
        header: &Header,
        datagram: &[u8],
    ) -> Result<Opened, Dropped> {
        let at = self.sessions.iter().position(|session| session.is_of(header));
        let at = at.ok_or(Dropped::NoSession)?;
        let session = self.sessions.get_mut(at).ok_or(Dropped::NoSession)?;
        let body = session.body(header, datagram)?;
        if let Some(last) = self.paths.get_mut(path) {
            *last = Some(now);
        }
        session.note(header.counter)?;
        let run = session.theirs.run;
        self.heard = now;
        self.confirm(now, at);
        if self.twin_until.is_some() {
            return Err(Dropped::Twin);
        }
        if kind == Kind::Connections {
            return Ok(Opened::Connections { from: self.peer, run, sheet: body.to_vec() });
        }
        let is_ready = kind == Kind::Ready;
        match codec::decode(body) {
            _ if is_ready && body.is_empty() => Ok(Opened::Control),
            Ok(message) if !is_ready => Ok(Opened::Data { from: self.peer, message }),
            Ok(_) | Err(_) => Err(Dropped::Malformed),
        }
    }

    /// Somebody with a key said `Hello`, now or long ago.
    fn greeted(
        &mut self,
        me: &mut Me,
        now: Instant,
        header: &Header,
        greeting: &Greeting,
        out: &mut Vec<Datagram>,
    ) -> Result<Opened, Dropped> {
        // One answer for the copies over several paths and with several keys.
        if let Some(known) = self.runs.iter().find(|known| known.run == greeting.run) {
            match header.counter.cmp(&known.greeted) {
                std::cmp::Ordering::Less => return Err(Dropped::Replay),
                std::cmp::Ordering::Equal => return Err(Dropped::Duplicate),
                std::cmp::Ordering::Greater => {}
            }
        }
        if !self.answers.take(now, ANSWERS) {
            return Err(Dropped::Limited);
        }
        self.known(greeting.run).greeted = header.counter;
        // Where we have the session already, our last answer was lost: the same once more.
        let same = self.sessions.iter().find(|session| {
            (session.theirs.run, session.theirs.nonce) == (greeting.run, greeting.nonce)
        });
        let nonce = match same {
            Some(session) => session.mine.nonce,
            None => self.challenge(me, now),
        };
        let echo = Echo { run: greeting.run, nonce: greeting.nonce, is_last: false };
        self.greet(me, now, Some(header.key), nonce, Some(echo), out);
        Ok(Opened::Control)
    }

    /// Somebody with a key has heard some challenge.
    fn answered(
        &mut self,
        me: &mut Me,
        (now, path): (Instant, usize),
        key: KeyId,
        (greeting, echo): (Greeting, Echo),
        out: &mut Vec<Datagram>,
    ) -> Result<Opened, Dropped> {
        let Greeting { run, nonce, keys, .. } = greeting;
        let mine = End { voter: me.voter, run: me.run, nonce: echo.nonce };
        let theirs = End { voter: self.peer, run, nonce };
        let same = |session: &Session| (session.mine, session.theirs) == (mine, theirs);
        if let Some(at) = self.sessions.iter().position(same) {
            // The last answer comes from one who has the session.
            if echo.is_last {
                self.confirm(now, at);
            }
            return Ok(Opened::Control);
        }
        let is_fresh = self.challenge.is_some_and(|challenge| {
            challenge.nonce == echo.nonce && now.since(challenge.made) <= CHALLENGE_LIFE
        });
        if echo.run != me.run || !is_fresh {
            return Err(Dropped::Replay);
        }
        let session = Session::new(&me.keys, &me.cluster, [mine, theirs], keys);
        let session = session.ok_or(Dropped::UnknownKey)?;
        // Back once, it proves nothing any more.
        self.challenge = None;
        self.heard = now;
        if let Some(last) = self.paths.get_mut(path) {
            *last = Some(now);
        }
        let opened = self.establish(now, session, echo.is_last);
        if echo.is_last {
            self.ready(me, out);
        } else {
            let echo = Echo { run, nonce, is_last: true };
            self.greet(me, now, Some(key), mine.nonce, Some(echo), out);
        }
        Ok(opened)
    }

    /// The run at the other end of `session` lives.
    fn establish(&mut self, now: Instant, mut session: Session, is_confirmed: bool) -> Opened {
        let run = session.theirs.run;
        let is_other = self.run.is_some_and(|last| last != run);
        let was_up = !self.sessions.is_empty();
        if let Some(last) = self.run.filter(|_| is_other) {
            self.known(last).is_superseded = true;
        }
        let is_revenant = std::mem::take(&mut self.known(run).is_superseded);
        self.run = Some(run);
        session.is_confirmed = is_confirmed;
        if is_other {
            self.sessions.clear();
        }
        self.sessions.push(session);
        if self.sessions.len() > SESSIONS {
            // The oldest, but the one to send in stays.
            let used = self.sessions.iter().rposition(|session| session.is_confirmed);
            self.sessions.remove(usize::from(used == Some(0)));
        }
        self.is_stale = false;
        if is_confirmed {
            (self.due, self.pause) = (now + SILENCE, FIRST_PAUSE);
        } else {
            self.due = now + CONFIRM.max(self.pause);
        }
        if is_revenant || (is_other && self.twin_until.is_some()) {
            self.twin_until = Some(now + TWIN_QUIET);
            Opened::Twin { from: self.peer }
        } else if self.twin_until.is_none() && (is_other || !was_up) {
            Opened::Up { from: self.peer, run }
        } else {
            Opened::Control
        }
    }

    /// What is remembered of `run`, which is now the one heard of last.
    fn known(&mut self, run: Incarnation) -> &mut Known {
        let known = match self.runs.iter().position(|known| known.run == run) {
            Some(at) => self.runs.remove(at),
            None => Known { run, greeted: 0, is_superseded: false },
        };
        if self.runs.len() == RUNS {
            // Not the one that is in session.
            let at = self.runs.iter().position(|known| Some(known.run) != self.run);
            self.runs.remove(at.unwrap_or(0));
        }
        self.runs.push(known);
        let last = self.runs.len() - 1;
        &mut self.runs[last]
    }

    /// The challenge to be sent now.
    fn challenge(&mut self, me: &mut Me, now: Instant) -> Nonce {
        match self.challenge {
            Some(challenge) if now.since(challenge.made) < CHALLENGE_USED => challenge.nonce,
            Some(_) | None => {
                let nonce = me.nonce(now, self.peer);
                self.challenge = Some(Challenge { nonce, made: now });
                nonce
            }
        }
    }

    fn hello(&mut self, me: &mut Me, now: Instant, out: &mut Vec<Datagram>) {
        let nonce = self.challenge(me, now);
        self.greet(me, now, None, nonce, None, out);
    }

    /// Sends a greeting with `key`, or with each: which of them the peer has is not known.
    fn greet(
        &mut self,
        me: &Me,
        now: Instant,
        key: Option<KeyId>,
        nonce: Nonce,
        echo: Option<Echo>,
        out: &mut Vec<Datagram>,
    ) {
        // Rises also where a channel is made anew in the same run.
        self.greeted = now.nanos().max(self.greeted + 1);
        let greeting = Greeting { run: me.run, nonce, keys: me.keys.ids().collect(), echo };
        let kind = if echo.is_some() { Kind::Answer } else { Kind::Hello };
        for seals in self.seals.iter().filter(|seals| key.is_none_or(|key| key == seals.key)) {
            let header = Header {
                kind: Some(kind),
                key: seals.key,
                cluster: me.cluster.id(),
                from: me.voter,
                to: self.peer,
                session: 0,
                counter: self.greeted,
            };
            let mut bytes = Vec::with_capacity(160);
            header.write(&mut bytes);
            greeting.write(&mut bytes);
            datagram::close(&seals.to_them, 0, &mut bytes);
            out.push(Datagram { to: self.peer, bytes });
        }
    }

    /// Tells the other end that we have the session.
    fn ready(&mut self, me: &Me, out: &mut Vec<Datagram>) {
        let mut bytes = Vec::with_capacity(64);
        let sealed = self
            .sessions
            .last_mut()
            .and_then(|session| session.seal(Kind::Ready, &me.cluster, &mut bytes, |_| Some(())));
        if sealed.is_some() {
            out.push(Datagram { to: self.peer, bytes });
        }
    }
}
