//! Reports that are ended between two steps, and started again.

use std::time::Duration;

use alloy::{
    eips::Encodable2718 as _,
    network::NetworkTransactionBuilder as _,
    primitives::B256,
    providers::{DynProvider, Provider as _},
    signers::local::PrivateKeySigner,
};
use serde_json::{Value, json};
use stkr_chain::court::COMMITMENT_BLOCKS;
use stkr_core::{Threshold, testing::TrustedDealer};
use stkr_sdk::{ReportOptions, Write};

use crate::common::{Chain, evidence::Accused, wallet, writes};

/// Sends it as a program does that ends right after: no block has it yet.
async fn sent<T>(chain: &Chain, from: &PrivateKeySigner, write: Write<'_, DynProvider, T>) -> B256 {
    let signed = write.filled(from.address()).await.unwrap().build(&wallet(from)).await.unwrap();
    *chain.provider.send_raw_transaction(&signed.encoded_2718()).await.unwrap().tx_hash()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_ended_when_a_transaction_of_it_was_in_no_block_yet_goes_on_with_that_one() {
    let chain = Chain::start().await;
    let dealer = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [0x5e; 32]);
    let (committee, signers, key) = writes::dealt_committee(&chain, &dealer).await;
    let accused = Accused { key, dealer: &dealer, committee, signers };
    let (stkr, stranger) = (chain.stkr().await, chain.account().await);
    let (faults, signing) = (stkr.faults(), wallet(&stranger));
    let options = ReportOptions { only_included: true, ..ReportOptions::default() };
    let files = [1, 2].map(|root| accused.wrong_partial(&chain.deployment, false, root));
    let _: Value = chain.provider.raw_request("evm_setAutomine".into(), json!([false])).await.unwrap();
    let blocks = async |number: usize| {
        for _ in 0..number {
            tokio::time::sleep(Duration::from_secs(1)).await;
            chain.mine(1).await;
        }
    };
    let sends = async || chain.provider.get_transaction_count(stranger.address()).await.unwrap();

    sent(&chain, &stranger, faults.commit(&files[0], stranger.address()).unwrap()).await;
    let (report, ()) = tokio::join!(faults.report(&files[0], &signing, options), blocks(6));
    let report = report.unwrap();
    assert!(report.ours && report.commitment.is_none(), "{report:?}");
    assert_eq!(sends().await, 2, "one commitment, one proof");

    sent(&chain, &stranger, faults.commit(&files[1], stranger.address()).unwrap()).await;
    chain.mine(COMMITMENT_BLOCKS).await;
    let proof = sent(&chain, &stranger, faults.prove(&files[1]).unwrap()).await;
    let (report, ()) = tokio::join!(faults.report(&files[1], &signing, options), blocks(1));
    let report = report.unwrap();
    assert_eq!((report.ours, report.on_record.transaction), (true, proof), "{report:?}");
    assert_eq!(sends().await, 4, "nothing is sent twice");

    let again = faults.report(&files[1], &signing, ReportOptions::default());
    let (again, ()) = tokio::join!(again, async { chain.mine(80).await });
    assert_eq!(again.unwrap(), report, "started again it follows its own proof until that is final");
    let finalized = chain.provider.get_block(alloy::eips::BlockId::finalized()).await.unwrap().unwrap();
    assert!(finalized.header.number >= report.on_record.block);
}
