//! What the chain says about a change of credentials that a withdrawal key was ordered to sign, for a machine without network.
//!
//! As with a ceremony, everything leads to one block's hash: the key's two slots (it is Live, a withdrawal key of this deployment), those
//! of the Resharing contract that say which committee's turn it is and the root of its share leaves, one slot of `isOrdered`
//! for each change, and the slot of `WithdrawalKeys` that names the one pool that uses the key. The committee with its
//! points rebuilds the root. The vault follows from the pool's id.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::DynProvider,
    rpc::types::EIP1186AccountProofResponse,
    sol_types::SolValue as _,
};
use serde::{Deserialize, Serialize};

use super::committee::{Committees, Leaves, committee_slots, leaves_of};
use super::{FactsError, ProvenBlock, Storage, key_of, key_slots};
use crate::{
    committees::KeyCommittees,
    deployment::Deployment,
    errors::ChainError,
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
    /// Of the committee whose turn it is at the block's time.
    pub committee_epoch: u32,
    /// That committee, and points.
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
    /// Server ids in index order, of the committee whose turn it is at the block's time.
    pub committee: Vec<u32>,
    /// Signer of each member, as its leaf has it.
    pub signers: Vec<Address>,
    /// n share keys in index order, then the group key, 128 bytes each.
    pub points: Bytes,
    /// The KeyRegistry, the key's two slots and one of `isOrdered` for each change.
    pub key_registry: EIP1186AccountProofResponse,
    /// The Resharing contract, the key's two slots, and two of each of its last two committees if it was reshared.
    pub resharing: EIP1186AccountProofResponse,
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
        // Who signs twice around a handover signs the same thing twice: the block's time is as good as any.
        let serving = Committees::of(&key, state_root, deployment, &self.resharing)?.serving(block.timestamp)?;
        let leaves = Leaves { committee: &self.committee, signers: &self.signers, points: &self.points };
        let live = serving.committee(&key, &leaves)?;
        let committee_epoch = serving.committee_epoch;
        Ok(ProvenChanges { block, key, committee_epoch, live, pool_id })
    }
}

fn order_slot(key_id: u64, root: B256) -> B256 {
    let inner = keccak256((U256::from(key_id), U256::from(ORDERS_SLOT)).abi_encode());
    keccak256((root, inner).abi_encode())
}

fn withdrawal_key_slot(key_id: u64) -> B256 {
    keccak256((U256::from(key_id), U256::from(WITHDRAWAL_KEYS_SLOT)).abi_encode())
}

