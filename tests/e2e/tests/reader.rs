//! The reader of exported histories that `cargo xtask devnet --lodestar` trusts: it finds every kind of slashable pair, within
//! one server's history and across two.

use eyre::Result;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use stkr_e2e::network::output;
use stkr_e2e::process::workspace_root;

/// Source, target and the last byte of the signing root.
type Vote = (u64, u64, Option<u8>);
/// Slot and the last byte of the signing root.
type Block = (u64, Option<u8>);

fn root(byte: Option<u8>) -> Value {
    byte.map_or(Value::Null, |byte| json!(format!("0x{byte:064x}")))
}

fn history(key: u8, blocks: &[Block], votes: &[Vote]) -> Value {
    let blocks: Vec<Value> =
        blocks.iter().map(|(slot, byte)| json!({"slot": slot.to_string(), "signing_root": root(*byte)})).collect();
    let vote = |(source, target, byte): &Vote| json!({"source_epoch": source.to_string(), "target_epoch": target.to_string(), "signing_root": root(*byte)});
    let votes: Vec<Value> = votes.iter().map(vote).collect();
    json!({
        "metadata": {"interchange_format_version": "5", "genesis_validators_root": root(Some(7))},
        "data": [{"pubkey": format!("0x{key:096x}"), "signed_blocks": blocks, "signed_attestations": votes}],
    })
}

/// Keys, records and slashable pairs that the reader finds in these files.
fn read(histories: &[Value]) -> Result<[u64; 3]> {
    let dir = tempfile::tempdir()?;
    let write = |(number, history): (usize, &Value)| -> Result<PathBuf> {
        let file = dir.path().join(format!("{number}.json"));
        std::fs::write(&file, history.to_string())?;
        Ok(file)
    };
    let files: Vec<PathBuf> = histories.iter().enumerate().map(write).collect::<Result<_>>()?;
    let mut reader = Command::new("node");
    let printed = output(reader.arg(workspace_root().join("xtask/checker/slashable.mjs")).args(files))?;
    let found: Value = serde_json::from_str(&printed)?;
    Ok(["keys", "records", "slashable_pairs"].map(|name| found[name].as_u64().unwrap_or(u64::MAX)))
}

#[test]
fn honest_histories_of_several_servers_have_no_slashable_pair() -> Result<()> {
    let votes = [(0, 1, Some(1)), (1, 2, Some(2)), (1, 3, Some(3))];
    let one = history(1, &[(5, Some(1)), (6, Some(2))], &votes);
    // The same of another server, and another key that votes otherwise.
    let other = history(2, &[(5, Some(9))], &[(0, 1, Some(9)), (0, 3, Some(8))]);
    assert_eq!(read(&[one.clone(), one, other])?, [2, 13, 0]);
    assert_eq!(read(&[history(1, &[], &[])])?, [0, 0, 0]);
    Ok(())
}

#[test]
fn every_kind_of_pair_is_found_within_a_history_and_across_two() -> Result<()> {
    let cases: [(&[Block], &[Vote]); 7] = [
        (&[(5, Some(1)), (5, Some(2))], &[]),
        (&[(5, None), (5, Some(2))], &[]),
        (&[], &[(0, 3, Some(1)), (0, 3, Some(2))]),
        (&[], &[(0, 3, Some(1)), (1, 3, Some(1))]),
        (&[], &[(0, 3, None), (0, 3, Some(1))]),
        (&[], &[(0, 9, Some(1)), (1, 8, Some(2))]),
        (&[], &[(1, 8, Some(1)), (0, 9, Some(2))]),
    ];
    for (blocks, votes) in cases {
        assert_eq!(read(&[history(1, blocks, votes)])?[2], 1, "{blocks:?} {votes:?}");
        let half = |at: usize| history(1, blocks.get(at..=at).unwrap_or(&[]), votes.get(at..=at).unwrap_or(&[]));
        assert_eq!(read(&[half(0), half(1)])?[2], 1, "{blocks:?} {votes:?} across two servers");
        assert_eq!(read(&[half(0)])?[2], 0);
    }
    Ok(())
}
