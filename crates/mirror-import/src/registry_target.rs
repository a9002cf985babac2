use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Descriptor, Digest, Registry, RepositoryName, Tag, media_type};
use oci_referrers::{NativeReferrers, Outcome, Query, ReferrerSource as _, RegistrySources};
use registry_client::{BlobPush, Client, ErrorKind, ManifestId, Repository, nobody};
use tokio::task::JoinSet;

use crate::base::BaseSearch;
use crate::blob_push::{self, Holding};
use crate::error::{ImportError, ImportErrorKind};
use crate::importer::{ImportObserver, ImportOptions};
use crate::manifest_push;
use crate::patience::Patience;
use crate::plan::{ImportPlan, RepositoryPlan};
use crate::proof::{self, Comparison};
use crate::referrers_tag;
use crate::report::{ImportReport, TransferCounts};
use crate::source::BundleSource;

/// A registry that a bundle goes into.
pub(crate) struct RegistryTarget<'a> {
    client: &'a Client,
    registry: &'a Registry,
    bundle: &'a BundleSource,
    options: &'a ImportOptions,
    observer: &'a Arc<dyn ImportObserver>,
}

/// A tag that an import makes: its name and what it will hold.
type WantedTag<'p> = (&'p RepositoryName, &'p Tag, &'p Digest);

impl<'a> RegistryTarget<'a> {
    pub(crate) fn new(
        client: &'a Client,
        registry: &'a Registry,
        bundle: &'a BundleSource,
        options: &'a ImportOptions,
        observer: &'a Arc<dyn ImportObserver>,
    ) -> Self {
        Self {
            client,
            registry,
            bundle,
            options,
            observer,
        }
    }

    pub(crate) async fn import(
        &self,
        plan: &ImportPlan,
        report: &mut ImportReport,
    ) -> Result<(), ImportError> {
        let tags = self.tags_to_make(plan).await?;
        let base = BaseSearch {
            client: self.client,
            registry: self.registry,
            elsewhere: &self.options.mount_from,
            at_once: self.options.max_concurrent_transfers,
            read: self.options.verify_existing,
        };
        let mounts = base.run(self.bundle, plan).await?;
        if let Some(base) = &mut report.base {
            base.mounted = mounts.len();
        }
        if self.options.dry_run {
            return Ok(());
        }
        // Before anything else: where the registry does not mount, nothing that could be seen has been sent.
        base.mount(mounts).await?;
        // A blob that one repository has can be mounted into the next ones.
        let mut homes: BTreeMap<Digest, RepositoryName> = BTreeMap::new();
        for (name, repository) in &plan.repositories {
            self.push_blobs(name, repository, &mut homes, &mut report.blobs)
                .await?;
            for wave in &repository.waves {
                self.push_manifests(name, repository, wave, &mut report.manifests)
                    .await?;
            }
            if !self.lists_referrers(name).await {
                self.keep_referrers_tags(name, repository).await?;
            }
        }
        let mut made = Vec::new();
        for (name, tag, digest) in tags {
            if !self.merge(name, tag, digest).await? {
                self.put(name, digest, Some(tag)).await?;
                made.push((name, tag, digest));
            }
        }
        self.observer.proving();
        self.prove_images(plan, &made).await?;
        report.blobs_checked = self.prove_blobs(plan).await?;
        self.prove(plan, report).await
    }

