//! The HTTP API: Web3Signer's ETH2 API as validator clients use it, and a batch call.
//!
//! | status | when |
//! |---|---|
//! | 200 | signed |
//! | 400 | no request of the documented form, another chain or root |
//! | 403 | the servers deny it by policy, or it comes from a web page; over plain HTTP, it is for another host name |
//! | 404 | no key of this gateway |
//! | 412 | slashable, here or at the servers; at or beyond the high watermark |
//! | 503 | the quiet period runs, or another gateway signs with the duty key; fewer than t good answers; chain or slashing protection cannot be used; the same request may succeed later |

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use stkr_core::Signature;
use stkr_kill_points::kill_point;
use stkr_node::clock::Clock;
use stkr_node::http::{JsonBody, Problem, ProblemBody, ProblemDetail, metrics_response, standard};
use stkr_protection::Protection;
use stkr_protocol::api::MAX_BATCH;
use stkr_protocol::handover::NotServing;
use stkr_protocol::{ListOf, schema};
use utoipa::{OpenApi, ToSchema};

use crate::accept::{Form, negotiate};
use crate::clock::unix_seconds;
use crate::export;
use crate::follow::{Bell, Look};
use crate::quiet::{QuietError, WHAT_TO_DO};
use crate::signing::{SignError, Signing};
use crate::store::{Row, Store, StoreError, Table};

/// Longest time one answer may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Without a successful look at the chain for this long (seconds), the gateway is not healthy.
const STALE_SECONDS: u64 = 300;
/// Pause between two looks at the disk.
const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Rows of one page at most.
const PAGE: u32 = 1_000;

/// What the handlers work with.
#[derive(Debug)]
pub struct App {
    /// Signs.
    pub signing: Signing,
    /// The follower.
    pub bell: Bell,
    /// Requests, envelopes and evidence.
    pub store: Store,
    /// Slashing protection, to see whether it can be written.
    pub protection: Arc<Protection>,
    /// This machine's clock, as servers see it.
    pub clock: Clock,
    /// The last look at the disk.
    pub disk: DiskLook,
}

/// When the disk was last looked at, and what was wrong with slashing protection and with the gateway's own database.
pub type DiskLook = tokio::sync::Mutex<Option<(Instant, [Option<String>; 2])>>;

/// Description of the API; `docs/openapi/gateway.json` is generated from it.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "stkr-gateway",
        description = "Web3Signer's ETH2 API for validator keys that no machine holds: a committee of threshold servers signs. Bodies are at most 1 MiB. Over plain HTTP every path answers 403 to a Host header that is neither an address nor localhost."
    ),
    paths(
        sign,
        sign_batch,
        public_keys,
        high_watermark,
        upcheck,
        healthcheck,
        reload,
        reload_status,
        requests,
        evidence,
        livez,
        readyz,
        metrics,
        openapi
    )
)]
pub struct Api;

/// The API as pretty JSON with a line end.
///
/// # Errors
/// When it does not serialise, which it always does.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    Ok(Api::openapi().to_pretty_json()? + "\n")
}

/// What requests come over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP on the loopback interface.
    Plain,
    /// TLS: whoever connects by another name sees a certificate that is not of that name.
    Tls,
}

/// All routes of a gateway.
pub fn router(app: Arc<App>, transport: Transport) -> Router {
    let registry = app.signing.metrics.registry.clone();
    let router = Router::new()
        .route("/api/v1/eth2/sign/{identifier}", post(sign))
        .route("/api/v1/eth2/sign", post(sign_batch))
        .route("/api/v1/eth2/publicKeys", get(public_keys))
        .route("/api/v1/eth2/highWatermark", get(high_watermark))
        .route("/upcheck", get(upcheck))
        .route("/healthcheck", get(healthcheck))
        .route("/reload", post(reload).get(reload_status))
        .route("/v1/requests", get(requests))
        .route("/v1/evidence", get(evidence))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .layer(from_fn_with_state(transport, no_other_name))
        .layer(from_fn(no_web_page))
        .with_state(app);
    standard(router, registry, DEADLINE)
}

