use oci_content::{Completeness, Digest, Reference, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::ledger_report::LedgerReport;
use import_validator::Finding;

/// What an import did, and the proof that it arrived; written as a receipt to carry back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportReport {
    /// 1.
    pub schema_version: u32,
    /// Where everything went.
    pub target: String,
    /// The digest of the bundle's `manifest.yaml`; none where the source is no bundle.
    pub manifest: Option<Digest>,
    /// The key by which the bundle's signature was verified, as the SHA-256 of its DER form; none where no key was given.
    pub signed_by: Option<Digest>,
    /// The series that the bundle belongs to.
    pub stream: String,
    /// The bundle's place in the series.
    pub sequence: u64,
    /// What the ledger said of it; none where no ledger is kept.
    pub ledger: Option<LedgerReport>,
    /// Whether everything was only planned.
    pub dry_run: bool,
    /// Whether the export found out everything about the referrers, as the bundle says.
    pub source_status: Completeness,
    /// What the validation of the bundle warned of.
    pub warnings: Vec<Finding>,
    /// Warnings that are counted and not listed, because there are so many of their kind.
    pub warnings_omitted: u64,
    /// The images.
    pub images: Vec<ImportedImage>,
    /// The tags that were to be there, and what each was before, in the order in which they were made.
    pub tags: Vec<ImportedTag>,
    /// What was done with blobs.
    pub blobs: TransferCounts,
    /// Blobs that were looked for at the end, each once for every repository that needs it, and found there in their sizes.
    /// In a folder they were hashed, or written, and are counted once.
    pub blobs_checked: usize,
    /// What was done with manifests.
    pub manifests: TransferCounts,
    /// What a delta left out and the target had; `None` for a bundle that is none.
    pub base: Option<BaseReport>,
    /// Referrers that the bundle holds: each subject with each of its referrers.
    pub referrers_expected: usize,
    /// Referrers that a discovery at the target found.
    pub referrers_found: usize,
    /// Those that it did not find.
    pub missing: Vec<MissingReferrer>,
}

impl ImportReport {
    /// Returns the warnings about what the source could not settle: whatever the proof says, referrers may exist that the
    /// bundle does not hold.
    pub fn unsettled(&self) -> impl Iterator<Item = &Finding> {
        let warnings = self.warnings.iter();
        warnings.filter(|warning| warning.kind.is_of_completeness())
    }
}

/// An image that was put in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportedImage {
    /// The image's name where it came from.
    pub source: Reference,
    /// Its name at the target.
    pub target: String,
    /// Its digest.
    pub digest: Digest,
    /// The tag that was made; none for an image given by digest.
    pub tag: Option<Tag>,
}

/// A tag that was to be at the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportedTag {
    /// The repository at the target.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// What it stands for now.
    pub digest: Digest,
    /// What it stood for before; none where there was no such tag.
    pub before: Option<Digest>,
    /// What was done about it.
    pub action: TagAction,
}

/// What an import did about a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TagAction {
    /// It was made, or moved.
    Made,
    /// It was there already, and stands for what it should.
    Present,
}

/// How many objects were sent, and how many needed not to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TransferCounts {
    /// Sent.
    pub sent: usize,
    /// There already.
    pub present: usize,
    /// Taken over from another repository of the target.
    pub mounted: usize,
}

/// The blobs that a delta leaves out and that were found at the target, each once for every repository that needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BaseReport {
    /// The digest of the base's `manifest.yaml`.
    pub manifest: Digest,
    /// Their number.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Those among them that had to be taken over from another repository of the target.
    pub mounted: usize,
}

/// A referrer that the target does not list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct MissingReferrer {
    /// The repository at the target.
    pub repository: String,
    /// The subject.
    pub subject: Digest,
    /// The referrer.
    pub referrer: Digest,
    /// The legacy tag that should name it, if one should.
    pub tag: Option<Tag>,
}
