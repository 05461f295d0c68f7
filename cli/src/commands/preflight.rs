//! `stkr ceremony preflight`: whether servers could hold a ceremony now, asked of them before anything starts.
//!
//! Each is called as relayers call it: TLS 1.3, and no certificate but the one on the chain. What it says of itself is compared with
//! what this machine sees; nobody signs it, and nothing follows from it but whom to call.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256},
};
use futures::future::join_all;
use serde::Serialize;
use stkr_chain::endpoint::{block, existing_block};
use stkr_node::{
    client::{ClientError, Patience, Peer, ServerClient, printable},
    clock,
    tls::{self, Fingerprint, Identity},
};
use stkr_protocol::api::{EndpointView, Info, Readiness, SeenBlock, View};
use stkr_sdk::{ServerInfo, ServerKind, ServerStatus, StkrError};

use crate::{
    context::{Client, Context},
    failure::Failure,
    output::plain_line,
};

/// How long one call may take; all servers are asked at once.
const PATIENCE: Patience = Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(10) };
/// Milliseconds by which two clocks may differ, either way: what servers and gateways go by ([`clock::BOUND`]).
const CLOCK_BOUND_MS: i64 = 2_000;
const _: () = assert!(CLOCK_BOUND_MS as f64 == clock::BOUND * 1_000.0);
/// Longest call whose clock is looked at, milliseconds: half of it is how wrong the look may be.
const LONGEST_LOOK_MS: u64 = 2_000;
/// Blocks by which a head may be behind ours: a slow endpoint, and the time between two questions.
const HEAD_BOUND: u64 = 8;
/// The same for the finalised block: three epochs.
const FINALIZED_BOUND: u64 = 96;

/// What the command prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// Whether every server is well.
    ready: bool,
    /// The chain as this machine's endpoint shows it.
    ours: Ours,
    servers: Vec<Row>,
}

/// Our own view, to compare with.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ours {
    chain_id: u64,
    registry: Address,
    version: &'static str,
    genesis: B256,
    head: u64,
    finalized: u64,
}

/// One server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    server_id: u32,
    endpoint: String,
    ready: bool,
    /// What is wrong and what to do about it, the gravest first.
    troubles: Vec<Trouble>,
    version: Option<String>,
    /// Milliseconds by which its clock is ahead of this machine's.
    clock_offset_ms: Option<i64>,
    /// Milliseconds by which that may be wrong: half of the call.
    clock_error_ms: Option<u64>,
    /// Of the endpoint that is furthest behind.
    head: Option<u64>,
    finalized: Option<u64>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trouble {
    /// `standing`, `reach`, `identity`, `version`, `clock`, `chain` or `ready`.
    check: &'static str,
    reason: String,
    what_to_do: String,
}

impl Trouble {
    fn new(check: &'static str, reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { check, reason: reason.into(), what_to_do: what_to_do.into() }
    }
}

/// What a server said, and when it was asked.
struct Said {
    info: Info,
    view: View,
    readiness: Readiness,
    /// Unix milliseconds of this machine's clock before the question for the view, and how long the answer took.
    asked_at_ms: u64,
    took_ms: u64,
}

pub(crate) async fn run(servers: &[u32], key: Option<u64>, context: &Context<'_>) -> Result<(), Failure> {
    let client = context.client().await?;
    let servers = servers_of(servers, key, &client).await?;
    tls::install_provider().map_err(|error| Failure::unavailable(error.to_string(), "try again"))?;
    let identity = Identity::generate("stkr").map_err(|error| Failure::unavailable(error.to_string(), "try again"))?;
    let ours = ours(&client).await?;
    let rows: Vec<Row> = join_all(servers.iter().map(|server| row(server, &ours, &client, &identity))).await;
    let report = Report { ready: rows.iter().all(|row| row.ready), ours, servers: rows };
    context.output.show(&report, lines);
    if report.ready {
        return Ok(());
    }
    let ill: Vec<String> =
        report.servers.iter().filter(|row| !row.ready).map(|row| row.server_id.to_string()).collect();
    let message =
        format!("{} of {} servers could not hold a ceremony now: {}", ill.len(), report.servers.len(), ill.join(", "));
    Err(Failure {
        code: "not_ready",
        ..Failure::unavailable(message, "tell their operators what is said of them, and run it again")
    })
}