/// A web page in a browser on this machine reaches the loopback interface too (directly, or by DNS rebinding). No validator
/// client sends `Origin`, every browser does with a POST.
async fn no_web_page(request: Request, next: Next) -> Response {
    kill_point!("gateway.received");
    if request.headers().contains_key(header::ORIGIN) {
        let reason = "the request comes from a web page (it has an Origin header)";
        return Problem::denied(StatusCode::FORBIDDEN, reason, "use a validator client or curl").into_response();
    }
    next.run(request).await
}

/// By DNS rebinding a page's own name leads to this machine: the browser then takes the gateway for the page's server, sends a
/// GET without `Origin`, and lets the page read keys and requests. It cannot hide that name in `Host`. For all paths: what is
/// scraped on this machine is reached as 127.0.0.1 or localhost.
async fn no_other_name(State(transport): State<Transport>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::HOST).map(|value| value.to_str().unwrap_or("?"));
    // HTTP/2 has it in the URI.
    let host = request.uri().host().or(header);
    if transport == Transport::Plain && !host.is_none_or(is_local_name) {
        let reason = "the request asks for a name that is not this machine's (its Host header)";
        let advice = "use http://127.0.0.1 or http://localhost; a name of your own needs TLS";
        return Problem::denied(StatusCode::FORBIDDEN, reason, advice).into_response();
    }
    next.run(request).await
}

/// An address is no name, and `localhost` leads nowhere else. With or without a port.
fn is_local_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok() || host.parse::<IpAddr>().is_ok()
}

/// A signature in Web3Signer's JSON form.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Signed {
    /// 96 bytes, lowercase hex.
    pub signature: String,
}

fn shown(signature: &Signature) -> String {
    format!("0x{}", hex::encode(signature.to_compressed()))
}

/// A request as a validator client sends it, of the chain of the tests that use the description: the description says what
/// types there are in words, and from those alone nobody makes a request that can be signed.
pub const EXAMPLE: &str = r#"{
  "type": "RANDAO_REVEAL",
  "fork_info": {
    "fork": { "previous_version": "0x05746b72", "current_version": "0x06746b72", "epoch": "0" },
    "genesis_validators_root": "0x0707070707070707070707070707070707070707070707070707070707070707"
  },
  "randao_reveal": { "epoch": "1" }
}"#;

fn example() -> Value {
    serde_json::from_str(EXAMPLE).unwrap_or_default()
}

/// Sign a duty with a validator key
#[utoipa::path(
    post,
    path = "/api/v1/eth2/sign/{identifier}",
    params(("identifier" = String, Path, description = "Compressed BLS public key, 48 bytes in hex")),
    request_body(content = schema::Web3SignerRequest, example = example),
    responses(
        (status = 200, description = "The signature: JSON unless the client likes text better", content(
            (Signed = "application/json"),
            (String = "text/plain"),
        )),
        (status = 400, description = "No request of the documented form, another chain or another root", body = ProblemBody),
        (status = 403, description = "The servers deny it by policy (an exit that nobody ordered, income for another address), or the request comes from a web page", body = ProblemBody),
        (status = 404, description = "The chain does not assign this key to this gateway", body = ProblemBody),
        (status = 412, description = "Slashable, or at or beyond the high watermark: refused, and nothing was signed", body = ProblemBody),
        (status = 413, description = "Body above 1 MiB", body = ProblemBody),
        (status = 415, description = "Body not declared as application/json", body = ProblemBody),
        (status = 503, description = "Fewer than t good answers (it says who is missing), chain not read yet, slashing protection not usable, the quiet period after a start, or another gateway with the same duty key; ask again", body = ProblemBody),
    )
)]
async fn sign(
    State(app): State<Arc<App>>,
    identifier: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<Box<RawValue>>,
) -> Result<Response, Problem> {
    // Bytes that are no text are no key's name.
    let Ok(Path(identifier)) = identifier else {
        return Err(problem(&SignError::UnknownKey("what is no text".to_owned())));
    };
    let signature = app.signing.sign(&identifier, request.get().as_bytes()).await.map_err(|error| problem(&error))?;
    kill_point!("gateway.before_reply");
    let signature = shown(&signature);
    Ok(match negotiate(accept(&headers), Form::Json) {
        Form::Json => Json(Signed { signature }).into_response(),
        Form::Text => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], signature).into_response(),
    })
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok())
}

