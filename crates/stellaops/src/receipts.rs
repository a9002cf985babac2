//! The receipts of jobs: what each run brought to its target, and what was pruned there since.

mod folder;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use mirror_import::{ImportReport, PruneKind, PruneReport};
use serde::Serialize;

pub(crate) use self::folder::FolderReceipts;
use crate::exit::{Exit, Failure};
use crate::job_lock::JobHeld;
use crate::small_file;

/// The version of a receipt's form.
const SCHEMA_VERSION: u32 = 1;
/// A larger file is refused: a receipt of 100,000 manifests has about 40 MiB.
const MAX_RECEIPT_BYTES: u64 = 1 << 30;

/// Where receipts are kept.
///
/// - A receipt is written as a whole or not at all, and is newer than all earlier ones, even if the clock was set back.
/// - A receipt is never changed.
pub(crate) trait ReceiptStore: fmt::Debug + Send + Sync {
    /// Returns the names of all jobs that have receipts, sorted.
    fn jobs(&self) -> Result<Vec<String>, Failure>;

    /// Returns the names of a job's receipts, the newest first; none if the job has not run yet.
    fn newest_first(&self, job: &str) -> Result<Vec<String>, Failure>;

    fn read(&self, job: &str, name: &str) -> io::Result<Vec<u8>>;

    /// Writes the next receipt of a job, and returns its name.
    fn write(&self, job: &str, text: &str) -> io::Result<String>;

    /// Returns where a job's receipts are, for people.
    fn place(&self, job: &str) -> String;

    /// Returns where a receipt is, for people.
    fn place_of(&self, job: &str, name: &str) -> String;

    /// Takes the lock on a job, if more than one process can run it; fails if another run holds it.
    fn hold(&self, job: &str) -> Result<Option<JobHeld>, Failure>;
}

/// The receipts of one job.
///
/// A receipt that cannot be read or understood is an error that names it. It is never skipped: what it records as made would
/// then count as somebody else's.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    job: String,
    store: Arc<dyn ReceiptStore>,
}

impl Receipts {
    /// Returns the receipts of a job.
    pub(crate) fn of_job(job: &str, store: Arc<dyn ReceiptStore>) -> Result<Self, Failure> {
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
            job: job.to_owned(),
            store,
        })
    }

    /// Returns where the receipts are, for people.
    pub(crate) fn place(&self) -> String {
        self.store.place(&self.job)
    }

    /// Returns where a receipt is, for people.
    pub(crate) fn place_of(&self, name: &str) -> String {
        self.store.place_of(&self.job, name)
    }

    /// Takes the lock on the job, held until it is dropped; fails if another run holds it.
    pub(crate) fn hold(&self) -> Result<Option<JobHeld>, Failure> {
        self.store.hold(&self.job)
    }

    /// Returns the names of all receipts, the newest first; none if the job has not run yet.
    pub(crate) fn newest_first(&self) -> Result<Vec<String>, Failure> {
        self.store.newest_first(&self.job)
    }

    pub(crate) fn read(&self, name: &str) -> Result<Record, Failure> {
        let bytes = self.store.read(&self.job, name);
        parse(bytes).map_err(|reason| unreliable(&self.place_of(name), &reason))
    }

    /// Returns the newest receipt of an import that was proved, without what was pruned since, and where it is; `None` if
    /// no receipt is proved.
    pub(crate) fn newest_proved(&self) -> Result<Option<(String, ImportReport)>, Failure> {
        let mut pruned = Vec::new();
        for name in self.newest_first()? {
            match self.read(&name)? {
                Record::Prune(report) => pruned.push(report),
                Record::Import(mut report) if report.proved => {
                    pruned.iter().for_each(|pruned| report.forget(pruned));
                    return Ok(Some((self.place_of(&name), *report)));
                }
                Record::Import(_) => {}
            }
        }
        Ok(None)
    }

    /// Writes the receipt of a run, or the report of a prune, and returns where it is.
    pub(crate) fn write(&self, report: &impl Serialize) -> Result<String, Failure> {
        let text = serde_json::to_string(report).map_err(io::Error::from);
        let written = text.and_then(|text| self.store.write(&self.job, &format!("{text}\n")));
        let name = written.map_err(|error| {
            let message = format!(
                "the receipt cannot be written to {}: {error}; what was mirrored is at the target, and without a receipt it \
                 is never pruned",
                self.place()
            );
            Failure::new(Exit::LocalIo, message)
        })?;
        Ok(self.place_of(&name))
    }
}

/// A receipt.
#[derive(Debug)]
pub(crate) enum Record {
    Import(Box<ImportReport>),
    Prune(Box<PruneReport>),
}

/// Reads a receipt from a file, of `mirror run` or of `bundle import`.
pub(crate) fn read(path: &Path) -> Result<ImportReport, Failure> {
    let place = path.display().to_string();
    let bytes = small_file::read(path, MAX_RECEIPT_BYTES);
    match parse(bytes).map_err(|reason| unreliable(&place, &reason))? {
        Record::Import(report) => Ok(*report),
        Record::Prune(_) => {
            let message =
                format!("{place} is the report of a prune, and no receipt of what was brought");
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

fn unreliable(place: &str, reason: &str) -> Failure {
    let message = format!(
        "the receipt {place} cannot be relied on: {reason}; put it back from a backup, or move it away to do without what it \
         records"
    );
    Failure::new(Exit::LocalIo, message)
}

fn parse(read: io::Result<Vec<u8>>) -> Result<Record, String> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use oci_content::FileSystemGaps;

    use super::*;

    fn receipts(folder: &Path) -> Receipts {
        let store = FolderReceipts::new(folder.to_owned(), FileSystemGaps::default());
        Receipts::of_job("job", Arc::new(store)).unwrap()
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
        let job = folder.path().join("job");
        let receipts = receipts(folder.path());
        assert_eq!(receipts.newest_first().unwrap(), Vec::<String>::new());
        let first = receipts.write(&report("first")).unwrap();
        let future = job.join("2999-12-31T23_59_59.999999999Z.json");
        fs::rename(&first, &future).unwrap();
        receipts.write(&report("second")).unwrap();
        receipts.write(&report("third")).unwrap();
        fs::write(job.join(".partial-x.json"), "half").unwrap();
        fs::write(job.join("notes.txt"), "").unwrap();
        let mut targets = Vec::new();
        for name in receipts.newest_first().unwrap() {
            targets.push(read(&job.join(name)).unwrap().target);
        }
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
            let store = FolderReceipts::new("x".into(), FileSystemGaps::default());
            let error = Receipts::of_job(name, Arc::new(store));
            assert!(error.unwrap_err().is(Exit::Usage), "{name}");
        }
    }
}
