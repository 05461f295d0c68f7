//! Keys that move to another committee and stay the same keys.

use alloy::{
    primitives::{Address, B256, Bytes, U256, aliases::U48, keccak256},
    providers::Provider,
    rpc::types::{Filter, Log},
    sol_types::{SolCall, SolEvent as _, SolValue as _},
};
use serde::Serialize;
use stkr_chain::{
    LiveKey,
    bindings::{KeyRegistry, Resharing},
    committees,
    types::{KeyState, ReshareState},
};
use stkr_core::PublicKey;
use stkr_protocol::{
    ProtocolDomain,
    silence::{SignedSilenceVote, SilenceVote},
};

use crate::{
    client::Stkr,
    error::{StkrError, call},
    keys::{KeyInfo, Keys, points_of, unshown},
    scan,
    servers::unknown_enum,
    write::{Write, nothing},
};

mod carried;

pub use carried::{CarriedReshare, ReshareRound, WaitedPart};

/// Bytes of a signature.
const SIGNATURE: usize = 65;

/// Who serves a key, and the reshare under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReshareInfo {
    /// The key.
    pub key_id: u64,
    /// Committee epoch of the newest finalised committee; the first has 0.
    pub committee_epoch: u32,
    /// Committee epoch whose turn it is now.
    pub serving_epoch: u32,
    /// Unix seconds from which the newest committee signs; 0 for a key's first.
    pub handover: u64,
    /// Shares of the newest committee that sign.
    pub threshold: u8,
    /// Server ids of the newest committee, index order.
    pub committee: Vec<u32>,
    /// Where the next reshare stands.
    pub state: ReshareState,
    /// What is being made, if anything is.
    pub next: Option<NextCommittee>,
}

/// A committee in the making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NextCommittee {
    /// Shares that will sign.
    pub threshold: u8,
    /// Number of the attempt.
    pub attempt: u16,
    /// Server ids, index order; 0 where a seat is still to be drawn.
    pub seats: Vec<u32>,
    /// Indices of the serving committee that deal; while the draw is pending, those that are preferred.
    pub dealers: Vec<u8>,
    /// Requested: number of the seed block. Drawn: unix seconds until which it may be finalised.
    pub mark: u64,
    /// Drawn: unix seconds from which it would sign.
    pub handover: u64,
}

/// Reads and writes of the key registry's Resharing.
#[derive(Clone, Copy, Debug)]
pub struct Reshares<'a, P>(pub(crate) &'a Stkr<P>);

/// A draft that the chain committed to, and the snapshot that its draw needs.
struct Pending {
    draft: Resharing::Draft,
    active_set: Bytes,
}

impl<'a, P: Provider> Reshares<'a, P> {
    /// Number of the committee whose turn it is at the head.
    pub(crate) async fn serving_epoch(&self, key_id: u64) -> Result<u32, StkrError> {
        let now = self.0.challenges().now().await?.timestamp;
        let epoch = self.contract().servingEpoch(U256::from(key_id), U256::from(now)).call().await;
        epoch.map_err(call("reading whose turn it is"))
    }

    /// Where the key's committees stand.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] for an unknown key, [`StkrError::NotReady`] for one that was never live.
    pub async fn get(&self, key_id: u64) -> Result<ReshareInfo, StkrError> {
        let key = Keys(self.0).read(key_id).await?;
        let it = self.read(key_id).await?;
        let committee = self.newest(&key, &it).await?;
        let record = self.contract().newest(U256::from(key_id)).call().await;
        let record = record.map_err(call("reading the committee"))?.record;
        let state = ReshareState::try_from(it.state).map_err(unknown_enum)?;
        let next = match state {
            ReshareState::None => None,
            _ => Some(next_of(&it, &self.pending(key_id, &it).await?.draft)),
        };
        Ok(ReshareInfo {
            key_id,
            committee_epoch: it.committeeEpoch,
            serving_epoch: self.serving_epoch(key_id).await?,
            handover: record.handover.to(),
            threshold: record.threshold,
            committee: committee.servers,
            state,
            next,
        })
    }

