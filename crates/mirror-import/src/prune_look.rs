//! Reads everything about a repository that a decision needs.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Digest, RepositoryName};
use registry_client::ManifestId;

use crate::error::{ImportError, ImportErrorKind};
use crate::prune_decision::{Deciding, View};
use crate::prune_target::{PruneTarget, StoredManifest};

/// The number of manifests that are read at once.
const READS_AT_ONCE: usize = 16;
/// The number of manifests of one repository that are read for one look.
const MAX_MANIFESTS: usize = 1_000_000;

/// A look at one repository.
pub(crate) struct Looking<'a> {
    pub(crate) target: &'a dyn PruneTarget,
    pub(crate) name: &'a RepositoryName,
    pub(crate) deciding: Deciding<'a>,
    pub(crate) view: View,
}

impl Looking<'_> {
    /// Looks. What refers to manifests that stay is asked for once, in the first look of a prune:
    /// `before` is the last one.
    pub(crate) async fn look(mut self, before: Option<&View>) -> Result<View, ImportError> {
        self.read_tags().await?;
        let by_digest = self.deciding.wanted_digests().cloned();
        let by_digest = by_digest.chain(self.deciding.named(&self.view)).collect();
        self.read(by_digest).await?;
        let wanted = self.read_wanted().await?;
        let ours = self.deciding.history.made.iter();
        let ours = ours.filter(|digest| self.deciding.is_ours(digest) && !wanted.contains(*digest));
        let ours: BTreeSet<Digest> = ours.cloned().collect();
        self.read(ours.clone()).await?;
        let listed = self.deciding.listed(&self.view);
        self.read(listed).await?;
        let nodes = &self.view.nodes;
        let there = ours.into_iter().filter(|digest| nodes.contains_key(digest));
        let mut subjects: BTreeSet<Digest> = there.collect();
        if subjects.is_empty() && !self.deciding.any_tag_goes(&self.view) {
            return Ok(self.view);
        }
        if let Some(before) = before {
            self.view.referrers.clone_from(&before.referrers);
            self.view.asked.clone_from(&before.asked);
        }
        // What refers to something can be an index of somebody else, which lists something else.
        loop {
            self.ask(&subjects).await?;
            let reach = loop {
                let reach = self.deciding.reach(&self.view);
                if !self
                    .read(reach.difference(&wanted).cloned().collect())
                    .await?
                {
                    break reach;
                }
            };
            subjects = reach.difference(&self.view.asked).cloned().collect();
            if subjects.is_empty() {
                return Ok(self.view);
            }
        }
    }

    async fn read_tags(&mut self) -> Result<(), ImportError> {
        let (target, name) = (self.target, self.name);
        self.view.listed = target.tags(name).await?;
        let reads = stream::iter(self.view.listed.clone()).map(|tag| async move {
            let held = target.manifest(name, ManifestId::Tag(&tag)).await?;
            Ok::<_, ImportError>(held.map(|held| (tag, held)))
        });
        let mut reads = reads.buffer_unordered(READS_AT_ONCE).boxed();
        while let Some(read) = reads.try_next().await? {
            if let Some((tag, held)) = read {
                self.view.nodes.insert(held.digest.clone(), held.clone());
                self.view.tags.insert(tag, held);
            }
        }
        Ok(())
    }

    /// Reads and returns what is wanted, as far as it can keep more: not the images that an index lists, and not
    /// the referrers whose subject is wanted anyway.
    async fn read_wanted(&mut self) -> Result<BTreeSet<Digest>, ImportError> {
        let history = self.deciding.history;
        let referrers = history.referrers.values().flat_map(|own| own.keys());
        let referrers: BTreeSet<&Digest> = referrers.collect();
        loop {
            let wanted = self.deciding.wanted(&self.view);
            let edges = history.referrers.iter();
            let edges = edges.filter(|(subject, _)| wanted.contains(*subject));
            let edges = edges
                .flat_map(|(_, own)| own)
                .filter(|(_, is_index)| !**is_index);
            let nodes = self.view.nodes.values();
            let listed = nodes.flat_map(|node| {
                let entries = node.entries.iter().flatten();
                entries.filter(|entry| !node.indexes.contains(entry) && !referrers.contains(entry))
            });
            let quiet = edges.map(|(digest, _)| digest).chain(listed);
            let mut quiet: BTreeSet<Digest> = quiet.cloned().collect();
            for index in self.view.nodes.values().flat_map(|node| &node.indexes) {
                quiet.remove(index);
            }
            let open = wanted.difference(&quiet).cloned().collect();
            if !self.read(open).await? {
                return Ok(wanted);
            }
        }
    }

    /// Asks what refers to `subjects`.
    async fn ask(&mut self, subjects: &BTreeSet<Digest>) -> Result<(), ImportError> {
        if subjects.is_empty() {
            return Ok(());
        }
        let referrers = self.target.referrers(self.name, subjects).await?;
        let view = &mut self.view;
        view.referrers
            .retain(|(subject, _)| !subjects.contains(subject));
        view.referrers.extend(referrers);
        view.asked.extend(subjects.iter().cloned());
        let named = view.referrers.iter().map(|(_, referrer)| referrer.clone());
        let named = named.collect();
        self.read(named).await.map(drop)
    }

    /// Reads the manifests that were not read before, and returns whether there were any.
    async fn read(&mut self, digests: BTreeSet<Digest>) -> Result<bool, ImportError> {
        let (target, name, view) = (self.target, self.name, &mut self.view);
        let known =
            |digest: &Digest| view.nodes.contains_key(digest) || view.absent.contains(digest);
        let left = digests.into_iter().filter(|digest| !known(digest));
        let left: Vec<Digest> = left.collect();
        if view.nodes.len() + left.len() > MAX_MANIFESTS {
            let message = format!(
                "{name} has more than {MAX_MANIFESTS} manifests to read, which is more than a prune reads"
            );
            return Err(ImportError::new(ImportErrorKind::Incomplete, message));
        }
        let any = !left.is_empty();
        let reads = stream::iter(left).map(|digest| async move {
            let id = ManifestId::Digest(&digest);
            let held = target.manifest(name, id).await?;
            Ok::<(Digest, Option<StoredManifest>), ImportError>((digest, held))
        });
        let mut reads = reads.buffer_unordered(READS_AT_ONCE).boxed();
        while let Some((digest, held)) = reads.try_next().await? {
            match held {
                Some(held) => {
                    view.nodes.insert(digest, held);
                }
                None => {
                    view.absent.insert(digest);
                }
            }
        }
        Ok(any)
    }
}
