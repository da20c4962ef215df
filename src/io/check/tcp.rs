//! Something accepts a TCP connection. Its program does not hear of it: what would be woken for each
//! look, and would log each, can be asked with another kind of check.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::super::dial::{dial, unlingering};
use super::super::http::refused;
use super::Limit;

pub(super) async fn look(address: SocketAddr, limit: &mut Limit) -> Result<String, String> {
    let stream = connect(address, limit).await?;
    unlingering(&stream);
    Ok(format!("{address} accepts connections"))
}

pub(super) async fn connect(address: SocketAddr, limit: &mut Limit) -> Result<TcpStream, String> {
    let late = "no connection";
    let stream = limit.of(dial(address), late).await;
    let stream = stream.map_err(|late| format!("{address}: {late}"))?;
    stream.map_err(|e| refused(&address.to_string(), &e))
}
