//! What a relayer carried of a ceremony or of a reshare: its public bulletin.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use stkr_protocol::{
    api::MAX_REASONS,
    messages::SignedMessage,
    reshare::{ReshareId, ReshareMessage},
};
use url::Url;

use crate::error::StkrError;

/// Longest bulletin that is read, bytes: more than five rounds of the largest committee take.
const MAX_BYTES: usize = 8 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest text of a relayer that is repeated, characters.
const MAX_TEXT: usize = 600;

/// What a relayer shows of a ceremony or a reshare. Only the messages are signed.
#[derive(Deserialize)]
pub(crate) struct Bulletin<M> {
    messages: Vec<M>,
    /// Unix seconds of each message; a relayer of an older version says nothing.
    #[serde(default)]
    received: Vec<Option<String>>,
    #[serde(default)]
    standing: Option<Standing>,
}

#[derive(Deserialize)]
struct Standing {
    #[serde(default)]
    failure: Option<String>,
    #[serde(default)]
    rounds: Vec<Round>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Round {
    round: String,
    #[serde(default)]
    waiting_for: Vec<Waited>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waited {
    server_id: String,
    trouble: Option<String>,
    why: String,
    check: String,
    #[serde(default)]
    unready: Vec<String>,
}

/// What a relayer says of a member that it waits for: its word alone, made fit for one line.
#[derive(Clone, Debug)]
pub(crate) struct Hearsay {
    /// In which round it waits.
    pub(crate) round: String,
    /// One word.
    pub(crate) trouble: Option<String>,
    /// One sentence.
    pub(crate) why: String,
    /// What the operator should check.
    pub(crate) check: String,
    /// What the server says itself.
    pub(crate) unready: Vec<String>,
}

impl Hearsay {
    /// Of a member that the relayer says nothing about.
    pub(crate) fn nothing(round: &str) -> Self {
        Self {
            round: round.to_owned(),
            trouble: None,
            why: "its message has not come to this relayer".to_owned(),
            check: "whether the server runs, can be reached, and reads the chain (stkr ceremony preflight)".to_owned(),
            unready: Vec::new(),
        }
    }
}

impl<M: Clone> Bulletin<M> {
    /// The messages with the unix time (seconds) at which each came, where the relayer says so.
    pub(crate) fn arrived(&self) -> impl Iterator<Item = (M, Option<u64>)> + '_ {
        let times = self.received.iter().map(|time| time.as_ref().and_then(|time| time.parse().ok()));
        self.messages.iter().cloned().zip(times.chain(std::iter::repeat(None)))
    }

    /// Why the relayer calls the ceremony failed, if it does.
    pub(crate) fn failure(&self) -> Option<String> {
        self.standing.as_ref()?.failure.as_ref().map(|text| plain(text))
    }

    /// What it says of those it waits for, by server.
    pub(crate) fn hearsay(&self) -> BTreeMap<u32, Hearsay> {
        let rounds = self.standing.iter().flat_map(|standing| &standing.rounds);
        let waited = rounds.flat_map(|round| round.waiting_for.iter().map(move |waited| (round, waited)));
        let said = waited.filter_map(|(round, waited)| {
            let hearsay = Hearsay {
                round: round.round.clone(),
                trouble: waited.trouble.as_ref().map(|text| plain(text)),
                why: plain(&waited.why),
                check: plain(&waited.check),
                unready: waited.unready.iter().take(MAX_REASONS).map(|text| plain(text)).collect(),
            };
            Some((waited.server_id.parse().ok()?, hearsay))
        });
        said.collect()
    }
}

/// Text of a stranger, shortened, on one line, without control characters.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

/// All messages of a ceremony that the relayer at `relayer` has. None of them is believed: each is signed by its sender.
///
/// # Errors
/// [`StkrError::NotReady`] in words that a person understands.
pub(crate) async fn fetch(relayer: &Url, key_id: u64, attempt: u16) -> Result<Vec<SignedMessage>, StkrError> {
    let found = find(relayer, key_id, attempt).await?;
    let none = || refused(relayer, &of_ceremony(key_id, attempt), "it has carried none; ask another relayer");
    found.map(|bulletin| bulletin.messages).ok_or_else(none)
}

fn of_ceremony(key_id: u64, attempt: u16) -> String {
    format!("key {key_id}, attempt {attempt}")
}

fn refused(relayer: &Url, what: &str, reason: &str) -> StkrError {
    let relayer = shown(relayer);
    StkrError::NotReady { reason: format!("the relayer at {relayer} gives no messages of {what}: {reason}") }
}

/// All that the relayer at `relayer` shows of a ceremony; nothing if it knows nothing of it.
///
/// # Errors
/// [`StkrError::NotReady`] in words that a person understands.
pub(crate) async fn find(
    relayer: &Url,
    key_id: u64,
    attempt: u16,
) -> Result<Option<Bulletin<SignedMessage>>, StkrError> {
    let path = format!("/v1/ceremonies/{key_id}/{attempt}");
    get(relayer, &path, &of_ceremony(key_id, attempt)).await
}

/// The same of an attempt of a reshare.
///
/// # Errors
/// [`StkrError::NotReady`] in words that a person understands.
pub(crate) async fn find_reshare(relayer: &Url, id: ReshareId) -> Result<Option<Bulletin<ReshareMessage>>, StkrError> {
    let path = format!("/v1/reshares/{}/{}/{}", id.key_id, id.committee_epoch, id.attempt);
    get(relayer, &path, &id.to_string()).await
}

async fn get<T: DeserializeOwned>(relayer: &Url, path: &str, what: &str) -> Result<Option<T>, StkrError> {
    let failed = |reason: &str| refused(relayer, what, reason);
    let mut url = relayer.clone();
    url.set_path(&format!("{}{path}", relayer.path().trim_end_matches('/')));
    stkr_chain::endpoint::install_tls();
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
    let client = client.map_err(|_| failed("no connection can be made"))?;
    let mut answer = client.get(url).send().await.map_err(|_| failed("it does not answer"))?;
    match answer.status().as_u16() {
        404 => return Ok(None),
        200 => {}
        status => return Err(failed(&format!("it answered with status {status}"))),
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| failed("its answer broke off"))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err(failed("its answer is longer than any ceremony"));
        }
    }
    serde_json::from_slice(&body).map(Some).map_err(|_| failed("its answer is no bulletin"))
}

/// Without what an operator may keep to itself.
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", url.host_str().unwrap_or("?"))
}
