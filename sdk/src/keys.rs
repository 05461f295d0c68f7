//! Keys nobody holds: where they stand, who serves them, and the draw.

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U256, aliases::U48, keccak256},
    providers::Provider,
    rpc::types::{Filter, Log, TransactionReceipt},
    sol_types::{SolCall, SolEvent, SolValue as _},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stkr_chain::{
    DutyAssignment,
    bindings::{KeyRegistry, Resharing},
    reader::committee_hash,
    types::{KeyKind, KeyState, ServerStatus},
};
use stkr_core::PublicKey;

use crate::{
    client::Stkr,
    error::{StkrError, call, rpc},
    scan,
    servers::{PARALLEL, ServerInfo, check_proof, unknown_enum},
    write::{Write, nothing},
};

/// Bytes of a G1 point in EIP-2537.
const G1: usize = 128;

/// A key as the chain keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyInfo {
    /// Id, from 1.
    pub id: u64,
    /// Contract that asked for it.
    pub consumer: Address,
    /// Where it stands.
    pub state: KeyState,
    /// What it is for.
    pub kind: KeyKind,
    /// Shares that sign, of the committee that serves.
    pub threshold: u8,
    /// Shares that it has.
    pub members: u8,
    /// Ceremony number.
    pub attempt: u16,
    /// Requested: number of the seed block. Otherwise unix seconds, see `IKeyRegistry`.
    pub mark: u64,
    /// What the chain committed to: active set, committee or the share leaves of the first committee.
    pub commitment: B256,
    /// Committee epoch of the committee that serves: 0 until a first reshare is handed over.
    pub committee_epoch: u32,
    /// Server ids of the committee that serves, or that is drawn, in index order; empty while none is drawn, also after a restart
    /// that draws again. Filled by [`Keys::get`] only.
    pub committee: Vec<u32>,
    /// The committee that is finalised and takes over at its handover.
    pub successor: Option<Successor>,
    /// Compressed group key (48 bytes) once the key was finalised. Filled by [`Keys::get`] only.
    pub public_key: Option<Bytes>,
    /// Members of the committee that serves a Live key which are active and not locked out, to compare with
    /// [`KeyInfo::threshold`]: `KeyRegistry.healthyShares`. Nothing for other keys.
    pub healthy: Option<usize>,
}

/// A committee that was finalised and whose turn is still to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Successor {
    /// Its committee epoch.
    pub committee_epoch: u32,
    /// Unix seconds from which it signs.
    pub handover: u64,
    /// Shares of it that sign.
    pub threshold: u8,
    /// Server ids, index order.
    pub committee: Vec<u32>,
    /// Members that are active and not locked out, if the key is Live.
    pub healthy: Option<usize>,
}

/// What the events say of a committee.
struct Named {
    committee_epoch: u32,
    /// Unix seconds; 0 of a first committee.
    handover: u64,
    servers: Vec<u32>,
}

/// Reads and writes of the key registry.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a, P>(pub(crate) &'a Stkr<P>);

