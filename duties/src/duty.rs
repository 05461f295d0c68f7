//! Duties: what a validator client asks to be signed, and the root that is signed for it.

use std::fmt;

use alloy_primitives::B256;
use serde::Serialize;
use thiserror::Error;
use tree_hash::TreeHash as _;

use crate::{
    ByPreset, DepositMessage, Epoch, Fork, ForkSchedule, Mainnet, Minimal, Slot,
    containers::{
        ValidatorRegistration, altair, electra,
        phase0::{self, AttestationData, BeaconBlockHeader, VoluntaryExit},
    },
    domain::{
        DOMAIN_AGGREGATE_AND_PROOF, DOMAIN_APPLICATION_BUILDER, DOMAIN_BEACON_ATTESTER, DOMAIN_BEACON_PROPOSER,
        DOMAIN_CONTRIBUTION_AND_PROOF, DOMAIN_DEPOSIT, DOMAIN_RANDAO, DOMAIN_SELECTION_PROOF, DOMAIN_SYNC_COMMITTEE,
        DOMAIN_SYNC_COMMITTEE_SELECTION_PROOF, compute_signing_root,
    },
};

macro_rules! duty_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal in $payload:literal,)*) => {
        /// Kind of a duty. The names are Web3Signer's `type`s and stay as they are: metrics and databases use them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DutyKind {
            $($(#[$doc])* $kind,)*
        }

        impl DutyKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// Web3Signer's `type`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Name of the member of a request that carries the duty.
            #[must_use]
            pub const fn payload(self) -> &'static str {
                match self {
                    $(Self::$kind => $payload,)*
                }
            }
        }
    };
}

duty_kinds! {
    /// Draws the aggregators of a slot.
    AggregationSlot = "AGGREGATION_SLOT" in "aggregation_slot",
    /// Publishes an aggregate; in the bare form of old and of some current clients.
    AggregateAndProof = "AGGREGATE_AND_PROOF" in "aggregate_and_proof",
    /// Publishes an aggregate; in the form that names the fork.
    AggregateAndProofV2 = "AGGREGATE_AND_PROOF_V2" in "aggregate_and_proof",
    /// Votes. Slashable.
    Attestation = "ATTESTATION" in "attestation",
    /// Proposes a phase0 or Altair block, in the form that does not name the fork. Slashable.
    Block = "BLOCK" in "block",
    /// Proposes a block. Slashable.
    BlockV2 = "BLOCK_V2" in "beacon_block",
    /// Creates a validator.
    Deposit = "DEPOSIT" in "deposit",
    /// The proposer's contribution to the randomness.
    RandaoReveal = "RANDAO_REVEAL" in "randao_reveal",
    /// Leaves.
    VoluntaryExit = "VOLUNTARY_EXIT" in "voluntary_exit",
    /// A sync committee member's vote.
    SyncCommitteeMessage = "SYNC_COMMITTEE_MESSAGE" in "sync_committee_message",
    /// Draws the aggregators of the sync committee.
    SyncCommitteeSelectionProof = "SYNC_COMMITTEE_SELECTION_PROOF" in "sync_aggregator_selection_data",
    /// Publishes an aggregate of sync committee votes.
    SyncCommitteeContributionAndProof = "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF" in "contribution_and_proof",
    /// Tells block builders where income goes.
    ValidatorRegistration = "VALIDATOR_REGISTRATION" in "validator_registration",
}

impl DutyKind {
    /// Whether requests of this kind say which chain they are for.
    #[must_use]
    pub const fn has_fork_info(self) -> bool {
        !matches!(self, Self::Deposit | Self::ValidatorRegistration)
    }
}

impl fmt::Display for DutyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An aggregate with the proof that its author may publish it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum AggregateAndProof {
    /// Until Deneb.
    Phase0(phase0::AggregateAndProof),
    /// From Electra on.
    Electra(ByPreset<electra::AggregateAndProof<Mainnet>, electra::AggregateAndProof<Minimal>>),
}

