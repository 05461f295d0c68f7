//! What the chain says about a reshare, for a machine without network that deals in it, gets a share, or both.
//!
//! As with a ceremony, everything leads to one block's hash: the key's two slots (Live, a withdrawal key), the two of its reshare (Drawn:
//! attempt, t', n', deadline, handover, and the hash of who takes part), those of its newest committee, whose leaves rebuild the root
//! there, and one slot of each new member, which names its signer. Seats and dealers stand in an event only and follow from
//! their hash: of a seat that it lists, whether the reshare took it or the member had it before is told by the newest committee.

use alloy::{
    primitives::{Address, B256, Bytes, keccak256},
    providers::DynProvider,
    rpc::types::EIP1186AccountProofResponse,
    sol_types::SolValue as _,
};
use serde::{Deserialize, Serialize};
use stkr_core::{ShareIndex, Threshold};
use stkr_protocol::{
    ceremony::MemberId,
    collection::Committee,
    reshare::{Plan, ReshareId},
};

use super::committee::{Committees, Leaves, ProvenCommittee, committee_slots, leaves_of, proven_key};
use super::{ADDRESS, FactsError, ProvenBlock, Storage, key_slots, server_slot};
use crate::{
    bindings::Resharing,
    committees::{DrawnReshare, KeyCommittees, committee_of},
    deployment::Deployment,
    errors::ChainError,
    keys::LiveKey,
    types::{KeyKind, KeyState, ReshareState},
};

/// Members that a dealers' mask can name.
const MASK: u8 = 16;

/// A reshare that leads to the hash of a block, and to nothing else.
#[derive(Clone, Debug)]
pub struct ProvenReshare {
    /// The committee that hands over, in that block.
    pub newest: ProvenCommittee,
    /// The same, as those who sign know it.
    pub old: Committee,
    /// Who deals, who gets a share, until when. Of the draw it is proven that it was not after the block, which stands for its own.
    pub drawn: DrawnReshare,
}

/// Header and proofs, as an endpoint gives them (`eth_getProof`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReshareFacts {
    /// RLP of the block's header.
    pub header: Bytes,
    /// Server ids of the committee that hands over, in index order.
    pub committee: Vec<u32>,
    /// Signer of each of its members, as its leaf has it.
    pub signers: Vec<Address>,
    /// Its n share keys in index order, then the group key, 128 bytes each.
    pub points: Bytes,
    /// Server ids of the new committee, in index order.
    pub seats: Vec<u32>,
    /// Bit i: the member of index i + 1 of the committee that hands over deals.
    pub dealers: u16,
    /// The KeyRegistry and the key's two slots.
    pub key_registry: EIP1186AccountProofResponse,
    /// The Resharing contract, the key's two slots, and two of its newest committee if it was reshared before.
    pub resharing: EIP1186AccountProofResponse,
    /// The ServerRegistry and the first slot of each new member.
    pub server_registry: EIP1186AccountProofResponse,
}

