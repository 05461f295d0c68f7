//! A reshare: a key goes to another committee and stays the same key, over a bulletin that nobody trusts.
//!
//! ```text
//! Participant::new -> step -> store Step -> send published() -> accept what comes -> step -> ...
//!                                                                        outcome -> store -> send
//! ```
//!
//! [`Plan`] is what finalised state fixes before anybody speaks, [`Participant`] one server's part (it deals, gets a share, or
//! both), [`Board`] what anyone holds who carries messages, [`Transcript`] what the contract takes at the end. All are pure: the
//! caller stores and sends. The mathematics is in [`stkr_core::reshare`], when which committee signs in [`crate::handover`].
//!
//! # Rounds
//! | round | who | when |
//! |---|---|---|
//! | keys | n' new members | at once |
//! | dealings | t dealers | holding all n' keys |
//! | acknowledgements | n' new members | holding all keys and dealings, and every check passed |
//!
//! # Why nobody commits before it deals
//! In the ceremony that makes a key, who sees all other dealings before its own chooses the key: hence commitments. Here the secret
//! is fixed, and so is each dealer's constant term (its share key). A dealer that picks its polynomial last picks t'-1 values of
//! the sum, those of t'-1 members, which it could have chosen anyway by being them; the values of the others follow from these
//! and from the key. That all hold the same dealings is what n' acknowledgements of one digest say.
//!
//! # What a caller must store, and when
//! The one-time secrets (encrypted) before the first step; all of a [`Step`] in one transaction *before* sending
//! [`Participant::published`] or showing the complaint; and every message for which `accept` said [`Accepted::New`] or
//! [`Accepted::Evidence`]. A server that lost any of it sits the attempt out: a second, different message would be equivocation.
//!
//! # What a caller must erase, and when
//! The one-time secrets with the outcome or the complaint; the share of an attempt that failed, and that of a committee that has
//! handed over, when [`crate::handover`] says so. Until then both are shares of a live key.

mod board;
pub mod evidence;
mod messages;
mod participant;
mod progress;
mod transcript;

#[cfg(test)]
mod tests;

use std::fmt;

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};
use stkr_core::{
    CommitteeKeys, ShareIndex, Threshold,
    dkg::DealingFault,
    reshare::{PlanError as CorePlanError, RecipientKeysFault, Reshare, ReshareDomain, ReshareError},
};
use thiserror::Error;
use utoipa::ToSchema;

pub use board::{Board, Rejected};
pub use messages::{Body, ReshareDealingBody, ReshareId, ReshareKeysBody, ReshareMessage, Round, Sender};
pub use participant::{Hands, Participant, Step, StepError, Stored};
pub use progress::{Arrivals, RoundProgress, progress};
pub use transcript::{Transcript, TranscriptError};

pub use crate::posted::{Accepted, Equivocation};
use crate::{
    ProtocolDomain,
    ceremony::{ContextError, MemberId, committee_hash, must_be_committee, points},
    collection::Committee,
    messages::AcknowledgementBody,
};

/// Which reshare this is, who deals and who gets a share. Read it from finalised state: nothing in it may come from a relayer.
#[derive(Clone, Debug)]
pub struct Plan {
    id: ReshareId,
    old: Committee,
    members: Vec<MemberId>,
    reshare: Reshare,
    deadline: u64,
}

/// A reshare that cannot be held.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Not n' new members, or one of them in two seats.
    #[error("the new committee is none: {0}")]
    Members(#[from] ContextError),
    /// Not the dealers that it needs.
    #[error(transparent)]
    Dealers(#[from] CorePlanError),
    /// Not the committee after the old one.
    #[error("committee epoch {new} does not follow {old}")]
    WrongEpoch {
        /// Of the committee that hands over.
        old: u32,
        /// Of the one that is being made.
        new: u32,
    },
}

impl Plan {
    /// The members `dealers` (ascending, t of them) of `old` deal to `members` (index order), t' of n'. After `deadline` (unix
    /// seconds) the chain takes no end of this attempt any more.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(
        id: ReshareId,
        old: Committee,
        dealers: Vec<ShareIndex>,
        (threshold, members): (Threshold, Vec<MemberId>),
        deadline: u64,
    ) -> Result<Self, PlanError> {
        if old.epoch().checked_add(1) != Some(id.committee_epoch) {
            return Err(PlanError::WrongEpoch { old: old.epoch(), new: id.committee_epoch });
        }
        must_be_committee(threshold, &members)?;
        let domain = reshare_domain(old.domain(), id);
        let reshare = Reshare::new(domain, old.keys().clone(), dealers, threshold)?;
        Ok(Self { id, old, members, reshare, deadline })
    }

    /// Chain and registry.
    #[must_use]
    pub const fn domain(&self) -> &ProtocolDomain {
        self.old.domain()
    }

    /// Which reshare.
    #[must_use]
    pub const fn id(&self) -> ReshareId {
        self.id
    }

    /// The committee that hands over.
    #[must_use]
    pub const fn old(&self) -> &Committee {
        &self.old
    }

    /// The new committee, index order.
    #[must_use]
    pub fn members(&self) -> &[MemberId] {
        &self.members
    }

    /// t' of n'.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.reshare.new_threshold()
    }

    /// Who deals: t indices of the old committee, ascending.
    #[must_use]
    pub fn dealers(&self) -> &[ShareIndex] {
        self.reshare.dealers()
    }

    /// Unix seconds until which the chain takes the end of this attempt.
    #[must_use]
    pub const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// The mathematics: make one-time secrets for it with [`stkr_core::reshare::RecipientSecrets::random`].
    #[must_use]
    pub const fn reshare(&self) -> &Reshare {
        &self.reshare
    }

    /// The seat from which a server deals, if it does.
    #[must_use]
    pub fn dealer_of(&self, server_id: u32) -> Option<ShareIndex> {
        let seats = self.old.keys().threshold().indices().zip(self.old.members());
        let index = seats.into_iter().find(|(_, member)| member.server_id == server_id).map(|(index, _)| index)?;
        self.dealers().contains(&index).then_some(index)
    }

    /// A server's seat in the new committee, if it has one.
    #[must_use]
    pub fn member_of(&self, server_id: u32) -> Option<ShareIndex> {
        let mut seats = self.threshold().indices().zip(&self.members);
        seats.find(|(_, member)| member.server_id == server_id).map(|(index, _)| index)
    }

    /// Address of the key that signs for this sender; nothing if it has no part. A server that stays may have changed its signer:
    /// as a dealer it signs with the one that the old committee's leaf names, as a member with that of the new one.
    #[must_use]
    pub fn signer(&self, sender: Sender) -> Option<Address> {
        let member = match sender {
            Sender::Dealer(index) if !self.dealers().contains(&index) => None,
            Sender::Dealer(index) => self.old.members().get(index.position()),
            Sender::Member(index) => self.members.get(index.position()),
        };
        member.map(|member| member.signer)
    }

    /// Everybody whose message there must be in `round`.
    #[must_use]
    pub fn senders(&self, round: Round) -> Vec<Sender> {
        match round {
            Round::Dealing => self.dealers().iter().copied().map(Sender::Dealer).collect(),
            Round::Keys | Round::Acknowledgement => self.threshold().indices().map(Sender::Member).collect(),
        }
    }

    /// What every new member acknowledges if these keys came out of these dealings.
    #[must_use]
    pub fn acknowledgement(&self, keys: &CommitteeKeys, dealings_digest: B256) -> AcknowledgementBody {
        AcknowledgementBody {
            threshold: self.threshold().t(),
            points_hash: keccak256(points(keys)),
            committee_hash: committee_hash(&self.members),
            dealings_digest,
        }
    }
}

