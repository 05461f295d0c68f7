//! Questions to members of a ceremony that do not acknowledge the key: calls and events of `Acknowledgements`.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::SolValue as _,
};
use stkr_core::{MAX_MEMBERS, ShareIndex};
use stkr_protocol::{
    evidence::{Proof, SignedDealing},
    messages::{Body, DealingBody, Round, SignedMessage},
};

use crate::{
    bindings::{Acknowledgements, Court},
    intents::Call,
};

/// Key, attempt and share index: who is asked in which ceremony. One challenge of each is open at a time.
pub type Asked = (u64, u16, u8);

/// Longest fields of a dealing that is looked at: those of the largest committee.
const MEMBERS: usize = MAX_MEMBERS as usize;
const LONGEST: [usize; 4] = [33, MEMBERS * 128, 256, MEMBERS * 32];

/// What a challenge for an acknowledgement shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Server ids, index order.
    pub committee: Vec<u32>,
    /// All n dealings, index order.
    pub dealings: Vec<SignedMessage>,
    /// The asked member's set of commitments to them.
    pub commitment_set: SignedMessage,
}

impl Shown {
    /// What of a ceremony's `messages` is shown to ask member `index` of the committee; nothing while any of it is missing. Of two
    /// messages that a member signed in one round the first counts.
    #[must_use]
    pub fn of(committee: Vec<u32>, messages: &[SignedMessage], index: u8) -> Option<Self> {
        let first = |round, index: u8| {
            let mut of_member = messages.iter().filter(move |it| it.round() == round && it.index.get() == index);
            of_member.next().cloned()
        };
        let indices = (1..=u8::MAX).zip(&committee).map(|(index, _)| index);
        let dealings = indices.map(|index| first(Round::Dealing, index)).collect::<Option<_>>()?;
        Some(Self { committee, dealings, commitment_set: first(Round::CommitmentSet, index)? })
    }
}

/// Asks the sender of the set to acknowledge what the dealings make; `fee` in wei. Nothing if what is shown are other messages.
#[must_use]
pub fn challenge(to: Address, shown: &Shown, fee: U256) -> Option<Call> {
    let set = &shown.commitment_set;
    let call = Acknowledgements::challengeAcknowledgementCall {
        keyId: U256::from(set.key_id),
        index: set.index.get(),
        committee: shown.committee.clone(),
        dealings: shown.dealings.iter().map(whole).collect::<Option<_>>()?,
        commitmentSet: signature(&set.signature),
    };
    (set.round() == Round::CommitmentSet).then(|| Call::new(to, &call).with_value(fee))
}

/// Answers with the acknowledgement.
#[must_use]
pub fn answer(to: Address, (key_id, attempt, index): Asked, acknowledgement: &[u8; 65]) -> Call {
    let signature = signature(acknowledgement);
    Call::new(to, &Acknowledgements::answerAcknowledgementCall { keyId: U256::from(key_id), attempt, index, signature })
}

/// Answers with the proof that another member of the committee is at fault. Nothing for a fault that is no answer.
#[must_use]
pub fn refuse(to: Address, index: u8, committee: &[u32], proof: &Proof) -> Option<Call> {
    let committee = committee.to_vec();
    Some(match proof {
        Proof::BadDealing(it) => {
            let y = it.y();
            let opening =
                Acknowledgements::Opening { recipient: it.recipient, secret: U256::from_be_bytes(it.secret), y };
            let call = Acknowledgements::answerBadDealingCall {
                index,
                committee,
                dealing: dealing(&it.dealing),
                signature: signature(&it.dealing.signature),
                oneTimeKeys: it.one_time_keys.clone().into(),
                opening,
            };
            Call::new(to, &call)
        }
        Proof::MalformedDealing(it) => {
            let call = Acknowledgements::answerMalformedDealingCall {
                index,
                committee,
                dealing: dealing(&it.dealing),
                signature: signature(&it.dealing.signature),
                hashed: it.hashed.clone().into(),
                defect: it.defect as u8,
                position: it.position,
            };
            Call::new(to, &call)
        }
        Proof::CeremonyEquivocation(it) => {
            let call = Acknowledgements::answerEquivocationCall {
                index,
                committee,
                first: message(&it.first),
                firstSignature: signature(&it.first.signature),
                second: message(&it.second),
                secondSignature: signature(&it.second.signature),
            };
            Call::new(to, &call)
        }
        _ => return None,
    })
}

/// Shows that nobody answered in time.
#[must_use]
pub fn prove_unanswered(court: Address, (key_id, attempt, index): Asked) -> Call {
    let key_id = U256::from(key_id);
    Call::new(court, &Court::proveUnansweredAcknowledgementCall { keyId: key_id, attempt, index })
}

/// What the Court calls the evidence of a challenge that nobody answered up to the unix time `deadline` (seconds).
#[must_use]
pub fn unanswered((key_id, attempt, index): Asked, deadline: u64) -> B256 {
    keccak256((U256::from(key_id), U256::from(attempt), U256::from(index), U256::from(deadline)).abi_encode())
}

/// Whom an event asks; nothing for numbers that no key has.
#[must_use]
pub fn asked_in(it: &Acknowledgements::AcknowledgementChallenged) -> Option<Asked> {
    Some((u64::try_from(it.keyId).ok()?, it.attempt, it.index))
}

/// The dealings that a challenge brought, as messages. Nothing if they are more or longer than a committee's can be: the contract
/// lets no such challenge through, but an endpoint may make one up.
#[must_use]
pub fn dealings_in(it: &Acknowledgements::AcknowledgementChallenged) -> Option<Vec<SignedMessage>> {
    let (key_id, attempt, _) = asked_in(it)?;
    let bounded = it.dealings.len() <= MEMBERS && usize::from(it.index) <= it.dealings.len() && it.index != 0;
    let members = (1..=u8::MAX).zip(&it.dealings).filter(|_| bounded);
    let dealings: Option<Vec<_>> = members.map(|(index, one)| message_of(one, (key_id, attempt, index))).collect();
    dealings.filter(|all| !all.is_empty())
}

