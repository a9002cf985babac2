use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use oci_content::{Descriptor, Digest, Reference, RepositoryName, Tag};
use oci_referrers::Discovery;
use registry_client::BlobSource;

use crate::error::{ImportError, ImportErrorKind};
use crate::source::Source;

/// A place that images and referrers are put into.
///
/// An [`Importer`](crate::Importer) calls it in this order: [`held`](Self::held) and [`blob`](Self::blob) to look without any
/// effect, [`prepare`](Self::prepare), then [`put_blob`](Self::put_blob), [`put_manifest`](Self::put_manifest) for manifests
/// after all that they name, [`add_referrers`](Self::add_referrers), and [`publish`](Self::publish) last. In the end it looks
/// at names and blobs once more, and runs a [`discovery`](Self::discovery).
///
/// # Contract
///
/// - A repository need not exist before something is put into it.
/// - What was put is kept as the bytes that came, under their digest. What is not what its digest says is refused, and leaves
///   nothing under that digest.
/// - To put what is there already is no error, so an import that was interrupted can be run again.
/// - An object is visible when its call has returned, or at the latest after the [patience](TargetProfile::patience).
/// - No name points at something incomplete: names are given by [`publish`](Self::publish) alone.
/// - [`held`](Self::held), [`blob`](Self::blob), [`has_manifest`](Self::has_manifest) and [`discovery`](Self::discovery) have no
///   effect. "Not there" is what the target said; what could not be found out is an error.
/// - Calls run at once, as many as [`max_concurrent`](TargetProfile::max_concurrent) says.
///
/// # Cancellation
///
/// A future that is dropped may leave objects behind, whole or in a form that nobody can read under their digest, and no name.
///
/// `mirror_import::testing`, behind the feature `testing`, checks an implementation.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// Returns how the target is called in reports.
    fn name(&self) -> String;

    /// Returns a name that is the same however the target was given: a ledger tells targets apart by it. `prefix` is what all
    /// repositories begin with, where that makes it another target.
    fn identity(&self, prefix: Option<&RepositoryName>) -> String {
        match prefix {
            Some(prefix) => format!("{}/{prefix}", self.name()),
            None => self.name(),
        }
    }

    /// Returns the name under which an entry is found at the target. By default that is its repository with the tag, or else
    /// with the digest.
    fn entry_name(&self, entry: &Entry) -> String {
        let repository = &entry.repository;
        match &entry.tag {
            Some(tag) => format!("{repository}:{tag}"),
            None => format!("{repository}@{}", entry.descriptor.digest),
        }
    }

    /// Returns how the target keeps and shows what it was given. By default that is the default of [`TargetProfile`].
    fn profile(&self) -> TargetProfile {
        TargetProfile::default()
    }

    /// Returns what the name of each entry stands for now, in the order of the entries; of one that has no tag, whether there
    /// is a manifest under its digest.
    async fn held(&self, entries: &[Entry]) -> Vec<Result<Option<Digest>, ImportError>>;

    /// Returns what a repository has of a blob.
    ///
    /// # Errors
    ///
    /// When that could not be found out.
    async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        check: Check,
    ) -> Result<Holding, ImportError>;

    /// Returns whether a repository has a manifest whole.
    ///
    /// # Errors
    ///
    /// When that could not be found out.
    async fn has_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &Descriptor,
        check: Check,
    ) -> Result<bool, ImportError>;

    /// Is called once before anything is put.
    ///
    /// # Errors
    ///
    /// When nothing can be put.
    async fn prepare(&self) -> Result<(), ImportError> {
        Ok(())
    }

    /// Puts a blob. Where `mount_from` names a repository that has it, it can be taken over from there.
    ///
    /// # Errors
    ///
    /// When it could not be read, or was not taken.
    async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        content: &dyn BlobSource,
        mount_from: Option<&RepositoryName>,
    ) -> Result<BlobPut, ImportError>;

    /// Takes a blob over from another repository. By default that cannot be done.
    ///
    /// # Errors
    ///
    /// [`BaseMissing`](ImportErrorKind::BaseMissing) where the target does not take it over.
    async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<(), ImportError> {
        let _ = (repository, digest, from);
        let message = "nothing is taken over from one repository into another";
        Err(ImportError::new(ImportErrorKind::BaseMissing, message))
    }

    /// Puts a manifest of `source` under its digest. Where the target turns out to lack what the manifest names, that can be
    /// read from `source` and put again.
    ///
    /// # Errors
    ///
    /// When it could not be read, or was not taken.
    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        source: &dyn Source,
    ) -> Result<(), ImportError>;

    /// Returns whether the target lists by itself what refers to a manifest of a repository. Otherwise
    /// [`add_referrers`](Self::add_referrers) is called for each subject.
    async fn lists_referrers(&self, repository: &RepositoryName) -> bool {
        let _ = repository;
        true
    }

    /// Lists referrers under their subject, beside those that are listed there.
    ///
    /// # Errors
    ///
    /// When they could not be listed.
    async fn add_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        referrers: &[&Descriptor],
        source: &dyn Source,
    ) -> Result<(), ImportError> {
        let _ = (repository, subject, referrers, source);
        Ok(())
    }

    /// Gives names: everything that the entries stand for is there. Entries without a tag are listed where the target lists
    /// what has no name. Returns what became of each entry.
    ///
    /// # Errors
    ///
    /// When a name could not be given. Earlier ones may have been.
    async fn publish(
        &self,
        entries: &[Entry],
        source: &dyn Source,
    ) -> Result<Vec<Published>, ImportError>;

    /// Returns a discovery of what refers to manifests of a repository, as the target lists it at the time of the call.
    ///
    /// # Errors
    ///
    /// When the target cannot be read at all.
    fn discovery(&self, repository: &RepositoryName) -> Result<Discovery, ImportError>;
}

