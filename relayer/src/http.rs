//! The HTTP side: everything a relayer knows is public, and nothing can be changed through it, but that anybody can hand in evidence
//! and the answers of offline servers. What costs more than a look at the database is done in turns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{Extensions, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use stkr_node::http::{Problem, ProblemBody, client_address, metrics_response, standard};
use stkr_protocol::evidence::{EvidenceFile, MAX_FILE};
use stkr_protocol::messages::SignedMessage;
use stkr_protocol::offline::reshare::{ReshareAnswerFile, Reshared};
use stkr_protocol::offline::{self, AnswerFile, ChangeAnswerFile};
use stkr_protocol::reshare::{ReshareId, ReshareMessage};
use stkr_protocol::schema;
use utoipa::{OpenApi, ToSchema};

use crate::desk::{DeskError, Taken};
use crate::engine::intent_line;
use crate::offline::{Counter, OfflineError};
use crate::shared::{Shared, Wanted};
use crate::status::{self, CeremonyStatus, IntentLine, KeyStatus, PoolStatus, ReshareStatus, RoundStatus, Status};
use crate::store::{Evidence, StoreError};
use crate::turns::{self, NoTurn, Turn};

/// Query of a request, if it is one.
type Asked = Result<Query<Range>, QueryRejection>;

/// Longest time one answer may take: the wait for its turn, and the work.
const DEADLINE: Duration = Duration::from_secs(turns::PATIENCE.as_secs() + 10);
/// Seconds after which whoever had no turn may come again.
const COME_AGAIN: u64 = 5;
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
    /// Unix time (seconds) at which each of them came here; null where it was not noted. Nobody signs it.
    pub received: Vec<Option<String>>,
    /// Where the ceremony stands, as this relayer sees it; null if it does not carry it now.
    pub standing: Option<CeremonyStatus>,
}

/// All messages of one attempt of a reshare.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReshareBulletin {
    /// Key.
    pub key_id: String,
    /// Number of the committee that is being made.
    pub committee_epoch: String,
    /// Number of the attempt at it, from 0.
    pub attempt: String,
    /// In the order they came, proofs of equivocation included.
    pub messages: Vec<ReshareMessage>,
    /// Unix time (seconds) at which each of them came here; null where it was not noted. Nobody signs it.
    pub received: Vec<Option<String>>,
    /// Faults in it that this relayer keeps the evidence of. No Court takes it yet.
    pub evidence: Vec<ReshareEvidenceLine>,
    /// Where the reshare stands, as this relayer sees it; null if it is not under way now.
    pub standing: Option<ReshareStatus>,
}

/// Evidence of a fault in a reshare.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReshareEvidenceLine {
    /// Server at fault.
    pub server_id: String,
    /// The fault by its name in docs/protocol.md, for example `bad_reshare_dealing`.
    pub kind: String,
    /// What proves it, complete in itself.
    #[schema(value_type = Object)]
    pub body: serde_json::Value,
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

/// A page of transactions.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct IntentPage {
    /// Oldest first.
    pub intents: Vec<IntentLine>,
}

/// A page of evidence.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EvidenceList {
    /// Oldest first.
    pub evidence: Vec<Evidence>,
}

/// Which page.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// Only ids above this.
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807_u64)]
    pub after: Option<u64>,
    /// At most this many; 1000 unless given.
    #[param(minimum = 0, maximum = 1000)]
    pub limit: Option<u32>,
}

/// What was asked for, as far as the description allows it.
fn asked(query: Asked) -> Result<Range, Problem> {
    match query {
        Ok(Query(range)) if range.is_allowed() => Ok(range),
        _ => Err(Problem::denied(
            StatusCode::BAD_REQUEST,
            format!("after must be an id, and limit a number up to {PAGE}"),
            "write for example ?after=100&limit=50",
        )),
    }
}

impl Range {
    /// Ids end where SQLite's integers do.
    fn is_allowed(&self) -> bool {
        self.limit() <= PAGE && i64::try_from(self.after()).is_ok()
    }

    fn after(&self) -> u64 {
        self.after.unwrap_or(0)
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE)
    }

    fn of<T: Clone>(self, all: &[T], id: impl Fn(&T) -> &str) -> Vec<T> {
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        let wanted = all.iter().filter(|item| id(item).parse::<u64>().is_ok_and(|id| id > self.after()));
        wanted.take(limit).cloned().collect()
    }
}

/// The description of this API.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "stkr-relayer",
        description = "What a Stkr relayer sees and carries. Everything is public; all that can be given to it is evidence and answers of offline servers."
    ),
    paths(
        page,
        health,
        livez,
        readyz,
        metrics,
        status,
        ceremony,
        reshare,
        evidence,
        evidence_file,
        hand_in,
        offline_due,
        offline_request,
        offline_answer,
        intents,
        pools,
        keys,
        openapi
    )
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
        .route("/v1/reshares/{keyId}/{committeeEpoch}/{attempt}", get(reshare))
        .route("/v1/evidence", get(evidence).post(hand_in))
        .route("/v1/evidence/{id}", get(evidence_file))
        .route("/v1/offline", post(offline_answer))
        .route("/v1/offline/{serverId}", get(offline_due))
        .route("/v1/offline/{serverId}/{keyId}", get(offline_request))
        .route("/v1/intents", get(intents))
        .route("/v1/pools", get(pools))
        .route("/v1/keys", get(keys))
        .route("/openapi.json", get(openapi))
        .with_state(shared);
    standard(router, metrics, DEADLINE)
}

/// The status as a page for people.
#[utoipa::path(
    get,
    path = "/",
    responses(
        (status = 200, description = "HTML", content_type = "text/html", body = String),
    )
)]
async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let html = Html(status::page(&shared.status()));
    // Nothing on the page needs a script; if escaping ever failed, the browser would still run none.
    let policy = [(header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")];
    (policy, html).into_response()
}

/// Whether the relayer reads the chain and does its work.
#[utoipa::path(get, path = "/health", responses((status = 200, body = Health), (status = 503, body = Health)))]
async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Health>) {
    let (status, fresh) = (shared.status(), shared.is_fresh());
    let word = if fresh { "ok" } else { "unavailable" };
    let health = Health { status: word.to_owned(), head: status.chain.head.clone(), problems: status.problems.clone() };
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
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "OpenMetrics", content_type = "application/openmetrics-text", body = String)))]
async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    metrics_response(&shared.metrics)
}