    /// Adds to a referrers tag that was exported as an image: what others list there stays. Returns whether the tag is such a
    /// one and holds an index already.
    async fn merge(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<bool, ImportError> {
        let Some(subject) = subject_of(tag) else {
            return Ok(false);
        };
        let repository = self.repository(name);
        let held = manifest_push::held(&repository, ManifestId::Tag(tag)).await;
        let index = self.bundle.read_manifest(digest)?;
        if !matches!(held, Some(Some(_))) || !media_type::is_index(index.media_type()) {
            return Ok(false);
        }
        let referrers: Vec<&Descriptor> = index.entries().iter().collect();
        let patience = self.options.patience;
        referrers_tag::add(&repository, self.bundle, &subject, &referrers, patience).await?;
        Ok(true)
    }

    async fn put(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        tag: Option<&Tag>,
    ) -> Result<(), ImportError> {
        manifest_push::push(&self.repository(name), self.bundle, digest, tag).await
    }

    /// Reads back what was made: every tag, and every image that has none. (A tag that was there had been read before.)
    async fn prove_images(
        &self,
        plan: &ImportPlan,
        tags: &[WantedTag<'_>],
    ) -> Result<(), ImportError> {
        let tagged = tags
            .iter()
            .map(|(name, tag, digest)| (*name, ManifestId::Tag(tag), *digest));
        let untagged = plan.repositories.iter().flat_map(|(name, repository)| {
            let images = repository.images.iter();
            images
                .filter(|(_, _, tag)| tag.is_none())
                .map(move |(_, digest, _)| (name, ManifestId::Digest(digest), digest))
        });
        stream::iter(tagged.chain(untagged).collect::<Vec<_>>())
            .map(|(name, id, digest)| async move {
                let repository = self.repository(name);
                let mut patience = Patience::new(self.options.patience);
                let there = loop {
                    match manifest_push::held(&repository, id).await {
                        Some(Some(there)) if there == *digest => return Ok(()),
                        _ if patience.wait().await => {}
                        there => break there,
                    }
                };
                let found = match there {
                    Some(Some(other)) => format!("holds {other}"),
                    Some(None) => "is not there".to_owned(),
                    None => "cannot be read".to_owned(),
                };
                let message = format!(
                    "{}: {id} is to be {digest}, and at the target it {found}; nothing says that the image arrived",
                    self.name(name),
                );
                Err(ImportError::new(ImportErrorKind::Incomplete, message))
            })
            .buffer_unordered(self.options.max_concurrent_transfers)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// Looks for every blob once more, and returns how many there are. One that is gone is sent again, once.
    async fn prove_blobs(&self, plan: &ImportPlan) -> Result<usize, ImportError> {
        let wanted = plan.repositories.iter().flat_map(|(name, repository)| {
            let blobs = repository.blobs.iter().map(|blob| (blob, true));
            let left_out = repository.left_out.iter().map(|blob| (blob, false));
            blobs
                .chain(left_out)
                .map(move |((digest, size), held)| (name, digest, *size, held))
        });
        let checks = stream::iter(wanted).map(|(name, digest, size, held)| async move {
            let repository = self.repository(name);
            if blob_push::holding(&repository, digest, size, false).await? == Holding::Whole {
                return Ok(());
            }
            if held {
                let (bundle, patience) = (self.bundle, self.options.patience);
                blob_push::push(&repository, bundle, digest, size, None, patience).await?;
                return Ok(());
            }
            let message = format!(
                "{}: the target had {digest} when the import began, and does not have it any more; import the base again",
                self.name(name),
            );
            Err(ImportError::new(ImportErrorKind::BaseMissing, message))
        });
        let checks = checks.buffer_unordered(self.options.max_concurrent_transfers);
        Ok(checks.try_collect::<Vec<()>>().await?.len())
    }

    fn repository(&self, name: &RepositoryName) -> Repository {
        self.client.repository(self.registry, name).for_push()
    }

    fn name(&self, name: &RepositoryName) -> String {
        format!("{}/{name}", self.registry)
    }

    /// Finds the tags that do not hold yet what they will; refuses to move one without leave.
    async fn tags_to_make<'p>(
        &self,
        plan: &'p ImportPlan,
    ) -> Result<Vec<WantedTag<'p>>, ImportError> {
        let wanted = plan.repositories.iter().flat_map(|(name, repository)| {
            let images = repository
                .images
                .iter()
                .filter_map(|(_, digest, tag)| Some((tag.as_ref()?, digest)));
            let legacy = repository
                .edges
                .iter()
                .filter_map(|(_, digest, tag)| Some((tag.as_ref()?, digest)));
            // Images after legacy tags: an image's tag is the last thing that appears.
            legacy
                .chain(images)
                .map(move |(tag, digest)| (name, tag, digest))
        });
        let unique: BTreeSet<WantedTag<'p>> = wanted.clone().collect();
        let checks = stream::iter(unique).map(|(name, tag, digest)| async move {
            let what = format!("{}:{tag}", self.name(name));
            let response = self
                .repository(name)
                .get_manifest(tag)
                .await
                .map_err(|error| ImportError::request(&what, &error))?;
            match response.status().as_u16() {
                200 if digest.matches(response.body()) => Ok(Some((name, tag))),
                200 if self.options.overwrite_tags => Ok(None),
                200 => {
                    let message = format!(
                        "{what} is {} at the target and {digest} in the bundle; nothing was sent; \
                         --overwrite-tags moves it",
                        Digest::of(response.body()),
                    );
                    Err(ImportError::new(ImportErrorKind::Access, message))
                }
                404 => Ok(None),
                403 if manifest_push::denies_absent_tags(&self.repository(name)).await? => Ok(None),
                _ => Err(ImportError::refused(&what, &response)),
            }
        });
        let there: BTreeSet<_> = checks
            .buffer_unordered(self.options.max_concurrent_transfers)
            .try_collect::<Vec<_>>()
            .await?
            .into_iter()
            .flatten()
            .collect();
        Ok(wanted
            .filter(|(name, tag, _)| !there.contains(&(*name, *tag)))
            .collect())
    }

    async fn push_blobs(
        &self,
        name: &RepositoryName,
        plan: &RepositoryPlan,
        homes: &mut BTreeMap<Digest, RepositoryName>,
        counts: &mut TransferCounts,
    ) -> Result<(), ImportError> {
        let mut tasks = JoinSet::new();
        // The largest first: the last transfer to end is then a short one.
        let mut queue: Vec<(&Digest, u64)> = plan
            .blobs
            .iter()
            .map(|(digest, size)| (digest, *size))
            .collect();
        queue.sort_by_key(|(_, size)| *size);
        loop {
            while tasks.len() < self.options.max_concurrent_transfers {
                let Some((digest, size)) = queue.pop() else {
                    break;
                };
                let bundle = self.bundle.clone();
                let home = homes.get(digest).cloned();
                let (digest, repository) = (digest.clone(), self.repository(name));
                let (read, patience) = (self.options.verify_existing, self.options.patience);
                // Spawned, because reading and hashing are work for more than one processor.
                tasks.spawn(async move {
                    let there = blob_push::holding(&repository, &digest, size, read).await?;
                    let home = home.as_ref().filter(|_| there == Holding::Nothing);
                    let done = match there {
                        Holding::Whole => None,
                        _ => Some(
                            blob_push::push(&repository, &bundle, &digest, size, home, patience)
                                .await?,
                        ),
                    };
                    Ok::<_, ImportError>((size, done))
                });
            }
            let (size, done) = match tasks.join_next().await {
                None => break,
                Some(Ok(result)) => result?,
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            };
            match done {
                None => {
                    counts.present += 1;
                    self.observer.advanced(size);
                }
                Some(BlobPush::Mounted) => counts.mounted += 1,
                Some(_) => counts.sent += 1,
            }
            self.observer.arrived(size);
        }
        for digest in plan.blobs.keys() {
            homes.entry(digest.clone()).or_insert_with(|| name.clone());
        }
        Ok(())
    }

    async fn push_manifests(
        &self,
        name: &RepositoryName,
        plan: &RepositoryPlan,
        wave: &[Digest],
        counts: &mut TransferCounts,
    ) -> Result<(), ImportError> {
        let pushes = stream::iter(wave).map(|digest| async move {
            if self
                .has_manifest(name, digest, plan.descriptors[digest].size)
                .await?
            {
                return Ok((digest, false));
            }
            self.put(name, digest, None).await?;
            Ok::<_, ImportError>((digest, true))
        });
        let mut pushes = pushes.buffer_unordered(self.options.max_concurrent_transfers);
        while let Some(pushed) = pushes.next().await {
            let (digest, sent) = pushed?;
            match sent {
                true => counts.sent += 1,
                false => counts.present += 1,
            }
            let size = plan.descriptors[digest].size;
            self.observer.advanced(size);
            self.observer.arrived(size);
        }
        Ok(())
    }

    /// Returns whether a manifest is there whole. What the answer to a HEAD does not say is found out by reading it.
    async fn has_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, ImportError> {
        let what = format!("manifest {}@{digest}", self.name(name));
        let repository = self.repository(name);
        let head = repository
            .head_manifest(digest)
            .await
            .map_err(|error| ImportError::request(&what, &error))?;
        if head.status() != 200 {
            return Ok(false);
        }
        if !self.options.verify_existing && blob_push::length(&head) == Some(size) {
            return Ok(true);
        }
        match repository.get_manifest(digest).await {
            Ok(response) => Ok(response.status() == 200),
            Err(error) if error.kind() == ErrorKind::Integrity => Ok(false),
            Err(error) => Err(ImportError::request(&what, &error)),
        }
    }

    /// Finds out whether the target lists referrers itself. `OCI-Subject` alone is not believed: registries have
    /// sent it without having the API.
    async fn lists_referrers(&self, name: &RepositoryName) -> bool {
        let answer = NativeReferrers::new(self.repository(name))
            .referrers(&Query::direct(nobody()))
            .await;
        // Where nothing could be found out the tag is kept as well, and the proof decides.
        matches!(answer.outcome, Outcome::List | Outcome::PartialList)
    }

    async fn keep_referrers_tags(
        &self,
        name: &RepositoryName,
        plan: &RepositoryPlan,
    ) -> Result<(), ImportError> {
        let mut subjects: BTreeMap<&Digest, Vec<&Descriptor>> = BTreeMap::new();
        for (subject, referrer, tag) in &plan.edges {
            // What only a legacy tag names has no subject and belongs into no list.
            if tag.is_none() {
                subjects
                    .entry(subject)
                    .or_default()
                    .push(&plan.descriptors[referrer]);
            }
        }
        let repository = self.repository(name);
        let repository = &repository;
        stream::iter(subjects)
            .map(|(subject, referrers)| async move {
                let patience = self.options.patience;
                referrers_tag::add(repository, self.bundle, subject, &referrers, patience).await
            })
            .buffer_unordered(self.options.max_concurrent_transfers)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// Discovers on the target and compares. What is not listed is waited for, then sent again, one at a time, and at last
    /// kept under the referrers tag.
    async fn prove(&self, plan: &ImportPlan, report: &mut ImportReport) -> Result<(), ImportError> {
        let mut reasons = Vec::new();
        for (name, repository) in &plan.repositories {
            let sources = RegistrySources::new(self.repository(name));
            let discovery = |many| sources.discovery(None).one_of_many(many);
            let mut comparison = Comparison::of(name, repository, discovery).await;
            self.wait_for(name, &mut comparison).await;
            if !comparison.is_whole() {
                for lost in comparison.missing().0 {
                    self.put(name, &lost.referrer, lost.tag.as_ref()).await?;
                }
                self.wait_for(name, &mut comparison).await;
            }
            // What the API still does not list is kept where every client looks as well.
            let (missing, _) = comparison.missing();
            let mut by_subject: BTreeMap<&Digest, Vec<&Descriptor>> = BTreeMap::new();
            for lost in missing.iter().filter(|lost| lost.tag.is_none()) {
                let descriptor = &repository.descriptors[&lost.referrer];
                by_subject
                    .entry(&lost.subject)
                    .or_default()
                    .push(descriptor);
            }
            for (subject, referrers) in by_subject {
                let (target, patience) = (self.repository(name), self.options.patience);
                referrers_tag::add(&target, self.bundle, subject, &referrers, patience).await?;
            }
            if !comparison.is_whole() {
                self.look_again(name, &mut comparison).await;
            }
            let (missing, why) = comparison.missing();
            report.missing.extend(missing);
            reasons.extend(why);
        }
        proof::conclude(report, &reasons)
    }

    /// Looks again for what was not found, until all of it is or there is no time left.
    async fn wait_for(&self, name: &RepositoryName, comparison: &mut Comparison<'_>) {
        let mut patience = Patience::new(self.options.patience);
        while !comparison.is_whole() && patience.wait().await {
            self.look_again(name, comparison).await;
        }
    }

    async fn look_again(&self, name: &RepositoryName, comparison: &mut Comparison<'_>) {
        // Sources remember what they were told, so each look is through new ones.
        let sources = RegistrySources::new(self.repository(name));
        comparison
            .again(|many| sources.discovery(None).one_of_many(many))
            .await;
    }
}

/// Returns the subject of a referrers tag.
fn subject_of(tag: &Tag) -> Option<Digest> {
    let digest = tag.as_str().replacen('-', ":", 1).parse::<Digest>().ok()?;
    (oci_content::referrers_tag(&digest) == *tag).then_some(digest)
}
