//! The harness of devnet and end-to-end tests: real processes over real sockets on 127.0.0.1, none of which outlives
//! the one that started it.

pub mod anvil;
pub mod beacon;
pub mod by_hand;
pub mod checker;
pub mod deal;
pub mod dealt;
pub mod door;
pub mod events;
pub mod faults;
pub mod gateway;
pub mod gateway_process;
pub mod lodestar;
pub mod misbehaviour;
pub mod network;
pub mod offline;
pub mod process;
pub mod reshare;
pub mod slashable;
pub mod solidity;

pub use anvil::Anvil;
pub use dealt::DealtNetwork;
pub use door::Door;
pub use gateway_process::GatewayProcess;
pub use network::{Network, Options, Server};
pub use process::Process;