impl AggregateAndProof {
    /// The vote that was aggregated.
    #[must_use]
    pub fn data(&self) -> &AttestationData {
        match self {
            Self::Phase0(container) => &container.aggregate.data,
            Self::Electra(ByPreset::Mainnet(container)) => &container.aggregate.data,
            Self::Electra(ByPreset::Minimal(container)) => &container.aggregate.data,
        }
    }

    fn hash_tree_root(&self) -> B256 {
        match self {
            Self::Phase0(container) => container.tree_hash_root(),
            Self::Electra(container) => container.hash_tree_root(),
        }
    }

    fn fits(&self, fork: Fork) -> bool {
        matches!(self, Self::Electra(_)) == (fork >= Fork::Electra)
    }
}

/// A whole block, as requests carry it before Bellatrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FullBlock {
    /// phase0
    Phase0(Box<phase0::BeaconBlock>),
    /// Altair
    Altair(ByPreset<Box<altair::BeaconBlock<Mainnet>>, Box<altair::BeaconBlock<Minimal>>>),
}

impl FullBlock {
    /// Its header, which has the same root.
    #[must_use]
    pub fn header(&self) -> BeaconBlockHeader {
        macro_rules! header {
            ($block:expr) => {
                BeaconBlockHeader {
                    slot: $block.slot,
                    proposer_index: $block.proposer_index,
                    parent_root: $block.parent_root,
                    state_root: $block.state_root,
                    body_root: $block.body.tree_hash_root(),
                }
            };
        }
        match self {
            Self::Phase0(block) => header!(block),
            Self::Altair(ByPreset::Mainnet(block)) => header!(block),
            Self::Altair(ByPreset::Minimal(block)) => header!(block),
        }
    }

    /// The fork it belongs to.
    #[must_use]
    pub fn fork(&self) -> Fork {
        match self {
            Self::Phase0(_) => Fork::Phase0,
            Self::Altair(_) => Fork::Altair,
        }
    }

    fn slot(&self) -> Slot {
        match self {
            Self::Phase0(block) => block.slot,
            Self::Altair(ByPreset::Mainnet(block)) => block.slot,
            Self::Altair(ByPreset::Minimal(block)) => block.slot,
        }
    }
}

/// A block as `BLOCK_V2` carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// phase0 and Altair.
    Full(FullBlock),
    /// From Bellatrix on.
    Header(BeaconBlockHeader),
}

impl Block {
    /// Its header, which has the same root.
    #[must_use]
    pub fn header(&self) -> BeaconBlockHeader {
        match self {
            Self::Full(block) => block.header(),
            Self::Header(header) => *header,
        }
    }

    fn slot(&self) -> Slot {
        match self {
            Self::Full(block) => block.slot(),
            Self::Header(header) => header.slot,
        }
    }

    fn fits(&self, fork: Fork) -> bool {
        match self {
            Self::Full(block) => block.fork() == fork,
            Self::Header(_) => fork >= Fork::Bellatrix,
        }
    }
}

/// Something a validator client wants signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// [`DutyKind::AggregationSlot`]
    AggregationSlot(Slot),
    /// [`DutyKind::AggregateAndProof`]
    AggregateAndProof(AggregateAndProof),
    /// [`DutyKind::AggregateAndProofV2`]; the fork only says which form `data` has.
    AggregateAndProofV2 {
        /// As the client names it.
        version: Fork,
        /// The aggregate.
        data: AggregateAndProof,
    },
    /// [`DutyKind::Attestation`]
    Attestation(AttestationData),
    /// [`DutyKind::Block`]
    Block(FullBlock),
    /// [`DutyKind::BlockV2`]; the fork only says which form `block` has.
    BlockV2 {
        /// As the client names it.
        version: Fork,
        /// The block.
        block: Block,
    },
    /// [`DutyKind::Deposit`]
    Deposit {
        /// What is signed.
        message: DepositMessage,
        /// Network the client means.
        genesis_fork_version: [u8; 4],
    },
    /// [`DutyKind::RandaoReveal`]
    RandaoReveal(Epoch),
    /// [`DutyKind::VoluntaryExit`]
    VoluntaryExit(VoluntaryExit),
    /// [`DutyKind::SyncCommitteeMessage`]
    SyncCommitteeMessage {
        /// Slot of the message.
        slot: Slot,
        /// The block that is signed.
        beacon_block_root: B256,
    },
    /// [`DutyKind::SyncCommitteeSelectionProof`]
    SyncCommitteeSelectionProof(altair::SyncAggregatorSelectionData),
    /// [`DutyKind::SyncCommitteeContributionAndProof`]
    SyncCommitteeContributionAndProof(
        ByPreset<altair::ContributionAndProof<Mainnet>, altair::ContributionAndProof<Minimal>>,
    ),
    /// [`DutyKind::ValidatorRegistration`]
    ValidatorRegistration(ValidatorRegistration),
}

