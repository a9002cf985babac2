//! A store with one fault, for each rule that a store can break.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use oci_content::{
    Algorithm, Descriptor, Digest, Manifest, Registry, RepositoryName, Tag, media_type,
};
use serde_json::Value;

use super::places;
use crate::testing::calls::{image, parse, tag};
use crate::{
    Blob, BlobUpload, MemoryStore, Precondition, Repository, Store, StoreError, StoreErrorKind,
    StoredManifest,
};

/// What a [`Broken`] store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    ListsNobody,
    HasEveryRepository,
    CutsBlobs,
    HasEveryBlob,
    KnowsSha256Only,
    CountsNothing,
    ShowsUnfinishedUploads,
    TakesWrongDigests,
    MountsInWordsOnly,
    WritesManifestsAnew,
    ForgetsMediaTypes,
    SetsTheFirstTagOnly,
    ListsTagsTwice,
    DropsManifestsWithTheirTag,
    KeepsRemovedTags,
    RemovesManifestsWithTheirTag,
    ListsOnceTheSubjectIsThere,
    ListsWithoutAnnotations,
    ListsUntaggedOnly,
    ListsForEverySubject,
    ListsUntilTheTagMoves,
    ListsRemoved,
    RemovesReferrersWithTheSubject,
    IgnoresConditions,
    IgnoresConditionsOfRemovals,
    AsksForTheFirstTagOnly,
    StoresWhatItRefuses,
    IgnoresMissingContent,
    KeepsRemovedBlobs,
    KeepsRemovedManifests,
    KeepsTagsOfRemovedManifests,
    RemovesWhatIsAbsent,
    RefusesAndRemoves,
    ChecksAndWritesApart,
    ReadsAndWritesSharedTagsApart,
    WritesBackTheTagsItRead,
    WritesBackTheReferrersItRead,
    TagsBeforeItStores,
    ShowsHalfABlob,
}

/// A store in memory with one fault.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    inner: MemoryStore,
    fault: Fault,
    removed: Arc<Mutex<BTreeMap<Digest, Vec<Descriptor>>>>,
}

/// Longer than a writer or a reader needs to come between.
const GAP: Duration = Duration::from_millis(20);

