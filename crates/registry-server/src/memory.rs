use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use oci_content::{Descriptor, Digest, Manifest, Registry, RepositoryName, Tag};

use crate::precondition::Precondition;
use crate::store::{Blob, BlobUpload, Repository, Store, StoreError, StoredManifest};

/// A store in memory. A clone is another handle to the same content.
///
/// - A blob belongs to the repositories that it was pushed to or mounted in.
/// - `?ns=` is ignored, because there is only one namespace.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    repositories: Arc<RwLock<BTreeMap<RepositoryName, Contents>>>,
}

#[derive(Debug, Default)]
struct Contents {
    blobs: HashMap<Digest, Bytes>,
    manifests: HashMap<Digest, StoredManifest>,
    tags: BTreeMap<Tag, Digest>,
    /// By subject, then by referrer.
    referrers: HashMap<Digest, BTreeMap<Digest, Descriptor>>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a blob into a repository, which is created if necessary. The digest is not checked.
    pub fn insert_blob(&self, repository: &RepositoryName, digest: Digest, bytes: Bytes) {
        self.write()
            .entry(repository.clone())
            .or_default()
            .blobs
            .insert(digest, bytes);
    }

    /// Puts a manifest into a repository, which is created if necessary.
    ///
    /// The bytes are not checked and need not be a manifest. If they are a manifest with a subject,
    /// it is listed among the referrers of that subject.
    pub fn insert_manifest(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        manifest: StoredManifest,
    ) {
        let parsed =
            Manifest::parse_verified(manifest.bytes.clone(), &digest, Some(&manifest.media_type));
        let mut repositories = self.write();
        let contents = repositories.entry(repository.clone()).or_default();
        if let Ok(parsed) = parsed {
            contents.list_referrer(&parsed);
        }
        contents.manifests.insert(digest, manifest);
    }

    /// Removes a manifest from every referrers list of the repository and keeps it, as registries
    /// do that archive. It is listed again when it is pushed again.
    pub fn unlist_referrer(&self, repository: &RepositoryName, digest: &Digest) {
        if let Some(contents) = self.write().get_mut(repository) {
            contents.unlist_referrer(digest);
        }
    }

    /// Points a tag at a digest, even if no manifest has that digest.
    pub fn insert_tag(&self, repository: &RepositoryName, tag: Tag, digest: Digest) {
        self.write()
            .entry(repository.clone())
            .or_default()
            .tags
            .insert(tag, digest);
    }

    /// Returns the names of the repositories, sorted.
    pub fn repositories(&self) -> Vec<RepositoryName> {
        self.read().keys().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<RepositoryName, Contents>> {
        // The changes below are a few inserts that cannot panic in between, so the content is good
        // even if the lock is poisoned.
        self.repositories
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<RepositoryName, Contents>> {
        self.repositories
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn list_referrer(&mut self, manifest: &Manifest) {
        if let Some(subject) = manifest.subject() {
            self.referrers
                .entry(subject.digest.clone())
                .or_default()
                .insert(manifest.digest().clone(), manifest.descriptor());
        }
    }

    fn unlist_referrer(&mut self, digest: &Digest) {
        self.referrers.retain(|_, list| {
            list.remove(digest);
            !list.is_empty()
        });
    }
}

impl Store for MemoryStore {
    fn blocks(&self) -> bool {
        false
    }

    fn repositories(&self, _: Option<&Registry>) -> Result<Vec<RepositoryName>, StoreError> {
        Ok(self.read().keys().cloned().collect())
    }

    fn contains(&self, repository: &Repository) -> Result<bool, StoreError> {
        Ok(self.read().contains_key(repository.name()))
    }

    fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let repositories = self.read();
        let contents = repositories.get(repository.name());
        let bytes = contents.and_then(|contents| contents.blobs.get(digest));
        Ok(bytes.cloned().map(Blob::from_bytes))
    }

    fn upload(&self) -> Result<Box<dyn BlobUpload>, StoreError> {
        Ok(Box::new(MemoryUpload {
            store: self.clone(),
            bytes: Vec::new(),
        }))
    }

    fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        let Some(from) = from else { return Ok(false) };
        let mut repositories = self.write();
        let source = repositories.get(from.name());
        let Some(bytes) = source.and_then(|source| source.blobs.get(digest)).cloned() else {
            return Ok(false);
        };
        let target = repositories.entry(repository.name().clone()).or_default();
        target.blobs.insert(digest.clone(), bytes);
        Ok(true)
    }

    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let mut repositories = self.write();
        let contents = repositories.get_mut(repository.name());
        Ok(contents.is_some_and(|contents| contents.blobs.remove(digest).is_some()))
    }

    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let repositories = self.read();
        let contents = repositories.get(repository.name());
        Ok(contents.and_then(|contents| contents.manifests.get(digest).cloned()))
    }

    fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let repositories = self.read();
        let contents = repositories.get(repository.name());
        Ok(contents.and_then(|contents| contents.tags.get(tag).cloned()))
    }

    fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
        precondition: &Precondition,
    ) -> Result<(), StoreError> {
        let mut repositories = self.write();
        let contents = repositories.get(repository.name());
        for needed in precondition.content() {
            let has = |contents: &Contents| {
                contents.blobs.contains_key(needed) || contents.manifests.contains_key(needed)
            };
            if !contents.is_some_and(has) {
                return Err(StoreError::missing(needed));
            }
        }
        for tag in tags {
            if !precondition.allows(contents.and_then(|contents| contents.tags.get(tag))) {
                return Err(StoreError::precondition(tag));
            }
        }
        let contents = repositories.entry(repository.name().clone()).or_default();
        contents.list_referrer(manifest);
        let stored = StoredManifest::new(manifest.media_type(), manifest.raw().clone());
        contents.manifests.insert(manifest.digest().clone(), stored);
        for tag in tags {
            contents.tags.insert(tag.clone(), manifest.digest().clone());
        }
        Ok(())
    }

    fn remove_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let mut repositories = self.write();
        let Some(contents) = repositories.get_mut(repository.name()) else {
            return Ok(false);
        };
        contents.tags.retain(|_, target| target != digest);
        contents.unlist_referrer(digest);
        Ok(contents.manifests.remove(digest).is_some())
    }

    fn remove_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        precondition: &Precondition,
    ) -> Result<bool, StoreError> {
        let mut repositories = self.write();
        let Some(contents) = repositories.get_mut(repository.name()) else {
            return Ok(false);
        };
        if !precondition.allows(contents.tags.get(tag)) {
            return Err(StoreError::precondition(tag));
        }
        Ok(contents.tags.remove(tag).is_some())
    }

    fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, StoreError> {
        let repositories = self.read();
        let contents = repositories.get(repository.name());
        Ok(contents.map_or_else(Vec::new, |contents| contents.tags.keys().cloned().collect()))
    }

    fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let repositories = self.read();
        let contents = repositories.get(repository.name());
        let list = contents.and_then(|contents| contents.referrers.get(subject));
        Ok(list.map_or_else(Vec::new, |list| list.values().cloned().collect()))
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    bytes: Vec<u8>,
}

impl BlobUpload for MemoryUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn written(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn finish(
        mut self: Box<Self>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let found = Digest::compute(digest.algorithm(), &self.bytes);
        if found != *digest {
            return Err(StoreError::digest(digest, &found));
        }
        let bytes = mem::take(&mut self.bytes).into();
        self.store.insert_blob(repository.name(), found, bytes);
        Ok(())
    }
}
