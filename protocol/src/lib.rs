//! What servers, relayers, gateways and contracts say to each other, as pure values and state machines.
//!
//! `docs/protocol.md` is the specification of the bytes; this crate is the one Rust implementation of it. Nothing here
//! does any IO: programs store what a state machine returns, send what it allows and hand it what they received.
//!
//! ```text
//! reshare:    Participant (a server that deals, gets a share, or both) <--ReshareMessage--> bulletin --Transcript--> the contract
//! ceremony:   Member (a server) <--SignedMessage--> bulletin (a relayer's Board) --Transcript--> the contract
//! signing:    Collection (a relayer or gateway) --SignRequest--> server --SignedPartial + Envelope--> Collection
//! ```
//!
//! # Trust
//! Everything that comes in may be malicious. A message counts only if the signer key that the chain names for the
//! claimed member made it; anything else is refused without effect, so that who carries messages can delay a ceremony
//! but never decide how it ends.

pub mod api;
pub mod ceremony;
pub mod collection;
pub mod conflicts;
pub mod dealt;
#[cfg(test)]
mod dice;
mod domain;
mod eip712;
pub mod envelope;
pub mod evidence;
pub mod handover;
mod json;
pub mod kept;
pub mod leaves;
pub mod messages;
pub mod offline;
mod posted;
pub mod registration;
pub mod reshare;
pub mod schema;
pub mod sign;
mod signer;
pub mod silence;
pub mod state;

pub use domain::ProtocolDomain;
pub use json::{ListOf, json_reason};
pub use signer::{SignatureError, SignerKey, SignerKeyError, recover_signer};
