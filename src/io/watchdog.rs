//! The watchdog that resets this host: opening it arms it.
#![allow(unsafe_code, reason = "no crate wraps these requests of linux/watchdog.h")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};

use crate::core::status::WatchdogStatus;

/// `struct watchdog_info`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Info {
    options: u32,
    firmware: u32,
    identity: [u8; 32],
}

mod request {
    use super::Info;

    nix::ioctl_read!(get_support, b'W', 0, Info);
    nix::ioctl_read!(get_boot_status, b'W', 2, libc::c_int);
    nix::ioctl_read!(keep_alive, b'W', 5, libc::c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
    nix::ioctl_read!(get_timeout, b'W', 7, libc::c_int);
    nix::ioctl_readwrite!(set_pretimeout, b'W', 8, libc::c_int);
}

// linux/watchdog.h
const CARD_RESET: u32 = 0x20;
const SET_TIMEOUT: u32 = 0x80;
const MAGIC_CLOSE: u32 = 0x100;
const PRETIMEOUT: u32 = 0x200;
const ALARM_ONLY: u32 = 0x400;
const KEEP_ALIVE_PING: u32 = 0x8000;

/// What `/dev/watchdog` is: another name of the first one.
const MISC: (u64, u64) = (10, 130);

/// Why a watchdog is not armed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", device.display())]
pub struct Refused {
    device: PathBuf,
    why: Why,
}

/// See [`Refused`].
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// Another program has it.
    #[error(
        "another program has it: is it systemd (RuntimeWatchdogSec= in system.conf), or the \
         watchdog daemon?"
    )]
    Busy,
    /// It cannot be opened.
    #[error("{0}")]
    Open(io::Error),
    /// It is something else.
    #[error("not a watchdog")]
    NotOne,
    /// It does not answer.
    #[error("{0}: {1}")]
    Request(&'static str, Errno),
    /// It cannot do what is needed.
    #[error("{0}")]
    Lacks(&'static str),
    /// It took another timeout.
    #[error("its timeout cannot be {} s: its driver has {granted} s", asked.as_secs())]
    Timeout {
        /// What was asked for.
        asked: Duration,
        /// What came of it, in seconds.
        granted: i32,
    },
}

/// An armed watchdog. Dropped, it stays armed.
#[derive(Debug)]
pub struct Watchdog {
    file: File,
}

impl Watchdog {
    /// Arms `device` to reset the host `timeout`, in whole seconds, after it was last fed. May take
    /// as long as its driver does.
    ///
    /// # Errors
    /// It is not armed then, unless it cannot be disarmed.
    pub fn arm(device: &Path, timeout: Duration) -> Result<(Self, WatchdogStatus), Refused> {
        let refused = |why| Refused { device: device.to_owned(), why };
        let meta = fs::metadata(device).map_err(|e| refused(Why::Open(e)))?;
        if !meta.file_type().is_char_device() {
            return Err(refused(Why::NotOne));
        }
        let place = class(meta.rdev());
        let says =
            |name: &str| place.as_deref().and_then(|p| fs::read_to_string(p.join(name)).ok());
        let runs = says("state").is_some_and(|state| state.trim() == "active");
        let file = OpenOptions::new().write(true).open(device).map_err(|error| {
            let busy = error.raw_os_error() == Some(libc::EBUSY);
            refused(if busy { Why::Busy } else { Why::Open(error) })
        })?;
        let watchdog = Self { file };
        match watchdog.set_up(timeout) {
            Ok((info, boot)) => {
                let status = WatchdogStatus {
                    device: device.display().to_string(),
                    identity: identity(&info),
                    timeout_us: u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX),
                    reboots: false,
                    nowayout: says("nowayout").is_some_and(|text| text.trim() == "1"),
                    reset_before: boot & CARD_RESET != 0,
                    armed_before: runs,
                    resets_by: None,
                };
                Ok((watchdog, status))
            }
            Err(why) => {
                // Nobody would feed it. Whatever is no watchdog is not written to.
                if !matches!(why, Why::NotOne) {
                    let _ = watchdog.disarm();
                }
                Err(refused(why))
            }
        }
    }

    fn set_up(&self, timeout: Duration) -> Result<(Info, u32), Why> {
        let failed = |what| move |errno| Why::Request(what, errno);
        let fd = self.file.as_raw_fd();
        let mut info = Info::default();
        let mut boot = 0;
        // SAFETY: `info` is as the kernel has it, and is written to.
        unsafe { request::get_support(fd, &raw mut info) }.map_err(|errno| {
            if errno == Errno::ENOTTY { Why::NotOne } else { failed("WDIOC_GETSUPPORT")(errno) }
        })?;
        fit(info.options)?;
        // SAFETY: an int that is written to; also below.
        if unsafe { request::get_boot_status(fd, &raw mut boot) }.is_err() {
            // Many drivers do not know.
            boot = 0;
        }
        if info.options & PRETIMEOUT != 0 {
            let mut off = 0;
            // What it would do before it resets the host is somebody else's; most have none, and
            // some refuse to be told so.
            // SAFETY: as above.
            let _ = unsafe { request::set_pretimeout(fd, &raw mut off) };
        }
        let seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX);
        let (mut asked, mut granted) = (seconds, 0);
        // SAFETY: as above.
        unsafe { request::set_timeout(fd, &raw mut asked) }.map_err(|errno| {
            if errno == Errno::EINVAL {
                Why::Timeout { asked: timeout, granted: self.timeout() }
            } else {
                failed("WDIOC_SETTIMEOUT")(errno)
            }
        })?;
        // SAFETY: as above.
        unsafe { request::get_timeout(fd, &raw mut granted) }
            .map_err(failed("WDIOC_GETTIMEOUT"))?;
        if asked != seconds || granted != seconds {
            return Err(Why::Timeout { asked: timeout, granted });
        }
        Ok((info, boot.cast_unsigned()))
    }

    fn timeout(&self) -> i32 {
        let mut seconds = 0;
        // SAFETY: an int that is written to. A driver that does not know leaves 0.
        let _ = unsafe { request::get_timeout(self.file.as_raw_fd(), &raw mut seconds) };
        seconds
    }

    /// Lets the host live for as long again. As quick as its driver, which for those on the
    /// mainboard is a write to a register.
    ///
    /// # Errors
    /// The driver's.
    pub fn feed(&self) -> io::Result<()> {
        let mut unused = 0;
        // SAFETY: an int that may be written to.
        unsafe { request::keep_alive(self.file.as_raw_fd(), &raw mut unused) }?;
        Ok(())
    }

    /// Disarms it, unless it is one that cannot be.
    ///
    /// # Errors
    /// The driver's.
    pub fn disarm(mut self) -> io::Result<()> {
        self.file.write_all(b"V")
    }
}

