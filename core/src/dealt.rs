//! Shares of a dealt key on their way from the dealer to a server: encrypted to the server's import key, checked when opened.
//!
//! A dealt key is one that existed whole before it was shared. Who splits it is in the module `splitter`, behind a feature
//! that programs of servers never enable; here is what the server does.
//!
//! The pad is derived as that of a share in the DKG, from the Diffie-Hellman point of a fresh one-time key of the dealer and
//! the recipient's import key. There is no tag: a ciphertext that was changed decrypts to another number, which is not the
//! secret of the share key and is refused.

use alloy_primitives::{Address, B256, keccak256};
use zeroize::Zeroizing;

use crate::{
    CommitteeKeys, SecretShare, ShareError, ShareIndex,
    dkg::{OneTimeKeyError, OneTimeSecret},
    sharing::{address_word, word, xor},
};

/// What the pad of a dealt share is bound to besides the share itself: nothing decrypts in another deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DealtDomain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The KeyRegistry.
    pub registry: Address,
    /// keccak256 of the group key (EIP-2537, 128 bytes).
    pub group_key_hash: B256,
}

impl DealtDomain {
    /// The domain of the key whose public half this is.
    #[must_use]
    pub fn of(chain_id: u64, registry: Address, keys: &CommitteeKeys) -> Self {
        Self { chain_id, registry, group_key_hash: keccak256(keys.group_key().to_eip2537()) }
    }

    /// The words behind the shared key, from which the pad is hashed.
    pub(crate) fn words(&self, recipient: ShareIndex) -> [[u8; 32]; 5] {
        // One word less than a pad of the DKG has, so that neither is ever the other.
        [
            keccak256("stkr/dealt-share").0,
            word(self.chain_id),
            address_word(self.registry),
            self.group_key_hash.0,
            word(recipient.get().into()),
        ]
    }
}

/// A share that only the owner of one import key can read. Public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedShare {
    /// The dealer's one-time key for this share, compressed secp256k1.
    pub one_time_key: [u8; 33],
    /// The share, xor the pad.
    pub ciphertext: [u8; 32],
}

/// Why a dealt share is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DealtShareError {
    /// The dealer's one-time key is none.
    #[error("the dealer's one-time key: {0}")]
    OneTimeKey(#[from] OneTimeKeyError),
    /// No member of the committee.
    #[error("the key has no share {0}")]
    UnknownIndex(ShareIndex),
    /// What came out is no scalar. It was sealed for another import key or key, or changed on its way.
    #[error("what was decrypted is no share ({0}): it was sealed for another server or key, or was changed")]
    NoShare(#[from] ShareError),
    /// What came out is not the secret of the share key.
    #[error(
        "what was decrypted is not the secret of share key {0}: it was sealed for another server or key, or was changed"
    )]
    OtherShare(ShareIndex),
}

/// Opens the share of member `index` with the secret of this server's import key and checks it against the share key.
///
/// # Errors
/// [`DealtShareError`].
pub fn open_share(
    domain: &DealtDomain,
    keys: &CommitteeKeys,
    index: ShareIndex,
    import_secret: &OneTimeSecret,
    sealed: &SealedShare,
) -> Result<SecretShare, DealtShareError> {
    let expected = keys.share_key(index).ok_or(DealtShareError::UnknownIndex(index))?;
    let pad = import_secret.pad(&sealed.one_time_key, &domain.words(index))?;
    let bytes = Zeroizing::new(xor(&sealed.ciphertext, &pad));
    let share = SecretShare::from_bytes(index, &bytes)?;
    if share.public_key() == *expected { Ok(share) } else { Err(DealtShareError::OtherShare(index)) }
}
