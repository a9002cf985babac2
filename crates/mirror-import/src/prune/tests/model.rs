//! A repository in memory that watches what a pruner does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use oci_content::{Digest, RepositoryName, Tag, TagKind, referrers_tag};
use registry_client::ManifestId;

use super::random::Random;
use crate::error::{ImportError, ImportErrorKind};
use crate::prune_target::{Deletion, PruneTarget, StoredManifest};

pub(super) const TARGET: &str = "model";

/// The state of a repository.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) tags: BTreeMap<Tag, Digest>,
    pub(super) manifests: BTreeMap<Digest, StoredManifest>,
    /// Whether it has the referrers API; otherwise lists are kept under tags.
    pub(super) native: bool,
    pub(super) deletes_tags: bool,
    /// Every list that there has ever been: nobody refers to those.
    pub(super) lists: BTreeSet<Digest>,
}

impl State {
    pub(super) fn put(&mut self, manifest: &StoredManifest) {
        self.manifests
            .insert(manifest.digest.clone(), manifest.clone());
    }

    /// Makes an index of one entry.
    fn fill(&self, index: &mut StoredManifest, entry: Digest) {
        let is_index = |held: &&StoredManifest| held.entries.is_some();
        if self.manifests.get(&entry).filter(is_index).is_some() {
            index.indexes = vec![entry.clone()];
        }
        index.entries = Some(vec![entry]);
    }

    /// Adds to a list, as a client does on a registry without the API.
    pub(super) fn list(&mut self, subject: &Digest, referrer: &Digest) {
        if self.native {
            return;
        }
        let tag = referrers_tag(subject);
        let mut entries = self.entries(&tag);
        if !entries.contains(referrer) {
            entries.push(referrer.clone());
            self.put_list(&tag, entries);
        }
    }

    fn entries(&self, list: &Tag) -> Vec<Digest> {
        let held = self
            .tags
            .get(list)
            .and_then(|digest| self.manifests.get(digest));
        held.and_then(|held| held.entries.clone())
            .unwrap_or_default()
    }

    fn put_list(&mut self, tag: &Tag, entries: Vec<Digest>) {
        let digest = Digest::of(format!("list {tag} {}", self.lists.len()).as_bytes());
        self.lists.insert(digest.clone());
        let mut list = StoredManifest::new(digest.clone());
        list.entries = Some(entries);
        self.put(&list);
        self.tags.insert(tag.clone(), digest);
    }

    pub(super) fn referrers(&self, subject: &Digest) -> BTreeSet<Digest> {
        let refers = |referrer: &&Digest| {
            let known = self.manifests.get(*referrer);
            known.and_then(|known| known.subject.as_ref()) == Some(subject)
        };
        let listed = self.entries(&referrers_tag(subject));
        let own = self.manifests.keys().filter(|_| self.native);
        own.chain(&listed).filter(refers).cloned().collect()
    }

    /// Returns what `roots` hold, refer to, and are referred to by, as far as it is there;
    /// `referrers` says what refers to a manifest.
    pub(super) fn needed(
        &self,
        roots: impl IntoIterator<Item = Digest>,
        referrers: impl Fn(&Digest) -> BTreeSet<Digest>,
    ) -> BTreeSet<Digest> {
        let mut needed = BTreeSet::new();
        let mut left: Vec<Digest> = roots.into_iter().collect();
        while let Some(digest) = left.pop() {
            let Some(node) = self.manifests.get(&digest) else {
                continue;
            };
            if needed.insert(digest.clone()) {
                left.extend(node.entries.iter().flatten().cloned());
                left.extend(node.subject.clone());
                left.extend(referrers(&digest));
            }
        }
        needed
    }

