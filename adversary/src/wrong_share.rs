//! A server that answers under another share: its envelopes are honestly signed, its partial signatures belong to a
//! share that nobody ever dealt.

use axum::Json;
use axum::Router;
use axum::routing::post;
use eyre::Result;
use std::path::Path;
use std::sync::Arc;
use stkr_chain::Deployment;
use stkr_core::{SecretShare, ShareIndex};
use stkr_node::{config, secrets};
use stkr_protocol::api::{SignBatch, SignReplies};
use stkr_protocol::sign::{Refusal, SignRequest, SignResponse, SignedPartial};
use stkr_protocol::{ProtocolDomain, SignerKey};
use stkr_server::config::ServerConfig;

use crate::front;

struct Liar {
    domain: ProtocolDomain,
    key: SignerKey,
    share: SecretShare,
}

/// Serves in the place of the honest server whose configuration this is: same certificate, signer key and port, wrong
/// share. Ends with the process.
///
/// # Errors
/// When the configuration or its files cannot be used, or the port is taken.
pub async fn serve(config: &Path, index: ShareIndex) -> Result<()> {
    let config: ServerConfig = config::load(config)?;
    let deployment = Deployment::load(&config.chain.deployment)?;
    let liar = Arc::new(Liar {
        domain: ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry },
        key: SignerKey::from_bytes(&*secrets::read_hex32(&config.files.signer_key)?)?,
        // Any scalar below r that is not the share: 0x2a repeated.
        share: SecretShare::from_bytes(index, &[0x2a; 32])?,
    });
    let router = Router::new()
        .route("/v1/sign", post(move |Json(batch): Json<SignBatch>| async move { Json(answer(&liar, &batch)) }));
    front::serve(&config, router).await
}

fn answer(liar: &Liar, batch: &SignBatch) -> SignReplies {
    let responses = batch
        .requests
        .iter()
        .map(|request| {
            let SignRequest::Deposit(deposit) = request else {
                return SignResponse::refused(Refusal::denied("this adversary signs deposits only", "Nothing."));
            };
            let subject = deposit.subject();
            let partial = liar.share.sign(&subject.signing_root().0);
            SignResponse::Signed(SignedPartial::new(&subject, &liar.domain, &liar.key, 0, &partial))
        })
        .collect();
    SignReplies { responses }
}
