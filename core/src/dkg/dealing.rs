//! One member's dealing: made, checked by everybody, opened by each recipient.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    CeremonyDomain, DealingFault, DkgError, OneTimeSecret, check_one_time_key, expect_one_per_member,
    possession_message,
};
use crate::{
    MAX_MEMBERS, PublicKey, ShareIndex, Signature, Threshold,
    blst_glue::{Fr, g1_generator_mul},
    points::HashedMessage,
    polynomial::{Polynomial, evaluate_commitments},
    share::scalar_from_bytes,
};

const SHARE_BYTES: usize = 32;

/// What a dealer reveals to all: public, because the shares in it are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealing {
    /// The dealer's one-time key, compressed; the same as it published before.
    pub one_time_key: [u8; 33],
    /// Commitments to the t coefficients, constant term first.
    pub commitments: Vec<PublicKey>,
    /// Signature with the constant term over the ceremony, the dealer and the commitment.
    pub proof_of_possession: Signature,
    /// n encrypted shares in recipient order, the dealer's own included.
    pub shares: Vec<[u8; SHARE_BYTES]>,
}

/// A decrypted and checked share of one dealing. Wiped when dropped; does not print.
pub struct OpenedShare(Fr);

impl OpenedShare {
    pub(super) const fn scalar(&self) -> &Fr {
        &self.0
    }
}

impl std::fmt::Debug for OpenedShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenedShare(..)")
    }
}

/// Picks a polynomial, commits to it, and encrypts its values to all one-time keys (index order, the dealer's
/// own included). The polynomial is wiped before this returns; what remains is public.
///
/// # Errors
/// If the keys are not n usable ones, if the dealer's is not that of `secret`, or without randomness.
///
/// # Warning
/// Two dealings of one member in one ceremony are equivocation, and two polynomials under one pad give away
/// their difference: store the dealing before sending it and never deal again.
pub fn deal(
    domain: &CeremonyDomain,
    threshold: Threshold,
    dealer: ShareIndex,
    secret: &OneTimeSecret,
    recipients: &[[u8; 33]],
) -> Result<Dealing, DkgError> {
    expect_one_per_member("one-time keys", threshold, recipients.len())?;
    if recipients.get(dealer.position()).ok_or(DkgError::UnknownMember(dealer))? != &secret.public_key() {
        return Err(DkgError::ForeignSecret(dealer));
    }
    for (member, key) in threshold.indices().zip(recipients) {
        check_one_time_key(key).map_err(|error| DkgError::OneTimeKey { member, error })?;
    }
    loop {
        let polynomial = Polynomial::random(threshold.t())?;
        // A coefficient or share of 0 has no valid encoding; it comes once in 2^248 times.
        if let Some(commitments) = polynomial.commitments()
            && threshold.indices().all(|i| !polynomial.at(i).is_zero())
        {
            return encrypt(domain, threshold, dealer, secret, recipients, &polynomial, commitments);
        }
    }
}

fn encrypt(
    domain: &CeremonyDomain,
    threshold: Threshold,
    dealer: ShareIndex,
    secret: &OneTimeSecret,
    recipients: &[[u8; 33]],
    polynomial: &Polynomial,
    commitments: Vec<PublicKey>,
) -> Result<Dealing, DkgError> {
    let constant_term = commitments.first().ok_or(DkgError::Degenerate)?;
    let message = possession_message(domain, dealer, constant_term);
    let proof_of_possession = HashedMessage::possession(&message).sign(&polynomial.constant_term());
    let shares = threshold
        .indices()
        .zip(recipients)
        .map(|(recipient, key)| {
            let pad = secret
                .pad(key, domain, dealer, recipient)
                .map_err(|error| DkgError::OneTimeKey { member: recipient, error })?;
            Ok(xor(&polynomial.at(recipient).to_bytes(), &pad))
        })
        .collect::<Result<_, DkgError>>()?;
    Ok(Dealing { one_time_key: secret.public_key(), commitments, proof_of_possession, shares })
}

fn xor(a: &[u8; SHARE_BYTES], b: &[u8; SHARE_BYTES]) -> [u8; SHARE_BYTES] {
    std::array::from_fn(|k| a[k] ^ b[k])
}