impl<'a, P: Provider> Keys<'a, P> {
    /// All keys, by id, without committees and points, Live ones with their healthy shares.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn list(&self) -> Result<Vec<KeyInfo>, StkrError> {
        let count = self.0.key_registry().keyCount().call().await.map_err(call("counting the keys"))?;
        let ids = stream::iter(1..=count.saturating_to::<u64>());
        let mut keys: Vec<KeyInfo> = ids.map(|id| self.read(id)).buffered(PARALLEL).try_collect().await?;
        let mut committees = self.committees(None).await?;
        let active = self.active(committees.values().flatten().flat_map(|it| &it.servers).copied().collect()).await?;
        let now = self.0.challenges().now().await?.timestamp;
        for key in &mut keys {
            let named = committees.remove(&key.id).unwrap_or_default();
            self.seat(key, named, &active, now).await?;
            key.committee = Vec::new();
        }
        Ok(keys)
    }

    /// Those of `servers` that count as healthy: `IServerRegistry.isActive`.
    async fn active(&self, servers: BTreeSet<u32>) -> Result<BTreeSet<u32>, StkrError> {
        let rooms = self.0.servers();
        let read: Vec<ServerInfo> =
            stream::iter(servers).map(|id| rooms.read(id)).buffered(PARALLEL).try_collect().await?;
        let is_active = |server: &ServerInfo| server.status == ServerStatus::Active && !server.locked_out;
        Ok(read.into_iter().filter(is_active).map(|server| server.id).collect())
    }

    /// The key with this id, with its committee and group key from the events.
    ///
    /// # Errors
    /// [`StkrError::NotFound`], [`StkrError::Rpc`]; [`StkrError::Unsafe`] if the event does not hold points.
    pub async fn get(&self, id: u64) -> Result<KeyInfo, StkrError> {
        let mut info = self.read(id).await?;
        if let Some(finalised) = self.last::<KeyRegistry::KeyFinalised>(id).await? {
            let group_key = group_key_of(id, &finalised.points)?;
            info.public_key = Some(Bytes::copy_from_slice(&group_key.to_compressed()));
            let named = self.committees(Some(id)).await?.remove(&id).unwrap_or_default();
            let active = self.active(named.iter().flat_map(|it| &it.servers).copied().collect()).await?;
            let now = self.0.challenges().now().await?.timestamp;
            self.seat(&mut info, named, &active, now).await?;
        } else if let Some(Unfinished::Drawn { committee }) = self.unfinished(&info).await? {
            info.committee = committee;
        }
        Ok(info)
    }

    /// The committees that each key has and had, oldest first; of one key, or of all.
    async fn committees(&self, id: Option<u64>) -> Result<BTreeMap<u64, Vec<Named>>, StkrError> {
        let deployment = self.0.deployment();
        let events = vec![KeyRegistry::KeyFinalised::SIGNATURE_HASH, Resharing::Reshared::SIGNATURE_HASH];
        let filter = Filter::new().address(vec![deployment.key_registry, deployment.resharing()]);
        let filter = filter.event_signature(events);
        let filter = if let Some(id) = id { filter.topic1(U256::from(id)) } else { filter };
        let head = self.0.head_number().await?;
        let mut committees: BTreeMap<u64, Vec<Named>> = BTreeMap::new();
        for log in scan::logs(self.0.provider(), &filter, deployment.deployed_block, head).await? {
            if let Some((key, named)) = Named::in_event(&log) {
                committees.entry(key).or_default().push(named);
            }
        }
        Ok(committees)
    }

    /// Says of the key which of its committees serves at unix time `now`, and which one is to come, as `IResharing.servingEpoch` does.
    async fn seat(
        &self,
        key: &mut KeyInfo,
        mut named: Vec<Named>,
        active: &BTreeSet<u32>,
        now: u64,
    ) -> Result<(), StkrError> {
        let live = key.state == KeyState::Live;
        let healthy = |servers: &[u32]| live.then(|| servers.iter().filter(|id| active.contains(id)).count());
        let Some(newest) = named.pop() else { return Ok(()) };
        let serving = match named.pop() {
            Some(before) if now < newest.handover => {
                let (threshold, _) = self.0.reshares().size(key.id, newest.committee_epoch).await?;
                key.successor = Some(Successor {
                    committee_epoch: newest.committee_epoch,
                    handover: newest.handover,
                    threshold,
                    healthy: healthy(&newest.servers),
                    committee: newest.servers,
                });
                before
            }
            _ => newest,
        };
        if serving.committee_epoch != 0 {
            (key.threshold, key.members) = self.0.reshares().size(key.id, serving.committee_epoch).await?;
        }
        key.committee_epoch = serving.committee_epoch;
        key.healthy = healthy(&serving.servers);
        key.committee = serving.servers;
        Ok(())
    }

    /// The group key of a finalised key: 128 bytes, EIP-2537, as pools want it.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] before the key is finalised.
    pub async fn group_key(&self, id: u64) -> Result<Bytes, StkrError> {
        let finalised = self
            .last::<KeyRegistry::KeyFinalised>(id)
            .await?
            .ok_or_else(|| StkrError::NotReady { reason: format!("key {id} is not finalised yet") })?;
        let group_key = group_key_of(id, &finalised.points)?;
        Ok(Bytes::copy_from_slice(&group_key.to_eip2537()))
    }

    /// Id of the key with this group key.
    ///
    /// # Errors
    /// [`StkrError::NotFound`], [`StkrError::Rpc`].
    pub async fn id_of(&self, group_key: &PublicKey) -> Result<u64, StkrError> {
        let hash = keccak256(group_key.to_eip2537());
        let id = self.0.key_registry().keyOfGroupKey(hash).call().await.map_err(call("looking up a group key"))?;
        let compressed = Bytes::copy_from_slice(&group_key.to_compressed());
        let unknown = || StkrError::NotFound { what: format!("key with the public key {compressed}") };
        u64::try_from(id).ok().filter(|id| *id != 0).ok_or_else(unknown)
    }

    /// Who may ask for duties of the key now; nothing where nobody may: it is not Live, or its provider or owner names no duty
    /// key.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn duty_assignment(&self, id: u64) -> Result<Option<DutyAssignment>, StkrError> {
        let answer = self.0.key_registry().dutyAssignment(U256::from(id)).call().await;
        let answer = answer.map_err(call("reading who may ask for duties"))?;
        let assignment = DutyAssignment { duty_key: answer.dutyKey, number: answer.number };
        Ok((!assignment.duty_key.is_zero()).then_some(assignment))
    }

    /// Owner of a dealt key; nothing for any other.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn dealt_owner(&self, id: u64) -> Result<Option<Address>, StkrError> {
        let answer = self.0.key_registry().dealtKey(U256::from(id)).call().await;
        let owner = answer.map_err(call("reading the owner of a dealt key"))?.owner;
        Ok((!owner.is_zero()).then_some(owner))
    }

    /// Whether signing `signing_root` with the key was ever ordered.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn is_ordered(&self, id: u64, signing_root: B256) -> Result<bool, StkrError> {
        self.0.key_registry().isOrdered(U256::from(id), signing_root).call().await.map_err(call("reading an order"))
    }

    /// Draws the committee of a Requested key: reads the snapshot from the events and the seed block's header from
    /// the endpoint. Anyone may send it; whoever does has no influence on the outcome.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if the key is not Requested or its seed block is still to come.
    pub async fn draw(&self, id: u64) -> Result<Write<'a, P>, StkrError> {
        let info = self.read(id).await?;
        if info.state != KeyState::Requested {
            return Err(StkrError::NotReady { reason: format!("key {id} is {}, not waiting for a draw", info.state) });
        }
        let head = self.0.head_number().await?;
        if head <= info.mark {
            let reason = format!("the seed of key {id} is made by block {}, the chain is at block {head}", info.mark);
            return Err(StkrError::NotReady { reason });
        }
        let Some(Unfinished::Requested { active_set, kept }) = self.unfinished(&info).await? else {
            return Err(unshown(id));
        };
        let header = self.header(info.mark).await?;
        let call = KeyRegistry::drawCall { keyId: U256::from(id), header, activeSet: active_set, kept };
        Ok(self.write("drawing the committee", &call))
    }

    /// Anyone: starts a key again whose ceremony ran out of time, or whose seed block is too old to draw from.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if the key is neither Requested nor Drawn. The contract refuses one whose time is not over.
    pub async fn restart(&self, id: u64) -> Result<Write<'a, P>, StkrError> {
        let info = self.read(id).await?;
        if !matches!(info.state, KeyState::Requested | KeyState::Drawn) {
            return Err(StkrError::NotReady {
                reason: format!("key {id} is {} and has nothing to restart", info.state),
            });
        }
        let pending = self.unfinished(&info).await?.ok_or_else(|| unshown(id))?;
        let call = KeyRegistry::restartCall {
            keyId: U256::from(id),
            members: pending.members().to_vec(),
            activeSetHash: pending.active_set_hash(),
        };
        Ok(self.write("restarting the key", &call))
    }

    /// Anyone: makes a Drawn key live with what its ceremony gave. `share_keys` and `acknowledgements` (65 bytes each, all
    /// over the same transcript) are in index order.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if the key is not Drawn, [`StkrError::Invalid`] for another number of share keys or
    /// acknowledgements than the committee has members.
    pub async fn finalise(
        &self,
        id: u64,
        share_keys: &[PublicKey],
        group_key: &PublicKey,
        dealings_digest: B256,
        acknowledgements: &[Bytes],
    ) -> Result<Write<'a, P>, StkrError> {
        let info = self.read(id).await?;
        if info.state != KeyState::Drawn {
            return Err(StkrError::NotReady { reason: format!("key {id} is {} and has no ceremony", info.state) });
        }
        let Some(Unfinished::Drawn { committee }) = self.unfinished(&info).await? else { return Err(unshown(id)) };
        let points = points_of(committee.len(), share_keys, group_key, acknowledgements)?;
        let call = KeyRegistry::finaliseCall {
            keyId: U256::from(id),
            committee,
            points,
            dealingsDigest: dealings_digest,
            acknowledgements: acknowledgements.concat().into(),
        };
        Ok(self.write("finalising the key", &call))
    }

    /// Anyone: frees the seats that a Retired or Burned key still holds; of one that was live only after the evidence
    /// window.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if the key has not ended.
    pub async fn free_seats(&self, id: u64) -> Result<Write<'a, P>, StkrError> {
        let info = self.read(id).await?;
        if !matches!(info.state, KeyState::Retired | KeyState::Burned) {
            return Err(StkrError::NotReady { reason: format!("key {id} is {} and keeps its seats", info.state) });
        }
        if self.last::<KeyRegistry::KeyFinalised>(id).await?.is_some() {
            let newest = self.0.reshares().newest_of(&info).await?;
            let Resharing::Committee { servers: committee, signers, points } = newest;
            let call = KeyRegistry::freeSeatsCall { keyId: U256::from(id), committee, signers, points };
            return Ok(self.write("freeing the seats", &call));
        }
        if info.commitment.is_zero() {
            return Err(StkrError::NotReady { reason: format!("the seats of key {id} are free already") });
        }
        let pending = self.unfinished(&info).await?.ok_or_else(|| unshown(id))?;
        let call = KeyRegistry::freeSeatsOfUnfinishedCall {
            keyId: U256::from(id),
            members: pending.members().to_vec(),
            activeSetHash: pending.active_set_hash(),
        };
        Ok(self.write("freeing the seats", &call))
    }

    /// Makes a dealt key of the sending account; resolves to its id. Encodings as in `IKeyRegistry.DealtImport`.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for acknowledgements or a proof of possession of another length than the committee needs.
    pub fn import_dealt(&self, dealt: KeyRegistry::DealtImport) -> Result<Write<'a, P, u64>, StkrError> {
        let members = dealt.committee.len();
        let lengths = [
            ("points", dealt.points.len(), (members + 1) * G1),
            ("acknowledgements", dealt.acknowledgements.len(), members * 65),
            ("proof of possession", dealt.possession.len(), 256),
        ];
        for (what, length, expected) in lengths {
            if length != expected {
                let reason = format!("the {what} have {length} bytes, a committee of {members} needs {expected}");
                return Err(StkrError::invalid(reason, "give one of each member, in index order"));
            }
        }
        let call = KeyRegistry::importDealtCall { dealt };
        Ok(self.0.write(self.0.deployment().key_registry, "importing the key", &call, imported_id))
    }

    /// Owner of a dealt key: names the key that asks for its duties; the zero address for none.
    pub fn set_duty_key(&self, id: u64, duty_key: Address) -> Write<'a, P> {
        self.write("naming the duty key", &KeyRegistry::setDutyKeyCall { keyId: U256::from(id), dutyKey: duty_key })
    }

    /// Owner of a dealt key: gives it up. Its servers sign nothing with it from then on.
    pub fn retire_dealt(&self, id: u64) -> Write<'a, P> {
        self.write("retiring the key", &KeyRegistry::retireDealtCall { keyId: U256::from(id) })
    }

    /// Governance: admits a pools contract, which may ask for keys from then on.
    pub fn add_consumer(&self, consumer: Address) -> Write<'a, P> {
        self.write("admitting the consumer", &KeyRegistry::addConsumerCall { consumer })
    }

    /// Governance: sets how many seconds a ceremony has, from 10 minutes to 7 days; running ones keep theirs.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for more than 48 bits hold.
    pub fn set_ceremony_window(&self, seconds: u64) -> Result<Write<'a, P>, StkrError> {
        let window = U48::try_from(seconds).map_err(|_| {
            StkrError::invalid(format!("{seconds} s is no ceremony window"), "give 600 to 604800 seconds")
        })?;
        Ok(self.write("setting the ceremony window", &KeyRegistry::setCeremonyWindowCall { window }))
    }

    fn write(&self, action: &'static str, call: &impl SolCall) -> Write<'a, P> {
        self.0.write(self.0.deployment().key_registry, action, call, nothing)
    }

    /// RLP of the header of a block. The contract compares its hash; so does this, to name the culprit early.
    pub(crate) async fn header(&self, number: u64) -> Result<Bytes, StkrError> {
        let block = self.0.provider().get_block(number.into()).await.map_err(rpc("reading the seed block"))?;
        let header = block
            .ok_or_else(|| StkrError::NotReady { reason: format!("the endpoint does not have block {number}") })?
            .header;
        let encoded = Bytes::from(alloy::rlp::encode(&header.inner));
        if keccak256(&encoded) == header.hash {
            return Ok(encoded);
        }
        // A fork may have added a field that this program does not know.
        let tag = BlockNumberOrTag::Number(number);
        let asked = self.0.provider().client().request::<_, Bytes>("debug_getRawHeader", (tag,)).await;
        let raw = asked.map_err(rpc("reading the seed block's raw header"))?;
        if keccak256(&raw) == header.hash {
            return Ok(raw);
        }
        let reason = format!("the endpoint's header of block {number} does not hash to the block's hash");
        Err(StkrError::Unsafe { reason })
    }

    /// What an unfinished key stands at: the newest event that hashes to the key's commitment, so that one that an
    /// endpoint invents is not believed. Nothing once its seats are freed.
    async fn unfinished(&self, info: &KeyInfo) -> Result<Option<Unfinished>, StkrError> {
        let signatures = vec![
            KeyRegistry::KeyRequested::SIGNATURE_HASH,
            KeyRegistry::CommitteeDrawn::SIGNATURE_HASH,
            KeyRegistry::CeremonyRestarted::SIGNATURE_HASH,
        ];
        let logs = self.logs(info.id, signatures).await?;
        Ok(logs.iter().rev().filter_map(Unfinished::in_event).find(|it| it.commitment() == info.commitment))
    }

    pub(crate) async fn read(&self, id: u64) -> Result<KeyInfo, StkrError> {
        let key = self.0.key_registry().key(U256::from(id)).call().await.map_err(call("reading a key"))?;
        let key = stkr_chain::KeyInfo::from_contract(id, &key)
            .map_err(unknown_enum)?
            .ok_or_else(|| StkrError::NotFound { what: format!("key {id}") })?;
        let stkr_chain::KeyInfo { id, consumer, state, kind, threshold, members, attempt, mark, commitment } = key;
        let (committee_epoch, committee, successor, public_key, healthy) = (0, Vec::new(), None, None, None);
        Ok(KeyInfo {
            id,
            consumer,
            state,
            kind,
            threshold,
            members,
            attempt,
            mark,
            commitment,
            committee_epoch,
            committee,
            successor,
            public_key,
            healthy,
        })
    }

    pub(crate) async fn last<E: SolEvent>(&self, id: u64) -> Result<Option<E>, StkrError> {
        let logs = self.logs(id, vec![E::SIGNATURE_HASH]).await?;
        Ok(logs.last().and_then(|log| log.log_decode::<E>().ok()).map(|log| log.inner.data))
    }

    pub(crate) async fn logs(&self, id: u64, signatures: Vec<B256>) -> Result<Vec<Log>, StkrError> {
        let deployment = self.0.deployment();
        let filter = Filter::new().address(deployment.key_registry).event_signature(signatures).topic1(U256::from(id));
        let head = self.0.head_number().await?;
        scan::logs(self.0.provider(), &filter, deployment.deployed_block, head).await
    }
}

