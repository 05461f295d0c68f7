//! Votes that a member of a committee is silent: t of them take its seat at the next reshare, and no bond.
//!
//! Silence proves nothing to the chain, as whoever says so may not have asked. So those vote who hold the key together anyway:
//! t of them could sign with it, and all that a vote does is to have one seat drawn anew.

use alloy_primitives::{Address, B256, U256, aliases::U48};
use alloy_sol_types::SolStruct as _;
use serde::{Deserialize, Serialize};

use crate::{ProtocolDomain, SignatureError, SignerKey, eip712, json, recover_signer};

/// What a member votes: `SilenceVote` of docs/protocol.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SilenceVote {
    /// The key.
    #[serde(with = "json::decimal")]
    pub key_id: u64,
    /// Committee epoch of those who vote. The next committee takes no vote of this one.
    #[serde(with = "json::decimal")]
    pub committee_epoch: u32,
    /// The server that is silent: of this committee or of one in the making.
    #[serde(with = "json::decimal")]
    pub server: u32,
    /// Unix seconds until which the vote holds, below 2^48.
    #[serde(with = "json::decimal")]
    pub until: u64,
}

/// A vote with its voter's signature, as a file says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedSilenceVote {
    /// What is voted.
    pub vote: SilenceVote,
    /// r, s, v over the vote's digest.
    #[serde(with = "json::array")]
    pub signature: [u8; 65],
}

impl SilenceVote {
    /// EIP-712 digest.
    #[must_use]
    pub fn digest(&self, domain: &ProtocolDomain) -> B256 {
        eip712::SilenceVote {
            keyId: U256::from(self.key_id),
            committeeEpoch: self.committee_epoch,
            server: self.server,
            until: U48::wrapping_from(self.until),
        }
        .eip712_signing_hash(&domain.eip712())
    }

    /// The vote of the server with this signer key.
    #[must_use]
    pub fn sign(self, domain: &ProtocolDomain, key: &SignerKey) -> SignedSilenceVote {
        SignedSilenceVote { signature: key.sign_digest(self.digest(domain)), vote: self }
    }
}

impl SignedSilenceVote {
    /// Whose vote it is.
    ///
    /// # Errors
    /// [`SignatureError`] if nobody signed it.
    pub fn voter(&self, domain: &ProtocolDomain) -> Result<Address, SignatureError> {
        recover_signer(self.vote.digest(domain), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, keccak256};
    use alloy_sol_types::SolValue as _;

    use super::*;

    const DOMAIN: ProtocolDomain =
        ProtocolDomain { chain_id: 1, key_registry: address!("0x00000000000000000000000000000000000a0004") };
    const VOTE: SilenceVote = SilenceVote { key_id: 7, committee_epoch: 2, server: 5, until: 1_800_000_000 };

    fn key() -> SignerKey {
        SignerKey::from_bytes(&[7; 32]).unwrap()
    }

    /// Spelt out as the contract does it.
    #[test]
    fn the_digest_is_that_of_the_contract() {
        let kind = keccak256("SilenceVote(uint256 keyId,uint32 committeeEpoch,uint32 server,uint48 until)");
        let body =
            keccak256((kind, U256::from(7), U256::from(2), U256::from(5), U256::from(1_800_000_000)).abi_encode());
        let separator = DOMAIN.eip712().separator();
        let digest = keccak256([&[0x19, 0x01][..], separator.as_slice(), body.as_slice()].concat());
        assert_eq!(VOTE.digest(&DOMAIN), digest);
    }

    #[test]
    fn a_vote_is_its_voters_in_one_deployment_about_one_server() {
        let signed = VOTE.sign(&DOMAIN, &key());
        assert_eq!(signed.voter(&DOMAIN), Ok(key().address()));
        assert_ne!(signed.voter(&ProtocolDomain { chain_id: 2, ..DOMAIN }), Ok(key().address()));
        for other in [
            SilenceVote { key_id: 8, ..VOTE },
            SilenceVote { committee_epoch: 3, ..VOTE },
            SilenceVote { server: 6, ..VOTE },
            SilenceVote { until: 1_800_000_001, ..VOTE },
        ] {
            let passed_off = SignedSilenceVote { vote: other, ..signed.clone() };
            assert_ne!(passed_off.voter(&DOMAIN), Ok(key().address()));
        }
    }

    #[test]
    fn its_file_has_one_spelling() {
        let signed = VOTE.sign(&DOMAIN, &key());
        let text = serde_json::to_string(&signed).unwrap();
        assert!(text.starts_with(r#"{"vote":{"keyId":"7","committeeEpoch":"2","server":"5","until":"1800000000"},"#));
        assert_eq!(serde_json::from_str::<SignedSilenceVote>(&text).unwrap(), signed);
        assert!(serde_json::from_str::<SignedSilenceVote>(&text.replace("\"7\"", "7")).is_err());
        assert!(serde_json::from_str::<SignedSilenceVote>(&text.replace("\"server\"", "\"serverId\"")).is_err());
    }
}
