//! `stkr challenge`: asks a server on the chain for what the chain ordered, and ends what was asked.

use std::{path::Path, time::Duration};

use alloy::primitives::B256;
use serde_json::{Value, json};
use stkr_node::{
    client::{Patience, Peer, ServerClient},
    tls::{self, Fingerprint, Identity},
};
use stkr_protocol::sign::{DepositRequest, SignRequest, SignResponse, SignedPartial};
use stkr_sdk::{ChallengeInfo, ChallengeState, Judgement, amount, answer_from_json};

use crate::{
    args::{ChallengeCommand, OfChallenge},
    context::{Client, Context, read_bytes},
    failure::Failure,
    output::{record, table},
};

/// How long the server may take to sign.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(20) };

pub(crate) async fn run(command: ChallengeCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        ChallengeCommand::List { server, open } => {
            let mut all = context.client().await?.challenges().list().await?;
            all.retain(|it| server.is_none_or(|id| it.server_id == id) && (!open || is_open(it)));
            context.output.show(&all, |all| list(all));
            Ok(())
        }
        ChallengeCommand::Show { of } => {
            let client = context.client().await?;
            let root = root_of(&of, &client).await?;
            let it = client.challenges().get(of.key, of.server, root).await?;
            context.output.show(&it, show);
            Ok(())
        }
        ChallengeCommand::Open { of, fee, signing } => {
            let fee = fee.as_deref().map(amount::parse).transpose()?;
            let client = context.client().await?;
            let root = root_of(&of, &client).await?;
            let question = client.challenges().question(of.key, of.server, root).await?;
            let write = client.challenges().open(&question, fee).await?;
            let done = format!("asked server {} to sign {root} with key {}", of.server, of.key);
            let deadline = |deadline: u64| json!({ "deadline": deadline });
            context.perform(write, &signing, &done, deadline).await
        }
        ChallengeCommand::Answer { of, answer, signing } => {
            let client = context.client().await?;
            let asked = client.challenges().ordered(of.key).await?;
            let root = of.root.unwrap_or_else(|| asked.signing_root());
            let question = client.challenges().question(of.key, of.server, root).await?;
            let given = match answer {
                Some(file) => read(&file)?,
                None => ask(&of, asked.clone(), &client).await?,
            };
            let write = client.challenges().answer(&question, &asked, &given)?;
            let done = format!("answered for server {}; the fee is its operator's", of.server);
            context.perform(write, &signing, &done, |()| Value::Null).await
        }
        ChallengeCommand::Prove { of, signing } => {
            let client = context.client().await?;
            let root = root_of(&of, &client).await?;
            let it = client.challenges().get(of.key, of.server, root).await?;
            let write = client.challenges().prove((it.key_id, it.index, it.signing_root));
            let done = format!("server {} did not answer in time", of.server);
            context.perform(write, &signing, &done, proven).await
        }
        ChallengeCommand::Fees { account } => {
            let fees = context.client().await?.challenges().fees_of(account).await?;
            let answer = json!({ "feesWei": fees.to_string() });
            context.output.show(&answer, |_| record(&[("fees of challenges", amount::with_unit(fees))]));
            Ok(())
        }
        ChallengeCommand::Withdraw { signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.challenges().withdraw_fees();
            let paid = |wei: alloy::primitives::U256| json!({ "paidWei": wei.to_string() });
            context.perform(write, &signing, "withdrew the fees of challenges", paid).await
        }
    }
}

/// The root that was given, or that of the one deposit that the key's pool ordered.
async fn root_of(of: &OfChallenge, client: &Client) -> Result<B256, Failure> {
    match of.root {
        Some(root) => Ok(root),
        None => Ok(client.challenges().ordered(of.key).await?.signing_root()),
    }
}

fn read(file: &Path) -> Result<SignedPartial, Failure> {
    let bytes = read_bytes(file, "an answer of a server", "give what its POST /v1/sign answered")?;
    Ok(answer_from_json(&bytes)?)
}

/// Asks the server itself, over the endpoint and the certificate that it registered.
async fn ask(of: &OfChallenge, asked: DepositRequest, client: &Client) -> Result<SignedPartial, Failure> {
    tls::install_provider().map_err(|error| Failure::unavailable(error.to_string(), "try again"))?;
    let identity = Identity::generate("stkr").map_err(|error| Failure::unavailable(error.to_string(), "try again"))?;
    let server = client.servers().get(of.server).await?;
    let fingerprint = Fingerprint(server.tls_fingerprint.0);
    let peer = Peer { server_id: server.id, endpoint: server.endpoint, fingerprint };
    let silent = |reason: String| {
        Failure::unavailable(
            format!("server {} gives no answer: {reason}", of.server),
            "its operator has to repair it before the challenge's last block, or can give the answer with --answer",
        )
    };
    let server = ServerClient::new(&identity, peer, PATIENCE).map_err(|error| silent(error.to_string()))?;
    match server.sign_one(&SignRequest::Deposit(asked)).await.map_err(|error| silent(error.to_string()))? {
        SignResponse::Signed(given) => Ok(given),
        SignResponse::Refused(refused) => Err(silent(refused.refusal.to_string())),
    }
}

fn proven(judgement: Option<Judgement>) -> Value {
    // Nothing was proven where the key was given up; the fee goes back all the same.
    json!({ "void": judgement.is_none(), "judgement": judgement })
}

const fn is_open(it: &ChallengeInfo) -> bool {
    matches!(it.state, ChallengeState::Open | ChallengeState::Overdue)
}

fn list(all: &[ChallengeInfo]) -> String {
    let row = |it: &ChallengeInfo| {
        vec![
            it.key_id.to_string(),
            it.server_id.to_string(),
            it.state.to_string(),
            it.deadline.to_string(),
            amount::with_unit(it.fee),
            it.challenger.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    table(&["KEY", "SERVER", "STATE", "LAST BLOCK", "FEE", "CHALLENGER"], &rows)
}

fn show(it: &ChallengeInfo) -> String {
    record(&[
        ("key", it.key_id.to_string()),
        ("server", format!("{} (member {})", it.server_id, it.index)),
        ("has to sign", it.signing_root.to_string()),
        ("state", it.state.to_string()),
        ("last block", it.deadline.to_string()),
        ("fee", amount::with_unit(it.fee)),
        ("challenger", it.challenger.to_string()),
        ("transaction", it.transaction.to_string()),
        ("ended by", it.ended_by.map_or_else(|| "-".to_owned(), |hash| hash.to_string())),
    ])
}
