//! The end of a ceremony as anyone can check it: the same checks that the contract makes, and those it leaves to us.

use alloy_primitives::{Address, B256};
use stkr_core::{
    CommitteeKeys, CommitteeKeysError, PointError, PublicKey, ShareIndex, Threshold,
    dkg::{self, Dealing, DkgError},
};
use thiserror::Error;

use super::{Board, Context, MemberId, hash_of_hashes, member::checked_dealing, points};
use crate::{
    SignatureError,
    messages::{AcknowledgementBody, Body, Round, SignedMessage},
    posted::{NotSigned, must_be_signed},
};

/// Why messages or bytes are no transcript of a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TranscriptError {
    /// Messages are missing.
    #[error("the {round} messages of members {members:?} are missing")]
    Missing {
        /// Round.
        round: Round,
        /// Indices.
        members: Vec<u8>,
    },
    /// A member showed two messages in one round: no transcript can be told from the other.
    #[error("member {} signed two different messages in one round", .0.get())]
    Equivocation(ShareIndex),
    /// The dealings give no key.
    #[error(transparent)]
    Dealings(#[from] DkgError),
    /// A member acknowledged something else.
    #[error("member {} acknowledged another transcript", .0.get())]
    AcknowledgementDiffers(ShareIndex),
    /// An acknowledgement is not the member's.
    #[error("the acknowledgement of member {} was signed by {recovered}, not by {signer}", .index.get())]
    WrongSigner {
        /// Index.
        index: ShareIndex,
        /// Who signed.
        recovered: Address,
        /// Who should have.
        signer: Address,
    },
    /// An acknowledgement is no signature.
    #[error("the acknowledgement of member {} is no valid signature: {error}", .index.get())]
    BadSignature {
        /// Index.
        index: ShareIndex,
        /// What is wrong.
        error: SignatureError,
    },
    /// Bytes of the wrong length.
    #[error("the {what} have {got} bytes instead of {expected}")]
    Length {
        /// Points or acknowledgements.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that must be.
        expected: usize,
    },
    /// A point that is none.
    #[error("point {position} is bad: {error}")]
    Point {
        /// From 0; n is the group key.
        position: usize,
        /// What is wrong.
        error: PointError,
    },
    /// The points are not the keys of one committee.
    #[error(transparent)]
    Keys(#[from] CommitteeKeysError),
}

/// n acknowledgements of one set of keys that lies on one polynomial: what `finalise` takes.
#[derive(Clone, Debug)]
pub struct Transcript {
    context: Context,
    keys: CommitteeKeys,
    dealings_digest: B256,
    acknowledgements: Vec<[u8; 65]>,
}

impl Transcript {
    /// From the messages of a finished ceremony: recomputes all keys from the dealings and checks that every member
    /// acknowledged exactly these.
    ///
    /// # Errors
    /// [`TranscriptError`].
    pub fn assemble(board: &Board) -> Result<Self, TranscriptError> {
        let (keys, dealings_digest) = keys_of_board(board)?;
        complete(board, Round::Acknowledgement)?;
        let acknowledgements = board
            .indices()
            .filter_map(|index| board.message(Round::Acknowledgement, index))
            .map(|message| message.signature)
            .collect();
        let context = board.context().clone();
        let expected = Body::Acknowledgement(context.acknowledgement(&keys, dealings_digest));
        for index in board.indices() {
            if board.message(Round::Acknowledgement, index).map(|message| &message.body) != Some(&expected) {
                return Err(TranscriptError::AcknowledgementDiffers(index));
            }
        }
        let transcript = Self { context, keys, dealings_digest, acknowledgements };
        transcript.verify()?;
        Ok(transcript)
    }

    /// From the arguments of `finalise` or the event it emits; checks all that the contract checks.
    ///
    /// # Errors
    /// [`TranscriptError`].
    pub fn from_parts(
        context: Context,
        points: &[u8],
        dealings_digest: B256,
        acknowledgements: &[u8],
    ) -> Result<Self, TranscriptError> {
        length("acknowledgements", acknowledgements, context.members().len() * 65)?;
        let keys = keys_of_points(context.threshold(), points)?;
        let acknowledgements = acknowledgements.as_chunks::<65>().0.to_vec();
        let transcript = Self { context, keys, dealings_digest, acknowledgements };
        transcript.verify()?;
        Ok(transcript)
    }

    /// Checks every acknowledgement against the signer the chain names. (That the points lie on one polynomial,
    /// [`CommitteeKeys`] has checked.)
    ///
    /// # Errors
    /// [`TranscriptError::WrongSigner`] or [`TranscriptError::BadSignature`] for the first that is bad.
    pub fn verify(&self) -> Result<(), TranscriptError> {
        let context = &self.context;
        let body = context.acknowledgement(&self.keys, self.dealings_digest);
        let digest = body.digest(context.domain(), context.key_id(), context.attempt());
        must_be_acknowledged((context.threshold(), context.members()), digest, &self.acknowledgements)
    }

    /// The ceremony.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Group key and share keys.
    #[must_use]
    pub const fn keys(&self) -> &CommitteeKeys {
        &self.keys
    }

    /// `points` of `finalise`: n share keys, then the group key, 128 bytes each.
    #[must_use]
    pub fn points(&self) -> Vec<u8> {
        points(&self.keys)
    }

    /// `dealingsDigest` of `finalise`.
    #[must_use]
    pub const fn dealings_digest(&self) -> B256 {
        self.dealings_digest
    }

    /// `acknowledgements` of `finalise`: n signatures of 65 bytes, index order.
    #[must_use]
    pub fn acknowledgements(&self) -> Vec<u8> {
        self.acknowledgements.as_flattened().to_vec()
    }
}

/// Recomputes all keys and the digest from n dealings signed by n members; needs no acknowledgement and no secret.
///
/// # Errors
/// [`TranscriptError`]; messages that are not authentic count as missing.
pub fn recompute_keys(
    context: Context,
    dealings: impl IntoIterator<Item = SignedMessage>,
) -> Result<(CommitteeKeys, B256), TranscriptError> {
    let mut board = Board::new(context);
    for message in dealings {
        // Who is left out for a bad signature is named as missing below.
        let _ = board.accept(message);
    }
    if let Some((index, _)) = board.equivocation() {
        return Err(TranscriptError::Equivocation(index));
    }
    keys_of_board(&board)
}

/// What every member acknowledges, once all dealings are on the board.
///
/// # Errors
/// [`TranscriptError`].
pub fn acknowledgement_of(board: &Board) -> Result<AcknowledgementBody, TranscriptError> {
    let (keys, dealings_digest) = keys_of_board(board)?;
    Ok(board.context().acknowledgement(&keys, dealings_digest))
}

/// The keys in n + 1 EIP-2537 points: n share keys, then the group key, all on one polynomial.
pub(crate) fn keys_of_points(threshold: Threshold, points: &[u8]) -> Result<CommitteeKeys, TranscriptError> {
    let n = usize::from(threshold.n());
    length("points", points, (n + 1) * PublicKey::EIP2537_BYTES)?;
    let mut share_keys = Vec::with_capacity(n + 1);
    for (position, bytes) in points.chunks_exact(PublicKey::EIP2537_BYTES).enumerate() {
        let point = PublicKey::from_eip2537(bytes).map_err(|error| TranscriptError::Point { position, error })?;
        share_keys.push(point);
    }
    let group_key = share_keys.pop().ok_or(TranscriptError::Length { what: "points", got: 0, expected: n + 1 })?;
    Ok(CommitteeKeys::new(threshold, group_key, share_keys)?)
}

/// That each of `members` signed `digest`, index order; names the first that did not.
pub(crate) fn must_be_acknowledged(
    (threshold, members): (Threshold, &[MemberId]),
    digest: B256,
    signatures: &[[u8; 65]],
) -> Result<(), TranscriptError> {
    length("acknowledgements", signatures.as_flattened(), members.len() * 65)?;
    for ((index, member), signature) in threshold.indices().zip(members).zip(signatures) {
        let signer = member.signer;
        must_be_signed(digest, signature, signer).map_err(|error| match error {
            NotSigned::By(recovered) => TranscriptError::WrongSigner { index, recovered, signer },
            NotSigned::AtAll(error) => TranscriptError::BadSignature { index, error },
        })?;
    }
    Ok(())
}

fn keys_of_board(board: &Board) -> Result<(CommitteeKeys, B256), TranscriptError> {
    complete(board, Round::Dealing)?;
    let dealings: Vec<Dealing> = board
        .indices()
        .map(|dealer| checked_dealing(board, dealer).map_err(|fault| DkgError::Dealer { dealer, fault }))
        .collect::<Result<_, _>>()?;
    let keys = dkg::committee_keys(board.context().threshold(), &dealings)?;
    let digest = hash_of_hashes(board.indices().filter_map(|dealer| Some(board.dealing(dealer)?.1)));
    Ok((keys, digest))
}

fn complete(board: &Board, round: Round) -> Result<(), TranscriptError> {
    let members: Vec<u8> = board.missing(round).iter().map(|index| index.get()).collect();
    if members.is_empty() { Ok(()) } else { Err(TranscriptError::Missing { round, members }) }
}

fn length(what: &'static str, bytes: &[u8], expected: usize) -> Result<(), TranscriptError> {
    let got = bytes.len();
    if got == expected { Ok(()) } else { Err(TranscriptError::Length { what, got, expected }) }
}
