//! What is at a target before anything is sent there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Digest, RepositoryName, Tag};

use crate::error::ImportError;
use crate::plan::{ImportPlan, RepositoryPlan};
use crate::proof::Comparison;
use crate::sequence::REPOSITORIES_AT_ONCE;
use crate::target::{Check, Target};

/// What the target was found to have before anything was sent, by repository.
///
/// A repository that has one of its images already is discovered before the import: what is found
/// then is not sent, and not asked for again. If nothing is sent, this look is the proof.
#[derive(Debug, Default)]
pub(crate) struct FirstLook<'p> {
    repositories: BTreeMap<&'p RepositoryName, Looked<'p>>,
}

/// What one repository was found to have.
#[derive(Debug, Default)]
pub(crate) struct Looked<'p> {
    /// The manifests that were asked for, and whether the repository has each.
    manifests: HashMap<&'p Digest, bool>,
    /// The manifests that legacy tags were found to name.
    tags: HashMap<&'p Tag, &'p Digest>,
    /// The referrers that it lists.
    comparison: Option<Comparison<'p>>,
}

/// What tags hold, of those that were asked for.
pub(crate) type HeldTags = BTreeMap<(RepositoryName, Option<Tag>), Option<Digest>>;

impl<'p> FirstLook<'p> {
    /// Looks at the repositories that have one of their images. `held` says which tags do.
    pub(crate) async fn at(
        target: &dyn Target,
        plan: &'p ImportPlan,
        held: &HeldTags,
    ) -> Result<Self, ImportError> {
        let looks = stream::iter(&plan.repositories).map(|(name, plan)| async move {
            let looked = Looked::at(target, name, plan, held).await?;
            Ok::<_, ImportError>((name, looked))
        });
        let looks = looks.buffer_unordered(REPOSITORIES_AT_ONCE).boxed();
        Ok(Self {
            repositories: looks.try_collect().await?,
        })
    }

    /// Returns whether a repository has a manifest; `None` if that was not asked.
    pub(crate) fn has(&self, name: &RepositoryName, digest: &Digest) -> Option<bool> {
        let looked = self.repositories.get(name)?;
        looked.manifests.get(digest).copied()
    }

    /// Returns whether a legacy tag names a manifest.
    pub(crate) fn names(&self, name: &RepositoryName, tag: &Tag, digest: &Digest) -> bool {
        let looked = self.repositories.get(name);
        looked.is_some_and(|looked| looked.tags.get(tag) == Some(&digest))
    }

    /// Returns what a repository was found to list, if it was asked.
    pub(crate) fn comparison(&self, name: &RepositoryName) -> Option<&Comparison<'p>> {
        self.repositories.get(name)?.comparison.as_ref()
    }

    /// Takes what a repository was found to list, if it was asked.
    pub(crate) fn take(&mut self, name: &RepositoryName) -> Option<Comparison<'p>> {
        self.repositories.get_mut(name)?.comparison.take()
    }
}

impl<'p> Looked<'p> {
    async fn at(
        target: &dyn Target,
        name: &'p RepositoryName,
        plan: &'p RepositoryPlan,
        held: &HeldTags,
    ) -> Result<Self, ImportError> {
        let mut looked = Self::default();
        let mut untagged = BTreeSet::new();
        for (_, digest, tag) in &plan.images {
            let there = held.get(&(name.clone(), tag.clone()));
            if tag.is_none() {
                untagged.insert(digest);
            } else if there.and_then(Option::as_ref) == Some(digest) {
                looked.manifests.insert(digest, true);
            }
        }
        untagged.retain(|digest| !looked.manifests.contains_key(*digest));
        let asks = stream::iter(untagged).map(|digest| async move {
            let known = &plan.descriptors[digest];
            let is_there = target.has_manifest(name, known, Check::Size).await?;
            Ok::<_, ImportError>((digest, is_there))
        });
        let at_once = target.profile().max_concurrent.get();
        let mut asks = asks.buffer_unordered(at_once).boxed();
        while let Some((digest, is_there)) = asks.try_next().await? {
            looked.manifests.insert(digest, is_there);
        }
        drop(asks);
        if !looked.manifests.values().any(|is_there| *is_there) {
            return Ok(looked);
        }
        let discovery = target.discovery(name, Check::Size)?;
        let comparison = Comparison::of_subjects(name, plan, &discovery).await;
        for (_, referrer, tag) in comparison.found() {
            looked.manifests.insert(referrer, true);
            looked.tags.extend(tag.as_ref().map(|tag| (tag, referrer)));
        }
        looked.comparison = Some(comparison);
        Ok(looked)
    }
}
