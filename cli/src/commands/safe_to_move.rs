//! `stkr key safe-to-move`: from when on somebody else may sign for a validator.
//!
//! A full signature needs t of n partials. Of the n servers any n-t+1 have one in common with any t, so once that many have
//! said how far they signed, every signature that exists is at or below the highest watermark among them. Each further answer
//! makes up for one that lies.

use std::time::Duration;

use alloy::primitives::{Address, Bytes};
use futures::future::join_all;
use serde::Serialize;
use stkr_node::{
    client::{Patience, Peer, ServerClient},
    tls::{self, Fingerprint, Identity},
};
use stkr_protocol::api::{Watermark, Watermarks, WatermarksReply};
use stkr_sdk::{KeyInfo, KeyState, PublicKey, ServerInfo};

use crate::{
    context::{Client, Context},
    failure::Failure,
    output::{record, table},
};

/// How long one server may take; all are asked at once.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(10) };

/// What the command prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    key_id: u64,
    public_key: Bytes,
    threshold: u8,
    members: u8,
    /// Who serves it; nothing where nobody may.
    served_by: Option<ServedBy>,
    servers: Vec<Row>,
    /// Servers whose watermark counts.
    answered: usize,
    /// n-t+1.
    needed: usize,
    /// How many of the answers may be lies without hiding a signature; nothing with too few.
    may_lie: Option<usize>,
    /// First slot of a block and first target epoch of an attestation that nobody can have signed; nothing with too few answers.
    safe_from: Option<SafeFrom>,
    /// The same for people.
    verdict: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServedBy {
    duty_key: Address,
    assignment: u64,
    /// Provider of a pool's key, owner of a dealt one.
    account: Option<Address>,
    pool_id: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct SafeFrom {
    slot: u64,
    epoch: u64,
}

/// One server of the committee.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    server_id: u32,
    index: u64,
    endpoint: String,
    /// Whether it answered at all.
    reachable: bool,
    /// Whether its watermark counts: its slashing protection knows the key and vouches for the history.
    counts: bool,
    low: Option<Mark>,
    high: Option<Mark>,
    /// Assignment that it serves now.
    assignment: Option<u64>,
    /// Why it does not count.
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    slot: Option<u64>,
    source_epoch: Option<u64>,
    target_epoch: Option<u64>,
}

impl From<Watermark> for Mark {
    fn from(mark: Watermark) -> Self {
        Self { slot: mark.slot, source_epoch: mark.source_epoch, target_epoch: mark.target_epoch }
    }
}

pub(crate) async fn run(key: &str, context: &Context<'_>) -> Result<(), Failure> {
    let client = context.client().await?;
    let report = report(key, &client).await?;
    context.output.show(&report, show);
    if report.safe_from.is_some() {
        return Ok(());
    }
    let hint = "ask the operators of the servers that did not answer, and run it again";
    Err(Failure::unavailable(report.verdict, hint))
}

async fn report(key: &str, client: &Client) -> Result<Report, Failure> {
    let id = id_of(key, client).await?;
    let info = client.keys().get(id).await?;
    let (KeyState::Live, Some(public_key)) = (info.state, info.public_key.clone()) else {
        let hint = "only a Live key signs duties; `stkr key show` says more";
        return Err(Failure { code: "not_live", ..Failure::usage(format!("key {id} is {}", info.state), hint) });
    };
    let servers = servers(&info, &public_key, client).await?;
    let marks: Vec<Mark> = servers.iter().filter(|row| row.counts).filter_map(|row| row.high).collect();
    let (answered, needed) = (marks.len(), usize::from(info.members.saturating_sub(info.threshold)).saturating_add(1));
    let safe_from = safe_from(&marks, needed);
    Ok(Report {
        key_id: id,
        public_key,
        threshold: info.threshold,
        members: info.members,
        served_by: served_by(id, client).await?,
        verdict: verdict(safe_from, answered, needed, info.members),
        may_lie: answered.checked_sub(needed),
        servers,
        answered,
        needed,
        safe_from,
    })
}

/// A number is an id; anything longer is a public key.
async fn id_of(key: &str, client: &Client) -> Result<u64, Failure> {
    if let Ok(id) = key.parse() {
        return Ok(id);
    }
    let digits = key.strip_prefix("0x").unwrap_or(key);
    let point = hex::decode(digits).ok().and_then(|bytes| PublicKey::from_compressed(&bytes).ok());
    let wrong = || Failure::usage("the key is neither an id nor a public key", "give a number, or 48 bytes in hex");
    Ok(client.keys().id_of(&point.ok_or_else(wrong)?).await?)
}

async fn served_by(id: u64, client: &Client) -> Result<Option<ServedBy>, Failure> {
    let Some(assignment) = client.keys().duty_assignment(id).await? else { return Ok(None) };
    let pool_id = client.pools().of_key(id).await?;
    let account = match pool_id {
        Some(pool) => Some(client.pools().get(pool).await?.provider),
        None => client.keys().dealt_owner(id).await?,
    };
    Ok(Some(ServedBy { duty_key: assignment.duty_key, assignment: assignment.number, account, pool_id }))
}

/// Asks all members at once.
async fn servers(info: &KeyInfo, public_key: &Bytes, client: &Client) -> Result<Vec<Row>, Failure> {
    tls::install_provider().map_err(|error| Failure::unavailable(error.to_string(), "try again"))?;
    let identity = Identity::generate("stkr").map_err(|error| Failure::unavailable(error.to_string(), "try again"))?;
    let mut members = Vec::new();
    for id in &info.committee {
        members.push(client.servers().get(*id).await?);
    }
    let rows = (1..).zip(members).map(|(index, server)| row(index, server, info.id, public_key, &identity));
    Ok(join_all(rows).await)
}