/// Those that were named, the committee of a key, or all that a draw can name.
async fn servers_of(ids: &[u32], key: Option<u64>, client: &Client) -> Result<Vec<ServerInfo>, Failure> {
    let named = match key {
        Some(key) => client.keys().get(key).await?.committee,
        None => ids.to_vec(),
    };
    let mut servers = Vec::new();
    for id in &named {
        servers.push(client.servers().get(*id).await?);
    }
    if ids.is_empty() && key.is_none() {
        let can_be_drawn = |it: &ServerInfo| it.status == ServerStatus::Active && !it.locked_out;
        let all = client.servers().list().await?.into_iter();
        servers = all.filter(|server| server.kind == ServerKind::Online && can_be_drawn(server)).collect();
    }
    if servers.is_empty() {
        let reason = match key {
            Some(key) => format!("key {key} has no committee to ask"),
            None => "there is no online server that can be drawn".to_owned(),
        };
        return Err(StkrError::NotReady { reason }.into());
    }
    Ok(servers)
}

async fn ours(client: &Client) -> Result<Ours, Failure> {
    let unread = |error: stkr_chain::ChainError| Failure::unavailable(error.to_string(), "check the RPC endpoint");
    let read = async |tag| existing_block(client.provider(), tag).await.map_err(unread);
    let deployment = client.deployment();
    Ok(Ours {
        chain_id: deployment.chain_id,
        registry: deployment.key_registry,
        version: env!("CARGO_PKG_VERSION"),
        genesis: read(BlockNumberOrTag::Number(0)).await?.hash,
        head: read(BlockNumberOrTag::Latest).await?.number,
        finalized: read(BlockNumberOrTag::Finalized).await?.number,
    })
}

async fn row(server: &ServerInfo, ours: &Ours, client: &Client, identity: &Identity) -> Row {
    let mut row = Row {
        server_id: server.id,
        endpoint: server.endpoint.clone(),
        ready: false,
        troubles: standing(server).into_iter().collect(),
        version: None,
        clock_offset_ms: None,
        clock_error_ms: None,
        head: None,
        finalized: None,
    };
    match ask(server, identity).await {
        Err(error) => row.troubles.push(Trouble::new("reach", error.to_string(), error.operator_checks())),
        Ok(said) => {
            row.take(&said);
            row.troubles.extend(identity_of(&said.info, server, ours));
            row.troubles.extend(version(&said.info.version, ours.version));
            row.troubles.extend(time(row.clock_offset_ms, row.clock_error_ms));
            row.troubles.extend(chain(&said.view, ours, client).await);
            row.troubles.extend(said.readiness.reasons.iter().map(|it| {
                Trouble::new("ready", format!("it says itself: {}: {}", it.check, it.reason), what_to_do(&it.check))
            }));
        }
    }
    row.ready = row.troubles.is_empty();
    row
}

async fn ask(server: &ServerInfo, identity: &Identity) -> Result<Said, ClientError> {
    let fingerprint = Fingerprint(server.tls_fingerprint.0);
    let peer = Peer { server_id: server.id, endpoint: server.endpoint.clone(), fingerprint };
    let asked = ServerClient::new(identity, peer, PATIENCE)?;
    // The first call makes the connection, so that the second measures no handshake.
    let (info, readiness) = (asked.info().await?, asked.readiness().await?);
    // The view is asked for twice: the first one waits for the server's RPC endpoints, the second is at hand.
    asked.view().await?;
    let before = SystemTime::now();
    let view = asked.view().await?;
    let took = SystemTime::now().duration_since(before).unwrap_or(Duration::MAX);
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let asked_at_ms = milliseconds(before.duration_since(UNIX_EPOCH).unwrap_or_default());
    Ok(Said { info, view, readiness, asked_at_ms, took_ms: milliseconds(took) })
}

impl Row {
    fn take(&mut self, said: &Said) {
        self.version = Some(printable(&said.info.version));
        let middle = said.asked_at_ms.saturating_add(said.took_ms / 2);
        self.clock_offset_ms = Some(difference(said.view.time_ms, middle));
        self.clock_error_ms = Some(said.took_ms.div_ceil(2));
        let least = |of: fn(&EndpointView) -> Option<SeenBlock>| {
            said.view.endpoints.iter().filter_map(of).map(|block| block.number).min()
        };
        self.head = least(|seen| seen.head);
        self.finalized = least(|seen| seen.finalized);
    }
}