    /// Returns the missing manifests that each tag needs.
    pub(super) fn broken(&self) -> BTreeSet<(Tag, Digest)> {
        let mut broken = BTreeSet::new();
        for (tag, root) in &self.tags {
            let mut left = vec![root.clone()];
            let mut seen = BTreeSet::new();
            while let Some(digest) = left.pop() {
                if !seen.insert(digest.clone()) {
                    continue;
                }
                match self.manifests.get(&digest) {
                    None => {
                        broken.insert((tag.clone(), digest));
                    }
                    Some(node) => {
                        left.extend(node.entries.iter().flatten().cloned());
                        left.extend(node.subject.clone());
                    }
                }
            }
        }
        broken
    }

    /// Returns the lists whose subject is gone.
    pub(super) fn orphans(&self, gone: &BTreeSet<Digest>) -> Vec<Tag> {
        let mut orphans = Vec::new();
        for subject in gone
            .iter()
            .filter(|gone| !self.manifests.contains_key(*gone))
        {
            let tag = referrers_tag(subject);
            let living = self.entries(&tag);
            let living = living
                .iter()
                .any(|entry| self.manifests.contains_key(entry));
            if self.tags.contains_key(&tag) && !living {
                orphans.push(tag);
            }
        }
        orphans
    }
}

/// Who may do what, as the oracle sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    /// What the receipts of the job that prunes say it has made.
    pub(super) tags: BTreeMap<Tag, Digest>,
    pub(super) made: BTreeSet<Digest>,
    pub(super) selected: BTreeSet<Tag>,
    /// What this run has deleted: if it is there again, it is not ours.
    pub(super) deleted_tags: BTreeSet<Tag>,
    pub(super) deleted: BTreeSet<Digest>,
}

impl Rights {
    fn may_delete_tag(&self, tag: &Tag, digest: &Digest) -> bool {
        self.tags.get(tag) == Some(digest)
            && !self.selected.contains(tag)
            && !self.deleted_tags.contains(tag)
    }
}

/// What the pruner saw when it looked last.
#[derive(Clone, Debug, Default)]
struct Seen {
    tags: BTreeMap<Tag, Digest>,
    /// By subject.
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
    absent: BTreeSet<Digest>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) state: State,
    pub(super) rights: Rights,
    pub(super) random: Random,
    /// In how many of 100 calls somebody else writes.
    pub(super) writers: u64,
    /// The number of calls until the pruner is killed.
    pub(super) life: Option<u64>,
    /// Answers what was true when it was asked first, as if nobody had looked again.
    pub(super) is_stale: bool,
    pub(super) violations: Vec<String>,
    pub(super) deletions: usize,
    /// What was deleted, to bring it back.
    graves: BTreeMap<Digest, StoredManifest>,
    seen: Seen,
    stale: BTreeMap<String, BTreeSet<(Digest, Digest)>>,
    stale_tags: Option<BTreeMap<Tag, Digest>>,
}

#[derive(Debug)]
pub(super) struct Model(pub(super) Mutex<Watched>);

impl Watched {
    pub(super) fn new(state: State, random: Random) -> Self {
        Self {
            state,
            rights: Rights::default(),
            random,
            writers: 0,
            life: None,
            is_stale: false,
            violations: Vec::new(),
            deletions: 0,
            graves: BTreeMap::new(),
            seen: Seen::default(),
            stale: BTreeMap::new(),
            stale_tags: None,
        }
    }

    pub(super) fn begin(&mut self, rights: Rights) {
        self.rights = rights;
        self.seen = Seen::default();
        self.stale.clear();
        self.stale_tags = None;
    }

