//! What anyone holds of a ceremony: the first message of each member in each round, and proof of second ones.

use std::fmt;

use alloy_primitives::{Address, B256, keccak256};
use stkr_core::ShareIndex;
use thiserror::Error;

use super::{Context, hash_of_hashes};
use crate::{
    SignatureError,
    evidence::{DefectiveDealing, MessagesProof, Proof},
    messages::{Body, CommitmentSetBody, DealingBody, DealingCommitmentBody, Round, SignedMessage},
    posted::{Accepted, Equivocation, Messages, NotSigned, must_be_signed},
};

/// Why a message has no effect. Never a reason to end a ceremony: whoever carries messages could make these up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// It belongs to another ceremony.
    #[error(
        "the message is for key {key_id}, attempt {attempt}; this ceremony is key {expected_key_id}, attempt {expected_attempt}"
    )]
    ForeignCeremony {
        /// Key in the message.
        key_id: u64,
        /// Attempt in the message.
        attempt: u16,
        /// Key of this ceremony.
        expected_key_id: u64,
        /// Attempt of this ceremony.
        expected_attempt: u16,
    },
    /// It was said among another committee, which a reorganisation took away, or among the same servers under another signer.
    #[error(
        "the {round} message of member {} is for the committee {committee}, and this ceremony is that of {expected}: the chain drew another, or a member changed its signer",
        .index.get()
    )]
    OtherCommittee {
        /// Round of the message.
        round: Round,
        /// Index in the message.
        index: ShareIndex,
        /// Committee in the message.
        committee: B256,
        /// Committee of this ceremony.
        expected: B256,
    },
    /// The committee has no such member.
    #[error("the message claims index {}, but the committee has {members} members", .index.get())]
    NoSuchMember {
        /// Index in the message.
        index: ShareIndex,
        /// n
        members: u8,
    },
    /// Not signed by the member it claims to come from, or for another chain or registry.
    #[error("the {round} message of member {} was signed by {recovered}, not by its signer {signer} on this chain and registry", .index.get())]
    WrongSigner {
        /// Round of the message.
        round: Round,
        /// Index in the message.
        index: ShareIndex,
        /// Who signed.
        recovered: Address,
        /// Who should have.
        signer: Address,
    },
    /// The signature is malformed.
    #[error("the {round} message of member {} has no valid signature: {error}", .index.get())]
    BadSignature {
        /// Round of the message.
        round: Round,
        /// Index in the message.
        index: ShareIndex,
        /// What is wrong.
        error: SignatureError,
    },
}

/// The authentic messages of one ceremony. At most five per member, and one piece of evidence against each.
#[derive(Clone)]
pub struct Board {
    context: Context,
    messages: Messages<Round, ShareIndex, SignedMessage>,
}

impl Board {
    /// An empty board for this ceremony.
    #[must_use]
    pub const fn new(context: Context) -> Self {
        Self { context, messages: Messages::new() }
    }

    /// The ceremony.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Takes a message from anywhere, of any round, in any order.
    ///
    /// Messages are compared by what they say: one digest signed twice with different randomness is no equivocation. What names
    /// another committee is of another ceremony: to the Court it contradicts nothing that is said in this one, so that it must stop nobody
    /// here.
    ///
    /// # Errors
    /// [`Rejected`]: the message is not authentic, or not of this ceremony; the board is as before.
    pub fn accept(&mut self, message: SignedMessage) -> Result<Accepted, Rejected> {
        let digest = self.authenticate(&message)?;
        let (round, index) = (message.round(), message.index);
        Ok(self.messages.add((round, index), message, digest))
    }

    /// Digest of a message that its claimed sender did sign for this ceremony.
    fn authenticate(&self, message: &SignedMessage) -> Result<B256, Rejected> {
        let context = &self.context;
        let (round, index) = (message.round(), message.index);
        if (message.key_id, message.attempt) != (context.key_id, context.attempt) {
            return Err(Rejected::ForeignCeremony {
                key_id: message.key_id,
                attempt: message.attempt,
                expected_key_id: context.key_id,
                expected_attempt: context.attempt,
            });
        }
        let (committee, expected) = (message.body.committee_hash(), context.committee_hash());
        if let Some(committee) = committee.filter(|committee| *committee != expected) {
            return Err(Rejected::OtherCommittee { round, index, committee, expected });
        }
        let signer =
            context.member(index).ok_or(Rejected::NoSuchMember { index, members: context.threshold.n() })?.signer;
        let digest = message.digest(&context.domain);
        must_be_signed(digest, &message.signature, signer).map_err(|error| match error {
            NotSigned::By(recovered) => Rejected::WrongSigner { round, index, recovered, signer },
            NotSigned::AtAll(error) => Rejected::BadSignature { round, index, error },
        })?;
        Ok(digest)
    }

    /// All messages, evidence included: what a relayer hands to every member.
    ///
    /// # Warning
    /// A member's own board also holds its dealing before it may be shown; see [`super::Member::published`].
    pub fn messages(&self) -> impl Iterator<Item = &SignedMessage> {
        self.messages.all()
    }

    /// The first message of `index` in `round`.
    #[must_use]
    pub fn message(&self, round: Round, index: ShareIndex) -> Option<&SignedMessage> {
        self.messages.get(round, index).map(|(message, _)| message)
    }

