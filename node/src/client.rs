//! Typed client of the server API: HTTP/2 over TLS 1.3, pinned to the fingerprint on the chain.
//!
//! A server is a stranger: its endpoint is text that an operator wrote into an event, its answer may be slow, huge or
//! garbage. So nothing is followed (no redirect, no proxy, no other certificate), every wait ends, at most
//! [`MAX_ANSWER_BYTES`] of an answer are read, and whatever goes wrong becomes a [`ClientError`] that says what it was
//! and who can mend it.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stkr_protocol::api::{
    AdvanceRequest, AdvanceResponse, Conflicts, Info, Readiness, ReshareAdvanceRequest, ReshareAdvanceResponse,
    SignBatch, SignReplies, Signers, View, WatermarksReplies, WatermarksReply, WatermarksRequest,
};
use stkr_protocol::sign::{SignRequest, SignResponse};
use url::Url;

use crate::clock;
use crate::http::{ProblemBody, ProblemKind};
use crate::tls::{self, EndpointError, Fingerprint, HandshakeFault, Identity, TlsError};

/// Most bytes read of one answer. The longest honest one, a batch of signatures, is far below.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Who is called: what the server registry says about a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Id in the server registry.
    pub server_id: u32,
    /// Endpoint as registered, untrusted.
    pub endpoint: String,
    /// Fingerprint as registered.
    pub fingerprint: Fingerprint,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the TCP connection and the TLS handshake are done.
    pub connect: Duration,
    /// Until the whole answer is there.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), answer: Duration::from_secs(20) }
    }
}

/// Why a server could not be called or its answer not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The registered endpoint is no endpoint.
    #[error("{0}; the server's operator has to register another endpoint")]
    Endpoint(#[from] EndpointError),
    /// The client could not be built.
    #[error("the TLS client cannot be set up: {0}")]
    Setup(String),
    /// Nobody listens.
    #[error("{host} refuses the connection: the server is down or its registered endpoint is stale")]
    Refused {
        /// Host and port.
        host: String,
    },
    /// The name does not resolve.
    #[error("the host name of {host} cannot be resolved; its operator has to mend DNS or register another endpoint")]
    Unresolved {
        /// Host and port.
        host: String,
    },
    /// No way there.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the network said.
        reason: String,
    },
    /// TLS says no.
    #[error("{host}: {fault}")]
    Handshake {
        /// Host and port.
        host: String,
        /// What exactly.
        fault: HandshakeFault,
    },
    /// Too slow.
    #[error("{host} did not answer within {seconds} s; it is overloaded, stopped or cut off")]
    Timeout {
        /// Host and port.
        host: String,
        /// Seconds waited.
        seconds: u64,
    },
    /// The connection broke.
    #[error("the connection to {host} broke: {reason}")]
    Interrupted {
        /// Host and port.
        host: String,
        /// What the network said.
        reason: String,
    },
    /// The server refused the request as a whole, in its documented way.
    #[error("{host} refuses with status {status}: {reason} ({what_to_do})")]
    Problem {
        /// Host and port.
        host: String,
        /// HTTP status.
        status: u16,
        /// Whether the same request may succeed later.
        transient: bool,
        /// The server's reason, shortened.
        reason: String,
        /// The server's advice, shortened.
        what_to_do: String,
    },
    /// An error status without a documented body.
    #[error(
        "{host} answers with status {status} and no reason; it is not a stkr-server or something stands in between"
    )]
    Status {
        /// Host and port.
        host: String,
        /// HTTP status.
        status: u16,
    },
    /// More than anybody honest would send.
    #[error("{host} sends more than {MAX_ANSWER_BYTES} bytes; the answer was dropped unread")]
    TooLarge {
        /// Host and port.
        host: String,
    },
    /// More waits for this server than is worth waiting for; nothing was sent.
    #[error("{host} is too slow: {waiting} requests wait for it already")]
    Overloaded {
        /// Host and port.
        host: String,
        /// Requests that wait.
        waiting: usize,
    },
    /// Not what the protocol says.
    #[error("{host} sends an answer that is not of the protocol: {reason}; it runs another version or is broken")]
    BadAnswer {
        /// Host and port.
        host: String,
        /// Where the parser stopped; never the answer itself.
        reason: String,
    },
}

