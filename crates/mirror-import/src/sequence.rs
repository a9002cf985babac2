//! The steps of an import, in their order; they are the same for every target.
//!
//! Streams are boxed: a closure over references inside of one would keep the future of the import
//! from being `Send`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Descriptor, Digest, RepositoryName, Tag, TagKind};
use tokio::task::JoinSet;

use crate::base::BaseSearch;
use crate::blob_task::BlobTask;
use crate::error::{ImportError, ImportErrorKind, ImportRemedy};
use crate::first_look::{FirstLook, HeldTags};
use crate::observed::{ImportObserver, Observed};
use crate::options::ImportOptions;
use crate::patience::Patience;
use crate::plan::{Edge, ImportPlan, RepositoryPlan};
use crate::proof::{self, Comparison};
use crate::report::{
    ImportReport, ImportedRepository, ImportedTag, MissingReferrer, TagAction, TransferCounts,
};
use crate::source::Source as _;
use crate::target::{BlobPut, Check, Entry, Holding, Published, Target, TargetProfile};

/// The number of repositories whose lists of referrers are read, maintained or discovered at once.
pub(crate) const REPOSITORIES_AT_ONCE: usize = 4;

/// One import into one target.
pub(crate) struct Sequence<'a> {
    pub(crate) target: &'a Arc<dyn Target>,
    pub(crate) source: &'a Observed,
    pub(crate) options: &'a ImportOptions,
    pub(crate) observer: &'a Arc<dyn ImportObserver>,
    pub(crate) plan: &'a ImportPlan,
    pub(crate) profile: TargetProfile,
}

impl<'a> Sequence<'a> {
    pub(crate) async fn run(
        &self,
        base: Option<&Digest>,
        report: &mut ImportReport,
    ) -> Result<(), ImportError> {
        let (entries, tags, look) = self.entries_to_publish().await?;
        let base = BaseSearch {
            target: &**self.target,
            plan: self.plan,
            elsewhere: &self.options.mount_from,
            check: self.check(),
            base,
        };
        let mounts = base.run().await?;
        if let Some(base) = &mut report.base {
            base.mounted = mounts.len();
        }
        if self.options.dry_run {
            report.tags = tags;
            return Ok(());
        }
        self.target.prepare().await?;
        // Before anything else: if the registry does not mount, nothing visible has been sent.
        base.mount(mounts).await?;
        let mut sent = Sent::default();
        self.put_blobs(&mut sent, &mut report.blobs).await?;
        self.put_manifests(&look, &mut sent, report).await?;
        self.list_referrers(&look).await?;
        report.tags = tags;
        let published = self.target.publish(&entries, self.source).await?;
        answers_for_all("publish", entries.len(), published.len())?;
        self.observer.proving();
        self.prove_entries(entries, &published, &sent).await?;
        // Together, because a target that is far away is mostly waited for.
        let blobs = self.prove_blobs(&sent);
        let referrers = self.prove_referrers(look);
        let (checked, (missing, reasons)) = futures::try_join!(blobs, referrers)?;
        report.blobs_checked = checked;
        report.missing.extend(missing);
        proof::conclude(report, &reasons)?;
        report.proved = true;
        Ok(())
    }

    fn check(&self) -> Check {
        if self.options.verify_existing {
            Check::Content
        } else {
            Check::Size
        }
    }

    fn at_once(&self) -> usize {
        self.profile.max_concurrent.get()
    }

    async fn held(&self, entries: &[Entry], check: Check) -> Result<Vec<HeldName>, ImportError> {
        let held = self.target.held(entries, check).await;
        answers_for_all("held", entries.len(), held.len())?;
        Ok(held)
    }

