//! The prune of one repository, step by step.

use std::collections::{BTreeMap, BTreeSet};

use oci_content::{Digest, RepositoryName, Tag, TagKind};
use registry_client::ManifestId;

use crate::error::{ImportError, ImportErrorKind};
use crate::prune::{PruneRequest, Pruner};
use crate::prune_decision::{Deciding, Decision, Done, View};
use crate::prune_history::RepositoryHistory;
use crate::prune_report::{Appeared, PrunedRepository};
use crate::prune_target::Deletion;

/// The number of times in a row that a repository is looked at because somebody else has changed
/// it, before the prune gives up.
const MAX_LOOKS: usize = 8;

/// What is selected in one repository.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    tags: BTreeSet<Tag>,
    digests: BTreeSet<Digest>,
}

impl Selection {
    pub(crate) fn by_repository(request: &PruneRequest) -> BTreeMap<RepositoryName, Self> {
        let mut all: BTreeMap<RepositoryName, Self> = BTreeMap::new();
        for (name, tag) in &request.tags {
            let own = all.entry(name.clone()).or_default();
            own.tags.insert(tag.clone());
        }
        for (name, digest) in &request.digests {
            let own = all.entry(name.clone()).or_default();
            own.digests.insert(digest.clone());
        }
        all
    }

    pub(crate) fn deciding<'a>(
        &'a self,
        history: &'a RepositoryHistory,
        done: &'a Done,
    ) -> Deciding<'a> {
        Deciding {
            history,
            selected: &self.tags,
            selected_digests: &self.digests,
            done,
        }
    }
}

/// The prune of one repository.
pub(crate) struct Pruning<'a> {
    pub(crate) pruner: &'a Pruner,
    pub(crate) name: &'a RepositoryName,
    pub(crate) history: &'a RepositoryHistory,
    pub(crate) selection: Selection,
    pub(crate) done: Done,
    /// The tags that every list since the last look has had.
    pub(crate) listed: BTreeSet<Tag>,
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something is different now, at the target or in what is known about it.
    Forward,
    /// Somebody else has changed what was about to go.
    Disturbed,
}

