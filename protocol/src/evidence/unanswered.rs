//! Silence: a challenge that still stood in the Court's own storage when its time was over.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolValue as _;
use serde::{Deserialize, Serialize};
use stkr_core::ShareIndex;

use super::{Accused, EvidenceError, Found};
use crate::{
    json,
    state::{ProvenBlock, StorageProof},
};

/// `Court._challenges` (`forge inspect Court storage-layout`; a test against anvil reads a challenge that the Court made).
const COURT_CHALLENGES: u64 = 4;
/// `Acknowledgements._challenges`.
const ACKNOWLEDGEMENT_CHALLENGES: u64 = 1;

/// A member of a Live key that was asked to sign what the chain ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AskedSignature {
    /// Key.
    #[serde(with = "json::decimal")]
    pub key_id: u64,
    /// Share.
    #[serde(with = "json::index")]
    pub index: ShareIndex,
    /// What had to be signed.
    #[serde(with = "json::hash")]
    pub signing_root: B256,
}

/// A member of a ceremony that was asked to acknowledge the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AskedAcknowledgement {
    /// Key.
    #[serde(with = "json::decimal")]
    pub key_id: u64,
    /// Number of the ceremony.
    #[serde(with = "json::decimal")]
    pub attempt: u16,
    /// Member.
    #[serde(with = "json::index")]
    pub index: ShareIndex,
}

/// Who was asked for what, on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "asks", rename_all = "snake_case")]
pub enum Asked {
    /// See [`AskedSignature`].
    Signature(AskedSignature),
    /// See [`AskedAcknowledgement`].
    Acknowledgement(AskedAcknowledgement),
}

impl Asked {
    /// Key.
    #[must_use]
    pub const fn key_id(&self) -> u64 {
        match self {
            Self::Signature(it) => it.key_id,
            Self::Acknowledgement(it) => it.key_id,
        }
    }

    /// The contract that keeps the challenge: the Court, or the one that it created first.
    #[must_use]
    pub fn kept_by(&self, court: Address) -> Address {
        match self {
            Self::Signature(_) => court,
            Self::Acknowledgement(_) => court.create(1),
        }
    }

    /// Where in its storage: the first slot of the challenge has all that evidence needs.
    #[must_use]
    pub fn slot(&self) -> B256 {
        let mapping = match self {
            Self::Signature(_) => COURT_CHALLENGES,
            Self::Acknowledgement(_) => ACKNOWLEDGEMENT_CHALLENGES,
        };
        keccak256((self.id(), U256::from(mapping)).abi_encode())
    }

    /// Name of the challenge: `UnansweredChallenge.idOf`, `IAcknowledgements.idOf`.
    fn id(&self) -> B256 {
        match self {
            Self::Signature(it) => keccak256((word(it.key_id), word(it.index.get()), it.signing_root).abi_encode()),
            Self::Acknowledgement(it) => {
                keccak256((word(it.key_id), word(it.attempt), word(it.index.get())).abi_encode())
            }
        }
    }

    /// What the Court calls the evidence.
    fn evidence(&self, deadline: u64) -> B256 {
        match self {
            Self::Signature(_) => keccak256((self.id(), word(deadline)).abi_encode()),
            Self::Acknowledgement(it) => {
                keccak256((word(it.key_id), word(it.attempt), word(it.index.get()), word(deadline)).abi_encode())
            }
        }
    }
}

/// As `abi.encode` pads a number of any width.
fn word(number: impl Into<u64>) -> U256 {
    U256::from(number.into())
}

/// A challenge that nobody answered, as the chain kept it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnansweredProof {
    /// What for.
    pub asked: Asked,
    /// The challenge in a block later than its last.
    pub state: StorageProof,
}

/// The first slot of a challenge, as Solidity packs it (first field lowest).
struct Kept {
    challenger: Address,
    deadline: u64,
    committee_epoch: u32,
    server_id: u32,
}

