//! Shares and one-time secrets whose time is over are erased: who takes the disk of an old member later must not find a share of a live
//! key on it.
//!
//! [`stkr_protocol::handover`] says when, by finalised blocks on which all endpoints of this server agree. There is no way back, so
//! there is a second look: the share of a committee whose turn it is, or is to be, stays whatever else is shown.

use std::cmp::Ordering;
use std::sync::Arc;

use stkr_chain::facts::committee::ProvenCommittee;
use stkr_chain::{ChainError, KeyCommittees};
use stkr_protocol::handover::KEEP_PAST_SHARES;

use crate::chain::ChainView;
use crate::duties::Duties;
use crate::store::{ShareRow, Store};

/// Erases what is to be erased at the newest finalised block that was looked at; returns how many shares that were.
///
/// # Errors
/// Chain or database; what was erased stays erased, and the next call goes on.
pub async fn erase(store: &Arc<Store>, chain: &ChainView, duties: Option<&Duties>) -> eyre::Result<u64> {
    if let Some(time) = chain.finalised_time() {
        store.erase_reshare_secrets(time)?;
    }
    let mut count = 0;
    for key_id in chain.reshared() {
        for share in store.shares(key_id)? {
            // One that was read may be older than the newest: then the next block erases.
            if is_over(&*committees(chain, key_id).await?, &share) {
                stkr_kill_points::may_end_at("server.share_unerased");
                store.erase_share(key_id, &share)?;
                stkr_kill_points::may_end_at("server.share_erased");
                if let Some(duties) = duties {
                    duties.forget(key_id, share.share_key);
                }
                count += 1;
                let (committee_epoch, attempt) = (share.origin.committee_epoch, share.origin.attempt);
                tracing::info!(key_id, committee_epoch, attempt, index = share.index.get(), "share erased");
            }
        }
    }
    Ok(count)
}

async fn committees(chain: &ChainView, key_id: u64) -> Result<Arc<KeyCommittees>, ChainError> {
    chain.finalised_committees(key_id).await
}

/// Whether nobody will ever sign with this share again.
#[must_use]
pub fn is_over(shown: &KeyCommittees, share: &ShareRow) -> bool {
    let Ok(view) = shown.view() else { return false };
    view.is_to_be_erased(share.origin) && !may_still_sign(shown, share)
}

/// The same for a machine without network, by what a block proves that a person compared.
///
/// It is [`is_over`] without the number of the attempt that made the committee, which no state holds: of two shares of one committee epoch
/// that is the committee's whose share key stands in its leaves.
#[must_use]
pub fn is_over_as_proven(proven: &ProvenCommittee, share: &ShareRow) -> bool {
    let time = proven.block.timestamp;
    let is_of_it = || proven.live.keys.share_keys().iter().any(|key| key.to_compressed() == share.share_key);
    match share.origin.committee_epoch.cmp(&proven.committee_epoch) {
        Ordering::Greater => time > share.origin.deadline,
        Ordering::Equal => !is_of_it(),
        // The newest committee's handover is the last, and so not before that of the one after the share's.
        Ordering::Less => time >= proven.handover.saturating_add(KEEP_PAST_SHARES),
    }
}

fn may_still_sign(shown: &KeyCommittees, share: &ShareRow) -> bool {
    let is_in = |term: &&stkr_chain::CommitteeTerm| {
        term.committee.keys().share_keys().iter().any(|key| key.to_compressed() == share.share_key)
    };
    let Some(term) = shown.terms.iter().find(is_in) else { return false };
    let mut later = shown.terms.iter().filter(|other| other.committee.epoch() > term.committee.epoch());
    later.all(|next| shown.block.timestamp < next.handover.saturating_add(KEEP_PAST_SHARES))
}
