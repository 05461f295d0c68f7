//! Every write through the binary: printed unsigned as the SDK makes it, tried, then signed and sent by the binary itself.

use std::process::Command;

use alloy::{primitives::B256, rpc::types::TransactionRequest};
use serde_json::Value;

use crate::{
    common::{Chain, writes},
    done, key_file,
};

/// What the binary prints for people; it must end well.
fn text(chain: &Chain, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stkr"))
        .args(arguments)
        .env("STKR_RPC", &chain.url)
        .env("STKR_DEPLOYMENT", &chain.deployment_file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_is_printed_unsigned_tried_and_sent_by_the_command_line_and_tables_show_the_outcome() {
    let chain = Chain::start().await;
    let folder = tempfile::tempdir().unwrap();
    writes::walk(&chain, folder.path(), async |step| {
        let key = key_file(folder.path(), &step.signer.address().to_string(), &step.signer);
        let with = |more: &[&str]| -> Value {
            let mut arguments: Vec<&str> = step.arguments.iter().map(String::as_str).collect();
            arguments.extend(more);
            done(&chain, &arguments)
        };
        let unsigned: TransactionRequest = serde_json::from_value(with(&["--unsigned"])).unwrap();
        assert_eq!(unsigned, step.unsigned, "{:?}", step.arguments);
        let tried = with(&["--dry-run", "--from", &step.signer.address().to_string()]);
        assert!(tried["gas"].as_u64().unwrap() > 21_000, "{tried}");
        let sent = with(&["--key-file", &key]);
        sent["transaction"].as_str().unwrap().parse::<B256>().unwrap()
    })
    .await;

    // What is left after the walk, as people see it.
    let servers = text(&chain, &["server", "list"]);
    assert!(servers.starts_with("ID  STATUS") && servers.lines().count() == 9, "{servers}");
    assert!(servers.contains("Active") && servers.contains("Left") && servers.contains("https://127.0.0.1:9001"));
    let server = text(&chain, &["server", "show", "1"]);
    let bond: alloy::primitives::U256 =
        done(&chain, &["server", "show", "1"])["bond"].as_str().unwrap().parse().unwrap();
    let bond = format!("bond             {}", stkr_sdk::amount::with_unit(bond));
    assert!(server.contains(&bond) && server.contains("TLS fingerprint  0x0909"), "{server}");
    let pools = text(&chain, &["pool", "list"]);
    assert!(pools.starts_with("ID  STATE") && pools.lines().count() == 7, "{pools}");
    let cancelled = text(&chain, &["pool", "list", "--state", "cancelled"]);
    assert_eq!(cancelled.lines().count(), 5, "{cancelled}");
    let pool = text(&chain, &["pool", "show", "1"]);
    for row in [
        "state             Active",
        "staked            32 ETH",
        "provider's fault  proven: the pool has to move to another",
        "owed to stakers   0.9 ETH",
    ] {
        assert!(pool.contains(row), "{row}: {pool}");
    }
    let keys = text(&chain, &["key", "list"]);
    assert!(keys.lines().nth(1).unwrap().contains("Live") && keys.contains("Burned") && keys.contains("Retired"));
    let key = text(&chain, &["key", "show", "1"]);
    assert!(key.contains("shares           3 of 4") && key.contains("live since       20"), "{key}");
    let shown = done(&chain, &["key", "show", "1"]);
    assert_eq!((shown["committee"].as_array().unwrap().len(), &shown["state"]), (4, &"live".into()));
    assert_eq!(done(&chain, &["key", "list"]).as_array().unwrap().len(), 10);
    let provider = done(&chain, &["pool", "show", "1"])["provider"].as_str().unwrap().to_owned();
    let history = text(&chain, &["provider", "show", &provider]);
    let (duty_keys, faults) = history.split_once("FAULT IN POOL").unwrap();
    assert!(duty_keys.starts_with("provider 0x") && duty_keys.trim_end().lines().count() == 5, "{history}");
    assert!(faults.lines().count() == 2 && faults.contains("1 ETH"), "{history}");
    assert!(text(&chain, &["position", "list", &provider]).contains("nothing to show"));
    let events = text(&chain, &["watch", "--from", "deployment", "--once"]);
    assert!(events.contains("KeyFinalised keyId=1") && events.lines().last().unwrap().starts_with("= "), "{events}");
    let verified = text(&chain, &["verify-deployment"]);
    assert!(verified.contains("equal to this build") && !verified.contains("DIFFERS"), "{verified}");
}
