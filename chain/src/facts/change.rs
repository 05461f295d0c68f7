//! What the chain says about a change of credentials that a withdrawal key was ordered to sign, for a machine without network.
//!
//! As with a ceremony, everything leads to one block's hash: the key's two slots (it is Live, a withdrawal key of this deployment, and
//! the root of its share leaves), one slot of `isOrdered` for each change, and the slot of `WithdrawalKeys` that names the one
//! pool that uses the key. The committee with its points rebuilds the root. The vault follows from the pool's id.

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::{DynProvider, Provider},
    rpc::types::EIP1186AccountProofResponse,
    sol_types::SolValue as _,
};
use serde::{Deserialize, Serialize};

use super::{FactsError, ProvenBlock, Storage, key_of, key_slots};
use crate::{
    bindings::KeyRegistry,
    deployment::Deployment,
    endpoint::ask,
    errors::ChainError,
    header,
    keys::LiveKey,
    reader::KeyInfo,
    types::{KeyKind, KeyState},
};

/// `KeyRegistry.isOrdered` (`forge inspect KeyRegistry storage-layout`).
const ORDERS_SLOT: u64 = 7;
/// `WithdrawalKeys._keys`.
const WITHDRAWAL_KEYS_SLOT: u64 = 0;

/// A withdrawal key and what it was ordered to sign, in a block.
#[derive(Clone, Debug)]
pub struct ProvenChanges {
    /// The block.
    pub block: ProvenBlock,
    /// The key: Live, a withdrawal key.
    pub key: KeyInfo,
    /// Committee and points.
    pub live: LiveKey,
    /// The pool that uses it.
    pub pool_id: u64,
}

/// Header and proofs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeFacts {
    /// RLP of the block's header.
    pub header: Bytes,
    /// Server ids in index order.
    pub committee: Vec<u32>,
    /// Signer of each member, as its leaf has it.
    pub signers: Vec<Address>,
    /// n share keys in index order, then the group key, 128 bytes each.
    pub points: Bytes,
    /// The KeyRegistry, the key's two slots and one of `isOrdered` for each change.
    pub key_registry: EIP1186AccountProofResponse,
    /// The WithdrawalKeys and the key's slot.
    pub withdrawal_keys: EIP1186AccountProofResponse,
}

impl ChangeFacts {
    /// What they prove, if the hash of the block in the answer is that of a final one: that the key was ordered to sign each of
    /// `roots`.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn verify(&self, deployment: &Deployment, key_id: u64, roots: &[B256]) -> Result<ProvenChanges, FactsError> {
        let (block, state_root) = ProvenBlock::of_header(&self.header)?;
        let keys = Storage::of("the KeyRegistry", state_root, deployment.key_registry, &self.key_registry)?;
        let [first, second] = key_slots(key_id);
        let key = key_of(key_id, keys.word(first)?, keys.word(second)?)?;
        if key.state != KeyState::Live || key.kind != KeyKind::Withdrawal {
            let (state, kind) = (key.state, key.kind);
            return Err(FactsError::NoWithdrawalKey { block: block.number, key_id, state, kind });
        }
        for root in roots {
            // A bool in a word of its own.
            if keys.word(order_slot(key_id, *root))? != B256::with_last_byte(1) {
                return Err(FactsError::NotOrdered { block: block.number, key_id, root: *root });
            }
        }
        let contract = deployment.withdrawal_keys();
        let pools = Storage::of("the WithdrawalKeys", state_root, contract, &self.withdrawal_keys)?;
        // `IWithdrawalKeys.WithdrawalKey` as Solidity packs it: provider 20 bytes lowest, pool 8.
        let packed = pools.word(withdrawal_key_slot(key_id))?.0;
        let [_, _, _, _, p7, p6, p5, p4, p3, p2, p1, p0, ..] = packed;
        let pool_id = u64::from_be_bytes([p7, p6, p5, p4, p3, p2, p1, p0]);
        if pool_id == 0 || key.consumer != contract {
            return Err(FactsError::NoPool { block: block.number, key_id });
        }
        let event = KeyRegistry::KeyFinalised {
            keyId: U256::from(key_id),
            attempt: key.attempt,
            committee: self.committee.clone(),
            signers: self.signers.clone(),
            points: self.points.clone(),
            dealingsDigest: B256::ZERO,
            leavesRoot: key.commitment,
        };
        let live = LiveKey::from_event(&key, &event)
            .map_err(|error| FactsError::WrongLeaves { key_id, reason: error.to_string() })?;
        Ok(ProvenChanges { block, key, live, pool_id })
    }
}

