//! The chain as Stkr's programs see it: only what it says is trusted, and everything an endpoint says about it is checked
//! as far as it can be.
//!
//! | module | what it is for |
//! |---|---|
//! | [`bindings`], [`types`] | the contracts as Rust types |
//! | [`deployment`] | where the contracts are; vault addresses derived locally |
//! | [`errors`] | contract errors with their own arguments, endpoint errors as sentences |
//! | [`endpoint`] | RPC endpoints: http and ws, time limits, names without secrets |
pub mod bindings;
pub mod deployment;
pub mod endpoint;
pub mod errors;
pub mod types;

pub use deployment::Deployment;
pub use endpoint::{BlockId, Endpoint};
pub use errors::{ChainError, ContractError};
