//! Evidence of bad and malformed dealings, judged as the libraries `BadDealing` and `MalformedDealing` do.

use std::fmt;

use alloy_primitives::{B256, U256, keccak256};
use alloy_sol_types::{SolStruct, SolValue};
use serde::{Deserialize, Serialize};
use stkr_core::{
    MAX_MEMBERS, PublicKey,
    dkg::{
        CeremonyDomain, check_one_time_key,
        complaint::{decrypt_share, is_committed_value, is_possession, y_of_one_time_key},
    },
};
use utoipa::ToSchema;

use super::{Accused, EvidenceError, Found};
use crate::{
    ProtocolDomain, eip712, json,
    messages::{Body, SignedMessage},
    recover_signer, schema,
};

/// Bytes of a one-time key, of a G1 point, of a G2 point and of an encrypted share.
const KEY: usize = 33;
const G1: usize = 128;
const G2: usize = 256;
const SHARE: usize = 32;
/// One element more than the largest committee has: a wrong number of them is a fault to be shown, too.
const MOST: usize = MAX_MEMBERS as usize + 1;

/// A dealing as a server signed it, in raw numbers and bytes (`ICourt.Dealing`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedDealing {
    /// Key.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub key_id: u64,
    /// Ceremony number of this key, from 0.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U16)]
    pub attempt: u16,
    /// The dealer, as it says.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U8)]
    pub index: u8,
    /// keccak256 of the n one-time keys that the shares are encrypted to.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub one_time_keys_hash: B256,
    /// The dealer's own, 33 bytes.
    #[serde(with = "json::AtMost::<{ 2 * KEY }>")]
    #[schema(value_type = schema::Hex)]
    pub one_time_key: Vec<u8>,
    /// t G1 points (EIP-2537), constant term first.
    #[serde(with = "json::AtMost::<{ MOST * G1 }>")]
    #[schema(value_type = schema::Hex)]
    pub commitments: Vec<u8>,
    /// keccak256 of the proof of possession.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub possession_hash: B256,
    /// n encrypted shares of 32 bytes.
    #[serde(with = "json::AtMost::<{ MOST * SHARE }>")]
    #[schema(value_type = schema::Hex)]
    pub shares: Vec<u8>,
    /// Signature of the server's signer key, r ‖ s ‖ v.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex65)]
    pub signature: [u8; 65],
}

impl SignedDealing {
    /// The dealing in `message`; nothing if it is of another round.
    #[must_use]
    pub fn of(message: &SignedMessage) -> Option<Self> {
        let Body::Dealing(body) = &message.body else {
            return None;
        };
        Some(Self {
            key_id: message.key_id,
            attempt: message.attempt,
            index: message.index.get(),
            one_time_keys_hash: body.one_time_keys_hash,
            one_time_key: body.one_time_key.clone(),
            commitments: body.commitments.clone(),
            possession_hash: keccak256(&body.proof_of_possession),
            shares: body.shares.clone(),
            signature: message.signature,
        })
    }

    /// EIP-712 digest: that of the [`SignedMessage`].
    #[must_use]
    pub fn digest(&self, domain: &ProtocolDomain) -> B256 {
        let fields = (
            keccak256(eip712::Dealing::eip712_encode_type().as_bytes()),
            U256::from(self.key_id),
            U256::from(self.attempt),
            U256::from(self.index),
            self.one_time_keys_hash,
            (
                keccak256(&self.one_time_key),
                keccak256(&self.commitments),
                self.possession_hash,
                keccak256(&self.shares),
            ),
        );
        let separator = domain.eip712().separator();
        keccak256([b"\x19\x01".as_slice(), separator.as_slice(), keccak256(fields.abi_encode()).as_slice()].concat())
    }

    fn ceremony(&self, domain: &ProtocolDomain) -> CeremonyDomain {
        CeremonyDomain {
            chain_id: domain.chain_id,
            registry: domain.key_registry,
            key_id: self.key_id,
            attempt: self.attempt,
        }
    }
}