fn problem(error: &SignError) -> Problem {
    let reason = error.to_string();
    let (status, what_to_do) = match error {
        SignError::UnknownKey(_) => {
            (StatusCode::NOT_FOUND, "GET /api/v1/eth2/publicKeys lists the keys of this gateway; they follow the chain")
        }
        SignError::Malformed(_) | SignError::Duty(_) | SignError::OtherValidator(_) | SignError::Ask(_) => {
            (StatusCode::BAD_REQUEST, "compare network, fork schedule and versions of client and gateway")
        }
        SignError::Future { .. } => (
            StatusCode::FORBIDDEN,
            "ask when it is time; compare the clocks of this gateway and of the client; nothing was recorded",
        ),
        SignError::OrderedOnly(_) => (StatusCode::FORBIDDEN, "leave it to the relayers"),
        SignError::NotServing(NotServing::Straddles { .. } | NotServing::Forgotten(_)) => {
            (StatusCode::FORBIDDEN, "leave it: no committee will sign it; nothing was recorded")
        }
        SignError::NotServing(_) => {
            return unavailable(reason, "ask again: it is read in finalised blocks who signs; nothing was recorded");
        }
        SignError::Conflict(_) | SignError::Refused { slashable: true, .. } => (
            StatusCode::PRECONDITION_FAILED,
            "look for a second validator client with this key, or a clock that is wrong",
        ),
        SignError::Refused { .. } => (StatusCode::FORBIDDEN, "each refusal says what would have to change"),
        SignError::Beyond { .. } => (
            StatusCode::PRECONDITION_FAILED,
            "sign it where the key moves to, or take high_watermark out of the configuration",
        ),
        SignError::Quiet(QuietError::Stopped { .. }) => return unavailable(reason, WHAT_TO_DO),
        SignError::Quiet(QuietError::Waits { seconds, .. }) => {
            let mut problem = unavailable(reason, "wait; it ends by itself");
            problem.retry_after = Some(*seconds);
            return problem;
        }
        SignError::NotCovered(_) => return unavailable(reason, "import its history: stkr-gateway protection import"),
        SignError::Protection(_) => return unavailable(reason, "look at the disk and the logs; nothing was signed"),
        SignError::NoChain => return unavailable(reason, "wait, or look at the RPC endpoints"),
        SignError::TooFew { .. } => return unavailable(reason, "ask again; the operators of those servers can help"),
    };
    Problem::denied(status, reason, what_to_do)
}

fn unavailable(reason: String, what_to_do: &str) -> Problem {
    Problem::unavailable(StatusCode::SERVICE_UNAVAILABLE, reason, what_to_do)
}

/// Many requests in one body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Each is answered on its own, as if it had come alone.
    #[serde(deserialize_with = "ListOf::<MAX_BATCH>::deserialize")]
    #[schema(max_items = 256)]
    pub requests: Vec<BatchItem>,
}

/// One of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchItem {
    /// Compressed BLS public key, 48 bytes in hex.
    pub identifier: String,
    /// What `POST /api/v1/eth2/sign/{identifier}` takes as its body.
    #[schema(value_type = schema::Web3SignerRequest)]
    #[serde(deserialize_with = "object")]
    pub request: Box<RawValue>,
}

/// What is no object is no request of any type, and the whole batch is refused with it, as the description has it.
fn object<'de, D: Deserializer<'de>>(from: D) -> Result<Box<RawValue>, D::Error> {
    let text = Box::<RawValue>::deserialize(from)?;
    if text.get().starts_with('{') { Ok(text) } else { Err(D::Error::custom("a request is a JSON object")) }
}

/// One reply per request, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replies {
    /// The replies.
    pub responses: Vec<Reply>,
}

/// A signature, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Reply {
    /// It was signed.
    Signed(Signed),
    /// It was not.
    Refused {
        /// Status the request would have got alone.
        status: u16,
        /// Why.
        refusal: ProblemDetail,
    },
}