/// Reboots the host at once, without a word to anything that runs on it.
///
/// # Errors
/// This process may not.
pub fn reboot_now() -> io::Result<()> {
    reboot(RebootMode::RB_AUTOBOOT)?;
    Ok(())
}

/// Whether a watchdog with these options can be used.
fn fit(options: u32) -> Result<(), Why> {
    let lacks = |option| options & option == 0;
    if !lacks(ALARM_ONLY) {
        Err(Why::Lacks("it raises an alarm and resets nothing"))
    } else if lacks(SET_TIMEOUT) {
        Err(Why::Lacks("its timeout cannot be set"))
    } else if lacks(KEEP_ALIVE_PING) {
        Err(Why::Lacks("it cannot be fed"))
    } else if lacks(MAGIC_CLOSE) {
        Err(Why::Lacks("it would be disarmed by the end of a vipd that was killed"))
    } else {
        Ok(())
    }
}

fn identity(info: &Info) -> String {
    let end = info.identity.iter().position(|b| *b == 0).unwrap_or(info.identity.len());
    String::from_utf8_lossy(&info.identity[..end]).trim().to_owned()
}

/// Where the kernel tells about the device.
fn class(device: u64) -> Option<PathBuf> {
    let number = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let text = format!("{}:{}", number.0, number.1);
    let all = fs::read_dir("/sys/class/watchdog").ok()?.flatten().map(|entry| entry.path());
    all.into_iter().find(|path| {
        let first = number == MISC && path.ends_with("watchdog0");
        first || fs::read_to_string(path.join("dev")).is_ok_and(|dev| dev.trim() == text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_reset_the_host_is_refused() {
        let whole = SET_TIMEOUT | KEEP_ALIVE_PING | MAGIC_CLOSE;
        assert!(fit(whole).is_ok());
        assert!(fit(whole | PRETIMEOUT | CARD_RESET).is_ok());
        for (options, word) in [
            (whole | ALARM_ONLY, "alarm"),
            (whole & !SET_TIMEOUT, "timeout"),
            (whole & !KEEP_ALIVE_PING, "fed"),
            (whole & !MAGIC_CLOSE, "disarmed"),
        ] {
            let why = fit(options).unwrap_err().to_string();
            assert!(why.contains(word), "{options:#x}: {why}");
        }
    }

    #[test]
    fn what_is_no_watchdog_is_not_written_to() {
        let timeout = Duration::from_secs(5);
        for (path, word) in [
            ("/dev/null", "not a watchdog"),
            ("/proc/version", "not a watchdog"),
            ("/no/such/file", "No such file"),
        ] {
            let why = Watchdog::arm(Path::new(path), timeout).unwrap_err().to_string();
            assert!(why.contains(word) && why.contains(path), "{why}");
        }
    }

    #[test]
    fn a_name_ends_at_its_end() {
        let mut info = Info::default();
        info.identity[..14].copy_from_slice(b"i6300ESB timer");
        assert_eq!(identity(&info), "i6300ESB timer");
        info.identity = [b'x'; 32];
        assert_eq!(identity(&info).len(), 32);
    }
}
