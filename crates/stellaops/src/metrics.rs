use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use metrics::{Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use mirror_import::{AuditReport, DriftKind};
use mirror_plan::JobName;
use oci_content::{Capability, DiscoveryMethod, ErrorCode, FileSystemGaps, Registry};

use crate::center::model::{Run, RunKind, RunStatus};

/// Buckets in seconds: from a round trip on a fast network to the default time limit of an image.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0,
];
const BUDGET_WAITS: &str = "registry_budget_waits_total";
const DRIFT: &str = "mirror_drift";
const CERTIFICATE: &str = "registry_certificate_expiry_timestamp_seconds";

const DRIFT_KINDS: [DriftKind; 3] = [DriftKind::Missing, DriftKind::Changed, DriftKind::Extra];
/// Buckets in seconds of what takes a night at most.
const RUN_BUCKETS: [f64; 10] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0,
];
const RUNS: &str = "export_runs_total";
const RUNS_FAILED: &str = "export_runs_failed_total";
const LAST_SUCCESS: &str = "mirror_last_success_timestamp_seconds";
const MIRROR_DURATION: &str = "mirror_run_duration_seconds";
const RUN_DURATION: &str = "export_run_duration_seconds";
const BUNDLE_BYTES: &str = "export_bytes_total";

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// What became of an image in a run of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageOutcome {
    /// Its tag was made or moved.
    Copied,
    /// It was there already, and was proved again.
    Present,
    /// The run failed.
    Failed,
}

impl ImageOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Present => "present",
            Self::Failed => "failed",
        }
    }
}

