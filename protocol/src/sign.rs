//! Signing requests, answers and refusals.
//!
//! # No claimed root
//! A request carries a typed duty and what its sender believes the root to be. A [`Subject`] is what an envelope and a duty
//! key's signature speak of; it is only ever computed, from the typed duty and the signer's own fork schedule, and its
//! fields cannot be set. So neither a server nor a collector can put a root that somebody claimed into either of them.
//!
//! ```text
//! requester: SigningRequest --Asked::duty(schedule, duty key)--> Asked { SignRequest to send, Subject expected }
//! server:    DutyRequest --check(schedule, preset)--> CheckedDuty { SigningRequest, Subject } --duty_key()--> who asks
//! both:      Subject --envelope(committee epoch, index, partial)--> Envelope
//! ```

use std::{borrow::Cow, fmt};

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::SolStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;
use stkr_core::{PartialSignature, ShareIndex};
use stkr_duties::{
    DepositMessage, DutyError, ForkSchedule, SigningRequest, Slashable, ValidatorIndex,
    containers::{BlsToExecutionChange, PublicKeyBytes},
};
use thiserror::Error;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::{
    ProtocolDomain, SignatureError, SignerKey, eip712,
    envelope::{DutyKind, Envelope},
    json, recover_signer, schema,
};

/// Longest text of a duty in a request, bytes. An attestation has about 1,000, an aggregate and a block with proofs some
/// ten thousand, a whole phase0 or Altair block (which only chains of that age have) a few hundred thousand. A sender fills a
/// batch up to [`crate::api::MAX_BATCH`] requests and [`crate::api::MAX_BODY`] bytes, whichever comes first.
pub const MAX_DUTY: usize = 512 * 1024;
/// Most bytes that a server may send for a partial. What is longer is no answer at all, for no transaction should have to carry it;
/// what is shorter, and not a point, convicts.
pub(crate) const MAX_PARTIAL: usize = 1024;

/// A typed duty to sign, never a bare root: the server computes the root itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub enum SignRequest {
    /// The `DepositMessage` that the chain ordered for a new key.
    #[serde(rename = "DEPOSIT")]
    Deposit(DepositRequest),
    /// The `BLSToExecutionChange` that the chain ordered for the withdrawal key of a pool.
    #[serde(rename = "BLS_TO_EXECUTION_CHANGE")]
    Change(ChangeRequest),
    /// A validator's duty that the provider in charge asks for.
    #[serde(rename = "DUTY")]
    Duty(DutyRequest),
}

/// A request to sign a deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DepositRequest {
    /// Key to sign with.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub key_id: u64,
    /// What the requester believes the root to be; a server refuses any other than its own.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub signing_root: B256,
    /// The message.
    pub deposit: Deposit,
}

/// A `DepositMessage` in Web3Signer's JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// Compressed BLS public key, 48 bytes.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex48)]
    pub pubkey: [u8; 48],
    /// 32 bytes.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub withdrawal_credentials: B256,
    /// Gwei.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub amount: u64,
    /// Genesis fork version of the network, 4 bytes.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex4)]
    pub genesis_fork_version: [u8; 4],
}

impl Deposit {
    /// The container that is signed.
    #[must_use]
    pub fn message(&self) -> DepositMessage {
        DepositMessage {
            pubkey: self.pubkey,
            withdrawal_credentials: self.withdrawal_credentials,
            amount_gwei: self.amount,
        }
    }
}

impl DepositRequest {
    /// A request for a deposit on the network with this genesis fork version.
    #[must_use]
    pub fn new(key_id: u64, message: &DepositMessage, genesis_fork_version: [u8; 4]) -> Self {
        Self {
            key_id,
            signing_root: message.signing_root(genesis_fork_version),
            deposit: Deposit {
                pubkey: message.pubkey,
                withdrawal_credentials: message.withdrawal_credentials,
                amount: message.amount_gwei,
                genesis_fork_version,
            },
        }
    }

    /// Signing root, computed from the typed message; the root that the request claims plays no part.
    #[must_use]
    pub fn signing_root(&self) -> B256 {
        self.deposit.message().signing_root(self.deposit.genesis_fork_version)
    }

