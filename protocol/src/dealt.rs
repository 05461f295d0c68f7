//! Dealt keys: what the dealer of an existing validator key writes, what each server answers, and what the registry checks.
//!
//! ```text
//! server --ImportKey--> dealer --DealtShare + slashing history--> server --DealtAcknowledgement--> owner --> importDealt
//! ```
//!
//! A [`DealtShare`] file can be seen by anybody: its share opens with the import key of one server only. All members and the
//! group key sign one digest ([`DealtKey::digest`]), in which is the hash of the slashing-protection history: a server signs
//! it after it has imported exactly this history, so no server of a key can be given less of it than another.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolStruct, SolValue};
use serde::{Deserialize, Serialize};
use stkr_core::{
    CommitteeKeys, CommitteeKeysError, MAX_MEMBERS, PointError, PublicKey, ShareIndex, Signature, Threshold,
    ThresholdError,
    dealt::{DealtDomain, SealedShare},
    verify,
};

use crate::{ProtocolDomain, SignatureError, SignerKey, eip712, json, recover_signer};

const MEMBERS: usize = MAX_MEMBERS as usize;

/// Why a file of a dealt key is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DealtError {
    /// Made for another chain or registry.
    #[error(
        "the file is for chain {chain_id} and key registry {key_registry}, which are not those of this configuration"
    )]
    OtherDeployment {
        /// Of the file.
        chain_id: u64,
        /// Of the file.
        key_registry: Address,
    },
    /// No t-of-n.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// The registry will refuse it.
    #[error("{t}-of-{n} breaks a bound that the registry keeps: 2t - n >= 2 and t < n")]
    Bounds {
        /// Shares that sign.
        t: u8,
        /// Shares that exist.
        n: u8,
    },
    /// Another number of share keys than members.
    #[error("the file names {members} servers and {share_keys} share keys")]
    Lengths {
        /// Members.
        members: usize,
        /// Share keys.
        share_keys: usize,
    },
    /// Server ids must grow.
    #[error("server {id} is not greater than the one before it; a server is in a committee once, and ids ascend")]
    NotAscending {
        /// The one.
        id: u32,
    },
    /// A point that is none.
    #[error("a {what} of the file is no point: {error}")]
    Point {
        /// Share key, group key or possession.
        what: &'static str,
        /// Why.
        error: PointError,
    },
    /// The keys do not belong together.
    #[error(transparent)]
    Keys(#[from] CommitteeKeysError),
    /// The group key did not sign the digest.
    #[error("the group key did not sign for this owner, committee and history; the file was changed or put together")]
    Possession,
}

/// A member of a dealt key's committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DealtMember {
    /// Server id.
    #[serde(with = "json::decimal")]
    pub server_id: u32,
    /// Address of its signer key.
    #[serde(with = "json::address")]
    pub signer: Address,
    /// Compressed share key, 48 bytes.
    #[serde(with = "json::array")]
    pub share_key: [u8; 48],
}

/// The public half of a dealt key: what `stkr key split` writes for the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DealtKey {
    /// EIP-155 chain id.
    #[serde(with = "json::decimal")]
    pub chain_id: u64,
    /// The KeyRegistry.
    #[serde(with = "json::address")]
    pub key_registry: Address,
    /// Account that will import the key.
    #[serde(with = "json::address")]
    pub owner: Address,
    /// Shares that sign.
    #[serde(with = "json::decimal")]
    pub threshold: u8,
    /// Members in index order; server ids ascend.
    #[serde(deserialize_with = "json::ListOf::<MEMBERS>::deserialize")]
    pub members: Vec<DealtMember>,
    /// Compressed group key, 48 bytes: the validator's public key.
    #[serde(with = "json::array")]
    pub group_key: [u8; 48],
    /// keccak256 of the bytes of the slashing-protection history (EIP-3076 interchange).
    #[serde(with = "json::hash")]
    pub history_hash: B256,
    /// The group key's signature over [`DealtKey::digest`], compressed, 96 bytes.
    #[serde(with = "json::array")]
    pub possession: [u8; 96],
}

/// A [`DealtKey`] whose parts belong together.
#[derive(Clone, Debug)]
pub struct CheckedDealtKey {
    /// Share keys and group key.
    pub keys: CommitteeKeys,
    /// The proof of possession.
    pub possession: Signature,
    /// What members and group key sign.
    pub digest: B256,
    /// What shares are encrypted for.
    pub domain: DealtDomain,
}

