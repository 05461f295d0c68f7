//! Attacks that tests and devnets mount against real processes. Test only: no product crate depends on this one, and
//! `cargo xtask lint` fails if one does.
//!
//! Each attack has what a real attacker would have and nothing more: the files of the servers it controls, the public
//! chain, and sockets.

pub mod accomplice;
pub mod bad_dealer;
pub mod foreign;
pub mod front;
pub mod split_view;
pub mod two_faced;

pub use foreign::{ForeignDeposit, foreign_deposit, stolen_signature};
