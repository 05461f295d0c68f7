//! Is what is deployed what was compiled here? Bytecode compared, and the contracts' ties to each other.

use alloy::{
    primitives::{Address, U256},
    providers::Provider,
};
use serde::Serialize;
use stkr_chain::{
    Deployment,
    bindings::{KeyRegistry, Micropools},
};

use crate::{
    abi::{self, Artefact},
    client::contracts,
    error::{StkrError, call, rpc},
};

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

/// Compares a deployment with this build: chain id, runtime code of every contract (immutables masked), and that the
/// contracts name each other and the deposit contract as the deployment does.
///
/// # Errors
/// [`StkrError::WrongChain`] or [`StkrError::Rpc`]; a difference is a [`Check`] that is not `ok`.
pub async fn verify_deployment<P: Provider>(provider: &P, deployment: &Deployment) -> Result<Vec<Check>, StkrError> {
    let found = provider.get_chain_id().await.map_err(rpc("asking the RPC endpoint for its chain"))?;
    if found != deployment.chain_id {
        return Err(StkrError::WrongChain { expected: deployment.chain_id, found });
    }
    let mut checks = Vec::new();
    for (name, address) in contracts(deployment) {
        checks.push(check_code(provider, name, address).await?);
    }
    if checks.iter().all(|check| check.ok) {
        checks.extend(check_ties(provider, deployment).await?);
    }
    Ok(checks)
}

async fn check_code<P: Provider>(provider: &P, name: &str, address: Address) -> Result<Check, StkrError> {
    let code = provider.get_code_at(address).await.map_err(rpc("reading the code of the contracts"))?;
    let (ok, finding) = if code.is_empty() {
        (false, "there is no code".to_owned())
    } else if let Ok(artefact) = abi::artefact(name) {
        compare(&code, artefact)
    } else {
        // Not ours (OpenZeppelin's manager, the official deposit contract): its presence is what can be said.
        (true, format!("{} bytes of code, not built here", code.len()))
    };
    Ok(Check { name: name.to_owned(), address, ok, finding })
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

/// What masked immutables hide: that each contract is tied to the others of this deployment.
async fn check_ties<P: Provider>(provider: &P, deployment: &Deployment) -> Result<Vec<Check>, StkrError> {
    let action = "reading what the contracts are tied to";
    let pools = Micropools::new(deployment.micropools, provider);
    let keys = KeyRegistry::new(deployment.key_registry, provider);
    let mut checks = Vec::new();
    let mut tie = |name: &str, address: Address, found: String, expected: String| {
        let ok = found == expected;
        let finding = if ok { format!("is {found}") } else { format!("is {found}, the deployment says {expected}") };
        checks.push(Check { name: name.to_owned(), address, ok, finding });
    };
    let found = pools.KEY_REGISTRY().call().await.map_err(call(action))?;
    tie("Micropools.KEY_REGISTRY", deployment.micropools, found.to_string(), deployment.key_registry.to_string());
    let found = pools.PROVIDER_REGISTRY().call().await.map_err(call(action))?;
    let expected = deployment.provider_registry.to_string();
    tie("Micropools.PROVIDER_REGISTRY", deployment.micropools, found.to_string(), expected);
    let found = pools.DEPOSIT_CONTRACT().call().await.map_err(call(action))?;
    let expected = deployment.deposit_contract.to_string();
    tie("Micropools.DEPOSIT_CONTRACT", deployment.micropools, found.to_string(), expected);
    let found = pools.GENESIS_FORK_VERSION().call().await.map_err(call(action))?;
    let expected = deployment.genesis_fork_version.to_string();
    tie("Micropools.GENESIS_FORK_VERSION", deployment.micropools, found.to_string(), expected);
    let found = keys.isConsumer(deployment.micropools).call().await.map_err(call(action))?;
    tie("KeyRegistry.isConsumer(Micropools)", deployment.key_registry, found.to_string(), true.to_string());
    for (name, found, expected) in [
        ("Micropools.MIN_STAKE", pools.MIN_STAKE().call().await.map_err(call(action))?, crate::amount::MIN_STAKE),
        ("Micropools.POOL_SIZE", pools.POOL_SIZE().call().await.map_err(call(action))?, crate::amount::POOL_SIZE),
        ("Micropools.INSURANCE", pools.INSURANCE().call().await.map_err(call(action))?, crate::amount::INSURANCE),
    ] {
        tie(name, deployment.micropools, wei(found), wei(expected));
    }
    // Every pool's vault is a clone of this one: its code decides where the principal can go.
    let vault = pools.VAULT_IMPLEMENTATION().call().await.map_err(call(action))?;
    checks.push(check_code(provider, "PoolVault", vault).await?);
    Ok(checks)
}

fn wei(amount: U256) -> String {
    crate::amount::with_unit(amount)
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
