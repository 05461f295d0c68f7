//! Logs on stderr, as text for people or one JSON object per line for machines.
//!
//! An event says the action, its circumstances are fields, and every field name is in [`CATALOGUE`]: an alert written on a
//! field today works tomorrow. No event carries a secret, a request body or an RPC URL (they contain API keys).

use std::collections::BTreeSet;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event: timestamp, level, target, message and fields (docs/operators.md lists them).
    Json,
}

/// Every field name an event of ours may carry, and what it means.
pub const CATALOGUE: &[(&str, &str)] = &[
    ("address", "socket address the program listens on, or the peer's"),
    ("amount_gwei", "amount of a deposit in gwei"),
    ("attempt", "attempt number of a key ceremony, from 0"),
    ("block", "block number"),
    ("block_hash", "block hash"),
    ("blocks", "blocks that a reorg took back"),
    ("chain_id", "EIP-155 chain id"),
    ("client", "first 8 bytes of the SHA-256 of the client's certificate"),
    ("committee_epoch", "number of the committee of a key, from 0"),
    ("contract", "contract address"),
    ("count", "how many"),
    ("culprit", "share index of the member found at fault"),
    ("deadline", "unix time (seconds)"),
    ("elapsed_ms", "time the action took, milliseconds"),
    ("endpoint", "server endpoint, host and port"),
    ("error", "why it failed, in words"),
    ("file", "path of a file"),
    ("fingerprint", "SHA-256 of a DER certificate"),
    ("from", "first block of a range, or the version before"),
    ("gas", "gas used"),
    ("index", "share index of a member, from 1"),
    ("intent", "name of a transaction intent"),
    ("key_id", "key id in the key registry"),
    ("kind", "kind of a refusal, message, duty or event"),
    ("logs", "event logs that a reorg took back"),
    ("missing", "share indices that have not answered"),
    ("network", "network preset"),
    ("nonce", "transaction nonce"),
    ("path", "path of an HTTP request, without query"),
    ("phase", "phase of a ceremony"),
    ("pool_id", "pool id"),
    ("program", "name of the program"),
    ("pubkey", "compressed BLS public key"),
    ("reason", "why something was refused or ended"),
    ("round", "round of a ceremony message"),
    ("rpc", "host of an RPC endpoint (never its whole URL)"),
    ("schema", "version of a database schema"),
    ("server_id", "server id in the server registry"),
    ("signer", "address of a signer key"),
    ("signing_root", "signing root"),
    ("state", "state of a key, pool or server"),
    ("status", "HTTP status"),
    ("step", "step of a longer action"),
    ("threshold", "t of a t-of-n key"),
    ("to", "last block of a range, or the version after"),
    ("tx", "transaction hash"),
    ("url", "URL the program serves itself"),
    ("version", "version of the program"),
    ("waiting_for", "share indices a ceremony waits for"),
    ("what_to_do", "what a person can do about it"),
];

/// Field names that the formatter itself adds to JSON events.
const BUILT_IN: &[&str] = &["timestamp", "level", "target", "message", "span", "spans"];

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not in the syntax of `tracing_subscriber::EnvFilter`.
    #[error("log filter `{0}` is not valid; write for example `info` or `info,stkr_server=debug`")]
    BadFilter(String),
    /// A second subscriber.
    #[error("logging was started already")]
    Started,
}

/// Starts logging to stderr, once per process.
///
/// # Errors
/// A filter that does not parse; a second call.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = parse_filter(filter)?;
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(is_ours_or_a_warning));
    let plain = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    match format {
        LogFormat::Text => registry.with(plain).try_init(),
        LogFormat::Json => registry.with(plain.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| LogError::Started)
}

pub(crate) fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|_| LogError::BadFilter(filter.to_owned()))
}

/// Below a warning only our own crates speak, whatever the filter says: HTTP and RPC libraries print whole URLs and bodies
/// at debug, and API keys are in both.
fn is_ours_or_a_warning(event: &tracing::Metadata<'_>) -> bool {
    event.target().starts_with("stkr") || *event.level() <= tracing::Level::WARN
}

/// Fields of one JSON event that the catalogue does not know. Tests run it over everything a program wrote.
pub fn unknown_fields(event: &serde_json::Value) -> BTreeSet<String> {
    let Some(object) = event.as_object() else {
        return BTreeSet::new();
    };
    object
        .keys()
        .filter(|key| !BUILT_IN.contains(&key.as_str()) && !CATALOGUE.iter().any(|(name, _)| name == key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_the_formats_is_for_people_and_links_to_nothing() {
        for format in <LogFormat as clap::ValueEnum>::value_variants() {
            let value = clap::ValueEnum::to_possible_value(format).unwrap();
            let help = value.get_help().unwrap().to_string();
            assert!(!help.contains(['[', ']', '`']), "{help}");
        }
    }

    #[test]
    fn the_catalogue_is_sorted_and_names_each_field_once() {
        let names: Vec<_> = CATALOGUE.iter().map(|(name, _)| *name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert!(CATALOGUE.iter().all(|(_, meaning)| !meaning.is_empty()));
    }

    #[test]
    fn a_field_outside_the_catalogue_is_found() {
        let event = serde_json::json!({"timestamp": "t", "level": "INFO", "message": "m", "key_id": 1, "keyId": 1});
        assert_eq!(unknown_fields(&event).into_iter().collect::<Vec<_>>(), ["keyId"]);
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused_with_an_example() {
        let error = init(LogFormat::Text, "info,=,=").unwrap_err();
        assert!(error.to_string().contains("write for example"));
    }
}
