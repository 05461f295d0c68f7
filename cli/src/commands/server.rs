//! `stkr server`.

use std::path::Path;

use alloy::primitives::{Address, B256, Bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use stkr_sdk::{HistoryEntry, Incident, Registration, ServerInfo, ServerKind, SignedThing, amount};

use crate::{
    args::ServerCommand,
    context::{Context, read_json},
    failure::Failure,
    output::{record, table, time},
};

/// What `stkr-server register-args` prints.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegisterArgs {
    signer: Address,
    tls_fingerprint: B256,
    kind: ServerKind,
    endpoint: String,
    signer_proof: Bytes,
}

pub(crate) async fn run(command: ServerCommand, context: &Context<'_>) -> Result<(), Failure> {
    match command {
        ServerCommand::List => {
            let servers = context.client().await?.servers().list().await?;
            context.output.show(&servers, |servers| list(servers));
            Ok(())
        }
        ServerCommand::Show { id } => {
            let server = context.client().await?.servers().get(id).await?;
            context.output.show(&server, show);
            Ok(())
        }
        ServerCommand::History { id } => {
            let client = context.client().await?;
            // A server that does not exist has no history, and nobody should take that for a clean one.
            client.servers().get(id).await?;
            let entries = client.faults().history(id).await?;
            context.output.show(&entries, |entries| history(id, entries));
            Ok(())
        }
        ServerCommand::Register { args, bond, signing } => {
            let registration = registration(&args, &bond)?;
            let client = context.client_for(&signing).await?;
            let write = client.servers().register(registration)?;
            context.perform(write, &signing, "registered the server", |id| json!({ "serverId": id })).await
        }
        ServerCommand::AddBond { id, amount, signing } => {
            let wei = amount::parse(&amount)?;
            let client = context.client_for(&signing).await?;
            let done = format!("added {} to the bond of server {id}", amount::with_unit(wei));
            context.perform(client.servers().add_bond(id, wei)?, &signing, &done, nothing).await
        }
        ServerCommand::SetEndpoint { id, tls_fingerprint, endpoint, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.servers().set_endpoint(id, tls_fingerprint, &endpoint)?;
            context.perform(write, &signing, &format!("server {id} is at {endpoint} now"), nothing).await
        }
        ServerCommand::Approve { id, schedule, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.servers().approve(id);
            context.govern(&client, write, &signing, schedule, &format!("approved server {id}")).await
        }
        ServerCommand::SetBondParameters { min_bond, seat_bond, schedule, signing } => {
            let (min, seat) = (amount::parse(&min_bond)?, amount::parse(&seat_bond)?);
            let client = context.client_for(&signing).await?;
            let write = client.servers().set_bond_parameters(min, seat)?;
            let done =
                format!("a bond is {} at least, a seat reserves {}", amount::with_unit(min), amount::with_unit(seat));
            context.govern(&client, write, &signing, schedule, &done).await
        }
        ServerCommand::Suspend { id, reason, schedule, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.servers().suspend(id, &reason)?;
            context.govern(&client, write, &signing, schedule, &format!("suspended server {id}")).await
        }
        ServerCommand::Reinstate { id, reason, schedule, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.servers().reinstate(id, &reason)?;
            context.govern(&client, write, &signing, schedule, &format!("reinstated server {id}")).await
        }
        ServerCommand::SetSigner { id, signer, proof, signing } => {
            let client = context.client_for(&signing).await?;
            let write = client.servers().set_signer(id, signer, proof)?;
            let done = format!("server {id} signs with {signer} in committees that are still to come");
            context.perform(write, &signing, &done, nothing).await
        }
        ServerCommand::Leave { id, signing } => {
            let client = context.client_for(&signing).await?;
            let done = format!("server {id} gets no new seats; its bond unbonds");
            context.perform(client.servers().announce_leave(id), &signing, &done, nothing).await
        }
        ServerCommand::WithdrawBond { id, signing } => {
            let client = context.client_for(&signing).await?;
            let done = format!("paid out the bond of server {id}");
            context.perform(client.servers().withdraw_bond(id), &signing, &done, nothing).await
        }
    }
}

fn nothing((): ()) -> Value {
    Value::Null
}

fn registration(path: &Path, bond: &str) -> Result<Registration, Failure> {
    let bond = amount::parse(bond)?;
    let hint = "run stkr-server register-args and give its output as a file";
    let args: RegisterArgs = read_json(path, "what stkr-server register-args prints", hint)?;
    let RegisterArgs { signer, tls_fingerprint, kind, endpoint, signer_proof } = args;
    Ok(Registration { signer, tls_fingerprint, kind, endpoint, signer_proof, bond })
}

fn list(servers: &[ServerInfo]) -> String {
    let rows: Vec<Vec<String>> = servers
        .iter()
        .map(|server| {
            vec![
                server.id.to_string(),
                standing(server),
                server.kind.to_string(),
                server.seats.to_string(),
                amount::with_unit(server.bond),
                server.operator.to_string(),
                server.endpoint.clone(),
            ]
        })
        .collect();
    table(&["ID", "STATUS", "KIND", "SEATS", "BOND", "OPERATOR", "ENDPOINT"], &rows)
}

/// A lock-out stands beside the status: who is locked out still leaves, is suspended or holds its seats as any other.
fn standing(server: &ServerInfo) -> String {
    if server.locked_out { format!("{}, locked out", server.status) } else { server.status.to_string() }
}

fn history(id: u32, entries: &[HistoryEntry]) -> String {
    if entries.is_empty() {
        return format!("nothing was proven about server {id}");
    }
    entries.iter().map(entry).collect::<Vec<_>>().join("\n\n")
}

fn entry(entry: &HistoryEntry) -> String {
    let mut fields = vec![("block", entry.block.to_string()), ("transaction", entry.transaction.to_string())];
    if let Incident::Fault { evidence, judgement, signed, .. } = &entry.incident {
        fields.push(("evidence", evidence.to_string()));
        fields.extend(signed.iter().map(|it| ("signed", signed_text(it))));
        fields.push(("reporter", judgement.reporter.to_string()));
        fields.push(("slashed", amount::with_unit(judgement.penalty)));
        fields.push(("bounty", amount::with_unit(judgement.bounty)));
    }
    format!("{}\n{}", entry.incident, record(&fields))
}

/// What was signed, with the slot and epochs that it has: an exit has none, and silence is no duty at all.
fn signed_text(it: &SignedThing) -> String {
    let slot = if it.slot == 0 { String::new() } else { format!(", slot {}", it.slot) };
    let epochs = match it.target_epoch {
        0 => String::new(),
        target => format!(", epochs {} to {target}", it.source_epoch),
    };
    format!("{}{slot}{epochs}, {} {}", it.what, it.root_name, it.root)
}

fn show(server: &ServerInfo) -> String {
    record(&[
        ("server", server.id.to_string()),
        ("status", standing(server)),
        ("kind", server.kind.to_string()),
        ("operator", server.operator.to_string()),
        ("signer", server.signer.to_string()),
        ("endpoint", server.endpoint.clone()),
        ("TLS fingerprint", server.tls_fingerprint.to_string()),
        ("bond", amount::with_unit(server.bond)),
        ("seats", server.seats.to_string()),
        ("reinstated", format!("{} times", server.terms)),
        ("bond free from", time(server.unbonding_ends)),
    ])
}
