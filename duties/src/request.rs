//! Requests in the JSON of Web3Signer's `POST /api/v1/eth2/sign/{identifier}`.
//!
//! # What is accepted
//! - The members and types of Web3Signer's OpenAPI file. `signingRoot` may also be spelt `signing_root`, `type` and
//!   `version` may be in lower case, as Web3Signer lets them.
//! - **Unknown members are ignored**, as Web3Signer ignores them: clients add members before signers know them (Nimbus
//!   sends `proofs` to every signer), and a root that is computed from what was understood cannot depend on what was not.
//!   A member that occurs twice is refused: two programs could each see another one. (As everywhere in serde, an object
//!   may also be an array of its members' values in order. Nobody writes that, and it reads as the same duty.)
//! - `AGGREGATE_AND_PROOF` in Electra's form, told by its `committee_bits`: Lighthouse sends it so. `BLOCK` in Altair's,
//!   told by its `sync_aggregate`.
//!
//! # Bounds
//! A request has at most [`MAX_REQUEST_BYTES`]; lists and bit fields have at most the length that the spec allows; nesting
//! is bounded by the JSON parser; no error repeats more than a short piece of what it read. Decoding never panics.

use alloy_primitives::{Address, B256};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, IgnoredAny},
    ser::SerializeMap as _,
};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{
    AggregateAndProof, Block, BlockProof, BlockProperty, ByPreset, DepositMessage, Duty, DutyError, DutyKind, Epoch,
    Fork, ForkSchedule, FullBlock, MAX_PROOFS, Preset, ProofError, Slot,
    containers::phase0::BeaconBlockHeader,
    json::{self, AtMost, Hex},
    proof,
};

/// The longest request: room for a full Altair block with every slashing, 128 attestations and 16 deposits.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// The longest reason of a [`DecodeError`].
const MAX_REASON_CHARS: usize = 200;

/// Why bytes are no request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Longer than any request can be.
    #[error("{length} bytes, a request has at most {MAX_REQUEST_BYTES}")]
    TooLong {
        /// Bytes there were.
        length: usize,
    },
    /// Not JSON at all.
    #[error("not JSON at line {line}, column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A member is missing that requests of this kind must have.
    #[error("{kind} needs the member {field}")]
    Missing {
        /// Kind of the duty.
        kind: DutyKind,
        /// Name of the member.
        field: &'static str,
    },
    /// A member has a value it cannot have.
    #[error("{path}: {reason}")]
    Field {
        /// Where: names and list positions with dots between.
        path: String,
        /// Why, in short.
        reason: String,
    },
}

impl DecodeError {
    fn new(prefix: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let (path, cause) = (error.path().to_string(), error.inner());
        if prefix.is_empty() && !cause.is_data() {
            return Self::Syntax { line: cause.line(), column: cause.column() };
        }
        let inside = path != ".";
        let path = match (prefix.is_empty(), inside) {
            (true, true) => path,
            (true, false) => "request".to_owned(),
            (false, true) => format!("{prefix}.{path}"),
            (false, false) => prefix.to_owned(),
        };
        // Ends in the position, which counts from the start of the member: of no use to anybody.
        let reason = cause.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        let clean = |text: &str| text.chars().filter(|char| !char.is_control()).take(MAX_REASON_CHARS).collect();
        Self::Field { path: clean(&path), reason: clean(reason) }
    }
}

/// `fork_info` of a request: which chain the client believes to sign for. Compared, never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkInfo {
    /// The client's fork.
    pub fork: RequestFork,
    /// Root of the validator registry at genesis.
    #[serde(with = "json::bytes")]
    pub genesis_validators_root: B256,
}

/// phase0 `Fork`, as a client fills it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFork {
    /// Version before `epoch`.
    #[serde(with = "json::bytes")]
    pub previous_version: [u8; 4],
    /// Version from `epoch` on.
    #[serde(with = "json::bytes")]
    pub current_version: [u8; 4],
    /// Not checked: Lodestar puts the current epoch here, others that of the fork.
    pub epoch: Epoch,
}