/// What the relayer sees; of what grows with history the newest.
#[utoipa::path(get, path = "/status", responses((status = 200, body = Status)))]
async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(Status::clone(&shared.status()))
}

/// All messages of a ceremony.
#[utoipa::path(
    get,
    path = "/v1/ceremonies/{keyId}/{attempt}",
    params(
        ("keyId" = schema::U64, Path, description = "key id", example = "1"),
        ("attempt" = schema::U16, Path, description = "ceremony number, from 0", example = "0"),
    ),
    responses(
        (status = 200, body = Bulletin),
        (status = 400, description = "not numbers", body = ProblemBody),
        (status = 404, description = "nothing carried", body = ProblemBody),
        (status = 503, description = "the database cannot be read", body = ProblemBody),
    )
)]
async fn ceremony(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Bulletin>, Problem> {
    let numbers = path.ok().and_then(|Path((key, attempt))| Some((decimal::<u64>(&key)?, decimal::<u16>(&attempt)?)));
    let Some((key_id, number)) = numbers else {
        return Err(Problem::denied(
            StatusCode::BAD_REQUEST,
            "key id and attempt must be decimal numbers",
            "write for example /v1/ceremonies/1/0",
        ));
    };
    let status = shared.status();
    let (key, attempt) = (key_id.to_string(), number.to_string());
    let standing = status.ceremonies.iter().find(|it| (&it.key_id, &it.attempt) == (&key, &attempt)).cloned();
    let committee = shared.store.last_committee(key_id, number).map_err(|error| broken(&error))?;
    let arrived = committee.map(|committee| shared.store.arrived(key_id, number, committee)).transpose();
    let arrived = arrived.map_err(|error| broken(&error))?;
    // While nobody has said anything, who is waited for is all there is to say.
    if arrived.is_none() && standing.is_none() {
        return Err(Problem::denied(
            StatusCode::NOT_FOUND,
            "this relayer has carried no message of that ceremony",
            "look up the attempt in /v1/keys, or ask another relayer",
        ));
    }
    let (messages, times): (Vec<_>, Vec<Option<u64>>) = arrived.unwrap_or_default().into_iter().unzip();
    let received = times.into_iter().map(|time| time.map(|time| time.to_string())).collect();
    Ok(Json(Bulletin { key_id: key, attempt, messages, received, standing }))
}

/// All messages of one attempt of a reshare.
#[utoipa::path(
    get,
    path = "/v1/reshares/{keyId}/{committeeEpoch}/{attempt}",
    params(
        ("keyId" = schema::U64, Path, description = "key id", example = "1"),
        ("committeeEpoch" = schema::U32, Path, description = "number of the committee that is being made", example = "1"),
        ("attempt" = schema::U16, Path, description = "number of the attempt, from 0", example = "0"),
    ),
    responses(
        (status = 200, body = ReshareBulletin),
        (status = 400, description = "not numbers", body = ProblemBody),
        (status = 404, description = "nothing carried", body = ProblemBody),
        (status = 503, description = "the database cannot be read", body = ProblemBody),
    )
)]
async fn reshare(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Json<ReshareBulletin>, Problem> {
    let id = path.ok().and_then(|Path((key, epoch, attempt))| {
        Some(ReshareId { key_id: decimal(&key)?, committee_epoch: decimal(&epoch)?, attempt: decimal(&attempt)? })
    });
    let Some(id) = id else {
        return Err(Problem::denied(
            StatusCode::BAD_REQUEST,
            "key id, committee epoch and attempt must be decimal numbers",
            "write for example /v1/reshares/1/1/0",
        ));
    };
    let status = shared.status();
    let (key_id, attempt) = (id.key_id.to_string(), id.attempt.to_string());
    let committee_epoch = id.committee_epoch.to_string();
    let is_it =
        |it: &&ReshareStatus| (&it.key_id, &it.committee_epoch, &it.attempt) == (&key_id, &committee_epoch, &attempt);
    let standing = status.reshares.iter().find(is_it).cloned();
    let draft = shared.store.last_draft(id).map_err(|error| broken(&error))?;
    let arrived = draft.map(|draft| shared.store.reshare_messages(id, draft)).transpose();
    let arrived = arrived.map_err(|error| broken(&error))?;
    // While nobody has said anything, who is waited for is all there is to say.
    if arrived.is_none() && standing.is_none() {
        return Err(Problem::denied(
            StatusCode::NOT_FOUND,
            "this relayer has carried no message of that reshare",
            "look up the attempt with stkr reshare show, or ask another relayer",
        ));
    }
    let (messages, times): (Vec<_>, Vec<Option<u64>>) = arrived.unwrap_or_default().into_iter().unzip();
    let received = times.into_iter().map(|time| time.map(|time| time.to_string())).collect();
    let kept = shared.store.reshare_evidence(id).map_err(|error| broken(&error))?.into_iter();
    let evidence = kept.map(|it| {
        let body = serde_json::to_value(&it.file)?;
        Ok(ReshareEvidenceLine { server_id: it.server_id.to_string(), kind: it.kind.to_owned(), body })
    });
    let evidence = evidence.collect::<Result<_, StoreError>>().map_err(|error| broken(&error))?;
    Ok(Json(ReshareBulletin { key_id, committee_epoch, attempt, messages, received, evidence, standing }))
}

/// The number that `text` spells in the one way there is.
fn decimal<T: std::str::FromStr + std::fmt::Display>(text: &str) -> Option<T> {
    text.parse::<T>().ok().filter(|number| number.to_string() == text)
}

/// Proven faults of servers, in the order they were found.
#[utoipa::path(
    get,
    path = "/v1/evidence",
    params(Range),
    responses(
        (status = 200, body = EvidenceList),
        (status = 400, description = "not a page", body = ProblemBody),
        (status = 503, description = "the database cannot be read", body = ProblemBody),
    )
)]
async fn evidence(State(shared): State<Arc<Shared>>, query: Asked) -> Result<Json<EvidenceList>, Problem> {
    let range = asked(query)?;
    let evidence = shared.store.evidence(range.after(), range.limit()).map_err(|error| broken(&error))?;
    Ok(Json(EvidenceList { evidence }))
}

