//! Where the ceremony of a key stands, and who holds it up.
//!
//! What the chain says is believed, and what members signed: each message of a relayer's bulletin is checked against the signers that
//! the chain names, so a relayer can hide messages and make up none. When a message came, and why one did not, is the relayer's word
//! alone ([`Waited`]): it sends operators to look, and nothing else follows from it.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::{
    primitives::{Address, B256},
    providers::Provider,
    sol_types::SolEvent,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stkr_chain::{
    bindings::KeyRegistry,
    types::{KeyState, ServerStatus},
};
use stkr_core::{ShareIndex, Threshold};
use stkr_protocol::{
    ceremony::{Accepted, Arrivals, Board, Context, MemberId, RoundProgress, STALLED_AFTER, progress},
    evidence::Proof,
    messages::{Round, SignedMessage},
};
use url::Url;

use crate::{
    bulletin::{self, Bulletin, Hearsay},
    client::Stkr,
    error::{StkrError, rpc},
    keys::KeyInfo,
    servers::{PARALLEL, ServerInfo},
};

/// Where a ceremony stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The key was asked for and has no committee yet.
    Requested,
    /// It goes on.
    Running,
    /// Somebody holds it up.
    Stalled,
    /// No key comes of this attempt.
    Failed,
    /// The key is there.
    Done,
}

impl Standing {
    /// Name for people; the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// A block of the chain and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// Number.
    pub block: u64,
    /// Unix time, seconds.
    pub time: u64,
}

/// A member of the committee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seat {
    /// Share index.
    pub member: u8,
    /// Its server.
    pub server_id: u32,
    /// Account that runs it.
    pub operator: Address,
    /// As registered.
    pub endpoint: String,
    /// Whether it can take part: Active and not locked out. The contract finalises no key with a member that is not.
    pub may_take_part: bool,
}

/// A member whose message a round lacks. All but who it is is the relayer's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waited {
    /// Who, and who runs it.
    #[serde(flatten)]
    pub seat: Seat,
    /// One word for what is known to be wrong; nothing if nothing is.
    pub trouble: Option<String>,
    /// One sentence on what happened when it was last asked.
    pub why: String,
    /// What its operator should check.
    pub check: String,
    /// What the server says itself keeps it from being of use.
    pub unready: Vec<String>,
}

/// One round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CeremonyRound {
    /// Its name in docs/protocol.md.
    pub round: &'static str,
    /// Unix time (seconds) from which its messages are waited for, as far as that is known: the chain's for the first round, the
    /// relayer's for the others.
    pub since: Option<u64>,
    /// Unix time (seconds) at which its last message came.
    pub complete: Option<u64>,
    /// Messages that came, each signed by its member.
    pub came: usize,
    /// Who is waited for now.
    pub waiting_for: Vec<Waited>,
}

/// A ceremony.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CeremonyInfo {
    /// Key.
    pub key_id: u64,
    /// Ceremony number of the key, from 0.
    pub attempt: u16,
    /// Shares that sign.
    pub threshold: u8,
    /// Shares that exist.
    pub members: u8,
    /// The key's state on the chain.
    pub key_state: KeyState,
    /// Where the ceremony stands.
    pub state: Standing,
    /// Why, and what follows; one sentence.
    pub why: String,
    /// When this attempt began: with the draw, or with a restart of the same committee.
    pub begun: Option<Moment>,
    /// Unix time (seconds) until which a drawn key can be finalised.
    pub deadline: Option<u64>,
    /// When the key became live.
    pub finalised: Option<Moment>,
    /// The committee, in index order; empty before the draw.
    pub committee: Vec<Seat>,
    /// All rounds in order; empty where no relayer was asked or has anything.
    pub rounds: Vec<CeremonyRound>,
    /// Host of the relayer that was asked.
    pub relayer: Option<String>,
}

/// Reads of ceremonies.
#[derive(Clone, Copy, Debug)]
pub struct Ceremonies<'a, P>(pub(crate) &'a Stkr<P>);

/// A committee, with the signers that count.
struct Committee {
    servers: Vec<ServerInfo>,
    signers: Vec<Address>,
}