/// A dealing with the share of one member opened: a complaint.
///
/// # Warning
/// The secret opens everything that was ever sent to its one-time key. Whoever shows one must never take part with that key
/// again, and must be needed for the ceremony to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenedDealing {
    /// What the dealer signed.
    pub dealing: SignedDealing,
    /// The n one-time keys it was made for, 33 bytes each, index order.
    #[serde(with = "json::AtMost::<{ MOST * KEY }>")]
    #[schema(value_type = schema::Hex)]
    pub one_time_keys: Vec<u8>,
    /// Index of the member.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U8)]
    pub recipient: u8,
    /// Its one-time secret.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hash)]
    pub secret: [u8; 32],
}

impl OpenedDealing {
    /// y coordinate of the member's one-time key, which the Court takes beside the secret; zero where the secret is not its.
    #[must_use]
    pub fn y(&self) -> U256 {
        self.key().and_then(|key| y_of_one_time_key(key, &self.secret)).map_or(U256::ZERO, U256::from_be_bytes)
    }

    fn key(&self) -> Option<&[u8; KEY]> {
        element(&self.one_time_keys, self.recipient)
    }
}

/// The element of a member in a list of equal elements; nothing for 0.
pub(crate) fn element<const N: usize>(list: &[u8], index: u8) -> Option<&[u8; N]> {
    list.as_chunks::<N>().0.get(usize::from(index).checked_sub(1)?)
}

/// What is wrong with a malformed dealing (`ICourt.DealingDefect`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Defect {
    /// Commitments, shares or one-time key of the wrong length, or an index that the committee does not have.
    Shape = 0,
    /// Its one-time key is none, or is not its own among those it encrypted to.
    OneTimeKey = 1,
    /// A commitment is infinity or no point of the subgroup.
    Commitment = 2,
    /// The proof of possession is none.
    Possession = 3,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "a field of the wrong length or an index that there is not",
            Self::OneTimeKey => "a one-time key that is none or not its own",
            Self::Commitment => "a commitment that is no point",
            Self::Possession => "a proof of possession that is none",
        })
    }
}

/// A dealing that anybody can see is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefectiveDealing {
    /// What the dealer signed.
    pub dealing: SignedDealing,
    /// t of the key: the chain knows if it is.
    #[serde(with = "json::decimal")]
    pub threshold: u8,
    /// n of the key: the chain knows if it is.
    #[serde(with = "json::decimal")]
    pub members: u8,
    /// What is wrong.
    pub defect: Defect,
    /// Which commitment, from 0; else 0.
    #[serde(with = "json::decimal")]
    pub position: u8,
    /// What a hash in the dealing stands for: the n one-time keys, or the proof of possession; else empty.
    #[serde(with = "json::AtMost::<{ MOST * KEY }>")]
    pub hashed: Vec<u8>,
}

impl DefectiveDealing {
    /// The first defect of a dealing that a member of a (t, n) committee signed, if it has one. Of its one-time key only the part
    /// that `one_time_keys` (n of 33 bytes) show, if they are those that it was made for.
    #[must_use]
    pub fn find(
        message: &SignedMessage,
        (threshold, members): (u8, u8),
        one_time_keys: Option<Vec<u8>>,
        domain: &ProtocolDomain,
    ) -> Option<Self> {
        let Body::Dealing(body) = &message.body else {
            return None;
        };
        let none = Self {
            dealing: SignedDealing::of(message)?,
            threshold,
            members,
            defect: Defect::Shape,
            position: 0,
            hashed: Vec::new(),
        };
        let own_key = Self { defect: Defect::OneTimeKey, hashed: one_time_keys.unwrap_or_default(), ..none.clone() };
        let point = |position| Self { defect: Defect::Commitment, position, ..none.clone() };
        let possession = Self { defect: Defect::Possession, hashed: body.proof_of_possession.clone(), ..none.clone() };
        let mut candidates = [none.clone(), own_key].into_iter().chain((0..threshold).map(point)).chain([possession]);
        candidates.find(|candidate| candidate.judge(domain).is_ok())
    }

