use serde_json::json;
use stkr_core::testing::TrustedDealer;
use stkr_core::{ShareIndex, Threshold};
use stkr_protocol::state::StateError;

use super::super::server_slot;
use super::*;
use crate::committees::{CommitteeTerm, committee_of};
use crate::keys::{Member, leaf, merkle_root};
use crate::testing::{Anvil, deployment};
use crate::types::KeyKind;

pub(crate) const KEY: u64 = 7;
/// 3-of-4; the seat of server 6 went to server 8 with committee 1.
pub(crate) const COMMITTEES: [[u32; 4]; 2] = [[9, 4, 6, 2], [9, 4, 8, 2]];
pub(crate) const HANDOVER: u64 = 1_000;
/// Later than any block of these tests.
pub(crate) const NEVER: u64 = 0xffff_ffff_ffff;

pub(crate) fn signer(id: u32) -> Address {
    Address::from_word(keccak256(id.to_be_bytes()))
}

pub(crate) fn live(epoch: u32) -> LiveKey {
    let threshold = Threshold::new(3, 4).unwrap();
    let keys = TrustedDealer::deal(threshold, [u8::try_from(epoch).unwrap() + 3; 32]).keys;
    let servers = COMMITTEES[usize::try_from(epoch).unwrap()];
    let member = |(index, server_id): (ShareIndex, u32)| Member { index, server_id, signer: signer(server_id) };
    let members: Vec<Member> = threshold.indices().zip(servers).map(member).collect();
    let leaves: Vec<B256> =
        members.iter().zip(keys.share_keys()).map(|(member, key)| leaf(member, &key.to_eip2537())).collect();
    let leaves_root = merkle_root(&leaves);
    LiveKey { key_id: KEY, attempt: 1, keys, members, dealings_digest: B256::ZERO, leaves_root }
}

/// What the contracts say of the key.
#[derive(Clone, Copy)]
pub(crate) struct Words {
    pub(crate) key: KeyState,
    pub(crate) kind: KeyKind,
    /// Of the newest committee.
    pub(crate) epoch: u32,
    pub(crate) handover: u64,
    pub(crate) state: ReshareState,
    pub(crate) deadline: u64,
    pub(crate) draft: B256,
}

pub(crate) const LIVE: Words = Words {
    key: KeyState::Live,
    kind: KeyKind::Withdrawal,
    epoch: 0,
    handover: 0,
    state: ReshareState::None,
    deadline: 0,
    draft: B256::ZERO,
};

impl Words {
    /// An anvil where the contracts say this, some blocks deep.
    pub(crate) async fn chain(&self, members: &[u32]) -> Anvil {
        let (anvil, at) = (Anvil::start(1).await, deployment());
        for contract in [at.key_registry, at.resharing(), at.server_registry] {
            anvil.set_code(contract, vec![0]).await;
        }
        let rest = [0, 1, 4, 3, u8::from(self.kind), u8::from(self.key)];
        let key = B256::from_slice(&[&[0; 6], &rest[..], &[0xcc; 20]].concat());
        let six = |value: u64| value.to_be_bytes()[2..].to_vec();
        let (epoch, state) = (self.epoch.to_be_bytes(), u8::from(self.state));
        let packed =
            [vec![0; 5], six(NEVER), six(NEVER), six(self.deadline), epoch.to_vec(), vec![0, 2, 4, 3, state]].concat();
        let [first, second] = key_slots(KEY);
        let [reshare, draft] = reshare_slots(KEY);
        let mut words = vec![
            (at.key_registry, first, key),
            (at.key_registry, second, live(0).leaves_root),
            (at.resharing(), reshare, B256::from_slice(&packed)),
            (at.resharing(), draft, self.draft),
        ];
        for committee_epoch in (0..=self.epoch).filter(|_| self.epoch > 0) {
            let [root, record] = record_slots(KEY, committee_epoch);
            let handover = if committee_epoch == 0 { 0 } else { self.handover };
            words.push((at.resharing(), root, live(committee_epoch).leaves_root));
            // Past seats were freed, in the byte above.
            let packed = [vec![0; 23], vec![1, 4, 3], six(handover)].concat();
            words.push((at.resharing(), record, B256::from_slice(&packed)));
        }
        for id in members {
            // Status and bond beside the signer: they are not part of it.
            let mut word = signer(*id).into_word();
            word[..12].fill(0xbb);
            words.push((at.server_registry, server_slot(*id), word));
        }
        // A word of zero is none in the state, and anvil would write it as one.
        for (contract, slot, word) in words.into_iter().filter(|(.., word)| !word.is_zero()) {
            anvil.rpc("anvil_setStorageAt", json!([contract, slot, word])).await;
        }
        anvil.mine(4).await;
        anvil
    }

