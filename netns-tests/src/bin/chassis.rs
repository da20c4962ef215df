//! Switches the power of a host of the lab for `ipmi_sim`: `chassis SOCKET get power`, `chassis
//! SOCKET set power 0`. Who knows the host listens at the socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().unwrap_or_default();
    let order: Vec<String> = arguments.collect();
    match ask(&socket, &order.join(" ")) {
        Ok(answer) => {
            // The simulator reads it through a pipe that is there.
            let _ = std::io::stdout().write_all(answer.as_bytes());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("chassis: {socket}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn ask(socket: &str, order: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    writeln!(stream, "{order}")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim().strip_prefix("ok") {
        Some("") => Ok(String::new()),
        Some(text) => Ok(format!("{}\n", text.trim())),
        None => Err(std::io::Error::other(format!("{order}: {:?}", answer.trim()))),
    }
}
