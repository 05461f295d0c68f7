//! What the chain says about a ceremony, as a file that proves itself against a block's hash: for a machine without network.
//!
//! [`fetch`] puts it together from an endpoint that nobody has to trust, [`CeremonyFacts::verify`] believes nothing in it but what
//! leads to one hash: the header hashes to it, the account proofs lead from the header's state root to the storage of the two
//! registries, the storage proofs from there to the key's two slots and to one slot of each member. The committee itself stands in
//! calldata and events only; the key's slot holds its hash, so it is checked without any event. Signers come from the servers'
//! slots. Nothing else about a ceremony is decided by the chain, so no receipt is proven.
//!
//! **That the hash is a block's of this chain, and final, nobody can prove offline**: a person compares it with another source.

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::{DynProvider, Provider},
    rlp,
    rpc::types::EIP1186AccountProofResponse,
    sol_types::SolValue as _,
    trie::TrieAccount,
};
use serde::{Deserialize, Serialize};
use stkr_core::{Threshold, ThresholdError};
pub use stkr_protocol::state::ProvenBlock;
use stkr_protocol::{
    ceremony::{Context, ContextError, MemberId},
    collection::Committee,
    state::{StateError, is_proven},
};

use crate::{
    committees::KeyCommittees,
    deployment::Deployment,
    endpoint::ask,
    errors::ChainError,
    header,
    reader::{KeyInfo, committee_hash},
    types::{KeyKind, KeyState, ReshareState, UnknownVariant},
};

pub mod change;
pub mod committee;
pub mod reshare;

/// `KeyRegistry._keys` (`forge inspect KeyRegistry storage-layout`; a test compares what is read with what the contract answers).
const KEYS_SLOT: u64 = 8;
/// `ServerRegistry._servers`.
const SERVERS_SLOT: u64 = 4;

/// Why facts prove nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// Nothing of the block's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// A committee other than the one that the key's slot names.
    #[error(
        "the committee in the file is not the one that the chain committed to for key {key_id}; fetch the file again"
    )]
    WrongCommittee {
        /// Key.
        key_id: u64,
    },
    /// No ceremony in that block.
    #[error("in block {block} key {key_id} is {state}; there is a ceremony only while it is Drawn")]
    NotDrawn {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
        /// Its state then.
        state: KeyState,
    },
    /// Over by the block's own time.
    #[error("in block {block} the time for the ceremony of key {key_id} is over; it starts again as a new attempt")]
    Expired {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
    },
    /// Not Live, or no withdrawal key.
    #[error(
        "in block {block} key {key_id} is a {kind} key and {state}; only a Live withdrawal key changes credentials"
    )]
    NoWithdrawalKey {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
        /// Its state then.
        state: KeyState,
        /// What it is for.
        kind: KeyKind,
    },
    /// Nobody ordered it.
    #[error("in block {block} key {key_id} was not ordered to sign {root}")]
    NotOrdered {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
        /// Signing root of the change.
        root: B256,
    },
    /// Neither Live nor ended.
    #[error("in block {block} key {key_id} is {state} and has no committee")]
    NoCommittee {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
        /// Its state then.
        state: KeyState,
    },
    /// Not Live, or no withdrawal key.
    #[error(
        "in block {block} key {key_id} is a {kind} key and {state}; an offline server takes part in reshares of Live withdrawal keys only"
    )]
    NotReshared {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
        /// Its state then.
        state: KeyState,
        /// What it is for.
        kind: KeyKind,
    },
    /// No reshare in that block.
    #[error("in block {block} the reshare of key {key_id} is {state}; files go to and fro only while it is Drawn")]
    NoReshare {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
        /// Its state then.
        state: ReshareState,
    },
    /// Over by the block's own time.
    #[error("in block {block} the time for the reshare of key {key_id} is over; it starts again as a new attempt")]
    ReshareExpired {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
    },
    /// Other seats or dealers than the contract committed to.
    #[error(
        "the seats or dealers in the file are not those that the chain committed to for the reshare of key {key_id}; fetch the file again"
    )]
    WrongDraft {
        /// Key.
        key_id: u64,
    },
    /// What no draw of these contracts gives.
    #[error("the chain names a reshare of key {key_id} that cannot be: {reason}")]
    ImpossibleReshare {
        /// Key.
        key_id: u64,
        /// In words.
        reason: String,
    },
    /// Of no pool.
    #[error("in block {block} no pool of this deployment uses key {key_id}")]
    NoPool {
        /// Block number.
        block: u64,
        /// Key.
        key_id: u64,
    },
    /// Other members or share keys than the chain committed to.
    #[error("the committee in the file is not that of key {key_id}: {reason}; fetch the file again")]
    WrongLeaves {
        /// Key.
        key_id: u64,
        /// In words.
        reason: String,
    },
    /// A contract newer than this program.
    #[error("the contract says something that this program does not know: {0}")]
    Unknown(#[from] UnknownVariant),
    /// A threshold that cannot be.
    #[error("the chain names a committee that cannot be: {0}")]
    Threshold(#[from] ThresholdError),
    /// A committee that cannot be.
    #[error("the chain names a committee that cannot be: {0}")]
    Committee(#[from] ContextError),
}

/// A ceremony that leads to the hash of `block`, and to nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenCeremony {
    /// The block.
    pub block: ProvenBlock,
    /// The key: Drawn.
    pub key: KeyInfo,
    /// Who takes part, in what.
    pub context: Context,
}

/// Header and proofs, as an endpoint gives them (`eth_getProof`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CeremonyFacts {
    /// RLP of the block's header.
    pub header: Bytes,
    /// Server ids in index order.
    pub committee: Vec<u32>,
    /// The KeyRegistry and the key's two slots.
    pub key_registry: EIP1186AccountProofResponse,
    /// The ServerRegistry and the first slot of each member.
    pub server_registry: EIP1186AccountProofResponse,
}