    /// Returns the entries to publish, what every tag is before the import, and what else the
    /// target has. Refuses to move a tag unless that is allowed, and a tag that entries want for
    /// different manifests.
    async fn entries_to_publish(
        &self,
    ) -> Result<(Vec<Entry>, Vec<ImportedTag>, FirstLook<'a>), ImportError> {
        let entries = self.plan.entries(self.profile.lists_untagged);
        let mut unique: BTreeMap<(&RepositoryName, &Tag), &Entry> = BTreeMap::new();
        for entry in &entries {
            let Some(tag) = &entry.tag else {
                continue;
            };
            let first = unique.entry((&entry.repository, tag)).or_insert(entry);
            let (first, second) = (&first.descriptor.digest, &entry.descriptor.digest);
            if first != second {
                let message = format!(
                    "{} would be {first} and {second}, and a tag can only be one of them; nothing was sent",
                    self.target.entry_name(entry)
                );
                return Err(ImportError::new(ImportErrorKind::Usage, message));
            }
        }
        let asked = unique.into_values().cloned();
        let (images, mut others): (Vec<Entry>, Vec<Entry>) =
            asked.partition(|entry| entry.is_image);
        let mut before = HeldTags::new();
        let held = self.held(&images, self.check()).await?;
        for (entry, held) in images.into_iter().zip(held) {
            before.insert((entry.repository, entry.tag), held?);
        }
        let mut look = FirstLook::default();
        if self.looks_first() {
            look = FirstLook::at(&**self.target, self.plan, &before).await?;
            others.retain(|entry| {
                let (name, digest) = (&entry.repository, &entry.descriptor.digest);
                let tag = entry.tag.as_ref();
                let is_found = tag.is_some_and(|tag| look.names(name, tag, digest));
                if is_found {
                    let name = (entry.repository.clone(), entry.tag.clone());
                    before.insert(name, Some(digest.clone()));
                }
                !is_found
            });
        }
        let held = self.held(&others, self.check()).await?;
        for (entry, held) in others.into_iter().zip(held) {
            before.insert((entry.repository, entry.tag), held?);
        }
        let mut wanted = Vec::new();
        let mut tags = Vec::new();
        for entry in entries {
            let digest = &entry.descriptor.digest;
            let Some(tag) = &entry.tag else {
                wanted.push(entry);
                continue;
            };
            // Entries that want the same tag are the same manifest: the first one speaks for all.
            let name = (entry.repository.clone(), entry.tag.clone());
            let Some(held) = before.remove(&name) else {
                continue;
            };
            let own = self
                .options
                .own_tags
                .get(&(entry.repository.clone(), tag.clone()));
            let is_own = |held: &Digest| own.is_some_and(|own| own.contains(held));
            if let Some(held) = held.as_ref().filter(|held| *held != digest)
                && !self.options.overwrite_tags
                && !is_own(held)
            {
                let message = format!(
                    "{} is {held} at the target and {digest} at the source; nothing was sent",
                    self.target.entry_name(&entry)
                );
                let error = ImportError::new(ImportErrorKind::Access, message);
                return Err(error.with_remedy(ImportRemedy::OverwriteTags));
            }
            let is_present = held.as_ref() == Some(digest);
            tags.push(ImportedTag {
                repository: entry.repository.clone(),
                tag: tag.clone(),
                digest: digest.clone(),
                before: held,
                action: if is_present {
                    TagAction::Present
                } else {
                    TagAction::Made
                },
            });
            if !is_present {
                wanted.push(entry);
            }
        }
        Ok((wanted, tags, look))
    }

    /// Returns whether what the target has already is found by a discovery before anything is sent.
    ///
    /// A discovery does not read what it finds a second time, so it cannot verify everything. A
    /// target that is sure of what it keeps has nothing to gain.
    fn looks_first(&self) -> bool {
        !self.options.dry_run && !self.options.verify_existing && !self.profile.is_sure
    }

