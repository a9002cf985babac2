//! A run of a job that writes the next bundle of a series.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bundle_format::{SigningKey, StreamName};
use mirror_export::{ExportRequest, ExportSummary, FileOutput};
use mirror_plan::Selector;
use oci_content::{Digest, ImageSource, replace_file, with_causes};
use serde::Deserialize;

use super::model::{Run, RunOutput};
use super::runner::{Running, Work};
use super::state::{Bundle, expendable, next_full};
use crate::arguments::{base, policy};
use crate::config::{BundlePath, BundleTo, JobConfig, JobTarget, Secret};
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::jobs::export::export;
use crate::opened_bundle::OpenedBundle;
use crate::planning;
use crate::selection;
use crate::small_file;

/// The largest report of a bundle that is read.
const MAX_REPORT_BYTES: u64 = 256 << 20;

pub(super) async fn run(
    running: &mut Running<'_>,
    to: &BundleTo,
    work: &mut Work,
) -> Result<(), Failure> {
    let stream = stream(running)?;
    let written = match running.run.sequence {
        Some(sequence) => written(to, &stream, sequence)?,
        None => None,
    };
    if let Some(files) = written {
        running
            .context
            .log
            .info("The bundle was written whole before the service was interrupted");
        return finish(running, to, files, work);
    }
    let sequence = sequence(running, to)?;
    let request = request(running, to, &stream, sequence).await?;
    let mut output = FileOutput::new(to.path.file(sequence));
    output.volume_size = to.volume_size;
    let context = running.context;
    let summary = export(context, &request, &output, &context.progress).await;
    let summary = summary.map_err(|error| {
        for violation in error.violations() {
            let image = violation.image.as_ref();
            let image = image.map(|image| format!("{image}: ")).unwrap_or_default();
            context.log.warn(&format!(
                "{image}the policy expects {}: {}",
                violation.expected, violation.found
            ));
        }
        failure::of_export(&error)
    })?;
    finish(running, to, Written::from(&summary), work)
}

/// Returns whether the bundle of a run that was interrupted is there under its final name.
pub(super) fn is_written(run: &Run, job: &JobConfig) -> bool {
    let (JobTarget::Bundle(to), Some(sequence)) = (&job.to, run.sequence) else {
        return false;
    };
    let stream = run.job.as_str().parse();
    stream.is_ok_and(|stream| written(to, &stream, sequence).is_ok_and(|found| found.is_some()))
}

/// The bundles of a job are the stream of its name.
fn stream(running: &Running<'_>) -> Result<StreamName, Failure> {
    let name = running.run.job.as_str();
    name.parse().map_err(|error| {
        let message = format!("job {name}: its bundles are a stream of that name, and {error}");
        Failure::new(Exit::Usage, message)
    })
}

/// Chooses the number of the bundle, and keeps it.
fn sequence(running: &mut Running<'_>, to: &BundleTo) -> Result<u64, Failure> {
    if let Some(sequence) = running.run.sequence
        && !is_taken(&to.path.file(sequence))
    {
        return Ok(sequence);
    }
    let known = running.state().highest_sequence(&running.run.job)?;
    let there = highest_file(&to.path).map_err(|error| {
        let folder = to.path.folder().display();
        let message = format!("the folder of the bundles, {folder}, cannot be listed: {error}");
        Failure::new(Exit::LocalIo, message)
    })?;
    let next = known.max(there).checked_add(1).ok_or_else(|| {
        let message = format!("{} has a bundle with the last of all numbers", to.path);
        Failure::new(Exit::Limit, message)
    })?;
    running.set_sequence(next)?;
    Ok(next)
}

fn is_taken(path: &Path) -> bool {
    first_file(path).exists()
}

/// Returns the file to open for a bundle: itself, or the first of its volumes.
fn first_file(path: &Path) -> PathBuf {
    let volume = with_ending(path, ".001");
    if !path.exists() && volume.exists() {
        volume
    } else {
        path.to_owned()
    }
}