impl CeremonyFacts {
    /// What they prove about the ceremony of `key_id`, if the hash of the block in the answer is that of a final one.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn verify(&self, deployment: &Deployment, key_id: u64) -> Result<ProvenCeremony, FactsError> {
        let (block, state_root) = ProvenBlock::of_header(&self.header)?;
        let keys = Storage::of("the KeyRegistry", state_root, deployment.key_registry, &self.key_registry)?;
        let [first, second] = key_slots(key_id);
        let (packed, commitment) = (keys.word(first)?, keys.word(second)?);
        let key = key_of(key_id, packed, commitment)?;
        if key.state != KeyState::Drawn {
            return Err(FactsError::NotDrawn { block: block.number, key_id, state: key.state });
        }
        if block.timestamp > key.mark {
            return Err(FactsError::Expired { block: block.number, key_id });
        }
        // Unique: the preimage is abi.encode(uint32[]), so no other list has this hash.
        if committee_hash(&self.committee) != key.commitment {
            return Err(FactsError::WrongCommittee { key_id });
        }
        let servers = Storage::of("the ServerRegistry", state_root, deployment.server_registry, &self.server_registry)?;
        let member = |id: &u32| {
            let signer = Address::from_word(servers.word(server_slot(*id))? & ADDRESS);
            Ok(MemberId { server_id: *id, signer })
        };
        let members = self.committee.iter().map(member).collect::<Result<Vec<_>, FactsError>>()?;
        let threshold = Threshold::new(key.threshold, key.members)?;
        let context = Context::new(deployment.protocol_domain(), key_id, key.attempt, threshold, members)?;
        Ok(ProvenCeremony { block, key, context })
    }
}

/// The storage of one contract in a proven state.
struct Storage<'a> {
    name: &'static str,
    root: B256,
    proof: &'a EIP1186AccountProofResponse,
}

impl<'a> Storage<'a> {
    fn of(
        name: &'static str,
        state_root: B256,
        contract: Address,
        proof: &'a EIP1186AccountProofResponse,
    ) -> Result<Self, FactsError> {
        let account = TrieAccount::new(proof.nonce, proof.balance, proof.storage_hash, proof.code_hash);
        // The path is that of the pinned address, whatever address the file claims.
        let leads = is_proven(state_root, keccak256(contract), Some(rlp::encode(account)), &proof.account_proof);
        let what = || format!("the account of {name}");
        if leads {
            Ok(Self { name, root: proof.storage_hash, proof })
        } else {
            Err(StateError::BadProof { what: what() }.into())
        }
    }

    /// The word in this slot.
    fn word(&self, slot: B256) -> Result<B256, FactsError> {
        let bad = || StateError::BadProof { what: format!("slot {slot} of {}", self.name) };
        let found = self.proof.storage_proof.iter().find(|it| it.key.as_b256() == slot).ok_or_else(bad)?;
        let value = (!found.value.is_zero()).then(|| rlp::encode(found.value));
        if !is_proven(self.root, keccak256(slot), value, &found.proof) {
            return Err(bad().into());
        }
        Ok(found.value.into())
    }
}

const ADDRESS: B256 = B256::new([
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255,
]);

fn key_slots(key_id: u64) -> [B256; 2] {
    let first = keccak256((U256::from(key_id), U256::from(KEYS_SLOT)).abi_encode());
    [first, next_slot(first)]
}

fn next_slot(slot: B256) -> B256 {
    B256::from(U256::from_be_bytes(slot.0).wrapping_add(U256::from(1)))
}

fn server_slot(id: u32) -> B256 {
    keccak256((U256::from(id), U256::from(SERVERS_SLOT)).abi_encode())
}

