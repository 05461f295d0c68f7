//! Which trouble with a member is worth a warning.
//!
//! A server whose finalised block is one behind this relayer's does not know yet what it is asked for, says so, and signs a moment
//! later. That happens with every order and is nobody's fault; who says it again and again has an endpoint that stands still.

use std::collections::BTreeMap;

use stkr_core::ShareIndex;
use stkr_node::collector::{MemberTrouble, Trouble};
use stkr_protocol::sign::RefusalKind;

/// Rounds in a row in which a member may put its answer off: with the pauses between them more than half a minute.
const ROUNDS: u32 = 12;

/// How loud a trouble is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was told before.
    No,
    /// It will most likely pass.
    Debug,
    /// A person should know.
    Warning,
}

/// What each member of a collection said so far.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Rounds in a row in which it asked for another moment.
    put_off: BTreeMap<ShareIndex, u32>,
    /// The last other trouble.
    last: BTreeMap<ShareIndex, Trouble>,
}

impl Patience {
    /// Takes in the trouble with a member after a round.
    pub(crate) fn hear(&mut self, of: &MemberTrouble) -> Told {
        if let Trouble::Refused(refusal) = &of.trouble
            && refusal.kind == RefusalKind::Unavailable
        {
            self.last.remove(&of.index);
            let rounds = self.put_off.entry(of.index).or_default();
            *rounds = rounds.saturating_add(1);
            return match *rounds {
                1 => Told::Debug,
                ROUNDS => Told::Warning,
                _ => Told::No,
            };
        }
        self.put_off.remove(&of.index);
        let before = self.last.insert(of.index, of.trouble.clone());
        if before.as_ref() == Some(&of.trouble) { Told::No } else { Told::Warning }
    }
}

#[cfg(test)]
mod tests {
    use stkr_protocol::sign::Refusal;

    use super::*;

    fn refused(kind: RefusalKind, reason: &str) -> MemberTrouble {
        let trouble = Trouble::Refused(Refusal::new(kind, reason, "Ask again."));
        MemberTrouble { index: ShareIndex::new(2).unwrap(), server_id: 42, trouble }
    }

    #[test]
    fn a_server_that_is_a_block_behind_is_warned_of_only_if_it_stays_so() {
        let mut patience = Patience::default();
        // The block that it names is another one each time.
        let told: Vec<Told> = (0..2 * ROUNDS)
            .map(|round| patience.hear(&refused(RefusalKind::Unavailable, &format!("it is at block {round}"))))
            .collect();
        assert_eq!(told[0], Told::Debug);
        let warned: Vec<usize> = (0..told.len()).filter(|round| told[*round] == Told::Warning).collect();
        assert_eq!(warned, [ROUNDS as usize - 1], "once");
    }

    #[test]
    fn what_waiting_does_not_cure_is_warned_of_at_once_and_whenever_it_changes() {
        let mut patience = Patience::default();
        let unordered = refused(RefusalKind::Denied, "the chain never ordered it");
        assert_eq!(patience.hear(&unordered), Told::Warning);
        assert_eq!(patience.hear(&unordered), Told::No);
        assert_eq!(patience.hear(&refused(RefusalKind::Unavailable, "not yet")), Told::Debug);
        assert_eq!(patience.hear(&unordered), Told::Warning, "it is back");
        let wrong = MemberTrouble { trouble: Trouble::Wrong, ..unordered };
        assert_eq!(patience.hear(&wrong), Told::Warning);
        // Another member's moment is its own.
        let other =
            MemberTrouble { index: ShareIndex::new(3).unwrap(), ..refused(RefusalKind::Unavailable, "not yet") };
        assert_eq!(patience.hear(&other), Told::Debug);
    }
}
