use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use oci_content::{Descriptor, Digest, Reference, RepositoryName, SourceRepository, Tag};
use oci_referrers::Discovery;
use registry_client::BlobSource;

use crate::error::{ImportError, ImportErrorKind};
use crate::source::Source;

/// A place that images and referrers are put into.
///
/// An [`Importer`](crate::Importer) calls it in this order: [`held`](Self::held),
/// [`has_manifest`](Self::has_manifest), [`blob`](Self::blob) and [`discovery`](Self::discovery),
/// which only look, then [`prepare`](Self::prepare), [`put_blob`](Self::put_blob),
/// [`put_manifest`](Self::put_manifest) for each manifest after everything that it names,
/// [`add_referrers`](Self::add_referrers), and [`publish`](Self::publish) last. At the end it looks
/// at the names and blobs that were put once more, and runs a discovery of what was not found
/// before.
///
/// # Contract
///
/// - A repository need not exist before something is put into it.
/// - An object is kept as the exact bytes that were put, under their digest. Bytes that do not
///   match the digest are refused, and leave nothing under it.
/// - Putting an object that is there already is not an error, so an interrupted import can be run
///   again.
/// - An object is visible when its call has returned, or at the latest after the
///   [patience](TargetProfile::patience).
/// - No name points at something incomplete: only [`publish`](Self::publish) gives names.
/// - [`held`](Self::held), [`blob`](Self::blob), [`has_manifest`](Self::has_manifest) and
///   [`discovery`](Self::discovery) have no effect. "Not there" is an answer of the target; a
///   question that got no answer is an error.
/// - Up to [`max_concurrent`](TargetProfile::max_concurrent) calls run at once.
///
/// # Cancellation
///
/// A dropped future may leave objects behind, either whole or not readable under their digest. It
/// leaves no name.
///
/// `mirror_import::testing`, behind the feature `testing`, checks an implementation.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// Returns the name of the target in reports.
    fn name(&self) -> String;

    /// Returns a canonical name, by which a ledger tells targets apart. `prefix` is the prefix of
    /// all repositories; it is part of the name if a target with another prefix is another target.
    fn identity(&self, prefix: Option<&RepositoryName>) -> String {
        match prefix {
            Some(prefix) => format!("{}/{prefix}", self.name()),
            None => self.name(),
        }
    }

    /// Returns the name of an entry at the target: by default its repository with the tag, or with
    /// the digest if it has no tag.
    fn entry_name(&self, entry: &Entry) -> String {
        let repository = &entry.repository;
        match &entry.tag {
            Some(tag) => format!("{repository}:{tag}"),
            None => format!("{repository}@{}", entry.descriptor.digest),
        }
    }

    /// Returns the name of a source's repository if it is a repository of this target, so that blobs
    /// can be mounted from it; by default it is not.
    fn own_repository(&self, source: &SourceRepository) -> Option<RepositoryName> {
        let _ = source;
        None
    }

    /// Returns how the target stores and shows objects; by default, the default of
    /// [`TargetProfile`].
    fn profile(&self) -> TargetProfile {
        TargetProfile::default()
    }

    /// Returns the digest that the name of each entry resolves to now, in the order of the entries.
    /// For an entry without a tag, it is the entry's own digest if the target has or lists that
    /// manifest.
    async fn held(
        &self,
        entries: &[Entry],
        check: Check,
    ) -> Vec<Result<Option<Digest>, ImportError>>;

    /// Returns whether a repository has a blob, and whether it is intact.
    ///
    /// # Errors
    ///
    /// When the target does not answer the question.
    async fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        check: Check,
    ) -> Result<Holding, ImportError>;

    /// Returns whether a repository has a manifest, and it is intact.
    ///
    /// # Errors
    ///
    /// When the target does not answer the question.
    async fn has_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &Descriptor,
        check: Check,
    ) -> Result<bool, ImportError>;

    /// Prepares the target; called once before anything is put. By default nothing is done.
    ///
    /// # Errors
    ///
    /// When the target cannot be written.
    async fn prepare(&self) -> Result<(), ImportError> {
        Ok(())
    }

    /// Puts a blob. If `mount_from` names a repository that has it, the target may mount it from
    /// there instead.
    ///
    /// # Errors
    ///
    /// When the blob could not be read, or was not accepted.
    async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        content: &dyn BlobSource,
        mount_from: Option<&RepositoryName>,
    ) -> Result<BlobPut, ImportError>;

    /// Mounts a blob from another repository. By default this is not supported.
    ///
    /// # Errors
    ///
    /// [`BaseMissing`](ImportErrorKind::BaseMissing) if the target does not mount it.
    async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<(), ImportError> {
        let _ = (repository, digest, from);
        let message = "the target does not mount blobs from other repositories";
        Err(ImportError::new(ImportErrorKind::BaseMissing, message))
    }

    /// Puts a manifest of `source` under its digest. If the target turns out to lack something that
    /// the manifest names, it can be read from `source` and put again.
    ///
    /// # Errors
    ///
    /// When the manifest could not be read, or was not accepted.
    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        source: &dyn Source,
    ) -> Result<(), ImportError>;

    /// Returns whether the target itself lists the referrers of the manifests of a repository; by
    /// default `true`. If not, [`add_referrers`](Self::add_referrers) is called for each subject.
    async fn lists_referrers(&self, repository: &RepositoryName) -> bool {
        let _ = repository;
        true
    }

    /// Adds referrers to the list of their subject, and keeps those that are listed there. By
    /// default nothing is done.
    ///
    /// # Errors
    ///
    /// When the referrers could not be added.
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

    /// Gives entries their names; their manifests have been put before. An entry without a tag is
    /// listed if the target lists manifests without a name. Returns the result for each entry.
    ///
    /// # Errors
    ///
    /// When a name could not be given. Earlier names may have been given.
    async fn publish(
        &self,
        entries: &[Entry],
        source: &dyn Source,
    ) -> Result<Vec<Published>, ImportError>;

    /// Returns a discovery of the referrers in a repository, as the target lists them at the time
    /// of the call. With [`Check::Size`], a manifest that is known from elsewhere need not be read
    /// if the target says that it has it.
    ///
    /// # Errors
    ///
    /// When the target cannot be read at all.
    fn discovery(
        &self,
        repository: &RepositoryName,
        check: Check,
    ) -> Result<Discovery, ImportError>;
}

