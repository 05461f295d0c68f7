//! What a relayer carried of a ceremony: its public bulletin.

use std::time::Duration;

use serde::Deserialize;
use stkr_protocol::messages::SignedMessage;
use url::Url;

use crate::error::StkrError;

/// Longest bulletin that is read, bytes: more than five rounds of the largest committee take.
const MAX_BYTES: usize = 8 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Bulletin {
    messages: Vec<SignedMessage>,
}

/// All messages of a ceremony that the relayer at `relayer` has. None of them is believed: each is signed by its sender.
///
/// # Errors
/// [`StkrError::NotReady`] in words that a person understands.
pub(crate) async fn fetch(relayer: &Url, key_id: u64, attempt: u16) -> Result<Vec<SignedMessage>, StkrError> {
    let failed = |reason: &str| StkrError::NotReady {
        reason: format!(
            "the relayer at {} gives no messages of key {key_id}, attempt {attempt}: {reason}",
            shown(relayer)
        ),
    };
    let mut url = relayer.clone();
    let path = format!("{}/v1/ceremonies/{key_id}/{attempt}", relayer.path().trim_end_matches('/'));
    url.set_path(&path);
    stkr_chain::endpoint::install_tls();
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
    let client = client.map_err(|_| failed("no connection can be made"))?;
    let mut answer = client.get(url).send().await.map_err(|_| failed("it does not answer"))?;
    if !answer.status().is_success() {
        let status = answer.status().as_u16();
        return Err(failed(&match status {
            404 => "it has carried none; ask another relayer".to_owned(),
            _ => format!("it answered with status {status}"),
        }));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| failed("its answer broke off"))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err(failed("its answer is longer than any ceremony"));
        }
    }
    let bulletin: Bulletin = serde_json::from_slice(&body).map_err(|_| failed("its answer is no bulletin"))?;
    Ok(bulletin.messages)
}

/// Without what an operator may keep to itself.
fn shown(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", url.host_str().unwrap_or("?"))
}
