//! A threshold server: takes part in key ceremonies and signs what the chain ordered.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`], [`setup`] | `server.toml`; `init`, `register-args`, `new-signer` |
//! | [`signers`], [`leaves`], [`rotation`] | the signer keys and whose they are; which shares name which; `signers`, `delete-signer` |
//! | [`store`], [`seal`] | what must never be forgotten; one-time secrets at rest |
//! | [`chain`] | the server's own look at the chain |
//! | [`ceremony`], [`reshare`] | one call of a key ceremony; of a reshare |
//! | [`offline`] | the same without network: files in, files out |
//! | [`serving`], [`erasure`] | whose turn it is in a key's committees; shares whose time is over |
//! | [`signing`] | whether to sign a deposit, and the answer |
//! | [`duty`], [`assignments`] | whether to sign a duty; who may ask for it |
//! | [`desk`], [`protection`] | slashing protection behind a queue; its commands |
//! | [`duties`], [`evidence`] | a batch of duties from request to answer; what is kept of it |
//! | [`watermarks`] | how far it has signed for a key, for who asks |
//! | [`app`] | all of it behind one type, without sockets |
//! | [`api`], [`run`] | HTTP, and the daemon |
//!
//! # Trust
//! The chain, read through the operator's own endpoints, and nothing else. A request is a hint at what the chain may have
//! ordered; whoever sends it can delay, and that is all. A duty is signed for the provider that the chain names, if this
//! server's own slashing protection agrees.

pub mod api;
pub mod app;
pub mod assignments;
pub mod ceremony;
pub mod chain;
pub mod change;
pub mod config;
pub mod conflicts;
pub mod dealt;
pub mod desk;
pub mod duties;
pub mod duty;
pub mod erasure;
pub mod evidence;
pub mod leaves;
pub mod metrics;
pub mod offline;
pub mod protection;
pub mod reshare;
pub mod rotation;
pub mod run;
pub mod seal;
pub mod serving;
pub mod setup;
pub mod signers;
pub mod signing;
pub mod store;
pub mod watermarks;
