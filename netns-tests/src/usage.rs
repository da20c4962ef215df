//! What processes cost.

use std::time::Duration;

use crate::clock::{Stamp, pause};

/// The cost of some processes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since they started.
    pub cpu: Duration,
    /// Resident memory, KiB; pages that two of them share count twice.
    pub rss_kib: u64,
    /// Resident memory, KiB; shared pages divided among those that share them.
    pub pss_kib: u64,
}

impl Usage {
    /// Of `pids`; one that is gone costs nothing.
    pub fn of(pids: &[i32]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            sum.cpu += cpu(*pid).unwrap_or_default();
            let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
            let maps = maps.unwrap_or_default();
            sum.rss_kib += field(&maps, "Rss:").unwrap_or_default();
            sum.pss_kib += field(&maps, "Pss:").unwrap_or_default();
        }
        sum
    }
}

/// The share of one processor that each group of processes uses over `during`, in percent; all
/// are measured at the same time.
pub fn cpu_percent(groups: &[&[i32]], during: Duration) -> Vec<f64> {
    let measure = || groups.iter().map(|pids| Usage::of(pids).cpu).collect::<Vec<_>>();
    let (from, before) = (Stamp::now(), measure());
    pause(during);
    let (to, after) = (Stamp::now(), measure());
    let wall = to.since(from).as_secs_f64();
    let used = before.iter().zip(after).map(|(b, a)| a.saturating_sub(*b).as_secs_f64());
    used.map(|cpu| 100.0 * cpu / wall).collect()
}

/// Nanoseconds on a processor, summed over its threads; the tick counters of `stat` are too
/// coarse for a daemon that sleeps.
fn cpu(pid: i32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanos = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(nanos.sum()))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().split(' ').next()?.parse().ok()
}
