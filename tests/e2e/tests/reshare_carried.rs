//! A key that goes to another committee and stays the same key: a member is silent, its seat moves to a spare server, and what the
//! validator client asks for is signed before and after the handover without it.
//!
//! Between a draw and its handover lie half an hour at least. The chain's clock of these tests is so far behind that of the machine
//! that the handover is in the past of the validators as soon as it is drawn; then the chain's clock moves on to it.

use std::collections::BTreeSet;
use std::process::Command;

use alloy::primitives::U256;
use eyre::{Result, ensure, eyre};
use serde_json::Value;
use stkr_e2e::gateway::{Gateway, init, key_of, network_of, start};
use stkr_e2e::network::{PATIENCE, http, output};
use stkr_e2e::process::binary;
use stkr_e2e::reshare::TO_HANDOVER;
use stkr_e2e::{Network, Options};

/// Seconds by which the handover is in the validators' past when it is drawn.
const PAST: u64 = 300;

/// A network whose chain is behind, a key of servers in index order, and a gateway that signs with it.
struct World {
    network: Network,
    gateway: Gateway,
    committee: Vec<usize>,
    key: u64,
    _dir: tempfile::TempDir,
}

async fn world() -> Result<World> {
    let dir = tempfile::tempdir()?;
    let behind = TO_HANDOVER + PAST;
    let options = Options { block_ms: 500, behind, reshares: true, ..Options::new(dir.path()) };
    let (network, schedule_file) = network_of(options).await?;
    let schedule = network.server_config(0)?.schedule()?.ok_or_else(|| eyre!("no schedule"))?;
    let (config, provider) = init(&network, &dir.path().join("gateway"), &schedule_file).await?;
    let started = start(&config, dir.path())?;
    let (committee, key, group_key) = key_of(&network, &provider).await?;
    let gateway = Gateway::new(started, config, &schedule, group_key);
    let expected = vec![gateway.pubkey.clone()];
    network.until("the key appears", || async { Ok(gateway.public_keys().await? == expected) }).await?;
    Ok(World { network, gateway, committee, key, _dir: dir })
}

impl World {
    /// A vote of the present epoch is signed and its envelopes are kept, once there is one after `last`.
    async fn votes_after(&self, last: u64) -> Result<u64> {
        self.network.until("the next epoch", || async { Ok(self.gateway.epoch()? > last) }).await?;
        let target = self.gateway.epoch()?;
        let vote = self.gateway.vote(target, 1);
        self.network.until("a vote is signed", || async { self.gateway.signs(&vote).await.map(|()| true) }).await?;
        self.gateway.kept_with(&vote).await?;
        Ok(target)
    }

    /// Where the relayer says that the reshare stands: its state, and the round that it waits in.
    async fn standing(&self) -> Result<Option<(String, String)>> {
        let status = self.network.relayer_json(0, "/status").await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(status["reshares"].as_array().and_then(|it| it.first()).map(|it| (text(&it["state"]), text(&it["round"]))))
    }

