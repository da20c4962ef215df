//! Connections to web servers, plain or over TLS, one request each.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::dial::{dial_host, unlingering};
use super::tls;

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One that ends when it is dropped, at once: whoever is done with it need not say so before.
struct Curt(TcpStream);

impl AsyncRead for Curt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Curt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Where something is asked for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    uri: Uri,
    host: String,
    port: u16,
    secure: bool,
}

impl Place {
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|e| format!("not a URL: {e}"))?;
        let host = uri.host().ok_or("the URL names no host")?.trim_matches(['[', ']']).to_owned();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { uri, host, port, secure })
    }

    /// What is asked for there.
    pub(super) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |p| p.as_str())
    }

    /// Host and port as in the URL.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |a| a.as_str())
    }

    /// Connects; may wait for a name to be looked up.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let Self { host, port, .. } = self;
        let stream = dial_host(host, *port).await;
        let stream = stream.map_err(|e| refused(&format!("{host}:{port}"), &e))?;
        if !self.secure {
            unlingering(&stream);
            return Ok(Box::new(Curt(stream)));
        }
        let name = ServerName::try_from(host.clone()).map_err(|e| format!("{host}: {e}"))?;
        let authorities = tokio::task::spawn_blocking(tls::native).await;
        let authorities = authorities.map_err(|e| e.to_string())??;
        let stream = TlsConnector::from(authorities).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|e| format!("TLS with {host}: {e}"))?))
    }
}

/// Why there is no connection.
pub(super) fn refused(place: &str, error: &io::Error) -> String {
    format!("cannot connect to {place}: {}", reason(error))
}

/// An error of the kernel's in words, without its number.
pub(super) fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return "refused".to_owned();
    }
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Asks once, and hands the answer to `read` while its body still comes in.
pub(super) async fn ask<T, F: Future<Output = T>>(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    read: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, String> {
    let shake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shake.map_err(|e| e.to_string())?;
    // It moves the bytes. Where it breaks, the request fails by itself.
    let pump = async {
        let _ = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        Ok(read(answer).await)
    };
    tokio::select! {
        answer = asked => answer,
        never = pump => match never {},
    }
}
