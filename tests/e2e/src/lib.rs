//! The harness of devnet and end-to-end tests: real processes over real sockets on 127.0.0.1, none of which outlives
//! the one that started it.

pub mod anvil;
pub mod door;
pub mod events;
pub mod network;
pub mod process;

pub use anvil::Anvil;
pub use door::Door;
pub use network::{Network, Options, Server};
pub use process::Process;