impl Pruning<'_> {
    /// Looks, decides and takes one step, until nothing is left to do.
    pub(crate) async fn run(&mut self, pruned: &mut PrunedRepository) -> Result<(), ImportError> {
        let mut first: Option<Seen> = None;
        let mut last: Option<View> = None;
        let mut disturbed = 0;
        loop {
            let view = self.pruner.look(self.name, self.deciding(), last.as_ref());
            let view = view.await?;
            self.listed.clone_from(&view.listed);
            let decision = self.deciding().decide(&view);
            pruned.kept.clone_from(&decision.kept);
            let before = first.get_or_insert_with(|| Seen::of(&view));
            if decision.is_empty() {
                pruned.appeared = appeared(before, &view);
                pruned.appeared.extend(self.on_deleted().await?);
                return Ok(());
            }
            match self.step(&view, &decision).await? {
                Step::Forward => disturbed = 0,
                Step::Disturbed => disturbed += 1,
            }
            if disturbed == MAX_LOOKS {
                let message = format!(
                    "{}/{}: somebody else changed it {MAX_LOOKS} times while it was pruned; run the prune again",
                    self.pruner.target.identity(),
                    self.name
                );
                return Err(ImportError::new(ImportErrorKind::Network, message));
            }
            last = Some(view);
        }
    }

    fn deciding(&self) -> Deciding<'_> {
        self.selection.deciding(self.history, &self.done)
    }

    /// Returns what refers to something that was deleted, and came between the last look and the
    /// deletion.
    async fn on_deleted(&self) -> Result<Vec<Appeared>, ImportError> {
        if self.done.manifests.is_empty() {
            return Ok(Vec::new());
        }
        let target = &self.pruner.target;
        let referrers = target.referrers(self.name, &self.done.manifests).await?;
        let referrers = referrers.into_iter().map(|(subject, digest)| Appeared {
            tag: None,
            digest,
            subject: Some(subject),
        });
        Ok(referrers.collect())
    }

    /// Deletes what can go now. When somebody else has changed something, what was decided about the
    /// rest may be wrong as well, and the step ends there.
    async fn step(&mut self, view: &View, decision: &Decision) -> Result<Step, ImportError> {
        let mut step = Step::Disturbed;
        for (list, dead) in &decision.dead {
            if !self.clear_list(list, dead).await? {
                return Ok(step);
            }
            step = Step::Forward;
        }
        if !self.done.keeps_tags && !decision.tags.is_empty() {
            for (tag, digest) in &decision.tags {
                match self.delete_tag(view, tag, digest).await? {
                    Some(Deletion::Refused) => {
                        self.done.keeps_tags = true;
                        return Ok(Step::Forward);
                    }
                    Some(_) => step = Step::Forward,
                    None => return Ok(step),
                }
            }
            return Ok(step);
        }
        for list in &decision.lists {
            if !self.delete_list(view, decision, list).await? {
                return Ok(step);
            }
            step = Step::Forward;
        }
        for digest in self.deciding().free(view, decision) {
            if self.waits_for_list(view, &digest) {
                continue;
            }
            if !self.delete_manifest(view, decision, &digest).await? {
                return Ok(step);
            }
            step = Step::Forward;
        }
        Ok(step)
    }

    /// Takes entries out of a list, unless one of them is there again.
    async fn clear_list(&self, list: &Tag, dead: &BTreeSet<Digest>) -> Result<bool, ImportError> {
        let target = &self.pruner.target;
        for digest in dead {
            let id = ManifestId::Digest(digest);
            if target.manifest(self.name, id).await?.is_some() {
                return Ok(false);
            }
        }
        target.remove_from_list(self.name, list, dead).await?;
        Ok(true)
    }

    /// Returns whether the list of what refers to a manifest has to go first, and cannot yet.
    fn waits_for_list(&self, view: &View, subject: &Digest) -> bool {
        let deciding = self.deciding();
        let is_left =
            |list: &Tag| !self.done.stuck.contains(list) && !self.done.lists.contains(list);
        deciding.lists_of(view, subject).any(is_left)
    }

    /// Deletes a tag if it is still what was decided about; `None` if it is not.
    async fn delete_tag(
        &mut self,
        view: &View,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<Option<Deletion>, ImportError> {
        let target = &self.pruner.target;
        match target.manifest(self.name, ManifestId::Tag(tag)).await? {
            None => return Ok(Some(Deletion::Absent)),
            Some(held) if held.digest != *digest => return Ok(None),
            Some(_) => {}
        }
        let subject = BTreeSet::from([digest.clone()]);
        let referrers = target.referrers(self.name, &subject).await?;
        let is_new = |edge: &(Digest, Digest)| {
            !self.deciding().is_ours(&edge.1) && !view.referrers.contains(edge)
        };
        if self.deciding().is_ours(digest) && referrers.iter().any(is_new) {
            return Ok(None);
        }
        let deletion = target.delete(self.name, ManifestId::Tag(tag)).await?;
        if deletion == Deletion::Absent {
            return Ok(None);
        }
        if deletion == Deletion::Deleted {
            self.done.tags.insert(tag.clone(), digest.clone());
            let observer = &self.pruner.observer;
            observer.deleted(self.name, ManifestId::Tag(tag));
        }
        Ok(Some(deletion))
    }

    /// Deletes a referrers tag if it is still what was decided about, and returns whether anything
    /// is different now.
    async fn delete_list(
        &mut self,
        view: &View,
        decision: &Decision,
        list: &Tag,
    ) -> Result<bool, ImportError> {
        let target = &self.pruner.target;
        let Some(held) = view.tags.get(list) else {
            return Ok(false);
        };
        match target.manifest(self.name, ManifestId::Tag(list)).await? {
            None => return Ok(true),
            Some(now) if now.digest != held.digest => return Ok(false),
            Some(_) => {}
        }
        // What was deleted may be back, and is listed still.
        let subject = self.deciding().subject_of(list, held).into_iter().collect();
        if !target.referrers(self.name, &subject).await?.is_empty() {
            return Ok(false);
        }
        if !self.done.keeps_tags {
            match target.delete(self.name, ManifestId::Tag(list)).await? {
                Deletion::Refused => self.done.keeps_tags = true,
                Deletion::Absent => return Ok(false),
                Deletion::Deleted => self.deleted_list(list),
            }
            return Ok(true);
        }
        let same = view
            .tags
            .iter()
            .filter(|(_, other)| other.digest == held.digest);
        let same: Vec<&Tag> = same.map(|(tag, _)| tag).collect();
        let all_go = same.iter().all(|tag| decision.lists.contains(*tag));
        let id = ManifestId::Digest(&held.digest);
        match all_go {
            true if target.delete(self.name, id).await? != Deletion::Refused => {
                same.into_iter().for_each(|list| self.deleted_list(list));
            }
            _ => {
                self.done.stuck.insert(list.clone());
            }
        }
        Ok(true)
    }

    fn deleted_list(&mut self, list: &Tag) {
        self.done.lists.insert(list.clone());
        let observer = &self.pruner.observer;
        observer.deleted(self.name, ManifestId::Tag(list));
    }

    /// Deletes a manifest if nothing has begun to need it, and returns whether anything is
    /// different now.
    async fn delete_manifest(
        &mut self,
        view: &View,
        decision: &Decision,
        digest: &Digest,
    ) -> Result<bool, ImportError> {
        let target = &self.pruner.target;
        let deciding = self.deciding();
        let is_stuck = |list: &Tag| self.done.stuck.contains(list);
        if deciding.lists_of(view, digest).any(is_stuck) {
            // Without its subject the list would be an orphan.
            self.done.refused.insert(digest.clone());
            return Ok(true);
        }
        if self.done.keeps_tags {
            for tag in decision
                .tags
                .iter()
                .filter(|(_, on)| *on == digest)
                .map(|(tag, _)| tag)
            {
                let now = target.manifest(self.name, ManifestId::Tag(tag)).await?;
                if now.is_some_and(|now| now.digest != *digest) {
                    return Ok(false);
                }
            }
        }
        let subject = BTreeSet::from([digest.clone()]);
        if !target.referrers(self.name, &subject).await?.is_empty() {
            return Ok(false);
        }
        // Last, so that nothing is asked between this and the deletion.
        let tags = target.tags(self.name).await?;
        // A tag that was away and is back can be another one.
        let is_known = tags.is_subset(&self.listed);
        self.listed.retain(|tag| tags.contains(tag));
        if !is_known {
            return Ok(false);
        }
        match target.delete(self.name, ManifestId::Digest(digest)).await? {
            Deletion::Absent => return Ok(false),
            Deletion::Refused => {
                self.done.refused.insert(digest.clone());
                return Ok(true);
            }
            Deletion::Deleted => {}
        }
        self.done.manifests.insert(digest.clone());
        if self.done.keeps_tags {
            let tags = decision.tags.iter().filter(|(_, on)| *on == digest);
            let tags = tags.map(|(tag, on)| (tag.clone(), on.clone()));
            self.done.tags.extend(tags);
        }
        let observer = &self.pruner.observer;
        observer.deleted(self.name, ManifestId::Digest(digest));
        Ok(true)
    }
}

