//! The front of an adversary in an honest server's place: same certificate and port.

use axum::Router;
use axum::routing::get;
use eyre::{Result, WrapErr as _};
use std::sync::Arc;
use std::time::Duration;
use stkr_node::http::{self, Limits};
use stkr_node::metrics::Metrics;
use stkr_node::shutdown::Shutdown;
use stkr_node::tls;
use stkr_server::config::ServerConfig;

/// Serves `router` as the server of this configuration would. Ends with the process.
///
/// # Errors
/// When the certificate cannot be used, or the port is taken.
pub async fn serve(config: &ServerConfig, router: Router) -> Result<()> {
    let identity = tls::Identity::load(&config.files.tls_certificate, &config.files.tls_key)?;
    let metrics = Arc::new(Metrics::new("stkr-adversary", env!("CARGO_PKG_VERSION")));
    let router = router.route("/livez", get(|| async { "ok" }));
    let router = http::standard(router, Arc::clone(&metrics), Duration::from_secs(10));
    let listener = std::net::TcpListener::bind(config.listen.address).wrap_err("listen")?;
    listener.set_nonblocking(true)?;
    http::print_ready(listener.local_addr()?)?;
    let shutdown = Shutdown::install(false)?;
    Ok(http::serve_tls(listener, router, tls::server_config(&identity)?, &metrics, Limits::default(), shutdown).await?)
}
