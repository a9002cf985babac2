//! The steps of an import, in their order; they are the same for every target.
//!
//! Streams are boxed: a closure over references inside of one would keep the future of the import
//! from being `Send`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use futures::future::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Descriptor, Digest, RepositoryName, Tag};
use tokio::task::JoinSet;

use crate::base::BaseSearch;
use crate::blob_task::BlobTask;
use crate::error::{ImportError, ImportErrorKind, ImportRemedy};
use crate::first_look::{FirstLook, HeldTags};
use crate::observed::{ImportObserver, Observed};
use crate::options::ImportOptions;
use crate::plan::{Edge, ImportPlan};
use crate::proof;
use crate::report::{ImportReport, ImportedRepository, ImportedTag, TagAction, TransferCounts};
use crate::target::{BlobPut, Check, Entry, Target, TargetProfile};

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
        let blobs = self.prove_blobs(&sent).boxed();
        let referrers = self.prove_referrers(look).boxed();
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

    pub(crate) fn at_once(&self) -> usize {
        self.profile.max_concurrent.get()
    }

    pub(crate) async fn held(
        &self,
        entries: &[Entry],
        check: Check,
    ) -> Result<Vec<HeldName>, ImportError> {
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
    pub(crate) async fn add_referrers<'p>(
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

    pub(crate) fn blob_task(&self, digest: &Digest, size: u64) -> BlobTask {
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
}

/// What was sent, and what was not there before.
#[derive(Debug, Default)]
pub(crate) struct Sent<'p> {
    pub(crate) blobs: HashSet<(&'p RepositoryName, &'p Digest)>,
    pub(crate) manifests: BTreeMap<&'p RepositoryName, HashSet<&'p Digest>>,
}

impl Sent<'_> {
    pub(crate) fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> bool {
        let sent = self.manifests.get(name);
        sent.is_some_and(|sent| sent.contains(digest))
    }
}

/// What a name resolves to.
pub(crate) type HeldName = Result<Option<Digest>, ImportError>;

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