/// `IKeyRegistry.Key` as Solidity packs it, first field lowest: consumer 20 bytes, state, kind, threshold, members 1 each, attempt 2,
/// mark 6.
fn key_of(id: u64, packed: B256, commitment: B256) -> Result<KeyInfo, FactsError> {
    let [m5, m4, m3, m2, m1, m0, a1, a0, members, threshold, kind, state, consumer @ ..] = packed.0;
    Ok(KeyInfo {
        id,
        consumer: Address::from(consumer),
        state: KeyState::try_from(state)?,
        kind: KeyKind::try_from(kind)?,
        threshold,
        members,
        attempt: u16::from_be_bytes([a1, a0]),
        mark: u64::from_be_bytes([0, 0, m5, m4, m3, m2, m1, m0]),
        commitment,
    })
}

/// A block of which an endpoint gives proofs.
struct Proofs<'a> {
    provider: &'a DynProvider,
    number: u64,
    /// RLP.
    header: Bytes,
}

impl<'a> Proofs<'a> {
    async fn at(provider: &'a DynProvider, number: u64) -> Result<Self, ChainError> {
        Ok(Self { provider, number, header: header::fetch(provider, number).await?.rlp })
    }

    async fn of(
        &self,
        name: &str,
        address: Address,
        slots: Vec<B256>,
    ) -> Result<EIP1186AccountProofResponse, ChainError> {
        let at = BlockId::number(self.number);
        ask(format!("reading a proof of {name} in block {}", self.number), async {
            self.provider.get_proof(address, slots).block_id(at).await
        })
        .await
    }
}

/// The newest committee of `shown`.
fn newest(shown: &KeyCommittees) -> Result<&Committee, ChainError> {
    shown.newest().ok_or_else(|| ChainError::NotFound(format!("key {} has no committee", shown.key.id)))
}

