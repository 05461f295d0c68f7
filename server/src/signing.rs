//! Deciding whether to sign a deposit, and signing it.
//!
//! The decision ([`judge`]) is a pure function of the request and of [`Facts`] that this server read
//! from the chain itself; nothing in the request is believed. A deposit goes out at most once per key: the database
//! holds the answer before it leaves, and gives the same one again.

use alloy::primitives::{Address, B256};
use stkr_chain::types::KeyState;
use stkr_core::keystore::{Keystore, StoreKey};
use stkr_core::{PublicKey, SecretShare, ShareIndex};
use stkr_duties::{DepositMessage, ForkSchedule};
use stkr_protocol::handover::Moment;
use stkr_protocol::sign::{DepositRequest, Refusal, RefusalKind, SignedPartial, Subject};
use stkr_protocol::{ProtocolDomain, SignerKey};

use crate::serving::{Committees, Seat, Us};
use crate::store::{DepositRow, ShareRow, Store, StoreError};

/// The one deposit that a pool ever asks its key for: 1 ETH. Everything else follows as a top-up, which nobody signs.
pub const PREDEPOSIT_GWEI: u64 = 1_000_000_000;

/// What the chain says about a key whose deposit is to be signed.
#[derive(Clone, Debug)]
pub struct Facts {
    /// State of the key, latest.
    pub state: KeyState,
    /// Contract that asked for the key.
    pub consumer: Address,
    /// The pools contract of the deployment this server is configured for.
    pub micropools: Address,
    /// Group key, checked against the leaves root on-chain.
    pub group_key: PublicKey,
    /// Who signs for it.
    pub committees: Committees,
    /// The pool's withdrawal credentials: 0x01 to the vault derived here from the pool id, or those of the withdrawal key that the
    /// pool was opened with, as all endpoints say at their finalized block.
    pub credentials: B256,
    /// Pinned genesis fork version.
    pub genesis_fork_version: [u8; 4],
    /// Whether every endpoint says, at its finalized block, that the root was ordered.
    pub ordered: bool,
}

/// Whether this deposit may be signed, and with which seat: that which `us` have in the committee whose turn it is at `now` (unix
/// seconds), by the epochs of the beacon chain if it is known.
///
/// # Errors
/// The refusal to answer with.
pub fn judge(
    request: &DepositRequest,
    facts: &Facts,
    us: &Us,
    (schedule, now): (Option<&ForkSchedule>, u64),
) -> Result<Seat, Refusal> {
    let key_id = request.key_id;
    if facts.state != KeyState::Live {
        return Err(Refusal::denied(
            format!("key {key_id} is {} on the chain, not Live", facts.state),
            "Ask for keys that are Live only.",
        ));
    }
    let seat = match schedule {
        Some(schedule) => facts.committees.seat_at(Moment::at_clock(schedule, now), schedule, us)?,
        None => facts.committees.seat_by_clock(now, us)?,
    };
    if facts.consumer != facts.micropools {
        return Err(Refusal::denied(
            format!("key {key_id} belongs to {}, which is not the pools contract {}", facts.consumer, facts.micropools),
            "Nothing can be done: this server signs deposits for its pools contract only.",
        ));
    }
    let expected = DepositMessage {
        pubkey: facts.group_key.to_compressed(),
        withdrawal_credentials: facts.credentials,
        amount_gwei: PREDEPOSIT_GWEI,
    };
    compare(request, &expected, facts.genesis_fork_version)?;
    let root = request.checked_signing_root()?;
    if !facts.ordered {
        return Err(Refusal::unavailable(
            format!("the chain has not ordered signing root {root} for key {key_id} at its finalized block"),
            "Order the deposit in the pools contract if that was not done yet, wait until the order is finalized, then ask again.",
        ));
    }
    Ok(seat)
}

