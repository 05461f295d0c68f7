//! Whose turn it is: the seat with which this server signs a duty, or why it does not.
//!
//! Of a dealt key there is one committee for ever. Any other key may go from one to the next, and [`stkr_protocol::handover`] says by
//! what finalised blocks show which of them signs what. Nobody's word counts: no request names a committee, and a new member
//! takes no watermark from an old one.

use std::sync::Arc;

use alloy::primitives::Address;
use stkr_chain::KeyCommittees;
use stkr_core::{PublicKey, ShareIndex};
use stkr_duties::ForkSchedule;
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::handover::{Moment, NotServing, View, ViewError};
use stkr_protocol::sign::{Refusal, RefusalKind};

/// A seat in the committee that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Which committee of the key.
    pub committee_epoch: u32,
    /// Index in it.
    pub index: ShareIndex,
    /// Share key of the leaf.
    pub share_key: PublicKey,
    /// Signer of the leaf: what is signed with this seat is signed with its key, whatever signer the registry names by now.
    pub signer: Address,
}

/// This server, as the leaf of a share may name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Us {
    /// Its id, once the registry knows it.
    pub server_id: Option<u32>,
    /// The signers whose keys it holds.
    pub signers: Vec<Address>,
}

impl Us {
    /// By the id as well: of a seat whose signer key is gone the server knows at least that it is its own.
    pub(crate) fn is(&self, member: &MemberId) -> bool {
        self.signers.contains(&member.signer) || self.server_id == Some(member.server_id)
    }
}

/// The committees of a key.
#[derive(Clone, Debug)]
pub enum Committees {
    /// That of a dealt key: its owner's choice, which nobody ever reshares.
    Dealt(Arc<Committee>),
    /// As finalised blocks show them.
    Finalised(Arc<KeyCommittees>),
}

impl Committees {
    /// The seat with which `us` signs at `moment`.
    ///
    /// # Errors
    /// The refusal to answer with: nobody signs it, or another committee does, in which `us` has no seat.
    pub fn seat_at(&self, moment: Moment, schedule: &ForkSchedule, us: &Us) -> Result<Seat, Refusal> {
        match self {
            Self::Dealt(committee) => seat_in(committee, us).ok_or_else(|| not_a_member(committee.epoch())),
            Self::Finalised(it) => {
                let epoch = view_of(it)?.serving(moment, schedule).map_err(|error| not_serving(&error))?;
                self.seat_of(epoch, us)
            }
        }
    }

    /// The same for what is bound to no slot and no epoch, at `now` (unix seconds), for a server that knows no beacon chain.
    ///
    /// # Errors
    /// As [`Self::seat_at`].
    pub fn seat_by_clock(&self, now: u64, us: &Us) -> Result<Seat, Refusal> {
        match self {
            Self::Dealt(committee) => seat_in(committee, us).ok_or_else(|| not_a_member(committee.epoch())),
            Self::Finalised(it) => {
                let undecided = || {
                    let reason = "finalised blocks do not show yet which committee of the key signs at this time";
                    Refusal::unavailable(reason, "Ask again once more blocks are finalised.")
                };
                self.seat_of(view_of(it)?.serving_at(now).ok_or_else(undecided)?, us)
            }
        }
    }

    /// The key that all of them sign for.
    #[must_use]
    pub fn group_key(&self) -> Option<PublicKey> {
        let committee = match self {
            Self::Dealt(committee) => Some(committee.as_ref()),
            Self::Finalised(it) => it.terms.last().map(|term| &term.committee),
        };
        committee.map(|committee| committee.keys().group_key())
    }

    /// The newest seat of `us`.
    #[must_use]
    pub fn newest_seat(&self, us: &Us) -> Option<Seat> {
        match self {
            Self::Dealt(committee) => seat_in(committee, us),
            Self::Finalised(it) => it.terms.iter().rev().find_map(|term| seat_in(&term.committee, us)),
        }
    }