impl<P: Provider> Ceremonies<'_, P> {
    /// The last ceremony of a key: what the chain says, and what the relayer at `relayer` carried of it, if one is given.
    ///
    /// # Errors
    /// [`StkrError::NotFound`]; [`StkrError::NotReady`] where the relayer gives nothing usable; [`StkrError::Unsafe`] for a committee
    /// that can be none; [`StkrError::Rpc`].
    pub async fn get(&self, key_id: u64, relayer: Option<&Url>) -> Result<CeremonyInfo, StkrError> {
        let key = self.0.keys().get(key_id).await?;
        let finalised = self.0.keys().last::<KeyRegistry::KeyFinalised>(key_id).await?;
        let committee = self.committee(&key, finalised.map(|event| event.signers)).await?;
        let carried = match relayer.filter(|_| !key.committee.is_empty()) {
            Some(relayer) => bulletin::find(relayer, key_id, key.attempt).await?,
            None => None,
        };
        let (begun, ended) = self.moments(key_id).await?;
        let mut info = CeremonyInfo {
            key_id,
            attempt: key.attempt,
            threshold: key.threshold,
            members: key.members,
            key_state: key.state,
            state: Standing::Running,
            why: String::new(),
            begun: begun.filter(|_| !key.committee.is_empty()),
            deadline: (key.state == KeyState::Drawn).then_some(key.mark),
            finalised: ended,
            committee: seats(&committee.servers),
            rounds: Vec::new(),
            relayer: relayer.map(bulletin::shown),
        };
        let fault = match &carried {
            Some(carried) => self.rounds(&mut info, committee.signers, carried)?,
            None => None,
        };
        let now = self.0.challenges().now().await?.timestamp;
        (info.state, info.why) = judge(&info, (&key, now), fault, carried.as_ref());
        Ok(info)
    }

    async fn committee(&self, key: &KeyInfo, signers: Option<Vec<Address>>) -> Result<Committee, StkrError> {
        let rooms = self.0.servers();
        let servers = stream::iter(key.committee.clone()).map(|id| rooms.get(id)).buffered(PARALLEL);
        let servers: Vec<ServerInfo> = servers.try_collect().await?;
        // A live key keeps those that acknowledged it; a running ceremony is finalised with those of now.
        let signers = signers.unwrap_or_else(|| servers.iter().map(|server| server.signer).collect());
        Ok(Committee { servers, signers })
    }

    /// Fills in the rounds; what the members' own messages prove against one of them, in words.
    fn rounds(
        &self,
        info: &mut CeremonyInfo,
        signers: Vec<Address>,
        carried: &Bulletin<SignedMessage>,
    ) -> Result<Option<String>, StkrError> {
        let bad = |error: String| StkrError::Unsafe {
            reason: format!("the committee of key {} is none: {error}", info.key_id),
        };
        let threshold = Threshold::new(info.threshold, info.members).map_err(|error| bad(error.to_string()))?;
        let members = info.committee.iter().zip(signers);
        let members = members.map(|(seat, signer)| MemberId { server_id: seat.server_id, signer }).collect();
        let domain = self.0.deployment().protocol_domain();
        let context = Context::new(domain, info.key_id, info.attempt, threshold, members);
        let (mut board, mut arrivals) = (Board::new(context.map_err(|error| bad(error.to_string()))?), Arrivals::new());
        for (message, received) in carried.arrived() {
            let of = (message.round(), message.index);
            // What its sender did not sign counts for nothing, whoever carried it.
            if matches!(board.accept(message), Ok(Accepted::New))
                && let Some(received) = received
            {
                arrivals.insert(of, received);
            }
        }
        let fault = board.fault().and_then(|proof| in_words(&board, &proof));
        let hearsay = carried.hearsay();
        let lines = progress(&board, &arrivals, info.begun.map(|begun| begun.time));
        info.rounds = lines.into_iter().map(|line| round(&info.committee, line, &hearsay)).collect();
        Ok(fault)
    }

    /// When the last attempt began, and when the key became live.
    async fn moments(&self, key_id: u64) -> Result<(Option<Moment>, Option<Moment>), StkrError> {
        let began = [KeyRegistry::CommitteeDrawn::SIGNATURE_HASH, KeyRegistry::CeremonyRestarted::SIGNATURE_HASH];
        let begun = self.moment(key_id, began.to_vec()).await?;
        Ok((begun, self.moment(key_id, vec![KeyRegistry::KeyFinalised::SIGNATURE_HASH]).await?))
    }

    /// Block of the last such event of the key.
    async fn moment(&self, key_id: u64, events: Vec<B256>) -> Result<Option<Moment>, StkrError> {
        let logs = self.0.keys().logs(key_id, events).await?;
        let Some(block) = logs.last().and_then(|log| log.block_number) else { return Ok(None) };
        let header = self.0.provider().get_block(block.into()).await.map_err(rpc("reading when a ceremony began"))?;
        Ok(header.map(|found| Moment { block, time: found.header.timestamp }))
    }
}

