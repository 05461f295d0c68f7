//! The committees of a key as one finalised block shows them: who signs until when, who comes after, who deals to them.
//!
//! Everything here that decides anything is read from the contracts' state at one block on whose hash all endpoints agree, with the
//! same answer from all. Events only say what hashes to that state. What they say beyond it (the number of an attempt, the block of a
//! draw) is taken only as all endpoints show it.

use alloy::{
    eips::BlockId as At,
    primitives::{B256, U256, keccak256},
    providers::DynProvider,
    rpc::types::{Filter, Log},
    sol,
    sol_types::{SolCall as _, SolEvent, SolValue as _},
};
use futures::future::try_join_all;
use stkr_core::{ShareIndex, Threshold};
use stkr_protocol::{
    ProtocolDomain,
    ceremony::MemberId,
    collection::Committee,
    handover::{Drawn, Term, View, ViewError},
    reshare::{Plan, PlanError, ReshareId},
};

use crate::{
    bindings::{KeyRegistry, Resharing, ServerRegistry},
    deployment::Deployment,
    endpoint::{BlockId, Endpoint},
    errors::ChainError,
    keys::{LiveKey, Member},
    reader::{ChainReader, KeyInfo, ServerInfo, logs_between},
    types::{KeyState, ReshareState},
};

sol! {
    /// Of OpenZeppelin's AccessManager.
    event OperationScheduled(
        bytes32 indexed operationId,
        uint32 indexed nonce,
        uint48 schedule,
        address caller,
        address target,
        bytes data
    );
}

/// Seconds after its time for which a scheduled call can still be made: `AccessManager.expiration()`.
const EXPIRATION: u64 = 7 * 24 * 3600;

/// A committee of a key.
#[derive(Clone, Debug)]
pub struct CommitteeTerm {
    /// The attempt that made it.
    pub attempt: u16,
    /// Unix time (seconds) of its handover; 0 of the first committee.
    pub handover: u64,
    /// Merkle root of its share leaves.
    pub leaves_root: B256,
    /// Share keys and members, checked against that root; the committee epoch is in it.
    pub committee: Committee,
}

/// A reshare whose committee and dealers are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawnReshare {
    /// Which one.
    pub id: ReshareId,
    /// t' of n'.
    pub threshold: Threshold,
    /// The new committee in index order, with the signers that the registry names at the block.
    pub members: Vec<MemberId>,
    /// Who deals: t indices of the newest committee, ascending.
    pub dealers: Vec<ShareIndex>,
    /// Unix time (seconds) until which it may be finalised.
    pub deadline: u64,
    /// Unix time (seconds) of its handover.
    pub handover: u64,
    /// What the contract committed to.
    pub commitment: B256,
    /// Block of the draw.
    pub drawn_at: u64,
}

/// The committees of a key at one finalised block.
#[derive(Clone, Debug)]
pub struct KeyCommittees {
    /// The block.
    pub block: BlockId,
    /// Seconds: the shortest ceremony window that a draw after the block can have.
    pub window: u64,
    /// The key.
    pub key: KeyInfo,
    /// The newest committee, and before it the one that it took over from, if there is one.
    pub terms: Vec<CommitteeTerm>,
    /// The reshare that is drawn.
    pub drawn: Option<DrawnReshare>,
}

/// What the contracts say of a key's committees at one block.
#[derive(Clone, Debug, PartialEq)]
struct State {
    key: KeyRegistry::Key,
    reshare: Resharing::Reshare,
    newest: Resharing::CommitteeRecord,
    /// Of the committee epoch before, where there is one.
    past: Resharing::CommitteeRecord,
}

impl KeyCommittees {
    /// Who signs when.
    ///
    /// # Errors
    /// [`ViewError`]: what no chain of these contracts shows.
    pub fn view(&self) -> Result<View, ViewError> {
        let term = |term: &CommitteeTerm| Term {
            committee_epoch: term.committee.epoch(),
            attempt: term.attempt,
            handover: term.handover,
        };
        let drawn = self.drawn.as_ref().map(|it| Drawn { deadline: it.deadline, handover: it.handover });
        View::new(self.block.timestamp, self.window, self.terms.iter().map(term).collect(), drawn)
    }

