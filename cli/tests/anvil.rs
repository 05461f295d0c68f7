//! The real binary against the real contracts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "anvil/ceremony.rs"]
mod ceremony;
#[path = "../../sdk/tests/common/mod.rs"]
mod common;
#[path = "anvil/dealt.rs"]
mod dealt;
#[path = "anvil/evidence.rs"]
mod evidence;
#[path = "anvil/writes.rs"]
mod writes;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use alloy::{
    primitives::{Address, Bytes},
    providers::Provider as _,
    signers::local::PrivateKeySigner,
};
use common::{Chain, wallet};
use serde_json::{Value, json};
use stkr_sdk::amount;

/// A keystore that cast wrote for the key of the Web3 Secret Storage definition, password `testpassword`.
const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"b738b4f002f37c92fedb4ff64157c9bb"},
    "ciphertext":"0c18df5a7270cfaf911ff54d41d9338a82b0aa79e8d27a58eb7e7fbad5a58a8a","kdf":"scrypt",
    "kdfparams":{"dklen":32,"n":8192,"p":1,"r":8,
    "salt":"ef9ea5bb5dd76184ef71c5b59588ee3fa0601a7be4e5393f36ee713fc6d09705"},
    "mac":"3fb0d2a001af3d9cd1b735280ba74c915278b409b8b3113e67b20d3734d5dbb5"},
    "id":"567b7370-8f54-4a02-bfb2-58175dd95545","version":3}"#;
/// Its account.
const KEYSTORE_ACCOUNT: &str = "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b";

