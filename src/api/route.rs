//! Requests to answers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};

use super::{
    Asked, Backend, Connections, ErrorBody, FenceOrder, Health, HookReport, LONGEST_WAIT,
    MoveReport, ReloadError, ReloadReport, Unavailable, WillReport,
};
use crate::core::status::Status;
use crate::io::events::{CAPACITY, Page, Record, Want};
use crate::types::Instant;

/// Requests that may wait for events at once; the other connections stay free for questions.
pub(super) const WAITERS: usize = 16;

/// What every request can use.
pub(super) struct Shared<B> {
    pub(super) backend: Arc<B>,
    pub(super) waiters: Arc<Semaphore>,
    /// Turns true when the server stops.
    pub(super) stopping: watch::Receiver<bool>,
}

// Not derived: that would ask for `B: Clone`.
impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            waiters: Arc::clone(&self.waiters),
            stopping: self.stopping.clone(),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) uid: u32,
    pub(super) pid: Option<i32>,
}

pub(super) fn router<B: Backend>(shared: Shared<B>) -> Router {
    Router::new()
        .route("/v1/status", get(status::<B>))
        .route("/v1/events", get(events::<B>))
        .route("/v1/health", get(health::<B>))
        .route("/v1/reload", post(reload::<B>))
        .route("/v1/move", post(hand_over::<B>))
        .route("/v1/connections", get(connections::<B>))
        .route("/v1/will", post(decide::<B>))
        .route("/v1/fence", post(fence::<B>))
        .route("/v1/fence/history", get(fence_history::<B>))
        .route("/v1/hook", post(hook::<B>))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no such path; see docs/api.md") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no such method here; see docs/api.md")
        })
        .with_state(shared)
}

async fn status<B: Backend>(State(shared): State<Shared<B>>) -> Result<Json<Status>, Problem> {
    Ok(Json(shared.backend.status().await?))
}

async fn health<B: Backend>(State(shared): State<Shared<B>>) -> Result<Json<Health>, Problem> {
    shared.backend.status().await?;
    Ok(Json(Health { version: env!("CARGO_PKG_VERSION").to_owned() }))
}

async fn reload<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(asker): Extension<Asker>,
) -> Result<Json<ReloadReport>, Problem> {
    tracing::info!(uid = asker.uid, pid = asker.pid, "reload asked for over the socket");
    // A task of its own: a client that leaves half-way must not leave a reload half done.
    let reload = tokio::spawn(async move { shared.backend.reload().await });
    Ok(Json(reload.await.unwrap_or(Err(Unavailable::Stopping.into()))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveQuery {
    group: String,
    node: String,
}

async fn hand_over<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(asker): Extension<Asker>,
    query: Result<Query<MoveQuery>, QueryRejection>,
) -> Result<Json<MoveReport>, Problem> {
    let Query(MoveQuery { group, node }) =
        query.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    tracing::info!(uid = asker.uid, pid = asker.pid, group, node, "move asked for over the socket");
    Ok(Json(shared.backend.hand_over(group, node).await?))
}

async fn decide<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(asker): Extension<Asker>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<WillReport>, Problem> {
    let Query(mut wanted) =
        query.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    tracing::info!(uid = asker.uid, pid = asker.pid, ?wanted, "decision over the socket");
    wanted.by.get_or_insert_with(|| format!("uid {}", asker.uid));
    Ok(Json(shared.backend.decide(wanted).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionsQuery {
    group: String,
    before: Option<Instant>,
}

async fn connections<B: Backend>(
    State(shared): State<Shared<B>>,
    query: Result<Query<ConnectionsQuery>, QueryRejection>,
) -> Result<Json<Connections>, Problem> {
    let Query(ConnectionsQuery { group, before }) =
        query.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    Ok(Json(shared.backend.connections(group, before).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FenceQuery {
    node: String,
    order: FenceOrder,
}

async fn fence<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(asker): Extension<Asker>,
    query: Result<Query<FenceQuery>, QueryRejection>,
) -> Result<Json<()>, Problem> {
    let Query(FenceQuery { node, order }) =
        query.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    tracing::warn!(uid = asker.uid, pid = asker.pid, node, ?order, "fencing over the socket");
    Ok(Json(shared.backend.fence(node, order).await?))
}

async fn fence_history<B: Backend>(State(shared): State<Shared<B>>) -> Json<Vec<Record>> {
    Json(shared.backend.fence_history())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookQuery {
    name: String,
    group: Option<String>,
    state: String,
}

async fn hook<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(asker): Extension<Asker>,
    query: Result<Query<HookQuery>, QueryRejection>,
) -> Result<Json<HookReport>, Problem> {
    let Query(HookQuery { name, group, state }) =
        query.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    tracing::info!(uid = asker.uid, pid = asker.pid, name, "test of a hook asked for");
    Ok(Json(shared.backend.hook(name, group, state).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    after: Option<u64>,
    limit: Option<usize>,
    /// Seconds.
    wait: Option<u32>,
    group: Option<String>,
}

async fn events<B: Backend>(
    State(mut shared): State<Shared<B>>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(query) = query.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    let limit = query.limit.unwrap_or(CAPACITY).min(CAPACITY);
    let want = Want { after: query.after, limit, group: query.group.as_deref() };
    let log = shared.backend.events();
    let Some(seconds) = query.wait.filter(|_| limit > 0) else {
        return Ok(Json(log.page(want)));
    };
    let Ok(_place) = shared.waiters.try_acquire() else {
        let detail = format!("{WAITERS} requests wait for events already");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let limit = LONGEST_WAIT.min(Duration::from_secs(seconds.into()));
    tokio::select! {
        page = log.wait(want) => Ok(Json(page)),
        () = tokio::time::sleep(limit) => Ok(Json(log.page(want))),
        _ = shared.stopping.wait_for(|stopping| *stopping) => Ok(Json(log.page(want))),
    }
}

/// An answer that is not 200.
#[derive(Debug)]
pub(super) struct Problem {
    code: StatusCode,
    detail: String,
}

impl Problem {
    fn new(code: StatusCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl From<Unavailable> for Problem {
    fn from(e: Unavailable) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, e.to_string())
    }
}

impl From<ReloadError> for Problem {
    fn from(e: ReloadError) -> Self {
        match e {
            ReloadError::Refused(text) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, text),
            ReloadError::Unavailable(e) => e.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = match self.code {
            StatusCode::BAD_REQUEST => "bad-request",
            StatusCode::NOT_FOUND => "not-found",
            StatusCode::METHOD_NOT_ALLOWED => "method-not-allowed",
            StatusCode::UNPROCESSABLE_ENTITY => "refused",
            _ => "unavailable",
        };
        let body = ErrorBody { error: error.to_owned(), detail: self.detail };
        (self.code, Json(body)).into_response()
    }
}
