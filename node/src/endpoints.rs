//! The RPC endpoints of a daemon at its start.

use stkr_chain::{ChainError, Deployment, Endpoint};

use crate::config::{ChainConfig, rpc_host};
use crate::exit::{Exit, Failure};

/// Connects to every endpoint and checks that it serves this deployment. One that cannot be reached now is left out; one
/// that serves another chain is a mistake to be mended.
///
/// # Errors
/// Unavailable if none can be used, unsafe for another chain or contract, usage for URLs that cannot be read.
pub async fn usable_endpoints(config: &ChainConfig, deployment: &Deployment) -> eyre::Result<Vec<Endpoint>> {
    let mut good = Vec::new();
    let mut last = String::from("none is configured");
    for url in config.endpoints().map_err(Failure::usage)? {
        let checked = async {
            let endpoint = Endpoint::connect(&url).await?;
            deployment.check_chain(&endpoint).await?;
            Ok::<_, ChainError>(endpoint)
        };
        match checked.await {
            Ok(endpoint) => good.push(endpoint),
            Err(error) if error.is_transient() => {
                tracing::warn!(rpc = rpc_host(&url), error = %error, "an RPC endpoint cannot be used now and is left out");
                last = error.to_string();
            }
            Err(error) => {
                let exit = if error.is_wrong_deployment() { Exit::Unsafe } else { Exit::Usage };
                return Err(Failure::new(exit, format!("RPC endpoint {}: {error}", rpc_host(&url))).into());
            }
        }
    }
    if good.is_empty() {
        return Err(Failure::unavailable(format!("no RPC endpoint can be used: {last}")).into());
    }
    Ok(good)
}