    /// What is signed for it.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject {
            key_id: self.key_id,
            duty_kind: DutyKind::Deposit,
            slot: 0,
            source_epoch: 0,
            target_epoch: 0,
            signing_root: self.signing_root(),
        }
    }

    /// The computed signing root, if the request claims the same.
    ///
    /// # Errors
    /// A refusal of kind denied that shows both roots.
    pub fn checked_signing_root(&self) -> Result<B256, Refusal> {
        let claimed = self.signing_root;
        let computed = self.signing_root();
        if computed == claimed {
            return Ok(computed);
        }
        Err(Refusal::denied(
            format!("the request claims signing root {claimed}, but its deposit has {computed}"),
            "Compute the root from the same deposit and genesis fork version, then ask again.",
        ))
    }
}

/// A request to sign a change of withdrawal credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeRequest {
    /// Withdrawal key to sign with.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub key_id: u64,
    /// What the requester believes the root to be; a server refuses any other than its own.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub signing_root: B256,
    /// The message.
    pub change: Change,
}

/// A `BLSToExecutionChange` in the beacon API's JSON form, with the network that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Position of the validator in the beacon chain's registry.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub validator_index: u64,
    /// Compressed group key of the withdrawal key, 48 bytes.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex48)]
    pub from_bls_pubkey: [u8; 48],
    /// Where withdrawals go for ever after: the pool's vault.
    #[serde(with = "json::address")]
    #[schema(value_type = schema::Account)]
    pub to_execution_address: Address,
    /// Genesis fork version of the network, 4 bytes.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex4)]
    pub genesis_fork_version: [u8; 4],
    /// Genesis validators root of the network.
    #[serde(with = "json::hash")]
    #[schema(value_type = schema::Hash)]
    pub genesis_validators_root: B256,
}

impl Change {
    /// The container that is signed.
    #[must_use]
    pub fn message(&self) -> BlsToExecutionChange {
        BlsToExecutionChange {
            validator_index: ValidatorIndex(self.validator_index),
            from_bls_pubkey: PublicKeyBytes::from(self.from_bls_pubkey),
            to_execution_address: self.to_execution_address,
        }
    }

    /// What the withdrawal key signs.
    #[must_use]
    pub fn signing_root(&self) -> B256 {
        self.message().signing_root_on(self.genesis_fork_version, self.genesis_validators_root)
    }
}

impl ChangeRequest {
    /// A request for this change.
    #[must_use]
    pub fn new(key_id: u64, change: Change) -> Self {
        Self { key_id, signing_root: change.signing_root(), change }
    }

    /// What is signed for it; the root that the request claims plays no part.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject {
            key_id: self.key_id,
            duty_kind: DutyKind::BlsToExecutionChange,
            slot: 0,
            source_epoch: 0,
            target_epoch: 0,
            signing_root: self.change.signing_root(),
        }
    }

    /// The computed signing root, if the request claims the same.
    ///
    /// # Errors
    /// A refusal of kind denied that shows both roots.
    pub fn checked_signing_root(&self) -> Result<B256, Refusal> {
        let (claimed, computed) = (self.signing_root, self.change.signing_root());
        if computed == claimed {
            return Ok(computed);
        }
        Err(Refusal::denied(
            format!("the request claims signing root {claimed}, but its change has {computed}"),
            "Compute the root from the same change and network, then ask again.",
        ))
    }
}

/// A request to sign a duty, by the duty key of the provider that the chain has put in charge of the validator.
///
/// Two of them over conflicting duties in one assignment are evidence against that provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DutyRequest {
    /// Key to sign with.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub key_id: u64,
    /// Number of the assignment of this key to the provider, as the chain counts them.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U64)]
    pub assignment: u64,
    /// The duty.
    #[schema(value_type = schema::Web3SignerRequest)]
    pub duty: DutyText,
    /// The duty key's EIP-712 signature `DutyRequest`, r ‖ s ‖ v.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex65)]
    pub signature: [u8; 65],
}

/// A Web3Signer request object ([`SigningRequest`]) as text of at most [`MAX_DUTY`] bytes, not looked into yet: how it reads
/// depends on the chain's preset, which only the reader knows.
#[derive(Clone, Debug)]
pub struct DutyText(Box<RawValue>);

impl DutyText {
    /// JSON.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for DutyText {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for DutyText {}

impl Serialize for DutyText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for DutyText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(from)?;
        if text.get().len() > MAX_DUTY {
            return Err(D::Error::custom(format!("a duty of more than {MAX_DUTY} bytes")));
        }
        if !text.get().starts_with('{') {
            return Err(D::Error::custom("a duty is a JSON object"));
        }
        Ok(Self(text))
    }
}

