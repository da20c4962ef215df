//! Something accepts a TCP connection. That is up to its kernel: the program does not hear of it.

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