/// What the chain says against it.
fn standing(server: &ServerInfo) -> Option<Trouble> {
    let wait = "governance decides (stkr server history); no committee with it can finalise a key";
    if server.locked_out {
        return Some(Trouble::new("standing", "it is locked out", wait));
    }
    match server.status {
        ServerStatus::Active => None,
        status => Some(Trouble::new("standing", format!("it is {status}"), wait)),
    }
}

fn identity_of(info: &Info, server: &ServerInfo, ours: &Ours) -> Option<Trouble> {
    if (info.chain_id, info.registry) != (ours.chain_id, ours.registry) {
        let reason = format!("it works for chain {} and registry {}", info.chain_id, info.registry);
        return Some(Trouble::new("chain", reason, "its operator gives it the deployment file of this network"));
    }
    if info.signer != server.signer {
        let reason = format!("it signs as {}, and {} is registered", info.signer, server.signer);
        return Some(Trouble::new(
            "identity",
            reason,
            "its operator has mixed up two folders, or has to register the signer, or changed it and did not give the server the new key",
        ));
    }
    None
}

/// Versions that speak the same protocol: the same first number that is not 0, and all before it.
fn version(theirs: &str, ours: &str) -> Option<Trouble> {
    let same = |text: &str| {
        let core = text.split(['-', '+']).next().unwrap_or_default();
        let numbers: Option<Vec<u64>> = core.split('.').map(|part| part.parse().ok()).collect();
        let numbers = numbers.filter(|numbers| numbers.len() == 3)?;
        let counts = numbers.iter().position(|number| *number != 0).map_or(numbers.len(), |at| at.saturating_add(1));
        numbers.get(..counts).map(<[u64]>::to_vec)
    };
    if same(theirs).is_some() && same(theirs) == same(ours) {
        return None;
    }
    let reason = format!("it runs version {}, this is {ours}", printable(theirs));
    Some(Trouble::new(
        "version",
        reason,
        "run the same version everywhere; the changelog says what changed between them",
    ))
}

fn time(offset_ms: Option<i64>, error_ms: Option<u64>) -> Option<Trouble> {
    let (offset, error) = (offset_ms?, error_ms?);
    if error > LONGEST_LOOK_MS / 2 {
        let reason = format!("its clock cannot be compared: an answer takes {} ms", error.saturating_mul(2));
        return Some(Trouble::new("clock", reason, "load and network, then run it again"));
    }
    if offset.unsigned_abs() <= CLOCK_BOUND_MS.unsigned_abs() {
        return None;
    }
    let way = if offset > 0 { "ahead of" } else { "behind" };
    let reason = format!(
        "its clock is {} ms {way} this machine's (give or take {error} ms); {CLOCK_BOUND_MS} ms are the bound",
        offset.unsigned_abs()
    );
    Some(Trouble::new("clock", reason, "NTP there; if every server differs by as much, NTP here"))
}

/// Each of its RPC endpoints against ours.
async fn chain(view: &View, ours: &Ours, client: &Client) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    if view.endpoints.is_empty() {
        troubles.push(Trouble::new(
            "chain",
            "it names no RPC endpoint",
            "its operator looks at [chain] in its configuration",
        ));
    }
    for (number, seen) in (1..).zip(&view.endpoints) {
        let known = match seen.finalized {
            // What is final for it must be on our chain, as far as ours goes.
            Some(theirs) if theirs.number <= ours.head => {
                let tag = BlockNumberOrTag::Number(theirs.number);
                block(client.provider(), tag).await.ok().flatten().map(|block| block.hash)
            }
            _ => None,
        };
        troubles.extend(endpoint(number, seen, ours, known));
    }
    troubles
}

