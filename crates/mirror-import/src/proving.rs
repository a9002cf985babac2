//! The end of an import: what was put is looked for once more.

use std::collections::{BTreeSet, HashSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Digest, RepositoryName, TagKind};

use crate::error::{ImportError, ImportErrorKind};
use crate::first_look::FirstLook;
use crate::patience::Patience;
use crate::plan::RepositoryPlan;
use crate::proof::Comparison;
use crate::report::MissingReferrer;
use crate::sequence::{REPOSITORIES_AT_ONCE, Sent, Sequence};
use crate::source::Source as _;
use crate::target::{Check, Entry, Holding, Published};

impl<'a> Sequence<'a> {
    /// Reads back every tag that was made, and every image without a tag that was sent. The others
    /// have been asked for before.
    pub(crate) async fn prove_entries(
        &self,
        entries: Vec<Entry>,
        published: &[Published],
        sent: &Sent<'_>,
    ) -> Result<(), ImportError> {
        let made = entries.into_iter().zip(published);
        let made = made.filter(|(entry, published)| match &entry.tag {
            // A merged list has a new digest; the discovery proves what it lists.
            Some(tag) => {
                **published != Published::Merged || !matches!(tag.kind(), TagKind::Referrers { .. })
            }
            None => {
                let digest = &entry.descriptor.digest;
                entry.is_image && sent.has_manifest(&entry.repository, digest)
            }
        });
        let mut left: Vec<Entry> = made.map(|(entry, _)| entry).collect();
        let mut patience = Patience::new(self.profile.patience);
        loop {
            let held = self.held(&left, Check::Content).await?;
            let held = left.into_iter().zip(held);
            let mut unproven: Vec<_> = held
                .filter(|(entry, held)| {
                    !matches!(held, Ok(Some(there)) if *there == entry.descriptor.digest)
                })
                .collect();
            if unproven.is_empty() {
                return Ok(());
            }
            if patience.wait().await {
                left = unproven.into_iter().map(|(entry, _)| entry).collect();
                continue;
            }
            let (entry, there) = unproven.swap_remove(0);
            let message = format!(
                "{} should be {}, and there is no proof that the image arrived",
                self.target.entry_name(&entry),
                entry.descriptor.digest
            );
            let kind = ImportErrorKind::Incomplete;
            return Err(match there {
                Ok(Some(other)) => {
                    ImportError::new(kind, format!("{message}: at the target it is {other}"))
                }
                Ok(None) => ImportError::new(kind, format!("{message}: it is not at the target")),
                Err(error) => {
                    ImportError::caused(kind, format!("{message}: it cannot be read"), error)
                }
            });
        }
    }

