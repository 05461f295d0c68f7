//! Reshares, by file: this server deals its share, gets one of the new committee, or does both.
//!
//! As with a ceremony, a person compares a block's hash once for each attempt. What that block proved is kept, and all later files of
//! the attempt are held against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use serde::Serialize;
use stkr_chain::facts::ProvenBlock;
use stkr_chain::facts::reshare::{ProvenReshare, ReshareFacts};
use stkr_node::exit::Failure;
use stkr_protocol::api::{ReshareAdvanceResponse, ReshareFailureReport};
use stkr_protocol::offline::from_json;
use stkr_protocol::offline::reshare::{AboutReshare, ReshareAnswerFile, ReshareRequestFile, ToReshare};
use stkr_protocol::reshare::{Board, Plan as Reshare, ReshareMessage, Round, Sender};

use super::erase::Erased;
use super::{
    AnswerArgs, Machine, ReshareLine, compare_block, consent, date, hand_out, proven_line, refused, say, signs_line,
    spoken, whose,
};
use crate::reshare::{self, Attempt, Reshares};
use crate::seal::Sealer;
use crate::store::ConfirmedReshare;

/// A request as this program reads it.
type Asked = ReshareRequestFile<ReshareFacts>;

/// What `show` and `answer` print.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answered {
    key_id: String,
    committee_epoch: String,
    attempt: String,
    /// The block whose hash a person has to compare, or has compared.
    block: ProvenBlock,
    /// Whether a person has compared it.
    confirmed: bool,
    /// What is signed with this answer, round by round.
    signs: Vec<&'static str>,
    /// Shares whose time the block proves to be over.
    erased: Vec<Erased>,
    /// Where this server stands afterwards; nothing from `show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    /// Why no share will come of it, as far as this server saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<ReshareFailureReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<PathBuf>,
}

/// What a request would have this server do.
#[derive(Debug)]
pub(super) struct Plan {
    about: AboutReshare,
    /// As the file proves it, or as one did whose block a person compared before.
    proven: ProvenReshare,
    facts: ReshareFacts,
    is_confirmed: bool,
    reshare: Reshare,
    messages: Vec<ReshareMessage>,
    /// Unix time (seconds) of the newest block that is known here.
    now: u64,
    /// Messages of each round, with those of the request.
    came: BTreeMap<Round, usize>,
    signs: Vec<Round>,
    erased: Vec<Erased>,
    withdrawal_keys: Address,
}

pub(super) fn show(machine: &Machine, file: &Path, text: &[u8]) -> eyre::Result<Answered> {
    let plan = machine.plan_reshare(&read(file, text)?)?;
    say(&plan.summary())?;
    Ok(plan.answered())
}

pub(super) fn answer(machine: &Machine, args: &AnswerArgs, text: &[u8], at_terminal: bool) -> eyre::Result<Answered> {
    let plan = machine.plan_reshare(&read(&args.file, text)?)?;
    say(&plan.summary())?;
    plan.confirm_block(args, at_terminal)?;
    consent(args.yes || plan.signs.is_empty(), at_terminal)?;
    machine.confirm_reshare(&plan)?;
    let response = machine.advance_reshare(&plan)?;
    let (phase, failure) = (response.phase.name(), response.failure.clone());
    let file = machine.sign_reshare_answer(&plan, response)?;
    hand_out(args, &file)?;
    let answer = Some(args.out.clone());
    Ok(Answered { phase: Some(phase), failure, answer, confirmed: true, ..plan.answered() })
}

fn read(file: &Path, text: &[u8]) -> eyre::Result<Asked> {
    Ok(from_json::<ToReshare, _>(text).map_err(|error| refused(file, &error))?)
}

