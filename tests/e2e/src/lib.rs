//! The harness of devnet and end-to-end tests: real processes over real sockets on 127.0.0.1, none of which outlives
//! the one that started it.

pub mod anvil;
pub mod by_hand;
pub mod door;
pub mod events;
pub mod gateway;
pub mod network;
pub mod process;
pub mod solidity;

pub use anvil::Anvil;
pub use door::Door;
pub use network::{Network, Options, Server};
pub use process::Process;