fn compare(request: &DepositRequest, expected: &DepositMessage, fork: [u8; 4]) -> Result<(), Refusal> {
    let given = request.deposit;
    let differs = |field: &str, given: String, expected: String| {
        Refusal::denied(
            format!("the deposit's {field} is {given}, but for this key it must be {expected}"),
            "Ask for exactly the deposit that the DepositOrdered event of the pool names.",
        )
    };
    let bytes = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
    if given.pubkey != expected.pubkey {
        return Err(differs("pubkey", bytes(&given.pubkey), bytes(&expected.pubkey)));
    }
    if given.withdrawal_credentials != expected.withdrawal_credentials {
        let (given, expected) = (given.withdrawal_credentials, expected.withdrawal_credentials);
        return Err(differs("withdrawal_credentials", given.to_string(), expected.to_string()));
    }
    if given.amount != expected.amount_gwei {
        return Err(differs("amount", given.amount.to_string(), expected.amount_gwei.to_string()));
    }
    if given.genesis_fork_version != fork {
        return Err(differs("genesis_fork_version", bytes(&given.genesis_fork_version), bytes(&fork)));
    }
    Ok(())
}

/// Partial signature and envelope for a request that was judged good.
pub fn answer(
    subject: &Subject,
    share: &SecretShare,
    domain: &ProtocolDomain,
    signer: &SignerKey,
    committee_epoch: u32,
) -> SignedPartial {
    let partial = share.sign(&subject.signing_root().0);
    SignedPartial::new(subject, domain, signer, committee_epoch, &partial)
}

/// The stored share of a seat, opened; share times G is checked against the leaf.
///
/// # Errors
/// Unknown key if no ceremony stored it, unavailable if it does not open.
pub fn open_share(
    rows: &[ShareRow],
    key_id: u64,
    (index, share_key): (ShareIndex, PublicKey),
    store_key: &StoreKey,
) -> Result<SecretShare, Refusal> {
    let stored = rows.iter().find(|row| row.index == index && row.share_key == share_key.to_compressed());
    let Some(row) = stored else {
        return Err(Refusal::new(
            RefusalKind::UnknownKey,
            format!("this server sits in the committee of key {key_id}, but its database holds no share of it"),
            "The operator has to restore the database; the other members can go on without this server.",
        ));
    };
    Keystore::from_json(&row.keystore).and_then(|keystore| store_key.open_share(&keystore, index, &share_key)).map_err(
        |error| {
            tracing::error!(key_id, error = %error, "stored share does not open");
            Refusal::unavailable(
                format!("the stored share of key {key_id} does not open"),
                "The operator has to look at the logs: store key or database are not the right ones.",
            )
        },
    )
}

/// Whether this server has a share of the key at all. A member without one cannot sign whatever the chain says.
///
/// # Errors
/// Unknown key if it has none; unavailable if the database fails.
pub fn known_key(store: &Store, key_id: u64) -> Result<(), Refusal> {
    if !store.shares(key_id).map_err(|error| database_refusal(&error))?.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::UnknownKey,
        format!("this server holds no share of key {key_id}"),
        "Ask the members that the KeyFinalised event of the key names; one of them that says this has lost its database, which its operator has to restore.",
    ))
}

/// The answer given before for this key, if the request is for the same deposit. Not if this server has a share of a later committee: its
/// partial combines with those of that one only, and the chain says whose turn it is.
///
/// # Errors
/// Denied for another deposit of the key; unavailable if the database fails.
pub fn answered_before(store: &Store, request: &DepositRequest) -> Result<Option<SignedPartial>, Refusal> {
    let root = request.checked_signing_root()?;
    let Some(row) = store.deposit(request.key_id).map_err(|error| database_refusal(&error))? else {
        return Ok(None);
    };
    if row.signing_root != root {
        return Err(other_deposit(request.key_id, &row.signing_root));
    }
    let shares = store.shares(request.key_id).map_err(|error| database_refusal(&error))?;
    if shares.iter().any(|share| share.origin.committee_epoch > row.committee_epoch) {
        return Ok(None);
    }
    parse_answer(&row).map(Some)
}

