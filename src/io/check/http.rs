//! A web server answers as it should. Each look has a connection of its own, as a new client has.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};

use super::super::http::{Place, ask};
use super::Limit;
use crate::config;

/// As much of a body as is searched, in bytes.
const SEARCHED: usize = 64 << 10;

pub(super) struct Http {
    what: config::Http,
    places: Vec<Result<Place, String>>,
}

impl Http {
    pub(super) fn new(what: config::Http) -> Self {
        let places = what.urls.iter().map(|url| Place::of(url)).collect();
        Self { what, places }
    }

    /// Asks all of them at once; the first good answer decides.
    pub(super) async fn look(&self, limit: &mut Limit) -> Result<String, String> {
        let mut bad: Vec<Option<String>> = vec![None; self.places.len()];
        let first = async {
            let each = self.places.iter().enumerate();
            let mut asked: FuturesUnordered<_> =
                each.map(async |(i, place)| (i, self.one(place).await)).collect();
            while let Some((i, answer)) = asked.next().await {
                match (answer, bad.get_mut(i)) {
                    (Ok(good), _) => return Some(good),
                    (Err(why), Some(slot)) => *slot = Some(why),
                    (Err(_), None) => {}
                }
            }
            None
        };
        let late = match limit.of(first, "no answer").await {
            Ok(Some(good)) => return Ok(good),
            Ok(None) => String::new(),
            Err(late) => late,
        };
        let hosts = self.places.iter().map(|p| p.as_ref().map_or("", Place::authority));
        let each = hosts.zip(bad).map(|(host, why)| match why {
            Some(why) if why.contains(host) => why,
            why => format!("{host}: {}", why.as_deref().unwrap_or(&late)),
        });
        Err(each.collect::<Vec<_>>().join("; "))
    }

    async fn one(&self, place: &Result<Place, String>) -> Result<String, String> {
        let place = place.as_ref().map_err(Clone::clone)?;
        let request = Request::get(place.path())
            .header(HOST, place.authority())
            .header(USER_AGENT, concat!("vipd/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::new()))
            .map_err(|e| e.to_string())?;
        let wanted = self.what.body.as_deref();
        let (status, found) =
            ask(place.connect().await?, request, |answer| read(answer, wanted)).await?;
        let good = match self.what.status.as_slice() {
            [] => (200..400).contains(&status.as_u16()),
            good => good.contains(&status.as_u16()),
        };
        let who = place.authority();
        match (good, found, wanted) {
            (false, ..) => Err(format!("{who} answered {status}")),
            (true, false, Some(body)) => {
                Err(format!("{who} answered {status}, without {body:?} in its first 64 KiB"))
            }
            (true, ..) => Ok(format!("{who} answered {status}")),
        }
    }
}

/// The status, and whether `wanted` is in the body.
async fn read(mut answer: Response<Incoming>, wanted: Option<&str>) -> (StatusCode, bool) {
    let status = answer.status();
    let Some(wanted) = wanted else { return (status, true) };
    let mut body = Vec::new();
    while body.len() < SEARCHED && !answer.body().is_end_stream() {
        let Some(Ok(frame)) = answer.frame().await else { break };
        body.extend(frame.data_ref().into_iter().flatten().take(SEARCHED - body.len()));
    }
    (status, String::from_utf8_lossy(&body).contains(wanted))
}
