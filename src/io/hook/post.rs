//! One call of a webhook: an object is posted, and anything but a 2xx is a failure.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response};
use zeroize::Zeroizing;

use super::super::http::{self, Place};
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
    let place = Place::of(&what.url)?;
    let stream = place.connect().await?;
    http::ask(stream, request(&place, what)?, told).await
}

fn request(place: &Place, post: Post) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::post(place.path())
        .header(HOST, place.authority())
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
