//! A child process without vipd's privileges. The only place that forks.
//!
//! The child gets a session of its own, `/dev/null` or a pipe as its input, the default signal mask,
//! handlers, scheduling and umask, no descriptor above 2, none of the variables that systemd
//! meant for vipd, no capability and no way to gain one, and SIGTERM when vipd dies. Where vipd
//! may change users, it also gets another user; elsewhere it is vipd's user without vipd's
//! capabilities.
//!
//! A fence agent is vipd's user without vipd's capabilities, gets hardly any variables, and SIGKILL
//! when vipd dies: what it does must not happen later.

#![allow(unsafe_code, reason = "fork, and system calls between fork and exec")]

use std::ffi::CString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal as Death;
use nix::unistd::{Gid, Uid, User};
use rustix::process::{Pid, Signal, kill_process_group};

use super::pidfd::{self, Pidfd};

/// Who runs a command if the configuration does not say and vipd may choose.
const NOBODY: &str = "nobody";

/// What systemd tells a service about itself, which is not true of a service's child.
const SCRUBBED: [&str; 14] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "MAINPID",
    "MANAGERPID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "CREDENTIALS_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
];

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
/// More capabilities than any kernel has; the kernel says where they end.
const CAP_END: libc::c_ulong = 64;

/// The user of a command, with everything the child needs to become it.
#[derive(Clone, Debug)]
pub(in crate::io) struct Account {
    name: String,
    home: std::path::PathBuf,
    uid: Uid,
    gid: Gid,
    groups: Vec<libc::gid_t>,
}

impl Account {
    pub(in crate::io) fn uid(&self) -> u32 {
        self.uid.as_raw()
    }
}

/// Looks up whom to run a command as; `None` for vipd's own user. May ask the network.
///
/// # Errors
/// In words: no such user, or vipd may not become it.
pub(in crate::io) fn account(user: Option<&str>) -> Result<Option<Account>, String> {
    let free = may_change_user();
    let name = match user {
        Some(name) => name,
        None if free => NOBODY,
        None => return Ok(None),
    };
    let found = User::from_name(name)
        .map_err(|e| format!("user {name}: {e}"))?
        .ok_or_else(|| format!("there is no user {name}"))?;
    if !free {
        return if found.uid == Uid::effective() {
            Ok(None)
        } else {
            Err(format!("vipd may not become user {name}: that takes CAP_SETUID and CAP_SETGID"))
        };
    }
    let c_name = CString::new(name).map_err(|_| format!("user {name:?} contains a zero byte"))?;
    let groups = nix::unistd::getgrouplist(&c_name, found.gid)
        .map_err(|e| format!("groups of user {name}: {e}"))?;
    Ok(Some(Account {
        name: found.name,
        home: found.dir,
        uid: found.uid,
        gid: found.gid,
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    }))
}

/// A child that has not been reaped: its number, and its group's, are its own until then.
///
/// Dropping it kills its whole group.
#[derive(Debug)]
pub(in crate::io) struct Child {
    inner: std::process::Child,
    pid: Pid,
    pidfd: Pidfd,
    reaped: bool,
}

/// What a child is given beside its words.
#[derive(Clone, Debug, Default)]
pub(in crate::io) struct Given {
    /// Its variables, in place of vipd's own.
    pub(in crate::io) env: Option<Vec<(&'static str, String)>>,
    /// Whether it reads from a pipe.
    pub(in crate::io) input: bool,
    /// Root's rights, where it is root and vipd has them.
    pub(in crate::io) rights: bool,
    /// Whether it is killed when vipd dies, not asked to end.
    pub(in crate::io) doomed: bool,
}

/// A child and its ends of the pipes.
#[derive(Debug)]
pub(in crate::io) struct Spawned {
    pub(in crate::io) child: Child,
    pub(in crate::io) input: Option<ChildStdin>,
    pub(in crate::io) out: ChildStdout,
    pub(in crate::io) err: ChildStderr,
}

/// Runs `argv` as `account`, or as vipd's own user. Returns when the program has been executed.
///
/// Must be called on a thread that lives as long as the child may: the kernel takes its end for
/// the death of the parent.
///
/// # Errors
/// What the kernel says of the program, or of one of the steps before.
pub(in crate::io) fn spawn(
    argv: &[String],
    account: Option<&Account>,
    given: Given,
) -> io::Result<Spawned> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if given.input { Stdio::piped() } else { Stdio::null() });
    for name in SCRUBBED {
        command.env_remove(name);
    }
    if let Some(env) = given.env {
        command.env_clear().current_dir("/").envs(env);
    }
    if let Some(account) = account {
        command.env("USER", &account.name).env("LOGNAME", &account.name);
        command.env("HOME", &account.home);
    }
    let rights = given.rights && account.is_none_or(|a| a.uid.is_root());
    let account = account.cloned();
    let parent = nix::unistd::getpid();
    let death = if given.doomed { Death::SIGKILL } else { Death::SIGTERM };
    // SAFETY: `shed` makes system calls only: it neither allocates nor takes a lock, so it does
    // not matter what other threads did at the moment of the fork.
    unsafe { command.pre_exec(move || shed(parent, account.as_ref(), rights, death)) };
    let mut inner = command.spawn()?;
    let pid = Pid::from_child(&inner);
    let input = inner.stdin.take();
    match (pidfd::open(inner.id()), inner.stdout.take(), inner.stderr.take()) {
        (Ok(pidfd), Some(out), Some(err)) => {
            let child = Child { inner, pid, pidfd, reaped: false };
            Ok(Spawned { child, input, out, err })
        }
        (opened, ..) => {
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = inner.wait();
            Err(opened.err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
        }
    }
}

