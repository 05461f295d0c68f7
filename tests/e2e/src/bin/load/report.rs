//! The table and the JSON line.

use crate::Args;
use crate::bare::Bare;
use crate::cpu::Used;
use crate::light::Both;
use crate::network::Counters;
use crate::play::{Answered, Latency};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report<'a> {
    validators: u32,
    slot_ms: u64,
    /// Milliseconds from the time at which a validator client asks, by duty.
    duties: BTreeMap<&'static str, Latency>,
    overall: Latency,
    /// Over the whole epoch, and while the proofs of selection were signed at its start.
    signatures_per_second: f64,
    spike_signatures_per_second: f64,
    /// CPU seconds by process.
    cpu: &'a BTreeMap<String, Used>,
    partials: f64,
    /// CPU milliseconds.
    server_cpu_ms_per_partial: f64,
    bare_sign_ms: f64,
    bare_sync_ms: f64,
    /// Share of an fsync that one partial bears.
    syncs_per_partial: f64,
    /// The first over the sum of the others.
    ratio: f64,
    light: Both,
    counters: &'a Counters,
}

impl<'a> Report<'a> {
    #[allow(clippy::cast_precision_loss, reason = "counts of requests")]
    pub(crate) fn new(
        args: &Args,
        answers: &[Answered],
        light: &Both,
        cpu: &'a BTreeMap<String, Used>,
        bare: &Bare,
        counters: &'a Counters,
    ) -> Self {
        let duties = Latency::by_kind(answers);
        let spike = duties.get("AGGREGATION_SLOT").map_or(0.0, |it| it.count as f64 / (it.max / 1e3));
        let servers: f64 = cpu.iter().filter(|(name, _)| name.starts_with("server-")).map(|(_, it)| it.total).sum();
        let per_partial = servers / counters.partials;
        let syncs = counters.server_commits / counters.partials;
        Self {
            validators: args.validators,
            slot_ms: args.slot_ms,
            overall: Latency::of(answers.iter().map(|answer| answer.late).collect()),
            duties,
            signatures_per_second: answers.len() as f64 / (args.slot_ms as f64 * 32.0 / 1e3),
            spike_signatures_per_second: spike,
            cpu,
            partials: counters.partials,
            server_cpu_ms_per_partial: per_partial * 1e3,
            bare_sign_ms: bare.sign * 1e3,
            bare_sync_ms: bare.sync * 1e3,
            syncs_per_partial: syncs,
            ratio: per_partial / (bare.sign + bare.sync * syncs),
            light: *light,
            counters,
        }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        writeln!(to, "{:<38} {:>7} {:>9} {:>9} {:>9}", "duty", "count", "p50 ms", "p99 ms", "max ms")?;
        let all = self.duties.iter().map(|(kind, latency)| (*kind, latency)).chain([("overall", &self.overall)]);
        for (kind, it) in all {
            writeln!(to, "{kind:<38} {:>7} {:>9.1} {:>9.1} {:>9.1}", it.count, it.p50, it.p99, it.max)?;
        }
        writeln!(to, "\n{:<12} {:>8} {:>8} {:>8} {:>8} {:>8}", "CPU s", "total", "crypto", "TLS", "SQLite", "rest")?;
        for (name, used) in self.cpu {
            write!(to, "{name:<12} {:>8.2}", used.total)?;
            match used.split {
                Some(it) => writeln!(to, " {:>8.2} {:>8.2} {:>8.2} {:>8.2}", it.crypto, it.tls, it.sqlite, it.rest)?,
                None => writeln!(to, " {:>8} {:>8} {:>8} {:>8}", "-", "-", "-", "-")?,
            }
        }
        let it = self.counters;
        writeln!(
            to,
            "\nsignatures per second      {:.1} ({:.0} in the spike)",
            self.signatures_per_second, self.spike_signatures_per_second
        )?;
        writeln!(
            to,
            "server CPU per partial     {:.3} ms = {:.2} x (blst {:.3} ms + {:.3} syncs of {:.3} ms)",
            self.server_cpu_ms_per_partial, self.ratio, self.bare_sign_ms, self.syncs_per_partial, self.bare_sync_ms
        )?;
        for (name, light) in [("proofs", self.light.without_history), ("attestations", self.light.attestation)] {
            writeln!(
                to,
                "gateway adds, {name:<12} {:.2} ms ({:.2} against {:.2} of the third server)",
                light.added, light.gateway.p50, light.servers.p50
            )?;
        }
        writeln!(
            to,
            "gateway                    {} requests, {} commits, {} verified in {} groups, {} calls to servers",
            it.requests, it.gateway_commits, it.verified, it.verified_groups, it.calls
        )?;
        writeln!(to, "servers                    {} partials, {} commits\n", it.partials, it.server_commits)
    }
}
