//! What people and monitors see of a relayer: one snapshot, rendered as JSON and as a page.

use std::fmt::Write as _;

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

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
    /// Reshares under way.
    pub reshares: Vec<ReshareStatus>,
    /// Signatures under way.
    pub collections: Vec<CollectionStatus>,
    /// The newest 100 transactions, newest first; all are in `/v1/intents`.
    pub intents: Vec<IntentLine>,
    /// Online servers.
    pub servers: Vec<ServerLine>,
    /// The newest 100 faults that this relayer has a case of, newest first; all that it keeps is in `/v1/evidence`.
    pub evidence: Vec<EvidenceLine>,
    /// The newest 100 faults that the Court has on record, newest first, whoever reported them.
    pub faults: Vec<FaultLine>,
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
    /// Whether it is a dealt key: one that existed whole before its owner split it, so that no ceremony made it and none moves it.
    pub dealt: bool,
    /// Ceremony number, from 0; 0 of a dealt key.
    pub attempt: String,
    /// Server ids in index order, once drawn; of a key that was reshared those of its newest committee.
    pub committee: Vec<String>,
    /// Live: number of that committee, from 0.
    pub committee_epoch: Option<String>,
    /// Live: unix time (seconds) of its handover: the first beacon epoch that starts then or later is the first for which it signs. Null
    /// of a key's first committee.
    pub handover: Option<String>,
    /// Requested: block whose PREVRANDAO draws the committee.
    pub seed_block: Option<String>,
    /// Drawn: unix time (seconds) until which it can be finalised.
    pub deadline: Option<String>,
    /// Compressed group key, once live.
    pub pubkey: Option<String>,
    /// Live: shares of servers that are not locked out; it needs `threshold`.
    pub healthy: Option<String>,
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
    /// Unix time (seconds) of the block in which this attempt began, if it is known.
    pub begun: Option<String>,
    /// Whether somebody holds it up: by a trouble that is known, or for a minute without one.
    pub stalled: bool,
    /// All rounds, in order.
    pub rounds: Vec<RoundStatus>,
}

/// A reshare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReshareStatus {
    /// Key.
    pub key_id: String,
    /// Number of the committee that is being made; the key's first has 0.
    pub committee_epoch: String,
    /// Number of the attempt at it, from 0.
    pub attempt: String,
    /// `requested` (it waits for its seed block), `waiting`, `complete` (all new members acknowledged), `failed`, `expired` (it starts again).
    pub state: String,
    /// t of the new committee.
    pub threshold: String,
    /// Server ids in the index order of the new committee; 0 where a seat is still to be drawn.
    pub seats: Vec<String>,
    /// Server ids of the dealers: members of the committee that hands over. Empty before they are drawn.
    pub dealers: Vec<String>,
    /// Requested: block whose PREVRANDAO draws seats and dealers.
    pub seed_block: Option<String>,
    /// Drawn: unix time (seconds) until which it can be finalised.
    pub deadline: Option<String>,
    /// Drawn: unix time (seconds) of the handover, if it is finalised.
    pub handover: Option<String>,
    /// Unix time (seconds) of the block in which this attempt was drawn, if it is known.
    pub begun: Option<String>,
    /// Round that is not complete yet.
    pub round: Option<String>,
    /// Why it failed, with the culprit.
    pub failure: Option<String>,
    /// Who is waited for and why, one sentence each.
    pub waiting_for: Vec<String>,
    /// What servers report as failures: hearsay.
    pub reported: Vec<String>,
    /// Whether somebody holds it up: by a trouble that is known, or for a minute without one.
    pub stalled: bool,
    /// All rounds, in order.
    pub rounds: Vec<RoundStatus>,
}

/// One round of a ceremony or a reshare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoundStatus {
    /// `one_time_key`, `dealing_commitment`, `commitment_set`, `dealing`, `acknowledgement`; in a reshare `reshare_keys`, `reshare_dealing`,
    /// `reshare_acknowledgement`.
    pub round: String,
    /// Unix time (seconds, this relayer's clock but for the first round, which the chain begins) from which its messages are waited for;
    /// null while a round before it is not complete, and where the time was not noted.
    pub since: Option<String>,
    /// Unix time (seconds) at which its last message came here.
    pub complete: Option<String>,
    /// Members whose message is here.
    pub came: String,
    /// Who is waited for now.
    pub waiting_for: Vec<Waited>,
}