/// The facts about the ceremony that runs for `key_id` in the newest finalised block, with `committee` as an event names it. They are
/// verified before they are given to anybody.
///
/// # Errors
/// That of the endpoint; [`ChainError::NotFound`] if there is no such ceremony in that block, for one because its draw is not final.
pub async fn fetch(
    provider: &DynProvider,
    deployment: &Deployment,
    key_id: u64,
    committee: Vec<u32>,
) -> Result<CeremonyFacts, ChainError> {
    let block = crate::endpoint::existing_block(provider, alloy::eips::BlockNumberOrTag::Finalized).await?;
    let proofs = Proofs::at(provider, block.number).await?;
    let servers: Vec<B256> = committee.iter().map(|id| server_slot(*id)).collect();
    let key_registry = proofs.of("the KeyRegistry", deployment.key_registry, key_slots(key_id).to_vec()).await?;
    let server_registry = proofs.of("the ServerRegistry", deployment.server_registry, servers).await?;
    let facts = CeremonyFacts { header: proofs.header, committee, key_registry, server_registry };
    facts.verify(deployment, key_id).map_err(|error| ChainError::NotFound(error.to_string()))?;
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Anvil, deployment};

    const KEY: u64 = 7;
    const COMMITTEE: [u32; 4] = [9, 4, 6, 2];
    const DEADLINE: u64 = 0xffff_ffff_ffff;

    fn signer(id: u32) -> Address {
        Address::from_word(keccak256(id.to_be_bytes()) & ADDRESS)
    }

    /// `Key` as Solidity packs it, highest field first.
    fn packed(state: KeyState, mark: u64) -> B256 {
        let mark = mark.to_be_bytes();
        let rest = [0, 3, 4, 3, u8::from(KeyKind::Withdrawal), u8::from(state)];
        B256::from_slice(&[&mark[2..], &rest[..], &[0xcc; 20]].concat())
    }

    /// An anvil where the two registries have these words, some blocks deep.
    async fn chain(key: B256, commitment: B256) -> Anvil {
        let (anvil, at) = (Anvil::start(1).await, deployment());
        let store = |contract: Address, slot: B256, word: B256| {
            let anvil = &anvil;
            async move { anvil.rpc("anvil_setStorageAt", json!([contract, slot, word])).await }
        };
        for contract in [at.key_registry, at.server_registry] {
            anvil.set_code(contract, vec![0]).await;
        }
        let [first, second] = key_slots(KEY);
        store(at.key_registry, first, key).await;
        store(at.key_registry, second, commitment).await;
        for id in COMMITTEE {
            // Status and bond beside the signer: they are not part of it.
            let mut word = signer(id).into_word();
            word[..12].fill(0xbb);
            store(at.server_registry, server_slot(id), word).await;
        }
        anvil.mine(4).await;
        anvil
    }

    async fn facts(anvil: &Anvil) -> Result<CeremonyFacts, ChainError> {
        fetch(&anvil.provider, &deployment(), KEY, COMMITTEE.to_vec()).await
    }

    #[tokio::test]
    async fn facts_prove_the_ceremony_of_a_final_block_and_survive_their_file() {
        let anvil = chain(packed(KeyState::Drawn, DEADLINE), committee_hash(&COMMITTEE)).await;
        let facts = facts(&anvil).await.unwrap();
        let read: CeremonyFacts = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
        let proven = read.verify(&deployment(), KEY).unwrap();
        let block = anvil.provider.get_block_by_number(proven.block.number.into()).await.unwrap().unwrap();
        assert_eq!((proven.block.hash, proven.block.timestamp), (block.header.hash, block.header.timestamp));
        assert_eq!((proven.key.threshold, proven.key.members, proven.key.attempt), (3, 4, 3));
        assert_eq!((proven.key.kind, proven.key.mark), (KeyKind::Withdrawal, DEADLINE));
        assert_eq!(proven.key.consumer, Address::repeat_byte(0xcc));
        assert_eq!(proven.context.committee(), COMMITTEE);
        assert_eq!(proven.context.signers(), COMMITTEE.map(signer));
    }

    #[tokio::test]
    async fn nothing_in_facts_can_be_changed() {
        let anvil = chain(packed(KeyState::Drawn, DEADLINE), committee_hash(&COMMITTEE)).await;
        let good = facts(&anvil).await.unwrap();
        let hash = good.verify(&deployment(), KEY).unwrap().block.hash;
        let bad = |change: &dyn Fn(&mut CeremonyFacts)| {
            let mut facts = good.clone();
            change(&mut facts);
            facts.verify(&deployment(), KEY)
        };
        let proof = |result| matches!(result, Err(FactsError::State(StateError::BadProof { .. })));
        // Every digit of the header is in the hash that a person compares, or is refused.
        for position in 0..good.header.len() {
            let changed = bad(&|it| {
                let mut header = it.header.to_vec();
                header[position] ^= 1;
                it.header = header.into();
            });
            assert!(changed.is_err() || changed.is_ok_and(|it| it.block.hash != hash), "byte {position}");
        }
        assert_eq!(
            bad(&|it| it.header = [it.header.as_ref(), &[0]].concat().into()),
            Err(StateError::BadHeader.into())
        );
        assert_eq!(bad(&|it| it.header = Bytes::new()), Err(StateError::BadHeader.into()));
        assert!(proof(bad(&|it| it.key_registry.storage_hash = B256::repeat_byte(1))));
        assert!(proof(bad(&|it| it.key_registry.nonce += 1)));
        assert!(proof(bad(&|it| it.key_registry.account_proof.clear())));
        assert!(proof(bad(&|it| it.server_registry = it.key_registry.clone())));
        assert!(proof(bad(&|it| it.key_registry.storage_proof[0].value += U256::from(1))));
        assert!(proof(bad(&|it| it.key_registry.storage_proof[1].value = U256::ZERO)));
        assert!(proof(bad(&|it| it.key_registry.storage_proof[1].proof.clear())));
        assert!(proof(bad(&|it| it.server_registry.storage_proof.swap_remove(2).proof.clear())));
        assert!(proof(bad(&|it| {
            let other = it.server_registry.storage_proof[1].clone();
            it.server_registry.storage_proof[0].value = other.value;
            it.server_registry.storage_proof[0].proof = other.proof;
        })));
        let wrong = Err(FactsError::WrongCommittee { key_id: KEY });
        assert_eq!(bad(&|it| it.committee.swap(0, 1)), wrong);
        assert_eq!(bad(&|it| it.committee.push(1)), wrong);
        // Of another key, of another deployment.
        assert!(proof(good.verify(&deployment(), KEY + 1)));
        let elsewhere = Deployment { key_registry: Address::repeat_byte(9), ..deployment() };
        assert!(proof(good.verify(&elsewhere, KEY)));
    }

    #[tokio::test]
    async fn only_a_ceremony_that_runs_is_one() {
        let hash = committee_hash(&COMMITTEE);
        let live = chain(packed(KeyState::Live, DEADLINE), hash).await;
        let error = facts(&live).await.unwrap_err().to_string();
        assert!(error.contains("key 7 is Live; there is a ceremony only while it is Drawn"), "{error}");
        let late = chain(packed(KeyState::Drawn, 1), hash).await;
        let error = facts(&late).await.unwrap_err().to_string();
        assert!(error.contains("the time for the ceremony of key 7 is over"), "{error}");
        let other = chain(packed(KeyState::Drawn, DEADLINE), B256::repeat_byte(1)).await;
        let error = facts(&other).await.unwrap_err().to_string();
        assert!(error.contains("is not the one that the chain committed to"), "{error}");
    }
}
