//! The parsers, and what has to hold for each.

use crate::mutate::Corpus;
use crate::seeds::{self, DOMAIN, Parties};
use alloy::primitives::{Address, B256, IntoLogData, keccak256};
use alloy::sol_types::SolEventInterface;
use eyre::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::path::Path;
use stkr_chain::bindings::KeyRegistry::KeyRegistryEvents;
use stkr_chain::keys::{LiveKey, Member, leaf, merkle_root};
use stkr_chain::types::{KeyKind, KeyState};
use stkr_chain::{KeyInfo, StkrEvent};
use stkr_core::ShareIndex;
use stkr_core::keystore::Keystore;
use stkr_duties::{ForkSchedule, Preset, SigningRequest};
use stkr_gateway::api::Batch;
use stkr_gateway::config::GatewayConfig;
use stkr_node::config::{ProgramConfig, parse, render};
use stkr_protocol::api::{SignBatch, SignReplies};
use stkr_protocol::collection::Collection;
use stkr_protocol::conflicts::Conflicts;
use stkr_protocol::dealt::{DealtAcknowledgement, DealtKey, DealtShare, ImportKey};
use stkr_protocol::evidence::EvidenceFile;
use stkr_protocol::kept::Kept;
use stkr_protocol::sign::SignRequest;
use stkr_server::config::ServerConfig;

/// Whether the input was accepted; a finding says what is wrong with that.
type Check = Box<dyn FnMut(&[u8]) -> Result<bool, String>>;

/// One parser.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) corpus: Corpus,
    pub(crate) check: Check,
}

/// Signature checks cost a millisecond; of the files that parse, one in so many is checked.
const CHECKED: u64 = 16;
/// Longest refusal: it may quote names, never the input.
const REFUSAL: usize = 2_000;

pub(crate) fn all() -> Result<Vec<Target>> {
    let parties = Parties::new()?;
    let target = |name, corpus, check| Target { name, corpus, check };
    let requests = seeds::requests()?;
    let signing = seeds::schedule()?;
    Ok(vec![
        target("web3signer-request", Corpus::Json(requests.clone()), request(signing.clone())),
        target("web3signer-batch", Corpus::Json(batches(&requests)), Box::new(gateway_batch)),
        target("server-batch", Corpus::Json(parties.batches()?), server_batch(signing)),
        target("server-replies", Corpus::Json(parties.replies()?), replies(&parties)?),
        target("dealt-files", Corpus::Json(parties.dealt()?), dealt()),
        target("evidence", Corpus::Json(parties.evidence()?), evidence()),
        target("kept-page", Corpus::Json(parties.kept()?), Box::new(kept)),
        target("interchange", Corpus::Json(seeds::interchanges()?), Box::new(interchange)),
        target("keystore", Corpus::Json(seeds::keystores()?), Box::new(keystore)),
        target("gateway-config", Corpus::Lines(seeds::configs::<GatewayConfig>()?), Box::new(config::<GatewayConfig>)),
        target("server-config", Corpus::Lines(seeds::configs::<ServerConfig>()?), Box::new(config::<ServerConfig>)),
        target("fork-schedule", Corpus::Lines(seeds::schedules()), Box::new(schedule)),
        target("identifier", Corpus::Text(seeds::identifiers()), Box::new(identifier)),
        target("chain-log", Corpus::Binary(seeds::logs(&parties)), Box::new(chain_log)),
    ])
}

fn same<T: PartialEq>(what: &str, first: &T, again: &T) -> Result<(), String> {
    if first == again { Ok(()) } else { Err(format!("{what}: it means something else when read again")) }
}

fn short(error: &impl ToString) -> Result<bool, String> {
    let text = error.to_string();
    if text.len() > REFUSAL { Err(format!("a refusal of {} bytes", text.len())) } else { Ok(false) }
}

