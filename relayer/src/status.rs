//! What people and monitors see of a relayer: one snapshot, rendered as JSON and as a page.

use std::fmt::Write as _;

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::Evidence;

/// The whole picture. Integers are decimal strings, as everywhere in Stkr's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The chain as this relayer sees it.
    pub chain: ChainStatus,
    /// Account that pays for transactions.
    pub account: String,
    /// What a person should look at, one sentence each; empty when all is well.
    pub problems: Vec<String>,
    /// The newest 100 pools; all are in `/v1/pools`.
    pub pools: Vec<PoolStatus>,
    /// The newest 100 keys; all are in `/v1/keys`.
    pub keys: Vec<KeyStatus>,
    /// Ceremonies under way.
    pub ceremonies: Vec<CeremonyStatus>,
    /// Signatures under way.
    pub collections: Vec<CollectionStatus>,
    /// The newest 100 transactions, newest first; all are in `/v1/intents`.
    pub intents: Vec<IntentLine>,
    /// Online servers.
    pub servers: Vec<ServerLine>,
}

/// Head and finality.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChainStatus {
    /// EIP-155 chain id.
    pub chain_id: String,
    /// Newest block, with everything in it taken in.
    pub head: String,
    /// Its unix time, seconds.
    pub head_timestamp: String,
    /// Newest finalised block.
    pub finalized: String,
    /// Whether the last look at the chain succeeded.
    pub following: bool,
    /// Hosts of the RPC endpoints.
    pub endpoints: Vec<String>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Id.
    pub pool_id: String,
    /// `Open`, `Full`, `KeyReady`, `Predeposited`, `Active`, `Cancelled`.
    pub state: String,
    /// Account of the provider.
    pub provider: String,
    /// Withdrawal address.
    pub vault: String,
    /// Wei.
    pub staked: String,
    /// Unix time, seconds; see the contract for what happens then.
    pub deadline: String,
    /// Its key, once requested.
    pub key_id: Option<String>,
    /// Gwei of each deposit sent.
    pub deposits_gwei: Vec<String>,
    /// The deposit to other credentials that its key signed, if it did: why the pool is or will be Cancelled.
    pub foreign_deposit: Option<ForeignDepositStatus>,
}

/// A deposit that no pool ordered, signed by a pool's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForeignDepositStatus {
    /// Where the thieves wanted the stake to go.
    pub withdrawal_credentials: String,
    /// Gwei.
    pub amount_gwei: String,
    /// Whether the contract has seen the proof and burned the key.
    pub proven: bool,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Id.
    pub key_id: String,
    /// `requested`, `drawn`, `live`, `retired`, `burned`.
    pub state: String,
    /// t.
    pub threshold: String,
    /// n.
    pub members: String,
    /// Ceremony number, from 0.
    pub attempt: String,
    /// Server ids in index order, once drawn.
    pub committee: Vec<String>,
    /// Requested: block whose PREVRANDAO draws the committee.
    pub seed_block: Option<String>,
    /// Drawn: unix time (seconds) until which it can be finalised.
    pub deadline: Option<String>,
    /// Compressed group key, once live.
    pub pubkey: Option<String>,
}

/// A ceremony.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CeremonyStatus {
    /// Key.
    pub key_id: String,
    /// Ceremony number, from 0.
    pub attempt: String,
    /// `waiting`, `complete`, `failed`.
    pub state: String,
    /// Round that is not complete yet.
    pub round: Option<String>,
    /// Why it failed, with the culprit.
    pub failure: Option<String>,
    /// Who is waited for and why, one sentence each.
    pub waiting_for: Vec<String>,
    /// What servers report as failures: hearsay.
    pub reported: Vec<String>,
    /// Unix time, seconds.
    pub deadline: String,
}

