//! Deposits: `DepositMessage`, which the key signs, and `DepositData`, which the deposit contract takes.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tree_hash::TreeHash as _;
use tree_hash_derive::TreeHash;

use crate::{
    domain::{DOMAIN_DEPOSIT, compute_domain, compute_signing_root},
    json,
};

/// What a validator key signs to create its validator (phase0 `DepositMessage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, TreeHash)]
pub struct DepositMessage {
    /// Compressed BLS public key of the validator.
    pub pubkey: [u8; 48],
    /// Where the stake can ever go: 0x00 a BLS key's hash, 0x01 or 0x02 an execution address.
    pub withdrawal_credentials: B256,
    /// Gwei.
    pub amount_gwei: u64,
}

impl DepositMessage {
    /// SSZ root of the container.
    #[must_use]
    pub fn hash_tree_root(&self) -> B256 {
        self.tree_hash_root()
    }

    /// Root the key signs on the network with this genesis fork version.
    ///
    /// # Warning
    /// The beacon chain trusts the first valid deposit of a key for ever: whoever gets another message signed owns the
    /// stake. Sign only what the chain ordered.
    #[must_use]
    pub fn signing_root(&self, genesis_fork_version: [u8; 4]) -> B256 {
        let domain = compute_domain(DOMAIN_DEPOSIT, genesis_fork_version, B256::ZERO);
        compute_signing_root(self.hash_tree_root(), domain)
    }

    /// The signed deposit, as the deposit contract takes it.
    #[must_use]
    pub fn with_signature(self, signature: [u8; 96]) -> DepositData {
        DepositData {
            pubkey: self.pubkey,
            withdrawal_credentials: self.withdrawal_credentials,
            amount_gwei: self.amount_gwei,
            signature,
        }
    }
}

/// A signed deposit (phase0 `DepositData`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, TreeHash)]
pub struct DepositData {
    /// Compressed BLS public key of the validator.
    #[serde(with = "json::bytes")]
    pub pubkey: [u8; 48],
    /// As in [`DepositMessage`].
    #[serde(with = "json::bytes")]
    pub withdrawal_credentials: B256,
    /// Gwei.
    #[serde(rename = "amount", with = "json::decimal")]
    pub amount_gwei: u64,
    /// Compressed BLS signature over the message's signing root.
    #[serde(with = "json::bytes")]
    pub signature: [u8; 96],
}

impl DepositData {
    /// SSZ root: the `deposit_data_root` argument of the deposit contract.
    #[must_use]
    pub fn hash_tree_root(&self) -> B256 {
        self.tree_hash_root()
    }

    /// The part that is signed.
    #[must_use]
    pub fn message(&self) -> DepositMessage {
        DepositMessage {
            pubkey: self.pubkey,
            withdrawal_credentials: self.withdrawal_credentials,
            amount_gwei: self.amount_gwei,
        }
    }
}

/// 0x01 credentials: withdrawals go to `address`.
#[must_use]
pub fn eth1_withdrawal_credentials(address: Address) -> B256 {
    credentials(1, address)
}

/// 0x02 credentials (EIP-7251): like 0x01, with a balance that compounds up to 2048 ETH.
#[must_use]
pub fn compounding_withdrawal_credentials(address: Address) -> B256 {
    credentials(2, address)
}

