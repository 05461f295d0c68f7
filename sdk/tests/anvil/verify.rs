//! `verify_deployment` against deployments that are malicious in one way each, on a real chain.

use alloy::{
    primitives::{Address, B256, Bytes, FixedBytes, U256, keccak256},
    providers::Provider as _,
    sol,
    sol_types::SolValue as _,
};
use serde_json::{Value, json};
use stkr_sdk::{
    Check, DEPOSIT_CONTRACT_CODE_HASH, Deployment,
    bindings::{KeyRegistry, ServerRegistry},
    verify_deployment,
};

use crate::common::{Chain, official_code, wallet};

sol! {
    #[sol(rpc)]
    interface IManager {
        function grantRole(uint64 roleId, address account, uint32 executionDelay) external;
        function revokeRole(uint64 roleId, address account) external;
        function setRoleAdmin(uint64 roleId, uint64 admin) external;
        function setTargetFunctionRole(address target, bytes4[] selectors, uint64 roleId) external;
    }
}

const ADMIN: u64 = 0;
const GOVERNANCE: u64 = 1;
const PUBLIC: u64 = u64::MAX;

async fn checks(chain: &Chain) -> Vec<Check> {
    verify_deployment(&chain.provider, &chain.deployment).await.unwrap()
}

/// Names of the checks that are not ok.
async fn failed(chain: &Chain) -> Vec<String> {
    let checks = checks(chain).await;
    checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
}

async fn set_code(chain: &Chain, at: Address, code: Vec<u8>) {
    let _: Value = chain.provider.raw_request("anvil_setCode".into(), json!([at, Bytes::from(code)])).await.unwrap();
}

async fn set_storage(chain: &Chain, at: Address, slot: B256, value: B256) {
    let _: Value = chain.provider.raw_request("anvil_setStorageAt".into(), json!([at, slot, value])).await.unwrap();
}

fn places(code: &[u8], word: B256) -> Vec<usize> {
    code.windows(32).enumerate().filter(|(_, window)| *window == word.as_slice()).map(|(at, _)| at).collect()
}

/// As if the constructor had filled in another word: in all places, or in the last one only.
async fn construct_with(chain: &Chain, at: Address, right: B256, wrong: B256, only_last: bool) {
    let mut code = chain.provider.get_code_at(at).await.unwrap().to_vec();
    let mut places = places(&code, right);
    assert!(!places.is_empty(), "{right} is not in the code");
    if only_last {
        assert!(places.len() > 1);
        places.drain(..places.len() - 1);
    }
    for place in places {
        code[place..place + 32].copy_from_slice(wrong.as_slice());
    }
    set_code(chain, at, code).await;
}

fn number(value: u64) -> B256 {
    B256::from(U256::from(value))
}

#[tokio::test]
async fn what_the_deploy_script_deploys_passes_and_governance_is_named() {
    let chain = Chain::start().await;
    let checks = checks(&chain).await;
    assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
    for name in ["ServerRegistry", "ProviderRegistry", "KeyRegistry", "Micropools", "PoolVault", "AccessManager"] {
        let check = checks.iter().find(|check| check.name == name).unwrap();
        assert!(check.finding.contains("equal to this build"), "{check:?}");
    }
    let deposits = checks.iter().find(|check| check.name == "deposit contract").unwrap();
    assert!(deposits.finding.contains("the official deposit contract"), "{deposits:?}");
    for role in ["holder of ADMIN", "holder of GOVERNANCE"] {
        let holders: Vec<_> = checks.iter().filter(|check| check.name == role).map(|check| check.address).collect();
        assert_eq!(holders, [chain.governor.address()], "{role}");
    }
}

#[tokio::test]
async fn the_pinned_hash_is_that_of_the_official_deposit_contract() {
    assert_eq!(keccak256(official_code("deposit")), DEPOSIT_CONTRACT_CODE_HASH);
}

#[tokio::test]
async fn one_changed_byte_of_any_contract_is_found() {
    let chain = Chain::start().await;
    let vault = chain.deployment.micropools.create(1);
    let named = |deployment: &Deployment| {
        [
            ("AccessManager", deployment.access_manager),
            ("ServerRegistry", deployment.server_registry),
            ("ProviderRegistry", deployment.provider_registry),
            ("KeyRegistry", deployment.key_registry),
            ("Resharing", deployment.resharing()),
            ("Acknowledgements", deployment.acknowledgements()),
            ("Micropools", deployment.micropools),
            ("WithdrawalKeys", deployment.withdrawal_keys()),
            ("deposit contract", deployment.deposit_contract),
            ("PoolVault", vault),
        ]
    };
    for (name, address) in named(&chain.deployment) {
        let right = chain.provider.get_code_at(address).await.unwrap().to_vec();
        let mut code = right.clone();
        let last = code.len() - 10;
        code[last] ^= 1;
        set_code(&chain, address, code).await;
        assert_eq!(failed(&chain).await, [name]);
        set_code(&chain, address, right).await;
    }
    assert_eq!(failed(&chain).await, [""; 0]);
}

