//! The chain as Stkr's programs see it: only what it says is trusted, and everything an endpoint says about it is checked
//! as far as it can be.
//!
//! | module | what it is for |
//! |---|---|
//! | [`bindings`], [`types`] | the contracts as Rust types |
//! | [`deployment`] | where the contracts are; vault addresses derived locally |
//! | [`errors`] | contract errors with their own arguments, endpoint errors as sentences |
//! | [`endpoint`] | RPC endpoints: http and ws, time limits, names without secrets |
//! | [`reader`] | orders at `finalized` from endpoints that agree; everything else at `latest` |
//! | [`committees`] | the committees of a key and the reshare that is drawn, all at one finalised block |
//! | [`keys`] | the public half of a finalised key, checked against the registry's Merkle root |
//! | [`facts`] | a ceremony proven against a block's hash, for a machine without network |
//! | [`unanswered`] | evidence of silence, from the Court's storage |
//! | [`header`] | the RLP header that proves a committee's seed |
//! | [`store`], [`log`] | all events of our contracts in SQLite, across reorgs and restarts |
//! | [`court`], [`acknowledgements`] | evidence and challenges as calls of the Court |
//! | [`intents`] | transactions that happen once, across crashes, reorgs and rivals |
pub mod acknowledgements;
pub mod answers;
pub mod bindings;
pub mod committees;
pub mod court;
pub mod deployment;
pub mod endpoint;
pub mod errors;
pub mod facts;
pub mod header;
pub mod intents;
pub mod keys;
pub mod log;
pub mod reader;
pub mod store;
#[cfg(test)]
mod testing;
pub mod types;
pub mod unanswered;

pub use committees::{CommitteeTerm, DrawnReshare, KeyCommittees};
pub use deployment::Deployment;
pub use endpoint::{BlockId, Endpoint};
pub use errors::{ChainError, ContractError};
pub use intents::{Call, Confirm, IntentOptions, IntentState, IntentStatus, Intents, Superseded};
pub use keys::{KeyError, LiveKey, Member};
pub use log::{
    Change, EventLog, EventQuery, FinalReorg, LogOptions, LoggedDeposit, LoggedEvent, StkrEvent, WatchedKey,
};
pub use reader::{ChainReader, Committee, DutyAssignment, FinalizedReader, KeyInfo, PoolInfo, ServerInfo, Trust};
pub use store::{SCHEMA, SharedConnection, Store, migrate};
