//! A threshold server: takes part in key ceremonies and signs what the chain ordered.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`], [`setup`] | `server.toml`; `init` and `register-args` |
//! | [`store`], [`seal`] | what must never be forgotten; one-time secrets at rest |
//! | [`chain`] | the server's own look at the chain |
//! | [`ceremony`] | one call of a key ceremony |
//! | [`signing`] | whether to sign, and the answer |
//! | [`app`] | all of it behind one type, without sockets |
//! | [`api`], [`run`] | HTTP, and the daemon |
//!
//! # Trust
//! The chain, read through the operator's own endpoints, and nothing else. A request is a hint at what the chain may have
//! ordered; whoever sends it can delay, and that is all.

pub mod api;
pub mod app;
pub mod ceremony;
pub mod chain;
pub mod config;
pub mod metrics;
pub mod run;
pub mod seal;
pub mod setup;
pub mod signing;
pub mod store;