/// A request to sign a duty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    /// What is to be signed.
    pub duty: Duty,
    /// The client's view of the chain; deposits and registrations have none.
    pub fork_info: Option<ForkInfo>,
    /// The root the client computed.
    pub signing_root: Option<B256>,
    /// Proofs of properties of the block; empty for other duties and most clients.
    pub proofs: Vec<BlockProof>,
}

impl SigningRequest {
    /// Reads a request for a chain with this preset.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(json: &[u8], preset: Preset) -> Result<Self, DecodeError> {
        if json.len() > MAX_REQUEST_BYTES {
            return Err(DecodeError::TooLong { length: json.len() });
        }
        let outer: Outer<'_> = parse("", json)?;
        let payload = Payload { kind: outer.kind, json: outer.payload()? };
        let duty = payload.duty(preset)?;
        if outer.kind.has_fork_info() && outer.fork_info.is_none() {
            return Err(DecodeError::Missing { kind: outer.kind, field: "fork_info" });
        }
        Ok(Self {
            duty,
            fork_info: outer.fork_info,
            signing_root: outer.signing_root.map(|Hex(root)| root),
            proofs: if outer.kind == DutyKind::BlockV2 { outer.proofs.unwrap_or_default().0 } else { Vec::new() },
        })
    }

    /// The root to sign for this request on this chain: from our schedule and the duty, equal to the client's.
    ///
    /// Checks all that can be checked without a clock, a key and a database. Left to the caller: that the duty is not of
    /// the future, slashing protection, who may ask, and every policy.
    ///
    /// # Errors
    /// [`DutyError`].
    pub fn verify(&self, schedule: &ForkSchedule) -> Result<B256, DutyError> {
        self.check_fork_info(schedule)?;
        self.duty.check(schedule)?;
        let computed = self.duty.signing_root(schedule)?;
        match self.signing_root {
            Some(claimed) if claimed != computed => Err(DutyError::SigningRoot { claimed, computed }),
            _ => Ok(computed),
        }
    }

    /// The request must be for our chain, and for the fork under which we sign.
    ///
    /// A client may name the fork of the duty or that of its head, so our version may be `current_version` or
    /// `previous_version`. For exits some name the fork of the exit's epoch and some Capella (EIP-7044); any of ours will do.
    fn check_fork_info(&self, schedule: &ForkSchedule) -> Result<(), DutyError> {
        let Some(ForkInfo { fork, genesis_validators_root: theirs }) = self.fork_info else { return Ok(()) };
        let ours = schedule.genesis_validators_root();
        if theirs != ours {
            return Err(DutyError::ForeignChain { theirs, ours });
        }
        let (previous, current) = (fork.previous_version, fork.current_version);
        let ours = match &self.duty {
            Duty::VoluntaryExit(exit) => schedule.exit_version(exit.epoch),
            duty => duty.epoch(schedule).map_or(schedule.genesis_fork_version(), |at| schedule.fork_at(at).version),
        };
        let named = previous == ours || current == ours;
        let any = matches!(self.duty, Duty::VoluntaryExit(_)) || !self.duty.kind().has_fork_info();
        if schedule.knows(previous) && schedule.knows(current) && (named || any) {
            Ok(())
        } else {
            Err(DutyError::ForeignFork { previous, current, ours })
        }
    }

    /// Whether the block of this request pays `recipient`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn proves_fee_recipient(&self, recipient: Address, schedule: &ForkSchedule) -> Result<(), ProofError> {
        self.proves(BlockProperty::FeeRecipient, proof::address_leaf(recipient), schedule)
    }

    /// Whether the block of this request has this graffiti.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn proves_graffiti(&self, graffiti: B256, schedule: &ForkSchedule) -> Result<(), ProofError> {
        self.proves(BlockProperty::Graffiti, graffiti, schedule)
    }

    fn proves(&self, property: BlockProperty, expected: B256, schedule: &ForkSchedule) -> Result<(), ProofError> {
        let Duty::BlockV2 { block: Block::Header(header), .. } = &self.duty else {
            return Err(ProofError::NoHeader(self.duty.kind()));
        };
        let fork = schedule.fork_at(schedule.epoch_at(header.slot)).fork;
        proof::prove(property, expected, fork, header.body_root, &self.proofs)
    }
}