impl Kept {
    fn read(asked: &Asked, word: B256) -> Self {
        let [rest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = word.0;
        let challenger = Address::from_word(word);
        match asked {
            // challenger 20 bytes, deadline 4, committeeEpoch 4, server 4.
            Asked::Signature(_) => {
                let [s3, s2, s1, s0, e3, e2, e1, e0, d3, d2, d1, d0] = rest;
                Self {
                    challenger,
                    deadline: u32::from_be_bytes([d3, d2, d1, d0]).into(),
                    committee_epoch: u32::from_be_bytes([e3, e2, e1, e0]),
                    server_id: u32::from_be_bytes([s3, s2, s1, s0]),
                }
            }
            // challenger 20 bytes, deadline 6, server 4.
            Asked::Acknowledgement(_) => {
                let [_, _, s3, s2, s1, s0, d5, d4, d3, d2, d1, d0] = rest;
                Self {
                    challenger,
                    deadline: u64::from_be_bytes([0, 0, d5, d4, d3, d2, d1, d0]),
                    committee_epoch: 0,
                    server_id: u32::from_be_bytes([s3, s2, s1, s0]),
                }
            }
        }
    }
}

pub(super) fn unanswered(it: &UnansweredProof, court: Address) -> Result<Found, EvidenceError> {
    let asked = &it.asked;
    let block = it.state.verify(asked.kept_by(court), asked.slot())?;
    let kept = Kept::read(asked, it.state.word);
    if kept.challenger.is_zero() {
        return Err(EvidenceError::NotAsked { block: block.number });
    }
    if !is_over(asked, kept.deadline, &block) {
        return Err(EvidenceError::StillTime { block: block.number });
    }
    let accused = Accused::Silent { server_id: kept.server_id, block };
    Ok((asked.evidence(kept.deadline), asked.key_id(), kept.committee_epoch, accused))
}

/// The state is that after the block, in which an answer may still have been sent.
const fn is_over(asked: &Asked, deadline: u64, block: &ProvenBlock) -> bool {
    match asked {
        Asked::Signature(_) => block.number > deadline,
        Asked::Acknowledgement(_) => block.timestamp > deadline,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        ProtocolDomain,
        evidence::{EvidenceFile, Proof, Verified},
        state::testing::storage_proof,
    };

    const COURT: Address = Address::repeat_byte(0xc0);
    const BLOCK: u64 = 9_000;
    const TIME: u64 = 1_700_000_000;

    fn index() -> ShareIndex {
        ShareIndex::new(2).unwrap()
    }

    fn signature() -> Asked {
        Asked::Signature(AskedSignature { key_id: 5, index: index(), signing_root: B256::repeat_byte(7) })
    }

    fn acknowledgement() -> Asked {
        Asked::Acknowledgement(AskedAcknowledgement { key_id: 5, attempt: 3, index: index() })
    }

    /// The first slot, highest field first. `mark` is the deadline.
    fn packed(asked: &Asked, mark: u64, challenger: u8) -> B256 {
        let mark = mark.to_be_bytes();
        let rest: Vec<u8> = match asked {
            Asked::Signature(_) => [&[0, 0, 0, 42], &[0, 0, 0, 1], &mark[4..]].concat(),
            Asked::Acknowledgement(_) => [&[0, 0], &[0, 0, 0, 42_u8][..], &mark[2..]].concat(),
        };
        B256::from_slice(&[rest.as_slice(), &[challenger; 20]].concat())
    }

    fn proof_of(asked: Asked, mark: u64, challenger: u8) -> UnansweredProof {
        let word = packed(&asked, mark, challenger);
        UnansweredProof { asked, state: storage_proof((BLOCK, TIME), asked.kept_by(COURT), asked.slot(), word) }
    }

    fn verify_for(court: Address, it: UnansweredProof) -> Result<Verified, EvidenceError> {
        let domain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(0xee) };
        EvidenceFile::new(&domain, court, Proof::UnansweredChallenge(it)).verify()
    }