    fn seat_of(&self, committee_epoch: u32, us: &Us) -> Result<Seat, Refusal> {
        let Self::Finalised(it) = self else { return Err(not_a_member(committee_epoch)) };
        let seat = it.committee(committee_epoch).and_then(|committee| seat_in(committee, us));
        seat.ok_or_else(|| match self.newest_seat(us) {
            Some(other) => {
                let (key_id, other) = (it.key.id, other.committee_epoch);
                Refusal::denied(
                    format!(
                        "committee epoch {committee_epoch} of key {key_id} signs this, and this server has a seat in committee \
                         epoch {other} only"
                    ),
                    "Ask the members of the committee whose turn it is, which the Reshared event of the key names.",
                )
            }
            None => not_a_member(committee_epoch),
        })
    }
}

fn view_of(it: &KeyCommittees) -> Result<View, Refusal> {
    it.view().map_err(|error: ViewError| {
        tracing::error!(key_id = it.key.id, error = %error, "the chain shows committees that cannot be");
        Refusal::unavailable(
            format!("the chain shows committees of key {} that cannot be: {error}", it.key.id),
            "Ask again; the operator has to look at its RPC endpoints if it stays.",
        )
    })
}

/// The seat of `us` in this committee.
#[must_use]
pub fn seat_in(committee: &Committee, us: &Us) -> Option<Seat> {
    let mut seats = committee.keys().threshold().indices().zip(committee.members());
    let (index, member) = seats.find(|(_, member)| us.is(member))?;
    let share_key = *committee.keys().share_key(index)?;
    Some(Seat { committee_epoch: committee.epoch(), index, share_key, signer: member.signer })
}

fn not_a_member(committee_epoch: u32) -> Refusal {
    Refusal::new(
        RefusalKind::UnknownKey,
        format!("this server is not in committee epoch {committee_epoch} of the key, which signs this"),
        "Ask the members that the KeyFinalised or Reshared event of the key names.",
    )
}

fn not_serving(error: &NotServing) -> Refusal {
    let (kind, what_to_do) = match error {
        NotServing::Undecided { .. } | NotServing::StaleView { .. } => {
            (RefusalKind::Unavailable, "Ask again once more blocks are finalised.")
        }
        NotServing::SourceTooOld { .. } => {
            (RefusalKind::Denied, "Vote again in the next epoch, once the beacon chain has justified a later one.")
        }
        NotServing::Forgotten(_) | NotServing::Straddles { .. } => {
            (RefusalKind::Denied, "Ask for duties of the present.")
        }
    };
    Refusal::new(kind, error.to_string(), what_to_do)
}

#[cfg(test)]
pub(crate) mod tests {
    use alloy::primitives::B256;
    use stkr_chain::types::{KeyKind, KeyState};
    use stkr_chain::{BlockId, CommitteeTerm, DrawnReshare, KeyInfo};
    use stkr_core::Threshold;
    use stkr_core::testing::TrustedDealer;
    use stkr_protocol::ProtocolDomain;
    use stkr_protocol::handover::HANDOVER_DELAY;
    use stkr_protocol::reshare::ReshareId;

    use super::*;

    /// Seconds of an epoch.
    const EPOCH: u64 = 384;

