//! The relayer's picture of the chain: a fold over the contracts' events, nothing else.
//!
//! Every fact here comes from an event that the event log stored together with its block, so a reorg is undone by
//! folding the surviving events again. The picture may lag behind the chain or come from a lying endpoint: nothing
//! that is derived from it can do more than cost this relayer a simulated call, because every contract and every
//! server judges for itself.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use stkr_chain::types::{PoolState, ServerStatus};

/// Everything the planner knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Registered servers by id.
    pub servers: BTreeMap<u32, Server>,
    /// Requested keys by id.
    pub keys: BTreeMap<u64, Key>,
    /// Opened pools by id.
    pub pools: BTreeMap<u64, Pool>,
}

/// A registered server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Account that runs it.
    pub operator: Address,
    /// Account that signs its protocol messages.
    pub signer: Address,
    /// SHA-256 of the DER certificate it presents.
    pub tls_fingerprint: B256,
    /// `host:port` or an https URL, as registered; untrusted text.
    pub endpoint: String,
    /// Where it stands.
    pub status: ServerStatus,
    /// Whether it has a network at all.
    pub online: bool,
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Contract that asked for it.
    pub consumer: Address,
    /// Shares that sign.
    pub threshold: u8,
    /// Shares that exist.
    pub members: u8,
    /// Ceremony number.
    pub attempt: u16,
    /// Where it stands.
    pub phase: KeyPhase,
}

/// Where a key stands, with what the next step needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPhase {
    /// Waits for its seed block and somebody to draw.
    Requested(PendingDraw),
    /// The committee runs its ceremony.
    Drawn(Ceremony),
    /// Usable.
    Live(LiveKey),
    /// Given up; `before` says what its seats are bound to.
    Retired {
        /// A forbidden group signature was shown.
        burned: bool,
        /// Unix time (seconds) of the block it ended in.
        at: u64,
        /// Where it stood when it ended.
        before: Box<KeyPhase>,
    },
    /// Given up, seats free again: nothing more can happen.
    Ended {
        /// A forbidden group signature was shown.
        burned: bool,
    },
}

impl KeyPhase {
    /// One word for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Requested(_) => "requested",
            Self::Drawn(_) => "drawn",
            Self::Live(_) => "live",
            Self::Retired { burned: true, .. } | Self::Ended { burned: true } => "burned",
            Self::Retired { .. } | Self::Ended { .. } => "retired",
        }
    }
}

/// A draw that waits for its seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDraw {
    /// Block whose PREVRANDAO is the seed.
    pub seed_block: u64,
    /// Snapshot of the active set: packed big-endian uint32 ids.
    pub active_set: Bytes,
    /// Members that keep their seat.
    pub kept: Vec<u32>,
}

/// A committee that makes a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceremony {
    /// Server ids; share index = position + 1.
    pub committee: Vec<u32>,
    /// Unix time (seconds) until which it may be finalised.
    pub deadline: u64,
}

/// A live key: what `KeyFinalised` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveKey {
    /// Server ids; share index = position + 1.
    pub committee: Vec<u32>,
    /// Signer of each member.
    pub signers: Vec<Address>,
    /// n share keys, then the group key, EIP-2537, 128 bytes each.
    pub points: Bytes,
    /// keccak256 of the n dealing hashes.
    pub dealings_digest: B256,
}

impl LiveKey {
    /// The group key, 128 bytes, EIP-2537; `None` if the event carried fewer bytes.
    #[must_use]
    pub fn group_key(&self) -> Option<Bytes> {
        let start = self.points.len().checked_sub(128)?;
        Some(self.points.slice(start..))
    }
}

/// A micropool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Account that runs its validator.
    pub provider: Address,
    /// t of its key.
    pub threshold: u8,
    /// n of its key.
    pub members: u8,
    /// Withdrawal address.
    pub vault: Address,
    /// Wei staked.
    pub staked: U256,
    /// Where it stands.
    pub state: PoolState,
    /// Unix time (seconds): Open, Full, KeyReady: anyone may cancel from then on; Predeposited: anyone may top up.
    pub deadline: u64,
    /// Its key, once requested.
    pub key_id: Option<u64>,
    /// Its one DepositMessage, once ordered.
    pub order: Option<DepositOrder>,
    /// Gwei of each deposit sent.
    pub deposits_gwei: Vec<u64>,
}

