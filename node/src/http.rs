//! The HTTP side of a daemon: bounded, timed, and every answer JSON that says what to do.
//!
//! Order of defence, outermost first: a bounded number of connections, in all and of one address; a handshake deadline; a
//! body that declares more than [`MAX_BODY_BYTES`] is refused before a byte of it is read, one that lies about its length
//! when it crosses the line; a bounded number of body bytes on their way, in all and of one address; a deadline per
//! request; a panic in a handler ends one request and not the process.

use std::any::Any;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{ConnectInfo, FromRequest, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum_server::accept::Accept;
use axum_server::tls::TlsInfo;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use futures::{FutureExt as _, StreamExt as _};
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use crate::budget::{Budget, Share};
use crate::metrics::{HttpLabels, Metrics};
use crate::shutdown::Shutdown;
use crate::tls::Fingerprint;

/// Largest request body, bytes.
pub const MAX_BODY_BYTES: usize = stkr_protocol::api::MAX_BODY;
/// Body bytes of all requests under way together, and of those from one address: what strangers can make us hold.
const BODIES: (usize, usize) = (64 * MAX_BODY_BYTES, 16 * MAX_BODY_BYTES);

/// Class of a [`Problem`]; the same words as in refusals of signing requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The request is wrong and stays wrong.
    Denied,
    /// The server cannot answer now; the same request may succeed later.
    Unavailable,
}

/// Why a request as a whole was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProblemDetail {
    /// Class.
    pub kind: ProblemKind,
    /// What was wrong, one sentence.
    pub reason: String,
    /// What the caller can do.
    pub what_to_do: String,
}

/// Body of every answer with an error status: `{"refusal":{"kind","reason","whatToDo"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProblemBody {
    /// The refusal.
    pub refusal: ProblemDetail,
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// What the body says.
    pub detail: ProblemDetail,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// The request is wrong.
    pub fn denied(status: StatusCode, reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        let detail = ProblemDetail { kind: ProblemKind::Denied, reason: reason.into(), what_to_do: what_to_do.into() };
        Self { status, detail, retry_after: None }
    }

    /// The server cannot answer now.
    pub fn unavailable(status: StatusCode, reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        let detail =
            ProblemDetail { kind: ProblemKind::Unavailable, reason: reason.into(), what_to_do: what_to_do.into() };
        Self { status, detail, retry_after: None }
    }

    /// A body above the limit.
    pub fn too_large() -> Self {
        Self::denied(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request body is larger than {MAX_BODY_BYTES} bytes"),
            "send less in one request; a batch can be split",
        )
    }

    /// More is under way than this program takes on at once.
    pub fn busy() -> Self {
        let mut problem = Self::unavailable(
            StatusCode::SERVICE_UNAVAILABLE,
            "too much is being asked of this server at the same time",
            "ask again; the Retry-After header says when",
        );
        problem.retry_after = Some(1);
        problem
    }

    /// Too many requests of one client; `wait` until the next one is welcome.
    pub fn too_many(wait: Duration) -> Self {
        let mut problem = Self::unavailable(
            StatusCode::TOO_MANY_REQUESTS,
            "this client (certificate or address) has sent too many requests",
            "send fewer, larger batches; the Retry-After header says when to go on",
        );
        problem.retry_after = Some(wait.as_secs().saturating_add(1));
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody { refusal: self.detail };
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Extractor of a JSON body: bounded, `application/json` only, errors as [`Problem`]. Unknown fields are refused by the type
/// (`deny_unknown_fields`); the error names the place and never echoes the body.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
        if !json {
            return Err(Problem::denied(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the request body is not declared as JSON",
                "send the header content-type: application/json",
            ));
        }
        let body = to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(body_problem)?;
        serde_json::from_slice(&body).map(Self).map_err(|error| json_problem(&error))
    }
}

fn body_problem(error: axum::Error) -> Problem {
    // `to_bytes` has no typed way to say "limit reached" other than this source.
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = next {
        if cause.to_string().contains("length limit exceeded") {
            return Problem::too_large();
        }
        next = cause.source();
    }
    Problem::denied(StatusCode::BAD_REQUEST, "the request body ended early", "send the request again")
}

