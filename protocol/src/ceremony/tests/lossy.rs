//! A bulletin that loses, doubles and reorders, and servers that crash at any point between making, storing and sending.

use super::*;
use crate::dice::Dice;

/// Runs of the simulation. Each is made again from its number alone, but for the cryptography's own randomness.
const SEEDS: u64 = 12;
/// Turns of the longest run before the bulletin becomes fair: enough for some to get to their end in spite of it.
const TURNS: u64 = 160;

/// What was ever sent, and what became of the servers.
#[derive(Default)]
struct Run {
    sent: Vec<SignedMessage>,
    crashes: usize,
    /// Own messages that were signed and died with the process that had not stored them.
    unsent: usize,
    /// Messages of others that were taken and died the same way.
    forgotten: usize,
}

impl Run {
    /// Some of what was ever sent, in any order, some of it twice.
    fn some(&self, dice: &mut Dice) -> Vec<SignedMessage> {
        let count = dice.pick(12);
        let mut some: Vec<_> =
            (0..count).filter_map(|_| self.sent.get(dice.pick(self.sent.len().max(1)))).cloned().collect();
        if dice.pick(3) == 0 {
            some.extend_from_within(..);
        }
        some
    }

    /// One server's turn: it is told something, does what it can, and may die at any point.
    fn turn(&mut self, server: &mut Server, dice: &mut Dice) {
        let before = server.stored.len();
        server.take(self.some(dice));
        let step = server.try_step();
        match dice.pick(8) {
            // Died before it stored what it had signed; nobody has seen that. Some of what it was told is gone as well.
            0 => {
                let kept = before + dice.pick(server.stored.len() - before + 1);
                self.unsent += step.new_messages.len();
                self.forgotten += server.stored.len() - kept;
                self.crashes += 1;
                server.stored.truncate(kept);
                return server.crash();
            }
            // Died between storing and sending.
            1 => {
                server.store(step);
                self.crashes += 1;
                return server.crash();
            }
            _ => server.store(step),
        }
        if dice.pick(4) != 0 {
            self.sent.extend(server.member.published().into_iter().cloned());
        }
    }

    fn has_all(&self, round: Round) -> bool {
        (1..=N).all(|i| self.sent.iter().any(|message| message.round() == round && message.index == index(i)))
    }
}

#[test]
fn whatever_the_bulletin_loses_and_whoever_crashes_nobody_says_two_things_and_all_end_with_one_key() {
    let mut total = Run::default();
    let mut revealed_late = 0;
    for seed in 1..=SEEDS {
        let mut dice = Dice::new(seed);
        let (mut servers, mut run) = (servers(), Run::default());
        for _ in 0..dice.between(20, TURNS) {
            let server = dice.pick(servers.len());
            run.turn(&mut servers[server], &mut dice);
            // The first dealing is out only when every signature on the set of commitments is.
            if run.sent.iter().any(|message| message.round() == Round::Dealing) {
                assert!(run.has_all(Round::CommitmentSet), "seed {seed}: revealed before everybody was bound");
                revealed_late += 1;
            }
        }
        // From here on the bulletin is fair.
        let mut board = Board::new(context());
        for message in std::mem::take(&mut run.sent) {
            assert_ne!(board.accept(message).unwrap(), Accepted::Evidence, "seed {seed}");
        }
        relay(&mut servers, &mut board);
        assert_eq!(board.equivocation().map(|(who, _)| who), None, "seed {seed}");
        let transcript = Transcript::assemble(&board).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_signs(&servers, &transcript);
        total.crashes += run.crashes;
        total.unsent += run.unsent;
        total.forgotten += run.forgotten;
    }
    let Run { crashes, unsent, forgotten, .. } = total;
    assert!(
        crashes > 50 && unsent > 10 && forgotten > 10 && revealed_late > 0,
        "{crashes} crashes, {unsent} messages made and {forgotten} taken and never stored, {revealed_late} turns after a reveal"
    );
}

/// A member is gone from each of the rounds on, another one each time; the others wait for it by name and have no key.
#[test]
fn a_member_that_vanishes_in_any_round_is_waited_for_by_name_and_nothing_is_half_done() {
    let phases = [
        (Round::OneTimeKey, Phase::OneTimeKey),
        (Round::DealingCommitment, Phase::Commitment),
        (Round::CommitmentSet, Phase::CommitmentSet),
        (Round::Dealing, Phase::Dealing),
    ];
    for (gone, (round, phase)) in (1..=N).zip(phases) {
        let (mut servers, mut board) = (servers(), Board::new(context()));
        let mut vanished = servers.remove(usize::from(gone) - 1);
        // One more time than there are rounds: what it said before this one gets through, and nothing later.
        for _ in 0..=Round::ALL.len() {
            relay(&mut servers, &mut board);
            let all: Vec<_> = board.messages().cloned().collect();
            for message in vanished.advance(all).into_iter().filter(|message| message.round() < round) {
                board.accept(message).unwrap();
            }
        }
        for server in &servers {
            assert_eq!(
                (server.member.phase(), server.member.waiting_for()),
                (phase, vec![index(gone)]),
                "{gone} in {round}"
            );
            assert!(server.outcome.is_none() && server.member.failure().is_none());
        }
        assert!(matches!(Transcript::assemble(&board), Err(TranscriptError::Missing { .. })));
        // It comes back, and nothing was lost.
        servers.insert(usize::from(gone) - 1, vanished);
        relay(&mut servers, &mut board);
        assert_signs(&servers, &Transcript::assemble(&board).unwrap());
    }
}
