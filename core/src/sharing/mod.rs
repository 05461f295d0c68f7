//! One dealer's secret polynomial as others see it: commitments to its coefficients, and its values encrypted to the recipients.
//!
//! What a dealing of the DKG and one of a resharing have in common. What binds a dealing to its ceremony (the words of a pad), and
//! what ties its constant term to the dealer, are theirs.

pub(crate) mod judged;
pub(crate) mod one_time;

use alloy_primitives::Address;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use one_time::{OneTimeKeyError, OneTimeSecret, check_one_time_key};

use crate::{
    CommitteeKeys, MAX_MEMBERS, PointError, PublicKey, RandomnessError, SecretShare, ShareIndex, Threshold,
    blst_glue::{Fr, g1_generator_mul},
    polynomial::{Polynomial, evaluate_commitments},
    share::scalar_from_bytes,
};

pub(crate) const SHARE_BYTES: usize = 32;

/// A pad, or what it hides.
pub(crate) type Block = Zeroizing<[u8; SHARE_BYTES]>;

/// What is wrong with a dealing. Always the dealer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DealingFault {
    /// Not t commitments. More would raise the degree: the committee could not sign. (An unchecked length here was
    /// a critical finding in other systems.)
    #[error("it has {got} commitments instead of {expected}")]
    CommitmentCount {
        /// t
        expected: u8,
        /// Commitments that came.
        got: usize,
    },
    /// Not n encrypted shares.
    #[error("it has {got} encrypted shares instead of {expected}")]
    ShareCount {
        /// n
        expected: u8,
        /// Shares that came.
        got: usize,
    },
    /// Bytes of another length than the counts demand.
    #[error("its {what} have {got} bytes, which is no whole number of elements within bounds")]
    WireLength {
        /// Which field.
        what: &'static str,
        /// Bytes that came.
        got: usize,
    },
    /// A commitment or the proof is no usable point.
    #[error("its {what} is bad: {error}")]
    Point {
        /// Which field.
        what: &'static str,
        /// What is wrong with the point.
        error: PointError,
    },
    /// The one-time key in the dealing is not the one that the dealer published.
    #[error("the one-time key in it is not the one that the dealer published")]
    OneTimeKeyDiffers,
    /// The one-time key cannot be used.
    #[error("its one-time key is bad: {0}")]
    OneTimeKey(#[from] OneTimeKeyError),
    /// In a DKG: the dealer does not show that it knows its constant term, or shows it for another ceremony or index.
    #[error("its proof of possession is not valid for this dealer in this ceremony")]
    ProofOfPossession,
    /// In a resharing: the constant term is not the share key that the dealer has in the old committee.
    #[error("its constant term is not the dealer's share key, so it deals something else than its share")]
    AnotherSecret,
    /// The decrypted share is 0 or not below r.
    #[error("the share for member {recipient} is 0 or not below the group order")]
    ShareOutOfRange {
        /// Whose share.
        recipient: ShareIndex,
    },
    /// The decrypted share is not the committed polynomial's value.
    #[error("the share for member {recipient} does not match the commitments")]
    ShareMismatch {
        /// Whose share.
        recipient: ShareIndex,
    },
}

/// A decrypted and checked share of one dealing. Wiped when dropped; does not print.
pub struct OpenedShare(Fr);

impl OpenedShare {
    pub(crate) const fn scalar(&self) -> &Fr {
        &self.0
    }
}

impl std::fmt::Debug for OpenedShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenedShare(..)")
    }
}

/// What a member has at the end: its share, and everything public.
#[derive(Debug)]
pub struct Outcome {
    /// The member's own share.
    pub share: SecretShare,
    /// Group key and all share keys.
    pub keys: CommitteeKeys,
}

/// The first polynomial drawn whose coefficients and values at all members can be encoded, and its commitments.
pub(crate) fn draw(
    threshold: Threshold,
    mut polynomial: impl FnMut() -> Result<Polynomial, RandomnessError>,
) -> Result<(Polynomial, Vec<PublicKey>), RandomnessError> {
    loop {
        let polynomial = polynomial()?;
        // A coefficient or share of 0 has no valid encoding; it comes once in 2^248 times.
        if let Some(commitments) = polynomial.commitments()
            && threshold.indices().all(|i| !polynomial.at(i).is_zero())
        {
            return Ok((polynomial, commitments));
        }
    }
}

/// The polynomial's value at each member, under the pad of each.
pub(crate) fn encrypt<E>(
    polynomial: &Polynomial,
    recipients: impl Iterator<Item = ShareIndex>,
    mut pad: impl FnMut(ShareIndex) -> Result<Block, E>,
) -> Result<Vec<[u8; SHARE_BYTES]>, E> {
    recipients.map(|recipient| Ok(xor(&polynomial.at(recipient).to_bytes(), &*pad(recipient)?))).collect()
}

