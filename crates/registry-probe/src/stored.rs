//! The file of a cache.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use oci_content::{
    Capability, FileSystemGaps, MAX_FOREIGN_CHARS, MAX_MESSAGE_CHARS, bounded, replace_file,
};
use registry_client::Evidence;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entry::{Entries, Entry, Key};
use crate::fact::Fact;
use crate::report::ProbeReport;
use crate::scope::CredentialScope;

/// The size of the largest file that is read: 8 MiB.
pub(crate) const MAX_FILE_BYTES: u64 = 8 << 20;

const SCHEMA_VERSION: u64 = 1;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("it is of version {0}, which a newer program wrote")]
    Newer(u64),
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it is larger than {} MiB", MAX_FILE_BYTES >> 20)]
    TooLarge,
    #[error("{0}")]
    Io(#[from] io::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    schema_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    probes: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    registry: String,
    repository: Option<String>,
    scope: String,
    with_facts: bool,
    probed_at: u64,
    capability: Capability,
    version: String,
    probe_ms: u64,
    evidence: Vec<Evidence>,
    facts: Vec<Fact>,
}

/// Reads the entries of a file; none if it does not exist.
pub(crate) fn read(path: &Path) -> Result<Entries, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entries::new()),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(FileError::TooLarge);
    }
    let header: Header = serde_json::from_slice(&bytes)?;
    if header.schema_version > SCHEMA_VERSION {
        return Err(FileError::Newer(header.schema_version));
    }
    let document: Document = serde_json::from_slice(&bytes)?;
    Ok(document
        .probes
        .into_iter()
        // An entry that cannot be read is skipped; the others are used.
        .filter_map(|record| serde_json::from_value::<Record>(record).ok()?.entry())
        .collect())
}

/// Replaces the file as a whole, so that readers see the old one or the new one.
pub(crate) fn write(path: &Path, entries: &Entries, gaps: &FileSystemGaps) -> io::Result<()> {
    let records = entries.iter().map(|(key, entry)| Record::new(key, entry));
    let document = Document {
        schema_version: SCHEMA_VERSION,
        probes: records
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?,
    };
    let bytes = serde_json::to_vec(&document)?;
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::other("it has no folder"))?;
    std::fs::create_dir_all(folder)?;
    replace_file(path, &bytes, gaps)
}

impl Record {
    fn new(key: &Key, entry: &Entry) -> Self {
        let report = &entry.report;
        Self {
            registry: key.registry.to_string(),
            repository: key.repository.as_ref().map(ToString::to_string),
            scope: key.scope.as_str().to_owned(),
            with_facts: key.facts,
            probed_at: entry.at,
            capability: report.capability,
            version: report.version.clone(),
            probe_ms: u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
            evidence: report.evidence.clone(),
            facts: report.facts.clone(),
        }
    }

    /// Returns whether no text is longer than a probe makes it. Longer texts are from an older
    /// version, or not from this program.
    fn is_bounded(&self) -> bool {
        let of_facts = self.facts.iter().flat_map(|fact| &fact.evidence);
        let is_bounded = |text: &str, max_chars| bounded(text, max_chars) == text;
        is_bounded(&self.version, MAX_FOREIGN_CHARS)
            && self
                .facts
                .iter()
                .all(|fact| is_bounded(&fact.reason, MAX_MESSAGE_CHARS))
            && self
                .evidence
                .iter()
                .chain(of_facts)
                .all(Evidence::is_bounded)
    }

    /// Returns the entry; `None` if it is one that is never written.
    fn entry(self) -> Option<(Key, Entry)> {
        if self.capability == Capability::Unknown || !self.is_bounded() {
            return None;
        }
        let registry = self.registry.parse().ok()?;
        let repository = match self.repository {
            Some(repository) => Some(repository.parse().ok()?),
            None => None,
        };
        let mut report = ProbeReport::new(&registry, repository.as_ref());
        report.capability = self.capability;
        report.version = self.version;
        report.elapsed = Duration::from_millis(self.probe_ms);
        report.evidence = self.evidence;
        report.facts = self.facts;
        let scope = CredentialScope::from_stored(&self.scope);
        let key = Key::new(&registry, repository.as_ref(), scope, self.with_facts);
        Some((
            key,
            Entry {
                at: self.probed_at,
                report,
            },
        ))
    }
}
