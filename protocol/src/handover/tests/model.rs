//! Servers with views of different ages, finality that fails and comes back, whoever carries the transaction that finalises holding
//! it back for as long as it likes, and a provider that asks for conflicting votes. No server is malicious.
//!
//! The same model with rules that look as good must find two slashable signatures: else it would prove nothing of ours.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::dice::Dice;

/// Runs; each is made again from its number alone.
const SEEDS: u64 = 120;
/// Epochs of one run. Genesis is far behind.
const FROM: u64 = 1_000;
const EPOCHS: u64 = 90;
const REQUESTS: u64 = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// Ours.
    Documented,
    /// The new committee signs above the highest target that those old members tell whom it asks; the old one stops where it sees
    /// the transaction in the newest block that it knows.
    Watermark,
    /// H is named, but the transaction may come at any time, and the old committee stops where it sees it in the newest block.
    StopAtTransaction,
}

#[derive(Clone, Copy)]
struct Attempt {
    committee_epoch: u32,
    attempt: u16,
    drawn: u64,
    plan: Drawn,
    included: Option<u64>,
}

struct Chain {
    window: u64,
    attempts: Vec<Attempt>,
    /// From when until when nothing is finalised.
    outage: (u64, u64),
}

impl Chain {
    /// Whoever carries the transaction holds it back until any second that the rule allows, or for ever.
    fn new(rule: Rule, dice: &mut Dice) -> Self {
        let window = [600, 1_500, 4_000][usize::try_from(dice.roll(3)).unwrap()];
        let mut attempts = Vec::new();
        let (mut time, mut committee_epoch, mut attempt) = (start(FROM + dice.between(6, 12)), 1, 0);
        while time < start(FROM + EPOCHS - 35) {
            let deadline = time + window;
            let plan = Drawn { deadline, handover: deadline + HANDOVER_DELAY };
            let latest = if rule == Rule::StopAtTransaction { plan.handover + 3 * EPOCH } else { deadline };
            let included = match dice.roll(4) {
                0 => None,
                1 => Some(latest),
                _ => Some(dice.between(time + 12, latest)),
            };
            attempts.push(Attempt { committee_epoch, attempt, drawn: time, plan, included });
            match included {
                Some(included) => {
                    (committee_epoch, attempt) = (committee_epoch + 1, 0);
                    time = included.max(plan.handover) + dice.between(12, 8 * EPOCH);
                }
                None => {
                    attempt += 1;
                    time = deadline + dice.between(12, 2 * EPOCH);
                }
            }
        }
        // Any time, or while a draw is final and its end is not: what is final then shows nothing of a transaction that may be there.
        let around: Attempt = attempts[dice.pick(attempts.len())];
        let outage = match dice.roll(2) {
            0 => (start(FROM + dice.between(5, 30)), dice.roll(25) * EPOCH),
            _ => (around.drawn + 3 * EPOCH + dice.roll(window), HANDOVER_DELAY + dice.roll(window)),
        };
        Self { window, attempts, outage: (outage.0, outage.0 + outage.1) }
    }

    /// What blocks up to `head_time` show.
    fn view(&self, head_time: u64) -> View {
        let (mut terms, mut drawn) = (vec![FIRST], None);
        for it in self.attempts.iter().filter(|it| it.drawn <= head_time) {
            drawn = Some(it.plan);
            if it.included.is_some_and(|included| included <= head_time) {
                let Attempt { committee_epoch, attempt, plan, .. } = *it;
                terms.push(Term { committee_epoch, attempt, handover: plan.handover });
                drawn = None;
            }
        }
        View::new(head_time, self.window, terms, drawn).unwrap()
    }

