//! The Stkr relayer: it watches the chain, carries ceremonies, collects signatures and pushes every step that anyone
//! may push. It trusts nobody and is trusted by nobody; several at once do no harm.
//!
//! ```text
//! chain ──events──> View ──> plan ──┬─> transactions (intents: signed, stored, sent; one per step)
//!   ^                               ├─> Carrier: ceremony messages <──> servers     (bulletin in SQLite)
//!   └──── transactions ─────────────┴─> Collector: partial signatures <── servers
//! ```
//!
//! [`view`] and [`plan`] are pure; [`picture`] keeps the view in step with the event log; [`engine`] runs them against the world; [`status`] is what people see of it.

pub mod app;
pub mod attention;
pub mod beacon;
pub mod carry;
pub mod cases;
pub mod challenges;
pub mod charges;
pub mod config;
pub mod conflicts;
pub mod deposits;
pub mod desk;
pub mod engine;
pub mod events;
pub mod http;
pub mod offline;
mod patience;
pub mod picture;
pub mod plan;
pub mod probe;
pub mod reshares;
pub mod shared;
pub mod status;
pub mod store;
pub mod turns;
pub mod view;
pub mod workers;
