//! What masked immutables hide: that each contract is tied to the others of this deployment and to its network.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, Bytes, FixedBytes, U256, keccak256},
    providers::Provider,
    sol_types::eip712_domain,
};
use stkr_chain::{
    Deployment,
    bindings::{
        Acknowledgements, Court, KeyRegistry, Micropools, PoolVault, ProviderRegistry, Resharing, ServerRegistry,
        WithdrawalKeys,
    },
};
use stkr_duties::{ForkSchedule, Network, domain};

use super::{Checks, check_code};
use crate::{
    abi::{self, Artefact},
    amount::{self, with_unit},
    error::{StkrError, call, rpc},
};

const ACTION: &str = "reading what the contracts are tied to";

/// Seconds in an hour and in a day.
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

pub(super) async fn check<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    deployment: &Deployment,
    codes: &BTreeMap<&'static str, Bytes>,
) -> Result<(), StkrError> {
    network(checks, deployment);
    let code = |name: &str| codes.get(name).map(Bytes::as_ref).unwrap_or_default();
    servers(checks, provider, deployment, code("ServerRegistry")).await?;
    providers(checks, provider, deployment, code("ProviderRegistry")).await?;
    keys(checks, provider, deployment, code("KeyRegistry")).await?;
    pools(checks, provider, deployment, code("Micropools")).await
}

/// The file against the network that its chain id names. What a network pins, nobody may choose.
fn network(checks: &mut Checks, deployment: &Deployment) {
    let known = [Network::mainnet(), Network::hoodi(), Network::devnet()];
    let Some(network) = known.into_iter().find(|network| network.chain_id == deployment.chain_id) else { return };
    let deposits = deployment.deposit_contract;
    checks.tie(&format!("deposit contract of {}", network.name), deposits, deposits, network.deposit_contract);
    // A devnet takes the fork version of its beacon chain from whoever makes it.
    if network != Network::devnet() {
        let name = format!("genesis fork version of {}", network.name);
        let expected = FixedBytes(network.genesis_fork_version);
        checks.tie(&name, deployment.micropools, deployment.genesis_fork_version, expected);
    }
    if let Some(schedule) = ForkSchedule::by_name(&network.name) {
        let name = format!("genesis validators root of {}", network.name);
        let (found, expected) = (deployment.genesis_validators_root, schedule.genesis_validators_root());
        checks.tie(&name, deployment.withdrawal_keys(), found, expected);
    }
}

async fn servers<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    deployment: &Deployment,
    code: &[u8],
) -> Result<(), StkrError> {
    let at = deployment.server_registry;
    let registry = ServerRegistry::new(at, provider);
    checks.tie(
        "ServerRegistry.authority",
        at,
        registry.authority().call().await.map_err(call(ACTION))?,
        deployment.access_manager,
    );
    let keys = registry.KEY_REGISTRY().call().await.map_err(call(ACTION))?;
    checks.tie("ServerRegistry.KEY_REGISTRY", at, keys, deployment.key_registry);
    let delay: u64 = registry.UNBONDING_DELAY().call().await.map_err(call(ACTION))?.to();
    within(checks, "ServerRegistry.UNBONDING_DELAY", at, delay, 0, 365 * DAY);
    for (name, bond) in [
        ("ServerRegistry.minBond", registry.minBond().call().await.map_err(call(ACTION))?),
        ("ServerRegistry.seatBond", registry.seatBond().call().await.map_err(call(ACTION))?),
    ] {
        let (bond, low, high) = (U256::from(bond), amount::ether(1) / U256::from(10), amount::ether(100));
        let ok = (low..=high).contains(&bond);
        checks.add(name, at, ok, bounded(with_unit(bond), with_unit(low), with_unit(high), ok));
    }
    let mut expected = eip712(deployment.chain_id, at);
    let judge = registry.COURT().call().await.map_err(call(ACTION))?;
    let resharing = registry.RESHARING().call().await.map_err(call(ACTION))?;
    checks.tie("ServerRegistry.RESHARING", at, resharing, deployment.resharing());
    expected.extend([word_of(keys), word_of(resharing), word_of(judge), number(delay)]);
    immutables(checks, "ServerRegistry", at, code, expected);
    court(checks, provider, deployment, judge).await
}

/// Unix time of the beacon chain's genesis where everybody knows it; a devnet's is its maker's.
const fn genesis_time(chain_id: u64) -> Option<u64> {
    match chain_id {
        1 => Some(1_606_824_023),
        560_048 => Some(1_742_213_400),
        _ => None,
    }
}