    /// The same as a finalised block shows it.
    pub(crate) async fn shown(&self, anvil: &Anvil) -> KeyCommittees {
        let tag = alloy::eips::BlockNumberOrTag::Finalized;
        let block = crate::endpoint::existing_block(&anvil.provider, tag).await.unwrap();
        let key = KeyInfo {
            id: KEY,
            consumer: Address::repeat_byte(0xcc),
            state: self.key,
            kind: self.kind,
            threshold: 3,
            members: 4,
            attempt: 1,
            mark: 0,
            commitment: live(0).leaves_root,
        };
        let term = |epoch: u32| CommitteeTerm {
            attempt: 0,
            handover: if epoch == 0 { 0 } else { self.handover },
            leaves_root: live(epoch).leaves_root,
            committee: committee_of(deployment().protocol_domain(), epoch, live(epoch)).unwrap(),
        };
        let terms = (self.epoch.saturating_sub(1)..=self.epoch).map(term).collect();
        KeyCommittees { block, window: 0, key, terms, drawn: None }
    }

    async fn facts(&self) -> Result<CommitteeFacts, ChainError> {
        let anvil = self.chain(&[]).await;
        fetch(&anvil.provider, &deployment(), &self.shown(&anvil).await).await
    }
}

pub(crate) fn is_bad_proof<T>(result: &Result<T, FactsError>) -> bool {
    matches!(result, Err(FactsError::State(StateError::BadProof { .. })))
}

#[tokio::test]
async fn the_newest_committee_is_proven_of_a_key_that_was_never_reshared_and_of_one_that_was() {
    let first = LIVE.facts().await.unwrap().verify(&deployment(), KEY).unwrap();
    assert_eq!((first.committee_epoch, first.handover), (0, 0));
    assert_eq!(first.live.leaves_root, live(0).leaves_root);

    let facts = Words { epoch: 1, handover: HANDOVER, ..LIVE }.facts().await.unwrap();
    let good: CommitteeFacts = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
    let second = good.verify(&deployment(), KEY).unwrap();
    assert_eq!((second.committee_epoch, second.handover, second.live.members[2].server_id), (1, HANDOVER, 8));

    let bad = |change: &dyn Fn(&mut CommitteeFacts)| {
        let mut facts = good.clone();
        change(&mut facts);
        facts.verify(&deployment(), KEY)
    };
    let leaves = |result| matches!(result, Err(FactsError::WrongLeaves { key_id: KEY, .. }));
    assert!(leaves(bad(&|it| it.committee[2] = 6)));
    assert!(leaves(bad(&|it| it.signers.swap(0, 1))));
    assert!(leaves(bad(&|it| it.points = live(0).points())));
    // The key's reshare and its newest committee; of who takes part in a reshare and of the committee before nothing is asked.
    for slot in [0, 4, 5] {
        assert!(is_bad_proof(&bad(&|it| it.resharing.storage_proof[slot].value += U256::from(1))), "slot {slot}");
        assert!(is_bad_proof(&bad(&|it| drop(it.resharing.storage_proof.remove(slot)))), "slot {slot}");
    }
    assert!(is_bad_proof(&bad(&|it| it.key_registry.storage_proof[0].value += U256::from(1))));
    assert!(is_bad_proof(&bad(&|it| it.resharing = it.key_registry.clone())));
    assert!(is_bad_proof(&good.verify(&deployment(), KEY + 1)));
}

#[tokio::test]
async fn a_key_has_committees_once_it_is_live_and_after_it_ended() {
    for state in [KeyState::Retired, KeyState::Burned] {
        let facts = Words { key: state, ..LIVE }.facts().await.unwrap();
        assert_eq!(facts.verify(&deployment(), KEY).unwrap().key.state, state);
    }
    let error = Words { key: KeyState::Drawn, ..LIVE }.facts().await.unwrap_err().to_string();
    assert!(error.contains("key 7 is Drawn and has no committee"), "{error}");
}