/// The facts about these changes in the finalised block at which `shown` was read. They are verified before they are given to anybody.
///
/// # Errors
/// That of the endpoint; [`ChainError::NotFound`] if they are not ordered in that block.
pub async fn fetch(
    provider: &DynProvider,
    deployment: &Deployment,
    shown: &KeyCommittees,
    roots: &[B256],
) -> Result<ChangeFacts, ChainError> {
    let key_id = shown.key.id;
    let serving = shown.terms.iter().rfind(|term| term.handover <= shown.block.timestamp);
    let serving = serving.ok_or_else(|| ChainError::NotFound(format!("nobody signs for key {key_id} yet")))?;
    let proofs = super::Proofs::at(provider, shown.block.number).await?;
    let orders = roots.iter().map(|root| order_slot(key_id, *root));
    let slots: Vec<B256> = key_slots(key_id).into_iter().chain(orders).collect();
    let key_registry = proofs.of("the KeyRegistry", deployment.key_registry, slots).await?;
    let resharing = proofs.of("the Resharing contract", deployment.resharing(), committee_slots(shown)).await?;
    let slots = vec![withdrawal_key_slot(key_id)];
    let withdrawal_keys = proofs.of("the WithdrawalKeys", deployment.withdrawal_keys(), slots).await?;
    let (committee, signers, points) = leaves_of(&serving.committee);
    let header = proofs.header;
    let facts = ChangeFacts { header, committee, signers, points, key_registry, resharing, withdrawal_keys };
    facts.verify(deployment, key_id, roots).map_err(|error| ChainError::NotFound(error.to_string()))?;
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stkr_protocol::state::StateError;

    use super::super::committee::tests::{HANDOVER, KEY, LIVE, NEVER, Words, live};
    use super::*;
    use crate::testing::{Anvil, deployment};

    const POOL: u64 = 0x0102_0304_0506_0708;
    const ROOT: B256 = B256::repeat_byte(0x5a);

    /// An anvil where the contracts have these words, some blocks deep.
    async fn chain(words: &Words, consumer: Address, pool: u64, ordered: bool) -> Anvil {
        let (anvil, at) = (words.chain(&[]).await, deployment());
        anvil.set_code(at.withdrawal_keys(), vec![0]).await;
        let rest = [0, 1, 4, 3, u8::from(words.kind), u8::from(words.key)];
        let packed = B256::from_slice(&[&[0; 6], &rest[..], consumer.as_slice()].concat());
        // Whether its bond is held and a change was shown, beside pool and provider.
        let used = B256::from_slice(&[&[0, 0, 1, 1], &pool.to_be_bytes()[..], &[0xcc; 20]].concat());
        let [first, _] = key_slots(KEY);
        let words = [
            (at.key_registry, first, packed),
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

    async fn found(words: &Words, anvil: &Anvil) -> Result<ChangeFacts, ChainError> {
        fetch(&anvil.provider, &deployment(), &words.shown(anvil).await, &[ROOT]).await
    }

    #[tokio::test]
    async fn facts_prove_the_order_the_committee_and_the_pool_and_nothing_in_them_can_be_changed() {
        let contract = deployment().withdrawal_keys();
        let anvil = chain(&LIVE, contract, POOL, true).await;
        let facts = found(&LIVE, &anvil).await.unwrap();
        let good: ChangeFacts = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
        let proven = good.verify(&deployment(), KEY, &[ROOT]).unwrap();
        assert_eq!((proven.pool_id, proven.live.members.len(), proven.key.consumer), (POOL, 4, contract));
        assert_eq!((proven.committee_epoch, proven.live.keys.group_key()), (0, live(0).keys.group_key()));

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
        assert!(proof(bad(&|it| it.resharing.storage_proof[0].value = U256::ZERO)));
        assert!(proof(bad(&|it| it.resharing.storage_proof.clear())));
        let other = good.verify(&deployment(), KEY, &[ROOT, B256::repeat_byte(1)]).unwrap_err();
        assert!(proof(other), "an order that the file does not prove");
        assert!(proof(good.verify(&deployment(), KEY + 1, &[ROOT]).unwrap_err()));
    }

    #[tokio::test]
    async fn the_committee_whose_turn_it_is_signs_and_no_other() {
        let contract = deployment().withdrawal_keys();
        // Of the block's time, which is the present.
        for (handover, serving) in [(HANDOVER, 1), (NEVER, 0)] {
            let words = Words { epoch: 1, handover, ..LIVE };
            let anvil = chain(&words, contract, POOL, true).await;
            let facts = found(&words, &anvil).await.unwrap();
            let proven = facts.verify(&deployment(), KEY, &[ROOT]).unwrap();
            assert_eq!((proven.committee_epoch, proven.live.leaves_root), (serving, live(serving).leaves_root));
            let other = live(1 - serving);
            let mut passed_off = facts;
            passed_off.committee = other.members.iter().map(|member| member.server_id).collect();
            passed_off.signers = other.members.iter().map(|member| member.signer).collect();
            passed_off.points = other.points();
            let error = passed_off.verify(&deployment(), KEY, &[ROOT]).unwrap_err();
            assert!(matches!(error, FactsError::WrongLeaves { .. }), "{error}");
        }
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
            let words = Words { key: state, kind, ..LIVE };
            let anvil = chain(&words, consumer, pool, ordered).await;
            let error = found(&words, &anvil).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
