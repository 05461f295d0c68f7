//! What a relayer carried of a reshare that is drawn: which server is waited for, in which round, since when, and what to check.
//!
//! As with ceremonies, each message of the relayer's bulletin is checked against the signers that the chain names. When a message came,
//! and why one did not, is the relayer's word alone.

use alloy::{primitives::U256, providers::Provider, rpc::types::Log, sol_types::SolEvent as _};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stkr_chain::{bindings::Resharing, types::ReshareState};
use stkr_core::{CommitteeKeys, PublicKey, ShareIndex, Threshold};
use stkr_protocol::{
    ceremony::MemberId,
    collection::Committee,
    reshare::{
        Accepted, Arrivals, Board, Plan, ReshareId, ReshareMessage, RoundProgress, Sender, evidence::Proof, progress,
    },
};
use url::Url;

use super::{Reshares, dealers};
use crate::{
    bulletin::{self, Bulletin, Hearsay},
    ceremonies::{Seat, Waited, seats},
    client::Stkr,
    error::{StkrError, call, rpc},
    servers::{PARALLEL, ServerInfo},
};

/// Bytes of a point.
const POINT: usize = 128;

/// A reshare that is drawn, as the messages show that its servers signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CarriedReshare {
    /// Number of the committee that is being made.
    pub committee_epoch: u32,
    /// Number of the attempt.
    pub attempt: u16,
    /// Host of the relayer that was asked.
    pub relayer: String,
    /// Unix time (seconds) of the draw.
    pub begun: Option<u64>,
    /// The fault that anybody can see in the messages, and whose it is; or what the relayer calls one.
    pub fault: Option<String>,
    /// All rounds in order; empty where the relayer has nothing.
    pub rounds: Vec<ReshareRound>,
}

/// One round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReshareRound {
    /// Its name in docs/protocol.md.
    pub round: &'static str,
    /// Unix time (seconds) from which its messages are waited for, as far as that is known: the chain's for the first round, the
    /// relayer's for the others.
    pub since: Option<u64>,
    /// Unix time (seconds) at which its last message came.
    pub complete: Option<u64>,
    /// Messages that came, each signed by its sender.
    pub came: usize,
    /// Messages that there must be.
    pub of: usize,
    /// Who is waited for now.
    pub waiting_for: Vec<WaitedPart>,
}

/// A server whose message a round lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitedPart {
    /// `dealer`, then `member` is its index in the committee that hands over; or `member`, of the new committee.
    pub role: &'static str,
    /// Who, why, and what its operator should check.
    #[serde(flatten)]
    pub waited: Waited,
}

/// The two committees of a drawn reshare, with what the operators should know of their members.
struct Parts {
    plan: Plan,
    old: Vec<Seat>,
    new: Vec<Seat>,
}

impl<P: Provider> Reshares<'_, P> {
    /// What the relayer at `relayer` carried of the reshare of the key; nothing while none is drawn.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] where the relayer gives nothing usable; [`StkrError::Unsafe`] for committees that can be none;
    /// [`StkrError::Rpc`].
    pub async fn carried(&self, key_id: u64, relayer: &Url) -> Result<Option<CarriedReshare>, StkrError> {
        let it = self.read(key_id).await?;
        if it.state != ReshareState::Drawn as u8 {
            return Ok(None);
        }
        let id = ReshareId { key_id, committee_epoch: it.committeeEpoch.saturating_add(1), attempt: it.attempt };
        let mut carried = CarriedReshare {
            committee_epoch: id.committee_epoch,
            attempt: id.attempt,
            relayer: bulletin::shown(relayer),
            begun: self.drawn_at(key_id).await?,
            fault: None,
            rounds: Vec::new(),
        };
        if let Some(found) = bulletin::find_reshare(relayer, id).await? {
            let parts = self.parts(id, &it).await?;
            fill(&mut carried, &parts, &found);
        }
        Ok(Some(carried))
    }

    async fn parts(&self, id: ReshareId, it: &Resharing::Reshare) -> Result<Parts, StkrError> {
        let bad = |error: String| StkrError::Unsafe {
            reason: format!("the committees of the reshare of key {} are none: {error}", id.key_id),
        };
        let draft = self.pending(id.key_id, it).await?.draft;
        let serving = self.committee(id.key_id, it.committeeEpoch).await?;
        let record = self.contract().newest(U256::from(id.key_id)).call().await;
        let record = record.map_err(call("reading the committee"))?.record;
        let threshold = Threshold::new(record.threshold, record.members).map_err(|error| bad(error.to_string()))?;
        let points = serving.points.chunks_exact(POINT).map(PublicKey::from_eip2537);
        let mut points: Vec<PublicKey> = points.collect::<Result<_, _>>().map_err(|error| bad(error.to_string()))?;
        let group_key = points.pop().ok_or_else(|| bad("no points".to_owned()))?;
        let keys = CommitteeKeys::new(threshold, group_key, points).map_err(|error| bad(error.to_string()))?;
        let members = serving.servers.iter().zip(&serving.signers);
        let members = members.map(|(server_id, signer)| MemberId { server_id: *server_id, signer: *signer }).collect();
        let domain = self.0.deployment().protocol_domain();
        let old = Committee::new(domain, it.committeeEpoch, keys, members).map_err(|error| bad(error.to_string()))?;
        let (was, will) = (self.servers(&serving.servers).await?, self.servers(&draft.seats).await?);
        let new = will.iter().map(|server| MemberId { server_id: server.id, signer: server.signer }).collect();
        let dealing: Result<Vec<ShareIndex>, _> = dealers(draft.dealers).map(ShareIndex::new).collect();
        let dealing = dealing.map_err(|error| bad(error.to_string()))?;
        let next = Threshold::new(it.threshold, it.members).map_err(|error| bad(error.to_string()))?;
        let plan = Plan::new(id, old, dealing, (next, new), it.mark.to()).map_err(|error| bad(error.to_string()))?;
        Ok(Parts { plan, old: seats(&was), new: seats(&will) })
    }

    async fn servers(&self, ids: &[u32]) -> Result<Vec<ServerInfo>, StkrError> {
        let rooms = self.0.servers();
        stream::iter(ids.to_vec()).map(|id| rooms.get(id)).buffered(PARALLEL).try_collect().await
    }

    /// Unix time (seconds) of the last draw.
    async fn drawn_at(&self, key_id: u64) -> Result<Option<u64>, StkrError> {
        let logs: Vec<Log> = self.logs(key_id, vec![Resharing::ReshareDrawn::SIGNATURE_HASH]).await?;
        let Some(block) = logs.last().and_then(|log| log.block_number) else { return Ok(None) };
        let stkr: &Stkr<P> = self.0;
        let header = stkr.provider().get_block(block.into()).await.map_err(rpc("reading when a reshare was drawn"))?;
        Ok(header.map(|found| found.header.timestamp))
    }
}

