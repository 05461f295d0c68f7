//! What contracts refuse, as Rust: one variant per error, with the contract's own arguments.

use core::fmt;

use alloy::{primitives::U256, sol_types::SolError};
use stkr_chain::{
    bindings::{
        Acknowledgements as asking, Court as court, KeyRegistry as keys, Micropools as pools, PoolVault as vault,
        ProviderRegistry as providers, Resharing as resharing, ServerRegistry as servers,
        WithdrawalKeys as withdrawals,
    },
    errors::ContractError as RawError,
    types::{KeyState, PoolState, ReshareState, ServerStatus},
};
use time::OffsetDateTime;

use crate::{amount::with_unit, governance::IAccessManager as governance};

macro_rules! contract_errors {
    ($($contract:ident { $($name:ident)+ })+) => {
        /// A contract's refusal. Each variant holds the binding's struct: `ContractError::StakeTooLarge(error)` has
        /// `error.amount` and `error.room`. When each is raised is documented in `contracts/interfaces/`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ContractError {
            $($(
                #[doc = concat!("`", stringify!($name), "` of the ", stringify!($contract), ".")]
                $name($contract::$name),
            )+)+
            /// Any other revert: of a library, of another contract, or without a reason.
            Other(RawError),
        }

        impl From<RawError> for ContractError {
            fn from(raw: RawError) -> Self {
                $($(if let Some(error) = raw.typed::<$contract::$name>() {
                    return Self::$name(error);
                })+)+
                Self::Other(raw)
            }
        }

        impl ContractError {
            /// Name of the error in Solidity.
            pub fn name(&self) -> &str {
                match self {
                    $($(Self::$name(_) => stringify!($name),)+)+
                    Self::Other(raw) => &raw.name,
                }
            }

            /// The refusal as names and text, for programs that only pass it on.
            pub fn raw(&self) -> RawError {
                match self {
                    $($(Self::$name(error) => RawError::decode(&error.abi_encode()),)+)+
                    Self::Other(raw) => raw.clone(),
                }
            }
        }
    };
}

contract_errors! {
    pools {
        WrongPoolState NotProvider WrongInsurance StakeTooLarge GapTooSmall PositionTooSmall KeyAlreadyRequested
        WrongGroupKey InvalidSignature NotForeign TooEarly NothingToPay TransferFailed NothingStaked WindowOutOfBounds
        NoChangeShown ChangeShown NoWithdrawalKey NotAContract WrongAssignment NotDutyKey AlreadyPenalised ERC6909InsufficientBalance ERC6909InsufficientAllowance ERC6909InvalidReceiver
    }
    servers {
        UnknownServer NotOperator WrongServerStatus BondTooSmall SignerTaken SignerJustChanged BadSignerProof BadEndpoint
        MissingTlsFingerprint BondLocked NotKeyRegistry NotEnoughServers MemberNotActive NotOnline NoFreeSeat ParameterOutOfBounds
        ActiveSetFull NotCourt LockedOut NotLockedOut MissingReason NoBounty NoMoreTerms AccessManagedUnauthorized AccessManagedRequiredDelay
    }
    providers { UnknownProvider ProviderExists DutyKeyTaken BadDutyKeyProof DutyKeyJustChanged NoDutyKeyAt }
    keys {
        WrongKeyState NotConsumer BadThreshold NotEnoughActiveServers WrongCommitment SeedNotReady
        WrongHeader UnknownHeader NotExpired CeremonyExpired BadAcknowledgement BadLength BadPoint InvalidPoint
        NotOnePolynomial GroupKeyTaken SeatsReserved SeatsAlreadyFreed NotKeyOwner CommitteeNotAscending BadPossession
    }
    resharing {
        WrongReshareState NotReshareable NothingToReshare HandoverPending GroupKeyChanged NotEnoughVotes BadVoteTime
        NoPastCommittee
    }
    court {
        NotAcknowledgements NotCommitted CommitmentTooYoung AlreadyCommitted NotShareHolder BadEvidenceSignature
        DifferentSigners WrongPartial ValidPartial NotGarbage Inconclusive NoConflict DifferentSubjects Authorised NoProvider
        MalformedMessage NoServer NotOwed FeeTooSmall AlreadyChallenged NoChallenge StillTime TooLate NoAnswer NoFees
        WrongOneTimeKeys WrongOpening UnusableOneTimeKey GoodDealing WrongPossession NotMalformed
    }
    asking {
        NoCeremony WrongCommittee NoMember TooLateToAsk WrongNumberOfDealings WrongDealing WrongDealer OtherOneTimeKeys
        NotCommittedTo NoKey NotOfCommittee OwnFault
    }
    withdrawals {
        WrongKeyBond NoSuchKey NotKeysProvider KeyInUse WrongWithdrawalKey NoValidator NoPartOfPool NotOrdered
        InvalidChangeSignature BondNotFree NoDuties
    }
    vault { NotMicropools WithdrawalRequestRefused BadPubkey }
    governance {
        AccessManagerAlreadyScheduled AccessManagerNotScheduled AccessManagerNotReady AccessManagerExpired
        AccessManagerUnauthorizedAccount AccessManagerUnauthorizedCall
    }
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sentence() {
            Some(sentence) => f.write_str(&sentence),
            None => self.raw().fmt(f),
        }
    }
}

