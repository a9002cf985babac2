use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use oci_content::{Descriptor, Digest, Manifest, Registry, RepositoryName, Tag};

use crate::precondition::Precondition;

/// A repository as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    name: RepositoryName,
    namespace: Option<Registry>,
}

impl Repository {
    /// Names the repository of `/v2/<name>/`.
    pub fn new(name: RepositoryName) -> Self {
        Self {
            name,
            namespace: None,
        }
    }

    /// Adds the registry that content came from, which clients of a mirror give as `?ns=HOST`.
    #[must_use]
    pub fn with_namespace(mut self, namespace: Option<Registry>) -> Self {
        self.namespace = namespace;
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Returns the registry that was asked for, if one was.
    pub fn namespace(&self) -> Option<&Registry> {
        self.namespace.as_ref()
    }
}

/// A manifest as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredManifest {
    /// The media type that it is served with.
    pub media_type: String,
    /// Its bytes, as they came.
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
    /// Creates a blob that is in memory.
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
    /// The content does not hash to the digest that it was sent under.
    Digest,
    /// The tag is not what the [`Precondition`] asks for.
    Precondition,
    /// The store does not do this: the answer will be the same the next time.
    Refused,
    /// What the store keeps under the digest does not hash to it. Storing it again mends it.
    Damaged,
    /// The manifest needs content that is not there.
    Missing,
    /// The store itself failed: a file system without space, a folder that is no layout any more.
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

    /// Creates an error of the store itself.
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
        let reason = format!("tag {tag} does not hold what the request's condition asks for");
        Self::new(StoreErrorKind::Precondition, reason)
    }

    /// Returns the class.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

/// Where a registry's content is kept.
///
/// # Contract
///
/// The feature `testing` has checks of all this for the tests of a store, in `registry_server::testing`.
///
/// - Each call is one atomic step towards every other: of two pushes at the same time neither is lost, and a
///   [`Precondition`] is judged in the same step as the write that it guards.
/// - The bytes of a manifest and of a blob come back exactly as they were given.
/// - A manifest with a `subject` is listed under it from the moment it is stored, whether the subject is there or
///   not.
/// - Calls are synchronous; a store that waits for a disk says so in [`blocks`](Self::blocks) and is then called
///   from threads that may wait.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns whether calls wait for something else than the processor.
    fn blocks(&self) -> bool;

    /// Returns the repositories that exist, in any order; with `namespace`, those of that registry.
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
    /// [`StoreErrorKind::Damaged`] when what is kept is not that blob, and when the store fails.
    fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<Blob>, StoreError>;

    /// Begins an upload. One that is dropped leaves nothing.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn upload(&self) -> Result<Box<dyn BlobUpload>, StoreError>;

    /// Makes a blob of another repository one of this one; `false` when it is not there to be taken.
    ///
    /// # Errors
    ///
    /// When the store fails or refuses the repository.
    fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<bool, StoreError>;

    /// Removes a blob from the repository; `false` when it was not there.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Refused`] when something still needs it and the store does not let go of such a blob.
    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError>;

    /// Returns a manifest by digest, or `None` when the repository does not have it.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Damaged`] when what is kept is not that manifest, and when the store fails.
    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<StoredManifest>, StoreError>;

    /// Returns what a tag holds, or `None` when the repository does not have it.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError>;

    /// Stores a manifest and points `tags` at it. One that is kept damaged is replaced.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Precondition`] when one of the tags is not what `precondition` asks for, and
    /// [`StoreErrorKind::Missing`] when content is not there that it asks for; nothing is stored then.
    fn put_manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        tags: &[Tag],
        precondition: &Precondition,
    ) -> Result<(), StoreError>;

    /// Removes a manifest and the tags that point at it; `false` when it was not there.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Refused`] when another manifest needs it and the store does not let go of such a one.
    fn remove_manifest(&self, repository: &Repository, digest: &Digest)
    -> Result<bool, StoreError>;

    /// Removes a tag and leaves what it pointed at; `false` when it was not there.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Precondition`] when the tag is not what `precondition` asks for.
    fn remove_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        precondition: &Precondition,
    ) -> Result<bool, StoreError>;

    /// Returns the tags, in any order.
    ///
    /// # Errors
    ///
    /// When the store fails.
    fn tags(&self, repository: &Repository) -> Result<Vec<Tag>, StoreError>;

    /// Returns the descriptors of the manifests whose subject is `subject`, in any order, with the artifact type
    /// and the annotations that
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers> asks for.
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
    /// When the store fails; the upload is then of no more use.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Returns how many bytes have been added.
    fn written(&self) -> u64;

    /// Checks what was added and makes it a blob of the repository.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Digest`] when it does not hash to `digest`; nothing is stored then.
    fn finish(self: Box<Self>, repository: &Repository, digest: &Digest) -> Result<(), StoreError>;
}
