//! How far a ceremony has come: round by round, who is waited for, and since when.

use std::collections::BTreeMap;

use stkr_core::ShareIndex;

use super::Board;
use crate::messages::Round;
use crate::posted;

/// Seconds from which on a member that nothing is known against holds a ceremony up.
pub const STALLED_AFTER: u64 = 60;

/// Seconds from which on an offline member does: people carry its files.
pub const OFFLINE_STALLED_AFTER: u64 = 24 * 3600;

/// When whoever carries a ceremony first saw each message, unix seconds. Nobody signs it: it is as good as who says it.
pub type Arrivals = BTreeMap<(Round, ShareIndex), u64>;

/// One round of a ceremony.
pub type RoundProgress = posted::RoundProgress<Round, ShareIndex>;

/// All rounds in order. `begun` is the unix time of the block in which this attempt began.
#[must_use]
pub fn progress(board: &Board, arrivals: &Arrivals, begun: Option<u64>) -> Vec<RoundProgress> {
    // What the contract takes needs no more than these. The chain may have brought them without the rounds before.
    let whole = [Round::Dealing, Round::Acknowledgement].iter().all(|round| board.missing(*round).is_empty());
    let members: Vec<ShareIndex> = board.context().threshold().indices().collect();
    let rounds = Round::ALL.map(|round| (round, members.clone(), board.missing(round)));
    posted::progress(rounds, arrivals, begun, whole)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use stkr_core::Threshold;

    use super::*;
    use crate::ceremony::{Context, MemberId};
    use crate::messages::{Body, DealingCommitmentBody, OneTimeKeyBody, SignedMessage};
    use crate::{ProtocolDomain, SignerKey};

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
    const BEGUN: u64 = 1_000;

    fn index(number: u8) -> ShareIndex {
        ShareIndex::new(number).unwrap()
    }

    /// Four members; what each of `said` says comes at its time.
    fn rounds(said: &[(Round, u8, u64)], begun: Option<u64>) -> Vec<RoundProgress> {
        let signers: Vec<SignerKey> = (1..=4_u8).map(|it| SignerKey::from_bytes(&[it; 32]).unwrap()).collect();
        let members = signers.iter().zip(101_u32..);
        let members = members.map(|(key, server_id)| MemberId { server_id, signer: key.address() }).collect();
        let mut board = Board::new(Context::new(DOMAIN, 9, 0, Threshold::new(3, 4).unwrap(), members).unwrap());
        let mut arrivals = Arrivals::new();
        for (round, member, time) in said {
            let body = match round {
                Round::OneTimeKey => Body::OneTimeKey(OneTimeKeyBody { public_key: vec![2; 33] }),
                _ => Body::DealingCommitment(DealingCommitmentBody { dealing_hash: B256::repeat_byte(*member) }),
            };
            let signer = &signers[usize::from(*member) - 1];
            board.accept(SignedMessage::sign(&DOMAIN, signer, (9, 0, index(*member)), body)).unwrap();
            arrivals.insert((*round, index(*member)), *time);
        }
        progress(&board, &arrivals, begun)
    }

    #[test]
    fn a_member_is_waited_for_since_the_round_before_was_complete_and_in_one_round_only() {
        let keys = |time| [1, 2, 3, 4].map(|member| (Round::OneTimeKey, member, time + u64::from(member)));
        let nobody = rounds(&[], Some(BEGUN));
        assert_eq!((nobody[0].since, nobody[0].missing.len(), nobody[0].current), (Some(BEGUN), 4, true));
        assert!(nobody[1..].iter().all(|round| (round.since, round.current) == (None, false)), "{nobody:?}");

        let mut said = keys(1_100).to_vec();
        said.extend([(Round::DealingCommitment, 1, 1_110), (Round::DealingCommitment, 4, 1_120)]);
        let second = rounds(&said, Some(BEGUN));
        assert_eq!((second[0].since, second[0].complete, second[0].current), (Some(BEGUN), Some(1_104), false));
        let waits = &second[1];
        assert_eq!((waits.since, waits.complete, waits.came), (Some(1_104), None, 2));
        assert_eq!((waits.missing.clone(), waits.current), (vec![index(2), index(3)], true));
        assert_eq!((second[2].since, second[2].current), (None, false), "{second:?}");
    }

    #[test]
    fn a_time_that_nobody_noted_is_not_made_up() {
        let keys: Vec<_> = (1..=4).map(|member| (Round::OneTimeKey, member, 1_100)).collect();
        let unknown_draw = rounds(&keys, None);
        assert_eq!((unknown_draw[0].since, unknown_draw[1].since), (None, None));
        assert!(unknown_draw[1].current);
    }

    #[test]
    fn a_round_never_begins_before_the_ceremony_did() {
        // The clock of whoever carries the messages is behind that of the chain.
        let keys: Vec<_> = (1..=4).map(|member| (Round::OneTimeKey, member, BEGUN - 5)).collect();
        assert_eq!(rounds(&keys, Some(BEGUN))[1].since, Some(BEGUN));
    }
}
