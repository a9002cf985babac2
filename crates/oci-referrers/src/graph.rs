use std::collections::{BTreeMap, BTreeSet};

use oci_content::{
    ArtifactCategory, Capability, Completeness, Digest, DiscoveryMethod, Manifest, SourceKind, Tag,
};
use serde::{Deserialize, Serialize};

use crate::held;
use crate::image::ImageTree;
use crate::source::{Exchange, Problem, Warning};

/// Everything that refers to a set of subjects, with how it was found and what could not be settled.
///
/// - [`referrers`](Self::referrers) are verified: each was read, hashed to its digest, and has the subject that
///   it stands under (a legacy tag's content excepted, which is related by the tag's name).
/// - Sorted by depth, then digest; the order does not depend on the order of arrival.
/// - Serialized, manifests are left out; [`DiscoveryDocument`](crate::DiscoveryDocument) is the form that has a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ReferrerGraph {
    /// The referrers, one entry for each subject that one stands under.
    pub referrers: Vec<Referrer>,
    /// What each subject that was asked for said, the roots first.
    pub subjects: Vec<SubjectReport>,
    /// What is below each referrer that is an index, by the digest of the referrer, where
    /// [children are walked](crate::Discovery::children).
    ///
    /// What could not be read of it stands in the errors of the referrer's subject as well.
    pub indexes: BTreeMap<Digest, ImageTree>,
    /// The referrers in reach that are indexes, where children are not walked: what refers to their children was not asked
    /// for.
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
    /// What it refers to.
    pub subject: Digest,
    /// The number of referrer steps from an image: 1 for what refers to a root.
    pub depth: u32,
    /// What kind of statement it makes.
    pub category: ArtifactCategory,
    /// The sources that named it, in their order, each once.
    pub sources: Vec<SourceKind>,
    /// The legacy tag that names it, if one does.
    pub tag: Option<Tag>,
    /// The manifest, if the discovery was told to keep them. Not a member of the JSON form.
    #[serde(skip)]
    pub manifest: Option<Manifest>,
}

/// How the referrers of one subject were found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubjectReport {
    /// The subject.
    pub subject: Digest,
    /// 0 for the roots.
    pub depth: u32,
    /// What the registry said about its referrers API, for this subject.
    pub capability: Capability,
    /// How the referrers were found.
    pub method: DiscoveryMethod,
    /// Whether every source was read to its end and every claim settled.
    pub status: Completeness,
    /// What could not be settled.
    pub errors: Vec<Problem>,
    /// What was noticed.
    pub warnings: Vec<Warning>,
    /// What was asked and answered, as far as it [is kept](crate::Discovery::keep_exchanges).
    pub exchanges: Vec<Exchange>,
}

impl Referrer {
    /// Returns how many bytes this takes.
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
    /// Returns `Complete` only when every subject is.
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

    /// Returns what one subject said.
    pub fn report(&self, subject: &Digest) -> Option<&SubjectReport> {
        self.subjects
            .iter()
            .find(|report| report.subject == *subject)
    }

    /// Returns all that could not be settled, in the order of the subjects.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.subjects.iter().flat_map(|report| &report.errors)
    }

    /// Returns all that was noticed, in the order of the subjects.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.subjects.iter().flat_map(|report| &report.warnings)
    }

    /// Returns the set of edges, subject and referrer: what two graphs are compared by.
    pub fn edges(&self) -> BTreeSet<(&Digest, &Digest)> {
        self.referrers
            .iter()
            .map(|referrer| (&referrer.subject, &referrer.digest))
            .collect()
    }

    /// Brings everything into its documented order.
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