impl ClientError {
    /// One word for metrics and status pages.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Endpoint(_) => "bad_endpoint",
            Self::Setup(_) => "setup",
            Self::Refused { .. } => "refused",
            Self::Unresolved { .. } => "unresolved",
            Self::Unreachable { .. } => "unreachable",
            Self::Handshake { fault: HandshakeFault::WrongFingerprint { .. }, .. } => "wrong_fingerprint",
            Self::Handshake { .. } => "handshake",
            Self::Timeout { .. } => "timeout",
            Self::Interrupted { .. } => "interrupted",
            Self::Problem { .. } => "problem",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Overloaded { .. } => "overloaded",
            Self::BadAnswer { .. } => "bad_answer",
        }
    }
}

impl ClientError {
    /// What the operator of the server should look at first, one sentence. Whoever called knows no more than this error: a cause that
    /// only the operator can see is named as one of several.
    #[must_use]
    pub fn operator_checks(&self) -> String {
        match self {
            Self::Endpoint(_) => "register an endpoint of the form https://host:port (stkr server set-endpoint)".into(),
            Self::Setup(_) => "nothing: the trouble is on the calling side".into(),
            Self::Refused { .. } => {
                "is stkr-server running (systemctl status stkr-server), does it listen on the registered port, and why did it \
                 stop: its log says (disk full, configuration, RPC endpoint)"
                    .into()
            }
            Self::Unresolved { .. } => "the DNS name of the registered endpoint".into(),
            Self::Unreachable { .. } => "firewall, routing and whether the machine is up".into(),
            Self::Handshake { fault: HandshakeFault::WrongFingerprint { presented, .. }, .. } => format!(
                "the TLS certificate: put the registered one back, or register the new one (stkr server set-endpoint ID \
                 --tls-fingerprint {presented} ...); if it is not yours, somebody is in between"
            ),
            Self::Handshake { .. } => {
                "what listens on the registered port: it must be stkr-server itself, without a proxy that ends TLS".into()
            }
            Self::Timeout { .. } | Self::Overloaded { .. } => {
                "load, disk and the RPC endpoints: whoever waits for a slow endpoint answers late".into()
            }
            Self::Interrupted { .. } => "whether it was restarting just now, and what its log says".into(),
            Self::Problem { status: 404 | 409, .. } => {
                "its RPC endpoints: they show it another state than the chain has; are they synced, on this chain, and do they \
                 finalise"
                    .into()
            }
            Self::Problem { what_to_do, .. } => format!("its log and /readyz; it says: {what_to_do}"),
            Self::Status { .. } => "what stands in front of it: no stkr-server answers like that".into(),
            Self::TooLarge { .. } | Self::BadAnswer { .. } => {
                "its version: run the one that the others run (stkr-server --version)".into()
            }
        }
    }
}

impl From<TlsError> for ClientError {
    fn from(error: TlsError) -> Self {
        Self::Setup(error.to_string())
    }
}

/// A client of one server. Cheap to clone; clones share the HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct ServerClient {
    peer: Peer,
    base: Url,
    host: String,
    patience: Patience,
    http: reqwest::Client,
}