    /// The committee of this epoch, if it is one of the last two.
    #[must_use]
    pub fn committee(&self, committee_epoch: u32) -> Option<&Committee> {
        self.terms.iter().map(|term| &term.committee).find(|committee| committee.epoch() == committee_epoch)
    }

    /// The committee that was finalised last.
    #[must_use]
    pub fn newest(&self) -> Option<&Committee> {
        self.terms.last().map(|term| &term.committee)
    }

    /// What the members of the drawn reshare have to hold to.
    ///
    /// # Errors
    /// [`PlanError`]: a reshare that this program cannot hold.
    pub fn plan(&self) -> Option<Result<Plan, PlanError>> {
        let (drawn, old) = (self.drawn.as_ref()?, self.newest()?);
        let new = (drawn.threshold, drawn.members.clone());
        Some(Plan::new(drawn.id, old.clone(), drawn.dealers.clone(), new, drawn.deadline))
    }
}

impl ChainReader {
    /// The committees of a key at the newest finalised block, with the same answer from all endpoints. `window` is that of
    /// [`ChainReader::shortest_window`] at this block or an earlier one.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] if the key never was Live at that block, or an event is missing; [`ChainError::EndpointsDisagree`];
    /// that of the endpoint that does not answer.
    pub async fn finalized_committees(
        &self,
        key_id: u64,
        block: &BlockId,
        window: u64,
    ) -> Result<KeyCommittees, ChainError> {
        let (registry, resharing) = (self.deployment().key_registry, self.deployment().resharing());
        let question = format!("which committees key {key_id} has");
        let state = self.agreed_at(block, question, |provider, at| read(provider, at, registry, resharing, key_id));
        let state = state.await?;
        let key = KeyInfo::from_contract(key_id, &state.key)?.ok_or_else(|| {
            ChainError::NotFound(format!("there is no key {key_id} at finalised block {}", block.number))
        })?;
        if matches!(key.state, KeyState::None | KeyState::Requested | KeyState::Drawn) {
            let reason =
                format!("key {key_id} is {} at finalised block {} and has no committee", key.state, block.number);
            return Err(ChainError::NotFound(reason));
        }
        let newest = state.reshare.committeeEpoch;
        let mut terms = Vec::new();
        if let Some(past) = newest.checked_sub(1) {
            terms.push(self.term(&key, past, &state.past).await?);
        }
        terms.push(self.term(&key, newest, &state.newest).await?);
        let drawn = match ReshareState::try_from(state.reshare.state)? {
            ReshareState::Drawn => Some(self.drawn(key_id, &state.reshare, block).await?),
            ReshareState::None | ReshareState::Requested => None,
        };
        Ok(KeyCommittees { block: *block, window, key, terms, drawn })
    }

    /// The committee of a key that was never reshared, as at the newest block.
    ///
    /// # Errors
    /// [`ChainError::Nonsense`]; never for a [`LiveKey`] that was checked.
    pub fn first_committee(&self, live: &LiveKey) -> Result<Committee, ChainError> {
        committee_of(self.domain(), 0, live.clone())
    }

    /// Seconds: the registry's ceremony window at a finalised block, or the shortest one that governance has scheduled a call to
    /// set and can still make, as any endpoint shows.
    ///
    /// # Errors
    /// As [`ChainReader::finalized_committees`].
    pub async fn shortest_window(&self, block: &BlockId) -> Result<u64, ChainError> {
        let registry = self.deployment().key_registry;
        let question = "how long ceremonies may take".to_owned();
        let window = self.agreed_at(block, question, |provider, at| async move {
            KeyRegistry::new(registry, provider).ceremonyWindow().block(at).call().await
        });
        let mut shortest = window.await?.to::<u64>();
        let filter =
            Filter::new().address(self.deployment().access_manager).event_signature(OperationScheduled::SIGNATURE_HASH);
        for logs in self.logs_of_all(&filter, self.deployment().deployed_block, None).await? {
            let scheduled = logs.iter().filter_map(|log| scheduled_window(log, registry, block.timestamp));
            shortest = scheduled.fold(shortest, u64::min);
        }
        Ok(shortest)
    }

