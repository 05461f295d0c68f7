//! How far a reshare has come: round by round, who is waited for, and since when.

use std::collections::BTreeMap;

use super::{Board, Round, Sender};
use crate::posted;

/// When whoever carries a reshare first saw each message, unix seconds. Nobody signs it: it is as good as who says it.
pub type Arrivals = BTreeMap<(Round, Sender), u64>;

/// One round of a reshare.
pub type RoundProgress = posted::RoundProgress<Round, Sender>;

/// All rounds in order. `begun` is the unix time of the block in which this attempt was drawn.
#[must_use]
pub fn progress(board: &Board, arrivals: &Arrivals, begun: Option<u64>) -> Vec<RoundProgress> {
    let rounds = Round::ALL.map(|round| (round, board.plan().senders(round), board.missing(round)));
    posted::progress(rounds, arrivals, begun, false)
}