/// An image or a referrer, with the name that it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The repository at the target.
    pub repository: RepositoryName,
    /// The name of the image at the source; for a referrer, the name of an image of the same
    /// repository.
    pub source: Option<Reference>,
    /// The descriptor of the manifest, as in a list of referrers.
    pub descriptor: Descriptor,
    /// The tag, if the entry gets one; for a referrer, a legacy tag.
    pub tag: Option<Tag>,
    /// Whether it is an image that was asked for.
    pub is_image: bool,
}

impl Entry {
    /// Creates an entry without a tag.
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
    /// The target has the whole blob.
    Whole,
    /// The target has something of another size or content under the digest.
    Damaged,
    /// The target does not have the blob.
    Nothing,
}

/// How thoroughly a target checks an object that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// The target is asked for digest and size. One that reads content cheaply may hash it instead.
    Size,
    /// The content is read and hashed.
    Content,
}

/// How a blob came into a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlobPut {
    /// The blob was sent.
    Sent,
    /// The blob was mounted from another repository.
    Mounted,
}

/// The result of publishing an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Published {
    /// The name resolves to the entry's manifest.
    Whole,
    /// The name is a referrers tag that held a list already, and what the entry's manifest lists
    /// was added to that list.
    Merged,
}

/// How a target stores and shows objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetProfile {
    /// Whether all repositories share one copy of an object. By default each repository has its
    /// own.
    pub is_shared: bool,
    /// Whether a blob is certain to be stored when its call returns, so that it is not looked for
    /// again. Not by default.
    pub is_sure: bool,
    /// Whether [`publish`](Target::publish) is called with referrers that have no tag as well, for a
    /// target that keeps a list of everything. By default it is; otherwise a large import takes less
    /// memory.
    pub lists_untagged: bool,
    /// How long the target may take to show what it has accepted: for each tag, for each blob, and
    /// for the lists of each repository. Zero by default. After that, the object is sent again, or
    /// the import fails.
    pub patience: Duration,
    /// The number of calls at once; 16 by default.
    pub max_concurrent: NonZeroUsize,
}

impl Default for TargetProfile {
    fn default() -> Self {
        Self {
            is_shared: false,
            is_sure: false,
            lists_untagged: true,
            patience: Duration::ZERO,
            max_concurrent: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
        }
    }
}