/// The members of any request. The duty's own is left unread until the kind is known.
#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(rename = "type")]
    kind: DutyKind,
    #[serde(rename = "signingRoot", alias = "signing_root", default)]
    signing_root: Option<Hex<B256>>,
    #[serde(default)]
    fork_info: Option<ForkInfo>,
    #[serde(default)]
    proofs: Option<Proofs>,
    #[serde(borrow, default)]
    aggregation_slot: Option<&'a RawValue>,
    #[serde(borrow, default)]
    aggregate_and_proof: Option<&'a RawValue>,
    #[serde(borrow, default)]
    attestation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    beacon_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    deposit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    randao_reveal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    voluntary_exit: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sync_committee_message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sync_aggregator_selection_data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    contribution_and_proof: Option<&'a RawValue>,
    #[serde(borrow, default)]
    validator_registration: Option<&'a RawValue>,
}

impl<'a> Outer<'a> {
    fn payload(&self) -> Result<&'a str, DecodeError> {
        let member = match self.kind {
            DutyKind::AggregationSlot => self.aggregation_slot,
            DutyKind::AggregateAndProof | DutyKind::AggregateAndProofV2 => self.aggregate_and_proof,
            DutyKind::Attestation => self.attestation,
            DutyKind::Block => self.block,
            DutyKind::BlockV2 => self.beacon_block,
            DutyKind::Deposit => self.deposit,
            DutyKind::RandaoReveal => self.randao_reveal,
            DutyKind::VoluntaryExit => self.voluntary_exit,
            DutyKind::SyncCommitteeMessage => self.sync_committee_message,
            DutyKind::SyncCommitteeSelectionProof => self.sync_aggregator_selection_data,
            DutyKind::SyncCommitteeContributionAndProof => self.contribution_and_proof,
            DutyKind::ValidatorRegistration => self.validator_registration,
        };
        let missing = DecodeError::Missing { kind: self.kind, field: self.kind.payload() };
        member.map(RawValue::get).ok_or(missing)
    }
}

#[derive(Default, Deserialize)]
struct Proofs(#[serde(deserialize_with = "AtMost::<MAX_PROOFS>::deserialize")] Vec<BlockProof>);

impl<'de> Deserialize<'de> for DutyKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let known = Self::ALL.iter().find(|kind| kind.name().eq_ignore_ascii_case(&name));
        known.copied().ok_or_else(|| D::Error::custom("no duty of this type is known"))
    }
}

/// `{"slot"}`
#[derive(Serialize, Deserialize)]
struct AggregationSlot {
    slot: Slot,
}

/// `{"epoch"}`
#[derive(Serialize, Deserialize)]
struct RandaoReveal {
    epoch: Epoch,
}

/// `{"beacon_block_root", "slot"}`
#[derive(Serialize, Deserialize)]
struct SyncCommitteeMessage {
    #[serde(with = "json::bytes")]
    beacon_block_root: B256,
    slot: Slot,
}

/// A deposit message and its network.
#[derive(Serialize, Deserialize)]
struct Deposit {
    #[serde(with = "json::bytes")]
    pubkey: [u8; 48],
    #[serde(with = "json::bytes")]
    withdrawal_credentials: B256,
    #[serde(with = "json::decimal")]
    amount: u64,
    #[serde(with = "json::bytes")]
    genesis_fork_version: [u8; 4],
}

/// `{"version", "data"}` or `{"version", "block"}` or `{"version", "block_header"}`
#[derive(Deserialize)]
struct Versioned<'a> {
    version: Fork,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    block_header: Option<&'a RawValue>,
}

