//! Networks: the constants of a chain that signatures and deposits depend on.

use alloy_primitives::{Address, address};
use thiserror::Error;

/// The official deposit contract; one address on mainnet and Hoodi, and installed there on devnets.
const DEPOSIT_CONTRACT: Address = address!("00000000219ab540356cBB839Cbe05303d7705Fa");

/// A network that validators deposit on. Every program pins one and refuses to run against another chain id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Name in configs and for people.
    pub name: String,
    /// EIP-155 chain id of the execution layer.
    pub chain_id: u64,
    /// `GENESIS_FORK_VERSION`: deposits are signed under it, whatever fork is active.
    pub genesis_fork_version: [u8; 4],
    /// The official deposit contract.
    pub deposit_contract: Address,
}

/// The name of no preset.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no network preset {0:?}: use mainnet, hoodi or devnet, or give all values yourself")]
pub struct UnknownNetwork(pub String);

impl Network {
    /// Ethereum mainnet.
    #[must_use]
    pub fn mainnet() -> Self {
        Self::preset("mainnet", 1, [0, 0, 0, 0])
    }

    /// The Hoodi test network.
    #[must_use]
    pub fn hoodi() -> Self {
        Self::preset("hoodi", 560_048, [0x10, 0x00, 0x09, 0x10])
    }

    /// A local anvil with the official deposit contract installed. Its fork version is no public network's, so that no
    /// deposit made in a test is valid anywhere else.
    #[must_use]
    pub fn devnet() -> Self {
        Self::preset("devnet", 31_337, *b"Stkr")
    }

    /// The preset called `name`.
    ///
    /// # Errors
    /// [`UnknownNetwork`] where there is none.
    pub fn by_name(name: &str) -> Result<Self, UnknownNetwork> {
        match name {
            "mainnet" => Ok(Self::mainnet()),
            "hoodi" => Ok(Self::hoodi()),
            "devnet" => Ok(Self::devnet()),
            _ => Err(UnknownNetwork(name.to_owned())),
        }
    }

    fn preset(name: &str, chain_id: u64, genesis_fork_version: [u8; 4]) -> Self {
        Self { name: name.to_owned(), chain_id, genesis_fork_version, deposit_contract: DEPOSIT_CONTRACT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_differ_in_everything_a_signature_depends_on() {
        let presets = ["mainnet", "hoodi", "devnet"].map(|name| Network::by_name(name).unwrap());
        for (at, one) in presets.iter().enumerate() {
            for other in &presets[at + 1..] {
                assert_ne!(one.chain_id, other.chain_id);
                assert_ne!(one.genesis_fork_version, other.genesis_fork_version);
            }
        }
        assert!(Network::by_name("Mainnet").unwrap_err().to_string().contains("mainnet, hoodi"));
    }
}
