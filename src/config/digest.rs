//! What voters must have configured alike, as a number: everything that decides who may serve
//! what, and nothing else.

use sha2::{Digest as _, Sha256};

use super::{Config, Fencing, Group, Lease};
use crate::types::Digest;

/// What the bytes are; another encoding would have another name.
const FORM: &str = "vipd configuration 1";

/// Bytes in which no two different values look the same: each is preceded by its length.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.put(text.as_bytes());
    }

    fn number(&mut self, number: u128) {
        self.put(&number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(u128::try_from(count).unwrap_or(u128::MAX));
    }

    fn address(&mut self, ip: std::net::IpAddr) {
        match ip {
            std::net::IpAddr::V4(ip) => self.put(&ip.octets()),
            std::net::IpAddr::V6(ip) => self.put(&ip.octets()),
        }
    }

    fn digest(&self) -> Digest {
        let hash = Sha256::digest(&self.0);
        Digest(hash.iter().take(16).fold(0, |all, byte| all << 8 | u128::from(*byte)))
    }
}

impl Config {
    /// What two votes must agree on to count together: the first 128 bits of a SHA-256 over
    /// everything in the file that decides who may serve what.
    ///
    /// That is the cluster's name, the terms of the lease, the voters with their addresses, and
    /// the groups with theirs and their safety; where anybody can be fenced, who and when. Equal exactly where all [`parts`](Self::parts)
    /// are.
    pub fn digest(&self) -> Digest {
        let mut all = Bytes::default();
        all.text(FORM);
        for (name, part) in self.encoded() {
            all.text(&name);
            all.put(&part.0);
        }
        all.digest()
    }

    /// The same by part, so that it can be told what two hosts do not have alike: `cluster`,
    /// `terms`, `voters`, `groups` for their names and order, `group NAME` for each, and `fencing`
    /// where anybody can be fenced.
    pub fn parts(&self) -> Vec<(String, Digest)> {
        let part = |(name, bytes): (String, Bytes)| {
            let digest = bytes.digest();
            (name, digest)
        };
        self.encoded().into_iter().map(part).collect()
    }

    /// The parts in short, as voters whose files differ tell them to each other: a mark of the name,
    /// and one of what it says. For people only; votes agree on the whole [`digest`](Self::digest).
    pub fn marks(&self) -> Vec<(u32, u64)> {
        self.parts().iter().map(|(name, digest)| mark(name, *digest)).collect()
    }

    /// Names the parts that are not among `marks`, those of another file.
    pub fn parts_unlike(&self, marks: impl Fn(u32) -> Option<u64>) -> Vec<String> {
        let parts = self.parts().into_iter();
        let unlike = parts.filter(|(name, digest)| {
            let (name, value) = mark(name, *digest);
            marks(name) != Some(value)
        });
        unlike.map(|(name, _)| name).collect()
    }

    fn encoded(&self) -> Vec<(String, Bytes)> {
        let mut cluster = Bytes::default();
        cluster.text(&self.cluster);
        let mut groups = Bytes::default();
        groups.count(self.groups.len());
        self.groups.iter().for_each(|g| groups.text(&g.name));
        let whole = [
            ("cluster", cluster),
            ("terms", terms(&self.lease)),
            ("voters", self.voters_encoded()),
            ("groups", groups),
        ];
        let whole = whole.into_iter().map(|(name, part)| (name.to_owned(), part));
        let groups = self.groups.iter().map(|g| (format!("group {}", g.name), group(g)));
        let fencing = self.has_devices().then(|| ("fencing".to_owned(), self.fencing_encoded()));
        whole.chain(groups).chain(fencing).collect()
    }

    /// Who can be fenced, and when; what devices there are is each host's own business, as where
    /// their secrets are.
    fn fencing_encoded(&self) -> Bytes {
        let mut out = Bytes::default();
        let Fencing { when, action, head_start, random_delay, startup_wait, limit, check: _ } =
            &self.fencing;
        out.count(when.len());
        for w in when {
            out.text(w.name());
        }
        out.text(action.name());
        for time in [head_start, random_delay, startup_wait] {
            out.number(time.as_nanos());
        }
        out.number(u128::from(*limit));
        let fenced = self.nodes.iter().filter(|n| !n.fence.is_empty());
        out.count(fenced.clone().count());
        fenced.for_each(|n| out.text(&n.name));
        out
    }

    fn voters_encoded(&self) -> Bytes {
        let mut out = Bytes::default();
        out.count(self.nodes.len() + self.witnesses.len());
        for voter in self.voters() {
            out.text(if voter.witness { "witness" } else { "node" });
            out.text(voter.name);
            out.count(voter.addresses().count());
            voter.addresses().for_each(|ip| out.address(ip));
        }
        out
    }
}

fn mark(name: &str, Digest(value): Digest) -> (u32, u64) {
    let hash = Sha256::digest(name.as_bytes());
    let name = hash.iter().take(4).fold(0, |all, byte| all << 8 | u32::from(*byte));
    (name, u64::try_from(value >> 64).unwrap_or_default())
}

fn terms(lease: &Lease) -> Bytes {
    let mut out = Bytes::default();
    out.number(lease.term.as_nanos());
    out.number(lease.vote.as_nanos());
    out.number(lease.quiet.as_nanos());
    out.number(u128::from(Lease::DRIFT));
    out.number(Lease::DRAIN.as_nanos());
    out
}

fn group(group: &Group) -> Bytes {
    let mut out = Bytes::default();
    out.text(group.safety.name());
    // In whichever order they stand, the same may be served.
    let mut all: Vec<_> = group.addresses.iter().map(|a| a.ip).collect();
    all.sort();
    out.count(all.len());
    for ip in all {
        out.address(ip);
    }
    out
}
