//! Disaster recovery as docs/disaster-recovery.md has it, from the files of servers that made the key in a ceremony.

#[path = "../../../core/examples/recovery/mod.rs"]
mod recovery;

use std::path::{Path, PathBuf};

use alloy::primitives::Bytes;
use eyre::{Result, bail, ensure, eyre};
use rusqlite::{Connection, OpenFlags};
use stkr_core::keystore::Keystore;
use stkr_core::{SecretShare, ShareIndex};
use stkr_e2e::process::workspace_root;
use stkr_e2e::reshare::TO_HANDOVER;
use stkr_e2e::{Network, Options, Server};

/// Seconds by which the handover is in the servers' past when it is drawn.
const PAST: u64 = 300;

fn run(arguments: &[&str]) -> Result<()> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    recovery::run(&arguments).map_err(|error| eyre!("{error}"))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| eyre!("{} is no text", path.display()))
}

/// A committee as the chain finalised it.
struct Finalised {
    key: u64,
    epoch: u32,
    attempt: u16,
    points: Bytes,
    group_key: Bytes,
}

impl Finalised {
    /// What the document says to look for in a server's database, with these numbers in place of its example's.
    fn row(&self) -> Result<String> {
        let document = std::fs::read_to_string(workspace_root().join("docs/disaster-recovery.md"))?;
        let example = document.lines().find_map(|line| line.strip_prefix("SHARE=\"")?.strip_suffix('"'));
        let example = example.ok_or_else(|| eyre!("the document says nothing of the row"))?;
        Ok(example
            .replace("key_id = 7", &format!("key_id = {}", self.key))
            .replace("committee_epoch = 1", &format!("committee_epoch = {}", self.epoch))
            .replace("attempt = 0", &format!("attempt = {}", self.attempt))
            .replace("8F…", &hex::encode_upper(&self.group_key)))
    }
}

/// The offline machine.
struct Table {
    folder: PathBuf,
    made: Finalised,
}

impl Table {
    fn of(folder: PathBuf, made: Finalised) -> Result<Self> {
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("points"), made.points.to_string())?;
        std::fs::write(folder.join("password"), "correct horse\n")?;
        Ok(Self { folder, made })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The operator's step, with the query of the document on this database of the server; index and keystore of its share.
    fn bring(&self, server: &Server, database: &Path) -> Result<(u8, PathBuf)> {
        let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = database.prepare(&format!("SELECT share_index, keystore {}", self.made.row()?))?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows: Vec<(u8, String)> = found.collect::<Result<_, _>>()?;
        let [(index, sealed)] = rows.as_slice() else { bail!("{} rows of server {}", rows.len(), server.id) };
        std::fs::write(self.file(&format!("sealed-{index}")), sealed)?;
        let secrets = server.dir.join("secrets");
        let share = self.file(&format!("share-{index}"));
        run(&[
            "share",
            &index.to_string(),
            text(&self.file(&format!("sealed-{index}")))?,
            text(&secrets.join("store-key.json"))?,
            text(&secrets.join("store-key.password"))?,
            text(&share)?,
            text(&self.file("password"))?,
        ])?;
        Ok((*index, share))
    }

    fn join(&self, out: &str, shares: &[(u8, PathBuf)]) -> Result<()> {
        let (points, password, out) = (self.file("points"), self.file("password"), self.file(out));
        let named =
            shares.iter().map(|(index, file)| eyre::Ok(format!("{index}:{}:{}", text(file)?, text(&password)?)));
        let named: Vec<String> = named.collect::<Result<_>>()?;
        let mut arguments = vec!["join", text(&points)?, "3", text(&out)?, text(&password)?];
        arguments.extend(named.iter().map(String::as_str));
        run(&arguments)
    }

    /// That `out` holds the key that the chain has.
    fn check(&self, out: &str) -> Result<()> {
        let keystore = Keystore::from_json(&std::fs::read_to_string(self.file(out))?)?;
        let secret = keystore.decrypt("correct horse")?;
        let whole = SecretShare::from_bytes(ShareIndex::new(1)?, secret.as_slice().try_into()?)?;
        ensure!(whole.public_key().to_compressed().as_slice() == self.made.group_key.as_ref(), "it is another key");
        Ok(())
    }
}

