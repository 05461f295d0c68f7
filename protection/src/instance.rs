//! The name of one life of a database.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::hex;

use crate::error::OpenError;

/// Random name that a database gets when it is created and every time it is put back in service after a quarantine.
/// Written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId([u8; 16]);

/// Not 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an instance id is 32 hex digits")]
pub struct InstanceIdError;

impl InstanceId {
    pub(crate) fn random() -> Result<Self, OpenError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| OpenError::Random(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

impl FromStr for InstanceId {
    type Err = InstanceIdError;

    fn from_str(text: &str) -> Result<Self, InstanceIdError> {
        let mut bytes = [0; 16];
        if text.len() != 32 {
            return Err(InstanceIdError);
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InstanceIdError)?;
        Ok(Self(bytes))
    }
}
