//! The HTTP API: docs/protocol.md on axum, and its OpenAPI description.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use stkr_kill_points::kill_point;
use stkr_node::http::{JsonBody, Problem, ProblemBody, client_address, client_fingerprint, metrics_response, standard};
use stkr_protocol::api::{
    AdvanceRequest, AdvanceResponse, Conflicts, Info, Readiness, ReshareAdvanceRequest, ReshareAdvanceResponse,
    SignBatch, SignReplies, Signers, Unready, View, WatermarksReplies, WatermarksRequest,
};
use utoipa::OpenApi;

use crate::app::App;

/// Description of the API; `docs/openapi/server.json` is generated from it.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "stkr-server",
        description = "A Stkr threshold server. TLS 1.3 with any client certificate; the server's certificate is the one whose SHA-256 the server registry names. Bodies are at most 1 MiB."
    ),
    paths(advance, advance_reshare, sign, watermarks, info, signers, conflicts, view, livez, readyz, metrics, openapi)
)]
pub struct Api;

/// The API as pretty JSON with a line end.
///
/// # Errors
/// When it does not serialise, which it always does.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    Ok(Api::openapi().to_pretty_json()? + "\n")
}

/// All routes of a server.
pub fn router(app: Arc<App>, request_timeout: Duration) -> Router {
    let limited = Router::new()
        .route("/v1/ceremonies/advance", post(advance))
        .route("/v1/reshares/advance", post(advance_reshare))
        .route("/v1/sign", post(sign))
        .route("/v1/watermarks", post(watermarks))
        .route("/v1/info", get(info))
        .route("/v1/signers", get(signers))
        .route("/v1/conflicts", get(conflicts))
        .route("/v1/view", get(view))
        .layer(from_fn_with_state(app.clone(), rate_limit));
    let router = limited
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .with_state(app.clone());
    standard(router, app.metrics().clone(), request_timeout)
}

async fn rate_limit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    kill_point!("server.received");
    match app.admit(client_fingerprint(request.extensions()), client_address(request.extensions())) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Give the server all ceremony messages you have, get all of its own
#[utoipa::path(
    post,
    path = "/v1/ceremonies/advance",
    request_body = AdvanceRequest,
    responses(
        (status = 200, description = "The server's messages and where it stands", body = AdvanceResponse),
        (status = 400, description = "Not JSON of the documented form", body = ProblemBody),
        (status = 404, description = "No such key, or this server is not in its committee", body = ProblemBody),
        (status = 409, description = "No such ceremony runs on the chain", body = ProblemBody),
        (status = 413, description = "Body above 1 MiB", body = ProblemBody),
        (status = 415, description = "Body not declared as application/json", body = ProblemBody),
        (status = 429, description = "Too many requests of this client certificate or address", body = ProblemBody),
        (status = 503, description = "Chain or database cannot be used now; call again", body = ProblemBody),
    )
)]
async fn advance(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<AdvanceRequest>,
) -> Result<axum::Json<AdvanceResponse>, Problem> {
    Ok(axum::Json(app.advance(request).await?))
}

/// Give the server all messages of a reshare you have, get all of its own
#[utoipa::path(
    post,
    path = "/v1/reshares/advance",
    request_body = ReshareAdvanceRequest,
    responses(
        (status = 200, description = "The server's messages and where it stands", body = ReshareAdvanceResponse),
        (status = 400, description = "Not JSON of the documented form", body = ProblemBody),
        (status = 404, description = "No such key, or this server has no part in the reshare", body = ProblemBody),
        (status = 409, description = "Finalised blocks show no such reshare as drawn", body = ProblemBody),
        (status = 413, description = "Body above 1 MiB", body = ProblemBody),
        (status = 415, description = "Body not declared as application/json", body = ProblemBody),
        (status = 429, description = "Too many requests of this client certificate or address", body = ProblemBody),
        (status = 503, description = "Chain or database cannot be used now; call again", body = ProblemBody),
    )
)]
async fn advance_reshare(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<ReshareAdvanceRequest>,
) -> Result<axum::Json<ReshareAdvanceResponse>, Problem> {
    let answer = app.advance_reshare(request).await?;
    stkr_kill_points::may_end_at("server.reshare_unanswered");
    Ok(axum::Json(answer))
}

/// Ask for partial signatures; one answer per request, in order
#[utoipa::path(
    post,
    path = "/v1/sign",
    request_body = SignBatch,
    responses(
        (status = 200, description = "Partial signatures in their envelopes, or refusals", body = SignReplies),
        (status = 400, description = "Not JSON of the documented form", body = ProblemBody),
        (status = 413, description = "Body above 1 MiB", body = ProblemBody),
        (status = 415, description = "Body not declared as application/json", body = ProblemBody),
        (status = 429, description = "Too many requests of this client certificate or address", body = ProblemBody),
        (status = 503, description = "No answer in time; call again", body = ProblemBody),
    )
)]
async fn sign(State(app): State<Arc<App>>, JsonBody(batch): JsonBody<SignBatch>) -> axum::Json<SignReplies> {
    kill_point!("server.decoded");
    let replies = app.sign(batch).await;
    kill_point!("server.before_reply");
    axum::Json(replies)
}

