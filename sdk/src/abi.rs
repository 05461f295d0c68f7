//! The committed interfaces and bytecodes (`abi/*.json`), built into the library.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy::json_abi::JsonAbi;
use serde::Deserialize;

use crate::error::StkrError;

/// Name and file of every contract that the deploy script creates.
const FILES: [(&str, &str); 10] = [
    ("AccessManager", include_str!("../../abi/AccessManager.json")),
    ("Court", include_str!("../../abi/Court.json")),
    ("Acknowledgements", include_str!("../../abi/Acknowledgements.json")),
    ("ServerRegistry", include_str!("../../abi/ServerRegistry.json")),
    ("ProviderRegistry", include_str!("../../abi/ProviderRegistry.json")),
    ("KeyRegistry", include_str!("../../abi/KeyRegistry.json")),
    ("Resharing", include_str!("../../abi/Resharing.json")),
    ("Micropools", include_str!("../../abi/Micropools.json")),
    ("WithdrawalKeys", include_str!("../../abi/WithdrawalKeys.json")),
    ("PoolVault", include_str!("../../abi/PoolVault.json")),
];

/// Bytes of the deployed code that the constructor fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Span {
    /// First byte.
    pub(crate) start: usize,
    /// Number of bytes.
    pub(crate) length: usize,
}

/// One file of `abi/`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Artefact {
    /// The contract's interface.
    pub(crate) abi: JsonAbi,
    /// Runtime code in hex, immutables zero.
    #[serde(default)]
    pub(crate) deployed_bytecode: Option<String>,
    /// Where immutables are, by compiler id.
    #[serde(default)]
    pub(crate) immutable_references: BTreeMap<String, Vec<Span>>,
}

static ARTEFACTS: LazyLock<BTreeMap<&'static str, Artefact>> =
    LazyLock::new(|| FILES.iter().filter_map(|(name, text)| Some((*name, serde_json::from_str(text).ok()?))).collect());

/// The artefact of a contract.
pub(crate) fn artefact(name: &str) -> Result<&'static Artefact, StkrError> {
    ARTEFACTS.get(name).ok_or_else(|| StkrError::Unsafe { reason: format!("this build has no interface of {name}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committed_interface_parses() {
        for (name, text) in FILES {
            serde_json::from_str::<Artefact>(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(artefact(name).is_ok());
        }
    }
}