    /// Looks once more for every blob that was sent, or that a manifest names that was sent: an
    /// object that nothing named may have been collected since. The others have been looked for
    /// once. A blob that is gone is sent again, once. Returns the number of all blobs.
    pub(crate) async fn prove_blobs(&self, sent: &Sent<'_>) -> Result<usize, ImportError> {
        let (mut counted, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut wanted = Vec::new();
        let mut count = 0;
        for (name, plan) in &self.plan.repositories {
            let named = self.blobs_of_sent(name, plan, sent).await?;
            let blobs = plan.blobs.iter().map(|blob| (blob, true));
            let left_out = plan.left_out.iter().map(|blob| (blob, false));
            for ((digest, size), held) in blobs.chain(left_out) {
                if !self.profile.is_shared || counted.insert(digest) {
                    count += usize::from(held || !self.profile.is_sure);
                }
                let is_named = named.as_ref().is_none_or(|named| named.contains(digest));
                if (is_named || sent.blobs.contains(&(name, digest)))
                    && (!self.profile.is_shared || seen.insert(digest))
                {
                    wanted.push((name, digest, *size, held));
                }
            }
        }
        if self.profile.is_sure {
            return Ok(count);
        }
        let checks = stream::iter(wanted).map(|(name, digest, size, held)| async move {
            let there = self.target.blob(name, digest, size, Check::Size).await?;
            if there == Holding::Whole {
                return Ok(());
            }
            if held {
                self.blob_task(digest, size).put(name, None).await?;
                return Ok(());
            }
            let message = format!(
                "{}/{name}: the target had {digest} when the import began, and no longer has it; import the base again",
                self.target.name(),
            );
            Err(ImportError::new(ImportErrorKind::BaseMissing, message))
        });
        let checks = checks.buffer_unordered(self.at_once()).boxed();
        checks.try_collect::<()>().await?;
        Ok(count)
    }

    /// Returns the blobs of the manifests that were sent into a repository; `None` stands for all.
    async fn blobs_of_sent(
        &self,
        name: &RepositoryName,
        plan: &RepositoryPlan,
        sent: &Sent<'_>,
    ) -> Result<Option<HashSet<Digest>>, ImportError> {
        let mut blobs = HashSet::new();
        let manifests = sent.manifests.get(name);
        if manifests.is_some_and(|sent| sent.len() == plan.descriptors.len()) {
            return Ok(None);
        }
        for digest in manifests.into_iter().flatten() {
            let manifest = self.source.manifest(digest).await?;
            blobs.extend(manifest.blobs().map(|blob| blob.digest.clone()));
        }
        Ok(Some(blobs))
    }

    /// Runs a discovery at the target and compares the result with the graph. Returns what was not
    /// found, and the reasons of an incomplete discovery, in words.
    pub(crate) async fn prove_referrers(
        &self,
        mut look: FirstLook<'a>,
    ) -> Result<(Vec<MissingReferrer>, Vec<String>), ImportError> {
        let repositories = self.plan.repositories.iter();
        let repositories = repositories.map(|(name, plan)| (name, plan, look.take(name)));
        let mut proofs = stream::iter(repositories)
            .map(|(name, plan, looked)| self.prove_repository(name, plan, looked))
            .buffered(REPOSITORIES_AT_ONCE)
            .boxed();
        let (mut missing, mut reasons) = (Vec::new(), Vec::new());
        while let Some((lost, why)) = proofs.try_next().await? {
            missing.extend(lost);
            reasons.extend(why);
        }
        Ok((missing, reasons))
    }

    /// Compares what one repository lists with the graph. Waits for referrers that are not listed,
    /// then sends them again, one at a time, and finally adds them to the lists that clients
    /// maintain.
    async fn prove_repository(
        &self,
        name: &RepositoryName,
        plan: &RepositoryPlan,
        looked: Option<Comparison<'_>>,
    ) -> Result<(Vec<MissingReferrer>, Vec<String>), ImportError> {
        let discovery = || self.target.discovery(name, Check::Content);
        let mut comparison = match looked {
            // Nothing was sent for what was found before anything was sent.
            Some(mut looked) => {
                if !looked.is_whole() {
                    looked.again(&discovery()?).await;
                }
                looked
            }
            None => Comparison::of(name, plan, &discovery()?).await,
        };
        self.wait_for(name, &mut comparison).await?;
        if comparison.is_whole() || self.profile.is_sure {
            return Ok(comparison.missing());
        }
        for lost in comparison.missing().0 {
            let Some(tag) = lost.tag else {
                self.target
                    .put_manifest(name, &lost.referrer, self.source)
                    .await?;
                continue;
            };
            let mut entry = Entry::new(name.clone(), plan.descriptors[&lost.referrer].clone());
            entry.tag = Some(tag);
            self.target.publish(&[entry], self.source).await?;
        }
        self.wait_for(name, &mut comparison).await?;
        // What the target still does not list itself goes under the referrers tag, which every
        // client reads as well.
        let (missing, _) = comparison.missing();
        let untagged = missing.iter().filter(|lost| lost.tag.is_none());
        let edges = untagged.map(|lost| (&lost.subject, &plan.descriptors[&lost.referrer]));
        self.add_referrers(name, edges).await?;
        if !comparison.is_whole() {
            comparison.again(&discovery()?).await;
        }
        Ok(comparison.missing())
    }

    /// Looks again for what was not found, until everything is found or the time is up.
    async fn wait_for(
        &self,
        name: &RepositoryName,
        comparison: &mut Comparison<'_>,
    ) -> Result<(), ImportError> {
        let mut patience = Patience::new(self.profile.patience);
        while !comparison.is_whole() && patience.wait().await {
            // Sources cache answers, so each attempt uses new ones.
            let discovery = self.target.discovery(name, Check::Content)?;
            comparison.again(&discovery).await;
        }
        Ok(())
    }
}
