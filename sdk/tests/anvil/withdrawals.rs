//! Members of withdrawal keys before the Court: what of theirs is a fault, and how a challenged one is answered for.

use alloy::{primitives::B256, rpc::types::TransactionRequest, sol_types::SolInterface as _};
use stkr_core::{PartialSignature, ShareIndex};
use stkr_protocol::{
    evidence::{EvidenceFile, Proof},
    kept::Kept,
    offline::{AboutKey, ChangeAnswerFile, ChangePartial, Mark, VERSION},
    sign::{SignRequest, SignedPartial},
};
use stkr_sdk::{ChallengeState, ReportOptions, answer_from_json, bindings::Court::CourtErrors};

use crate::common::{
    Chain,
    evidence::{domain, signer_key},
    wallet,
    withdrawals::WithdrawalPool,
};
use alloy::providers::Provider as _;

const ATTESTATION: u8 = 2;
const VOLUNTARY_EXIT: u8 = 7;
const CHANGE: u8 = 12;
const UNKNOWN: u8 = 200;

/// What the Court says of it without a commitment.
async fn court(chain: &Chain, file: &EvidenceFile) -> CourtErrors {
    let call = stkr_chain::court::prove(file);
    let request = TransactionRequest::default().to(call.to).input(call.data.into());
    let error = chain.provider.call(request).await.unwrap_err();
    let data = error.as_error_resp().and_then(|it| it.as_revert_data()).unwrap_or_else(|| panic!("{error}"));
    CourtErrors::abi_decode(&data).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_member_of_a_withdrawal_key_signs_without_an_order_is_a_fault_and_of_a_validator_key_what_needs_one()
{
    let (chain, folder) = (Chain::start().await, tempfile::tempdir().unwrap());
    let made = WithdrawalPool::make(&chain, folder.path()).await;
    let stkr = chain.stkr().await;
    let faults = stkr.faults();
    let root = B256::repeat_byte(0x77);
    for key in [&made.withdrawal, &made.validator] {
        for kind in [ATTESTATION, VOLUNTARY_EXIT, CHANGE, UNKNOWN] {
            let file = key.accused().unordered(&chain.deployment, kind, root);
            let is_fault = key.id == made.withdrawal.id || [VOLUNTARY_EXIT, CHANGE].contains(&kind);
            let court_agrees = matches!(court(&chain, &file).await, CourtErrors::NotCommitted(_));
            assert_eq!(court_agrees, is_fault, "the Court, kind {kind} with key {}", key.id);
            match faults.check(&file).await {
                Ok(checked) => assert!(is_fault && checked.server_id.is_some(), "kind {kind} with key {}", key.id),
                Err(error) => {
                    assert!(!is_fault && error.to_string().contains("is no withdrawal key"), "kind {kind}: {error}");
                }
            }
        }
    }
    // What was ordered is none, by whatever name.
    for kind in [ATTESTATION, CHANGE] {
        let ordered = made.withdrawal.accused().unordered(&chain.deployment, kind, made.root);
        let error = faults.check(&ordered).await.unwrap_err();
        assert!(error.to_string().contains("the chain ordered key"), "{error}");
    }

    let kept = |kind| -> Vec<_> {
        let files =
            [&made.withdrawal, &made.validator].map(|key| key.accused().unordered(&chain.deployment, kind, root));
        let envelope = |file: EvidenceFile| match file.proof {
            Proof::UnauthorisedSignature(it) => it.envelope,
            other => panic!("{other:?}"),
        };
        files.into_iter().map(envelope).collect()
    };
    let (withdrawal, validator) = (made.withdrawal.id, made.validator.id);
    for (kind, expected) in [(ATTESTATION, vec![withdrawal]), (CHANGE, vec![validator, withdrawal])] {
        let found = faults.find(Kept { envelopes: kept(kind), requests: Vec::new() }).await.unwrap();
        let mut keys: Vec<u64> = found.iter().map(|file| file.proof.key_id()).collect();
        keys.sort_unstable();
        assert_eq!(keys, expected, "kind {kind}");
    }
    let options = ReportOptions { only_included: true, ..ReportOptions::default() };
    let file = made.withdrawal.accused().unordered(&chain.deployment, ATTESTATION, root);
    let reporter = wallet(&chain.account().await);
    let report = chain.mining(faults.report(&file, &reporter, options)).await.unwrap();
    assert!(report.ours && report.on_record.judgement.charged, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenged_change_of_credentials_is_answered_with_what_a_server_says_or_with_an_offline_servers_file() {
    let (chain, folder) = (Chain::start().await, tempfile::tempdir().unwrap());
    let made = WithdrawalPool::make(&chain, folder.path()).await;
    let (stkr, challenger) = (chain.stkr().await, chain.account().await);
    let (challenges, key) = (stkr.challenges(), made.withdrawal.id);
    let asked = challenges.order(key, None).await.unwrap();
    assert_eq!(asked.subject().signing_root(), made.root);
    let SignRequest::Change(request) = asked.request().clone() else { panic!("{asked:?}") };
    assert_eq!(request.change.validator_index, 1_234_567);

    // With a second one ordered, somebody has to say which.
    let second = stkr.withdrawal_keys().order_change(made.pool, 9).await.unwrap();
    second.send_with(&wallet(&made.provider)).await.unwrap();
    let which = challenges.order(key, None).await.unwrap_err();
    assert!(which.to_string().contains("was ordered to sign 2 changes"), "{which}");
    let asked = challenges.order(key, Some(made.root)).await.unwrap();
    let other = challenges.order(key, Some(B256::repeat_byte(1))).await.unwrap_err();
    assert!(other.to_string().contains("there is no order of the chain that key"), "{other}");

    let accused = made.withdrawal.accused();
    let given = |position: u8| {
        let index = ShareIndex::new(position + 1).unwrap();
        let share = &accused.dealer.shares[usize::from(position)];
        let partial = PartialSignature { index, ..share.sign(&made.root.0) };
        let signer = signer_key(&accused.signers[usize::from(position)]);
        SignedPartial::new(asked.subject(), &domain(&chain.deployment), &signer, 0, &partial)
    };
    let about = |server| {
        let (chain_id, key_registry) = (chain.deployment.chain_id, chain.deployment.key_registry);
        AboutKey { chain_id, key_registry, server, key_id: key }
    };
    for position in [0, 1] {
        let server = accused.committee[usize::from(position)];
        let question = challenges.question(key, server, made.root).await.unwrap();
        challenges.open(&question, None).await.unwrap().send_with(&wallet(&challenger)).await.unwrap();
        let answers = vec![ChangePartial { change: request.change, signed: given(position) }];
        let file = ChangeAnswerFile { r#type: Mark::new(), version: VERSION, about: about(server), answers };
        let text = match position {
            0 => serde_json::to_vec(&given(position)).unwrap(),
            _ => serde_json::to_vec(&file).unwrap(),
        };
        let read = answer_from_json(&text, asked.subject()).unwrap();
        let question = challenges.asked(key, server, made.root).await.unwrap();
        let write = challenges.answer(&question, asked.subject(), &read).unwrap();
        write.send_with(&wallet(&challenger)).await.unwrap();
        assert_eq!(challenges.get(key, server, made.root).await.unwrap().state, ChallengeState::Answered);

        let empty = ChangeAnswerFile { answers: Vec::new(), ..file };
        let error = answer_from_json(&serde_json::to_vec(&empty).unwrap(), asked.subject()).unwrap_err();
        assert!(error.to_string().contains("has no answer to the change"), "{error}");
    }
}