/// Reads JSON, writes it, reads it again.
fn reread<T: DeserializeOwned + Serialize + PartialEq>(what: &str, input: &[u8]) -> Result<Option<T>, String> {
    let Ok(value) = serde_json::from_slice::<T>(input) else { return Ok(None) };
    let written = serde_json::to_vec(&value).map_err(|error| format!("{what} is not written again: {error}"))?;
    let again = serde_json::from_slice::<T>(&written).map_err(|error| format!("{what} is refused again: {error}"))?;
    same(what, &value, &again)?;
    Ok(Some(value))
}

// ---------------------------------------------------------------------------------------------------- signing requests

fn request(schedule: ForkSchedule) -> Check {
    Box::new(move |input| {
        let mut accepted = false;
        for preset in [Preset::Minimal, Preset::Mainnet] {
            match SigningRequest::decode(input, preset) {
                Err(error) => _ = short(&error)?,
                Ok(request) => {
                    accepted = true;
                    let written = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
                    let again = SigningRequest::decode(&written, preset).map_err(|error| format!("again: {error}"))?;
                    same("the request", &request, &again)?;
                    same("its root", &request.verify(&schedule).ok(), &again.verify(&schedule).ok())?;
                    let _ = request.proves_fee_recipient(Address::ZERO, &schedule);
                }
            }
        }
        Ok(accepted)
    })
}

fn batches(requests: &[Value]) -> Vec<Value> {
    let item = |request: &Value| json!({"identifier": format!("0x{}", "ab".repeat(48)), "request": request});
    let all: Vec<Value> = requests.iter().map(item).collect();
    all.iter().map(|item| json!({"requests": [item]})).chain([json!({"requests": all.clone()})]).collect()
}

/// A batch as a client writes it; requests stay the text they are.
#[derive(Serialize)]
struct Items<'a> {
    requests: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    identifier: &'a str,
    request: &'a RawValue,
}

fn gateway_batch(input: &[u8]) -> Result<bool, String> {
    let Ok(batch) = serde_json::from_slice::<Batch>(input) else { return Ok(false) };
    let items = batch.requests.iter().map(|it| Item { identifier: &it.identifier, request: &it.request });
    let written = serde_json::to_vec(&Items { requests: items.collect() }).map_err(|error| error.to_string())?;
    let again = serde_json::from_slice::<Batch>(&written).map_err(|error| format!("it is refused again: {error}"))?;
    same("the number of requests", &batch.requests.len(), &again.requests.len())?;
    for (first, second) in batch.requests.iter().zip(&again.requests) {
        same("an identifier", &first.identifier, &second.identifier)?;
        let decode = |item: &stkr_gateway::api::BatchItem| {
            SigningRequest::decode(item.request.get().as_bytes(), Preset::Minimal).ok()
        };
        same("a request", &decode(first), &decode(second))?;
    }
    Ok(true)
}

fn server_batch(schedule: ForkSchedule) -> Check {
    Box::new(move |input| {
        let Some(batch) = reread::<SignBatch>("the batch", input)? else { return Ok(false) };
        for request in &batch.requests {
            match request {
                SignRequest::Duty(duty) => match duty.check(&schedule) {
                    Ok(checked) => _ = checked.duty_key(&DOMAIN),
                    Err(refusal) => _ = short(&refusal)?,
                },
                SignRequest::Deposit(deposit) => _ = deposit.checked_signing_root(),
                SignRequest::Change(change) => _ = change.checked_signing_root(),
            }
        }
        Ok(true)
    })
}

fn replies(parties: &Parties) -> Result<Check> {
    let (asked, committee) = (parties.asked()?, parties.committee.clone());
    Ok(Box::new(move |input| {
        let Some(replies) = reread::<SignReplies>("the replies", input)? else { return Ok(false) };
        let mut collection = Collection::new(asked.clone(), committee.clone(), []);
        let indices = committee.keys().threshold().indices();
        for (index, response) in indices.zip(replies.responses) {
            let _ = collection.on_response(index, response);
        }
        let _ = collection.candidate();
        Ok(true)
    }))
}

// --------------------------------------------------------------------------------------------------------------- files