/// The only contract that slashes is whatever the server registry names: it must be ours, and judge by these registries.
async fn court<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    deployment: &Deployment,
    at: Address,
) -> Result<(), StkrError> {
    let code = provider.get_code_at(at).await.map_err(rpc("reading the code of the contracts"))?;
    check_code(checks, "Court", at, &code);
    if checks.0.last().is_some_and(|check| check.ok) {
        let court = Court::new(at, provider);
        let keys = court.KEY_REGISTRY().call().await.map_err(call(ACTION))?;
        checks.tie("Court.KEY_REGISTRY", at, keys, deployment.key_registry);
        let servers = court.SERVER_REGISTRY().call().await.map_err(call(ACTION))?;
        checks.tie("Court.SERVER_REGISTRY", at, servers, deployment.server_registry);
        let genesis = court.GENESIS_TIME().call().await.map_err(call(ACTION))?;
        if let Some(expected) = genesis_time(deployment.chain_id) {
            checks.tie("Court.GENESIS_TIME", at, genesis, expected);
        }
        // What was signed for another registry or chain must not be evidence here.
        let chain_id = deployment.chain_id;
        let domain = domain_separator(chain_id, deployment.key_registry);
        let asks = court.ACKNOWLEDGEMENTS().call().await.map_err(call(ACTION))?;
        checks.tie("Court.ACKNOWLEDGEMENTS", at, asks, at.create(1));
        let resharing = word_of(deployment.resharing());
        let expected =
            vec![word_of(keys), word_of(servers), resharing, word_of(asks), number(genesis), domain, number(chain_id)];
        immutables(checks, "Court", at, &code, expected);
        acknowledgements(checks, provider, at.create(1), [at, keys, servers]).await?;
    }
    Ok(())
}

async fn acknowledgements<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    at: Address,
    [judge, keys, servers]: [Address; 3],
) -> Result<(), StkrError> {
    let court = Acknowledgements::new(at, provider).COURT().call().await.map_err(call(ACTION))?;
    checks.tie("Acknowledgements.COURT", at, court, judge);
    let code = provider.get_code_at(at).await.map_err(rpc("reading the code of the contracts"))?;
    immutables(checks, "Acknowledgements", at, &code, vec![word_of(judge), word_of(keys), word_of(servers)]);
    Ok(())
}

async fn providers<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    deployment: &Deployment,
    code: &[u8],
) -> Result<(), StkrError> {
    let at = deployment.provider_registry;
    let registry = ProviderRegistry::new(at, provider);
    let separator = registry.domainSeparator().call().await.map_err(call(ACTION))?;
    checks.tie("ProviderRegistry.domainSeparator", at, separator, domain_separator(deployment.chain_id, at));
    immutables(checks, "ProviderRegistry", at, code, eip712(deployment.chain_id, at));
    Ok(())
}

async fn keys<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    deployment: &Deployment,
    code: &[u8],
) -> Result<(), StkrError> {
    let at = deployment.key_registry;
    let registry = KeyRegistry::new(at, provider);
    checks.tie(
        "KeyRegistry.authority",
        at,
        registry.authority().call().await.map_err(call(ACTION))?,
        deployment.access_manager,
    );
    let servers = registry.SERVER_REGISTRY().call().await.map_err(call(ACTION))?;
    checks.tie("KeyRegistry.SERVER_REGISTRY", at, servers, deployment.server_registry);
    let consumer = registry.isConsumer(deployment.micropools).call().await.map_err(call(ACTION))?;
    checks.tie("KeyRegistry.isConsumer(Micropools)", at, consumer, true);
    let separator = registry.domainSeparator().call().await.map_err(call(ACTION))?;
    checks.tie("KeyRegistry.domainSeparator", at, separator, deployment.domain_separator());
    let seed_delay: u64 = registry.SEED_DELAY().call().await.map_err(call(ACTION))?.to();
    within(checks, "KeyRegistry.SEED_DELAY", at, seed_delay, 2, 1024);
    let evidence: u64 = registry.EVIDENCE_WINDOW().call().await.map_err(call(ACTION))?.to();
    within(checks, "KeyRegistry.EVIDENCE_WINDOW", at, evidence, 0, 365 * DAY);
    let ceremony: u64 = registry.ceremonyWindow().call().await.map_err(call(ACTION))?.to();
    within(checks, "KeyRegistry.ceremonyWindow", at, ceremony, HOUR / 6, 7 * DAY);
    // It gives and takes seats, and says whose evidence counts.
    let resharing = registry.RESHARING().call().await.map_err(call(ACTION))?;
    checks.tie("KeyRegistry.RESHARING", at, resharing, at.create(1));
    let mut expected = eip712(deployment.chain_id, at);
    expected.extend([word_of(servers), word_of(resharing), number(seed_delay), number(evidence)]);
    immutables(checks, "KeyRegistry", at, code, expected);
    let tied = [word_of(at), word_of(servers), number(seed_delay), number(evidence)];
    self::resharing(checks, provider, at.create(1), at, tied).await
}

