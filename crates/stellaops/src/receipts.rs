//! The receipts of `mirror run`: one file for each run of a job, in `$XDG_STATE_HOME/stellaops/receipts/JOB/`.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mirror_import::{ImportReport, PruneKind, PruneReport};
use oci_content::{FileSystemGaps, replace_file};
use serde::Serialize;

use crate::context::state;
use crate::exit::{Exit, Failure};
use crate::small_file;

/// The version of a receipt's form.
const SCHEMA_VERSION: u32 = 1;
/// A larger file is refused: a receipt of 100,000 manifests has about 40 MiB.
const MAX_RECEIPT_BYTES: u64 = 1 << 30;
/// More files than this are refused: a run each hour makes 8,760 a year.
const MAX_RECEIPTS: usize = 100_000;

/// The receipts of one job.
///
/// - A receipt is written atomically, and its name sorts after all earlier ones, even if the clock was set back.
/// - A file that cannot be read or understood is an error that names it. It is never skipped: what it records as made would
///   then count as somebody else's.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    folder: PathBuf,
    gaps: FileSystemGaps,
}

impl Receipts {
    /// Returns the receipts of a job.
    pub(crate) fn of_job(job: &str, gaps: FileSystemGaps) -> Result<Self, Failure> {
        let Some(all) = state("receipts") else {
            let message = "there is no place for receipts: set XDG_STATE_HOME or HOME";
            return Err(Failure::new(Exit::Usage, message));
        };
        let is_file_name = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty()
                && name.len() <= 128
                && !name.starts_with('.')
                && name.bytes().all(plain)
        };
        if !is_file_name(job) {
            let message = format!(
                "{job:?} cannot be the name of a job: its receipts are kept in a folder of that name, so it has up to 128 \
                 letters, digits, '.', '_' and '-', and does not begin with '.'"
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(Self {
            folder: all.join(job),
            gaps,
        })
    }

    /// Returns the folder, which exists once there is a receipt.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the names of all jobs that have receipts, sorted.
    pub(crate) fn jobs() -> Result<Vec<String>, Failure> {
        let Some(all) = state("receipts") else {
            return Ok(Vec::new());
        };
        let entries = match fs::read_dir(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
        };
        let entries = entries.map_err(|error| {
            let message = format!("{} cannot be listed: {error}", all.display());
            Failure::new(Exit::LocalIo, message)
        })?;
        let folders = entries.iter().filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Returns the newest receipt of an import that was proved, without what was pruned since, and where it is; `None` if
    /// no receipt is proved.
    pub(crate) fn newest_proved(&self) -> Result<Option<(PathBuf, ImportReport)>, Failure> {
        let mut pruned = Vec::new();
        for path in self.newest_first()? {
            match read_record(&path)? {
                Record::Prune(report) => pruned.push(report),
                Record::Import(mut report) if report.proved => {
                    pruned.iter().for_each(|pruned| report.forget(pruned));
                    return Ok(Some((path, *report)));
                }
                Record::Import(_) => {}
            }
        }
        Ok(None)
    }

    /// Writes the receipt of a run, or the report of a prune, and returns where it is.
    pub(crate) fn write(&self, report: &impl Serialize) -> Result<PathBuf, Failure> {
        let fail = |error: &dyn fmt::Display| {
            let folder = self.folder.display();
            let message = format!(
                "the receipt cannot be written to {folder}: {error}; what was mirrored is at the target, and without a \
                 receipt it is never pruned"
            );
            Failure::new(Exit::LocalIo, message)
        };
        fs::create_dir_all(&self.folder).map_err(|error| fail(&error))?;
        let last = self.newest_first()?.into_iter().next();
        let name = name_after(SystemTime::now(), last.as_deref());
        let path = self.folder.join(name);
        let text = serde_json::to_string(report).map_err(|error| fail(&error))?;
        replace_file(&path, format!("{text}\n").as_bytes(), &self.gaps)
            .map_err(|error| fail(&error))?;
        Ok(path)
    }

    /// Returns the files of all receipts, the newest first; none if the job has not run yet.
    pub(crate) fn newest_first(&self) -> Result<Vec<PathBuf>, Failure> {
        let fail = |reason: String| {
            let message = format!(
                "the receipts in {} cannot be listed: {reason}",
                self.folder.display()
            );
            Failure::new(Exit::LocalIo, message)
        };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error.to_string())),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| fail(error.to_string()))?.path();
            let is_json = path
                .extension()
                .is_some_and(|extension| extension == "json");
            let hidden = path.file_name().is_some_and(|name| {
                // What a run that was killed left over.
                name.as_encoded_bytes().starts_with(b".")
            });
            if !is_json || hidden {
                continue;
            }
            if paths.len() == MAX_RECEIPTS {
                return Err(fail(format!("there are more than {MAX_RECEIPTS}")));
            }
            paths.push(path);
        }
        paths.sort();
        paths.reverse();
        Ok(paths)
    }
}

/// A file among the receipts of a job.
#[derive(Debug)]
pub(crate) enum Record {
    Import(Box<ImportReport>),
    Prune(Box<PruneReport>),
}

