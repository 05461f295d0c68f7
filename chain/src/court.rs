//! Evidence and challenges as calls of the Court, and what a call of the Court accused whom of.

use std::fmt;

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::{SolInterface, SolValue as _},
};
use stkr_core::ShareIndex;
use stkr_protocol::{
    ProtocolDomain,
    envelope::duty_name,
    evidence::{
        Asked, EvidenceFile, Holder, Proof, SignedDealing, SignedDutyRequest, SignedEnvelope, UnansweredProof, Verified,
    },
    messages::{Round, SignedMessage},
};

use crate::{
    bindings::Acknowledgements::AcknowledgementsCalls as AnswerCalls,
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

/// Blocks from a commitment to the first block that takes its proof (`ICourt.COMMITMENT_BLOCKS`).
pub const COMMITMENT_BLOCKS: u64 = 3;

/// Step 2: the proof itself, by whoever committed to it [`COMMITMENT_BLOCKS`] before.
#[must_use]
pub fn prove(file: &EvidenceFile) -> Call {
    Call { to: file.court, value: U256::ZERO, data: proof(&file.proof).abi_encode().into(), gas_limit: None }
}

/// What the Court calls the challenge to the holder of a share to sign `root`; one is open at a time.
#[must_use]
pub fn challenge_id(key_id: u64, index: u8, root: B256) -> B256 {
    keccak256((U256::from(key_id), U256::from(index), root).abi_encode())
}

/// What the Court calls the evidence of a challenge that nobody answered up to block `deadline`.
#[must_use]
pub fn unanswered(id: B256, deadline: u64) -> B256 {
    keccak256((id, U256::from(deadline)).abi_encode())
}

/// Asks the holder of share `index` of a key on-chain to sign `root`, which the chain ordered; `fee` in wei.
#[must_use]
pub fn challenge(court: Address, (key_id, index, root): (u64, ShareIndex, B256), of: &Holder, fee: U256) -> Call {
    let call = Court::challengeSignatureCall {
        keyId: U256::from(key_id),
        index: index.get(),
        signingRoot: root,
        signer: of.signer,
        holder: holder(of),
    };
    Call::new(court, &call).with_value(fee)
}

/// Answers a challenge with what the server gave.
#[must_use]
pub fn answer(court: Address, given: &SignedEnvelope, partial: &[u8]) -> Call {
    let partial_ = Bytes::copy_from_slice(partial);
    let call =
        Court::answerSignatureCall { envelope: envelope(given), signature: signature(&given.signature), partial_ };
    Call::new(court, &call)
}

/// Shows that nobody answered a challenge in time.
#[must_use]
pub fn prove_unanswered(court: Address, (key_id, index, root): (u64, u8, B256)) -> Call {
    Call::new(court, &Court::proveUnansweredChallengeCall { keyId: U256::from(key_id), index, signingRoot: root })
}

/// The envelope that answered a challenge, put together again from the event; nothing for numbers that no key or share has.
#[must_use]
pub fn answered(it: &Court::SignatureAnswered) -> Option<SignedEnvelope> {
    Some(SignedEnvelope {
        key_id: u64::try_from(it.keyId).ok()?,
        // The Court takes answers of the first committee only: there is no other yet.
        committee_epoch: 0,
        index: ShareIndex::new(it.index).ok()?,
        duty_kind: it.dutyKind,
        slot: it.slot,
        source_epoch: it.sourceEpoch,
        target_epoch: it.targetEpoch,
        signing_root: it.signingRoot,
        partial_hash: keccak256(&it.partial_),
        signature: it.signature.as_ref().try_into().ok()?,
    })
}

/// What an envelope answers: key, share index, root.
#[must_use]
pub const fn answered_in(it: &SignedEnvelope) -> (u64, u8, B256) {
    (it.key_id, it.index.get(), it.signing_root)
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
            holders: std::iter::once(&it.holder).chain(it.later_holder.as_deref()).map(holder).collect(),
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
        // The Court looks into its own storage: what the file proves of it is for people.
        Proof::UnansweredChallenge(UnansweredProof { asked: Asked::Signature(it), .. }) => {
            CourtCalls::proveUnansweredChallenge(Court::proveUnansweredChallengeCall {
                keyId: U256::from(it.key_id),
                index: it.index.get(),
                signingRoot: it.signing_root,
            })
        }
        Proof::UnansweredChallenge(UnansweredProof { asked: Asked::Acknowledgement(it), .. }) => {
            CourtCalls::proveUnansweredAcknowledgement(Court::proveUnansweredAcknowledgementCall {
                keyId: U256::from(it.key_id),
                attempt: it.attempt,
                index: it.index.get(),
            })
        }
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
    /// `attestation`, `deposit` and so on, `acknowledgement message of attempt 0`, or `dealing of attempt 0`.
    pub what: String,
    /// Slot; 0 where it has none.
    pub slot: u64,
    /// Source epoch of an attestation, else 0.
    pub source_epoch: u64,
    /// Target epoch of an attestation, else 0.
    pub target_epoch: u64,
    /// What [`SignedThing::root`] is: `root` of what has a signing root, else the field of the message, for example `points hash`.
    pub root_name: &'static str,
    /// Signing root; of two ceremony messages the first field in which they differ; of a dealing the hash of the one-time keys it was
    /// made for.
    pub root: B256,
}

/// Names of the fields of a ceremony message in the order of [`SignedMessage::words`].
const fn fields_of(round: Round) -> &'static [&'static str] {
    match round {
        Round::OneTimeKey => &["hash of the one-time key"],
        Round::DealingCommitment => &["dealing hash"],
        Round::CommitmentSet => &["committee hash", "commitments hash"],
        Round::Dealing => &[
            "hash of the one-time keys",
            "hash of the one-time key",
            "hash of the commitments",
            "hash of the proof of possession",
            "hash of the shares",
        ],
        Round::Acknowledgement => &["threshold", "points hash", "committee hash", "dealings digest"],
    }
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
        Ok(CourtCalls::proveCeremonyEquivocation(it)) => said(&it.first, &it.second).into(),
        Ok(CourtCalls::proveBadDealing(it)) => vec![dealt(&it.dealing)],
        Ok(CourtCalls::proveMalformedDealing(it)) => vec![dealt(&it.dealing)],
        Ok(CourtCalls::proveProviderEquivocation(it)) => vec![requested(&it.first), requested(&it.second)],
        Ok(CourtCalls::proveUnansweredChallenge(it)) => vec![SignedThing {
            what: "nothing, although the chain ordered it and was asked for it".to_owned(),
            slot: 0,
            source_epoch: 0,
            target_epoch: 0,
            root_name: "root",
            root: it.signingRoot,
        }],
        Ok(CourtCalls::proveUnansweredAcknowledgement(it)) => vec![SignedThing {
            what: format!("no acknowledgement in attempt {}, although it was asked for it", it.attempt),
            slot: 0,
            source_epoch: 0,
            target_epoch: 0,
            root_name: "root",
            root: B256::ZERO,
        }],
        Ok(_) => Vec::new(),
        Err(_) => shown_in_answer(input).unwrap_or_default(),
    }
}

