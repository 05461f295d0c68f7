//! Reading the contracts: facts that cannot be taken back from all endpoints at `finalized`, the rest at `latest`.

#[cfg(test)]
mod tests;

use std::{fmt::Debug, future::Future};

use alloy::{
    eips::{BlockId as At, BlockNumberOrTag},
    primitives::{Address, B256, U256, keccak256},
    providers::{DynProvider, Provider},
    rpc::types::{Filter, Log},
    sol_types::{SolEvent, SolValue},
};
use serde::Serialize;
use url::Url;

use crate::{
    bindings::{KeyRegistry, Micropools, ProviderRegistry, Resharing, ServerRegistry, WithdrawalKeys},
    deployment::Deployment,
    endpoint::{BlockId, Endpoint, ask, ask_contract, existing_block, same_endpoint},
    errors::ChainError,
    keys::LiveKey,
    types::{KeyKind, KeyState, POOL_SIZE, PoolState, ServerKind, ServerStatus, UnknownVariant},
};

/// How many endpoints must agree before an order that cannot be taken back is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// At least two different endpoints ([`same_endpoint`]), all of which agree.
    TwoEndpoints,
    /// One is enough. Then whoever runs it can have this server sign an order that nobody gave; it is for a machine
    /// that runs its own node and says so in its configuration.
    OneEndpoint,
}

/// A key as the chain keeps it (`IKeyRegistry.Key`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Counts from 1.
    pub id: u64,
    /// Pools contract that asked for it.
    pub consumer: Address,
    /// Where it stands.
    pub state: KeyState,
    /// What it is for.
    pub kind: KeyKind,
    /// t.
    pub threshold: u8,
    /// n.
    pub members: u8,
    /// Ceremony number.
    pub attempt: u16,
    /// Requested: seed block. Drawn: deadline (unix seconds). Live: unix time of finalisation. Ended: unix time from which
    /// its seats can be freed.
    pub mark: u64,
    /// Hash of the pending draw, of the committee, or Merkle root of the share leaves, by state.
    pub commitment: B256,
}

/// A threshold server as the chain keeps it (`IServerRegistry.Server`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerInfo {
    /// Counts from 1.
    pub id: u32,
    /// secp256k1 address that signs its protocol messages.
    pub signer: Address,
    /// Where it stands.
    pub status: ServerStatus,
    /// Online or offline.
    pub kind: ServerKind,
    /// Seats it holds.
    pub seats: u16,
    /// Unix seconds; 0 before it announced that it leaves.
    pub unbonding_ends: u64,
    /// A fault of it was proven, and governance has not reinstated it since.
    pub locked_out: bool,
    /// How often governance reinstated it.
    pub terms: u8,
    /// Account that registered it.
    pub operator: Address,
    /// Wei.
    pub bond: U256,
    /// SHA-256 of its DER certificate.
    pub tls_fingerprint: B256,
}

/// A micropool as the chain keeps it (`IMicropools.Pool`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolInfo {
    /// Counts from 1.
    pub id: u64,
    /// Account that opened it and runs its validator.
    pub provider: Address,
    /// Where it stands.
    pub state: PoolState,
    /// t of its key.
    pub threshold: u8,
    /// n of its key.
    pub members: u8,
    /// Wei staked and not left or refunded (decimal string in JSON).
    #[serde(serialize_with = "wei")]
    pub staked: U256,
    /// 0 before the key is requested.
    pub key_id: u64,
    /// Open, Full, KeyReady: unix time from which anyone may cancel. Predeposited: from which anyone may top up.
    pub deadline: u64,
    /// Wei of insurance held (decimal string in JSON).
    #[serde(serialize_with = "wei")]
    pub insurance: U256,
    /// Its vault, derived locally: withdrawal address, known before it is deployed.
    pub vault: Address,
    /// Whether it was opened with a withdrawal key: its deposit has that key's 0x00 credentials.
    pub bls_credentials: bool,
}

/// Wei as a decimal string: JSON numbers lose digits beyond 2^53.
fn wei<S: serde::Serializer>(wei: &U256, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(wei)
}