/// Returns the highest number of the bundles in the folder of a series; 0 if there are none.
fn highest_file(path: &BundlePath) -> io::Result<u64> {
    let folder = match path.folder() {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let mut highest = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        // The volumes of a bundle count as the bundle does.
        let whole = name.rsplit_once('.').filter(|(_, number)| {
            number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        let names = [Some(name), whole.map(|(whole, _)| whole)];
        for sequence in names
            .into_iter()
            .flatten()
            .filter_map(|name| path.sequence(name))
        {
            highest = highest.max(sequence);
        }
    }
    Ok(highest)
}

async fn request(
    running: &Running<'_>,
    to: &BundleTo,
    stream: &StreamName,
    sequence: u64,
) -> Result<ExportRequest, Failure> {
    let (context, job, name) = (running.context, running.job, &running.run.job);
    let mut selector = Selector::new(context.client.clone());
    let selected = selection::select(context, &mut selector, &job.images).await?;
    let images = selected.into_iter().flat_map(|rule| rule.images);
    let images: Vec<_> = images.map(ImageSource::from).collect();
    if images.is_empty() {
        let message = format!("job {name}: its rules select nothing, so there is nothing to write");
        return Err(Failure::new(Exit::Incomplete, message));
    }
    let mut request = ExportRequest::new(Vec::new());
    request.plan = planning::request(context, images);
    request.plan.platforms.clone_from(&job.platforms);
    if let Some(path) = &job.policy {
        let option = format!("configuration: jobs: {name}: policy {}", path.display());
        request.plan.policy = Some((policy::of_file(path, &option)?, SystemTime::now()));
    }
    request.stream = stream.clone();
    request.sequence = sequence;
    request.sign_key = to.sign_key.as_ref().map(signing_key).transpose()?;
    let bundles = running.state().bundles(name)?;
    if let Some(full) = next_full(&bundles, to.full_every) {
        match base::open(&first_file(&full.path), "the full bundle") {
            Ok(base) => request.base = Some(base),
            Err(failure) => context.log.warn(&format!(
                "this bundle is a full one, although a delta was due: {failure}"
            )),
        }
    }
    Ok(request)
}

fn signing_key(secret: &Secret) -> Result<SigningKey, Failure> {
    let wrong = |reason: &str| Failure::new(Exit::Usage, format!("sign_key {secret}: {reason}"));
    let pem = secret.read().map_err(|reason| wrong(&reason))?;
    let pem = pem.as_text().ok_or_else(|| wrong("it is not text"))?;
    SigningKey::from_pem(pem).map_err(|error| wrong(&error.to_string()))
}

/// The files of a bundle that is there.
struct Written {
    path: PathBuf,
    /// Each with its size and digest: one, or the volumes.
    files: Vec<(PathBuf, u64, Digest)>,
}

impl From<&ExportSummary> for Written {
    fn from(summary: &ExportSummary) -> Self {
        let whole = || (summary.output.clone(), summary.size, summary.sha256.clone());
        let volumes = summary.volumes.iter();
        let mut files: Vec<_> = volumes
            .map(|volume| (volume.path.clone(), volume.size, volume.sha256.clone()))
            .collect();
        if files.is_empty() {
            files.push(whole());
        }
        Self {
            path: summary.output.clone(),
            files,
        }
    }
}

/// What the report beside a bundle says of its files.
#[derive(Deserialize)]
struct Report {
    sha256: Digest,
    size: u64,
    volumes: Vec<ReportedVolume>,
}

#[derive(Deserialize)]
struct ReportedVolume {
    file: String,
    size: u64,
    sha256: Digest,
}

/// Returns the files of a bundle with this number, if it is there and one of the stream.
fn written(to: &BundleTo, stream: &StreamName, sequence: u64) -> Result<Option<Written>, Failure> {
    let path = to.path.file(sequence);
    if !is_taken(&path) {
        return Ok(None);
    }
    // Something else under this name takes nothing but the number.
    let Ok(bundle) = OpenedBundle::open(&first_file(&path)) else {
        return Ok(None);
    };
    if bundle.manifest.stream != *stream || bundle.manifest.sequence != sequence {
        return Ok(None);
    }
    let name = with_ending(&path, REPORT);
    // It is written before the bundle has its name.
    let report = small_file::read(&name, MAX_REPORT_BYTES)
        .and_then(|bytes| serde_json::from_slice::<Report>(&bytes).map_err(io::Error::from));
    let report = report.map_err(|error| {
        let message = format!("{}: {error}", name.display());
        Failure::new(Exit::LocalIo, message)
    })?;
    let mut files: Vec<_> = report
        .volumes
        .into_iter()
        .map(|volume| (path.with_file_name(volume.file), volume.size, volume.sha256))
        .collect();
    if files.is_empty() {
        files.push((path.clone(), report.size, report.sha256));
    }
    Ok(Some(Written { path, files }))
}

const REPORT: &str = ".report.json";
const CHECKSUM: &str = ".sha256";

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Takes a bundle into the series, and removes those that are no longer kept.
fn finish(
    running: &Running<'_>,
    to: &BundleTo,
    written: Written,
    work: &mut Work,
) -> Result<(), Failure> {
    let run = &running.run;
    let bundle = OpenedBundle::open(&first_file(&written.path))?;
    let bundles = running.state().bundles(&run.job)?;
    let base = bundle.manifest.base.as_ref().and_then(|_| {
        // A delta rests on the newest full bundle before it.
        let before =
            |known: &&Bundle| known.base.is_none() && known.sequence < bundle.manifest.sequence;
        bundles.iter().rfind(before).map(|full| full.sequence)
    });
    let known = Bundle {
        sequence: bundle.manifest.sequence,
        run: run.id.clone(),
        path: written.path.clone(),
        files: written.files.iter().map(|file| file.0.clone()).collect(),
        base,
    };
    running.state().add_bundle(&run.job, &known)?;
    let bundles_of = |(path, size, sha256): (PathBuf, u64, Digest)| RunOutput {
        kind: "bundle".to_owned(),
        path,
        sha256: sha256.to_string(),
        size,
    };
    work.outputs = written.files.into_iter().map(bundles_of).collect();
    let manifest = running
        .state()
        .file_of_run(run.id.as_str(), "manifest.yaml");
    replace_file(&manifest, &bundle.manifest_yaml, &running.context.gaps)
        .map_err(|error| Failure::new(Exit::LocalIo, format!("{}: {error}", manifest.display())))?;
    work.outputs
        .push(small_output("manifest", manifest, &bundle.manifest_yaml));
    let report = with_ending(&written.path, REPORT);
    match small_file::read(&report, MAX_REPORT_BYTES) {
        Ok(bytes) => work.outputs.push(small_output("report", report, &bytes)),
        Err(error) => running
            .context
            .log
            .warn(&format!("{}: {error}", report.display())),
    }
    remove_old(running, to);
    Ok(())
}

fn small_output(kind: &str, path: PathBuf, bytes: &[u8]) -> RunOutput {
    RunOutput {
        kind: kind.to_owned(),
        path,
        sha256: Digest::of(bytes).to_string(),
        size: bytes.len() as u64,
    }
}

/// Removes the bundles that are no longer kept. What cannot be removed now is looked at again after the next run.
fn remove_old(running: &Running<'_>, to: &BundleTo) {
    let (state, log, job) = (running.state(), &running.context.log, &running.run.job);
    let Some(keep) = to.keep else {
        return;
    };
    let bundles = match state.bundles(job) {
        Ok(bundles) => bundles,
        Err(error) => return log.warn(&with_causes(&error)),
    };
    for bundle in expendable(&bundles, keep) {
        let beside = [CHECKSUM, REPORT].map(|ending| with_ending(&bundle.path, ending));
        let removed =
            bundle
                .files
                .iter()
                .chain(&beside)
                .try_for_each(|path| match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(format!("{}: {error}", path.display()))
                    }
                    _ => Ok(()),
                });
        let removed = removed.and_then(|()| {
            let removed = state.remove_bundle(job, bundle.sequence);
            removed.map_err(|error| with_causes(&error))
        });
        match removed {
            Ok(()) => log.info(&format!(
                "Removed {}: the newest {keep} bundles are kept, and what they rest on",
                bundle.path.display()
            )),
            Err(reason) => log.warn(&format!("an old bundle cannot be removed: {reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_is_found_among_bundles_and_volumes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nightly-{sequence}.tgz");
        let to: JobTarget = serde_json::from_value(serde_json::json!({"bundle": path})).unwrap();
        let JobTarget::Bundle(to) = to else {
            panic!("it is a bundle");
        };
        assert_eq!(highest_file(&to.path).unwrap(), 0);
        for name in [
            "nightly-3.tgz",
            "nightly-3.tgz.sha256",
            "nightly-12.tgz.001",
            ".nightly-20.tgz.partial",
            "other-30.tgz",
            "nightly-x.tgz",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(highest_file(&to.path).unwrap(), 12);
    }
}
