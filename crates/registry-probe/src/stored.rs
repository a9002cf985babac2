//! The file of a cache.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use oci_content::{Capability, replace_file};
use registry_client::Evidence;
use serde::{Deserialize, Serialize};

use crate::cache::{Entries, Entry, Key, ProbeCache};
use crate::fact::Fact;
use crate::report::ProbeReport;
use crate::scope::CredentialScope;

const SCHEMA_VERSION: u64 = 1;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("it is of version {0}, which a newer program wrote")]
    Newer(u64),
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it is larger than {} MiB", ProbeCache::MAX_FILE_BYTES >> 20)]
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
    probes: Vec<Record>,
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

/// Reads a file; one that is not there is empty.
pub(crate) fn read(path: &Path) -> Result<Entries, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entries::new()),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(ProbeCache::MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ProbeCache::MAX_FILE_BYTES {
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
        .filter_map(Record::entry)
        .collect())
}

/// Replaces a file: a reader sees the old one or the new one.
pub(crate) fn write(path: &Path, entries: &Entries) -> io::Result<()> {
    let document = Document {
        schema_version: SCHEMA_VERSION,
        probes: entries
            .iter()
            .map(|(key, entry)| Record::new(key, entry))
            .collect(),
    };
    let bytes = serde_json::to_vec(&document)?;
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::other("it has no folder"))?;
    std::fs::create_dir_all(folder)?;
    replace_file(path, &bytes)
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

    /// Returns the entry, unless it is one that is never written.
    fn entry(self) -> Option<(Key, Entry)> {
        let registry = self.registry.parse().ok()?;
        let repository = match self.repository {
            Some(repository) => Some(repository.parse().ok()?),
            None => None,
        };
        if self.capability == Capability::Unknown {
            return None;
        }
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