/// A duty that cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// The duty is not one for this chain, or its sender computed another root.
    #[error(transparent)]
    Duty(#[from] DutyError),
    /// A deposit: it needs an order of the chain and no duty key.
    #[error("deposits are asked for as DEPOSIT, not as a duty")]
    Deposit,
    /// Too large for any server.
    #[error("the duty has {0} bytes of JSON, at most {MAX_DUTY} can be sent")]
    TooLong(usize),
    /// The duty does not serialise.
    #[error("the duty does not serialise: {0}")]
    Json(String),
}

/// What is signed: the fields that an [`Envelope`] and a duty key's signature speak of, each computed from the typed duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    key_id: u64,
    duty_kind: DutyKind,
    slot: u64,
    source_epoch: u64,
    target_epoch: u64,
    signing_root: B256,
}

impl Subject {
    /// Of a duty on this chain; every check of [`SigningRequest::verify`] is made.
    fn of_duty(key_id: u64, request: &SigningRequest, schedule: &ForkSchedule) -> Result<Self, AskError> {
        let duty_kind = DutyKind::of(request.duty.kind());
        if duty_kind == DutyKind::Deposit {
            return Err(AskError::Deposit);
        }
        let (source_epoch, target_epoch) = match request.duty.slashable() {
            Some(Slashable::Attestation { source, target }) => (source.0, target.0),
            _ => (0, 0),
        };
        let slot = request.duty.slot().map_or(0, |slot| slot.0);
        Ok(Self { key_id, duty_kind, slot, source_epoch, target_epoch, signing_root: request.verify(schedule)? })
    }

    /// Key to sign with.
    #[must_use]
    pub const fn key_id(&self) -> u64 {
        self.key_id
    }

    /// Kind of the duty.
    #[must_use]
    pub const fn duty_kind(&self) -> DutyKind {
        self.duty_kind
    }

    /// Slot of the duty; 0 where it has none.
    #[must_use]
    pub const fn slot(&self) -> u64 {
        self.slot
    }

    /// Source and target epoch of an attestation; 0 where there are none.
    #[must_use]
    pub const fn epochs(&self) -> (u64, u64) {
        (self.source_epoch, self.target_epoch)
    }

    /// Root that is signed.
    #[must_use]
    pub const fn signing_root(&self) -> B256 {
        self.signing_root
    }

    /// The envelope a server signs around its partial; a collector builds the same from what it sent.
    #[must_use]
    pub fn envelope(&self, committee_epoch: u32, index: ShareIndex, partial: &[u8]) -> Envelope {
        Envelope {
            key_id: self.key_id,
            committee_epoch,
            index,
            duty_kind: self.duty_kind,
            slot: self.slot,
            source_epoch: self.source_epoch,
            target_epoch: self.target_epoch,
            signing_root: self.signing_root,
            partial_hash: keccak256(partial),
        }
    }

    /// EIP-712 digest of `DutyRequest`, what a duty key signs to ask for this.
    #[must_use]
    pub fn request_digest(&self, assignment: u64, domain: &ProtocolDomain) -> B256 {
        eip712::DutyRequest {
            keyId: U256::from(self.key_id),
            assignment,
            dutyKind: self.duty_kind as u8,
            slot: self.slot,
            sourceEpoch: self.source_epoch,
            targetEpoch: self.target_epoch,
            signingRoot: self.signing_root,
        }
        .eip712_signing_hash(&domain.eip712())
    }
}

/// A request as its sender made it, with what has to be signed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    request: SignRequest,
    subject: Subject,
}

impl Asked {
    /// A request for a duty, signed by the duty key of `assignment`.
    ///
    /// # Warning
    /// Two signatures over conflicting duties are evidence against the provider: record the duty in slashing protection
    /// first.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn duty(
        (key_id, assignment): (u64, u64),
        request: &SigningRequest,
        schedule: &ForkSchedule,
        domain: &ProtocolDomain,
        duty_key: &SignerKey,
    ) -> Result<Self, AskError> {
        let subject = Subject::of_duty(key_id, request, schedule)?;
        let text = serde_json::value::to_raw_value(request).map_err(|error| AskError::Json(error.to_string()))?;
        if text.get().len() > MAX_DUTY {
            return Err(AskError::TooLong(text.get().len()));
        }
        let signature = duty_key.sign_digest(subject.request_digest(assignment, domain));
        let request = DutyRequest { key_id, assignment, duty: DutyText(text), signature };
        Ok(Self { request: SignRequest::Duty(request), subject })
    }

    /// What to send, the same to all.
    #[must_use]
    pub const fn request(&self) -> &SignRequest {
        &self.request
    }

    /// What has to be signed.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl From<DepositRequest> for Asked {
    fn from(request: DepositRequest) -> Self {
        Self { subject: request.subject(), request: request.into() }
    }
}

