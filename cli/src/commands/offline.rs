//! `stkr offline`: files to servers without network, and back.

use std::{io::Read, path::Path};

use serde::Serialize;
use stkr_node::secrets;
use stkr_protocol::offline::MAX_FILE;
use stkr_sdk::{fetch_offline_request, offline_due, submit_offline_answer};
use url::Url;

use crate::{args::OfflineCommand, failure::Failure, output::Output};

/// What `due` says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Due {
    server_id: u32,
    keys: Vec<u64>,
}

/// What `fetch` says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fetched<'a> {
    server_id: u32,
    key_id: u64,
    file: &'a Path,
}

/// What `submit` says.
#[derive(Serialize)]
struct Submitted {
    new: usize,
}

/// It needs neither endpoint nor deployment: the machine that the file goes to has its own.
pub(crate) async fn run(command: OfflineCommand, output: &Output) -> Result<(), Failure> {
    match command {
        OfflineCommand::Due { server, relayer } => {
            let keys = offline_due(&relayer, server).await?;
            output.show(&Due { server_id: server, keys }, |due| match due.keys.as_slice() {
                [] => format!("no key waits for server {server}"),
                keys => {
                    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
                    format!("server {server} is waited for by keys {}", keys.join(", "))
                }
            });
        }
        OfflineCommand::Fetch { server, key, relayer, out } => fetch(&relayer, (server, key), &out, output).await?,
        OfflineCommand::Submit { file, relayer } => {
            let hint = "give the file that `stkr-server offline answer` wrote";
            let content = match file == Path::new("-") {
                true => typed(std::io::stdin().lock()).map_err(|reason| Failure::usage(reason, hint))?,
                false => stkr_files::read(&file, MAX_FILE)
                    .map_err(|error| Failure::usage(format!("answer {error}"), hint))?,
            };
            let new = submit_offline_answer(&relayer, content).await?;
            output.show(&Submitted { new }, |it| format!("the relayer took it; {} messages in it were new", it.new));
        }
    }
    Ok(())
}

/// What comes until the end of the input.
fn typed(from: impl Read) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = from.take(MAX_FILE + 1).read_to_end(&mut content);
    read.map_err(|error| format!("standard input cannot be read: {error}"))?;
    match content.len() as u64 > MAX_FILE {
        true => Err(format!("standard input has more than the {MAX_FILE} bytes of an answer")),
        false => Ok(content),
    }
}

async fn fetch(relayer: &Url, (server, key): (u32, u64), out: &Path, output: &Output) -> Result<(), Failure> {
    if out.exists() {
        return Err(Failure::usage(format!("{} exists already", out.display()), "name a new file with --out"));
    }
    let file = fetch_offline_request(relayer, server, key).await?;
    secrets::write_new(out, &file)?;
    output.show(&Fetched { server_id: server, key_id: key, file: out }, |it| {
        format!("{} is to be carried to server {server}; it checks all that is in it", it.file.display())
    });
    Ok(())
}