fn fill(carried: &mut CarriedReshare, parts: &Parts, found: &Bulletin<ReshareMessage>) {
    let (mut board, mut arrivals) = (Board::new(parts.plan.clone()), Arrivals::new());
    for (message, received) in found.arrived() {
        let of = (message.round(), message.sender());
        // What its sender did not sign counts for nothing, whoever carried it.
        if matches!(board.accept(message), Ok(Accepted::New)) {
            arrivals.extend(received.map(|time| (of, time)));
        }
    }
    carried.fault = board.fault().and_then(|proof| in_words(parts, &proof)).or_else(|| found.failure());
    let lines = progress(&board, &arrivals, carried.begun).into_iter();
    carried.rounds = lines.map(|line| round(parts, line, found)).collect();
}

fn round(parts: &Parts, line: RoundProgress, found: &Bulletin<ReshareMessage>) -> ReshareRound {
    let hearsay = found.hearsay();
    let RoundProgress { round, since, complete, came, missing, current } = line;
    let waited = |sender: &Sender| {
        let (role, seat) = parts.seat(*sender)?;
        let said = hearsay.get(&seat.server_id).filter(|said| said.round == round.name()).cloned();
        let said = said.unwrap_or_else(|| Hearsay::nothing(round.name()));
        let Hearsay { trouble, why, check, unready, .. } = said;
        Some(WaitedPart { role, waited: Waited { seat: seat.clone(), trouble, why, check, unready } })
    };
    let of = parts.plan.senders(round).len();
    let waiting_for = missing.iter().filter(|_| current).filter_map(waited).collect();
    ReshareRound { round: round.name(), since, complete, came, of, waiting_for }
}

impl Parts {
    fn seat(&self, sender: Sender) -> Option<(&'static str, &Seat)> {
        match sender {
            Sender::Dealer(index) => Some(("dealer", self.old.get(index.position())?)),
            Sender::Member(index) => Some(("member", self.new.get(index.position())?)),
        }
    }
}

/// The fault that anybody can see in the messages, and whose it is.
fn in_words(parts: &Parts, proof: &Proof) -> Option<String> {
    let (sender, what) = match proof {
        Proof::ReshareEquivocation(it) => {
            (it.first.sender(), format!("signed two different {} messages", it.first.round()))
        }
        Proof::MalformedReshareDealing(it) => {
            (it.dealing.sender(), format!("made a malformed dealing, with {}", it.defect))
        }
        Proof::BadReshareDealing(_) => return None,
    };
    let (_, seat) = parts.seat(sender)?;
    Some(format!("server {} ({sender}) {what}", seat.server_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_serialise_with_role_and_seat_side_by_side() {
        let seat = Seat {
            member: 4,
            server_id: 104,
            operator: alloy::primitives::Address::ZERO,
            endpoint: "https://h:1".to_owned(),
            may_take_part: true,
        };
        let (trouble, unready) = (Some("refused".to_owned()), Vec::new());
        let waited = Waited { seat, trouble, why: "w".to_owned(), check: "c".to_owned(), unready };
        let json = serde_json::to_value(WaitedPart { role: "dealer", waited }).unwrap();
        assert_eq!((&json["role"], &json["serverId"], &json["check"]), (&"dealer".into(), &104.into(), &"c".into()));
    }
}
