//! What every Stkr program needs around its own work: configuration, TLS, database files, logs, metrics, HTTP,
//! shutdown, secrets on disk and exit codes.
//!
//! Nothing here knows what a key or a pool is. Programs wire these parts together and stay thin; the two modules that do
//! speak the protocol, [`client`] and [`collector`], are shared by the relayer and the gateway, and [`history`], the commands
//! of slashing protection, by the gateway and the server.

pub mod budget;
pub mod client;
pub mod clock;
pub mod collector;
pub mod config;
pub mod database;
pub mod endpoints;
pub mod exit;
pub mod history;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod qr;
pub mod rate;
pub mod secrets;
pub mod shutdown;
pub mod tls;
