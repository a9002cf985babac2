use futures::future::join_all;
use oci_content::{Capability, ErrorCode};
use registry_probe::{Probe, ProbeReport};
use serde_json::json;

use crate::cli::{LogLevel, ProbeArgs, TableFormat};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::{self, Table};

pub(crate) async fn run(context: &Context, args: &ProbeArgs) -> Result<(), Failure> {
    let probe = Probe::new(context.client.clone());
    let probes = args
        .registries
        .iter()
        .map(|target| probe.probe(&target.registry, target.repository.as_ref()));
    let reports = join_all(probes).await;
    for report in &reports {
        announce(context, report);
    }
    match args.format {
        TableFormat::Json => {
            let document = json!({ "schemaVersion": 1, "registries": reports });
            render::json(&document)?;
        }
        TableFormat::Table => print(&reports)?,
    }
    let failed: Vec<_> = reports
        .iter()
        .filter_map(|report| report.failure.as_ref())
        .collect();
    let Some(first) = failed.first() else {
        return Ok(());
    };
    let exit = match first.code {
        ErrorCode::Denied => Exit::Access,
        ErrorCode::Limit => Exit::Incomplete,
        _ => Exit::Network,
    };
    let message = format!(
        "{} of {} registries could not be probed",
        failed.len(),
        reports.len()
    );
    Err(Failure::new(exit, message))
}

/// Logs and counts what a probe found, in the words that the runbook greps for.
pub(crate) fn announce(context: &Context, report: &ProbeReport) {
    context.metrics.probed(&report.registry, report.capability);
    let (registry, version, millis) = (
        &report.registry,
        &report.version,
        report.elapsed.as_millis(),
    );
    let fields = json!({
        "registry": registry, "capability": report.capability, "version": version, "probe_ms": u64::try_from(millis).unwrap_or(u64::MAX),
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

pub(crate) fn print(reports: &[ProbeReport]) -> Result<(), Failure> {
    let mut table = Table::new(["REGISTRY", "REPOSITORY", "REFERRERS API", "VERSION", "MS"]);
    for report in reports {
        table.row([
            report.registry.to_string(),
            report
                .repository
                .as_ref()
                .map_or("-".to_owned(), ToString::to_string),
            report.capability.to_string(),
            report.version.clone(),
            report.elapsed.as_millis().to_string(),
        ]);
    }
    let mut text = table.to_string();
    text.push_str("\nHow we know:\n");
    for evidence in reports.iter().flat_map(|report| &report.evidence) {
        let status = evidence
            .status
            .map_or("no answer".to_owned(), |status| status.to_string());
        text.push_str(&format!(
            "  {}\n    {status}: {}\n",
            evidence.request, evidence.reason
        ));
        for (name, value) in &evidence.headers {
            text.push_str(&format!("    {name}: {value}\n"));
        }
    }
    render::text(&text)
}
