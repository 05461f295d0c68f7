//! TLS between programs: version 1.3 only, self-signed certificates, pinned by fingerprint.
//!
//! A server's certificate is whatever hashes (SHA-256 of its DER encoding) to the fingerprint in the server registry. No
//! certificate authority, no host name, no expiry date is consulted: the chain already said which key speaks for
//! the server, and a name or date check on top could only lock out the right one. A client must show a certificate so that
//! rate limits have something to hold on to; which one is its own affair, and it authorises nothing.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::secrets::{self, SecretError};

/// SHA-256 of a DER certificate, as in `Server.tlsFingerprint`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Fingerprint of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Another crypto provider was installed first; two of them panic at the first handshake.
    #[error("a TLS crypto provider is installed already; call install_provider once, first thing in main")]
    ProviderTaken,
    /// The key file.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificate file.
    #[error("cannot read TLS certificate {path}: {reason}")]
    Certificate {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Making a certificate failed.
    #[error("cannot make a TLS certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// rustls refuses certificate or key.
    #[error("TLS certificate and key cannot be used together: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Installs *ring* as the process's crypto provider. First thing in every `main`.
///
/// # Errors
/// When another provider is installed already. A second call of this function is fine.
pub fn install_provider() -> Result<(), TlsError> {
    if rustls::crypto::ring::default_provider().install_default().is_ok() {
        return Ok(());
    }
    // Ours, installed by an earlier call (tests in one process), is recognised by its random source.
    let ours = format!("{:?}", rustls::crypto::ring::default_provider().secure_random);
    match CryptoProvider::get_default() {
        Some(installed) if format!("{:?}", installed.secure_random) == ours => Ok(()),
        _ => Err(TlsError::ProviderTaken),
    }
}

/// A certificate with its private key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Identity {
    /// A fresh P-256 key and a self-signed certificate for `name` (which nobody checks).
    ///
    /// # Errors
    /// When the random source fails.
    pub fn generate(name: &str) -> Result<Self, TlsError> {
        let (certificate, key) = make(name)?;
        let key =
            PrivateKeyDer::try_from(key.serialize_der()).map_err(|text| rustls::Error::General(text.to_owned()))?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }

    /// Makes a new identity and writes it as two new PEM files, the key with mode 0600. Existing files stay.
    ///
    /// # Errors
    /// File errors; either file exists.
    pub fn create(name: &str, certificate_path: &Path, key_path: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = make(name)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        secrets::write_new(key_path, key_pem.as_bytes())?;
        secrets::write_new(certificate_path, certificate.pem().as_bytes())?;
        Self::load(certificate_path, key_path)
    }

    /// Reads certificate and key, both PEM; the key file must be readable by its owner only.
    ///
    /// # Errors
    /// File errors, wrong permissions, not PEM.
    pub fn load(certificate_path: &Path, key_path: &Path) -> Result<Self, TlsError> {
        let bad = |reason: String| TlsError::Certificate { path: certificate_path.to_owned(), reason };
        let pem = stkr_files::read(certificate_path, secrets::MAX_SECRET_BYTES).map_err(|error| bad(error.reason()))?;
        let certificate =
            CertificateDer::from_pem_slice(&pem).map_err(|_| bad("it holds no PEM certificate".to_owned()))?;
        let key_pem = secrets::read(key_path)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|_| SecretError::Malformed { path: key_path.to_owned(), expected: "a private key in PEM" })?;
        Ok(Self { certificate, key })
    }

    /// Fingerprint of the certificate: what is registered on-chain.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The certificate in DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }
}

fn make(name: &str) -> Result<(rcgen::Certificate, rcgen::KeyPair), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()])?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = parameters.self_signed(&key)?;
    Ok((certificate, key))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Server side: TLS 1.3, HTTP/2 (HTTP/1.1 for a person with curl), any client certificate but not none.
///
/// # Errors
/// When key and certificate do not belong together.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = AnyClient { algorithms: provider().signature_verification_algorithms };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // No early data: a replayed request is harmless here, but nobody needs it either.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Server side for programs that know nothing of Stkr (validator clients): TLS 1.3, no client certificate.
///
/// # Errors
/// When key and certificate do not belong together.
pub fn open_server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Client side: TLS 1.3, shows `identity`, accepts exactly the certificate with fingerprint `pinned`.
///
/// # Errors
/// When the identity's key and certificate do not belong together.
pub fn client_config(identity: &Identity, pinned: Fingerprint) -> Result<ClientConfig, TlsError> {
    let verifier = Pinned { pinned, algorithms: provider().signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // The name in an endpoint is not secret, but no server needs it: certificates are found by fingerprint.
    config.enable_sni = false;
    // Tickets would let a server resume after it rotated its certificate, past the pin.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The server showed another certificate than the chain names.
#[derive(Debug, thiserror::Error)]
#[error(
    "server shows certificate {presented}, the registry says {expected}; its operator has to register the new certificate, or somebody is in between"
)]
pub struct WrongFingerprint {
    /// Fingerprint on-chain.
    pub expected: Fingerprint,
    /// Fingerprint of the certificate shown.
    pub presented: Fingerprint,
}