/// What is wrong with one endpoint; `known` is the hash of our block with the number of its finalised one.
fn endpoint(number: usize, seen: &EndpointView, ours: &Ours, known: Option<B256>) -> Option<Trouble> {
    let name = format!("its RPC endpoint {number}");
    let trouble =
        |reason: String, what_to_do: &str| Some(Trouble::new("chain", format!("{name} {reason}"), what_to_do));
    let other = "its operator gives it an endpoint of this chain";
    let (Some(genesis), Some(head)) = (seen.genesis, seen.head) else {
        return trouble("does not answer".to_owned(), "its operator looks at that node and at its log");
    };
    if genesis.hash != ours.genesis {
        return trouble(format!("is on another chain: its genesis is {}, ours {}", genesis.hash, ours.genesis), other);
    }
    let Some(finalized) = seen.finalized else {
        return trouble(
            "names no finalised block".to_owned(),
            "its operator looks whether that node has a consensus client",
        );
    };
    if known.is_some_and(|known| known != finalized.hash) {
        let reason = format!("takes another block {} for final than ours has there", finalized.number);
        return trouble(reason, other);
    }
    if head.number.saturating_add(HEAD_BOUND) < ours.head {
        let reason = format!("is behind: its head is block {}, ours {}", head.number, ours.head);
        return trouble(reason, "its operator waits until that node is synced");
    }
    if finalized.number.saturating_add(FINALIZED_BOUND) < ours.finalized {
        let reason = format!("finalises late: its finalised block is {}, ours {}", finalized.number, ours.finalized);
        return trouble(reason, "its operator looks at the consensus client of that node");
    }
    if finalized.number > ours.head || head.number > ours.head.saturating_add(HEAD_BOUND.saturating_mul(2)) {
        let reason = format!("is ahead of ours: its head is block {}, ours {}", head.number, ours.head);
        return trouble(reason, "look at the RPC endpoint of this machine, and run it again");
    }
    None
}

fn what_to_do(check: &str) -> &'static str {
    match check {
        "rpc" => "its operator looks at its RPC endpoints",
        "database" | "protection" => "its operator looks at its disk",
        "clock" => "NTP there",
        "registered" => "its operator registers it, or its signer (stkr server register, set-signer)",
        "certificate" => "its operator registers its certificate (stkr server set-endpoint)",
        _ => "its operator looks at its log",
    }
}

fn difference(one: u64, other: u64) -> i64 {
    let apart = i64::try_from(one.abs_diff(other)).unwrap_or(i64::MAX);
    if one >= other { apart } else { apart.saturating_neg() }
}

fn lines(report: &Report) -> String {
    let lines: Vec<String> = report.servers.iter().map(line).collect();
    lines.join("\n")
}