fn credentials(prefix: u8, address: Address) -> B256 {
    let mut credentials = address.into_word();
    credentials[0] = prefix;
    credentials
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, b256};
    use stkr_core::{PublicKey, Signature, verify};

    use super::*;

    /// Deposits as the official staking-deposit-cli wrote them, published by their owners.
    struct Published {
        fork_version: &'static str,
        pubkey: &'static str,
        credentials: &'static str,
        signature: &'static str,
        message_root: &'static str,
        data_root: &'static str,
    }

    const PUBLISHED: [Published; 3] = [
        Published {
            fork_version: "80000069", // Ropsten, 0x00 credentials
            pubkey: "aa382e5b26eb8a73a305471adcf6e5188835717c31f3e12e5964028216465ce53a33c4f8ff5d28d4d047f4a77c49d349",
            credentials: "001ae74d19004b360d02d411795cee1451dc20679f13a13aafce7de2448b60cb",
            signature: "a8b1a4a5228e4aa5fba6fd170fdf0c868c7dc824fdf2c4b53ee94175cbdda1088c5cba512f398ea69c7b3e8e9e2cd0ff017af046b10a4a1513835d335d8554ae0240b4cdfac4297077b10f742aa797eaf3a99f8758ebd51a864dc593f5ec1e3c",
            message_root: "b771a2be82e825dd7a3df7732e72ab0f4a89d85e62c802651f01d12c08f98a9e",
            data_root: "e43a0337b5e485a7bb4ad50969c54c88fc5756a1b6502b6499d16fcd2f30b061",
        },
        Published {
            fork_version: "01017000", // Holesky
            pubkey: "b0210e4333812d669b178443b77e1674329e2eeeae17e6b9d7ef6cb8723c8b269de7e152b42445d5ea8d5f582ca45cd7",
            credentials: "010000000000000000000000f0179dec45a37423ead4fad5fcb136197872ead9",
            signature: "96b504aec4ced4d680a01a2cde40632809744f967657f4aa31d4bc77701dbeb68e86441999b3559c505e5644eed9c350091af39e3e319befe4a76e796856095912938046ce567ed39a56df13b8f31e9e83b93ca774a9f983b9c0eb673c7f7a4a",
            message_root: "d09880f5dab2c46c7d4e6d7148c54eebd4b33db44b2cd194dff3a8aaff6ad9eb",
            data_root: "aa9bb085dc0410d2013cff51e98ae2a41a81512a0676fbe0397c3cd997f1fb87",
        },
        Published {
            fork_version: "00001020", // Goerli
            pubkey: "9080aebef302c8f30c90d6b9e6dfe8249179c5f61e7b99df323f535927ef5ee3e83a4fa87bbe87dcf5c77baaac3a23ca",
            credentials: "010000000000000000000000000a0660fc6c21b6c8638c56f7a8bbe22dcc9000",
            signature: "b55ccc58ae59450bee99ba39b43ab820509f30944b91d6fb225eb6329537ad2f39a0b5708e692d13b26270e7980ad7f105de2c7630f757154840423858366cc51c2b5da57e7b6142816deecd2f3e35dcfb50a79c73558294c428af97c0178f90",
            message_root: "736a0665a1448aa18a711d8f493a92411c4265cb7da6d2f7a6653e6bb551beae",
            data_root: "046d9ad74df0cb689cf830ea6a4350920440a5f113a1c5c18ca3c0e351766a05",
        },
    ];

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    fn data(published: &Published) -> DepositData {
        DepositData {
            pubkey: bytes(published.pubkey),
            withdrawal_credentials: B256::from(bytes::<32>(published.credentials)),
            amount_gwei: 32_000_000_000,
            signature: bytes(published.signature),
        }
    }

    #[test]
    fn roots_are_those_of_the_official_deposit_cli() {
        for published in &PUBLISHED {
            let data = data(published);
            assert_eq!(data.message().hash_tree_root().0, bytes(published.message_root));
            assert_eq!(data.hash_tree_root().0, bytes(published.data_root));
        }
    }

    #[test]
    fn published_signatures_verify_over_our_signing_root_and_under_no_other_fork() {
        for published in &PUBLISHED {
            let data = data(published);
            let key = PublicKey::from_compressed(&data.pubkey).unwrap();
            let signature = Signature::from_compressed(&data.signature).unwrap();
            let version = bytes(published.fork_version);
            assert!(verify(&key, &data.message().signing_root(version).0, &signature));
            let mainnet = data.message().signing_root([0; 4]);
            assert!(!verify(&key, &mainnet.0, &signature));
        }
    }

    #[test]
    fn every_field_of_a_deposit_changes_its_roots() {
        let data = data(&PUBLISHED[0]);
        let message = data.message();
        let mut changed = [data; 4];
        changed[0].pubkey[47] ^= 1;
        changed[1].withdrawal_credentials.0[31] ^= 1;
        changed[2].amount_gwei += 1;
        changed[3].signature[95] ^= 1;
        for (field, other) in changed.iter().enumerate() {
            assert_ne!(other.hash_tree_root(), data.hash_tree_root());
            // The signature is no part of what is signed.
            let same = other.message().signing_root([0; 4]) == message.signing_root([0; 4]);
            assert_eq!(same, field == 3);
        }
        assert_eq!(message.with_signature(data.signature), data);
    }

    #[test]
    fn credentials_carry_prefix_and_address() {
        let vault = address!("f0179dec45a37423ead4fad5fcb136197872ead9");
        assert_eq!(
            eth1_withdrawal_credentials(vault),
            b256!("010000000000000000000000f0179dec45a37423ead4fad5fcb136197872ead9")
        );
        assert_eq!(
            compounding_withdrawal_credentials(vault),
            b256!("020000000000000000000000f0179dec45a37423ead4fad5fcb136197872ead9")
        );
    }
}