/// What slashing protection (EIP-3076) has to know of a duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slashable {
    /// A vote.
    Attestation {
        /// Source epoch.
        source: Epoch,
        /// Target epoch.
        target: Epoch,
    },
    /// A block.
    Block {
        /// Its slot.
        slot: Slot,
    },
}

/// Why a duty is not signed, whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DutyError {
    /// Such a duty does not exist in the fork of its slot, or has another form there.
    #[error("{kind} of this form does not exist in {fork}, the fork of epoch {epoch}")]
    Fork {
        /// Kind of the duty.
        kind: DutyKind,
        /// Epoch of the duty.
        epoch: Epoch,
        /// Fork of that epoch.
        fork: Fork,
    },
    /// A vote from an epoch to the same or an earlier one.
    #[error("source epoch {source_epoch} is not before target epoch {target_epoch}")]
    SourceNotBeforeTarget {
        /// Source epoch.
        source_epoch: Epoch,
        /// Target epoch.
        target_epoch: Epoch,
    },
    /// A vote whose target is not the epoch of its slot can never be included.
    #[error("target epoch {target_epoch} is not {epoch}, the epoch of slot {slot}")]
    TargetNotOfSlot {
        /// Slot of the vote.
        slot: Slot,
        /// Epoch of that slot.
        epoch: Epoch,
        /// Target epoch of the vote.
        target_epoch: Epoch,
    },
    /// The request is for another chain.
    #[error("the request is for the chain with genesis validators root {theirs}, this signer for {ours}")]
    ForeignChain {
        /// Of the request.
        theirs: B256,
        /// Of this signer's schedule.
        ours: B256,
    },
    /// The request names a fork of another chain, or one of which this signer does not know.
    #[error(
        "the request names fork versions 0x{} and 0x{}, this signer signs under 0x{}; is its fork schedule up to date?",
        hex::encode(previous),
        hex::encode(current),
        hex::encode(ours)
    )]
    ForeignFork {
        /// `fork.previous_version` of the request.
        previous: [u8; 4],
        /// `fork.current_version` of the request.
        current: [u8; 4],
        /// Version under which this signer signs the duty.
        ours: [u8; 4],
    },
    /// A deposit for another network.
    #[error(
        "the deposit is for genesis fork version 0x{}, this signer for 0x{}",
        hex::encode(theirs),
        hex::encode(ours)
    )]
    ForeignDeposit {
        /// Of the request.
        theirs: [u8; 4],
        /// Of this signer's schedule.
        ours: [u8; 4],
    },
    /// The client computed another root.
    #[error("signing root {claimed} was asked for, but the duty's is {computed}")]
    SigningRoot {
        /// Of the request.
        claimed: B256,
        /// Of the duty, under this signer's schedule.
        computed: B256,
    },
}