async fn row(index: u64, server: ServerInfo, key_id: u64, public_key: &Bytes, identity: &Identity) -> Row {
    let ServerInfo { id, endpoint, tls_fingerprint, .. } = server;
    let mut row = Row {
        server_id: id,
        index,
        endpoint: endpoint.clone(),
        reachable: false,
        counts: false,
        low: None,
        high: None,
        assignment: None,
        reason: None,
    };
    let peer = Peer { server_id: id, endpoint, fingerprint: Fingerprint(tls_fingerprint.0) };
    let asked = match ServerClient::new(identity, peer, PATIENCE) {
        Ok(client) => client.watermarks(&[key_id]).await,
        Err(error) => Err(error),
    };
    row.reachable = asked.is_ok();
    match asked.map(|mut replies| replies.pop()) {
        Err(error) => row.reason = Some(error.to_string()),
        Ok(Some(WatermarksReply::Known(said))) => row.take(said, public_key),
        Ok(Some(WatermarksReply::Refused(refused))) => row.reason = Some(refused.refusal.to_string()),
        Ok(None) => row.reason = Some("it says nothing of the key".to_owned()),
    }
    row
}

impl Row {
    fn take(&mut self, said: Watermarks, public_key: &Bytes) {
        let is_it = u64::from(said.index.get()) == self.index && said.pubkey.as_slice() == public_key.as_ref();
        self.counts = said.may_sign && is_it;
        (self.low, self.high) = (Some(said.low.into()), Some(said.high.into()));
        self.assignment = said.assignment.map(|serving| serving.number);
        self.reason = if is_it { said.reason } else { Some("it speaks of another key or seat".to_owned()) };
    }
}

/// The first duties above every watermark; nothing where a signature could exist of which none of those that answered knows.
fn safe_from(marks: &[Mark], needed: usize) -> Option<SafeFrom> {
    let after =
        |of: fn(&Mark) -> Option<u64>| marks.iter().filter_map(of).max().map_or(0, |high| high.saturating_add(1));
    (marks.len() >= needed).then(|| SafeFrom { slot: after(|mark| mark.slot), epoch: after(|mark| mark.target_epoch) })
}

fn verdict(safe_from: Option<SafeFrom>, answered: usize, needed: usize, members: u8) -> String {
    let Some(SafeFrom { slot, epoch }) = safe_from else {
        return format!(
            "{answered} of {members} servers answered and {needed} must: a signature may exist that none of them knows of"
        );
    };
    let spare = answered.saturating_sub(needed);
    format!(
        "once the present validator clients and gateways have stopped: blocks from slot {slot} on and attestations with a \
         target from epoch {epoch} on are safe to sign elsewhere; {answered} of {members} servers answered, so every \
         signature is known even if {spare} of them lied"
    )
}

fn show(report: &Report) -> String {
    let served = report.served_by.as_ref();
    let account = served.and_then(|it| it.account).map_or_else(|| "-".to_owned(), |account| account.to_string());
    let by = served.map_or_else(|| "nobody".to_owned(), |it| format!("duty key {}", it.duty_key));
    let head = record(&[
        ("key", report.key_id.to_string()),
        ("public key", report.public_key.to_string()),
        ("shares", format!("{} of {}", report.threshold, report.members)),
        ("served by", by),
        ("assignment", served.map_or_else(|| "-".to_owned(), |it| it.assignment.to_string())),
        ("provider or owner", account),
    ]);
    let rows: Vec<Vec<String>> = report.servers.iter().map(Row::cells).collect();
    let headings = ["SERVER", "LOW SLOT", "LOW EPOCHS", "HIGH SLOT", "HIGH EPOCHS", "SERVES", "STATE"];
    format!("{head}\n\n{}\n\n{}", table(&headings, &rows), report.verdict)
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let epochs = |mark: Option<Mark>| match mark {
            Some(Mark { source_epoch: Some(source), target_epoch: Some(target), .. }) => {
                format!("{source} -> {target}")
            }
            _ => "-".to_owned(),
        };
        vec![
            self.server_id.to_string(),
            number(self.low.and_then(|mark| mark.slot)),
            epochs(self.low),
            number(self.high.and_then(|mark| mark.slot)),
            epochs(self.high),
            number(self.assignment),
            self.reason.clone().unwrap_or_else(|| "counts".to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(slot: Option<u64>, target_epoch: Option<u64>) -> Mark {
        Mark { slot, source_epoch: target_epoch.map(|epoch| epoch.saturating_sub(1)), target_epoch }
    }

    #[test]
    fn the_highest_watermark_counts_and_fewer_than_meet_every_quorum_say_nothing() {
        let marks = [mark(None, Some(9)), mark(Some(70), Some(12)), mark(Some(5), None)];
        // 3 of 4: any two servers meet any three that signed.
        assert_eq!(safe_from(&marks, 2), Some(SafeFrom { slot: 71, epoch: 13 }));
        assert_eq!(safe_from(&marks[..1], 2), None);
        assert_eq!(safe_from(&marks[..2], 2), Some(SafeFrom { slot: 71, epoch: 13 }));
        assert_eq!(safe_from(&[mark(None, None), mark(None, None)], 2), Some(SafeFrom { slot: 0, epoch: 0 }));
        assert!(verdict(None, 1, 2, 4).contains("1 of 4 servers answered and 2 must"));
        assert!(verdict(safe_from(&marks, 2), 3, 2, 4).contains("even if 1 of them lied"));
    }
}
