mod check;
mod emit;
mod parse;

use std::collections::{BTreeMap, BTreeSet};

use oci_content::{ArtifactCategory, Completeness, Digest, MirrorGraph};

use crate::created::Created;
use crate::entry_path::{EntryKind, EntryPath, EntryPathError};
use crate::stream_name::StreamName;

/// What a bundle claims to hold, and how it was found: `manifest.yaml`.
///
/// - It lists every other file with size and digest, so it is known before the first blob has been
///   fetched, and a signature over it covers the whole bundle.
/// - It has one encoding: [`to_yaml`](Self::to_yaml) writes it and [`parse`](Self::parse) accepts
///   nothing else.
/// - Lists are sorted; [`settle`](Self::settle) sorts them and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleManifest {
    /// The stream that the bundle belongs to.
    pub stream: StreamName,
    /// The bundle's place in the stream; 0 makes no claim.
    pub sequence: u64,
    /// When the content was put together, if the caller said.
    pub created: Option<Created>,
    /// The digest of the `manifest.yaml` of the base, whose blobs this bundle leaves out.
    pub base: Option<Digest>,
    /// The counts, for people and their scripts.
    pub referrers: ReferrerTotals,
    /// The images, and what discovery found.
    pub graph: MirrorGraph,
    /// The files of the layout, sorted by path.
    pub entries: Vec<EntryRecord>,
}

/// How many referrers a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ReferrerTotals {
    /// Distinct referrers.
    pub total: u64,
    /// Distinct subjects that at least one referrer refers to.
    pub subjects: u64,
    /// Listed images without referrers, either of the image or of one of its platform children.
    pub bare_images: u64,
    /// Whether the bundle holds everything that it should.
    pub status: Completeness,
    /// Distinct referrers by category, without the categories that have none.
    pub by_category: BTreeMap<ArtifactCategory, u64>,
}

/// A file of the bundle that is neither `manifest.yaml`, nor its signature, nor below `referrers/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EntryRecord {
    /// The path of the file.
    pub path: EntryPath,
    /// The size of the file in bytes.
    pub size: u64,
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// Whether the file is left to the base, and is not in this bundle.
    pub base: bool,
}

/// Why bytes are not a `manifest.yaml`, or a manifest cannot be written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manifest.yaml{place}: {reason}", place = line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct ManifestError {
    kind: ManifestErrorKind,
    line: Option<u64>,
    reason: String,
}

/// The classes of [`ManifestError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ManifestErrorKind {
    /// A version of the format that this release does not know: a newer release is needed.
    Version,
    /// The manifest is larger than the limit.
    TooLarge,
    /// A line is not what the grammar requires there.
    Malformed,
    /// The values could be read, but order, quoting or spacing are not those of their one encoding.
    NotCanonical,
    /// Two statements contradict each other, or something is stated twice.
    Inconsistent,
}

