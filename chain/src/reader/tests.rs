//! The reader against real anvils and endpoints that lie.

use serde_json::json;

use super::*;
use crate::testing::{Anvil, deployment, liar};

/// Answers a call of two arguments (`isOrdered`) with its first storage slot; any other call sets that slot to 1.
///
/// ```text
/// 36 6044 14 600c 57   if calldatasize == 68 goto 12
/// 6001 5f 55 00        sstore(0, 1)
/// 5b 5f 54 5f 52 6020 5f f3   return sload(0)
/// ```
const ORDERS: [u8; 21] = alloy::hex!("36604414600c5760015f5500" "5b5f545f5260205ff3");

async fn net() -> Anvil {
    let anvil = Anvil::start(1).await;
    anvil.set_code(deployment().key_registry, ORDERS.to_vec()).await;
    anvil
}

async fn give_order(anvil: &Anvil) {
    anvil.send(deployment().key_registry, alloy::primitives::Bytes::new()).await;
    anvil.mine(1).await;
}

async fn lying(
    anvil: &Anvil,
    lie: impl Fn(&str, serde_json::Value) -> serde_json::Value + Send + Sync + 'static,
) -> Endpoint {
    Endpoint::connect(&liar(anvil.url.clone(), lie).await).await.unwrap()
}

fn reader(endpoints: Vec<Endpoint>) -> ChainReader {
    ChainReader::new(deployment(), endpoints, Trust::TwoEndpoints).unwrap()
}

#[tokio::test]
async fn an_order_is_believed_once_it_is_final_and_not_before() {
    let anvil = net().await;
    anvil.mine(3).await;
    let honest = lying(&anvil, |_, result| result).await;
    let reader = reader(vec![anvil.endpoint(), honest]);
    assert!(!reader.is_ordered(1, B256::ZERO).await.unwrap());
    give_order(&anvil).await;
    assert!(!reader.is_ordered(1, B256::ZERO).await.unwrap(), "the order is in the newest block only");
    anvil.mine(1).await;
    assert!(!reader.is_ordered(1, B256::ZERO).await.unwrap(), "one block above it is not final");
    anvil.mine(1).await;
    assert!(reader.is_ordered(1, B256::ZERO).await.unwrap());
}

