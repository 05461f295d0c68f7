//! A server that signs whatever it is asked for, under its real share: one of the f of the quorum bound.

use axum::routing::post;
use axum::{Json, Router};
use eyre::{Result, WrapErr as _, eyre};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use stkr_chain::Deployment;
use stkr_core::keystore::{Keystore, StoreKey};
use stkr_core::{PublicKey, SecretShare, ShareIndex};
use stkr_duties::ForkSchedule;
use stkr_node::{config, secrets};
use stkr_protocol::api::{SignBatch, SignReplies};
use stkr_protocol::sign::{Refusal, SignRequest, SignResponse, SignedPartial, Subject};
use stkr_protocol::{ProtocolDomain, SignerKey};
use stkr_server::config::ServerConfig;

use crate::front;

/// What it sends for a partial signature. The envelope around it is always its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Lie {
    /// Its partial.
    #[default]
    None,
    /// A point that is no signature of its share over this root.
    WrongPoint,
    /// Bytes that are no point.
    NoPoint,
}

struct Accomplice {
    lie: Lie,
    domain: ProtocolDomain,
    schedule: ForkSchedule,
    key: SignerKey,
    share: SecretShare,
}

/// Serves in the place of the honest server whose configuration this is: same certificate, signer key, port and share of key
/// `key_id`, no slashing protection and no question who asks. Ends with the process.
///
/// # Errors
/// When the configuration or its files cannot be used, or the port is taken.
pub async fn serve(config: &Path, key_id: u64, lie: Lie) -> Result<()> {
    let config: ServerConfig = config::load(config)?;
    let deployment = Deployment::load(&config.chain.deployment)?;
    let accomplice = Arc::new(Accomplice {
        lie,
        domain: ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry },
        schedule: config.schedule()?.ok_or_else(|| eyre!("the server knows no beacon chain"))?,
        key: SignerKey::from_bytes(&*secrets::read_hex32(&config.files.signer_key)?)?,
        share: own_share(&config, key_id)?,
    });
    let router = Router::new()
        .route("/v1/sign", post(move |Json(batch): Json<SignBatch>| async move { Json(answer(&accomplice, &batch)) }));
    front::serve(&config, router).await
}

/// The share that this server's own files hold.
fn own_share(config: &ServerConfig, key_id: u64) -> Result<SecretShare> {
    let password = secrets::read_text(&config.files.store_password)?;
    let wrapped = Keystore::from_json(&std::fs::read_to_string(&config.files.store_keystore)?)?;
    let store_key = StoreKey::open(&wrapped, &password)?;
    let database = Connection::open_with_flags(&config.files.database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT share_index, share_key, keystore FROM share WHERE key_id = ?1";
    let (index, share_key, keystore): (u8, [u8; 48], String) = database
        .query_row(sql, [i64::try_from(key_id)?], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .wrap_err_with(|| format!("the share of key {key_id} in {}", config.files.database.display()))?;
    let share_key = PublicKey::from_compressed(&share_key)?;
    Ok(store_key.open_share(&Keystore::from_json(&keystore)?, ShareIndex::new(index)?, &share_key)?)
}

impl Accomplice {
    fn sign(&self, subject: &Subject) -> SignedPartial {
        let index = self.share.index();
        let root = subject.signing_root().0;
        let partial = match self.lie {
            Lie::None => self.share.sign(&root).signature.to_eip2537(),
            Lie::WrongPoint => {
                let mut other = root;
                other[0] ^= 1;
                self.share.sign(&other).signature.to_eip2537()
            }
            Lie::NoPoint => [0xff; 256],
        };
        let envelope = subject.envelope(0, index, &partial).sign(&self.domain, &self.key);
        SignedPartial { partial, envelope, index, committee_epoch: 0 }
    }
}

fn answer(accomplice: &Accomplice, batch: &SignBatch) -> SignReplies {
    let sign = |request: &SignRequest| {
        let SignRequest::Duty(duty) = request else {
            return SignResponse::refused(Refusal::denied("this adversary signs duties only", "Nothing."));
        };
        match duty.check(&accomplice.schedule) {
            Ok(checked) => SignResponse::Signed(accomplice.sign(checked.subject())),
            Err(refusal) => SignResponse::refused(refusal),
        }
    };
    SignReplies { responses: batch.requests.iter().map(sign).collect() }
}