    fn verify(it: UnansweredProof) -> Result<Verified, EvidenceError> {
        verify_for(COURT, it)
    }

    /// Evidence for the Court of the tests beside.
    pub(in super::super) fn unanswered() -> UnansweredProof {
        proof_of(signature(), BLOCK - 1, 0xaa)
    }

    /// Who is accused by it.
    pub(in super::super) fn accused() -> Accused {
        let block = ProvenBlock::of_header(&unanswered().state.header).unwrap().0;
        Accused::Silent { server_id: 42, block }
    }

    #[test]
    fn a_challenge_that_outlives_its_time_names_the_server_and_the_evidence_of_the_court() {
        let found = verify(unanswered()).unwrap();
        assert_eq!((found.key_id, found.committee_epoch, found.accused), (5, 1, accused()));
        // As `Court.proveUnansweredChallenge` hashes it: keccak256(abi.encode(idOf(5, 2, root), deadline)).
        let id = keccak256([[0; 31].as_slice(), &[5], &[0; 31], &[2], &[7; 32]].concat());
        let deadline = B256::from(U256::from(BLOCK - 1));
        assert_eq!(found.evidence, keccak256([id.0, deadline.0].concat()));

        let found = verify(proof_of(acknowledgement(), TIME - 1, 0xaa)).unwrap();
        assert_eq!((found.key_id, found.committee_epoch), (5, 0));
        assert!(matches!(found.accused, Accused::Silent { server_id: 42, .. }));
        // As `Court.proveUnansweredAcknowledgement` hashes it.
        let words = [5, 3, 2, TIME - 1].map(|word| B256::from(U256::from(word)).0);
        assert_eq!(found.evidence, keccak256(words.concat()));
    }

    #[test]
    fn nobody_is_accused_who_can_still_answer() {
        assert_eq!(verify(proof_of(signature(), BLOCK, 0xaa)), Err(EvidenceError::StillTime { block: BLOCK }));
        assert!(verify(proof_of(signature(), BLOCK - 1, 0xaa)).is_ok());
        assert_eq!(verify(proof_of(acknowledgement(), TIME, 0xaa)), Err(EvidenceError::StillTime { block: BLOCK }));
        assert!(verify(proof_of(acknowledgement(), TIME - 1, 0xaa)).is_ok());
    }

    #[test]
    fn nobody_is_accused_who_was_not_asked_or_has_answered() {
        for asked in [signature(), acknowledgement()] {
            assert_eq!(verify(proof_of(asked, 1, 0)), Err(EvidenceError::NotAsked { block: BLOCK }));
            // An answer deletes the challenge, and the trie proves that nothing is there.
            let state = storage_proof((BLOCK, TIME), asked.kept_by(COURT), asked.slot(), B256::ZERO);
            let answered = verify(UnansweredProof { asked, state });
            assert_eq!(answered, Err(EvidenceError::NotAsked { block: BLOCK }));
        }
    }

    #[test]
    fn another_challenge_another_contract_or_another_word_proves_nothing() {
        let mislead = |found: Result<Verified, EvidenceError>| matches!(found, Err(EvidenceError::State(_)));
        assert!(mislead(verify_for(Address::repeat_byte(0xc1), unanswered())));
        let mut it = unanswered();
        it.asked = acknowledgement();
        assert!(mislead(verify(it)), "a signature passed off as an acknowledgement");
        let mut it = unanswered();
        it.asked = Asked::Signature(AskedSignature { key_id: 6, index: index(), signing_root: B256::repeat_byte(7) });
        assert!(mislead(verify(it)), "another key");
        let mut it = unanswered();
        it.state.word = packed(&signature(), BLOCK - 2, 0xaa);
        assert!(mislead(verify(it)), "an earlier deadline");
    }
}
