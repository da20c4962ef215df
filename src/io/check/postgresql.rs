//! PostgreSQL, or a pooler in front of it, answers a start-up packet. Nobody is logged in: who is
//! asked for a password has seen that the server lives, and goes away.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::http::reason;
use super::{Limit, tcp};
use crate::config::Postgresql;
use crate::wire::postgresql::{Message, Refusal, TERMINATE, message, startup};

/// More than any server says before a session begins, in bytes.
const LONGEST: usize = 64 << 10;
/// What one says that lets everybody in.
const USUAL: usize = 1 << 10;

pub(super) async fn look(what: &Postgresql, limit: &mut Limit) -> Result<String, String> {
    let Postgresql { address, user, database } = what;
    let mut stream = tcp::connect(*address, limit).await?;
    let talk = async {
        stream.write_all(&startup(user, database)).await.map_err(|e| reason(&e))?;
        hear(&mut stream).await
    };
    let late = "it accepted the connection and does not answer";
    let heard = limit.of(talk, late).await.and_then(|heard| heard);
    heard.map(|good| format!("{address} {good}")).map_err(|why| format!("{address}: {why}"))
}

async fn hear(stream: &mut TcpStream) -> Result<&'static str, String> {
    let mut bytes = Vec::with_capacity(USUAL);
    let mut welcome = false;
    loop {
        while let Some((message, length)) = message(&bytes).map_err(|e| e.to_string())? {
            bytes.drain(..length);
            match message {
                // Any word but the password would be logged.
                Message::Authentication(_) => return Ok("asks for authentication"),
                Message::Ready => {
                    let _ = stream.write_all(&TERMINATE).await;
                    return Ok("is ready");
                }
                // Whether there is a place for the client is told only after this.
                Message::Welcome => welcome = true,
                Message::Other(_) => {}
                Message::Refusal(refusal) if refusal.is_about_the_client() => {
                    return Ok("answers, but not to this user");
                }
                Message::Refusal(Refusal { code, text }) => {
                    let code = if code.is_empty() { code } else { format!(" ({code})") };
                    return Err(format!("{text}{code}"));
                }
            }
        }
        if bytes.len() > LONGEST {
            return Err("it says too much".to_owned());
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) if welcome => return Err("it closed the session before it began".to_owned()),
            Ok(0) => return Err("it closed the connection without an answer".to_owned()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                return Err("it reset the connection without an answer".to_owned());
            }
            Err(e) => return Err(reason(&e)),
        }
    }
}