impl Child {
    pub(in crate::io) fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Signals the child and everything it started that did not leave its group.
    pub(in crate::io) fn signal(&self, signal: Signal) {
        if !self.reaped {
            // Nobody there, or nobody that may be signalled: the pidfd tells what matters.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Waits until the child ended, ends what it left behind and reaps it.
    pub(in crate::io) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let _ = self.pidfd.readable().await?;
        self.signal(Signal::KILL);
        self.reaped = true;
        self.inner.wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.signal(Signal::KILL);
        // A killed process is gone in a moment; one that the kernel holds back is left to init.
        let mut fds = [nix::poll::PollFd::new(
            std::os::fd::AsFd::as_fd(self.pidfd.get_ref()),
            nix::poll::PollFlags::POLLIN,
        )];
        let _ = nix::poll::poll(&mut fds, nix::poll::PollTimeout::from(100_u8));
        let _ = self.inner.try_wait();
    }
}

/// How a process ended, in words.
pub(in crate::io) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Whether this thread may become any user.
fn may_change_user() -> bool {
    let mut sets = CapSets::default();
    // SAFETY: the kernel reads the header and writes two sets, as version 3 says.
    let got = unsafe { libc::syscall(libc::SYS_capget, &CapHeader::SELF, &raw mut sets) };
    let wanted = 1 << CAP_SETUID | 1 << CAP_SETGID;
    got == 0 && sets.0[0].effective & wanted == wanted
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: libc::c_int,
}

impl CapHeader {
    /// The calling thread, `_LINUX_CAPABILITY_VERSION_3`.
    const SELF: Self = Self { version: 0x2008_0522, pid: 0 };
}

/// `struct __user_cap_data_struct`, the low and the high half.
#[repr(C)]
#[derive(Default)]
struct CapSets([CapSet; 2]);

#[repr(C)]
#[derive(Default)]
struct CapSet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Runs in the child, between fork and exec: gives up everything that makes vipd special.
///
/// The order matters: bounding set and groups need the capabilities that the change of user
/// takes away, and the kernel forgets the death signal at the change of user.
///
/// With `rights` it gives up what is of the process, and keeps what is root's.
fn shed(
    parent: nix::unistd::Pid,
    account: Option<&Account>,
    rights: bool,
    death: Death,
) -> io::Result<()> {
    nix::unistd::setsid()?;
    default_signals();
    default_scheduling();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    limit_privileges()?;
    if !rights {
        drop_bounding_set();
    }
    if let Some(account) = account {
        become_user(account)?;
    }
    if !rights {
        drop_capabilities()?;
        nix::sys::prctl::set_no_new_privs()?;
    }
    nix::sys::prctl::set_pdeathsig(death)?;
    if nix::unistd::getppid() != parent {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let cloexec = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: changes a flag of the child's own descriptors. Without the call (Linux < 5.11)
    // there is only what another library forgot to mark.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, cloexec) };
    Ok(())
}

/// Handlers are reset by exec, but ignored signals stay ignored. The C library's `signal` would
/// leave out the two that it keeps for itself.
fn default_signals() {
    /// The kernel's `struct sigaction`: handler, flags, restorer, mask.
    static DEFAULT: [u64; 4] = [libc::SIG_DFL as u64, 0, 0, 0];
    for signal in 1..=64 {
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: the default action involves no code of ours; SIGKILL and SIGSTOP are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const DEFAULT,
                none,
                size_of::<u64>(),
            )
        };
    }
}

/// Neither the real-time class nor the nice value nor the timer slack of the calling thread.
/// What the kernel refuses was not special.
fn default_scheduling() {
    // SAFETY: plain old data, for which zero is valid: priority 0.
    let other: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads `other`; 0 is the calling process; slack 0 is the default.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const other);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        libc::prctl(libc::PR_SET_TIMERSLACK, 0);
    }
}

/// The allowances of vipd's real-time thread: its scheduling, its nice value, its locked memory.
fn limit_privileges() -> io::Result<()> {
    /// What the kernel allows by itself, in bytes.
    const MEMLOCK: u64 = 8 << 20;
    setrlimit(Resource::RLIMIT_RTPRIO, 0, 0)?;
    setrlimit(Resource::RLIMIT_NICE, 0, 0)?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, soft.min(MEMLOCK), hard.min(MEMLOCK))?;
    Ok(())
}

/// Takes `CAP_SETPCAP`; without it there is nothing a program could gain anyway, for
/// `no_new_privs` and an empty permitted set follow.
fn drop_bounding_set() {
    for cap in 0..CAP_END {
        // SAFETY: changes the child's own bounding set; an unknown capability is refused.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) } != 0 {
            break;
        }
    }
}

fn become_user(account: &Account) -> io::Result<()> {
    // SAFETY: the kernel reads as many group numbers as it is told there are.
    done(unsafe { libc::setgroups(account.groups.len(), account.groups.as_ptr()) })?;
    nix::unistd::setresgid(account.gid, account.gid, account.gid)?;
    nix::unistd::setresuid(account.uid, account.uid, account.uid)?;
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    let none = CapSets::default();
    // SAFETY: changes the child's own ambient set.
    done(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    // SAFETY: the kernel reads the header and two sets, as version 3 says.
    match unsafe { libc::syscall(libc::SYS_capset, &CapHeader::SELF, &raw const none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
