//! The end of a reshare as anyone can check it: the same checks that the contract makes, and those it leaves to us.

use alloy_primitives::B256;
use stkr_core::{CommitteeKeys, reshare::ReshareError};
use thiserror::Error;

use super::{Board, Body, Plan, Round, Sender, messages::acknowledgement_digest};
use crate::ceremony::{self, keys_of_points, must_be_acknowledged, points};

/// Why messages or bytes are no transcript of a reshare.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TranscriptError {
    /// Messages are missing.
    #[error("{round} messages are missing of: {}", .senders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Missing {
        /// Round.
        round: Round,
        /// Whose.
        senders: Vec<Sender>,
    },
    /// The dealings give no keys.
    #[error(transparent)]
    Dealings(#[from] ReshareError),
    /// A new member acknowledged something else.
    #[error("{0} acknowledged another transcript")]
    AcknowledgementDiffers(Sender),
    /// It would be another key.
    #[error("the last point is not the key's group key")]
    GroupKeyChanged,
    /// Points or acknowledgements that are none.
    #[error(transparent)]
    Parts(#[from] ceremony::TranscriptError),
}

/// n' acknowledgements of new share keys that lie on one polynomial with the *old* group key: what `IResharing.finalise` takes.
#[derive(Clone, Debug)]
pub struct Transcript {
    plan: Plan,
    keys: CommitteeKeys,
    dealings_digest: B256,
    acknowledgements: Vec<[u8; 65]>,
}

impl Transcript {
    /// From the messages of a finished reshare: recomputes all keys from the dealings and checks that every new member acknowledged
    /// exactly these.
    ///
    /// # Errors
    /// [`TranscriptError`].
    pub fn assemble(board: &Board) -> Result<Self, TranscriptError> {
        let (keys, dealings_digest) = recompute_keys(board)?;
        if !board.missing(Round::Acknowledgement).is_empty() {
            return Err(missing(board, Round::Acknowledgement));
        }
        let plan = board.plan();
        let expected = Body::Acknowledgement(plan.acknowledgement(&keys, dealings_digest));
        let mut acknowledgements = Vec::new();
        for sender in plan.senders(Round::Acknowledgement) {
            let message = board.message(Round::Acknowledgement, sender).filter(|message| message.body == expected);
            acknowledgements.push(message.ok_or(TranscriptError::AcknowledgementDiffers(sender))?.signature);
        }
        let transcript = Self { plan: plan.clone(), keys, dealings_digest, acknowledgements };
        transcript.verify()?;
        Ok(transcript)
    }

    /// From the arguments of `finalise`; checks all that the contract checks.
    ///
    /// # Errors
    /// [`TranscriptError`].
    pub fn from_parts(
        plan: Plan,
        points: &[u8],
        dealings_digest: B256,
        acknowledgements: &[u8],
    ) -> Result<Self, TranscriptError> {
        let keys = keys_of_points(plan.threshold(), points)?;
        if keys.group_key() != plan.old().keys().group_key() {
            return Err(TranscriptError::GroupKeyChanged);
        }
        let (acknowledgements, rest) = acknowledgements.as_chunks::<65>();
        if !rest.is_empty() {
            let (got, expected) = (acknowledgements.len() * 65 + rest.len(), plan.members().len() * 65);
            return Err(ceremony::TranscriptError::Length { what: "acknowledgements", got, expected }.into());
        }
        let transcript = Self { plan, keys, dealings_digest, acknowledgements: acknowledgements.to_vec() };
        transcript.verify()?;
        Ok(transcript)
    }

    /// Checks every acknowledgement against the signer the chain names.
    ///
    /// # Errors
    /// [`TranscriptError::Parts`] for the first that is bad.
    pub fn verify(&self) -> Result<(), TranscriptError> {
        let body = self.plan.acknowledgement(&self.keys, self.dealings_digest);
        let digest = acknowledgement_digest(&body, self.plan.id(), self.plan.domain());
        let committee = (self.plan.threshold(), self.plan.members());
        Ok(must_be_acknowledged(committee, digest, &self.acknowledgements)?)
    }

    /// The reshare.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The unchanged group key and the new share keys.
    #[must_use]
    pub const fn keys(&self) -> &CommitteeKeys {
        &self.keys
    }

    /// `points` of `finalise`: n' share keys, then the group key, 128 bytes each.
    #[must_use]
    pub fn points(&self) -> Vec<u8> {
        points(&self.keys)
    }

    /// `dealingsDigest` of `finalise`.
    #[must_use]
    pub const fn dealings_digest(&self) -> B256 {
        self.dealings_digest
    }

    /// `acknowledgements` of `finalise`: n' signatures of 65 bytes, index order.
    #[must_use]
    pub fn acknowledgements(&self) -> Vec<u8> {
        self.acknowledgements.as_flattened().to_vec()
    }
}

/// The new committee's keys and the digest, from the t dealings alone.
fn recompute_keys(board: &Board) -> Result<(CommitteeKeys, B256), TranscriptError> {
    let digest = board.dealings_digest().ok_or_else(|| missing(board, Round::Dealing))?;
    Ok((board.plan().reshare().new_keys(&board.dealings()?)?, digest))
}

fn missing(board: &Board, round: Round) -> TranscriptError {
    TranscriptError::Missing { round, senders: board.missing(round) }
}