/// Sign many duties: one reply each, in order; what one request gets does not depend on the others
#[utoipa::path(
    post,
    path = "/api/v1/eth2/sign",
    request_body = Batch,
    responses(
        (status = 200, description = "Signatures and refusals", body = Replies),
        (status = 400, description = "Not JSON of the documented form", body = ProblemBody),
        (status = 403, description = "The request comes from a web page", body = ProblemBody),
        (status = 413, description = "Body above 1 MiB", body = ProblemBody),
        (status = 415, description = "Body not declared as application/json", body = ProblemBody),
        (status = 503, description = "Too much is asked at the same time; ask again", body = ProblemBody),
    )
)]
async fn sign_batch(State(app): State<Arc<App>>, JsonBody(batch): JsonBody<Batch>) -> Json<Replies> {
    // A task each: all are on their way before the first has an answer, and verifying uses every core.
    let replies = batch.requests.into_iter().map(|item| tokio::spawn(reply(app.clone(), item)));
    let replies = futures::future::join_all(replies).await.into_iter();
    let broken = |error: tokio::task::JoinError| refused(unavailable(error.to_string(), "report it to the operator"));
    Json(Replies { responses: replies.map(|reply| reply.unwrap_or_else(broken)).collect() })
}

async fn reply(app: Arc<App>, item: BatchItem) -> Reply {
    match app.signing.sign(&item.identifier, item.request.get().as_bytes()).await {
        Ok(signature) => Reply::Signed(Signed { signature: shown(&signature) }),
        Err(error) => refused(problem(&error)),
    }
}

fn refused(Problem { status, detail, .. }: Problem) -> Reply {
    Reply::Refused { status: status.as_u16(), refusal: detail }
}

/// The keys this gateway serves now
#[utoipa::path(
    get,
    path = "/api/v1/eth2/publicKeys",
    responses(
        (status = 200, description = "Compressed BLS public keys, hex", body = Vec<String>),
        (status = 503, description = "The chain was not read yet", body = ProblemBody),
    )
)]
async fn public_keys(State(app): State<Arc<App>>) -> Result<Json<Vec<String>>, Problem> {
    // An empty list would make a validator client believe that it has no validators.
    let keys = app.signing.ring.keys().ok_or_else(|| problem(&SignError::NoChain))?;
    Ok(Json(keys.keys().map(ToString::to_string).collect()))
}

/// Slot and epoch at which this gateway stops, in Web3Signer's form.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HighWatermark {
    /// No vote with this target epoch or a later one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// No block of this slot or a later one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
}

/// Where the operator has this gateway stop; an empty object where nowhere
#[utoipa::path(
    get,
    path = "/api/v1/eth2/highWatermark",
    responses((status = 200, description = "Epoch and slot, decimal", body = HighWatermark))
)]
async fn high_watermark(State(app): State<Arc<App>>) -> Json<HighWatermark> {
    let mark = app.signing.high_watermark;
    Json(HighWatermark { epoch: mark.epoch.map(|it| it.to_string()), slot: mark.slot.map(|it| it.to_string()) })
}

/// Whether the process answers
#[utoipa::path(
    get,
    path = "/upcheck",
    responses((status = 200, description = "It does: the text OK, or {\"status\":\"OK\"} for who asks for JSON", content(
        (String = "text/plain"),
        (Object = "application/json"),
    )))
)]
async fn upcheck(headers: HeaderMap) -> Response {
    match negotiate(accept(&headers), Form::Text) {
        Form::Json => Json(serde_json::json!({"status": "OK"})).into_response(),
        Form::Text => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "OK").into_response(),
    }
}

/// Health in Web3Signer's form.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `UP` or `DOWN`.
    pub status: &'static str,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// The same as the status.
    pub outcome: &'static str,
}

