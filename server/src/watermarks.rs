//! What `POST /v1/watermarks` says: how far this server has signed for a validator, so that a person or a gateway
//! can tell from when on somebody else may sign for it.

use stkr_chain::DutyAssignment;
use stkr_core::ShareIndex;
use stkr_node::history::watermark;
use stkr_protection::KeyState;
use stkr_protocol::api::{Serving, Watermarks};

use crate::duty::DutyFacts;

/// What is said of a key of which slashing protection knows `state`, by who holds the share `index`.
pub fn of(
    key_id: u64,
    (facts, index): (&DutyFacts, ShareIndex),
    state: Option<KeyState>,
    assignment: Option<DutyAssignment>,
) -> Watermarks {
    let reason = match state {
        None => Some("slashing protection of this server does not know the key"),
        Some(state) if state.needs_import => Some("the history of the key is in doubt until an import"),
        Some(state) if !state.active => Some("the key is switched off in slashing protection"),
        Some(_) => None,
    };
    Watermarks {
        key_id,
        pubkey: facts.group_key.to_compressed(),
        index,
        may_sign: reason.is_none(),
        reason: reason.map(str::to_owned),
        low: state.map(|state| watermark(state.low)).unwrap_or_default(),
        high: state.map(|state| watermark(state.high)).unwrap_or_default(),
        assignment: assignment.map(|it| Serving { duty_key: it.duty_key, number: it.number }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stkr_core::Threshold;
    use stkr_core::testing::TrustedDealer;
    use stkr_protection::Epochs;
    use stkr_protocol::api::Watermark;

    #[test]
    fn a_history_in_doubt_is_not_passed_off_as_the_whole_of_it() {
        let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
        let index = ShareIndex::new(2).unwrap();
        let facts = DutyFacts { group_key: dealt.keys.group_key(), pays: None, has_events: true, is_dealt: false };
        let epochs = Epochs { source_epoch: 8, target_epoch: 9 };
        let high = stkr_protection::Watermark { slot: Some(300), epochs: Some(epochs) };
        let pubkey = facts.group_key.to_compressed().into();
        let good = KeyState { pubkey, active: true, needs_import: false, low: Default::default(), high };
        let said = of(7, (&facts, index), Some(good), None);
        assert_eq!((said.may_sign, said.reason, said.low), (true, None, Watermark::default()));
        let expected = Watermark { slot: Some(300), source_epoch: Some(8), target_epoch: Some(9) };
        assert_eq!((said.high, said.assignment), (expected, None));
        for state in [None, Some(KeyState { needs_import: true, ..good }), Some(KeyState { active: false, ..good })] {
            let said = of(7, (&facts, index), state, None);
            assert!(!said.may_sign && said.reason.is_some(), "{said:?}");
        }
    }
}