    /// Counts a call; somebody else may write before it. Returns whether the pruner still lives.
    fn call(&mut self) -> Result<(), ImportError> {
        if self.random.below(100) < self.writers {
            self.somebody_writes();
        }
        match &mut self.life {
            Some(0) => Err(ImportError::new(ImportErrorKind::Network, "killed")),
            Some(life) => {
                *life -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Somebody else does something sensible: what is named is there.
    pub(super) fn somebody_writes(&mut self) {
        let digests = self.state.manifests.keys();
        let digests = digests.filter(|digest| !self.state.lists.contains(*digest));
        let digests: Vec<Digest> = digests.cloned().collect();
        let tags: Vec<Tag> = self.state.tags.keys().cloned().collect();
        if digests.is_empty() {
            return;
        }
        let one = digests[self.random.index(digests.len())].clone();
        let fresh = Digest::of(format!("foreign {}", self.random.next()).as_bytes());
        let mut own = StoredManifest::new(fresh.clone());
        match self.random.below(8) {
            0 => {
                let tag = format!("foreign-{}", self.random.below(4)).parse().unwrap();
                self.state.tags.insert(tag, one);
            }
            1 | 2 => {
                own.subject = Some(one.clone());
                if self.random.below(3) == 0 {
                    let other = digests[self.random.index(digests.len())].clone();
                    self.state.fill(&mut own, other);
                }
                self.state.put(&own);
                self.state.list(&one, &fresh);
            }
            3 => {
                self.state.fill(&mut own, one);
                self.state.put(&own);
                let tag = format!("foreign-{}", self.random.below(4)).parse().unwrap();
                self.state.tags.insert(tag, fresh);
            }
            4 => {
                self.state.put(&own);
                let tag = format!("sha256-{}.sig", one.encoded()).parse().unwrap();
                self.state.tags.insert(tag, fresh);
            }
            5 if !tags.is_empty() => {
                let tag = &tags[self.random.index(tags.len())];
                if !matches!(tag.kind(), TagKind::Referrers { .. }) {
                    self.state.tags.insert(tag.clone(), one);
                }
            }
            6 if !tags.is_empty() => {
                let tag = &tags[self.random.index(tags.len())];
                if !matches!(tag.kind(), TagKind::Referrers { .. }) {
                    self.state.tags.remove(tag);
                }
            }
            7 => {
                // What was deleted comes back, by somebody else's hand.
                let gone = self.rights.deleted.iter().next_back().cloned();
                if let Some(gone) = gone {
                    if let Some(content) = self.graves.get(&gone).cloned() {
                        self.state.put(&content);
                    }
                    let mut tags = self.rights.deleted_tags.iter();
                    let is_list = |tag: &&Tag| matches!(tag.kind(), TagKind::Referrers { .. });
                    if let Some(tag) = tags.find(|tag| !is_list(tag)).cloned() {
                        self.state.tags.insert(tag, gone);
                    }
                }
            }
            _ => {}
        }
    }

    fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    /// Returns what has to stay by what was visible.
    fn protected(&self) -> BTreeSet<Digest> {
        let rights = &self.rights;
        let tags = self.seen.tags.iter();
        let tags = tags.filter(|(tag, digest)| {
            let is_list = matches!(tag.kind(), TagKind::Referrers { .. });
            !is_list && !rights.may_delete_tag(tag, digest)
        });
        // Of a legacy tag of ours its subject decides.
        let tags = tags.map(|(_, digest)| digest.clone());
        let foreign = self.seen.referrers.values().flatten();
        let foreign = foreign.filter(|own| !self.is_ours(own)).cloned();
        self.needed(tags.chain(foreign))
    }

    /// Returns what is needed by what was visible when it was looked at last.
    fn needed(&self, roots: impl IntoIterator<Item = Digest>) -> BTreeSet<Digest> {
        self.state.needed(roots, |subject| {
            let mut now = self.state.referrers(subject);
            if let Some(seen) = self.seen.referrers.get(subject) {
                now.retain(|own| seen.contains(own) || self.is_ours(own));
            }
            let legacy = self.seen.tags.iter().filter(|(tag, _)| {
                matches!(tag.kind(), TagKind::Legacy(legacy) if legacy.subject() == subject)
            });
            now.extend(legacy.map(|(_, on)| on.clone()));
            now
        })
    }

    fn is_ours(&self, digest: &Digest) -> bool {
        self.rights.made.contains(digest) && !self.rights.deleted.contains(digest)
    }

    /// A list goes only after somebody asked what it lists, and there was nothing.
    fn check_list(&mut self, list: &Tag) {
        let mut asked = self.seen.referrers.iter();
        match asked.find(|(subject, _)| referrers_tag(subject) == *list) {
            None => self.violation(format!("nobody asked what list {list} names")),
            Some((_, seen)) => {
                if seen
                    .iter()
                    .any(|own| self.state.manifests.contains_key(own))
                {
                    self.violation(format!("list {list} was deleted and named something"));
                }
            }
        }
    }

    fn delete_tag(&mut self, tag: &Tag) -> Deletion {
        if !self.state.deletes_tags {
            return Deletion::Refused;
        }
        if !self.state.tags.contains_key(tag) {
            return Deletion::Absent;
        }
        let seen = self.seen.tags.get(tag).cloned();
        match seen {
            None => self.violation(format!("{tag} was deleted and never looked at")),
            Some(_) if matches!(tag.kind(), TagKind::Referrers { .. }) => self.check_list(tag),
            Some(seen) => {
                if !self.rights.may_delete_tag(tag, &seen) {
                    self.violation(format!("tag {tag} is not ours to delete"));
                }
                let foreign = self.seen.referrers.get(&seen).into_iter().flatten();
                let foreign = foreign.filter(|own| !self.is_ours(own)).cloned();
                let foreign: Vec<Digest> = foreign.collect();
                let others = self.seen.tags.iter().filter(|(other, digest)| {
                    *other != tag && !self.rights.may_delete_tag(other, digest)
                });
                let elsewhere = self.needed(others.map(|(_, on)| on.clone()));
                if self.is_ours(&seen) && !foreign.is_empty() && !elsewhere.contains(&seen) {
                    self.violation(format!("tag {tag} of an image that somebody refers to"));
                }
            }
        }
        self.state.tags.remove(tag);
        self.rights.deleted_tags.insert(tag.clone());
        self.deletions += 1;
        Deletion::Deleted
    }

    fn delete_manifest(&mut self, digest: &Digest) -> Deletion {
        if !self.state.manifests.contains_key(digest) {
            return Deletion::Absent;
        }
        let lists = self.state.tags.iter();
        let lists: Vec<Tag> = lists
            .filter(|(tag, on)| *on == digest && matches!(tag.kind(), TagKind::Referrers { .. }))
            .map(|(tag, _)| tag.clone())
            .collect();
        if lists.is_empty() {
            if !self.is_ours(digest) {
                self.violation(format!("{digest} is not ours to delete"));
            }
            if self.protected().contains(digest) {
                self.violation(format!("{digest} was visibly needed"));
            }
            match self.seen.referrers.get(digest) {
                None => self.violation(format!("nobody asked what refers to {digest}")),
                Some(referrers) => {
                    let there = referrers.iter();
                    let there: Vec<Digest> = there
                        .filter(|own| self.state.manifests.contains_key(*own))
                        .cloned()
                        .collect();
                    for referrer in there {
                        self.violation(format!("{digest} went before its referrer {referrer}"));
                    }
                }
            }
        }
        for list in &lists {
            self.check_list(list);
        }
        // Deleting by digest takes the tags along.
        let tags: Vec<Tag> = self
            .state
            .tags
            .iter()
            .filter(|(_, on)| *on == digest)
            .map(|(tag, _)| tag.clone())
            .collect();
        for tag in tags {
            let visible = self.seen.tags.get(&tag) == Some(digest);
            if visible && !lists.contains(&tag) && !self.rights.may_delete_tag(&tag, digest) {
                self.violation(format!("{digest} took tag {tag} along"));
            }
            self.state.tags.remove(&tag);
            self.rights.deleted_tags.insert(tag);
        }
        let content = self.state.manifests.remove(digest);
        self.graves
            .extend(content.map(|content| (digest.clone(), content)));
        self.rights.deleted.insert(digest.clone());
        self.deletions += 1;
        Deletion::Deleted
    }
}

#[async_trait]
impl PruneTarget for Model {
    fn identity(&self) -> String {
        TARGET.to_owned()
    }

    async fn tags(&self, _: &RepositoryName) -> Result<BTreeSet<Tag>, ImportError> {
        let mut watched = self.0.lock().unwrap();
        watched.call()?;
        let now = watched.state.tags.clone();
        // A name that is new is seen with what it has now, whether or not it is read.
        let mut seen = now.clone();
        for (tag, digest) in &mut seen {
            if let Some(known) = watched.seen.tags.get(tag) {
                digest.clone_from(known);
            }
        }
        watched.seen.tags = seen;
        if watched.is_stale {
            let first = watched.stale_tags.get_or_insert(now).clone();
            return Ok(first.into_keys().collect());
        }
        Ok(now.into_keys().collect())
    }

    async fn manifest(
        &self,
        _: &RepositoryName,
        id: ManifestId<'_>,
    ) -> Result<Option<StoredManifest>, ImportError> {
        let mut watched = self.0.lock().unwrap();
        watched.call()?;
        let digest = match id {
            ManifestId::Tag(tag) => {
                let now = watched.state.tags.get(tag).cloned();
                match &now {
                    Some(now) => watched.seen.tags.insert(tag.clone(), now.clone()),
                    None => watched.seen.tags.remove(tag),
                };
                match &watched.stale_tags {
                    Some(first) if watched.is_stale => first.get(tag).cloned(),
                    _ => now,
                }
            }
            ManifestId::Digest(digest) => {
                if watched.state.manifests.contains_key(digest) {
                    watched.seen.absent.remove(digest);
                } else {
                    watched.seen.absent.insert(digest.clone());
                }
                Some(digest.clone())
            }
            _ => None,
        };
        Ok(digest.and_then(|digest| watched.state.manifests.get(&digest).cloned()))
    }

    async fn referrers(
        &self,
        _: &RepositoryName,
        subjects: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<(Digest, Digest)>, ImportError> {
        let mut watched = self.0.lock().unwrap();
        watched.call()?;
        let mut found = BTreeSet::new();
        for subject in subjects {
            let now = watched.state.referrers(subject);
            watched.seen.referrers.insert(subject.clone(), now.clone());
            let now: BTreeSet<_> = now.into_iter().map(|own| (subject.clone(), own)).collect();
            if watched.is_stale {
                let key = subject.to_string();
                let first = watched.stale.entry(key).or_insert(now).clone();
                let there = &watched.state.manifests;
                found.extend(first.into_iter().filter(|(_, own)| there.contains_key(own)));
            } else {
                found.extend(now);
            }
        }
        Ok(found)
    }

    async fn delete(
        &self,
        _: &RepositoryName,
        id: ManifestId<'_>,
    ) -> Result<Deletion, ImportError> {
        let mut watched = self.0.lock().unwrap();
        let lives = watched.call();
        // Whoever is killed may have been heard.
        if lives.is_err() && watched.random.below(2) == 0 {
            lives?;
        }
        let deletion = match id {
            ManifestId::Tag(tag) => watched.delete_tag(tag),
            ManifestId::Digest(digest) => watched.delete_manifest(digest),
            _ => Deletion::Refused,
        };
        Ok(deletion)
    }

    async fn remove_from_list(
        &self,
        _: &RepositoryName,
        list: &Tag,
        gone: &BTreeSet<Digest>,
    ) -> Result<(), ImportError> {
        let mut watched = self.0.lock().unwrap();
        watched.call()?;
        let mut entries = watched.state.entries(list);
        for entry in entries.iter().filter(|entry| gone.contains(*entry)) {
            let was_absent = watched.seen.absent.contains(entry);
            if watched.state.manifests.contains_key(entry) && !was_absent {
                let text = format!("{entry} was taken out of list {list}, and is there");
                watched.violations.push(text);
            }
        }
        entries.retain(|entry| !gone.contains(entry));
        watched.state.put_list(list, entries);
        Ok(())
    }
}
