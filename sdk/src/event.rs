//! Events of the contracts, typed for programs and named for people.

use core::fmt;

use alloy::{
    dyn_abi::{DynSolValue, EventExt as _},
    primitives::{Address, B256, LogData},
    rpc::types::Log,
    sol_types::SolEventInterface,
};
use serde::Serialize;
use serde_json::{Map, Value};
use stkr_chain::bindings::{
    Acknowledgements::AcknowledgementsEvents, Court::CourtEvents, KeyRegistry::KeyRegistryEvents,
    Micropools::MicropoolsEvents, ProviderRegistry::ProviderRegistryEvents, Resharing::ResharingEvents,
    ServerRegistry::ServerRegistryEvents, WithdrawalKeys::WithdrawalKeysEvents,
};

use crate::{abi, error::StkrError, watch::Block};

/// Contracts whose events are read, in the order their events are tried.
const EMITTERS: [&str; 8] = [
    "ServerRegistry",
    "ProviderRegistry",
    "KeyRegistry",
    "Resharing",
    "Court",
    "Acknowledgements",
    "Micropools",
    "WithdrawalKeys",
];

/// An event in a block.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Block it is in.
    pub block: Block,
    /// Transaction that made it.
    pub transaction: B256,
    /// Position in the block.
    pub log_index: u64,
    /// Contract that emitted it.
    pub address: Address,
    /// What happened.
    pub body: Body,
    raw: LogData,
}

/// What happened, typed by contract.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Body {
    /// In the ServerRegistry.
    Server(ServerRegistryEvents),
    /// In the ProviderRegistry.
    Provider(ProviderRegistryEvents),
    /// In the KeyRegistry.
    Key(KeyRegistryEvents),
    /// In the KeyRegistry's Resharing.
    Reshare(ResharingEvents),
    /// In the Court.
    Court(CourtEvents),
    /// In the Court's Acknowledgements.
    Acknowledgement(AcknowledgementsEvents),
    /// In Micropools.
    Pool(MicropoolsEvents),
    /// In the WithdrawalKeys of Micropools.
    Withdrawal(WithdrawalKeysEvents),
    /// An event this version does not know.
    Other,
}

/// An event in plain words: names and values as text, as `stkr watch --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlainEvent {
    /// Contract name, empty for an unknown event.
    pub contract: String,
    /// Event name, or its first topic for an unknown event.
    pub event: String,
    /// Arguments by name: integers as decimal strings, bytes as `0x` hex, lists as lists.
    pub args: Map<String, Value>,
    /// Block it is in.
    pub block: Block,
    /// Transaction that made it.
    pub transaction: B256,
    /// Position in the block.
    pub log_index: u64,
}

struct Named {
    contract: &'static str,
    event: String,
    args: Vec<(String, Value)>,
}

impl Event {
    /// Reads a log.
    ///
    /// # Errors
    /// [`StkrError::Unsafe`] for a log without block, transaction or index.
    pub(crate) fn from_log(log: &Log) -> Result<Self, StkrError> {
        let place = (log.block_number, log.block_hash, log.transaction_hash, log.log_index);
        let (Some(number), Some(hash), Some(transaction), Some(log_index)) = place else {
            return Err(StkrError::Unsafe { reason: "the endpoint gave an event that is in no block".into() });
        };
        Ok(Self {
            block: Block { number, hash },
            transaction,
            log_index,
            address: log.address(),
            body: body_of(log.inner.data.topics(), &log.inner.data.data),
            raw: log.inner.data.clone(),
        })
    }

    /// The event with names and values as text.
    pub fn plain(&self) -> PlainEvent {
        let Named { contract, event, args } = self.named();
        let Self { block, transaction, log_index, .. } = *self;
        let args = args.into_iter().collect();
        PlainEvent { contract: contract.to_owned(), event, args, block, transaction, log_index }
    }

    /// Names and values in the contract's order; an unknown event goes by its first topic.
    fn named(&self) -> Named {
        self.decode().unwrap_or_else(|| {
            let topic = self.raw.topics().first().map(ToString::to_string).unwrap_or_default();
            Named { contract: "", event: topic, args: Vec::new() }
        })
    }

    fn decode(&self) -> Option<Named> {
        let topic = self.raw.topics().first()?;
        for contract in EMITTERS {
            let found = abi::artefact(contract).ok()?.abi.events().find(|event| event.selector() == *topic);
            let Some(event) = found else { continue };
            let decoded = event.decode_log(&self.raw).ok()?;
            let (mut indexed, mut body) = (decoded.indexed.into_iter(), decoded.body.into_iter());
            let mut args = Vec::new();
            for input in &event.inputs {
                let value = if input.indexed { indexed.next() } else { body.next() }?;
                args.push((input.name.clone(), plain_value(&value)));
            }
            return Some(Named { contract, event: event.name.clone(), args });
        }
        None
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.named();
        write!(f, "{} {}", self.block.number, named.event)?;
        for (name, value) in &named.args {
            match value {
                Value::String(text) if text.len() > 66 => write!(f, " {name}={}…", text.get(..18).unwrap_or(text))?,
                Value::String(text) => write!(f, " {name}={text}")?,
                other => write!(f, " {name}={other}")?,
            }
        }
        Ok(())
    }
}