/// Stores the answers of a batch in one transaction; only what this returns may be sent.
///
/// # Errors
/// Unavailable for all, if nothing could be stored.
pub fn commit(
    store: &Store,
    made: &[(DepositRequest, SignedPartial)],
) -> Result<Vec<Result<SignedPartial, Refusal>>, Refusal> {
    let mut rows = Vec::with_capacity(made.len());
    for (request, partial) in made {
        let answer = serde_json::to_string(partial)
            .map_err(|_| Refusal::unavailable("the answer does not serialise", "Report this bug to the operator."))?;
        let row = DepositRow { committee_epoch: partial.committee_epoch, signing_root: request.signing_root(), answer };
        rows.push((request.key_id, row));
    }
    let stored = store.sign_deposits(&rows).map_err(|error| database_refusal(&error))?;
    Ok(stored
        .into_iter()
        .map(|row| match row {
            Ok(row) => parse_answer(&row),
            Err(StoreError::OtherDeposit { key_id, signed }) => Err(other_deposit(key_id, &signed)),
            Err(error) => Err(database_refusal(&error)),
        })
        .collect())
}

fn parse_answer(row: &DepositRow) -> Result<SignedPartial, Refusal> {
    serde_json::from_str(&row.answer)
        .map_err(|_| database_refusal(&StoreError::Nonsense("an answer that does not parse")))
}

fn other_deposit(key_id: u64, signed: &B256) -> Refusal {
    Refusal::denied(
        format!("this server signed the deposit with root {signed} for key {key_id}; it never signs a second one"),
        "Ask for that deposit: the same answer is given again.",
    )
}