async fn resharing<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    at: Address,
    keys: Address,
    tied: [B256; 4],
) -> Result<(), StkrError> {
    let found = Resharing::new(at, provider).KEY_REGISTRY().call().await.map_err(call(ACTION))?;
    checks.tie("Resharing.KEY_REGISTRY", at, found, keys);
    let code = provider.get_code_at(at).await.map_err(rpc("reading the code of the contracts"))?;
    immutables(checks, "Resharing", at, &code, tied.to_vec());
    Ok(())
}

async fn pools<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    deployment: &Deployment,
    code: &[u8],
) -> Result<(), StkrError> {
    let at = deployment.micropools;
    let pools = Micropools::new(at, provider);
    let keys = pools.KEY_REGISTRY().call().await.map_err(call(ACTION))?;
    checks.tie("Micropools.KEY_REGISTRY", at, keys, deployment.key_registry);
    let providers = pools.PROVIDER_REGISTRY().call().await.map_err(call(ACTION))?;
    checks.tie("Micropools.PROVIDER_REGISTRY", at, providers, deployment.provider_registry);
    let deposits = pools.DEPOSIT_CONTRACT().call().await.map_err(call(ACTION))?;
    checks.tie("Micropools.DEPOSIT_CONTRACT", at, deposits, deployment.deposit_contract);
    let fork = pools.GENESIS_FORK_VERSION().call().await.map_err(call(ACTION))?;
    checks.tie("Micropools.GENESIS_FORK_VERSION", at, fork, deployment.genesis_fork_version);
    for (name, found, expected) in [
        ("Micropools.MIN_STAKE", pools.MIN_STAKE().call().await.map_err(call(ACTION))?, amount::MIN_STAKE),
        ("Micropools.POOL_SIZE", pools.POOL_SIZE().call().await.map_err(call(ACTION))?, amount::POOL_SIZE),
        ("Micropools.INSURANCE", pools.INSURANCE().call().await.map_err(call(ACTION))?, amount::INSURANCE),
    ] {
        checks.tie(name, at, with_unit(found), with_unit(expected));
    }
    let windows = [
        ("Micropools.OPEN_WINDOW", pools.OPEN_WINDOW().call().await.map_err(call(ACTION))?, HOUR),
        ("Micropools.KEY_WINDOW", pools.KEY_WINDOW().call().await.map_err(call(ACTION))?, HOUR),
        ("Micropools.PREDEPOSIT_WINDOW", pools.PREDEPOSIT_WINDOW().call().await.map_err(call(ACTION))?, HOUR),
        // A shorter one would leave nobody the time to show a foreign deposit.
        ("Micropools.CHALLENGE_WINDOW", pools.CHALLENGE_WINDOW().call().await.map_err(call(ACTION))?, 12 * HOUR),
    ];
    for (name, window, low) in windows {
        within(checks, name, at, window.to(), low, 90 * DAY);
    }
    // Every pool's vault is a clone of this one: its code decides where the principal can go.
    let vault = pools.VAULT_IMPLEMENTATION().call().await.map_err(call(ACTION))?;
    checks.tie("Micropools.VAULT_IMPLEMENTATION", at, vault, at.create(1));
    let first = pools.vaultOf(U256::from(1)).call().await.map_err(call(ACTION))?;
    checks.tie("Micropools.vaultOf(1)", at, first, deployment.vault_of(1));
    let members =
        KeyRegistry::new(deployment.key_registry, provider).MAX_MEMBERS().call().await.map_err(call(ACTION))?;
    let withdrawals = pools.WITHDRAWAL_KEYS().call().await.map_err(call(ACTION))?;
    checks.tie("Micropools.WITHDRAWAL_KEYS", at, withdrawals, at.create(2));
    let mut expected =
        vec![word_of(keys), word_of(providers), word_of(deposits), word_of(vault), number(members.into())];
    expected.push(word_of(withdrawals));
    expected.push(B256::right_padding_from(fork.as_slice()));
    expected.extend(windows.map(|(_, window, _)| number(window.to())));
    immutables(checks, "Micropools", at, code, expected);

    let code = provider.get_code_at(vault).await.map_err(rpc("reading the code of the contracts"))?;
    check_code(checks, "PoolVault", vault, &code);
    if checks.0.last().is_some_and(|check| check.ok) {
        let obeyed = PoolVault::new(vault, provider).MICROPOOLS().call().await.map_err(call(ACTION))?;
        checks.tie("PoolVault.MICROPOOLS", vault, obeyed, at);
        immutables(checks, "PoolVault", vault, &code, vec![word_of(at)]);
    }
    withdrawals_of(checks, provider, deployment, [word_of(keys), word_of(providers)]).await
}

