use std::collections::BTreeSet;

use oci_content::{
    Completeness, Digest, DiscoveryRecord, MirrorGraph, Reference, RepositoryName,
    SourceRepository, Tag,
};
use serde::{Deserialize, Serialize};

use crate::ledger_report::LedgerReport;
use crate::plan::Edge;
use crate::prune_report::PruneReport;
use import_validator::Finding;

/// What an import did, and the proof that it arrived; written as a receipt to carry back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportReport {
    /// The version of the form: 1.
    pub schema_version: u32,
    /// The name of the target.
    pub target: String,
    /// The target as [`Target::identity`](crate::Target::identity) names it, without a prefix;
    /// `None` in a receipt of an older version.
    #[serde(default)]
    pub target_identity: Option<String>,
    /// Whether the proof succeeded: everything was found at the target. `false` in a receipt of an
    /// older version.
    #[serde(default)]
    pub proved: bool,
    /// The digest of the bundle's `manifest.yaml`; `None` if the source is not a bundle.
    pub manifest: Option<Digest>,
    /// The key that verified the bundle's signature, as the SHA-256 of its DER form; `None` if no
    /// key was given.
    pub signed_by: Option<Digest>,
    /// The series that the bundle belongs to.
    pub stream: String,
    /// The bundle's place in the series.
    pub sequence: u64,
    /// What the ledger said about the bundle; `None` if no ledger is kept.
    pub ledger: Option<LedgerReport>,
    /// Whether this was a dry run, which sends nothing.
    pub dry_run: bool,
    /// Whether the export settled every question about referrers, as the bundle says.
    pub source_status: Completeness,
    /// The warnings of the bundle's validation.
    pub warnings: Vec<Finding>,
    /// The number of warnings that are not listed, because there are too many of their kind.
    pub warnings_omitted: u64,
    /// What was imported, as the source has it; `None` in a receipt of an older version.
    #[serde(default)]
    pub graph: Option<MirrorGraph>,
    /// Where each repository of the source went, and the manifests that went there. Empty in a
    /// receipt of an older version.
    #[serde(default)]
    pub repositories: Vec<ImportedRepository>,
    /// The images.
    pub images: Vec<ImportedImage>,
    /// The tags that the import was to make, and what each was before, in the order in which tags
    /// are made.
    pub tags: Vec<ImportedTag>,
    /// The numbers of blobs that were sent, present and mounted.
    pub blobs: TransferCounts,
    /// The number of blobs that were found with the right size, at the end if they, or a manifest
    /// that names them, were sent, before that otherwise. Each is counted once for every repository that needs it. In a folder they were hashed or written, and are counted
    /// once.
    pub blobs_checked: usize,
    /// The numbers of manifests that were sent and present.
    pub manifests: TransferCounts,
    /// What a delta left out and the target had; `None` for a bundle that is not a delta.
    pub base: Option<BaseReport>,
    /// The number of referrers in the bundle, counted once for each subject.
    pub referrers_expected: usize,
    /// The number of referrers that a discovery at the target found.
    pub referrers_found: usize,
    /// The referrers that the discovery did not find.
    pub missing: Vec<MissingReferrer>,
}

impl ImportReport {
    /// Takes out what a later prune has deleted, so that an audit does not miss it.
    pub fn forget(&mut self, pruned: &PruneReport) {
        if pruned.dry_run || self.target_identity.as_ref() != Some(&pruned.target_identity) {
            return;
        }
        for gone in &pruned.repositories {
            let is_gone = |digest: &Digest| gone.manifests.contains(digest);
            self.tags.retain(|tag| {
                let deleted = gone.tags.get(&tag.tag) == Some(&tag.digest);
                tag.repository != gone.repository || !deleted
            });
            let records = self.repositories.iter_mut();
            for record in records.filter(|record| record.target == gone.repository) {
                record.made.retain(|digest| !is_gone(digest));
                record.present.retain(|digest| !is_gone(digest));
                let Some(graph) = &mut self.graph else {
                    continue;
                };
                graph.images.retain(|image| {
                    let is_own = SourceRepository::from(&image.reference) == record.source;
                    !is_own || !is_gone(&image.digest)
                });
                let own = |found: &DiscoveryRecord| found.repository == record.source;
                graph
                    .discovery
                    .retain(|found| !own(found) || !is_gone(&found.subject));
                for found in graph.discovery.iter_mut().filter(|found| own(found)) {
                    found
                        .artifacts
                        .retain(|artifact| !is_gone(&artifact.digest));
                }
            }
        }
    }

    /// Returns the warnings about questions that the export could not settle. Even if the proof
    /// succeeds, referrers may exist that the bundle does not hold.
    pub fn unsettled(&self) -> impl Iterator<Item = &Finding> {
        let warnings = self.warnings.iter();
        warnings.filter(|warning| warning.kind.is_of_completeness())
    }
}

/// A repository that was imported, and the manifests that the target was to have in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportedRepository {
    /// The repository at the source.
    pub source: SourceRepository,
    /// The repository at the target.
    pub target: RepositoryName,
    /// The manifests that were sent. After an import that failed, those whose answer was still
    /// awaited are missing, and a later import finds them present. If repositories of the target share their objects, each is
    /// named by one of them.
    pub made: BTreeSet<Digest>,
    /// The manifests that the target had already.
    pub present: BTreeSet<Digest>,
}

impl ImportedRepository {
    /// Creates a record without manifests.
    pub fn new(source: SourceRepository, target: RepositoryName) -> Self {
        Self {
            source,
            target,
            made: BTreeSet::new(),
            present: BTreeSet::new(),
        }
    }

    pub(crate) fn add(&mut self, manifest: Digest, is_made: bool) {
        let list = if is_made {
            &mut self.made
        } else {
            &mut self.present
        };
        list.insert(manifest);
    }
}

/// An image that was imported.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportedImage {
    /// The image's name at the source.
    pub source: Reference,
    /// The image's name at the target.
    pub target: String,
    /// The digest of the image.
    pub digest: Digest,
    /// The tag of the image at the target; `None` for an image given by digest.
    pub tag: Option<Tag>,
}

/// A tag that an import was to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ImportedTag {
    /// The repository at the target.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// The digest that the tag has after the import.
    pub digest: Digest,
    /// The digest that the tag had before the import; `None` if there was no such tag.
    pub before: Option<Digest>,
    /// What the import did about the tag.
    pub action: TagAction,
}

/// What an import did about a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TagAction {
    /// The tag was made, or moved.
    Made,
    /// The tag was there already with the right digest.
    Present,
}

/// The number of objects that were sent, and of those that did not need to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TransferCounts {
    /// Objects that were sent.
    pub sent: usize,
    /// Objects that were there already.
    pub present: usize,
    /// Objects that were mounted from another repository of the target.
    pub mounted: usize,
}

/// The blobs that a delta leaves out and that were found at the target, each counted once for every
/// repository that needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct BaseReport {
    /// The digest of the base's `manifest.yaml`.
    pub manifest: Digest,
    /// The number of blobs.
    pub blobs: usize,
    /// The size of the blobs in bytes.
    pub bytes: u64,
    /// The number of blobs that were mounted from another repository of the target.
    pub mounted: usize,
}

impl MissingReferrer {
    pub(crate) fn new(repository: &RepositoryName, (subject, referrer, tag): &Edge) -> Self {
        Self {
            repository: repository.to_string(),
            subject: subject.clone(),
            referrer: referrer.clone(),
            tag: tag.clone(),
        }
    }
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
    /// The legacy tag that should name the referrer, if there is one.
    pub tag: Option<Tag>,
}