impl From<ChangeRequest> for Asked {
    fn from(request: ChangeRequest) -> Self {
        Self { subject: request.subject(), request: SignRequest::Change(request) }
    }
}

impl From<DepositRequest> for SignRequest {
    fn from(request: DepositRequest) -> Self {
        Self::Deposit(request)
    }
}

/// A duty request that was read and whose root was computed. Nothing is known yet of who asks.
#[derive(Clone, Debug)]
pub struct CheckedDuty {
    /// The typed duty.
    pub request: SigningRequest,
    subject: Subject,
    assignment: u64,
    signature: [u8; 65],
}

impl DutyRequest {
    /// Reads the duty and computes its root on this chain ([`SigningRequest::decode`], [`SigningRequest::verify`]).
    ///
    /// # Errors
    /// A refusal of kind denied.
    pub fn check(&self, schedule: &ForkSchedule) -> Result<CheckedDuty, Refusal> {
        let request = SigningRequest::decode(self.duty.get().as_bytes(), schedule.preset()).map_err(|error| {
            Refusal::denied(
                format!("the duty cannot be read: {error}"),
                "Send a Web3Signer request object of a fork that this server knows.",
            )
        })?;
        let subject = Subject::of_duty(self.key_id, &request, schedule).map_err(|error| {
            Refusal::denied(
                format!("the duty must not be signed: {error}"),
                "Ask for a duty of this server's chain, with the root that its typed form has.",
            )
        })?;
        Ok(CheckedDuty { request, subject, assignment: self.assignment, signature: self.signature })
    }
}

impl CheckedDuty {
    /// What is to be signed.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Assignment that the request names; its signature covers it.
    #[must_use]
    pub const fn assignment(&self) -> u64 {
        self.assignment
    }

    /// Address whose key signed this request.
    ///
    /// # Errors
    /// [`SignatureError`]. A signature over another root or assignment recovers another address.
    pub fn duty_key(&self, domain: &ProtocolDomain) -> Result<Address, SignatureError> {
        recover_signer(self.subject.request_digest(self.assignment, domain), &self.signature)
    }
}

impl PartialSchema for SignRequest {
    fn schema() -> RefOr<Schema> {
        let forms = [
            ("DEPOSIT", DepositRequest::schema()),
            ("BLS_TO_EXECUTION_CHANGE", ChangeRequest::schema()),
            ("DUTY", DutyRequest::schema()),
        ];
        schema::tagged("type", forms)
    }
}

impl ToSchema for SignRequest {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("SignRequest")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        DepositRequest::schemas(schemas);
        ChangeRequest::schemas(schemas);
        DutyRequest::schemas(schemas);
    }
}

/// Every member of all forms. serde's own internally tagged enums read the object into a buffer first, where a duty would no
/// longer be the text that was sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Members {
    #[serde(rename = "type")]
    kind: Form,
    #[serde(with = "json::decimal")]
    key_id: u64,
    #[serde(default)]
    signing_root: Option<Root>,
    #[serde(default)]
    deposit: Option<Deposit>,
    #[serde(default)]
    change: Option<Change>,
    #[serde(default)]
    assignment: Option<Number>,
    #[serde(default)]
    duty: Option<DutyText>,
    #[serde(default)]
    signature: Option<Bytes65>,
}

#[derive(Deserialize)]
enum Form {
    #[serde(rename = "DEPOSIT")]
    Deposit,
    #[serde(rename = "BLS_TO_EXECUTION_CHANGE")]
    Change,
    #[serde(rename = "DUTY")]
    Duty,
}

