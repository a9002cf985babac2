use std::fmt;

use async_trait::async_trait;
use oci_content::{Digest, Manifest};

use crate::source::Problem;

/// Where manifests are read from, within one repository.
///
/// # Contract
///
/// - A manifest that is returned hashes to the digest that was asked for.
/// - [`ManifestFailure::NotFound`] means that the repository *said* it is not there.
/// - Dropping the future cancels the request and changes no later call.
///
/// With the feature `testing`, `testing::manifest_source` holds an implementor to it.
#[async_trait]
pub trait ManifestSource: fmt::Debug + Send + Sync {
    /// Reads one manifest.
    ///
    /// # Errors
    ///
    /// When it is not there, or cannot be read or verified.
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ManifestFailure>;
}

/// Why there is no manifest to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFailure {
    /// The repository does not have it.
    #[error("the repository does not have the manifest")]
    NotFound,
    /// It could not be read, or what was read is not it.
    #[error("the manifest could not be read")]
    Failed(#[source] Problem),
}