#[tokio::test]
async fn every_tie_that_is_made_at_construction_is_missed_when_it_is_wrong() {
    let chain = Chain::start().await;
    let d = &chain.deployment;
    let (evil, vault) = (Address::repeat_byte(0xee).into_word(), d.micropools.create(1));
    let fork = |version: [u8; 4]| B256::right_padding_from(&version);
    let cases: [(&str, Address, B256, B256); 17] = [
        ("KeyRegistry.SERVER_REGISTRY", d.key_registry, d.server_registry.into_word(), evil),
        ("ServerRegistry.KEY_REGISTRY", d.server_registry, d.key_registry.into_word(), evil),
        ("ServerRegistry.RESHARING", d.server_registry, d.resharing().into_word(), evil),
        ("KeyRegistry.RESHARING", d.key_registry, d.resharing().into_word(), evil),
        ("Resharing.KEY_REGISTRY", d.resharing(), d.key_registry.into_word(), evil),
        ("Court.ACKNOWLEDGEMENTS", d.court, d.acknowledgements().into_word(), evil),
        ("Acknowledgements.COURT", d.acknowledgements(), d.court.into_word(), evil),
        ("Micropools.KEY_REGISTRY", d.micropools, d.key_registry.into_word(), evil),
        ("Micropools.PROVIDER_REGISTRY", d.micropools, d.provider_registry.into_word(), evil),
        ("Micropools.DEPOSIT_CONTRACT", d.micropools, d.deposit_contract.into_word(), evil),
        ("Micropools.GENESIS_FORK_VERSION", d.micropools, fork(*b"Stkr"), fork([0; 4])),
        ("Micropools.WITHDRAWAL_KEYS", d.micropools, d.withdrawal_keys().into_word(), evil),
        ("WithdrawalKeys.KEY_REGISTRY", d.withdrawal_keys(), d.key_registry.into_word(), evil),
        ("WithdrawalKeys.GENESIS_VALIDATORS_ROOT", d.withdrawal_keys(), B256::repeat_byte(9), evil),
        ("PoolVault.MICROPOOLS", vault, d.micropools.into_word(), evil),
        // Windows and delays of the script's defaults: a constructor that is ours refuses such values.
        ("Micropools.CHALLENGE_WINDOW", d.micropools, number(86_400), number(1)),
        ("KeyRegistry.SEED_DELAY", d.key_registry, number(2), number(1)),
    ];
    for (name, address, right, wrong) in cases {
        let code = chain.provider.get_code_at(address).await.unwrap().to_vec();
        construct_with(&chain, address, right, wrong, false).await;
        let failed = failed(&chain).await;
        assert!(failed.iter().any(|failed| failed == name), "{name}: {failed:?}");
        set_code(&chain, address, code).await;
    }
    // Another vault with the right code is still not the one that Micropools created.
    let code = chain.provider.get_code_at(d.micropools).await.unwrap().to_vec();
    let vault_code = chain.provider.get_code_at(vault).await.unwrap().to_vec();
    set_code(&chain, Address::repeat_byte(0xee), vault_code).await;
    construct_with(&chain, d.micropools, vault.into_word(), evil, false).await;
    assert_eq!(failed(&chain).await, ["Micropools.VAULT_IMPLEMENTATION", "Micropools.vaultOf(1)"]);
    set_code(&chain, d.micropools, code).await;
    assert_eq!(failed(&chain).await, [""; 0]);
}

#[tokio::test]
async fn an_immutable_that_its_getter_shows_right_and_the_code_uses_wrong_is_found() {
    let chain = Chain::start().await;
    let d = &chain.deployment;
    let evil = Address::repeat_byte(0xee).into_word();
    for (name, address, right) in [
        ("KeyRegistry immutables", d.key_registry, d.server_registry.into_word()),
        ("Resharing immutables", d.resharing(), d.server_registry.into_word()),
        ("Court immutables", d.court, d.resharing().into_word()),
        ("Acknowledgements immutables", d.acknowledgements(), d.server_registry.into_word()),
        ("Micropools immutables", d.micropools, d.deposit_contract.into_word()),
        ("WithdrawalKeys immutables", d.withdrawal_keys(), d.key_registry.into_word()),
        ("PoolVault immutables", d.micropools.create(1), d.micropools.into_word()),
    ] {
        let code = chain.provider.get_code_at(address).await.unwrap().to_vec();
        construct_with(&chain, address, right, evil, true).await;
        let failed = failed(&chain).await;
        assert!(failed.iter().any(|failed| failed == name), "{name}: {failed:?}");
        set_code(&chain, address, code).await;
    }
    // No getter shows under which name signer proofs are made.
    construct_with(&chain, d.server_registry, keccak256("Stkr"), keccak256("Evil"), false).await;
    assert_eq!(failed(&chain).await, ["ServerRegistry immutables"]);
}

