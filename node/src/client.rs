//! Typed client of the server API: HTTP/2 over TLS 1.3, pinned to the fingerprint on the chain.
//!
//! A server is a stranger: its endpoint is text that an operator wrote into an event, its answer may be slow, huge or
//! garbage. So nothing is followed (no redirect, no proxy, no other certificate), every wait ends, at most
//! [`MAX_ANSWER_BYTES`] of an answer are read, and whatever goes wrong becomes a [`ClientError`] that says what it was
//! and who can mend it.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

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
    #[error("{host} answers with status {status} and no reason; it is not a stkr-server or something stands in between")]
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
            Self::BadAnswer { .. } => "bad_answer",
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

    /// Whom this client talks to.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// POSTs `request` as JSON and reads a JSON answer.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first two.
    pub async fn post<Q: Serialize + Sync, A: DeserializeOwned>(&self, path: &str, request: &Q) -> Result<A, ClientError> {
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