pub(crate) fn seats(servers: &[ServerInfo]) -> Vec<Seat> {
    let seat = |(member, server): (u8, &ServerInfo)| Seat {
        member,
        server_id: server.id,
        operator: server.operator,
        endpoint: server.endpoint.clone(),
        may_take_part: server.status == ServerStatus::Active && !server.locked_out,
    };
    (1..).zip(servers).map(seat).collect()
}

fn round(committee: &[Seat], line: RoundProgress, hearsay: &BTreeMap<u32, Hearsay>) -> CeremonyRound {
    let RoundProgress { round, since, complete, came, missing, current } = line;
    let seat = |index: &ShareIndex| committee.get(index.position());
    let waited = |seat: &Seat| {
        let said = hearsay.get(&seat.server_id).filter(|said| said.round == round.name()).cloned();
        let said = said.unwrap_or_else(|| Hearsay::nothing(round.name()));
        let Hearsay { trouble, why, check, unready, .. } = said;
        Waited { seat: seat.clone(), trouble, why, check, unready }
    };
    let waiting_for = match current {
        true => missing.iter().filter_map(seat).map(waited).collect(),
        false => Vec::new(),
    };
    CeremonyRound { round: round.name(), since, complete, came, waiting_for }
}

/// The fault that anybody can see in the messages of the members, and whose it is.
fn in_words(board: &Board, proof: &Proof) -> Option<String> {
    let (index, what) = match proof {
        Proof::CeremonyEquivocation(it)
            if it.second.round() == Round::Dealing && it.first.round() != Round::Dealing =>
        {
            (it.second.index, "revealed another dealing than it had committed to".to_owned())
        }
        Proof::CeremonyEquivocation(it) => {
            (it.first.index, format!("signed two different {} messages", it.first.round()))
        }
        Proof::MalformedDealing(it) => {
            let index = ShareIndex::new(it.dealing.index).ok()?;
            (index, format!("made a malformed dealing, with {}", it.defect))
        }
        _ => return None,
    };
    let server = board.context().member(index)?.server_id;
    Some(format!("server {server} (member {}) {what}", index.get()))
}

/// Where it stands, and why.
fn judge(
    info: &CeremonyInfo,
    (key, now): (&KeyInfo, u64),
    fault: Option<String>,
    carried: Option<&Bulletin<SignedMessage>>,
) -> (Standing, String) {
    let again = "the ceremony starts again after its deadline";
    match key.state {
        KeyState::Requested => {
            let why = format!("its committee is drawn by the seed of block {}; anyone may send the draw", key.mark);
            return (Standing::Requested, why);
        }
        KeyState::Drawn => {}
        _ if info.finalised.is_some() => {
            return (Standing::Done, format!("the key was finalised and is {}", key.state));
        }
        state => return (Standing::Failed, format!("the key is {state} and never was live")),
    }
    if let Some(fault) = fault {
        return (Standing::Failed, format!("{fault}; {again}"));
    }
    if now > key.mark {
        let why = format!("its time ran out; anyone may start it again (stkr key restart {})", info.key_id);
        return (Standing::Failed, why);
    }
    if let Some(failure) = carried.and_then(Bulletin::failure) {
        return (Standing::Failed, format!("the relayer says: {failure}"));
    }
    let out: Vec<String> = info.committee.iter().filter(|seat| !seat.may_take_part).map(named).collect();
    if !out.is_empty() {
        let why = format!(
            "{} may not take part (locked out or not Active), so the contract finalises nothing; {again}",
            out.join(", ")
        );
        return (Standing::Stalled, why);
    }
    let Some(waits) = info.rounds.iter().find(|round| !round.waiting_for.is_empty()) else {
        let why = match info.rounds.is_empty() {
            true => "who is waited for only a relayer knows: give one with --relayer",
            false => "every message is there; anyone may finalise the key, as relayers do",
        };
        return (Standing::Running, why.to_owned());
    };
    let who: Vec<String> = waits.waiting_for.iter().map(|it| named(&it.seat)).collect();
    let why = format!("round {} waits for {}", waits.round, who.join(", "));
    let troubled = waits.waiting_for.iter().any(|it| it.trouble.is_some());
    let local = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let late = waits.since.is_some_and(|since| local.saturating_sub(since) >= STALLED_AFTER);
    (if troubled || late { Standing::Stalled } else { Standing::Running }, why)
}

fn named(seat: &Seat) -> String {
    format!("server {} (member {})", seat.server_id, seat.member)
}