    /// The first proof that a member signed two different messages in one round.
    #[must_use]
    pub fn equivocation(&self) -> Option<(ShareIndex, &Equivocation)> {
        self.messages.equivocation()
    }

    /// The proof that this member did.
    #[must_use]
    pub fn equivocation_of(&self, index: ShareIndex) -> Option<&Equivocation> {
        self.messages.equivocation_of(index)
    }

    /// Members without a message in `round`.
    #[must_use]
    pub fn missing(&self, round: Round) -> Vec<ShareIndex> {
        self.indices().filter(|index| !self.has(round, *index)).collect()
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = ShareIndex> + use<> {
        self.context.threshold.indices()
    }

    pub(super) fn has(&self, round: Round, index: ShareIndex) -> bool {
        self.messages.has(round, index)
    }

    pub(super) fn is_complete(&self, round: Round) -> bool {
        self.indices().all(|index| self.has(round, index))
    }

    /// Published one-time key; `None` also where it has not 33 bytes.
    pub(super) fn one_time_key(&self, index: ShareIndex) -> Option<[u8; 33]> {
        match &self.message(Round::OneTimeKey, index)?.body {
            Body::OneTimeKey(body) => body.public_key.as_slice().try_into().ok(),
            _ => None,
        }
    }

    /// All n one-time keys, index order, once they are there and usable as bytes.
    pub(super) fn one_time_keys(&self) -> Option<Vec<u8>> {
        let keys: Option<Vec<_>> = self.indices().map(|index| self.one_time_key(index)).collect();
        keys.map(|keys| keys.as_flattened().to_vec())
    }

    /// Hash over all n one-time keys: what a dealing names as its recipients'.
    pub(super) fn one_time_keys_hash(&self) -> Option<B256> {
        self.one_time_keys().map(keccak256)
    }

    /// Proof that the dealing of this member is none, as far as anybody can see it: all but the shares.
    #[must_use]
    pub fn malformed(&self, dealer: ShareIndex) -> Option<DefectiveDealing> {
        let threshold = self.context.threshold;
        let dealing = self.message(Round::Dealing, dealer)?;
        DefectiveDealing::find(dealing, (threshold.t(), threshold.n()), self.one_time_keys(), &self.context.domain)
    }

    /// A commitment and a dealing of this member that is not its.
    #[must_use]
    pub fn broken_commitment(&self, dealer: ShareIndex) -> Option<Equivocation> {
        let ((_, dealt), committed) = (self.dealing(dealer)?, self.committed(dealer)?);
        let of = |round| self.message(round, dealer).cloned();
        let (first, second) = (of(Round::DealingCommitment)?, of(Round::Dealing)?);
        (dealt != committed).then_some(Equivocation { first, second })
    }

    /// The set that a member of this committee signed if these dealings are what it committed to, once all of them are there.
    #[must_use]
    pub fn dealt_set(&self) -> Option<CommitmentSetBody> {
        let hashes: Option<Vec<B256>> = self.indices().map(|dealer| Some(self.dealing(dealer)?.1)).collect();
        let committee_hash = self.context.committee_hash();
        Some(CommitmentSetBody { committee_hash, commitments_hash: hash_of_hashes(hashes?) })
    }

    /// Proof of the first fault of a member that anybody can see in these messages: two of them that contradict each other, or a
    /// dealing that is none.
    #[must_use]
    pub fn fault(&self) -> Option<Proof> {
        let broken = self.indices().find_map(|dealer| self.broken_commitment(dealer));
        if let Some(found) = self.equivocation().map(|(_, found)| found.clone()).or(broken) {
            return Some(Proof::CeremonyEquivocation(MessagesProof { first: found.first, second: found.second }));
        }
        self.indices().find_map(|dealer| self.malformed(dealer)).map(Proof::MalformedDealing)
    }

    pub(super) fn committed(&self, index: ShareIndex) -> Option<B256> {
        match self.message(Round::DealingCommitment, index)?.body {
            Body::DealingCommitment(DealingCommitmentBody { dealing_hash }) => Some(dealing_hash),
            _ => None,
        }
    }

    pub(super) fn set(&self, index: ShareIndex) -> Option<CommitmentSetBody> {
        match self.message(Round::CommitmentSet, index)?.body {
            Body::CommitmentSet(set) => Some(set),
            _ => None,
        }
    }

    /// The set that every member of this committee signs, once all commitments are there.
    #[must_use]
    pub fn commitment_set(&self) -> Option<CommitmentSetBody> {
        let committee_hash = self.context.committee_hash();
        Some(CommitmentSetBody { committee_hash, commitments_hash: self.commitments_hash()? })
    }

    /// A dealing and its hash.
    pub(super) fn dealing(&self, index: ShareIndex) -> Option<(&DealingBody, B256)> {
        let (message, digest) = self.messages.get(Round::Dealing, index)?;
        match &message.body {
            Body::Dealing(body) => Some((body, digest)),
            _ => None,
        }
    }

    /// Hash over all n commitments, once they are there.
    pub(super) fn commitments_hash(&self) -> Option<B256> {
        let hashes: Option<Vec<B256>> = self.indices().map(|index| self.committed(index)).collect();
        hashes.map(hash_of_hashes)
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board")
            .field("key_id", &self.context.key_id)
            .field("attempt", &self.context.attempt)
            .field("posted", &self.messages.places().map(|(round, index)| (*round, index.get())).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
