//! Keys nobody holds: where they stand, who serves them, and the draw.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::Provider,
    rpc::types::{Filter, Log},
    sol_types::SolEvent,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stkr_chain::{
    bindings::KeyRegistry,
    types::{KeyKind, KeyState},
};
use stkr_core::PublicKey;

use crate::{
    client::Stkr,
    error::{StkrError, call, rpc},
    scan,
    servers::{PARALLEL, unknown_enum},
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
    /// Shares that sign.
    pub threshold: u8,
    /// Shares that exist.
    pub members: u8,
    /// Ceremony number.
    pub attempt: u16,
    /// Requested: number of the seed block. Otherwise unix seconds, see `IKeyRegistry`.
    pub mark: u64,
    /// What the chain committed to: active set, committee or share leaves.
    pub commitment: B256,
    /// Server ids of the committee in index order; empty before the draw. Filled by [`Keys::get`] only.
    pub committee: Vec<u32>,
    /// Compressed group key (48 bytes) once the key was finalised. Filled by [`Keys::get`] only.
    pub public_key: Option<Bytes>,
}

/// Reads and writes of the key registry.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a, P>(pub(crate) &'a Stkr<P>);

impl<'a, P: Provider> Keys<'a, P> {
    /// All keys, by id, without committees and points.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn list(&self) -> Result<Vec<KeyInfo>, StkrError> {
        let count = self.0.key_registry().keyCount().call().await.map_err(call("counting the keys"))?;
        stream::iter(1..=count.saturating_to::<u64>()).map(|id| self.read(id)).buffered(PARALLEL).try_collect().await
    }

    /// The key with this id, with its committee and group key from the events.
    ///
    /// # Errors
    /// [`StkrError::NotFound`], [`StkrError::Rpc`]; [`StkrError::Unsafe`] if the event does not hold points.
    pub async fn get(&self, id: u64) -> Result<KeyInfo, StkrError> {
        let mut info = self.read(id).await?;
        if let Some(drawn) = self.last::<KeyRegistry::CommitteeDrawn>(id).await? {
            info.committee = drawn.committee;
        }
        if let Some(finalised) = self.last::<KeyRegistry::KeyFinalised>(id).await? {
            let group_key = group_key_of(id, &finalised.points)?;
            info.committee = finalised.committee;
            info.public_key = Some(Bytes::copy_from_slice(&group_key.to_compressed()));
        }
        Ok(info)
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
        let (active_set, kept) = self.pending_draw(id).await?;
        let header = self.header(info.mark).await?;
        let call = KeyRegistry::drawCall { keyId: U256::from(id), header, activeSet: active_set, kept };
        Ok(self.0.write(self.0.deployment().key_registry, "drawing the committee", &call, nothing))
    }

    /// RLP of the header of a block. The contract compares its hash; so does this, to name the culprit early.
    async fn header(&self, number: u64) -> Result<Bytes, StkrError> {
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

    /// Snapshot and kept members of the draw that is pending: from the newest request or restart.
    async fn pending_draw(&self, id: u64) -> Result<(Bytes, Vec<u32>), StkrError> {
        let signatures =
            vec![KeyRegistry::KeyRequested::SIGNATURE_HASH, KeyRegistry::CeremonyRestarted::SIGNATURE_HASH];
        let logs = self.logs(id, signatures).await?;
        logs.last().and_then(snapshot_in).ok_or_else(|| StkrError::NotReady {
            reason: format!("the endpoint does not show the request of key {id}"),
        })
    }

    pub(crate) async fn read(&self, id: u64) -> Result<KeyInfo, StkrError> {
        let key = self.0.key_registry().key(U256::from(id)).call().await.map_err(call("reading a key"))?;
        let state = KeyState::try_from(key.state).map_err(unknown_enum)?;
        if state == KeyState::None {
            return Err(StkrError::NotFound { what: format!("key {id}") });
        }
        Ok(KeyInfo {
            id,
            consumer: key.consumer,
            state,
            kind: KeyKind::try_from(key.kind).map_err(unknown_enum)?,
            threshold: key.threshold,
            members: key.members,
            attempt: key.attempt,
            mark: key.mark.to(),
            commitment: key.commitment,
            committee: Vec::new(),
            public_key: None,
        })
    }

    async fn last<E: SolEvent>(&self, id: u64) -> Result<Option<E>, StkrError> {
        let logs = self.logs(id, vec![E::SIGNATURE_HASH]).await?;
        Ok(logs.last().and_then(|log| log.log_decode::<E>().ok()).map(|log| log.inner.data))
    }

    async fn logs(&self, id: u64, signatures: Vec<B256>) -> Result<Vec<Log>, StkrError> {
        let deployment = self.0.deployment();
        let filter = Filter::new().address(deployment.key_registry).event_signature(signatures).topic1(U256::from(id));
        let head = self.0.head_number().await?;
        scan::logs(self.0.provider(), &filter, deployment.deployed_block, head).await
    }
}

fn snapshot_in(log: &Log) -> Option<(Bytes, Vec<u32>)> {
    if let Ok(event) = log.log_decode::<KeyRegistry::KeyRequested>() {
        return Some((event.inner.data.activeSet, Vec::new()));
    }
    let event = log.log_decode::<KeyRegistry::CeremonyRestarted>().ok()?.inner.data;
    Some((event.activeSet, event.kept))
}

/// The last of the points in a `KeyFinalised` event, decoded with all checks.
fn group_key_of(id: u64, points: &[u8]) -> Result<PublicKey, StkrError> {
    let start = points.len().checked_sub(G1);
    start
        .and_then(|start| points.get(start..))
        .and_then(|point| PublicKey::from_eip2537(point).ok())
        .ok_or_else(|| StkrError::Unsafe { reason: format!("the event that finalised key {id} holds no group key") })
}
