use std::collections::{BTreeSet, HashSet};
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_content::{
    Algorithm, Descriptor, Digest, Hasher, ImageLayout, LayoutErrorKind, MAX_MANIFEST_BYTES,
    Manifest, REF_NAME, Reference, Registry, RepositoryName, Tag, sync_dir,
};

use crate::layout_view::{Stamp, View};
use crate::store::{
    Blob, BlobUpload, Precondition, Repository, Store, StoreError, StoreErrorKind, StoredManifest,
};

/// A store over an OCI image layout folder.
///
/// - A tag is an entry of `index.json` whose `ref.name` is a full reference, `HOST/REPOSITORY:TAG`, or a bare tag where
///   [one repository](Self::bare_tags_as) is named for those. Everything else is listed without a name.
/// - `/v2/<repository>/` shows the entries of that repository. Where several hosts have one of the same name, `?ns=HOST`
///   selects; without it the default host comes first, then the order of `index.json`.
/// - There is one pool of content: what is there by digest is there in every repository that exists. A repository
///   exists once a tag names it, and from the first push to it for as long as this value lives.
/// - Every manifest that `index.json` reaches, through indexes as well, is listed under its subject: also those that
///   another tool has only in a referrers tag.
/// - A push writes `index.json` anew and syncs it, so a push costs time in proportion to what is listed already. Whoever
///   has much to store writes to the [`ImageLayout`] itself.
/// - Changes that other processes make through [`ImageLayout`] are seen at the next call. A [`Precondition`] holds
///   against the calls of this value only.
#[derive(Debug)]
pub struct LayoutStore {
    layout: ImageLayout,
    default_host: Option<Registry>,
    bare: Option<RepositoryName>,
    /// Held over every change, and what has been pushed to since the start.
    changes: Arc<Mutex<HashSet<RepositoryName>>>,
    view: Mutex<Option<(Stamp, Arc<View>)>>,
}

impl LayoutStore {
    /// Creates a store over `layout`. What is pushed without `?ns=` gets `default_host` for its host; without one it
    /// is refused, except in the repository of the bare tags.
    pub fn new(layout: ImageLayout, default_host: Option<Registry>) -> Self {
        Self {
            layout,
            default_host,
            bare: None,
            changes: Arc::default(),
            view: Mutex::default(),
        }
    }

