//! The gateway's own metrics.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use stkr_node::metrics::{LateGauge, Metrics};

/// Labels as pairs.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Counters and gauges; clones share them. The gauges tell of the chain, and have no sample before the first look at it.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    /// The registry.
    pub registry: Arc<Metrics>,
    /// By duty and outcome.
    pub requests: Family<Labels<2>, Counter>,
    /// From a readable request to a verified signature.
    pub seconds: Histogram,
    /// Served now.
    pub keys: LateGauge,
    /// In their quiet period.
    pub quiet_keys: LateGauge,
    /// Signed for by somebody else with the same duty key.
    pub stopped_keys: LateGauge,
    /// Newest block taken in.
    pub head: LateGauge,
    /// Failed looks at the chain.
    pub chain_failures: Counter,
    /// By server, what it did wrong.
    pub troubles: Family<[(String, String); 2], Counter>,
    /// Transactions of slashing protection.
    pub protection_commits: Counter,
    /// Combined signatures that were verified.
    pub verified: Counter,
    /// Checks that took, each for all signatures over one root that waited.
    pub verified_groups: Counter,
    /// Calls to servers.
    pub calls: Counter,
    /// Evidence given to relayers, by outcome.
    pub handed_on: Family<Labels<1>, Counter>,
    /// Requests and envelopes that were not kept.
    pub not_kept: Counter,
    /// Evidence that was dropped for newer.
    pub evidence_dropped: Counter,
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        let registry = Arc::new(Metrics::new("stkr-gateway", env!("CARGO_PKG_VERSION")));
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 13));
        Self {
            requests: registry.register(
                "gateway_requests",
                "Signing requests by duty and outcome",
                Family::<Labels<2>, Counter>::default(),
            ),
            seconds: registry.register(
                "gateway_signature_seconds",
                "From a readable request to a verified signature, seconds",
                seconds,
            ),
            keys: registry.register("gateway_keys", "Keys served now", LateGauge::default()),
            quiet_keys: registry.register(
                "gateway_quiet_keys",
                "Keys that sign nothing with a slot yet: their quiet period runs",
                LateGauge::default(),
            ),
            stopped_keys: registry.register(
                "gateway_stopped_keys",
                "Keys that are stopped because another gateway signs with the same duty key",
                LateGauge::default(),
            ),
            head: registry.register("gateway_head_block", "Newest block taken in", LateGauge::default()),
            chain_failures: registry.register(
                "gateway_chain_failures",
                "Looks at the chain that failed",
                Counter::default(),
            ),
            troubles: registry.register(
                "gateway_server_troubles",
                "Answers of servers that did not count, by server and reason",
                Family::<[(String, String); 2], Counter>::default(),
            ),
            protection_commits: registry.register(
                "gateway_protection_commits",
                "Transactions of slashing protection, one fsync each, for all requests that waited",
                Counter::default(),
            ),
            verified: registry.register("gateway_verified", "Combined signatures verified", Counter::default()),
            verified_groups: registry.register(
                "gateway_verified_groups",
                "Pairing checks that took, each for all signatures over one root that waited",
                Counter::default(),
            ),
            calls: registry.register(
                "gateway_calls",
                "Calls to servers, each with all requests that waited for one",
                Counter::default(),
            ),
            not_kept: registry.register(
                "gateway_not_kept",
                "Requests whose envelopes were not kept: disk too slow or broken",
                Counter::default(),
            ),
            evidence_dropped: registry.register(
                "gateway_evidence_dropped",
                "Evidence dropped for newer, the oldest of the server that had most",
                Counter::default(),
            ),
            handed_on: registry.register(
                "gateway_evidence_handed_on",
                "Evidence given to relayers, by outcome",
                Family::<Labels<1>, Counter>::default(),
            ),
            registry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_looked_at_has_no_sample() {
        let metrics = GatewayMetrics::default();
        let _clock = stkr_node::clock::Clock::new(&metrics.registry);
        let sampled = |name: &str| {
            let text = metrics.registry.text().unwrap();
            text.lines().any(|line| line.starts_with(&format!("{name} ")))
        };
        for name in ["gateway_keys", "gateway_quiet_keys", "gateway_stopped_keys", "gateway_head_block"] {
            assert!(!sampled(&format!("stkr_{name}")), "{name} claims something");
        }
        assert!(!sampled("stkr_clock_offset_seconds"));
        metrics.keys.set(0);
        assert!(sampled("stkr_gateway_keys"), "now it is known");
    }
}