fn message_of(it: &Acknowledgements::SignedDealing, (key_id, attempt, index): Asked) -> Option<SignedMessage> {
    let dealt = &it.dealing;
    let fields = [&dealt.oneTimeKey, &dealt.commitments, &it.proofOfPossession, &dealt.shares];
    let bounded = fields.iter().zip(LONGEST).all(|(field, longest)| field.len() <= longest);
    let ours = (dealt.keyId, dealt.attempt, dealt.index) == (U256::from(key_id), attempt, index);
    let body = DealingBody {
        one_time_keys_hash: dealt.oneTimeKeysHash,
        one_time_key: bounded.then(|| dealt.oneTimeKey.to_vec())?,
        commitments: dealt.commitments.to_vec(),
        proof_of_possession: it.proofOfPossession.to_vec(),
        shares: dealt.shares.to_vec(),
    };
    ours.then_some(SignedMessage {
        key_id,
        attempt,
        index: ShareIndex::new(index).ok()?,
        body: Body::Dealing(body),
        signature: it.signature.as_ref().try_into().ok()?,
    })
}

fn whole(it: &SignedMessage) -> Option<Acknowledgements::SignedDealing> {
    let Body::Dealing(body) = &it.body else { return None };
    Some(Acknowledgements::SignedDealing {
        dealing: dealing(&SignedDealing::of(it)?),
        proofOfPossession: body.proof_of_possession.clone().into(),
        signature: signature(&it.signature),
    })
}

fn dealing(it: &SignedDealing) -> Acknowledgements::Dealing {
    Acknowledgements::Dealing {
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

fn message(it: &SignedMessage) -> Acknowledgements::CeremonyMessage {
    let (round, fields) = it.words();
    let (key_id, index) = (U256::from(it.key_id), it.index.get());
    Acknowledgements::CeremonyMessage { keyId: key_id, attempt: it.attempt, index, round, fields }
}

fn signature(bytes: &[u8; 65]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::b256, sol_types::SolCall as _};
    use stkr_protocol::messages::CommitmentSetBody;

    use super::*;

    fn says(index: u8, body: Body) -> SignedMessage {
        SignedMessage { key_id: 5, attempt: 3, index: ShareIndex::new(index).unwrap(), body, signature: [index; 65] }
    }

    fn dealt(index: u8) -> SignedMessage {
        let body = DealingBody {
            one_time_keys_hash: B256::repeat_byte(1),
            one_time_key: vec![2; 33],
            commitments: vec![3; 3 * 128],
            proof_of_possession: vec![4; 256],
            shares: vec![5; 4 * 32],
        };
        says(index, Body::Dealing(body))
    }

    fn shown() -> Shown {
        let set = CommitmentSetBody { committee_hash: B256::ZERO, commitments_hash: B256::ZERO };
        let commitment_set = says(2, Body::CommitmentSet(set));
        Shown { committee: vec![4, 2, 6, 1], dealings: (1..=4).map(dealt).collect(), commitment_set }
    }

    fn event() -> Acknowledgements::AcknowledgementChallenged {
        let call = challenge(Address::ZERO, &shown(), U256::from(9)).unwrap();
        assert_eq!(call.value, U256::from(9));
        let call = Acknowledgements::challengeAcknowledgementCall::abi_decode(&call.data).unwrap();
        Acknowledgements::AcknowledgementChallenged {
            keyId: call.keyId,
            attempt: 3,
            index: call.index,
            server: 2,
            challenger: Address::ZERO,
            deadline: alloy::primitives::aliases::U48::from(77),
            fee: U256::from(9),
            acknowledgement: B256::ZERO,
            dealings: call.dealings,
        }
    }

    #[test]
    fn the_dealings_of_a_challenge_come_back_from_its_event_byte_for_byte() {
        assert_eq!(asked_in(&event()), Some((5, 3, 2)));
        assert_eq!(dealings_in(&event()), Some(shown().dealings));
        let other = Shown { commitment_set: dealt(2), ..shown() };
        assert!(challenge(Address::ZERO, &other, U256::ZERO).is_none(), "what is shown as the set is a dealing");
    }

    #[test]
    fn an_event_that_no_contract_emits_brings_nothing() {
        type Change = fn(&mut Acknowledgements::AcknowledgementChallenged);
        let changes: [Change; 9] = [
            |it| it.dealings.clear(),
            |it| it.dealings = vec![it.dealings[0].clone(); MEMBERS + 1],
            |it| it.dealings.swap(0, 1),
            |it| it.index = 5,
            |it| it.index = 0,
            |it| it.keyId = U256::MAX,
            |it| it.dealings[3].signature = Bytes::from(vec![1; 64]),
            |it| it.dealings[3].proofOfPossession = Bytes::from(vec![1; 257]),
            |it| it.dealings[3].dealing.shares = Bytes::from(vec![1; MEMBERS * 32 + 1]),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = event();
            change(&mut changed);
            assert_eq!(dealings_in(&changed), None, "change {number}");
        }
    }

    /// `keccak256(abi.encode(uint256(5), uint16(3), uint8(2), uint48(77)))`, hashed by @noble/hashes.
    #[test]
    fn an_unanswered_challenge_has_the_name_that_the_court_gives_it() {
        let hashed = b256!("883298245603826f0b96a688e9dd8e3042e10dc7071839b7138ea3d7264b85a5");
        assert_eq!(unanswered((5, 3, 2), 77), hashed);
    }
}
