//! Consensus-layer duties as pure values: what a validator key signs, and the root it signs over.
//!
//! Knows networks, forks, containers and Web3Signer's JSON; knows no key, no server, no clock, no database and no chain
//! connection. Containers follow the consensus specs from phase0 to Fulu, the newest fork that is final there; roots are
//! SSZ `hash_tree_root`.
//!
//! ```text
//! JSON --SigningRequest::decode--> SigningRequest { duty, fork_info, signing_root, proofs }
//! SigningRequest --verify(&ForkSchedule)--> root to sign
//!                --proves_fee_recipient(..)--> the block pays whom it must
//! Duty --slashable / epoch / slot--> slashing protection, clock
//! ```
//!
//! # The rule
//! The root comes from *our* [`ForkSchedule`] and the typed [`Duty`]. What a request says of forks, chain and root is
//! compared and refused where it differs; it never enters a hash.
//!
//! # Example
//! ```
//! use stkr_duties::{ForkSchedule, Preset, SigningRequest, Slashable, Epoch};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let request = br#"{
//!     "type": "ATTESTATION",
//!     "fork_info": {
//!         "fork": { "previous_version": "0x05000000", "current_version": "0x06000000", "epoch": "411392" },
//!         "genesis_validators_root": "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"
//!     },
//!     "attestation": {
//!         "slot": "13440000", "index": "0",
//!         "beacon_block_root": "0x1111111111111111111111111111111111111111111111111111111111111111",
//!         "source": {
//!             "epoch": "419999", "root": "0x2222222222222222222222222222222222222222222222222222222222222222"
//!         },
//!         "target": {
//!             "epoch": "420000", "root": "0x1111111111111111111111111111111111111111111111111111111111111111"
//!         }
//!     }
//! }"#;
//! let request = SigningRequest::decode(request, Preset::Mainnet)?;
//! let root = request.verify(&ForkSchedule::mainnet())?;
//! assert_eq!(
//!     request.duty.slashable(),
//!     Some(Slashable::Attestation { source: Epoch(419_999), target: Epoch(420_000) })
//! );
//! # assert!(request.verify(&ForkSchedule::hoodi()).is_err());
//! # let _ = root;
//! # Ok(())
//! # }
//! ```

pub mod containers;
mod deposit;
pub mod domain;
mod duty;
mod fork;
mod json;
mod network;
mod preset;
mod proof;
mod request;
mod schedule;
mod units;

pub use deposit::{DepositData, DepositMessage, compounding_withdrawal_credentials, eth1_withdrawal_credentials};
pub use domain::{DOMAIN_DEPOSIT, compute_domain, compute_signing_root};
pub use duty::{AggregateAndProof, Block, Duty, DutyError, DutyKind, FullBlock, Slashable};
pub use fork::{Fork, UnknownFork};
pub use network::{Network, UnknownNetwork};
pub use preset::{ByPreset, Limits, Mainnet, Minimal, Preset, UnknownPreset};
pub use proof::{BlockProof, BlockProperty, MAX_PROOFS, ProofError, is_valid_merkle_branch};
pub use request::{DecodeError, ForkInfo, MAX_REQUEST_BYTES, RequestFork, SigningRequest};
pub use schedule::{ForkConfig, ForkSchedule, ScheduleConfig, ScheduleError, ScheduledFork};
pub use units::{Epoch, Slot, ValidatorIndex};
