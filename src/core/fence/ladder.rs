//! In which order the devices of a node are used: level by level, every device of a level; and all
//! but the last once more, for a host has no power only while all of them are off at once.

use std::time::Duration;

use crate::config::Device;

/// Between two attempts with the same device.
const PAUSE: Duration = Duration::from_secs(1);

/// How far one fencing has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// By level, in the order of the file.
    rungs: Vec<Rung>,
    at: usize,
    attempt: u32,
    /// Whether the level is gone over once more.
    again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rung {
    level: u8,
    device: u16,
    attempts: u32,
    delay: Duration,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This device, after a pause.
    Use {
        /// Its place among those of its node.
        device: u16,
        /// How long to wait before.
        after: Duration,
    },
    /// Every device of a level did what it should.
    Done {
        /// Those of that level.
        devices: Vec<u16>,
    },
    /// No level did.
    Failed,
}

impl Ladder {
    /// From the bottom.
    pub fn new(devices: &[Device]) -> Self {
        let mut rungs: Vec<_> = (0..)
            .zip(devices)
            .map(|(device, d)| Rung {
                level: d.level,
                device,
                attempts: d.attempts.max(1),
                delay: d.delay,
            })
            .collect();
        rungs.sort_by_key(|rung| rung.level);
        Self { rungs, at: 0, attempt: 0, again: false }
    }

    /// The first step.
    pub fn begin(&self) -> Next {
        self.first_try()
    }

    /// The device in use is done; `ok` is whether it did what it should, `again` whether there is a
    /// point in trying once more.
    pub fn told(&mut self, ok: bool, again: bool) -> Next {
        let Some(rung) = self.rungs.get(self.at) else { return Next::Failed };
        let level = rung.level;
        self.attempt += 1;
        if ok {
            self.attempt = 0;
            self.at += 1;
            let of_level = |rung: &&Rung| rung.level == level;
            let first = self.rungs.iter().position(|rung| rung.level == level).unwrap_or(0);
            let count = self.rungs.iter().filter(of_level).count();
            let last = first + count - usize::from(self.again);
            if self.at < last {
                return self.first_try();
            }
            if !self.again && count > 1 {
                (self.again, self.at) = (true, first);
                let device = self.rungs[first].device;
                return Next::Use { device, after: Duration::ZERO };
            }
            let used = self.rungs.iter().filter(of_level);
            return Next::Done { devices: used.map(|rung| rung.device).collect() };
        }
        if again && self.attempt < rung.attempts {
            return Next::Use { device: rung.device, after: PAUSE };
        }
        self.attempt = 0;
        self.again = false;
        let higher = self.rungs.iter().position(|rung| rung.level > level);
        self.at = higher.unwrap_or(self.rungs.len());
        self.first_try()
    }

    fn first_try(&self) -> Next {
        match self.rungs.get(self.at) {
            Some(rung) => Next::Use { device: rung.device, after: rung.delay },
            None => Next::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(level: u8, attempts: u32) -> Device {
        Device { level, attempts, ..Device::of("fence_dummy") }
    }

    /// The devices used, given what each answers in turn.
    fn walk(devices: &[Device], answers: &[(bool, bool)]) -> (Vec<u16>, Next) {
        let mut ladder = Ladder::new(devices);
        let (mut used, mut next) = (Vec::new(), ladder.begin());
        for (ok, again) in answers {
            let Next::Use { device, .. } = next else { break };
            used.push(device);
            next = ladder.told(*ok, *again);
        }
        (used, next)
    }

    type Answers = &'static [(bool, bool)];

    const OK: (bool, bool) = (true, true);
    const NO: (bool, bool) = (false, true);
    const LATE: (bool, bool) = (false, false);

    #[test]
    fn every_device_of_a_level_and_level_after_level() {
        let all = [device(2, 1), device(1, 2), device(1, 1)];
        let done = |devices: &[u16]| Next::Done { devices: devices.to_vec() };
        let rows: [(Answers, &[u16], Next); 8] = [
            (&[OK, OK, OK], &[1, 2, 1], done(&[1, 2])),
            (&[NO, OK, OK, OK], &[1, 1, 2, 1], done(&[1, 2])),
            (&[LATE, OK], &[1, 0], done(&[0])),
            (&[NO, NO, OK], &[1, 1, 0], done(&[0])),
            (&[OK, NO, OK], &[1, 2, 0], done(&[0])),
            (&[OK, NO, NO], &[1, 2, 0], Next::Failed),
            (&[NO, NO, NO], &[1, 1, 0], Next::Failed),
            (&[OK, OK, LATE, OK], &[1, 2, 1, 0], done(&[0])),
        ];
        for (answers, used, next) in rows {
            assert_eq!(walk(&all, answers), (used.to_vec(), next), "{answers:?}");
        }
        assert_eq!(Ladder::new(&[]).begin(), Next::Failed);
    }

    #[test]
    fn the_delay_comes_first_and_a_pause_between_attempts() {
        let slow = Device { delay: Duration::from_secs(7), ..device(1, 2) };
        let mut ladder = Ladder::new(&[slow]);
        assert_eq!(ladder.begin(), Next::Use { device: 0, after: Duration::from_secs(7) });
        assert_eq!(ladder.told(false, true), Next::Use { device: 0, after: PAUSE });
    }
}