/// The metrics that an operator queries. Names and labels are fixed; dashboards rely on them.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let builder = PrometheusBuilder::new();
        // An empty list would be the only error.
        let of_runs = [RUN_DURATION, MIRROR_DURATION].map(str::to_owned);
        let builder = of_runs.into_iter().fold(
            builder.set_buckets(&BUCKETS).unwrap_or_default(),
            |builder, name| {
                let matcher = Matcher::Full(name);
                builder
                    .set_buckets_for_metric(matcher, &RUN_BUCKETS)
                    .unwrap_or_default()
            },
        );
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let described = [
            (
                "export_registry_capabilities_probed_total",
                "Registries probed, by what they said of the referrers API",
            ),
            (
                "export_referrer_discovery_method_total",
                "Images whose referrers were discovered, by method",
            ),
            (
                "export_referrer_discovery_failures_total",
                "What a discovery could not settle, by code",
            ),
            (
                "registry_requests_total",
                "HTTP requests sent to registries, by status",
            ),
            (
                "store_requests_total",
                "Requests that the served store has answered, by method and status",
            ),
            (
                "mirror_images_total",
                "Images of a job's runs, by what became of them",
            ),
            (
                "mirror_bytes_total",
                "Bytes of bodies that a job's runs received (in) and sent (out)",
            ),
            (RUNS, "Runs of a job that have ended, by how"),
            (RUNS_FAILED, "Runs that have failed"),
            (
                BUNDLE_BYTES,
                "Bytes of the bundles that the runs of a job wrote",
            ),
            (
                "registry_rate_limit_waits_total",
                "Times that a registry asked to wait",
            ),
            (
                BUDGET_WAITS,
                "Waits for the configured budget of a registry, by what was used up",
            ),
        ];
        for (name, text) in described {
            recorder.describe_counter(name.into(), None, text.into());
        }
        let text = "What differs at the target of a job from its newest receipt, by kind";
        recorder.describe_gauge(DRIFT.into(), None, text.into());
        let text = "When the first of the certificates that a registry shows ends, in Unix time";
        recorder.describe_gauge(CERTIFICATE.into(), None, text.into());
        let text = "When a job last succeeded, in Unix time";
        recorder.describe_gauge(LAST_SUCCESS.into(), None, text.into());
        for (name, text) in [
            (RUN_DURATION, "Time that runs of a job took"),
            (MIRROR_DURATION, "Time that mirroring took in runs of a job"),
            (
                "registry_request_duration_seconds",
                "Time until requests to a registry were answered",
            ),
        ] {
            recorder.describe_histogram(name.into(), None, text.into());
        }
        Self { recorder, handle }
    }

    /// Creates the counters of a registry at 0: `rate()` sees no first increment of a counter that did not exist.
    pub(crate) fn expect(&self, registry: &Registry) {
        let by = 0;
        for supported in ["true", "false", "unknown"] {
            let name = "export_registry_capabilities_probed_total";
            self.count(name, registry, "api_supported", supported, by);
        }
        for method in DiscoveryMethod::ALL {
            let name = "export_referrer_discovery_method_total";
            self.count(name, registry, "method", method.as_str(), by);
        }
        for code in ErrorCode::ALL {
            let name = "export_referrer_discovery_failures_total";
            self.count(name, registry, "error", code.as_str(), by);
        }
        let name = "registry_rate_limit_waits_total";
        self.count(name, registry, "status", "429", by);
        for budget in ["bytes", "requests", "window"] {
            self.count(BUDGET_WAITS, registry, "budget", budget, by);
        }
    }

    pub(crate) fn probed(&self, registry: &Registry, capability: Capability) {
        let supported = match capability {
            Capability::Supported => "true",
            Capability::Unsupported => "false",
            _ => "unknown",
        };
        self.count(
            "export_registry_capabilities_probed_total",
            registry,
            "api_supported",
            supported,
            1,
        );
    }

    pub(crate) fn discovered(&self, registry: &Registry, method: DiscoveryMethod) {
        self.count(
            "export_referrer_discovery_method_total",
            registry,
            "method",
            method.as_str(),
            1,
        );
    }

    pub(crate) fn discovery_failed(&self, registry: &Registry, code: ErrorCode) {
        self.count(
            "export_referrer_discovery_failures_total",
            registry,
            "error",
            code.as_str(),
            1,
        );
    }

    pub(crate) fn request(&self, registry: &Registry, status: &str, seconds: f64) {
        self.count("registry_requests_total", registry, "status", status, 1);
        let key = Key::from_parts(
            "registry_request_duration_seconds",
            vec![label("registry", registry.as_str())],
        );
        self.recorder
            .register_histogram(&key, &METADATA)
            .record(seconds);
    }

    pub(crate) fn waiting(&self, registry: &Registry, status: &str) {
        self.count(
            "registry_rate_limit_waits_total",
            registry,
            "status",
            status,
            1,
        );
    }

    /// Sets when the first of the certificates of a registry ends.
    pub(crate) fn certificate_ends(&self, registry: &Registry, at: SystemTime) {
        let labels = vec![label("registry", registry.as_str())];
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        self.recorder
            .register_gauge(&Key::from_parts(CERTIFICATE, labels), &METADATA)
            .set(since.unwrap_or_default().as_secs_f64());
    }

    /// Counts a wait for the budget of a registry.
    pub(crate) fn held(&self, registry: &Registry, budget: &'static str) {
        self.count(BUDGET_WAITS, registry, "budget", budget, 1);
    }

    /// Sets what an audit of a job's target has found.
    pub(crate) fn drifted(&self, job: &str, report: &AuditReport) {
        let counts = DRIFT_KINDS.map(|kind| report.count(kind) as u64);
        self.drift(job, counts);
    }

    /// Sets the numbers of what is missing, changed and extra at a job's target.
    pub(crate) fn drift(&self, job: &str, counts: [u64; 3]) {
        for (kind, count) in DRIFT_KINDS.into_iter().zip(counts) {
            let labels = vec![label("job", job), label("kind", &kind.to_string())];
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.recorder
                .register_gauge(&Key::from_parts(DRIFT, labels), &METADATA)
                .set(f64::from(count));
        }
    }

    /// Counts a request to the served store. Methods that no registry uses are counted as `other`.
    pub(crate) fn served(&self, method: &str, status: &str, seconds: f64) {
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" => method,
            _ => "other",
        };
        let labels = vec![label("method", method), label("status", status)];
        self.recorder
            .register_counter(&Key::from_parts("store_requests_total", labels), &METADATA)
            .increment(1);
        self.recorder
            .register_histogram(&Key::from_name("store_request_duration_seconds"), &METADATA)
            .record(seconds);
    }

    /// Creates the counters of a job at 0.
    pub(crate) fn expect_job(&self, job: &JobName) {
        for outcome in [
            ImageOutcome::Copied,
            ImageOutcome::Present,
            ImageOutcome::Failed,
        ] {
            self.job_images(job, outcome, 0);
        }
        self.job_bytes(job, 0, 0);
    }

    /// Creates the counters of the runs of a job at 0.
    pub(crate) fn expect_runs(&self, job: &JobName) {
        for status in RunStatus::ALL
            .into_iter()
            .filter(|status| status.is_final())
        {
            self.add(RUNS, run_labels(job, status), 0);
        }
        self.add(RUNS_FAILED, profile(job), 0);
        self.add(BUNDLE_BYTES, profile(job), 0);
    }

    /// Counts a run that has ended.
    pub(crate) fn run_ended(&self, run: &Run, took: Duration) {
        self.add(RUNS, run_labels(&run.job, run.status), 1);
        if run.status == RunStatus::Failed {
            self.add(RUNS_FAILED, profile(&run.job), 1);
        }
        let bundles = run.outputs.iter().filter(|output| output.kind == "bundle");
        let bytes = bundles.map(|output| output.size).sum();
        self.add(BUNDLE_BYTES, profile(&run.job), bytes);
        let key = Key::from_parts(RUN_DURATION, profile(&run.job));
        self.recorder
            .register_histogram(&key, &METADATA)
            .record(took.as_secs_f64());
        if run.status == RunStatus::Succeeded
            && run.kind != RunKind::Audit
            && let Some(finished) = run.finished
        {
            self.job_succeeded(&run.job, finished);
        }
    }

    fn add(&self, name: &'static str, labels: Vec<Label>, by: u64) {
        self.recorder
            .register_counter(&Key::from_parts(name, labels), &METADATA)
            .increment(by);
    }

    pub(crate) fn job_images(&self, job: &JobName, outcome: ImageOutcome, images: u64) {
        let labels = vec![
            label("job", job.as_str()),
            label("outcome", outcome.as_str()),
        ];
        self.recorder
            .register_counter(&Key::from_parts("mirror_images_total", labels), &METADATA)
            .increment(images);
    }

    pub(crate) fn job_bytes(&self, job: &JobName, received: u64, sent: u64) {
        for (direction, bytes) in [("in", received), ("out", sent)] {
            let labels = vec![label("job", job.as_str()), label("direction", direction)];
            self.recorder
                .register_counter(&Key::from_parts("mirror_bytes_total", labels), &METADATA)
                .increment(bytes);
        }
    }

    pub(crate) fn job_ran(&self, job: &JobName, time: Duration) {
        let labels = vec![label("job", job.as_str())];
        self.recorder
            .register_histogram(&Key::from_parts(MIRROR_DURATION, labels), &METADATA)
            .record(time.as_secs_f64());
    }

    pub(crate) fn job_succeeded(&self, job: &JobName, at: Timestamp) {
        let labels = vec![label("job", job.as_str())];
        let key = Key::from_parts(LAST_SUCCESS, labels);
        self.recorder
            .register_gauge(&key, &METADATA)
            .set(at.as_duration().as_secs_f64());
    }

    fn count(
        &self,
        name: &'static str,
        registry: &Registry,
        name_of: &'static str,
        value: &str,
        by: u64,
    ) {
        let labels = vec![label("registry", registry.as_str()), label(name_of, value)];
        self.recorder
            .register_counter(&Key::from_parts(name, labels), &METADATA)
            .increment(by);
    }

    /// Returns everything in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Replaces a file with the metrics in one step, as a textfile collector expects; writes to a pipe or a device.
    pub(crate) fn write(&self, path: &Path, gaps: &FileSystemGaps) -> std::io::Result<()> {
        oci_content::write_file(path, self.render().as_bytes(), gaps)
    }
}

