use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bundle_format::StreamName;
use oci_content::{Digest, FileSystemGaps, replace_file, try_lock};
use serde::{Deserialize, Serialize};

use crate::error::{ImportError, ImportErrorKind, ImportRemedy};
use crate::ledger_report::{KnownSeries, LedgerReport, LedgerVerdict};
use crate::source::Provenance;

/// The version of a record's form.
const SCHEMA_VERSION: u64 = 1;
/// A larger file was not written by us: a record has a few hundred bytes, and a target's name at
/// most a few thousand.
const MAX_RECORD_BYTES: u64 = 64 * 1024;

/// Records how far each series has come, so that an older bundle, or a different one with the same
/// sequence, is refused even if its signature is valid.
///
/// A ledger is a folder with one record for each key, stream and target: the highest sequence whose
/// import was proved, and the digest of that bundle's `manifest.yaml`. `docs/ledger.md` describes
/// the file.
///
/// - Only bundles with a verified signature and a sequence above 0 are recorded.
/// - A record is read before an import has any effect and written after its proof. In between it is
///   locked, so if two imports of one series into one target run at once, one is refused.
/// - A record that cannot be read or understood is an error; it is never treated as empty.
/// - An import that was allowed to go back changes nothing in the ledger: the highest sequence
///   stays recorded.
#[derive(Clone, Debug)]
pub struct Ledger {
    folder: PathBuf,
    gaps: FileSystemGaps,
}

/// The file of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    schema_version: u64,
    key: Digest,
    stream: String,
    target: String,
    sequence: u64,
    manifest: Digest,
}

/// What a bundle would record, and where.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    ledger: &'a Ledger,
    new: Record,
    base: Option<Digest>,
}

/// A claim that was admitted; the record is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    claim: Claim<'a>,
    report: LedgerReport,
    _lock: Option<File>,
}

impl Ledger {
    /// Creates a ledger in a folder; the folder is created with the first record.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            gaps: FileSystemGaps::default(),
        }
    }

    /// Records in `gaps` what the file system of the folder cannot do.
    #[must_use]
    pub fn with_gaps(mut self, gaps: FileSystemGaps) -> Self {
        self.gaps = gaps;
        self
    }

    /// Returns the series that a target has had. They are used for a warning only, so files that
    /// cannot be read are skipped.
    pub(crate) fn series_of(&self, target: &str) -> Vec<KnownSeries> {
        const MAX_FILES: usize = 10_000;
        const MAX_SERIES: usize = 16;
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut series: Vec<_> = files
            .take(MAX_FILES)
            .filter(|file| file.path().extension().is_some_and(|end| end == "json"))
            .filter_map(|file| {
                let mut bytes = Vec::new();
                let file = File::open(file.path()).ok()?;
                file.take(MAX_RECORD_BYTES).read_to_end(&mut bytes).ok()?;
                let record: Record = serde_json::from_slice(&bytes).ok()?;
                (record.target == target).then_some(KnownSeries {
                    stream: record.stream,
                    sequence: record.sequence,
                    key: record.key,
                })
            })
            .collect();
        series.sort();
        series.truncate(MAX_SERIES);
        series
    }

    /// Returns what a bundle would record, or why it would record nothing.
    pub(crate) fn claim(
        &self,
        bundle: &Provenance,
        target: String,
    ) -> Result<Claim<'_>, LedgerReport> {
        let nothing = |verdict, key| LedgerReport {
            verdict,
            key,
            recorded_sequence: None,
            recorded_manifest: None,
            base_recorded: None,
            other_series: Vec::new(),
        };
        let (Some(key), Some(manifest)) = (&bundle.signed_by, &bundle.manifest) else {
            return Err(nothing(LedgerVerdict::Unverified, None));
        };
        if bundle.sequence == 0 {
            return Err(nothing(LedgerVerdict::Unnumbered, Some(key.clone())));
        }
        Ok(Claim {
            ledger: self,
            new: Record {
                schema_version: SCHEMA_VERSION,
                key: key.clone(),
                stream: bundle.stream.to_string(),
                target,
                sequence: bundle.sequence,
                manifest: manifest.clone(),
            },
            base: bundle.base.clone(),
        })
    }
}

