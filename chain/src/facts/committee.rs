//! Which committees a Live or ended key has, for a machine without network: the newest, and the one that signs at the block's time.
//!
//! The Resharing contract keeps two words of each key and two of each committee of a key that was reshared ([`Committees`]). A committee
//! itself, with signers and share keys, stands in events only; its leaves rebuild the root that the state holds, so no event is proven.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::DynProvider,
    rpc::types::EIP1186AccountProofResponse,
    sol_types::SolValue as _,
};
use serde::{Deserialize, Serialize};
use stkr_protocol::ceremony::points;
use stkr_protocol::collection::Committee;

use super::{FactsError, ProvenBlock, Storage, key_of, key_slots, next_slot};
use crate::{
    bindings::KeyRegistry,
    committees::KeyCommittees,
    deployment::Deployment,
    errors::ChainError,
    keys::LiveKey,
    reader::KeyInfo,
    types::{KeyState, ReshareState},
};

/// `Resharing._reshares` (`forge inspect Resharing storage-layout`).
const RESHARES_SLOT: u64 = 0;
/// `Resharing._committees`.
const COMMITTEES_SLOT: u64 = 1;

/// A committee as a file gives it: what `KeyFinalised` or `Reshared` emitted of it. It counts as far as it rebuilds a proven root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaves<'a> {
    pub(super) committee: &'a [u32],
    pub(super) signers: &'a [Address],
    pub(super) points: &'a Bytes,
}

/// What the state says of one committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) committee_epoch: u32,
    pub(super) leaves_root: B256,
    /// Unix time (seconds); 0 of the first.
    pub(super) handover: u64,
    threshold: u8,
    members: u8,
}

impl Record {
    /// The committee, if its leaves give the root.
    pub(super) fn committee(&self, key: &KeyInfo, leaves: &Leaves<'_>) -> Result<LiveKey, FactsError> {
        let expected =
            KeyInfo { threshold: self.threshold, members: self.members, commitment: self.leaves_root, ..key.clone() };
        let event = KeyRegistry::KeyFinalised {
            keyId: U256::from(key.id),
            // Nothing proves of a later committee which attempt made it; nobody needs it here.
            attempt: key.attempt,
            committee: leaves.committee.to_vec(),
            signers: leaves.signers.to_vec(),
            points: leaves.points.clone(),
            dealingsDigest: B256::ZERO,
            leavesRoot: self.leaves_root,
        };
        LiveKey::from_event(&expected, &event)
            .map_err(|error| FactsError::WrongLeaves { key_id: key.id, reason: error.to_string() })
    }
}

/// The committees of a key, and its reshare, as the state has them.
pub(super) struct Committees<'a> {
    key: KeyInfo,
    storage: Storage<'a>,
    pub(super) state: ReshareState,
    pub(super) threshold: u8,
    pub(super) members: u8,
    pub(super) attempt: u16,
    /// Of the newest committee.
    pub(super) committee_epoch: u32,
    pub(super) mark: u64,
    pub(super) handover: u64,
}

impl<'a> Committees<'a> {
    pub(super) fn of(
        key: &KeyInfo,
        state_root: B256,
        deployment: &Deployment,
        proof: &'a EIP1186AccountProofResponse,
    ) -> Result<Self, FactsError> {
        let storage = Storage::of("the Resharing contract", state_root, deployment.resharing(), proof)?;
        let [first, _] = reshare_slots(key.id);
        let packed = storage.word(first)?;
        // `IResharing.Reshare`, first field lowest: state, threshold, members 1 byte each, attempt 2, committee epoch 4, mark 6,
        // handover 6, votesUntil 6.
        let [_, _, _, _, _, _, _, _, _, _, _, rest @ ..] = packed.0;
        let [h5, h4, h3, h2, h1, h0, m5, m4, m3, m2, m1, m0, e3, e2, e1, e0, a1, a0, members, threshold, state] = rest;
        Ok(Self {
            key: key.clone(),
            storage,
            state: ReshareState::try_from(state)?,
            threshold,
            members,
            attempt: u16::from_be_bytes([a1, a0]),
            committee_epoch: u32::from_be_bytes([e3, e2, e1, e0]),
            mark: u64::from_be_bytes([0, 0, m5, m4, m3, m2, m1, m0]),
            handover: u64::from_be_bytes([0, 0, h5, h4, h3, h2, h1, h0]),
        })
    }

    /// What the contract committed to, of a reshare that is under way.
    pub(super) fn commitment(&self) -> Result<B256, FactsError> {
        let [_, second] = reshare_slots(self.key.id);
        self.storage.word(second)
    }

    pub(super) fn newest(&self) -> Result<Record, FactsError> {
        self.record(self.committee_epoch)
    }

    /// The committee whose turn it is at `time` (unix seconds), as `IResharing.servingEpoch` says.
    pub(super) fn serving(&self, time: u64) -> Result<Record, FactsError> {
        let newest = self.newest()?;
        match newest.committee_epoch.checked_sub(1) {
            Some(past) if time < newest.handover => self.record(past),
            _ => Ok(newest),
        }
    }