/// One file of evidence, as `stkr evidence` takes it.
#[utoipa::path(
    get,
    path = "/v1/evidence/{id}",
    params(("id" = schema::U64, Path, description = "id in this relayer's database", example = "1")),
    responses(
        (status = 200, description = "a file of evidence (docs/protocol.md)", body = Object),
        (status = 400, description = "not an id", body = ProblemBody),
        (status = 404, description = "no such evidence", body = ProblemBody),
        (status = 503, description = "the database cannot be read", body = ProblemBody),
    )
)]
async fn evidence_file(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let number = path.ok().and_then(|Path(id)| decimal::<u64>(&id)).ok_or_else(|| {
        let reason = "the id of evidence must be a decimal number";
        Problem::denied(StatusCode::BAD_REQUEST, reason, "write for example /v1/evidence/1")
    })?;
    let found = shared.store.evidence_at(number).map_err(|error| broken(&error))?;
    let nothing = || {
        let reason = format!("this relayer keeps no evidence {number}");
        Problem::denied(StatusCode::NOT_FOUND, reason, "look for its id in /v1/evidence, or ask another relayer")
    };
    Ok(Json(found.ok_or_else(nothing)?.body))
}

/// What became of evidence that was handed in.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct HandedIn {
    /// Whether it was new here. If not, it was known, or enough of its kind was.
    pub kept: bool,
}

/// Takes evidence from anybody: what proves a fault on this chain is kept and reported to the Court.
#[utoipa::path(
    post,
    path = "/v1/evidence",
    request_body(content = Object, description = "a file of evidence (docs/protocol.md)", content_type = "application/json"),
    responses(
        (status = 200, body = HandedIn),
        (status = 400, description = "no file of evidence", body = ProblemBody),
        (status = 413, description = "too long to be one", body = ProblemBody),
        (status = 422, description = "it proves nothing, whatever the chain shows", body = ProblemBody),
        (status = 429, description = "others are before it, or a request of this address is not answered yet", body = ProblemBody),
        (status = 503, description = "it cannot be judged now, or the chain as this relayer sees it does not bear it out", body = ProblemBody),
    )
)]
async fn hand_in(
    State(shared): State<Arc<Shared>>,
    connection: Extensions,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<HandedIn>, Problem> {
    let send = "send a file as `stkr evidence` and this API give them";
    let too_long = || {
        let reason = format!("evidence has at most {MAX_FILE} bytes");
        Problem::denied(StatusCode::PAYLOAD_TOO_LARGE, reason, send)
    };
    let body = body.ok().filter(|body| body.len() <= MAX_FILE).ok_or_else(too_long)?;
    let file = EvidenceFile::from_json(&body)
        .map_err(|error| Problem::denied(StatusCode::BAD_REQUEST, error.to_string(), send))?;
    let Some(desk) = &shared.desk else { return Err(later("this relayer does not judge evidence")) };
    let taken = desk.hand_in(client_address(&connection), file).await.map_err(|error| at_the_desk(&error))?;
    Ok(Json(HandedIn { kept: taken == Taken::Kept }))
}

fn at_the_desk(error: &DeskError) -> Problem {
    let refused = |what_to_do: &str| Problem::denied(StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), what_to_do);
    match error {
        DeskError::Proof(_) => refused("nothing is left to do: the Court would refuse it"),
        // The node may be behind, and what the chain shows may change.
        DeskError::Chain(_) => Problem::unavailable(
            StatusCode::SERVICE_UNAVAILABLE,
            error.to_string(),
            "if the chain shows otherwise, try again later or give it to another relayer: this one's node may be behind",
        ),
        DeskError::AskedByOthers => refused(
            "prove it with `stkr evidence submit FILE`: one transaction from any account, and the bounty is whose challenge it was",
        ),
        DeskError::NoTurn(error) => not_yet(*error),
        DeskError::Unreachable(_) | DeskError::Judging(_) => later(&error.to_string()),
        DeskError::Store(error) => broken(error),
    }
}

/// Keys whose ceremonies, reshares or changes of credentials wait for an offline server now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OfflineDue {
    /// Key ids.
    pub keys: Vec<String>,
}

