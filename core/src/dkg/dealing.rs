//! One member's dealing: made, checked by everybody, opened by each recipient.

use super::{
    CeremonyDomain, DealingFault, DkgError, OneTimeSecret, OpenedShare, check_one_time_key, expect_one_per_member,
    possession_message,
};
use crate::{
    PublicKey, ShareIndex, Signature, Threshold,
    points::HashedMessage,
    polynomial::Polynomial,
    sharing::{self, SHARE_BYTES},
};

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
    let (polynomial, commitments) = sharing::draw(threshold, || Polynomial::random(threshold.t()))?;
    let constant_term = commitments.first().ok_or(DkgError::Degenerate)?;
    let message = possession_message(domain, dealer, constant_term);
    let proof_of_possession = HashedMessage::possession(&message).sign(&polynomial.constant_term());
    let shares = sharing::encrypt(&polynomial, threshold.indices(), |recipient| {
        let key = recipients.get(recipient.position()).ok_or(DkgError::UnknownMember(recipient))?;
        secret
            .pad(key, &domain.pad_words(dealer.get(), recipient.get()))
            .map_err(|error| DkgError::OneTimeKey { member: recipient, error })
    })?;
    Ok(Dealing { one_time_key: secret.public_key(), commitments, proof_of_possession, shares })
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
        Ok(Self {
            one_time_key: sharing::read_one_time_key(one_time_key)?,
            commitments: sharing::read_commitments(commitments)?,
            proof_of_possession: Signature::from_eip2537(proof_of_possession)
                .map_err(|error| DealingFault::Point { what: "proof of possession", error })?,
            shares: sharing::read_shares(shares)?,
        })
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
        sharing::check_counts(threshold, self.commitments.len(), self.shares.len())
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
        let pad = secret.pad(&self.one_time_key, &domain.pad_words(dealer.get(), recipient.get()))?;
        sharing::open(ciphertext, &pad, &self.commitments, recipient)
    }
}