impl Machine {
    /// Checks everything in a request and says what it would have this server sign. Changes nothing.
    pub(super) fn plan_reshare(&self, asked: &Asked) -> Result<Plan, Failure> {
        let (about, domain) = (asked.about, self.deployment.protocol_domain());
        if about.domain() != domain {
            return Err(self.elsewhere(&about.domain()));
        }
        let known = self.store.confirmed_reshares().map_err(Failure::not_safe)?;
        let same = known.iter().find(|it| (it.id, it.draft) == (about.id(), about.draft));
        let (facts, is_confirmed) = match same {
            Some(it) => (serde_json::from_str(&it.facts).map_err(Failure::not_safe)?, true),
            None => (asked.facts.clone(), false),
        };
        let proven = facts.verify(&self.deployment, about.key_id).map_err(Failure::refused)?;
        let (drawn, block) = (&proven.drawn, proven.newest.block);
        if (drawn.id, drawn.commitment) != (about.id(), about.draft) {
            return Err(Failure::refused(format!(
                "the request speaks of {}, and proves {} or another draw of it; fetch it again",
                about.id(),
                drawn.id
            )));
        }
        let blocks = self.store.confirmed_blocks().map_err(Failure::not_safe)?;
        if !is_confirmed {
            Self::check_block(&block, &blocks)?;
        }
        let now = blocks.iter().map(|it| it.timestamp).fold(block.timestamp, u64::max);
        if now > drawn.deadline {
            return Err(Failure::refused(format!(
                "the time for {} was over at {}, and a later block was confirmed here before: nothing comes of it any more; fetch a \
                 new request",
                drawn.id,
                date(drawn.deadline)
            )));
        }
        let reshare = self.reshare_of(&proven)?;
        self.check_part(&reshare, &about)?;
        let stored = self.store.reshare_messages(drawn.id).map_err(Failure::not_safe)?;
        let (came, signs) = due(&reshare, about.server, stored, &asked.messages)?;
        let erased = if is_confirmed { Vec::new() } else { self.over(&proven.newest)? };
        let (messages, withdrawal_keys) = (asked.messages.clone(), self.deployment.withdrawal_keys());
        Ok(Plan { about, proven, facts, is_confirmed, reshare, messages, now, came, signs, erased, withdrawal_keys })
    }

    /// With the signers that the new members had when this server first heard of it.
    fn reshare_of(&self, proven: &ProvenReshare) -> Result<Reshare, Failure> {
        let begun = self.store.reshare(proven.drawn.id).map_err(Failure::not_safe)?;
        let signers = begun.map(|row| row.signers);
        let now = || proven.drawn.members.iter().map(|member| member.signer).collect();
        reshare::plan(attempt(proven), &signers.unwrap_or_else(now)).map_err(Failure::not_safe)
    }

    fn check_part(&self, reshare: &Reshare, about: &AboutReshare) -> Result<(), Failure> {
        let signers = self.keys.signers();
        match reshare::server_id(reshare, signers.us()) {
            Some(id) if id == about.server => Ok(()),
            Some(id) => Err(Failure::refused(format!(
                "the request is for server {}, and this is server {id}; carry it to the other machine",
                about.server
            ))),
            None => Err(Failure::refused(format!(
                "this server (signer {}) has no part in {}; the request is for server {}",
                spoken(&signers),
                reshare.id(),
                about.server
            ))),
        }
    }

    /// Keeps what a person compared, and erases what is over by it.
    fn confirm_reshare(&self, plan: &Plan) -> eyre::Result<()> {
        if !plan.is_confirmed {
            let block = plan.proven.newest.block;
            let facts = serde_json::to_string(&plan.facts)?;
            self.store.confirm_reshare(&ConfirmedReshare {
                id: plan.about.id(),
                draft: plan.about.draft,
                facts,
                block,
            })?;
            self.erase(&plan.proven.newest)?;
        }
        stkr_kill_points::may_end_at("offline.confirmed");
        Ok(())
    }

