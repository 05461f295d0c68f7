//! Proofs of possession that the registries ask for: without them anybody could occupy a partner's key on-chain.

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolStruct;

use crate::{SignerKey, domain::eip712_domain, eip712};

/// Digest of `SignerProof(address operator,address signer)` for this ServerRegistry.
#[must_use]
pub fn signer_proof_digest(chain_id: u64, server_registry: Address, operator: Address, signer: Address) -> B256 {
    eip712::SignerProof { operator, signer }.eip712_signing_hash(&eip712_domain(chain_id, server_registry))
}

/// The server's signer key agrees to be registered by `operator`: the `signerProof` of `IServerRegistry.register`.
#[must_use]
pub fn signer_proof(key: &SignerKey, chain_id: u64, server_registry: Address, operator: Address) -> [u8; 65] {
    key.sign_digest(signer_proof_digest(chain_id, server_registry, operator, key.address()))
}

/// Digest of `DutyKeyProof(address provider,address dutyKey)` for this ProviderRegistry.
#[must_use]
pub fn duty_key_proof_digest(chain_id: u64, provider_registry: Address, provider: Address, duty_key: Address) -> B256 {
    eip712::DutyKeyProof { provider, dutyKey: duty_key }
        .eip712_signing_hash(&eip712_domain(chain_id, provider_registry))
}

/// The duty key agrees to be named by `provider`: the `proof` of `IProviderRegistry.register` and `setDutyKey`.
#[must_use]
pub fn duty_key_proof(key: &SignerKey, chain_id: u64, provider_registry: Address, provider: Address) -> [u8; 65] {
    key.sign_digest(duty_key_proof_digest(chain_id, provider_registry, provider, key.address()))
}
