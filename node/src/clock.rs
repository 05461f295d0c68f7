//! Whether the clock of this machine agrees with others'. Not NTP, and no substitute for it: it finds out that NTP is broken.
//!
//! A clock that is wrong refuses good duties as duties of the future, or lets a slashing protection close more, or less, than has
//! passed. What is compared are the `Date` headers of HTTP answers, whole seconds of the other side's clock, with the middle of
//! the call. Anybody may lie about the time: what counts is the median, which a minority does not move; of two, the one that
//! finds less wrong, for there is no telling which of them lies.

use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap};
use url::Url;

use crate::metrics::{LateGauge, Metrics};
use crate::shutdown::Shutdown;

/// Offset (seconds, either way) beyond which the clock counts as wrong. One look is right to 1.5 s: half a second for the whole
/// seconds of the header, and one for half of the longest call that is looked at.
pub const BOUND: f64 = 2.0;
/// A call that took longer says too little.
const LONGEST_CALL: Duration = Duration::from_secs(2);
/// Pause while nobody has told the time yet.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// Seconds by which this machine's clock is ahead of that of the sender of `headers`, whose answer to a call begun at `sent` came
/// at `received`; nothing without a date, and after a call that took too long.
#[must_use]
pub fn offset(sent: SystemTime, received: SystemTime, headers: &HeaderMap) -> Option<f64> {
    let took = received.duration_since(sent).ok().filter(|took| *took <= LONGEST_CALL)?;
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    // On average half a second has passed since the second that the header names.
    let theirs = seconds(date) + 0.5;
    Some(seconds(sent) + took.as_secs_f64() / 2.0 - theirs)
}

fn seconds(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

/// What all together say; nothing if there is nobody.
#[must_use]
pub fn agree(mut offsets: Vec<f64>) -> Option<f64> {
    offsets.sort_by(f64::total_cmp);
    let middle = offsets.len() / 2;
    match offsets.as_slice() {
        [] => None,
        [one, other] => Some(if one.abs() <= other.abs() { *one } else { *other }),
        more if more.len() % 2 == 1 => more.get(middle).copied(),
        more => {
            let pair = more.get(middle.saturating_sub(1)).zip(more.get(middle));
            pair.map(|(one, other)| f64::midpoint(*one, *other))
        }
    }
}

/// What is known of this machine's clock. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    offset: LateGauge<f64, AtomicU64>,
    last: Arc<Mutex<Option<f64>>>,
}

impl Clock {
    /// Registers `stkr_clock_offset_seconds`.
    pub fn new(metrics: &Metrics) -> Self {
        let help = "Seconds by which this machine's clock is ahead of others' (median)";
        Self { offset: metrics.register("clock_offset_seconds", help, LateGauge::default()), last: Arc::default() }
    }

    /// Takes in what others' clocks say; warns when the clock goes wrong, and once only.
    pub fn hear(&self, offsets: Vec<f64>) {
        let Some(offset) = agree(offsets) else { return };
        let before = self.trouble();
        self.offset.set(offset);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(offset);
        match (before, self.trouble()) {
            (None, Some(reason)) => tracing::warn!(reason, what_to_do = "look at NTP", "the clock is wrong"),
            (Some(_), None) => tracing::info!("the clock is right again"),
            _ => {}
        }
    }