    /// Anyone: asks for a reshare to a committee of the same size. Another size only the key's pools contract can ask for.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if the key is not Live or a reshare is under way. The contract refuses one without a reason.
    pub async fn request(&self, key_id: u64) -> Result<Write<'a, P>, StkrError> {
        let (key, it) = self.live(key_id).await?;
        if it.state != ReshareState::None as u8 {
            return Err(StkrError::NotReady { reason: format!("a reshare of key {key_id} is under way already") });
        }
        let record = self.contract().newest(U256::from(key_id)).call().await;
        let Resharing::CommitteeRecord { threshold, members, .. } =
            record.map_err(call("reading the committee"))?.record;
        let serving = self.newest(&key, &it).await?;
        let call = Resharing::requestCall { keyId: U256::from(key_id), serving, threshold, members };
        Ok(self.write("asking for a reshare", &call))
    }

    /// Anyone: draws the lost seats and the dealers.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if nothing waits for a draw or the seed block is still to come.
    pub async fn draw(&self, key_id: u64) -> Result<Write<'a, P>, StkrError> {
        let (_, it) = self.live(key_id).await?;
        if it.state != ReshareState::Requested as u8 {
            return Err(StkrError::NotReady { reason: format!("no reshare of key {key_id} waits for a draw") });
        }
        let (head, seed_block) = (self.0.head_number().await?, it.mark.to::<u64>());
        if head <= seed_block {
            let reason = format!(
                "the seed of the reshare of key {key_id} is made by block {seed_block}, the chain is at block {head}"
            );
            return Err(StkrError::NotReady { reason });
        }
        let Pending { draft, active_set } = self.pending(key_id, &it).await?;
        let header = Keys(self.0).header(seed_block).await?;
        let call = Resharing::drawCall { keyId: U256::from(key_id), header, activeSet: active_set, draft };
        Ok(self.write("drawing the committee", &call))
    }

    /// Anyone: starts a reshare again that ran out of time.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if none is under way. The contract refuses one whose time is not over.
    pub async fn restart(&self, key_id: u64) -> Result<Write<'a, P>, StkrError> {
        let (key, it) = self.live(key_id).await?;
        let Pending { draft, .. } = self.pending(key_id, &it).await?;
        let serving = self.newest(&key, &it).await?;
        let call = Resharing::restartCall { keyId: U256::from(key_id), serving, draft };
        Ok(self.write("restarting the reshare", &call))
    }

    /// Anyone: ends the reshare of a key that was given up, and frees its seats.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if none is under way. The contract refuses while the key is live.
    pub async fn cancel(&self, key_id: u64) -> Result<Write<'a, P>, StkrError> {
        let it = self.read(key_id).await?;
        let Pending { draft, .. } = self.pending(key_id, &it).await?;
        Ok(self.write("ending the reshare", &Resharing::cancelCall { keyId: U256::from(key_id), draft }))
    }

    /// Anyone: makes the drawn committee the key's newest. Arguments as [`Keys::finalise`] takes them, of the new committee.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] if none is drawn, [`StkrError::Invalid`] for another number of share keys or acknowledgements than
    /// it has members.
    pub async fn finalise(
        &self,
        key_id: u64,
        share_keys: &[PublicKey],
        group_key: &PublicKey,
        dealings_digest: B256,
        acknowledgements: &[Bytes],
    ) -> Result<Write<'a, P>, StkrError> {
        let (_, it) = self.live(key_id).await?;
        if it.state != ReshareState::Drawn as u8 {
            return Err(StkrError::NotReady { reason: format!("no reshare of key {key_id} has a committee") });
        }
        let Pending { draft, .. } = self.pending(key_id, &it).await?;
        let points = points_of(draft.seats.len(), share_keys, group_key, acknowledgements)?;
        let call = Resharing::finaliseCall {
            keyId: U256::from(key_id),
            draft,
            points,
            dealingsDigest: dealings_digest,
            acknowledgements: acknowledgements.concat().into(),
        };
        Ok(self.write("finalising the reshare", &call))
    }

    /// Anyone: shows the votes of members that a server is silent, which then counts as lost for as long as they say.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] if they are not one vote, or one is no member's of the newest committee.
    pub async fn vote_silent(&self, key_id: u64, votes: &[SignedSilenceVote]) -> Result<Write<'a, P>, StkrError> {
        let (key, it) = self.live(key_id).await?;
        let serving = self.newest(&key, &it).await?;
        let domain = self.0.deployment().protocol_domain();
        let (vote, signatures) = ballot(&domain, (key_id, it.committeeEpoch), &serving.signers, votes)?;
        let until = U48::try_from(vote.until)
            .map_err(|_| StkrError::invalid(format!("{} is no time", vote.until), "vote for at most 30 days"))?;
        let call = Resharing::voteSilentCall {
            keyId: U256::from(key_id),
            serving,
            server: vote.server,
            until,
            signatures: signatures.into(),
        };
        Ok(self.write("voting that a server is silent", &call))
    }

    /// Anyone: frees the seats of those that committee `committee_epoch` left behind, an evidence window after its handover.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] if the key has no such committee, or it is its first.
    pub async fn free_past_seats(&self, key_id: u64, committee_epoch: u32) -> Result<Write<'a, P>, StkrError> {
        let Some(before) = committee_epoch.checked_sub(1) else {
            return Err(StkrError::NotFound { what: format!("a committee before the first of key {key_id}") });
        };
        let past = self.committee(key_id, before).await?;
        let next = self.committee(key_id, committee_epoch).await?;
        let keys = U256::from(key_id);
        let call = Resharing::freePastSeatsCall { keyId: keys, committeeEpoch: committee_epoch, past, next };
        Ok(self.write("freeing the seats", &call))
    }

    /// The newest committee of a key that is or was live, as the chain committed to it.
    pub(crate) async fn newest_of(&self, key: &KeyInfo) -> Result<Resharing::Committee, StkrError> {
        self.newest(key, &self.read(key.id).await?).await
    }

    async fn newest(&self, key: &KeyInfo, it: &Resharing::Reshare) -> Result<Resharing::Committee, StkrError> {
        if !matches!(key.state, KeyState::Live | KeyState::Retired | KeyState::Burned) {
            return Err(StkrError::NotReady {
                reason: format!("key {} is {} and has no committee", key.id, key.state),
            });
        }
        self.committee(key.id, it.committeeEpoch).await
    }

    /// Committee `epoch` from the events.
    async fn committee(&self, key_id: u64, epoch: u32) -> Result<Resharing::Committee, StkrError> {
        if epoch == 0 {
            let first = Keys(self.0).last::<KeyRegistry::KeyFinalised>(key_id).await?.ok_or_else(|| unshown(key_id))?;
            let KeyRegistry::KeyFinalised { committee: servers, signers, points, .. } = first;
            return Ok(Resharing::Committee { servers, signers, points });
        }
        let logs = self.logs(key_id, vec![Resharing::Reshared::SIGNATURE_HASH]).await?;
        let events = logs.iter().rev().filter_map(|log| log.log_decode::<Resharing::Reshared>().ok());
        let found = events.map(|log| log.inner.data).find(|event| event.committeeEpoch == epoch);
        found
            .map(|event| event.committee)
            .ok_or_else(|| StkrError::NotFound { what: format!("committee {epoch} of key {key_id}") })
    }

    /// Merkle root of the share leaves of committee `epoch`, as `IKeyRegistry.isShareLeaf` takes it; zero where there is none, or its
    /// leaves are forgotten.
    pub(crate) async fn leaves_root(&self, key_id: u64, epoch: u32) -> Result<B256, StkrError> {
        Ok(self.shape(key_id, epoch).await?.commitment)
    }

    /// t and n of committee `epoch`.
    pub(crate) async fn size(&self, key_id: u64, epoch: u32) -> Result<(u8, u8), StkrError> {
        let shape = self.shape(key_id, epoch).await?;
        Ok((shape.threshold, shape.members))
    }

    /// Share keys and members of committee `epoch`, of any that the key has or had: believed because they lead to the root that the
    /// chain holds.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] where there is no such committee, or its leaves are forgotten; [`StkrError::Unsafe`] if the endpoint
    /// invents share keys; [`StkrError::Rpc`].
    pub(crate) async fn public_half(&self, key_id: u64, epoch: u32) -> Result<LiveKey, StkrError> {
        let missing = || StkrError::NotFound { what: format!("committee {epoch} of key {key_id}") };
        let expected = self.shape(key_id, epoch).await?;
        if expected.commitment.is_zero() {
            return Err(missing());
        }
        let deployment = self.0.deployment();
        let filter = committees::events_naming(deployment, key_id, epoch);
        let head = self.0.head_number().await?;
        let logs = scan::logs(self.0.provider(), &filter, deployment.deployed_block, head).await?;
        let mut reason = missing();
        for event in logs.iter().rev().filter_map(|log| committees::named_in(log, epoch)) {
            match LiveKey::from_event(&expected, &event) {
                Ok(found) => return Ok(found),
                Err(error) => reason = StkrError::Unsafe { reason: error.to_string() },
            }
        }
        Err(reason)
    }

    /// The key with size and root of committee `epoch` in place of those of its first.
    async fn shape(&self, key_id: u64, epoch: u32) -> Result<stkr_chain::KeyInfo, StkrError> {
        let key = self.0.key_registry().key(U256::from(key_id)).call().await.map_err(call("reading a key"))?;
        let key = stkr_chain::KeyInfo::from_contract(key_id, &key)
            .map_err(unknown_enum)?
            .ok_or_else(|| StkrError::NotFound { what: format!("key {key_id}") })?;
        if epoch == 0 {
            return Ok(key);
        }
        let record = self.contract().committee(U256::from(key_id), epoch).call().await;
        let Resharing::CommitteeRecord { threshold, members, leavesRoot: commitment, .. } =
            record.map_err(call("reading a committee"))?;
        Ok(stkr_chain::KeyInfo { threshold, members, commitment, ..key })
    }

    async fn live(&self, key_id: u64) -> Result<(KeyInfo, Resharing::Reshare), StkrError> {
        let key = Keys(self.0).read(key_id).await?;
        if key.state != KeyState::Live {
            return Err(StkrError::NotReady { reason: format!("key {key_id} is {} and is not reshared", key.state) });
        }
        let it = self.read(key_id).await?;
        Ok((key, it))
    }

    async fn read(&self, key_id: u64) -> Result<Resharing::Reshare, StkrError> {
        self.contract().reshare(U256::from(key_id)).call().await.map_err(call("reading the reshare"))
    }

    /// The newest event whose draft hashes to the commitment, so that one that an endpoint invents is not believed.
    async fn pending(&self, key_id: u64, it: &Resharing::Reshare) -> Result<Pending, StkrError> {
        if it.state == ReshareState::None as u8 {
            return Err(StkrError::NotReady { reason: format!("no reshare of key {key_id} is under way") });
        }
        let signatures = vec![Resharing::ReshareRequested::SIGNATURE_HASH, Resharing::ReshareDrawn::SIGNATURE_HASH];
        let logs = self.logs(key_id, signatures).await?;
        let mut pending = logs.iter().rev().filter_map(Pending::in_event);
        pending.find(|pending| keccak256(pending.draft.abi_encode()) == it.commitment).ok_or_else(|| unshown(key_id))
    }

    async fn logs(&self, key_id: u64, signatures: Vec<B256>) -> Result<Vec<Log>, StkrError> {
        let deployment = self.0.deployment();
        let filter =
            Filter::new().address(deployment.resharing()).event_signature(signatures).topic1(U256::from(key_id));
        scan::logs(self.0.provider(), &filter, deployment.deployed_block, self.0.head_number().await?).await
    }

    fn contract(&self) -> Resharing::ResharingInstance<&'a P> {
        Resharing::new(self.0.deployment().resharing(), self.0.provider())
    }

    fn write(&self, action: &'static str, call: &impl SolCall) -> Write<'a, P> {
        self.0.write(self.0.deployment().resharing(), action, call, nothing)
    }
}