fn order_slot(key_id: u64, root: B256) -> B256 {
    let inner = keccak256((U256::from(key_id), U256::from(ORDERS_SLOT)).abi_encode());
    keccak256((root, inner).abi_encode())
}

fn withdrawal_key_slot(key_id: u64) -> B256 {
    keccak256((U256::from(key_id), U256::from(WITHDRAWAL_KEYS_SLOT)).abi_encode())
}

/// The facts about these changes in the newest finalised block. They are verified before they are given to anybody.
///
/// # Errors
/// That of the endpoint; [`ChainError::NotFound`] if they are not ordered in that block.
pub async fn fetch(
    provider: &DynProvider,
    deployment: &Deployment,
    live: &LiveKey,
    roots: &[B256],
) -> Result<ChangeFacts, ChainError> {
    let block = crate::endpoint::existing_block(provider, alloy::eips::BlockNumberOrTag::Finalized).await?;
    let header = header::fetch(provider, block.number).await?;
    let at = BlockId::number(block.number);
    let proof = |name: &str, address: Address, slots: Vec<B256>| {
        ask(format!("reading a proof of {name} in block {}", block.number), async move {
            provider.get_proof(address, slots).block_id(at).await
        })
    };
    let orders = roots.iter().map(|root| order_slot(live.key_id, *root));
    let slots: Vec<B256> = key_slots(live.key_id).into_iter().chain(orders).collect();
    let key_registry = proof("the KeyRegistry", deployment.key_registry, slots).await?;
    let slots = vec![withdrawal_key_slot(live.key_id)];
    let withdrawal_keys = proof("the WithdrawalKeys", deployment.withdrawal_keys(), slots).await?;
    let facts = ChangeFacts {
        header: header.rlp,
        committee: live.members.iter().map(|member| member.server_id).collect(),
        signers: live.members.iter().map(|member| member.signer).collect(),
        points: live.points(),
        key_registry,
        withdrawal_keys,
    };
    facts.verify(deployment, live.key_id, roots).map_err(|error| ChainError::NotFound(error.to_string()))?;
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stkr_core::{Threshold, testing::TrustedDealer};

    use stkr_protocol::state::StateError;

    use super::*;
    use crate::{
        keys::{Member, leaf, merkle_root},
        testing::{Anvil, deployment},
    };

    const KEY: u64 = 7;
    const POOL: u64 = 0x0102_0304_0506_0708;
    const ROOT: B256 = B256::repeat_byte(0x5a);

    fn live() -> LiveKey {
        let threshold = Threshold::new(3, 4).unwrap();
        let keys = TrustedDealer::deal(threshold, [3; 32]).keys;
        let members: Vec<Member> = threshold
            .indices()
            .zip(9..)
            .map(|(index, server_id)| {
                let signer = Address::repeat_byte(u8::try_from(server_id).unwrap());
                Member { index, server_id, signer }
            })
            .collect();
        let leaves: Vec<B256> =
            members.iter().zip(keys.share_keys()).map(|(member, key)| leaf(member, &key.to_eip2537())).collect();
        let leaves_root = merkle_root(&leaves);
        LiveKey { key_id: KEY, attempt: 1, keys, members, dealings_digest: B256::ZERO, leaves_root }
    }

    /// An anvil where the contracts have these words, some blocks deep.
    async fn chain(state: KeyState, kind: KeyKind, consumer: Address, pool: u64, ordered: bool) -> Anvil {
        let (anvil, at) = (Anvil::start(1).await, deployment());
        for contract in [at.key_registry, at.withdrawal_keys()] {
            anvil.set_code(contract, vec![0]).await;
        }
        let rest = [0, 1, 4, 3, u8::from(kind), u8::from(state)];
        let packed = B256::from_slice(&[&[0; 6], &rest[..], consumer.as_slice()].concat());
        // Whether its bond is held and a change was shown, beside pool and provider.
        let used = B256::from_slice(&[&[0, 0, 1, 1], &pool.to_be_bytes()[..], &[0xcc; 20]].concat());
        let [first, second] = key_slots(KEY);
        let words = [
            (at.key_registry, first, packed),
            (at.key_registry, second, live().leaves_root),
            (at.key_registry, order_slot(KEY, ROOT), B256::with_last_byte(u8::from(ordered))),
            (at.withdrawal_keys(), withdrawal_key_slot(KEY), used),
        ];
        // A word of zero is none in the state, and anvil would write it as one.
        for (contract, slot, word) in words.into_iter().filter(|(.., word)| !word.is_zero()) {
            anvil.rpc("anvil_setStorageAt", json!([contract, slot, word])).await;
        }
        anvil.mine(4).await;
        anvil
    }

    async fn found(anvil: &Anvil) -> Result<ChangeFacts, ChainError> {
        fetch(&anvil.provider, &deployment(), &live(), &[ROOT]).await
    }

    #[tokio::test]
    async fn facts_prove_the_order_the_committee_and_the_pool_and_nothing_in_them_can_be_changed() {
        let contract = deployment().withdrawal_keys();
        let anvil = chain(KeyState::Live, KeyKind::Withdrawal, contract, POOL, true).await;
        let facts = found(&anvil).await.unwrap();
        let good: ChangeFacts = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
        let proven = good.verify(&deployment(), KEY, &[ROOT]).unwrap();
        assert_eq!((proven.pool_id, proven.live.members.len(), proven.key.consumer), (POOL, 4, contract));
        assert_eq!(proven.live.keys.group_key(), live().keys.group_key());

        let bad = |change: &dyn Fn(&mut ChangeFacts)| {
            let mut facts = good.clone();
            change(&mut facts);
            facts.verify(&deployment(), KEY, &[ROOT]).unwrap_err()
        };
        let proof = |error| matches!(error, FactsError::State(StateError::BadProof { .. }));
        let leaves = |error| matches!(error, FactsError::WrongLeaves { .. });
        assert!(leaves(bad(&|it| it.committee.swap(0, 1))));
        assert!(leaves(bad(&|it| it.signers[2] = Address::ZERO)));
        assert!(leaves(bad(&|it| it.points = it.points.slice(128..))));
        assert!(proof(bad(&|it| it.withdrawal_keys.storage_proof[0].value += U256::from(1))));
        assert!(proof(bad(&|it| it.withdrawal_keys = it.key_registry.clone())));
        assert!(proof(bad(&|it| it.key_registry.storage_proof.truncate(2))));
        let other = good.verify(&deployment(), KEY, &[ROOT, B256::repeat_byte(1)]).unwrap_err();
        assert!(proof(other), "an order that the file does not prove");
        assert!(proof(good.verify(&deployment(), KEY + 1, &[ROOT]).unwrap_err()));
    }

    #[tokio::test]
    async fn only_an_ordered_change_of_a_live_withdrawal_key_of_this_deployment_in_a_pool_has_facts() {
        let ours = deployment().withdrawal_keys();
        let cases = [
            (KeyState::Retired, KeyKind::Withdrawal, ours, POOL, true, "only a Live withdrawal key"),
            (KeyState::Live, KeyKind::Validator, ours, POOL, true, "only a Live withdrawal key"),
            (KeyState::Live, KeyKind::Withdrawal, Address::repeat_byte(9), POOL, true, "no pool of this deployment"),
            (KeyState::Live, KeyKind::Withdrawal, ours, 0, true, "no pool of this deployment"),
            (KeyState::Live, KeyKind::Withdrawal, ours, POOL, false, "was not ordered"),
        ];
        for (state, kind, consumer, pool, ordered, reason) in cases {
            let anvil = chain(state, kind, consumer, pool, ordered).await;
            let error = found(&anvil).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
