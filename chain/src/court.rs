//! Evidence as calls of the Court, and what a call of the Court accused whom of.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::SolInterface,
};
use stkr_protocol::{
    ProtocolDomain,
    envelope::duty_name,
    evidence::{EvidenceFile, Holder, Proof, SignedDealing, SignedDutyRequest, SignedEnvelope, Verified},
    messages::SignedMessage,
};

use crate::{
    bindings::Court::{self, CourtCalls},
    deployment::Deployment,
    intents::Call,
};

impl Deployment {
    /// The EIP-712 domain of ceremony messages, envelopes and requests.
    #[must_use]
    pub const fn protocol_domain(&self) -> ProtocolDomain {
        ProtocolDomain { chain_id: self.chain_id, key_registry: self.key_registry }
    }
}

/// Step 1 of a report by `reporter`.
#[must_use]
pub fn commit(court: Address, verified: &Verified, reporter: Address) -> Call {
    Call::new(court, &Court::commitCall { commitment: verified.commitment(reporter) })
}

/// Step 2: the proof itself, by whoever committed to it in an earlier block.
#[must_use]
pub fn prove(file: &EvidenceFile) -> Call {
    Call { to: file.court, value: U256::ZERO, data: proof(&file.proof).abi_encode().into(), gas_limit: None }
}

fn proof(proof: &Proof) -> CourtCalls {
    match proof {
        Proof::InvalidPartial(it) => CourtCalls::proveInvalidPartial(Court::proveInvalidPartialCall {
            envelope: envelope(&it.envelope),
            signature: signature(&it.envelope.signature),
            holder: holder(&it.holder),
            partial_: it.partial.clone().into(),
        }),
        Proof::GarbagePartial(it) => CourtCalls::proveGarbagePartial(Court::proveGarbagePartialCall {
            envelope: envelope(&it.envelope),
            signature: signature(&it.envelope.signature),
            holder: holder(&it.holder),
            partial_: it.partial.clone().into(),
        }),
        Proof::ConflictingDuties(it) => CourtCalls::proveConflictingDuties(Court::proveConflictingDutiesCall {
            first: envelope(&it.first),
            firstSignature: signature(&it.first.signature),
            second: envelope(&it.second),
            secondSignature: signature(&it.second.signature),
            holder: holder(&it.holder),
        }),
        Proof::UnauthorisedSignature(it) => {
            CourtCalls::proveUnauthorisedSignature(Court::proveUnauthorisedSignatureCall {
                envelope: envelope(&it.envelope),
                signature: signature(&it.envelope.signature),
                holder: holder(&it.holder),
            })
        }
        Proof::ProviderEquivocation(it) => {
            CourtCalls::proveProviderEquivocation(Court::proveProviderEquivocationCall {
                first: request(&it.first),
                firstSignature: signature(&it.first.signature),
                second: request(&it.second),
                secondSignature: signature(&it.second.signature),
            })
        }
        Proof::CeremonyEquivocation(it) => {
            CourtCalls::proveCeremonyEquivocation(Court::proveCeremonyEquivocationCall {
                first: message(&it.first),
                firstSignature: signature(&it.first.signature),
                second: message(&it.second),
                secondSignature: signature(&it.second.signature),
            })
        }
        Proof::BadDealing(it) => CourtCalls::proveBadDealing(Court::proveBadDealingCall {
            dealing: dealing(&it.dealing),
            signature: signature(&it.dealing.signature),
            oneTimeKeys: it.one_time_keys.clone().into(),
            opening: Court::Opening { recipient: it.recipient, secret: U256::from_be_bytes(it.secret), y: it.y() },
        }),
        Proof::MalformedDealing(it) => CourtCalls::proveMalformedDealing(Court::proveMalformedDealingCall {
            dealing: dealing(&it.dealing),
            signature: signature(&it.dealing.signature),
            hashed: it.hashed.clone().into(),
            defect: it.defect as u8,
            position: it.position,
        }),
    }
}

fn dealing(it: &SignedDealing) -> Court::Dealing {
    Court::Dealing {
        keyId: U256::from(it.key_id),
        attempt: it.attempt,
        index: it.index,
        oneTimeKeysHash: it.one_time_keys_hash,
        oneTimeKey: it.one_time_key.clone().into(),
        commitments: it.commitments.clone().into(),
        possessionHash: it.possession_hash,
        shares: it.shares.clone().into(),
    }
}