/// What a key that was never live commits to.
#[derive(Debug)]
enum Unfinished {
    /// A pending draw.
    Requested { active_set: Bytes, kept: Vec<u32> },
    /// A committee.
    Drawn { committee: Vec<u32> },
}

impl Unfinished {
    fn in_event(log: &Log) -> Option<Self> {
        if let Ok(event) = log.log_decode::<KeyRegistry::KeyRequested>() {
            return Some(Self::Requested { active_set: event.inner.data.activeSet, kept: Vec::new() });
        }
        if let Ok(event) = log.log_decode::<KeyRegistry::CommitteeDrawn>() {
            return Some(Self::Drawn { committee: event.inner.data.committee });
        }
        let event = log.log_decode::<KeyRegistry::CeremonyRestarted>().ok()?.inner.data;
        // Without a seed block the same committee tries again.
        Some(match event.seedBlock.is_zero() {
            true => Self::Drawn { committee: event.kept },
            false => Self::Requested { active_set: event.activeSet, kept: event.kept },
        })
    }

    fn members(&self) -> &[u32] {
        match self {
            Self::Requested { kept, .. } => kept,
            Self::Drawn { committee } => committee,
        }
    }

    /// keccak256 of the snapshot of a pending draw, zero for a committee: what `restart` and `freeSeatsOfUnfinished` take.
    fn active_set_hash(&self) -> B256 {
        match self {
            Self::Requested { active_set, .. } => keccak256(active_set),
            Self::Drawn { .. } => B256::ZERO,
        }
    }

