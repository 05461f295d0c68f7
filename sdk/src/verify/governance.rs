//! Who governs: holders of the two roles of the AccessManager, their delays, and what the roles may do.

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    primitives::{Address, B256, U256},
    providers::Provider,
    rpc::types::{Filter, Log},
    sol_types::{SolCall, SolEvent},
};
use stkr_chain::{
    Deployment,
    bindings::{KeyRegistry, ServerRegistry},
};
use stkr_duties::Network;

use super::Checks;
use crate::{
    error::{StkrError, call, rpc},
    governance::{
        ADMIN, GOVERNANCE,
        IAccessManager::{self, IAccessManagerInstance},
    },
    scan,
};

const ACTION: &str = "reading who governs";

/// Shortest delay of governance where real ether is at stake, seconds: what the deploy script demands there.
const PUBLIC_DELAY: u32 = 2 * 24 * 3600;

pub(super) async fn check<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    deployment: &Deployment,
) -> Result<(), StkrError> {
    let manager = IAccessManager::new(deployment.access_manager, provider);
    functions(checks, &manager, deployment).await?;
    let at = deployment.access_manager;
    let above = manager.getRoleAdmin(GOVERNANCE).call().await.map_err(call(ACTION))?;
    checks.tie("AccessManager.getRoleAdmin(GOVERNANCE)", at, role_name(above), role_name(ADMIN));

    let grants = grants(provider, deployment).await?;
    let deployer = match grants.first() {
        Some(first) => creation(provider, deployment, first).await?,
        None => None,
    };
    match deployer {
        Some(_) => checks.add("AccessManager history", at, true, "is complete from its creation on".to_owned()),
        // Whoever was given a role before that block would not be seen.
        None => {
            let finding =
                format!("does not begin with its creation; deployedBlock {} is too late", deployment.deployed_block);
            checks.add("AccessManager history", at, false, finding);
        }
    }

    let mut holders = BTreeMap::<u64, BTreeMap<Address, u32>>::new();
    for (role, account) in grants.iter().filter_map(granted).collect::<BTreeSet<_>>() {
        if let Some(delay) = held(&manager, role, account).await? {
            holders.entry(role).or_default().insert(account, delay);
        }
    }
    let shortest = if is_public(deployment.chain_id) { PUBLIC_DELAY } else { 0 };
    let of = |role: u64| holders.get(&role).into_iter().flatten().map(|(account, delay)| (*account, *delay));
    for role in [ADMIN, GOVERNANCE] {
        let name = format!("holder of {}", role_name(role));
        for (account, delay) in of(role) {
            let governs = of(GOVERNANCE).any(|(governor, _)| governor == account);
            let (ok, finding) = if !governs {
                // The script gives ADMIN to nobody but governance, and the deployer renounces it.
                let who = if deployer == Some(account) { "the deployer kept it" } else { "is not governance" };
                (false, format!("{who}, with a delay of {delay} s"))
            } else if delay < shortest {
                (false, format!("has a delay of {delay} s and must have at least {shortest} s on this network"))
            } else {
                (true, format!("has a delay of {delay} s"))
            };
            checks.add(&name, account, ok, finding);
        }
        if of(role).next().is_none() {
            checks.add(&name, at, true, "is nobody".to_owned());
        }
    }
    Ok(())
}

/// Every restricted function must belong to GOVERNANCE: another role could be anybody's, and PUBLIC is everybody's.
async fn functions<P: Provider>(
    checks: &mut Checks,
    manager: &IAccessManagerInstance<&P>,
    deployment: &Deployment,
) -> Result<(), StkrError> {
    let (servers, keys) = (deployment.server_registry, deployment.key_registry);
    for (name, target, selector) in [
        ("ServerRegistry.approve", servers, ServerRegistry::approveCall::SELECTOR),
        ("ServerRegistry.suspend", servers, ServerRegistry::suspendCall::SELECTOR),
        ("ServerRegistry.reinstate", servers, ServerRegistry::reinstateCall::SELECTOR),
        ("ServerRegistry.setBondParameters", servers, ServerRegistry::setBondParametersCall::SELECTOR),
        ("KeyRegistry.addConsumer", keys, KeyRegistry::addConsumerCall::SELECTOR),
        ("KeyRegistry.setCeremonyWindow", keys, KeyRegistry::setCeremonyWindowCall::SELECTOR),
    ] {
        let role = manager.getTargetFunctionRole(target, selector.into()).call().await.map_err(call(ACTION))?;
        checks.tie(&format!("role of {name}"), target, role_name(role), role_name(GOVERNANCE));
    }
    Ok(())
}

/// Every grant of one of the two roles since the deployment, oldest first.
async fn grants<P: Provider>(provider: &P, deployment: &Deployment) -> Result<Vec<Log>, StkrError> {
    let filter = Filter::new()
        .address(deployment.access_manager)
        .event_signature(IAccessManager::RoleGranted::SIGNATURE_HASH)
        .topic1(vec![B256::from(U256::from(ADMIN)), B256::from(U256::from(GOVERNANCE))]);
    let head = provider.get_block_number().await.map_err(rpc("reading the block number"))?;
    scan::logs(provider, &filter, deployment.deployed_block, head).await
}

fn granted(log: &Log) -> Option<(u64, Address)> {
    let event = log.log_decode::<IAccessManager::RoleGranted>().ok()?.inner.data;
    Some((event.roleId, event.account))
}

/// The account that the manager was created for, if `first` is the grant in its own constructor.
async fn creation<P: Provider>(
    provider: &P,
    deployment: &Deployment,
    first: &Log,
) -> Result<Option<Address>, StkrError> {
    let (Some(hash), Some((ADMIN, account))) = (first.transaction_hash, granted(first)) else { return Ok(None) };
    let receipt = provider.get_transaction_receipt(hash).await.map_err(rpc("reading how governance was created"))?;
    let created = receipt.and_then(|receipt| receipt.contract_address);
    Ok((created == Some(deployment.access_manager)).then_some(account))
}

/// The shortest delay, in seconds, that `account` has or is about to have in `role`; nothing if it does not hold it.
async fn held<P: Provider>(
    manager: &IAccessManagerInstance<&P>,
    role: u64,
    account: Address,
) -> Result<Option<u32>, StkrError> {
    let access = manager.getAccess(role, account).call().await.map_err(call(ACTION))?;
    if access.since.is_zero() {
        return Ok(None);
    }
    let pending = if access.effect.is_zero() { access.currentDelay } else { access.pendingDelay };
    Ok(Some(access.currentDelay.min(pending)))
}

fn is_public(chain_id: u64) -> bool {
    [Network::mainnet(), Network::hoodi()].iter().any(|network| network.chain_id == chain_id)
}

fn role_name(role: u64) -> String {
    match role {
        ADMIN => "ADMIN".to_owned(),
        GOVERNANCE => "GOVERNANCE".to_owned(),
        u64::MAX => "PUBLIC".to_owned(),
        other => format!("role {other}"),
    }
}