/// One thing looked at.
#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    /// `chain`, `slashing-protection`, `database`, `doppelganger` or `clock`.
    pub id: &'static str,
    /// `UP` or `DOWN`.
    pub status: &'static str,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl App {
    /// Whether both databases can be written: with one look a second, however many ask. It writes and syncs.
    async fn look_at_disk(&self) -> [Option<String>; 2] {
        let mut last = self.disk.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < DISK_PAUSE
        {
            return found.clone();
        }
        let (protection, store) = (self.protection.clone(), self.store.clone());
        let look = move || {
            let history = protection.check_writable().err().map(|error| error.to_string());
            [history, store.check_writable().err().map(|error| error.to_string())]
        };
        let found = match tokio::task::spawn_blocking(look).await {
            Ok(found) => found,
            Err(error) => [Some(error.to_string()), Some(error.to_string())],
        };
        *last = Some((Instant::now(), found.clone()));
        found
    }

    async fn checks(&self) -> Vec<Check> {
        let [history, database] = self.look_at_disk().await;
        let check = |id, reason: Option<String>| Check { id, status: up(reason.is_none()), reason };
        let stopped: Vec<String> = self.signing.quiet.stopped().iter().map(ToString::to_string).collect();
        let stopped = (!stopped.is_empty())
            .then(|| format!("another gateway signs with the same duty key for {}: {WHAT_TO_DO}", stopped.join(", ")));
        vec![
            check("chain", self.chain_trouble()),
            check("slashing-protection", history),
            check("database", database),
            check("doppelganger", stopped),
            check("clock", self.clock.trouble()),
        ]
    }

    fn chain_trouble(&self) -> Option<String> {
        let look = self.bell.look();
        let late = look.ended.is_some_and(|ended| unix_seconds().saturating_sub(ended) > STALE_SECONDS);
        match look.error {
            _ if self.signing.ring.keys().is_none() => Some("the chain has not been read since the start".to_owned()),
            Some(error) => Some(error),
            None if late => Some("the last look at the chain is more than five minutes old".to_owned()),
            None => None,
        }
    }
}

const fn up(is_up: bool) -> &'static str {
    if is_up { "UP" } else { "DOWN" }
}

async fn health(app: &App) -> Response {
    let checks = app.checks().await;
    let well = checks.iter().all(|check| check.reason.is_none());
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { status: up(well), outcome: up(well), checks })).into_response()
}

/// Whether chain and slashing protection can be used
#[utoipa::path(
    get,
    path = "/healthcheck",
    responses(
        (status = 200, description = "Both can", body = Health),
        (status = 503, description = "One cannot, and why", body = Health),
    )
)]
async fn healthcheck(State(app): State<Arc<App>>) -> Response {
    health(&app).await
}

/// Whether the gateway is of use now
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "It is", body = Health),
        (status = 503, description = "It is not, and why", body = Health),
    )
)]
async fn readyz(State(app): State<Arc<App>>) -> Response {
    health(&app).await
}

/// Whether the process serves
#[utoipa::path(get, path = "/livez", responses((status = 200, description = "It does", body = String)))]
async fn livez() -> &'static str {
    "ok"
}

/// Where a look at the chain stands, in Web3Signer's form.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadStatus {
    /// `idle`, `running`, `completed` or `failed`.
    pub status: &'static str,
    /// Unix time, seconds, of the end of the last look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_operation_time: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl From<Look> for ReloadStatus {
    fn from(look: Look) -> Self {
        let status = match (&look.error, look.ended) {
            _ if look.running => "running",
            (Some(_), _) => "failed",
            (None, Some(_)) => "completed",
            (None, None) => "idle",
        };
        Self { status, last_operation_time: look.ended.map(|at| at.to_string()), last_error: look.error }
    }
}

/// Read the chain now. Keys come and go by themselves; nothing has to be reloaded
#[utoipa::path(post, path = "/reload", responses((status = 202, description = "The gateway looks", body = ReloadStatus)))]
async fn reload(State(app): State<Arc<App>>) -> Response {
    app.bell.ring();
    let status = ReloadStatus { status: "running", last_operation_time: None, last_error: None };
    (StatusCode::ACCEPTED, Json(status)).into_response()
}

/// How the last look at the chain went
#[utoipa::path(get, path = "/reload", responses((status = 200, description = "How it went", body = ReloadStatus)))]
async fn reload_status(State(app): State<Arc<App>>) -> Json<ReloadStatus> {
    Json(app.bell.look().into())
}

/// Which page.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// Only ids above this.
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807_u64)]
    pub after: Option<u64>,
    /// At most this many; 1000 unless given.
    #[param(minimum = 0, maximum = 1000)]
    pub limit: Option<u32>,
}

/// Rows, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rows {
    /// The rows.
    pub rows: Vec<Row>,
}

type Asked = Result<Query<Range>, axum::extract::rejection::QueryRejection>;