#[tokio::test]
async fn a_registry_that_obeys_another_manager_is_found() {
    let chain = Chain::start().await;
    let d = &chain.deployment;
    for (name, address) in [("ServerRegistry.authority", d.server_registry), ("KeyRegistry.authority", d.key_registry)]
    {
        let manager = d.access_manager.into_word();
        let mut slot = None;
        for number in 0..8_u64 {
            let value = chain.provider.get_storage_at(address, U256::from(number)).await.unwrap();
            if B256::from(value) == manager {
                slot = Some(B256::from(U256::from(number)));
            }
        }
        let slot = slot.expect("a slot holds the authority");
        set_storage(&chain, address, slot, Address::repeat_byte(0xee).into_word()).await;
        assert_eq!(failed(&chain).await, [name]);
        set_storage(&chain, address, slot, manager).await;
    }
}

#[tokio::test]
async fn a_pools_contract_that_gets_no_keys_is_found() {
    let chain = Chain::start().await;
    let d = &chain.deployment;
    for number in 0..16_u64 {
        let slot = keccak256((d.micropools, U256::from(number)).abi_encode());
        if chain.provider.get_storage_at(d.key_registry, slot.into()).await.unwrap() == U256::from(1) {
            set_storage(&chain, d.key_registry, slot, B256::ZERO).await;
        }
    }
    assert_eq!(failed(&chain).await, ["KeyRegistry.isConsumer(Micropools)"]);
}

#[tokio::test]
async fn a_network_pins_its_deposit_contract_and_its_fork_version() {
    let mut chain = Chain::start().await;
    // The official code at another address, and a Micropools that pays there.
    let elsewhere = Address::repeat_byte(0xde);
    let official = chain.deployment.deposit_contract;
    set_code(&chain, elsewhere, official_code("deposit").to_vec()).await;
    construct_with(&chain, chain.deployment.micropools, official.into_word(), elsewhere.into_word(), false).await;
    chain.deployment.deposit_contract = elsewhere;
    assert_eq!(failed(&chain).await, ["deposit contract of devnet"]);

    let mut chain = Chain::start_as(1).await;
    chain.deployment.chain_id = 1;
    let failed = failed(&chain).await;
    assert!(failed.contains(&"genesis fork version of mainnet".to_owned()), "{failed:?}");
    assert!(failed.contains(&"genesis validators root of mainnet".to_owned()), "{failed:?}");
    // The test's governance has no delay, which is fine on a devnet and nowhere else.
    assert!(failed.contains(&"holder of ADMIN".to_owned()) && failed.contains(&"holder of GOVERNANCE".to_owned()));
}

#[tokio::test]
async fn a_deployer_that_kept_admin_or_another_hidden_power_is_found() {
    let chain = Chain::start().await;
    let d = chain.deployment.clone();
    let governor = wallet(&chain.governor);
    let signing = alloy::providers::ProviderBuilder::new().wallet(governor).connect_http(chain.url.parse().unwrap());
    let manager = IManager::new(d.access_manager, &signing);
    let friend = Address::repeat_byte(0xf1);

    manager.grantRole(ADMIN, friend, 0).send().await.unwrap().get_receipt().await.unwrap();
    assert_eq!(failed(&chain).await, ["holder of ADMIN"]);
    manager.revokeRole(ADMIN, friend).send().await.unwrap().get_receipt().await.unwrap();
    assert_eq!(failed(&chain).await, [""; 0]);

    let approve = FixedBytes(<ServerRegistry::approveCall as alloy::sol_types::SolCall>::SELECTOR);
    let add_consumer = FixedBytes(<KeyRegistry::addConsumerCall as alloy::sol_types::SolCall>::SELECTOR);
    for (name, target, selector) in [
        ("role of ServerRegistry.approve", d.server_registry, approve),
        ("role of KeyRegistry.addConsumer", d.key_registry, add_consumer),
    ] {
        let map = |role| manager.setTargetFunctionRole(target, vec![selector], role);
        map(PUBLIC).send().await.unwrap().get_receipt().await.unwrap();
        assert_eq!(failed(&chain).await, [name]);
        map(GOVERNANCE).send().await.unwrap().get_receipt().await.unwrap();
    }

    manager.setRoleAdmin(GOVERNANCE, 7).send().await.unwrap().get_receipt().await.unwrap();
    assert_eq!(failed(&chain).await, ["AccessManager.getRoleAdmin(GOVERNANCE)"]);
    manager.setRoleAdmin(GOVERNANCE, ADMIN).send().await.unwrap().get_receipt().await.unwrap();

    // Governance goes to another account and the deployer does not renounce ADMIN.
    manager.grantRole(GOVERNANCE, friend, 0).send().await.unwrap().get_receipt().await.unwrap();
    manager.revokeRole(GOVERNANCE, chain.governor.address()).send().await.unwrap().get_receipt().await.unwrap();
    let checks = checks(&chain).await;
    let kept = checks.iter().find(|check| !check.ok).unwrap();
    assert_eq!((kept.name.as_str(), kept.address), ("holder of ADMIN", chain.governor.address()));
    assert!(kept.finding.contains("the deployer kept it"), "{kept:?}");
}

#[tokio::test]
async fn a_deployed_block_that_hides_earlier_grants_is_found() {
    let mut chain = Chain::start().await;
    chain.mine(1).await;
    chain.deployment.deployed_block = chain.provider.get_block_number().await.unwrap();
    assert_eq!(failed(&chain).await, ["AccessManager history"]);
}