/// Runs the binary on a chain, with `--json`: its exit code, and stdout (0) or stderr (else) as JSON.
fn stkr(chain: &Chain, args: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_stkr"))
        .args(args)
        .arg("--json")
        .env("STKR_RPC", &chain.url)
        .env("STKR_DEPLOYMENT", &chain.deployment_file)
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    let printed = if code == 0 { &output.stdout } else { &output.stderr };
    let printed = serde_json::from_slice(printed).unwrap_or_else(|error| {
        panic!(
            "{args:?}: {error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (code, printed)
}

fn done(chain: &Chain, args: &[&str]) -> Value {
    let (code, printed) = stkr(chain, args);
    assert_eq!(code, 0, "{args:?}: {printed}");
    printed
}

fn refused(chain: &Chain, args: &[&str]) -> String {
    let (code, printed) = stkr(chain, args);
    assert_eq!(code, 1, "{args:?}: {printed}");
    assert_eq!(printed["error"]["exit"], 1, "{args:?}: {printed}");
    printed["error"]["message"].as_str().unwrap().to_owned()
}

fn secret(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn key_file(folder: &Path, name: &str, signer: &PrivateKeySigner) -> String {
    secret(folder, name, &signer.to_bytes().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_opens_a_pool_and_a_staker_moves_through_it_by_the_command_line() {
    let chain = Chain::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (provider, staker) = (chain.account().await, chain.account().await);
    let provider_key = key_file(folder.path(), "provider", &provider);
    let staker_key = key_file(folder.path(), "staker", &staker);
    let duty_key = key_file(folder.path(), "duty", &PrivateKeySigner::random());

    done(&chain, &["provider", "register", "--duty-key-file", &duty_key, "--key-file", &provider_key]);
    let shown = done(&chain, &["provider", "show", &provider.address().to_string()]);
    assert_eq!(shown["history"].as_array().unwrap().len(), 1);
    let opened = done(&chain, &["pool", "open", "--key-file", &provider_key, "--max-fee-gwei", "100"]);
    assert_eq!(opened["poolId"], 1);
    assert!(opened["gasUsed"].as_u64().unwrap() > 21_000 && opened["transaction"].as_str().unwrap().len() == 66);

    let dry = done(&chain, &["pool", "stake", "1", "1.5eth", "--key-file", &staker_key, "--dry-run"]);
    assert_eq!(dry["dryRun"], true);
    done(&chain, &["pool", "stake", "1", "1.5eth", "--key-file", &staker_key]);
    done(&chain, &["pool", "stake", "1", "100000000gwei", "--add", "--key-file", &staker_key]);
    let other = Address::repeat_byte(0x42).to_string();
    let message = refused(&chain, &["pool", "transfer", "1", &other, "0.2", "--key-file", &staker_key]);
    assert!(message.contains("would hold 0.2 ETH"), "{message}");
    done(&chain, &["pool", "transfer", "1", &other, "0.6", "--key-file", &staker_key]);
    done(&chain, &["pool", "leave", "1", "0.5", "--key-file", &staker_key]);
    let positions = done(&chain, &["position", "list", &staker.address().to_string()]);
    assert_eq!(positions, json!([{"poolId": 1, "account": staker.address(), "amount": "500000000000000000"}]));
    let pool = done(&chain, &["pool", "show", "1"]);
    assert_eq!((&pool["state"], &pool["staked"]), (&json!("open"), &json!("1100000000000000000")));
    assert_eq!(done(&chain, &["pool", "list", "--state", "full"]), json!([]));

    let message = refused(&chain, &["pool", "stake", "1", "31", "--key-file", &staker_key]);
    assert_eq!(message, "a stake of 31 ETH is more than the 30.9 ETH this pool has room for");
    let message = refused(&chain, &["pool", "refund", "1", "--key-file", &staker_key]);
    assert_eq!(message, "pool 1 is Open, which does not allow this");
    let message = refused(&chain, &["pool", "show", "9"]);
    assert_eq!(message, "there is no pool 9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_registered_from_what_its_daemon_prints_and_approved_by_governance() {
    let chain = Chain::start().await;
    let folder = tempfile::tempdir().unwrap();
    let operator = chain.account().await;
    let registration = chain.registration(operator.address(), amount::ether(4));
    let args = folder.path().join("register.json");
    let printed = json!({
        "signer": registration.signer,
        "tlsFingerprint": registration.tls_fingerprint,
        "kind": "online",
        "endpoint": registration.endpoint,
        "signerProof": registration.signer_proof,
    });
    fs::write(&args, printed.to_string()).unwrap();
    let operator_key = key_file(folder.path(), "operator", &operator);
    let governor_key = key_file(folder.path(), "governor", &chain.governor);
    let args = args.to_str().unwrap();
    let message =
        refused(&chain, &["server", "register", "--args", args, "--bond", "1gwei", "--key-file", &operator_key]);
    assert!(message.starts_with("a bond of 0.000000001 ETH is below"), "{message}");
    let registered =
        done(&chain, &["server", "register", "--args", args, "--bond", "4eth", "--key-file", &operator_key]);
    assert_eq!(registered["serverId"], 1);
    let message = refused(&chain, &["server", "approve", "1", "--key-file", &operator_key]);
    assert!(message.contains("is not governance"), "{message}");
    done(&chain, &["server", "approve", "1", "--key-file", &governor_key]);
    let servers = done(&chain, &["server", "list"]);
    assert_eq!((&servers[0]["status"], &servers[0]["endpoint"]), (&json!("active"), &json!("https://127.0.0.1:9000")));
    let message = refused(&chain, &["key", "show", "1"]);
    assert_eq!(message, "there is no key 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystore_of_another_wallet_signs_and_a_wrong_password_says_so() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await.to_string();
    let folder = tempfile::tempdir().unwrap();
    let staker: Address = KEYSTORE_ACCOUNT.parse().unwrap();
    common::fund(&chain.provider, staker, amount::ether(10)).await;
    let password = secret(folder.path(), "password", "testpassword\n");
    let wrong = secret(folder.path(), "wrong", "testpasswort\n");
    let keystore = secret(folder.path(), "keystore.json", KEYSTORE);
    done(&chain, &["pool", "stake", &pool, "0.5", "--keystore", &keystore, "--password-file", &password]);
    let (code, printed) =
        stkr(&chain, &["pool", "stake", &pool, "0.5", "--keystore", &keystore, "--password-file", &wrong]);
    assert_eq!((code, printed["error"]["message"].as_str().unwrap()), (2, "the password does not open the keystore"));
    let positions = done(&chain, &["position", "list", &staker.to_string()]);
    assert_eq!(positions[0]["amount"], "500000000000000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_deployment_ends_with_0_and_after_one_changed_byte_with_4() {
    let chain = Chain::start().await;
    let answer = done(&chain, &["verify-deployment"]);
    assert_eq!(answer["ok"], true, "{answer}");
    let address = chain.deployment.key_registry;
    let mut code = chain.provider.get_code_at(address).await.unwrap().to_vec();
    code[100] ^= 1;
    let _: Value =
        chain.provider.raw_request("anvil_setCode".into(), json!([address, Bytes::from(code)])).await.unwrap();
    let (code, printed) = stkr(&chain, &["verify-deployment"]);
    assert_eq!(code, 4, "{printed}");
    assert!(printed["error"]["message"].as_str().unwrap().contains("KeyRegistry"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_a_line_per_event_and_resumes_at_its_cursor() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await;
    let (stkr, alice) = (chain.stkr().await, chain.account().await);
    let run = |from: &str| -> Vec<Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_stkr"))
            .args(["watch", "--from", from, "--once", "--json", "--rpc", &chain.url])
            .arg("--deployment")
            .arg(&chain.deployment_file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let names = |lines: &[Value]| -> Vec<String> {
        lines.iter().filter_map(|line| line["event"]["event"].as_str().map(str::to_owned)).collect()
    };
    let first = run("deployment");
    assert!(names(&first).ends_with(&["DutyKeyChanged".into(), "PoolOpened".into()]), "{:?}", names(&first));
    let cursor = first.iter().rev().find_map(|line| line["cursor"].as_str()).unwrap();
    stkr.pools().stake(pool, amount::ether(1)).unwrap().send_with(&wallet(&alice)).await.unwrap();
    let second = run(cursor);
    assert_eq!(names(&second), ["Transfer", "Staked"]);
    let staked = &second.iter().find(|line| line["event"]["event"] == "Staked").unwrap()["event"];
    assert_eq!(staked["args"]["amount"], "1000000000000000000");
    assert_eq!(staked["contract"], "Micropools");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_as_many_blocks_as_it_is_told() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await.to_string();
    let folder = tempfile::tempdir().unwrap();
    let staker = chain.account().await;
    let key = key_file(folder.path(), "staker", &staker);
    let mut child = Command::new(env!("CARGO_BIN_EXE_stkr"))
        .args(["pool", "stake", &pool, "1", "--key-file", &key, "--confirmations", "3", "--json"])
        .env("STKR_RPC", &chain.url)
        .env("STKR_DEPLOYMENT", &chain.deployment_file)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while chain.provider.get_transaction_count(staker.address()).await.unwrap() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert!(child.try_wait().unwrap().is_none(), "one block is not three");
    chain.mine(2).await;
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
    let head = chain.provider.get_block_number().await.unwrap();
    assert_eq!(sent["block"].as_u64().unwrap() + 2, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fee_cap_below_the_base_fee_refuses_and_says_both() {
    let chain = Chain::start().await;
    let pool = chain.open_pool().await.to_string();
    let folder = tempfile::tempdir().unwrap();
    let staker = key_file(folder.path(), "staker", &chain.account().await);
    let fee = amount::gwei(20);
    let _: Value = chain.provider.raw_request("anvil_setNextBlockBaseFeePerGas".into(), json!([fee])).await.unwrap();
    chain.mine(1).await;
    let (code, printed) = stkr(&chain, &["pool", "stake", &pool, "1", "--key-file", &staker, "--max-fee-gwei", "1.5"]);
    assert_eq!((code, &printed["error"]["code"]), (1, &json!("fee_above_cap")), "{printed}");
    assert_eq!(printed["error"]["message"], "the base fee is 20 gwei, above the cap of 1.5 gwei");
    done(&chain, &["pool", "stake", &pool, "1", "--key-file", &staker, "--max-fee-gwei", "50"]);
}