pub(crate) fn xor(a: &[u8; SHARE_BYTES], b: &[u8; SHARE_BYTES]) -> [u8; SHARE_BYTES] {
    std::array::from_fn(|k| a[k] ^ b[k])
}

/// The share under `pad` for `recipient`, checked against the commitments.
pub(crate) fn open(
    ciphertext: &[u8; SHARE_BYTES],
    pad: &Block,
    commitments: &[PublicKey],
    recipient: ShareIndex,
) -> Result<OpenedShare, DealingFault> {
    let bytes = Zeroizing::new(xor(ciphertext, pad));
    let share = scalar_from_bytes(&bytes).map_err(|_| DealingFault::ShareOutOfRange { recipient })?;
    if is_committed(commitments, &share, recipient) {
        Ok(OpenedShare(share))
    } else {
        Err(DealingFault::ShareMismatch { recipient })
    }
}

/// Feldman's check: share times the generator is the committed polynomial at the recipient's index.
fn is_committed(commitments: &[PublicKey], share: &Fr, recipient: ShareIndex) -> bool {
    let expected = PublicKey::from_group(&evaluate_commitments(commitments, recipient));
    let got = PublicKey::from_group(&g1_generator_mul(share));
    match (expected, got) {
        (Some(expected), Some(got)) => expected.to_compressed().ct_eq(&got.to_compressed()).into(),
        _ => false,
    }
}

/// t commitments and n shares; a dealing says nothing about its own counts, so nobody can choose them.
pub(crate) fn check_counts(threshold: Threshold, commitments: usize, shares: usize) -> Result<(), DealingFault> {
    if commitments != usize::from(threshold.t()) {
        return Err(DealingFault::CommitmentCount { expected: threshold.t(), got: commitments });
    }
    if shares != usize::from(threshold.n()) {
        return Err(DealingFault::ShareCount { expected: threshold.n(), got: shares });
    }
    Ok(())
}

/// The keys of a committee whose shares lie on the polynomial with these commitments; `None` if a share key is infinity.
pub(crate) fn committee_of(threshold: Threshold, commitments: &[PublicKey]) -> Option<CommitteeKeys> {
    let share_keys = threshold
        .indices()
        .map(|index| PublicKey::from_group(&evaluate_commitments(commitments, index)))
        .collect::<Option<Vec<_>>>()?;
    Some(CommitteeKeys::from_commitments(threshold, *commitments.first()?, share_keys))
}

/// Reads the wire field of a one-time key: 33 bytes.
pub(crate) fn read_one_time_key(bytes: &[u8]) -> Result<[u8; 33], DealingFault> {
    bytes.try_into().map_err(|_| DealingFault::WireLength { what: "one-time key", got: bytes.len() })
}

/// Reads the wire field of commitments: EIP-2537 points one after another, at most 64.
pub(crate) fn read_commitments(bytes: &[u8]) -> Result<Vec<PublicKey>, DealingFault> {
    elements("commitments", bytes, PublicKey::EIP2537_BYTES)?
        .map(PublicKey::from_eip2537)
        .collect::<Result<_, _>>()
        .map_err(|error| DealingFault::Point { what: "commitment", error })
}

/// Reads the wire field of encrypted shares: 32 bytes each, at most 64.
pub(crate) fn read_shares(bytes: &[u8]) -> Result<Vec<[u8; SHARE_BYTES]>, DealingFault> {
    let mut ciphertexts = Vec::new();
    for share in elements("shares", bytes, SHARE_BYTES)? {
        let mut bytes = [0; SHARE_BYTES];
        bytes.copy_from_slice(share);
        ciphertexts.push(bytes);
    }
    Ok(ciphertexts)
}

/// Cuts a wire field into at most 64 elements of one size.
fn elements<'a>(
    what: &'static str,
    bytes: &'a [u8],
    size: usize,
) -> Result<std::slice::ChunksExact<'a, u8>, DealingFault> {
    if !bytes.len().is_multiple_of(size) || bytes.len() > usize::from(MAX_MEMBERS) * size {
        return Err(DealingFault::WireLength { what, got: bytes.len() });
    }
    Ok(bytes.chunks_exact(size))
}

/// One ABI word of an unsigned integer.
pub(crate) fn word(value: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&value.to_be_bytes());
    word
}

/// One ABI word of an address.
pub(crate) fn address_word(address: Address) -> [u8; 32] {
    address.into_word().0
}