    /// Puts every blob into every repository that needs it, by turns the largest and the smallest
    /// that is left: while the bytes of a few large ones keep the network busy, the small ones are
    /// mostly waited for.
    async fn put_blobs(
        &self,
        sent: &mut Sent<'a>,
        counts: &mut TransferCounts,
    ) -> Result<(), ImportError> {
        let mut blobs: BTreeMap<&'a Digest, (u64, Vec<&'a RepositoryName>)> = BTreeMap::new();
        for (name, repository) in &self.plan.repositories {
            for (digest, size) in &repository.blobs {
                let (_, repositories) = blobs.entry(digest).or_insert((*size, Vec::new()));
                if repositories.is_empty() || !self.profile.is_shared {
                    repositories.push(name);
                }
            }
        }
        let mut queue: Vec<_> = blobs.into_iter().collect();
        queue.sort_by_key(|(_, (size, _))| *size);
        let mut queue = VecDeque::from(queue);
        let mut is_large_due = true;
        let mut tasks = JoinSet::new();
        loop {
            while tasks.len() < self.at_once() {
                let next = if is_large_due {
                    queue.pop_back()
                } else {
                    queue.pop_front()
                };
                let Some((digest, (size, repositories))) = next else {
                    break;
                };
                is_large_due = !is_large_due;
                let task = self.blob_task(digest, size);
                let repositories = repositories.into_iter().cloned().collect();
                // Spawned, so that reading and hashing use more than one processor.
                tasks.spawn(async move { (task.run(repositories).await, task.digest) });
            }
            match tasks.join_next().await {
                None => return Ok(()),
                Some(Ok((done, digest))) => {
                    for (name, put) in done? {
                        *match put {
                            None => &mut counts.present,
                            Some(BlobPut::Sent) => &mut counts.sent,
                            Some(BlobPut::Mounted) => &mut counts.mounted,
                        } += 1;
                        if put.is_some()
                            && let Some((name, plan)) = self.plan.repositories.get_key_value(&name)
                            && let Some((digest, _)) = plan.blobs.get_key_value(&digest)
                        {
                            sent.blobs.insert((name, digest));
                        }
                    }
                }
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }

    /// Puts the manifests, each after everything that it needs.
    async fn put_manifests(
        &self,
        look: &FirstLook<'a>,
        sent: &mut Sent<'a>,
        report: &mut ImportReport,
    ) -> Result<(), ImportError> {
        let repositories = report.repositories.iter_mut();
        let mut records: BTreeMap<RepositoryName, &mut ImportedRepository> = repositories
            .map(|record| (record.target.clone(), record))
            .collect();
        let counts = &mut report.manifests;
        let repositories = self.plan.repositories.values();
        let waves = repositories.map(|plan| plan.waves.len()).max().unwrap_or(0);
        let mut seen = BTreeSet::new();
        for wave in 0..waves {
            let mut due = Vec::new();
            for (name, plan) in &self.plan.repositories {
                let digests = plan.waves.get(wave).into_iter().flatten();
                let digests =
                    digests.filter(|digest| !self.profile.is_shared || seen.insert(*digest));
                due.extend(digests.map(|digest| (name, &plan.descriptors[digest])));
            }
            let puts = stream::iter(due).map(|(name, manifest)| async move {
                let (target, digest) = (self.target, &manifest.digest);
                let is_there = match look.has(name, digest) {
                    Some(known) => known,
                    None => target.has_manifest(name, manifest, self.check()).await?,
                };
                if !is_there {
                    target.put_manifest(name, digest, self.source).await?;
                }
                Ok::<_, ImportError>((name, manifest, !is_there))
            });
            let mut puts = puts.buffer_unordered(self.at_once()).boxed();
            while let Some((name, manifest, is_sent)) = puts.try_next().await? {
                let digest = &manifest.digest;
                let count = if is_sent {
                    sent.manifests.entry(name).or_default().insert(digest);
                    &mut counts.sent
                } else {
                    &mut counts.present
                };
                *count += 1;
                if let Some(record) = records.get_mut(name) {
                    record.add(digest.clone(), is_sent);
                }
                self.observer.advanced(manifest.size);
                self.observer.arrived(manifest.size);
            }
        }
        Ok(())
    }

    /// Maintains the lists of referrers of repositories that do not list referrers themselves.
    async fn list_referrers(&self, look: &FirstLook<'a>) -> Result<(), ImportError> {
        stream::iter(&self.plan.repositories)
            .map(|(name, plan)| async move {
                let edges: Vec<&Edge> = match look.comparison(name) {
                    Some(comparison) => comparison.lost().collect(),
                    None => plan.edges.iter().collect(),
                };
                if edges.is_empty() || self.target.lists_referrers(name).await {
                    return Ok(());
                }
                let edges = edges.into_iter().filter(|(_, _, tag)| tag.is_none());
                let edges =
                    edges.map(|(subject, referrer, _)| (subject, &plan.descriptors[referrer]));
                self.add_referrers(name, edges).await
            })
            .buffer_unordered(REPOSITORIES_AT_ONCE)
            .boxed()
            .try_collect()
            .await
    }

    /// Adds to the lists of referrers of a repository. A manifest that only a legacy tag relates
    /// has no subject and belongs in no list.
    async fn add_referrers<'p>(
        &self,
        name: &RepositoryName,
        edges: impl Iterator<Item = (&'p Digest, &'p Descriptor)>,
    ) -> Result<(), ImportError> {
        let mut subjects: BTreeMap<&Digest, Vec<&Descriptor>> = BTreeMap::new();
        for (subject, referrer) in edges {
            subjects.entry(subject).or_default().push(referrer);
        }
        stream::iter(subjects)
            .map(|(subject, referrers)| async move {
                let target = self.target;
                target
                    .add_referrers(name, subject, &referrers, self.source)
                    .await
            })
            .buffer_unordered(self.at_once())
            .boxed()
            .try_collect()
            .await
    }

    /// Reads back every tag that was made, and every image without a tag that was sent. The others
    /// have been asked for before.
    async fn prove_entries(
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
    async fn prove_blobs(&self, sent: &Sent<'_>) -> Result<usize, ImportError> {
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

    fn blob_task(&self, digest: &Digest, size: u64) -> BlobTask {
        BlobTask {
            target: Arc::clone(self.target),
            source: self.source.clone(),
            observer: Arc::clone(self.observer),
            profile: self.profile,
            check: self.check(),
            digest: digest.clone(),
            size,
        }
    }

    /// Runs a discovery at the target and compares the result with the graph. Returns what was not
    /// found, and the reasons of an incomplete discovery, in words.
    async fn prove_referrers(
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

/// What was sent, and what was not there before.
#[derive(Debug, Default)]
struct Sent<'p> {
    blobs: HashSet<(&'p RepositoryName, &'p Digest)>,
    manifests: BTreeMap<&'p RepositoryName, HashSet<&'p Digest>>,
}

impl Sent<'_> {
    fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> bool {
        let sent = self.manifests.get(name);
        sent.is_some_and(|sent| sent.contains(digest))
    }
}

/// What a name resolves to.
type HeldName = Result<Option<Digest>, ImportError>;

/// Refuses a target that does not answer for every entry: the rest would count as proved.
pub(crate) fn answers_for_all(
    what: &str,
    entries: usize,
    answers: usize,
) -> Result<(), ImportError> {
    if entries == answers {
        return Ok(());
    }
    let message = format!("the target answered for {answers} of {entries} names ({what})");
    Err(ImportError::new(ImportErrorKind::Incomplete, message))
}
