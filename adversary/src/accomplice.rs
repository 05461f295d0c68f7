//! A server that signs whatever it is asked for: truly, and then it is one of the f of the quorum bound, or with something that is
//! no partial signature of its share, in an envelope that is honestly signed.

use axum::routing::post;
use axum::{Json, Router};
use eyre::{Result, WrapErr as _};
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
    /// That of a share which nobody ever dealt.
    WrongShare,
    /// A point of the curve outside the subgroup: whoever checks the curve alone takes it for a signature.
    OutsideSubgroup,
    /// Its partial without the last byte: whoever reads 256 bytes or nothing takes it for silence.
    WrongLength,
}

/// y of the point of G2's curve with x = 2, of which r times is not infinity: c0, c1, each padded to 64 bytes.
const OUTSIDE_Y: &str = concat!(
    "0000000000000000000000000000000018c6b864ae17dc9da64203ffefb966306425a7bc6aeb7c75247438372716284a4173830420cd476ba1a365b95bfcec38",
    "00000000000000000000000000000000172e93db764a8400a7d5071b6b6f5de0da2f0f4a063119abca014006b7c40a2cfe291a1924e65db0d6d0fcfbf3bf3d5c",
);

struct Accomplice {
    lie: Lie,
    domain: ProtocolDomain,
    schedule: Option<ForkSchedule>,
    key: SignerKey,
    share: SecretShare,
    outside: [u8; 256],
}

/// Serves in the place of the honest server whose configuration this is: same certificate, signer key, port and share of key
/// `key_id`, no slashing protection and no question who asks. Ends with the process.
///
/// # Errors
/// When the configuration or its files cannot be used, or the port is taken.
pub async fn serve(config: &Path, key_id: u64, lie: Lie) -> Result<()> {
    let config: ServerConfig = config::load(config)?;
    let deployment = Deployment::load(&config.chain.deployment)?;
    let own = own_share(&config, key_id)?;
    let share = match lie {
        // Any scalar below r that is not the share: 0x2a repeated.
        Lie::WrongShare => SecretShare::from_bytes(own.index(), &[0x2a; 32])?,
        Lie::None | Lie::OutsideSubgroup | Lie::WrongLength => own,
    };
    let accomplice = Arc::new(Accomplice {
        lie,
        domain: ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry },
        schedule: config.schedule()?,
        key: SignerKey::from_bytes(&*secrets::read_hex32(&config.files.signer_key)?)?,
        share,
        outside: outside_the_subgroup()?,
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

fn outside_the_subgroup() -> Result<[u8; 256]> {
    let mut point = [0; 256];
    let (x, y) = point.split_at_mut(128);
    x[63] = 2;
    hex::decode_to_slice(OUTSIDE_Y, y)?;
    Ok(point)
}

impl Accomplice {
    fn sign(&self, subject: &Subject) -> SignedPartial {
        let index = self.share.index();
        let own = self.share.sign(&subject.signing_root().0).signature.to_eip2537();
        let partial = match self.lie {
            Lie::None | Lie::WrongShare => own.to_vec(),
            Lie::OutsideSubgroup => self.outside.to_vec(),
            Lie::WrongLength => own[..255].to_vec(),
        };
        let envelope = subject.envelope(0, index, &partial).sign(&self.domain, &self.key);
        SignedPartial { partial, envelope, index, committee_epoch: 0 }
    }
}

fn answer(accomplice: &Accomplice, batch: &SignBatch) -> SignReplies {
    SignReplies { responses: batch.requests.iter().map(|request| signed(accomplice, request)).collect() }
}

fn signed(accomplice: &Accomplice, request: &SignRequest) -> SignResponse {
    let subject = match request {
        SignRequest::Deposit(deposit) => deposit.subject(),
        SignRequest::Change(change) => change.subject(),
        SignRequest::Duty(duty) => {
            let Some(schedule) = &accomplice.schedule else {
                return SignResponse::refused(Refusal::denied("this server knows no beacon chain", "Nothing."));
            };
            match duty.check(schedule) {
                Ok(checked) => *checked.subject(),
                Err(refusal) => return SignResponse::refused(refusal),
            }
        }
    };
    SignResponse::Signed(accomplice.sign(&subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_a_point_that_only_the_subgroup_check_refuses() {
        let refused = stkr_core::Signature::from_eip2537(&outside_the_subgroup().unwrap());
        assert_eq!(refused.unwrap_err(), stkr_core::PointError::NotInSubgroup);
    }
}
