//! An old copy of slashing protection that was put back file by file, with its witness, over the files that were there: what
//! the program's own database knows gives it away.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use eyre::{Result, eyre};
use stkr_e2e::process::binary;
use stkr_e2e::{DealtNetwork, Process};

/// The files of slashing protection in a program's folder: database, log, witness.
fn protection(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("protection.")) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Of a stopped program: its log is empty, so that the database file alone is whole.
fn closed(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = protection(folder)?;
    for log in files.iter().filter(|path| path.to_string_lossy().ends_with("-wal")) {
        eyre::ensure!(std::fs::metadata(log)?.len() == 0, "{} was left full", log.display());
    }
    Ok(files)
}

fn copy_all(files: &[PathBuf], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for file in files {
        // Over what is there: the file stays the same one to the file system.
        std::fs::copy(file, folder.join(file.file_name().ok_or_else(|| eyre!("no name"))?))?;
    }
    Ok(())
}

/// How `run` ends, and what it says; one that starts to serve is ended, and has no code.
fn run(program: &str, config: &Path, dir: &Path) -> Result<(Option<i32>, String)> {
    let args = ["run".to_owned(), "--config".to_owned(), config.display().to_string()];
    let mut process = Process::start(program, &binary(program)?, &args, dir)?;
    let code = process.end(Duration::from_secs(20));
    Ok((code, process.log()))
}

#[tokio::test]
async fn an_old_copy_in_the_place_of_slashing_protection_and_its_witness_signs_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut dealt = DealtNetwork::start(dir.path()).await?;
    let (early, late) = (dealt.vote(10, 11, 1), dealt.vote(20, 21, 1));
    dealt.check(&early, &dealt.ask_gateway(&early).await?)?;
    dealt.terminate()?;
    let (server, gateway) = (dealt.network.servers[0].dir.clone(), dealt.gateway.dir.clone());
    let programs = [("stkr-server", server), ("stkr-gateway", gateway)];
    for (program, folder) in &programs {
        copy_all(&closed(folder)?, &dir.path().join(program))?;
    }

    dealt.run().await?;
    dealt.check(&late, &dealt.ask_gateway(&late).await?)?;
    dealt.terminate()?;
    let configs = [dealt.network.servers[0].config.clone(), dealt.gateway.config.clone()];
    for ((program, folder), config) in programs.iter().zip(&configs) {
        closed(folder)?;
        copy_all(&protection(&dir.path().join(program))?, folder)?;
        let (code, said) = run(program, config, &dir.path().join("runs"))?;
        assert!(code == Some(4) && said.contains("is an old copy"), "{program} ended with {code:?}: {said}");
        // What was signed since is lost: everything up to now counts as signed.
        let mut close = Command::new(binary(program)?);
        stkr_e2e::network::output(close.args(["protection", "close-history", "--config"]).arg(config))?;
    }

    for position in 0..dealt.network.servers.len() {
        dealt.network.start_server(position)?;
    }
    dealt.gateway.start()?;
    let keys = || async { Ok(!dealt.gateway.public_keys().await?.is_empty()) };
    dealt.network.until("the gateway serves the key", keys).await?;
    for conflict in [dealt.vote(20, 21, 2), dealt.vote(10, 11, 2)] {
        let answer = dealt.ask_gateway(&conflict).await?;
        assert_eq!(answer.status, 412, "{answer:?}");
    }
    Ok(())
}