impl Pending {
    fn in_event(log: &Log) -> Option<Self> {
        if let Ok(event) = log.log_decode::<Resharing::ReshareRequested>() {
            let Resharing::ReshareRequested { draft, activeSet, .. } = event.inner.data;
            return Some(Self { draft, active_set: activeSet });
        }
        let event = log.log_decode::<Resharing::ReshareDrawn>().ok()?.inner.data;
        Some(Self { draft: event.draft, active_set: Bytes::new() })
    }
}

/// Indices of the bits that are set, from 1.
fn dealers(mask: u16) -> impl Iterator<Item = u8> {
    (1..=16_u8).filter(move |index| mask >> (index - 1) & 1 == 1)
}

fn next_of(it: &Resharing::Reshare, draft: &Resharing::Draft) -> NextCommittee {
    NextCommittee {
        threshold: it.threshold,
        attempt: it.attempt,
        seats: draft.seats.clone(),
        dealers: dealers(draft.dealers).collect(),
        mark: it.mark.to(),
        handover: it.handover.to(),
    }
}

/// What all of them vote, and one signature for each member, zeros for who did not vote.
fn ballot(
    domain: &ProtocolDomain,
    (key_id, committee_epoch): (u64, u32),
    signers: &[Address],
    votes: &[SignedSilenceVote],
) -> Result<(SilenceVote, Vec<u8>), StkrError> {
    let hint = "give votes about one server, of members of the key's newest committee";
    let invalid = |reason: String| StkrError::invalid(reason, hint);
    let vote = votes.first().ok_or_else(|| invalid("no vote was given".to_owned()))?.vote;
    if (vote.key_id, vote.committee_epoch) != (key_id, committee_epoch) {
        let (of, epoch) = (vote.key_id, vote.committee_epoch);
        return Err(invalid(format!("a vote is of committee {epoch} of key {of}, not {committee_epoch} of {key_id}")));
    }
    let mut all = vec![0; signers.len() * SIGNATURE];
    for (number, signed) in votes.iter().enumerate() {
        if signed.vote != vote {
            return Err(invalid(format!("vote {} says something else than the first", number + 1)));
        }
        let voter = signed.voter(domain).map_err(|error| invalid(format!("vote {}: {error}", number + 1)))?;
        let place = signers.iter().position(|signer| *signer == voter);
        let place = place.and_then(|place| all.chunks_exact_mut(SIGNATURE).nth(place));
        let place = place.ok_or_else(|| invalid(format!("{voter}, who made vote {}, is no member", number + 1)))?;
        place.copy_from_slice(&signed.signature);
    }
    Ok((vote, all))
}