impl core::error::Error for ContractError {}

impl ContractError {
    /// The errors people meet, in their words and in ether.
    fn sentence(&self) -> Option<String> {
        Some(match self {
            Self::StakeTooLarge(e) => {
                format!(
                    "a stake of {} is more than the {} this pool has room for",
                    with_unit(e.amount),
                    with_unit(e.room)
                )
            }
            Self::GapTooSmall(e) => format!(
                "this stake would leave a gap of {}, which nobody could fill with the {} a position needs",
                with_unit(e.gap),
                with_unit(e.minimum)
            ),
            Self::PositionTooSmall(e) => format!(
                "{} would hold {}, and a position is either 0 or at least {}",
                e.account,
                with_unit(e.amount),
                with_unit(e.minimum)
            ),
            Self::ERC6909InsufficientBalance(e) => {
                format!("{} holds {} in pool {}, not {}", e.sender, with_unit(e.balance), e.id, with_unit(e.needed))
            }
            Self::WrongPoolState(e) => wrong_state::<PoolState>("pool", &e.poolId, e.state),
            Self::NotProvider(e) => format!("{} is not a registered provider", e.caller),
            Self::WrongInsurance(e) => {
                format!("the insurance is {} and must be exactly {}", with_unit(e.sent), with_unit(e.required))
            }
            Self::NothingToPay(e) => format!("pool {} has nothing to pay to {}", e.poolId, e.account),
            Self::TooEarly(e) => format!("pool {} does not allow this before {}", e.poolId, moment(e.deadline.to())),
            Self::KeyAlreadyRequested(e) => format!("pool {} has requested key {} already", e.poolId, e.keyId),
            Self::UnknownServer(e) => format!("there is no server {}", e.id),
            Self::NotOperator(e) => format!("{} is not the operator of server {}", e.caller, e.id),
            Self::WrongServerStatus(e) => wrong_state::<ServerStatus>("server", &e.id, e.status),
            Self::BondTooSmall(e) => {
                format!("a bond of {} is below the {} that is needed", with_unit(e.bond), with_unit(e.required))
            }
            Self::SignerTaken(e) if e.id == 0 => "the zero address cannot be a signer".to_owned(),
            Self::SignerJustChanged(e) => format!(
                "the signer of server {} was just changed; it can be again from {} on",
                e.id,
                moment(e.from.saturating_to())
            ),
            Self::SignerTaken(e) => format!("signer {} belongs to server {} already", e.signer, e.id),
            Self::BadSignerProof(e) => {
                format!("the signer proof was made by {}, not by signer {} for this operator", e.recovered, e.signer)
            }
            Self::BondLocked(e) => format!(
                "the bond of server {} is locked: it holds {} seats and unbonds at {}",
                e.id,
                e.seats,
                moment(e.unbondingEnds.to())
            ),
            Self::LockedOut(e) => format!("server {} is locked out: a fault of it was proven", e.id),
            Self::NotLockedOut(e) => format!("server {} is not locked out", e.id),
            Self::NotCommitted(_) => "nobody with this account committed to the evidence before showing it".to_owned(),
            Self::CommitmentTooYoung(it) => {
                format!("this account's commitment to the evidence is good from block {} on", it.provableFrom)
            }
            Self::AlreadyCommitted(_) => "this account has committed to the evidence already".to_owned(),
            Self::NotShareHolder(e) => format!(
                "server {} with signer {} does not hold share {} of key {}, or the seats of the key are free again",
                e.server, e.signer, e.index, e.keyId
            ),
            Self::WrongReshareState(e) if e.state == 0 => format!("no reshare of key {} is under way", e.keyId),
            Self::WrongReshareState(e) => wrong_state::<ReshareState>("the reshare of key", &e.keyId, e.state),
            Self::NotReshareable(e) => format!("key {} has no pool, so its committee is its owner's choice", e.keyId),
            Self::NothingToReshare(e) => format!(
                "no member of key {} is lost, and its shares are not due for a refresh before {}",
                e.keyId,
                moment(e.refreshFrom.try_into().unwrap_or(u64::MAX))
            ),
            Self::HandoverPending(e) => {
                format!("the newest committee of key {} signs only from {} on", e.keyId, moment(e.handover.to()))
            }
            Self::GroupKeyChanged(e) => format!("what was dealt is not key {}", e.keyId),
            Self::NotEnoughVotes(e) => format!("{} members in good standing voted, {} are needed", e.votes, e.needed),
            Self::NoPastCommittee(e) => format!("key {} has no committee before {}", e.keyId, e.committeeEpoch),
            Self::NoChangeShown(e) => {
                format!(
                    "the 31 ETH of pool {} wait for a change of its credentials that its withdrawal key signed",
                    e.poolId
                )
            }
            Self::ChangeShown(e) => {
                format!("a change of the credentials of pool {} was shown, so it goes on", e.poolId)
            }
            Self::NoWithdrawalKey(e) => format!("pool {} has no withdrawal key and waits for no change", e.poolId),
            Self::NoSuchKey(e) if e.keyId.is_zero() => "no key has this group key".to_owned(),
            Self::NoSuchKey(e) => format!("key {} is no Live withdrawal key", e.keyId),
            Self::NotKeysProvider(e) => format!("withdrawal key {} was not asked for by {}", e.keyId, e.caller),
            Self::KeyInUse(e) => format!("pool {} uses withdrawal key {}", e.poolId, e.keyId),
            Self::NoValidator(e) => format!("pool {} has no validator whose credentials could be changed", e.poolId),
            Self::NoPartOfPool(e) => {
                format!("{} is not the provider of pool {} and has no stake in it", e.caller, e.poolId)
            }
            Self::NotOrdered(e) => format!("key {} was never ordered to sign {}", e.keyId, e.signingRoot),
            Self::InvalidChangeSignature(e) => format!("the signature is not one of withdrawal key {}", e.keyId),
            Self::BondNotFree(e) => {
                format!(
                    "the bond of key {} is paid already, or held until a pool uses the key or its seats are free",
                    e.keyId
                )
            }
            Self::ValidPartial(_) => "the partial signature is valid: no fault".to_owned(),
            Self::Inconclusive(_) => "the Court could not decide, and what it cannot decide is no fault".to_owned(),
            Self::Authorised(e) => {
                format!("the chain ordered this signature with key {}, or it needs no order", e.keyId)
            }
            Self::NotOwed(e) => format!(
                "the committee of key {} does not have to sign {}: it was never ordered, or the key is not Live",
                e.keyId, e.signingRoot
            ),
            Self::FeeTooSmall(e) => {
                format!("a fee of {} is less than the {} an answer costs now", with_unit(e.fee), with_unit(e.required))
            }
            Self::AlreadyChallenged(_) => "the server is being asked for this already".to_owned(),
            Self::NoChallenge(_) => {
                "no such challenge is open: it was answered or proven, maybe by a transaction that is in no block yet, or was never made"
                    .to_owned()
            }
            Self::StillTime(e) => format!("the server may still answer, up to {}", last(e.deadline)),
            Self::TooLate(e) => format!("the last moment for an answer was {}", last(e.deadline)),
            Self::TooLateToAsk(e) => format!(
                "the ceremony of key {} ends at {}, before an answer would be due",
                e.keyId,
                moment(e.deadline.saturating_to())
            ),
            Self::NoCeremony(e) => format!("key {} has no ceremony now", e.keyId),
            Self::NoAnswer(_) => {
                "this is no answer to the challenge: of another signer or kind, or no partial".to_owned()
            }
            Self::NoFees(e) => format!("{} has no fees of challenges to withdraw", e.account),
            Self::NoProvider(e) => format!("key {} has no provider who could be at fault", e.keyId),
            Self::NoServer(e) => format!("{} is and was no server's signer", e.signer),
            Self::NotDutyKey(e) => format!("{} is and was no duty key of provider {}", e.dutyKey, e.provider),
            Self::AlreadyPenalised(_) => "the provider was penalised in this assignment already".to_owned(),
            Self::NoBounty(e) => format!("{} has no bounty to withdraw", e.reporter),
            Self::AccessManagedUnauthorized(e) => format!("{} is not governance and may not do this", e.caller),
            Self::AccessManagedRequiredDelay(e) => {
                format!("governance has to announce this and then wait {} s", e.delay)
            }
            Self::AccessManagerUnauthorizedCall(e) => format!("{} is not governance and may not do this", e.caller),
            Self::AccessManagerUnauthorizedAccount(e) => format!("{} may not do this", e.msgsender),
            Self::AccessManagerAlreadyScheduled(_) => "governance has announced this already".to_owned(),
            Self::AccessManagerNotScheduled(_) => "governance has not announced this".to_owned(),
            Self::AccessManagerNotReady(_) => "governance has announced this, and its delay is not over".to_owned(),
            Self::AccessManagerExpired(_) => "governance announced this too long ago".to_owned(),
            Self::UnknownProvider(e) => format!("{} is not a registered provider", e.provider),
            Self::ProviderExists(e) => format!("{} is a provider already", e.provider),
            Self::DutyKeyTaken(e) if e.provider.is_zero() => "the zero address cannot be a duty key".to_owned(),
            Self::DutyKeyTaken(e) => format!("duty key {} was named by provider {} already", e.dutyKey, e.provider),
            Self::BadDutyKeyProof(e) => {
                format!(
                    "the duty key proof was made by {}, not by duty key {} for this provider",
                    e.recovered, e.dutyKey
                )
            }
            Self::WrongKeyState(e) => wrong_state::<KeyState>("key", &e.keyId, e.state),
            Self::NotEnoughActiveServers(e) => {
                format!("{} servers are active and the committee needs {}", e.active, e.needed)
            }
            Self::NotEnoughServers(e) => format!("only {} of {} seats can be filled", e.found, e.needed),
            Self::BadThreshold(e) => format!("no key may be {} of {}", e.threshold, e.members),
            _ => return None,
        })
    }