/// [`Versioned`] on the way out.
#[derive(Serialize)]
struct VersionedOut<'a> {
    version: Fork,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a AggregateAndProof>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<&'a FullBlock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_header: Option<&'a BeaconBlockHeader>,
}

impl VersionedOut<'_> {
    fn new(version: Fork) -> Self {
        Self { version, data: None, block: None, block_header: None }
    }
}

/// The duty's own member, as text.
struct Payload<'a> {
    kind: DutyKind,
    json: &'a str,
}

impl<'a> Payload<'a> {
    fn duty(&self, preset: Preset) -> Result<Duty, DecodeError> {
        let name = self.kind.payload();
        Ok(match self.kind {
            DutyKind::AggregationSlot => Duty::AggregationSlot(self.read::<AggregationSlot>()?.slot),
            DutyKind::AggregateAndProof => {
                let electra = has_member(self.json, "aggregate", "committee_bits");
                Duty::AggregateAndProof(aggregate(name, self.json, electra, preset)?)
            }
            DutyKind::AggregateAndProofV2 => {
                let (version, path, json) = self.versioned(|versioned| ("data", versioned.data))?;
                let data = aggregate(&path, json, version >= Fork::Electra, preset)?;
                Duty::AggregateAndProofV2 { version, data }
            }
            DutyKind::Attestation => Duty::Attestation(self.read()?),
            DutyKind::Block => {
                let altair = has_member(self.json, "body", "sync_aggregate");
                Duty::Block(full_block(name, self.json, altair, preset)?)
            }
            DutyKind::BlockV2 => {
                let (version, path, json) = self.versioned(|versioned| {
                    if versioned.version < Fork::Bellatrix {
                        ("block", versioned.block)
                    } else {
                        ("block_header", versioned.block_header)
                    }
                })?;
                let block = if version < Fork::Bellatrix {
                    Block::Full(full_block(&path, json, version == Fork::Altair, preset)?)
                } else {
                    Block::Header(parse(&path, json.as_bytes())?)
                };
                Duty::BlockV2 { version, block }
            }
            DutyKind::Deposit => {
                let Deposit { pubkey, withdrawal_credentials, amount, genesis_fork_version } = self.read()?;
                let message = DepositMessage { pubkey, withdrawal_credentials, amount_gwei: amount };
                Duty::Deposit { message, genesis_fork_version }
            }
            DutyKind::RandaoReveal => Duty::RandaoReveal(self.read::<RandaoReveal>()?.epoch),
            DutyKind::VoluntaryExit => Duty::VoluntaryExit(self.read()?),
            DutyKind::SyncCommitteeMessage => {
                let SyncCommitteeMessage { beacon_block_root, slot } = self.read()?;
                Duty::SyncCommitteeMessage { slot, beacon_block_root }
            }
            DutyKind::SyncCommitteeSelectionProof => Duty::SyncCommitteeSelectionProof(self.read()?),
            DutyKind::SyncCommitteeContributionAndProof => {
                Duty::SyncCommitteeContributionAndProof(by_preset(name, self.json, preset)?)
            }
            DutyKind::ValidatorRegistration => Duty::ValidatorRegistration(self.read()?),
        })
    }

    fn read<T: Deserialize<'a>>(&self) -> Result<T, DecodeError> {
        parse(self.kind.payload(), self.json.as_bytes())
    }

    /// Fork of a versioned payload, and the path and the text of its inner member.
    fn versioned(
        &self,
        member: impl Fn(&Versioned<'a>) -> (&'static str, Option<&'a RawValue>),
    ) -> Result<(Fork, String, &'a str), DecodeError> {
        let versioned: Versioned<'a> = self.read()?;
        let (field, inner) = member(&versioned);
        let inner = inner.ok_or(DecodeError::Missing { kind: self.kind, field })?;
        Ok((versioned.version, format!("{}.{field}", self.kind.payload()), inner.get()))
    }
}

fn parse<'a, T: Deserialize<'a>>(path: &str, json: &'a [u8]) -> Result<T, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| DecodeError::new(path, &error))?;
    let rest = deserializer.end();
    rest.map_err(|error| DecodeError::Syntax { line: error.line(), column: error.column() })?;
    Ok(value)
}