/// The same of an answer to a challenge to acknowledge a key, which sentences whoever it shows at once. The two contracts have the
/// structures in common, and each its own name for them.
fn shown_in_answer(input: &[u8]) -> Option<Vec<SignedThing>> {
    let dealing = |it: Vec<u8>| Court::Dealing::abi_decode(&it).ok();
    let message = |it: Vec<u8>| Court::CeremonyMessage::abi_decode(&it).ok();
    match AnswerCalls::abi_decode(input).ok()? {
        AnswerCalls::answerBadDealing(it) => Some(vec![dealt(&dealing(it.dealing.abi_encode())?)]),
        AnswerCalls::answerMalformedDealing(it) => Some(vec![dealt(&dealing(it.dealing.abi_encode())?)]),
        AnswerCalls::answerEquivocation(it) => {
            let [first, second] = [message(it.first.abi_encode())?, message(it.second.abi_encode())?];
            Some(said(&first, &second).into())
        }
        _ => None,
    }
}

impl fmt::Display for SignedThing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.slot != 0 {
            write!(f, " of slot {}", self.slot)?;
        }
        if (self.source_epoch, self.target_epoch) != (0, 0) {
            write!(f, ", source {}, target {}", self.source_epoch, self.target_epoch)?;
        }
        write!(f, ", {} {}", self.root_name, self.root)
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
        root_name: "root",
        root: it.signingRoot,
    }
}

