//! A withdrawal key goes to another committee with the help of two servers without network: an online member stops and is voted silent by
//! the others, files go to and fro, and the new committee changes a pool's credentials. At the end the old shares are erased.

use alloy::network::EthereumWallet;
use alloy::primitives::U256;
use eyre::{Result, ensure, eyre};
use serde_json::{Value, json};
use stkr_chain::bindings::{KeyRegistry, Micropools, Resharing, WithdrawalKeys};
use stkr_core::{PublicKey, Signature, verify};
use stkr_e2e::anvil::advance_time;
use stkr_e2e::beacon::unix_seconds;
use stkr_e2e::offline::OfflineServer;
use stkr_e2e::reshare::{SHORTEST_WINDOW, TO_HANDOVER_BY_HAND};
use stkr_e2e::{Network, Options};
use stkr_protocol::handover::KEEP_PAST_SHARES;

/// 4 online and 2 offline members.
const KEY: (u8, u8) = (5, 6);
const VALIDATOR: u64 = 1_234_567;
/// Seconds by which the handover is in the past of the servers' clocks when it is drawn.
const PAST: u64 = 300;
/// What a member without network that deals and stays signs.
const SIGNED: [&str; 3] = ["reshare_keys", "reshare_dealing", "reshare_acknowledgement"];

/// Where a member without network is killed in its first visit, in this order.
const KILLED_AT: [&str; 6] = [
    "offline.confirmed",
    "server.reshare_unbegun",
    "server.reshare_begun",
    "server.reshare_keys_unwritten",
    "server.reshare_keys_written",
    "offline.answer_unwritten",
];
const FIRST_ANSWER: &str = "first-answer.json";

/// A network with a pool whose withdrawal key is held by four online servers and two without network.
struct World {
    network: Network,
    offline: [OfflineServer; 2],
    wallet: EthereumWallet,
    key: u64,
    pool: u64,
    first: KeyRegistry::KeyFinalised,
    _dir: tempfile::TempDir,
}

async fn world() -> Result<World> {
    let dir = tempfile::tempdir()?;
    let behind = TO_HANDOVER_BY_HAND + PAST;
    let options = Options { servers: 6, block_ms: 500, behind, reshares: true, ..Options::new(dir.path()) };
    let network = Network::start(options).await?;
    let offline = network.two_offline_servers().await?;
    let (provider, key, first) = network.providers_withdrawal_key(&offline, KEY).await?;
    let (stkr, wallet) = (network.stkr().await?, EthereumWallet::from(provider));
    let pool = stkr.pools().open_with_withdrawal_key(3, 4, key).await?.send_with(&wallet).await?.value;
    network.fill_pool(pool, 4).await?;
    network.event::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    Ok(World { network, offline, wallet, key, pool, first, _dir: dir })
}

impl World {
    /// Positions of the online members of the first committee.
    fn online(&self) -> Vec<usize> {
        self.first.committee.iter().filter_map(|id| self.network.position_of(*id).ok()).collect()
    }

    /// One online member stops, and the five others vote that it is silent: three of them alone are too few.
    async fn stop_a_member(&mut self) -> Result<usize> {
        let (of, until) = ((self.key, 0), unix_seconds()? + 24 * 3600);
        let online = self.online();
        ensure!(online.len() == 4, "{:?}", self.first.committee);
        let silent = online[1];
        let silent_id = self.network.servers[silent].id;
        self.network.kill_server(silent);
        let mut votes = self.network.votes(of, &online, silent, until).await?;
        let alone = self.network.show_votes(self.key, &votes).await;
        ensure!(alone.is_err(), "three votes of six were enough");
        for server in &self.offline {
            votes.push(server.vote_silent(of, silent_id, until)?);
        }
        self.network.show_votes(self.key, &votes).await?;
        Ok(silent)
    }

