mod check;
mod emit;
mod parse;

use std::collections::{BTreeMap, BTreeSet};

use oci_content::{
    ArtifactCategory, Capability, Completeness, Digest, DiscoveryMethod, Reference, SourceKind, Tag,
};

use crate::created::Created;
use crate::entry_path::{EntryKind, EntryPath, EntryPathError};
use crate::source_repository::SourceRepository;
use crate::stream_name::StreamName;

/// What a bundle claims to hold, and how it was found: `manifest.yaml`.
///
/// - It lists every other file with size and digest, so it is known before the first blob has been fetched, and a
///   signature over it covers the whole bundle.
/// - It has one encoding: [`to_yaml`](Self::to_yaml) writes it and [`parse`](Self::parse) accepts nothing else.
/// - Lists are sorted; [`settle`](Self::settle) sorts them and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleManifest {
    /// The stream that the bundle belongs to.
    pub stream: StreamName,
    /// The bundle's place in the stream; 0 makes no claim.
    pub sequence: u64,
    /// When the content was put together, if somebody said.
    pub created: Option<Created>,
    /// The digest of the `manifest.yaml` of the bundle whose blobs are left out here.
    pub base: Option<Digest>,
    /// The counts, for people and their scripts.
    pub referrers: ReferrerTotals,
    /// The images, sorted by reference.
    pub images: Vec<ImageRecord>,
    /// What discovery found, sorted by repository and subject.
    pub discovery: Vec<DiscoveryRecord>,
    /// The files of the layout, sorted by path.
    pub entries: Vec<EntryRecord>,
}

/// How many referrers a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReferrerTotals {
    /// Distinct referrers.
    pub total: u64,
    /// Distinct subjects that at least one referrer refers to.
    pub subjects: u64,
    /// Images in the list that nothing refers to: neither to the image nor to one of its platform children.
    pub bare_images: u64,
    /// Whether everything that should be in the bundle is.
    pub status: Completeness,
    /// Distinct referrers by category; a category without one is left out.
    pub by_category: BTreeMap<ArtifactCategory, u64>,
}

/// An image that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageRecord {
    /// The name under which it was asked for.
    pub reference: Reference,
    /// The manifest that the name stood for.
    pub digest: Digest,
    /// The media type of that manifest.
    pub media_type: String,
    /// The size of that manifest in bytes.
    pub size: u64,
    /// What the image lists and the bundle leaves out on purpose, sorted by digest.
    pub omitted: Vec<OmittedChild>,
}

/// A manifest that an index lists and that is not in the bundle on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OmittedChild {
    /// The manifest that is left out.
    pub digest: Digest,
    /// Why, in a word: `platform`.
    pub reason: String,
}

/// What discovery found for one subject in one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryRecord {
    /// Where it was looked for.
    pub repository: SourceRepository,
    /// What was asked about.
    pub subject: Digest,
    /// What the registry can do.
    pub capability: Capability,
    /// How the referrers were found.
    pub method: DiscoveryMethod,
    /// Whether everything that should have been asked gave an answer.
    pub status: Completeness,
    /// What could not be settled, or was found stale, sorted.
    pub missing: Vec<Missing>,
    /// The referrers, sorted by digest and tag.
    pub artifacts: Vec<ArtifactRecord>,
}

/// Something that discovery could not settle, or that the subject needs and the bundle lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Missing {
    /// Why: an error or warning code, such as `rate-limited`; lower-case letters, digits and hyphens.
    pub code: String,
    /// What is missing, where it is known.
    pub digest: Option<Digest>,
    /// What failed to answer, such as `referrers-api`.
    pub source: Option<String>,
}

/// One referrer of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArtifactRecord {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its artifact type, as the manifest gives it; an index may have none.
    pub artifact_type: Option<String>,
    /// The media type of its manifest.
    pub media_type: String,
    /// The size of its manifest in bytes.
    pub size: u64,
    /// What kind of statement it makes.
    pub category: ArtifactCategory,
    /// The sources that named it, in the order of their declaration; at least one.
    pub sources: Vec<SourceKind>,
    /// The legacy tag that named it; there exactly when the sources have [`SourceKind::LegacyTag`].
    pub tag: Option<Tag>,
    /// Where in the bundle its manifest stands, in the folder of its subject.
    pub path: EntryPath,
}

/// A file of the bundle that is neither `manifest.yaml`, nor its signature, nor below `referrers/`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryRecord {
    /// Its path.
    pub path: EntryPath,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Whether the base holds it, so that it is not in this bundle.
    pub base: bool,
}

/// Why bytes are no `manifest.yaml`, or a manifest cannot be written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manifest.yaml{place}: {reason}", place = line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct ManifestError {
    kind: ManifestErrorKind,
    line: Option<u64>,
    reason: String,
}

