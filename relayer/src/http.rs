//! The HTTP side: everything a relayer knows is public, nothing can be changed through it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use stkr_node::http::{Problem, ProblemBody, metrics_response, standard};
use stkr_protocol::messages::SignedMessage;
use utoipa::{OpenApi, ToSchema};

use crate::shared::Shared;
use crate::status::{self, KeyStatus, PoolStatus, Status};
use crate::store::{Evidence, StoreError};

/// Longest time one answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Entries of one page at most.
const PAGE: u32 = 1_000;

/// All messages of one ceremony.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bulletin {
    /// Key.
    pub key_id: String,
    /// Ceremony number, from 0.
    pub attempt: String,
    /// In the order they came, proofs of equivocation included.
    pub messages: Vec<SignedMessage>,
}

/// Whether the relayer does its work.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `ok` or `unavailable`.
    pub status: String,
    /// Newest block taken in.
    pub head: String,
    /// As in the status; servers that are down appear here and do not make the relayer unhealthy.
    pub problems: Vec<String>,
}

/// A page of pools.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Pools {
    /// In order of their ids.
    pub pools: Vec<PoolStatus>,
}

/// A page of keys.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Keys {
    /// In order of their ids.
    pub keys: Vec<KeyStatus>,
}

/// Evidence.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EvidenceList {
    /// Newest first.
    pub evidence: Vec<Evidence>,
}

/// Which page.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// Only ids above this.
    pub after: Option<u64>,
    /// At most this many, 1000 at most.
    pub limit: Option<u32>,
}

impl Range {
    fn of<T: Clone>(self, all: &[T], id: impl Fn(&T) -> &str) -> Vec<T> {
        let after = self.after.unwrap_or(0);
        let limit = usize::try_from(self.limit.unwrap_or(PAGE).min(PAGE)).unwrap_or(usize::MAX);
        let wanted = all.iter().filter(|item| id(item).parse::<u64>().is_ok_and(|id| id > after));
        wanted.take(limit).cloned().collect()
    }
}

/// The description of this API.
#[derive(Debug, OpenApi)]
#[openapi(
    info(title = "stkr-relayer", description = "What a Stkr relayer sees and carries. Everything is public and read-only."),
    paths(page, health, livez, readyz, metrics, status, ceremony, evidence, pools, keys, openapi)
)]
pub struct Api;

/// The committed and served document.
///
/// # Errors
/// Never in practice: the document is made of strings.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    Api::openapi().to_pretty_json()
}

/// All routes.
#[must_use]
pub fn router(shared: Arc<Shared>) -> Router {
    let metrics = shared.metrics.clone();
    let router = Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(self::metrics))
        .route("/status", get(status))
        .route("/v1/ceremonies/{keyId}/{attempt}", get(ceremony))
        .route("/v1/evidence", get(evidence))
        .route("/v1/pools", get(pools))
        .route("/v1/keys", get(keys))
        .route("/openapi.json", get(openapi))
        .with_state(shared);
    standard(router, metrics, DEADLINE)
}