impl ReshareFacts {
    /// What they prove about the reshare of `key_id`, if the hash of the block in the answer is that of a final one.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn verify(&self, deployment: &Deployment, key_id: u64) -> Result<ProvenReshare, FactsError> {
        let (block, state_root) = ProvenBlock::of_header(&self.header)?;
        let key = proven_key(state_root, deployment, &self.key_registry, key_id)?;
        if key.state != KeyState::Live || key.kind != KeyKind::Withdrawal {
            let (state, kind) = (key.state, key.kind);
            return Err(FactsError::NotReshared { block: block.number, key_id, state, kind });
        }
        let it = Committees::of(&key, state_root, deployment, &self.resharing)?;
        if it.state != ReshareState::Drawn {
            return Err(FactsError::NoReshare { block: block.number, key_id, state: it.state });
        }
        if block.timestamp > it.mark {
            return Err(FactsError::ReshareExpired { block: block.number, key_id });
        }
        let newest = it.newest()?;
        let leaves = Leaves { committee: &self.committee, signers: &self.signers, points: &self.points };
        let live = newest.committee(&key, &leaves)?;
        // Unique: the preimage is abi.encode(Draft), so no other seats and dealers have this hash.
        let commitment = it.commitment()?;
        if self.draft(&live).is_none_or(|draft| keccak256(draft.abi_encode()) != commitment) {
            return Err(FactsError::WrongDraft { key_id });
        }
        let servers = Storage::of("the ServerRegistry", state_root, deployment.server_registry, &self.server_registry)?;
        let member = |id: &u32| {
            let signer = Address::from_word(servers.word(server_slot(*id))? & ADDRESS);
            Ok(MemberId { server_id: *id, signer })
        };
        let members = self.seats.iter().map(member).collect::<Result<Vec<_>, FactsError>>()?;
        let impossible = |reason: String| FactsError::ImpossibleReshare { key_id, reason };
        let committee_epoch =
            newest.committee_epoch.checked_add(1).ok_or_else(|| impossible("the last committee epoch".to_owned()))?;
        let old = committee_of(deployment.protocol_domain(), newest.committee_epoch, live.clone())
            .map_err(|error| impossible(error.to_string()))?;
        let drawn = DrawnReshare {
            id: ReshareId { key_id, committee_epoch, attempt: it.attempt },
            threshold: Threshold::new(it.threshold, it.members)?,
            members,
            dealers: dealers(self.dealers),
            deadline: it.mark,
            handover: it.handover,
            commitment,
            drawn_at: block.number,
        };
        let new = (drawn.threshold, drawn.members.clone());
        Plan::new(drawn.id, old.clone(), drawn.dealers.clone(), new, drawn.deadline)
            .map_err(|error| impossible(error.to_string()))?;
        let (epoch, handover) = (newest.committee_epoch, newest.handover);
        let newest = ProvenCommittee { block, key, committee_epoch: epoch, handover, live };
        Ok(ProvenReshare { newest, old, drawn })
    }

    /// What the contract committed to, if these are seats and dealers of a draw.
    fn draft(&self, newest: &LiveKey) -> Option<Resharing::Draft> {
        let is_of_newest = |id: &u32| newest.members.iter().any(|member| member.server_id == *id);
        let mut fresh: u16 = 0;
        for (position, id) in self.seats.iter().enumerate() {
            if !is_of_newest(id) {
                fresh |= 1_u16.checked_shl(u32::try_from(position).ok()?)?;
            }
        }
        let (seats, dealers) = (self.seats.clone(), self.dealers);
        Some(Resharing::Draft { seats, fresh, dealers, activeSetHash: B256::ZERO })
    }
}

/// Indices of the bits that are set, ascending.
fn dealers(mask: u16) -> Vec<ShareIndex> {
    let bits = (0..MASK).filter(|bit| mask.checked_shr(u32::from(*bit)).is_some_and(|rest| rest & 1 == 1));
    bits.filter_map(|bit| ShareIndex::new(bit.checked_add(1)?).ok()).collect()
}

fn mask(dealers: &[ShareIndex]) -> u16 {
    let bit = |index: &ShareIndex| u32::try_from(index.position()).ok().and_then(|at| 1_u16.checked_shl(at));
    dealers.iter().filter_map(bit).fold(0, |mask, bit| mask | bit)
}

/// The facts about the reshare that is drawn in `shown`, which was read at a finalised block, in that block. They are verified before
/// they are given to anybody.
///
/// # Errors
/// That of the endpoint; [`ChainError::NotFound`] if no reshare is drawn there, for one because its draw is not final.
pub async fn fetch(
    provider: &DynProvider,
    deployment: &Deployment,
    shown: &KeyCommittees,
) -> Result<ReshareFacts, ChainError> {
    let key_id = shown.key.id;
    let missing = || {
        let block = shown.block.number;
        ChainError::NotFound(format!("at finalised block {block} no reshare of key {key_id} is drawn"))
    };
    let drawn = shown.drawn.as_ref().ok_or_else(missing)?;
    let newest = super::newest(shown)?;
    let seats: Vec<u32> = drawn.members.iter().map(|member| member.server_id).collect();
    let servers: Vec<B256> = seats.iter().map(|id| server_slot(*id)).collect();
    let proofs = super::Proofs::at(provider, shown.block.number).await?;
    let key_registry = proofs.of("the KeyRegistry", deployment.key_registry, key_slots(key_id).to_vec()).await?;
    let resharing = proofs.of("the Resharing contract", deployment.resharing(), committee_slots(shown)).await?;
    let server_registry = proofs.of("the ServerRegistry", deployment.server_registry, servers).await?;
    let (committee, signers, points) = leaves_of(newest);
    let dealers = mask(&drawn.dealers);
    let header = proofs.header;
    let facts =
        ReshareFacts { header, committee, signers, points, seats, dealers, key_registry, resharing, server_registry };
    facts.verify(deployment, key_id).map_err(|error| ChainError::NotFound(error.to_string()))?;
    Ok(facts)
}

#[cfg(test)]
mod tests;