#[cfg(test)]
mod tests {
    use stkr_protocol::SignerKey;

    use super::*;

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 1, key_registry: Address::ZERO };
    const VOTE: SilenceVote = SilenceVote { key_id: 7, committee_epoch: 2, server: 5, until: 1_800_000_000 };

    fn key(seed: u8) -> SignerKey {
        SignerKey::from_bytes(&[seed; 32]).unwrap()
    }

    #[test]
    fn votes_stand_at_the_place_of_their_member() {
        let signers: Vec<Address> = (1..=4).map(|seed| key(seed).address()).collect();
        let signed = |seed: u8| VOTE.sign(&DOMAIN, &key(seed));
        let (vote, all) = ballot(&DOMAIN, (7, 2), &signers, &[signed(3), signed(1), signed(3)]).unwrap();
        assert_eq!(vote, VOTE);
        assert_eq!(all[..SIGNATURE], signed(1).signature);
        assert_eq!(all[2 * SIGNATURE..3 * SIGNATURE], signed(3).signature);
        assert!(all[SIGNATURE..2 * SIGNATURE].iter().chain(&all[3 * SIGNATURE..]).all(|byte| *byte == 0));

        let other = SilenceVote { server: 6, ..VOTE }.sign(&DOMAIN, &key(2));
        let broken = SignedSilenceVote { signature: [0; 65], ..signed(1) };
        for (of, votes, reason) in [
            ((7, 2), vec![], "no vote was given"),
            ((7, 3), vec![signed(1)], "a vote is of committee 2 of key 7, not 3 of 7"),
            ((8, 2), vec![signed(1)], "not 2 of 8"),
            ((7, 2), vec![signed(1), other], "vote 2 says something else than the first"),
            ((7, 2), vec![signed(1), signed(9)], "who made vote 2, is no member"),
            ((7, 2), vec![broken], "vote 1: "),
        ] {
            let error = ballot(&DOMAIN, of, &signers, &votes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
