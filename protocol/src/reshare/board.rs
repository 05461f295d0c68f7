//! What anyone holds of a reshare: the first message of each sender in each round, and proof of second ones.

use std::fmt;

use alloy_primitives::{Address, B256, keccak256};
use stkr_core::{
    ShareIndex,
    dkg::DealingFault,
    reshare::{Dealing, RecipientKeysFault, ReshareError},
};
use thiserror::Error;

use super::{
    Body, Plan, ReshareDealingBody, ReshareId, ReshareMessage, Round, Sender,
    evidence::{DefectiveReshareDealing, Proof, ReshareMessagesProof},
};
use crate::{
    SignatureError,
    ceremony::hash_of_hashes,
    evidence::Holder,
    posted::{Accepted, Equivocation, Messages, NotSigned, must_be_signed},
};

/// Why a message has no effect. Never a reason to end a reshare: whoever carries messages could make these up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// It belongs to another reshare.
    #[error("the message is for {got}; this reshare is {expected}")]
    ForeignReshare {
        /// Of the message.
        got: ReshareId,
        /// This one.
        expected: ReshareId,
    },
    /// No dealer and no new member has this index.
    #[error("{0} has no part in this reshare")]
    NoPart(Sender),
    /// Not signed by the sender it claims to come from, or for another chain or registry.
    #[error(
        "the {round} message of {sender} was signed by {recovered}, not by its signer {signer} on this chain and registry"
    )]
    WrongSigner {
        /// Round of the message.
        round: Round,
        /// Sender that it claims.
        sender: Sender,
        /// Who signed.
        recovered: Address,
        /// Who should have.
        signer: Address,
    },
    /// The signature is malformed.
    #[error("the {round} message of {sender} has no valid signature: {error}")]
    BadSignature {
        /// Round of the message.
        round: Round,
        /// Sender that it claims.
        sender: Sender,
        /// What is wrong.
        error: SignatureError,
    },
}

/// The authentic messages of one attempt: at most 2n' + t, and one piece of evidence against each sender.
#[derive(Clone)]
pub struct Board {
    plan: Plan,
    messages: Messages<Round, Sender, ReshareMessage>,
}

impl Board {
    /// An empty board for this reshare.
    #[must_use]
    pub const fn new(plan: Plan) -> Self {
        Self { plan, messages: Messages::new() }
    }

    /// The reshare.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes a message from anywhere, of any round, in any order.
    ///
    /// # Errors
    /// [`Rejected`]: the message is not authentic; the board is as before.
    pub fn accept(&mut self, message: ReshareMessage) -> Result<Accepted, Rejected> {
        let (round, sender) = (message.round(), message.sender());
        if message.id != self.plan.id() {
            return Err(Rejected::ForeignReshare { got: message.id, expected: self.plan.id() });
        }
        let signer = self.plan.signer(sender).ok_or(Rejected::NoPart(sender))?;
        let digest = message.digest(self.plan.domain());
        must_be_signed(digest, &message.signature, signer).map_err(|error| match error {
            NotSigned::By(recovered) => Rejected::WrongSigner { round, sender, recovered, signer },
            NotSigned::AtAll(error) => Rejected::BadSignature { round, sender, error },
        })?;
        Ok(self.messages.add((round, sender), message, digest))
    }

    /// All messages, evidence included: what a relayer hands to every server.
    pub fn messages(&self) -> impl Iterator<Item = &ReshareMessage> {
        self.messages.all()
    }

    /// The first message of `sender` in `round`.
    #[must_use]
    pub fn message(&self, round: Round, sender: Sender) -> Option<&ReshareMessage> {
        self.messages.get(round, sender).map(|(message, _)| message)
    }

    /// The first proof that somebody signed two different messages in one round.
    #[must_use]
    pub fn equivocation(&self) -> Option<(Sender, &Equivocation<ReshareMessage>)> {
        self.messages.equivocation()
    }

    /// The proof that this sender did.
    #[must_use]
    pub fn equivocation_of(&self, sender: Sender) -> Option<&Equivocation<ReshareMessage>> {
        self.messages.equivocation_of(sender)
    }

    /// Whose message of `round` has not come.
    #[must_use]
    pub fn missing(&self, round: Round) -> Vec<Sender> {
        self.plan.senders(round).into_iter().filter(|sender| !self.messages.has(round, *sender)).collect()
    }

    pub(super) fn has(&self, round: Round, sender: Sender) -> bool {
        self.messages.has(round, sender)
    }