/// The DepositMessage a pool ordered: `IMicropools.DepositOrdered`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositOrder {
    /// Key that is to sign.
    pub key_id: u64,
    /// Compressed group key, 48 bytes.
    pub pubkey: Bytes,
    /// 0x01 credentials of the vault.
    pub withdrawal_credentials: B256,
    /// Gwei of the first deposit.
    pub amount_gwei: u64,
    /// What the committee signs.
    pub signing_root: B256,
    /// Block the order stands in.
    pub block: u64,
}

/// One event as the fold needs it: the contracts' events with numbers narrowed. Built by `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `ServerRegistered`.
    ServerRegistered {
        /// Id.
        id: u32,
        /// The server, in status Registered.
        server: Server,
    },
    /// `ServerEndpointChanged`.
    EndpointChanged {
        /// Id.
        id: u32,
        /// New fingerprint.
        tls_fingerprint: B256,
        /// New endpoint.
        endpoint: String,
    },
    /// `ServerStatusChanged`.
    StatusChanged {
        /// Id.
        id: u32,
        /// New status.
        status: ServerStatus,
    },
    /// `KeyRequested`.
    KeyRequested {
        /// Id.
        key_id: u64,
        /// Who asked.
        consumer: Address,
        /// t.
        threshold: u8,
        /// n.
        members: u8,
        /// What the draw needs; nobody is kept.
        draw: PendingDraw,
    },
    /// `CeremonyRestarted`; no `draw` means that the same committee tries again until `deadline`.
    CeremonyRestarted {
        /// Id.
        key_id: u64,
        /// New ceremony number.
        attempt: u16,
        /// Members that stay; all of them without `draw`.
        kept: Vec<u32>,
        /// What the draw needs.
        draw: Option<PendingDraw>,
        /// New deadline, without `draw`.
        deadline: u64,
    },
    /// `CommitteeDrawn`.
    CommitteeDrawn {
        /// Id.
        key_id: u64,
        /// Ceremony number.
        attempt: u16,
        /// The committee and its deadline.
        ceremony: Ceremony,
    },
    /// `KeyFinalised`.
    KeyFinalised {
        /// Id.
        key_id: u64,
        /// The key.
        live: LiveKey,
    },
    /// `KeyRetired`.
    KeyRetired {
        /// Id.
        key_id: u64,
        /// Whether a forbidden signature was shown.
        burned: bool,
    },
    /// `SeatsFreed`.
    SeatsFreed {
        /// Id.
        key_id: u64,
    },
    /// `PoolOpened`.
    PoolOpened {
        /// Id.
        pool_id: u64,
        /// The pool, Open.
        pool: Pool,
    },
    /// `Staked` and `Left`.
    StakeChanged {
        /// Id.
        pool_id: u64,
        /// Wei the pool holds now.
        staked: U256,
    },
    /// `PoolStateChanged`.
    PoolStateChanged {
        /// Id.
        pool_id: u64,
        /// New state.
        state: PoolState,
        /// New deadline.
        deadline: u64,
    },
    /// `PoolKeyRequested`.
    PoolKeyRequested {
        /// Pool.
        pool_id: u64,
        /// Its key.
        key_id: u64,
    },
    /// `DepositOrdered`.
    DepositOrdered {
        /// Pool.
        pool_id: u64,
        /// The order.
        order: DepositOrder,
    },
    /// `DepositSent`.
    DepositSent {
        /// Pool.
        pool_id: u64,
        /// Gwei.
        amount_gwei: u64,
    },
}

