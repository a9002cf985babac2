use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{
    Descriptor, Digest, Manifest, Registry, RepositoryName, SourceRepository, TagKind, media_type,
};
use oci_referrers::{
    Discovery, FurtherSources, ManifestCache, NativeReferrers, Outcome, Query, ReferrerSource,
    RegistrySources,
};
use registry_client::{BlobPush, BlobSource, Client, ErrorKind, ManifestId, Repository, nobody};

use crate::error::{ImportError, ImportErrorKind};
use crate::manifest_push;
use crate::referrers_tag;
use crate::source::Source;
use crate::stored_blob;
use crate::target::{BlobPut, Check, Entry, Holding, Published, Target, TargetProfile};

/// A registry as a [`Target`].
///
/// If the registry has no referrers API, lists of referrers are maintained under referrers tags.
#[derive(Clone, Debug)]
pub struct RegistryTarget {
    client: Client,
    registry: Registry,
    profile: TargetProfile,
    sources: FurtherSources,
    cache: Option<Arc<dyn ManifestCache>>,
}

/// A cache that keeps manifests and gives none, for a proof that reads every manifest.
#[derive(Debug)]
struct KeepOnly(Arc<dyn ManifestCache>);

impl ManifestCache for KeepOnly {
    fn manifest(&self, _: &Digest) -> Option<Manifest> {
        None
    }

    fn keep(&self, manifest: &Manifest) {
        self.0.keep(manifest);
    }
}

impl RegistryTarget {
    /// Creates a target that `client` speaks to, with a [patience](Self::patience) of 15 s and 16
    /// calls [at once](Self::max_concurrent).
    pub fn new(client: Client, registry: Registry) -> Self {
        let profile = TargetProfile {
            patience: Duration::from_secs(15),
            lists_untagged: false,
            ..TargetProfile::default()
        };
        Self {
            client,
            registry,
            profile,
            sources: FurtherSources::default(),
            cache: None,
        }
    }

    /// Sets a cache of manifests that earlier runs have read; none by default.
    ///
    /// It saves reading a referrer that an import finds at the registry before it sends anything:
    /// the registry is only asked whether it has it. What an import has sent is always read.
    #[must_use]
    pub fn manifest_cache(mut self, cache: Option<Arc<dyn ManifestCache>>) -> Self {
        self.cache = cache;
        self
    }

    /// Sets how long the registry may take to show what it has accepted, before that is sent again
    /// or the import fails: for each tag, for each blob, and for the lists of each repository.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.profile.patience = patience;
        self
    }

    /// Sets how many objects are sent at once.
    #[must_use]
    pub fn max_concurrent(mut self, calls: NonZeroUsize) -> Self {
        self.profile.max_concurrent = calls;
        self
    }

    /// Sets further sources of referrers that the proof asks in addition to the registry. `sources`
    /// is called for each repository. A referrer that only they name counts as found, and an import
    /// waits for their answer without a time limit.
    #[must_use]
    pub fn sources(
        mut self,
        sources: impl Fn(&SourceRepository) -> Vec<Arc<dyn ReferrerSource>> + Send + Sync + 'static,
    ) -> Self {
        self.sources = FurtherSources::new(sources);
        self
    }

    fn repository(&self, name: &RepositoryName) -> Repository {
        self.client.repository(&self.registry, name).for_push()
    }

    /// Returns a repository to read from. The right to delete is asked for when it is needed.
    pub(crate) fn reader(&self, name: &RepositoryName) -> Repository {
        self.client.repository(&self.registry, name)
    }

    /// Adds the further sources of a repository to a discovery.
    pub(crate) fn with_further(&self, name: &RepositoryName, discovery: Discovery) -> Discovery {
        let repository = SourceRepository::new(self.registry.clone(), name.clone());
        let further = self.sources.of(&repository).into_iter();
        further.fold(discovery, Discovery::source)
    }

    async fn held_by_entry(
        &self,
        entry: &Entry,
        check: Check,
    ) -> Result<Option<Digest>, ImportError> {
        let what = self.entry_name(entry);
        let repository = self.repository(&entry.repository);
        let id = match &entry.tag {
            Some(tag) => ManifestId::Tag(tag),
            None => ManifestId::Digest(&entry.descriptor.digest),
        };
        let failed = |error| ImportError::request(&what, error);
        if check == Check::Size {
            let head = repository.head_manifest(id).await.map_err(failed)?;
            if head.status() == 200
                && head.content_digest().as_ref() == Some(&entry.descriptor.digest)
                && head.content_length() == Some(entry.descriptor.size)
            {
                return Ok(Some(entry.descriptor.digest.clone()));
            }
            // What else the tag holds, or that it holds nothing, has to be read: registries that do
            // not serve HEAD answer it with 404 as well.
        }
        let read = manifest_push::read(&repository, id, &what).await?;
        Ok(read.map(|response| {
            let digest = &entry.descriptor.digest;
            if digest.matches(response.body()) {
                digest.clone()
            } else {
                Digest::of(response.body())
            }
        }))
    }

    /// Puts a manifest under the tag of an entry, or adds to the list that is there.
    async fn name_one(&self, entry: &Entry, source: &dyn Source) -> Result<Published, ImportError> {
        if self.merge(entry, source).await? {
            return Ok(Published::Merged);
        }
        let repository = self.repository(&entry.repository);
        let (digest, tag) = (&entry.descriptor.digest, entry.tag.as_ref());
        manifest_push::push(&repository, source, digest, tag).await?;
        Ok(Published::Whole)
    }

    /// Adds to a referrers tag that is itself an image of the source; entries of other writers
    /// stay. Returns whether the entry is such a tag and held an index already.
    async fn merge(&self, entry: &Entry, source: &dyn Source) -> Result<bool, ImportError> {
        let kind = entry.tag.as_ref().map(|tag| (tag, tag.kind()));
        let Some((
            tag,
            TagKind::Referrers {
                subject: Some(subject),
                ..
            },
        )) = kind
        else {
            return Ok(false);
        };
        let repository = self.repository(&entry.repository);
        let held = manifest_push::held(&repository, ManifestId::Tag(tag)).await;
        let index = source.manifest(&entry.descriptor.digest).await?;
        if !matches!(held, Some(Some(_))) || !media_type::is_index(index.media_type()) {
            return Ok(false);
        }
        let referrers: Vec<&Descriptor> = index.entries().iter().collect();
        let name = &entry.repository;
        self.add_referrers(name, &subject, &referrers, source)
            .await?;
        Ok(true)
    }
}