fn body_of(topics: &[B256], data: &[u8]) -> Body {
    if let Ok(event) = MicropoolsEvents::decode_raw_log(topics, data) {
        return Body::Pool(event);
    }
    if let Ok(event) = WithdrawalKeysEvents::decode_raw_log(topics, data) {
        return Body::Withdrawal(event);
    }
    if let Ok(event) = KeyRegistryEvents::decode_raw_log(topics, data) {
        return Body::Key(event);
    }
    if let Ok(event) = ResharingEvents::decode_raw_log(topics, data) {
        return Body::Reshare(event);
    }
    if let Ok(event) = ServerRegistryEvents::decode_raw_log(topics, data) {
        return Body::Server(event);
    }
    if let Ok(event) = CourtEvents::decode_raw_log(topics, data) {
        return Body::Court(event);
    }
    if let Ok(event) = AcknowledgementsEvents::decode_raw_log(topics, data) {
        return Body::Acknowledgement(event);
    }
    match ProviderRegistryEvents::decode_raw_log(topics, data) {
        Ok(event) => Body::Provider(event),
        Err(_) => Body::Other,
    }
}

fn plain_value(value: &DynSolValue) -> Value {
    match value {
        DynSolValue::Bool(flag) => Value::Bool(*flag),
        DynSolValue::Uint(number, _) => Value::String(number.to_string()),
        DynSolValue::Int(number, _) => Value::String(number.to_string()),
        DynSolValue::Address(address) => Value::String(address.to_string()),
        DynSolValue::FixedBytes(word, size) => {
            Value::String(format!("0x{}", hex::encode(word.get(..*size).unwrap_or_default())))
        }
        DynSolValue::Bytes(bytes) => Value::String(format!("0x{}", hex::encode(bytes))),
        DynSolValue::String(text) => Value::String(text.clone()),
        DynSolValue::Array(list) | DynSolValue::FixedArray(list) | DynSolValue::Tuple(list) => {
            Value::Array(list.iter().map(plain_value).collect())
        }
        other => Value::String(format!("{other:?}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloy::{
        primitives::{Log as PrimitiveLog, U256},
        sol_types::SolEvent as _,
    };
    use stkr_chain::bindings::Micropools;

    pub(crate) fn staked(block: Block, log_index: u64) -> Event {
        let event = Micropools::Staked {
            poolId: U256::from(1),
            staker: Address::repeat_byte(5),
            amount: U256::from(7),
            staked: U256::from(9),
        };
        let log = Log {
            inner: PrimitiveLog { address: Address::repeat_byte(1), data: event.encode_log_data() },
            block_hash: Some(block.hash),
            block_number: Some(block.number),
            transaction_hash: Some(B256::repeat_byte(3)),
            log_index: Some(log_index),
            ..Log::default()
        };
        Event::from_log(&log).unwrap()
    }

    #[test]
    fn an_event_is_typed_for_programs_and_named_for_people() {
        let block = Block { number: 12, hash: B256::repeat_byte(2) };
        let event = staked(block, 4);
        assert!(matches!(&event.body, Body::Pool(MicropoolsEvents::Staked(staked)) if staked.amount == U256::from(7)));
        let plain = event.plain();
        assert_eq!((plain.contract.as_str(), plain.event.as_str()), ("Micropools", "Staked"));
        assert_eq!(plain.args["amount"], "7");
        assert_eq!(plain.args["staker"], Address::repeat_byte(5).to_string());
        assert!(event.to_string().starts_with("12 Staked poolId=1 staker=0x"), "{event}");
    }

    #[test]
    fn a_log_in_no_block_is_refused() {
        assert!(matches!(Event::from_log(&Log::default()), Err(StkrError::Unsafe { .. })));
    }

    #[test]
    fn an_unknown_event_is_told_and_not_lost() {
        let log = Log {
            block_hash: Some(B256::ZERO),
            block_number: Some(1),
            transaction_hash: Some(B256::ZERO),
            log_index: Some(0),
            inner: PrimitiveLog::new_unchecked(Address::ZERO, vec![B256::repeat_byte(9)], vec![1, 2].into()),
            ..Log::default()
        };
        let event = Event::from_log(&log).unwrap();
        assert_eq!(event.body, Body::Other);
        assert_eq!(event.plain().event, B256::repeat_byte(9).to_string());
    }
}
