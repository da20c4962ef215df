//! Logs with fields: to the journal where stderr is the journal, else to stderr.
//!
//! A thread of its own writes: a journal that hangs must not hang the service runtime, whose
//! silence the watchdog would take for the daemon's. Lines that find the queue full are counted
//! and dropped.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

/// Lines that may wait for the writer.
const QUEUE: usize = 1024;
/// The longest message or field, in bytes; a journal datagram must stay below the socket's buffer.
const LONGEST: usize = 32 * 1024;
/// How long the end of the process waits for the last lines.
const FLUSH: Duration = Duration::from_secs(1);
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Lines dropped because the queue was full.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many log lines were dropped because nobody took them in time.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is no level and no directive.
    #[error(
        "log level {given:?}: {source}; expected error, warn, info, debug, trace, off, or directives such as \
         `warn,vipd=debug`"
    )]
    Filter {
        /// As given.
        given: String,
        /// Where it is wrong.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The writer's thread could not be started.
    #[error("log thread: {0}")]
    Thread(io::Error),
    /// Somebody set up logging before.
    #[error("{0}")]
    Twice(tracing_subscriber::util::TryInitError),
}

/// Ends the log: dropping it waits, for a bounded time, until the last line is written.
#[must_use = "dropping it ends the log"]
#[derive(Debug)]
pub struct Flush {
    lines: SyncSender<Line>,
    done: Receiver<()>,
}

impl Drop for Flush {
    fn drop(&mut self) {
        if self.lines.try_send(Line::End).is_ok() {
            // Late or gone, the process ends all the same.
            let _ = self.done.recv_timeout(FLUSH);
        }
    }
}

/// Sets up logging for the process. Not for the core thread, which logs nothing.
///
/// A bare level is vipd's own, with other crates at WARN; anything else is taken as directives.
///
/// # Errors
/// If the filter makes no sense, or logging is set up already.
pub fn init(filter: &str) -> Result<Flush, LogError> {
    let filter = parse(filter)?;
    let journal = stderr_is_journal().then(journal).flatten();
    let form = match &journal {
        Some(_) => Form::Journal,
        None if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() => Form::Color,
        None => Form::Plain,
    };
    let (lines, inbox) = sync_channel(QUEUE);
    let (tell, done) = sync_channel(1);
    thread::Builder::new()
        .name("vipd-log".into())
        .spawn(move || {
            write(&inbox, journal.as_ref());
            let _ = tell.try_send(());
        })
        .map_err(LogError::Thread)?;
    let sink = Sink { form, lines: lines.clone() };
    tracing_subscriber::registry().with(filter).with(sink).try_init().map_err(LogError::Twice)?;
    Ok(Flush { lines, done })
}

fn parse(given: &str) -> Result<EnvFilter, LogError> {
    let directives = match given.parse::<tracing_subscriber::filter::LevelFilter>() {
        Ok(level) => format!("warn,vipd={level}"),
        Err(_) => given.to_owned(),
    };
    EnvFilter::try_new(directives)
        .map_err(|source| LogError::Filter { given: given.to_owned(), source })
}

/// Whether systemd connected stderr to the journal: `JOURNAL_STREAM` is its device and inode.
fn stderr_is_journal() -> bool {
    let Ok(stat) = nix::sys::stat::fstat(io::stderr()) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|v| v == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn journal() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(JOURNAL).ok()?;
    Some(socket)
}

enum Line {
    Text(Vec<u8>),
    End,
}

fn write(lines: &Receiver<Line>, journal: Option<&UnixDatagram>) {
    while let Ok(Line::Text(line)) = lines.recv() {
        // There is nobody left to tell when the log itself fails; journald comes back by itself.
        let _ = match journal {
            Some(journal) => journal.send(&line).map(|_| ()).or_else(|_| resend(&line)),
            None => io::stderr().write_all(&line),
        };
    }
}

/// A journald that was restarted listens on a new socket.
fn resend(line: &[u8]) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(line, JOURNAL).map(|_| ())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Journal,
    Plain,
    Color,
}

