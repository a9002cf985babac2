use std::collections::{BTreeMap, BTreeSet};

use oci_content::{
    ArtifactCategory, ArtifactRecord, Capability, Completeness, Digest, DiscoveryMethod, Manifest,
    SourceKind, Tag,
};
use serde::{Deserialize, Serialize};

use crate::held;
use crate::image::ImageTree;
use crate::source::{Exchange, Problem, Warning};

/// Everything that refers to a set of subjects, with how it was found and what could not be
/// settled.
///
/// - [`referrers`](Self::referrers) are verified: each was read, hashes to its digest, and names
///   the subject that it is listed under. A manifest under a legacy tag is the exception: the name
///   of the tag relates it to its subject.
/// - It is sorted by depth, then digest, whatever the order in which answers came.
/// - Its serialized form has no manifests and no version;
///   [`DiscoveryDocument`](crate::DiscoveryDocument) is the versioned form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReferrerGraph {
    /// The referrers, with one entry for each subject that a referrer is listed under.
    pub referrers: Vec<Referrer>,
    /// How the referrers of each subject were found, roots first.
    pub subjects: Vec<SubjectReport>,
    /// The manifests below each referrer that is an index, by the digest of the referrer; filled
    /// only if [children are walked](crate::Discovery::children).
    ///
    /// What could not be read of them is also in the errors of the referrer's subject.
    pub indexes: BTreeMap<Digest, ImageTree>,
    /// The referrers within reach that are indexes whose children were not walked: what refers to
    /// those children is not known.
    pub unopened: BTreeSet<Digest>,
}

/// A verified referrer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Referrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The media type of its manifest.
    pub media_type: String,
    /// Its artifact type, from the manifest itself.
    pub artifact_type: Option<String>,
    /// The size of its manifest in bytes.
    pub size: u64,
    /// The annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// The digest of the manifest that it refers to.
    pub subject: Digest,
    /// The number of referrer steps from an image: 1 for what refers to a root.
    pub depth: u32,
    /// The kind of statement it makes.
    pub category: ArtifactCategory,
    /// The sources that named it, sorted, each once.
    pub sources: Vec<SourceKind>,
    /// The legacy tag that names it, if one does.
    pub tag: Option<Tag>,
    /// The manifest, if the discovery [keeps manifests](crate::Discovery::keep_manifests). Not part
    /// of the JSON form.
    #[serde(skip)]
    pub manifest: Option<Manifest>,
}

impl From<&Referrer> for ArtifactRecord {
    fn from(found: &Referrer) -> Self {
        let mut artifact = Self::new(
            found.digest.clone(),
            found.artifact_type.clone(),
            &found.media_type,
            found.size,
        );
        artifact.category = found.category;
        artifact.sources.clone_from(&found.sources);
        artifact.tag.clone_from(&found.tag);
        artifact
    }
}

/// How the referrers of one subject were found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubjectReport {
    /// The subject.
    pub subject: Digest,
    /// The number of referrer steps from a root; 0 for the roots.
    pub depth: u32,
    /// Whether the registry has the referrers API, as its answer for this subject shows.
    pub capability: Capability,
    /// How the referrers were found.
    pub method: DiscoveryMethod,
    /// `Complete` if every source was read to its end and every claim was checked.
    pub status: Completeness,
    /// What failed.
    pub errors: Vec<Problem>,
    /// What was noticed without making the result incomplete.
    pub warnings: Vec<Warning>,
    /// The requests and their answers, as far as they are [kept](crate::Discovery::keep_exchanges).
    pub exchanges: Vec<Exchange>,
}

impl Referrer {
    /// Returns the number of bytes that this takes.
    pub(crate) fn held(&self) -> usize {
        size_of::<Self>()
            + held::SUBJECT
            + 3 * held::DIGEST
            + self.media_type.len()
            + self.artifact_type.as_ref().map_or(0, String::len)
            + held::of_annotations(&self.annotations)
            + self.manifest.as_ref().map_or(0, held::of_manifest)
    }
}

impl ReferrerGraph {
    /// Returns `Complete` if every subject is complete.
    pub fn status(&self) -> Completeness {
        if self
            .subjects
            .iter()
            .all(|report| report.status == Completeness::Complete)
        {
            Completeness::Complete
        } else {
            Completeness::Incomplete
        }
    }

    /// Returns the referrers of one subject.
    pub fn referrers_of<'a>(&'a self, subject: &'a Digest) -> impl Iterator<Item = &'a Referrer> {
        self.referrers
            .iter()
            .filter(move |referrer| referrer.subject == *subject)
    }

    /// Returns the report about one subject.
    pub fn report(&self, subject: &Digest) -> Option<&SubjectReport> {
        self.subjects
            .iter()
            .find(|report| report.subject == *subject)
    }

    /// Returns all failures, in the order of the subjects.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.subjects.iter().flat_map(|report| &report.errors)
    }

    /// Returns all warnings, in the order of the subjects.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.subjects.iter().flat_map(|report| &report.warnings)
    }

    /// Returns the edges of the graph, as pairs of subject and referrer.
    pub fn edges(&self) -> BTreeSet<(&Digest, &Digest)> {
        self.referrers
            .iter()
            .map(|referrer| (&referrer.subject, &referrer.digest))
            .collect()
    }

    /// Sorts everything into its documented order.
    pub(crate) fn sort(&mut self) {
        self.referrers.sort_by(|a, b| {
            (a.depth, &a.digest, &a.subject, &a.tag).cmp(&(b.depth, &b.digest, &b.subject, &b.tag))
        });
        self.subjects
            .sort_by(|a, b| (a.depth, &a.subject).cmp(&(b.depth, &b.subject)));
        for report in &mut self.subjects {
            report.errors.sort();
            report.errors.dedup();
            report.warnings.sort();
            report.warnings.dedup();
        }
    }
}