/// A stranger's evidence: what is accepted is the same when read again, judged the same, and becomes a call of the Court.
fn evidence() -> Check {
    let mut parsed = 0_u64;
    Box::new(move |input| {
        let file = match EvidenceFile::from_json(input) {
            Err(error) => return short(&error),
            Ok(file) => file,
        };
        let written = serde_json::to_vec(&file).map_err(|error| format!("it is not written again: {error}"))?;
        let again = EvidenceFile::from_json(&written).map_err(|error| format!("it is refused again: {error}"))?;
        same("the evidence", &file, &again)?;
        same("its call", &stkr_chain::court::prove(&file), &stkr_chain::court::prove(&again))?;
        parsed += 1;
        if parsed.is_multiple_of(CHECKED) {
            match (file.verify(), again.verify()) {
                (Err(error), Err(_)) => _ = short(&error)?,
                (first, second) => same("the verdict", &first.ok(), &second.ok())?,
            }
        }
        Ok(true)
    })
}

/// A page that somebody saved of a gateway: what is found in it does conflict.
fn kept(input: &[u8]) -> Result<bool, String> {
    let kept = match Kept::from_json(input) {
        Err(error) => return short(&error),
        Ok(kept) => kept,
    };
    let mut conflicts = Conflicts::default();
    for envelope in kept.envelopes {
        conflicts.add((envelope.key_id, envelope.committee_epoch, envelope.index), envelope);
    }
    for (_, (first, second)) in conflicts.pairs() {
        if first.signing_root == second.signing_root || first.duty_kind != second.duty_kind {
            return Err(format!("these do not conflict: {first:?} {second:?}"));
        }
    }
    Ok(true)
}

fn dealt() -> Check {
    let mut parsed = 0_u64;
    Box::new(move |input| {
        let share = reread::<DealtShare>("the share", input)?;
        let key = reread::<DealtKey>("the key", input)?;
        let import = reread::<ImportKey>("the import key", input)?;
        let acknowledgement = reread::<DealtAcknowledgement>("the acknowledgement", input)?;
        if let Some(import) = &import {
            let _ = import.signer(&DOMAIN);
        }
        let accepted = share.is_some() || key.is_some() || import.is_some() || acknowledgement.is_some();
        let Some(key) = key.or_else(|| share.map(|share| share.key)) else { return Ok(accepted) };
        parsed += 1;
        if parsed.is_multiple_of(CHECKED)
            && let Err(error) = key.check(&DOMAIN)
        {
            short(&error)?;
        }
        Ok(accepted)
    })
}

fn interchange(input: &[u8]) -> Result<bool, String> {
    let normal = |input: &[u8]| {
        let mut output = Vec::new();
        stkr_protection::normalise(input, B256::repeat_byte(5), &mut output).map(|()| output)
    };
    match normal(input) {
        Err(error) => short(&error),
        Ok(written) => {
            let again = normal(&written).map_err(|error| format!("what was written is refused: {error}"))?;
            same("the history", &written, &again)?;
            Ok(true)
        }
    }
}

fn keystore(input: &[u8]) -> Result<bool, String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    match Keystore::from_json(text) {
        Err(error) => short(&error),
        Ok(keystore) => {
            let written = keystore.to_json().map_err(|error| error.to_string())?;
            let again = Keystore::from_json(&written).map_err(|error| format!("again: {error}"))?;
            same("the keystore", &written, &again.to_json().map_err(|error| error.to_string())?)?;
            Ok(true)
        }
    }
}

fn config<C: ProgramConfig + PartialEq>(input: &[u8]) -> Result<bool, String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    let path = Path::new("/etc/stkr/config.toml");
    match parse::<C>(text, path) {
        Err(error) => short(&error),
        Ok(config) => {
            let written = render(&config).map_err(|error| format!("it is not written: {error}"))?;
            let again = parse::<C>(&written, path).map_err(|error| format!("what was written is refused: {error}"))?;
            same("the configuration", &config, &again)?;
            Ok(true)
        }
    }
}