impl Duty {
    /// Kind of the duty.
    #[must_use]
    pub fn kind(&self) -> DutyKind {
        match self {
            Self::AggregationSlot(_) => DutyKind::AggregationSlot,
            Self::AggregateAndProof(_) => DutyKind::AggregateAndProof,
            Self::AggregateAndProofV2 { .. } => DutyKind::AggregateAndProofV2,
            Self::Attestation(_) => DutyKind::Attestation,
            Self::Block(_) => DutyKind::Block,
            Self::BlockV2 { .. } => DutyKind::BlockV2,
            Self::Deposit { .. } => DutyKind::Deposit,
            Self::RandaoReveal(_) => DutyKind::RandaoReveal,
            Self::VoluntaryExit(_) => DutyKind::VoluntaryExit,
            Self::SyncCommitteeMessage { .. } => DutyKind::SyncCommitteeMessage,
            Self::SyncCommitteeSelectionProof(_) => DutyKind::SyncCommitteeSelectionProof,
            Self::SyncCommitteeContributionAndProof(_) => DutyKind::SyncCommitteeContributionAndProof,
            Self::ValidatorRegistration(_) => DutyKind::ValidatorRegistration,
        }
    }

    /// Slot of the duty, where it has one.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::AggregationSlot(slot) | Self::SyncCommitteeMessage { slot, .. } => Some(*slot),
            Self::AggregateAndProof(data) | Self::AggregateAndProofV2 { data, .. } => Some(data.data().slot),
            Self::Attestation(data) => Some(data.slot),
            Self::Block(block) => Some(block.slot()),
            Self::BlockV2 { block, .. } => Some(block.slot()),
            Self::SyncCommitteeSelectionProof(data) => Some(data.slot),
            Self::SyncCommitteeContributionAndProof(ByPreset::Mainnet(data)) => Some(data.contribution.slot),
            Self::SyncCommitteeContributionAndProof(ByPreset::Minimal(data)) => Some(data.contribution.slot),
            Self::Deposit { .. } | Self::RandaoReveal(_) | Self::VoluntaryExit(_) | Self::ValidatorRegistration(_) => {
                None
            }
        }
    }

    /// Epoch whose fork the duty is signed under, to be compared with a clock; `None` for messages that know no epoch.
    ///
    /// An attestation's is its target, an exit's the earliest at which it may be processed (its fork is another matter:
    /// [`ForkSchedule::exit_domain`]).
    #[must_use]
    pub fn epoch(&self, schedule: &ForkSchedule) -> Option<Epoch> {
        match self {
            Self::Attestation(data) => Some(data.target.epoch),
            Self::RandaoReveal(epoch) => Some(*epoch),
            Self::VoluntaryExit(exit) => Some(exit.epoch),
            _ => self.slot().map(|slot| schedule.epoch_at(slot)),
        }
    }

    /// What slashing protection has to know; `None` for duties that no one is slashed for.
    #[must_use]
    pub fn slashable(&self) -> Option<Slashable> {
        match self {
            Self::Attestation(data) => {
                Some(Slashable::Attestation { source: data.source.epoch, target: data.target.epoch })
            }
            Self::Block(block) => Some(Slashable::Block { slot: block.slot() }),
            Self::BlockV2 { block, .. } => Some(Slashable::Block { slot: block.slot() }),
            _ => None,
        }
    }

    /// The root that is signed for this duty on this chain.
    ///
    /// # Warning
    /// A root is not a permission: [`crate::SigningRequest::verify`] makes every check that needs no clock, no key and no
    /// database.
    ///
    /// # Errors
    /// [`DutyError::Fork`] if the duty does not exist in its fork.
    pub fn signing_root(&self, schedule: &ForkSchedule) -> Result<B256, DutyError> {
        self.check_fork(schedule)?;
        let at = |domain_type, slot| schedule.domain(domain_type, schedule.epoch_at(slot));
        let (object_root, domain) = match self {
            Self::AggregationSlot(slot) => (slot.tree_hash_root(), at(DOMAIN_SELECTION_PROOF, *slot)),
            Self::AggregateAndProof(data) | Self::AggregateAndProofV2 { data, .. } => {
                (data.hash_tree_root(), at(DOMAIN_AGGREGATE_AND_PROOF, data.data().slot))
            }
            Self::Attestation(data) => {
                (data.tree_hash_root(), schedule.domain(DOMAIN_BEACON_ATTESTER, data.target.epoch))
            }
            Self::Block(block) => (block.header().tree_hash_root(), at(DOMAIN_BEACON_PROPOSER, block.slot())),
            Self::BlockV2 { block, .. } => (block.header().tree_hash_root(), at(DOMAIN_BEACON_PROPOSER, block.slot())),
            Self::Deposit { message, .. } => (message.tree_hash_root(), schedule.rootless_domain(DOMAIN_DEPOSIT)),
            Self::RandaoReveal(epoch) => (epoch.tree_hash_root(), schedule.domain(DOMAIN_RANDAO, *epoch)),
            Self::VoluntaryExit(exit) => (exit.tree_hash_root(), schedule.exit_domain(exit.epoch)),
            Self::SyncCommitteeMessage { slot, beacon_block_root } => {
                (*beacon_block_root, at(DOMAIN_SYNC_COMMITTEE, *slot))
            }
            Self::SyncCommitteeSelectionProof(data) => {
                (data.tree_hash_root(), at(DOMAIN_SYNC_COMMITTEE_SELECTION_PROOF, data.slot))
            }
            Self::SyncCommitteeContributionAndProof(data) => {
                let slot = match data {
                    ByPreset::Mainnet(data) => data.contribution.slot,
                    ByPreset::Minimal(data) => data.contribution.slot,
                };
                (data.hash_tree_root(), at(DOMAIN_CONTRIBUTION_AND_PROOF, slot))
            }
            Self::ValidatorRegistration(registration) => {
                (registration.tree_hash_root(), schedule.rootless_domain(DOMAIN_APPLICATION_BUILDER))
            }
        };
        Ok(compute_signing_root(object_root, domain))
    }

    /// What makes a duty wrong on any honest client's lips, whatever root it has.
    pub(crate) fn check(&self, schedule: &ForkSchedule) -> Result<(), DutyError> {
        match self {
            Self::Attestation(data) => check_vote(data, schedule),
            Self::Deposit { genesis_fork_version: theirs, .. } => {
                let ours = schedule.genesis_fork_version();
                if *theirs == ours { Ok(()) } else { Err(DutyError::ForeignDeposit { theirs: *theirs, ours }) }
            }
            _ => Ok(()),
        }
    }

    fn check_fork(&self, schedule: &ForkSchedule) -> Result<(), DutyError> {
        let Some(epoch) = self.epoch(schedule) else { return Ok(()) };
        let fork = schedule.fork_at(epoch).fork;
        let exists = match self {
            Self::AggregateAndProof(data) | Self::AggregateAndProofV2 { data, .. } => data.fits(fork),
            Self::Block(block) => block.fork() == fork,
            Self::BlockV2 { block, .. } => block.fits(fork),
            Self::SyncCommitteeMessage { .. }
            | Self::SyncCommitteeSelectionProof(_)
            | Self::SyncCommitteeContributionAndProof(_) => fork >= Fork::Altair,
            _ => true,
        };
        if exists { Ok(()) } else { Err(DutyError::Fork { kind: self.kind(), epoch, fork }) }
    }
}

/// phase0 `process_attestation`: a vote leads from a justified epoch to the epoch of its slot.
///
/// Source and target can be equal in one honest case: in the first epoch of a chain the genesis block is both.
fn check_vote(data: &AttestationData, schedule: &ForkSchedule) -> Result<(), DutyError> {
    let (source_epoch, target_epoch) = (data.source.epoch, data.target.epoch);
    let at_genesis = target_epoch == Epoch(0) && source_epoch == Epoch(0);
    if source_epoch >= target_epoch && !at_genesis {
        return Err(DutyError::SourceNotBeforeTarget { source_epoch, target_epoch });
    }
    let epoch = schedule.epoch_at(data.slot);
    if target_epoch != epoch {
        return Err(DutyError::TargetNotOfSlot { slot: data.slot, epoch, target_epoch });
    }
    Ok(())
}
