//! `stkr challenge`: asks a server on the chain for what the chain ordered, and ends what was asked.

use std::{path::Path, time::Duration};

use alloy::{
    primitives::{Address, B256, U256},
    providers::DynProvider,
};
use serde_json::{Value, json};
use stkr_node::{
    client::{Patience, Peer, ServerClient},
    tls::{self, Fingerprint, Identity},
};
use stkr_protocol::{
    api::{AdvanceRequest, AdvanceResponse},
    evidence::EvidenceFile,
    json_reason,
    sign::{Asked, SignResponse, SignedPartial, Subject},
};
use stkr_sdk::{Asks, ChallengeInfo, ChallengeState, Judgement, ServerKind, Write, amount, answer_from_json};

use crate::{
    args::{ChallengeCommand, OfAnyChallenge, OfChallenge},
    context::{Client, Context, read_bytes},
    failure::Failure,
    output::{record, table},
};

/// How long the server may take to sign.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(20) };

pub(crate) async fn run(command: ChallengeCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        ChallengeCommand::List { server, open } => {
            let client = context.client().await?;
            let mut all = client.challenges().list().await?;
            all.retain(|it| server.is_none_or(|id| it.server_id == id) && (!open || is_open(it)));
            if let (Some(id), true) = (server, all.is_empty()) {
                // An id that nobody has is a mistake, not a server that was never asked.
                client.servers().get(id).await?;
            }
            context.output.show(&all, |all| list(all));
            Ok(())
        }
        ChallengeCommand::Show { of } => {
            let client = context.client().await?;
            context.output.show(&newest(&of, &client).await?, show);
            Ok(())
        }
        ChallengeCommand::Open { of, fee, signing } => {
            let fee = fee.as_deref().map(amount::parse).transpose()?;
            let client = context.client().await?;
            let root = root_of(&of, &client).await?;
            let question = client.challenges().question(of.key, of.server, root).await?;
            let write = client.challenges().open(&question, fee).await?;
            let done = format!("asked server {} to sign {root} with key {}", of.server, of.key);
            context.perform(write, &signing, &done, until).await
        }
        ChallengeCommand::Acknowledgement { key, server, relayer, fee, signing } => {
            let fee = fee.as_deref().map(amount::parse).transpose()?;
            let client = context.client().await?;
            let question = client.challenges().acknowledgement_question(key, server, &relayer).await?;
            let write = client.challenges().open_acknowledgement(&question, fee).await?;
            let done = format!("asked server {server} to acknowledge key {key}");
            context.perform(write, &signing, &done, until).await
        }
        ChallengeCommand::Answer { of, answer, signing } => {
            let client = context.client().await?;
            let write = match of.acknowledgement {
                true => acknowledge(&of.of, answer.as_deref(), &client).await?,
                false => sign(&of.of, answer.as_deref(), &client).await?,
            };
            let done = format!("answered for server {}; the fee is its operator's", of.of.server);
            context.perform(write, &signing, &done, |()| Value::Null).await
        }
        ChallengeCommand::Prove { of, signing } => {
            let client = context.client().await?;
            let it = newest(&of, &client).await?;
            let write = match it.asks {
                Asks::Signature { signing_root } => client.challenges().prove((it.key_id, it.index, signing_root)),
                Asks::Acknowledgement { attempt } => {
                    client.challenges().prove_unacknowledged((it.key_id, attempt, it.index))
                }
            };
            let done = format!("server {} did not answer in time", of.of.server);
            context.perform(write, &signing, &done, proven).await
        }
        ChallengeCommand::Evidence { of, out } => evidence(&of, &out, context).await,
        ChallengeCommand::Fees { account } => fees(account, context).await,
        ChallengeCommand::Withdraw { acknowledgements, signing } => {
            let client = context.client_for(&signing).await?;
            let write = match acknowledgements {
                true => client.challenges().withdraw_acknowledgement_fees(),
                false => client.challenges().withdraw_fees(),
            };
            let paid = |wei: U256| json!({ "paidWei": wei.to_string() });
            context.perform(write, &signing, "withdrew the fees of challenges", paid).await
        }
    }
}