impl ServerClient {
    /// A client that shows `identity` and talks to exactly `peer`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] and [`ClientError::Setup`].
    pub fn new(identity: &Identity, peer: Peer, patience: Patience) -> Result<Self, ClientError> {
        let base = tls::endpoint_url(&peer.endpoint)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client_config(identity, peer.fingerprint)?)
            // A server that could send us elsewhere would choose whom we talk to.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(patience.connect)
            .timeout(patience.answer)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        let port = base.port_or_known_default().unwrap_or(443);
        let host = format!("{}:{port}", base.host_str().unwrap_or_default());
        Ok(Self { peer, base, host, patience, http })
    }

    /// Host and port it talks to.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whom this client talks to.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// `POST /v1/ceremonies/advance`: hands over ceremony messages and takes the server's own.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn advance(&self, request: &AdvanceRequest) -> Result<AdvanceResponse, ClientError> {
        self.post("/v1/ceremonies/advance", request).await
    }

    /// `POST /v1/reshares/advance`: hands over the messages of a reshare and takes the server's own.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn advance_reshare(
        &self,
        request: &ReshareAdvanceRequest,
    ) -> Result<ReshareAdvanceResponse, ClientError> {
        self.post("/v1/reshares/advance", request).await
    }

    /// `POST /v1/sign`: one reply per request, in order.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two; another number of replies is a [`ClientError::BadAnswer`].
    pub async fn sign(&self, batch: &SignBatch) -> Result<Vec<SignResponse>, ClientError> {
        let replies: SignReplies = self.post("/v1/sign", batch).await?;
        let (sent, got) = (batch.requests.len(), replies.responses.len());
        if sent != got {
            return Err(self.bad_answer(format!("{got} replies to {sent} requests")));
        }
        Ok(replies.responses)
    }

    /// `POST /v1/sign` with one request.
    ///
    /// # Errors
    /// As [`ServerClient::sign`].
    pub async fn sign_one(&self, request: &SignRequest) -> Result<SignResponse, ClientError> {
        let replies = self.sign(&SignBatch { requests: vec![request.clone()] }).await?;
        replies.into_iter().next().ok_or_else(|| self.bad_answer("no reply to one request"))
    }

    /// `GET /v1/info`.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn info(&self) -> Result<Info, ClientError> {
        self.get("/v1/info").await
    }

    /// `GET /v1/signers`: the server's signers, and what still names each.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two; 503 while the server has not looked yet.
    pub async fn signers(&self) -> Result<Signers, ClientError> {
        self.get("/v1/signers").await
    }

    /// `GET /v1/conflicts`: pairs of requests of providers that convict them, with ids above `after`.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn conflicts(&self, after: u64) -> Result<Conflicts, ClientError> {
        self.get(&format!("/v1/conflicts?after={after}")).await
    }

    /// `GET /v1/view`: the server's clock and what it sees of the chain.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn view(&self) -> Result<View, ClientError> {
        self.get("/v1/view").await
    }

    /// `GET /readyz`: what the server says keeps it from being of use; its words made fit for one line.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn readiness(&self) -> Result<Readiness, ClientError> {
        let answer = self.http.get(self.url("/readyz")?).send().await.map_err(|error| self.transport(&error))?;
        let status = answer.status();
        let body = self.read(answer).await?;
        // 503 is the documented answer of a server that is not ready, and says why.
        if !status.is_success() && status != reqwest::StatusCode::SERVICE_UNAVAILABLE {
            return Err(self.problem(status.as_u16(), &body));
        }
        let mut readiness: Readiness = serde_json::from_slice(&body).map_err(|error| self.bad_json(&error))?;
        for unready in &mut readiness.reasons {
            unready.check = printable(&unready.check);
            unready.reason = printable(&unready.reason);
        }
        Ok(readiness)
    }

    /// `POST /v1/watermarks`: how far this server has signed for the keys, according to itself; one reply per key, in order.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two; replies about other keys are a [`ClientError::BadAnswer`].
    pub async fn watermarks(&self, key_ids: &[u64]) -> Result<Vec<WatermarksReply>, ClientError> {
        let request = WatermarksRequest { key_ids: key_ids.to_vec() };
        let replies: WatermarksReplies = self.post("/v1/watermarks", &request).await?;
        let fits = |(asked, reply): (&u64, &WatermarksReply)| match reply {
            WatermarksReply::Known(marks) => marks.key_id == *asked,
            WatermarksReply::Refused(_) => true,
        };
        if replies.responses.len() != key_ids.len() || !key_ids.iter().zip(&replies.responses).all(fits) {
            return Err(self.bad_answer("it is about other keys"));
        }
        Ok(replies.responses)
    }

    /// Seconds by which our clock is ahead of this server's ([`clock::offset`]); nothing if the answer has no date or took too
    /// long.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn clock_offset(&self) -> Result<Option<f64>, ClientError> {
        let sent = SystemTime::now();
        let answer = self.http.get(self.url("/v1/info")?).send().await.map_err(|error| self.transport(&error))?;
        let offset = clock::offset(sent, SystemTime::now(), answer.headers());
        self.read(answer).await?;
        Ok(offset)
    }

    /// POSTs `request` as JSON and reads a JSON answer.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn post<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<A, ClientError> {
        self.call(self.http.post(self.url(path)?).json(request)).await
    }

    /// GETs a JSON answer.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, ClientError> {
        self.call(self.http.get(self.url(path)?)).await
    }

    fn url(&self, path: &str) -> Result<Url, ClientError> {
        self.base.join(path).map_err(|error| ClientError::Setup(error.to_string()))
    }

    async fn call<A: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<A, ClientError> {
        let answer = request.send().await.map_err(|error| self.transport(&error))?;
        let status = answer.status();
        let json = answer
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/json"));
        let body = self.read(answer).await?;
        if !status.is_success() {
            return Err(self.problem(status.as_u16(), &body));
        }
        if !json {
            return Err(self.bad_answer("it is not declared as JSON"));
        }
        serde_json::from_slice(&body).map_err(|error| self.bad_json(&error))
    }

    async fn read(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, ClientError> {
        let too_large = || ClientError::TooLarge { host: self.host.clone() };
        if answer.content_length().is_some_and(|bytes| bytes > MAX_ANSWER_BYTES as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.transport(&error))? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn problem(&self, status: u16, body: &[u8]) -> ClientError {
        let host = self.host.clone();
        match serde_json::from_slice::<ProblemBody>(body) {
            Ok(ProblemBody { refusal }) => ClientError::Problem {
                host,
                status,
                transient: refusal.kind == ProblemKind::Unavailable,
                reason: printable(&refusal.reason),
                what_to_do: printable(&refusal.what_to_do),
            },
            Err(_) => ClientError::Status { host, status },
        }
    }

    fn bad_answer(&self, reason: impl Into<String>) -> ClientError {
        ClientError::BadAnswer { host: self.host.clone(), reason: reason.into() }
    }

    /// serde quotes what it read; a stranger's text stays out of our logs but for the place where it went wrong.
    fn bad_json(&self, error: &serde_json::Error) -> ClientError {
        let what = match error.classify() {
            serde_json::error::Category::Data => "its fields are not the documented ones",
            serde_json::error::Category::Eof => "its JSON ends early",
            _ => "it is not JSON",
        };
        self.bad_answer(format!("{what} (line {}, column {})", error.line(), error.column()))
    }

    fn transport(&self, error: &reqwest::Error) -> ClientError {
        let host = self.host.clone();
        if let Some(fault) = tls::handshake_fault(error) {
            return ClientError::Handshake { host, fault };
        }
        if error.is_timeout() {
            let patience = if error.is_connect() { self.patience.connect } else { self.patience.answer };
            return ClientError::Timeout { host, seconds: patience.as_secs() };
        }
        if error.is_dns() {
            return ClientError::Unresolved { host };
        }
        let reason = root_cause(error);
        if error.is_connect() {
            return match io_kind(error) {
                Some(std::io::ErrorKind::ConnectionRefused) => ClientError::Refused { host },
                _ => ClientError::Unreachable { host, reason },
            };
        }
        ClientError::Interrupted { host, reason }
    }
}

/// Text of strangers, made fit for one line of a log: at most 200 characters, none of them control characters.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    printable(&cause.to_string())
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::http::{StatusCode, header};
    use axum::routing::{get, post};
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::http::{Limits, Problem, serve_tls};
    use crate::metrics::Metrics;
    use crate::shutdown::Shutdown;

    type Json = serde_json::Value;

    fn json(body: impl Into<Body>) -> ([(header::HeaderName, &'static str); 1], Body) {
        ([(header::CONTENT_TYPE, "application/json")], body.into())
    }

    fn endless() -> Body {
        Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024])))
    }

    fn router() -> Router {
        Router::new()
            .route(
                "/version",
                get(|request: axum::extract::Request| async move { json(format!("\"{:?}\"", request.version())) }),
            )
            .route(
                "/v1/info",
                get(|| async {
                    let later = SystemTime::now() + Duration::from_secs(3_600);
                    ([(header::DATE, httpdate::fmt_http_date(later))], "{}")
                }),
            )
            .route(
                "/v1/watermarks",
                post(|body: axum::body::Bytes| async move {
                    let asked: WatermarksRequest = serde_json::from_slice(&body).unwrap();
                    let reply = |key_id: u64| serde_json::json!({
                        "keyId": key_id.max(2).to_string(), "pubkey": format!("0x{}", "01".repeat(48)), "index": "1",
                        "maySign": true, "reason": null, "assignment": null,
                        "low": {"slot": null, "sourceEpoch": null, "targetEpoch": null},
                        "high": {"slot": "7", "sourceEpoch": null, "targetEpoch": null},
                    });
                    json(serde_json::json!({"responses": asked.key_ids.into_iter().map(reply).collect::<Vec<_>>()}).to_string())
                }),
            )
            .route("/echo", post(|body: axum::body::Bytes| async move { json(body) }))
            .route("/slow", get(std::future::pending::<()>))
            .route("/declared", get(|| async { json(vec![b' '; MAX_ANSWER_BYTES + 1]) }))
            .route("/endless", get(|| async { json(endless()) }))
            .route("/garbage", get(|| async { json("hunter2 is no JSON") }))
            .route("/wrong", get(|| async { json("\"hunter2\"") }))
            .route("/html", get(|| async { "<html>\"fine\"</html>" }))
            .route("/elsewhere", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/version")]) }))
            .route("/busy", get(|| async { Problem::unavailable(StatusCode::SERVICE_UNAVAILABLE, "a\nb", "wait") }))
    }

    struct Running {
        address: SocketAddr,
        fingerprint: Fingerprint,
        // Dropping it does not stop the server; the runtime of the test does.
        _shutdown: Shutdown,
    }

    fn start() -> Running {
        tls::install_provider().unwrap();
        let identity = Identity::generate("test").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let (config, stop) = (tls::server_config(&identity).unwrap(), shutdown.clone());
        let metrics = Arc::new(Metrics::new("test", "0"));
        tokio::spawn(async move { serve_tls(listener, router(), config, &metrics, Limits::default(), stop).await });
        Running { address, fingerprint: identity.fingerprint(), _shutdown: shutdown }
    }

    fn client_of(address: SocketAddr, fingerprint: Fingerprint) -> ServerClient {
        let peer = Peer { server_id: 1, endpoint: format!("https://{address}"), fingerprint };
        let patience = Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(2) };
        ServerClient::new(&Identity::generate("client").unwrap(), peer, patience).unwrap()
    }

    fn client(server: &Running) -> ServerClient {
        client_of(server.address, server.fingerprint)
    }

    #[tokio::test]
    async fn a_good_server_is_called_over_http_2_and_its_answer_read() {
        let server = start();
        let client = client(&server);
        assert_eq!(client.get::<String>("/version").await.unwrap(), "HTTP/2.0");
        let request = serde_json::json!({"messages": [1, 2]});
        assert_eq!(client.post::<_, Json>("/echo", &request).await.unwrap(), request);
    }

    #[tokio::test]
    async fn watermarks_of_another_key_are_not_taken_for_those_that_were_asked_for() {
        let server = start();
        let client = client(&server);
        let replies = client.watermarks(&[2, 3]).await.unwrap();
        let WatermarksReply::Known(marks) = &replies[1] else { panic!("{replies:?}") };
        assert_eq!((marks.key_id, marks.high.slot, marks.high.target_epoch), (3, Some(7), None));
        assert_eq!(client.watermarks(&[1, 3]).await.unwrap_err().kind(), "bad_answer", "it speaks of key 2");
    }

    #[tokio::test]
    async fn the_date_of_an_answer_says_how_far_our_clock_is_off() {
        let server = start();
        let offset = client(&server).clock_offset().await.unwrap().unwrap();
        assert!((offset + 3_600.0).abs() < 2.0, "its clock is an hour ahead: {offset}");
    }

    #[tokio::test]
    async fn a_server_with_another_certificate_than_the_chain_names_is_not_talked_to() {
        let server = start();
        let error = client_of(server.address, Fingerprint([9; 32])).get::<Json>("/version").await.unwrap_err();
        assert_eq!(error.kind(), "wrong_fingerprint", "{error}");
        assert!(error.to_string().contains(&server.fingerprint.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_huge_answer_is_cut_off_whether_it_declares_its_length_or_not() {
        let server = start();
        for path in ["/declared", "/endless"] {
            let error = client(&server).get::<Json>(path).await.unwrap_err();
            assert_eq!(error.kind(), "too_large", "{path}: {error}");
        }
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let error = client(&start()).get::<Json>("/slow").await.unwrap_err();
        assert!(matches!(error, ClientError::Timeout { seconds: 2, .. }), "{error}");
    }

    #[tokio::test]
    async fn garbage_is_refused_without_repeating_it() {
        let server = start();
        for path in ["/garbage", "/wrong", "/html"] {
            let error = client(&server).get::<Vec<u8>>(path).await.unwrap_err();
            assert_eq!(error.kind(), "bad_answer", "{path}: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let error = client(&start()).get::<Json>("/elsewhere").await.unwrap_err();
        assert!(matches!(error, ClientError::Status { status: 302, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_documented_refusal_comes_through_in_one_printable_line() {
        let error = client(&start()).get::<Json>("/busy").await.unwrap_err();
        let ClientError::Problem { status: 503, transient: true, reason, what_to_do, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((reason.as_str(), what_to_do.as_str()), ("a b", "wait"));
    }

    #[tokio::test]
    async fn a_closed_port_and_a_plain_or_old_server_are_told_apart() {
        tls::install_provider().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // First plain HTTP, then the alert of a server that knows no TLS 1.3, then nobody.
        let serving = tokio::spawn(async move {
            for answer in [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), &[21, 3, 3, 0, 2, 2, 70]] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
            }
        });
        let call = || async { client_of(address, Fingerprint([0; 32])).get::<Json>("/").await.unwrap_err() };
        assert!(matches!(call().await, ClientError::Handshake { fault: HandshakeFault::NotTls, .. }));
        assert!(matches!(call().await, ClientError::Handshake { fault: HandshakeFault::NoTls13, .. }));
        serving.await.unwrap();
        let error = call().await;
        assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
    }

    #[test]
    fn endpoints_that_are_no_https_host_are_refused_before_anything_is_sent() {
        for endpoint in ["http://127.0.0.1:1", "https://user:pass@host", "https://host/path", "file:///etc/passwd", ""]
        {
            let peer = Peer { server_id: 1, endpoint: endpoint.to_owned(), fingerprint: Fingerprint([0; 32]) };
            let identity = Identity::generate("client").unwrap();
            let error = ServerClient::new(&identity, peer, Patience::default()).unwrap_err();
            assert_eq!(error.kind(), "bad_endpoint", "{endpoint}: {error}");
        }
    }
}
