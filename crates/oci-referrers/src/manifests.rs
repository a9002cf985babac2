use std::fmt;

use async_trait::async_trait;
use oci_content::{Digest, Manifest};

use crate::source::Problem;

/// A place that manifests are read from, within one repository.
///
/// # Contract
///
/// - A returned manifest hashes to the requested digest.
/// - [`ManifestFailure::NotFound`] means that the repository *said* that it does not have the
///   manifest.
/// - Dropping the future cancels the request and changes no later call.
///
/// With the feature `testing`, `testing::manifest_source` tests an implementation against this
/// contract.
#[async_trait]
pub trait ManifestSource: fmt::Debug + Send + Sync {
    /// Reads one manifest.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ManifestFailure::NotFound) when the repository does not have it, and
    /// [`Failed`](ManifestFailure::Failed) when it cannot be read or verified.
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ManifestFailure>;
}

/// Why a manifest could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFailure {
    /// The repository does not have it.
    #[error("the repository does not have the manifest")]
    NotFound,
    /// It could not be read, or the bytes are not those of its digest.
    #[error("the manifest could not be read")]
    Failed(#[source] Problem),
}