/// How far this server has signed for validators, and for whom it signs; one answer per key, in order
#[utoipa::path(
    post,
    path = "/v1/watermarks",
    request_body = WatermarksRequest,
    responses(
        (status = 200, description = "Low and high watermarks of its slashing protection, and who may ask; or refusals", body = WatermarksReplies),
        (status = 400, description = "Not JSON of the documented form", body = ProblemBody),
        (status = 413, description = "Body above 1 MiB", body = ProblemBody),
        (status = 415, description = "Body not declared as application/json", body = ProblemBody),
        (status = 429, description = "Too many requests of this client certificate or address", body = ProblemBody),
        (status = 503, description = "No answer in time; call again", body = ProblemBody),
    )
)]
async fn watermarks(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<WatermarksRequest>,
) -> axum::Json<WatermarksReplies> {
    axum::Json(app.watermarks(request.key_ids).await)
}

/// Who this server is
#[utoipa::path(
    get,
    path = "/v1/info",
    responses(
        (status = 200, description = "Identity and version", body = Info),
        (status = 429, description = "Too many requests of this client certificate or address", body = ProblemBody),
    )
)]
async fn info(State(app): State<Arc<App>>) -> axum::Json<Info> {
    axum::Json(app.info())
}

/// This server's signers, and what still names each
#[utoipa::path(
    get,
    path = "/v1/signers",
    responses(
        (status = 200, description = "Each signer whose key is here or that a share names", body = Signers),
        (status = 429, description = "Too many requests of this client certificate or address", body = ProblemBody),
        (status = 503, description = "The server has not looked through its shares yet; call again", body = ProblemBody),
    )
)]
async fn signers(State(app): State<Arc<App>>) -> Result<axum::Json<Signers>, Problem> {
    Ok(axum::Json(app.signers()?))
}

/// Which page.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// Only ids above this.
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807_u64)]
    pub after: Option<u64>,
}

/// Requests of providers that conflict, one pair of each assignment: what convicts them
#[utoipa::path(
    get,
    path = "/v1/conflicts",
    params(Range),
    responses(
        (status = 200, description = "At most 32, oldest first", body = Conflicts),
        (status = 400, description = "Not an id", body = ProblemBody),
        (status = 429, description = "Too many requests of this client certificate or address", body = ProblemBody),
        (status = 503, description = "Database cannot be read now; call again", body = ProblemBody),
    )
)]
async fn conflicts(
    State(app): State<Arc<App>>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<axum::Json<Conflicts>, Problem> {
    let after = range.map_or(None, |Query(range)| i64::try_from(range.after.unwrap_or(0)).ok());
    let Some(after) = after.and_then(|after| u64::try_from(after).ok()) else {
        return Err(Problem::denied(StatusCode::BAD_REQUEST, "after must be an id", "write for example ?after=100"));
    };
    Ok(axum::Json(app.conflicts(after).await?))
}

/// What this server takes for the time and for the chain
#[utoipa::path(
    get,
    path = "/v1/view",
    responses(
        (status = 200, description = "Its clock, and what each of its RPC endpoints shows", body = View),
        (status = 429, description = "Too many requests of this client certificate or address", body = ProblemBody),
        (status = 503, description = "No answer in time; call again", body = ProblemBody),
    )
)]
async fn view(State(app): State<Arc<App>>) -> axum::Json<View> {
    axum::Json(app.view().await)
}

/// Whether the process serves
#[utoipa::path(get, path = "/livez", responses((status = 200, description = "It does", body = String)))]
async fn livez() -> &'static str {
    "ok"
}

/// Whether the chain can be read, the database written, and the server is registered
#[utoipa::path(
    get,
    path = "/readyz",
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready, and why", body = Readiness),
    )
)]
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let reasons = app.unready().await;
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let ready = reasons.is_empty();
    let reasons = reasons.into_iter().map(|(check, reason)| Unready { check: check.to_owned(), reason }).collect();
    (status, axum::Json(Readiness { ready, reasons })).into_response()
}

/// Metrics in the OpenMetrics text format
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"))
)]
async fn metrics(State(app): State<Arc<App>>) -> Response {
    metrics_response(app.metrics())
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
    #[test]
    fn the_committed_openapi_file_is_the_generated_one() {
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/server.json");
        let generated = super::openapi_json().unwrap();
        let committed = std::fs::read_to_string(committed).unwrap_or_default();
        assert!(generated == committed, "run `cargo run -p stkr-server -- openapi > docs/openapi/server.json`");
    }

    #[test]
    fn every_path_of_the_protocol_is_described() {
        let json: serde_json::Value = serde_json::from_str(&super::openapi_json().unwrap()).unwrap();
        let mut paths: Vec<_> = json["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        paths.sort_unstable();
        let expected = [
            "/livez",
            "/metrics",
            "/openapi.json",
            "/readyz",
            "/v1/ceremonies/advance",
            "/v1/conflicts",
            "/v1/info",
            "/v1/reshares/advance",
            "/v1/sign",
            "/v1/signers",
            "/v1/view",
            "/v1/watermarks",
        ];
        assert_eq!(paths, expected);
        for schema in [
            "AdvanceRequest",
            "AdvanceResponse",
            "ReshareAdvanceRequest",
            "ReshareAdvanceResponse",
            "SignBatch",
            "SignReplies",
            "Info",
            "Signers",
            "Conflicts",
            "ProblemBody",
        ] {
            assert!(json["components"]["schemas"][schema].is_object(), "{schema}");
        }
    }
}
