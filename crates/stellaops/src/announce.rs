//! Log lines and metrics of probes and discoveries, in the exact words that the runbook greps for.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use oci_content::{Capability, Completeness, DiscoveryMethod, ErrorCode, Registry, SourceKind};
use oci_referrers::{ReferrerGraph, SubjectReport, Warning};
use registry_probe::ProbeReport;
use serde_json::json;

use crate::context::Context;
use crate::log::LogLevel;
use crate::remedy;

/// Logs and counts what a probe found.
pub(crate) fn probed(context: &Context, report: &ProbeReport) {
    context.board.probed(report);
    if report.cached.is_none() {
        context.metrics.probed(&report.registry, report.capability);
    }
    let (registry, version, millis) = (
        &report.registry,
        &report.version,
        report.elapsed.as_millis(),
    );
    let fields = json!({
        "registry": registry, "capability": report.capability, "version": version, "probe_ms": u64::try_from(millis).unwrap_or(u64::MAX),
        "cached": report.cached.is_some(),
    });
    let fields = fields.as_object().cloned().unwrap_or_default();
    match (&report.failure, report.capability) {
        (Some(failure), _) => {
            let message = format!(
                "Failed to probe capabilities for registry {registry}: {}",
                failure.message
            );
            context.log.write(LogLevel::Warn, &message, fields);
        }
        (None, Capability::Supported) => {
            let message = format!(
                "Registry {registry}: OCI 1.1 (referrers API supported, version={version}, probe_ms={millis})"
            );
            context.log.write(LogLevel::Info, &message, fields);
        }
        (None, Capability::Unsupported) => {
            let message = format!(
                "Registry {registry}: OCI 1.0 (using fallback tag discovery, version={version}, probe_ms={millis})"
            );
            context.log.write(LogLevel::Warn, &message, fields);
        }
        (None, _) => {
            let reason = report
                .evidence
                .last()
                .map_or("no answer", |evidence| evidence.reason.as_str());
            let message = format!("Failed to probe capabilities for registry {registry}: {reason}");
            context.log.write(LogLevel::Warn, &message, fields);
        }
    }
}

/// Logs and counts what a discovery found; in a folder there is no registry to count it for.
pub(crate) fn discovered(
    context: &Context,
    reference: &impl Display,
    registry: Option<&Registry>,
    root: Option<&SubjectReport>,
    graph: &ReferrerGraph,
    timeout: Duration,
    unreadable: bool,
) {
    let method = root.map_or(DiscoveryMethod::FallbackTag, |report| report.method);
    if let Some(registry) = registry {
        if !unreadable {
            context.metrics.discovered(registry, method);
        }
        for problem in graph.errors() {
            context.metrics.discovery_failed(registry, problem.code);
        }
    }
    let open = graph
        .errors()
        .map(|problem| remedy::of_problem(problem, registry));
    if let Some(way_out) = open.into_iter().find(|way_out| !way_out.is_empty()) {
        context.log.warn(&format!(
            "{reference}: the referrers API is denied, and not every subject has a referrers tag{way_out}"
        ));
    }
    let fields =
        json!({ "reference": reference.to_string(), "registry": registry, "method": method });
    let fields = || fields.as_object().cloned().unwrap_or_default();
    if graph
        .errors()
        .any(|problem| problem.code == ErrorCode::Timeout)
    {
        let seconds = timeout.as_secs();
        let message =
            format!("Referrer discovery timed out for image {reference} after {seconds} s");
        context.log.write(LogLevel::Warn, &message, fields());
    }
    if !unreadable && graph.referrers.is_empty() && graph.status() == Completeness::Complete {
        context.log.write(
            LogLevel::Warn,
            &format!("No referrers found for image {reference}"),
            fields(),
        );
    }
    let legacy = graph
        .referrers
        .iter()
        .filter(|r| r.sources.contains(&SourceKind::LegacyTag))
        .count();
    if legacy > 0 && context.log.is_debug() {
        context.log.debug(&format!(
            "{legacy} referrers of {reference} are named by legacy tags"
        ));
    }
}

/// Merges warnings that say the same about several subjects; each comes with a suffix that gives their number.
pub(crate) fn folded_warnings<'a>(
    warnings: impl Iterator<Item = &'a Warning>,
) -> Vec<(&'a Warning, String)> {
    let mut folded: Vec<(&Warning, usize)> = Vec::new();
    let mut places = HashMap::new();
    for warning in warnings {
        let key = (warning.code, &warning.digest, &warning.message);
        let place = *places.entry(key).or_insert(folded.len());
        match folded.get_mut(place) {
            Some((_, times)) => *times += 1,
            None => folded.push((warning, 1)),
        }
    }
    let said = folded.into_iter().map(|(warning, times)| match times {
        1 => (warning, String::new()),
        times => (warning, format!(" ({times} subjects)")),
    });
    said.collect()
}
