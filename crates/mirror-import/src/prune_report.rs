use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oci_content::{Digest, RepositoryName, Tag, schema_version_1};
use serde::{Deserialize, Serialize};

use crate::error::{ImportError, ImportErrorKind};

/// What a prune deletes, or has deleted, and what it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PruneReport {
    /// The version of the form: 1.
    #[serde(deserialize_with = "schema_version_1")]
    pub schema_version: u32,
    /// What this is, among receipts of imports: `prune`.
    pub kind: PruneKind,
    /// The target, as [`PruneTarget::identity`](crate::PruneTarget::identity) names it.
    pub target_identity: String,
    /// Whether this is a plan, and nothing was deleted.
    pub dry_run: bool,
    /// Whether everything that was to go is gone. `true` for a plan.
    pub finished: bool,
    /// The number of tags that were ours and there when the prune began.
    pub tags: usize,
    /// What concerns each repository, sorted; repositories without anything to say are left out.
    pub repositories: Vec<PrunedRepository>,
}

/// The word that tells a [`PruneReport`] from a receipt of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PruneKind {
    /// It is a report of a prune.
    #[default]
    Prune,
}

/// What a prune deletes in one repository, and what it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PrunedRepository {
    /// The repository at the target.
    pub repository: RepositoryName,
    /// The tags that go, with their digests.
    pub tags: BTreeMap<Tag, Digest>,
    /// The manifests that go.
    pub manifests: BTreeSet<Digest>,
    /// The referrers tags that go, because their subjects do.
    pub lists: BTreeSet<Tag>,
    /// What nothing selects and stays all the same.
    pub kept: BTreeSet<Kept>,
    /// What appeared while the prune was under way, and stays.
    pub appeared: BTreeSet<Appeared>,
}

/// Something that no rule selects and that stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Kept {
    /// The tag, or `None` for a manifest.
    pub tag: Option<Tag>,
    /// What it is.
    pub digest: Digest,
    /// Why it stays.
    pub reason: KeptReason,
    /// What keeps it, such as somebody else's referrer.
    pub by: Option<Digest>,
}

/// Why something stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KeptReason {
    /// The tag has another digest than it was made with: somebody has moved it.
    Moved,
    /// Somebody else's referrer refers to it, or to something that only it holds.
    ForeignReferrer,
    /// The target deletes no tags, and the manifest is also needed under another name.
    Shared,
    /// A receipt of another job has it.
    OtherJob,
    /// The target refused to delete it.
    Refused,
}

impl fmt::Display for KeptReason {
    /// Writes the reason in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Moved => "somebody has moved it since it was made",
            Self::ForeignReferrer => "somebody else's referrer refers to it",
            Self::Shared => "the target deletes no tags, and the manifest has to stay",
            Self::OtherJob => "a receipt of another job has it",
            Self::Refused => "the target refused to delete it",
        })
    }
}

/// Something that was not there when the prune began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Appeared {
    /// The tag, or `None` for a referrer.
    pub tag: Option<Tag>,
    /// The manifest.
    pub digest: Digest,
    /// What the referrer refers to.
    pub subject: Option<Digest>,
}

impl PruneReport {
    pub(crate) fn new(target_identity: String) -> Self {
        Self {
            schema_version: 1,
            kind: PruneKind::Prune,
            target_identity,
            dry_run: false,
            finished: false,
            tags: 0,
            repositories: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, repository: PrunedRepository) {
        if !repository.says_nothing() {
            self.repositories.push(repository);
        }
    }

    /// Fails if the target refused to delete something.
    pub(crate) fn check_refusals(&self) -> Result<(), ImportError> {
        let kept = self.repositories.iter().flat_map(|own| &own.kept);
        let refused = kept.filter(|kept| kept.reason == KeptReason::Refused);
        let refused: Vec<&Kept> = refused.collect();
        let Some(first) = refused.first() else {
            return Ok(());
        };
        let target = &self.target_identity;
        let digest = &first.digest;
        let message = match self.pruned_manifests() {
            0 => format!(
                "{target} refuses to delete manifests, starting with {digest}; enable deletion in the registry's configuration"
            ),
            _ => format!(
                "{target} refused to delete {} manifests, starting with {digest}; something that is not visible may still name them",
                refused.len()
            ),
        };
        Err(ImportError::new(ImportErrorKind::Access, message))
    }

    /// Returns the number of tags of images and referrers that go.
    pub fn pruned_tags(&self) -> usize {
        self.repositories.iter().map(|own| own.tags.len()).sum()
    }

    /// Returns the number of manifests that go.
    pub fn pruned_manifests(&self) -> usize {
        let manifests = self.repositories.iter().map(|own| own.manifests.len());
        manifests.sum()
    }

    /// Returns whether there is nothing to delete.
    pub fn is_empty(&self) -> bool {
        let repositories = &self.repositories;
        repositories
            .iter()
            .all(|own| own.tags.is_empty() && own.manifests.is_empty() && own.lists.is_empty())
    }

    /// Returns whether more than `percent` of the tags that are ours go.
    pub(crate) fn exceeds(&self, percent: u8) -> bool {
        self.pruned_tags() * 100 > self.tags * usize::from(percent)
    }
}

impl PrunedRepository {
    pub(crate) fn new(repository: RepositoryName) -> Self {
        Self {
            repository,
            tags: BTreeMap::new(),
            manifests: BTreeSet::new(),
            lists: BTreeSet::new(),
            kept: BTreeSet::new(),
            appeared: BTreeSet::new(),
        }
    }

    pub(crate) fn says_nothing(&self) -> bool {
        self.tags.is_empty()
            && self.manifests.is_empty()
            && self.lists.is_empty()
            && self.kept.is_empty()
            && self.appeared.is_empty()
    }
}
