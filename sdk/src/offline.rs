//! Files of servers without network, at a relayer's counter. Nothing here is believed or checked beyond its form: the machine that a
//! request is carried to checks it, and the relayer what comes back.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use stkr_protocol::offline::reshare::{
    Committees, CommitteesFile, ReshareAnswerFile, ReshareRequestFile, Reshared, ToReshare,
};
use stkr_protocol::offline::{
    Answer, AnswerFile, ChangeAnswerFile, ChangeFile, Changed, FileError, MAX_FILE, Request, RequestFile, ToChange,
    from_json, is_kind,
};
use url::Url;

use crate::{bulletin::shown, error::StkrError};

/// A relayer works on one file at a time and lets others wait for it.
const PATIENCE: Duration = Duration::from_secs(40);

/// Longest text of a relayer that is repeated, characters.
const MAX_TEXT: usize = 600;

#[derive(Deserialize)]
struct Due {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Taken {
    new: usize,
}

/// What a relayer says of a failure.
#[derive(Deserialize)]
struct Problem {
    refusal: Detail,
}

#[derive(Deserialize)]
struct Detail {
    reason: String,
}

/// Keys whose ceremonies, reshares or changes of credentials wait for the server now, as the relayer sees it.
///
/// # Errors
/// [`StkrError::NotReady`] where the relayer refuses, [`StkrError::NoAnswer`] where it has no answer now or one that is none.
pub async fn offline_due(relayer: &Url, server: u32) -> Result<Vec<u64>, StkrError> {
    let due: Due = read(relayer, &ask(relayer, &format!("/v1/offline/{server}"), None).await?)?;
    Ok(due.keys.iter().filter_map(|key| key.parse().ok()).collect())
}

/// The file for the server about a key, as it is to be carried: a request, or which committees the key has.
///
/// # Errors
/// [`StkrError::NotReady`] where the relayer refuses, [`StkrError::NoAnswer`] where it has no answer now or one that is no request.
pub async fn fetch_offline_request(relayer: &Url, server: u32, key: u64) -> Result<Vec<u8>, StkrError> {
    let file = ask(relayer, &format!("/v1/offline/{server}/{key}"), None).await?;
    let damaged = |error: FileError| no_answer(relayer, &error.to_string());
    let about = if is_kind::<ToChange>(&file) {
        let parsed: ChangeFile<Value> = from_json::<ToChange, _>(&file).map_err(damaged)?;
        (parsed.about.server, parsed.about.key_id)
    } else if is_kind::<ToReshare>(&file) {
        let parsed: ReshareRequestFile<Value> = from_json::<ToReshare, _>(&file).map_err(damaged)?;
        (parsed.about.server, parsed.about.key_id)
    } else if is_kind::<Committees>(&file) {
        let parsed: CommitteesFile<Value> = from_json::<Committees, _>(&file).map_err(damaged)?;
        (parsed.about.server, parsed.about.key_id)
    } else {
        let parsed: RequestFile<Value> = from_json::<Request, _>(&file).map_err(damaged)?;
        (parsed.about.server, parsed.about.key_id)
    };
    match about == (server, key) {
        true => Ok(file),
        false => Err(no_answer(relayer, "it gave the request for another server or key")),
    }
}

/// Hands in what an offline server answered; how many messages in it the relayer did not have.
///
/// # Errors
/// [`StkrError::NotReady`] where the relayer refuses or this is no answer file, [`StkrError::NoAnswer`] where it has no answer now.
pub async fn submit_offline_answer(relayer: &Url, file: Vec<u8>) -> Result<usize, StkrError> {
    let damaged = |error: FileError| StkrError::NotReady { reason: error.to_string() };
    if is_kind::<Changed>(&file) {
        from_json::<Changed, ChangeAnswerFile>(&file).map_err(damaged)?;
    } else if is_kind::<Reshared>(&file) {
        from_json::<Reshared, ReshareAnswerFile>(&file).map_err(damaged)?;
    } else {
        from_json::<Answer, AnswerFile>(&file).map_err(damaged)?;
    }
    let taken: Taken = read(relayer, &ask(relayer, "/v1/offline", Some(file)).await?)?;
    Ok(taken.new)
}

/// The relayer is at fault, or has no time: the same may succeed later or elsewhere.
fn no_answer(relayer: &Url, reason: &str) -> StkrError {
    StkrError::NoAnswer { reason: said(relayer, reason) }
}

fn said(relayer: &Url, reason: &str) -> String {
    let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect();
    format!("the relayer at {}: {reason}", shown(relayer))
}

fn read<T: serde::de::DeserializeOwned>(relayer: &Url, body: &[u8]) -> Result<T, StkrError> {
    serde_json::from_slice(body).map_err(|_| no_answer(relayer, "its answer is not that of a relayer"))
}

/// GETs, or POSTs `send`.
async fn ask(relayer: &Url, path: &str, send: Option<Vec<u8>>) -> Result<Vec<u8>, StkrError> {
    let failed = |reason: &str| no_answer(relayer, reason);
    let mut url = relayer.clone();
    url.set_path(&format!("{}{path}", relayer.path().trim_end_matches('/')));
    stkr_chain::endpoint::install_tls();
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
    let client = client.map_err(|_| failed("no connection can be made"))?;
    let request = match send {
        Some(body) => client.post(url).header("content-type", "application/json").body(body),
        None => client.get(url),
    };
    let mut answer = request.send().await.map_err(|_| failed("it does not answer"))?;
    let (status, mut body) = (answer.status(), Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(|_| failed("its answer broke off"))? {
        body.extend_from_slice(&chunk);
        if u64::try_from(body.len()).is_ok_and(|length| length > MAX_FILE) {
            return Err(failed("its answer is longer than any such file"));
        }
    }
    if status.is_success() {
        return Ok(body);
    }
    let problem = serde_json::from_slice::<Problem>(&body);
    let reason = problem.map_or_else(|_| format!("it answered with status {status}"), |it| it.refusal.reason);
    // Only this says something about what was asked, and only this stays so.
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        return Err(StkrError::NotReady { reason: said(relayer, &reason) });
    }
    Err(failed(&reason))
}
