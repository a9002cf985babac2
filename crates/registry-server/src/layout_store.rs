use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_content::{
    Descriptor, Digest, ImageLayout, LayoutErrorKind, Manifest, PartialBlob, REF_NAME, Reference,
    Registry, RepositoryName, Tag,
};

use crate::checked::{Checked, Kept, Stamp, read_manifest};
use crate::layout_view::View;
use crate::precondition::Precondition;
use crate::store::{
    Blob, BlobUpload, Repository, Store, StoreError, StoreErrorKind, StoredManifest,
};

/// A store over an OCI image layout folder.
///
/// - A tag is an entry of `index.json` whose `ref.name` is a full reference, `HOST/REPOSITORY:TAG`,
///   or a bare tag if [a repository](Self::bare_tags_as) is set for those. Other entries have no
///   tag.
/// - `/v2/<repository>/` shows the entries of that repository. If several hosts have a repository
///   of that name, `?ns=HOST` selects one; without it, the default host comes first, then the order
///   of `index.json`.
/// - All repositories that exist share their content: what one has by digest, all have. A
///   repository exists if a tag names it, and also from the first push to it for as long as this
///   value lives.
/// - Every manifest that is reachable from `index.json`, directly or through indexes, is listed
///   under its subject. This includes manifests that other tools list only in a referrers tag.
/// - A push rewrites and syncs `index.json`, so its time grows with the number of entries. To store
///   much content, write to the [`ImageLayout`] directly.
/// - While a manifest of the layout is damaged, or one that `index.json` names is missing, its
///   subject is unknown. Every list of referrers is then a [`StoreErrorKind::Damaged`] error that
///   names the manifest. Everything else is served.
/// - Content is served only if it matches its digest. A file of more than 256 KiB is hashed again
///   when its size or change time has changed, a smaller one at each request. Content that does not
///   match is [`StoreErrorKind::Damaged`] until it is pushed again or removed.
/// - Content that another manifest needs, as a child or as a blob, is not removed. A subject can be
///   removed.
/// - Changes that other processes make through [`ImageLayout`] are seen at the next call. A
///   [`Precondition`] guards only against calls of this value.
#[derive(Debug)]
pub struct LayoutStore {
    layout: ImageLayout,
    default_host: Option<Registry>,
    bare: Option<RepositoryName>,
    state: Arc<State>,
}

/// The state that a store shares with its unfinished uploads.
#[derive(Debug, Default)]
struct State {
    /// Locked during every change. Holds the repositories that were pushed to since the start.
    changes: Mutex<HashSet<RepositoryName>>,
    /// The last view, with the state of `index.json` that it shows; `None` if that has changed.
    view: Mutex<Option<(Option<Stamp>, Arc<View>)>>,
    checked: Checked,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, HashSet<RepositoryName>> {
        // It guards a set of names and a file that is replaced in one step, so a panic leaves
        // neither inconsistent.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LayoutStore {
    /// Creates a store over `layout`. Content that is pushed without `?ns=` gets the host
    /// `default_host`. Without a default, such pushes are refused, except to the repository of the
    /// bare tags.
    pub fn new(layout: ImageLayout, default_host: Option<Registry>) -> Self {
        Self {
            layout,
            default_host,
            bare: None,
            state: Arc::default(),
        }
    }

    /// Serves the entries whose `ref.name` is a bare tag as this repository, and stores its tags as
    /// bare tags.
    #[must_use]
    pub fn bare_tags_as(mut self, repository: RepositoryName) -> Self {
        self.bare = Some(repository);
        self
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RepositoryName>> {
        self.state.lock()
    }

    fn view(&self) -> Result<Arc<View>, StoreError> {
        let kept = self.state.view.lock();
        let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
        // Taken before the file is read, so that a change in between is noticed at the next call.
        let stamp = std::fs::symlink_metadata(self.layout.root().join("index.json"));
        let stamp = Stamp::of(&stamp.map_err(StoreError::failed)?);
        if let Some((known, view)) = &*kept
            && *known == Some(stamp)
            && !view.is_damaged()
        {
            return Ok(Arc::clone(view));
        }
        let old = kept.take().map(|(_, view)| view);
        let view = Arc::new(View::read(
            &self.layout,
            self.bare.as_ref(),
            old.as_deref(),
        )?);
        *kept = Some((Some(stamp), Arc::clone(&view)));
        Ok(view)
    }

    /// Forgets the stamp of the view, because it may not change when the file changes twice within
    /// one tick of the file system. What the view knows of manifests stays true.
    fn changed(&self) {
        let view = self.state.view.lock();
        if let Some((stamp, _)) = &mut *view.unwrap_or_else(PoisonError::into_inner) {
            *stamp = None;
        }
    }

    /// Returns the `ref.name` of a tag.
    fn ref_name(&self, repository: &Repository, tag: &Tag) -> Result<String, StoreError> {
        if repository.namespace().is_none() && self.bare.as_ref() == Some(repository.name()) {
            return Ok(tag.to_string());
        }
        let host = repository.namespace().or(self.default_host.as_ref());
        let Some(host) = host.cloned() else {
            let reason = format!(
                "no host is configured for {}; name one with ?ns=HOST",
                repository.name()
            );
            return Err(StoreError::new(StoreErrorKind::Refused, reason));
        };
        Ok(Reference::with_tag(host, repository.name().clone(), tag.clone()).to_string())
    }

    fn manifest_in(&self, digest: &Digest) -> Result<Option<StoredManifest>, StoreError> {
        let Kept::Bytes(bytes) = read_manifest(&self.layout, digest)? else {
            return Ok(None);
        };
        let view = self.view()?;
        if let Some(media_type) = view.media_type(digest) {
            return Ok(Some(StoredManifest::new(media_type, bytes)));
        }
        // Not in the index: a child of a removed manifest, or an ordinary blob.
        let parsed = Manifest::parse_verified(bytes.clone(), digest, None);
        Ok(parsed
            .ok()
            .map(|manifest| StoredManifest::new(manifest.media_type(), bytes)))
    }

    fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        self.state.checked.forget(digest);
        self.layout.remove_blob(digest).map_err(StoreError::failed)
    }

    fn is_unlisted(view: &View, digest: &Digest, but: &[String]) -> bool {
        view.entries().iter().all(|entry| {
            let name = entry.annotations.get(REF_NAME);
            entry.digest != *digest || name.is_some_and(|name| but.contains(name))
        })
    }
}

impl Store for LayoutStore {
    fn blocks(&self) -> bool {
        true
    }

