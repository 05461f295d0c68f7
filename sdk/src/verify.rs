//! Is what is deployed what was compiled here, tied together as the deployment file says, and who governs it?
//!
//! Runtime code is compared byte by byte. What a constructor fills in is left out of that comparison, so everything there is
//! asked for and compared one by one: a deployer can run any code at construction, and the code that results looks the same.

mod governance;
mod ties;

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, Bytes, b256, keccak256},
    providers::Provider,
};
use serde::Serialize;
use stkr_chain::Deployment;

use crate::{
    abi::{self, Artefact},
    client::contracts,
    error::{StkrError, rpc},
};

/// Hash of the runtime code of the official deposit contract (consensus-specs, solc 0.6.11): the code at
/// 0x00000000219ab540356cBB839Cbe05303d7705Fa on mainnet and in the Hoodi genesis, which npm `@ethereumjs/genesis` carries.
pub const DEPOSIT_CONTRACT_CODE_HASH: B256 =
    b256!("0x6c029a231254fadb724d63be769f75eedd66362df034a3e663252b49d062a666");

/// Name of the deposit contract among [`contracts`]: the one that is not built here.
const DEPOSIT_CONTRACT: &str = "deposit contract";

/// The result for one contract or tie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was compared.
    pub name: String,
    /// Where.
    pub address: Address,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found, one sentence.
    pub finding: String,
}

/// Results in the making.
#[derive(Debug, Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, name: &str, address: Address, ok: bool, finding: String) {
        self.0.push(Check { name: name.to_owned(), address, ok, finding });
    }

    /// What was found must be what is expected.
    fn tie(&mut self, name: &str, address: Address, found: impl ToString, expected: impl ToString) {
        let (found, expected) = (found.to_string(), expected.to_string());
        let ok = found == expected;
        let finding = if ok { format!("is {found}") } else { format!("is {found} and must be {expected}") };
        self.add(name, address, ok, finding);
    }
}

/// Compares a deployment with this build and with its network:
/// - the chain id, and the runtime code of every contract; of the deposit contract the hash of the official code;
/// - that the contracts are tied to each other, and to the network's deposit contract and fork version, as the file says;
/// - that all they were constructed with is within the bounds that their constructors demand;
/// - who governs: the two roles with their holders and delays, and that the deployer kept nothing.
///
/// What storage holds beyond that (parameters within their bounds, what governance did) is not judged.
///
/// # Errors
/// [`StkrError::WrongChain`] or [`StkrError::Rpc`]; a difference is a [`Check`] that is not `ok`. Ties are looked at only
/// where all code is right: other code can answer anything.
pub async fn verify_deployment<P: Provider>(provider: &P, deployment: &Deployment) -> Result<Vec<Check>, StkrError> {
    let found = provider.get_chain_id().await.map_err(rpc("asking the RPC endpoint for its chain"))?;
    if found != deployment.chain_id {
        return Err(StkrError::WrongChain { expected: deployment.chain_id, found });
    }
    let mut checks = Checks::default();
    let mut codes = BTreeMap::new();
    for (name, address) in contracts(deployment) {
        let code = provider.get_code_at(address).await.map_err(rpc("reading the code of the contracts"))?;
        check_code(&mut checks, name, address, &code);
        codes.insert(name, code);
    }
    if checks.0.iter().all(|check| check.ok) {
        ties::check(&mut checks, provider, deployment, &codes).await?;
        governance::check(&mut checks, provider, deployment).await?;
    }
    Ok(checks.0)
}

fn check_code(checks: &mut Checks, name: &str, address: Address, code: &Bytes) {
    let (ok, finding) = if code.is_empty() {
        (false, "there is no code".to_owned())
    } else if name == DEPOSIT_CONTRACT {
        official(code)
    } else {
        match abi::artefact(name) {
            Ok(artefact) => compare(code, artefact),
            Err(error) => (false, error.to_string()),
        }
    };
    checks.add(name, address, ok, finding);
}

fn official(code: &[u8]) -> (bool, String) {
    match keccak256(code) {
        DEPOSIT_CONTRACT_CODE_HASH => (true, format!("{} bytes, the official deposit contract", code.len())),
        other => {
            (false, format!("the code has hash {other}, the official deposit contract {DEPOSIT_CONTRACT_CODE_HASH}"))
        }
    }
}

/// Compares deployed code with the artefact; bytes that the constructor fills in are left out on both sides.
fn compare(code: &[u8], artefact: &Artefact) -> (bool, String) {
    let Some(expected) = &artefact.deployed_bytecode else {
        return (false, "this build carries no bytecode to compare with".to_owned());
    };
    let Ok(mut expected) = hex::decode(expected.trim_start_matches("0x")) else {
        return (false, "the bytecode in this build is not hex".to_owned());
    };
    if code.len() != expected.len() {
        return (false, format!("the code has {} bytes, this build has {}", code.len(), expected.len()));
    }
    let mut code = code.to_vec();
    for span in artefact.immutable_references.values().flatten() {
        let end = span.start.saturating_add(span.length);
        for bytes in [&mut code, &mut expected] {
            if let Some(masked) = bytes.get_mut(span.start..end) {
                masked.fill(0);
            }
        }
    }
    match code.iter().zip(&expected).position(|(found, expected)| found != expected) {
        None => (true, format!("{} bytes, equal to this build", code.len())),
        Some(position) => (false, format!("the code differs from this build at byte {position}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artefact(code: &str) -> Artefact {
        let text = format!(
            r#"{{"abi":[],"deployedBytecode":"{code}","immutableReferences":{{"7":[{{"start":2,"length":2}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn immutables_are_masked_and_nothing_else_is() {
        let built = artefact("0x60600000aabb");
        assert!(compare(&[0x60, 0x60, 0x12, 0x34, 0xaa, 0xbb], &built).0);
        assert!(!compare(&[0x60, 0x61, 0x12, 0x34, 0xaa, 0xbb], &built).0);
        assert!(!compare(&[0x60, 0x60, 0x12, 0x34, 0xaa, 0xbc], &built).0);
        assert!(!compare(&[0x60, 0x60, 0x12, 0x34, 0xaa], &built).0);
        assert!(!compare(&[0x60, 0x60, 0x12, 0x34, 0xaa, 0xbb, 0x00], &built).0);
    }

    #[test]
    fn a_build_without_bytecode_says_so_and_does_not_pass() {
        let bare: Artefact = serde_json::from_str(r#"{"abi":[]}"#).unwrap();
        assert!(!compare(&[1, 2, 3], &bare).0);
    }
}
