use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use oci_content::{Digest, RepositoryName, Tag};
use registry_client::ManifestId;

use crate::error::{ImportError, ImportErrorKind, ImportRemedy};
use crate::prune_decision::{Deciding, Done, View};
use crate::prune_history::PruneHistory;
use crate::prune_look::Looking;
use crate::prune_report::{PruneReport, PrunedRepository};
use crate::prune_target::PruneTarget;
use crate::pruning::{Pruning, Selection};

/// Deletes what earlier imports made and nothing selects any more.
///
/// - What goes: tags that a receipt for this very target records as made, with the digest that they
///   still have, if nothing selects them; and the manifests that receipts record as made, if no
///   remaining tag and no remaining referrer needs them.
/// - What stays: everything that a remaining tag holds, including tags that others made, with what it lists, what it
///   refers to and our referrers of all that. An image that somebody else's referrer refers to stays
///   with its tag.
/// - Tags go first, then referrers before their subjects, indexes before what they list. The lists
///   that clients maintain under referrers tags go after their last entry and before their subject.
/// - The repository is looked at again after each step, and the next one is decided from what is
///   there then. So it does not matter where an earlier prune stopped, and nothing is deleted that
///   somebody else has begun to use before the last look. A tag is read right before it is deleted;
///   before a manifest is deleted, the tags are listed and its referrers are discovered.
/// - On a target that deletes no tags, a manifest is deleted by its digest, and only if every tag on
///   it goes.
#[derive(Clone, Debug)]
pub struct Pruner {
    pub(crate) target: Arc<dyn PruneTarget>,
    options: PruneOptions,
    pub(crate) observer: Arc<dyn PruneObserver>,
}

/// How a target is pruned.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PruneOptions {
    /// The share of the tags that are ours which may go, in percent; any share by default.
    pub max_percent: Option<u8>,
    /// The number of tags that may go; any number by default.
    pub max_tags: Option<u64>,
}

/// What is pruned, and what is not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PruneRequest {
    /// What the receipts say.
    pub history: PruneHistory,
    /// The tags at the target that anybody who uses it still selects.
    pub tags: BTreeSet<(RepositoryName, Tag)>,
    /// The manifests at the target that are selected by digest.
    pub digests: BTreeSet<(RepositoryName, Digest)>,
    /// Why the selection may not be everything that is selected, such as a list of tags that broke
    /// off. If there is a reason, nothing is pruned.
    pub incomplete: Option<String>,
}

impl PruneRequest {
    /// Creates a request that selects nothing yet.
    pub fn new(history: PruneHistory) -> Self {
        Self {
            history,
            tags: BTreeSet::new(),
            digests: BTreeSet::new(),
            incomplete: None,
        }
    }
}

/// Receives the progress of a prune.
pub trait PruneObserver: fmt::Debug + Send + Sync {
    /// Called when a repository is looked at.
    fn looking(&self, repository: &RepositoryName);

    /// Called when something was deleted.
    fn deleted(&self, repository: &RepositoryName, id: ManifestId<'_>);
}

/// An observer that ignores everything.
impl PruneObserver for () {
    fn looking(&self, _: &RepositoryName) {}

    fn deleted(&self, _: &RepositoryName, _: ManifestId<'_>) {}
}

impl Pruner {
    /// Creates a pruner.
    pub fn new(
        target: Arc<dyn PruneTarget>,
        options: PruneOptions,
        observer: Arc<dyn PruneObserver>,
    ) -> Self {
        Self {
            target,
            options,
            observer,
        }
    }

    /// Decides what would go, and deletes nothing.
    ///
    /// # Errors
    ///
    /// [`ImportErrorKind::Incomplete`] if the selection is empty or incomplete, or something at the
    /// target could not be read to its end; [`ImportErrorKind::Usage`] if the receipts are of
    /// another target.
    pub async fn plan(&self, request: &PruneRequest) -> Result<PruneReport, ImportError> {
        self.check(request)?;
        let mut report = PruneReport::new(self.target.identity());
        report.dry_run = true;
        report.finished = true;
        let mut selections = Selection::by_repository(request);
        for (name, history) in request.history.repositories() {
            let selection = selections.remove(name).unwrap_or_default();
            let done = Done::default();
            let deciding = selection.deciding(history, &done);
            let view = self.look(name, deciding, None).await?;
            report.tags += our_tags(deciding, &view);
            let decision = deciding.decide(&view);
            let mut planned = PrunedRepository::new(name.clone());
            planned.tags = decision.tags;
            planned.manifests = decision.manifests;
            planned.lists = decision.lists;
            planned.kept = decision.kept;
            report.add(planned);
        }
        Ok(report)
    }