/// The classes of [`ManifestError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestErrorKind {
    /// A version of the format that this release does not know: a newer release is needed.
    Version,
    /// Larger than the limit.
    TooLarge,
    /// A line is not what the grammar has in its place.
    Malformed,
    /// The values could be read, but this is not their one encoding: order, quoting or spacing is another.
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

    /// Returns the line, counted from 1, where one line is at fault.
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
            images: Vec::new(),
            discovery: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Sorts the lists, drops what a list states twice, and counts the referrers.
    ///
    /// `bare_images` cannot be counted here: it takes the images' platform children. The status becomes
    /// incomplete when a discovery is, and stays incomplete if it was.
    pub fn settle(&mut self, bare_images: u64) {
        self.images
            .sort_by_cached_key(|image| image.reference.to_string());
        self.images.dedup();
        for image in &mut self.images {
            image.omitted.sort_by(|a, b| a.digest.cmp(&b.digest));
            image.omitted.dedup_by(|a, b| a.digest == b.digest);
        }
        self.discovery
            .sort_by_cached_key(|record| (record.repository.to_string(), record.subject.clone()));
        for record in &mut self.discovery {
            record.missing.sort();
            record.missing.dedup();
            for artifact in &mut record.artifacts {
                artifact.sources.sort();
                artifact.sources.dedup();
            }
            record
                .artifacts
                .sort_by(|a, b| (&a.digest, &a.tag).cmp(&(&b.digest, &b.tag)));
            record.artifacts.dedup();
        }
        self.entries.sort_by(|a, b| a.path.byte_order(&b.path));
        self.entries.dedup();
        let incomplete = self.referrers.status == Completeness::Incomplete
            || self
                .discovery
                .iter()
                .any(|r| r.status == Completeness::Incomplete);
        self.referrers = ReferrerTotals::count(&self.discovery, bare_images);
        if incomplete {
            self.referrers.status = Completeness::Incomplete;
        }
    }

    /// Returns every file that the archive holds beside `manifest.yaml` and its signature, in the archive's order.
    ///
    /// What the base holds is left out. A referrer that two repositories list for one subject is one file.
    pub fn files(&self) -> BTreeMap<EntryPath, ListedFile> {
        let referrers = self.discovery.iter().flat_map(|record| &record.artifacts);
        let referrers = referrers.map(|artifact| {
            let file = ListedFile {
                size: artifact.size,
                sha256: artifact.digest.clone(),
            };
            (artifact.path.clone(), file)
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
    /// Returns what the manifest says of one file of the archive; nothing of its own and of its signature.
    pub fn file(&self, path: &EntryPath) -> Option<ListedFile> {
        if matches!(path.kind(), EntryKind::Referrer { .. }) {
            let mut referrers = self.discovery.iter().flat_map(|record| &record.artifacts);
            let artifact = referrers.find(|artifact| artifact.path == *path)?;
            return Some(ListedFile {
                size: artifact.size,
                sha256: artifact.digest.clone(),
            });
        }
        let at = self
            .entries
            .binary_search_by(|entry| entry.path.byte_order(path));
        let entry = self.entries.get(at.ok()?).filter(|entry| !entry.base)?;
        Some(ListedFile {
            size: entry.size,
            sha256: entry.sha256.clone(),
        })
    }
}

/// What `manifest.yaml` says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedFile {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl ReferrerTotals {
    /// Counts the referrers of `discovery`; the status is complete.
    fn count(discovery: &[DiscoveryRecord], bare_images: u64) -> Self {
        let mut referrers = BTreeSet::new();
        let mut subjects = BTreeSet::new();
        let mut by_category = BTreeMap::<_, BTreeSet<_>>::new();
        for record in discovery {
            for artifact in &record.artifacts {
                subjects.insert(&record.subject);
                referrers.insert(&artifact.digest);
                by_category
                    .entry(artifact.category)
                    .or_default()
                    .insert(&artifact.digest);
            }
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

impl ImageRecord {
    /// Creates the record of an image of which nothing is left out.
    pub fn new(
        reference: Reference,
        digest: Digest,
        media_type: impl Into<String>,
        size: u64,
    ) -> Self {
        Self {
            reference,
            digest,
            media_type: media_type.into(),
            size,
            omitted: Vec::new(),
        }
    }
}

impl OmittedChild {
    /// Creates the record of a child that is left out for `reason`.
    pub fn new(digest: Digest, reason: impl Into<String>) -> Self {
        Self {
            digest,
            reason: reason.into(),
        }
    }
}

impl DiscoveryRecord {
    /// Creates the record of a discovery that ended and found nothing.
    pub fn new(
        repository: SourceRepository,
        subject: Digest,
        capability: Capability,
        method: DiscoveryMethod,
    ) -> Self {
        Self {
            repository,
            subject,
            capability,
            method,
            status: Completeness::Complete,
            missing: Vec::new(),
            artifacts: Vec::new(),
        }
    }
}

impl Missing {
    /// Creates a record without a digest and a source.
    pub fn new(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            digest: None,
            source: None,
        }
    }
}

impl ArtifactRecord {
    /// Creates the record of a referrer of `subject` that no source has named yet; the category comes from the
    /// artifact type.
    ///
    /// # Errors
    ///
    /// When one of the digests is not sha256, which version 1 of the bundle cannot carry.
    pub fn new(
        subject: &Digest,
        digest: Digest,
        artifact_type: Option<String>,
        media_type: impl Into<String>,
        size: u64,
    ) -> Result<Self, EntryPathError> {
        Ok(Self {
            path: EntryPath::referrer(subject, &digest)?,
            category: ArtifactCategory::of(artifact_type.as_deref().unwrap_or_default()),
            digest,
            artifact_type,
            media_type: media_type.into(),
            size,
            sources: Vec::new(),
            tag: None,
        })
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

    /// Creates the record of content that stands under its digest.
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
