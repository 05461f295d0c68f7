//! What can go wrong, in words: every error is one clear sentence, a stable code, and a hint at what to do.

use core::{error::Error as StdError, time::Duration};

use alloy::{
    primitives::{Address, B256, U256},
    transports::{RpcError, TransportError, TransportErrorKind},
};
use stkr_chain::errors::{ChainError, ContractError as RawError};
use thiserror::Error;

use crate::{amount, contract::ContractError};

/// Longest foreign text (an RPC's own words) that is repeated.
const MAX_FOREIGN: usize = 160;

/// Whose turn it is after an error. Programs turn it into their exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A contract, a fee cap or a balance says no. Exit code 1.
    Refused,
    /// The request itself makes no sense. Exit code 2.
    Usage,
    /// An RPC endpoint, a relayer or the chain has no answer now; trying again may help. Exit code 3.
    Unavailable,
    /// What was found contradicts what was configured: do not go on. Exit code 4.
    Unsafe,
}

/// Any failure of the SDK.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StkrError {
    /// The request was refused before any RPC.
    #[error("{reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A contract refused, with its own error and arguments.
    #[error("{0}")]
    Contract(ContractError),
    /// An RPC endpoint did not answer, or not what was asked.
    #[error("{action} failed: {cause}")]
    Rpc {
        /// What was tried.
        action: &'static str,
        /// The cause, without the endpoint's URL (it may hold a password).
        cause: String,
        /// The error underneath. Its text may hold the endpoint's URL: log [`StkrError`], not this.
        #[source]
        source: Box<TransportError>,
    },
    /// The endpoint follows another chain than the deployment names.
    #[error("the RPC endpoint is on chain {found}, the deployment is for chain {expected}")]
    WrongChain {
        /// Chain id in the deployment.
        expected: u64,
        /// Chain id of the endpoint.
        found: u64,
    },
    /// Nothing is deployed where a contract should be.
    #[error("there is no code at {address}, which the deployment file calls {name}")]
    NoContract {
        /// Field of the deployment file.
        name: &'static str,
        /// Address in the deployment.
        address: Address,
    },
    /// The contracts of the deployment file are others, or do not belong together, or the endpoint did not say.
    #[error("{0}")]
    Deployment(Box<ChainError>),
    /// No such thing on the chain.
    #[error("there is no {what}")]
    NotFound {
        /// What was asked for, for example `pool 7`.
        what: String,
    },
    /// The thing exists but is not far enough, or too far.
    #[error("{reason}")]
    NotReady {
        /// What is missing.
        reason: String,
    },
    /// A relayer does not answer, has no time, or does not answer as a relayer does.
    #[error("{reason}")]
    NoAnswer {
        /// Which one, and what it did.
        reason: String,
    },
    /// The account cannot pay.
    #[error("{account} has {} and needs {} for the transaction with its gas", amount::with_unit(*.balance), amount::with_unit(*.needed))]
    InsufficientFunds {
        /// Paying account.
        account: Address,
        /// Its balance in wei.
        balance: U256,
        /// Wei the transaction may cost at most.
        needed: U256,
    },
    /// The base fee is above the cap.
    #[error("the base fee is {} gwei, above the cap of {} gwei", gwei(*.base_fee), gwei(*.cap))]
    FeeAboveCap {
        /// Wei per gas the latest block asked for.
        base_fee: u128,
        /// Wei per gas allowed.
        cap: u128,
    },
    /// The wallet did not sign.
    #[error("the wallet did not sign: {cause}")]
    Signing {
        /// The wallet's words.
        cause: String,
    },
    /// The transaction is in a block and failed without a reason.
    #[error("{action} failed on-chain in transaction {transaction}")]
    Reverted {
        /// What was tried.
        action: &'static str,
        /// Transaction hash.
        transaction: B256,
    },
    /// The transaction is not in a block yet.
    #[error("transaction {transaction} was sent but is in no block after {} s", .waited.as_secs())]
    NotIncluded {
        /// Transaction hash.
        transaction: B256,
        /// How long it was followed.
        waited: Duration,
    },
    /// The transaction succeeded but its receipt lacks the event it must have.
    #[error("{action} succeeded in transaction {transaction}, but its receipt lacks the expected event")]
    UnexpectedReceipt {
        /// What was done.
        action: &'static str,
        /// Transaction hash.
        transaction: B256,
    },
    /// A watch was resumed at a block that was final and is not on this chain.
    #[error("block {number} with hash {hash} is not on this chain and cannot have been reorganised away")]
    ForeignCursor {
        /// Block number in the cursor.
        number: u64,
        /// Block hash in the cursor.
        hash: B256,
    },
    /// The chain contradicts itself or the deployment.
    #[error("{reason}")]
    Unsafe {
        /// What does not fit.
        reason: String,
    },
}