/// What went wrong in a handshake, in words a person can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFault {
    /// See [`WrongFingerprint`].
    #[error(
        "server shows certificate {presented}, the registry says {expected}; its operator has to register the new certificate, or somebody is in between"
    )]
    WrongFingerprint {
        /// Fingerprint on-chain.
        expected: Fingerprint,
        /// Fingerprint of the certificate shown.
        presented: Fingerprint,
    },
    /// An older protocol.
    #[error("server speaks no TLS 1.3; it is not a stkr-server, or something in between downgrades the connection")]
    NoTls13,
    /// Not TLS at all.
    #[error("server does not speak TLS; it is not a stkr-server, or the port is wrong")]
    NotTls,
    /// The server wants a certificate and got none.
    #[error("server refused the connection because no client certificate was shown")]
    NoClientCertificate,
}

/// Finds the TLS fault inside an error chain (for example of `reqwest`); `None` if the cause lies elsewhere.
pub fn handshake_fault(error: &(dyn StdError + 'static)) -> Option<HandshakeFault> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(fault) = cause.downcast_ref::<rustls::Error>().and_then(classify) {
            return Some(fault);
        }
        // io::Error hides what it wraps from source(); and HTTP/2 keeps only the words of an alert that comes after the
        // client's side of the handshake is done, as this one always does.
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            if let Some(fault) = io.get_ref().and_then(|inner| handshake_fault(inner as &(dyn StdError + 'static))) {
                return Some(fault);
            }
            if io.to_string().contains("alert: CertificateRequired") {
                return Some(HandshakeFault::NoClientCertificate);
            }
        }
        next = cause.source();
    }
    None
}

fn classify(error: &rustls::Error) -> Option<HandshakeFault> {
    use rustls::{AlertDescription, Error, InvalidMessage};
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner
            .downcast_ref::<WrongFingerprint>()
            .map(|fault| HandshakeFault::WrongFingerprint { expected: fault.expected, presented: fault.presented }),
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            Some(HandshakeFault::NoTls13)
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => Some(HandshakeFault::NoClientCertificate),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(HandshakeFault::NotTls),
        _ => None,
    }
}

/// Why an endpoint cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// `http://`.
    #[error("endpoint {0} is plain HTTP; servers are called over TLS 1.3 only, write https://")]
    PlainHttp(String),
    /// Anything else that is not `https://host[:port]` (or `host:port`).
    #[error("endpoint {0} is not of the form https://host:port")]
    Malformed(String),
}

/// The base URL of a server from its registered endpoint: `https://host:port`, or just `host:port`.
///
/// Endpoints come from the chain, where any operator writes what it likes: credentials, paths and queries are refused.
///
/// # Errors
/// Everything that is not HTTPS to a host.
pub fn endpoint_url(endpoint: &str) -> Result<url::Url, EndpointError> {
    // Operators write what they like: what is echoed into logs is short and printable.
    let shown: String = endpoint.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    if endpoint.len() > 253 {
        return Err(EndpointError::Malformed(shown));
    }
    let with_scheme = if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    let url = url::Url::parse(&with_scheme).map_err(|_| EndpointError::Malformed(shown.clone()))?;
    if url.scheme() == "http" {
        return Err(EndpointError::PlainHttp(shown));
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if url.scheme() != "https" || !url.has_host() || !bare || !anonymous {
        return Err(EndpointError::Malformed(shown));
    }
    Ok(url)
}

#[derive(Debug)]
struct Pinned {
    pinned: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Fingerprint::of(end_entity);
        if presented == self.pinned {
            return Ok(ServerCertVerified::assertion());
        }
        let fault = WrongFingerprint { expected: self.pinned, presented };
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault)))))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    // The pin says which certificate; this says that the peer holds its key. Without it a copied certificate would do.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct AnyClient {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_identity_keeps_its_fingerprint_and_hides_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let made = Identity::create("stkr-server", &certificate, &key).unwrap();
        let loaded = Identity::load(&certificate, &key).unwrap();
        assert_eq!(made.fingerprint(), loaded.fingerprint());
        assert!(Identity::create("stkr-server", &certificate, &key).is_err(), "never overwritten");
        let pem = std::fs::read_to_string(&key).unwrap();
        let secret_line = pem.lines().nth(1).unwrap();
        assert!(!format!("{loaded:?}").contains(secret_line));
        server_config(&loaded).unwrap();
        client_config(&loaded, made.fingerprint()).unwrap();
    }

    #[test]
    fn endpoints_other_than_https_to_a_host_are_refused() {
        assert_eq!(endpoint_url("127.0.0.1:7000").unwrap().as_str(), "https://127.0.0.1:7000/");
        assert_eq!(endpoint_url("https://server.example").unwrap().as_str(), "https://server.example/");
        let plain = endpoint_url("http://127.0.0.1:7000").unwrap_err();
        assert!(matches!(plain, EndpointError::PlainHttp(_)) && plain.to_string().contains("TLS 1.3 only"));
        for bad in
            ["", "https://", "ftp://a", "https://user:pw@a", "https://a/path", "https://a?q", "https://a#f", "a b"]
        {
            assert!(matches!(endpoint_url(bad), Err(EndpointError::Malformed(_))), "{bad}");
        }
        assert!(endpoint_url(&"a".repeat(300)).is_err());
    }
}
