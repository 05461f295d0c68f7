//! t members of a committee, hacked at once, sign a deposit to somebody else's withdrawal credentials.
//!
//! The files of t servers are all it takes, and no less: with t - 1 of them [`foreign_deposit`] fails. The pool's answer
//! is the challenge window, in which anyone shows the signature and burns the key.

use alloy::primitives::{Address, B256};
use eyre::{Result, WrapErr as _, eyre};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use stkr_chain::Deployment;
use stkr_core::keystore::{Keystore, StoreKey};
use stkr_core::{CommitteeKeys, PublicKey, SecretShare, ShareIndex, Signature, Threshold};
use stkr_duties::{DepositMessage, eth1_withdrawal_credentials};
use stkr_node::{config, secrets};
use stkr_server::config::{FilesConfig, ServerConfig};

/// Length of a G1 point in EIP-2537 encoding.
const POINT: usize = 128;

/// A deposit that no pool ordered, validly signed by the group key.
#[derive(Clone, Debug)]
pub struct ForeignDeposit {
    /// 0x01 credentials of the thief.
    pub withdrawal_credentials: B256,
    /// Gwei.
    pub amount_gwei: u64,
    /// By the group key.
    pub signature: Signature,
}

/// Signs a deposit to the thief with the shares that the servers `hacked` (index, configuration file) hold of key
/// `key_id`. `points` as in the event KeyFinalised: n share keys, then the group key.
///
/// # Errors
/// When fewer than t shares can be read.
pub fn foreign_deposit(
    deployment: &Deployment,
    key_id: u64,
    points: &[u8],
    (t, n): (u8, u8),
    hacked: &[(u8, PathBuf)],
) -> Result<ForeignDeposit> {
    let keys = committee_keys(points, Threshold::new(t, n)?)?;
    let thief = Address::repeat_byte(0x7e);
    let message = DepositMessage {
        pubkey: keys.group_key().to_compressed(),
        withdrawal_credentials: eth1_withdrawal_credentials(thief),
        amount_gwei: 1_000_000_000,
    };
    let root = message.signing_root(deployment.genesis_fork_version.0);
    let partials = hacked
        .iter()
        .map(|(index, config)| Ok(steal_share(config, key_id, ShareIndex::new(*index)?, &keys)?.sign(&root.0)))
        .collect::<Result<Vec<_>>>()?;
    let combined = keys.combine(&root.0, &partials).wrap_err("combine the stolen shares' signatures")?;
    Ok(ForeignDeposit {
        withdrawal_credentials: message.withdrawal_credentials,
        amount_gwei: message.amount_gwei,
        signature: combined.signature,
    })
}

/// What the shares that these machines hold of a t-of-n key make of `root`: a signature of the group, if they are t.
///
/// # Errors
/// When they are fewer than t, or one is not that of its index.
pub fn stolen_signature(
    (key_id, points): (u64, &[u8]),
    (t, n): (u8, u8),
    root: B256,
    hacked: &[(u8, FilesConfig)],
) -> Result<Signature> {
    let keys = committee_keys(points, Threshold::new(t, n)?)?;
    let sign = |(index, files): &(u8, FilesConfig)| {
        Ok(share_in(files, key_id, ShareIndex::new(*index)?, &keys)?.sign(&root.0))
    };
    let partials = hacked.iter().map(sign).collect::<Result<Vec<_>>>()?;
    Ok(keys.combine(&root.0, &partials).wrap_err("combine the stolen shares' signatures")?.signature)
}

fn committee_keys(points: &[u8], threshold: Threshold) -> Result<CommitteeKeys> {
    let mut keys = points.chunks(POINT).map(PublicKey::from_eip2537).collect::<Result<Vec<_>, _>>()?;
    let group_key = keys.pop().ok_or_else(|| eyre!("no points"))?;
    Ok(CommitteeKeys::new(threshold, group_key, keys)?)
}

/// What a thief with a copy of a server's folder gets: its share of one key.
fn steal_share(config: &Path, key_id: u64, index: ShareIndex, keys: &CommitteeKeys) -> Result<SecretShare> {
    let config: ServerConfig = config::load(config)?;
    share_in(&config.files, key_id, index, keys)
}

fn share_in(files: &FilesConfig, key_id: u64, index: ShareIndex, keys: &CommitteeKeys) -> Result<SecretShare> {
    let password = secrets::read_text(&files.store_password)?;
    let wrapped = Keystore::from_json(&std::fs::read_to_string(&files.store_keystore)?)?;
    let store_key = StoreKey::open(&wrapped, &password)?;
    let database = Connection::open_with_flags(&files.database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let json: String = database
        .query_row("SELECT keystore FROM share WHERE key_id = ?1", [i64::try_from(key_id)?], |row| row.get(0))
        .wrap_err_with(|| format!("the share of key {key_id} in {}", files.database.display()))?;
    let share_key = keys.share_key(index).ok_or_else(|| eyre!("no share {index}"))?;
    Ok(store_key.open_share(&Keystore::from_json(&json)?, index, share_key)?)
}