    /// Files that are not what they should be: one sentence each, and nothing changes.
    async fn refuses_other_files(&self, server: &OfflineServer, other: &OfflineServer) -> Result<()> {
        let request = self.network.offline_request(server.id, self.key).await?;
        ensure!(request["type"] == json!("stkr-offline-reshare-request"), "{}", request["type"]);
        server.bring("good.json", &request.to_string())?;
        let block = self.network.compared(server, "good.json").await?;
        let before = server.memory()?;
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut copy = request.clone();
            change(&mut copy);
            copy.to_string()
        };
        let hash = json!(format!("0x{:064x}", 7));
        let swap = |it: &mut Value, list: &str| {
            let all = it["facts"][list].as_array_mut().map(|all| all.swap(0, 1));
            assert!(all.is_some(), "no {list}");
        };
        let cases = [
            (
                "another server",
                changed(&|it| it["about"]["server"] = json!(other.id.to_string())),
                "carry it to the other",
            ),
            ("another chain", changed(&|it| it["about"]["chainId"] = json!("1")), "is for chain 1"),
            ("another attempt", changed(&|it| it["about"]["attempt"] = json!("1")), "or another draw of it"),
            ("another epoch", changed(&|it| it["about"]["committeeEpoch"] = json!("2")), "or another draw of it"),
            ("another draw", changed(&|it| it["about"]["draft"] = hash.clone()), "or another draw of it"),
            ("another key", changed(&|it| it["about"]["keyId"] = json!("2")), "does not lead"),
            ("other seats", changed(&|it| swap(it, "seats")), "are not those that the chain committed to"),
            (
                "other dealers",
                changed(&|it| it["facts"]["dealers"] = json!(63)),
                "are not those that the chain committed to",
            ),
            ("another committee", changed(&|it| swap(it, "committee")), "is not that of key"),
            ("another signer", changed(&|it| swap(it, "signers")), "is not that of key"),
            (
                "another deadline",
                changed(&|it| it["facts"]["resharing"]["storageProof"][0]["value"] = json!("0x7")),
                "does not lead",
            ),
            ("another version", changed(&|it| it["version"] = json!("1")), "this program reads version 2"),
            ("another kind", changed(&|it| it["type"] = json!("stkr-offline-answer")), "not a stkr-offline-request"),
            ("cut off", request.to_string()[..4_000].to_owned(), "no file of Stkr"),
        ];
        for (what, text, sentence) in cases {
            server.bring("bad.json", &text)?;
            let (exit, said) =
                server.refusal("answer", &["bad.json", "--out", "out.json", "--yes", "--block", &block])?;
            ensure!(exit == 1 && said.contains(sentence), "{what}: {exit}, {said}");
            ensure!(!server.dir.join("out.json").exists() && server.memory()? == before, "{what} changed something");
        }
        let (exit, said) = server.refusal("answer", &["good.json", "--out", "out.json", "--yes"])?;
        ensure!(exit == 2 && said.contains("give its hash with --block"), "{exit} {said}");
        let wrong = format!("0x{:064x}", 7);
        let (exit, said) = server.refusal("answer", &["good.json", "--out", "out.json", "--yes", "--block", &wrong])?;
        ensure!(exit == 1 && said.contains("must not be answered"), "{exit} {said}");
        let (exit, said) = server.refusal("erase", &["good.json", "--yes", "--block", &block])?;
        ensure!(exit == 1 && said.contains("not a stkr-offline-committees"), "{exit} {said}");
        ensure!(server.memory()? == before, "a refusal changed something");
        Ok(())
    }

    /// The first visit, in which the program is killed at each of its points: then it says what it would have said, and nothing else.
    async fn first_visit_through_kills(&self, server: &OfflineServer) -> Result<()> {
        let (request, answer) = ("killed.json", "killed-answer.json");
        server.bring(request, &self.network.offline_request(server.id, self.key).await?.to_string())?;
        let block = self.network.compared(server, request).await?;
        let args = [request, "--out", answer, "--yes", "--block", &block];
        for point in KILLED_AT {
            server.killed_at(point, "answer", &args)?;
            ensure!(!server.dir.join(answer).exists(), "an answer of what was killed at {point}");
        }
        let said = server.json("answer", &args)?;
        ensure!(said["signs"] == json!([]), "it signed again: {said}");
        let said = std::fs::read_to_string(server.dir.join(answer))?;
        let (status, body) = self.network.hand_in_answer(&said).await?;
        ensure!((status, &body) == (200, &json!({"new": 1})), "{status} {body}");
        std::fs::rename(server.dir.join(answer), server.dir.join(FIRST_ANSWER))?;
        Ok(())
    }

    /// A relayer takes what the server wrote for this reshare, and nothing else.
    async fn relayer_refuses_other_answers(&self, server: &OfflineServer, other: &OfflineServer) -> Result<()> {
        let answer = std::fs::read_to_string(server.dir.join(FIRST_ANSWER))?;
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(answer["type"] == json!("stkr-offline-reshare-answer"), "{answer}");
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut copy = answer.clone();
            change(&mut copy);
            copy.to_string()
        };
        let cases = [
            ("another server's name", changed(&|it| it["about"]["server"] = json!(other.id.to_string())), 422),
            ("another chain", changed(&|it| it["about"]["chainId"] = json!("1")), 422),
            ("another attempt", changed(&|it| it["about"]["attempt"] = json!("1")), 404),
            ("another phase", changed(&|it| it["response"]["phase"] = json!("failed")), 422),
            ("what it wrote, again", answer.to_string(), 200),
        ];
        for (what, text, expected) in cases {
            let (status, body) = self.network.hand_in_answer(&text).await?;
            ensure!(status == expected, "{what}: {status} {body}");
        }
        Ok(())
    }

    /// The change of the pool's credentials, signed by one machine without network, which is enough.
    async fn change_credentials(&self, server: &OfflineServer) -> Result<()> {
        let stkr = self.network.stkr().await?;
        stkr.withdrawal_keys().order_change(self.pool, VALIDATOR).await?.send_with(&self.wallet).await?;
        let request = self.network.change_request(server.id, self.key).await?;
        server.bring("change.json", &request.to_string())?;
        let block = self.network.compared(server, "change.json").await?;
        server.json("answer", &["change.json", "--out", "changed.json", "--yes", "--block", &block])?;
        let answer = std::fs::read_to_string(server.dir.join("changed.json"))?;
        let signed: Value = serde_json::from_str(&answer)?;
        ensure!(signed["answers"][0]["signed"]["committeeEpoch"] == json!("1"), "{signed}");
        let (status, body) = self.network.hand_in_answer(&answer).await?;
        ensure!((status, &body) == (200, &json!({"new": 1})), "{status} {body}");
        let contract = self.network.deployment.withdrawal_keys();
        let shown = self.network.event::<WithdrawalKeys::ChangeShown>(contract, self.pool).await?.inner;
        ensure!((shown.keyId, shown.validatorIndex) == (U256::from(self.key), VALIDATOR), "{shown:?}");
        let group_key = PublicKey::from_eip2537(&self.first.points[self.first.points.len() - 128..])?;
        let change = stkr.withdrawal_keys().changes(self.pool).await?.remove(0);
        ensure!(
            verify(&group_key, &change.signing_root.0, &Signature::from_compressed(&shown.signature)?),
            "the emitted signature is not that of the key that the first committee made"
        );
        Ok(())
    }

    /// Committee epochs of the shares of the key that a machine has.
    fn shares(&self, server: &OfflineServer) -> Result<Vec<String>> {
        let status = server.json("status", &[])?;
        let shares = status["shares"].as_array().ok_or_else(|| eyre!("no shares in {status}"))?;
        let of = shares.iter().filter(|it| it["keyId"] == json!(self.key.to_string()));
        Ok(of.filter_map(|it| it["committeeEpoch"].as_str().map(str::to_owned)).collect())
    }

    /// What a machine is brought when nothing waits for it.
    async fn bring_committees(&self, server: &OfflineServer) -> Result<(Value, String)> {
        let file = self.network.offline_request(server.id, self.key).await?;
        ensure!(file["type"] == json!("stkr-offline-committees"), "{}", file["type"]);
        server.bring("committees.json", &file.to_string())?;
        Ok((server.json("show", &["committees.json"])?, self.network.compared(server, "committees.json").await?))
    }
}

