//! A bulletin that loses, doubles and reorders, and servers that crash at any point between making, storing and sending.

use super::*;
use crate::dice::Dice;

/// Runs of the simulation. Each is made again from its number alone, but for the cryptography's own randomness.
const SEEDS: u64 = 24;

/// Some of what was ever sent, in any order, some of it twice.
fn some_of(sent: &[ReshareMessage], dice: &mut Dice) -> Vec<ReshareMessage> {
    let mut some: Vec<_> = (0..dice.pick(8)).filter_map(|_| sent.get(dice.pick(sent.len().max(1)))).cloned().collect();
    if dice.pick(3) == 0 {
        some.extend_from_within(..);
    }
    some
}

struct Run {
    sent: Vec<ReshareMessage>,
    crashes: usize,
    unsent: usize,
}

/// One server's turn: it is told something, does what it can, and may die at any point.
fn turn(server: &mut Server, run: &mut Run, dice: &mut Dice) {
    server.take(some_of(&run.sent, dice));
    let step = server.try_step(NOW).unwrap();
    match dice.pick(8) {
        // Died before it stored: nobody has seen what it made.
        0 => {
            run.unsent += step.new_messages.len();
            run.crashes += 1;
            server.crash();
            return;
        }
        // Died between storing and sending.
        1 => {
            server.store(step);
            run.crashes += 1;
            server.crash();
            return;
        }
        _ => server.store(step),
    }
    if dice.pick(4) != 0 {
        run.sent.extend(server.part.published().into_iter().cloned());
    }
}

#[test]
fn whatever_the_bulletin_loses_and_whoever_crashes_nobody_says_two_things_and_all_end_with_one_key() {
    let (mut crashes, mut unsent) = (0, 0);
    for seed in 0..SEEDS {
        let mut dice = Dice::new(seed + 1);
        let world = World::usual();
        let mut servers = world.servers();
        let mut run = Run { sent: Vec::new(), crashes: 0, unsent: 0 };
        for _ in 0..60 {
            let server = dice.pick(servers.len());
            turn(&mut servers[server], &mut run, &mut dice);
        }
        // From here on the bulletin is fair.
        let mut board = Board::new(world.plan.clone());
        for message in run.sent {
            assert_ne!(board.accept(message).unwrap(), Accepted::Evidence, "seed {seed}");
        }
        relay(&mut servers, &mut board);
        assert_eq!(board.equivocation().map(|(who, _)| who), None, "seed {seed}");
        assert!(servers.iter().all(|server| server.part.failure().is_none()), "seed {seed}");
        assert_same_key(&world, &servers, &board);
        crashes += run.crashes;
        unsent += run.unsent;
    }
    assert!(crashes > 100 && unsent > 20, "{crashes} crashes, {unsent} messages made and never stored");
}

/// Each server in turn is taken away in each round; the others wait for it by name and give no share of another key.
#[test]
fn a_server_that_vanishes_is_waited_for_by_name_and_nothing_is_half_done() {
    let world = World::usual();
    for (gone, phase) in [(105, Phase::Keys), (104, Phase::Dealings), (103, Phase::Keys)] {
        let mut servers = world.servers();
        servers.retain(|server| server.id != gone);
        let mut board = Board::new(world.plan.clone());
        relay(&mut servers, &mut board);
        let seat = world.plan.member_of(gone).map_or(Sender::Dealer(index(4)), Sender::Member);
        for server in servers.iter().filter(|server| world.plan.member_of(server.id).is_some()) {
            assert_eq!((server.part.phase(), server.part.waiting_for()), (phase, vec![seat]), "without {gone}");
            assert!(server.outcome.is_none());
        }
        assert!(matches!(Transcript::assemble(&board), Err(TranscriptError::Missing { .. })));
    }
}
