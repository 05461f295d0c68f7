//! The relayer's picture of the chain: a fold over the contracts' events, nothing else.
//!
//! Every fact here comes from an event that the event log stored together with its block, so a reorg is undone by
//! folding the surviving events again. The picture may lag behind the chain or come from a lying endpoint: nothing
//! that is derived from it can do more than cost this relayer a simulated call, because every contract and every
//! server judges for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use stkr_chain::acknowledgements;
use stkr_chain::court::{answered_in, challenge_id, unanswered};
use stkr_chain::types::{KeyKind, PoolState, ServerStatus};

use stkr_protocol::evidence::{Fault, SignedEnvelope, commitment};
use stkr_protocol::messages::SignedMessage;

use crate::deposits::ForeignDeposit;
use crate::reshares::{ReshareFact, Reshares};
use crate::store::PROVIDER;

/// Everything the planner knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Registered servers by id.
    pub servers: BTreeMap<u32, Server>,
    /// Requested and dealt keys by id.
    pub keys: BTreeMap<u64, Key>,
    /// Dealt keys between the two events of their import, by id.
    pub imports: BTreeMap<u64, Import>,
    /// Opened pools by id.
    pub pools: BTreeMap<u64, Pool>,
    /// What is known of others' deposits with the key of a KeyReady or Predeposited pool, by pool id.
    pub watch: BTreeMap<u64, Watch>,
    /// What the Court knows.
    pub faults: Faults,
    /// Open challenges, by what was asked of whom.
    pub challenges: BTreeMap<Asked, Challenge>,
    /// Answers to challenges, oldest first.
    pub answers: Vec<GivenAnswer>,
    /// Open challenges to acknowledge a key.
    pub acknowledgements: BTreeMap<acknowledgements::Asked, AcknowledgementChallenge>,
    /// Who was ever asked to acknowledge a key: nobody is asked twice.
    pub asked_to_acknowledge: BTreeSet<acknowledgements::Asked>,
    /// What challenges and their answers brought of ceremonies that run, by key and attempt.
    pub told: BTreeMap<(u64, u16), Told>,
    /// Unix time (seconds) of the block in which each key became Live.
    pub live_since: BTreeMap<u64, u64>,
    /// Later committees of keys, and the ones in the making, by key.
    pub reshares: BTreeMap<u64, Reshares>,
    /// Who was drawn for each ceremony that ever was, by key and attempt: nobody else has anything to say in it.
    pub drawn: BTreeMap<(u64, u16), Vec<u32>>,
    /// Wei that each server still has at stake, where that is known.
    pub bonds: BTreeMap<u32, U256>,
}

/// What a challenge asks for: a key, the share index of the one who is asked, and what it has to sign.
pub type Asked = (u64, u8, B256);

/// An open challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Server that has to answer.
    pub server_id: u32,
    /// Who asked.
    pub challenger: Address,
    /// Number of the last block in which it can be answered.
    pub deadline: u64,
    /// Unix time (seconds) of its block: who served then has to answer.
    pub asked_at: u64,
    /// Unix time (seconds) at which it is due: nothing that comes later excuses anybody.
    pub due: u64,
    /// Wei.
    pub fee: U256,
}

/// An open challenge to acknowledge the key that a ceremony makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcknowledgementChallenge {
    /// Server that has to answer.
    pub server_id: u32,
    /// Who asked.
    pub challenger: Address,
    /// Unix time (seconds) of the last block in which it can be answered.
    pub deadline: u64,
    /// EIP-712 digest of what has to be signed.
    pub acknowledgement: B256,
    /// The dealings that make the key, all n in index order.
    pub dealings: Arc<[SignedMessage]>,
}

/// Messages of a ceremony that stand on the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// All dealings, index order.
    pub dealings: Arc<[SignedMessage]>,
    /// Signatures over the acknowledgement, by share index.
    pub acknowledgements: BTreeMap<u8, [u8; 65]>,
}

/// An answer to a challenge, right or not: the Court does not look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenAnswer {
    /// What the server signed.
    pub envelope: SignedEnvelope,
    /// The partial.
    pub partial: Bytes,
}

