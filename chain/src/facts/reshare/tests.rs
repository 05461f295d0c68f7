use alloy::primitives::U256;

use super::super::committee::tests::{COMMITTEES, HANDOVER, KEY, LIVE, NEVER, Words, is_bad_proof, live, signer};
use super::*;
use crate::testing::{Anvil, deployment};

/// Server 8 takes the seat of server 6.
const SEATS: [u32; 4] = COMMITTEES[1];
/// Members 1, 2 and 4.
const DEALERS: u16 = 0b1011;

fn draft() -> B256 {
    let draft = Resharing::Draft { seats: SEATS.to_vec(), fresh: 0b100, dealers: DEALERS, activeSetHash: B256::ZERO };
    keccak256(draft.abi_encode())
}

fn drawn() -> Words {
    Words { state: ReshareState::Drawn, deadline: NEVER, draft: draft(), ..LIVE }
}

async fn facts(words: &Words) -> (Anvil, Result<ReshareFacts, ChainError>) {
    let anvil = words.chain(&SEATS).await;
    let mut shown = words.shown(&anvil).await;
    shown.drawn = Some(DrawnReshare {
        id: ReshareId { key_id: KEY, committee_epoch: words.epoch + 1, attempt: 2 },
        threshold: Threshold::new(3, 4).unwrap(),
        members: SEATS.map(|server_id| MemberId { server_id, signer: signer(server_id) }).to_vec(),
        dealers: dealers(DEALERS),
        deadline: words.deadline,
        handover: NEVER,
        commitment: words.draft,
        drawn_at: 1,
    });
    let facts = fetch(&anvil.provider, &deployment(), &shown).await;
    (anvil, facts)
}

#[tokio::test]
async fn facts_prove_who_deals_to_whom_and_until_when_and_nothing_in_them_can_be_changed() {
    let (_anvil, facts) = facts(&drawn()).await;
    let good: ReshareFacts = serde_json::from_str(&serde_json::to_string(&facts.unwrap()).unwrap()).unwrap();
    let proven = good.verify(&deployment(), KEY).unwrap();
    let it = &proven.drawn;
    assert_eq!(
        (it.id, it.deadline, it.handover),
        (ReshareId { key_id: KEY, committee_epoch: 1, attempt: 2 }, NEVER, NEVER)
    );
    assert_eq!((it.threshold.t(), it.threshold.n(), it.commitment), (3, 4, draft()));
    assert_eq!(it.dealers.iter().map(|index| index.get()).collect::<Vec<_>>(), [1, 2, 4]);
    let members: Vec<_> = it.members.iter().map(|member| (member.server_id, member.signer)).collect();
    assert_eq!(members, SEATS.map(|id| (id, signer(id))));
    assert_eq!((proven.old.epoch(), proven.old.keys().group_key()), (0, live(0).keys.group_key()));

    let bad = |change: &dyn Fn(&mut ReshareFacts)| {
        let mut facts = good.clone();
        change(&mut facts);
        facts.verify(&deployment(), KEY)
    };
    let other_draft = |result| matches!(result, Err(FactsError::WrongDraft { key_id: KEY }));
    let leaves = |result| matches!(result, Err(FactsError::WrongLeaves { .. }));
    // Who is left out, put in, moved or made a dealer.
    assert!(other_draft(bad(&|it| it.seats[2] = 6)));
    assert!(other_draft(bad(&|it| it.seats.swap(0, 1))));
    assert!(other_draft(bad(&|it| it.seats.truncate(it.seats.len() - 1))));
    assert!(other_draft(bad(&|it| it.seats = vec![3; 40])));
    for bit in 0..16 {
        assert!(other_draft(bad(&|it| it.dealers ^= 1 << bit)), "bit {bit}");
    }
    assert!(leaves(bad(&|it| it.committee[2] = 8)));
    assert!(leaves(bad(&|it| it.signers[0] = Address::ZERO)));
    assert!(leaves(bad(&|it| it.points = live(1).points())));
    // Deadline, handover, attempt and epoch lie in one word, the hash of the draft in the next.
    for slot in 0..2 {
        assert!(is_bad_proof(&bad(&|it| it.resharing.storage_proof[slot].value += U256::from(1))), "slot {slot}");
        assert!(is_bad_proof(&bad(&|it| it.resharing.storage_proof[slot].value = U256::ZERO)), "slot {slot}");
    }
    for position in 0..4 {
        assert!(is_bad_proof(&bad(&|it| it.server_registry.storage_proof[position].value += U256::from(1))));
    }
    assert!(is_bad_proof(&bad(&|it| it.server_registry = it.resharing.clone())));
    assert!(is_bad_proof(&bad(&|it| it.resharing.nonce += 1)));
    assert!(is_bad_proof(&good.verify(&deployment(), KEY + 1)));
}

#[tokio::test]
async fn the_committee_that_hands_over_is_the_newest_whichever_it_is() {
    let words = Words { epoch: 1, handover: HANDOVER, ..drawn() };
    // All members of committee 1 keep their seat.
    let same = Resharing::Draft { seats: SEATS.to_vec(), fresh: 0, dealers: DEALERS, activeSetHash: B256::ZERO };
    let (_anvil, facts) = facts(&Words { draft: keccak256(same.abi_encode()), ..words }).await;
    let facts = facts.unwrap();
    let proven = facts.verify(&deployment(), KEY).unwrap();
    assert_eq!((proven.old.epoch(), proven.drawn.id.committee_epoch, proven.newest.handover), (1, 2, HANDOVER));
    let mut old = facts;
    (old.committee, old.points) = (COMMITTEES[0].to_vec(), live(0).points());
    old.signers = COMMITTEES[0].map(signer).to_vec();
    assert!(matches!(old.verify(&deployment(), KEY), Err(FactsError::WrongLeaves { .. })), "the first committee");
}

#[tokio::test]
async fn only_a_reshare_that_is_drawn_and_not_over_of_a_live_withdrawal_key_is_one() {
    let good = drawn();
    let cases = [
        (Words { state: ReshareState::Requested, ..good }, "the reshare of key 7 is Requested"),
        (Words { state: ReshareState::None, ..good }, "the reshare of key 7 is None"),
        (Words { deadline: 1, ..good }, "the time for the reshare of key 7 is over"),
        (Words { key: KeyState::Retired, ..good }, "reshares of Live withdrawal keys only"),
        (Words { kind: KeyKind::Validator, ..good }, "reshares of Live withdrawal keys only"),
        (Words { draft: B256::repeat_byte(1), ..good }, "are not those that the chain committed to"),
    ];
    for (words, reason) in cases {
        let (_anvil, facts) = facts(&words).await;
        let error = facts.unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}
