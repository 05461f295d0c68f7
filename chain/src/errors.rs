//! Contract errors with their own name and arguments, and endpoint errors as sentences.

use std::{collections::BTreeMap, fmt, sync::LazyLock, time::Duration};

use alloy::{
    dyn_abi::{DynSolValue, JsonAbiExt},
    json_abi::{Error as AbiError, JsonAbi},
    primitives::{Address, B256, Bytes},
    sol_types::SolError,
    transports::{RpcError, TransportErrorKind},
};

use crate::types::{UnknownVariant, variant_name};

alloy::sol! {
    /// Errors of the OpenZeppelin contracts ours are built from, and of Solidity itself.
    #[allow(missing_docs)]
    #[sol(abi, all_derives)]
    interface OpenZeppelin {
        error AccessManagedUnauthorized(address caller);
        error AccessManagedRequiredDelay(address caller, uint32 delay);
        error AccessManagedInvalidAuthority(address authority);
        error AccessManagerUnauthorizedAccount(address msgsender, uint64 roleId);
        error AccessManagerUnauthorizedCall(address caller, address target, bytes4 selector);
        error AccessManagerNotScheduled(bytes32 operationId);
        error AccessManagerNotReady(bytes32 operationId);
        error AccessManagerExpired(bytes32 operationId);
        error AccessManagerAlreadyScheduled(bytes32 operationId);
        error ERC6909InsufficientBalance(address sender, uint256 balance, uint256 needed, uint256 id);
        error ERC6909InsufficientAllowance(address spender, uint256 allowance, uint256 needed, uint256 id);
        error ERC6909InvalidApprover(address approver);
        error ERC6909InvalidReceiver(address receiver);
        error ERC6909InvalidSender(address sender);
        error ERC6909InvalidSpender(address spender);
        error ReentrancyGuardReentrantCall();
        error ECDSAInvalidSignature();
        error ECDSAInvalidSignatureLength(uint256 length);
        error ECDSAInvalidSignatureS(bytes32 s);
        error SafeCastOverflowedUintDowncast(uint8 bits, uint256 value);
        error FailedDeployment();
        error FailedCall();
        error InsufficientBalance(uint256 balance, uint256 needed);
        error Error(string reason);
        error Panic(uint256 code);
    }
}

/// Longest foreign text (an endpoint's own words) that is repeated, in characters.
const MAX_FOREIGN: usize = 300;

/// Source of one contract's errors: its ABI, and the interface whose NatSpec says when each is raised.
const SOURCES: [(&str, &str, &str); 9] = [
    (
        "ServerRegistry",
        include_str!("../../abi/ServerRegistry.json"),
        include_str!("../../contracts/interfaces/IServerRegistry.sol"),
    ),
    ("Court", include_str!("../../abi/Court.json"), include_str!("../../contracts/interfaces/ICourt.sol")),
    // Behind the Court, whose errors it shares and whose interface tells what they mean.
    (
        "Acknowledgements",
        include_str!("../../abi/Acknowledgements.json"),
        include_str!("../../contracts/interfaces/IAcknowledgements.sol"),
    ),
    (
        "ProviderRegistry",
        include_str!("../../abi/ProviderRegistry.json"),
        include_str!("../../contracts/interfaces/IProviderRegistry.sol"),
    ),
    (
        "KeyRegistry",
        include_str!("../../abi/KeyRegistry.json"),
        include_str!("../../contracts/interfaces/IKeyRegistry.sol"),
    ),
    // Behind the KeyRegistry, whose errors it shares.
    ("Resharing", include_str!("../../abi/Resharing.json"), include_str!("../../contracts/interfaces/IResharing.sol")),
    (
        "Micropools",
        include_str!("../../abi/Micropools.json"),
        include_str!("../../contracts/interfaces/IMicropools.sol"),
    ),
    (
        "WithdrawalKeys",
        include_str!("../../abi/WithdrawalKeys.json"),
        include_str!("../../contracts/interfaces/IWithdrawalKeys.sol"),
    ),
    ("PoolVault", include_str!("../../abi/PoolVault.json"), include_str!("../../contracts/interfaces/IPoolVault.sol")),
];