fn by_preset<'a, A: Deserialize<'a>, B: Deserialize<'a>>(
    path: &str,
    json: &'a str,
    preset: Preset,
) -> Result<ByPreset<A, B>, DecodeError> {
    Ok(match preset {
        Preset::Mainnet => ByPreset::Mainnet(parse(path, json.as_bytes())?),
        Preset::Minimal => ByPreset::Minimal(parse(path, json.as_bytes())?),
    })
}

fn aggregate(path: &str, json: &str, electra: bool, preset: Preset) -> Result<AggregateAndProof, DecodeError> {
    Ok(if electra {
        AggregateAndProof::Electra(by_preset(path, json, preset)?)
    } else {
        AggregateAndProof::Phase0(parse(path, json.as_bytes())?)
    })
}

fn full_block(path: &str, json: &str, altair: bool, preset: Preset) -> Result<FullBlock, DecodeError> {
    Ok(if altair {
        FullBlock::Altair(by_preset(path, json, preset)?)
    } else {
        FullBlock::Phase0(parse(path, json.as_bytes())?)
    })
}

/// Whether `json` has the member `outer.inner`: how forms of an object are told apart that no version names.
fn has_member(json: &str, outer: &str, inner: &str) -> bool {
    type Object<T> = std::collections::BTreeMap<String, T>;
    let Ok(object) = serde_json::from_str::<Object<&RawValue>>(json) else { return false };
    let Some(member) = object.get(outer) else { return false };
    serde_json::from_str::<Object<IgnoredAny>>(member.get()).is_ok_and(|object| object.contains_key(inner))
}

impl Serialize for SigningRequest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let kind = self.duty.kind();
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("type", kind.name())?;
        if let Some(fork_info) = &self.fork_info {
            map.serialize_entry("fork_info", fork_info)?;
        }
        if let Some(root) = self.signing_root {
            map.serialize_entry("signingRoot", &Hex(root))?;
        }
        map.serialize_entry(kind.payload(), &self.duty)?;
        if !self.proofs.is_empty() {
            map.serialize_entry("proofs", &self.proofs)?;
        }
        map.end()
    }
}

impl Serialize for Duty {
    /// The member of a request that carries the duty.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AggregationSlot(slot) => AggregationSlot { slot: *slot }.serialize(to),
            Self::AggregateAndProof(data) => data.serialize(to),
            Self::AggregateAndProofV2 { version, data } => {
                VersionedOut { data: Some(data), ..VersionedOut::new(*version) }.serialize(to)
            }
            Self::Attestation(data) => data.serialize(to),
            Self::Block(block) => block.serialize(to),
            Self::BlockV2 { version, block: Block::Full(block) } => {
                VersionedOut { block: Some(block), ..VersionedOut::new(*version) }.serialize(to)
            }
            Self::BlockV2 { version, block: Block::Header(header) } => {
                VersionedOut { block_header: Some(header), ..VersionedOut::new(*version) }.serialize(to)
            }
            Self::Deposit { message, genesis_fork_version } => Deposit {
                pubkey: message.pubkey,
                withdrawal_credentials: message.withdrawal_credentials,
                amount: message.amount_gwei,
                genesis_fork_version: *genesis_fork_version,
            }
            .serialize(to),
            Self::RandaoReveal(epoch) => RandaoReveal { epoch: *epoch }.serialize(to),
            Self::VoluntaryExit(exit) => exit.serialize(to),
            Self::SyncCommitteeMessage { slot, beacon_block_root } => {
                SyncCommitteeMessage { beacon_block_root: *beacon_block_root, slot: *slot }.serialize(to)
            }
            Self::SyncCommitteeSelectionProof(data) => data.serialize(to),
            Self::SyncCommitteeContributionAndProof(data) => data.serialize(to),
            Self::ValidatorRegistration(registration) => registration.serialize(to),
        }
    }
}
