//! A web server so small that it only knows its name.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::host::Host;
use crate::netns::run_in;
use crate::worker::Worker;
use crate::{Error, Result};

/// Answers every request with the name of its host until it is dropped.
#[derive(Debug)]
pub struct Backend {
    _worker: Worker,
}

impl Backend {
    /// Serves on `port` of every address of `host`.
    pub fn start(host: &Host, port: u16) -> Result<Self> {
        let listener = run_in(host.namespace(), || {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                .map_err(Error::io(format!("listen on port {port}")))?;
            listener.set_nonblocking(true).map_err(Error::io("O_NONBLOCK"))?;
            Ok(listener)
        })?;
        let name = host.name().to_owned();
        let worker = Worker::start("backend", move |stop| {
            while stop.wait([listener.as_fd()], None).is_some() {
                while let Ok((stream, _)) = listener.accept() {
                    let name = name.clone();
                    // One thread each: a slow client must not hold up the next one.
                    std::thread::spawn(move || answer(stream, &name));
                }
            }
        })?;
        Ok(Self { _worker: worker })
    }
}

/// Reads the head of a request and answers it; a client that goes away is no error here.
fn answer(mut stream: TcpStream, name: &str) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut head: Vec<u8> = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 8192 {
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            n => head.extend(&buffer[..n]),
        }
    }
    let length = name.len() + 1;
    let response =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{name}\n");
    stream.write_all(response.as_bytes()).ok()
}