async fn evidence(of: &OfAnyChallenge, out: &Path, context: &Context<'_>) -> Result<(), Failure> {
    let client = context.client().await?;
    let it = newest(of, &client).await?;
    let file = client.challenges().evidence(&it).await?;
    std::fs::write(out, json!(file).to_string()).map_err(|error| {
        Failure::usage(
            format!("cannot write {}: {error}", out.display()),
            "name a file in a folder that can be written",
        )
    })?;
    context.output.show(&json!({ "file": out, "serverId": it.server_id.to_string() }), |_| {
        format!(
            "{} proves that server {} did not answer; `stkr evidence submit` reports it",
            out.display(),
            it.server_id
        )
    });
    Ok(())
}

fn until(deadline: u64) -> Value {
    json!({ "deadline": deadline })
}

async fn fees(account: Address, context: &Context<'_>) -> Result<(), Failure> {
    let client = context.client().await?;
    let fees = client.challenges().fees_of(account).await?;
    let of_acknowledgements = client.challenges().acknowledgement_fees_of(account).await?;
    let answer = json!({
        "feesWei": fees.to_string(),
        "acknowledgementFeesWei": of_acknowledgements.to_string(),
    });
    let rows = [
        ("fees of challenges", amount::with_unit(fees)),
        ("fees of challenges to acknowledge", amount::with_unit(of_acknowledgements)),
    ];
    context.output.show(&answer, |_| record(&rows));
    Ok(())
}

async fn newest(of: &OfAnyChallenge, client: &Client) -> Result<ChallengeInfo, Failure> {
    let OfAnyChallenge { of, acknowledgement } = of;
    if *acknowledgement {
        return Ok(client.challenges().get_acknowledgement(of.key, of.server).await?);
    }
    let root = root_of(of, client).await?;
    Ok(client.challenges().get(of.key, of.server, root).await?)
}

async fn sign<'a>(
    of: &OfChallenge,
    answer: Option<&Path>,
    client: &'a Client,
) -> Result<Write<'a, DynProvider>, Failure> {
    let asked = client.challenges().order(of.key, of.root).await?;
    let root = asked.subject().signing_root();
    let question = client.challenges().asked(of.key, of.server, root).await?;
    let given = match answer {
        Some(file) => read(file, asked.subject())?,
        None => ask(of, &asked, client).await?,
    };
    Ok(client.challenges().answer(&question, asked.subject(), &given)?)
}

async fn acknowledge<'a>(
    of: &OfChallenge,
    answer: Option<&Path>,
    client: &'a Client,
) -> Result<Write<'a, DynProvider>, Failure> {
    let asked = client.challenges().asked_acknowledgement(of.key, of.server).await?;
    let Some(file) = answer else {
        let (key_id, attempt, _) = asked.asked;
        let request = AdvanceRequest { key_id, attempt, messages: asked.dealings.to_vec() };
        let server = server(of, client).await?;
        let said = server.advance(&request).await.map_err(|error| silent(of, &error.to_string()))?;
        return Ok(client.challenges().acknowledge(&asked, &said)?);
    };
    let hint = "give what its POST /v1/ceremonies/advance answered, or a file of evidence";
    let bytes = read_bytes(file, "an answer of a server", hint)?;
    if let Ok(file) = EvidenceFile::from_json(&bytes) {
        return Ok(client.challenges().refuse(&asked, &file)?);
    }
    let said: AdvanceResponse = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::usage(format!("{} is no answer of a server: {}", file.display(), json_reason(&error)), hint)
    })?;
    Ok(client.challenges().acknowledge(&asked, &said)?)
}

/// The root that was given, or that of the one message that the chain ordered the key to sign.
async fn root_of(of: &OfChallenge, client: &Client) -> Result<B256, Failure> {
    match of.root {
        Some(root) => Ok(root),
        None => Ok(client.challenges().order(of.key, None).await?.subject().signing_root()),
    }
}