    /// Keys of which the Resharing contract emitted an event after block `after` (all of them, if there is none) and up to `until`, as
    /// any endpoint shows.
    ///
    /// # Errors
    /// That of the endpoint that does not answer.
    pub async fn reshared_keys(&self, after: Option<&BlockId>, until: &BlockId) -> Result<Vec<u64>, ChainError> {
        let from = after.map_or(self.deployment().deployed_block, |block| block.number.saturating_add(1));
        let filter = Filter::new().address(self.deployment().resharing());
        let logs = self.logs_of_all(&filter, from, Some(until.number)).await?;
        let id = |log: &Log| u64::try_from(U256::from_be_bytes(log.topics().get(1)?.0)).ok();
        let mut keys: Vec<u64> = logs.iter().flatten().filter_map(id).collect();
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// A committee from the event that gives its root.
    async fn term(
        &self,
        key: &KeyInfo,
        committee_epoch: u32,
        record: &Resharing::CommitteeRecord,
    ) -> Result<CommitteeTerm, ChainError> {
        let expected = KeyInfo {
            threshold: record.threshold,
            members: record.members,
            commitment: record.leavesRoot,
            ..key.clone()
        };
        let filter = events_naming(self.deployment(), key.id, committee_epoch);
        let found = self.logs_of_all(&filter, self.deployment().deployed_block, None).await?;
        let found = found.iter().map(|logs| {
            let mut reason = no_event(key.id, committee_epoch);
            for event in logs.iter().rev().filter_map(|log| named_in(log, committee_epoch)) {
                match LiveKey::from_event(&expected, &event) {
                    Ok(live) => return Ok(live),
                    Err(error) => reason = error.into(),
                }
            }
            Err(reason)
        });
        let found: Vec<LiveKey> = found.collect::<Result<_, _>>()?;
        let question = format!("which attempt made committee epoch {committee_epoch} of key {}", key.id);
        let attempt = self.same(question, found.iter().map(|live| live.attempt))?;
        let live = found.into_iter().next().ok_or_else(|| no_event(key.id, committee_epoch))?;
        Ok(CommitteeTerm {
            attempt,
            handover: record.handover.to(),
            leaves_root: record.leavesRoot,
            committee: committee_of(self.domain(), committee_epoch, live)?,
        })
    }

    /// The drawn committee from the event that hashes to the commitment.
    async fn drawn(&self, key_id: u64, it: &Resharing::Reshare, block: &BlockId) -> Result<DrawnReshare, ChainError> {
        let filter = Filter::new()
            .address(self.deployment().resharing())
            .event_signature(Resharing::ReshareDrawn::SIGNATURE_HASH)
            .topic1(B256::from(U256::from(key_id)));
        let found = self.logs_of_all(&filter, self.deployment().deployed_block, None).await?;
        let found = found.iter().map(|logs| logs.iter().rev().find_map(|log| draft_in(log, it.commitment)));
        let found: Option<Vec<(Resharing::Draft, u64)>> = found.collect();
        let missing =
            || ChainError::NotFound(format!("no event names the committee that the reshare of key {key_id} drew"));
        let found = found.ok_or_else(missing)?;
        let question = format!("in which block the committee of key {key_id} was drawn");
        let drawn_at = self.same(question, found.iter().map(|(_, block)| *block))?;
        let (draft, _) = found.into_iter().next().ok_or_else(missing)?;
        let nonsense =
            |detail: String| ChainError::Nonsense { action: format!("reading the reshare of key {key_id}"), detail };
        let committee_epoch =
            it.committeeEpoch.checked_add(1).ok_or_else(|| nonsense("the last committee epoch".into()))?;
        let dealers = (1..=16_u8).filter(|index| draft.dealers >> (index - 1) & 1 == 1);
        let dealers: Result<Vec<ShareIndex>, _> = dealers.map(ShareIndex::new).collect();
        Ok(DrawnReshare {
            id: ReshareId { key_id, committee_epoch, attempt: it.attempt },
            threshold: Threshold::new(it.threshold, it.members).map_err(|error| nonsense(error.to_string()))?,
            members: self.members_at(&draft.seats, block).await?,
            dealers: dealers.map_err(|error| nonsense(error.to_string()))?,
            deadline: it.mark.to(),
            handover: it.handover.to(),
            commitment: it.commitment,
            drawn_at,
        })
    }

    async fn members_at(&self, servers: &[u32], block: &BlockId) -> Result<Vec<MemberId>, ChainError> {
        let registry = self.deployment().server_registry;
        let reads = servers.iter().map(|&id| async move {
            let question = format!("the signer of server {id}");
            let server = self.agreed_at(block, question, |provider, at| async move {
                ServerRegistry::new(registry, provider).server(id).block(at).call().await
            });
            let server = ServerInfo::from_contract(id, &server.await?)?
                .ok_or_else(|| ChainError::NotFound(format!("there is no server {id}")))?;
            Ok::<_, ChainError>(MemberId { server_id: id, signer: server.signer })
        });
        try_join_all(reads).await
    }

    /// The logs of `filter` as each endpoint shows them, oldest first; up to the newest block without `until`.
    async fn logs_of_all(&self, filter: &Filter, from: u64, until: Option<u64>) -> Result<Vec<Vec<Log>>, ChainError> {
        try_join_all(self.endpoints().iter().map(|it| logs_between(it.provider(), filter, from, until))).await
    }

    /// What every endpoint says, if they say the same.
    fn same<T: PartialEq + std::fmt::Display>(
        &self,
        question: String,
        answers: impl Iterator<Item = T>,
    ) -> Result<T, ChainError> {
        let mut answers = self.endpoints().iter().map(Endpoint::name).zip(answers);
        let (first, answer) = answers.next().ok_or(ChainError::TooFewEndpoints { configured: 0, needed: 1 })?;
        match answers.find(|(_, other)| *other != answer) {
            None => Ok(answer),
            Some((second, other)) => Err(ChainError::EndpointsDisagree {
                question,
                first: first.to_owned(),
                first_answer: answer.to_string(),
                second: second.to_owned(),
                second_answer: other.to_string(),
            }),
        }
    }

    fn domain(&self) -> ProtocolDomain {
        ProtocolDomain { chain_id: self.deployment().chain_id, key_registry: self.deployment().key_registry }
    }
}

async fn read(
    provider: DynProvider,
    at: At,
    registry: alloy::primitives::Address,
    resharing: alloy::primitives::Address,
    key_id: u64,
) -> Result<State, alloy::contract::Error> {
    let (id, contract) = (U256::from(key_id), Resharing::new(resharing, &provider));
    let key = KeyRegistry::new(registry, &provider).key(id).block(at).call().await?;
    let reshare = contract.reshare(id).block(at).call().await?;
    let newest = contract.newest(id).block(at).call().await?.record;
    // Wraps to a committee that there never is.
    let past = contract.committee(id, reshare.committeeEpoch.wrapping_sub(1)).block(at).call().await?;
    Ok(State { key, reshare, newest, past })
}

/// The events that can name committee `committee_epoch` of the key: `KeyFinalised` of the first, `Reshared` of any other.
#[must_use]
pub fn events_naming(deployment: &Deployment, key_id: u64, committee_epoch: u32) -> Filter {
    let (contract, topic) = match committee_epoch {
        0 => (deployment.key_registry, KeyRegistry::KeyFinalised::SIGNATURE_HASH),
        _ => (deployment.resharing(), Resharing::Reshared::SIGNATURE_HASH),
    };
    Filter::new().address(contract).event_signature(topic).topic1(B256::from(U256::from(key_id)))
}

/// The committee that such an event names, `Reshared` in the form of `KeyFinalised`: both say the same of a committee. Nothing if
/// it names another. To be believed only as far as it leads to the root that the chain holds ([`LiveKey::from_event`]).
#[must_use]
pub fn named_in(log: &Log, committee_epoch: u32) -> Option<KeyRegistry::KeyFinalised> {
    if committee_epoch == 0 {
        return Some(log.log_decode::<KeyRegistry::KeyFinalised>().ok()?.inner.data);
    }
    let event = log.log_decode::<Resharing::Reshared>().ok()?.inner.data;
    (event.committeeEpoch == committee_epoch).then(|| KeyRegistry::KeyFinalised {
        keyId: event.keyId,
        attempt: event.attempt,
        committee: event.committee.servers,
        signers: event.committee.signers,
        points: event.committee.points,
        dealingsDigest: event.dealingsDigest,
        leavesRoot: event.leavesRoot,
    })
}

fn draft_in(log: &Log, commitment: B256) -> Option<(Resharing::Draft, u64)> {
    let event = log.log_decode::<Resharing::ReshareDrawn>().ok()?.inner.data;
    let block = log.block_number?;
    (keccak256(event.draft.abi_encode()) == commitment).then_some((event.draft, block))
}

/// The ceremony window that a scheduled call would set, if it still can at `time` (unix seconds).
fn scheduled_window(log: &Log, registry: alloy::primitives::Address, time: u64) -> Option<u64> {
    let event = log.log_decode::<OperationScheduled>().ok()?.inner.data;
    let can_be_made = event.schedule.to::<u64>().saturating_add(EXPIRATION) >= time;
    let call = KeyRegistry::setCeremonyWindowCall::abi_decode(&event.data).ok()?;
    (event.target == registry && can_be_made).then(|| call.window.to())
}

pub(crate) fn committee_of(domain: ProtocolDomain, epoch: u32, live: LiveKey) -> Result<Committee, ChainError> {
    let id = |member: &Member| MemberId { server_id: member.server_id, signer: member.signer };
    let members = live.members.iter().map(id).collect();
    Committee::new(domain, epoch, live.keys, members)
        .map_err(|error| ChainError::Nonsense { action: "reading a committee".into(), detail: error.to_string() })
}

fn no_event(key_id: u64, committee_epoch: u32) -> ChainError {
    ChainError::NotFound(format!("no event names committee epoch {committee_epoch} of key {key_id}"))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;

    use super::*;
    use crate::reader::Trust;
    use crate::testing::deployment;

    fn scheduled(target: Address, at: u64, data: Vec<u8>) -> Log {
        let event = OperationScheduled {
            operationId: B256::ZERO,
            nonce: 1,
            schedule: alloy::primitives::Uint::from(at),
            caller: Address::ZERO,
            target,
            data: data.into(),
        };
        let inner = alloy::primitives::Log { address: Address::ZERO, data: event.encode_log_data() };
        Log { inner, ..Log::default() }
    }

    #[test]
    fn a_shorter_window_counts_from_when_it_is_scheduled_until_it_can_be_set_no_more() {
        let registry = deployment().key_registry;
        let call = KeyRegistry::setCeremonyWindowCall { window: alloy::primitives::Uint::from(600_u64) }.abi_encode();
        let shown = |log: Log, time| scheduled_window(&log, registry, time);
        let at = 10_000;
        assert_eq!(shown(scheduled(registry, at, call.clone()), at - 5_000), Some(600));
        assert_eq!(shown(scheduled(registry, at, call.clone()), at + EXPIRATION), Some(600));
        assert_eq!(shown(scheduled(registry, at, call.clone()), at + EXPIRATION + 1), None);
        assert_eq!(shown(scheduled(Address::repeat_byte(9), at, call.clone()), at), None, "of another contract");
        assert_eq!(shown(scheduled(registry, at, call[..4].to_vec()), at), None, "no such call");
        assert_eq!(shown(Log::default(), at), None);
    }

    #[tokio::test]
    async fn what_endpoints_do_not_agree_about_is_not_believed() {
        let mut endpoints = Vec::new();
        for url in ["http://127.0.0.1:1", "http://127.0.0.1:2"] {
            endpoints.push(Endpoint::connect(&url.parse().unwrap()).await.unwrap());
        }
        let reader = ChainReader::new(deployment(), endpoints, Trust::TwoEndpoints).unwrap();
        let same = |answers: [u16; 2]| reader.same("which attempt".to_owned(), answers.into_iter());
        assert_eq!(same([3, 3]).unwrap(), 3);
        let error = same([3, 4]).unwrap_err();
        assert!(matches!(&error, ChainError::EndpointsDisagree { .. }), "{error}");
        assert!(error.to_string().contains("which attempt"), "{error}");
    }
}