/// Reads a receipt, of `mirror run` or of `bundle import`.
pub(crate) fn read(path: &Path) -> Result<ImportReport, Failure> {
    match read_record(path)? {
        Record::Import(report) => Ok(*report),
        Record::Prune(_) => {
            let message = format!(
                "{} is the report of a prune, and no receipt of what was brought",
                path.display()
            );
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

/// Reads a file among the receipts of a job.
pub(crate) fn read_record(path: &Path) -> Result<Record, Failure> {
    parse(path).map_err(|reason| {
        let message = format!(
            "the receipt {} cannot be relied on: {reason}; put it back from a backup, or move it away to do without what it \
             records",
            path.display()
        );
        Failure::new(Exit::LocalIo, message)
    })
}

fn parse(path: &Path) -> Result<Record, String> {
    let read = small_file::read(path, MAX_RECEIPT_BYTES);
    let bytes = read.map_err(|error| error.to_string())?;
    /// The version, which is read first: a later version may have other members.
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
        kind: Option<PruneKind>,
    }
    let damaged = |error: serde_json::Error| format!("it is damaged: {error}");
    let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version.schema_version != SCHEMA_VERSION {
        return Err(format!(
            "it is of version {}, and this program knows version {SCHEMA_VERSION}",
            version.schema_version
        ));
    }
    Ok(match version.kind {
        Some(_) => Record::Prune(serde_json::from_slice(&bytes).map_err(damaged)?),
        None => Record::Import(serde_json::from_slice(&bytes).map_err(damaged)?),
    })
}

/// Returns a file name that sorts after `last`: the time, down to the nanosecond, or the nanosecond after that of `last`.
fn name_after(now: SystemTime, last: Option<&Path>) -> String {
    let last = last
        .and_then(Path::file_stem)
        .and_then(|stem| stem.to_str());
    let last = last.and_then(|stem| humantime::parse_rfc3339(&stem.replace('_', ":")).ok());
    let time = match last {
        Some(last) if last >= now => last + Duration::from_nanos(1),
        _ => now,
    };
    let time = humantime::format_rfc3339_nanos(time).to_string();
    // A colon is not allowed in the names of some file systems.
    format!("{}.json", time.replace(':', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts(folder: &Path) -> Receipts {
        Receipts {
            folder: folder.join("job"),
            gaps: FileSystemGaps::default(),
        }
    }

    fn report(target: &str) -> ImportReport {
        let json = serde_json::json!({
            "schemaVersion": 1, "target": target, "manifest": null, "signedBy": null, "stream": "default", "sequence": 0,
            "ledger": null, "dryRun": false, "sourceStatus": "complete", "warnings": [], "warningsOmitted": 0, "images": [],
            "tags": [], "blobs": {"sent": 0, "present": 0, "mounted": 0}, "blobsChecked": 0,
            "manifests": {"sent": 0, "present": 0, "mounted": 0}, "base": null, "referrersExpected": 0, "referrersFound": 0,
            "missing": []
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn receipts_are_listed_newest_first_even_if_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let receipts = receipts(folder.path());
        assert_eq!(receipts.newest_first().unwrap(), Vec::<PathBuf>::new());
        let first = receipts.write(&report("first")).unwrap();
        let future = receipts
            .folder()
            .join("2999-12-31T23_59_59.999999999Z.json");
        fs::rename(&first, &future).unwrap();
        receipts.write(&report("second")).unwrap();
        receipts.write(&report("third")).unwrap();
        fs::write(receipts.folder().join(".partial-x.json"), "half").unwrap();
        fs::write(receipts.folder().join("notes.txt"), "").unwrap();
        let targets: Vec<_> = receipts
            .newest_first()
            .unwrap()
            .iter()
            .map(|path| read(path).unwrap().target)
            .collect();
        assert_eq!(targets, ["third", "second", "first"]);
    }

    #[test]
    fn a_receipt_of_an_older_version_is_read_and_has_no_graph() {
        let old = report("old");
        assert!(old.graph.is_none() && !old.proved && old.repositories.is_empty());
        assert_eq!(old.target_identity, None);
    }

    #[test]
    fn a_damaged_receipt_is_named_and_not_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        for (content, reason) in [
            ("", "it is damaged: EOF"),
            ("[]", "it is damaged: "),
            (r#"{"schemaVersion":1}"#, "it is damaged: missing field"),
            (r#"{"schemaVersion":2}"#, "it is of version 2"),
        ] {
            fs::write(&path, content).unwrap();
            let failure = read(&path).unwrap_err();
            assert!(failure.is(Exit::LocalIo));
            let message = failure.to_string();
            assert!(
                message.contains(reason) && message.contains("r.json"),
                "{message}"
            );
        }
        fs::remove_file(&path).unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("No such file")
        );
    }

    #[test]
    fn a_job_is_a_folder_of_its_own() {
        for name in ["", ".", "..", "a/b", ".hidden", "x y", &"a".repeat(129)] {
            let error = Receipts::of_job(name, FileSystemGaps::default());
            assert!(error.unwrap_err().is(Exit::Usage), "{name}");
        }
    }
}