#[async_trait]
impl Target for RegistryTarget {
    fn name(&self) -> String {
        self.registry.to_string()
    }

    /// The default port 443 is dropped.
    fn identity(&self, prefix: Option<&RepositoryName>) -> String {
        let registry = self.registry.to_string();
        let registry = registry.strip_suffix(":443").unwrap_or(&registry);
        match prefix {
            Some(prefix) => format!("{registry}/{prefix}"),
            None => registry.to_owned(),
        }
    }

    fn entry_name(&self, entry: &Entry) -> String {
        let (registry, name) = (&self.registry, &entry.repository);
        match &entry.tag {
            Some(tag) => format!("{registry}/{name}:{tag}"),
            None => format!("{registry}/{name}@{}", entry.descriptor.digest),
        }
    }

    fn own_repository(&self, source: &SourceRepository) -> Option<RepositoryName> {
        let is_own = source.registry().is_same(&self.registry);
        is_own.then(|| source.name().clone())
    }

    fn profile(&self) -> TargetProfile {
        self.profile
    }

    /// After the first error nothing more is asked: each request may take all its retries, or count as a failed login.
    async fn held(
        &self,
        entries: &[Entry],
        check: Check,
    ) -> Vec<Result<Option<Digest>, ImportError>> {
        let failed = &AtomicBool::new(false);
        stream::iter(entries)
            .map(|entry| async move {
                if failed.load(Ordering::Relaxed) {
                    let message = format!(
                        "{} was not asked for, because another name could not be read",
                        self.entry_name(entry)
                    );
                    return Err(ImportError::new(ImportErrorKind::Network, message));
                }
                let held = self.held_by_entry(entry, check).await;
                failed.fetch_or(held.is_err(), Ordering::Relaxed);
                held
            })
            .buffered(self.profile.max_concurrent.get())
            .boxed()
            .collect()
            .await
    }