/// A member whose message a ceremony or a reshare lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waited {
    /// Its server.
    pub server_id: String,
    /// Its share index; where it deals in a reshare, that in the committee that hands over.
    pub member: String,
    /// As registered by its operator.
    pub endpoint: String,
    /// One word for what is known to be wrong, for example `refused`, `timeout`, `wrong_fingerprint`, `gave_up`; null if nothing is.
    pub trouble: Option<String>,
    /// One sentence on what happened when it was last asked.
    pub why: String,
    /// What its operator should check.
    pub check: String,
    /// What the server itself says keeps it from being of use, as `/readyz` told it; empty if nothing or not known.
    pub unready: Vec<String>,
}

impl Waited {
    /// For people, in a round that waits since `since`.
    fn line(&self, since: Option<&String>) -> String {
        let since = since.map_or_else(String::new, |time| format!(", since {}", utc(time)));
        let unready = self.unready.iter().map(|reason| format!(" It says itself: {reason}.")).collect::<String>();
        format!(
            "server {} (member {}{since}): {}. Its operator should check: {}.{unready}",
            self.server_id, self.member, self.why, self.check
        )
    }
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
    /// What the server itself says keeps it from being of use (its `/readyz`), one sentence each; empty if nothing or not known.
    pub unready: Vec<String>,
}

/// A fault that this relayer has evidence of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceLine {
    /// Id in this relayer's database: the file is at `/v1/evidence/{id}`.
    pub id: String,
    /// Server at fault; absent where a provider is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// Key.
    pub key_id: String,
    /// Ceremony of the key, from 0, if it happened in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// The fault by its name in docs/protocol.md, for example `invalid_partial`.
    pub kind: String,
    /// What the Court calls the evidence.
    pub evidence: String,
    /// What was signed, in words: duty, slot, epochs and root.
    pub signed: Vec<String>,
    /// `open`, `committed`, `on_record`, `spared` (one of its kind was charged in this term), `too_late`.
    pub stage: String,
    /// Transaction that put it on record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// Its block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// Who showed it to the Court.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporter: Option<String>,
}

/// A fault on record at the Court.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultLine {
    /// The fault by its name in docs/protocol.md, for example `unanswered_challenge`.
    pub kind: String,
    /// Server at fault; absent where a provider is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// Key.
    pub key_id: String,
    /// What the Court calls the evidence.
    pub evidence: String,
    /// Whether something was taken; one that was paid for already is only recorded.
    pub charged: bool,
    /// Transaction that put it on record.
    pub transaction: String,
    /// Its block.
    pub block: String,
    /// Who showed it to the Court.
    pub reporter: String,
}

/// The same as a page for people. Everything in it is escaped: endpoints are written by strangers.
#[must_use]
pub fn page(status: &Status) -> String {
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
            let key = link(&format!("#key-{key}"), key);
            vec![text(&pool.pool_id), text(&pool.state), text(&pool.staked), key, text(&pool.vault), text(foreign)]
        }),
    );
    table(
        &mut html,
        "Keys",
        &["key", "state", "t", "n", "healthy", "attempt", "public key"],
        status.keys.iter().map(|key| {
            let pubkey = key.pubkey.as_ref().unwrap_or(&EMPTY);
            let id = anchor(&format!("key-{}", key.key_id), &key.key_id);
            let healthy = key.healthy.as_ref().unwrap_or(&EMPTY);
            let (t, n) = (text(&key.threshold), text(&key.members));
            let made = if key.dealt { text("dealt") } else { ceremony_link(&key.key_id, &key.attempt) };
            vec![id, text(&key.state), t, n, text(healthy), made, text(pubkey)]
        }),
    );
    for ceremony in &status.ceremonies {
        let state = if ceremony.stalled { "stalled" } else { &ceremony.state };
        let title = format!("Ceremony of key {}, attempt {}: {state}", ceremony.key_id, ceremony.attempt);
        let lines = ceremony.failure.iter().cloned().chain(ceremony.rounds.iter().flat_map(round_lines));
        section(&mut html, &title, &lines.chain(ceremony.reported.iter().cloned()).collect::<Vec<_>>());
    }
    for reshare in &status.reshares {
        let state = if reshare.stalled { "stalled" } else { &reshare.state };
        let title = format!(
            "Reshare of key {} to committee {}, attempt {}: {state}",
            reshare.key_id, reshare.committee_epoch, reshare.attempt
        );
        let lines = reshare_lines(reshare).into_iter().chain(reshare.failure.iter().cloned());
        let lines = lines.chain(reshare.rounds.iter().flat_map(round_lines));
        section(&mut html, &title, &lines.chain(reshare.reported.iter().cloned()).collect::<Vec<_>>());
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
            let id = anchor(&format!("server-{}", server.server_id), &server.server_id);
            let problems = server.problem.iter().chain(&server.unready).map(|it| text(it)).collect::<Vec<_>>();
            vec![id, text(standing), text(&server.endpoint), problems.join("<br>")]
        }),
    );
    table(
        &mut html,
        "Transactions",
        &["step", "state", "transaction", "note"],
        status.intents.iter().map(|intent| {
            let (transaction, note) = (intent.transaction.as_ref(), intent.note.as_ref());
            let transaction = transaction.map_or_else(String::new, |hash| anchor(&format!("tx-{hash}"), hash));
            vec![text(&intent.intent), text(&intent.state), transaction, text(note.unwrap_or(&EMPTY))]
        }),
    );
    table(
        &mut html,
        "Evidence",
        &["file", "fault", "who", "key", "ceremony", "what was signed", "stage", "transaction", "block", "reporter"],
        status.evidence.iter().map(|it| evidence_cells(it, &status.intents)),
    );
    table(
        &mut html,
        "On record at the Court",
        &["fault", "who", "key", "evidence", "charged", "transaction", "block", "reporter"],
        status.faults.iter().map(fault_cells),
    );
    html.push_str("</body></html>\n");
    html
}