fn read(file: &Path, asked: &Subject) -> Result<SignedPartial, Failure> {
    let hint = "give what its POST /v1/sign answered, or the file that an offline server wrote";
    let bytes = read_bytes(file, "an answer of a server", hint)?;
    Ok(answer_from_json(&bytes, asked)?)
}

/// Asks the server itself, over the endpoint and the certificate that it registered.
async fn ask(of: &OfChallenge, asked: &Asked, client: &Client) -> Result<SignedPartial, Failure> {
    let server = server(of, client).await?;
    let answer = server.sign_one(asked.request()).await;
    match answer.map_err(|error| silent(of, &error.to_string()))? {
        SignResponse::Signed(given) => Ok(given),
        SignResponse::Refused(refused) => Err(silent(of, &refused.refusal.to_string())),
    }
}

fn silent(of: &OfChallenge, reason: &str) -> Failure {
    Failure::unavailable(
        format!("server {} gives no answer: {reason}", of.server),
        "its operator can repair it, or give the answer with --answer, up to the challenge's last block; past that `challenge prove` is all there is",
    )
}

async fn server(of: &OfChallenge, client: &Client) -> Result<ServerClient, Failure> {
    tls::install_provider().map_err(|error| Failure::unavailable(error.to_string(), "try again"))?;
    let identity = Identity::generate("stkr").map_err(|error| Failure::unavailable(error.to_string(), "try again"))?;
    let server = client.servers().get(of.server).await?;
    can_be_asked(server.id, server.kind)?;
    let fingerprint = Fingerprint(server.tls_fingerprint.0);
    let peer = Peer { server_id: server.id, endpoint: server.endpoint, fingerprint };
    ServerClient::new(&identity, peer, PATIENCE).map_err(|error| silent(of, &error.to_string()))
}

/// A machine without network answers nobody, whatever endpoint stands in the registry.
fn can_be_asked(id: u32, kind: ServerKind) -> Result<(), Failure> {
    match kind {
        ServerKind::Online => Ok(()),
        ServerKind::Offline => Err(Failure::usage(
            format!("server {id} has no network and answers by files"),
            "carry it the file that `stkr offline fetch` gives, and hand its answer in with `stkr offline submit`, or here with --answer",
        )),
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
            match it.asks {
                Asks::Signature { .. } => "signature".to_owned(),
                Asks::Acknowledgement { attempt } => format!("acknowledgement of attempt {attempt}"),
            },
            it.state.to_string(),
            last(it),
            amount::with_unit(it.fee),
            it.challenger.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    table(&["KEY", "SERVER", "ASKS FOR", "STATE", "LAST", "FEE", "CHALLENGER"], &rows)
}

/// The last block for an answer, or the last second.
fn last(it: &ChallengeInfo) -> String {
    match it.asks {
        Asks::Signature { .. } => format!("block {}", it.deadline),
        Asks::Acknowledgement { .. } => format!("unix time {}", it.deadline),
    }
}

fn show(it: &ChallengeInfo) -> String {
    let has_to = match it.asks {
        Asks::Signature { signing_root } => format!("sign {signing_root}"),
        Asks::Acknowledgement { attempt } => format!("acknowledge the key of attempt {attempt}"),
    };
    record(&[
        ("key", it.key_id.to_string()),
        ("server", format!("{} (member {})", it.server_id, it.index)),
        ("has to", has_to),
        ("state", it.state.to_string()),
        ("until", last(it)),
        ("fee", amount::with_unit(it.fee)),
        ("challenger", it.challenger.to_string()),
        ("transaction", it.transaction.to_string()),
        ("ended by", it.ended_by.map_or_else(|| "-".to_owned(), |hash| hash.to_string())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_network_is_not_asked_over_the_network() {
        assert!(can_be_asked(7, ServerKind::Online).is_ok());
        let told = can_be_asked(7, ServerKind::Offline).unwrap_err();
        assert!(format!("{told:?}").contains("`stkr offline fetch`"), "{told:?}");
    }
}