    fn advance_reshare(&self, plan: &Plan) -> eyre::Result<ReshareAdvanceResponse> {
        let reshares = Reshares {
            store: &self.store,
            signers: &self.keys.signers(),
            sealer: &Sealer::new(&self.keys.store_key),
            store_key: &self.keys.store_key,
        };
        Ok(reshares.advance_attempt(attempt(&plan.proven), plan.messages.clone(), plan.now)?)
    }

    /// As the member that a committee of the reshare names: the new one, where it is in both.
    fn sign_reshare_answer(&self, plan: &Plan, response: ReshareAdvanceResponse) -> eyre::Result<ReshareAnswerFile> {
        let (signers, reshare) = (self.keys.signers(), &plan.reshare);
        let parts = parts(reshare, plan.about.server);
        let signer = parts.into_iter().rev().find_map(|sender| signers.key(reshare.signer(sender)?));
        let signer = signer.ok_or_else(|| Failure::refused("the reshare names a signer whose key is not here"))?;
        Ok(ReshareAnswerFile::sign(plan.about, response, signer)?)
    }
}

/// A reshare in `status`.
pub(super) fn line(machine: &Machine, it: &ConfirmedReshare, proven: &ProvenReshare) -> eyre::Result<ReshareLine> {
    let reshare = machine.reshare_of(proven)?;
    let server = reshare::server_id(&reshare, machine.keys.signers().us());
    let own = server.map(|id| parts(&reshare, id)).unwrap_or_default();
    let messages = machine.store.reshare_messages(it.id)?;
    let shares = machine.store.shares(it.id.key_id)?;
    let made = (it.id.committee_epoch, it.id.attempt);
    Ok(ReshareLine {
        key_id: it.id.key_id.to_string(),
        committee_epoch: it.id.committee_epoch.to_string(),
        attempt: it.id.attempt.to_string(),
        confirmed_in: it.block,
        signed: messages.iter().filter(|it| own.contains(&it.sender())).map(|it| it.round().name()).collect(),
        has_share: shares.iter().any(|share| (share.origin.committee_epoch, share.origin.attempt) == made),
    })
}

fn attempt(proven: &ProvenReshare) -> Attempt<'_> {
    Attempt { old: &proven.old, leaves_root: proven.newest.live.leaves_root, drawn: &proven.drawn }
}

/// As a dealer and as a new member.
fn parts(reshare: &Reshare, server: u32) -> Vec<Sender> {
    let (dealer, member) = (reshare.dealer_of(server), reshare.member_of(server));
    dealer.map(Sender::Dealer).into_iter().chain(member.map(Sender::Member)).collect()
}

/// Messages of each round, and the rounds in which this server would sign now.
fn due(
    reshare: &Reshare,
    server: u32,
    stored: Vec<ReshareMessage>,
    brought: &[ReshareMessage],
) -> Result<(BTreeMap<Round, usize>, Vec<Round>), Failure> {
    let mut board = Board::new(reshare.clone());
    for message in stored {
        board.accept(message).map_err(Failure::not_safe)?;
    }
    let own = parts(reshare, server);
    let mine = |round: Round| reshare.senders(round).into_iter().find(|sender| own.contains(sender));
    let said = |board: &Board, round| mine(round).is_some_and(|sender| board.message(round, sender).is_some());
    let before: Vec<Round> = Round::ALL.into_iter().filter(|round| said(&board, *round)).collect();
    for message in brought {
        // An online server ignores what its caller made up; here a person carries it, and should hear that somebody did.
        board
            .accept(message.clone())
            .map_err(|error| Failure::refused(format!("a message in the request is not authentic: {error}")))?;
    }
    let mut signs = Vec::new();
    for round in Round::ALL {
        if mine(round).is_some() && !before.contains(&round) {
            signs.push(round);
        }
        if board.missing(round).iter().any(|sender| !own.contains(sender)) {
            break;
        }
    }
    let count = |round| reshare.senders(round).len().saturating_sub(board.missing(round).len());
    Ok((Round::ALL.into_iter().map(|round| (round, count(round))).collect(), signs))
}