    /// A committee of these servers, whose signers repeat the number of each.
    pub(crate) fn committee(epoch: u32, dealt: &TrustedDealer, servers: &[u8]) -> Committee {
        let domain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(2) };
        let member = |it: &u8| MemberId { server_id: u32::from(*it), signer: Address::repeat_byte(*it) };
        Committee::new(domain, epoch, dealt.keys.clone(), servers.iter().map(member).collect()).unwrap()
    }

    /// What a finalised block of this time shows of a key with these committees; the first has no handover.
    pub(crate) fn shown(head_time: u64, committees: Vec<(u64, Committee)>) -> KeyCommittees {
        let key = KeyInfo {
            id: 7,
            consumer: Address::repeat_byte(5),
            state: KeyState::Live,
            kind: KeyKind::Validator,
            threshold: 3,
            members: 4,
            attempt: 0,
            mark: 0,
            commitment: B256::ZERO,
        };
        let term = |(handover, committee)| CommitteeTerm { attempt: 0, handover, leaves_root: B256::ZERO, committee };
        let block = BlockId { number: 9, hash: B256::ZERO, parent: B256::ZERO, timestamp: head_time };
        KeyCommittees { block, window: 3_600, key, terms: committees.into_iter().map(term).collect(), drawn: None }
    }

    /// The server whose signer repeats its number; nothing is registered.
    pub(crate) fn us(number: u8) -> Us {
        Us { server_id: None, signers: vec![Address::repeat_byte(number)] }
    }

    fn dealt(seed: u8) -> TrustedDealer {
        TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [seed; 32])
    }

    fn schedule() -> ForkSchedule {
        ForkSchedule::mainnet()
    }

    fn start(epoch: u64) -> u64 {
        schedule().genesis_time() + epoch * EPOCH
    }

    fn at(epoch: u64) -> Moment {
        Moment::at_clock(&schedule(), start(epoch))
    }

    /// Servers 1 to 4 hand over to 1, 2, 3 and 5 at the start of epoch 100.
    fn handed_over(head_epoch: u64) -> Committees {
        let committees =
            vec![(0, committee(0, &dealt(3), &[1, 2, 3, 4])), (start(100), committee(1, &dealt(4), &[5, 2, 3, 1]))];
        Committees::Finalised(Arc::new(shown(start(head_epoch), committees)))
    }

    #[test]
    fn who_left_signs_until_the_handover_who_came_from_then_on_and_who_stayed_with_the_share_of_each() {
        let it = handed_over(99);
        let seat = |epoch, server| {
            let seat = it.seat_at(at(epoch), &schedule(), &us(server));
            seat.map(|seat| (seat.committee_epoch, seat.index.get()))
        };
        assert_eq!((seat(99, 4).unwrap(), seat(100, 5).unwrap()), ((0, 4), (1, 1)));
        assert_eq!((seat(99, 1).unwrap(), seat(100, 1).unwrap()), ((0, 1), (1, 4)));
        for (epoch, server, signs, has) in [(100, 4, 1, 0), (99, 5, 0, 1)] {
            let refusal = seat(epoch, server).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Denied);
            let expected = format!(
                "committee epoch {signs} of key 7 signs this, and this server has a seat in committee epoch {has} only"
            );
            assert_eq!(refusal.reason, expected);
        }
        assert_eq!(seat(99, 9).unwrap_err().kind, RefusalKind::UnknownKey);
        let by_clock = |time, server| it.seat_by_clock(time, &us(server));
        assert_eq!(by_clock(start(100) - 1, 4).unwrap().committee_epoch, 0);
        assert_eq!(by_clock(start(100), 5).unwrap().committee_epoch, 1);
        assert!(by_clock(start(100), 4).is_err() && by_clock(start(100) - 1, 5).is_err());
        assert_eq!(it.newest_seat(&us(4)).unwrap().committee_epoch, 0);
        assert_eq!(it.newest_seat(&us(1)).unwrap().committee_epoch, 1);
    }

    #[test]
    fn while_it_is_open_whether_there_is_a_new_committee_nobody_signs_beyond_the_handover() {
        let mut it = shown(start(90), vec![(0, committee(0, &dealt(3), &[1, 2, 3, 4]))]);
        let id = ReshareId { key_id: 7, committee_epoch: 1, attempt: 0 };
        it.drawn = Some(DrawnReshare {
            id,
            threshold: Threshold::new(3, 4).unwrap(),
            members: Vec::new(),
            dealers: Vec::new(),
            deadline: start(100) - HANDOVER_DELAY,
            handover: start(100),
            commitment: B256::ZERO,
            drawn_at: 1,
        });
        let me = &us(1);
        let refused = |it: &KeyCommittees| {
            let it = Committees::Finalised(Arc::new(it.clone()));
            assert!(it.seat_at(at(99), &schedule(), me).is_ok());
            assert_eq!(it.seat_by_clock(start(100), me).is_err(), it.seat_at(at(100), &schedule(), me).is_err());
            it.seat_at(at(100), &schedule(), me).err()
        };
        let refusal = refused(&it).unwrap();
        assert_eq!(refusal.kind, RefusalKind::Unavailable);
        assert!(refusal.reason.contains("would hand over before epoch 100"), "{}", refusal.reason);
        // It was not finalised: the committee goes on.
        it.block.timestamp = start(100) - HANDOVER_DELAY + 1;
        assert_eq!(refused(&it), None);
    }

    #[test]
    fn blocks_that_are_too_old_show_nothing() {
        let it = handed_over(101);
        let late = start(101) + 3_600 + HANDOVER_DELAY;
        let refusal = it.seat_at(at(120), &schedule(), &us(1)).unwrap_err();
        assert!(refusal.kind == RefusalKind::Unavailable && refusal.reason.contains("finalised blocks end at"));
        assert!(it.seat_by_clock(late, &us(1)).is_err());
        assert!(it.seat_by_clock(late - 1, &us(1)).is_ok());
    }

    #[test]
    fn who_changed_its_signer_has_the_seat_of_each_committee_under_the_signer_of_its_leaf() {
        let of = |servers: &[u8; 4], signer: u8| {
            let members = servers.iter().map(|it| {
                let signer = Address::repeat_byte(if *it == 1 { signer } else { *it });
                MemberId { server_id: u32::from(*it), signer }
            });
            let domain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(2) };
            (domain, members.collect())
        };
        let committee =
            |epoch, seed, (domain, members)| Committee::new(domain, epoch, dealt(seed).keys, members).unwrap();
        let (old, new) = (committee(0, 3, of(&[1, 2, 3, 4], 0xaa)), committee(1, 4, of(&[5, 2, 3, 1], 0xbb)));
        let it = Committees::Finalised(Arc::new(shown(start(100), vec![(0, old), (start(100), new)])));
        let seat = |epoch, us: &Us| {
            let seat = it.seat_at(at(epoch), &schedule(), us).unwrap();
            (seat.committee_epoch, seat.index.get(), seat.signer)
        };
        let both = Us { server_id: None, signers: vec![Address::repeat_byte(0xbb), Address::repeat_byte(0xaa)] };
        // Of which the old key is gone.
        let new_only = Us { server_id: Some(1), signers: vec![Address::repeat_byte(0xbb)] };
        for us in [both, new_only] {
            assert_eq!(seat(99, &us), (0, 1, Address::repeat_byte(0xaa)));
            assert_eq!(seat(100, &us), (1, 4, Address::repeat_byte(0xbb)));
        }
        let stranger = Us { server_id: Some(9), signers: vec![Address::repeat_byte(0xbb)] };
        assert!(it.seat_at(at(99), &schedule(), &stranger).is_err(), "without the old key it is nobody there");
    }

    #[test]
    fn a_dealt_key_has_one_committee_whatever_the_time() {
        let it = Committees::Dealt(Arc::new(committee(0, &dealt(3), &[1, 2, 3, 4])));
        for epoch in [0, 100, 1_000_000] {
            assert_eq!(it.seat_at(at(epoch), &schedule(), &us(2)).unwrap().index.get(), 2);
        }
        assert_eq!(it.seat_by_clock(u64::MAX, &us(2)).unwrap().committee_epoch, 0);
        assert_eq!(it.seat_at(at(1), &schedule(), &us(9)).unwrap_err().kind, RefusalKind::UnknownKey);
    }
}