/// What was visible when the prune began.
struct Seen {
    tags: BTreeMap<Tag, Digest>,
    referrers: BTreeSet<(Digest, Digest)>,
}

impl Seen {
    fn of(view: &View) -> Self {
        let tags = view.tags.iter();
        Self {
            tags: tags
                .map(|(tag, held)| (tag.clone(), held.digest.clone()))
                .collect(),
            referrers: view.referrers.clone(),
        }
    }
}

fn appeared(before: &Seen, now: &View) -> BTreeSet<Appeared> {
    // What changed in a list of referrers is named below.
    let tags = now.tags.iter();
    let tags = tags.filter(|(tag, _)| !matches!(tag.kind(), TagKind::Referrers { .. }));
    let tags = tags.filter(|(tag, held)| {
        let there = before.tags.get(*tag);
        there.is_none_or(|there| *there != held.digest)
    });
    let tags = tags.map(|(tag, held)| Appeared {
        tag: Some(tag.clone()),
        digest: held.digest.clone(),
        subject: None,
    });
    let referrers = now.referrers.difference(&before.referrers);
    let referrers = referrers.map(|(subject, referrer)| Appeared {
        tag: None,
        digest: referrer.clone(),
        subject: Some(subject.clone()),
    });
    tags.chain(referrers).collect()
}
