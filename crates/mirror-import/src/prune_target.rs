use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use oci_content::{Descriptor, Digest, Manifest, RepositoryName, Tag, media_type};
use registry_client::ManifestId;

use crate::error::ImportError;

/// What a [`Pruner`](crate::Pruner) needs of a target.
///
/// # Contract
///
/// - `None` means that the target said that it has no such thing. Whatever is not settled is an
///   error; something that cannot be parsed is not absent.
/// - Each answer is that of the time of the call.
/// - Dropping a future leaves each object there or not there, and nothing in between.
#[async_trait]
pub trait PruneTarget: fmt::Debug + Send + Sync {
    /// Returns the target in the form of [`ImportReport::target_identity`], by which receipts are
    /// compared.
    ///
    /// [`ImportReport::target_identity`]: crate::ImportReport::target_identity
    fn identity(&self) -> String;

    /// Lists every tag of a repository; none if the repository does not exist.
    ///
    /// # Errors
    ///
    /// When the list is not complete.
    async fn tags(&self, repository: &RepositoryName) -> Result<BTreeSet<Tag>, ImportError>;

    /// Reads what a tag or a digest stands for.
    ///
    /// # Errors
    ///
    /// When the target does not answer the question, or the manifest cannot be read.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        id: ManifestId<'_>,
    ) -> Result<Option<StoredManifest>, ImportError>;

    /// Returns what refers to each of `subjects`, as pairs of subject and referrer: verified, and
    /// from every list but legacy tags.
    ///
    /// # Errors
    ///
    /// When a list is not complete, or something that it names could not be read.
    async fn referrers(
        &self,
        repository: &RepositoryName,
        subjects: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<(Digest, Digest)>, ImportError>;

    /// Deletes a tag or a manifest.
    ///
    /// # Errors
    ///
    /// When the target did not answer, or denied access.
    async fn delete(
        &self,
        repository: &RepositoryName,
        id: ManifestId<'_>,
    ) -> Result<Deletion, ImportError>;

    /// Takes entries out of the index under a referrers tag; the others stay as they are. The write
    /// must fail, or be repeated on what is there then, if somebody else has changed the index in
    /// the meantime and the target can tell.
    ///
    /// # Errors
    ///
    /// When the index could not be read or written.
    async fn remove_from_list(
        &self,
        repository: &RepositoryName,
        list: &Tag,
        gone: &BTreeSet<Digest>,
    ) -> Result<(), ImportError>;
}

/// What a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredManifest {
    /// Its own digest.
    pub digest: Digest,
    /// The entries of an index; `None` for any other manifest.
    pub entries: Option<Vec<Digest>>,
    /// Those of the entries that may be indexes themselves.
    pub indexes: Vec<Digest>,
    /// What it refers to.
    pub subject: Option<Digest>,
}

impl StoredManifest {
    /// Creates the record of a manifest that names nothing.
    pub fn new(digest: Digest) -> Self {
        Self {
            digest,
            entries: None,
            indexes: Vec::new(),
            subject: None,
        }
    }
}

impl From<&Manifest> for StoredManifest {
    fn from(manifest: &Manifest) -> Self {
        let is_index = media_type::is_index(manifest.media_type());
        let entries = manifest.entries().iter();
        // An entry of another type may be anything.
        let is_leaf = |entry: &&Descriptor| {
            let known = media_type::is_manifest(&entry.media_type);
            known && !media_type::is_index(&entry.media_type)
        };
        let indexes = entries.clone().filter(|entry| !is_leaf(entry));
        Self {
            digest: manifest.digest().clone(),
            indexes: indexes.map(|entry| entry.digest.clone()).collect(),
            entries: is_index.then(|| entries.map(|entry| entry.digest.clone()).collect()),
            subject: manifest.subject().map(|subject| subject.digest.clone()),
        }
    }
}

/// The answer to a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deletion {
    /// It was deleted.
    Deleted,
    /// It was not there.
    Absent,
    /// The target does not delete it for any client.
    Refused,
}