impl Broken {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            inner: MemoryStore::new(),
            fault,
            removed: Arc::default(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

impl Store for Broken {
    fn blocks(&self) -> bool {
        false
    }

    fn repositories(&self, of: Option<&Registry>) -> Result<Vec<RepositoryName>, StoreError> {
        if self.has(Fault::ListsNobody) {
            return Ok(Vec::new());
        }
        Store::repositories(&self.inner, of)
    }

    fn contains(&self, repository: &Repository) -> Result<bool, StoreError> {
        Ok(self.has(Fault::HasEveryRepository) || self.inner.contains(repository)?)
    }

    fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let found = self.inner.blob(repository, digest)?;
        if found.is_none() && self.has(Fault::HasEveryBlob) {
            return Ok(Some(Blob::from_bytes(Bytes::new())));
        }
        let cut = |blob: Blob| {
            let kept = blob.size().saturating_sub(1);
            Blob::from_bytes(blob.read(0..kept).unwrap())
        };
        Ok(found.map(|blob| {
            if self.has(Fault::CutsBlobs) {
                cut(blob)
            } else {
                blob
            }
        }))
    }

    fn upload(&self) -> Result<Box<dyn BlobUpload>, StoreError> {
        Ok(Box::new(BrokenUpload {
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
        if self.has(Fault::MountsInWordsOnly) {
            return Ok(true);
        }
        self.inner.mount(repository, digest, from)
    }

    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        if self.has(Fault::KeepsRemovedBlobs) {
            return Ok(self.inner.blob(repository, digest)?.is_some());
        }
        let removed = self.inner.remove_blob(repository, digest)?;
        if self.has(Fault::RefusesAndRemoves) && *digest == Digest::of(b"removals: needed") {
            return Err(StoreError::new(StoreErrorKind::Refused, "it is needed"));
        }
        Ok(removed || self.has(Fault::RemovesWhatIsAbsent))
    }

    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let mut found = self.inner.manifest(repository, digest)?;
        if let Some(kept) = &mut found {
            if self.has(Fault::WritesManifestsAnew) {
                let parsed: Value = serde_json::from_slice(&kept.bytes).unwrap();
                kept.bytes = parsed.to_string().into();
            }
            if self.has(Fault::ForgetsMediaTypes) {
                kept.media_type = media_type::IMAGE_MANIFEST.into();
            }
        }
        Ok(found)
    }

    fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        self.inner.resolve(repository, tag)
    }

    fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
        precondition: &Precondition,
    ) -> Result<(), StoreError> {
        let any = Precondition::default().with_content(precondition.content().to_vec());
        let force = |tags: &[Tag]| self.inner.put_manifest(repository, manifest, tags, &any);
        let force_by = |precondition: &Precondition| {
            self.inner
                .put_manifest(repository, manifest, tags, precondition)
        };
        let held = |tag: &Tag| self.inner.resolve(repository, tag);
        match self.fault {
            Fault::SetsTheFirstTagOnly => {
                let tags = &tags[..tags.len().min(1)];
                return self
                    .inner
                    .put_manifest(repository, manifest, tags, precondition);
            }
            Fault::DropsManifestsWithTheirTag => {
                for tag in tags {
                    if let Some(old) = held(tag)? {
                        self.inner.remove_manifest(repository, &old)?;
                    }
                }
            }
            Fault::IgnoresConditions => return force(tags),
            Fault::AsksForTheFirstTagOnly => {
                self.inner.put_manifest(
                    repository,
                    manifest,
                    &tags[..tags.len().min(1)],
                    precondition,
                )?;
                return force(tags);
            }
            Fault::StoresWhatItRefuses => force(&[])?,
            Fault::IgnoresMissingContent => {
                let condition = precondition.clone().with_content(Vec::new());
                return self
                    .inner
                    .put_manifest(repository, manifest, tags, &condition);
            }
            Fault::ListsUntilTheTagMoves => {
                for tag in tags {
                    if let Some(old) = held(tag)?
                        && old != *manifest.digest()
                    {
                        self.inner.unlist_referrer(repository.name(), &old);
                    }
                }
            }
            Fault::WritesBackTheTagsItRead => {
                let before = self.inner.tags(repository)?;
                thread::sleep(GAP);
                force_by(precondition)?;
                for tag in self.inner.tags(repository)? {
                    // Of the tags that the writers set at the same time, those that were not there
                    // yet.
                    if tag.as_str().contains('.') && !before.contains(&tag) && !tags.contains(&tag)
                    {
                        self.inner.remove_tag(repository, &tag, &any)?;
                    }
                }
                return Ok(());
            }
            Fault::WritesBackTheReferrersItRead => {
                let Some(subject) = manifest.subject() else {
                    return force_by(precondition);
                };
                let before = self.inner.referrers(repository, &subject.digest)?;
                thread::sleep(GAP);
                force_by(precondition)?;
                for listed in self.inner.referrers(repository, &subject.digest)? {
                    let known = before.iter().any(|before| before.digest == listed.digest);
                    if !known && listed.digest != *manifest.digest() {
                        self.inner
                            .unlist_referrer(repository.name(), &listed.digest);
                    }
                }
                return Ok(());
            }
            Fault::ReadsAndWritesSharedTagsApart if tags != [tag("concurrent-shared")] => {}
            Fault::ChecksAndWritesApart | Fault::ReadsAndWritesSharedTagsApart => {
                for tag in tags {
                    if !precondition.allows(held(tag)?.as_ref()) {
                        return Err(StoreError::precondition(tag));
                    }
                }
                thread::sleep(GAP);
                return force(tags);
            }
            Fault::TagsBeforeItStores if tags == [tag("reads")] => {
                let digest = manifest.digest().clone();
                self.inner
                    .insert_tag(repository.name(), tag("reads"), digest);
                thread::sleep(GAP);
            }
            _ => {}
        }
        self.inner
            .put_manifest(repository, manifest, tags, precondition)
    }