/// A round for people: how far it is, and who is waited for.
fn round_lines(round: &RoundStatus) -> Vec<String> {
    let name = round.round.replace('_', " ");
    let done = round.complete.as_ref().map(|time| format!("{name}: {} came, the last at {}", round.came, utc(time)));
    let waits = round.waiting_for.iter().map(|it| format!("{name}: {}", it.line(round.since.as_ref())));
    done.into_iter().chain(waits).collect()
}

/// Who takes part in a reshare, and until when.
fn reshare_lines(reshare: &ReshareStatus) -> Vec<String> {
    let seat = |id: &String| if id == "0" { "to be drawn".to_owned() } else { format!("server {id}") };
    let seats: Vec<String> = reshare.seats.iter().map(seat).collect();
    let mut lines = vec![format!("new committee: {} ({} sign)", seats.join(", "), reshare.threshold)];
    lines.extend(reshare.seed_block.as_ref().map(|block| format!("it waits for its seed, block {block}")));
    if let (Some(deadline), Some(handover)) = (&reshare.deadline, &reshare.handover) {
        lines.push(format!("dealers: servers {}", reshare.dealers.join(", ")));
        let (deadline, handover) = (utc(deadline), utc(handover));
        lines.push(format!("it can be finalised until {deadline}; then the new committee signs from {handover}"));
    }
    lines
}

/// Unix seconds as `2026-03-01 12:00:00 UTC`; what is no such number stays as it is.
fn utc(seconds: &str) -> String {
    let time = seconds.parse().ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.map_or_else(
        || seconds.to_owned(),
        |time| {
            let (hour, minute, second) = time.to_hms();
            format!("{} {hour:02}:{minute:02}:{second:02} UTC", time.date())
        },
    )
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

/// A piece of evidence with links to all that it is about. The transaction is in the table above if it is ours.
fn evidence_cells(it: &EvidenceLine, intents: &[IntentLine]) -> Vec<String> {
    let ours = |hash: &&String| intents.iter().any(|intent| intent.transaction.as_ref() == Some(*hash));
    let transaction = match &it.transaction {
        Some(hash) if ours(&hash) => link(&format!("#tx-{hash}"), hash),
        hash => text(hash.as_ref().unwrap_or(&EMPTY)),
    };
    vec![
        link(&format!("/v1/evidence/{}", it.id), &it.evidence),
        text(&it.kind.replace('_', " ")),
        who(it.server_id.as_ref()),
        link(&format!("#key-{}", it.key_id), &it.key_id),
        it.attempt.as_ref().map_or_else(String::new, |attempt| ceremony_link(&it.key_id, attempt)),
        it.signed.iter().map(|what| text(what)).collect::<Vec<_>>().join("<br>"),
        text(&it.stage.replace('_', " ")),
        transaction,
        text(it.block.as_ref().unwrap_or(&EMPTY)),
        text(it.reporter.as_ref().unwrap_or(&EMPTY)),
    ]
}

fn fault_cells(it: &FaultLine) -> Vec<String> {
    vec![
        text(&it.kind.replace('_', " ")),
        who(it.server_id.as_ref()),
        link(&format!("#key-{}", it.key_id), &it.key_id),
        text(&it.evidence),
        text(if it.charged { "yes" } else { "recorded only" }),
        text(&it.transaction),
        text(&it.block),
        text(&it.reporter),
    ]
}

fn who(server_id: Option<&String>) -> String {
    server_id.map_or_else(|| text("a provider"), |id| link(&format!("#server-{id}"), &format!("server {id}")))
}

fn ceremony_link(key_id: &str, attempt: &str) -> String {
    link(&format!("/v1/ceremonies/{key_id}/{attempt}"), attempt)
}

/// A table of cells that are HTML already: of [`text`], [`link`] and [`anchor`].
fn table(html: &mut String, title: &str, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = write!(html, "<h2>{}</h2><table><tr>", escape(title));
    for column in columns {
        let _ = write!(html, "<th>{}</th>", escape(column));
    }
    html.push_str("</tr>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{cell}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
}

fn text(text: &str) -> String {
    escape(text)
}

fn link(to: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<a href=\"{}\">{}</a>", escape(to), escape(text)) }
}