    fn record(&self, committee_epoch: u32) -> Result<Record, FactsError> {
        // Until its first reshare a key has no committee there.
        if self.committee_epoch == 0 {
            let KeyInfo { commitment: leaves_root, threshold, members, .. } = self.key;
            return Ok(Record { committee_epoch, leaves_root, handover: 0, threshold, members });
        }
        let [first, second] = record_slots(self.key.id, committee_epoch);
        let (leaves_root, packed) = (self.storage.word(first)?, self.storage.word(second)?);
        // Handover 6 bytes lowest, threshold and members 1 each; then whether past seats were freed.
        let [.., members, threshold, h5, h4, h3, h2, h1, h0] = packed.0;
        let handover = u64::from_be_bytes([0, 0, h5, h4, h3, h2, h1, h0]);
        Ok(Record { committee_epoch, leaves_root, handover, threshold, members })
    }
}

/// The newest committee of a key that is or was Live, in a block.
#[derive(Clone, Debug)]
pub struct ProvenCommittee {
    /// The block.
    pub block: ProvenBlock,
    /// The key.
    pub key: KeyInfo,
    /// Of the committee; the key's first has 0.
    pub committee_epoch: u32,
    /// Unix time (seconds) from which it signs; 0 of the first.
    pub handover: u64,
    /// Members, share keys and group key.
    pub live: LiveKey,
}

/// Header and proofs: what is brought to a machine that holds a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitteeFacts {
    /// RLP of the block's header.
    pub header: Bytes,
    /// Server ids of the newest committee in index order.
    pub committee: Vec<u32>,
    /// Signer of each member, as its leaf has it.
    pub signers: Vec<Address>,
    /// n share keys in index order, then the group key, 128 bytes each.
    pub points: Bytes,
    /// The KeyRegistry and the key's two slots.
    pub key_registry: EIP1186AccountProofResponse,
    /// The Resharing contract, the key's two slots, and two of its newest committee if it was reshared.
    pub resharing: EIP1186AccountProofResponse,
}

impl CommitteeFacts {
    /// What they prove, if the hash of the block in the answer is that of a final one.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn verify(&self, deployment: &Deployment, key_id: u64) -> Result<ProvenCommittee, FactsError> {
        let (block, state_root) = ProvenBlock::of_header(&self.header)?;
        let key = proven_key(state_root, deployment, &self.key_registry, key_id)?;
        if matches!(key.state, KeyState::None | KeyState::Requested | KeyState::Drawn) {
            return Err(FactsError::NoCommittee { block: block.number, key_id, state: key.state });
        }
        let newest = Committees::of(&key, state_root, deployment, &self.resharing)?.newest()?;
        let leaves = Leaves { committee: &self.committee, signers: &self.signers, points: &self.points };
        let live = newest.committee(&key, &leaves)?;
        let Record { committee_epoch, handover, .. } = newest;
        Ok(ProvenCommittee { block, key, committee_epoch, handover, live })
    }
}

/// A key as its two words in the registry say it.
pub(super) fn proven_key(
    state_root: B256,
    deployment: &Deployment,
    proof: &EIP1186AccountProofResponse,
    key_id: u64,
) -> Result<KeyInfo, FactsError> {
    let keys = Storage::of("the KeyRegistry", state_root, deployment.key_registry, proof)?;
    let [first, second] = key_slots(key_id);
    key_of(key_id, keys.word(first)?, keys.word(second)?)
}

fn reshare_slots(key_id: u64) -> [B256; 2] {
    let first = keccak256((U256::from(key_id), U256::from(RESHARES_SLOT)).abi_encode());
    [first, next_slot(first)]
}

fn record_slots(key_id: u64, committee_epoch: u32) -> [B256; 2] {
    let inner = keccak256((U256::from(key_id), U256::from(COMMITTEES_SLOT)).abi_encode());
    let first = keccak256((U256::from(committee_epoch), inner).abi_encode());
    [first, next_slot(first)]
}

/// The slots of the Resharing contract that say which committees `shown` has.
pub(super) fn committee_slots(shown: &KeyCommittees) -> Vec<B256> {
    let reshared = shown.terms.iter().any(|term| term.committee.epoch() > 0);
    let epochs = shown.terms.iter().filter(|_| reshared).map(|term| term.committee.epoch());
    let records = epochs.flat_map(|epoch| record_slots(shown.key.id, epoch));
    reshare_slots(shown.key.id).into_iter().chain(records).collect()
}

/// A committee in the form of its leaves.
pub(super) fn leaves_of(committee: &Committee) -> (Vec<u32>, Vec<Address>, Bytes) {
    let members = committee.members();
    let (servers, signers) = members.iter().map(|member| (member.server_id, member.signer)).unzip();
    (servers, signers, points(committee.keys()).into())
}

/// The facts about the newest committee of `shown`, which was read at a finalised block, in that block. They are verified before they
/// are given to anybody.
///
/// # Errors
/// That of the endpoint; [`ChainError::NotFound`] if the block proves something else.
pub async fn fetch(
    provider: &DynProvider,
    deployment: &Deployment,
    shown: &KeyCommittees,
) -> Result<CommitteeFacts, ChainError> {
    let key_id = shown.key.id;
    let newest = super::newest(shown)?;
    let proofs = super::Proofs::at(provider, shown.block.number).await?;
    let key_registry = proofs.of("the KeyRegistry", deployment.key_registry, key_slots(key_id).to_vec()).await?;
    let resharing = proofs.of("the Resharing contract", deployment.resharing(), committee_slots(shown)).await?;
    let (committee, signers, points) = leaves_of(newest);
    let facts = CommitteeFacts { header: proofs.header, committee, signers, points, key_registry, resharing };
    facts.verify(deployment, key_id).map_err(|error| ChainError::NotFound(error.to_string()))?;
    Ok(facts)
}

#[cfg(test)]
pub(crate) mod tests;
