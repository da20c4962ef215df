//! What `QEMU` tells of a machine, and when.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Error, Result};

/// Something that happened to the machine.
#[derive(Clone, Debug)]
pub struct Event {
    /// What: `WATCHDOG`, `RESET`.
    pub name: String,
    /// When it was heard.
    pub at: Instant,
    /// More about it.
    pub data: Value,
}

#[derive(Debug)]
pub(super) struct Qmp {
    heard: Receiver<Event>,
    /// Keeps the connection open.
    _stream: UnixStream,
}

impl Qmp {
    pub(super) fn open(mut stream: UnixStream) -> Result<Self> {
        let reader = stream.try_clone().map_err(Error::io("share a socket"))?;
        stream
            .write_all(b"{\"execute\": \"qmp_capabilities\"}\n")
            .map_err(Error::io("write to the machine's monitor"))?;
        let (tell, heard) = channel();
        // Ends with the machine.
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(std::io::Result::ok) {
                let at = Instant::now();
                let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
                let Some(name) = value["event"].as_str() else { continue };
                let event = Event { name: name.to_owned(), at, data: value["data"].clone() };
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self { heard, _stream: stream })
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.heard.try_iter().collect()
    }

    pub(super) fn wait_for(&self, name: &str, within: Duration) -> Result<Vec<Event>> {
        let limit = Instant::now() + within;
        let mut all = Vec::new();
        while let Ok(event) = self.heard.recv_timeout(limit.duration_since(Instant::now())) {
            let found = event.name == name;
            all.push(event);
            if found {
                return Ok(all);
            }
        }
        Err(Error::Timeout { what: format!("{name} of a machine (but {all:?})"), within })
    }
}