    /// What to do, one sentence.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::StakeTooLarge(e) if e.room.is_zero() => "stake into another pool".into(),
            Self::StakeTooLarge(e) => format!("stake at most {}, or into another pool", with_unit(e.room)),
            Self::GapTooSmall(e) => gap_hint(e.gap, e.minimum),
            Self::PositionTooSmall(_) => "move everything, or leave at least the minimum on both sides".into(),
            Self::NotProvider(_) | Self::UnknownProvider(_) => "register the account as a provider first".into(),
            Self::BondTooSmall(e) => format!("send at least {}", with_unit(e.required)),
            Self::AccessManagedUnauthorized(_)
            | Self::AccessManagerUnauthorizedCall(_)
            | Self::AccessManagerUnauthorizedAccount(_) => "sign with the governance account".into(),
            Self::AccessManagedRequiredDelay(_)
            | Self::AccessManagerNotScheduled(_)
            | Self::AccessManagerExpired(_) => {
                "send it with --schedule first, and again without it when the delay is over".into()
            }
            Self::FeeTooSmall(_) => {
                "the base fee rises: try again after the next block, or give more; it comes back if there is no answer"
                    .into()
            }
            Self::TooEarly(_)
            | Self::StillTime(_)
            | Self::CommitmentTooYoung(_)
            | Self::AlreadyChallenged(_)
            | Self::SeedNotReady(_)
            | Self::NotExpired(_)
            | Self::BondLocked(_)
            | Self::AccessManagerAlreadyScheduled(_)
            | Self::AccessManagerNotReady(_) => "wait and try again".into(),
            Self::BadThreshold(_) => "use for example 3 of 4, 5 of 7 or 7 of 10".into(),
            Self::NotCommitted(_) => {
                "commit first, with `stkr evidence commit` from the same account, and prove three blocks later".into()
            }
            Self::AlreadyCommitted(_) => "go on with `stkr evidence prove` from the same account".into(),
            Self::NotDutyKey(_) => "the Court would refuse it; report nothing".into(),
            Self::NoBounty(_) => "`stkr bounty show ACCOUNT` says who has something to withdraw, and where".into(),
            Self::NoFees(_) => "`stkr challenge fees ACCOUNT` says who has something to withdraw, and where".into(),
            Self::NoChallenge(_) => "look at `stkr challenge show` again after the next block".into(),
            Self::BadSignerProof(_) => "make the proof for the account that sends the transaction".into(),
            _ => "look at the state of what you are changing; nothing was changed".into(),
        }
    }
}

