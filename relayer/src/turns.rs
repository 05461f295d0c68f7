//! One piece of work at a time for strangers, in the order in which they came.
//!
//! What strangers ask for costs questions to the RPC endpoint or a pairing, so it is done one after the other. Whoever finds somebody
//! there waits, and each address has one place: one machine that asks without end is refused at once while it waits, and stands
//! before nobody more than once. A body is read before its turn begins, so nobody keeps it by sending slowly.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use stkr_node::budget::{Budget, Share};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Longest wait for a turn.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Addresses that wait or are served at once; more are refused.
const PLACES: usize = 256;

/// Why it is not this request's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTurn {
    /// The address has its place already, or all are taken.
    #[error("a request of this address is not answered yet, or requests of {PLACES} others are not")]
    NoPlace,
    /// Those before it took too long.
    #[error("those who came before this request are not done after {} s", .0.as_secs())]
    TooLong(Duration),
}

/// The line in which strangers stand.
#[derive(Debug)]
pub struct Turns {
    places: Arc<Budget>,
    /// Tokio's mutex is fair: who came first gets it first, and who goes away leaves the line.
    line: Arc<Mutex<()>>,
    patience: Duration,
}

/// It is its holder's turn until this is dropped; so is its place.
#[derive(Debug)]
#[must_use = "the turn is over when this is dropped"]
pub struct Turn {
    _first: OwnedMutexGuard<()>,
    _place: Option<Share>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { places: Budget::new(PLACES, 1), line: Arc::default(), patience: PATIENCE }
    }
}

impl Turns {
    /// Waits for the turn of `address`. Its place is given back too when the future is dropped because its client went away.
    ///
    /// # Errors
    /// [`NoTurn`]: it has no place, and can come again.
    pub async fn of(&self, address: IpAddr) -> Result<Turn, NoTurn> {
        let place = self.places.take(household(address), 1).ok_or(NoTurn::NoPlace)?;
        let first = tokio::time::timeout(self.patience, self.line.clone().lock_owned()).await;
        Ok(Turn { _first: first.map_err(|_| NoTurn::TooLong(self.patience))?, _place: Some(place) })
    }

    /// Waits for a turn of this relayer's own, which takes no place.
    pub async fn own(&self) -> Turn {
        Turn { _first: self.line.clone().lock_owned().await, _place: None }
    }
}

/// What one customer of a network provider has: of IPv6 that is 2^64 addresses.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::net::Ipv4Addr;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    const FLOOD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn somebody(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(198, 51, high, low).into()
    }

    /// Looks at a future once.
    fn look<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_flood_of_one_address_does_not_keep_another_out() {
        let turns = Turns::default();
        let served = turns.of(FLOOD).await.unwrap();
        let mut honest = pin!(turns.of(somebody(1)));
        assert!(look(honest.as_mut()).is_pending(), "it waits");
        for _ in 0..1_000 {
            assert_eq!(turns.of(FLOOD).await.unwrap_err(), NoTurn::NoPlace);
        }
        drop(served);
        let mut again = pin!(turns.of(FLOOD));
        assert!(look(again.as_mut()).is_pending(), "behind the one who waited");
        let served = honest.await.unwrap();
        assert_eq!(turns.of(FLOOD).await.unwrap_err(), NoTurn::NoPlace, "who waits has its place too");
        drop(served);
        drop(again.await.unwrap());
    }

    #[tokio::test]
    async fn a_network_of_one_customer_has_one_place() {
        let turns = Turns::default();
        let six = |text: &str| text.parse::<IpAddr>().unwrap();
        let _served = turns.of(six("2001:db8:1:2::1")).await.unwrap();
        assert_eq!(turns.of(six("2001:db8:1:2:ffff::9")).await.unwrap_err(), NoTurn::NoPlace);
        assert!(look(pin!(turns.of(six("2001:db8:1:3::1")))).is_pending(), "another's");
        let mut four = pin!(turns.of(six("::ffff:192.0.2.1")));
        assert!(look(four.as_mut()).is_pending(), "the old addresses are not all one customer's");
        assert!(look(pin!(turns.of(six("::ffff:192.0.2.2")))).is_pending());
        assert_eq!(turns.of(FLOOD).await.unwrap_err(), NoTurn::NoPlace);
    }

    #[tokio::test]
    async fn who_came_first_is_served_first_and_the_relayer_itself_stands_in_line_without_a_place() {
        let turns = Turns::default();
        let mut served = turns.own().await;
        let mut waiting: Vec<_> = (1..=20).map(|number| Box::pin(turns.of(somebody(number)))).collect();
        for future in &mut waiting {
            assert!(look(future.as_mut()).is_pending());
        }
        let mut own = pin!(turns.own());
        assert!(look(own.as_mut()).is_pending());
        for number in 0..waiting.len() {
            drop(served);
            assert!(look(own.as_mut()).is_pending(), "before {number}");
            for later in &mut waiting[number + 1..] {
                assert!(look(later.as_mut()).is_pending(), "before {number}");
            }
            let Poll::Ready(turn) = look(waiting[number].as_mut()) else { panic!("{number} still waits") };
            served = turn.unwrap();
        }
        drop(served);
        assert!(look(own).is_ready());
    }

    #[tokio::test]
    async fn places_come_back_from_who_is_done_goes_away_or_waits_too_long() {
        let turns = Turns { patience: Duration::from_millis(20), ..Turns::default() };
        drop(turns.of(FLOOD).await.unwrap());
        let own = turns.own().await;
        {
            let mut gone = pin!(turns.of(FLOOD));
            assert!(look(gone.as_mut()).is_pending());
        }
        for _ in 0..2 {
            let waited = tokio::time::timeout(Duration::from_secs(5), turns.of(FLOOD)).await;
            assert_eq!(waited.expect("it waits for ever").unwrap_err(), NoTurn::TooLong(turns.patience));
        }
        drop(own);
        drop(turns.of(FLOOD).await.unwrap());
    }

    #[tokio::test]
    async fn no_more_wait_than_there_are_places() {
        let turns = Turns::default();
        let _own = turns.own().await;
        let many = u16::try_from(PLACES).unwrap();
        let mut waiting: Vec<_> = (0..many).map(|number| Box::pin(turns.of(somebody(number)))).collect();
        for future in &mut waiting {
            assert!(look(future.as_mut()).is_pending());
        }
        assert_eq!(turns.of(FLOOD).await.unwrap_err(), NoTurn::NoPlace);
        waiting.pop();
        assert!(look(pin!(turns.of(FLOOD))).is_pending());
    }
}