    fn repositories(
        &self,
        namespace: Option<&Registry>,
    ) -> Result<Vec<RepositoryName>, StoreError> {
        let view = self.view()?;
        let mut found: BTreeSet<_> = view.repositories(namespace).cloned().collect();
        if namespace.is_none() {
            found.extend(self.lock().iter().cloned());
        }
        Ok(found.into_iter().collect())
    }

    fn contains(&self, repository: &Repository) -> Result<bool, StoreError> {
        if self.bare.as_ref() == Some(repository.name()) || self.lock().contains(repository.name())
        {
            return Ok(true);
        }
        Ok(self.view()?.contains(repository))
    }

    fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        if !self.contains(repository)? {
            return Ok(None);
        }
        self.state.checked.open(&self.layout, digest)
    }

    fn upload(&self) -> Result<Box<dyn BlobUpload>, StoreError> {
        Ok(Box::new(LayoutUpload {
            blob: self.layout.partial_blob().map_err(StoreError::failed)?,
            state: Arc::clone(&self.state),
        }))
    }

    fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        _from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        match self.state.checked.open(&self.layout, digest) {
            Ok(Some(_whole)) => {}
            Ok(None) => return Ok(false),
            // The upload that follows repairs it.
            Err(error) if error.kind() == StoreErrorKind::Damaged => return Ok(false),
            Err(error) => return Err(error),
        }
        self.lock().insert(repository.name().clone());
        Ok(true)
    }

    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        if !self.contains(repository)? {
            return Ok(false);
        }
        let _changes = self.lock();
        let size = self.layout.blob_size(digest).map_err(StoreError::failed)?;
        if size.is_none() {
            return Ok(false);
        }
        let view = self.view()?;
        if view.media_type(digest).is_some() || view.needs(digest) {
            return Err(needed(digest));
        }
        self.remove(digest)?;
        Ok(true)
    }

    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, StoreError> {
        if self.contains(repository)? {
            self.manifest_in(digest)
        } else {
            Ok(None)
        }
    }

    fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let view = self.view()?;
        Ok(view
            .resolve(repository, tag, self.default_host.as_ref())
            .cloned())
    }

    fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
        precondition: &Precondition,
    ) -> Result<(), StoreError> {
        let mut changes = self.lock();
        for needed in precondition.content() {
            let size = self.layout.blob_size(needed).map_err(StoreError::failed)?;
            if size.is_none() {
                return Err(StoreError::missing(needed));
            }
        }
        let view = self.view()?;
        let digest = manifest.digest();
        let entry = Descriptor::new(manifest.media_type(), digest.clone(), manifest.size());
        let mut entries = Vec::new();
        for tag in tags {
            let name = self.ref_name(repository, tag)?;
            let old = view.named(&name);
            if !precondition.allows(old.map(|old| &old.digest)) {
                return Err(StoreError::precondition(tag));
            }
            // A manifest that loses its tag stays in the index, or it would no longer be listed as
            // a referrer.
            if let Some(old) = old
                && old.digest != *digest
                && Self::is_unlisted(&view, &old.digest, std::slice::from_ref(&name))
            {
                entries.push(unnamed(old));
            }
            let mut entry = entry.clone();
            entry.annotations.insert(REF_NAME.into(), name);
            entries.push(entry);
        }
        if tags.is_empty() && Self::is_unlisted(&view, digest, &[]) {
            entries.push(entry);
        }
        self.layout
            .write_blob(digest, manifest.raw())
            .map_err(StoreError::failed)?;
        if !entries.is_empty() {
            self.layout
                .add_to_index(&entries)
                .map_err(StoreError::failed)?;
        }
        if !entries.is_empty() || view.media_type(digest).is_none() {
            self.changed();
        }
        changes.insert(repository.name().clone());
        Ok(())
    }

    fn remove_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        if !self.contains(repository)? {
            return Ok(false);
        }
        let mut changes = self.lock();
        let view = self.view()?;
        match self.manifest_in(digest) {
            // A manifest that is damaged, or listed and missing, can be removed too.
            Ok(None) if !view.entries().iter().any(|own| own.digest == *digest) => {
                return Ok(false);
            }
            Err(error) if error.kind() != StoreErrorKind::Damaged => return Err(error),
            Ok(_) | Err(_) => {}
        }
        if view.needs(digest) {
            return Err(needed(digest));
        }
        let own: HashSet<String> = view
            .names_of(repository, digest)
            .map(str::to_owned)
            .collect();
        self.layout
            .retain_in_index(|entry| {
                let name = entry.annotations.get(REF_NAME);
                entry.digest != *digest || name.is_some_and(|name| !own.contains(name))
            })
            .map_err(StoreError::failed)?;
        self.changed();
        // The repository exists, or the request could not name it. It still exists without its last
        // tag.
        changes.insert(repository.name().clone());
        // A tag of another repository may still need the bytes.
        let entries = self.layout.index().map_err(StoreError::failed)?;
        if entries.iter().all(|entry| entry.digest != *digest) {
            self.remove(digest)?;
        }
        Ok(true)
    }

    fn remove_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        precondition: &Precondition,
    ) -> Result<bool, StoreError> {
        let mut changes = self.lock();
        let view = self.view()?;
        let old = view.entry(repository, tag, self.default_host.as_ref());
        if !precondition.allows(old.map(|old| &old.digest)) {
            return Err(StoreError::precondition(tag));
        }
        let Some(old) = old else { return Ok(false) };
        let Some(name) = old.annotations.get(REF_NAME) else {
            return Ok(false);
        };
        if Self::is_unlisted(&view, &old.digest, std::slice::from_ref(name)) {
            self.layout
                .add_to_index(&[unnamed(old)])
                .map_err(StoreError::failed)?;
        }
        self.layout
            .retain_in_index(|entry| entry.annotations.get(REF_NAME) != Some(name))
            .map_err(StoreError::failed)?;
        self.changed();
        changes.insert(repository.name().clone());
        Ok(true)
    }

    fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, StoreError> {
        let view = self.view()?;
        let tags: BTreeSet<_> = view.tags(repository).cloned().collect();
        Ok(tags.into_iter().collect())
    }

    fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, StoreError> {
        if self.contains(repository)? {
            Ok(self.view()?.referrers(subject)?.to_vec())
        } else {
            Ok(Vec::new())
        }
    }
}

fn unnamed(entry: &Descriptor) -> Descriptor {
    let mut entry = entry.clone();
    entry.annotations.remove(REF_NAME);
    entry
}

fn needed(digest: &Digest) -> StoreError {
    let reason = format!("{digest} is needed by a manifest of this layout");
    StoreError::new(StoreErrorKind::Refused, reason)
}

#[derive(Debug)]
struct LayoutUpload {
    blob: PartialBlob,
    state: Arc<State>,
}

impl BlobUpload for LayoutUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.blob.write(bytes).map_err(StoreError::failed)
    }

    fn written(&self) -> u64 {
        self.blob.written()
    }

    fn finish(self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let Self { blob, state } = *self;
        let file = blob.commit(digest).map_err(|error| match error.kind() {
            LayoutErrorKind::Corrupt => {
                let reason = format!("the bytes do not match {digest}");
                StoreError::new(StoreErrorKind::Digest, reason)
            }
            _ => StoreError::failed(error),
        })?;
        state.checked.wrote(digest, &file);
        state.lock().insert(repository.name().clone());
        Ok(())
    }
}