/// `abi/*.json`.
#[derive(serde::Deserialize)]
struct Artefact {
    abi: JsonAbi,
}

struct KnownError {
    contracts: Vec<&'static str>,
    error: AbiError,
    raised_when: Option<String>,
}

/// Every error we can name, by selector. Built once from the committed ABIs.
static KNOWN: LazyLock<BTreeMap<[u8; 4], KnownError>> = LazyLock::new(|| {
    let mut known: BTreeMap<[u8; 4], KnownError> = BTreeMap::new();
    let ours = SOURCES.iter().filter_map(|(contract, abi, interface)| {
        let artefact: Artefact = serde_json::from_str(abi).ok()?;
        Some((*contract, artefact.abi, *interface))
    });
    for (contract, abi, interface) in ours.chain([("OpenZeppelin", OpenZeppelin::abi::contract(), "")]) {
        for error in abi.errors.into_values().flatten() {
            let raised_when = raised_when(interface, &error.name);
            known
                .entry(error.selector().0)
                .and_modify(|entry| entry.contracts.push(contract))
                .or_insert_with(|| KnownError { contracts: vec![contract], error, raised_when });
        }
    }
    known
});

/// The NatSpec sentence above `error name(`, without "Raised ".
fn raised_when(interface: &str, name: &str) -> Option<String> {
    let before = &interface[..interface.find(&format!("error {name}("))?];
    let block: Vec<&str> = before
        .lines()
        .rev()
        .skip(1)
        .map(str::trim)
        .take_while(|line| line.starts_with("///"))
        .map(|line| line.trim_start_matches('/').trim())
        .collect();
    let text = block.into_iter().rev().collect::<Vec<_>>().join(" ");
    let sentence = text.strip_prefix("@notice Raised ")?;
    Some(sentence.split(". ").next().unwrap_or(sentence).trim_end_matches('.').to_owned())
}

/// A contract refused a call, and said why.
///
/// Displays as `Micropools refused: GapTooSmall(gap: 1, minimum: 2), raised when …`: the contract's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractError {
    /// Contract that has this error; several joined by `/` where they share it; `unknown` where nobody has.
    pub contract: String,
    /// Name of the error in Solidity, or the selector as hex where nobody knows it.
    pub name: String,
    /// Name and value of each argument, in order, as text: enums by name, bytes as hex, integers in decimal.
    pub arguments: Vec<(String, String)>,
    /// When the contract raises it, in the words of its interface.
    pub raised_when: Option<String>,
    /// The revert data as it came; [`ContractError::typed`] decodes it.
    pub data: Bytes,
}

impl ContractError {
    /// Reads revert data. Total: data nobody knows becomes an error called by its selector.
    #[must_use]
    pub fn decode(data: &[u8]) -> Self {
        let bytes = Bytes::copy_from_slice(data);
        let Some(selector) = data.first_chunk::<4>() else {
            return Self {
                contract: "unknown".into(),
                name: "reverted without a reason".into(),
                arguments: vec![],
                raised_when: None,
                data: bytes,
            };
        };
        let decoded =
            KNOWN.get(selector).and_then(|known| Some((known, known.error.abi_decode_input(&data[4..]).ok()?)));
        match decoded {
            Some((known, values)) => Self {
                contract: known.contracts.join("/"),
                name: known.error.name.clone(),
                arguments: (known.error.inputs.iter().zip(&values))
                    .map(|(input, value)| (input.name.clone(), render(input.internal_type.as_ref(), value)))
                    .collect(),
                raised_when: known.raised_when.clone(),
                data: bytes,
            },
            None => Self {
                contract: "unknown".into(),
                name: alloy::hex::encode_prefixed(selector),
                arguments: vec![("data".into(), alloy::hex::encode_prefixed(&data[4..]))],
                raised_when: None,
                data: bytes,
            },
        }
    }