    fn judge(&self, domain: &ProtocolDomain) -> Result<(), EvidenceError> {
        let guilty = match self.defect {
            Defect::Shape => self.is_misshapen(),
            Defect::OneTimeKey => self.has_other_key()?,
            Defect::Commitment => self.is_no_point(),
            Defect::Possession => self.is_not_possessed(domain)?,
        };
        if guilty { Ok(()) } else { Err(EvidenceError::NotMalformed(self.defect)) }
    }

    fn is_misshapen(&self) -> bool {
        let it = &self.dealing;
        it.index == 0
            || it.index > self.members
            || it.commitments.len() != usize::from(self.threshold) * G1
            || it.shares.len() != usize::from(self.members) * SHARE
            || it.one_time_key.len() != KEY
    }

    fn has_other_key(&self) -> Result<bool, EvidenceError> {
        let it = &self.dealing;
        let Ok(own) = <&[u8; KEY]>::try_from(it.one_time_key.as_slice()) else {
            return Ok(true);
        };
        if check_one_time_key(own).is_err() {
            return Ok(true);
        }
        same_keys(&self.hashed, it)?;
        let whole = self.hashed.len() == usize::from(self.members) * KEY;
        Ok(!whole || element(&self.hashed, it.index) != Some(own))
    }

    fn is_no_point(&self) -> bool {
        let point = self.dealing.commitments.as_chunks::<G1>().0.get(usize::from(self.position));
        point.is_some_and(|point| PublicKey::from_eip2537(point).is_err())
    }

    fn is_not_possessed(&self, domain: &ProtocolDomain) -> Result<bool, EvidenceError> {
        let it = &self.dealing;
        let (given, signed) = (keccak256(&self.hashed), it.possession_hash);
        if given != signed {
            return Err(EvidenceError::OtherPossession { given, signed });
        }
        Ok(self.hashed.len() != G2 || !is_possession(&it.ceremony(domain), it.index, &it.commitments, &self.hashed))
    }
}

fn same_keys(one_time_keys: &[u8], dealing: &SignedDealing) -> Result<(), EvidenceError> {
    let (given, signed) = (keccak256(one_time_keys), dealing.one_time_keys_hash);
    if given == signed { Ok(()) } else { Err(EvidenceError::OtherOneTimeKeys { given, signed }) }
}

pub(super) fn malformed(it: &DefectiveDealing, domain: &ProtocolDomain) -> Result<Found, EvidenceError> {
    let digest = it.dealing.digest(domain);
    let signer = recover_signer(digest, &it.dealing.signature)?;
    it.judge(domain)?;
    let accused = Accused::Dealer { signer, threshold: it.threshold, members: it.members };
    Ok((digest, it.dealing.key_id, 0, accused))
}

pub(super) fn bad(it: &OpenedDealing, domain: &ProtocolDomain) -> Result<Found, EvidenceError> {
    let dealing = &it.dealing;
    let digest = dealing.digest(domain);
    let signer = recover_signer(digest, &dealing.signature)?;
    same_keys(&it.one_time_keys, dealing)?;
    let wrong = EvidenceError::WrongOpening(it.recipient);
    let (Some(key), Some(ciphertext)) = (it.key(), element(&dealing.shares, it.recipient)) else {
        return Err(wrong);
    };
    y_of_one_time_key(key, &it.secret).ok_or(wrong)?;
    let dealers_key = dealing.one_time_key.as_slice().try_into().map_err(|_| EvidenceError::UnusableOneTimeKey)?;
    let pair = (dealing.index, it.recipient);
    let share = decrypt_share(&dealing.ceremony(domain), pair, dealers_key, &it.secret, ciphertext)
        .ok_or(EvidenceError::UnusableOneTimeKey)?;
    match is_committed_value(&dealing.commitments, it.recipient, &share) {
        Some(false) => Ok((digest, dealing.key_id, 0, Accused::Signer(signer))),
        Some(true) => Err(EvidenceError::GoodDealing(it.recipient)),
        None => Err(EvidenceError::Inconclusive),
    }
}

#[cfg(test)]
pub(super) mod tests;