impl Plan {
    /// What is about to happen, in words.
    fn summary(&self) -> String {
        let (drawn, newest, server) = (&self.proven.drawn, &self.proven.newest, self.about.server);
        let id = drawn.id;
        let list = |ids: Vec<u32>| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let new: Vec<u32> = drawn.members.iter().map(|member| member.server_id).collect();
        let old: Vec<u32> = newest.live.members.iter().map(|member| member.server_id).collect();
        let without = |ids: &[u32], others: &[u32]| ids.iter().copied().filter(|id| !others.contains(id)).collect();
        let (left, came): (Vec<u32>, Vec<u32>) = (without(&old, &new), without(&new, &old));
        let dealing = newest.live.members.iter().filter(|member| drawn.dealers.contains(&member.index));
        let mut lines = vec![format!(
            "Reshare of withdrawal key {} to committee {} (attempt {}): the key stays what it is, {} of {} new shares sign.",
            id.key_id,
            id.committee_epoch,
            id.attempt,
            drawn.threshold.t(),
            drawn.threshold.n(),
        )];
        lines.push(match (self.reshare.dealer_of(server), self.reshare.member_of(server)) {
            (Some(dealer), Some(member)) => format!(
                "You (server {server}) deal the share of old member {}, and get that of new member {}.",
                dealer.get(),
                member.get()
            ),
            (Some(dealer), None) => format!(
                "You (server {server}) deal the share of old member {}, and have NO SEAT in the new committee.",
                dealer.get()
            ),
            (None, Some(member)) => {
                format!("You (server {server}) get the share of new member {}, and do not deal.", member.get())
            }
            (None, None) => format!("You (server {server}) have no part in it."),
        });
        lines.push(format!("Chain {}, KeyRegistry {}.", self.about.chain_id, self.about.key_registry));
        lines.push(format!(
            "The key was asked for by {}, {}.",
            newest.key.consumer,
            whose(newest.key.consumer == self.withdrawal_keys)
        ));
        lines.push(format!(
            "Committee {} that hands over, servers in index order: {}.",
            newest.committee_epoch,
            list(old)
        ));
        lines.push(format!("Those who deal: {}.", list(dealing.map(|member| member.server_id).collect())));
        lines.push(format!("New committee, servers in index order: {}.", list(new)));
        for (ids, what) in [(left, "lose their seat"), (came, "come new")] {
            if !ids.is_empty() {
                lines.push(format!("Servers that {what}: {}.", list(ids)));
            }
        }
        lines.push(format!(
            "It must be finished by {}; the new committee signs from {} on, and until then the old one.",
            date(drawn.deadline),
            date(drawn.handover)
        ));
        let counts =
            self.came.iter().map(|(round, came)| format!("{came} of {} {round}", self.reshare.senders(*round).len()));
        lines.push(format!("Messages so far: {}.", counts.collect::<Vec<_>>().join(", ")));
        lines.extend(self.erased.iter().map(Erased::said));
        lines.extend([signs_line(&self.signs), proven_line(&newest.block, self.is_confirmed)]);
        lines.join("\n")
    }

    fn answered(&self) -> Answered {
        let id = self.about.id();
        Answered {
            key_id: id.key_id.to_string(),
            committee_epoch: id.committee_epoch.to_string(),
            attempt: id.attempt.to_string(),
            block: self.proven.newest.block,
            confirmed: self.is_confirmed,
            signs: self.signs.iter().map(|round| round.name()).collect(),
            erased: self.erased.clone(),
            phase: None,
            failure: None,
            answer: None,
        }
    }

    fn confirm_block(&self, args: &AnswerArgs, at_terminal: bool) -> eyre::Result<()> {
        if args.block.is_none() && self.is_confirmed {
            return Ok(());
        }
        compare_block(&self.proven.newest.block, args.block, at_terminal)
    }
}

#[cfg(test)]
mod tests;
