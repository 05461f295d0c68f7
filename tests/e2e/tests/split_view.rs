//! The quorum bound: whatever a gateway with the duty key shows to whom, f = 2t - n - 1 malicious servers do not make two full
//! signatures over conflicting duties, and f + 1 do. With real servers for n = 4, with the real slashing protection of each
//! honest server for larger committees.

use std::collections::BTreeSet;
use std::path::Path;

use alloy::primitives::B256;
use eyre::{Result, ensure, eyre};
use serde_json::Value;
use stkr_adversary::split_view::{Way, attack};
use stkr_e2e::DealtNetwork;
use stkr_e2e::network::PATIENCE;
use stkr_e2e::process::{Process, binary};
use stkr_node::tls::Identity;
use stkr_protection::{Attestation, Block, Duty, Now, Protection, Pubkey, Request};

/// Two conflicting duties that nobody asked for before: two blocks of one slot, two votes for one target, or a vote inside
/// another.
fn pair(dealt: &DealtNetwork, round: u64) -> [Value; 2] {
    let (slot, source) = (round + 100, 4 * round + 400);
    match round % 3 {
        0 => [dealt.block(slot, 1), dealt.block(slot, 2)],
        1 => [dealt.vote(source, source + 3, 1), dealt.vote(source, source + 3, 2)],
        _ => [dealt.vote(source, source + 3, 1), dealt.vote(source + 1, source + 2, 1)],
    }
}

/// Puts an accomplice in the place of the server at this position.
fn turn(dealt: &mut DealtNetwork, position: usize) -> Result<Process> {
    dealt.network.terminate_server(position)?;
    let server = dealt.network.servers.get(position).ok_or_else(|| eyre!("no server {position}"))?;
    let (config, key) = (server.config.display().to_string(), dealt.key_id.to_string());
    let args = ["accomplice", "--config", &config, "--key-id", &key].map(str::to_owned);
    let mut process = Process::start("accomplice", &binary("stkr-adversary")?, &args, &server.dir)?;
    process.line(PATIENCE, |line| line.contains("\"ready\":true"))?;
    Ok(process)
}

/// Every way to show two duties to four servers, in either order to each of them; how many full signatures each got.
async fn every_split(dealt: &DealtNetwork, from: u64) -> Result<Vec<usize>> {
    let identity = Identity::generate("gateway")?;
    let servers =
        dealt.keys.threshold().indices().map(|index| Ok((index, dealt.network.client(index.position(), &identity)?)));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    let committee = dealt.committee()?;
    let mut full = Vec::new();
    let mut round = from;
    for way in Way::ALL {
        for split in 0..1_u32 << servers.len() {
            // Each of the three kinds of conflict.
            for _ in 0..3 {
                let requests = pair(dealt, round);
                let [one, other] = &requests;
                let asked = [dealt.asked(one)?, dealt.asked(other)?];
                let second_first = |index: stkr_core::ShareIndex| split >> index.position() & 1 == 1;
                let signatures = attack(&committee, &servers, asked.each_ref(), second_first, way).await?;
                for (request, signature) in requests.iter().zip(&signatures) {
                    let Some(signature) = signature else { continue };
                    let root = dealt.signed(request)?.root();
                    ensure!(stkr_core::verify(&dealt.keys.group_key(), &root.0, signature), "not the validator's");
                }
                full.push(signatures.iter().flatten().count());
                round += 1;
            }
        }
    }
    Ok(full)
}

#[tokio::test]
async fn one_malicious_server_of_four_does_not_make_two_signatures_and_two_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut dealt = DealtNetwork::start(dir.path()).await?;
    let threshold = dealt.keys.threshold();
    assert_eq!((threshold.t(), threshold.n()), (3, 4));
    let _first = turn(&mut dealt, 3)?;
    let full = every_split(&dealt, 0).await?;
    ensure!(full.len() == 3 * 16 * 3 && full.iter().all(|count| *count <= 1), "{full:?}");
    ensure!(full.contains(&1), "nothing was signed at all, so nothing was attacked");
    let _second = turn(&mut dealt, 2)?;
    let full = every_split(&dealt, 1_000).await?;
    ensure!(full.contains(&2), "with f + 1 the attack succeeds, or this test sees nothing: {full:?}");
    Ok(())
}

/// Honest servers as their slashing protection makes them.
struct Honest {
    databases: Vec<Protection>,
    /// Of duties that nobody asked for before.
    next: u64,
}

/// What a gateway shows to an honest server: the one, the other, or both in an order.
type View = &'static [usize];
const VIEWS: [View; 4] = [&[0, 1], &[1, 0], &[0], &[1]];
const KEY: Pubkey = Pubkey::repeat_byte(1);
const NOW: Now = Now { slot: u64::MAX / 4, epoch: u64::MAX / 4 };

