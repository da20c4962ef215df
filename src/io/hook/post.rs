//! One call of a webhook: an object is posted, and anything but a 2xx is a failure.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::{KEPT, Outcome, Tail};

/// What is posted, and where.
#[derive(Debug)]
pub struct Post {
    /// Where to: http or https.
    pub url: String,
    /// What is shown as `Authorization: Bearer`.
    pub token: Option<Zeroizing<String>>,
    /// A JSON object.
    pub body: String,
}

/// Posts it, for no longer than `limit`.
pub async fn post(post: Post, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, exchange(post)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => Outcome::failed(why),
        Err(_) => Outcome::failed(format!("no answer within {limit:?}")),
    }
}

async fn exchange(what: Post) -> Result<Outcome, String> {
    let uri: Uri = what.url.parse().map_err(|e| format!("not a URL: {e}"))?;
    let host = uri.host().ok_or("the URL names no host")?.trim_matches(['[', ']']).to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port));
    let stream = stream.await.map_err(|e| format!("cannot connect to {host}:{port}: {e}"))?;
    let request = request(&uri, what)?;
    if !secure {
        return ask(stream, request).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(|e| format!("{host}: {e}"))?;
    let authorities = tokio::task::spawn_blocking(authorities).await.map_err(|e| e.to_string())?;
    let stream = TlsConnector::from(authorities?).connect(name, stream);
    ask(stream.await.map_err(|e| format!("TLS with {host}: {e}"))?, request).await
}

/// Whom the host trusts, read once.
fn authorities() -> Result<Arc<ClientConfig>, String> {
    static ONCE: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(known) = ONCE.get() {
        return Ok(Arc::clone(known));
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        return Err("this host trusts no certificate authority; install ca-certificates".into());
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(ONCE.get_or_init(|| Arc::new(config))))
}

fn request(uri: &Uri, post: Post) -> Result<Request<Full<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let authority = uri.authority().map_or("", |a| a.as_str());
    let mut request = Request::post(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("vipd/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = &post.token {
        let bearer = Zeroizing::new(format!("Bearer {}", token.as_str()));
        let mut value = hyper::header::HeaderValue::from_str(&bearer)
            .map_err(|_| "the token has bytes that a header cannot have".to_owned())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Full::new(Bytes::from(post.body))).map_err(|e| e.to_string())
}

async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Outcome, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shake.map_err(|e| e.to_string())?;
    // It moves the bytes. Where it breaks, the request fails by itself.
    let pump = async {
        let _ = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        Ok(told(answer).await)
    };
    tokio::select! {
        answer = asked => answer,
        never = pump => match never {},
    }
}

async fn told(mut answer: Response<Incoming>) -> Outcome {
    let mut tail = Tail::default();
    let mut left = KEPT;
    while left > 0 && !answer.body().is_end_stream() {
        let Some(Ok(frame)) = answer.frame().await else { break };
        if let Some(bytes) = frame.data_ref() {
            let kept = &bytes[..bytes.len().min(left)];
            left -= kept.len();
            tail.push(kept);
        }
    }
    let status = answer.status();
    let result = if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) };
    Outcome { result, output: tail.text() }
}
