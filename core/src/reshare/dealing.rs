//! One old member's dealing: checked by everybody, opened by each recipient.

use super::{Reshare, ReshareDomain};
use crate::{
    PublicKey, ShareIndex,
    sharing::{self, DealingFault, OneTimeSecret, OpenedShare, SHARE_BYTES, check_one_time_key},
};

/// What a dealer shows to all: public, because the shares in it are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealing {
    /// The dealer's one-time key, compressed: made for this dealing alone.
    pub one_time_key: [u8; 33],
    /// Commitments to the t' coefficients, constant term first, which is the dealer's share key.
    pub commitments: Vec<PublicKey>,
    /// n' encrypted shares in recipient order.
    pub shares: Vec<[u8; SHARE_BYTES]>,
}

impl Dealing {
    /// Reads the byte fields of the wire message: 33 bytes, commitments in EIP-2537 form, ciphertexts of 32 bytes. Lengths are bounded
    /// before anything is decoded; t' and n' are checked by [`Self::check`].
    ///
    /// # Errors
    /// The dealer's fault, for any bytes.
    pub fn from_wire(one_time_key: &[u8], commitments: &[u8], shares: &[u8]) -> Result<Self, DealingFault> {
        Ok(Self {
            one_time_key: sharing::read_one_time_key(one_time_key)?,
            commitments: sharing::read_commitments(commitments)?,
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

    /// Everything about a dealing that anybody can check: counts, the one-time key, and that the constant term is the share key that
    /// `dealer` has in the old committee. The points were checked when they were decoded.
    ///
    /// # Errors
    /// The dealer's fault.
    ///
    /// # Performance
    /// No group operation.
    pub fn check(&self, reshare: &Reshare, dealer: ShareIndex) -> Result<(), DealingFault> {
        sharing::check_counts(reshare.new_threshold(), self.commitments.len(), self.shares.len())?;
        check_one_time_key(&self.one_time_key)?;
        // Without this t dealers choose the key, and one of them breaks it.
        if self.commitments.first() != reshare.old_keys().share_key(dealer) {
            return Err(DealingFault::AnotherSecret);
        }
        Ok(())
    }

    /// Decrypts the share of old member `dealer` for new member `recipient`, whose one-time secret for this dealer this must be, and
    /// checks it against the commitments.
    ///
    /// # Errors
    /// The dealer's fault, provided that `secret` is that of the key to which the dealer encrypted: with another secret the share
    /// is noise and the dealer would be blamed wrongly.
    pub fn open(
        &self,
        domain: &ReshareDomain,
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
