use std::collections::{BTreeMap, BTreeSet};

use oci_content::{Digest, RepositoryName, SourceRepository, Tag, media_type};

use crate::error::{ImportError, ImportErrorKind};
use crate::prune_report::PruneReport;
use crate::report::{ImportReport, TagAction};

/// What the receipts of one target say: which tags and manifests were made there, and are ours to
/// prune.
///
/// - A tag is ours with the digest that it was last made with. If a later receipt found it present
///   with another digest, somebody else has moved it, and it is not ours any more.
/// - A manifest is ours if a receipt says that it was made, even if a later one found it present.
/// - What a prune has deleted is not ours any more: if it is there again, somebody has brought it
///   back.
#[derive(Clone, Debug)]
pub struct PruneHistory {
    target: String,
    repositories: BTreeMap<RepositoryName, RepositoryHistory>,
}

/// What the receipts say about one repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct RepositoryHistory {
    /// The tags that are ours, each with the digest that it was made with.
    pub(crate) tags: BTreeMap<Tag, Digest>,
    /// The digest that each tag had last, ours or not.
    pub(crate) last: BTreeMap<Tag, Digest>,
    /// The manifests that are ours.
    pub(crate) made: BTreeSet<Digest>,
    /// The referrers of each subject as the source had them, and whether each is an index.
    pub(crate) referrers: BTreeMap<Digest, BTreeMap<Digest, bool>>,
    /// The images that have no tag, and those of other receipts: they stay.
    pub(crate) pinned: BTreeSet<Digest>,
    /// The tags of other receipts: they stay.
    pub(crate) pinned_tags: BTreeSet<Tag>,
}

impl PruneHistory {
    /// Creates the history of a target without receipts, with the identity that
    /// [`PruneTarget::identity`](crate::PruneTarget::identity) returns.
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            repositories: BTreeMap::new(),
        }
    }

    /// Returns the target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Adds a receipt; the oldest comes first. Returns whether it is about this target: a receipt
    /// of another one, or of a dry run, adds nothing.
    ///
    /// # Errors
    ///
    /// [`ImportErrorKind::Usage`] if the receipt is of an older version, which does not say what it
    /// takes.
    pub fn add(&mut self, receipt: &ImportReport) -> Result<bool, ImportError> {
        if !self.is_about(receipt)? {
            return Ok(false);
        }
        for record in &receipt.repositories {
            let history = self.of_mut(&record.target);
            history.made.extend(record.made.iter().cloned());
        }
        for tag in &receipt.tags {
            let history = self.of_mut(&tag.repository);
            let (name, digest) = (tag.tag.clone(), tag.digest.clone());
            history.last.insert(name.clone(), digest.clone());
            match tag.action {
                TagAction::Made => {
                    history.tags.insert(name, digest);
                }
                TagAction::Present if history.tags.get(&name) == Some(&digest) => {}
                TagAction::Present => {
                    history.tags.remove(&name);
                }
            }
        }
        self.add_graph(receipt, false);
        Ok(true)
    }

    /// Adds a receipt of somebody else who uses the same target, such as a job that is not
    /// configured here: all of its images stay, whether or not it made them. Returns whether it is
    /// about this target.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub fn protect(&mut self, receipt: &ImportReport) -> Result<bool, ImportError> {
        if !self.is_about(receipt)? {
            return Ok(false);
        }
        for tag in &receipt.tags {
            let history = self.of_mut(&tag.repository);
            history.pinned_tags.insert(tag.tag.clone());
        }
        self.add_graph(receipt, true);
        Ok(true)
    }

    /// Adds the report of an earlier prune, in its place among the receipts.
    pub fn pruned(&mut self, report: &PruneReport) {
        if report.target_identity != self.target {
            return;
        }
        for record in &report.repositories {
            let history = self.of_mut(&record.repository);
            for (tag, digest) in &record.tags {
                if history.tags.get(tag) == Some(digest) {
                    history.tags.remove(tag);
                }
            }
            for digest in &record.manifests {
                history.made.remove(digest);
            }
        }
    }

    /// Returns the number of tags that are ours, whether or not they are still there.
    pub fn tags(&self) -> usize {
        self.repositories.values().map(|own| own.tags.len()).sum()
    }

    /// Returns whether a receipt names an image, by its tag, or by its digest if it has none.
    pub fn knows(
        &self,
        repository: &RepositoryName,
        tag: Option<&Tag>,
        digest: Option<&Digest>,
    ) -> bool {
        let own = self.repositories.get(repository);
        own.is_some_and(|own| match tag {
            Some(tag) => own.last.contains_key(tag),
            None => digest.is_some_and(|digest| own.pinned.contains(digest)),
        })
    }

    pub(crate) fn repositories(&self) -> &BTreeMap<RepositoryName, RepositoryHistory> {
        &self.repositories
    }

    fn is_about(&self, receipt: &ImportReport) -> Result<bool, ImportError> {
        if receipt.dry_run {
            return Ok(false);
        }
        match (&receipt.target_identity, &receipt.graph) {
            (Some(target), Some(_)) => Ok(*target == self.target),
            // A receipt without an identity may be about this target.
            _ if !self.may_be(&receipt.target) => Ok(false),
            _ => {
                let message = format!(
                    "a receipt for {} was written by an older version, which did not record what an import makes; run \
                     the mirror again for a new one, and move the old one away",
                    receipt.target
                );
                Err(ImportError::new(ImportErrorKind::Usage, message))
            }
        }
    }

    fn may_be(&self, name: &str) -> bool {
        self.target == name || self.target == name.trim_end_matches(":443")
    }

    fn of_mut(&mut self, repository: &RepositoryName) -> &mut RepositoryHistory {
        self.repositories.entry(repository.clone()).or_default()
    }

    fn add_graph(&mut self, receipt: &ImportReport, pin: bool) {
        let Some(graph) = &receipt.graph else {
            return;
        };
        let places: BTreeMap<&SourceRepository, &RepositoryName> = receipt
            .repositories
            .iter()
            .map(|record| (&record.source, &record.target))
            .collect();
        for image in &graph.images {
            let source = SourceRepository::from(&image.reference);
            if let Some(target) = places.get(&source)
                && (pin || image.reference.tag().is_none())
            {
                let history = self.of_mut(target);
                history.pinned.insert(image.digest.clone());
            }
        }
        for (record, artifact) in graph.referrers() {
            if let Some(target) = places.get(&record.repository) {
                let history = self.of_mut(target);
                let referrers = history.referrers.entry(record.subject.clone());
                let is_index = media_type::is_index(&artifact.media_type);
                referrers
                    .or_default()
                    .insert(artifact.digest.clone(), is_index);
            }
        }
    }
}
