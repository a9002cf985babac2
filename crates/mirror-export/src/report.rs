use std::path::{Path, PathBuf};
use std::time::Duration;

use bundle_format::checksum_line;
use mirror_plan::FoundImage;
use oci_content::{FileSystemGaps, replace_file};
use registry_probe::ProbeReport;
use serde_json::{Value, json};

use crate::error::{ExportError, ExportErrorKind};
use crate::summary::ExportSummary;

const CHECKSUM: &str = ".sha256";
const REPORT: &str = ".report.json";

/// Writes the files next to a bundle: its checksum, and a report of everything that does not follow
/// from its bytes.
pub(crate) fn write(
    summary: &ExportSummary,
    probes: &[ProbeReport],
    images: &[FoundImage],
    elapsed: Duration,
    requests: u64,
    resumed: bool,
    gaps: &FileSystemGaps,
) -> Result<(), ExportError> {
    let name = summary
        .output
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    // Volumes come with the checksums of each.
    if summary.volumes.is_empty() {
        let checksum = checksum_line(&summary.output, &summary.sha256);
        replace(&beside(&summary.output, CHECKSUM), &checksum, gaps)?;
    }
    let document = json!({
        "schemaVersion": 1,
        "bundle": name,
        "sha256": summary.sha256,
        "size": summary.size,
        "volumes": summary.volumes.iter().map(|volume| json!({
            "file": volume.path.file_name().unwrap_or_default().to_string_lossy(),
            "size": volume.size, "sha256": volume.sha256,
        })).collect::<Vec<_>>(),
        "status": summary.manifest.referrers.status,
        "base": summary.base(),
        "seconds": elapsed.as_secs_f64(),
        "times": summary.times,
        "requests": requests,
        "resumed": resumed,
        "probes": probes,
        "images": images.iter().map(image).collect::<Vec<_>>(),
    });
    replace(
        &beside(&summary.output, REPORT),
        format!("{document:#}\n").as_bytes(),
        gaps,
    )
}

/// Removes the files next to a bundle that could not be given its name.
pub(crate) fn remove(output: &Path) {
    for suffix in [CHECKSUM, REPORT] {
        // A file that stays is replaced by the next run.
        drop(std::fs::remove_file(beside(output, suffix)));
    }
}

fn image(image: &FoundImage) -> Value {
    let graph = image.graph();
    let report = graph.report(image.digest());
    json!({
        "reference": image.reference(),
        "digest": image.digest(),
        "status": graph.status(),
        "method": report.map(|report| report.method),
        "capability": report.map(|report| report.capability),
        "referrers": graph.referrers.len(),
        "seconds": image.seconds(),
        "warnings": graph.warnings().map(|warning| json!({
            "code": warning.code, "digest": warning.digest, "message": warning.message,
        })).collect::<Vec<_>>(),
        "errors": graph.errors().map(|problem| json!({
            "code": problem.code, "digest": problem.digest, "subject": problem.subject, "source": problem.source,
            "message": problem.message,
        })).collect::<Vec<_>>(),
    })
}

/// Returns the path of a file next to the bundle.
fn beside(bundle: &Path, suffix: &str) -> PathBuf {
    let mut name = bundle.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn replace(path: &Path, bytes: &[u8], gaps: &FileSystemGaps) -> Result<(), ExportError> {
    replace_file(path, bytes, gaps).map_err(|error| {
        ExportError::new(
            ExportErrorKind::LocalIo,
            format!("{}: {error}", path.display()),
        )
    })
}