/// Which keys wait for something that an offline server is to sign now, as this relayer sees it.
#[utoipa::path(
    get,
    path = "/v1/offline/{serverId}",
    params(("serverId" = schema::U64, Path, description = "server id", example = "5")),
    responses((status = 200, body = OfflineDue), (status = 400, description = "not a number", body = ProblemBody))
)]
async fn offline_due(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<OfflineDue>, Problem> {
    let number = path.ok().and_then(|Path(id)| decimal::<u32>(&id)).ok_or_else(not_numbers)?;
    let server = number.to_string();
    let status = shared.status();
    let waits =
        |rounds: &[RoundStatus]| rounds.iter().flat_map(|it| &it.waiting_for).any(|waited| waited.server_id == server);
    let ceremonies = status.ceremonies.iter().filter(|it| waits(&it.rounds)).map(|it| it.key_id.clone());
    let reshares = status.reshares.iter().filter(|it| waits(&it.rounds)).map(|it| it.key_id.clone());
    let lists = shared.lists();
    let changes = lists.changes.iter().filter(|it| it.waiting_for.contains(&number));
    let keys: BTreeSet<String> = ceremonies.chain(reshares).chain(changes.map(|it| it.key_id.to_string())).collect();
    Ok(Json(OfflineDue { keys: keys.into_iter().collect() }))
}

fn not_numbers() -> Problem {
    let reason = "server id and key id must be decimal numbers";
    Problem::denied(StatusCode::BAD_REQUEST, reason, "write for example /v1/offline/5/1")
}

/// The file that is to be carried to an offline server: for what waits for it, for what the key is in, or which committees the key has.
#[utoipa::path(
    get,
    path = "/v1/offline/{serverId}/{keyId}",
    params(
        ("serverId" = schema::U64, Path, description = "server id", example = "5"),
        ("keyId" = schema::U64, Path, description = "key id", example = "1"),
    ),
    responses(
        (status = 200, description = "a request file (docs/offline.md)", body = Object),
        (status = 400, description = "not numbers", body = ProblemBody),
        (status = 404, description = "nothing of the kind, or it is not final yet", body = ProblemBody),
        (status = 429, description = "others are before it, or a request of this address is not answered yet", body = ProblemBody),
        (status = 503, description = "it cannot be put together now", body = ProblemBody),
    )
)]
async fn offline_request(
    State(shared): State<Arc<Shared>>,
    connection: Extensions,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let numbers = path.ok().and_then(|Path((server, key))| Some((decimal::<u32>(&server)?, decimal::<u64>(&key)?)));
    let (server, key_id) = numbers.ok_or_else(not_numbers)?;
    let Some(counter) = &shared.counter else { return Err(later("this relayer serves no offline servers")) };
    let turn = counter.turn(client_address(&connection)).await.map_err(not_yet)?;
    let file = match shared.wanted_of(server, key_id) {
        Wanted::Changes { committee_epoch, changes } => {
            counter.change_request(&turn, server, (key_id, committee_epoch), changes).await.map(serde_json::to_value)
        }
        Wanted::Reshare => counter.reshare_request(&turn, server, key_id).await.map(serde_json::to_value),
        Wanted::Nothing => whatever(counter, &turn, server, key_id).await,
    };
    let file = file.map_err(|error| at_the_counter(&error))?;
    file.map(Json).map_err(|error| later(&error.to_string()))
}

/// The file for what the key is in now: its ceremony, a reshare in which the server has a part, or what it erases a share by.
async fn whatever(
    counter: &Counter,
    turn: &Turn,
    server: u32,
    key_id: u64,
) -> Result<Result<serde_json::Value, serde_json::Error>, OfflineError> {
    if !counter.has_committee(turn, key_id).await? {
        return counter.request(turn, server, key_id).await.map(serde_json::to_value);
    }
    match counter.reshare_request(turn, server, key_id).await {
        Err(OfflineError::NotThere(_)) => counter.committees(turn, server, key_id).await.map(serde_json::to_value),
        found => found.map(serde_json::to_value),
    }
}

/// What became of an answer of an offline server.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct OfflineTaken {
    /// Messages in it that were new here.
    pub new: usize,
}

/// Takes the answer of an offline server, from whoever carries it.
#[utoipa::path(
    post,
    path = "/v1/offline",
    request_body(content = Object, description = "an answer file (docs/offline.md)", content_type = "application/json"),
    responses(
        (status = 200, body = OfflineTaken),
        (status = 400, description = "no answer file", body = ProblemBody),
        (status = 404, description = "no such ceremony or reshare runs", body = ProblemBody),
        (status = 413, description = "too long to be one", body = ProblemBody),
        (status = 422, description = "it is not what its server signed", body = ProblemBody),
        (status = 429, description = "others are before it, or a request of this address is not answered yet", body = ProblemBody),
        (status = 503, description = "it cannot be taken now", body = ProblemBody),
    )
)]
async fn offline_answer(
    State(shared): State<Arc<Shared>>,
    connection: Extensions,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OfflineTaken>, Problem> {
    let send = "send the file that `stkr-server offline answer` wrote";
    let too_long = || {
        let reason = format!("an answer has at most {} bytes", offline::MAX_ANSWER);
        Problem::denied(StatusCode::PAYLOAD_TOO_LARGE, reason, send)
    };
    let body = body.ok().filter(|body| body.len() <= offline::MAX_ANSWER).ok_or_else(too_long)?;
    let no_file = |error: offline::FileError| Problem::denied(StatusCode::BAD_REQUEST, error.to_string(), send);
    let Some(counter) = &shared.counter else { return Err(later("this relayer serves no offline servers")) };
    let from = client_address(&connection);
    let taken = if offline::is_kind::<offline::Changed>(&body) {
        let file = offline::from_json::<offline::Changed, ChangeAnswerFile>(&body).map_err(no_file)?;
        counter.take_changes(&counter.turn(from).await.map_err(not_yet)?, file).await
    } else if offline::is_kind::<Reshared>(&body) {
        let file = offline::from_json::<Reshared, ReshareAnswerFile>(&body).map_err(no_file)?;
        counter.take_reshare(&counter.turn(from).await.map_err(not_yet)?, file).await
    } else {
        let file = offline::from_json::<offline::Answer, AnswerFile>(&body).map_err(no_file)?;
        counter.take(&counter.turn(from).await.map_err(not_yet)?, file).await
    };
    let taken = taken.map_err(|error| at_the_counter(&error))?;
    if let Some((desk, complaint)) = shared.desk.as_ref().zip(taken.complaint) {
        match desk.hand_in(from, complaint).await {
            Ok(_) => {}
            Err(DeskError::Proof(error)) => tracing::warn!(error = %error, "a complaint proves nothing"),
            Err(DeskError::NoTurn(error)) => return Err(not_yet(error)),
            Err(error) => return Err(later(&error.to_string())),
        }
    }
    Ok(Json(OfflineTaken { new: taken.new }))
}

fn at_the_counter(error: &OfflineError) -> Problem {
    match error {
        OfflineError::NotThere(_) => {
            let what_to_do = "look at /v1/keys; a draw is final some minutes after it happened";
            Problem::denied(StatusCode::NOT_FOUND, error.to_string(), what_to_do)
        }
        OfflineError::Rejected(_) => {
            let what_to_do = "have the server answer a new request, and hand in the file as it wrote it";
            Problem::denied(StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), what_to_do)
        }
        OfflineError::Unreachable(_) => later(&error.to_string()),
        OfflineError::Store(error) => broken(error),
    }
}

