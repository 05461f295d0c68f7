//! Token buckets per client, in a table that cannot be made to grow.
//!
//! A client is known by the fingerprint of its TLS certificate, which anybody can make: the limit keeps an honest but broken
//! client from starving others and bounds what one connection can cost. It is no authorisation.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A bucket per client: `burst` requests at once, `per_second` refilled.
#[derive(Debug)]
pub struct RateLimit {
    burst: f64,
    per_second: f64,
    capacity: usize,
    buckets: HashMap<[u8; 32], Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimit {
    /// At most `capacity` clients are remembered; both rates count requests.
    pub fn new(burst: u32, per_second: u32, capacity: usize) -> Self {
        Self {
            burst: f64::from(burst.max(1)),
            per_second: f64::from(per_second.max(1)),
            capacity: capacity.max(1),
            buckets: HashMap::new(),
        }
    }

    /// Takes a token of `client` at time `now`, or says how long to wait for the next one.
    ///
    /// # Errors
    /// The time until a token is there.
    pub fn take(&mut self, client: [u8; 32], now: Instant) -> Result<(), Duration> {
        self.make_room(&client, now);
        let bucket = self.buckets.entry(client).or_insert(Bucket { tokens: self.burst, at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second))
    }

    /// Clients remembered now.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether no client is remembered.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Drops full buckets (nothing is lost), and if all are in use the one that was quiet the longest: a flood of fresh
    /// certificates then evicts itself first only if it is the quiet one, and costs a fixed amount of memory.
    fn make_room(&mut self, client: &[u8; 32], now: Instant) {
        if self.buckets.len() < self.capacity || self.buckets.contains_key(client) {
            return;
        }
        let (burst, per_second) = (self.burst, self.per_second);
        self.buckets.retain(|_, bucket| {
            bucket.tokens + now.saturating_duration_since(bucket.at).as_secs_f64() * per_second < burst
        });
        if self.buckets.len() >= self.capacity {
            let quietest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(client, _)| *client);
            if let Some(quietest) = quietest {
                self.buckets.remove(&quietest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_burst_then_waits_for_the_refill() {
        let mut limit = RateLimit::new(3, 2, 10);
        let start = Instant::now();
        for _ in 0..3 {
            limit.take([1; 32], start).unwrap();
        }
        let wait = limit.take([1; 32], start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        limit.take([2; 32], start).unwrap();
        limit.take([1; 32], start + wait).unwrap();
    }

    #[test]
    fn ten_thousand_certificates_do_not_grow_the_table() {
        let mut limit = RateLimit::new(2, 1, 64);
        let start = Instant::now();
        for number in 0..10_000_u32 {
            let mut client = [0; 32];
            client[..4].copy_from_slice(&number.to_be_bytes());
            limit.take(client, start).unwrap();
            assert!(limit.len() <= 64);
        }
    }
}