fn schedule(input: &[u8]) -> Result<bool, String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    match toml::from_str::<ForkSchedule>(text) {
        Err(error) => short(&error.message()),
        Ok(schedule) => {
            let fork = |fork: &stkr_duties::ScheduledFork| {
                let version = hex::encode(fork.version);
                format!("{{ name = \"{}\", version = \"0x{version}\", epoch = {} }}", fork.fork.name(), fork.epoch.0)
            };
            let written = format!(
                "preset = \"{}\"\ngenesis_validators_root = \"{}\"\ngenesis_time = {}\nseconds_per_slot = {}\nforks = [{}]",
                schedule.preset().name(),
                schedule.genesis_validators_root(),
                schedule.genesis_time(),
                schedule.seconds_per_slot(),
                schedule.forks().map(fork).collect::<Vec<_>>().join(", "),
            );
            let again = toml::from_str(&written).map_err(|error| format!("what was written is refused: {error}"))?;
            same("the schedule", &schedule, &again)?;
            Ok(true)
        }
    }
}

fn identifier(input: &[u8]) -> Result<bool, String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    let shown = stkr_gateway::signing::shown(text);
    match stkr_gateway::signing::read_pubkey(text) {
        Some(key) => {
            same("the key", &Some(key), &stkr_gateway::signing::read_pubkey(&shown))?;
            Ok(true)
        }
        None if shown.len() <= 98 && shown.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(false),
        None => Err(format!("a stranger's text is shown: {shown}")),
    }
}

// --------------------------------------------------------------------------------------------------------------- chain

fn chain_log(input: &[u8]) -> Result<bool, String> {
    let [contract, count, rest @ ..] = input else { return Ok(false) };
    let (topics, data) = rest.split_at((usize::from(*count) * 32).min(rest.len() / 32 * 32));
    let topics: Vec<B256> = topics.as_chunks().0.iter().map(|topic| B256::from(*topic)).collect();
    let contract = Address::repeat_byte(*contract);
    match StkrEvent::decode(&seeds::deployment(), contract, &topics, data) {
        StkrEvent::Unknown => Ok(false),
        StkrEvent::Key(event) => {
            rewritten(&event)?;
            if let KeyRegistryEvents::KeyFinalised(event) = event {
                finalised(&event);
            }
            Ok(true)
        }
        StkrEvent::Server(event) => rewritten(&event).map(|()| true),
        StkrEvent::Provider(event) => rewritten(&event).map(|()| true),
        StkrEvent::Court(event) => rewritten(&event).map(|()| true),
        StkrEvent::Reshare(event) => rewritten(&event).map(|()| true),
        StkrEvent::Acknowledgement(event) => rewritten(&event).map(|()| true),
        StkrEvent::Pool(event) => rewritten(&event).map(|()| true),
        StkrEvent::Withdrawal(event) => rewritten(&event).map(|()| true),
    }
}

fn rewritten<E: SolEventInterface + PartialEq + IntoLogData + Clone>(event: &E) -> Result<(), String> {
    let data = event.clone().into_log_data();
    let again = E::decode_raw_log(data.topics(), &data.data).map_err(|error| format!("refused again: {error}"))?;
    same("the event", event, &again)
}

/// As if the registry held the root of just this event: what comes after that check must stand anything too.
fn finalised(event: &stkr_chain::bindings::KeyRegistry::KeyFinalised) {
    let (points, _) = event.points.as_chunks::<128>();
    let member = |((at, id), signer): ((usize, &u32), &Address)| {
        let index = ShareIndex::new(u8::try_from(at + 1).ok()?).ok()?;
        Some(Member { index, server_id: *id, signer: *signer })
    };
    let members = event.committee.iter().enumerate().zip(&event.signers).filter_map(member);
    let leaves: Vec<B256> = members.zip(points).map(|(member, point)| leaf(&member, point)).collect();
    let commitment = if leaves.is_empty() { keccak256([]) } else { merkle_root(&leaves) };
    let key = KeyInfo {
        id: 9,
        consumer: Address::ZERO,
        state: KeyState::Live,
        kind: KeyKind::Validator,
        threshold: 3,
        members: 4,
        attempt: 0,
        mark: 0,
        commitment,
    };
    let _ = LiveKey::from_event(&key, event);
}