impl ManifestError {
    pub(crate) fn new(kind: ManifestErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            line: None,
            reason: reason.into(),
        }
    }

    pub(crate) fn at_line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    /// Returns the class.
    pub fn kind(&self) -> ManifestErrorKind {
        self.kind
    }

    /// Returns the line, counted from 1, if a single line is at fault.
    pub fn line(&self) -> Option<u64> {
        self.line
    }

    /// Returns the reason without the line.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl BundleManifest {
    /// The first line of every manifest of this version, without its key.
    pub const FORMAT: &'static str = "stellaops-mirror-bundle/v1";

    /// Creates a manifest that lists nothing.
    pub fn new(stream: StreamName, sequence: u64) -> Self {
        Self {
            stream,
            sequence,
            created: None,
            base: None,
            referrers: ReferrerTotals {
                total: 0,
                subjects: 0,
                bare_images: 0,
                status: Completeness::Complete,
                by_category: BTreeMap::new(),
            },
            graph: MirrorGraph::new(),
            entries: Vec::new(),
        }
    }

    /// Sorts the lists, drops duplicates, and counts the referrers.
    ///
    /// The caller gives `bare_images`, which depends on the images' platform children. The status
    /// becomes incomplete when a discovery is, and stays incomplete if it was.
    pub fn settle(&mut self, bare_images: u64) {
        self.graph.settle();
        self.entries.sort_by(|a, b| a.path.byte_order(&b.path));
        self.entries.dedup();
        let incomplete = self.referrers.status == Completeness::Incomplete
            || self.graph.status() == Completeness::Incomplete;
        self.referrers = ReferrerTotals::count(&self.graph, bare_images);
        if incomplete {
            self.referrers.status = Completeness::Incomplete;
        }
    }

    /// Returns every file that the archive holds beside `manifest.yaml` and its signature, in the
    /// archive's order.
    ///
    /// Files left to the base are not among them. A referrer that two repositories list for one
    /// subject is one file.
    pub fn files(&self) -> BTreeMap<EntryPath, ListedFile> {
        // A referrer without a path cannot be carried, and no manifest that lists one can be
        // written or read.
        let referrers = self.graph.referrers().filter_map(|(record, artifact)| {
            let file = ListedFile {
                size: artifact.size,
                sha256: artifact.digest.clone(),
            };
            let path = EntryPath::referrer(&record.subject, &artifact.digest);
            Some((path.ok()?, file))
        });
        let entries = self.entries.iter().filter(|entry| !entry.base);
        let entries = entries.map(|entry| {
            let file = ListedFile {
                size: entry.size,
                sha256: entry.sha256.clone(),
            };
            (entry.path.clone(), file)
        });
        referrers.chain(entries).collect()
    }
}

impl BundleManifest {
    /// Returns what the manifest says of one file of the archive; `None` for itself and its
    /// signature.
    pub fn file(&self, path: &EntryPath) -> Option<ListedFile> {
        if let EntryKind::Referrer { subject, referrer } = path.kind() {
            let (_, artifact) = self.graph.referrers().find(|(record, artifact)| {
                record.subject == *subject && artifact.digest == *referrer
            })?;
            return Some(ListedFile {
                size: artifact.size,
                sha256: artifact.digest.clone(),
            });
        }
        let entry = self.entry(path).filter(|entry| !entry.base)?;
        Some(ListedFile {
            size: entry.size,
            sha256: entry.sha256.clone(),
        })
    }

    /// Finds an entry. The entries have to be sorted.
    pub(crate) fn entry(&self, path: &EntryPath) -> Option<&EntryRecord> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.path.byte_order(path));
        self.entries.get(at.ok()?)
    }
}

/// What `manifest.yaml` says of one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ListedFile {
    /// The size of the file in bytes.
    pub size: u64,
    /// The SHA-256 of the file.
    pub sha256: Digest,
}

impl ReferrerTotals {
    /// Counts the referrers of `graph`; the status is complete.
    fn count(graph: &MirrorGraph, bare_images: u64) -> Self {
        let mut referrers = BTreeSet::new();
        let mut subjects = BTreeSet::new();
        let mut by_category = BTreeMap::<_, BTreeSet<_>>::new();
        for (record, artifact) in graph.referrers() {
            subjects.insert(&record.subject);
            referrers.insert(&artifact.digest);
            let of_category = by_category.entry(artifact.category).or_default();
            of_category.insert(&artifact.digest);
        }
        Self {
            total: referrers.len() as u64,
            subjects: subjects.len() as u64,
            bare_images,
            status: Completeness::Complete,
            by_category: by_category
                .into_iter()
                .map(|(category, digests)| (category, digests.len() as u64))
                .collect(),
        }
    }
}

impl EntryRecord {
    /// Creates the record of a file of `size` bytes.
    pub fn new(path: EntryPath, size: u64, sha256: Digest) -> Self {
        Self {
            path,
            size,
            sha256,
            base: false,
        }
    }

    /// Creates the record of a file that holds `bytes`.
    pub fn of(path: EntryPath, bytes: &[u8]) -> Self {
        Self::new(path, bytes.len() as u64, Digest::of(bytes))
    }

    /// Creates the record of content that is stored under its digest.
    ///
    /// # Errors
    ///
    /// When it is not a sha256 digest.
    pub fn blob(digest: &Digest, size: u64) -> Result<Self, EntryPathError> {
        Ok(Self::new(EntryPath::blob(digest)?, size, digest.clone()))
    }
}

#[cfg(test)]
pub(crate) mod tests;
