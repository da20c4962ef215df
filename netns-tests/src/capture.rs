//! What passes by an interface.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Stamp, wait_until};
use crate::frame::Frame;
use crate::host::Host;
use crate::packet_socket::{Hears, PacketSocket};
use crate::worker::Worker;
use crate::{Error, Result, run};

/// The frames seen on an interface since it was started, with the kernel's time stamps.
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Mutex<Vec<Frame>>>,
    _worker: Worker,
}

impl Capture {
    /// Begins to keep the frames on `nic` of `host` that `wanted` says yes to, such as
    /// [`Frame::is_vrrp`].
    pub fn start(
        host: &Host,
        nic: &str,
        wanted: impl Fn(&Frame) -> bool + Send + 'static,
    ) -> Result<Self> {
        let socket = PacketSocket::open(host.namespace(), nic, Hears::All)?;
        let frames = Arc::<Mutex<Vec<Frame>>>::default();
        let kept = Arc::clone(&frames);
        let worker = Worker::start("capture", move |stop| {
            let mut buffer = vec![0; 1 << 16];
            while stop.wait([&socket].map(std::os::fd::AsFd::as_fd), None).is_some() {
                while let Some(frame) = socket.receive(&mut buffer) {
                    if wanted(&frame) {
                        kept.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
                    }
                }
            }
        })?;
        Ok(Self { frames, _worker: worker })
    }

    /// The frames so far.
    pub fn frames(&self) -> Vec<Frame> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a frame not older than `from` that `wanted` says yes to.
    pub fn wait_for(
        &self,
        what: &str,
        from: Stamp,
        within: Duration,
        wanted: impl Fn(&Frame) -> bool,
    ) -> Result<Frame> {
        let mut found = None;
        wait_until(what, within, || {
            let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            found = frames.iter().find(|f| f.at >= from && wanted(f)).cloned();
            Ok(found.is_some())
        })?;
        found.ok_or_else(|| Error::Timeout { what: what.to_owned(), within })
    }

    /// Writes the frames so far to `path`, as `tcpdump` would.
    pub fn write_pcap(&self, path: &Path) -> Result {
        let frames = self.frames();
        std::fs::File::create(path)
            .and_then(|mut file| file.write_all(&pcap(&frames)))
            .map_err(Error::io(format!("write {}", path.display())))
    }

    /// What tshark thinks of the frames so far; `preferences` as in `vrrp.v3_checksum_as_in_v2:TRUE`.
    pub fn tshark_verdicts(&self, path: &Path, preferences: &[&str]) -> Result<Vec<Verdict>> {
        let rows = self.tshark_fields(path, preferences, &FIELDS)?;
        Ok(rows.into_iter().map(Verdict::from_row).collect())
    }

    /// What tshark reads in the frames so far: a row for each frame, in it the value of each of
    /// `fields`, which is empty where the frame has no such field.
    pub fn tshark_fields(
        &self,
        path: &Path,
        preferences: &[&str],
        fields: &[&str],
    ) -> Result<Vec<Vec<String>>> {
        self.write_pcap(path)?;
        let path = PathBuf::from(path);
        let file = path.to_string_lossy().into_owned();
        let mut argv = vec!["tshark", "-n", "-r", &file, "-T", "fields", "-E", "separator=/t"];
        for field in fields {
            argv.extend(["-e", field]);
        }
        for preference in preferences {
            argv.extend(["-o", preference]);
        }
        let text = run::stdout(&argv)?;
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }
}

/// What is asked of tshark; [`Verdict`] has it by name.
const FIELDS: [&str; 5] = [
    "_ws.col.Protocol",
    "vrrp.checksum.status",
    "ip.checksum.status",
    "_ws.expert.message",
    "_ws.malformed",
];

/// What tshark thinks of one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The innermost protocol it recognised.
    pub protocol: String,
    /// Of the VRRP checksum: 0 bad, 1 good, 2 not checked.
    pub vrrp_checksum: Option<u8>,
    /// Of the IPv4 header checksum, if it was told to check it.
    pub ip_checksum: Option<u8>,
    /// Its warnings and errors, comma separated; empty if it has none.
    pub expert: String,
    /// Whether a dissector ran out of bytes.
    pub malformed: bool,
}

impl Verdict {
    fn from_row(row: Vec<String>) -> Self {
        let mut fields = row.into_iter();
        let mut next = || fields.next().unwrap_or_default();
        Self {
            protocol: next(),
            vrrp_checksum: next().parse().ok(),
            ip_checksum: next().parse().ok(),
            expert: next(),
            malformed: !next().is_empty(),
        }
    }
}

/// The frames as a pcap file with nanoseconds.
fn pcap(frames: &[Frame]) -> Vec<u8> {
    const HEADER: [u32; 6] = [0xa1b2_3c4d, 0x0004_0002, 0, 0, 65535, 1];
    let mut out: Vec<u8> = HEADER.iter().flat_map(|word| word.to_ne_bytes()).collect();
    // The version is two 16-bit numbers, major first.
    out[4..6].copy_from_slice(&2_u16.to_ne_bytes());
    out[6..8].copy_from_slice(&4_u16.to_ne_bytes());
    for frame in frames {
        let (seconds, nanos) = (frame.at.nanos() / 1_000_000_000, frame.at.nanos() % 1_000_000_000);
        let length = frame.bytes.len() as u64;
        for word in [seconds, nanos, length, length] {
            // A pcap file has 32 bits for each, good until 2106.
            out.extend(u32::try_from(word).unwrap_or(u32::MAX).to_ne_bytes());
        }
        out.extend(&frame.bytes);
    }
    out
}

/// Bytes as hexadecimal text, for messages.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