#[tokio::test]
async fn three_of_four_operators_whose_servers_made_a_key_put_it_together_offline_and_a_mixed_up_share_is_named()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut network = Network::start(Options { servers: 4, block_ms: 500, ..Options::new(dir.path()) }).await?;
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let (key, finalised) = network.live_key(pool).await?;
    let group_key = network.stkr().await?.keys().get(key).await?.public_key.ok_or_else(|| eyre!("no group key"))?;
    for position in 0..4 {
        network.terminate_server(position)?;
    }

    let (attempt, points) = (finalised.attempt, finalised.points);
    let table = Table::of(dir.path().join("table"), Finalised { key, epoch: 0, attempt, points, group_key })?;
    let servers = network.servers.iter().take(3);
    let shares: Vec<_> =
        servers.map(|server| table.bring(server, &server.dir.join("server.db"))).collect::<Result<_>>()?;
    let mut mixed = shares.clone();
    mixed[1].1.clone_from(&shares[2].1);
    let error = table.join("wrong", &mixed).err().ok_or_else(|| eyre!("a share of another member was taken"))?;
    ensure!(error.to_string().starts_with(&format!("share {} (", mixed[1].0)), "{error}");
    ensure!(!table.file("wrong").exists());

    table.join("key", &shares)?;
    table.check("key")
}

/// A member's seat moved to a spare server. Only the shares of the committee that the chain finalised last go together, and a newer row
/// of an attempt that did not end leads nobody astray.
#[tokio::test]
async fn after_a_reshare_the_operators_take_the_shares_of_the_committee_that_the_chain_finalised() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let behind = TO_HANDOVER + PAST;
    let options = Options { servers: 5, block_ms: 500, behind, reshares: true, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    let provider = network.account("10").await?;
    let (pool, _) = network.open_pool(&provider, 3, 4).await?;
    network.fill_pool(pool, 4).await?;
    let (key, finalised) = network.live_key(pool).await?;
    network.shorten_the_window().await?;
    let committee: Vec<usize> = finalised.committee.iter().map(|id| network.position_of(*id)).collect::<Result<_>>()?;
    let silent = committee[1];
    network.kill_server(silent);
    network.vote_silent((key, 0), &committee, silent).await?;
    network.until("the key is reshared", || async { Ok(!network.reshared(key).await?.is_empty()) }).await?;
    let made = network.reshared(key).await?.remove(0).inner;
    network.pass_the_handover(key).await?;
    let shown = network.stkr().await?.keys().get(key).await?;
    ensure!((shown.committee_epoch, &shown.committee) == (1, &made.committee.servers), "{shown:?}");
    let group_key = shown.public_key.ok_or_else(|| eyre!("no group key"))?;
    let members: Vec<usize> =
        made.committee.servers.iter().map(|id| network.position_of(*id)).collect::<Result<_>>()?;
    for position in members.iter().take(3) {
        network.terminate_server(*position)?;
    }

    let (attempt, points) = (made.attempt, made.committee.points);
    let table = Table::of(dir.path().join("table"), Finalised { key, epoch: 1, attempt, points, group_key })?;
    let mut shares = Vec::new();
    for position in members.iter().take(3) {
        let server = &network.servers[*position];
        // A backup of a server in which a later attempt did not end: another share, under the same key, in the newest row.
        let backup = dir.path().join(format!("backup-{position}.db"));
        std::fs::copy(server.dir.join("server.db"), &backup)?;
        let inserted = Connection::open(&backup)?.execute(
            "INSERT INTO share (key_id, committee_epoch, attempt, deadline, share_index, share_key, group_key, keystore)
             SELECT key_id, committee_epoch, attempt + 1, deadline, share_index, share_key, group_key, '{}' FROM share
             WHERE key_id = ?1 AND committee_epoch = 1",
            [i64::try_from(key)?],
        )?;
        ensure!(inserted == 1, "{inserted} shares of committee 1 in server {}", server.id);
        shares.push(table.bring(server, &backup)?);
    }
    table.join("key", &shares)?;
    table.check("key")?;

    // The first committee's points are those of other shares.
    std::fs::write(table.file("points"), finalised.points.to_string())?;
    let error = table.join("old", &shares).err().ok_or_else(|| eyre!("points of another committee were taken"))?;
    ensure!(error.to_string().contains("is wrong: its key is"), "{error}");
    ensure!(!table.file("old").exists());
    Ok(())
}