fn not_yet(error: NoTurn) -> Problem {
    let what_to_do = "send one request at a time: wait for its answer, then try again, or give it to another relayer";
    let problem = Problem::unavailable(StatusCode::TOO_MANY_REQUESTS, error.to_string(), what_to_do);
    Problem { retry_after: Some(COME_AGAIN), ..problem }
}

fn later(reason: &str) -> Problem {
    Problem::unavailable(
        StatusCode::SERVICE_UNAVAILABLE,
        reason,
        "try again in some seconds, or give it to another relayer",
    )
}

/// Transactions of this relayer, in the order they became necessary.
#[utoipa::path(
    get,
    path = "/v1/intents",
    params(Range),
    responses(
        (status = 200, body = IntentPage),
        (status = 400, description = "not a page", body = ProblemBody),
        (status = 503, description = "the database cannot be read", body = ProblemBody),
    )
)]
async fn intents(State(shared): State<Arc<Shared>>, query: Asked) -> Result<Json<IntentPage>, Problem> {
    let range = asked(query)?;
    let after = i64::try_from(range.after()).unwrap_or(i64::MAX);
    let page = shared.intents.as_ref().map_or_else(|| Ok(Vec::new()), |intents| intents.list(after, range.limit()));
    let page = page.map_err(|error| broken(&error))?;
    Ok(Json(IntentPage { intents: page.into_iter().map(intent_line).collect() }))
}

/// Pools.
#[utoipa::path(
    get,
    path = "/v1/pools",
    params(Range),
    responses((status = 200, body = Pools), (status = 400, description = "not a page", body = ProblemBody))
)]
async fn pools(State(shared): State<Arc<Shared>>, query: Asked) -> Result<Json<Pools>, Problem> {
    let range = asked(query)?;
    Ok(Json(Pools { pools: range.of(&shared.lists().pools, |pool| &pool.pool_id) }))
}