/// A signature on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionStatus {
    /// Pool.
    pub pool_id: String,
    /// Key.
    pub key_id: String,
    /// `waiting` or `complete`.
    pub state: String,
    /// Good partial signatures still needed.
    pub needed: String,
    /// Who is waited for and why, one sentence each.
    pub waiting_for: Vec<String>,
    /// Servers whose partial signatures were wrong.
    pub culprits: Vec<String>,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntentLine {
    /// Id in this relayer's database; grows.
    pub id: String,
    /// Name of the step and hash of the calldata.
    pub intent: String,
    /// `waiting`, `pending`, `included`, `confirmed`, `superseded`, `failed`.
    pub state: String,
    /// Hash of the newest attempt.
    pub transaction: Option<String>,
    /// Block it is in.
    pub block: Option<String>,
    /// Gas used.
    pub gas_used: Option<String>,
    /// Why it does not move or how the contract refused.
    pub note: Option<String>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerLine {
    /// Id.
    pub server_id: String,
    /// `Registered`, `Active`, `Suspended`, `Leaving`, `Left`.
    pub status: String,
    /// A fault of it was proven, and governance has not reinstated it since.
    pub locked_out: bool,
    /// As registered by its operator.
    pub endpoint: String,
    /// Whether it answered last time; null before it was asked. Only servers that are Active or hold a seat are.
    pub reachable: Option<bool>,
    /// Why not.
    pub problem: Option<String>,
}

/// The same as a page for people. Everything in it is escaped: endpoints are written by strangers.
#[must_use]
pub fn page(status: &Status, evidence: &[Evidence]) -> String {
    let mut html = String::from(HEAD);
    let chain = &status.chain;
    let following = if chain.following { "" } else { " <b class=bad>the chain cannot be read at the moment</b>" };
    let _ = write!(
        html,
        "<h1>stkr-relayer {}</h1><p>chain {}, block {}, finalised {}.{following} Gas account {}. \
         <a href=/status>JSON</a> <a href=/metrics>metrics</a> <a href=/openapi.json>API</a></p>",
        escape(&status.version),
        escape(&chain.chain_id),
        escape(&chain.head),
        escape(&chain.finalized),
        escape(&status.account),
    );
    list(&mut html, "Problems", &status.problems);
    table(
        &mut html,
        "Pools",
        &["pool", "state", "staked (wei)", "key", "vault", "foreign deposit to"],
        status.pools.iter().map(|pool| {
            let key = pool.key_id.as_ref().unwrap_or(&EMPTY);
            let foreign = pool.foreign_deposit.as_ref().map_or(&EMPTY, |foreign| &foreign.withdrawal_credentials);
            vec![&pool.pool_id, &pool.state, &pool.staked, key, &pool.vault, foreign]
        }),
    );
    table(
        &mut html,
        "Keys",
        &["key", "state", "t", "n", "attempt", "public key"],
        status.keys.iter().map(|key| {
            let pubkey = key.pubkey.as_ref().unwrap_or(&EMPTY);
            vec![&key.key_id, &key.state, &key.threshold, &key.members, &key.attempt, pubkey]
        }),
    );
    for ceremony in &status.ceremonies {
        let title = format!("Ceremony of key {}, attempt {}: {}", ceremony.key_id, ceremony.attempt, ceremony.state);
        let lines = ceremony.failure.iter().chain(&ceremony.waiting_for).chain(&ceremony.reported).cloned();
        section(&mut html, &title, &lines.collect::<Vec<_>>());
    }
    for collection in &status.collections {
        let title = format!(
            "Deposit signature of pool {}: {}, {} needed",
            collection.pool_id, collection.state, collection.needed
        );
        section(&mut html, &title, &collection.waiting_for);
    }
    let standing = |server: &ServerLine| {
        if server.locked_out { format!("{}, locked out", server.status) } else { server.status.clone() }
    };
    let standings: Vec<String> = status.servers.iter().map(standing).collect();
    table(
        &mut html,
        "Servers",
        &["server", "status", "endpoint", "problem"],
        status.servers.iter().zip(&standings).map(|(server, standing)| {
            vec![&server.server_id, standing, &server.endpoint, server.problem.as_ref().unwrap_or(&EMPTY)]
        }),
    );
    table(
        &mut html,
        "Transactions",
        &["step", "state", "transaction", "note"],
        status.intents.iter().map(|intent| {
            let (transaction, note) = (intent.transaction.as_ref(), intent.note.as_ref());
            vec![&intent.intent, &intent.state, transaction.unwrap_or(&EMPTY), note.unwrap_or(&EMPTY)]
        }),
    );
    let provider = "a provider".to_owned();
    table(
        &mut html,
        "Evidence",
        &["server", "key", "kind"],
        evidence.iter().map(|evidence| {
            let who = evidence.server_id.as_ref().unwrap_or(&provider);
            vec![who, &evidence.key_id, &evidence.kind]
        }),
    );
    html.push_str("</body></html>\n");
    html
}

const HEAD: &str = "<!doctype html><html lang=en><head><meta charset=utf-8><meta http-equiv=refresh content=5>\
<title>stkr-relayer</title><style>body{font:14px/1.5 system-ui;margin:2rem;max-width:75rem}table{border-collapse:collapse}\
td,th{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;overflow-wrap:anywhere}.bad{color:#b00}\
</style></head><body>";

static EMPTY: String = String::new();

fn list(html: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        section(html, title, lines);
    }
}

fn section(html: &mut String, title: &str, lines: &[String]) {
    let _ = write!(html, "<h2>{}</h2><ul>", escape(title));
    for line in lines {
        let _ = write!(html, "<li>{}</li>", escape(line));
    }
    html.push_str("</ul>");
}

fn table<'a>(html: &mut String, title: &str, columns: &[&str], rows: impl Iterator<Item = Vec<&'a String>>) {
    let _ = write!(html, "<h2>{}</h2><table><tr>", escape(title));
    for column in columns {
        let _ = write!(html, "<th>{}</th>", escape(column));
    }
    html.push_str("</tr>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escape(cell));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_an_operator_wrote_as_a_script_stays_text() {
        let evil = "https://x/<script>alert('1')</script>\"".to_owned();
        let server = ServerLine {
            server_id: "1".to_owned(),
            status: "Active".to_owned(),
            locked_out: false,
            endpoint: evil.clone(),
            reachable: Some(false),
            problem: Some(evil.clone()),
        };
        let ceremony = CeremonyStatus {
            waiting_for: vec![evil.clone()],
            failure: Some(evil.clone()),
            ..CeremonyStatus::default()
        };
        let status =
            Status { servers: vec![server], problems: vec![evil], ceremonies: vec![ceremony], ..Status::default() };
        let html = page(&status, &[]);
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
    }
}