    /// The one-time keys of a new member, dealers' order, if they are what it may publish; nothing if they have not come.
    pub(super) fn keys_of(&self, member: ShareIndex) -> Option<Result<Vec<[u8; 33]>, RecipientKeysFault>> {
        let Body::Keys(body) = &self.message(Round::Keys, Sender::Member(member))?.body else {
            return None;
        };
        let (keys, rest) = body.public_keys.as_chunks::<33>();
        let expected = self.plan.dealers().len();
        if !rest.is_empty() {
            return Some(Err(RecipientKeysFault::Count { expected, got: body.public_keys.len().div_ceil(33) }));
        }
        Some(self.plan.reshare().check_recipient_keys(keys).map(|()| keys.to_vec()))
    }

    /// What all n' members published, once it is there and right.
    pub(super) fn published(&self) -> Option<Vec<Vec<[u8; 33]>>> {
        self.plan.threshold().indices().map(|member| self.keys_of(member)?.ok()).collect()
    }

    /// The n' one-time keys to which this dealer encrypts, once they are there and right; 33 bytes each, member order.
    #[must_use]
    pub fn recipient_keys(&self, dealer: ShareIndex) -> Option<Vec<u8>> {
        Some(self.plan.reshare().keys_for(dealer, &self.published()?).as_flattened().to_vec())
    }

    /// Their hash: what a dealing names as its recipients'.
    pub(super) fn recipient_keys_hash(&self, dealer: ShareIndex) -> Option<B256> {
        self.recipient_keys(dealer).map(keccak256)
    }

    pub(super) fn dealing(&self, dealer: ShareIndex) -> Option<&ReshareDealingBody> {
        match &self.message(Round::Dealing, Sender::Dealer(dealer))?.body {
            Body::Dealing(body) => Some(body),
            _ => None,
        }
    }

    /// A posted dealing, decoded and checked as anybody can; nothing if it has not come.
    pub(super) fn checked_dealing(&self, dealer: ShareIndex) -> Option<Result<Dealing, DealingFault>> {
        let body = self.dealing(dealer)?;
        let dealing = Dealing::from_wire(&body.one_time_key, &body.commitments, &body.shares);
        Some(dealing.and_then(|dealing| dealing.check(self.plan.reshare(), dealer).map(|()| dealing)))
    }

    /// All t dealings, dealers' order; names the first that is bad.
    pub(super) fn dealings(&self) -> Result<Vec<Dealing>, ReshareError> {
        let checked = |dealer: &ShareIndex| {
            let checked = self.checked_dealing(*dealer).ok_or(ReshareError::NoDealer(*dealer))?;
            checked.map_err(|fault| ReshareError::Dealer { dealer: *dealer, fault })
        };
        self.plan.dealers().iter().map(checked).collect()
    }

    /// keccak256 of the t digests of dealings, dealers' order, once they are there.
    #[must_use]
    pub fn dealings_digest(&self) -> Option<B256> {
        let digest = |dealer: &ShareIndex| Some(self.messages.get(Round::Dealing, Sender::Dealer(*dealer))?.1);
        let digests: Option<Vec<B256>> = self.plan.dealers().iter().map(digest).collect();
        digests.map(hash_of_hashes)
    }

    /// Proof that the dealing of this dealer is none, as far as anybody can see it: all but the shares.
    #[must_use]
    pub fn malformed(&self, dealer: ShareIndex) -> Option<DefectiveReshareDealing> {
        let dealing = self.message(Round::Dealing, Sender::Dealer(dealer))?;
        let holder = Holder::of(self.plan.old(), dealer)?;
        let threshold = self.plan.threshold();
        DefectiveReshareDealing::find(dealing, (threshold.t(), threshold.n()), &holder, self.plan.domain())
    }

    /// Proof of the first fault that anybody can see in these messages: two that contradict each other, or a dealing that is none.
    #[must_use]
    pub fn fault(&self) -> Option<Proof> {
        if let Some((_, found)) = self.equivocation() {
            let (first, second) = (found.first.clone(), found.second.clone());
            return Some(Proof::ReshareEquivocation(ReshareMessagesProof { first, second }));
        }
        let mut dealers = self.plan.dealers().iter();
        dealers.find_map(|dealer| self.malformed(*dealer)).map(Proof::MalformedReshareDealing)
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board")
            .field("reshare", &self.plan.id())
            .field("posted", &self.messages.places().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