    /// Deletes what goes. The report says what was deleted, whatever the result.
    ///
    /// # Errors
    ///
    /// As for [`plan`](Self::plan); before anything is deleted,
    /// [`Incomplete`](ImportErrorKind::Incomplete) if more would go than the options allow;
    /// [`Access`](ImportErrorKind::Access) if the target does not delete.
    ///
    /// # Cancellation
    ///
    /// What was deleted is gone; a second prune finishes.
    pub async fn run(&self, request: &PruneRequest) -> (PruneReport, Result<(), ImportError>) {
        let mut report = PruneReport::new(self.target.identity());
        let result = self.run_into(request, &mut report).await;
        report.finished = result.is_ok();
        (report, result)
    }

    async fn run_into(
        &self,
        request: &PruneRequest,
        report: &mut PruneReport,
    ) -> Result<(), ImportError> {
        let plan = self.plan(request).await?;
        report.tags = plan.tags;
        if let Some(percent) = self.options.max_percent.filter(|max| plan.exceeds(*max)) {
            let message = format!(
                "{} of {} tags would go, which is more than {percent} %; nothing was deleted",
                plan.pruned_tags(),
                plan.tags
            );
            let error = ImportError::new(ImportErrorKind::Incomplete, message);
            return Err(error.with_remedy(ImportRemedy::PruneMore));
        }
        let going = plan.pruned_tags() as u64;
        if let Some(max) = self.options.max_tags.filter(|max| going > *max) {
            let message =
                format!("{going} tags would go, which is more than {max}; nothing was deleted");
            let error = ImportError::new(ImportErrorKind::Incomplete, message);
            return Err(error.with_remedy(ImportRemedy::PruneMore));
        }
        let mut keeps_tags = false;
        let mut selections = Selection::by_repository(request);
        for (name, history) in request.history.repositories() {
            let mut pruning = Pruning {
                pruner: self,
                name,
                history,
                selection: selections.remove(name).unwrap_or_default(),
                done: Done {
                    keeps_tags,
                    ..Done::default()
                },
                listed: BTreeSet::new(),
            };
            let mut pruned = PrunedRepository::new(name.clone());
            let result = pruning.run(&mut pruned).await;
            keeps_tags = pruning.done.keeps_tags;
            pruned.tags = pruning.done.tags;
            pruned.manifests = pruning.done.manifests;
            pruned.lists = pruning.done.lists;
            report.add(pruned);
            result?;
        }
        report.check_refusals()
    }

    pub(crate) async fn look(
        &self,
        name: &RepositoryName,
        deciding: Deciding<'_>,
        before: Option<&View>,
    ) -> Result<View, ImportError> {
        self.observer.looking(name);
        let looking = Looking {
            target: &*self.target,
            name,
            deciding,
            view: View::default(),
        };
        looking.look(before).await
    }

    fn check(&self, request: &PruneRequest) -> Result<(), ImportError> {
        let identity = self.target.identity();
        if request.history.target() != identity {
            let target = request.history.target();
            let message = format!("the receipts are of {target}, and not of {identity}");
            return Err(ImportError::new(ImportErrorKind::Usage, message));
        }
        let reason = match &request.incomplete {
            Some(reason) => format!("what is selected could not be settled: {reason}"),
            None if request.tags.is_empty() && request.digests.is_empty() => {
                "nothing is selected, so everything would go".to_owned()
            }
            None => return Ok(()),
        };
        let message = format!("{reason}; nothing was deleted");
        Err(ImportError::new(ImportErrorKind::Incomplete, message))
    }
}

fn our_tags(deciding: Deciding<'_>, view: &View) -> usize {
    let tags = view.tags.iter();
    tags.filter(|(tag, held)| deciding.is_our_tag(tag, &held.digest))
        .count()
}

#[cfg(test)]
mod tests;