fn json_problem(error: &serde_json::Error) -> Problem {
    // serde's message may quote a value of the request; an unknown field's name is the only thing worth repeating.
    let class = match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            let named = |prefix: &str| {
                let name = text.strip_prefix(prefix).and_then(|rest| rest.split('`').next())?;
                Some(name.escape_debug().take(40).collect::<String>())
            };
            if let Some(field) = named("unknown field `") {
                format!("has the unknown field {field}")
            } else if let Some(field) = named("missing field `") {
                format!("lacks the field {field}")
            } else if let Some(variant) = named("unknown variant `") {
                format!("names {variant}, which is not one of the documented values")
            } else if text.starts_with("a list of more than") {
                "has a list with more elements than the batch may have".to_owned()
            } else {
                "does not have the documented fields".to_owned()
            }
        }
        serde_json::error::Category::Eof => "ends before its JSON does".to_owned(),
        _ => "is not JSON".to_owned(),
    };
    Problem::denied(
        StatusCode::BAD_REQUEST,
        format!("the request body {class} (line {}, column {})", error.line(), error.column()),
        "compare it with /openapi.json",
    )
}

/// The client certificate of the connection a request came over; `None` without TLS.
pub fn client_fingerprint(extensions: &axum::http::Extensions) -> Option<Fingerprint> {
    extensions.get::<Arc<TlsInfo>>()?.peer_certificates.first().map(|certificate| Fingerprint::of(certificate))
}

/// Address of the peer of the connection a request came over; the unspecified one where there is no connection (tests that
/// call a router directly).
pub fn client_address(extensions: &axum::http::Extensions) -> IpAddr {
    let connection = extensions.get::<ConnectInfo<SocketAddr>>();
    connection.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip().to_canonical())
}

#[derive(Clone)]
struct Guard {
    metrics: Arc<Metrics>,
    timeout: Duration,
    bodies: Arc<Budget>,
}

/// Adds body limit, deadline, panic catcher, metrics and JSON fallbacks to a router. Call it last.
pub fn standard(router: Router, metrics: Arc<Metrics>, timeout: Duration) -> Router {
    let router = if stkr_kill_points::ARMED { router.layer(from_fn(half_an_answer)) } else { router };
    router
        .fallback(|| async {
            Problem::denied(StatusCode::NOT_FOUND, "there is no such path here", "see /openapi.json for all paths")
        })
        .method_not_allowed_fallback(|method: Method| async move {
            Problem::denied(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("this path does not answer {:.10}", method.as_str()),
                "see /openapi.json for the methods of each path",
            )
        })
        .layer(from_fn_with_state(Guard { metrics, timeout, bodies: Budget::new(BODIES.0, BODIES.1) }, guard))
}

/// The kill point between the two halves of an answer to a POST: the client has seen the first.
async fn half_an_answer(request: Request, next: Next) -> Response {
    let is_post = request.method() == Method::POST;
    let response = next.run(request).await;
    if !is_post || !stkr_kill_points::reached("http.half_an_answer") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let whole = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let half = whole.slice(..whole.len() / 2);
    let rest = async {
        // Long enough for the first half to leave.
        tokio::time::sleep(Duration::from_millis(50)).await;
        stkr_kill_points::die();
        Ok::<_, io::Error>(whole)
    };
    let halves = futures::stream::once(async { Ok(half) }).chain(futures::stream::once(rest));
    Response::from_parts(parts, Body::from_stream(halves))
}

async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let response = guarded(&guard, request, next).await;
    let labels = HttpLabels { route, status: response.status().as_u16() };
    guard.metrics.http().requests.get_or_create(&labels).inc();
    guard.metrics.http().seconds.observe(started.elapsed().as_secs_f64());
    response
}