/// What a [`link`] to `#id` leads to.
fn anchor(id: &str, text: &str) -> String {
    format!("<a id=\"{}\">{}</a>", escape(id), escape(text))
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
            unready: vec![evil.clone()],
        };
        let waited =
            Waited { endpoint: evil.clone(), why: evil.clone(), unready: vec![evil.clone()], ..Waited::default() };
        let ceremony = CeremonyStatus {
            waiting_for: vec![evil.clone()],
            rounds: vec![RoundStatus {
                waiting_for: vec![waited],
                since: Some(evil.clone()),
                ..RoundStatus::default()
            }],
            failure: Some(evil.clone()),
            ..CeremonyStatus::default()
        };
        let status =
            Status { servers: vec![server], problems: vec![evil], ceremonies: vec![ceremony], ..Status::default() };
        let html = page(&status);
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn the_page_names_who_is_waited_for_in_which_round_since_when_and_what_to_check() {
        let waited = Waited {
            server_id: "7".to_owned(),
            member: "2".to_owned(),
            trouble: Some("refused".to_owned()),
            why: "h:1 refuses the connection".to_owned(),
            check: "is stkr-server running".to_owned(),
            unready: vec!["clock: the clock of this machine is 9.0 s ahead of others'".to_owned()],
            ..Waited::default()
        };
        let complete = RoundStatus {
            round: "one_time_key".to_owned(),
            complete: Some("1772366399".to_owned()),
            came: "4".to_owned(),
            ..RoundStatus::default()
        };
        let waits = RoundStatus {
            round: "dealing_commitment".to_owned(),
            since: Some("1772366399".to_owned()),
            came: "3".to_owned(),
            waiting_for: vec![waited],
            ..RoundStatus::default()
        };
        let (key_id, attempt, state) = ("9".to_owned(), "1".to_owned(), "waiting".to_owned());
        let ceremony = CeremonyStatus {
            key_id,
            attempt,
            state,
            stalled: true,
            rounds: vec![complete, waits],
            ..CeremonyStatus::default()
        };
        let html = page(&Status { ceremonies: vec![ceremony], ..Status::default() });
        for line in [
            "Ceremony of key 9, attempt 1: stalled",
            "<li>one time key: 4 came, the last at 2026-03-01 11:59:59 UTC</li>",
            "<li>dealing commitment: server 7 (member 2, since 2026-03-01 11:59:59 UTC): h:1 refuses the connection. \
             Its operator should check: is stkr-server running. It says itself: clock: the clock of this machine is 9.0 s \
             ahead of others&#39;.</li>",
        ] {
            assert!(html.contains(line), "{line} is missing in {html}");
        }
    }

    #[test]
    fn the_page_says_of_a_reshare_who_gets_the_key_until_when_and_who_holds_it_up() {
        let waited = Waited {
            server_id: "4".to_owned(),
            member: "2".to_owned(),
            why: "<b>refuses</b>".to_owned(),
            check: "is stkr-server running".to_owned(),
            ..Waited::default()
        };
        let waits = RoundStatus {
            round: "reshare_dealing".to_owned(),
            since: Some("1772366399".to_owned()),
            came: "2".to_owned(),
            waiting_for: vec![waited],
            ..RoundStatus::default()
        };
        let drawn = ReshareStatus {
            key_id: "9".to_owned(),
            committee_epoch: "1".to_owned(),
            attempt: "0".to_owned(),
            state: "waiting".to_owned(),
            threshold: "3".to_owned(),
            seats: ["4", "2", "7", "1"].map(str::to_owned).to_vec(),
            dealers: ["4", "2", "6"].map(str::to_owned).to_vec(),
            deadline: Some("1772366400".to_owned()),
            handover: Some("1772367552".to_owned()),
            stalled: true,
            rounds: vec![waits],
            ..ReshareStatus::default()
        };
        let requested = ReshareStatus {
            state: "requested".to_owned(),
            threshold: "2".to_owned(),
            seats: ["4", "0"].map(str::to_owned).to_vec(),
            seed_block: Some("20".to_owned()),
            ..ReshareStatus::default()
        };
        let html = page(&Status { reshares: vec![drawn, requested], ..Status::default() });
        for line in [
            "Reshare of key 9 to committee 1, attempt 0: stalled",
            "<li>new committee: server 4, server 2, server 7, server 1 (3 sign)</li>",
            "<li>dealers: servers 4, 2, 6</li>",
            "<li>it can be finalised until 2026-03-01 12:00:00 UTC; then the new committee signs from 2026-03-01 12:19:12 UTC</li>",
            "<li>reshare dealing: server 4 (member 2, since 2026-03-01 11:59:59 UTC): &lt;b&gt;refuses&lt;/b&gt;. \
             Its operator should check: is stkr-server running.</li>",
            "<li>new committee: server 4, to be drawn (2 sign)</li>",
            "<li>it waits for its seed, block 20</li>",
        ] {
            assert!(html.contains(line), "{line} is missing in {html}");
        }
    }

    #[test]
    fn evidence_links_to_its_file_its_key_its_ceremony_and_the_transaction_that_proved_it() {
        let hash = format!("0x{}", "ab".repeat(32));
        let mut evidence = EvidenceLine {
            id: "7".to_owned(),
            server_id: Some("3".to_owned()),
            key_id: "9".to_owned(),
            attempt: Some("2".to_owned()),
            kind: "ceremony_equivocation".to_owned(),
            evidence: "0xc0ffee".to_owned(),
            signed: vec!["attestation of slot 100, source 10, target 12, root 0x01".to_owned(), "<b>".to_owned()],
            stage: "on_record".to_owned(),
            transaction: Some(hash.clone()),
            block: Some("41".to_owned()),
            reporter: Some("0xfeed".to_owned()),
        };
        let intent = IntentLine {
            id: "1".to_owned(),
            intent: "prove_fault/c0ffee".to_owned(),
            state: "confirmed".to_owned(),
            transaction: Some(hash.clone()),
            block: None,
            gas_used: None,
            note: None,
        };
        let mut status = Status { evidence: vec![evidence.clone()], intents: vec![intent], ..Status::default() };
        let html = page(&status);
        let ours = format!("<a href=\"#tx-{hash}\">{hash}</a>");
        for part in [
            "<a href=\"/v1/evidence/7\">0xc0ffee</a>",
            "<a href=\"#server-3\">server 3</a>",
            "<a href=\"#key-9\">9</a>",
            "<a href=\"/v1/ceremonies/9/2\">2</a>",
            "attestation of slot 100, source 10, target 12, root 0x01<br>&lt;b&gt;",
            "<td>on record</td>",
            &ours,
            &format!("<a id=\"tx-{hash}\">{hash}</a>"),
            "<td>41</td><td>0xfeed</td>",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        // Somebody else's transaction has no line here, a provider no server.
        (evidence.server_id, evidence.attempt) = (None, None);
        (status.intents, status.evidence) = (Vec::new(), vec![evidence]);
        let html = page(&status);
        assert!(html.contains(&format!("<td>{hash}</td>")) && html.contains("<td>a provider</td>"), "{html}");
        assert!(!html.contains(&ours) && !html.contains("/v1/ceremonies/"), "{html}");
    }

    #[test]
    fn what_others_reported_is_on_the_page_too() {
        let silence = FaultLine {
            kind: "unanswered_challenge".to_owned(),
            server_id: Some("3".to_owned()),
            key_id: "9".to_owned(),
            evidence: "0xc0ffee".to_owned(),
            charged: true,
            transaction: "0xabcd".to_owned(),
            block: "41".to_owned(),
            reporter: "0xfeed".to_owned(),
        };
        let provider = FaultLine { server_id: None, charged: false, ..silence.clone() };
        let html = page(&Status { faults: vec![silence, provider], ..Status::default() });
        for part in [
            "<h2>On record at the Court</h2>",
            "<td>unanswered challenge</td><td><a href=\"#server-3\">server 3</a></td><td><a href=\"#key-9\">9</a></td>",
            "<td>yes</td><td>0xabcd</td><td>41</td><td>0xfeed</td>",
            "<td>a provider</td>",
            "<td>recorded only</td>",
        ] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
    }
}
