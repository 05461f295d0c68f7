//! Disaster recovery as docs/disaster-recovery.md has it, from the files of servers that made the key in a ceremony.

#[path = "../../../core/examples/recovery/mod.rs"]
mod recovery;

use std::path::Path;

use eyre::{Result, ensure, eyre};
use rusqlite::{Connection, OpenFlags};
use stkr_core::keystore::Keystore;
use stkr_core::{SecretShare, ShareIndex};
use stkr_e2e::{Network, Options};

/// The query of the document.
const QUERY: &str = "SELECT share_index, keystore FROM share WHERE key_id = ?1 ORDER BY rowid DESC LIMIT 1";

fn run(arguments: &[&str]) -> Result<()> {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    recovery::run(&arguments).map_err(|error| eyre!("{error}"))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| eyre!("{} is no text", path.display()))
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

    let table = dir.path().join("table");
    std::fs::create_dir(&table)?;
    let file = |name: &str| table.join(name);
    std::fs::write(file("points"), finalised.points.to_string())?;
    std::fs::write(file("password"), "correct horse\n")?;
    let mut shares = Vec::new();
    for server in network.servers.iter().take(3) {
        let database = Connection::open_with_flags(server.dir.join("server.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u8>(0)?, row.get::<_, String>(1)?));
        let (index, sealed) = database.query_row(QUERY, [i64::try_from(key)?], row)?;
        std::fs::write(file(&format!("sealed-{index}")), sealed)?;
        let secrets = server.dir.join("secrets");
        run(&[
            "share",
            &index.to_string(),
            text(&file(&format!("sealed-{index}")))?,
            text(&secrets.join("store-key.json"))?,
            text(&secrets.join("store-key.password"))?,
            text(&file(&format!("share-{index}")))?,
            text(&file("password"))?,
        ])?;
        shares.push((index, file(&format!("share-{index}"))));
    }
    let join = |out: &Path, shares: &[(u8, std::path::PathBuf)]| {
        let password = file("password");
        let named =
            shares.iter().map(|(index, file)| eyre::Ok(format!("{index}:{}:{}", text(file)?, text(&password)?)));
        let named: Vec<String> = named.collect::<Result<_>>()?;
        let mut arguments = vec!["join", "3"];
        let points = file("points");
        arguments.insert(1, text(&points)?);
        arguments.extend([text(out)?, text(&password)?]);
        arguments.extend(named.iter().map(String::as_str));
        run(&arguments)
    };
    let mut mixed = shares.clone();
    mixed[1].1.clone_from(&shares[2].1);
    let error = join(&file("wrong"), &mixed).err().ok_or_else(|| eyre!("a share of another member was taken"))?;
    ensure!(error.to_string().starts_with(&format!("share {} (", mixed[1].0)), "{error}");
    ensure!(!file("wrong").exists());

    join(&file("key"), &shares)?;
    let keystore = Keystore::from_json(&std::fs::read_to_string(file("key"))?)?;
    let secret = keystore.decrypt("correct horse")?;
    let whole = SecretShare::from_bytes(ShareIndex::new(1)?, secret.as_slice().try_into()?)?;
    ensure!(whole.public_key().to_compressed().as_slice() == group_key.as_ref(), "it is another key");
    Ok(())
}