/// The status as a page for people.
#[utoipa::path(get, path = "/", responses((status = 200, description = "HTML", content_type = "text/html", body = String)))]
async fn page(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let evidence = shared.store.evidence(100).map_err(|error| broken(&error))?;
    let html = Html(status::page(&shared.status(), &evidence));
    // Nothing on the page needs a script; if escaping ever failed, the browser would still run none.
    let policy = [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")];
    Ok((policy, html).into_response())
}

/// Whether the relayer reads the chain and does its work.
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health), (status = 503, body = Health)))]
async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Health>) {
    let (status, fresh) = (shared.status(), shared.is_fresh());
    let word = if fresh { "ok" } else { "unavailable" };
    let health = Health {
        status: word.to_owned(),
        head: status.chain.head.clone(),
        problems: status.problems.clone(),
    };
    (if fresh { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

/// Whether the process lives.
#[utoipa::path(get, path = "/livez", responses((status = 200, description = "it does")))]
async fn livez() -> StatusCode {
    StatusCode::OK
}

/// Whether the chain was taken in lately.
#[utoipa::path(get, path = "/readyz", responses((status = 200, description = "it was"), (status = 503, body = ProblemBody)))]
async fn readyz(State(shared): State<Arc<Shared>>) -> Result<StatusCode, Problem> {
    if shared.is_fresh() {
        return Ok(StatusCode::OK);
    }
    Err(Problem::unavailable(
        StatusCode::SERVICE_UNAVAILABLE,
        "the chain has not been read for a minute",
        "look at the problems in /status; most likely no RPC endpoint answers",
    ))
}

/// Metrics in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "OpenMetrics", content_type = "text/plain", body = String)))]
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    metrics_response(&shared.metrics)
}

/// Everything the relayer sees.
#[utoipa::path(get, path = "/status", responses((status = 200, body = Status)))]
async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(Status::clone(&shared.status()))
}

/// All messages of a ceremony.
#[utoipa::path(
    get,
    path = "/v1/ceremonies/{keyId}/{attempt}",
    params(("keyId" = String, Path, description = "key id"), ("attempt" = String, Path, description = "ceremony number, from 0")),
    responses((status = 200, body = Bulletin), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody))
)]
async fn ceremony(
    State(shared): State<Arc<Shared>>,
    Path((key, attempt)): Path<(String, String)>,
) -> Result<Json<Bulletin>, Problem> {
    let (Ok(key_id), Ok(number)) = (key.parse::<u64>(), attempt.parse::<u16>()) else {
        return Err(Problem::denied(
            StatusCode::BAD_REQUEST,
            "key id and attempt must be decimal numbers",
            "write for example /v1/ceremonies/1/0",
        ));
    };
    let committee = shared.store.last_committee(key_id, number).map_err(|error| broken(&error))?;
    let committee = committee.ok_or_else(|| {
        Problem::denied(
            StatusCode::NOT_FOUND,
            "this relayer has carried no message of that ceremony",
            "look up the attempt in /v1/keys, or ask another relayer",
        )
    })?;
    let messages = shared.store.messages(key_id, number, committee).map_err(|error| broken(&error))?;
    Ok(Json(Bulletin { key_id: key_id.to_string(), attempt: number.to_string(), messages }))
}

/// Proven faults of servers, newest first.
#[utoipa::path(get, path = "/v1/evidence", params(Range), responses((status = 200, body = EvidenceList)))]
async fn evidence(State(shared): State<Arc<Shared>>, Query(range): Query<Range>) -> Result<Json<EvidenceList>, Problem> {
    let limit = range.limit.unwrap_or(PAGE).min(PAGE);
    let evidence = shared.store.evidence(limit).map_err(|error| broken(&error))?;
    Ok(Json(EvidenceList { evidence }))
}

/// Pools.
#[utoipa::path(get, path = "/v1/pools", params(Range), responses((status = 200, body = Pools)))]
async fn pools(State(shared): State<Arc<Shared>>, Query(range): Query<Range>) -> Json<Pools> {
    Json(Pools { pools: range.of(&shared.status().pools, |pool| &pool.pool_id) })
}

/// Keys.
#[utoipa::path(get, path = "/v1/keys", params(Range), responses((status = 200, body = Keys)))]
async fn keys(State(shared): State<Arc<Shared>>, Query(range): Query<Range>) -> Json<Keys> {
    Json(Keys { keys: range.of(&shared.status().keys, |key| &key.key_id) })
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
async fn openapi() -> Result<Response, Problem> {
    let json = openapi_json().map_err(|_| unknown_trouble())?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

fn broken(error: &StoreError) -> Problem {
    tracing::error!(error = %error, "the database cannot be read");
    unknown_trouble()
}

fn unknown_trouble() -> Problem {
    Problem::unavailable(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the relayer cannot read its own database",
        "its operator has to look at the logs",
    )
}
