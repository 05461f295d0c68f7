//! Metrics of a server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use stkr_node::metrics::{LateGauge, Metrics};

/// Label of refusals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// Kind of the refusal, as in JSON.
    pub kind: &'static str,
}

/// Label of answers to requests for duties.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DutyLabel {
    /// Kind of what is signed; `not_judged` where the request was refused before slashing protection.
    pub kind: &'static str,
    /// `signed`, or the kind of the refusal.
    pub verdict: &'static str,
}

/// Label of ceremony answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabel {
    /// Phase, as in JSON.
    pub phase: &'static str,
}

/// What a server counts.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    /// Answers to ceremony calls by phase.
    pub ceremony_answers: Family<PhaseLabel, Counter>,
    /// Answers with a complaint about a dealing.
    pub ceremony_complaints: Counter,
    /// Answers to calls about reshares by phase.
    pub reshare_answers: Family<PhaseLabel, Counter>,
    /// Answers with a complaint about a dealing of a reshare.
    pub reshare_complaints: Counter,
    /// Shares erased: of attempts that failed, and of committees that handed over.
    pub shares_erased: Counter,
    /// Partial signatures handed out, repetitions included.
    pub partials: Counter,
    /// Refusals by kind.
    pub refusals: Family<KindLabel, Counter>,
    /// Answers to requests for duties by kind and verdict.
    pub duties: Family<DutyLabel, Counter>,
    /// Transactions of slashing protection.
    pub protection_commits: Counter,
    /// Requests for duties that were not kept as evidence because the disk was too slow.
    pub evidence_dropped: Counter,
    /// Requests refused by the rate limit.
    pub rate_limited: Counter,
    /// 1 once the server found itself in the registry.
    pub registered: LateGauge,
    /// Shares in the database.
    pub shares: LateGauge,
    /// Of these the ones whose leaf names another signer than the registry by now.
    pub earlier_signer_shares: LateGauge,
}

impl ServerMetrics {
    /// Registers all of them; `protection_commits` is counted by the [`Desk`](crate::desk::Desk).
    pub fn new(metrics: &Metrics, protection_commits: Counter) -> Self {
        Self {
            ceremony_answers: metrics.register(
                "ceremony_answers",
                "Answers to ceremony calls by the phase this server is in",
                Family::default(),
            ),
            ceremony_complaints: metrics.register(
                "ceremony_complaints",
                "Answers that show a dealer's wrong share, with the one-time secret that opens it",
                Counter::default(),
            ),
            reshare_answers: metrics.register(
                "reshare_answers",
                "Answers to calls about reshares by the phase this server is in",
                Family::default(),
            ),
            reshare_complaints: metrics.register(
                "reshare_complaints",
                "Answers that show a dealer's wrong share in a reshare, with the one-time secret that opens it",
                Counter::default(),
            ),
            shares_erased: metrics.register(
                "shares_erased",
                "Shares erased because their reshare failed or their committee handed over 7 days ago",
                Counter::default(),
            ),
            partials: metrics.register(
                "partials",
                "Partial signatures handed out, repetitions of an answer included",
                Counter::default(),
            ),
            refusals: metrics.register("refusals", "Refused signing requests by kind", Family::default()),
            duties: metrics.register("duties", "Answers to requests for duties by kind and verdict", Family::default()),
            protection_commits: metrics.register(
                "protection_commits",
                "Transactions of slashing protection, one fsync each, for all requests that waited",
                protection_commits,
            ),
            evidence_dropped: metrics.register(
                "evidence_dropped",
                "Requests for duties not kept as evidence because the disk was too slow",
                Counter::default(),
            ),
            rate_limited: metrics.register(
                "rate_limited",
                "Requests refused because their client sent too many",
                Counter::default(),
            ),
            registered: metrics.register(
                "registered",
                "1 if the server registry knows this server's signer",
                LateGauge::default(),
            ),
            shares: metrics.register("shares", "Shares in the database", LateGauge::default()),
            earlier_signer_shares: metrics.register(
                "earlier_signer_shares",
                "Shares that are signed for with an earlier signer key, until their keys are reshared",
                LateGauge::default(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_looked_at_has_no_sample() {
        let metrics = Metrics::new("stkr-server", "0");
        let counted = ServerMetrics::new(&metrics, Counter::default());
        let _clock = stkr_node::clock::Clock::new(&metrics);
        let sampled = |name: &str| metrics.text().unwrap().lines().any(|line| line.starts_with(&format!("{name} ")));
        for name in ["registered", "shares", "earlier_signer_shares", "clock_offset_seconds"] {
            assert!(!sampled(&format!("stkr_{name}")), "{name} claims something");
        }
        counted.registered.set(0);
        assert!(sampled("stkr_registered"), "now it is known");
    }

    #[test]
    fn the_handbook_lists_every_metric_and_every_log_field() {
        let metrics = Metrics::new("stkr-server", "0");
        ServerMetrics::new(&metrics, Counter::default());
        stkr_node::clock::Clock::new(&metrics);
        let handbook =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operators.md")).unwrap_or_default();
        let catalogue = metrics.catalogue();
        assert!(catalogue.len() >= 10, "{catalogue:?}");
        for (name, help) in &catalogue {
            let row = format!("| `{name}` | {help} |");
            assert!(handbook.contains(&row), "docs/operators.md lacks: {row}");
        }
        for (name, meaning) in stkr_node::logs::CATALOGUE {
            let row = format!("| `{name}` | {meaning} |");
            assert!(handbook.contains(&row), "docs/operators.md lacks: {row}");
        }
    }
}
