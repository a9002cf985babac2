use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use oci_content::{Descriptor, Digest, Manifest, Registry, RepositoryName, Tag};

use crate::precondition::Precondition;

/// The repository that a request names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    name: RepositoryName,
    namespace: Option<Registry>,
}

impl Repository {
    /// Creates the repository of `/v2/<name>/`.
    pub fn new(name: RepositoryName) -> Self {
        Self {
            name,
            namespace: None,
        }
    }

    /// Sets the registry that the content came from, which clients of a mirror send as `?ns=HOST`.
    #[must_use]
    pub fn with_namespace(mut self, namespace: Option<Registry>) -> Self {
        self.namespace = namespace;
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Returns the registry that the request names, if any.
    pub fn namespace(&self) -> Option<&Registry> {
        self.namespace.as_ref()
    }
}

/// A manifest in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredManifest {
    /// The media type that the manifest is served with.
    pub media_type: String,
    /// The bytes, exactly as they were pushed.
    pub bytes: Bytes,
}

impl StoredManifest {
    /// Creates a manifest.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self {
            media_type: media_type.into(),
            bytes: bytes.into(),
        }
    }
}

/// A blob that can be read from any offset.
#[derive(Clone, Debug)]
pub struct Blob {
    pub(crate) source: BlobSource,
    pub(crate) size: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum BlobSource {
    Memory(Bytes),
    File(Arc<File>),
}

impl Blob {
    /// Creates a blob from bytes in memory.
    pub fn from_bytes(bytes: Bytes) -> Self {
        let size = bytes.len() as u64;
        Self {
            source: BlobSource::Memory(bytes),
            size,
        }
    }

    /// Creates a blob of `size` bytes from a file.
    pub fn from_file(file: File, size: u64) -> Self {
        Self {
            source: BlobSource::File(Arc::new(file)),
            size,
        }
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the bytes in `range` into memory.
    ///
    /// # Errors
    ///
    /// When the range is not within the blob, and when the file cannot be read.
    pub fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let length = range.end.checked_sub(range.start);
        let length = length.filter(|_| range.end <= self.size);
        let length = length.ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        match &self.source {
            BlobSource::Memory(bytes) => {
                let start = usize::try_from(range.start).map_err(io::Error::other)?;
                Ok(bytes.slice(start..start + length))
            }
            BlobSource::File(file) => {
                let mut part = vec![0; length];
                file.read_exact_at(&mut part, range.start)?;
                Ok(part.into())
            }
        }
    }
}

/// A failure of a store.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct StoreError {
    kind: StoreErrorKind,
    reason: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The classes of [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The pushed content does not match its digest.
    Digest,
    /// The tag does not hold what the [`Precondition`] demands.
    Precondition,
    /// The store never does this. Trying again gives the same answer.
    Refused,
    /// The stored bytes do not match their digest. Pushing them again repairs it.
    Damaged,
    /// Content that the manifest needs is missing.
    Missing,
    /// The store itself failed, for example because the disk is full or the folder is no longer a
    /// layout.
    Failed,
}

impl StoreError {
    /// Creates an error.
    pub fn new(kind: StoreErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            source: None,
        }
    }

    /// Creates an error of kind [`StoreErrorKind::Failed`] with its cause.
    pub fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            kind: StoreErrorKind::Failed,
            reason: "the store failed".into(),
            source: Some(Box::new(source)),
        }
    }

    pub(crate) fn digest(expected: &Digest, found: &Digest) -> Self {
        Self::new(
            StoreErrorKind::Digest,
            format!("{expected} was announced, the bytes hash to {found}"),
        )
    }

    pub(crate) fn missing(digest: &Digest) -> Self {
        Self::new(StoreErrorKind::Missing, digest.to_string())
    }

    pub(crate) fn precondition(tag: &Tag) -> Self {
        let reason = format!("tag {tag} does not hold what the condition of the request demands");
        Self::new(StoreErrorKind::Precondition, reason)
    }

    /// Returns the class.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

/// A place that keeps the content of a registry.
///
/// # Contract
///
/// With the feature `testing`, `registry_server::testing` has checks of these rules for the tests
/// of a store.
///
/// - Each call is atomic: of two concurrent pushes neither is lost, and a [`Precondition`] is
///   evaluated in the same step as the write that it guards.
/// - The bytes of a manifest and of a blob are returned exactly as they were pushed.
/// - A manifest with a `subject` is listed under it from the moment it is stored until it is
///   removed, whether or not the subject is there.
/// - Calls are synchronous. A store that waits for a disk returns `true` from
///   [`blocks`](Self::blocks), and is then called on threads that may block.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns whether calls may block, for example on a disk.
    fn blocks(&self) -> bool;

    /// Returns the repositories that exist, in any order. With `namespace`, only those of that
    /// registry.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn repositories(&self, namespace: Option<&Registry>)
    -> Result<Vec<RepositoryName>, StoreError>;

    /// Returns whether the repository exists.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn contains(&self, repository: &Repository) -> Result<bool, StoreError>;

    /// Returns a blob, or `None` when the repository does not have it.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Damaged`] when the stored bytes do not match the digest, and when the
    /// store fails.
    fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError>;

    /// Starts an upload. Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn upload(&self) -> Result<Box<dyn BlobUpload>, StoreError>;

    /// Mounts a blob of another repository. Returns `false` when the blob is not found there.
    ///
    /// # Errors
    ///
    /// When the store fails, or refuses the repository.
    fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError>;

    /// Removes a blob from the repository. Returns `false` when it was not there.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Refused`] when something still needs the blob and the store keeps such
    /// blobs.
    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError>;

    /// Returns a manifest by digest, or `None` when the repository does not have it.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Damaged`] when the stored bytes do not match the digest, and when the
    /// store fails.
    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, StoreError>;

    /// Returns the digest that a tag holds, or `None` when the repository does not have the tag.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError>;

    /// Stores a manifest and points `tags` at it. A damaged copy is replaced.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Precondition`] when a tag does not hold what `precondition` demands, and
    /// [`StoreErrorKind::Missing`] when content that it demands is missing. Nothing is stored then.
    fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
        precondition: &Precondition,
    ) -> Result<(), StoreError>;

    /// Removes a manifest and the tags that point at it. Returns `false` when it was not there.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Refused`] when another manifest needs it and the store keeps such
    /// manifests.
    fn remove_manifest(&self, repository: &Repository, digest: &Digest)
    -> Result<bool, StoreError>;

    /// Removes a tag and keeps the manifest. Returns `false` when the tag was not there.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Precondition`] when the tag does not hold what `precondition` demands.
    fn remove_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        precondition: &Precondition,
    ) -> Result<bool, StoreError>;

    /// Returns the tags of a repository, in any order.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, StoreError>;

    /// Returns the descriptors of the manifests whose subject is `subject`, in any order, with the
    /// artifact type and annotations that a referrers list shows:
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, StoreError>;
}

/// A blob that is being uploaded.
pub trait BlobUpload: fmt::Debug + Send {
    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// When the store fails. The upload cannot be continued then.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Returns the number of bytes that have been added.
    fn written(&self) -> u64;

    /// Verifies the bytes and makes them a blob of the repository.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Digest`] when the bytes do not match `digest`, and when the store fails.
    /// Nothing is stored then.
    fn finish(self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError>;
}
