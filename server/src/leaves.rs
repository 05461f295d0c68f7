//! Which signer the leaf of each stored share names: what tells an operator when the file of an earlier signer key may go.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::Address;
use stkr_chain::ChainError;
use stkr_chain::types::KeyState;

use crate::chain::ChainView;
use crate::store::{ShareRow, Store};

/// Keys of which this server has a share whose leaf names the signer; one entry for each signer and committee of a key.
pub type Leaves = BTreeMap<Address, BTreeSet<(u64, u32)>>;

/// Looks through all stored shares. Those that no committee in finalised blocks has, of an attempt that failed or is not final, have no
/// leaf, and nothing is signed with those of a retired key.
///
/// # Errors
/// Chain or database.
pub async fn look(store: &Store, chain: &ChainView) -> eyre::Result<Leaves> {
    let dealt: BTreeSet<[u8; 48]> = store.dealt_shares()?.iter().map(|share| share.group_key).collect();
    let mut leaves = Leaves::new();
    for (key_id, share) in store.all_shares()? {
        // 0: a dealt key before the chain knows it. It has a row of its own from then on.
        let leaf = match key_id {
            0 => None,
            _ if dealt.contains(&share.group_key) => leaf_of_dealt(chain, key_id, &share).await?,
            _ => leaf(chain, key_id, &share).await?,
        };
        if let Some(signer) = leaf {
            leaves.entry(signer).or_default().insert((key_id, share.origin.committee_epoch));
        }
    }
    Ok(leaves)
}

async fn leaf(chain: &ChainView, key_id: u64, share: &ShareRow) -> Result<Option<Address>, ChainError> {
    let shown = match chain.finalised_committees(key_id).await {
        Err(ChainError::NotFound(_)) => return Ok(None),
        shown => shown?,
    };
    if matches!(shown.key.state, KeyState::Retired | KeyState::Burned) {
        return Ok(None);
    }
    let is_in = |at: &&stkr_chain::CommitteeTerm| {
        let key = at.committee.keys().share_key(share.index);
        key.is_some_and(|key| key.to_compressed() == share.share_key)
    };
    let member = shown.terms.iter().find(is_in).and_then(|term| term.committee.members().get(share.index.position()));
    Ok(member.map(|member| member.signer))
}

async fn leaf_of_dealt(chain: &ChainView, key_id: u64, share: &ShareRow) -> Result<Option<Address>, ChainError> {
    let live = match chain.reader().live_key(key_id).await {
        Err(ChainError::NotFound(_)) => return Ok(None),
        live => live?,
    };
    Ok(live.members.iter().find(|member| member.index == share.index).map(|member| member.signer))
}