/// What pads are bound to.
pub(crate) const fn reshare_domain(domain: &ProtocolDomain, id: ReshareId) -> ReshareDomain {
    ReshareDomain {
        chain_id: domain.chain_id,
        registry: domain.key_registry,
        key_id: id.key_id,
        epoch: id.committee_epoch,
        attempt: id.attempt,
    }
}

/// Where a server stands: what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
// A ceremony has phases too, and a description of an API one name for each.
#[schema(as = ResharePhase)]
pub enum Phase {
    /// One-time keys of new members.
    Keys,
    /// Dealings.
    Dealings,
    /// It has done its part; acknowledgements of new members may be missing.
    Done,
    /// The attempt ended without a share for this server.
    Failed,
}

impl Phase {
    /// Name for people; the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Dealings => "dealings",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two different messages of one sender in one round.
    Equivocation(Round),
    /// One-time keys that nobody can use, or one of them for two dealers.
    Keys(RecipientKeysFault),
    /// The dealing of this dealer was made for other one-time keys than we hold: the dealer made them up, or a new member showed
    /// it another key than us.
    RecipientsDiffer(ShareIndex),
    /// A bad dealing.
    Dealing(DealingFault),
    /// An acknowledgement of another transcript.
    AcknowledgementDiffers,
    /// This server signed messages that its database does not have, or lacks the secrets of keys that it published.
    LostState,
    /// This server showed a one-time secret in a complaint.
    Complained,
    /// No share came out and nobody is to blame.
    NoShare(ReshareError),
}

/// An attempt that ended, with the signed messages that prove why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who is at fault, where one can be named.
    pub culprit: Option<Sender>,
    /// What happened.
    pub fault: Fault,
    /// The culprit's messages.
    pub evidence: Vec<ReshareMessage>,
}

impl Failure {
    /// One sentence on what happened.
    #[must_use]
    pub fn reason(&self) -> String {
        let who = self.culprit.map_or_else(|| "a member".to_owned(), |sender| sender.to_string());
        match &self.fault {
            Fault::Equivocation(round) => format!("{who} signed two different {round} messages"),
            Fault::Keys(fault) => format!("{who} published one-time keys that nobody can use: {fault}"),
            Fault::RecipientsDiffer(dealer) => format!(
                "the dealing of old member {} is encrypted to other one-time keys than this server holds: either that member \
                 made them up, or a new member showed it a different key",
                dealer.get()
            ),
            Fault::Dealing(fault) => format!("{who} made a bad dealing: {fault}"),
            Fault::AcknowledgementDiffers => format!("{who} acknowledged another transcript than this server"),
            Fault::LostState => "this server has signed messages of this reshare that its database lacks".to_owned(),
            Fault::Complained => format!("this server has proven that {who} sent it a wrong share"),
            Fault::NoShare(error) => format!("no share came out of the dealings: {error}"),
        }
    }

    /// One sentence on what to do about it.
    #[must_use]
    pub const fn what_to_do(&self) -> &'static str {
        match self.fault {
            Fault::LostState => {
                "This server sits the attempt out, because signing again could make a second, different message; restart the \
                 reshare after its deadline, and find out who restored the database or runs a second server with this key."
            }
            Fault::RecipientsDiffer(_) => {
                "Show every server all messages: two one-time keys of one new member name the culprit; if there are none it is \
                 the dealer. Then restart the reshare after its deadline."
            }
            Fault::NoShare(_) => "Restart the reshare after its deadline.",
            _ => {
                "Keep the messages as evidence, report the server to governance, and restart the reshare after its deadline; the \
                 old committee signs on."
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.reason(), self.what_to_do())
    }
}