/// Commitments and upheld faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Block of every commitment, by commitment.
    pub commitments: BTreeMap<B256, u64>,
    /// Who first showed a piece of evidence of a fault of a server ([`PROVIDER`] for a provider), and where. Two servers that sign the
    /// same have the same evidence, and each has to pay for it.
    pub shown: BTreeMap<(u32, u8, B256), Shown>,
    /// How often each server was reinstated; a server without an entry never was.
    pub terms: BTreeMap<u32, u32>,
    /// Unix time (seconds) of each server's last reinstatement, if it ever was.
    pub reinstated_at: BTreeMap<u32, u64>,
    /// Server, key, committee epoch and number of every fault that was charged since the server was last reinstated.
    pub of_term: BTreeSet<(u32, u64, u32, u8)>,
    /// Key and assignment of every provider that was charged: once each.
    pub of_assignment: BTreeSet<(u64, u64)>,
    /// All that the Court has on record, oldest first, whoever reported it.
    pub verdicts: Vec<Verdict>,
}

/// A fault on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Number of the fault.
    pub fault: u8,
    /// Server; nothing where a provider is at fault.
    pub server_id: Option<u32>,
    /// Key.
    pub key_id: u64,
    /// What the Court calls the evidence.
    pub evidence: B256,
    /// Who showed it, and where.
    pub shown: Shown,
    /// Whether it was charged: one that was charged already is only recorded.
    pub charged: bool,
}

/// A verdict of the Court.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Who showed the evidence.
    pub reporter: Address,
    /// Transaction.
    pub transaction: B256,
    /// Its block.
    pub block: u64,
}

/// What the deposit contract says about a pool's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// First block that was not looked through yet.
    pub known_before: u64,
    /// The first deposit that burns the key.
    pub foreign: Option<ForeignDeposit>,
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
    /// A fault was proven, and governance has not reinstated it: its acknowledgement makes no key, its partials still count.
    pub locked_out: bool,
}

#[cfg(test)]
impl Server {
    /// An online one in good standing, of nobody, with `endpoint`.
    pub(crate) fn active(endpoint: &str) -> Self {
        Self {
            operator: Address::ZERO,
            signer: Address::ZERO,
            tls_fingerprint: B256::ZERO,
            endpoint: endpoint.to_owned(),
            status: ServerStatus::Active,
            online: true,
            locked_out: false,
        }
    }
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Contract that asked for it; zero of a dealt key.
    pub consumer: Address,
    /// What it is for.
    pub kind: KeyKind,
    /// Shares that sign.
    pub threshold: u8,
    /// Shares that exist.
    pub members: u8,
    /// Ceremony number; 0 of a dealt key, which had none.
    pub attempt: u16,
    /// Block of the request; nobody can have made a deposit with the key before it. That of the import of a dealt key, which may be
    /// of any age and serves no pool.
    pub requested_in: u64,
    /// Where it stands.
    pub phase: KeyPhase,
}

impl Key {
    /// Whether it existed whole before its owner split it: nobody orders what it signs, and it keeps its committee for ever.
    #[must_use]
    pub fn is_dealt(&self) -> bool {
        self.consumer.is_zero()
    }
}

/// What `DealtKeyImported` says of a key; its committee comes with `KeyFinalised`, in the same transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// Shares that sign.
    pub threshold: u8,
    /// Block of the import.
    pub block: u64,
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

impl KeyPhase {
    /// Ids of the servers that hold a seat of the key.
    #[must_use]
    pub fn seats(&self) -> &[u32] {
        match self {
            Self::Requested(draw) => &draw.kept,
            Self::Drawn(ceremony) => &ceremony.committee,
            Self::Live(live) => &live.committee,
            Self::Retired { before, .. } => before.seats(),
            Self::Ended { .. } => &[],
        }
    }

    /// The key's first committee, of committee epoch 0, while its leaves can be shown to the registry.
    #[must_use]
    pub fn first_committee(&self) -> Option<&LiveKey> {
        match self {
            Self::Live(live) => Some(live),
            Self::Retired { before, .. } => before.first_committee(),
            Self::Requested(_) | Self::Drawn(_) | Self::Ended { .. } => None,
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
    /// Block in which it began.
    pub begun_in: u64,
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
    /// keccak256 of the n dealing hashes; zero of a dealt key.
    pub dealings_digest: B256,
    /// Merkle root of the share leaves.
    pub leaves_root: B256,
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
    /// Credentials and gwei of the foreign deposit that burned its key, if one was proven.
    pub proven: Option<(B256, u64)>,
    /// Its withdrawal key, if it was opened with one.
    pub withdrawal: Option<Withdrawal>,
}

/// The withdrawal key of a pool with 0x00 credentials, and what it is to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Key.
    pub key_id: u64,
    /// Changes of credentials that were ordered, by the validator's index.
    pub changes: BTreeMap<u64, ChangeOrder>,
}

impl Withdrawal {
    /// Whether the committee's signature over a change was shown to the chain.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.changes.values().any(|order| order.signature.is_some())
    }
}