fn requested(it: &Court::DutyRequest) -> SignedThing {
    SignedThing {
        what: format!("request for {}", duty_words(it.dutyKind)),
        slot: it.slot,
        source_epoch: it.sourceEpoch,
        target_epoch: it.targetEpoch,
        root_name: "root",
        root: it.signingRoot,
    }
}

/// What two messages of one round said, each with the first field in which they differ: the rest is the same in both.
fn said(first: &Court::CeremonyMessage, second: &Court::CeremonyMessage) -> [SignedThing; 2] {
    let differ = first.fields.iter().zip(&second.fields).position(|(one, other)| one != other).unwrap_or_default();
    [first, second].map(|it| {
        let round = usize::from(it.round).checked_sub(1).and_then(|position| Round::ALL.get(position)).copied();
        let name = round.map_or_else(|| format!("round {}", it.round), |round| round.name().replace('_', " "));
        SignedThing {
            what: format!("{name} message of attempt {}", it.attempt),
            slot: 0,
            source_epoch: 0,
            target_epoch: 0,
            root_name: round.and_then(|round| fields_of(round).get(differ)).copied().unwrap_or("field"),
            root: it.fields.get(differ).copied().unwrap_or_default(),
        }
    })
}

fn dealt(it: &Court::Dealing) -> SignedThing {
    SignedThing {
        what: format!("dealing of attempt {}", it.attempt),
        slot: 0,
        source_epoch: 0,
        target_epoch: 0,
        root_name: "hash of the one-time keys",
        root: it.oneTimeKeysHash,
    }
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::b256, sol_types::SolCall as _};
    use stkr_protocol::evidence::{
        Defect, DefectiveDealing, DutiesProof, EnvelopeProof, MessagesProof, OpenedDealing, SignedDealing,
    };
    use stkr_protocol::messages::{
        AcknowledgementBody, Body, CommitmentSetBody, DealingBody, DealingCommitmentBody, OneTimeKeyBody,
    };

    use super::*;
    use crate::acknowledgements::refuse;

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
        let both = DutiesProof { first: signed(1), second: signed(2), holder: holder.clone(), later_holder: None };
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
            root_name: "root",
            root: B256::repeat_byte(3),
        };
        assert_eq!(shown(&call.data), [expected]);
        assert_eq!(shown(&keccak256("else").0), []);
        let call = prove_unanswered(court, (5, 2, B256::repeat_byte(9)));
        assert_eq!(shown(&call.data)[0].root, B256::repeat_byte(9));
        assert_eq!(duty_words(12), "bls to execution change");
        assert_eq!(duty_words(200), "duty of kind 200");
    }

    #[test]
    fn of_two_ceremony_messages_the_field_is_shown_in_which_they_differ_and_the_round_by_its_name() {
        let shown_of = |bodies: [Body; 2]| {
            let [first, second] = bodies.map(|body| SignedMessage {
                key_id: 5,
                attempt: 1,
                index: ShareIndex::new(2).unwrap(),
                body,
                signature: [7; 65],
            });
            let domain = ProtocolDomain { chain_id: 1, key_registry: Address::ZERO };
            let proof = Proof::CeremonyEquivocation(MessagesProof { first, second });
            let answer = refuse(Address::repeat_byte(8), 1, &[1, 2], &proof).unwrap();
            let call = prove(&EvidenceFile::new(&domain, Address::repeat_byte(9), proof));
            assert_eq!(shown(&answer.data), shown(&call.data), "whoever answers a challenge with it shows the same");
            shown(&call.data).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let acknowledgement = |points: u8, dealings: u8| {
            Body::Acknowledgement(AcknowledgementBody {
                threshold: 3,
                points_hash: B256::repeat_byte(points),
                committee_hash: B256::repeat_byte(8),
                dealings_digest: B256::repeat_byte(dealings),
            })
        };
        let is_said =
            |it: &str, name: &str, byte: u8| format!("{it} message of attempt 1, {name} {}", B256::repeat_byte(byte));
        assert_eq!(
            shown_of([acknowledgement(1, 5), acknowledgement(2, 6)]),
            [1, 2].map(|byte| is_said("acknowledgement", "points hash", byte))
        );
        assert_eq!(
            shown_of([acknowledgement(1, 5), acknowledgement(1, 6)]),
            [5, 6].map(|byte| is_said("acknowledgement", "dealings digest", byte))
        );
        let set = |commitments: u8| {
            Body::CommitmentSet(CommitmentSetBody {
                committee_hash: B256::repeat_byte(8),
                commitments_hash: B256::repeat_byte(commitments),
            })
        };
        assert_eq!(shown_of([set(3), set(4)]), [3, 4].map(|byte| is_said("commitment set", "commitments hash", byte)));
    }

    #[test]
    fn a_dealing_is_shown_by_a_report_and_by_an_answer() {
        let dealing = SignedDealing {
            key_id: 5,
            attempt: 1,
            index: 2,
            one_time_keys_hash: B256::repeat_byte(4),
            one_time_key: vec![2; 33],
            commitments: vec![0; 384],
            possession_hash: B256::ZERO,
            shares: vec![0; 128],
            signature: [7; 65],
        };
        let opened =
            OpenedDealing { dealing: dealing.clone(), one_time_keys: vec![2; 4 * 33], recipient: 1, secret: [1; 32] };
        let (threshold, members, defect) = (3, 4, Defect::Shape);
        let malformed = DefectiveDealing { dealing, threshold, members, defect, position: 0, hashed: Vec::new() };
        let domain = ProtocolDomain { chain_id: 1, key_registry: Address::ZERO };
        for proof in [Proof::BadDealing(opened), Proof::MalformedDealing(malformed)] {
            let answer = refuse(Address::repeat_byte(8), 1, &[1, 2], &proof).unwrap();
            let call = prove(&EvidenceFile::new(&domain, Address::repeat_byte(9), proof));
            let told: Vec<String> = shown(&call.data).iter().map(ToString::to_string).collect();
            let expected = format!("dealing of attempt 1, hash of the one-time keys {}", B256::repeat_byte(4));
            assert_eq!(told, [expected]);
            assert_eq!(shown(&answer.data), shown(&call.data));
        }
    }

    #[test]
    fn every_word_of_a_ceremony_message_has_a_name() {
        let dealing = DealingBody {
            one_time_keys_hash: B256::ZERO,
            one_time_key: Vec::new(),
            commitments: Vec::new(),
            proof_of_possession: Vec::new(),
            shares: Vec::new(),
        };
        let bodies = [
            Body::OneTimeKey(OneTimeKeyBody { public_key: Vec::new() }),
            Body::DealingCommitment(DealingCommitmentBody { dealing_hash: B256::ZERO }),
            Body::Dealing(dealing),
        ];
        for body in bodies {
            let index = ShareIndex::new(2).unwrap();
            let message = SignedMessage { key_id: 5, attempt: 1, index, body, signature: [7; 65] };
            assert_eq!(message.words().1.len(), fields_of(message.round()).len(), "{}", message.round());
        }
    }

    const ID: B256 = b256!("3c4b8cbc55831b10e3dad53a9c0f0f2b20a4fcb8301952c06f1569a504a3019d");
    const EVIDENCE: B256 = b256!("c234655918bbf3641931dcd0c65c76ff796c03049ac2737bf1e4483e4dbdfe63");

    /// `UnansweredChallenge.idOf(5, 2, bytes32(uint256(9)))` and the evidence of deadline 77, hashed by @noble/hashes.
    #[test]
    fn a_challenge_has_the_name_that_the_court_gives_it() {
        let id = challenge_id(5, 2, B256::with_last_byte(9));
        assert_eq!(id, ID);
        assert_eq!(unanswered(id, 77), EVIDENCE);
    }

    #[test]
    fn an_answer_is_read_back_from_its_event_with_everything_that_was_signed() {
        let partial = [8; 256];
        let given = SignedEnvelope { duty_kind: 1, slot: 0, partial_hash: keccak256(partial), ..signed(4) };
        let court = Address::repeat_byte(9);
        let call = Court::answerSignatureCall::abi_decode(&answer(court, &given, &partial).data).unwrap();
        let event = Court::SignatureAnswered {
            keyId: call.envelope.keyId,
            index: call.envelope.index,
            signingRoot: call.envelope.signingRoot,
            dutyKind: call.envelope.dutyKind,
            slot: call.envelope.slot,
            sourceEpoch: call.envelope.sourceEpoch,
            targetEpoch: call.envelope.targetEpoch,
            signature: call.signature,
            partial_: call.partial_,
        };
        assert_eq!(answered(&event), Some(given));
        assert_eq!(answered(&Court::SignatureAnswered { index: 0, ..event }), None);
    }
}