struct Sink {
    form: Form,
    lines: SyncSender<Line>,
}

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let line = match self.form {
            Form::Journal => fields.journal(*meta.level(), meta.target()),
            Form::Plain | Form::Color => {
                let now = jiff::Zoned::now();
                fields.text(&now, *meta.level(), self.form == Form::Color).into_bytes()
            }
        };
        if self.lines.try_send(Line::Text(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An event's message and fields, as text.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, name: &'static str, mut value: String) {
        value.truncate(value.floor_char_boundary(LONGEST));
        if name == "message" {
            self.message = value;
        } else {
            self.others.push((name, value));
        }
    }

    /// One line for people.
    fn text(&self, now: &jiff::Zoned, level: Level, color: bool) -> String {
        let paint = match level {
            Level::ERROR => "\x1b[1;31m",
            Level::WARN => "\x1b[33m",
            Level::INFO => "\x1b[32m",
            Level::DEBUG | Level::TRACE => "\x1b[2m",
        };
        let (on, dim, off) = if color { (paint, "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let time = now.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z");
        let mut line = format!("{dim}{time}{off} {on}{level:>5}{off} {}", shown(&self.message));
        for (name, value) in &self.others {
            // Writing to a string cannot fail.
            let _ = write!(line, " {dim}{name}={off}{}", quoted(value));
        }
        line.push('\n');
        line
    }

    /// One datagram in the journal's own protocol.
    fn journal(&self, level: Level, target: &str) -> Vec<u8> {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            Level::DEBUG | Level::TRACE => "7",
        };
        let mut out = Vec::with_capacity(256);
        let own = [("PRIORITY", priority), ("SYSLOG_IDENTIFIER", "vipd"), ("TARGET", target)];
        for (name, value) in own {
            journal_field(&mut out, name, value);
        }
        journal_field(&mut out, "MESSAGE", &self.message);
        for (name, value) in &self.others {
            journal_field(&mut out, &journal_name(name), value);
        }
        out
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field.name(), value.to_string());
    }
}

/// No control character reaches a terminal, and no line that is not ours begins at the margin.
fn shown(message: &str) -> String {
    message
        .lines()
        .collect::<Vec<_>>()
        .join("\n    ")
        .replace(|c: char| c.is_control() && c != '\n', "?")
}

fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '=';
    if !value.is_empty() && value.chars().all(is_plain) {
        value.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// `group` is found as `journalctl VIPD_GROUP=postgres`.
fn journal_name(name: &str) -> String {
    let upper = name.chars().map(|c| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9') => c,
        _ => '_',
    });
    "VIPD_".chars().chain(upper).take(64).collect()
}

/// The form with a length, which any value can have.
fn journal_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&u64::try_from(value.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let mut fields = Fields::default();
        fields.put("message", "no advert from hap1\nfor 361 ms".into());
        fields.put("group", "postgres".into());
        fields.put("file.name", "a b".into());
        fields
    }

    #[test]
    fn a_line_for_people() {
        let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        let line = fields().text(&now, Level::WARN, false);
        assert_eq!(
            line,
            "1970-01-01T00:00:00.000+00:00  WARN no advert from hap1\n    for 361 ms group=postgres \
             file.name=\"a b\"\n"
        );
        assert!(fields().text(&now, Level::WARN, true).contains("\x1b[33m WARN\x1b[0m"));
    }

    #[test]
    fn a_datagram_for_the_journal() {
        let bytes = fields().journal(Level::ERROR, "vipd");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("PRIORITY\n\x01\0\0\0\0\0\0\x003\n"), "{text:?}");
        assert!(text.contains("\nVIPD_GROUP\n\x08\0\0\0\0\0\0\0postgres\n"), "{text:?}");
        assert!(text.contains("\nVIPD_FILE_NAME\n"), "{text:?}");
        assert!(text.contains("MESSAGE\n\x1e\0\0\0\0\0\0\0no advert from hap1\nfor"), "{text:?}");
    }

    #[test]
    fn a_level_is_ours_and_directives_are_anybodys() {
        assert_eq!(parse("debug").unwrap().to_string(), "vipd=debug,warn");
        assert_eq!(parse("trace,zbus=info").unwrap().to_string(), "zbus=info,trace");
        assert!(parse("vipd=loud").is_err());
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let mut fields = Fields::default();
        fields.put("message", "ä".repeat(LONGEST));
        assert_eq!(fields.message.len(), LONGEST);
    }
}