/// Who orders what withdrawal keys sign: of these pools and registries, under the root of this beacon chain.
async fn withdrawals_of<P: Provider>(
    checks: &mut Checks,
    provider: &P,
    deployment: &Deployment,
    registries: [B256; 2],
) -> Result<(), StkrError> {
    let at = deployment.withdrawal_keys();
    let keys = WithdrawalKeys::new(at, provider);
    let pools = keys.MICROPOOLS().call().await.map_err(call(ACTION))?;
    checks.tie("WithdrawalKeys.MICROPOOLS", at, pools, deployment.micropools);
    let registry = keys.KEY_REGISTRY().call().await.map_err(call(ACTION))?;
    checks.tie("WithdrawalKeys.KEY_REGISTRY", at, registry, deployment.key_registry);
    let root = keys.GENESIS_VALIDATORS_ROOT().call().await.map_err(call(ACTION))?;
    checks.tie("WithdrawalKeys.GENESIS_VALIDATORS_ROOT", at, root, deployment.genesis_validators_root);
    let consumer = KeyRegistry::new(deployment.key_registry, provider).isConsumer(at).call().await;
    checks.tie("KeyRegistry.isConsumer(WithdrawalKeys)", at, consumer.map_err(call(ACTION))?, true);
    let change = domain::DOMAIN_BLS_TO_EXECUTION_CHANGE;
    let domain = domain::compute_domain(change, deployment.genesis_fork_version.0, root);
    let mut expected = vec![word_of(pools), root, domain];
    expected.extend(registries);
    let code = provider.get_code_at(at).await.map_err(rpc("reading the code of the contracts"))?;
    immutables(checks, "WithdrawalKeys", at, &code, expected);
    Ok(())
}

/// Bounds that the constructor demands. Code that only looks like ours was never made to obey them.
fn within(checks: &mut Checks, name: &str, at: Address, found: u64, low: u64, high: u64) {
    let ok = (low..=high).contains(&found);
    checks.add(name, at, ok, bounded(found, low, high, ok));
}

fn bounded(found: impl ToString, low: impl ToString, high: impl ToString, ok: bool) -> String {
    let (found, low, high) = (found.to_string(), low.to_string(), high.to_string());
    if ok { format!("is {found}") } else { format!("is {found} and must be {low} to {high}") }
}

/// A getter shows one of the places an immutable stands in. All of them must hold the same, and all immutables together
/// what the getters and the domain say: then none of the masked bytes is unaccounted for.
fn immutables(checks: &mut Checks, name: &str, at: Address, code: &[u8], expected: Vec<B256>) {
    let (ok, finding) = match abi::artefact(name).map(|artefact| unexpected(artefact, code, expected)) {
        Ok(None) => (true, "every place holds what it must".to_owned()),
        Ok(Some(difference)) => (false, difference),
        Err(error) => (false, error.to_string()),
    };
    checks.add(&format!("{name} immutables"), at, ok, finding);
}

fn unexpected(artefact: &Artefact, code: &[u8], mut expected: Vec<B256>) -> Option<String> {
    for places in artefact.immutable_references.values() {
        let mut values =
            places.iter().map(|span| (span.start, code.get(span.start..span.start.saturating_add(span.length))));
        let (start, Some(value)) = values.next()? else { return Some("the code is too short".to_owned()) };
        if let Some((other, _)) = values.find(|(_, other)| *other != Some(value)) {
            return Some(format!("bytes {start} and {other} of the code must hold the same and do not"));
        }
        let value = B256::left_padding_from(value);
        match expected.iter().position(|expected| *expected == value) {
            Some(position) => drop(expected.swap_remove(position)),
            None => {
                return Some(format!("the code holds {value} at byte {start}, which nothing in this deployment is"));
            }
        }
    }
    let missing: Vec<String> = expected.iter().map(ToString::to_string).collect();
    (!missing.is_empty()).then(|| format!("the code lacks {}", missing.join(", ")))
}

/// What OpenZeppelin's EIP712 keeps: domain, chain, contract, name and version, hashed and as short strings.
fn eip712(chain_id: u64, contract: Address) -> Vec<B256> {
    vec![
        domain_separator(chain_id, contract),
        number(chain_id),
        word_of(contract),
        keccak256("Stkr"),
        keccak256("1"),
        short_string("Stkr"),
        short_string("1"),
    ]
}

fn domain_separator(chain_id: u64, verifying_contract: Address) -> B256 {
    eip712_domain! { name: "Stkr", version: "1", chain_id: chain_id, verifying_contract: verifying_contract, }
        .separator()
}

/// OpenZeppelin `ShortStrings`: the text to the left, its length in the last byte.
fn short_string(text: &str) -> B256 {
    let mut word = B256::right_padding_from(text.as_bytes());
    word[31] = u8::try_from(text.len()).unwrap_or_default();
    word
}

fn word_of(address: Address) -> B256 {
    address.into_word()
}

fn number(value: u64) -> B256 {
    B256::from(U256::from(value))
}