    async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        check: Check,
    ) -> Result<Holding, ImportError> {
        stored_blob::holding(&self.repository(repository), digest, size, check).await
    }

    async fn has_manifest(
        &self,
        name: &RepositoryName,
        manifest: &Descriptor,
        check: Check,
    ) -> Result<bool, ImportError> {
        let digest = &manifest.digest;
        let what = format!("manifest {}/{name}@{digest}", self.registry);
        let repository = self.repository(name);
        let head = repository
            .head_manifest(digest)
            .await
            .map_err(|error| ImportError::request(&what, error))?;
        if head.status() != 200 {
            return Ok(false);
        }
        if check == Check::Size && head.content_length() == Some(manifest.size) {
            return Ok(true);
        }
        // If the answer to the HEAD does not settle it, the manifest is read.
        match repository.get_manifest(digest).await {
            Ok(response) => Ok(response.status() == 200),
            Err(error) if error.kind() == ErrorKind::Integrity => Ok(false),
            Err(error) => Err(ImportError::request(what, error)),
        }
    }

    async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        content: &dyn BlobSource,
        mount_from: Option<&RepositoryName>,
    ) -> Result<BlobPut, ImportError> {
        let pushed = self
            .repository(repository)
            .push_blob(digest, size, content, mount_from)
            .await;
        match pushed {
            Ok(BlobPush::Mounted) => Ok(BlobPut::Mounted),
            Ok(_) => Ok(BlobPut::Sent),
            Err(error) => {
                let what = format!("{digest} into {}/{repository}", self.registry);
                Err(ImportError::request(what, error))
            }
        }
    }

    async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<(), ImportError> {
        let mounted = self.repository(repository).mount_blob(digest, from).await;
        let response = mounted.map_err(|error| {
            let what = format!(
                "{digest}, which {from} has, into {}/{repository}",
                self.registry
            );
            ImportError::request(what, error)
        })?;
        match response.status().as_u16() {
            201 => Ok(()),
            status => {
                let message = format!("the registry answered {status}");
                Err(ImportError::new(ImportErrorKind::BaseMissing, message))
            }
        }
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        source: &dyn Source,
    ) -> Result<(), ImportError> {
        manifest_push::push(&self.repository(repository), source, digest, None).await
    }

    /// Asks the API itself: registries have sent `OCI-Subject` without having the API.
    async fn lists_referrers(&self, repository: &RepositoryName) -> bool {
        let answer = NativeReferrers::new(self.repository(repository))
            .referrers(&Query::direct(nobody()))
            .await;
        // If the question could not be answered, the tag is maintained as well, and the proof
        // decides.
        matches!(answer.outcome, Outcome::List | Outcome::PartialList)
    }

    async fn add_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        referrers: &[&Descriptor],
        source: &dyn Source,
    ) -> Result<(), ImportError> {
        let repository = self.repository(repository);
        let patience = self.profile.patience;
        referrers_tag::add(&repository, source, subject, referrers, patience).await
    }

    async fn publish(
        &self,
        entries: &[Entry],
        source: &dyn Source,
    ) -> Result<Vec<Published>, ImportError> {
        let mut published = vec![Published::Whole; entries.len()];
        // Tags of images appear last.
        for images in [false, true] {
            let due = entries.iter().enumerate();
            let due = due.filter(|(_, entry)| entry.tag.is_some() && entry.is_image == images);
            let mut puts = stream::iter(due)
                .map(|(place, entry)| async move {
                    Ok::<_, ImportError>((place, self.name_one(entry, source).await?))
                })
                .buffer_unordered(self.profile.max_concurrent.get())
                .boxed();
            while let Some((place, done)) = puts.try_next().await? {
                published[place] = done;
            }
        }
        Ok(published)
    }

    fn discovery(&self, name: &RepositoryName, check: Check) -> Result<Discovery, ImportError> {
        let cache = self.cache.clone().map(|cache| match check {
            Check::Size => cache,
            Check::Content => Arc::new(KeepOnly(cache)),
        });
        let sources = RegistrySources::new(self.repository(name))
            .manifest_cache(cache)
            .seen_before(check == Check::Size)
            .proving(true);
        Ok(self.with_further(name, sources.discovery(None)))
    }
}

#[cfg(test)]
mod tests {
    use registry_client::ClientOptions;

    use super::*;

    #[test]
    fn a_registry_is_the_same_however_it_was_typed() {
        let name = |registry: &str, prefix: Option<&str>| {
            let client = Client::new(ClientOptions::default()).unwrap();
            let target = RegistryTarget::new(client, registry.parse().unwrap());
            let prefix: Option<RepositoryName> = prefix.map(|prefix| prefix.parse().unwrap());
            target.identity(prefix.as_ref())
        };
        assert_eq!(
            name("Registry.Example.com:443", None),
            "registry.example.com"
        );
        assert_eq!(
            name("registry.example.com", Some("a/b")),
            "registry.example.com/a/b"
        );
        assert_eq!(name("[::1]:443", None), "[::1]");
        for other in ["registry.example.com:8443", "registry.example.com:80"] {
            assert_eq!(name(other, None), other);
        }
    }
}