    /// Whether this is the error `E`, whatever its arguments.
    #[must_use]
    pub fn is<E: SolError>(&self) -> bool {
        self.data.get(..4) == Some(E::SELECTOR.as_slice())
    }

    /// The error as the binding's own type, with its arguments.
    #[must_use]
    pub fn typed<E: SolError>(&self) -> Option<E> {
        if self.is::<E>() { E::abi_decode(&self.data).ok() } else { None }
    }

    /// The revert data inside an endpoint's error answer, if the call reverted. A revert without any data answers with
    /// code 3 or the words "execution reverted" only.
    #[must_use]
    pub fn in_rpc_error(error: &RpcError<TransportErrorKind>) -> Option<Self> {
        let payload = error.as_error_resp()?;
        if let Some(data) = payload.as_revert_data() {
            return Some(Self::decode(&data));
        }
        let reverted = payload.code == 3 || payload.message.to_lowercase().contains("execution reverted");
        reverted.then(|| Self::decode(&[]))
    }

    /// The revert data inside a failed contract call, if it reverted.
    #[must_use]
    pub fn in_call_error(error: &alloy::contract::Error) -> Option<Self> {
        match error {
            alloy::contract::Error::TransportError(error) => Self::in_rpc_error(error),
            _ => None,
        }
    }
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} refused: {}", self.contract, self.name)?;
        if !self.arguments.is_empty() {
            let arguments: Vec<String> = (self.arguments.iter())
                .map(|(name, value)| if name.is_empty() { value.clone() } else { format!("{name}: {value}") })
                .collect();
            write!(f, "({})", arguments.join(", "))?;
        }
        match &self.raised_when {
            Some(when) => write!(f, ", raised {when}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ContractError {}

fn render(internal: Option<&alloy::json_abi::InternalType>, value: &DynSolValue) -> String {
    match value {
        DynSolValue::Uint(number, _) => {
            let variant = internal
                .and_then(|internal| internal.as_enum())
                .and_then(|(_, name)| variant_name(name, u8::try_from(*number).ok()?));
            variant.map_or_else(|| number.to_string(), str::to_owned)
        }
        DynSolValue::Int(number, _) => number.to_string(),
        DynSolValue::Bool(flag) => flag.to_string(),
        DynSolValue::Address(address) => address.to_string(),
        DynSolValue::FixedBytes(word, size) => alloy::hex::encode_prefixed(&word[..(*size).min(32)]),
        DynSolValue::Bytes(bytes) => alloy::hex::encode_prefixed(bytes),
        // Debug escapes control characters: a contract must not write into somebody's terminal.
        DynSolValue::String(text) => format!("{text:?}"),
        DynSolValue::Array(items) | DynSolValue::FixedArray(items) | DynSolValue::Tuple(items) => {
            format!("[{}]", items.iter().map(|item| render(None, item)).collect::<Vec<_>>().join(", "))
        }
        DynSolValue::Function(function) => alloy::hex::encode_prefixed(function.as_slice()),
    }
}

/// What can go wrong between this program and the chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// An endpoint did not answer, or answered nonsense. Worth another try.
    #[error("{action} failed: {detail}; check that the RPC endpoint is up and its address is right")]
    Unavailable {
        /// What was asked.
        action: String,
        /// What came back, with every URL cut down to its host: paths of RPC URLs are often secrets.
        detail: String,
    },
    /// No answer within the time allowed. Worth another try.
    #[error("{action} got no answer within {} s; check that the RPC endpoint is up", .after.as_secs())]
    Timeout {
        /// What was asked.
        action: String,
        /// How long we waited.
        after: Duration,
    },
    /// A contract refused.
    #[error("{action}: {error}")]
    Reverted {
        /// What was asked.
        action: String,
        /// The contract's own error.
        error: Box<ContractError>,
    },
    /// The endpoint is up and refuses the request.
    #[error("{action} was refused by the RPC endpoint (code {code}): {message}")]
    Refused {
        /// What was asked.
        action: String,
        /// JSON-RPC error code.
        code: i64,
        /// JSON-RPC error message.
        message: String,
    },
    /// An answer that no honest endpoint gives.
    #[error("{action}: the RPC endpoint answered nonsense: {detail}")]
    Nonsense {
        /// What was asked.
        action: String,
        /// What is wrong with the answer.
        detail: String,
    },
    /// The endpoint serves another chain than the deployment file says.
    #[error(
        "the RPC endpoint {endpoint} serves chain {found}, the deployment file is for chain {expected}; correct one of them"
    )]
    WrongChain {
        /// Host of the endpoint.
        endpoint: String,
        /// Chain id of the deployment file.
        expected: u64,
        /// Chain id of the endpoint.
        found: u64,
    },
    /// No contract where the deployment file says there is one.
    #[error(
        "there is no contract at {address}, which the deployment file calls {name}; it is for another chain, or the address is wrong"
    )]
    NoContract {
        /// Field of the deployment file.
        name: &'static str,
        /// Its value.
        address: Address,
    },
    /// Another contract where the deployment file says there is this one.
    #[error(
        "what is at {address} is another contract than the one the deployment file calls {name}; the file names a wrong address"
    )]
    OtherContract {
        /// Field of the deployment file.
        name: &'static str,
        /// Its value.
        address: Address,
    },
    /// Contracts of the deployment file do not belong together.
    #[error(
        "{contract} works with {field} {found}, the deployment file says {expected}; the file mixes two deployments"
    )]
    WrongWiring {
        /// Contract that was asked.
        contract: &'static str,
        /// What it was asked for.
        field: &'static str,
        /// The file's value.
        expected: String,
        /// The contract's value.
        found: String,
    },
    /// The deployment file cannot be used.
    #[error("the deployment file {path}: {detail}")]
    BadDeployment {
        /// Path of the file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A URL that is no endpoint.
    #[error("{url} is no RPC endpoint: {detail}")]
    BadEndpoint {
        /// Scheme and host.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Two endpoints differ about a fact that cannot be taken back. Nothing may be signed on either's word.
    #[error(
        "two RPC endpoints disagree about {question}: {first} says {first_answer}, {second} says {second_answer}; one of them lies or is out of order, so nothing is signed"
    )]
    EndpointsDisagree {
        /// What both were asked.
        question: String,
        /// Host of one.
        first: String,
        /// Its answer.
        first_answer: String,
        /// Host of the other.
        second: String,
        /// Its answer.
        second_answer: String,
    },
    /// Too few endpoints for a decision that cannot be taken back.
    #[error(
        "{configured} RPC endpoint(s) configured and {needed} needed: an order that cannot be taken back is believed only if two independent endpoints agree; add one"
    )]
    TooFewEndpoints {
        /// Endpoints in the configuration.
        configured: usize,
        /// Endpoints needed.
        needed: usize,
    },
    /// A number the contracts' enums do not have.
    #[error(transparent)]
    UnknownVariant(#[from] UnknownVariant),
    /// An event that is not the public half of the key.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyError),
    /// The chain holds no such thing.
    #[error("{0}")]
    NotFound(String),
    /// A block the database holds as final is not on the endpoint's chain.
    #[error(
        "block {number} was final as {stored} and the RPC endpoint now has {found} there; the endpoint serves another chain, or the database belongs to another one"
    )]
    FinalBlockVanished {
        /// Block number.
        number: u64,
        /// Hash in the database.
        stored: B256,
        /// The endpoint's hash, or that it has no such block.
        found: String,
    },
    /// The database was made for another deployment.
    #[error(
        "the database belongs to {stored}, the configuration says {configured}; use the right database or start an empty one"
    )]
    ForeignDatabase {
        /// Deployment the database was made for.
        stored: String,
        /// Deployment of the configuration.
        configured: String,
    },
    /// One name for two intents.
    #[error("the intent {key} exists already with another call; a name stands for one call for ever")]
    DifferentIntent {
        /// Name of the intent.
        key: String,
    },
    /// The local key could not sign.
    #[error("the transaction could not be signed: {0}")]
    Signer(String),
    /// The local database failed.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
}