impl Honest {
    fn new(folder: &Path, count: u8) -> Result<Self> {
        let database = |number: u8| -> Result<Protection> {
            let protection = Protection::create(&folder.join(format!("{number}.db")), B256::repeat_byte(7))?;
            protection.register(&[KEY], None)?;
            Ok(protection)
        };
        Ok(Self { databases: (0..count).map(database).collect::<Result<_>>()?, next: 0 })
    }

    fn pair(number: u64) -> [Request; 2] {
        let (slot, source_epoch) = (number + 1, 4 * number + 4);
        let block = |root| Duty::Block(Block { slot, signing_root: B256::repeat_byte(root) });
        let vote = |source_epoch, target_epoch, root| {
            Duty::Attestation(Attestation { source_epoch, target_epoch, signing_root: B256::repeat_byte(root) })
        };
        let duties = match number % 3 {
            0 => [block(1), block(2)],
            1 => [vote(source_epoch, source_epoch + 3, 1), vote(source_epoch, source_epoch + 3, 2)],
            _ => [vote(source_epoch, source_epoch + 3, 1), vote(source_epoch + 1, source_epoch + 2, 1)],
        };
        duties.map(|duty| Request { pubkey: KEY, duty })
    }

    /// Partial signatures over the one and the other that honest servers make, for every split: a view per server.
    fn sign(&mut self, splits: &[Vec<View>]) -> Result<Vec<[usize; 2]>> {
        let first = self.next;
        self.next += splits.len() as u64;
        let mut made = vec![[0; 2]; splits.len()];
        let servers = splits.first().map_or(0, Vec::len);
        for (server, database) in self.databases.iter().take(servers).enumerate() {
            let (mut batch, mut places) = (Vec::new(), Vec::new());
            for (number, (split, made)) in (first..).zip(splits.iter().zip(0..)) {
                let pair = Self::pair(number);
                for which in split.get(server).copied().unwrap_or_default() {
                    batch.push(pair[*which]);
                    places.push((made, *which));
                }
            }
            for ((split, which), verdict) in places.iter().zip(database.check_and_record(&batch, NOW)?) {
                let split: &mut [usize; 2] = &mut made[*split];
                split[*which] += usize::from(verdict.may_sign());
            }
        }
        Ok(made)
    }

    /// Whether some of the splits make two full signatures, with `malicious` servers that sign everything.
    fn attack(&mut self, t: u8, malicious: u8, splits: &[Vec<View>]) -> Result<bool> {
        let made = self.sign(splits)?;
        Ok(made.iter().any(|made| made.iter().all(|honest| honest + usize::from(malicious) >= usize::from(t))))
    }
}

/// Both orders for each of `honest` servers, in every combination.
fn all_splits(honest: u8) -> Vec<Vec<View>> {
    (0..1_u32 << honest).map(|mask| (0..honest).map(|server| VIEWS[(mask >> server & 1) as usize]).collect()).collect()
}

/// Splits of a large committee: every number of servers that see the one first, and as many random ones.
fn some_splits(honest: u8, seed: u64) -> Vec<Vec<View>> {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        VIEWS[(state >> 62) as usize]
    };
    let counted = (0..=honest).map(|count| (0..honest).map(|server| VIEWS[usize::from(server >= count)]).collect());
    let mut splits: Vec<Vec<View>> = counted.collect();
    splits.extend((0..64).map(|_| (0..honest).map(|_| random()).collect()));
    splits
}

#[test]
fn in_every_committee_the_bound_holds_and_one_more_breaks_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut honest = Honest::new(folder.path(), 22)?;
    let mut seen = BTreeSet::new();
    for n in 1..=22_u8 {
        for t in n / 2 + 1..=n {
            let f = 2 * t - n - 1;
            let splits = |honest: u8| {
                if n <= 10 { all_splits(honest) } else { some_splits(honest, u64::from(n) << 8 | u64::from(t)) }
            };
            ensure!(!honest.attack(t, f, &splits(n - f))?, "{t} of {n}: {f} malicious servers make two signatures");
            // For t = n that is every server; nobody is left to be asked.
            let broken = if f + 1 == n { f + 1 >= t } else { honest.attack(t, f + 1, &splits(n - f - 1))? };
            ensure!(broken, "{t} of {n}: {} malicious servers do not, so this model sees nothing", f + 1);
            seen.insert((t, n));
        }
    }
    assert_eq!(seen.len(), (1..=22).map(|n| n - n / 2).sum::<usize>());
    Ok(())
}