#[tokio::test]
async fn an_order_that_one_endpoint_invents_is_refused_with_both_answers() {
    let anvil = net().await;
    anvil.mine(5).await;
    let liar =
        lying(&anvil, |method, result| if method == "eth_call" { json!(B256::with_last_byte(1)) } else { result })
            .await;
    for endpoints in [vec![anvil.endpoint(), liar.clone()], vec![liar.clone(), anvil.endpoint()]] {
        let error = reader(endpoints).is_ordered(1, B256::ZERO).await.unwrap_err();
        assert!(matches!(error, ChainError::EndpointsDisagree { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("true") && text.contains("false") && text.contains(liar.name()), "{text}");
    }
}

#[tokio::test]
async fn two_endpoints_of_different_chains_disagree_about_the_finalized_block() {
    let (one, other) = (net().await, net().await);
    other.rpc("anvil_setCoinbase", json!(["0x00000000000000000000000000000000000000cc"])).await;
    one.mine(5).await;
    other.mine(5).await;
    let error = reader(vec![one.endpoint(), other.endpoint()]).is_ordered(1, B256::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("disagree about the hash of finalized block 3"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_calls_the_newest_block_final_does_not_hurry_the_others() {
    let anvil = net().await;
    anvil.mine(5).await;
    give_order(&anvil).await;
    let head: serde_json::Value = anvil.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
    let hasty = lying(&anvil, move |method, result| {
        let is_final = method == "eth_getBlockByNumber" && result["number"] == "0x4";
        if is_final { head.clone() } else { result }
    })
    .await;
    let answer = reader(vec![hasty, anvil.endpoint()]).is_ordered(1, B256::ZERO).await;
    assert!(!matches!(answer, Ok(true)), "{answer:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_an_error_for_orders_and_passed_over_elsewhere() {
    let anvil = net().await;
    anvil.mine(5).await;
    let dead = Endpoint::connect(&"http://user:secret@127.0.0.1:1/secret".parse().unwrap()).await.unwrap();
    let reader = reader(vec![dead, anvil.endpoint()]);
    let error = reader.is_ordered(1, B256::ZERO).await.unwrap_err();
    assert!(error.is_transient() && !format!("{error} {error:?}").contains("secret"), "{error:?}");
    // ORDERS answers every call of 36 bytes with nothing, so the second endpoint was asked.
    let error = reader.key_count().await.unwrap_err();
    assert!(matches!(error, ChainError::Nonsense { .. }), "{error}");
}

#[tokio::test]
async fn one_endpoint_is_enough_only_if_the_configuration_says_so_and_one_twice_counts_once() {
    let anvil = net().await;
    let error = ChainReader::new(deployment(), vec![anvil.endpoint()], Trust::TwoEndpoints).unwrap_err();
    assert!(matches!(error, ChainError::TooFewEndpoints { configured: 1, needed: 2 }), "{error}");
    let ws = anvil.url.as_str().replace("http", "ws").replace("127.0.0.1", "localhost");
    for again in [anvil.url.clone(), ws.parse().unwrap()] {
        let twice = [anvil.url.clone(), again];
        let error = ChainReader::connect(deployment(), &twice, Trust::TwoEndpoints).await.unwrap_err();
        assert!(matches!(error, ChainError::TooFewEndpoints { configured: 1, needed: 2 }), "{error}");
    }
    let alone = ChainReader::new(deployment(), vec![anvil.endpoint()], Trust::OneEndpoint).unwrap();
    assert!(!alone.is_ordered(1, B256::ZERO).await.unwrap());
}

#[tokio::test]
async fn a_wrong_chain_or_a_missing_contract_in_the_deployment_file_is_said_in_one_sentence() {
    let anvil = net().await;
    let mut other = deployment();
    other.chain_id = 1;
    let error = other.check_chain(&anvil.endpoint()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the RPC endpoint anvil serves chain 31337, the deployment file is for chain 1; correct one of them"
    );
    let error = deployment().check_chain(&anvil.endpoint()).await.unwrap_err();
    assert!(matches!(error, ChainError::NoContract { name: "accessManager", .. }), "{error}");
}

#[tokio::test]
async fn contracts_that_do_not_belong_together_are_named() {
    let anvil = net().await;
    // Every contract is there, and the pools contract says it works with another registry (returns 0x…bb).
    for (_, address) in deployment().contracts() {
        anvil.set_code(address, alloy::hex!("60bb5f5260205ff3").to_vec()).await;
    }
    let error = deployment().check_chain(&anvil.endpoint()).await.unwrap_err();
    assert!(
        error.to_string().starts_with("micropools works with keyRegistry 0x00000000000000000000000000000000000000bb"),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_of_another_contract_is_named_and_not_mistaken_for_an_endpoint_that_is_down() {
    let anvil = net().await;
    // What another contract says to a question it does not know: a revert without a reason, or nothing at all.
    for answer in [alloy::hex!("5f5ffd").to_vec(), vec![0]] {
        for (_, address) in deployment().contracts() {
            anvil.set_code(address, answer.clone()).await;
        }
        let error = deployment().check_chain(&anvil.endpoint()).await.unwrap_err();
        assert!(matches!(error, ChainError::OtherContract { name: "micropools", .. }), "{error}");
        assert!(error.is_wrong_deployment() && !error.is_transient());
    }
}

#[tokio::test]
async fn a_websocket_endpoint_answers_like_an_http_one_and_another_scheme_is_refused() {
    let anvil = net().await;
    anvil.mine(5).await;
    let mut ws = anvil.url.clone();
    ws.set_scheme("ws").unwrap();
    let both = vec![anvil.endpoint(), Endpoint::connect(&ws).await.unwrap()];
    assert!(!reader(both).is_ordered(1, B256::ZERO).await.unwrap());
    let error = Endpoint::connect(&"ftp://host/secret".parse().unwrap()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ftp://host is no RPC endpoint: the scheme must be http, https, ws or wss and is ftp"
    );
}

/// Answers a call of one argument (`dutyAssignment`) with its first two storage slots; any other call sets them to its
/// calldata.
///
/// ```text
/// 36 6024 14 6012 57              if calldatasize == 36 goto 18
/// 5f 35 5f 55 6020 35 6001 55 00  sstore(0, …), sstore(1, …)
/// 5b 5f 54 5f 52 6001 54 6020 52 6040 5f f3   return sload(0), sload(1)
/// ```
const ASSIGNMENTS: [u8; 33] =
    alloy::hex!("36602414601257" "5f355f556020356001" "5500" "5b5f545f52600154602052" "60405ff3");

#[tokio::test]
async fn duties_are_for_whom_the_newest_block_says_to_ask_and_zero_is_nobody() {
    let anvil = Anvil::start(1).await;
    anvil.set_code(deployment().key_registry, ASSIGNMENTS.to_vec()).await;
    anvil.mine(5).await;
    let reader = ChainReader::new(deployment(), vec![anvil.endpoint()], Trust::OneEndpoint).unwrap();
    assert_eq!(reader.duty_assignment(1).await.unwrap(), None);
    let duty_key = Address::repeat_byte(7);
    for (word, number, expected) in [
        (duty_key.into_word(), 3, Some(DutyAssignment { duty_key, number: 3 })),
        // A provider that has no key may ask for nothing, whatever its number.
        (B256::ZERO, 4, None),
    ] {
        let words = [word, U256::from(number).into()].concat();
        anvil.send(deployment().key_registry, words.into()).await;
        anvil.mine(1).await;
        assert_eq!(reader.duty_assignment(1).await.unwrap(), expected);
    }
}

#[test]
fn a_committee_hashes_as_the_contract_hashes_it() {
    // abi.encode of a dynamic array: offset, length, one word per element.
    let mut bytes = vec![0; 32 * 5];
    (bytes[31], bytes[63], bytes[95], bytes[127], bytes[159]) = (32, 3, 5, 1, 9);
    assert_eq!(committee_hash(&[5, 1, 9]), keccak256(bytes));
}