impl KeyInfo {
    /// The contract's record of key `id`; nothing where there is no such key.
    ///
    /// # Errors
    /// [`UnknownVariant`]: the contract is newer than this program, or another one.
    pub fn from_contract(id: u64, key: &KeyRegistry::Key) -> Result<Option<Self>, UnknownVariant> {
        let state = KeyState::try_from(key.state)?;
        if state == KeyState::None {
            return Ok(None);
        }
        Ok(Some(Self {
            id,
            consumer: key.consumer,
            state,
            kind: KeyKind::try_from(key.kind)?,
            threshold: key.threshold,
            members: key.members,
            attempt: key.attempt,
            mark: key.mark.to(),
            commitment: key.commitment,
        }))
    }
}

impl ServerInfo {
    /// The contract's record of server `id`; nothing where there is no such server.
    ///
    /// # Errors
    /// As [`KeyInfo::from_contract`].
    pub fn from_contract(id: u32, server: &ServerRegistry::Server) -> Result<Option<Self>, UnknownVariant> {
        let status = ServerStatus::try_from(server.status)?;
        if status == ServerStatus::None {
            return Ok(None);
        }
        Ok(Some(Self {
            id,
            signer: server.signer,
            status,
            kind: ServerKind::try_from(server.kind)?,
            seats: server.seats,
            unbonding_ends: server.unbondingEnds.to(),
            locked_out: server.lockedOut,
            terms: server.terms,
            operator: server.operator,
            bond: U256::from(server.bond),
            tls_fingerprint: server.tlsFingerprint,
        }))
    }
}

impl PoolInfo {
    /// The contract's record of pool `id` of `deployment`; nothing where there is no such pool.
    ///
    /// # Errors
    /// As [`KeyInfo::from_contract`].
    pub fn from_contract(
        deployment: &Deployment,
        id: u64,
        pool: &Micropools::Pool,
    ) -> Result<Option<Self>, UnknownVariant> {
        let state = PoolState::try_from(pool.state)?;
        if state == PoolState::None {
            return Ok(None);
        }
        Ok(Some(Self {
            id,
            provider: pool.provider,
            state,
            threshold: pool.threshold,
            members: pool.members,
            staked: U256::from(pool.staked),
            key_id: pool.keyId,
            deadline: pool.deadline.to(),
            insurance: U256::from(pool.insurance),
            vault: deployment.vault_of(id),
            bls_credentials: pool.blsCredentials,
        }))
    }

    /// Wei that can still be staked; 0 unless Open.
    #[must_use]
    pub fn room(&self) -> U256 {
        match self.state {
            PoolState::Open => POOL_SIZE.saturating_sub(self.staked),
            _ => U256::ZERO,
        }
    }
}

/// The servers of a running ceremony, checked against the key's commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Committee {
    /// The key.
    pub key_id: u64,
    /// Ceremony number.
    pub attempt: u16,
    /// Server ids; index = position + 1.
    pub members: Vec<u32>,
    /// Unix seconds until which the key can be finalised.
    pub deadline: u64,
}

/// Who may ask for duties of a Live key (`IKeyRegistry.dutyAssignment`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct DutyAssignment {
    /// secp256k1 address that signs the requests.
    pub duty_key: Address,
    /// Number the requests name; counts from 1 and never falls.
    pub number: u64,
}

/// Reads the contracts of one deployment through one or more endpoints.
#[derive(Clone, Debug)]
pub struct ChainReader {
    deployment: Deployment,
    endpoints: Vec<Endpoint>,
}

/// The reader under the name that says what it is for.
pub type FinalizedReader = ChainReader;

impl ChainReader {
    /// Connects to `urls` and checks that each serves the chain of `deployment`.
    ///
    /// # Errors
    /// [`ChainError::TooFewEndpoints`] if `trust` wants two and there are fewer different ones; those of
    /// [`Endpoint::connect`] and [`Deployment::check_chain`].
    pub async fn connect(deployment: Deployment, urls: &[Url], trust: Trust) -> Result<Self, ChainError> {
        // The same endpoint twice agrees with itself whatever it says.
        let mut different: Vec<&Url> = Vec::new();
        for url in urls {
            if !different.iter().any(|other| same_endpoint(other, url)) {
                different.push(url);
            }
        }
        enough(different.len(), trust)?;
        let mut endpoints = Vec::with_capacity(different.len());
        for url in different {
            endpoints.push(Endpoint::connect(url).await?);
        }
        let reader = Self { deployment, endpoints };
        reader.check_chain().await?;
        Ok(reader)
    }