/// What a failed database is answered with.
pub fn database_refusal(error: &StoreError) -> Refusal {
    tracing::error!(error = %error, "database failed while signing");
    Refusal::unavailable(
        "this server's database failed",
        "Ask again; the operator has to look at the logs if it stays.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::tests::{committee, shown, us};
    use std::sync::Arc;
    use stkr_core::Threshold;
    use stkr_core::testing::TrustedDealer;
    use stkr_duties::eth1_withdrawal_credentials;

    const FORK: [u8; 4] = *b"Stkr";

    fn me() -> Us {
        us(2)
    }

    const NOW: u64 = 1_000;

    fn dealt() -> TrustedDealer {
        TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32])
    }

    fn facts() -> Facts {
        let dealt = dealt();
        let committee = committee(0, &dealt, &[1, 2, 3, 4]);
        Facts {
            state: KeyState::Live,
            consumer: Address::repeat_byte(5),
            micropools: Address::repeat_byte(5),
            group_key: dealt.keys.group_key(),
            committees: Committees::Finalised(Arc::new(shown(NOW, vec![(0, committee)]))),
            credentials: eth1_withdrawal_credentials(Address::repeat_byte(6)),
            genesis_fork_version: FORK,
            ordered: true,
        }
    }

    fn message(facts: &Facts) -> DepositMessage {
        DepositMessage {
            pubkey: facts.group_key.to_compressed(),
            withdrawal_credentials: facts.credentials,
            amount_gwei: PREDEPOSIT_GWEI,
        }
    }

    fn request(message: &DepositMessage) -> DepositRequest {
        DepositRequest::new(7, message, FORK)
    }

    fn refused(request: &DepositRequest, facts: &Facts) -> Refusal {
        let refusal = judge(request, facts, &me(), (None, NOW)).unwrap_err();
        assert!(!refusal.what_to_do.is_empty());
        refusal
    }

    #[test]
    fn the_ordered_deposit_of_a_live_key_is_signed() {
        let facts = facts();
        let asked = request(&message(&facts));
        let seat = judge(&asked, &facts, &me(), (None, NOW)).unwrap();
        assert_eq!((seat.committee_epoch, seat.index.get()), (0, 2));
        // With a beacon chain it is the epochs that count.
        let schedule = ForkSchedule::mainnet();
        let late =
            shown(schedule.genesis_time(), vec![(schedule.genesis_time() + 1, committee(1, &dealt(), &[1, 2, 3, 4]))]);
        let handed_over = Facts { committees: Committees::Finalised(Arc::new(late)), ..facts };
        assert!(judge(&asked, &handed_over, &me(), (Some(&schedule), schedule.genesis_time() + 383)).is_err());
        judge(&asked, &handed_over, &me(), (None, schedule.genesis_time() + 383)).unwrap();
        judge(&asked, &handed_over, &me(), (Some(&schedule), schedule.genesis_time() + 384)).unwrap();
    }

    #[test]
    fn an_order_that_is_not_finalized_everywhere_is_not_signed_yet() {
        let facts = Facts { ordered: false, ..facts() };
        assert_eq!(refused(&request(&message(&facts)), &facts).kind, RefusalKind::Unavailable);
    }

    #[test]
    fn foreign_credentials_are_denied_even_if_the_chain_ordered_them() {
        let facts = facts();
        for credentials in [
            eth1_withdrawal_credentials(Address::repeat_byte(7)),
            stkr_duties::compounding_withdrawal_credentials(Address::repeat_byte(6)),
            B256::ZERO,
        ] {
            let foreign = DepositMessage { withdrawal_credentials: credentials, ..message(&facts) };
            let refusal = refused(&request(&foreign), &facts);
            assert!(refusal.kind == RefusalKind::Denied && refusal.reason.contains("withdrawal_credentials"));
        }
    }

    #[test]
    fn another_amount_pubkey_or_fork_is_denied() {
        let facts = facts();
        let large = DepositMessage { amount_gwei: 32 * PREDEPOSIT_GWEI, ..message(&facts) };
        assert!(refused(&request(&large), &facts).reason.contains("amount"));
        let other = DepositMessage { pubkey: [1; 48], ..message(&facts) };
        assert!(refused(&request(&other), &facts).reason.contains("pubkey"));
        let mainnet = DepositRequest::new(7, &message(&facts), [0; 4]);
        assert!(refused(&mainnet, &facts).reason.contains("genesis_fork_version"));
    }

    #[test]
    fn a_claimed_root_that_the_typed_message_does_not_have_is_denied() {
        let facts = facts();
        let lie = DepositRequest { signing_root: B256::repeat_byte(9), ..request(&message(&facts)) };
        assert!(refused(&lie, &facts).reason.contains("signing root"));
    }

    #[test]
    fn keys_that_are_not_live_not_ours_or_of_another_consumer_are_refused() {
        let good = facts();
        let asked = request(&message(&good));
        for state in [KeyState::None, KeyState::Requested, KeyState::Drawn, KeyState::Retired, KeyState::Burned] {
            assert_eq!(refused(&asked, &Facts { state, ..good.clone() }).kind, RefusalKind::Denied);
        }
        let stranger = judge(&asked, &good, &us(9), (None, NOW)).unwrap_err();
        assert_eq!(stranger.kind, RefusalKind::UnknownKey);
        let consumer = Address::repeat_byte(8);
        assert_eq!(refused(&asked, &Facts { consumer, ..good.clone() }).kind, RefusalKind::Denied);
    }

    #[test]
    fn a_stored_share_that_is_not_that_of_the_leaf_never_signs() {
        let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
        let other = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [4; 32]);
        let store_key = StoreKey::random().unwrap();
        let index = ShareIndex::new(2).unwrap();
        let leaf = *dealt.keys.share_key(index).unwrap();
        let foreign = other.shares.iter().find(|share| share.index() == index).unwrap();
        let mut row = ShareRow {
            origin: stkr_protocol::handover::ShareOrigin { committee_epoch: 0, attempt: 0, deadline: 0 },
            index,
            share_key: foreign.public_key().to_compressed(),
            group_key: dealt.keys.group_key().to_compressed(),
            keystore: store_key.seal_share(foreign).unwrap().to_json().unwrap(),
        };
        let refusal = open_share(std::slice::from_ref(&row), 7, (index, leaf), &store_key).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::UnknownKey);
        // Somebody edited the row so that it claims the right share key.
        row.share_key = leaf.to_compressed();
        let refusal = open_share(std::slice::from_ref(&row), 7, (index, leaf), &store_key).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Unavailable);
        let own = dealt.shares.iter().find(|share| share.index() == index).unwrap();
        row.keystore = store_key.seal_share(own).unwrap().to_json().unwrap();
        open_share(&[row], 7, (index, leaf), &store_key).unwrap();
    }

    #[test]
    fn a_key_of_which_there_is_no_share_is_unknown_before_the_chain_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let owner = crate::store::Owner { signer: Address::ZERO, chain_id: 1, key_registry: Address::ZERO };
        let store = Store::open(&folder.path().join("server.db"), &owner, 0).unwrap();
        assert_eq!(known_key(&store, 7).unwrap_err().kind, RefusalKind::UnknownKey);
    }

    #[test]
    fn the_second_time_the_same_bytes_are_answered_and_another_deposit_is_denied() {
        let folder = tempfile::tempdir().unwrap();
        let owner = crate::store::Owner { signer: Address::ZERO, chain_id: 1, key_registry: Address::ZERO };
        let path = folder.path().join("server.db");
        let store = Store::open(&path, &owner, 0).unwrap();
        let facts = facts();
        let dealt = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32]);
        let share = &dealt.shares[1];
        let domain = ProtocolDomain { chain_id: 1, key_registry: Address::ZERO };
        let asked = DepositRequest::new(7, &message(&facts), FORK);
        assert_eq!(answered_before(&store, &asked).unwrap(), None);
        let first = answer(&asked.subject(), share, &domain, &SignerKey::random().unwrap(), 0);
        let sent = commit(&store, &[(asked.clone(), first.clone())]).unwrap().remove(0).unwrap();
        assert_eq!(sent, first);
        drop(store);

        let store = Store::open(&path, &owner, 0).unwrap();
        assert_eq!(answered_before(&store, &asked).unwrap(), Some(first.clone()));
        let rotated = answer(&asked.subject(), share, &domain, &SignerKey::random().unwrap(), 0);
        assert_ne!(rotated, first);
        assert_eq!(commit(&store, &[(asked, rotated)]).unwrap().remove(0).unwrap(), first, "the stored one counts");
        let other = DepositMessage { amount_gwei: 2 * PREDEPOSIT_GWEI, ..message(&facts) };
        let other = DepositRequest::new(7, &other, FORK);
        assert_eq!(answered_before(&store, &other).unwrap_err().kind, RefusalKind::Denied);
        let forced = answer(&other.subject(), share, &domain, &SignerKey::random().unwrap(), 0);
        assert_eq!(commit(&store, &[(other, forced)]).unwrap().remove(0).unwrap_err().kind, RefusalKind::Denied);
    }

    #[test]
    fn a_later_committee_signs_the_same_deposit_anew_and_no_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let owner = crate::store::Owner { signer: Address::ZERO, chain_id: 1, key_registry: Address::ZERO };
        let store = Store::open(&folder.path().join("server.db"), &owner, 0).unwrap();
        let (facts, dealt, store_key) = (facts(), dealt(), StoreKey::random().unwrap());
        let domain = ProtocolDomain { chain_id: 1, key_registry: Address::ZERO };
        let signer = SignerKey::random().unwrap();
        let asked = DepositRequest::new(7, &message(&facts), FORK);
        let of =
            |request: &DepositRequest, epoch| answer(&request.subject(), &dealt.shares[1], &domain, &signer, epoch);
        let first = commit(&store, &[(asked.clone(), of(&asked, 0))]).unwrap().remove(0).unwrap();
        assert_eq!(answered_before(&store, &asked).unwrap(), Some(first));
        let row = ShareRow {
            origin: stkr_protocol::handover::ShareOrigin { committee_epoch: 1, attempt: 0, deadline: 5 },
            index: ShareIndex::new(2).unwrap(),
            share_key: [1; 48],
            group_key: [9; 48],
            keystore: store_key.seal_share(&dealt.shares[1]).unwrap().to_json().unwrap(),
        };
        store.adopt_dealt(7, &row).unwrap();
        assert_eq!(answered_before(&store, &asked).unwrap(), None, "the chain says whose turn it is");
        let second = commit(&store, &[(asked.clone(), of(&asked, 1))]).unwrap().remove(0).unwrap();
        assert_eq!(second.committee_epoch, 1);
        assert_eq!(answered_before(&store, &asked).unwrap(), Some(second.clone()));
        let again = commit(&store, &[(asked.clone(), of(&asked, 0))]).unwrap().remove(0).unwrap();
        assert_eq!(again, second, "never back");
        let other = DepositMessage { amount_gwei: 2 * PREDEPOSIT_GWEI, ..message(&facts) };
        let other = DepositRequest::new(7, &other, FORK);
        let refused = commit(&store, &[(other.clone(), of(&other, 2))]).unwrap().remove(0).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Denied);
    }
}