impl StkrError {
    pub(crate) fn invalid(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into(), hint: hint.into() }
    }

    /// Stable name of the error for programs, `snake_case`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Contract(_) => "contract",
            Self::Rpc { .. } => "rpc",
            Self::WrongChain { .. } => "wrong_chain",
            Self::NoContract { .. } => "no_contract",
            Self::Deployment(error) if error.is_transient() => "rpc",
            Self::Deployment(_) => "wrong_deployment",
            Self::NotFound { .. } => "not_found",
            Self::NotReady { .. } => "not_ready",
            Self::NoAnswer { .. } => "no_answer",
            Self::InsufficientFunds { .. } => "insufficient_funds",
            Self::FeeAboveCap { .. } => "fee_above_cap",
            Self::Signing { .. } => "signing",
            Self::Reverted { .. } => "reverted",
            Self::NotIncluded { .. } => "not_included",
            Self::UnexpectedReceipt { .. } => "unexpected_receipt",
            Self::ForeignCursor { .. } => "foreign_cursor",
            Self::Unsafe { .. } => "unsafe",
        }
    }

    /// Whose turn it is now.
    pub fn class(&self) -> Class {
        match self {
            Self::Invalid { .. } => Class::Usage,
            Self::Rpc { .. } | Self::NoAnswer { .. } | Self::NotIncluded { .. } => Class::Unavailable,
            Self::Deployment(error) if error.is_transient() => Class::Unavailable,
            Self::Deployment(_)
            | Self::WrongChain { .. }
            | Self::NoContract { .. }
            | Self::UnexpectedReceipt { .. }
            | Self::ForeignCursor { .. }
            | Self::Unsafe { .. } => Class::Unsafe,
            Self::Contract(_)
            | Self::NotFound { .. }
            | Self::NotReady { .. }
            | Self::InsufficientFunds { .. }
            | Self::FeeAboveCap { .. }
            | Self::Signing { .. }
            | Self::Reverted { .. } => Class::Refused,
        }
    }

    /// What to do about it, one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::Invalid { hint, .. } => hint.clone(),
            Self::Contract(error) => error.hint(),
            Self::Rpc { .. } => "check the RPC endpoint and try again; nothing was lost".into(),
            Self::Deployment(error) if error.is_transient() => "check the RPC endpoint and try again".into(),
            Self::WrongChain { .. } => "use the deployment file of this chain, or an RPC endpoint of that chain".into(),
            Self::NoContract { .. } | Self::Deployment(_) => {
                "use the deployment file that the deploy script wrote for this chain".into()
            }
            Self::NotFound { .. } => "list what there is and check the number".into(),
            Self::NotReady { .. } => "wait until it is, or look at the state first".into(),
            Self::NoAnswer { .. } => "try again in some seconds, or with another relayer".into(),
            Self::InsufficientFunds { .. } => "send ether to the account or use another one".into(),
            Self::FeeAboveCap { .. } => "wait for cheaper blocks or raise the cap".into(),
            Self::Signing { .. } => "check that the wallet holds the account".into(),
            Self::Reverted { .. } => "try it as a dry run for the reason".into(),
            Self::NotIncluded { .. } => {
                "look at the transaction before sending anything else: it may still go in".into()
            }
            Self::UnexpectedReceipt { .. } | Self::Unsafe { .. } => "do not go on; run verify-deployment".into(),
            Self::ForeignCursor { .. } => "start from a cursor of this chain".into(),
        }
    }
}

impl From<ChainError> for StkrError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::WrongChain { expected, found, .. } => Self::WrongChain { expected, found },
            ChainError::NoContract { name, address } => Self::NoContract { name, address },
            other => Self::Deployment(Box::new(other)),
        }
    }
}

/// Turns an RPC failure into a [`StkrError`]; for `map_err`.
pub(crate) fn rpc(action: &'static str) -> impl Fn(TransportError) -> StkrError {
    move |error| match RawError::in_rpc_error(&error) {
        Some(raw) => StkrError::Contract(raw.into()),
        None => StkrError::Rpc { action, cause: cause(&error), source: Box::new(error) },
    }
}

/// The cause of a transport failure in a few words, never with the endpoint's URL: many carry an access key in it.
fn cause(error: &TransportError) -> String {
    match error {
        RpcError::ErrorResp(payload) => format!("the endpoint answered `{}`", foreign(&payload.message)),
        RpcError::NullResp => "the endpoint answered nothing".into(),
        RpcError::DeserError { .. } => "the endpoint's answer was not what JSON-RPC promises".into(),
        RpcError::Transport(TransportErrorKind::HttpError(http)) => {
            format!("the endpoint answered HTTP {}", http.status)
        }
        RpcError::Transport(TransportErrorKind::HttpErrorWithRetryAfter { error, .. }) => {
            format!("the endpoint answered HTTP {}", error.status)
        }
        other => innermost(other),
    }
}

/// The innermost cause: for an HTTP client the operating system's words, without the URL of the outer layers.
fn innermost(error: &dyn StdError) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    let text = inner.to_string();
    if text.contains("://") { "the endpoint could not be reached".into() } else { foreign(&text) }
}

/// Foreign text, shortened, on one line, without control characters.
fn foreign(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_FOREIGN).collect()
}

/// Wei per gas as gwei, exact.
fn gwei(wei: u128) -> String {
    let whole = wei / 1_000_000_000;
    let rest = wei % 1_000_000_000;
    if rest == 0 {
        return whole.to_string();
    }
    let fraction = format!("{rest:0>9}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// As [`rpc`], for calls through a contract binding.
pub(crate) fn call(action: &'static str) -> impl Fn(alloy::contract::Error) -> StkrError {
    move |error| match error {
        alloy::contract::Error::TransportError(error) => rpc(action)(error),
        alloy::contract::Error::ZeroData(..) => {
            StkrError::Unsafe { reason: format!("{action} failed: no such function is deployed at that address") }
        }
        other => StkrError::Unsafe {
            reason: format!(
                "{action} failed: the contract answered something else than its interface says ({})",
                foreign(&other.to_string())
            ),
        },
    }
}