async fn guarded(guard: &Guard, request: Request, next: Next) -> Response {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|value| value.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > MAX_BODY_BYTES as u64) {
        return Problem::too_large().into_response();
    }
    // A body of unknown length counts as the largest: it may become that.
    let length = request.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let length = length.unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES);
    let Some(_held) = guard.bodies.take(client_address(request.extensions()), length) else {
        return Problem::busy().into_response();
    };
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(guard.timeout, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => panic_problem(panic.as_ref()).into_response(),
        Err(_) => Problem::unavailable(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the request took longer than {} s", guard.timeout.as_secs()),
            "send it again; if it keeps happening the operator has to look at the logs",
        )
        .into_response(),
    }
}

fn panic_problem(panic: &(dyn Any + Send)) -> Problem {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(error = text.unwrap_or("no message"), "request handler panicked");
    Problem::unavailable(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the server hit a bug while answering",
        "report it to the operator; nothing was promised by this answer",
    )
}

/// Bounds of the transport below the requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; more are closed at once.
    pub connections: usize,
    /// Of these, connections from one address.
    pub connections_of_one_address: usize,
    /// Time for the TLS handshake, and again for the first request.
    pub handshake: Duration,
    /// Time that requests in flight get to finish at shutdown.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_of_one_address: 64,
            handshake: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        }
    }
}

/// Serves `router` over TLS until `shutdown`, then lets requests in flight finish.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_tls(
    listener: std::net::TcpListener,
    router: Router,
    tls: Arc<rustls::ServerConfig>,
    metrics: &Metrics,
    limits: Limits,
    shutdown: Shutdown,
) -> io::Result<()> {
    let gate = Gate::new(true, metrics, limits);
    let acceptor =
        RustlsAcceptor::new(RustlsConfig::from_config(tls)).handshake_timeout(limits.handshake).acceptor(gate);
    let server = axum_server::from_tcp(listener)?.acceptor(acceptor);
    prepare(server, limits, shutdown).serve(router.into_make_service_with_connect_info::<SocketAddr>()).await
}

/// Serves `router` without TLS: for status pages on the loopback interface, never for the server API.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_plain(
    listener: std::net::TcpListener,
    router: Router,
    metrics: &Metrics,
    limits: Limits,
    shutdown: Shutdown,
) -> io::Result<()> {
    let server = axum_server::from_tcp(listener)?.acceptor(Gate::new(false, metrics, limits));
    prepare(server, limits, shutdown).serve(router.into_make_service_with_connect_info::<SocketAddr>()).await
}

fn prepare<A>(server: Server<SocketAddr, A>, limits: Limits, shutdown: Shutdown) -> Server<SocketAddr, A> {
    let handle = Handle::new();
    let at_shutdown = handle.clone();
    tokio::spawn(async move {
        shutdown.wait().await;
        at_shutdown.graceful_shutdown(Some(limits.grace));
    });
    let mut server = server.handle(handle).first_request_timeout(limits.handshake).accept_error_handler(
        |address: Option<&SocketAddr>, error: &io::Error| {
            let address = address.map(ToString::to_string).unwrap_or_default();
            tracing::debug!(address, error = %error, "connection refused");
        },
    );
    let builder = server.http_builder();
    builder.http1().header_read_timeout(limits.handshake);
    builder
        .http2()
        .max_concurrent_streams(64)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    server
}

/// Tells the parent process that the daemon serves: one JSON line on stdout.
///
/// # Errors
/// When stdout is closed.
pub fn print_ready(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({"ready": true, "address": address.to_string()}))?;
    out.flush()
}

/// First look at a connection: is there room, and (for TLS) does it begin like TLS?
#[derive(Clone)]
struct Gate {
    tls: bool,
    connections: Arc<Budget>,
    open: Gauge,
    deadline: Duration,
}

impl Gate {
    fn new(tls: bool, metrics: &Metrics, limits: Limits) -> Self {
        Self {
            tls,
            connections: Budget::new(limits.connections, limits.connections_of_one_address),
            open: metrics.http().connections.clone(),
            deadline: limits.handshake,
        }
    }