async fn page(app: Arc<App>, table: Table, asked: Asked) -> Result<Json<Rows>, Problem> {
    let allowed =
        |range: &Range| range.limit.unwrap_or(PAGE) <= PAGE && i64::try_from(range.after.unwrap_or(0)).is_ok();
    let range = asked.ok().map(|Query(range)| range).filter(allowed).ok_or_else(|| {
        let reason = format!("after must be an id, and limit a number up to {PAGE}");
        Problem::denied(StatusCode::BAD_REQUEST, reason, "write for example ?after=100&limit=50")
    })?;
    // What was just answered is on its way to the disk.
    app.signing.keeper.flush().await;
    let (store, schedule) = (app.store.clone(), app.signing.schedule.clone());
    let read = move || {
        let mut rows = store.page(table, range.after.unwrap_or(0), range.limit.unwrap_or(PAGE))?;
        if table == Table::Requests {
            rows.iter_mut().for_each(|row| export::complete(row, &schedule));
        }
        Ok(rows)
    };
    let rows: Result<Vec<Row>, StoreError> = match tokio::task::spawn_blocking(read).await {
        Ok(rows) => rows,
        Err(error) => return Err(unavailable(error.to_string(), "ask again")),
    };
    rows.map(|rows| Json(Rows { rows }))
        .map_err(|error| unavailable(error.to_string(), "look at the disk and the logs"))
}

/// Requests for attestations and blocks, with the duty key's signature and the servers' envelopes
#[utoipa::path(
    get,
    path = "/v1/requests",
    params(Range),
    responses(
        (status = 200, description = "A page", body = Rows),
        (status = 400, description = "No such page", body = ProblemBody),
        (status = 503, description = "The database cannot be used now", body = ProblemBody),
    )
)]
async fn requests(State(app): State<Arc<App>>, asked: Asked) -> Result<Json<Rows>, Problem> {
    page(app, Table::Requests, asked).await
}

/// Envelopes that servers signed over wrong partial signatures, or over what the chain never ordered
#[utoipa::path(
    get,
    path = "/v1/evidence",
    params(Range),
    responses(
        (status = 200, description = "A page", body = Rows),
        (status = 400, description = "No such page", body = ProblemBody),
        (status = 503, description = "The database cannot be used now", body = ProblemBody),
    )
)]
async fn evidence(State(app): State<Arc<App>>, asked: Asked) -> Result<Json<Rows>, Problem> {
    page(app, Table::Evidence, asked).await
}

/// Metrics in the OpenMetrics text format
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"))
)]
async fn metrics(State(app): State<Arc<App>>) -> Response {
    metrics_response(&app.signing.metrics.registry)
}

/// This description
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
async fn openapi() -> Response {
    match openapi_json() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_with_something_that_is_no_object_is_refused_as_a_whole() {
        let batch = |request: &str| {
            serde_json::from_str::<Batch>(&format!(r#"{{"requests":[{{"identifier":"","request":{request}}}]}}"#))
        };
        assert_eq!(batch(" {\"type\":1} ").unwrap().requests[0].request.get(), "{\"type\":1}");
        for other in ["[null]", "null", "1", "\"{}\""] {
            assert!(batch(other).unwrap_err().to_string().contains("a request is a JSON object"), "{other}");
        }
    }

    #[test]
    fn a_name_that_can_be_rebound_is_told_from_an_address() {
        for host in ["localhost", "LocalHost:9000", "127.0.0.1", "127.0.0.1:9000", "[::1]", "[::1]:9000", "10.0.0.7:80"]
        {
            assert!(is_local_name(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:9000", "localhost.evil.example", "127.0.0.1.evil.example:9000", "?"]
        {
            assert!(!is_local_name(host), "{host}");
        }
    }

    #[test]
    fn the_committed_openapi_file_is_the_generated_one() {
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/gateway.json");
        let committed = std::fs::read_to_string(committed).unwrap_or_default();
        assert!(openapi_json().unwrap() == committed, "run: stkr-gateway openapi > docs/openapi/gateway.json");
    }

    #[test]
    fn the_handbook_shows_the_generated_configuration_and_every_metric() {
        let handbook = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/gateway.md");
        let handbook = std::fs::read_to_string(handbook).unwrap_or_default();
        let example = stkr_node::config::example::<crate::config::GatewayConfig>().unwrap();
        assert!(handbook.contains(example.trim()), "docs/gateway.md has another configuration");
        let registry = crate::metrics::GatewayMetrics::default().registry;
        Clock::new(&registry);
        for (name, help) in registry.catalogue() {
            assert!(
                handbook.contains(&format!("| `{name}` | {help} |")),
                "docs/gateway.md lacks | `{name}` | {help} |"
            );
        }
    }
}