/// A tick, or what to do.
fn line(row: &Row) -> String {
    let name = format!("server {} ({})", row.server_id, row.endpoint);
    let line = match row.troubles.is_empty() {
        true => {
            let number = |it: Option<u64>| it.map_or_else(|| "?".to_owned(), |it| it.to_string());
            format!(
                "✓ {name}: version {}, clock {:+} ms, block {}, finalised {}",
                row.version.as_deref().unwrap_or("?"),
                row.clock_offset_ms.unwrap_or_default(),
                number(row.head),
                number(row.finalized)
            )
        }
        false => {
            let say = |it: &Trouble| format!("{} -> {}", it.reason, it.what_to_do);
            format!("✗ {name}: {}", row.troubles.iter().map(say).collect::<Vec<_>>().join("; "))
        }
    };
    plain_line(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(number: u64, byte: u8) -> Option<SeenBlock> {
        Some(SeenBlock { number, hash: B256::repeat_byte(byte) })
    }

    fn ours() -> Ours {
        Ours {
            chain_id: 31_337,
            registry: Address::repeat_byte(7),
            version: "0.3.1",
            genesis: B256::repeat_byte(1),
            head: 1_000,
            finalized: 900,
        }
    }

    fn good() -> EndpointView {
        EndpointView { genesis: seen(0, 1), finalized: seen(900, 2), head: seen(1_000, 3) }
    }

    #[test]
    fn an_endpoint_on_another_chain_behind_ahead_or_without_finality_is_named_and_a_good_one_is_not() {
        let known = Some(B256::repeat_byte(2));
        let cases = [
            (good(), known, None),
            (EndpointView { head: seen(1_000 - HEAD_BOUND, 3), ..good() }, known, None),
            (EndpointView { finalized: seen(900 - FINALIZED_BOUND, 2), ..good() }, known, None),
            (
                EndpointView { head: seen(999 - HEAD_BOUND, 3), ..good() },
                known,
                Some("is behind: its head is block 991"),
            ),
            (
                EndpointView { finalized: seen(803, 2), ..good() },
                known,
                Some("finalises late: its finalised block is 803"),
            ),
            (EndpointView { finalized: None, ..good() }, None, Some("names no finalised block")),
            (EndpointView { genesis: seen(0, 9), ..good() }, known, Some("is on another chain")),
            (EndpointView { finalized: seen(900, 8), ..good() }, known, Some("takes another block 900 for final")),
            (EndpointView { head: None, ..good() }, known, Some("does not answer")),
            (
                EndpointView { finalized: seen(1_001, 2), head: seen(1_010, 3), ..good() },
                None,
                Some("is ahead of ours"),
            ),
            (EndpointView::default(), None, Some("does not answer")),
        ];
        for (seen, known, says) in cases {
            let trouble = endpoint(2, &seen, &ours(), known);
            let (reason, expected) =
                (trouble.map(|it| it.reason), says.map(|says| format!("its RPC endpoint 2 {says}")));
            match (&reason, &expected) {
                (None, None) => {}
                (Some(reason), Some(expected)) => assert!(reason.starts_with(expected), "{reason}"),
                _ => panic!("{reason:?} and not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_clock_counts_as_wrong_beyond_the_bound_either_way_and_is_not_judged_by_a_slow_answer() {
        let reason = |offset, error| time(Some(offset), Some(error)).map(|it| it.reason);
        assert_eq!((reason(0, 3), reason(2_000, 3), reason(-2_000, 3)), (None, None, None));
        assert!(reason(2_001, 3).unwrap().starts_with("its clock is 2001 ms ahead of"));
        assert!(reason(-90_000, 3).unwrap().starts_with("its clock is 90000 ms behind"));
        assert!(reason(0, 1_001).unwrap().contains("an answer takes 2002 ms"));
        assert_eq!((difference(5, 7), difference(7, 5), difference(0, u64::MAX)), (-2, 2, -i64::MAX));
    }

    #[test]
    fn versions_fit_together_up_to_the_first_number_that_is_not_zero() {
        for (theirs, ours, fits) in [
            ("0.1.0", "0.1.7", true),
            ("0.1.0", "0.2.0", false),
            ("1.2.3", "1.9.0", true),
            ("1.2.3-rc1", "1.2.3", true),
            ("2.0.0", "1.0.0", false),
            ("0.0.1", "0.0.2", false),
            ("0.1", "0.1.0", false),
            ("x", "x", false),
            ("", "", false),
        ] {
            assert_eq!(version(theirs, ours).is_none(), fits, "{theirs} and {ours}");
        }
        let long = version(&"1\n".repeat(999), "0.1.0").unwrap().reason;
        assert!(long.len() < 300 && !long.contains('\n'), "{long}");
    }

    #[test]
    fn whoever_is_another_server_or_of_another_network_is_told_apart() {
        let server = ServerInfo {
            id: 3,
            operator: Address::ZERO,
            signer: Address::repeat_byte(3),
            status: ServerStatus::Active,
            kind: ServerKind::Online,
            seats: 0,
            bond: alloy::primitives::U256::ZERO,
            unbonding_ends: 0,
            locked_out: false,
            terms: 0,
            tls_fingerprint: B256::ZERO,
            endpoint: String::new(),
        };
        let info = Info {
            server_id: Some("3".to_owned()),
            signer: server.signer,
            version: String::new(),
            chain_id: 31_337,
            registry: Address::repeat_byte(7),
        };
        let check = |info: &Info| identity_of(info, &server, &ours()).map(|it| it.check);
        assert_eq!(check(&info), None);
        assert_eq!(check(&Info { signer: Address::ZERO, ..info.clone() }), Some("identity"));
        assert_eq!(check(&Info { chain_id: 1, ..info.clone() }), Some("chain"));
        assert_eq!(check(&Info { registry: Address::ZERO, ..info }), Some("chain"));
        assert_eq!(standing(&server), None);
        assert_eq!(standing(&ServerInfo { locked_out: true, ..server.clone() }).map(|it| it.check), Some("standing"));
        let leaving = ServerInfo { status: ServerStatus::Leaving, ..server };
        assert_eq!(standing(&leaving).map(|it| it.check), Some("standing"));
    }

    #[test]
    fn a_server_is_one_line_whatever_it_says_of_itself() {
        let row = |troubles| Row {
            server_id: 3,
            endpoint: "https://x:1\n✓ server 4".to_owned(),
            ready: false,
            troubles,
            version: Some("0.1.0".to_owned()),
            clock_offset_ms: Some(-12),
            clock_error_ms: Some(3),
            head: Some(9),
            finalized: None,
        };
        let good = line(&row(Vec::new()));
        assert!(
            good.starts_with("✓ server 3 (") && good.ends_with("version 0.1.0, clock -12 ms, block 9, finalised ?")
        );
        let bad = line(&row(vec![Trouble::new("ready", "it says itself: rpc: a\nb", "look")]));
        assert!(bad.starts_with("✗ server 3 (") && bad.ends_with("b -> look"), "{bad}");
        assert!(!good.contains('\n') && !bad.contains('\n'));
    }
}