    /// Waits for the reshare. In each new phase that the relayer shows, it is killed, and with it one of `servers` in turn.
    async fn reshare_through_kills(&mut self, servers: &[usize]) -> Result<BTreeSet<(String, String)>> {
        let mut seen = BTreeSet::new();
        let until = std::time::Instant::now() + PATIENCE;
        while self.network.reshared(self.key).await?.is_empty() {
            ensure!(std::time::Instant::now() < until, "no reshare; phases: {seen:?}, {}", self.trouble().await);
            if let Ok(Some(standing)) = self.standing().await
                && seen.insert(standing)
            {
                let next = servers[seen.len() % servers.len()];
                self.network.kill_relayer(0);
                self.network.kill_server(next);
                self.network.start_server(next)?;
                self.network.start_relayer(0)?;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Ok(seen)
    }

    async fn trouble(&self) -> String {
        let status = self.network.relayer_json(0, "/status").await.unwrap_or_default();
        format!("{} {}", status["problems"], status["reshares"])
    }

    /// Committee epochs in whose name the gateway has kept envelopes over votes, oldest row first.
    async fn kept_epochs(&self) -> Result<Vec<BTreeSet<String>>> {
        let kept: Value = http().get(format!("{}/v1/requests", self.gateway.url)).send().await?.json().await?;
        let rows = kept["rows"].as_array().cloned().unwrap_or_default();
        let epoch = |envelope: &Value| envelope["answer"]["committeeEpoch"].as_str().unwrap_or_default().to_owned();
        let of = |row: &Value| row["envelopes"].as_array().map(|all| all.iter().map(epoch).collect());
        Ok(rows.iter().filter_map(of).collect())
    }
}

#[tokio::test]
async fn a_silent_members_seat_moves_to_a_spare_through_kills_and_the_same_key_signs_on_without_it() -> Result<()> {
    let mut world = world().await?;
    let appeared = world.gateway.epoch()?;
    let voted = world.votes_after(appeared + 1).await?;
    world.network.shorten_the_window().await?;

    // One member stops for good; the others say so, and the relayer asks for the reshare by itself.
    let silent = world.committee[1];
    world.network.kill_server(silent);
    world.network.vote_silent((world.key, 0), &world.committee, silent).await?;
    let stay: Vec<usize> = world.committee.iter().copied().filter(|position| *position != silent).collect();
    let phases = world.reshare_through_kills(&stay).await?;
    assert!(phases.iter().any(|(state, _)| state == "requested"), "{phases:?}");
    assert!(phases.iter().any(|(state, _)| state == "waiting"), "{phases:?}");

    let made = world.network.reshared(world.key).await?.remove(0).inner;
    let (network, gateway) = (&world.network, &world.gateway);
    let stayed: Vec<u32> = stay.iter().map(|position| network.servers[*position].id).collect();
    let silent_id = network.servers[silent].id;
    assert!(!made.committee.servers.contains(&silent_id), "{made:?}");
    assert!(stayed.iter().all(|id| made.committee.servers.contains(id)), "who is in good standing keeps its seat");
    let info = network.stkr().await?.reshares().get(world.key).await?;
    assert_eq!((info.committee_epoch, info.serving_epoch, info.threshold), (1, 0, 3));
    // The same key: the last point is the group key.
    let group_key = &made.committee.points[4 * 128..];
    assert_eq!(group_key, gateway.group_key.to_eip2537());

    // Before the handover the old committee signs, without the silent one.
    let handover = made.handover.to::<u64>();
    let epoch_of = |time: u64| {
        gateway.schedule.slot_at_time(time).map(|slot| gateway.schedule.epoch_at(slot).0).unwrap_or_default()
    };
    let first = epoch_of(handover + 7);
    let before = gateway.reveal(first - 2);
    network.until("the old committee signs", || async { gateway.signs(&before).await.map(|()| true) }).await?;

    // After it the new one does. The gateway was never started again.
    network.pass_the_handover(world.key).await?;
    let after = gateway.reveal(first + 2);
    network.until("the new committee signs", || async { gateway.signs(&after).await.map(|()| true) }).await?;
    world.votes_after(voted + 1).await?;
    let kept = world.kept_epochs().await?;
    let of = |epoch: &str| BTreeSet::from([epoch.to_owned()]);
    assert!(kept.contains(&of("0")) && kept.contains(&of("1")), "{kept:?}");
    assert!(kept.iter().all(|epochs| epochs.len() <= 1), "no signature has partials of both: {kept:?}");
    let info = network.stkr().await?.reshares().get(world.key).await?;
    assert_eq!((info.committee_epoch, info.serving_epoch), (1, 1));

    // Who comes back is a member of the old committee only, and nobody asks it for what the new one signs.
    world.network.start_server(silent)?;
    let last = world.gateway.epoch()?;
    world.votes_after(last).await?;
    let kept = world.kept_epochs().await?;
    assert_eq!(kept.last(), Some(&of("1")));

    // What people see of it.
    let mut shown = Command::new(binary("stkr")?);
    shown.args(["--json", "--rpc", &world.network.anvil.url, "--deployment"]).arg(&world.network.deployment_file);
    let shown: Value = serde_json::from_str(&output(shown.args(["reshare", "show", &world.key.to_string()]))?)?;
    assert_eq!((&shown["committeeEpoch"], &shown["state"]), (&Value::from(1), &Value::from("none")), "{shown}");
    assert_eq!(made.keyId, U256::from(world.key));
    Ok(())
}