impl DealtKey {
    /// EIP-712 digest of `DealtAcknowledgement` (docs/protocol.md). Says nothing about whether the parts belong together.
    ///
    /// # Errors
    /// [`DealtError::Point`].
    pub fn digest(&self) -> Result<B256, DealtError> {
        let acknowledgement = eip712::DealtAcknowledgement {
            owner: self.owner,
            threshold: self.threshold,
            pointsHash: keccak256(self.points()?),
            committeeHash: self.committee_hash(),
            historyHash: self.history_hash,
        };
        Ok(acknowledgement.eip712_signing_hash(&self.protocol_domain().eip712()))
    }

    /// Share keys in index order, then the group key, 128 bytes each: `DealtImport.points`.
    ///
    /// # Errors
    /// [`DealtError::Point`].
    pub fn points(&self) -> Result<Bytes, DealtError> {
        let mut points = Vec::new();
        for member in &self.members {
            points.extend_from_slice(&point("share key", &member.share_key)?.to_eip2537());
        }
        points.extend_from_slice(&point("group key", &self.group_key)?.to_eip2537());
        Ok(points.into())
    }

    /// Server ids in index order: `DealtImport.committee`.
    #[must_use]
    pub fn committee(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.server_id).collect()
    }

    /// Checks everything that does not need the chain: bounds, points, one polynomial, and the group key's signature.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn check(&self, domain: &ProtocolDomain) -> Result<CheckedDealtKey, DealtError> {
        if self.protocol_domain() != *domain {
            return Err(DealtError::OtherDeployment { chain_id: self.chain_id, key_registry: self.key_registry });
        }
        let keys = self.committee_keys()?;
        let digest = self.digest()?;
        let possession = Signature::from_compressed(&self.possession)
            .map_err(|error| DealtError::Point { what: "proof of possession", error })?;
        if !verify(&keys.group_key(), &digest.0, &possession) {
            return Err(DealtError::Possession);
        }
        let domain = DealtDomain::of(self.chain_id, self.key_registry, &keys);
        Ok(CheckedDealtKey { keys, possession, digest, domain })
    }

    fn committee_keys(&self) -> Result<CommitteeKeys, DealtError> {
        let n = u8::try_from(self.members.len()).unwrap_or(u8::MAX);
        let threshold = Threshold::new(self.threshold, n)?;
        if self.threshold >= n || 2 * u16::from(self.threshold) < u16::from(n) + 2 {
            return Err(DealtError::Bounds { t: self.threshold, n });
        }
        for pair in self.members.windows(2) {
            if let [before, after] = pair
                && after.server_id <= before.server_id
            {
                return Err(DealtError::NotAscending { id: after.server_id });
            }
        }
        let share_keys =
            self.members.iter().map(|member| point("share key", &member.share_key)).collect::<Result<_, _>>()?;
        Ok(CommitteeKeys::new(threshold, point("group key", &self.group_key)?, share_keys)?)
    }

    /// `keccak256(abi.encode(uint32[] server ids, address[] signers))`.
    fn committee_hash(&self) -> B256 {
        let signers: Vec<Address> = self.members.iter().map(|member| member.signer).collect();
        keccak256((self.committee(), signers).abi_encode_params())
    }

    /// Chain and registry that the file is for.
    #[must_use]
    pub const fn protocol_domain(&self) -> ProtocolDomain {
        ProtocolDomain { chain_id: self.chain_id, key_registry: self.key_registry }
    }

    /// Index of the member with this signer.
    #[must_use]
    pub fn index_of(&self, signer: Address) -> Option<ShareIndex> {
        let position = self.members.iter().position(|member| member.signer == signer)?;
        ShareIndex::new(u8::try_from(position + 1).ok()?).ok()
    }
}

fn point(what: &'static str, bytes: &[u8; 48]) -> Result<PublicKey, DealtError> {
    PublicKey::from_compressed(bytes).map_err(|error| DealtError::Point { what, error })
}

/// One server's share of a dealt key, as `stkr key split` writes it: of no use to anybody but that server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DealtShare {
    /// The public half.
    pub key: DealtKey,
    /// Whose share it is.
    #[serde(with = "json::index")]
    pub index: ShareIndex,
    /// The dealer's one-time key, 33 bytes.
    #[serde(with = "json::array")]
    pub one_time_key: [u8; 33],
    /// The encrypted share, 32 bytes.
    #[serde(with = "json::array")]
    pub ciphertext: [u8; 32],
}