fn signature(bytes: &[u8; 65]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn envelope(it: &SignedEnvelope) -> Court::Envelope {
    Court::Envelope {
        keyId: U256::from(it.key_id),
        committeeEpoch: it.committee_epoch,
        index: it.index.get(),
        dutyKind: it.duty_kind,
        slot: it.slot,
        sourceEpoch: it.source_epoch,
        targetEpoch: it.target_epoch,
        signingRoot: it.signing_root,
        partialHash: it.partial_hash,
    }
}

fn request(it: &SignedDutyRequest) -> Court::DutyRequest {
    Court::DutyRequest {
        keyId: U256::from(it.key_id),
        assignment: it.assignment,
        dutyKind: it.duty_kind,
        slot: it.slot,
        sourceEpoch: it.source_epoch,
        targetEpoch: it.target_epoch,
        signingRoot: it.signing_root,
    }
}

fn holder(it: &Holder) -> Court::ShareHolder {
    let share_key = Bytes::copy_from_slice(&it.share_key);
    Court::ShareHolder { server: it.server_id, shareKey: share_key, proof: it.proof.clone() }
}

fn message(it: &SignedMessage) -> Court::CeremonyMessage {
    let (round, fields) = it.words();
    let (key_id, index) = (U256::from(it.key_id), it.index.get());
    Court::CeremonyMessage { keyId: key_id, attempt: it.attempt, index, round, fields }
}

/// What was signed, in words: `attestation of slot 100, source 10, target 12, root 0x…`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedThing {
    /// `attestation`, `deposit` and so on, `ceremony message of round 4`, or `dealing of attempt 0`.
    pub what: String,
    /// Slot; 0 where it has none.
    pub slot: u64,
    /// Source epoch of an attestation, else 0.
    pub source_epoch: u64,
    /// Target epoch of an attestation, else 0.
    pub target_epoch: u64,
    /// Signing root; of a ceremony message its first field; of a dealing the hash of the one-time keys it was made for.
    pub root: B256,
}

/// What a call of the Court shows to have been signed; nothing for input that is no proof (a report through another
/// contract, for example).
#[must_use]
pub fn shown(input: &[u8]) -> Vec<SignedThing> {
    match CourtCalls::abi_decode(input) {
        Ok(CourtCalls::proveInvalidPartial(it)) => vec![duty(&it.envelope)],
        Ok(CourtCalls::proveGarbagePartial(it)) => vec![duty(&it.envelope)],
        Ok(CourtCalls::proveUnauthorisedSignature(it)) => vec![duty(&it.envelope)],
        Ok(CourtCalls::proveConflictingDuties(it)) => vec![duty(&it.first), duty(&it.second)],
        Ok(CourtCalls::proveCeremonyEquivocation(it)) => vec![said(&it.first), said(&it.second)],
        Ok(CourtCalls::proveBadDealing(it)) => vec![dealt(&it.dealing)],
        Ok(CourtCalls::proveMalformedDealing(it)) => vec![dealt(&it.dealing)],
        _ => Vec::new(),
    }
}

/// A number of a duty in words.
#[must_use]
pub fn duty_words(kind: u8) -> String {
    duty_name(kind).map_or_else(|| format!("duty of kind {kind}"), |name| name.replace('_', " "))
}

fn duty(it: &Court::Envelope) -> SignedThing {
    SignedThing {
        what: duty_words(it.dutyKind),
        slot: it.slot,
        source_epoch: it.sourceEpoch,
        target_epoch: it.targetEpoch,
        root: it.signingRoot,
    }
}

fn said(it: &Court::CeremonyMessage) -> SignedThing {
    SignedThing {
        what: format!("ceremony message of round {}", it.round),
        slot: 0,
        source_epoch: 0,
        target_epoch: 0,
        root: it.fields.first().copied().unwrap_or_default(),
    }
}

fn dealt(it: &Court::Dealing) -> SignedThing {
    SignedThing {
        what: format!("dealing of attempt {}", it.attempt),
        slot: 0,
        source_epoch: 0,
        target_epoch: 0,
        root: it.oneTimeKeysHash,
    }
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::keccak256, sol_types::SolCall as _};
    use stkr_core::ShareIndex;
    use stkr_protocol::evidence::{DutiesProof, EnvelopeProof};

    use super::*;

    fn signed(root: u8) -> SignedEnvelope {
        SignedEnvelope {
            key_id: 5,
            committee_epoch: 0,
            index: ShareIndex::new(2).unwrap(),
            duty_kind: 2,
            slot: 100,
            source_epoch: 10,
            target_epoch: 12,
            signing_root: B256::repeat_byte(root),
            partial_hash: B256::ZERO,
            signature: [7; 65],
        }
    }

    #[test]
    fn what_was_signed_is_read_back_from_the_proof() {
        let holder = Holder { server_id: 3, signer: Address::ZERO, share_key: [1; 128], proof: vec![B256::ZERO] };
        let domain = ProtocolDomain { chain_id: 1, key_registry: Address::ZERO };
        let court = Address::repeat_byte(9);
        let both = DutiesProof { first: signed(1), second: signed(2), holder: holder.clone() };
        let call = prove(&EvidenceFile::new(&domain, court, Proof::ConflictingDuties(both)));
        assert_eq!(call.to, court);
        assert_eq!(call.data[..4], Court::proveConflictingDutiesCall::SELECTOR);
        let roots: Vec<B256> = shown(&call.data).iter().map(|it| it.root).collect();
        assert_eq!(roots, [B256::repeat_byte(1), B256::repeat_byte(2)]);
        let one = EnvelopeProof { envelope: signed(3), holder };
        let call = prove(&EvidenceFile::new(&domain, court, Proof::UnauthorisedSignature(one)));
        let expected = SignedThing {
            what: "attestation".into(),
            slot: 100,
            source_epoch: 10,
            target_epoch: 12,
            root: B256::repeat_byte(3),
        };
        assert_eq!(shown(&call.data), [expected]);
        assert_eq!(shown(&keccak256("else").0), []);
        assert_eq!(duty_words(12), "bls to execution change");
        assert_eq!(duty_words(200), "duty of kind 200");
    }
}
