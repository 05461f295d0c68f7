//! EIP-3076: the official interchange tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic, in its helpers too")]

use std::fs;

use alloy_primitives::B256;
use serde::Deserialize;
use stkr_protection::{Attestation, Block, Conflict, Duty, Now, Protection, Pubkey, Request, Verdict};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    genesis_validators_root: B256,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    should_succeed: bool,
    contains_slashable_data: bool,
    interchange: serde_json::Value,
    blocks: Vec<TestBlock>,
    attestations: Vec<TestAttestation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestBlock {
    pubkey: Pubkey,
    slot: String,
    signing_root: B256,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestAttestation {
    pubkey: Pubkey,
    source_epoch: String,
    target_epoch: String,
    signing_root: B256,
    #[serde(flatten)]
    expected: Expected,
}

/// For a client that keeps only the latest messages, and for one that keeps all, as ours.
#[derive(Clone, Copy, Deserialize)]
struct Expected {
    should_succeed: bool,
    should_succeed_complete: bool,
}

/// The one test in which we refuse what a complete client may sign. It imports a file that ends at slot 40 and then one
/// that begins at slot 50, and lets a complete client sign in between; but conditions 2, 4 and 5 of the standard's text
/// forbid to sign below the least slot, source and target of *any* imported file, and its advice for complete databases
/// calls signing in such a gap unsafe. Whoever kept only the last message leaves a gap just like it. We follow the text,
/// and with it the column for minimal clients.
const GAP: &str = "multiple_interchanges_single_validator_single_message_gap";

#[derive(Debug, Default, PartialEq)]
struct Count {
    tests: usize,
    steps: usize,
    refused_imports: usize,
    blocks: usize,
    attestations: usize,
    /// Verdicts that differ from the column for complete clients.
    stricter: usize,
}

#[test]
fn the_interchange_tests_of_the_standard() {
    let Some(folder) = stkr_conformance::vectors("eip-3076").unwrap() else {
        return;
    };
    let mut count = Count::default();
    for file in fs::read_dir(folder.join("tests/generated")).unwrap() {
        let test: Test = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        count.tests += 1;
        run(&test, &mut count);
    }
    let expected = Count { tests: 38, steps: 49, refused_imports: 1, blocks: 71, attestations: 79, stricter: 5 };
    assert_eq!(count, expected);
}

fn run(test: &Test, count: &mut Count) {
    let folder = tempfile::tempdir().unwrap();
    let protection = Protection::create(&folder.path().join("protection.db"), test.genesis_validators_root).unwrap();
    let now = Now { slot: 1 << 40, epoch: 1 << 40 };
    for step in &test.steps {
        count.steps += 1;
        let result = protection.import(step.interchange.to_string().as_bytes(), now);
        // We never refuse a file because of slashable data in it: it counts, too.
        assert_eq!(result.is_ok(), step.should_succeed, "{}: {result:?}", test.name);
        count.refused_imports += usize::from(result.is_err());
        if let Ok(report) = result
            && !step.contains_slashable_data
        {
            assert!(report.contradictory.is_empty(), "{}: {report:?}", test.name);
        }
        let ask = |pubkey, duty| protection.check_and_record(&[Request { pubkey, duty }], now).unwrap().remove(0);
        for block in &step.blocks {
            let duty = Block { slot: block.slot.parse().unwrap(), signing_root: block.signing_root };
            count.blocks += 1;
            count.stricter += check(test, block.expected, ask(block.pubkey, Duty::Block(duty)));
        }
        for attestation in &step.attestations {
            let duty = Attestation {
                source_epoch: attestation.source_epoch.parse().unwrap(),
                target_epoch: attestation.target_epoch.parse().unwrap(),
                signing_root: attestation.signing_root,
            };
            count.attestations += 1;
            count.stricter += check(test, attestation.expected, ask(attestation.pubkey, Duty::Attestation(duty)));
        }
    }
}

/// 1 if the verdict is stricter than that of a complete client, where it has to be.
fn check(test: &Test, expected: Expected, verdict: Verdict) -> usize {
    let Expected { should_succeed, should_succeed_complete } = expected;
    if test.name == GAP && should_succeed != should_succeed_complete {
        use Conflict::{LowSlot, LowSource, LowTarget};
        let low = matches!(verdict, Verdict::Slashable(LowSlot { .. } | LowSource { .. } | LowTarget { .. }));
        assert!(low && !should_succeed, "{}: {verdict}", test.name);
        return 1;
    }
    assert_eq!(verdict.may_sign(), should_succeed_complete, "{}: {verdict}", test.name);
    0
}