#[tokio::test]
async fn two_servers_without_network_reshare_a_withdrawal_key_and_its_new_committee_signs() -> Result<()> {
    let mut world = world().await?;
    world.network.shorten_the_window().await?;
    let silent = world.stop_a_member().await?;
    let resharing = world.network.deployment.resharing();
    let drawn = world.network.event::<Resharing::ReshareDrawn>(resharing, world.key).await?.inner;
    let head = stkr_chain::endpoint::block(&world.network.provider()?, alloy::eips::BlockNumberOrTag::Latest).await?;
    let left = drawn.deadline.to::<u64>().saturating_sub(head.map_or(0, |block| block.timestamp));
    ensure!(left > 6 * SHORTEST_WINDOW, "whoever carries files has seven windows, not {left} s");

    let (a, b) = (&world.offline[0], &world.offline[1]);
    world
        .network
        .until("a reshare waits for files", || async {
            let due = world.network.relayer_json(0, &format!("/v1/offline/{}", a.id)).await?;
            Ok(due["keys"] == json!([world.key.to_string()]))
        })
        .await?;
    world.refuses_other_files(a, b).await?;
    world.first_visit_through_kills(a).await?;
    world.relayer_refuses_other_answers(a, b).await?;
    let signed = world.network.carry_reshare_to_offline_servers(&world.offline, (world.key, 1)).await?;
    for (server, before) in [(a, vec![json!("reshare_keys")]), (b, Vec::new())] {
        let visits = signed.get(&server.id).into_iter().flatten().filter_map(Value::as_array).flatten().cloned();
        let all: Vec<Value> = before.into_iter().chain(visits).collect();
        ensure!(all == SIGNED.map(Value::from), "server {} signed {all:?}", server.id);
    }

    // The same key, of other shares; every seat but that of the silent member stayed.
    let made = world.network.reshared(world.key).await?.remove(0).inner;
    let silent_id = world.network.servers[silent].id;
    let stayed = world.first.committee.iter().zip(&made.committee.servers);
    for (old, new) in stayed {
        ensure!((old == new) != (*old == silent_id), "{:?} to {:?}", world.first.committee, made.committee.servers);
    }
    let of = made.committee.points.len() - 128;
    ensure!(made.committee.points[of..] == world.first.points[of..], "another group key");
    ensure!(made.committee.points[..of] != world.first.points[..of], "the old shares");
    world.network.pass_the_handover(world.key).await?;
    world.change_credentials(b).await?;

    // Both shares are there until a week after the handover; then a block proves that the old one is to go.
    ensure!(world.shares(a)? == ["0", "1"], "{:?}", world.shares(a)?);
    let (shown, block) = world.bring_committees(a).await?;
    ensure!(shown["erased"] == json!([]), "{shown}");
    world
        .network
        .until("nothing is erased too early", || async {
            let kept = a.json("erase", &["committees.json", "--yes", "--block", &block])?;
            Ok(kept["erased"] == json!([]))
        })
        .await?;
    advance_time(&world.network.provider()?, KEEP_PAST_SHARES + 60).await?;
    let over = made.handover.to::<u64>() + KEEP_PAST_SHARES;
    world
        .network
        .until("a week after the handover is final", || async {
            let provider = world.network.provider()?;
            let block = stkr_chain::endpoint::block(&provider, alloy::eips::BlockNumberOrTag::Finalized).await?;
            Ok(block.is_some_and(|block| block.timestamp >= over))
        })
        .await?;
    let (shown, block) = world.bring_committees(a).await?;
    ensure!(shown["erased"][0]["committeeEpoch"] == json!("0"), "{shown}");
    let wrong = format!("0x{:064x}", 7);
    let (exit, said) = a.refusal("erase", &["committees.json", "--yes", "--block", &wrong])?;
    ensure!(exit == 1 && said.contains("must not be answered"), "{exit} {said}");
    let (exit, said) = a.refusal("erase", &["committees.json", "--yes"])?;
    ensure!(exit == 2 && said.contains("give its hash with --block"), "{exit} {said}");
    ensure!(world.shares(a)? == ["0", "1"], "erased without a hash that was compared");
    // Killed before it, the share is there; killed after it, it is gone, and giving the command again does nothing more.
    let args = ["committees.json", "--yes", "--block", &block];
    a.killed_at("offline.share_unerased", "erase", &args)?;
    ensure!(world.shares(a)? == ["0", "1"], "{:?}", world.shares(a)?);
    a.killed_at("offline.share_erased", "erase", &args)?;
    ensure!(world.shares(a)? == ["1"], "{:?}", world.shares(a)?);
    ensure!(a.json("erase", &args)?["erased"] == json!([]), "twice");
    Ok(())
}