impl Dealing {
    /// Reads the byte fields of the wire message: 33 bytes, commitments and proof in EIP-2537 form, ciphertexts of
    /// 32 bytes. Lengths are bounded before anything is decoded; t and n are checked by [`Self::check`].
    ///
    /// # Errors
    /// The dealer's fault, for any bytes.
    pub fn from_wire(
        one_time_key: &[u8],
        commitments: &[u8],
        proof_of_possession: &[u8],
        shares: &[u8],
    ) -> Result<Self, DealingFault> {
        let one_time_key = one_time_key
            .try_into()
            .map_err(|_| DealingFault::WireLength { what: "one-time key", got: one_time_key.len() })?;
        let commitments = elements("commitments", commitments, PublicKey::EIP2537_BYTES)?
            .map(PublicKey::from_eip2537)
            .collect::<Result<_, _>>()
            .map_err(|error| DealingFault::Point { what: "commitment", error })?;
        let proof_of_possession = Signature::from_eip2537(proof_of_possession)
            .map_err(|error| DealingFault::Point { what: "proof of possession", error })?;
        let mut ciphertexts = Vec::new();
        for share in elements("shares", shares, SHARE_BYTES)? {
            let mut bytes = [0; SHARE_BYTES];
            bytes.copy_from_slice(share);
            ciphertexts.push(bytes);
        }
        Ok(Self { one_time_key, commitments, proof_of_possession, shares: ciphertexts })
    }

    /// The commitments in EIP-2537 form, one after another: the wire field.
    pub fn commitments_to_wire(&self) -> Vec<u8> {
        self.commitments.iter().flat_map(PublicKey::to_eip2537).collect()
    }

    /// The encrypted shares, one after another: the wire field.
    pub fn shares_to_wire(&self) -> Vec<u8> {
        self.shares.as_flattened().to_vec()
    }

    /// Everything about a dealing that anybody can check: counts, the one-time key against the one that the dealer
    /// published, and the proof of possession. The points were checked when they were decoded.
    ///
    /// # Errors
    /// The dealer's fault.
    pub fn check(
        &self,
        domain: &CeremonyDomain,
        threshold: Threshold,
        dealer: ShareIndex,
        one_time_key: &[u8; 33],
    ) -> Result<(), DealingFault> {
        self.check_counts(threshold)?;
        check_one_time_key(&self.one_time_key)?;
        if &self.one_time_key != one_time_key {
            return Err(DealingFault::OneTimeKeyDiffers);
        }
        self.check_possession(domain, dealer)
    }

    pub(super) fn check_counts(&self, threshold: Threshold) -> Result<(), DealingFault> {
        if self.commitments.len() != usize::from(threshold.t()) {
            return Err(DealingFault::CommitmentCount { expected: threshold.t(), got: self.commitments.len() });
        }
        if self.shares.len() != usize::from(threshold.n()) {
            return Err(DealingFault::ShareCount { expected: threshold.n(), got: self.shares.len() });
        }
        Ok(())
    }

    /// The index is inside the signed message: a dealing copied from another member proves nothing here.
    fn check_possession(&self, domain: &CeremonyDomain, dealer: ShareIndex) -> Result<(), DealingFault> {
        let constant_term = self.commitments.first().ok_or(DealingFault::CommitmentCount { expected: 1, got: 0 })?;
        let message = possession_message(domain, dealer, constant_term);
        if HashedMessage::possession(&message).verifies(constant_term, &self.proof_of_possession) {
            Ok(())
        } else {
            Err(DealingFault::ProofOfPossession)
        }
    }

    /// Decrypts the share for `recipient`, whose one-time secret this must be, and checks it against the
    /// commitments.
    ///
    /// # Errors
    /// The dealer's fault, provided that `secret` is that of the recipient's published one-time key:
    /// with another secret the share is noise and the dealer would be blamed wrongly.
    pub fn open(
        &self,
        domain: &CeremonyDomain,
        dealer: ShareIndex,
        recipient: ShareIndex,
        secret: &OneTimeSecret,
    ) -> Result<OpenedShare, DealingFault> {
        let ciphertext = self
            .shares
            .get(recipient.position())
            .ok_or(DealingFault::ShareCount { expected: recipient.get(), got: self.shares.len() })?;
        let pad = secret.pad(&self.one_time_key, domain, dealer, recipient)?;
        let bytes = Zeroizing::new(xor(ciphertext, &pad));
        let share = scalar_from_bytes(&bytes).map_err(|_| DealingFault::ShareOutOfRange { recipient })?;
        if self.commits_to(&share, recipient) {
            Ok(OpenedShare(share))
        } else {
            Err(DealingFault::ShareMismatch { recipient })
        }
    }

    /// Feldman's check: share times the generator is the committed polynomial at the recipient's index.
    fn commits_to(&self, share: &Fr, recipient: ShareIndex) -> bool {
        let expected = PublicKey::from_group(&evaluate_commitments(&self.commitments, recipient));
        let got = PublicKey::from_group(&g1_generator_mul(share));
        match (expected, got) {
            (Some(expected), Some(got)) => expected.to_compressed().ct_eq(&got.to_compressed()).into(),
            _ => false,
        }
    }
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
