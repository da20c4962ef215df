//! Everything that an agent starts carries a mark in its environment: so it is found wherever it
//! went, and also when vipd has forgotten it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that has the mark.
pub(super) const VARIABLE: &str = "VIPD_FENCE";

/// How often to look again: a process that forks or executes meanwhile is found the next time.
const ROUNDS: usize = 8;
/// Between two looks, in milliseconds.
const PAUSE: u8 = 1;

/// Kills every process whose mark is `mark`, or begins with it if that ends with `#`; how many.
pub(super) fn kill(mark: &str) -> usize {
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS {
        let before = killed.len();
        let mut unsure = false;
        for pid in processes() {
            match end(pid, mark) {
                // One that was killed may be seen dying in the next round.
                Some(true) => unsure |= killed.insert(pid),
                Some(false) => {}
                None => unsure = true,
            }
        }
        if !unsure && killed.len() == before {
            break;
        }
        let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(PAUSE));
    }
    killed.len()
}

/// Those of this user, as all agents are.
fn processes() -> impl Iterator<Item = i32> {
    let me = nix::unistd::geteuid().as_raw();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |e| {
        let pid = e.file_name().to_str()?.parse().ok()?;
        e.metadata().is_ok_and(|m| m.uid() == me).then_some(pid)
    })
}

/// Whether it had the mark, and was killed; `None` where that cannot be told yet. The descriptor
/// is taken first: the number may become another process's between two looks, and what it stands
/// for may not.
fn end(pid: i32, mark: &str) -> Option<bool> {
    if !is_marked(pid, mark)? {
        return Some(false);
    }
    let Some(fd) = Pid::from_raw(pid).and_then(|p| pidfd_open(p, PidfdFlags::empty()).ok()) else {
        return Some(false);
    };
    Some(is_marked(pid, mark)? && pidfd_send_signal(&fd, Signal::KILL).is_ok())
}

/// `None` of a process that is just being executed: it has memory, and its environment is not
/// there yet.
fn is_marked(pid: i32, mark: &str) -> Option<bool> {
    // What has no memory any more has no environment either.
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return Some(false) };
    if environment.is_empty() && fs::read_link(format!("/proc/{pid}/exe")).is_ok() {
        return None;
    }
    Some(environment.split(|b| *b == 0).any(|variable| carries(variable, mark)))
}

fn carries(variable: &[u8], mark: &str) -> bool {
    let value = variable.strip_prefix(VARIABLE.as_bytes()).and_then(|v| v.strip_prefix(b"="));
    value.is_some_and(|v| {
        if mark.ends_with('#') { v.starts_with(mark.as_bytes()) } else { v == mark.as_bytes() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_one_run_or_all_of_a_scope() {
        let ours = b"VIPD_FENCE=/run/vipd#12#3";
        for (mark, is) in [
            ("/run/vipd#12#3", true),
            ("/run/vipd#", true),
            ("/run/vipd#12#31", false),
            ("/run/vipd#12#", true),
            ("/run/vipd#12", false),
            ("/run/vip#", false),
            ("/run/vipd2#", false),
        ] {
            assert_eq!(carries(ours, mark), is, "{mark}");
        }
        assert!(!carries(b"VIPD_FENCED=/run/vipd#1#1", "/run/vipd#"));
        assert!(!carries(b"", "/run/vipd#"));
    }
}