/// A gap g below the minimum m closes by staking g more, or opens by staking m - g less.
fn gap_hint(gap: U256, minimum: U256) -> String {
    format!("stake {} more or {} less", with_unit(gap), with_unit(minimum.saturating_sub(gap)))
}

/// State 0 of everything is that there is none.
fn wrong_state<T: TryFrom<u8> + fmt::Display>(thing: &str, id: &impl fmt::Display, state: u8) -> String {
    if state == 0 {
        return format!("there is no {thing} {id}");
    }
    let state = T::try_from(state).map_or_else(|_| format!("in state {state}"), |state| state.to_string());
    format!("{thing} {id} is {state}, which does not allow this")
}

/// The last block for an answer, or its unix time where an acknowledgement is asked for. No chain has had a billion blocks.
fn last(deadline: u64) -> String {
    if deadline < 1_000_000_000 { format!("block {deadline}") } else { moment(deadline) }
}

/// A moment of the chain (unix seconds) for people, in UTC.
#[must_use]
pub fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.map_or_else(
        || format!("unix time {seconds}"),
        |at| {
            let (hour, minute, second) = at.to_hms();
            format!("{} {hour:02}:{minute:02}:{second:02} UTC", at.date())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::{gwei, parse};
    use alloy::primitives::{Address, B256};

    #[test]
    fn a_refused_stake_has_its_own_arguments_and_a_sentence_in_ether() {
        let error = pools::StakeTooLarge { amount: parse("1").unwrap(), room: parse("0.5").unwrap() };
        let decoded = ContractError::from(RawError::decode(&error.abi_encode()));
        let ContractError::StakeTooLarge(pools::StakeTooLarge { room, .. }) = &decoded else {
            panic!("decoded as {decoded:?}");
        };
        assert_eq!(*room, gwei(500_000_000));
        assert_eq!(decoded.to_string(), "a stake of 1 ETH is more than the 0.5 ETH this pool has room for");
        assert!(decoded.hint().contains("at most 0.5 ETH"));
    }

    #[test]
    fn states_are_named_and_not_numbered() {
        let error = ContractError::WrongPoolState(pools::WrongPoolState { poolId: U256::from(3), state: 2 });
        assert_eq!(error.to_string(), "pool 3 is Full, which does not allow this");
        let error = ContractError::WrongPoolState(pools::WrongPoolState { poolId: U256::from(3), state: 99 });
        assert_eq!(error.to_string(), "pool 3 is in state 99, which does not allow this");
        let error = ContractError::WrongPoolState(pools::WrongPoolState { poolId: U256::from(3), state: 0 });
        assert_eq!(error.to_string(), "there is no pool 3");
    }

    #[test]
    fn what_governance_may_not_do_yet_is_said_in_words() {
        let stranger = governance::AccessManagerUnauthorizedCall {
            caller: Address::repeat_byte(1),
            target: Address::repeat_byte(2),
            selector: [3; 4].into(),
        };
        let error = ContractError::from(RawError::decode(&stranger.abi_encode()));
        assert!(error.to_string().ends_with("is not governance and may not do this"), "{error}");
        assert_eq!(error.hint(), "sign with the governance account");
        let early = governance::AccessManagerNotReady { operationId: [1; 32].into() };
        let error = ContractError::from(RawError::decode(&early.abi_encode()));
        assert_eq!(error.to_string(), "governance has announced this, and its delay is not over");
    }

    #[test]
    fn whoever_lacks_a_commitment_or_money_hears_what_to_do_about_that() {
        let hint = |data: Vec<u8>| ContractError::from(RawError::decode(&data)).hint();
        assert!(hint(court::NotCommitted { commitment: B256::ZERO }.abi_encode()).contains("stkr evidence commit"));
        assert!(hint(court::AlreadyCommitted { commitment: B256::ZERO }.abi_encode()).contains("stkr evidence prove"));
        let account = Address::repeat_byte(1);
        assert!(hint(court::NoFees { account }.abi_encode()).contains("stkr challenge fees"));
        assert!(hint(servers::NoBounty { reporter: account }.abi_encode()).contains("stkr bounty show"));
    }

    #[test]
    fn moments_are_dates_and_not_seconds() {
        assert_eq!(moment(1_606_824_023), "2020-12-01 12:00:23 UTC");
        assert_eq!(moment(u64::MAX), format!("unix time {}", u64::MAX));
        assert_eq!((last(77).as_str(), last(1_606_824_023).as_str()), ("block 77", "2020-12-01 12:00:23 UTC"));
    }

    #[test]
    fn an_error_without_a_sentence_keeps_the_contracts_words_and_nothing_raw_stands_alone() {
        let error = ContractError::NotForeign(pools::NotForeign { withdrawalCredentials: [1; 32].into() });
        assert!(error.to_string().contains("NotForeign"), "{error}");
        let other = ContractError::from(RawError::decode(&[0xde, 0xad, 0xbe, 0xef]));
        assert!(matches!(other, ContractError::Other(_)));
    }

    /// Errors that only construction, a library or Solidity itself raises; they stay `Other`.
    const INTERNAL: [&str; 19] = [
        "AccessManagedInvalidAuthority",
        "BadDepositLength",
        "BadPointEncoding",
        "BadPointLength",
        "CheckpointUnorderedInsertion",
        "CloneArgumentsTooLong",
        "Create2EmptyBytecode",
        "ERC6909InvalidApprover",
        "ERC6909InvalidSender",
        "ERC6909InvalidSpender",
        "FailedDeployment",
        "FieldNotPresentInBlockHeader",
        "ForeignServerRegistry",
        "InsufficientBalance",
        "InvalidShortString",
        "PrecompileFailed",
        "RLPInvalidEncoding",
        "ReentrancyGuardReentrantCall",
        "SafeCastOverflowedUintDowncast",
    ];

    #[test]
    fn every_error_of_every_interface_has_a_variant() {
        let mut seen = 0;
        let names = [
            "ServerRegistry",
            "ProviderRegistry",
            "KeyRegistry",
            "Resharing",
            "Micropools",
            "PoolVault",
            "WithdrawalKeys",
            "Acknowledgements",
        ];
        for name in names {
            for error in crate::abi::artefact(name).unwrap().abi.errors() {
                if INTERNAL.contains(&error.name.as_str()) || error.name == "StringTooLong" {
                    continue;
                }
                let words: usize = error.inputs.iter().map(|input| if input.ty == "bytes" { 2 } else { 1 }).sum();
                let mut data = error.selector().to_vec();
                for input in &error.inputs {
                    // An offset to an empty tail for `bytes`, zero for everything else.
                    let head = if input.ty == "bytes" { U256::from(32 * error.inputs.len()) } else { U256::ZERO };
                    data.extend(head.to_be_bytes::<32>());
                }
                data.resize(4 + 32 * words, 0);
                let decoded = ContractError::from(RawError::decode(&data));
                assert!(!matches!(decoded, ContractError::Other(_)), "{name}.{} has no variant", error.name);
                assert_eq!(decoded.name(), error.name);
                assert!(!decoded.to_string().is_empty() && !decoded.hint().is_empty());
                seen += 1;
            }
        }
        assert!(seen >= 60, "only {seen} errors were looked at");
    }

    #[test]
    fn the_zero_address_is_told_apart_from_a_taken_one() {
        let error =
            ContractError::DutyKeyTaken(providers::DutyKeyTaken { dutyKey: Address::ZERO, provider: Address::ZERO });
        assert!(error.to_string().contains("zero address"));
    }
}