    /// A reader over endpoints that are connected already; nothing is asked yet.
    ///
    /// # Errors
    /// [`ChainError::TooFewEndpoints`].
    pub fn new(deployment: Deployment, endpoints: Vec<Endpoint>, trust: Trust) -> Result<Self, ChainError> {
        enough(endpoints.len(), trust)?;
        Ok(Self { deployment, endpoints })
    }

    /// Checks every endpoint as [`Deployment::check_chain`] does.
    ///
    /// # Errors
    /// The first endpoint's that does not fit.
    pub async fn check_chain(&self) -> Result<(), ChainError> {
        for endpoint in &self.endpoints {
            self.deployment.check_chain(endpoint).await?;
        }
        Ok(())
    }

    /// The deployment this reader reads.
    #[must_use]
    pub const fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The endpoints, in the order they are asked.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    // ---------------------------------------------------------------- finalized, all endpoints agree

    /// Whether the chain ordered signing `signing_root` with the key, for ever: at a finalized block that all endpoints
    /// have, with the same answer from all.
    ///
    /// # Errors
    /// [`ChainError::EndpointsDisagree`] if they differ about the block or the answer; that of the endpoint that does
    /// not answer. An error never means yes.
    pub async fn is_ordered(&self, key_id: u64, signing_root: B256) -> Result<bool, ChainError> {
        let registry = self.deployment.key_registry;
        self.agreed(format!("whether key {key_id} was ordered to sign {signing_root}"), |provider, at| async move {
            let keys = KeyRegistry::new(registry, provider);
            keys.isOrdered(U256::from(key_id), signing_root).block(at).call().await
        })
        .await
    }

    /// The key at the newest finalized block, with the same answer from all endpoints.
    ///
    /// # Errors
    /// As [`ChainReader::is_ordered`]; [`ChainError::NotFound`] if there is no such key.
    pub async fn finalized_key(&self, key_id: u64) -> Result<KeyInfo, ChainError> {
        let registry = self.deployment.key_registry;
        let key = self
            .agreed(format!("the state of key {key_id}"), |provider, at| async move {
                KeyRegistry::new(registry, provider).key(U256::from(key_id)).block(at).call().await
            })
            .await?;
        key_info(key_id, &key)
    }

    /// Pool that uses the key, at the newest finalized block, with the same answer from all endpoints.
    ///
    /// # Errors
    /// As [`ChainReader::is_ordered`]; [`ChainError::NotFound`] if no pool does.
    pub async fn finalized_pool_of_key(&self, key_id: u64) -> Result<u64, ChainError> {
        let micropools = self.deployment.micropools;
        let pool = self
            .agreed(format!("the pool of key {key_id}"), |provider, at| async move {
                Micropools::new(micropools, provider).poolOfKey(U256::from(key_id)).block(at).call().await
            })
            .await?;
        match id_of("the pool of a key", pool)? {
            0 => Err(ChainError::NotFound(format!("no pool uses key {key_id} (at the newest finalized block)"))),
            id => Ok(id),
        }
    }

    /// Id of the server that signs, or once signed, with `signer`, at the newest finalized block, with the same answer from all
    /// endpoints; nothing if there is none.
    ///
    /// # Errors
    /// As [`ChainReader::is_ordered`].
    pub async fn finalized_server_of_signer(&self, signer: Address) -> Result<Option<u32>, ChainError> {
        let registry = self.deployment.server_registry;
        let id = self
            .agreed(format!("whose signer {signer} is"), |provider, at| async move {
                ServerRegistry::new(registry, provider).serverOfSigner(signer).block(at).call().await
            })
            .await?;
        Ok((id != 0).then_some(id))
    }