    /// Serves the entries whose `ref.name` is a bare tag as this repository, and pushes to it as bare tags.
    #[must_use]
    pub fn bare_tags_as(mut self, repository: RepositoryName) -> Self {
        self.bare = Some(repository);
        self
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RepositoryName>> {
        // What it guards is a set of names and a file that is replaced in one step; neither is left half-way.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> Result<Arc<View>, StoreError> {
        let mut kept = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the file is read: a change in between is then seen at the next call at the latest.
        let stamp = Stamp::of(&self.layout)?;
        if let Some((known, view)) = &*kept
            && *known == stamp
        {
            return Ok(Arc::clone(view));
        }
        let old = kept.take().map(|(_, view)| view);
        let view = Arc::new(View::read(
            &self.layout,
            self.bare.as_ref(),
            old.as_deref(),
        )?);
        *kept = Some((stamp, Arc::clone(&view)));
        Ok(view)
    }

    /// Forgets what was read, where a stamp might not tell a change: several in one tick of the file system's clock.
    fn changed(&self) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the `ref.name` that a tag is written with.
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
        let Some(size) = self.layout.blob_size(digest).map_err(StoreError::failed)? else {
            return Ok(None);
        };
        match self.layout.open_blob(digest) {
            Ok(file) => Ok(Some(Blob::from_file(file, size))),
            Err(error) if error.kind() == LayoutErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::failed(error)),
        }
    }

    fn upload(&self) -> Result<Box<dyn BlobUpload>, StoreError> {
        // On the file system of the blobs, so that the finished one only has to be renamed.
        let folder = self.layout.root().join("blobs");
        let file = tempfile::Builder::new()
            .prefix(".partial-")
            .tempfile_in(folder)
            .map_err(StoreError::failed)?;
        Ok(Box::new(LayoutUpload {
            layout: self.layout.clone(),
            changes: Arc::clone(&self.changes),
            file,
            hasher: Hasher::new(Algorithm::Sha256),
            written: 0,
        }))
    }

    fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        _from: Option<&Repository>,
    ) -> Result<bool, StoreError> {
        let size = self.layout.blob_size(digest).map_err(StoreError::failed)?;
        if size.is_some() {
            self.lock().insert(repository.name().clone());
        }
        Ok(size.is_some())
    }

    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        if self.blob(repository, digest)?.is_none() {
            return Ok(false);
        }
        let _changes = self.lock();
        if self.view()?.needs(digest) {
            let reason = format!("{digest} is needed by a manifest of this layout");
            return Err(StoreError::new(StoreErrorKind::Refused, reason));
        }
        self.layout
            .remove_blob(digest)
            .map_err(StoreError::failed)?;
        Ok(true)
    }

    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, StoreError> {
        if !self.contains(repository)? {
            return Ok(None);
        }
        let bytes = match self.layout.read_blob(digest, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            // A blob that is too large for a manifest is none.
            Err(error)
                if matches!(
                    error.kind(),
                    LayoutErrorKind::NotFound | LayoutErrorKind::TooLarge
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(StoreError::failed(error)),
        };
        let view = self.view()?;
        let media_type = view.media_type(digest);
        if let Some(media_type) = media_type {
            return Ok(Some(StoredManifest::new(media_type, bytes)));
        }
        // Not in the index: a child of something that was removed, or some other blob.
        let parsed = Manifest::parse_verified(bytes.clone(), digest, None);
        Ok(parsed
            .ok()
            .map(|manifest| StoredManifest::new(manifest.media_type(), bytes)))
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
            // What loses its tag stays in the index, or nothing would list it as a referrer any more.
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
        if self.manifest(repository, digest)?.is_none() {
            return Ok(false);
        }
        let mut changes = self.lock();
        let view = self.view()?;
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
        // It was named, or it could not have been asked for; deleting its last tag does not end it.
        changes.insert(repository.name().clone());
        // Another repository's tag or an index may still need the bytes.
        if self.view()?.media_type(digest).is_none() {
            self.layout
                .remove_blob(digest)
                .map_err(StoreError::failed)?;
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
        match self.contains(repository)? {
            true => Ok(self.view()?.referrers(subject).to_vec()),
            false => Ok(Vec::new()),
        }
    }
}

fn unnamed(entry: &Descriptor) -> Descriptor {
    let mut entry = entry.clone();
    entry.annotations.remove(REF_NAME);
    entry
}

#[derive(Debug)]
struct LayoutUpload {
    layout: ImageLayout,
    changes: Arc<Mutex<HashSet<RepositoryName>>>,
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    written: u64,
}

impl BlobUpload for LayoutUpload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(StoreError::failed)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn finish(self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let Self {
            layout,
            changes,
            file,
            hasher,
            ..
        } = *self;
        let found = match digest.algorithm() {
            Algorithm::Sha256 => hasher.finish(),
            // Named at the end only, so the bytes are read once more.
            other => hash_file(file.reopen().map_err(StoreError::failed)?, other)?,
        };
        if found != *digest {
            return Err(StoreError::digest(digest, &found));
        }
        let path = layout.blob_path(digest);
        publish(file, &path).map_err(StoreError::failed)?;
        changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(repository.name().clone());
        Ok(())
    }
}

fn hash_file(mut file: std::fs::File, algorithm: Algorithm) -> Result<Digest, StoreError> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = std::io::Read::read(&mut file, &mut buffer).map_err(StoreError::failed)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
    }
}

/// Gives a finished upload its name, so that a crash leaves all of it or nothing.
fn publish(file: tempfile::NamedTempFile, path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)?;
    let mode = std::fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_dir(folder)
}