/// A change of credentials that was ordered: `IWithdrawalKeys.ChangeOrdered`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeOrder {
    /// What the committee signs.
    pub signing_root: B256,
    /// Block the order stands in.
    pub block: u64,
    /// The committee's signature, 96 bytes compressed, once it was shown.
    pub signature: Option<Bytes>,
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
    /// `BondChanged`, and what a registration brought.
    BondChanged {
        /// Id.
        id: u32,
        /// Wei.
        bond: U256,
    },
    /// What `FaultProven` took of a bond.
    Slashed {
        /// Id.
        id: u32,
        /// Wei.
        amount: U256,
    },
    /// `SignerChanged`: what begins from now on names this one.
    SignerChanged {
        /// Id.
        id: u32,
        /// Its new signer.
        signer: Address,
    },
    /// `ServerStatusChanged`.
    StatusChanged {
        /// Id.
        id: u32,
        /// New status.
        status: ServerStatus,
    },
    /// `ServerReinstated`.
    ServerReinstated {
        /// Id.
        id: u32,
    },
    /// `EvidenceCommitted`.
    EvidenceCommitted {
        /// What was committed.
        commitment: B256,
        /// Block it stands in.
        block: u64,
    },
    /// `FaultProven` and `FaultRecorded`.
    FaultUpheld {
        /// Number of the fault.
        fault: u8,
        /// Server.
        server_id: u32,
        /// Key.
        key_id: u64,
        /// Number of the committee in whose name it was done; 0 of what has none.
        committee_epoch: u32,
        /// What the Court calls the evidence.
        evidence: B256,
        /// Who showed it, and where.
        shown: Shown,
        /// Whether it was charged, which locks the server out: one that was charged already is only recorded.
        charged: bool,
    },
    /// `ProviderFaultProven`.
    ProviderFaultProven {
        /// Key.
        key_id: u64,
        /// Assignment.
        assignment: u64,
        /// What the Court calls the evidence.
        evidence: B256,
        /// Who showed it, and where.
        shown: Shown,
    },
    /// `SignatureChallenged`.
    Challenged {
        /// What of whom.
        asked: Asked,
        /// The challenge.
        challenge: Challenge,
    },
    /// `SignatureAnswered`.
    Answered(GivenAnswer),
    /// `ChallengeVoid`.
    ChallengeVoid {
        /// What of whom.
        asked: Asked,
    },
    /// `AcknowledgementChallenged`.
    AcknowledgementChallenged {
        /// Whom.
        asked: acknowledgements::Asked,
        /// The challenge.
        challenge: AcknowledgementChallenge,
    },
    /// `AcknowledgementAnswered`, `AcknowledgementRefused` and `AcknowledgementChallengeClosed`: it is over.
    AcknowledgementChallengeEnded {
        /// Whom.
        asked: acknowledgements::Asked,
        /// The acknowledgement, if that ended it.
        signature: Option<[u8; 65]>,
    },
    /// `KeyRequested`.
    KeyRequested {
        /// Id.
        key_id: u64,
        /// Who asked.
        consumer: Address,
        /// What it is for.
        kind: KeyKind,
        /// t.
        threshold: u8,
        /// n.
        members: u8,
        /// What the draw needs; nobody is kept.
        draw: PendingDraw,
        /// Block it stands in.
        block: u64,
    },
    /// `DealtKeyImported`.
    DealtKeyImported {
        /// Id.
        key_id: u64,
        /// t.
        threshold: u8,
        /// Block it stands in.
        block: u64,
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
        /// Block it stands in.
        block: u64,
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
    /// Of `IResharing`.
    Reshare {
        /// Key.
        key_id: u64,
        /// What happened.
        fact: ReshareFact,
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
    /// `ForeignDepositProven`.
    ForeignDepositProven {
        /// Pool.
        pool_id: u64,
        /// The thieves' credentials.
        withdrawal_credentials: B256,
        /// Gwei.
        amount_gwei: u64,
    },
    /// `WithdrawalKeyUsed`.
    WithdrawalKeyUsed {
        /// Pool.
        pool_id: u64,
        /// Its withdrawal key.
        key_id: u64,
    },
    /// `ChangeOrdered`.
    ChangeOrdered {
        /// Pool.
        pool_id: u64,
        /// The validator that it names.
        validator_index: u64,
        /// The order.
        order: ChangeOrder,
    },
    /// `ChangeShown`.
    ChangeShown {
        /// Pool.
        pool_id: u64,
        /// The validator that it names.
        validator_index: u64,
        /// 96 bytes, compressed.
        signature: Bytes,
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
            Fact::BondChanged { id, bond } => drop(self.bonds.insert(id, bond)),
            Fact::Slashed { id, amount } => {
                if let Some(bond) = self.bonds.get_mut(&id) {
                    *bond = bond.saturating_sub(amount);
                }
            }
            Fact::SignerChanged { id, signer } => {
                if let Some(server) = self.servers.get_mut(&id) {
                    server.signer = signer;
                }
            }
            Fact::StatusChanged { id, status } => {
                if let Some(server) = self.servers.get_mut(&id) {
                    server.status = status;
                }
            }
            Fact::ServerReinstated { id } => {
                self.lock(id, false);
                *self.faults.terms.entry(id).or_default() += 1;
                self.faults.reinstated_at.insert(id, timestamp);
                self.faults.of_term.retain(|(server, ..)| *server != id);
            }
            Fact::EvidenceCommitted { commitment, block } => {
                self.faults.commitments.insert(commitment, block);
            }
            Fact::FaultUpheld { fault, server_id, key_id, committee_epoch, evidence, shown, charged } => {
                self.faults.shown.entry((server_id, fault, evidence)).or_insert(shown);
                // Good for one report.
                self.faults.commitments.remove(&commitment(shown.reporter, fault, evidence));
                self.end_unanswered(key_id, evidence);
                // A record alone decides nothing: old evidence shown after a reinstatement must not hide a new fault.
                if charged {
                    self.lock(server_id, true);
                    self.faults.of_term.insert((server_id, key_id, committee_epoch, fault));
                }
                let server_id = Some(server_id);
                self.faults.verdicts.push(Verdict { fault, server_id, key_id, evidence, shown, charged });
            }
            Fact::ProviderFaultProven { key_id, assignment, evidence, shown } => {
                let fault = Fault::ProviderEquivocation as u8;
                self.faults.shown.entry((PROVIDER, fault, evidence)).or_insert(shown);
                self.faults.of_assignment.insert((key_id, assignment));
                let (server_id, charged) = (None, true);
                self.faults.verdicts.push(Verdict { fault, server_id, key_id, evidence, shown, charged });
            }
            Fact::Challenged { asked, challenge } => {
                self.challenges.insert(asked, challenge);
            }
            Fact::Answered(answer) => {
                self.challenges.remove(&answered_in(&answer.envelope));
                self.answers.push(answer);
            }
            Fact::ChallengeVoid { asked } => {
                self.challenges.remove(&asked);
            }
            Fact::AcknowledgementChallenged { asked, challenge } => {
                self.asked_to_acknowledge.insert(asked);
                self.told.entry((asked.0, asked.1)).or_default().dealings = challenge.dealings.clone();
                self.acknowledgements.insert(asked, challenge);
            }
            Fact::AcknowledgementChallengeEnded { asked, signature } => {
                self.acknowledgements.remove(&asked);
                if let (Some(told), Some(signature)) = (self.told.get_mut(&(asked.0, asked.1)), signature) {
                    told.acknowledgements.insert(asked.2, signature);
                }
            }
            Fact::PoolOpened { pool_id, pool } => {
                self.pools.insert(pool_id, pool);
            }
            Fact::Reshare { key_id, fact } => {
                let first = self.keys.get(&key_id).and_then(|key| key.phase.first_committee()).cloned();
                self.reshares.entry(key_id).or_default().apply(first, fact);
            }
            fact => {
                self.apply_to_pool(&fact);
                self.apply_to_key(timestamp, fact);
            }
        }
    }

    /// A challenge that was proven to be unanswered is over; the event names it by its evidence only.
    fn end_unanswered(&mut self, key_id: u64, evidence: B256) {
        self.challenges.retain(|(key, index, root), it| {
            *key != key_id || unanswered(challenge_id(*key, *index, *root), it.deadline) != evidence
        });
    }

    fn lock(&mut self, id: u32, out: bool) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.locked_out = out;
        }
    }

    fn apply_to_pool(&mut self, fact: &Fact) {
        let (Fact::StakeChanged { pool_id, .. }
        | Fact::PoolStateChanged { pool_id, .. }
        | Fact::PoolKeyRequested { pool_id, .. }
        | Fact::DepositOrdered { pool_id, .. }
        | Fact::DepositSent { pool_id, .. }
        | Fact::ForeignDepositProven { pool_id, .. }
        | Fact::WithdrawalKeyUsed { pool_id, .. }
        | Fact::ChangeOrdered { pool_id, .. }
        | Fact::ChangeShown { pool_id, .. }) = fact
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
            Fact::ForeignDepositProven { withdrawal_credentials, amount_gwei, .. } => {
                pool.proven = Some((*withdrawal_credentials, *amount_gwei));
            }
            Fact::WithdrawalKeyUsed { key_id, .. } => {
                pool.withdrawal = Some(Withdrawal { key_id: *key_id, changes: BTreeMap::new() });
            }
            Fact::ChangeOrdered { validator_index, order, .. } => {
                if let Some(withdrawal) = &mut pool.withdrawal {
                    withdrawal.changes.entry(*validator_index).or_insert_with(|| order.clone());
                }
            }
            Fact::ChangeShown { validator_index, signature, .. } => {
                let order = pool.withdrawal.as_mut().and_then(|it| it.changes.get_mut(validator_index));
                if let Some(order) = order {
                    order.signature = Some(signature.clone());
                }
            }
            _ => {}
        }
    }

    /// A dealt key has neither request nor ceremony: it begins with its committee.
    fn import(&mut self, key_id: u64, live: &LiveKey) {
        let Some(Import { threshold, block }) = self.imports.remove(&key_id) else { return };
        let Ok(members) = u8::try_from(live.committee.len()) else { return };
        let (consumer, kind, phase) = (Address::ZERO, KeyKind::Validator, KeyPhase::Live(live.clone()));
        self.keys.insert(key_id, Key { consumer, kind, threshold, members, attempt: 0, requested_in: block, phase });
    }

    fn apply_to_key(&mut self, timestamp: u64, fact: Fact) {
        if let Fact::KeyRequested { key_id, consumer, kind, threshold, members, draw, block } = fact {
            let phase = KeyPhase::Requested(draw);
            let (attempt, requested_in) = (0, block);
            self.keys.insert(key_id, Key { consumer, kind, threshold, members, attempt, requested_in, phase });
            return;
        }
        if let Fact::DealtKeyImported { key_id, threshold, block } = fact {
            self.imports.insert(key_id, Import { threshold, block });
            return;
        }
        if let Fact::KeyFinalised { key_id, live } = &fact {
            self.import(*key_id, live);
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
        match &fact {
            Fact::CeremonyRestarted { attempt, kept, draw: None, .. } => {
                self.drawn.insert((*key_id, *attempt), kept.clone());
            }
            Fact::CommitteeDrawn { attempt, ceremony, .. } => {
                self.drawn.insert((*key_id, *attempt), ceremony.committee.clone());
            }
            _ => {}
        }
        // Whatever it is, the ceremony before it is over.
        self.told.retain(|(key, _), _| key != key_id);
        match fact {
            Fact::CeremonyRestarted { attempt, kept, draw, deadline, block, .. } => {
                key.attempt = attempt;
                key.phase = match draw {
                    Some(draw) => KeyPhase::Requested(draw),
                    None => KeyPhase::Drawn(Ceremony { committee: kept, deadline, begun_in: block }),
                };
            }
            Fact::CommitteeDrawn { attempt, ceremony, .. } => {
                key.attempt = attempt;
                key.phase = KeyPhase::Drawn(ceremony);
            }
            Fact::KeyFinalised { key_id, live } => {
                key.phase = KeyPhase::Live(live);
                self.live_since.insert(key_id, timestamp);
            }
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

    /// Online servers that governance has approved, or that hold a seat of a key: those that a relayer talks to.
    ///
    /// Whoever registers writes any address into the registry. A relayer that went there and told on its public page what
    /// it found would scan ports for strangers.
    #[must_use]
    pub fn trusted_servers(&self) -> BTreeSet<u32> {
        let first = self.keys.values().flat_map(|key| key.phase.seats()).copied();
        let later = self.reshares.values().flat_map(Reshares::seats);
        let seated: BTreeSet<u32> = first.chain(later).collect();
        let trusted = |(id, server): &(&u32, &Server)| {
            server.online && (server.status == ServerStatus::Active || seated.contains(id))
        };
        self.servers.iter().filter(trusted).map(|(id, _)| *id).collect()
    }

    /// Whether a proven fault takes nothing from a server: its bond is gone, and nobody counts on it any more.
    #[must_use]
    pub fn has_nothing_left(&self, id: u32) -> bool {
        let counts = |server: &Server| server.status == ServerStatus::Active && !server.locked_out;
        self.bonds.get(&id).is_some_and(U256::is_zero) && !self.servers.get(&id).is_some_and(counts)
    }

    /// Whether a Live key has no more healthy shares than it needs: one more lock-out or failure, and what it signs depends on
    /// servers that were at fault.
    #[must_use]
    pub fn is_without_spare(&self, key_id: u64) -> bool {
        let live = self.keys.get(&key_id).is_some_and(|key| matches!(key.phase, KeyPhase::Live(_)));
        let newest = self.newest_committee(key_id).filter(|_| live);
        newest.is_some_and(|newest| self.healthy_shares(newest.live) <= usize::from(newest.threshold))
    }

    /// Shares of a committee whose servers are Active and not locked out, as `KeyRegistry.healthyShares` counts them.
    #[must_use]
    pub fn healthy_shares(&self, live: &LiveKey) -> usize {
        let is_healthy = |server: &Server| server.status == ServerStatus::Active && !server.locked_out;
        let healthy = |id: &&u32| self.servers.get(*id).is_some_and(is_healthy);
        live.committee.iter().filter(healthy).count()
    }

    /// The pool and the validator's index of the change of credentials with this root that withdrawal key `key_id` was ordered to sign.
    #[must_use]
    pub fn change_of_key(&self, key_id: u64, signing_root: B256) -> Option<(u64, u64)> {
        self.pools.iter().find_map(|(id, pool)| {
            let withdrawal = pool.withdrawal.as_ref().filter(|it| it.key_id == key_id)?;
            let (index, _) = withdrawal.changes.iter().find(|(_, order)| order.signing_root == signing_root)?;
            Some((*id, *index))
        })
    }

    /// Whether a pool ordered key `key_id` to sign `root`: nobody is at fault for signing it, at any time.
    #[must_use]
    pub fn is_ordered(&self, key_id: u64, root: B256) -> bool {
        let deposit =
            |pool: &Pool| pool.order.as_ref().is_some_and(|order| (order.key_id, order.signing_root) == (key_id, root));
        self.change_of_key(key_id, root).is_some() || self.pools.values().any(deposit)
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

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: u64 = 5;
    const KEY: u64 = 9;

    fn folded(facts: impl IntoIterator<Item = Fact>) -> View {
        let mut view = View::default();
        facts.into_iter().zip(1..).for_each(|(fact, timestamp)| view.apply(timestamp, fact));
        view
    }

    fn opened() -> Fact {
        let pool = Pool {
            provider: Address::ZERO,
            threshold: 3,
            members: 4,
            vault: Address::repeat_byte(0xaa),
            staked: U256::ZERO,
            state: PoolState::Open,
            deadline: 100,
            key_id: None,
            order: None,
            deposits_gwei: Vec::new(),
            proven: None,
            withdrawal: None,
        };
        Fact::PoolOpened { pool_id: POOL, pool }
    }

    fn draw(kept: Vec<u32>) -> PendingDraw {
        PendingDraw { seed_block: 20, active_set: Bytes::from(vec![0, 0, 0, 1]), kept }
    }

    fn requested() -> Fact {
        let (draw, consumer) = (draw(vec![]), Address::ZERO);
        Fact::KeyRequested {
            key_id: KEY,
            consumer,
            kind: KeyKind::Validator,
            threshold: 3,
            members: 4,
            draw,
            block: 10,
        }
    }

    fn drawn() -> Fact {
        let ceremony = Ceremony { committee: vec![4, 2, 6, 1], deadline: 500, begun_in: 21 };
        Fact::CommitteeDrawn { key_id: KEY, attempt: 1, ceremony }
    }

    fn live() -> LiveKey {
        LiveKey {
            committee: vec![4, 2, 6, 1],
            signers: vec![Address::ZERO; 4],
            points: Bytes::from(vec![7; 5 * 128]),
            dealings_digest: B256::ZERO,
            leaves_root: B256::ZERO,
        }
    }

    #[test]
    fn a_server_is_what_its_last_events_say() {
        let (signer, status) = (Address::repeat_byte(1), ServerStatus::Registered);
        let server = Server { signer, status, ..Server::active("https://old:1") };
        let view = folded([
            Fact::ServerRegistered { id: 3, server: server.clone() },
            Fact::StatusChanged { id: 3, status: ServerStatus::Active },
            Fact::EndpointChanged {
                id: 3,
                tls_fingerprint: B256::repeat_byte(2),
                endpoint: "https://new:2".to_owned(),
            },
            Fact::SignerChanged { id: 3, signer: Address::repeat_byte(7) },
            Fact::SignerChanged { id: 4, signer: Address::repeat_byte(8) },
            Fact::StatusChanged { id: 4, status: ServerStatus::Active },
        ]);
        let expected = Server {
            status: ServerStatus::Active,
            signer: Address::repeat_byte(7),
            tls_fingerprint: B256::repeat_byte(2),
            endpoint: "https://new:2".to_owned(),
            ..server
        };
        assert_eq!(view.servers, BTreeMap::from([(3, expected)]), "server 4 was never registered");
    }

    #[test]
    fn only_approved_and_seated_online_servers_are_talked_to() {
        let server = |online, status| Server { status, online, ..Server::active("https://192.0.2.1:22") };
        let servers = [
            (1, server(true, ServerStatus::Registered)),
            (2, server(true, ServerStatus::Active)),
            (3, server(false, ServerStatus::Active)),
            (4, server(true, ServerStatus::Suspended)),
            (5, server(true, ServerStatus::Leaving)),
            (6, server(true, ServerStatus::Left)),
        ];
        let mut view = folded(servers.map(|(id, server)| Fact::ServerRegistered { id, server }));
        assert_eq!(view.trusted_servers(), BTreeSet::from([2]));
        // The committee of `drawn` is 4, 2, 6, 1; a server of it keeps its share whatever becomes of it.
        for fact in [requested(), drawn()] {
            view.apply(20, fact);
        }
        assert_eq!(view.trusted_servers(), BTreeSet::from([1, 2, 4, 6]));
        view.apply(30, Fact::KeyFinalised { key_id: KEY, live: live() });
        assert_eq!(view.trusted_servers(), BTreeSet::from([1, 2, 4, 6]));
        // Locked out, and asked all the same: its correct partials count.
        view.lock(4, true);
        assert_eq!(view.trusted_servers(), BTreeSet::from([1, 2, 4, 6]));
        view.apply(40, Fact::KeyRetired { key_id: KEY, burned: true });
        assert_eq!(view.trusted_servers(), BTreeSet::from([1, 2, 4, 6]));
        view.apply(50, Fact::SeatsFreed { key_id: KEY });
        assert_eq!(view.trusted_servers(), BTreeSet::from([2]));
    }

    #[test]
    fn a_pool_keeps_its_last_state_and_every_deposit() {
        let order = DepositOrder {
            key_id: KEY,
            pubkey: Bytes::from(vec![1; 48]),
            withdrawal_credentials: B256::ZERO,
            amount_gwei: 1,
            signing_root: B256::ZERO,
            block: 8,
        };
        let view = folded([
            opened(),
            Fact::StakeChanged { pool_id: POOL, staked: U256::from(32) },
            Fact::PoolStateChanged { pool_id: POOL, state: PoolState::Full, deadline: 200 },
            Fact::StakeChanged { pool_id: POOL, staked: U256::from(31) },
            Fact::PoolKeyRequested { pool_id: POOL, key_id: KEY },
            Fact::DepositOrdered { pool_id: POOL, order: order.clone() },
            Fact::DepositSent { pool_id: POOL, amount_gwei: 1 },
            Fact::DepositSent { pool_id: POOL, amount_gwei: 31 },
        ]);
        let pool = &view.pools[&POOL];
        assert_eq!((pool.state, pool.deadline, pool.staked), (PoolState::Full, 200, U256::from(31)));
        assert_eq!((pool.key_id, pool.order.as_ref(), &pool.deposits_gwei), (Some(KEY), Some(&order), &vec![1, 31]));
        assert_eq!(view.pool_of_key(KEY).map(|(id, _)| id), Some(POOL));
        assert_eq!(view.pool_of_key(KEY + 1), None);
    }

    #[test]
    fn a_key_passes_through_its_phases_and_a_restart_goes_back() {
        let mut view = folded([requested()]);
        assert_eq!(view.keys[&KEY].phase, KeyPhase::Requested(draw(vec![])));
        view.apply(21, drawn());
        assert_eq!((view.keys[&KEY].phase.name(), view.keys[&KEY].attempt), ("drawn", 1));
        let again = |attempt, draw| Fact::CeremonyRestarted {
            key_id: KEY,
            attempt,
            kept: vec![4, 2],
            draw,
            deadline: 900,
            block: 30,
        };
        view.apply(30, again(2, None));
        let same = Ceremony { committee: vec![4, 2], deadline: 900, begun_in: 30 };
        assert_eq!((&view.keys[&KEY].phase, view.keys[&KEY].attempt), (&KeyPhase::Drawn(same), 2));
        view.apply(31, again(3, Some(draw(vec![4, 2]))));
        assert_eq!((&view.keys[&KEY].phase, view.keys[&KEY].attempt), (&KeyPhase::Requested(draw(vec![4, 2])), 3));
        view.apply(32, Fact::KeyFinalised { key_id: KEY, live: live() });
        assert_eq!(view.keys[&KEY].phase, KeyPhase::Live(live()));
    }

    fn imported() -> [Fact; 2] {
        let imported = Fact::DealtKeyImported { key_id: KEY, threshold: 3, block: 10 };
        [imported, Fact::KeyFinalised { key_id: KEY, live: live() }]
    }

    #[test]
    fn a_dealt_key_begins_with_its_committee_and_ends_as_others_do() {
        let server = |id: u32| Server::active(&format!("https://server-{id}:1"));
        let servers = [1, 2, 4, 6].map(|id| Fact::ServerRegistered { id, server: server(id) });
        let mut view = folded(servers.into_iter().chain(imported()));
        let phase = KeyPhase::Live(live());
        let (consumer, kind, attempt) = (Address::ZERO, KeyKind::Validator, 0);
        let key = Key { consumer, kind, threshold: 3, members: 4, attempt, requested_in: 10, phase };
        assert!(key.is_dealt() && view.imports.is_empty());
        assert_eq!(view.keys, BTreeMap::from([(KEY, key)]));

        // Its members are asked and counted as those of any other key.
        view.apply(20, Fact::StatusChanged { id: 4, status: ServerStatus::Suspended });
        assert!(view.trusted_servers().contains(&4) && view.is_without_spare(KEY));
        view.apply(21, Fact::StatusChanged { id: 4, status: ServerStatus::Active });
        assert!(!view.is_without_spare(KEY));
        view.lock(1, true);
        assert!(view.is_without_spare(KEY));

        view.apply(40, Fact::KeyRetired { key_id: KEY, burned: false });
        assert_eq!(view.keys[&KEY].phase.seats(), [4, 2, 6, 1]);
        view.apply(50, Fact::SeatsFreed { key_id: KEY });
        assert_eq!(view.keys[&KEY].phase, KeyPhase::Ended { burned: false });
    }

    #[test]
    fn a_committee_of_a_key_that_nobody_announced_is_no_dealt_key() {
        assert_eq!(folded([Fact::KeyFinalised { key_id: KEY, live: live() }]).keys, BTreeMap::new());
        // Nor does an import change the key of another id, or outlive its own.
        let view = folded([requested(), drawn()].into_iter().chain(imported().map(|fact| match fact {
            Fact::DealtKeyImported { threshold, block, .. } => {
                Fact::DealtKeyImported { key_id: KEY + 1, threshold, block }
            }
            fact => fact,
        })));
        assert!(view.keys.len() == 1 && view.keys[&KEY].attempt == 1, "{:?}", view.keys);
    }

    #[test]
    fn a_key_that_ended_remembers_what_its_seats_are_bound_to_until_they_are_free() {
        let mut view = folded([requested(), drawn(), Fact::KeyFinalised { key_id: KEY, live: live() }]);
        view.apply(40, Fact::KeyRetired { key_id: KEY, burned: true });
        let before = Box::new(KeyPhase::Live(live()));
        assert_eq!(view.keys[&KEY].phase, KeyPhase::Retired { burned: true, at: 40, before });
        view.apply(50, Fact::SeatsFreed { key_id: KEY });
        assert_eq!(view.keys[&KEY].phase, KeyPhase::Ended { burned: true });
        assert_eq!(view.keys[&KEY].phase.name(), "burned");
    }

    #[test]
    fn a_view_cannot_be_corrected_by_folding_on_so_a_reorg_folds_from_the_start() {
        let (vanished, stays) = (Fact::PoolKeyRequested { pool_id: POOL, key_id: KEY }, opened());
        let full = Fact::PoolStateChanged { pool_id: POOL, state: PoolState::Full, deadline: 200 };
        let sent = Fact::DepositSent { pool_id: POOL, amount_gwei: 1 };
        let before = [stays.clone(), full.clone(), vanished, sent.clone()];
        let after = [stays, full, sent.clone()];
        let mut folded_on = folded(before);
        folded_on.apply(9, sent);
        let pool = &folded_on.pools[&POOL];
        assert_eq!((pool.key_id, pool.deposits_gwei.len()), (Some(KEY), 2), "why folding on is wrong");
        let pool = &folded(after).pools[&POOL];
        assert_eq!((pool.key_id, pool.deposits_gwei.len()), (None, 1));
    }
}
