//! The forks of the beacon chain.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

/// A fork of the beacon chain, in order. The newest that is final in the consensus specs (release 1.7.0-beta.4 lists
/// Gloas as unstable, with no mainnet epoch) is Fulu; a request that names a later one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// `specs/phase0`
    Phase0,
    /// `specs/altair`: sync committees.
    Altair,
    /// `specs/bellatrix`: execution payloads.
    Bellatrix,
    /// `specs/capella`: withdrawals.
    Capella,
    /// `specs/deneb`: blobs; exits are signed under Capella's version from here on (EIP-7044).
    Deneb,
    /// `specs/electra`: attestations of several committees (EIP-7549).
    Electra,
    /// `specs/fulu`: data columns; no container that validators sign has changed.
    Fulu,
}

impl Fork {
    /// Every fork, oldest first.
    pub const ALL: [Self; 7] =
        [Self::Phase0, Self::Altair, Self::Bellatrix, Self::Capella, Self::Deneb, Self::Electra, Self::Fulu];

    /// Name in lower case, as in the beacon API and in configs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Phase0 => "phase0",
            Self::Altair => "altair",
            Self::Bellatrix => "bellatrix",
            Self::Capella => "capella",
            Self::Deneb => "deneb",
            Self::Electra => "electra",
            Self::Fulu => "fulu",
        }
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of no fork that this crate knows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown fork; known are phase0, altair, bellatrix, capella, deneb, electra and fulu")]
pub struct UnknownFork;

impl FromStr for Fork {
    type Err = UnknownFork;

    /// In either case: Web3Signer writes upper case, the beacon API lower case.
    fn from_str(name: &str) -> Result<Self, UnknownFork> {
        Self::ALL.into_iter().find(|fork| fork.name().eq_ignore_ascii_case(name)).ok_or(UnknownFork)
    }
}

impl Serialize for Fork {
    /// In upper case, as Web3Signer's OpenAPI file has it.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.name().to_ascii_uppercase())
    }
}

impl<'de> Deserialize<'de> for Fork {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
