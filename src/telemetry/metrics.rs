//! The metrics there are, in one struct.
//!
//! Invariant: the number of series is bounded. Labels come from the served catalog, never from what
//! a caller typed, and beyond [`MAX_SERIES`] values everything counts as `other`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::status::Counts;

/// Values one label takes before the rest is `other`. A histogram has 14 lines for each, so this
/// bounds the page at about 2 MiB.
const MAX_SERIES: usize = 1_000;
/// Seconds, from a relayed call in memory to a long build.
const SECONDS: [f64; 12] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0];
/// What the label says beyond the bound.
const OTHER: &str = "other";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ToolLabels {
    tool: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExecutionLabels {
    tool: Arc<str>,
    success: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StartLabels {
    tool: Arc<str>,
    start: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RunnerLabels {
    runner: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResourceLabels {
    kind: String,
    ready: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RevisionLabels {
    revision: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServerLabels {
    server: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LockLabels {
    lock: String,
}

type Histograms = Family<ToolLabels, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// All metrics. Methods may be called from anywhere and never wait for anything slow.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    executions: Family<ExecutionLabels, Counter>,
    durations: Histograms,
    utilization: Family<RunnerLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    starts: Family<RunnerLabels, Counter>,
    warm: Family<StartLabels, Counter>,
    passes: Family<ResultLabels, Counter>,
    pass_duration: Histogram,
    generation: Gauge,
    entries: Family<KindLabels, Gauge>,
    served: Family<RevisionLabels, Gauge>,
    resources: Family<ResourceLabels, Gauge>,
    changed: Family<ServerLabels, Counter>,
    locks: Family<LockLabels, Gauge>,
    instances: Family<ServerLabels, Gauge>,
    refused: Family<ReasonLabels, Counter>,
    certificate: Gauge,
    certificate_failures: Counter,
    tools: Mutex<BTreeSet<Arc<str>>>,
    servers: Mutex<BTreeSet<Arc<str>>>,
    last: Mutex<Option<RevisionLabels>>,
    looks: Mutex<Vec<Look>>,
}

/// Something that is counted whenever the page is asked for.
struct Look {
    name: &'static str,
    help: &'static str,
    count: Box<dyn Fn() -> usize + Send + Sync>,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            executions: Family::default(),
            durations: Family::new_with_constructor(seconds as fn() -> Histogram),
            utilization: Family::default(),
            starts: Family::default(),
            warm: Family::default(),
            passes: Family::default(),
            pass_duration: seconds(),
            generation: Gauge::default(),
            entries: Family::default(),
            served: Family::default(),
            resources: Family::default(),
            changed: Family::default(),
            locks: Family::default(),
            instances: Family::default(),
            refused: Family::default(),
            certificate: Gauge::default(),
            certificate_failures: Counter::default(),
            tools: Mutex::default(),
            servers: Mutex::default(),
            last: Mutex::default(),
            looks: Mutex::default(),
            registry: Registry::default(),
        };
        registry.register("tool_executions", "Calls of tools that ended", metrics.executions.clone());
        registry.register(
            "execution_duration_seconds",
            "Time calls of tools took",
            metrics.durations.clone(),
        );
        registry.register(
            "runner_utilization",
            "CPU limits of what runs on a runner, as a share of this machine",
            metrics.utilization.clone(),
        );
        registry.register("container_starts", "Instances started", metrics.starts.clone());
        registry.register("reconcile_passes", "Passes that ended, by result", metrics.passes.clone());
        registry.register("reconcile_duration_seconds", "Time passes took", metrics.pass_duration.clone());
        registry.register(
            "catalog_generation",
            "Catalogs published since the start",
            metrics.generation.clone(),
        );
        registry.register("catalog_entries", "Entries of the served catalog", metrics.entries.clone());
        registry.register("served_revision_info", "The revision that is served", metrics.served.clone());
        registry.register("resources", "Declared resources by readiness", metrics.resources.clone());
        registry.register(
            "definitions_changed",
            "Definitions that servers changed by themselves, without a commit",
            metrics.changed.clone(),
        );
        registry.register(
            "servers_by_lock",
            "Servers by how they stand to their lock",
            metrics.locks.clone(),
        );
        registry.register("server_instances", "Instances of each server that run", metrics.instances.clone());
        metrics.register_requests(&mut registry);
        Self { registry, ..metrics }
    }
}

impl Metrics {
    fn register_requests(&self, registry: &mut Registry) {
        registry.register(
            "tool_starts",
            "Calls of tools with containers that are started ahead, by whether one was there",
            self.warm.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that were refused before anybody looked at what they ask, by reason",
            self.refused.clone(),
        );
        registry.register(
            "tls_certificate_expiry_timestamp_seconds",
            "Last second of the certificate that is served",
            self.certificate.clone(),
        );
        registry.register(
            "tls_certificate_failures",
            "Files of a certificate that changed and could not be used",
            self.certificate_failures.clone(),
        );
    }

    /// A request was refused: for a limit of its caller, or because it does not say who that is.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Which certificate is served: its last second since the epoch, and whether a newer one failed.
    pub fn certificate(&self, not_after: u64, failed: bool) {
        self.certificate.set(not_after.try_into().unwrap_or(i64::MAX));
        if failed {
            self.certificate_failures.inc();
        }
    }

    /// A call of a tool ended. `tool` is the published name of an entry of the catalog.
    pub fn execution(&self, tool: &str, success: bool, duration: Duration) {
        let tool = bounded(&self.tools, tool);
        self.durations.get_or_create(&ToolLabels { tool: Arc::clone(&tool) }).observe(duration.as_secs_f64());
        self.executions.get_or_create(&ExecutionLabels { tool, success }).inc();
    }

    /// A call of a tool with containers that are started ahead: `warm` when one was there, else `cold`.
    pub fn start(&self, tool: &str, start: &'static str) {
        self.warm.get_or_create(&StartLabels { tool: bounded(&self.tools, tool), start }).inc();
    }

    /// A container or process was started on a runner.
    pub fn started(&self, runner: &str) {
        self.starts.get_or_create(&RunnerLabels { runner: runner.to_owned() }).inc();
    }

    /// How much of this machine was promised to what runs on a runner: above 1, it is overcommitted.
    pub fn utilization(&self, runner: &str, share: f64) {
        self.utilization.get_or_create(&RunnerLabels { runner: runner.to_owned() }).set(share);
    }

    /// A runner is gone.
    pub fn forget_runner(&self, runner: &str) {
        self.utilization.remove(&RunnerLabels { runner: runner.to_owned() });
    }

    /// A pass ended: `applied`, `unchanged`, `failed` or `superseded`.
    pub fn pass(&self, result: &'static str, took: Duration) {
        self.passes.get_or_create(&ResultLabels { result: result.to_owned() }).inc();
        self.pass_duration.observe(took.as_secs_f64());
    }

    /// A catalog was published.
    pub fn published(&self, revision: &str, generation: u64, counts: Counts) {
        self.generation.set(generation.try_into().unwrap_or(i64::MAX));
        let Counts { tools, prompts, resources, templates } = counts;
        for (kind, count) in
            [("tool", tools), ("prompt", prompts), ("resource", resources), ("template", templates)]
        {
            let labels = KindLabels { kind: kind.to_owned() };
            self.entries.get_or_create(&labels).set(count.try_into().unwrap_or(i64::MAX));
        }
        let labels = RevisionLabels { revision: revision.to_owned() };
        self.served.get_or_create(&labels).set(1);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = last.replace(labels.clone()).filter(|before| *before != labels) {
            self.served.remove(&before);
        }
    }

    /// How many resources of a kind are ready (`true`), not ready (`false`) or neither (`unknown`).
    pub fn resources(&self, kind: &'static str, ready: Option<bool>, count: u64) {
        let ready = ready.map_or_else(|| "unknown".to_owned(), |ready| ready.to_string());
        let labels = ResourceLabels { kind: kind.to_owned(), ready };
        self.resources.get_or_create(&labels).set(count.try_into().unwrap_or(i64::MAX));
    }

    /// A server changed definitions by itself.
    pub fn definitions_changed(&self, server: &str, count: u64) {
        let labels = ServerLabels { server: bounded(&self.servers, server) };
        self.changed.get_or_create(&labels).inc_by(count);
    }

    /// How many servers stand in each way to their lock.
    pub fn locks(&self, standing: &BTreeMap<&str, u64>) {
        self.locks.clear();
        for (lock, count) in standing {
            let labels = LockLabels { lock: (*lock).to_owned() };
            self.locks.get_or_create(&labels).set((*count).try_into().unwrap_or(i64::MAX));
        }
    }

    /// How many instances of each server run.
    pub fn instances(&self, running: &BTreeMap<&str, u64>) {
        self.instances.clear();
        for (server, count) in running {
            let labels = ServerLabels { server: bounded(&self.servers, server) };
            self.instances.get_or_create(&labels).inc_by((*count).try_into().unwrap_or(i64::MAX));
        }
    }

    /// Counts something whenever the page is asked for: what is held at that moment.
    pub fn look(
        &self,
        name: &'static str,
        help: &'static str,
        count: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        let look = Look { name, help, count: Box::new(count) };
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
    }

    /// The page, in OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut page = String::new();
        let mut looks = Registry::default();
        for look in self.looks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let gauge = Gauge::<i64>::default();
            gauge.set((look.count)().try_into().unwrap_or(i64::MAX));
            looks.register(look.name, look.help, gauge);
        }
        // Writing to a string cannot fail.
        let _ = encode_registry(&mut page, &self.registry);
        let _ = encode_registry(&mut page, &looks);
        let _ = encode_eof(&mut page);
        page
    }
}

/// The value of a label, of which there are at most [`MAX_SERIES`].
fn bounded(known: &Mutex<BTreeSet<Arc<str>>>, value: &str) -> Arc<str> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(value) = known.get(value) {
        return Arc::clone(value);
    }
    if known.len() >= MAX_SERIES {
        return OTHER.into();
    }
    let value = Arc::<str>::from(value);
    known.insert(Arc::clone(&value));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_the_named_metrics_and_ends_as_openmetrics_must() {
        let metrics = Metrics::default();
        metrics.execution("time_now", true, Duration::from_millis(20));
        metrics.started("local");
        metrics.start("time_now", "warm");
        metrics.utilization("local", 0.25);
        metrics.pass("applied", Duration::from_millis(7));
        metrics.resources("Server", None, 2);
        metrics.published("main@sha1:aa", 1, Counts { tools: 3, ..Counts::default() });
        metrics.published("main@sha1:bb", 2, Counts { tools: 4, ..Counts::default() });
        metrics.look("held", "Things held", || 3);
        let page = metrics.encode();
        for line in [
            "held 3",
            "tool_executions_total{tool=\"time_now\",success=\"true\"} 1",
            "execution_duration_seconds_bucket{le=\"0.05\",tool=\"time_now\"} 1",
            "runner_utilization{runner=\"local\"} 0.25",
            "container_starts_total{runner=\"local\"} 1",
            "tool_starts_total{tool=\"time_now\",start=\"warm\"} 1",
            "reconcile_passes_total{result=\"applied\"} 1",
            "reconcile_duration_seconds_count 1",
            "catalog_generation 2",
            "catalog_entries{kind=\"tool\"} 4",
            "served_revision_info{revision=\"main@sha1:bb\"} 1",
            "resources{kind=\"Server\",ready=\"unknown\"} 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n") && !page.contains("sha1:aa"), "{page}");
    }

    #[test]
    fn series_are_bounded() {
        let metrics = Metrics::default();
        for index in 0..MAX_SERIES + 5 {
            metrics.execution(&format!("t{index}"), false, Duration::ZERO);
        }
        let page = metrics.encode();
        assert!(page.contains("tool_executions_total{tool=\"other\",success=\"false\"} 5\n"));
        assert_eq!(page.matches("tool_executions_total{").count(), MAX_SERIES + 1);
    }
}