    /// The newest finalized block that every endpoint has; all agree on its hash.
    ///
    /// An endpoint that lags can only hold the others back to an older finalized block, which delays; one that claims
    /// a block the others do not have is named.
    ///
    /// # Errors
    /// As [`ChainReader::is_ordered`].
    pub async fn finalized_block(&self) -> Result<BlockId, ChainError> {
        let mut oldest: Option<(&Endpoint, BlockId)> = None;
        for endpoint in &self.endpoints {
            let block = existing_block(endpoint.provider(), BlockNumberOrTag::Finalized).await?;
            if oldest.as_ref().is_none_or(|(_, other)| block.number < other.number) {
                oldest = Some((endpoint, block));
            }
        }
        let (first, block) = oldest.ok_or(ChainError::TooFewEndpoints { configured: 0, needed: 1 })?;
        for endpoint in &self.endpoints {
            let other = endpoint.block(BlockNumberOrTag::Number(block.number)).await?;
            if other.map(|other| other.hash) != Some(block.hash) {
                return Err(ChainError::EndpointsDisagree {
                    question: format!("the hash of finalized block {}", block.number),
                    first: first.name().to_owned(),
                    first_answer: block.hash.to_string(),
                    second: endpoint.name().to_owned(),
                    second_answer: other.map_or_else(|| "there is none".to_owned(), |other| other.hash.to_string()),
                });
            }
        }
        Ok(block)
    }

    /// Asks every endpoint at the same finalized block and returns the answer they all gave.
    async fn agreed<T, F, Fut>(&self, question: String, read: F) -> Result<T, ChainError>
    where
        T: PartialEq + Debug,
        F: Fn(DynProvider, At) -> Fut,
        Fut: Future<Output = Result<T, alloy::contract::Error>>,
    {
        let block = self.finalized_block().await?;
        self.agreed_at(&block, question, read).await
    }

    /// Asks every endpoint at this block and returns the answer they all gave.
    pub(crate) async fn agreed_at<T, F, Fut>(&self, block: &BlockId, question: String, read: F) -> Result<T, ChainError>
    where
        T: PartialEq + Debug,
        F: Fn(DynProvider, At) -> Fut,
        Fut: Future<Output = Result<T, alloy::contract::Error>>,
    {
        let at = At::hash_canonical(block.hash);
        let mut agreed: Option<(&Endpoint, T)> = None;
        for endpoint in &self.endpoints {
            let action = format!("asking {} {question}", endpoint.name());
            let answer = ask_contract(action, read(endpoint.provider().clone(), at)).await?;
            match &agreed {
                None => agreed = Some((endpoint, answer)),
                Some((_, first_answer)) if *first_answer == answer => {}
                Some((first, first_answer)) => {
                    return Err(ChainError::EndpointsDisagree {
                        question: format!("{question} (block {})", block.number),
                        first: first.name().to_owned(),
                        first_answer: format!("{first_answer:?}"),
                        second: endpoint.name().to_owned(),
                        second_answer: format!("{answer:?}"),
                    });
                }
            }
        }
        agreed.map(|(_, answer)| answer).ok_or(ChainError::TooFewEndpoints { configured: 0, needed: 1 })
    }

    // ---------------------------------------------------------------- latest, the first endpoint that answers

    /// The key at the newest block.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if there is no such key; that of the last endpoint if none answers.
    pub async fn key(&self, key_id: u64) -> Result<KeyInfo, ChainError> {
        let registry = self.deployment.key_registry;
        let key = self
            .latest(format!("reading key {key_id}"), |provider| async move {
                KeyRegistry::new(registry, provider).key(U256::from(key_id)).call().await
            })
            .await?;
        key_info(key_id, &key)
    }

    /// Merkle root of the share leaves of a committee of the key, at the newest block; zero where there is no such committee, or its
    /// leaves are forgotten.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if there is no such key; that of the last endpoint if none answers.
    pub async fn leaves_root(&self, key_id: u64, committee_epoch: u32) -> Result<B256, ChainError> {
        if committee_epoch == 0 {
            return Ok(self.key(key_id).await?.commitment);
        }
        let resharing = self.deployment.resharing();
        let record =
            self.latest(format!("reading committee {committee_epoch} of key {key_id}"), |provider| async move {
                Resharing::new(resharing, provider).committee(U256::from(key_id), committee_epoch).call().await
            });
        Ok(record.await?.leavesRoot)
    }

