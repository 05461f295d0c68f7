//! Prometheus metrics in the OpenMetrics text format.
//!
//! Every metric has a name that begins with `stkr_`, a unit where it has one, and a help text; [`Metrics::catalogue`]
//! lists them as documentation, and a test in each program compares it with the operators' handbook.

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{Atomic, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

/// Media type of the answer to `GET /metrics`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of HTTP metrics. The route is the matched pattern, never the path: paths are chosen by strangers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HttpLabels {
    /// Matched route, or `unmatched`.
    pub route: String,
    /// HTTP status code.
    pub status: u16,
}

/// Metrics that every program with an HTTP side has.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    /// `stkr_http_requests_total`.
    pub requests: Family<HttpLabels, Counter>,
    /// `stkr_http_request_seconds`.
    pub seconds: Histogram,
    /// `stkr_http_connections`.
    pub connections: Gauge,
}

/// A gauge without a sample until it is set. Before somebody has looked, 0 would be a claim, and an alert on changes would take the
/// first true value for one after every start.
#[derive(Debug)]
pub struct LateGauge<N = i64, A = AtomicI64>(Arc<OnceLock<Gauge<N, A>>>);

impl<N, A> Clone for LateGauge<N, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<N, A> Default for LateGauge<N, A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<N: Copy, A: Atomic<N> + Default> LateGauge<N, A> {
    /// Sets it, for the first time or again.
    pub fn set(&self, value: N) {
        let first = || {
            let gauge = Gauge::default();
            gauge.set(value);
            gauge
        };
        self.0.get_or_init(first).set(value);
    }
}

impl<N, A> EncodeMetric for LateGauge<N, A>
where
    N: fmt::Debug + Send + Sync + 'static,
    A: fmt::Debug + Send + Sync + 'static,
    Gauge<N, A>: EncodeMetric,
{
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.get().map_or(Ok(()), |gauge| gauge.encode(encoder))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// The registry of one process.
pub struct Metrics {
    registered: Mutex<Registered>,
    http: HttpMetrics,
}

/// The registry, and what was put into it.
struct Registered {
    registry: Registry,
    catalogue: Vec<(String, String)>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A registry with build information and the HTTP metrics of `program`.
    pub fn new(program: &'static str, version: &'static str) -> Self {
        let mut registered = Registered { registry: Registry::with_prefix("stkr"), catalogue: Vec::new() };
        let build = Info::new([("program", program), ("version", version)]);
        registered.register("build", "Program and version", build);
        let http = HttpMetrics {
            requests: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.001, 2.5, 10)),
            connections: Gauge::default(),
        };
        let help = "HTTP requests by matched route and status";
        registered.register("http_requests", help, http.requests.clone());
        let help = "Time to answer an HTTP request, seconds";
        registered.register("http_request_seconds", help, http.seconds.clone());
        registered.register("http_connections", "Connections open now", http.connections.clone());
        Self { registered: Mutex::new(registered), http }
    }

    /// Adds a metric under `stkr_<name>` and gives it back.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.lock().register(name, help, metric.clone());
        metric
    }

    /// The HTTP metrics.
    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// Only if formatting fails, which a `String` never does.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.lock().registry)?;
        Ok(text)
    }

    /// Name and help of every metric, in order of registration, whether it has a sample yet or not.
    pub fn catalogue(&self) -> Vec<(String, String)> {
        self.lock().catalogue.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
        self.catalogue.push((format!("stkr_{name}"), help.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_registered_is_served_and_listed() {
        let metrics = Metrics::new("test", "1.2.3");
        let counter: Counter = metrics.register("things", "Things done", Counter::default());
        counter.inc();
        let text = metrics.text().unwrap();
        assert!(text.contains("stkr_things_total 1"), "{text}");
        assert!(text.contains(r#"stkr_build_info{program="test",version="1.2.3"} 1"#), "{text}");
        assert!(text.ends_with("# EOF\n"));
        assert!(metrics.catalogue().contains(&("stkr_things".to_owned(), "Things done".to_owned())));
    }

    #[test]
    fn a_late_gauge_says_nothing_until_it_is_set_and_then_its_last_value() {
        let metrics = Metrics::new("test", "1.2.3");
        let gauge: LateGauge = metrics.register("height", "How high it is", LateGauge::default());
        let text = metrics.text().unwrap();
        assert!(text.contains("# TYPE stkr_height gauge\n"), "{text}");
        assert!(!text.contains("\nstkr_height"), "{text}");
        assert!(metrics.catalogue().iter().any(|(name, _)| name == "stkr_height"));
        for value in [0, 7] {
            gauge.set(value);
            let text = metrics.text().unwrap();
            assert!(text.contains(&format!("\nstkr_height {value}\n")), "{text}");
        }
    }
}