/// Keys.
#[utoipa::path(
    get,
    path = "/v1/keys",
    params(Range),
    responses((status = 200, body = Keys), (status = 400, description = "not a page", body = ProblemBody))
)]
async fn keys(State(shared): State<Arc<Shared>>, query: Asked) -> Result<Json<Keys>, Problem> {
    let range = asked(query)?;
    Ok(Json(Keys { keys: range.of(&shared.lists().keys, |key| &key.key_id) }))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
async fn openapi() -> Result<Response, Problem> {
    let json = openapi_json().map_err(|_| unknown_trouble())?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

fn broken(error: &dyn std::error::Error) -> Problem {
    tracing::error!(error = %error, "the database cannot be read");
    unknown_trouble()
}

fn unknown_trouble() -> Problem {
    Problem::unavailable(
        StatusCode::SERVICE_UNAVAILABLE,
        "the relayer cannot read its own database",
        "its operator has to look at the logs",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use stkr_chain::{ChainReader, Deployment, Endpoint, Trust};
    use stkr_node::database::Database;
    use stkr_node::http::{Limits, serve_plain};
    use stkr_node::shutdown::Shutdown;

    use alloy::primitives::{Address, B256};
    use stkr_core::ShareIndex;
    use stkr_protocol::evidence::{EvidenceError, EvidenceFile, Fault, MessagesProof, Proof};
    use stkr_protocol::messages::{Body, OneTimeKeyBody, SignedMessage};
    use stkr_protocol::reshare::evidence::{ReshareEvidence, ReshareMessagesProof};
    use stkr_protocol::reshare::{self, ReshareKeysBody};
    use stkr_protocol::{ProtocolDomain, SignerKey};

    use super::*;

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
    use crate::app::SCHEMA;
    use crate::cases::Stage;
    use crate::desk::Desk;
    use crate::plan::Clock;
    use crate::shared::{Lists, Standing};
    use crate::store::Store;

    struct Running {
        url: String,
        shared: Arc<Shared>,
        database: Arc<Database>,
        _folder: tempfile::TempDir,
    }

    fn start() -> Running {
        start_with(|_| (None, None))
    }

    fn start_with(parts: impl FnOnce(Store) -> (Option<Desk>, Option<Counter>)) -> Running {
        stkr_node::tls::install_provider().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap());
        let (desk, counter) = parts(Store::new(database.clone()));
        let shared = Shared::new(Store::new(database.clone()), None, desk, counter);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (routes, metrics) = (router(shared.clone()), shared.metrics.clone());
        tokio::spawn(
            async move { serve_plain(listener, routes, &metrics, Limits::default(), Shutdown::default()).await },
        );
        Running { url, shared, database, _folder: folder }
    }

    impl Running {
        async fn refuses(&self, path: &str, expected: u16) {
            let (status, body) = self.get(path).await;
            assert_eq!(status, expected, "{path}: {body}");
            assert!(body.starts_with("{\"refusal\":"), "{path}: {body}");
        }

        async fn get(&self, path: &str) -> (u16, String) {
            let answer = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    }

    /// A chain that cannot be asked.
    async fn no_chain() -> ChainReader {
        let at = Address::repeat_byte;
        let deployment = Deployment {
            chain_id: DOMAIN.chain_id,
            access_manager: at(1),
            server_registry: at(2),
            provider_registry: at(3),
            key_registry: DOMAIN.key_registry,
            court: at(4),
            micropools: at(5),
            deposit_contract: at(6),
            genesis_fork_version: [0; 4].into(),
            genesis_validators_root: B256::ZERO,
            deployed_block: 0,
        };
        let endpoint = Endpoint::connect(&"http://127.0.0.1:9".parse().unwrap()).await.unwrap();
        ChainReader::new(deployment, vec![endpoint], Trust::OneEndpoint).unwrap()
    }

    /// Whoever asks from an address of this machine.
    fn from(address: [u8; 4]) -> reqwest::Client {
        reqwest::Client::builder().local_address(IpAddr::from(address)).build().unwrap()
    }

    fn two_words() -> EvidenceFile {
        let signer = SignerKey::from_bytes(&[7; 32]).unwrap();
        let say = |byte| {
            let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![byte; 33] });
            SignedMessage::sign(&DOMAIN, &signer, (1, 0, ShareIndex::new(2).unwrap()), body)
        };
        let proof = Proof::CeremonyEquivocation(MessagesProof { first: say(2), second: say(3) });
        EvidenceFile::new(&DOMAIN, Address::repeat_byte(4), proof)
    }

    /// While one address asks without end, requests of another wait and are answered; the flood is told what to do.
    async fn a_flood_keeps_nobody_out(
        ask: impl Fn(reqwest::Client) -> reqwest::RequestBuilder,
        release: impl FnOnce(),
    ) {
        let send = |from| tokio::spawn(ask(from).send());
        let (one, other) = (from([127, 0, 0, 2]), from([127, 0, 0, 3]));
        let first = send(one.clone());
        tokio::time::sleep(Duration::from_millis(200)).await;
        let honest = send(other);
        for _ in 0..20 {
            let refused = send(one.clone()).await.unwrap().unwrap();
            assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (429, &b"5"[..]));
            let said: ProblemBody = refused.json().await.unwrap();
            assert!(said.refusal.reason.contains("a request of this address is not answered yet"), "{said:?}");
            assert!(said.refusal.what_to_do.contains("one request at a time"), "{said:?}");
        }
        assert!(!first.is_finished() && !honest.is_finished(), "they wait for their turn");
        release();
        for served in [first, honest] {
            let answer = served.await.unwrap().unwrap();
            let (status, body) = (answer.status().as_u16(), answer.text().await.unwrap());
            assert!(status == 503 && body.contains("the chain cannot be asked"), "{status}: {body}");
        }
    }

    #[tokio::test]
    async fn a_flood_at_the_counter_keeps_nobody_else_out() {
        let reader = no_chain().await;
        let server = start_with(|store| (None, Some(Counter::new(store, reader))));
        let held = server.shared.counter.as_ref().unwrap().turn([192, 0, 2, 9].into()).await.unwrap();
        let url = format!("{}/v1/offline/7/3", server.url);
        a_flood_keeps_nobody_out(|client| client.get(&url), || drop(held)).await;
    }

    #[tokio::test]
    async fn a_flood_at_the_desk_keeps_nobody_else_out() {
        let reader = no_chain().await;
        let server = start_with(|store| (Some(Desk::new(store, reader)), None));
        let held = server.shared.desk.as_ref().unwrap().turns().own().await;
        let url = format!("{}/v1/evidence", server.url);
        a_flood_keeps_nobody_out(|client| client.post(&url).json(&two_words()), || drop(held)).await;
    }

    /// Or whoever hangs up and comes again has one pairing computed on every core.
    #[test]
    fn who_goes_away_from_the_desk_has_the_turn_until_the_pairing_is_done() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (folder, reader) = (tempfile::tempdir().unwrap(), no_chain().await);
            let database = Database::open(&folder.path().join("relayer.sqlite"), &SCHEMA).unwrap();
            let desk = Desk::new(Store::new(Arc::new(database)), reader);
            let (release, slow) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || slow.recv().is_err());
            {
                let mut gone = std::pin::pin!(desk.hand_in([192, 0, 2, 1].into(), two_words()));
                assert!(futures::poll!(gone.as_mut()).is_pending(), "it is being judged");
            }
            let mut next = std::pin::pin!(desk.turns().own());
            assert!(futures::poll!(next.as_mut()).is_pending(), "the pairing is still to be done");
            drop(release);
            assert!(busy.await.unwrap());
            drop(next.await);
        });
    }

    #[test]
    fn evidence_of_silence_is_refused_with_the_way_to_prove_it_and_not_as_if_the_court_refused_it() {
        let silence = at_the_desk(&DeskError::AskedByOthers);
        assert_eq!(silence.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(silence.detail.what_to_do.contains("`stkr evidence submit FILE`"), "{silence:?}");
        let said = format!("{} {}", silence.detail.reason, silence.detail.what_to_do);
        assert!(!said.contains("no evidence") && !said.contains("Court would refuse"), "{said}");
        let proven_wrong = at_the_desk(&DeskError::Proof(EvidenceError::ValidPartial));
        assert_eq!(proven_wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(proven_wrong.detail.what_to_do.contains("Court would refuse"), "{proven_wrong:?}");
    }

    #[test]
    fn what_the_chain_does_not_bear_out_is_no_final_refusal_for_the_node_may_be_behind() {
        let said = at_the_desk(&DeskError::Chain("its seat is none of key 7 in committee 0".to_owned()));
        assert_eq!(said.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(said.detail.reason.contains("its seat is none of key 7"), "{said:?}");
        assert!(said.detail.what_to_do.contains("try again later"), "{said:?}");
    }

    fn pool(id: u64) -> PoolStatus {
        PoolStatus {
            pool_id: id.to_string(),
            state: "Open".to_owned(),
            provider: String::new(),
            vault: String::new(),
            staked: "0".to_owned(),
            deadline: "0".to_owned(),
            key_id: None,
            deposits_gwei: Vec::new(),
            foreign_deposit: None,
        }
    }

    #[tokio::test]
    async fn a_relayer_is_healthy_once_it_has_seen_the_chain_and_servers_that_are_down_do_not_change_that() {
        let server = start();
        assert_eq!(server.get("/livez").await.0, 200);
        assert_eq!((server.get("/health").await.0, server.get("/readyz").await.0), (503, 503));
        let problems = vec!["server 3 is down".to_owned()];
        let status = Status { problems, ..Status::default() };
        server.shared.publish(status, Lists::default(), &Clock { head: 7, ..Clock::default() });
        let (status, body) = server.get("/health").await;
        assert!(status == 200 && body.contains("server 3 is down"), "{body}");
        assert_eq!(server.get("/readyz").await.0, 200);
        assert!(server.get("/metrics").await.1.contains("stkr_relayer_head_block 7"));
        server.shared.failed("no answer".to_owned());
        server.shared.failed("no answer".to_owned());
        let (_, body) = server.get("/status").await;
        assert_eq!(body.matches("the chain cannot be read").count(), 1, "{body}");
    }

    /// Names of the relayer's own metrics that have a sample.
    async fn sampled(server: &Running) -> BTreeSet<String> {
        let text = server.get("/metrics").await.1;
        let lines = text.lines().filter(|line| line.starts_with("stkr_relayer_"));
        lines.map(|line| line.split(['{', ' ']).next().unwrap().trim_end_matches("_total").to_owned()).collect()
    }

    /// After a restart a lock-out of last year would go from 0 to 1, and wake somebody.
    #[tokio::test]
    async fn metrics_say_nothing_of_a_chain_that_was_not_looked_at() {
        let server = start();
        let failures = "stkr_relayer_chain_failures".to_owned();
        assert_eq!(sampled(&server).await, BTreeSet::from([failures.clone()]));
        server.shared.failed("no answer".to_owned());
        let problems = "stkr_relayer_problems".to_owned();
        assert_eq!(sampled(&server).await, BTreeSet::from([failures, problems]));
        assert!(server.get("/metrics").await.1.contains("\nstkr_relayer_problems 1\n"));

        server.shared.publish(Status::default(), Lists::default(), &Clock::default());
        let (fault, challenges) = (Fault::InvalidPartial, BTreeMap::from([(3, 1)]));
        server.shared.publish_faults(&BTreeMap::from([((fault, Stage::Open), 1)]), &BTreeMap::from([(fault, 1)]));
        server.shared.publish_standing(&Standing { challenges, ..Standing::default() });
        // What could not be read has no value yet.
        let every: BTreeSet<String> = server
            .shared
            .metrics
            .catalogue()
            .into_iter()
            .map(|(name, _)| name)
            .filter(|it| it.contains("_relayer_"))
            .collect();
        let unread = ["stkr_relayer_gas_gwei", "stkr_relayer_reshare_evidence"].map(str::to_owned);
        let known: BTreeSet<String> = every.difference(&BTreeSet::from(unread)).cloned().collect();
        assert_eq!(sampled(&server).await, known);
        let standing = Standing { gas_gwei: Some(5), reshare_evidence: Some(0), ..Standing::default() };
        server.shared.publish_standing(&standing);
        assert_eq!(sampled(&server).await, every);
        assert!(server.get("/metrics").await.1.contains("\nstkr_relayer_locked_out_servers 0\n"));
    }

    #[tokio::test]
    async fn unknown_ceremonies_and_paths_are_refused_as_json() {
        let server = start();
        let bad_numbers = ["x/0", "1/70000", "01/0", "+1/0", "%FF/0"].map(|path| format!("/v1/ceremonies/{path}"));
        for path in bad_numbers {
            server.refuses(&path, 400).await;
        }
        server.refuses("/v1/ceremonies/1/0", 404).await;
        server.refuses("/nope", 404).await;
    }

    #[tokio::test]
    async fn a_ceremony_in_which_nobody_said_anything_still_shows_who_is_waited_for() {
        let server = start();
        let (key_id, attempt) = ("5".to_owned(), "1".to_owned());
        let ceremony = CeremonyStatus { key_id, attempt, stalled: true, ..CeremonyStatus::default() };
        let status = Status { ceremonies: vec![ceremony], ..Status::default() };
        server.shared.publish(status, Lists::default(), &Clock::default());
        let (code, body) = server.get("/v1/ceremonies/5/1").await;
        let bulletin: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &bulletin["messages"]), (200, &serde_json::json!([])), "{body}");
        assert_eq!(bulletin["standing"]["stalled"], true, "{body}");
        server.refuses("/v1/ceremonies/5/0", 404).await;
        server.refuses("/v1/ceremonies/6/1", 404).await;
    }

    #[tokio::test]
    async fn a_reshare_shows_who_is_waited_for_what_was_said_and_the_evidence_that_no_court_takes() {
        let server = start();
        for path in ["x/1/0", "1/1", "1/4294967296/0", "1/1/70000", "01/1/0", "1/1/%FF"] {
            let status = if path.matches('/').count() == 2 { 400 } else { 404 };
            server.refuses(&format!("/v1/reshares/{path}"), status).await;
        }
        server.refuses("/v1/reshares/5/1/0", 404).await;
        let reshare = ReshareStatus {
            key_id: "5".to_owned(),
            committee_epoch: "1".to_owned(),
            attempt: "0".to_owned(),
            stalled: true,
            ..ReshareStatus::default()
        };
        let status = Status { reshares: vec![reshare], ..Status::default() };
        server.shared.publish(status, Lists::default(), &Clock::default());
        assert!(server.get("/metrics").await.1.contains("stkr_relayer_stalled_reshares 1"));
        let (id, draft) = (ReshareId { key_id: 5, committee_epoch: 1, attempt: 0 }, B256::repeat_byte(1));
        let signer = SignerKey::from_bytes(&[7; 32]).unwrap();
        let say = |byte| {
            let body = reshare::Body::Keys(ReshareKeysBody { public_keys: vec![byte; 33] });
            ReshareMessage::sign(&DOMAIN, &signer, id, ShareIndex::new(2).unwrap(), body)
        };
        let (first, second) = (say(2), say(3));
        for message in [&first, &second] {
            server.shared.store.post_reshare(&DOMAIN, draft, message).unwrap();
        }
        let proof = reshare::evidence::Proof::ReshareEquivocation(ReshareMessagesProof { first, second });
        let file = ReshareEvidence::new(&DOMAIN, proof);
        assert!(server.shared.store.keep_reshare_evidence(id, 7, &file).unwrap());
        let (code, body) = server.get("/v1/reshares/5/1/0").await;
        let bulletin: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, bulletin["messages"].as_array().map(Vec::len)), (200, Some(2)), "{body}");
        assert_eq!(bulletin["standing"]["stalled"], true, "{body}");
        let kept = &bulletin["evidence"][0];
        assert_eq!((&kept["serverId"], &kept["kind"]), (&"7".into(), &"reshare_equivocation".into()), "{body}");
        ReshareEvidence::from_json(kept["body"].to_string().as_bytes()).unwrap().verify().unwrap();
        server.refuses("/v1/reshares/5/1/1", 404).await;
        server.refuses("/v1/reshares/5/2/0", 404).await;
        server.database.lock().execute_batch("DROP TABLE reshare_bulletin").unwrap();
        server.refuses("/v1/reshares/5/1/0", 503).await;
    }

    #[tokio::test]
    async fn a_page_that_is_none_is_refused_as_json() {
        let server = start();
        for query in ["after=x", "after=-1", "after=9223372036854775808", "limit=1001", "limit=%FF", "limit="] {
            server.refuses(&format!("/v1/pools?{query}"), 400).await;
            server.refuses(&format!("/v1/keys?{query}"), 400).await;
        }
        server.refuses("/v1/evidence?limit=1001", 400).await;
        assert_eq!(server.get("/v1/evidence?limit=1000").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_have_the_documented_content_type() {
        let server = start();
        let answer = reqwest::get(format!("{}/metrics", server.url)).await.unwrap();
        let sent = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let document: serde_json::Value = serde_json::from_str(&openapi_json().unwrap()).unwrap();
        let documented = &document["paths"]["/metrics"]["get"]["responses"]["200"]["content"];
        assert!(documented[sent.split(';').next().unwrap()].is_object(), "{sent}: {documented}");
    }

    #[tokio::test]
    async fn a_database_that_cannot_be_read_is_a_documented_503() {
        let server = start();
        server.database.lock().execute_batch("DROP TABLE bulletin; DROP TABLE evidence").unwrap();
        let document: serde_json::Value = serde_json::from_str(&openapi_json().unwrap()).unwrap();
        for (path, described) in [
            ("/v1/evidence/1", "/v1/evidence/{id}"),
            ("/v1/evidence", "/v1/evidence"),
            ("/v1/ceremonies/1/0", "/v1/ceremonies/{keyId}/{attempt}"),
        ] {
            server.refuses(path, 503).await;
            assert!(document["paths"][described]["get"]["responses"]["503"].is_object(), "{described}");
        }
    }

    #[tokio::test]
    async fn lists_come_in_pages() {
        let server = start();
        let lists = Lists { pools: (1..=5).map(pool).collect(), ..Lists::default() };
        server.shared.publish(Status::default(), lists, &Clock::default());
        let (_, body) = server.get("/v1/pools?after=2&limit=2").await;
        let pools: serde_json::Value = serde_json::from_str(&body).unwrap();
        let ids: Vec<_> = pools["pools"].as_array().unwrap().iter().map(|pool| pool["poolId"].clone()).collect();
        assert_eq!(ids, ["3", "4"]);
    }

    #[tokio::test]
    async fn evidence_comes_in_pages_that_miss_nothing_and_repeat_nothing() {
        let server = start();
        for number in 1..=5_u64 {
            let signer = SignerKey::from_bytes(&[7; 32]).unwrap();
            let say = |byte| {
                let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![byte; 33] });
                SignedMessage::sign(&DOMAIN, &signer, (number, 0, ShareIndex::new(2).unwrap()), body)
            };
            let proof = Proof::CeremonyEquivocation(MessagesProof { first: say(2), second: say(3) });
            let file = EvidenceFile::new(&DOMAIN, Address::ZERO, proof);
            assert!(server.shared.store.keep_evidence(7, &file).unwrap());
            assert!(!server.shared.store.keep_evidence(7, &file).unwrap(), "the same again is no news");
        }
        let (mut after, mut keys) = ("0".to_owned(), Vec::new());
        // One page more than there can be, so that pages which repeat themselves fail and do not go on for ever.
        for _ in 0..4 {
            let (_, body) = server.get(&format!("/v1/evidence?limit=2&after={after}")).await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let page = body["evidence"].as_array().unwrap();
            assert!(page.len() <= 2, "{body}");
            let Some(last) = page.last() else { break };
            keys.extend(page.iter().map(|evidence| evidence["keyId"].as_str().unwrap().to_owned()));
            after = last["id"].as_str().unwrap().to_owned();
        }
        assert_eq!(keys, ["1", "2", "3", "4", "5"]);
        assert_eq!(server.get("/v1/evidence?after=9223372036854775807").await.1, "{\"evidence\":[]}");
        assert_eq!(server.get("/v1/evidence?after=-1").await.0, 400);
        // Each of them is a file that `stkr evidence` takes.
        let (status, body) = server.get(&format!("/v1/evidence/{after}")).await;
        assert_eq!((status, EvidenceFile::from_json(body.as_bytes()).unwrap().proof.key_id()), (200, 5));
        for (path, status) in [("0", 404), ("60", 404), ("18446744073709551615", 404), ("x", 400), ("03", 400)] {
            server.refuses(&format!("/v1/evidence/{path}"), status).await;
        }
    }

    #[tokio::test]
    async fn the_page_allows_no_script_and_no_foreign_content() {
        let server = start();
        let answer = reqwest::get(format!("{}/", server.url)).await.unwrap();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(answer.text().await.unwrap().contains("<h1>stkr-relayer"));
    }

    #[test]
    fn the_committed_openapi_document_is_the_served_one() {
        let committed = include_str!("../../docs/openapi/relayer.json");
        assert_eq!(
            committed.trim(),
            openapi_json().unwrap().trim(),
            "run: stkr-relayer openapi > docs/openapi/relayer.json"
        );
    }

    #[tokio::test]
    async fn the_handbook_lists_every_metric() {
        let handbook = include_str!("../../docs/relayer.md");
        let server = start();
        server.shared.publish(Status::default(), Lists::default(), &Clock::default());
        for (name, help) in server.shared.metrics.catalogue() {
            assert!(
                handbook.contains(&format!("| `{name}` | {help} |")),
                "docs/relayer.md lacks | `{name}` | {help} |"
            );
        }
    }

    #[test]
    fn the_handbook_shows_the_generated_configuration() {
        let handbook = include_str!("../../docs/relayer.md");
        let example = stkr_node::config::example::<crate::config::RelayerConfig>().unwrap();
        assert!(
            handbook.contains(example.trim()),
            "docs/relayer.md has another configuration than `stkr-relayer config example`"
        );
    }
}
