//! Every write, as a transaction for somebody else's wallet.

use std::collections::BTreeSet;

use alloy::{
    json_abi::{JsonAbi, StateMutability},
    primitives::Address,
    providers::{Provider as _, ProviderBuilder},
    rpc::types::TransactionRequest,
};
use serde_json::Value;

use crate::common::{Chain, root, wallet, writes};

/// Functions that only another contract of Stkr may call, or the AccessManager: there is nothing for an account to sign.
const BETWEEN_CONTRACTS: [(&str, &str); 13] = [
    ("ServerRegistry", "drawSeats"),
    ("ServerRegistry", "takeSeats"),
    ("ServerRegistry", "freeSeats"),
    ("ServerRegistry", "setAuthority"),
    ("KeyRegistry", "request"),
    ("KeyRegistry", "order"),
    ("KeyRegistry", "retire"),
    ("KeyRegistry", "setAuthority"),
    ("ServerRegistry", "slash"),
    ("Acknowledgements", "close"),
    ("Court", "sentence"),
    ("Micropools", "penaliseProvider"),
    ("WithdrawalKeys", "use"),
];

/// Contract and function of everything in `abi/` that changes state and that an account may call.
fn all_writes(chain: &Chain) -> BTreeSet<(&'static str, String, Address, [u8; 4])> {
    let d = &chain.deployment;
    let contracts = [
        ("ServerRegistry", d.server_registry),
        ("ProviderRegistry", d.provider_registry),
        ("KeyRegistry", d.key_registry),
        ("Resharing", d.resharing()),
        ("Court", d.court),
        ("Acknowledgements", d.acknowledgements()),
        ("Micropools", d.micropools),
        ("WithdrawalKeys", d.withdrawal_keys()),
    ];
    let mut all = BTreeSet::new();
    let mut between = BETWEEN_CONTRACTS.to_vec();
    for (name, address) in contracts {
        let text = std::fs::read_to_string(root().join(format!("abi/{name}.json"))).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let abi: JsonAbi = serde_json::from_value(file["abi"].clone()).unwrap();
        for function in abi.functions() {
            let changes = !matches!(function.state_mutability, StateMutability::View | StateMutability::Pure);
            let known = between.len();
            between.retain(|listed| *listed != (name, function.name.as_str()));
            if changes && between.len() == known {
                all.insert((name, function.name.clone(), address, function.selector().0));
            }
        }
    }
    assert!(between.is_empty(), "{between:?} are in no interface");
    all
}

#[tokio::test]
async fn every_write_of_every_contract_can_be_handed_out_unsigned_and_succeeds_from_another_wallet() {
    let chain = Chain::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = chain.url.clone();
    let done = writes::walk(&chain, folder.path(), async |step| {
        assert_eq!(step.unsigned.chain_id, Some(chain.deployment.chain_id));
        assert!(step.unsigned.from.is_none() && step.unsigned.nonce.is_none());
        // Through JSON, to a wallet that never saw the SDK.
        let text = serde_json::to_string(&step.unsigned).unwrap();
        let received: TransactionRequest = serde_json::from_str(&text).unwrap();
        let other = ProviderBuilder::new().wallet(wallet(&step.signer)).connect_http(url.parse().unwrap());
        let pending =
            other.send_transaction(received).await.unwrap_or_else(|error| panic!("{:?}: {error}", step.arguments));
        // Sent is not mined: the receipt comes with the block.
        pending.watch().await.unwrap()
    })
    .await;
    let missing: Vec<String> = all_writes(&chain)
        .into_iter()
        .filter(|(.., address, selector)| !done.contains(&(*address, *selector)))
        .map(|(contract, function, ..)| format!("{contract}.{function}"))
        .collect();
    assert_eq!(missing, [""; 0], "the SDK cannot make these writes, or the walk does not try them");
}