impl DealtShare {
    /// The encrypted share.
    #[must_use]
    pub const fn sealed(&self) -> SealedShare {
        SealedShare { one_time_key: self.one_time_key, ciphertext: self.ciphertext }
    }
}

/// A member's word that it holds its share and imported the history: 65 bytes over [`DealtKey::digest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DealtAcknowledgement {
    /// Whose.
    #[serde(with = "json::index")]
    pub index: ShareIndex,
    /// secp256k1 signature by the member's signer key.
    #[serde(with = "json::array")]
    pub signature: [u8; 65],
}

impl DealtAcknowledgement {
    /// Signs. Only after the share is stored and the history imported.
    #[must_use]
    pub fn sign(key: &SignerKey, index: ShareIndex, digest: B256) -> Self {
        Self { index, signature: key.sign_digest(digest) }
    }

    /// Whether the member of `key` with this index made it, over `digest`.
    #[must_use]
    pub fn is_of(&self, key: &DealtKey, digest: B256) -> bool {
        let signer = key.members.get(self.index.position()).map(|member| member.signer);
        signer.is_some() && recover_signer(digest, &self.signature).ok() == signer
    }
}

/// The secp256k1 key that shares for one server are encrypted to, signed by the server's signer key: without that, whoever
/// carries it could put his own in its place and read the share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportKey {
    /// Compressed, 33 bytes.
    #[serde(with = "json::array")]
    pub public_key: [u8; 33],
    /// secp256k1 signature by the signer key over `ImportKey(bytes publicKey)`, 65 bytes.
    #[serde(with = "json::array")]
    pub signature: [u8; 65],
}

impl ImportKey {
    /// Signs the import key of the server with this signer key.
    #[must_use]
    pub fn sign(domain: &ProtocolDomain, key: &SignerKey, public_key: [u8; 33]) -> Self {
        Self { public_key, signature: key.sign_digest(import_key_digest(domain, &public_key)) }
    }

    /// Address of the signer key that signed it; compare it with the one that the registry names.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn signer(&self, domain: &ProtocolDomain) -> Result<Address, SignatureError> {
        recover_signer(import_key_digest(domain, &self.public_key), &self.signature)
    }
}

fn import_key_digest(domain: &ProtocolDomain, public_key: &[u8; 33]) -> B256 {
    eip712::ImportKey { publicKey: Bytes::copy_from_slice(public_key) }.eip712_signing_hash(&domain.eip712())
}

#[cfg(test)]
mod tests {
    use stkr_core::{dealt::open_share, dkg::OneTimeSecret, splitter::Splitter};