    /// Whether the chain ordered signing `signing_root` with the key, at the newest block. For accusations only: an order counts for
    /// a signer once it is final ([`ChainReader::is_ordered`]).
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn is_ordered_now(&self, key_id: u64, signing_root: B256) -> Result<bool, ChainError> {
        let registry = self.deployment.key_registry;
        self.latest(format!("reading whether key {key_id} was ordered to sign {signing_root}"), |provider| async move {
            KeyRegistry::new(registry, provider).isOrdered(U256::from(key_id), signing_root).call().await
        })
        .await
    }

    /// Whether the key's consumer would penalise the provider that `duty_keys` stand for in that assignment, if the Court asked now:
    /// both must be the provider's.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if there is no such key; that of the last endpoint if none answers.
    pub async fn can_penalise_provider(
        &self,
        key_id: u64,
        assignment: u64,
        duty_keys: [Address; 2],
    ) -> Result<bool, ChainError> {
        let (consumer, court) = (self.key(key_id).await?.consumer, self.deployment.court);
        if consumer.is_zero() {
            return Ok(false);
        }
        let asked = self
            .latest(format!("asking whose duty keys {duty_keys:?} are"), |provider| async move {
                let pools = Micropools::new(consumer, provider);
                pools.penaliseProvider(U256::from(key_id), assignment, duty_keys, court).from(court).call().await
            })
            .await;
        match asked {
            Ok(_) => Ok(true),
            Err(error) if error.is_transient() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Who may ask for duties of the key at the newest block; nothing where nobody may: no such key, not Live, or a
    /// provider without a duty key.
    ///
    /// # Errors
    /// That of the last endpoint if none answers. An error never means that anybody may.
    pub async fn duty_assignment(&self, key_id: u64) -> Result<Option<DutyAssignment>, ChainError> {
        let registry = self.deployment.key_registry;
        let answer = self
            .latest(format!("reading who may ask for duties of key {key_id}"), |provider| async move {
                KeyRegistry::new(registry, provider).dutyAssignment(U256::from(key_id)).call().await
            })
            .await?;
        let assignment = DutyAssignment { duty_key: answer.dutyKey, number: answer.number };
        Ok((!assignment.duty_key.is_zero()).then_some(assignment))
    }

    /// The key whose group key hashes to this (keccak256 of its 128 bytes), at the newest block; nothing if there is none.
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn key_of_group_key(&self, group_key_hash: B256) -> Result<Option<u64>, ChainError> {
        let registry = self.deployment.key_registry;
        let id = self
            .latest("looking for the key of a group key", |provider| async move {
                KeyRegistry::new(registry, provider).keyOfGroupKey(group_key_hash).call().await
            })
            .await?;
        Ok(Some(id_of("the key of a group key", id)?).filter(|id| *id != 0))
    }

    /// Keys requested so far; ids are 1 to this number.
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn key_count(&self) -> Result<u64, ChainError> {
        let registry = self.deployment.key_registry;
        let count = self
            .latest("counting the keys", |provider| async move {
                KeyRegistry::new(registry, provider).keyCount().call().await
            })
            .await?;
        id_of("the number of keys", count)
    }

    /// The server at the newest block.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if there is no such server; that of the last endpoint if none answers.
    pub async fn server(&self, id: u32) -> Result<ServerInfo, ChainError> {
        let registry = self.deployment.server_registry;
        let server = self
            .latest(format!("reading server {id}"), |provider| async move {
                ServerRegistry::new(registry, provider).server(id).call().await
            })
            .await?;
        ServerInfo::from_contract(id, &server)?.ok_or_else(|| ChainError::NotFound(format!("there is no server {id}")))
    }

    /// Id of the server that signs with `signer`; nothing if there is none.
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn server_of_signer(&self, signer: Address) -> Result<Option<u32>, ChainError> {
        let registry = self.deployment.server_registry;
        let id = self
            .latest("looking for the server of a signer", |provider| async move {
                ServerRegistry::new(registry, provider).serverOfSigner(signer).call().await
            })
            .await?;
        Ok((id != 0).then_some(id))
    }

    /// Unix time (seconds) at which the server last changed its signer; 0 if it never did.
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn signer_changed_at(&self, id: u32) -> Result<u64, ChainError> {
        let registry = self.deployment.server_registry;
        let time = self
            .latest(format!("reading when server {id} changed its signer"), |provider| async move {
                ServerRegistry::new(registry, provider).signerChangedAt(id).call().await
            })
            .await?;
        id_of("the time of a change", time)
    }

    /// Servers registered so far; ids are 1 to this number.
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn server_count(&self) -> Result<u32, ChainError> {
        let registry = self.deployment.server_registry;
        self.latest("counting the servers", |provider| async move {
            ServerRegistry::new(registry, provider).serverCount().call().await
        })
        .await
    }

    /// Endpoint of the server, as its newest event with the certificate now in force says.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if there is none; that of the last endpoint if none answers.
    pub async fn server_endpoint(&self, id: u32) -> Result<String, ChainError> {
        let server = self.server(id).await?;
        let logs = self
            .logs_of(
                self.deployment.server_registry,
                &[
                    ServerRegistry::ServerRegistered::SIGNATURE_HASH,
                    ServerRegistry::ServerEndpointChanged::SIGNATURE_HASH,
                ],
                U256::from(id),
            )
            .await?;
        let endpoint = logs.iter().rev().find_map(|log| {
            let (fingerprint, endpoint) = match log.log_decode::<ServerRegistry::ServerEndpointChanged>() {
                Ok(changed) => (changed.inner.tlsFingerprint, changed.inner.data.endpoint),
                Err(_) => {
                    let registered = log.log_decode::<ServerRegistry::ServerRegistered>().ok()?;
                    (registered.inner.tlsFingerprint, registered.inner.data.endpoint)
                }
            };
            (fingerprint == server.tls_fingerprint).then_some(endpoint)
        });
        endpoint.ok_or_else(|| ChainError::NotFound(format!("no event names the endpoint of server {id}")))
    }

    /// Ids of the active servers of `kind`, in the order draws use.
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn active_set(&self, kind: ServerKind) -> Result<Vec<u32>, ChainError> {
        let registry = self.deployment.server_registry;
        let packed = self
            .latest("reading the active set", |provider| async move {
                ServerRegistry::new(registry, provider).activeSet(kind.into()).call().await
            })
            .await?;
        let (ids, rest) = packed.as_chunks::<4>();
        if !rest.is_empty() {
            let detail = format!("an active set of {} bytes", packed.len());
            return Err(ChainError::Nonsense { action: "reading the active set".into(), detail });
        }
        Ok(ids.iter().map(|id| u32::from_be_bytes(*id)).collect())
    }

    /// Pool that uses a withdrawal key, at the newest finalized block, with the same answer from all endpoints.
    ///
    /// # Errors
    /// As [`ChainReader::is_ordered`]; [`ChainError::NotFound`] if no pool does.
    pub async fn finalized_pool_of_withdrawal_key(&self, key_id: u64) -> Result<u64, ChainError> {
        let contract = self.deployment.withdrawal_keys();
        let key = self
            .agreed(format!("the pool of withdrawal key {key_id}"), |provider, at| async move {
                WithdrawalKeys::new(contract, provider).withdrawalKey(U256::from(key_id)).block(at).call().await
            })
            .await?;
        if key.poolId == 0 {
            let what = format!("no pool was opened with withdrawal key {key_id} (at the newest finalized block)");
            return Err(ChainError::NotFound(what));
        }
        Ok(key.poolId)
    }

    /// Withdrawal credentials of a pool, at the newest finalized block, with the same answer from all endpoints: 0x01 to the vault
    /// that is derived here, or those that a withdrawal key gave it, which begin with 0x00.
    ///
    /// # Errors
    /// As [`ChainReader::is_ordered`]; [`ChainError::Nonsense`] if they are anything else.
    pub async fn finalized_credentials(&self, pool: u64) -> Result<B256, ChainError> {
        let action = format!("the withdrawal credentials of pool {pool}");
        let micropools = self.deployment.micropools;
        let credentials = self
            .agreed(action.clone(), |provider, at| async move {
                Micropools::new(micropools, provider).withdrawalCredentials(U256::from(pool)).block(at).call().await
            })
            .await?;
        if credentials == self.deployment.withdrawal_credentials(pool) || credentials[0] == 0 && !credentials.is_zero()
        {
            return Ok(credentials);
        }
        let detail = format!("{credentials} are neither of the pool's vault nor of a withdrawal key");
        Err(ChainError::Nonsense { action, detail })
    }

    /// The pool at the newest block, with its vault derived here.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if there is no such pool; that of the last endpoint if none answers.
    pub async fn pool(&self, id: u64) -> Result<PoolInfo, ChainError> {
        let micropools = self.deployment.micropools;
        let pool = self
            .latest(format!("reading pool {id}"), |provider| async move {
                Micropools::new(micropools, provider).pool(U256::from(id)).call().await
            })
            .await?;
        PoolInfo::from_contract(&self.deployment, id, &pool)?
            .ok_or_else(|| ChainError::NotFound(format!("there is no pool {id}")))
    }

    /// Pools opened so far; ids are 1 to this number.
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn pool_count(&self) -> Result<u64, ChainError> {
        let micropools = self.deployment.micropools;
        let count = self
            .latest("counting the pools", |provider| async move {
                Micropools::new(micropools, provider).poolCount().call().await
            })
            .await?;
        id_of("the number of pools", count)
    }

    /// Duty key that `provider` uses now; nothing for no provider.
    ///
    /// # Errors
    /// That of the last endpoint if none answers.
    pub async fn duty_key(&self, provider: Address) -> Result<Option<Address>, ChainError> {
        let registry = self.deployment.provider_registry;
        let key = self
            .latest("reading a duty key", |endpoint| async move {
                ProviderRegistry::new(registry, endpoint).dutyKey(provider).call().await
            })
            .await?;
        Ok((!key.is_zero()).then_some(key))
    }

    /// The committee of a key whose ceremony runs (state Drawn).
    ///
    /// Events name candidates; the one that hashes to the key's commitment is it, so an endpoint that invents an event
    /// gets nowhere.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if the key is not Drawn or no event fits.
    pub async fn committee(&self, key_id: u64) -> Result<Committee, ChainError> {
        let key = self.key(key_id).await?;
        if key.state != KeyState::Drawn {
            return Err(ChainError::NotFound(format!("key {key_id} is {} and has no ceremony", key.state)));
        }
        let logs = self
            .logs_of(
                self.deployment.key_registry,
                &[KeyRegistry::CommitteeDrawn::SIGNATURE_HASH, KeyRegistry::CeremonyRestarted::SIGNATURE_HASH],
                U256::from(key_id),
            )
            .await?;
        let members = logs.iter().rev().find_map(|log| {
            let members = match log.log_decode::<KeyRegistry::CommitteeDrawn>() {
                Ok(drawn) => drawn.inner.data.committee,
                // A restart with seed block 0 keeps the whole committee.
                Err(_) => log.log_decode::<KeyRegistry::CeremonyRestarted>().ok()?.inner.data.kept,
            };
            (committee_hash(&members) == key.commitment).then_some(members)
        });
        match members {
            Some(members) => Ok(Committee { key_id, attempt: key.attempt, members, deadline: key.mark }),
            None => Err(ChainError::NotFound(format!("no event names the committee that key {key_id} committed to"))),
        }
    }

    /// Who was drawn for attempt `attempt` of key `key_id`, or kept from the one before: events name them, of attempts that are over, too.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if no event does.
    pub async fn drawn_for(&self, key_id: u64, attempt: u16) -> Result<Vec<u32>, ChainError> {
        let topics = [KeyRegistry::CommitteeDrawn::SIGNATURE_HASH, KeyRegistry::CeremonyRestarted::SIGNATURE_HASH];
        let logs = self.logs_of(self.deployment.key_registry, &topics, U256::from(key_id)).await?;
        let members = logs.iter().rev().find_map(|log| match log.log_decode::<KeyRegistry::CommitteeDrawn>() {
            Ok(drawn) => (drawn.inner.attempt == attempt).then(|| drawn.inner.committee.clone()),
            Err(_) => {
                let restarted = log.log_decode::<KeyRegistry::CeremonyRestarted>().ok()?.inner.data;
                // One with a seed block waits for its draw.
                (restarted.attempt == attempt && restarted.seedBlock.is_zero()).then_some(restarted.kept)
            }
        });
        members.ok_or_else(|| ChainError::NotFound(format!("nobody was drawn for attempt {attempt} of key {key_id}")))
    }

    /// The public half of a finalised key, checked against the chain's Merkle root.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if it is not finalised yet, [`ChainError::Key`] if no event fits its root.
    pub async fn live_key(&self, key_id: u64) -> Result<LiveKey, ChainError> {
        let key = self.key(key_id).await?;
        if matches!(key.state, KeyState::Requested | KeyState::Drawn) {
            return Err(ChainError::NotFound(format!("key {key_id} is {} and not finalised", key.state)));
        }
        let logs = self
            .logs_of(self.deployment.key_registry, &[KeyRegistry::KeyFinalised::SIGNATURE_HASH], U256::from(key_id))
            .await?;
        let mut reason = ChainError::NotFound(format!("no event says that key {key_id} was finalised"));
        for log in logs.iter().rev() {
            let Ok(event) = log.log_decode::<KeyRegistry::KeyFinalised>() else {
                continue;
            };
            match LiveKey::from_event(&key, &event.inner.data) {
                Ok(live) => return Ok(live),
                Err(error) => reason = error.into(),
            }
        }
        Err(reason)
    }

    /// The first endpoint's answer; the next one is asked if it cannot be reached.
    async fn latest<T, F, Fut>(&self, action: impl Into<String>, read: F) -> Result<T, ChainError>
    where
        F: Fn(DynProvider) -> Fut,
        Fut: Future<Output = Result<T, alloy::contract::Error>>,
    {
        let action = action.into();
        let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
        for endpoint in &self.endpoints {
            match ask_contract(format!("{action} at {}", endpoint.name()), read(endpoint.provider().clone())).await {
                Err(error) if error.is_transient() => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }

    /// Logs of `contract` with one of `topics` and `id` as their first indexed argument, oldest first.
    async fn logs_of(&self, contract: Address, topics: &[B256], id: U256) -> Result<Vec<Log>, ChainError> {
        let filter = Filter::new().address(contract).event_signature(topics.to_vec()).topic1(B256::from(id));
        let mut last = ChainError::TooFewEndpoints { configured: 0, needed: 1 };
        for endpoint in &self.endpoints {
            match logs_between(endpoint.provider(), &filter, self.deployment.deployed_block, None).await {
                Err(error) if error.is_transient() => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }
}

/// All logs of `filter` from block `from` to `until` (to the newest without it), oldest first. Ranges that the endpoint refuses are
/// halved.
pub(crate) async fn logs_between(
    provider: &DynProvider,
    filter: &Filter,
    from: u64,
    until: Option<u64>,
) -> Result<Vec<Log>, ChainError> {
    let head = match until {
        Some(until) => until,
        None => existing_block(provider, BlockNumberOrTag::Latest).await?.number,
    };
    let mut logs = Vec::new();
    let (mut start, mut span) = (from, head.saturating_sub(from).saturating_add(1));
    while start <= head {
        let end = head.min(start.saturating_add(span - 1));
        let range = filter.clone().from_block(start).to_block(end);
        match ask(format!("reading logs of blocks {start} to {end}"), provider.get_logs(&range)).await {
            Ok(found) => {
                logs.extend(found);
                start = end.saturating_add(1);
            }
            Err(ChainError::Refused { .. } | ChainError::Timeout { .. }) if span > 1 => span = span.div_ceil(2),
            Err(error) => return Err(error),
        }
    }
    Ok(logs)
}

/// `keccak256(abi.encode(committee))`: what a Drawn key commits to.
#[must_use]
pub fn committee_hash(members: &[u32]) -> B256 {
    keccak256(members.to_vec().abi_encode())
}

fn enough(configured: usize, trust: Trust) -> Result<(), ChainError> {
    let needed = match trust {
        Trust::TwoEndpoints => 2,
        Trust::OneEndpoint => 1,
    };
    if configured < needed { Err(ChainError::TooFewEndpoints { configured, needed }) } else { Ok(()) }
}

fn key_info(id: u64, key: &KeyRegistry::Key) -> Result<KeyInfo, ChainError> {
    KeyInfo::from_contract(id, key)?.ok_or_else(|| ChainError::NotFound(format!("there is no key {id}")))
}

/// Ids and counts are uint256 in the contracts and count from 1; none will ever pass 64 bits.
fn id_of(what: &str, number: U256) -> Result<u64, ChainError> {
    u64::try_from(number)
        .map_err(|_| ChainError::Nonsense { action: format!("reading {what}"), detail: format!("{number}") })
}