    fn finalised(&self, now: u64) -> u64 {
        let (begins, ends) = self.outage;
        let seen = if (begins..ends).contains(&now) { begins } else { now };
        start(first_epoch_from(seen, &schedule()) - 3)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Vote {
    source: u64,
    target: u64,
    root: u64,
}

impl Vote {
    fn conflicts(&self, other: &Self) -> bool {
        let surrounds = |outer: &Self, inner: &Self| outer.source < inner.source && inner.target < outer.target;
        self != other && (self.target == other.target || surrounds(self, other) || surrounds(other, self))
    }
}

struct Server {
    /// Slashing protection: written before the partial leaves, and all that survives a crash.
    signed: Vec<Vote>,
    /// From when until when its node shows it nothing new.
    stalled: (u64, u64),
    /// By committee epoch: what it was told to sign above.
    watermarks: BTreeMap<u32, u64>,
}

impl Server {
    fn new(dice: &mut Dice) -> Self {
        let begins = start(FROM + dice.roll(EPOCHS));
        let length = if dice.roll(3) == 0 { dice.roll(30) * EPOCH } else { 0 };
        Self { signed: Vec::new(), stalled: (begins, begins + length), watermarks: BTreeMap::new() }
    }

    fn sees(&self, now: u64) -> u64 {
        let (begins, ends) = self.stalled;
        if (begins..ends).contains(&now) { begins } else { now }
    }
}

struct Model {
    rule: Rule,
    chain: Chain,
    /// By committee epoch: t and the servers.
    committees: Vec<(usize, Vec<usize>)>,
    servers: Vec<Server>,
    partials: BTreeMap<(u32, Vote), BTreeSet<usize>>,
    signatures: Vec<(u32, Vote)>,
    dice: Dice,
}

impl Model {
    fn new(rule: Rule, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let chain = Chain::new(rule, &mut dice);
        let (t, n) = [(2, 3), (3, 4), (4, 5), (5, 7)][dice.pick(4)];
        let mut servers: Vec<_> = (0..n).map(|_| Server::new(&mut dice)).collect();
        let mut committees = vec![(t, (0..n).collect::<Vec<_>>())];
        let last = chain.attempts.iter().filter(|it| it.included.is_some()).count();
        while committees.len() <= last {
            let mut members = committees[committees.len() - 1].1.clone();
            for seat in &mut members {
                // From a refresh to a committee of others only.
                if dice.roll(3) != 0 {
                    *seat = servers.len();
                    servers.push(Server::new(&mut dice));
                }
            }
            committees.push((t, members));
        }
        Self { rule, chain, committees, servers, partials: BTreeMap::new(), signatures: Vec::new(), dice }
    }

    /// As which committee a server signs a vote, if it may.
    fn serves(&mut self, server: usize, vote: Vote, now: u64) -> Option<u32> {
        let seen = self.servers[server].sees(now);
        // A node behind by some slots more, differently at each request: a server that restarts may read an older state.
        let lag = self.dice.roll(40) * 12;
        let finalised = self.chain.finalised(seen.saturating_sub(lag));
        let view = self.chain.view(finalised);
        if self.rule == Rule::Documented {
            return view.serving(super::vote(vote.source, vote.target), &schedule()).ok();
        }
        let latest = self.chain.view(seen.saturating_sub(self.dice.roll(3) * 12));
        let (newest, final_newest) = (*latest.terms.last().unwrap(), *view.terms.last().unwrap());
        let handover = first_epoch_from(final_newest.handover, &schedule());
        // Once it is a member of the newest committee that is final, and of no later one that it sees.
        let holds = |epoch: u32| self.committees[usize::try_from(epoch).unwrap()].1.contains(&server);
        match self.rule {
            Rule::Watermark if newest != final_newest => None,
            Rule::Watermark => {
                let epoch = final_newest.committee_epoch;
                (holds(epoch) && vote.target > self.watermark(server, epoch)).then_some(epoch)
            }
            _ if final_newest.committee_epoch > 0 && vote.target >= handover && vote.source + 2 >= handover => {
                Some(final_newest.committee_epoch)
            }
            _ if newest.committee_epoch == 0 || vote.target < first_epoch_from(newest.handover, &schedule()) => {
                Some(newest.committee_epoch.saturating_sub(1))
            }
            _ => None,
        }
    }

    /// The highest target that a majority of the committee before tells: as many as sign together, any of them.
    fn watermark(&mut self, server: usize, epoch: u32) -> u64 {
        if epoch == 0 {
            return 0;
        }
        if let Some(told) = self.servers[server].watermarks.get(&epoch) {
            return *told;
        }
        let (t, mut members) = self.committees[usize::try_from(epoch - 1).unwrap()].clone();
        while members.len() > t {
            let out = self.dice.pick(members.len());
            members.remove(out);
        }
        let targets = members.iter().flat_map(|member| &self.servers[*member].signed).map(|vote| vote.target);
        let told = targets.max().unwrap_or(0);
        self.servers[server].watermarks.insert(epoch, told);
        told
    }

    fn ask(&mut self, server: usize, vote: Vote, now: u64) {
        let Some(epoch) = self.serves(server, vote, now) else { return };
        let (t, members) = self.committees[usize::try_from(epoch).unwrap()].clone();
        let protection = &mut self.servers[server].signed;
        if !members.contains(&server) || protection.iter().any(|signed| signed.conflicts(&vote)) {
            return;
        }
        if !protection.contains(&vote) {
            protection.push(vote);
        }
        // Killed after the record and before the partial left.
        if self.dice.roll(12) == 0 {
            return;
        }
        let partials = self.partials.entry((epoch, vote)).or_default();
        if partials.insert(server) && partials.len() == t {
            self.signatures.push((epoch, vote));
        }
    }

    fn run(&mut self) {
        for epoch in FROM + 5..FROM + EPOCHS {
            for _ in 0..REQUESTS {
                let now = start(epoch) + self.dice.roll(EPOCH);
                let target = epoch - self.dice.roll(5);
                let vote = Vote { source: target - self.dice.between(1, 4), target, root: self.dice.roll(2) };
                let mut servers: Vec<usize> = (0..self.servers.len()).collect();
                while !servers.is_empty() {
                    let next = self.dice.pick(servers.len());
                    let server = servers.swap_remove(next);
                    if self.dice.roll(5) != 0 {
                        self.ask(server, vote, now);
                    }
                }
            }
        }
    }

    fn conflict(&self) -> Option<[(u32, Vote); 2]> {
        let pairs = self.signatures.iter().enumerate();
        let mut pairs = pairs.flat_map(|(at, one)| self.signatures[..at].iter().map(move |other| [*other, *one]));
        pairs.find(|[one, other]| one.1.conflicts(&other.1))
    }
}

#[test]
fn no_two_slashable_signatures_come_together_and_one_committee_can_sign_once_finality_is_back() {
    let (mut by_first, mut by_later, mut failed) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut model = Model::new(Rule::Documented, seed);
        model.run();
        assert_eq!(model.conflict(), None, "seed {seed}");
        let later = model.signatures.iter().filter(|(epoch, _)| *epoch > 0).count();
        by_first += model.signatures.len() - later;
        by_later += later;
        failed += model.chain.attempts.iter().filter(|it| it.included.is_none()).count();
        // Long after the last draw, with blocks final again and every node up: all members of one committee sign.
        let end = FROM + EPOCHS + 60;
        let expected = u32::try_from(model.committees.len() - 1).unwrap();
        let view = model.chain.view(model.chain.finalised(start(end)));
        assert_eq!(view.serving(vote(end - 1, end), &schedule()), Ok(expected), "seed {seed}");
    }
    assert!(by_first > 1_000 && by_later > 4_000 && failed > 100, "{by_first} {by_later} {failed}");
}

#[test]
fn the_same_adversary_gets_slashable_signatures_out_of_rules_that_look_as_good() {
    for rule in [Rule::Watermark, Rule::StopAtTransaction] {
        let broken = (0..SEEDS).filter(|seed| {
            let mut model = Model::new(rule, *seed);
            model.run();
            model.conflict().is_some()
        });
        let broken = broken.count();
        assert!(broken > 10, "{rule:?}: {broken} of {SEEDS} runs, so the model could not tell a good rule from it");
    }
}