    fn remove_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let tags = self.inner.tags(repository)?;
        let held: Vec<Tag> = tags
            .into_iter()
            .filter(|tag| self.inner.resolve(repository, tag).unwrap().as_ref() == Some(digest))
            .collect();
        if self.has(Fault::RemovesReferrersWithTheSubject) {
            for referrer in self.inner.referrers(repository, digest)? {
                self.inner.remove_manifest(repository, &referrer.digest)?;
            }
        }
        if self.has(Fault::ListsRemoved)
            && let Some(kept) = self.inner.manifest(repository, digest)?
            && let Some(subject) = parse(kept.bytes.clone()).subject()
        {
            let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
            removed
                .entry(subject.digest.clone())
                .or_default()
                .push(parse(kept.bytes).descriptor());
        }
        let kept = self.inner.manifest(repository, digest)?;
        let removed = self.inner.remove_manifest(repository, digest)?;
        if let (Some(kept), true) = (kept, self.has(Fault::KeepsRemovedManifests)) {
            self.inner
                .insert_manifest(repository.name(), digest.clone(), kept);
            self.inner.unlist_referrer(repository.name(), digest);
        }
        if self.has(Fault::KeepsTagsOfRemovedManifests) {
            for tag in held {
                self.inner
                    .insert_tag(repository.name(), tag, digest.clone());
            }
        }
        Ok(removed)
    }

    fn remove_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        precondition: &Precondition,
    ) -> Result<bool, StoreError> {
        match self.fault {
            Fault::KeepsRemovedTags => Ok(self.inner.resolve(repository, tag)?.is_some()),
            Fault::RemovesManifestsWithTheirTag => {
                if let Some(held) = self.inner.resolve(repository, tag)? {
                    self.inner.remove_manifest(repository, &held)?;
                    return Ok(true);
                }
                Ok(false)
            }
            Fault::IgnoresConditionsOfRemovals => {
                self.inner
                    .remove_tag(repository, tag, &Precondition::default())
            }
            _ => self.inner.remove_tag(repository, tag, precondition),
        }
    }

    fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, StoreError> {
        let mut tags = self.inner.tags(repository)?;
        if self.has(Fault::ListsTagsTwice) {
            tags.extend(tags.clone());
        }
        Ok(tags)
    }

    fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let mut listed = self.inner.referrers(repository, subject)?;
        match self.fault {
            Fault::ListsOnceTheSubjectIsThere
                if self.inner.manifest(repository, subject)?.is_none() =>
            {
                listed.clear();
            }
            Fault::ListsWithoutAnnotations => {
                for referrer in &mut listed {
                    referrer.annotations.clear();
                }
            }
            Fault::ListsUntaggedOnly => {
                let tags = self.inner.tags(repository)?;
                let held: Vec<_> = tags
                    .iter()
                    .filter_map(|tag| self.inner.resolve(repository, tag).unwrap())
                    .collect();
                listed.retain(|referrer| !held.contains(&referrer.digest));
            }
            Fault::ListsForEverySubject if listed.is_empty() => {
                let text = b"referrers: subject";
                let everywhere = Digest::of(image(std::str::from_utf8(text).unwrap(), None).raw());
                listed = self.inner.referrers(repository, &everywhere)?;
            }
            Fault::ListsRemoved => {
                let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
                listed.extend(removed.get(subject).into_iter().flatten().cloned());
            }
            _ => {}
        }
        Ok(listed)
    }
}

#[derive(Debug)]
struct BrokenUpload {
    store: Broken,
    bytes: Vec<u8>,
}

impl BlobUpload for BrokenUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(bytes);
        if self.store.has(Fault::ShowsUnfinishedUploads) {
            let [repository, _] = places();
            let bytes = Bytes::from(self.bytes.clone());
            self.store
                .inner
                .insert_blob(repository.name(), Digest::of(&bytes), bytes);
        }
        Ok(())
    }

    fn written(&self) -> u64 {
        if self.store.has(Fault::CountsNothing) {
            0
        } else {
            self.bytes.len() as u64
        }
    }

    fn finish(self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let algorithm = if self.store.has(Fault::KnowsSha256Only) {
            Algorithm::Sha256
        } else {
            digest.algorithm()
        };
        let found = Digest::compute(algorithm, &self.bytes);
        if found != *digest && !self.store.has(Fault::TakesWrongDigests) {
            return Err(StoreError::digest(digest, &found));
        }
        let bytes = Bytes::from(self.bytes);
        let insert = |bytes| {
            let name = repository.name();
            self.store.inner.insert_blob(name, digest.clone(), bytes);
        };
        if self.store.has(Fault::ShowsHalfABlob) {
            insert(bytes.slice(..bytes.len() / 2));
            thread::sleep(GAP);
        }
        insert(bytes);
        Ok(())
    }
}