    use super::*;

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31337, key_registry: Address::repeat_byte(2) };

    fn signers() -> Vec<SignerKey> {
        (1..=4).map(|byte| SignerKey::from_bytes(&[byte; 32]).unwrap()).collect()
    }

    fn dealt() -> (Splitter, DealtKey) {
        let splitter = Splitter::split(&[0x23; 32], Threshold::new(3, 4).unwrap()).unwrap();
        let members = (splitter.keys().share_keys().iter().zip(signers()).zip([2, 3, 5, 8]))
            .map(|((key, signer), server_id)| DealtMember {
                server_id,
                signer: signer.address(),
                share_key: key.to_compressed(),
            })
            .collect();
        let mut key = DealtKey {
            chain_id: DOMAIN.chain_id,
            key_registry: DOMAIN.key_registry,
            owner: Address::repeat_byte(9),
            threshold: 3,
            members,
            group_key: splitter.keys().group_key().to_compressed(),
            history_hash: keccak256("history"),
            possession: [0; 96],
        };
        key.possession = splitter.prove_possession(&key.digest().unwrap().0).to_compressed();
        (splitter, key)
    }

    #[test]
    fn a_split_key_passes_and_its_files_come_back_from_json_as_they_were() {
        let (splitter, key) = dealt();
        let checked = key.check(&DOMAIN).unwrap();
        assert_eq!(checked.keys.share_keys(), splitter.keys().share_keys());
        let import = OneTimeSecret::random().unwrap();
        let index = key.index_of(signers()[2].address()).unwrap();
        let sealed = splitter.seal_share(&checked.domain, index, &import.public_key()).unwrap();
        let SealedShare { one_time_key, ciphertext } = sealed;
        let file = DealtShare { key, index, one_time_key, ciphertext };
        let back: DealtShare = serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
        assert_eq!(back, file);
        let share = open_share(&checked.domain, &checked.keys, back.index, &import, &back.sealed()).unwrap();
        assert_eq!(share.public_key().to_compressed(), back.key.members[2].share_key);
    }

    #[test]
    fn whatever_is_changed_in_the_public_half_is_found() {
        let (_, key) = dealt();
        let refused = |change: &dyn Fn(&mut DealtKey)| {
            let mut changed = key.clone();
            change(&mut changed);
            changed.check(&DOMAIN).unwrap_err()
        };
        for change in [
            (|key| key.owner = Address::ZERO) as fn(&mut DealtKey),
            |key| key.history_hash = B256::ZERO,
            |key| key.members[1].signer = Address::ZERO,
            |key| key.members[1].server_id = 4,
        ] {
            assert_eq!(refused(&change), DealtError::Possession);
        }
        assert_eq!(refused(&|key| key.members[1].server_id = 2), DealtError::NotAscending { id: 2 });
        assert!(matches!(refused(&|key| key.members.swap(0, 1)), DealtError::NotAscending { .. }));
        assert!(matches!(refused(&|key| key.members[0].share_key = key.group_key), DealtError::Keys(_)));
        assert!(matches!(refused(&|key| key.group_key[47] ^= 1), DealtError::Point { .. } | DealtError::Keys(_)));
        assert!(matches!(refused(&|key| key.possession = [0; 96]), DealtError::Point { .. }));
        assert!(matches!(refused(&|key| key.chain_id = 1), DealtError::OtherDeployment { chain_id: 1, .. }));
        assert!(matches!(refused(&|key| key.threshold = 0), DealtError::Threshold(_)));
        assert!(matches!(refused(&|key| key.threshold = 4), DealtError::Bounds { t: 4, n: 4 }));
        assert!(matches!(refused(&|key| key.members.truncate(3)), DealtError::Bounds { t: 3, n: 3 }));
    }

    #[test]
    fn the_digest_is_that_of_the_protocol_document() {
        let (_, key) = dealt();
        let text = "DealtAcknowledgement(address owner,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 historyHash)";
        let ids = [2_u32, 3, 5, 8].map(|id| alloy_primitives::U256::from(id).to_be_bytes::<32>());
        let addresses = signers().into_iter().map(|signer| signer.address().into_word().0).collect::<Vec<_>>();
        let word = |number: u64| alloy_primitives::U256::from(number).to_be_bytes::<32>();
        // abi.encode of two dynamic arrays: two offsets, then length and elements of each.
        let committee =
            [vec![word(64), word(64 + 32 * 5), word(4)], ids.to_vec(), vec![word(4)], addresses].concat().concat();
        let fields = [
            keccak256(text).0,
            key.owner.into_word().0,
            word(3),
            keccak256(key.points().unwrap()).0,
            keccak256(committee).0,
            key.history_hash.0,
        ];
        let separator = DOMAIN.eip712().separator();
        let digest =
            keccak256([&[0x19, 0x01][..], separator.as_slice(), keccak256(fields.concat()).as_slice()].concat());
        assert_eq!(key.digest().unwrap(), digest);
    }

    #[test]
    fn an_acknowledgement_counts_for_its_member_and_this_digest_only() {
        let (_, key) = dealt();
        let digest = key.digest().unwrap();
        let index = |i| ShareIndex::new(i).unwrap();
        let good = DealtAcknowledgement::sign(&signers()[1], index(2), digest);
        assert!(good.is_of(&key, digest));
        assert!(!DealtAcknowledgement { index: index(3), ..good.clone() }.is_of(&key, digest));
        assert!(!DealtAcknowledgement { index: index(5), ..good.clone() }.is_of(&key, digest));
        assert!(!good.is_of(&key, B256::ZERO));
    }

    #[test]
    fn an_import_key_is_its_signers_in_one_deployment() {
        let signer = &signers()[0];
        let public_key = OneTimeSecret::random().unwrap().public_key();
        let signed = ImportKey::sign(&DOMAIN, signer, public_key);
        assert_eq!(signed.signer(&DOMAIN), Ok(signer.address()));
        assert_ne!(signed.signer(&ProtocolDomain { chain_id: 1, ..DOMAIN }), Ok(signer.address()));
        let other = ImportKey { public_key: OneTimeSecret::random().unwrap().public_key(), ..signed };
        assert_ne!(other.signer(&DOMAIN), Ok(signer.address()));
    }
}