#[derive(Deserialize)]
struct Root(#[serde(with = "json::hash")] B256);

#[derive(Deserialize)]
struct Number(#[serde(with = "json::decimal")] u64);

#[derive(Deserialize)]
struct Bytes65(#[serde(with = "json::array")] [u8; 65]);

impl<'de> Deserialize<'de> for SignRequest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Members::deserialize(from)? {
            Members {
                kind: Form::Deposit,
                key_id,
                signing_root: Some(Root(signing_root)),
                deposit: Some(deposit),
                change: None,
                assignment: None,
                duty: None,
                signature: None,
            } => Ok(Self::Deposit(DepositRequest { key_id, signing_root, deposit })),
            Members { kind: Form::Deposit, .. } => {
                Err(D::Error::custom("a DEPOSIT has the members type, keyId, signingRoot and deposit, and no other"))
            }
            Members {
                kind: Form::Change,
                key_id,
                signing_root: Some(Root(signing_root)),
                deposit: None,
                change: Some(change),
                assignment: None,
                duty: None,
                signature: None,
            } => Ok(Self::Change(ChangeRequest { key_id, signing_root, change })),
            Members { kind: Form::Change, .. } => Err(D::Error::custom(
                "a BLS_TO_EXECUTION_CHANGE has the members type, keyId, signingRoot and change, and no other",
            )),
            Members {
                kind: Form::Duty,
                key_id,
                signing_root: None,
                deposit: None,
                change: None,
                assignment: Some(Number(assignment)),
                duty: Some(duty),
                signature: Some(Bytes65(signature)),
            } => Ok(Self::Duty(DutyRequest { key_id, assignment, duty, signature })),
            Members { kind: Form::Duty, .. } => Err(D::Error::custom(
                "a DUTY has the members type, keyId, assignment, duty and signature, and no other",
            )),
        }
    }
}

impl SignRequest {
    /// Key to sign with.
    #[must_use]
    pub const fn key_id(&self) -> u64 {
        match self {
            Self::Deposit(request) => request.key_id,
            Self::Change(request) => request.key_id,
            Self::Duty(request) => request.key_id,
        }
    }
}

/// A server's answer to one request.
#[allow(clippy::large_enum_variant, reason = "nearly every answer is a signature")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SignResponse {
    /// It signed.
    Signed(SignedPartial),
    /// It refused.
    Refused(Refused),
}

impl SignResponse {
    /// An answer that refuses.
    #[must_use]
    pub const fn refused(refusal: Refusal) -> Self {
        Self::Refused(Refused { refusal })
    }
}

/// A refusal in its JSON frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
}

/// A partial signature in its envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedPartial {
    /// G2 point (EIP-2537), 256 bytes; kept as what came, because garbage in a valid envelope is evidence, of whatever length.
    #[serde(with = "json::AtMost::<MAX_PARTIAL>")]
    #[schema(value_type = schema::PartialBytes)]
    pub partial: Vec<u8>,
    /// The server's signature over the [`Envelope`], r ‖ s ‖ v.
    #[serde(with = "json::array")]
    #[schema(value_type = schema::Hex65)]
    pub envelope: [u8; 65],
    /// Share index the server answers as.
    #[serde(with = "json::index")]
    #[schema(value_type = schema::Index)]
    pub index: ShareIndex,
    /// Number of the committee it answers for.
    #[serde(with = "json::decimal")]
    #[schema(value_type = schema::U32)]
    pub committee_epoch: u32,
}

impl SignedPartial {
    /// A server's answer: its partial signature over the subject's root, in an envelope by its signer key.
    #[must_use]
    pub fn new(
        subject: &Subject,
        domain: &ProtocolDomain,
        key: &SignerKey,
        committee_epoch: u32,
        partial: &PartialSignature,
    ) -> Self {
        let bytes = partial.signature.to_eip2537();
        let envelope = subject.envelope(committee_epoch, partial.index, &bytes);
        Self { partial: bytes.to_vec(), envelope: envelope.sign(domain, key), index: partial.index, committee_epoch }
    }
}

/// Why a server does not sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refusal {
    /// What kind of answer this is; decides what a program does next.
    pub kind: RefusalKind,
    /// One sentence on what is wrong.
    #[serde(with = "json::text")]
    pub reason: String,
    /// One sentence on what to do about it.
    #[serde(with = "json::text")]
    pub what_to_do: String,
}

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request must not be signed, now or as it is: asking again without a change is in vain.
    Denied,
    /// Signing would be slashable.
    Slashable,
    /// The server holds no share of this key.
    UnknownKey,
    /// The server cannot decide at the moment (chain, database): ask again.
    Unavailable,
}

impl RefusalKind {
    /// Name for people; the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Slashable => "slashable",
            Self::UnknownKey => "unknown_key",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Refusal {
    /// A refusal of any kind.
    #[must_use]
    pub fn new(kind: RefusalKind, reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), what_to_do: what_to_do.into() }
    }

    /// A refusal of kind denied.
    #[must_use]
    pub fn denied(reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self::new(RefusalKind::Denied, reason, what_to_do)
    }

    /// A refusal of kind unavailable.
    #[must_use]
    pub fn unavailable(reason: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unavailable, reason, what_to_do)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Reasons are written without a full stop; what another server sends may have one.
        let stop = if self.reason.ends_with(['.', '!', '?']) { "" } else { "." };
        write!(f, "{}: {}{stop} {}", self.kind.name(), self.reason, self.what_to_do)
    }
}

#[cfg(test)]
mod tests;