impl<'a> Claim<'a> {
    /// Compares the bundle with the record, and locks the record unless this is a dry run.
    pub(crate) fn admit(
        self,
        allow_rollback: bool,
        dry_run: bool,
    ) -> Result<Admitted<'a>, ImportError> {
        let lock = if dry_run { None } else { Some(self.lock()?) };
        let recorded = self.recorded()?;
        let verdict = self.new.verdict(recorded.as_ref());
        if let Some(recorded) = &recorded
            && !allow_rollback
        {
            self.refuse(verdict, recorded)?;
        }
        let forward = [LedgerVerdict::First, LedgerVerdict::Newer].contains(&verdict);
        let base = self.base.as_ref().filter(|_| forward);
        let report = LedgerReport {
            base_recorded: base.map(|base| {
                let last = recorded.as_ref().map(|record| &record.manifest);
                last == Some(base)
            }),
            other_series: match verdict {
                LedgerVerdict::First => self.ledger.series_of(&self.new.target),
                _ => Vec::new(),
            },
            verdict,
            key: Some(self.new.key.clone()),
            recorded_sequence: recorded.as_ref().map(|record| record.sequence),
            recorded_manifest: recorded.map(|record| record.manifest),
        };
        Ok(Admitted {
            claim: self,
            report,
            _lock: lock,
        })
    }

    fn refuse(&self, verdict: LedgerVerdict, recorded: &Record) -> Result<(), ImportError> {
        let Record {
            stream,
            sequence,
            manifest,
            ..
        } = &self.new;
        let Record {
            target,
            sequence: highest,
            manifest: known,
            ..
        } = recorded;
        let reason = match verdict {
            LedgerVerdict::Rollback => format!(
                "the bundle is sequence {sequence} of stream {stream} ({manifest}), and {target} has had sequence {highest} ({known}) \
                 already: this one is older"
            ),
            LedgerVerdict::Fork => format!(
                "the bundle is sequence {sequence} of stream {stream} ({manifest}), and what {target} has had under this sequence \
                 is another one ({known})"
            ),
            _ => return Ok(()),
        };
        let message = format!(
            "{reason}; nothing was sent; ask who sent it (removing {} forgets the series)",
            self.path().display(),
        );
        let error = ImportError::new(ImportErrorKind::Authenticity, message);
        Err(error.with_remedy(ImportRemedy::AllowRollback))
    }

    /// Returns the path of the record: the stream's name, for readers, and a hash of key, stream
    /// and target.
    fn path(&self) -> PathBuf {
        let Record {
            key,
            stream,
            target,
            ..
        } = &self.new;
        let identity = Digest::of(format!("{key}\n{stream}\n{target}").as_bytes());
        let name = format!("{stream}.{}.json", identity.encoded());
        self.ledger.folder.join(name)
    }

    fn lock(&self) -> Result<File, ImportError> {
        let path = self.path().with_extension("lock");
        fs::create_dir_all(&self.ledger.folder)
            .map_err(|error| unusable(&self.ledger.folder, error))?;
        let file = File::create(&path).map_err(|error| unusable(&path, error))?;
        match try_lock(&file, &path, &self.ledger.gaps) {
            Ok(true) => Ok(file),
            Err(error) => Err(unusable(&path, error)),
            Ok(false) => {
                let Record { stream, target, .. } = &self.new;
                let message = format!(
                    "another import of stream {stream} into {target} is under way; wait for its end, and run this one again"
                );
                Err(ImportError::new(ImportErrorKind::LocalIo, message))
            }
        }
    }

    /// Reads the record; `None` before the first import.
    fn recorded(&self) -> Result<Option<Record>, ImportError> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_RECORD_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unusable(&path, error))?;
        match Record::parse(&bytes, &self.new) {
            Ok(record) => Ok(Some(record)),
            Err(reason) => {
                let message = format!(
                    "the ledger cannot be relied on, and nothing was sent: {}: {reason}; put it back from a backup, or remove it \
                     to accept the next bundle of stream {} whatever its sequence",
                    path.display(),
                    self.new.stream,
                );
                Err(ImportError::new(ImportErrorKind::LocalIo, message))
            }
        }
    }

    /// Replaces the record atomically: a reader sees the old one or the new one. The caller holds
    /// the lock, so there is no other writer.
    fn write(&self) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.new)?;
        text.push('\n');
        replace_file(&self.path(), text.as_bytes(), &self.ledger.gaps)
    }
}

impl Admitted<'_> {
    pub(crate) fn report(&self) -> &LedgerReport {
        &self.report
    }

    /// Records the bundle if it is the highest of its series; its import has been proved.
    pub(crate) fn record(self) -> Result<(), ImportError> {
        match self.report.verdict {
            LedgerVerdict::First | LedgerVerdict::Newer => self.claim.write().map_err(|error| {
                let message = format!(
                    "everything arrived, and the same import has to be run again, because the ledger could not be written: {}",
                    self.claim.path().display()
                );
                ImportError::caused(ImportErrorKind::LocalIo, message, error)
            }),
            _ => Ok(()),
        }
    }
}

impl Record {
    fn verdict(&self, recorded: Option<&Self>) -> LedgerVerdict {
        let Some(recorded) = recorded else {
            return LedgerVerdict::First;
        };
        match self.sequence.cmp(&recorded.sequence) {
            std::cmp::Ordering::Greater => LedgerVerdict::Newer,
            std::cmp::Ordering::Less => LedgerVerdict::Rollback,
            std::cmp::Ordering::Equal if self.manifest == recorded.manifest => LedgerVerdict::Same,
            std::cmp::Ordering::Equal => LedgerVerdict::Fork,
        }
    }

    /// Parses a record, which must have the key, stream and target of `claim`.
    fn parse(bytes: &[u8], claim: &Self) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_RECORD_BYTES {
            return Err(format!("it is larger than {MAX_RECORD_BYTES} bytes"));
        }
        /// The version, which is read first: a later version may have other members.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            schema_version: u64,
        }
        let damaged = |error: serde_json::Error| format!("it is damaged: {error}");
        let Version { schema_version } = serde_json::from_slice(bytes).map_err(damaged)?;
        if schema_version != SCHEMA_VERSION {
            return Err(format!(
                "it is of version {schema_version}, and this program knows version {SCHEMA_VERSION}"
            ));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(damaged)?;
        if record.stream.parse::<StreamName>().is_err() || record.sequence == 0 {
            return Err("it is damaged: it holds no stream or no sequence".to_owned());
        }
        let about = |record: &Self| {
            (
                record.key.clone(),
                record.stream.clone(),
                record.target.clone(),
            )
        };
        if about(&record) == about(claim) {
            Ok(record)
        } else {
            Err("it is about another key, stream or target than its name".to_owned())
        }
    }
}

fn unusable(path: &Path, error: io::Error) -> ImportError {
    let message = format!(
        "the ledger cannot be used, and nothing was sent: {}",
        path.display()
    );
    ImportError::caused(ImportErrorKind::LocalIo, message, error)
}

#[cfg(test)]
mod tests;
