//! Stkr for programs: a typed client over any alloy `Provider`.
//!
//! [`Stkr::connect`] checks chain, code and wiring, then there is a room per contract: [`Stkr::servers`], [`Stkr::providers`],
//! [`Stkr::pools`], [`Stkr::positions`], [`Stkr::keys`], [`Stkr::reshares`], [`Stkr::faults`], [`Stkr::challenges`],
//! [`Stkr::ceremonies`], and [`Stkr::watch`] for events. Reads are plain async calls.
//! Every write is a [`Write`], which can be handed out unsigned, tried, or sent and followed into a block:
//!
//! ```no_run
//! use alloy::{network::EthereumWallet, signers::local::PrivateKeySigner};
//! use stkr_sdk::{Deployment, Endpoint, Stkr, amount};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = Endpoint::connect(&"http://127.0.0.1:8545".parse()?).await?;
//! let stkr = Stkr::connect(endpoint.provider().clone(), Deployment::load("deployments/31337.json")?).await?;
//!
//! let stake = stkr.pools().stake(1, amount::parse("0.5")?)?.fee_cap(30_000_000_000);
//! let for_a_wallet = stake.unsigned(); // to, input, value, chainId
//! let wallet = EthereumWallet::from(PrivateKeySigner::random());
//! let sent = stake.send_with(&wallet).await?; // signs here, sends, follows into a block
//! println!("{} used {} gas", sent.receipt.transaction_hash, sent.receipt.gas_used);
//! # let _ = for_a_wallet;
//! # Ok(())
//! # }
//! ```
//!
//! Any alloy provider will do, also one with a wallet ([`Write::send`]). [`Endpoint`] is one with time limits, for http and
//! ws; it also installs the process's TLS provider, which HTTP clients of this workspace do not bring themselves.
//!
//! # Errors
//! [`StkrError`] is one sentence, with [`StkrError::code`] and [`StkrError::hint`]; what a contract refuses comes back
//! as [`StkrError::Contract`] with the contract's own arguments. What cannot work is refused before any RPC.
//!
//! # Amounts
//! `U256` wei everywhere; [`amount`] reads and prints them exactly.
#![allow(
    clippy::result_large_err,
    reason = "errors are matched on with the contract's arguments inside, and cost nothing beside an RPC"
)]

mod abi;
mod acknowledgements;
pub mod amount;
mod bulletin;
mod ceremonies;
mod challenges;
mod client;
mod contract;
mod error;
mod event;
mod faults;
mod find;
mod governance;
mod keys;
mod offline;
mod pools;
mod positions;
mod providers;
mod reshares;
mod scan;
mod servers;
mod verify;
mod watch;
mod withdrawals;
mod write;

pub use acknowledgements::{AcknowledgementQuestion, AskedAcknowledgement};
use alloy::primitives::U256;
pub use ceremonies::{Ceremonies, CeremonyInfo, CeremonyRound, Moment, Seat, Standing, Waited};
pub use challenges::{Asks, ChallengeInfo, ChallengeState, Challenges, Question, answer_from_json};
pub use client::Stkr;
pub use contract::{ContractError, moment};
pub use error::{Class, StkrError};
pub use event::{Body, Event, PlainEvent};
pub use faults::{Checked, Faults, HistoryEntry, Incident, Judgement, OnRecord, Report, ReportOptions};
pub use keys::{KeyInfo, Keys, Successor};
pub use offline::{fetch_offline_request, offline_due, submit_offline_answer};
pub use pools::{PoolPenalties, Pools};
pub use positions::{Position, Positions};
pub use providers::{DutyKeyEntry, ProviderInfo, ProviderPenalty, Providers, duty_key_digest};
pub use reshares::{CarriedReshare, NextCommittee, ReshareInfo, ReshareRound, Reshares, WaitedPart};
pub use servers::{Registration, ServerInfo, Servers};
pub use stkr_chain::{
    Deployment, DutyAssignment, Endpoint, PoolInfo, bindings,
    court::SignedThing,
    types::{KeyKind, KeyState, PoolState, ReshareState, ServerKind, ServerStatus},
};
pub use stkr_core::{PublicKey, Signature};
pub use verify::{Check, DEPOSIT_CONTRACT_CODE_HASH, verify_deployment};
pub use watch::{Block, Cursor, Start, Update, Watch};
pub use withdrawals::{ChangeInfo, WithdrawalKeyInfo, WithdrawalKeys};
pub use write::{DryRun, Sent, Write};

/// Wei as a decimal string: JSON numbers lose digits beyond 2^53.
fn serde_wei<S: serde::Serializer>(wei: &U256, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(wei)
}
