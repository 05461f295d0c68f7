//! What the chain alone says that a person should look at: keys that run out of healthy shares, and pools whose provider was at fault.
//!
//! Both stay until governance or the pool's stakers act, so both are said for as long as they hold.

use stkr_chain::types::PoolState;

use crate::view::{Key, KeyPhase, View};

/// One sentence for each, keys first.
#[must_use]
pub fn problems(view: &View) -> Vec<String> {
    view.keys.keys().filter_map(|id| key(view, *id)).chain(pools(view)).collect()
}

/// A Live key with fewer than t + 1 shares of servers that are not locked out.
fn key(view: &View, id: u64) -> Option<String> {
    let KeyPhase::Live(_) = view.keys.get(&id)?.phase else { return None };
    let newest = view.newest_committee(id).filter(|_| view.is_without_spare(id))?;
    let (healthy, threshold) = (view.healthy_shares(newest.live), usize::from(newest.threshold));
    let said = if healthy < threshold {
        format!(
            "key {id} has {healthy} healthy shares and needs {threshold}: it signs only with servers that were locked out, suspended, or are leaving"
        )
    } else {
        format!(
            "key {id} has {healthy} healthy shares and needs them all: after one more lock-out it signs only with servers that are not healthy"
        )
    };
    let is_dealt = view.keys.get(&id).is_some_and(Key::is_dealt);
    let dealt = "; it is a dealt key, which is never reshared: its owner has its validator exit while it signs";
    Some(if is_dealt { said + dealt } else { said })
}

/// Pools with a validator whose provider was proven at fault (`IMicropools.isMigrationDue`).
fn pools(view: &View) -> impl Iterator<Item = String> {
    view.pools.iter().filter_map(|(id, pool)| {
        let key = pool.key_id.filter(|_| matches!(pool.state, PoolState::Predeposited | PoolState::Active))?;
        view.faults.of_assignment.range((key, 0)..=(key, u64::MAX)).next()?;
        Some(format!("pool {id} has to move: its provider {} was proven at fault with key {key}", pool.provider))
    })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, Bytes, U256};
    use stkr_chain::types::ServerStatus;

    use super::*;
    use crate::view::{Fact, LiveKey, Pool, Server, Shown};

    const KEY: u64 = 9;
    const POOL: u64 = 5;
    const SHOWN: Shown = Shown { reporter: Address::ZERO, transaction: B256::ZERO, block: 7 };

    /// A 3-of-4 key of servers 1 to 4, used by a pool in `state`.
    fn view(state: PoolState) -> View {
        let mut view = View::default();
        view.servers.extend((1..=4).map(|id| (id, Server::active(""))));
        let live = LiveKey {
            committee: vec![1, 2, 3, 4],
            signers: vec![Address::ZERO; 4],
            points: Bytes::new(),
            dealings_digest: B256::ZERO,
            leaves_root: B256::ZERO,
        };
        let phase = KeyPhase::Live(live);
        let (consumer, attempt, requested_in) = (Address::repeat_byte(1), 0, 1);
        let kind = stkr_chain::types::KeyKind::Validator;
        view.keys.insert(KEY, Key { consumer, kind, threshold: 3, members: 4, attempt, requested_in, phase });
        let pool = Pool {
            provider: Address::repeat_byte(7),
            threshold: 3,
            members: 4,
            vault: Address::ZERO,
            staked: U256::ZERO,
            state,
            deadline: 0,
            key_id: Some(KEY),
            order: None,
            deposits_gwei: Vec::new(),
            proven: None,
            withdrawal: None,
        };
        view.pools.insert(POOL, pool);
        view
    }

    fn lock_out(view: &mut View, server_id: u32) {
        let evidence = B256::with_last_byte(u8::try_from(server_id).unwrap());
        let (fault, key_id, committee_epoch) = (1, KEY, 0);
        let charged = true;
        view.apply(1, Fact::FaultUpheld { fault, server_id, key_id, committee_epoch, evidence, shown: SHOWN, charged });
    }

    #[test]
    fn a_key_without_a_spare_share_and_one_below_its_threshold_are_told_apart() {
        let mut view = view(PoolState::Active);
        assert_eq!(problems(&view), Vec::<String>::new());
        lock_out(&mut view, 2);
        let said = problems(&view);
        assert!(said.len() == 1 && said[0].starts_with("key 9 has 3 healthy shares and needs them all"), "{said:?}");
        lock_out(&mut view, 4);
        let said = problems(&view);
        assert!(said.len() == 1 && said[0].starts_with("key 9 has 2 healthy shares and needs 3"), "{said:?}");
        view.apply(2, Fact::KeyRetired { key_id: KEY, burned: false });
        assert_eq!(problems(&view), Vec::<String>::new(), "it signs nothing more");
    }

    /// As the contract counts: who is suspended or about to go is as little to be relied on as who was at fault.
    #[test]
    fn suspended_and_leaving_servers_hold_no_healthy_shares() {
        let mut view = view(PoolState::Active);
        for (id, status, healthy) in [(2, ServerStatus::Suspended, 3), (4, ServerStatus::Leaving, 2)] {
            view.apply(1, Fact::StatusChanged { id, status });
            let said = problems(&view);
            let told = format!("key 9 has {healthy} healthy shares and needs");
            assert!(said.len() == 1 && said[0].starts_with(&told), "{said:?}");
        }
    }

    /// Nobody can move its seats, so that something else has to be done.
    #[test]
    fn of_a_dealt_key_it_is_said_that_it_is_one() {
        let mut view = view(PoolState::Active);
        lock_out(&mut view, 2);
        assert!(!problems(&view)[0].contains("dealt key"));
        view.keys.get_mut(&KEY).unwrap().consumer = Address::ZERO;
        let said = problems(&view);
        assert!(said[0].starts_with("key 9 has 3 healthy shares") && said[0].contains("dealt key"), "{said:?}");
    }

    #[test]
    fn a_pool_whose_provider_was_at_fault_has_to_move_while_it_has_a_validator() {
        let fault =
            Fact::ProviderFaultProven { key_id: KEY, assignment: 1, evidence: B256::repeat_byte(3), shown: SHOWN };
        for (state, is_told) in
            [(PoolState::Predeposited, true), (PoolState::Active, true), (PoolState::Cancelled, false)]
        {
            let mut view = view(state);
            view.apply(1, fault.clone());
            let said = problems(&view);
            assert_eq!(said.iter().any(|it| it.starts_with("pool 5 has to move")), is_told, "{said:?}");
        }
    }

    #[test]
    fn the_record_names_every_fault_whoever_reported_it() {
        let mut view = view(PoolState::Active);
        lock_out(&mut view, 2);
        let fault =
            Fact::ProviderFaultProven { key_id: KEY, assignment: 1, evidence: B256::repeat_byte(3), shown: SHOWN };
        view.apply(2, fault);
        let recorded: Vec<_> = view.faults.verdicts.iter().map(|it| (it.fault, it.server_id, it.key_id)).collect();
        assert_eq!(recorded, [(1, Some(2), KEY), (5, None, KEY)]);
    }
}