impl ChainError {
    /// An endpoint's error, with what was asked of it. A revert becomes [`ChainError::Reverted`].
    #[must_use]
    pub fn from_rpc(action: impl Into<String>, error: &RpcError<TransportErrorKind>) -> Self {
        let action = action.into();
        if let Some(error) = ContractError::in_rpc_error(error) {
            return Self::Reverted { action, error: Box::new(error) };
        }
        match error.as_error_resp() {
            Some(payload) => Self::Refused { action, code: payload.code, message: foreign(&payload.message) },
            None => Self::Unavailable { action, detail: foreign(&with_sources(error)) },
        }
    }

    /// A failed contract call, with what was asked.
    #[must_use]
    pub fn from_call(action: impl Into<String>, error: &alloy::contract::Error) -> Self {
        match error {
            alloy::contract::Error::TransportError(error) => Self::from_rpc(action, error),
            // An account without code answers every call with nothing.
            other => Self::Nonsense { action: action.into(), detail: foreign(&with_sources(other)) },
        }
    }

    /// Whether the same question may get an answer later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Timeout { .. } | Self::Refused { .. } | Self::EndpointsDisagree { .. }
        )
    }

    /// Whether the deployment file and the chain contradict each other: a person has to correct one of them, and nothing
    /// may be signed or stored until then.
    #[must_use]
    pub const fn is_wrong_deployment(&self) -> bool {
        matches!(
            self,
            Self::WrongChain { .. } | Self::NoContract { .. } | Self::OtherContract { .. } | Self::WrongWiring { .. }
        )
    }

    /// The contract's own error, if one refused.
    #[must_use]
    pub const fn contract_error(&self) -> Option<&ContractError> {
        match self {
            Self::Reverted { error, .. } => Some(error),
            _ => None,
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

/// Foreign text, shortened, on one line, without control characters and secrets: an endpoint answers with a whole page where it is a portal
/// that wants a login, and whatever it likes where it means ill.
fn foreign(text: &str) -> String {
    // URLs first: of half a URL nobody can tell whether it has a password.
    let whole = cut_urls(text);
    let mut characters = whole.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = characters.by_ref().take(MAX_FOREIGN).collect();
    if characters.next().is_some() {
        kept.push('…');
    }
    kept
}

/// Cuts every URL in `text` to scheme and host: whoever pays for an RPC endpoint has the key in the path, the query or
/// the user part, and errors end up in logs.
#[must_use]
pub fn cut_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let end = rest[at + 3..]
            .find(|c: char| c.is_whitespace() || matches!(c, ')' | '"' | '\'' | '>' | ','))
            .map_or(rest.len(), |length| at + 3 + length);
        let authority_end = rest[at + 3..end].find(['/', '?', '#']).map_or(end, |length| at + 3 + length);
        let host = rest[at + 3..authority_end].rsplit('@').next().unwrap_or_default();
        out.push_str(&rest[..at + 3]);
        out.push_str(host);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::U256, sol_types::SolError};

    use super::*;
    use crate::bindings::{KeyRegistry, Micropools};

    #[test]
    fn a_contract_error_comes_back_with_the_contracts_own_name_arguments_and_reason() {
        let data = Micropools::PositionTooSmall {
            account: Address::repeat_byte(0x11),
            amount: U256::from(490_000_000_000_000_000_u64),
            minimum: U256::from(500_000_000_000_000_000_u64),
        }
        .abi_encode();
        let error = ContractError::decode(&data);
        assert_eq!((error.contract.as_str(), error.name.as_str()), ("Micropools", "PositionTooSmall"));
        assert_eq!(error.arguments[1], ("amount".into(), "490000000000000000".into()));
        assert!(error.to_string().contains("raised when `account` would hold `amount` wei"), "{error}");
        assert!(error.is::<Micropools::PositionTooSmall>() && !error.is::<Micropools::GapTooSmall>());
        assert_eq!(error.typed::<Micropools::PositionTooSmall>().unwrap().account, Address::repeat_byte(0x11));
        assert!(error.typed::<Micropools::GapTooSmall>().is_none());
    }

    #[test]
    fn an_enum_argument_is_shown_by_its_name() {
        let data = alloy::hex::decode("0x").unwrap();
        assert_eq!(ContractError::decode(&data).name, "reverted without a reason");
        let mut data = KeyRegistry::WrongKeyState::SELECTOR.to_vec();
        data.extend_from_slice(&U256::from(7).to_be_bytes::<32>());
        data.extend_from_slice(&U256::from(3).to_be_bytes::<32>());
        let error = ContractError::decode(&data);
        assert_eq!(error.arguments, vec![("keyId".into(), "7".into()), ("state".into(), "Live".into())]);
    }

    #[test]
    fn revert_data_nobody_knows_or_that_is_cut_short_is_shown_and_does_not_fail() {
        let error = ContractError::decode(&[0xde, 0xad, 0xbe, 0xef, 1]);
        assert_eq!((error.contract.as_str(), error.name.as_str()), ("unknown", "0xdeadbeef"));
        let cut = Micropools::PositionTooSmall::SELECTOR;
        assert_eq!(ContractError::decode(&cut).contract, "unknown");
    }

    #[test]
    fn what_an_endpoint_says_is_shown_in_one_short_line() {
        let page = format!("<html>\n\u{1b}[31m https://user:pass@portal/login {}", "x".repeat(1 << 20));
        let error = RpcError::<TransportErrorKind>::local_usage_str(&page);
        let told = ChainError::from_rpc("reading the chain id", &error).to_string();
        assert!(told.chars().count() < MAX_FOREIGN + 150, "{} characters", told.chars().count());
        assert!(!told.contains(char::is_control) && !told.contains("pass") && told.contains('…'), "{told}");
    }

    #[test]
    fn openzeppelin_and_solidity_errors_are_named() {
        let data = OpenZeppelin::AccessManagedUnauthorized { caller: Address::ZERO }.abi_encode();
        assert_eq!(ContractError::decode(&data).name, "AccessManagedUnauthorized");
        let data = alloy::sol_types::Revert::from("no\u{1b}[31m").abi_encode();
        assert_eq!(ContractError::decode(&data).arguments[0].1, r#""no\u{1b}[31m""#);
    }

    #[test]
    fn every_error_of_every_abi_has_its_sentence_from_the_interface() {
        let ours: Vec<_> = KNOWN.values().filter(|known| known.contracts != ["OpenZeppelin"]).collect();
        assert!(ours.len() > 40, "only {} errors", ours.len());
        // Errors that come from OpenZeppelin's code are in our ABIs but not in our interfaces.
        let declared = |name: &str| SOURCES.iter().any(|(.., interface)| interface.contains(&format!("error {name}(")));
        for known in ours.iter().filter(|known| declared(&known.error.name)) {
            assert!(known.raised_when.is_some(), "{} has no @notice Raised …", known.error.name);
        }
    }

    #[test]
    fn the_secret_part_of_a_url_never_reaches_an_error() {
        let text =
            "error sending request for url (https://user:pass@rpc.example:8545/v2/KEY?token=KEY), then wss://a.b/KEY";
        assert_eq!(cut_urls(text), "error sending request for url (https://rpc.example:8545), then wss://a.b");
        assert_eq!(cut_urls("no url here"), "no url here");
    }
}