    /// What is wrong with the clock; nothing while nobody was asked.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let offset = (*self.last.lock().unwrap_or_else(PoisonError::into_inner))?;
        let way = if offset > 0.0 { "ahead of" } else { "behind" };
        (offset.abs() > BOUND).then(|| format!("the clock of this machine is {:.1} s {way} others'", offset.abs()))
    }

    /// Asks others again and again until the shutdown.
    pub async fn watch<F: Future<Output = Vec<f64>>>(
        self,
        pause: Duration,
        shutdown: Shutdown,
        mut ask: impl FnMut() -> F,
    ) {
        loop {
            let offsets = tokio::select! {
                _ = shutdown.wait() => return,
                offsets = ask() => offsets,
            };
            let pause = if offsets.is_empty() { FIRST_PAUSE.min(pause) } else { pause };
            self.hear(offsets);
            tokio::select! {
                _ = shutdown.wait() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Asks RPC endpoints for nothing but the date of their answer.
#[derive(Clone, Debug)]
pub struct Dates(reqwest::Client);

impl Dates {
    /// A client that follows no redirect.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Ok(Self(client.timeout(LONGEST_CALL.saturating_mul(5)).build()?))
    }

    /// Offset of our clock from that of an RPC endpoint over HTTP; nothing for other schemes, and where there is no answer or
    /// no date in it. Errors are not told: they hold the URL, and whoever uses the endpoint tells what is wrong with it.
    pub async fn of(&self, url: &Url) -> Option<f64> {
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        // Twice, for the first call may have to connect, which is no part of the way.
        let mut offsets = Vec::new();
        for _ in 0..2 {
            let question = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []});
            let sent = SystemTime::now();
            let answer = self.0.post(url.clone()).json(&question).send().await.ok()?;
            offsets.push(offset(sent, SystemTime::now(), answer.headers()));
            // Read, so that the connection can be used again.
            let _ = answer.bytes().await;
        }
        offsets.pop().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_000 + millis)
    }

    fn date(millis: u64) -> HeaderMap {
        HeaderMap::from_iter([(DATE, httpdate::fmt_http_date(at(millis)).parse().unwrap())])
    }

    #[test]
    fn an_offset_is_from_the_middle_of_a_call_to_the_middle_of_their_second() {
        let close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-3;
        assert!(close(offset(at(500), at(500), &date(0)), 0.0));
        assert!(close(offset(at(0), at(1_000), &date(999)), 0.0));
        assert!(close(offset(at(60_000), at(61_000), &date(0)), 60.0), "ahead");
        assert!(close(offset(at(0), at(1_000), &date(60_000)), -60.0), "behind");
        assert_eq!(offset(at(0), at(2_001), &date(0)), None, "too slow to say anything");
        assert_eq!(offset(at(0), at(0), &HeaderMap::new()), None);
        assert_eq!(offset(at(0), at(0), &HeaderMap::from_iter([(DATE, "tomorrow".parse().unwrap())])), None);
    }

    #[test]
    fn no_single_liar_moves_what_three_or_more_agree_on() {
        assert_eq!(agree(vec![]), None);
        assert_eq!(agree(vec![7.0]), Some(7.0));
        for lie in [-1e9, 0.0, 1e9, f64::INFINITY] {
            // Of two nobody knows which one lies: a wrong clock may go unnoticed, a right one is not doubted.
            assert!(agree(vec![0.1, lie]).unwrap().abs() <= 0.1);
            for honest in [vec![0.1, 0.3], vec![0.1, 0.2, 0.3], vec![0.1, 0.1, 0.2, 0.3]] {
                let found = agree([honest, vec![lie]].concat()).unwrap();
                assert!((0.1..=0.3).contains(&found), "{lie}: {found}");
            }
            let wrong = agree(vec![60.1, lie, 60.3]).unwrap();
            assert!((60.1..=60.3).contains(&wrong) || lie == 0.0 && wrong == 60.1, "{lie}: {wrong}");
        }
    }

    #[test]
    fn a_clock_is_wrong_beyond_the_bound_only_and_until_it_is_right_again() {
        let metrics = Metrics::new("test", "0");
        let clock = Clock::new(&metrics);
        assert_eq!(clock.trouble(), None);
        clock.hear(vec![1.9]);
        assert_eq!(clock.trouble(), None);
        clock.hear(vec![-2.5]);
        assert_eq!(clock.trouble().unwrap(), "the clock of this machine is 2.5 s behind others'");
        let text = metrics.text().unwrap();
        assert!(text.contains("stkr_clock_offset_seconds -2.5"), "{text}");
        clock.hear(vec![]);
        assert!(clock.trouble().is_some(), "silence says nothing");
        clock.hear(vec![0.2]);
        assert_eq!(clock.trouble(), None);
    }
}