    async fn admit(self, mut stream: TcpStream) -> io::Result<Admitted> {
        let peer = stream.peer_addr()?.ip().to_canonical();
        let Some(share) = self.connections.take(peer, 1) else {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "too many connections are open"));
        };
        stream.set_nodelay(true)?;
        if self.tls {
            let mut first = [0_u8; 1];
            let seen = tokio::time::timeout(self.deadline, stream.peek(&mut first)).await;
            let seen = seen.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "peer sent nothing"))??;
            if seen > 0 && first[0] != TLS_HANDSHAKE {
                let _ = tokio::time::timeout(Duration::from_secs(2), refuse_plain(&mut stream)).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, "peer does not speak TLS"));
            }
        }
        self.open.inc();
        Ok(Admitted { stream, open: self.open, linger: None, _share: share })
    }
}

/// Content type of a TLS record that carries a handshake message.
const TLS_HANDSHAKE: u8 = 22;

/// Answers plain HTTP in plain HTTP, so that a person with curl reads what is wrong.
async fn refuse_plain(stream: &mut TcpStream) -> io::Result<()> {
    let problem = Problem::denied(
        StatusCode::BAD_REQUEST,
        "this port speaks TLS 1.3 only",
        "use https:// and show any client certificate",
    );
    let body = serde_json::to_string(&ProblemBody { refusal: problem.detail })?;
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await?;
    // Bytes left unread at close make the kernel send a reset, which can overtake the answer.
    let mut rest = [0_u8; 4096];
    let mut left = 64_u32;
    while left > 0 && stream.read(&mut rest).await? > 0 {
        left -= 1;
    }
    Ok(())
}

impl<S: Send + 'static> Accept<TcpStream, S> for Gate {
    type Stream = Admitted;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Admitted, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let gate = self.clone();
        Box::pin(async move { Ok((gate.admit(stream).await?, service)) })
    }
}

/// How long a connection that we close is still read from, and how much of it at most.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 16 * 1024 * 1024);

/// A connection that counts while it lives, and that ends without a reset: bytes left unread at close make the kernel send
/// one, and a client that is still sending its 100 MB then sees a broken pipe instead of the answer that tells it why.
struct Admitted {
    stream: TcpStream,
    open: Gauge,
    linger: Option<Linger>,
    _share: Share,
}

/// What is left of [`LINGER`] once our side is closed.
struct Linger {
    until: Pin<Box<tokio::time::Sleep>>,
    bytes: usize,
}

