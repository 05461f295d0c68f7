//! The EIP-712 domain that binds every message to one deployment.

use std::borrow::Cow;

use alloy_primitives::{Address, U256};
use alloy_sol_types::Eip712Domain;

/// Chain and key registry that messages belong to: a message of one deployment is worthless in any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProtocolDomain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The KeyRegistry, verifying contract of all ceremony messages and envelopes.
    pub key_registry: Address,
}

impl ProtocolDomain {
    /// The EIP-712 domain of ceremony messages and envelopes.
    #[must_use]
    pub fn eip712(&self) -> Eip712Domain {
        eip712_domain(self.chain_id, self.key_registry)
    }
}

/// Domain `name "Stkr"`, `version "1"` of any Stkr contract.
pub(crate) fn eip712_domain(chain_id: u64, verifying_contract: Address) -> Eip712Domain {
    Eip712Domain {
        name: Some(Cow::Borrowed("Stkr")),
        version: Some(Cow::Borrowed("1")),
        chain_id: Some(U256::from(chain_id)),
        verifying_contract: Some(verifying_contract),
        salt: None,
    }
}
