use std::fmt;

use oci_content::{Digest, RepositoryName, Tag, schema_version_1};
use serde::{Deserialize, Serialize};

/// What an audit found at a target, compared with a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AuditReport {
    /// The version of the form: 1.
    #[serde(deserialize_with = "schema_version_1")]
    pub schema_version: u32,
    /// The target.
    pub target: String,
    /// What became of the question.
    pub status: AuditStatus,
    /// The number of tags that were compared.
    pub tags: usize,
    /// The number of manifests that were read.
    pub manifests: usize,
    /// The number of blobs that were looked up, each once for every repository.
    pub blobs: usize,
    /// The number of referrers that the receipt names, counted once for each subject.
    pub referrers: usize,
    /// What differs, sorted.
    pub findings: Vec<AuditFinding>,
    /// The questions that got no answer.
    pub unanswered: Vec<String>,
}

/// What became of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AuditStatus {
    /// Everything that was brought is there, unchanged and discoverable.
    Clean,
    /// Something is missing or changed.
    Drifted,
    /// A question got no answer, so it is not known.
    Incomplete,
}

/// One difference between a receipt and its target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AuditFinding {
    /// How it differs.
    pub kind: DriftKind,
    /// What differs.
    pub object: AuditedObject,
    /// The repository at the target.
    pub repository: RepositoryName,
    /// Its digest, as the receipt has it.
    pub digest: Digest,
    /// The tag, if it is a tag or has a legacy tag.
    pub tag: Option<Tag>,
    /// What a referrer refers to; the manifest that needs a blob.
    pub subject: Option<Digest>,
    /// What is there instead.
    pub found: Option<Digest>,
}

/// How something differs from a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DriftKind {
    /// It was brought, and is not there any more.
    Missing,
    /// It is there and is something else.
    Changed,
    /// It was not brought, and refers to something that was.
    Extra,
}

/// What an audit looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AuditedObject {
    /// A tag.
    Tag,
    /// The manifest of an image.
    Image,
    /// A manifest that an index lists.
    Child,
    /// A referrer: its manifest, or its place in the list of its subject.
    Referrer,
    /// A layer or another blob.
    Blob,
}

impl AuditFinding {
    /// Returns the likely cause, in the words of operators.
    pub fn cause(&self) -> &'static str {
        match (self.kind, self.object) {
            (DriftKind::Missing, AuditedObject::Referrer) => {
                "pruned by registry retention policy, or deleted"
            }
            (DriftKind::Missing, AuditedObject::Tag) => "deleted, or pruned by retention policy",
            (DriftKind::Missing, AuditedObject::Blob) => {
                "removed by garbage collection, or lost in storage"
            }
            (DriftKind::Missing, _) => "deleted, or removed by garbage collection",
            (DriftKind::Changed, AuditedObject::Tag) => "moved: modified after discovery",
            (DriftKind::Changed, _) => "modified after discovery, or damaged in storage",
            (DriftKind::Extra, _) => "added since by somebody else",
        }
    }
}

impl fmt::Display for DriftKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::Extra => "extra",
        })
    }
}

impl fmt::Display for AuditedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tag => "tag",
            Self::Image => "image",
            Self::Child => "child",
            Self::Referrer => "referrer",
            Self::Blob => "blob",
        })
    }
}

impl AuditReport {
    pub(crate) fn new(target: String) -> Self {
        Self {
            schema_version: 1,
            target,
            status: AuditStatus::Incomplete,
            tags: 0,
            manifests: 0,
            blobs: 0,
            referrers: 0,
            findings: Vec::new(),
            unanswered: Vec::new(),
        }
    }

    /// Returns the number of findings of a kind.
    pub fn count(&self, kind: DriftKind) -> usize {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.kind == kind).count()
    }

    /// Decides the status: what refers to an image in addition is no drift.
    pub(crate) fn settle(&mut self) {
        self.findings.sort();
        self.findings.dedup();
        let lost = self.count(DriftKind::Missing) + self.count(DriftKind::Changed);
        self.status = match (self.unanswered.is_empty(), lost) {
            (false, _) => AuditStatus::Incomplete,
            (true, 0) => AuditStatus::Clean,
            (true, _) => AuditStatus::Drifted,
        };
    }
}