impl Linger {
    /// Reads and forgets, until the peer closes too or it has been enough.
    fn poll(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0_u8; 16 * 1024];
        loop {
            if self.bytes == 0 || self.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut rest = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *stream).poll_read(cx, &mut rest) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !rest.filled().is_empty() => {
                    self.bytes = self.bytes.saturating_sub(rest.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl AsyncRead for Admitted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, linger, .. } = &mut *self;
        if linger.is_none() {
            std::task::ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        let (time, bytes) = LINGER;
        let linger = linger.get_or_insert_with(|| Linger { until: Box::pin(tokio::time::sleep(time)), bytes });
        linger.poll(stream, cx).map(Ok)
    }
}

/// Answer to `GET /metrics`.
pub fn metrics_response(metrics: &Metrics) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], Body::from(text)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{HandshakeFault, Identity, client_config, handshake_fault, install_provider, server_config};
    use axum::routing::{get, post};
    use std::net::TcpListener;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Echo {
        text: String,
    }

    struct Running {
        address: SocketAddr,
        identity: Identity,
        shutdown: Shutdown,
    }

    fn router(metrics: &Arc<Metrics>) -> Router {
        let router = Router::new()
            .route("/echo", post(|JsonBody(echo): JsonBody<Echo>| async move { echo.text }))
            .route(
                "/panic",
                get(|| async {
                    if std::env::args().count() > 0 {
                        panic!("boom")
                    }
                }),
            )
            .route("/slow", get(std::future::pending::<()>));
        standard(router, metrics.clone(), Duration::from_millis(300))
    }

    fn start() -> Running {
        install_provider().unwrap();
        let identity = Identity::generate("test").unwrap();
        let metrics = Arc::new(Metrics::new("test", "0"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let (router, tls, stop) = (router(&metrics), server_config(&identity).unwrap(), shutdown.clone());
        tokio::spawn(async move { serve_tls(listener, router, tls, &metrics, Limits::default(), stop).await.unwrap() });
        Running { address, identity, shutdown }
    }

    fn client(pinned: Fingerprint) -> reqwest::Client {
        let mine = Identity::generate("client").unwrap();
        let tls = client_config(&mine, pinned).unwrap();
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
    }

    impl Running {
        fn url(&self, path: &str) -> String {
            format!("https://{}{path}", self.address)
        }
        async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
            let request = client(self.identity.fingerprint()).post(self.url("/echo"));
            let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
            assert_eq!(response.version(), reqwest::Version::HTTP_2);
            (response.status().as_u16(), response.text().await.unwrap())
        }
    }

    #[tokio::test]
    async fn good_bad_and_unknown_json_get_200_and_400_with_the_place() {
        let server = start();
        assert_eq!(server.post(r#"{"text":"hi"}"#).await, (200, "hi".to_owned()));
        let (status, body) = server.post(r#"{"text":"#).await;
        assert!(status == 400 && body.contains("ends before its JSON does"), "{body}");
        let (status, body) = server.post(r#"{"text":"hunter2","extra":1}"#).await;
        assert!(status == 400 && body.contains("unknown field extra") && !body.contains("hunter2"), "{body}");
        let (status, body) = server.post(r#"{"text":77777}"#).await;
        assert!(status == 400 && !body.contains("77777"), "{body}");
        let problem: ProblemBody = serde_json::from_str(&body).unwrap();
        assert_eq!(problem.refusal.kind, ProblemKind::Denied);
    }

    #[tokio::test]
    async fn a_large_body_is_refused_whether_it_declares_its_length_or_not() {
        let server = start();
        let (status, body) = server.post(vec![b' '; MAX_BODY_BYTES + 1]).await;
        assert_eq!(status, 413, "{body}");
        let chunks = futures::stream::iter((0..40).map(|_| Ok::<_, io::Error>(vec![b' '; 32 * 1024])));
        let (status, body) = server.post(reqwest::Body::wrap(StreamBody(Box::pin(chunks)))).await;
        assert!(status == 413 && body.contains("send less in one request"), "{body}");
    }

    #[tokio::test]
    async fn a_body_that_declares_too_much_is_refused_before_it_is_sent() {
        let server = start();
        let never = futures::stream::pending::<Result<Vec<u8>, io::Error>>();
        let response = client(server.identity.fingerprint())
            .post(server.url("/echo"))
            .header("content-type", "application/json")
            .header("content-length", "104857600")
            .body(reqwest::Body::wrap(StreamBody(Box::pin(never))))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 413);
    }

    /// A body of unknown length.
    struct StreamBody<S>(Pin<Box<S>>);

    impl<S: futures::Stream<Item = Result<Vec<u8>, io::Error>>> axum::body::HttpBody for StreamBody<S> {
        type Data = axum::body::Bytes;
        type Error = io::Error;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Self::Data>, io::Error>>> {
            self.0.as_mut().poll_next(cx).map(|next| next.map(|chunk| chunk.map(|c| http_body::Frame::data(c.into()))))
        }
    }

    #[tokio::test]
    async fn a_panic_and_a_slow_handler_end_one_request_only() {
        let server = start();
        let client = client(server.identity.fingerprint());
        let panicked = client.get(server.url("/panic")).send().await.unwrap();
        assert_eq!(panicked.status(), 500);
        assert!(!panicked.text().await.unwrap().contains("boom"));
        assert_eq!(client.get(server.url("/slow")).send().await.unwrap().status(), 503);
        assert_eq!(client.get(server.url("/nowhere")).send().await.unwrap().status(), 404);
        assert_eq!(client.get(server.url("/echo")).send().await.unwrap().status(), 405);
        assert_eq!(server.post(r#"{"text":"alive"}"#).await.0, 200);
    }

    #[tokio::test]
    async fn a_server_with_another_certificate_is_refused_with_both_fingerprints() {
        let server = start();
        let expected = Fingerprint([9; 32]);
        let error = client(expected).get(server.url("/")).send().await.unwrap_err();
        let presented = server.identity.fingerprint();
        assert_eq!(handshake_fault(&error), Some(HandshakeFault::WrongFingerprint { expected, presented }));
    }

    #[tokio::test]
    async fn plain_http_to_the_tls_port_is_told_so_in_plain_http() {
        let server = start();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("TLS 1.3 only"), "{answer}");
    }

    #[tokio::test]
    async fn a_plain_http_server_is_named_as_such_by_the_client() {
        install_provider().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        });
        let error = client(Fingerprint([0; 32])).get(format!("https://{address}/")).send().await.unwrap_err();
        assert_eq!(handshake_fault(&error), Some(HandshakeFault::NotTls), "{error:?}");
    }

    /// A TLS 1.2 ClientHello without the supported_versions extension: all that a 1.2 client can send.
    fn tls12_client_hello() -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0x11; 32]);
        body.push(0);
        body.extend([0, 2, 0xc0, 0x2b]); // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        body.extend([1, 0]);
        let extensions = [
            [0, 10, 0, 4, 0, 2, 0, 23].as_slice(), // supported_groups: P-256
            &[0, 13, 0, 4, 0, 2, 4, 3],            // signature_algorithms: ecdsa_secp256r1_sha256
        ]
        .concat();
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        let mut record = vec![22, 3, 1];
        record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        record.extend(message);
        record
    }

    #[tokio::test]
    async fn a_tls_1_2_client_gets_the_protocol_version_alert() {
        let server = start();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&tls12_client_hello()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        // Alert record, fatal, protocol_version.
        assert_eq!((answer[0], answer[5], answer[6]), (21, 2, 70), "{answer:?}");
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_refused() {
        let server = start();
        let mut tls = client_config(&Identity::generate("x").unwrap(), server.identity.fingerprint()).unwrap();
        tls.client_auth_cert_resolver = Arc::new(NoCertificate);
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
        let error = client.get(server.url("/echo")).send().await.unwrap_err();
        assert_eq!(handshake_fault(&error), Some(HandshakeFault::NoClientCertificate), "{error:?}");
    }

    #[derive(Debug)]
    struct NoCertificate;
    impl rustls::client::ResolvesClientCert for NoCertificate {
        fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }
        fn has_certs(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn bodies_that_never_end_hold_no_more_than_their_share_and_requests_without_one_are_answered() {
        let server = start();
        let client = client(server.identity.fingerprint());
        // Each counts as the largest body while its length is unknown.
        let stalled = (0..BODIES.1 / MAX_BODY_BYTES).map(|_| {
            let never = futures::stream::pending::<Result<Vec<u8>, io::Error>>();
            let body = reqwest::Body::wrap(StreamBody(Box::pin(never)));
            let request = client.post(server.url("/echo")).header("content-type", "application/json").body(body);
            tokio::spawn(request.send())
        });
        let _stalled: Vec<_> = stalled.collect();
        let mut last = 0;
        for _ in 0..100 {
            last = server.post(r#"{"text":"hi"}"#).await.0;
            if last == 503 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(last, 503, "another body of this address");
        assert_eq!(client.get(server.url("/nowhere")).send().await.unwrap().status(), 404);
        // The deadline of the stalled requests gives everything back.
        while server.post(r#"{"text":"hi"}"#).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn one_address_cannot_take_all_connections() {
        let server = start();
        let mut open = Vec::new();
        for _ in 0..Limits::default().connections_of_one_address {
            open.push(TcpStream::connect(server.address).await.unwrap());
        }
        let mut one_more = TcpStream::connect(server.address).await.unwrap();
        // Idle ones are closed, too, but only after the handshake deadline of 10 s.
        let read = tokio::time::timeout(Duration::from_secs(5), one_more.read(&mut [0; 1])).await;
        assert_eq!(read.expect("closed at once").unwrap_or(0), 0);
        drop(open);
        while client(server.identity.fingerprint()).get(server.url("/nowhere")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn shutdown_closes_the_port() {
        let server = start();
        assert_eq!(server.post(r#"{"text":"hi"}"#).await.0, 200);
        server.shutdown.trigger(crate::shutdown::Reason::Internal);
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