    /// `IKeyRegistry.Key.commitment`.
    fn commitment(&self) -> B256 {
        match self {
            Self::Requested { kept, .. } => keccak256((self.active_set_hash(), kept.clone()).abi_encode_params()),
            Self::Drawn { committee } => committee_hash(committee),
        }
    }
}

impl Named {
    /// The key and its committee.
    fn in_event(log: &Log) -> Option<(u64, Self)> {
        if let Ok(event) = log.log_decode::<KeyRegistry::KeyFinalised>() {
            let KeyRegistry::KeyFinalised { keyId, committee: servers, .. } = event.inner.data;
            return Some((keyId.saturating_to(), Self { committee_epoch: 0, handover: 0, servers }));
        }
        let event = log.log_decode::<Resharing::Reshared>().ok()?.inner.data;
        let (committee_epoch, handover) = (event.committeeEpoch, event.handover.to());
        Some((event.keyId.saturating_to(), Self { committee_epoch, handover, servers: event.committee.servers }))
    }
}

fn imported_id(receipt: &TransactionReceipt) -> Option<u64> {
    let event = receipt.decoded_log::<KeyRegistry::DealtKeyImported>()?;
    u64::try_from(event.data.keyId).ok()
}

/// The points that a committee of `members` finalises with, if there is one share key and one acknowledgement of each.
pub(crate) fn points_of(
    members: usize,
    share_keys: &[PublicKey],
    group_key: &PublicKey,
    acknowledgements: &[Bytes],
) -> Result<Bytes, StkrError> {
    for (what, count) in [("share keys", share_keys.len()), ("acknowledgements", acknowledgements.len())] {
        if count != members {
            let reason = format!("{count} {what} were given and the committee has {members} members");
            return Err(StkrError::invalid(reason, "give one per member, in index order"));
        }
    }
    for acknowledgement in acknowledgements {
        check_proof(acknowledgement, "acknowledgement")?;
    }
    Ok(share_keys.iter().chain([group_key]).flat_map(PublicKey::to_eip2537).collect())
}

pub(crate) fn unshown(id: u64) -> StkrError {
    StkrError::NotReady { reason: format!("the endpoint does not show the events of key {id}") }
}

/// The last of the points in a `KeyFinalised` event, decoded with all checks.
fn group_key_of(id: u64, points: &[u8]) -> Result<PublicKey, StkrError> {
    let start = points.len().checked_sub(G1);
    start
        .and_then(|start| points.get(start..))
        .and_then(|point| PublicKey::from_eip2537(point).ok())
        .ok_or_else(|| StkrError::Unsafe { reason: format!("the event that finalised key {id} holds no group key") })
}
