//! How many members a key has and how many sign: validated once, carried by type.

use std::{fmt, num::NonZeroU8};

/// Most members a committee can have. Small, so that Lagrange coefficients factor into primes below 64
/// and a ceremony's calldata stays bounded.
pub const MAX_MEMBERS: u8 = 64;

/// A pair `(t, n)` with `1 <= t <= n <= 64` and `2t > n`.
///
/// `2t > n` means that two disjoint groups of members can never both sign, the least that Stkr demands of
/// any key (DESIGN section 1). Pool keys are held to more by the contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threshold {
    signers: u8,
    members: u8,
}

/// Why a pair `(t, n)` is no [`Threshold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// `t` is 0 or more than `n`.
    #[error("a threshold of {t} makes no sense for {n} members: it must lie between 1 and {n}")]
    OutOfRange {
        /// Shares that sign.
        t: u8,
        /// Shares that exist.
        n: u8,
    },
    /// `2t <= n`: two disjoint groups could sign different messages.
    #[error(
        "{t} of {n} members is no majority: two disjoint groups could sign conflicting messages; use a threshold above {n}/2"
    )]
    NoMajority {
        /// Shares that sign.
        t: u8,
        /// Shares that exist.
        n: u8,
    },
    /// More members than [`MAX_MEMBERS`].
    #[error("{n} members are more than the {MAX_MEMBERS} that a committee may have")]
    TooManyMembers {
        /// Shares that exist.
        n: u8,
    },
}

impl Threshold {
    /// `t` shares of `n` sign.
    ///
    /// # Errors
    /// Unless `1 <= t <= n <= 64` and `2t > n`.
    pub const fn new(t: u8, n: u8) -> Result<Self, ThresholdError> {
        if n > MAX_MEMBERS {
            return Err(ThresholdError::TooManyMembers { n });
        }
        if t == 0 || t > n {
            return Err(ThresholdError::OutOfRange { t, n });
        }
        if 2 * t <= n {
            return Err(ThresholdError::NoMajority { t, n });
        }
        Ok(Self { signers: t, members: n })
    }

    /// Shares that sign.
    pub const fn t(self) -> u8 {
        self.signers
    }

    /// Shares that exist.
    pub const fn n(self) -> u8 {
        self.members
    }

    /// The indices 1 to n, ascending.
    pub fn indices(self) -> impl Iterator<Item = ShareIndex> {
        (1..=self.members).filter_map(NonZeroU8::new).map(ShareIndex)
    }

    /// Whether `index` is one of 1 to n.
    pub const fn contains(self, index: ShareIndex) -> bool {
        index.get() <= self.members
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.signers, self.members)
    }
}

/// A member's number in its committee, 1 to 64: the point at which its share evaluates the polynomial.
///
/// Index 0 is the secret key itself. A protocol that lets a member be number 0, or a multiple of r, hands
/// out the key; here neither has a representation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareIndex(NonZeroU8);

/// A number that is not a member's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a share index: members are numbered from 1 to {MAX_MEMBERS}")]
pub struct IndexError(pub u8);

impl ShareIndex {
    /// # Errors
    /// Unless `1 <= index <= 64`.
    pub const fn new(index: u8) -> Result<Self, IndexError> {
        match NonZeroU8::new(index) {
            Some(value) if index <= MAX_MEMBERS => Ok(Self(value)),
            _ => Err(IndexError(index)),
        }
    }

    /// The number, 1 to 64.
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// Position in a list that is ordered by index.
    pub const fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl TryFrom<u8> for ShareIndex {
    type Error = IndexError;

    fn try_from(index: u8) -> Result<Self, IndexError> {
        Self::new(index)
    }
}

impl fmt::Display for ShareIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ShareIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_majority_within_bounds() {
        for n in 0..=u8::MAX {
            for t in 0..=u8::MAX {
                let valid = t >= 1 && t <= n && n <= 64 && 2 * u16::from(t) > u16::from(n);
                assert_eq!(Threshold::new(t, n).is_ok(), valid, "{t} of {n}");
            }
        }
    }

    #[test]
    fn index_0_and_indices_above_64_do_not_exist() {
        assert_eq!(ShareIndex::new(0), Err(IndexError(0)));
        assert_eq!(ShareIndex::new(65), Err(IndexError(65)));
        assert_eq!(ShareIndex::new(1).unwrap().position(), 0);
        assert_eq!(ShareIndex::new(64).unwrap().get(), 64);
    }

    #[test]
    fn indices_run_from_1_to_n() {
        let threshold = Threshold::new(3, 4).unwrap();
        assert_eq!(threshold.indices().map(ShareIndex::get).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(!threshold.contains(ShareIndex::new(5).unwrap()));
    }
}
