//! A bounded thing shared by peers, of which no single peer may have more than its part.
//!
//! A peer is an IP address: certificates are free, addresses cost something. Nothing here is authorisation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// So many units in all (connections, bytes of request bodies), so many for one peer.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    per_peer: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    sum: usize,
    /// Only peers that have something now, so the table is never larger than what is shared out.
    peers: HashMap<IpAddr, usize>,
}

/// Units taken from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    peer: IpAddr,
    units: usize,
}

impl Budget {
    /// `total` units, at most `per_peer` of them for one address.
    pub fn new(total: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self { total, per_peer, used: Mutex::default() })
    }

    /// Takes `units` for `peer`, or nothing if that is more than is left for it.
    pub fn take(self: &Arc<Self>, peer: IpAddr, units: usize) -> Option<Share> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = used.sum.checked_add(units).filter(|sum| *sum <= self.total)?;
        let of_peer = used.peers.get(&peer).copied().unwrap_or_default();
        let of_peer = of_peer.checked_add(units).filter(|sum| *sum <= self.per_peer)?;
        used.sum = sum;
        if units > 0 {
            used.peers.insert(peer, of_peer);
        }
        Some(Share { budget: Arc::clone(self), peer, units })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut used = self.budget.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.sum = used.sum.saturating_sub(self.units);
        if let Some(left) = used.peers.get_mut(&self.peer) {
            *left = left.saturating_sub(self.units);
            if *left == 0 {
                used.peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn one_peer_cannot_take_what_is_left_for_others() {
        let budget = Budget::new(10, 6);
        let held = [budget.take(ONE, 4).unwrap(), budget.take(ONE, 2).unwrap()];
        assert!(budget.take(ONE, 1).is_none(), "its part is used up");
        let other = budget.take(OTHER, 4).unwrap();
        assert!(budget.take(OTHER, 1).is_none(), "all is used up");
        drop(held);
        assert!(budget.take(OTHER, 2).is_some());
        drop(other);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_peer_is_remembered_for_nothing() {
        let budget = Budget::new(10, 6);
        for _ in 0..100 {
            drop(budget.take(ONE, 6).unwrap());
        }
        drop(budget.take(OTHER, 0).unwrap());
        let used = budget.used.lock().unwrap();
        assert_eq!((used.sum, used.peers.len()), (0, 0));
    }

    #[test]
    fn an_amount_beyond_all_numbers_is_refused_and_does_not_wrap() {
        let budget = Budget::new(usize::MAX, usize::MAX);
        let _held = budget.take(ONE, 1).unwrap();
        assert!(budget.take(ONE, usize::MAX).is_none());
    }
}
