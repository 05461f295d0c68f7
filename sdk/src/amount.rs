//! Ether amounts: wei in code, exact decimals for people.
//!
//! Everything in the SDK is `U256` wei. A float never appears: `0.1 + 0.2` must not decide who owns what.

use alloy::primitives::U256;
pub use stkr_chain::types::POOL_SIZE;
use thiserror::Error;

/// Wei in one gwei.
const GWEI: u64 = 1_000_000_000;
/// Wei in one ether.
const ETHER: u64 = 1_000_000_000_000_000_000;
/// Longest amount that is looked at; 2^256 wei in full has 78 digits.
const MAX_LENGTH: usize = 96;

/// Smallest position a staker may hold, in wei: 0.5 ETH (`IMicropools.MIN_STAKE`).
pub const MIN_STAKE: U256 = U256::from_limbs([ETHER / 2, 0, 0, 0]);
/// What a provider puts up beside a pool, in wei: 2 ETH (`IMicropools.INSURANCE`).
pub const INSURANCE: U256 = U256::from_limbs([2 * ETHER, 0, 0, 0]);

/// Whole ether as wei.
///
/// ```
/// assert_eq!(stkr_sdk::amount::ether(32), stkr_sdk::amount::POOL_SIZE);
/// ```
pub fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(ETHER)
}

/// Gwei as wei.
pub fn gwei(amount: u64) -> U256 {
    U256::from(amount) * U256::from(GWEI)
}

/// Why a text is no amount of ether.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AmountError {
    /// Nothing was given.
    #[error("an amount is missing; write for example 0.5 or 500000000gwei")]
    Empty,
    /// The text has another shape than digits, at most one point, and a unit.
    #[error(
        "`{0}` is not an amount; write digits with at most one point and then eth, gwei or wei, for example 0.5eth"
    )]
    Malformed(String),
    /// The unit is not known.
    #[error("`{0}` is not a unit; use eth, gwei or wei")]
    UnknownUnit(String),
    /// More decimals than the unit has wei.
    #[error("`{text}` has more than {decimals} decimals, which is less than one wei")]
    TooPrecise {
        /// What was given.
        text: String,
        /// Decimals the unit has.
        decimals: usize,
    },
    /// More wei than 256 bits hold.
    #[error("the amount is larger than all ether there can ever be")]
    TooLarge,
}

/// Reads an amount: `"0.5"` and `"0.5eth"` are ether, `"500000000gwei"`, `"123wei"`.
///
/// Strict, because money follows: no sign, no exponent, no thousands separators, no bare point, and nothing is
/// rounded. One space before the unit is allowed.
///
/// # Errors
/// [`AmountError`], whose message says what to write instead.
///
/// ```
/// use stkr_sdk::amount::{gwei, parse};
/// assert_eq!(parse("0.5")?, gwei(500_000_000));
/// assert_eq!(parse("0.5eth")?, parse("500000000gwei")?);
/// assert!(parse("1e18").is_err());
/// # Ok::<(), stkr_sdk::amount::AmountError>(())
/// ```
pub fn parse(text: &str) -> Result<U256, AmountError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(AmountError::Empty);
    }
    if text.len() > MAX_LENGTH || !text.is_ascii() {
        return Err(malformed(text));
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let decimals = decimals_of(unit.strip_prefix(' ').unwrap_or(unit), text)?;
    let (whole, fraction) = match number.split_once('.') {
        None => (number, ""),
        // `.5` and `5.` are refused: a lost digit should not turn into money.
        Some((whole, fraction)) if !whole.is_empty() && !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(malformed(text)),
    };
    if whole.is_empty() || fraction.contains('.') {
        return Err(malformed(text));
    }
    if fraction.len() > decimals {
        return Err(AmountError::TooPrecise { text: text.to_owned(), decimals });
    }
    let digits = format!("{whole}{fraction:0<decimals$}");
    U256::from_str_radix(&digits, 10).map_err(|_| AmountError::TooLarge)
}

/// Decimals of a unit; no unit is ether.
fn decimals_of(unit: &str, text: &str) -> Result<usize, AmountError> {
    match unit.to_ascii_lowercase().as_str() {
        "" | "eth" | "ether" => Ok(18),
        "gwei" => Ok(9),
        "wei" => Ok(0),
        other if other.bytes().all(|b| b.is_ascii_alphabetic()) && other != "e" => {
            Err(AmountError::UnknownUnit(other.to_owned()))
        }
        _ => Err(malformed(text)),
    }
}

fn malformed(text: &str) -> AmountError {
    AmountError::Malformed(text.chars().take(40).collect())
}

/// Wei as exact decimal ether without trailing zeros: `0.5`, `32`, `0.000000000000000001`.
pub fn format(wei: U256) -> String {
    let (whole, rest) = wei.div_rem(U256::from(ETHER));
    if rest.is_zero() {
        return whole.to_string();
    }
    let fraction = format!("{rest:0>18}", rest = rest.to_string());
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// [`format`] with its unit: `0.5 ETH`.
pub fn with_unit(wei: U256) -> String {
    format!("{} ETH", format(wei))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_way_to_write_half_an_ether_is_the_same_amount() {
        for text in ["0.5", "0.5eth", "0.5 eth", "0.50ETH", "500000000gwei", "500000000000000000wei", " 0.5 "] {
            assert_eq!(parse(text), Ok(MIN_STAKE), "{text}");
        }
    }

    #[test]
    fn the_constants_are_what_they_say() {
        assert_eq!(POOL_SIZE, ether(32));
        assert_eq!(INSURANCE, ether(2));
        assert_eq!(MIN_STAKE * U256::from(64), POOL_SIZE);
    }

    #[test]
    fn anything_that_could_be_read_in_two_ways_is_refused() {
        for text in [
            "", " ", ".", ".5", "5.", "1.2.3", "-1", "+1", "1e18", "1,5", "1_000", "0x10", "eth", "0.5  eth", "1 2",
            "½", "1ethe r", "１",
        ] {
            assert!(parse(text).is_err(), "`{text}` was read as {:?}", parse(text));
        }
        assert_eq!(parse("1btc"), Err(AmountError::UnknownUnit("btc".into())));
    }

    #[test]
    fn nothing_is_rounded() {
        assert!(matches!(parse("0.0000000000000000001"), Err(AmountError::TooPrecise { decimals: 18, .. })));
        assert!(matches!(parse("0.5wei"), Err(AmountError::TooPrecise { decimals: 0, .. })));
        assert_eq!(parse("0.000000000000000001"), Ok(U256::from(1)));
    }

    #[test]
    fn an_amount_beyond_256_bits_is_refused_and_does_not_wrap() {
        assert_eq!(parse(&format!("{}wei", U256::MAX)), Ok(U256::MAX));
        assert_eq!(parse(&format!("{}eth", U256::MAX)), Err(AmountError::TooLarge));
        assert!(parse(&"9".repeat(4000)).is_err());
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same_wei() {
        for wei in [U256::ZERO, U256::from(1), MIN_STAKE, POOL_SIZE, ether(1) + U256::from(10), U256::MAX] {
            let printed = format(wei);
            if printed.len() < 90 {
                assert_eq!(parse(&printed), Ok(wei), "{printed}");
            }
        }
        assert_eq!(format(MIN_STAKE), "0.5");
        assert_eq!(with_unit(POOL_SIZE), "32 ETH");
    }
}