fn label(name: &'static str, value: &str) -> Label {
    Label::new(name, value.to_owned())
}

fn profile(job: &JobName) -> Vec<Label> {
    vec![label("profile", job.as_str())]
}

fn run_labels(job: &JobName, status: RunStatus) -> Vec<Label> {
    let mut labels = profile(job);
    labels.push(label("status", status.as_str()));
    labels
}

#[cfg(test)]
mod deploy;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_the_ones_that_dashboards_query() {
        let metrics = Metrics::new();
        let registry: Registry = "registry.example.com".parse().unwrap();
        metrics.expect(&registry);
        metrics.probed(&registry, Capability::Unsupported);
        metrics.discovered(&registry, DiscoveryMethod::NativeAndTag);
        metrics.discovery_failed(&registry, ErrorCode::RateLimited);
        metrics.request(&registry, "200", 0.02);
        metrics.held(&registry, "window");
        metrics.served("GET", "404", 0.02);
        metrics.served("BREW", "none", 0.02);
        let text = metrics.render();
        for line in [
            "export_registry_capabilities_probed_total{registry=\"registry.example.com\",api_supported=\"false\"} 1",
            "export_referrer_discovery_method_total{registry=\"registry.example.com\",method=\"native+tag\"} 1",
            "export_referrer_discovery_failures_total{registry=\"registry.example.com\",error=\"rate-limited\"} 1",
            "export_registry_capabilities_probed_total{registry=\"registry.example.com\",api_supported=\"true\"} 0",
            "export_referrer_discovery_method_total{registry=\"registry.example.com\",method=\"fallback-tag\"} 0",
            "export_referrer_discovery_failures_total{registry=\"registry.example.com\",error=\"denied\"} 0",
            "registry_rate_limit_waits_total{registry=\"registry.example.com\",status=\"429\"} 0",
            "registry_budget_waits_total{registry=\"registry.example.com\",budget=\"window\"} 1",
            "registry_budget_waits_total{registry=\"registry.example.com\",budget=\"requests\"} 0",
            "store_requests_total{method=\"GET\",status=\"404\"} 1",
            "store_requests_total{method=\"other\",status=\"none\"} 1",
            "store_request_duration_seconds_bucket{le=\"0.025\"} 2",
            "registry_request_duration_seconds_bucket{registry=\"registry.example.com\",le=\"0.025\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