impl View {
    /// Folds one fact in; `timestamp` is the unix time (seconds) of its block. Facts about things nobody announced are ignored: they can only come
    /// from a log that started too late, and a relayer that does nothing harms nobody.
    pub fn apply(&mut self, timestamp: u64, fact: Fact) {
        match fact {
            Fact::ServerRegistered { id, server } => {
                self.servers.insert(id, server);
            }
            Fact::EndpointChanged { id, tls_fingerprint, endpoint } => {
                if let Some(server) = self.servers.get_mut(&id) {
                    server.tls_fingerprint = tls_fingerprint;
                    server.endpoint = endpoint;
                }
            }
            Fact::StatusChanged { id, status } => {
                if let Some(server) = self.servers.get_mut(&id) {
                    server.status = status;
                }
            }
            Fact::PoolOpened { pool_id, pool } => {
                self.pools.insert(pool_id, pool);
            }
            fact => {
                self.apply_to_pool(&fact);
                self.apply_to_key(timestamp, fact);
            }
        }
    }

    fn apply_to_pool(&mut self, fact: &Fact) {
        let (Fact::StakeChanged { pool_id, .. }
        | Fact::PoolStateChanged { pool_id, .. }
        | Fact::PoolKeyRequested { pool_id, .. }
        | Fact::DepositOrdered { pool_id, .. }
        | Fact::DepositSent { pool_id, .. }) = fact
        else {
            return;
        };
        let Some(pool) = self.pools.get_mut(pool_id) else {
            return;
        };
        match fact {
            Fact::StakeChanged { staked, .. } => pool.staked = *staked,
            Fact::PoolStateChanged { state, deadline, .. } => {
                pool.state = *state;
                pool.deadline = *deadline;
            }
            Fact::PoolKeyRequested { key_id, .. } => pool.key_id = Some(*key_id),
            Fact::DepositOrdered { order, .. } => pool.order = Some(order.clone()),
            Fact::DepositSent { amount_gwei, .. } => pool.deposits_gwei.push(*amount_gwei),
            _ => {}
        }
    }

    fn apply_to_key(&mut self, timestamp: u64, fact: Fact) {
        if let Fact::KeyRequested { key_id, consumer, threshold, members, draw } = fact {
            let phase = KeyPhase::Requested(draw);
            self.keys.insert(key_id, Key { consumer, threshold, members, attempt: 0, phase });
            return;
        }
        let (Fact::CeremonyRestarted { key_id, .. }
        | Fact::CommitteeDrawn { key_id, .. }
        | Fact::KeyFinalised { key_id, .. }
        | Fact::KeyRetired { key_id, .. }
        | Fact::SeatsFreed { key_id }) = &fact
        else {
            return;
        };
        let Some(key) = self.keys.get_mut(key_id) else {
            return;
        };
        match fact {
            Fact::CeremonyRestarted { attempt, kept, draw, deadline, .. } => {
                key.attempt = attempt;
                key.phase = match draw {
                    Some(draw) => KeyPhase::Requested(draw),
                    None => KeyPhase::Drawn(Ceremony { committee: kept, deadline }),
                };
            }
            Fact::CommitteeDrawn { attempt, ceremony, .. } => {
                key.attempt = attempt;
                key.phase = KeyPhase::Drawn(ceremony);
            }
            Fact::KeyFinalised { live, .. } => key.phase = KeyPhase::Live(live),
            Fact::KeyRetired { burned, .. } => {
                let before = std::mem::replace(&mut key.phase, KeyPhase::Ended { burned });
                key.phase = KeyPhase::Retired { burned, at: timestamp, before: Box::new(before) };
            }
            Fact::SeatsFreed { .. } => {
                let burned = matches!(key.phase, KeyPhase::Retired { burned: true, .. });
                key.phase = KeyPhase::Ended { burned };
            }
            _ => {}
        }
    }

    /// The pool that uses key `key_id`, with its id.
    #[must_use]
    pub fn pool_of_key(&self, key_id: u64) -> Option<(u64, &Pool)> {
        self.pools.iter().find(|(_, pool)| pool.key_id == Some(key_id)).map(|(id, pool)| (*id, pool))
    }
}

/// What the registry commits to while a draw is pending: keccak256 of the snapshot.
#[must_use]
pub fn active_set_hash(active_set: &[u8]) -> B256 {
    keccak256(active_set)
}