/// An image or a referrer, and the name that it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The repository at the target.
    pub repository: RepositoryName,
    /// The name of the image where it came from; of a referrer, that of an image of the same repository.
    pub source: Option<Reference>,
    /// Its manifest, as a list of referrers has it.
    pub descriptor: Descriptor,
    /// The tag, if it gets one: of a referrer, a legacy tag.
    pub tag: Option<Tag>,
    /// Whether it is an image that was asked for.
    pub is_image: bool,
}

impl Entry {
    /// Creates the entry of a manifest that gets no name.
    pub fn new(repository: RepositoryName, descriptor: Descriptor) -> Self {
        Self {
            repository,
            source: None,
            descriptor,
            tag: None,
            is_image: false,
        }
    }
}

/// What a target has of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Holding {
    /// All of it.
    Whole,
    /// Something of another size or content.
    Damaged,
    /// Nothing.
    Nothing,
}

/// How thoroughly a target looks at what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Its size is compared; content that costs nothing to read can be hashed.
    Size,
    /// It is read and hashed.
    Content,
}

/// How a blob came into a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlobPut {
    /// It was sent.
    Sent,
    /// It was taken over from another repository.
    Mounted,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Published {
    /// The name stands for the entry's manifest.
    Whole,
    /// The name is that of a list of referrers, and the list that was there has taken in what the entry's manifest lists.
    Merged,
}

/// How a target keeps and shows what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetProfile {
    /// Whether an object is kept once for all repositories. By default each has its own.
    pub is_shared: bool,
    /// Whether blobs that were put need not be looked for again: the call that returned has seen them on the disk. Not by
    /// default.
    pub is_sure: bool,
    /// How long the target may take to show what it has taken, for each tag, blob and repository whose lists are looked at; none
    /// by default. After that it is sent again, or given up.
    pub patience: Duration,
    /// Calls at once; 16 by default.
    pub max_concurrent: NonZeroUsize,
}

impl Default for TargetProfile {
    fn default() -> Self {
        Self {
            is_shared: false,
            is_sure: false,
            patience: Duration::ZERO,
            max_concurrent: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
        }
    }
}
