mod folder;

use std::fmt;

use oci_content::{Digest, Manifest};

pub use folder::ManifestFolder;

/// A place that keeps manifests that were verified, so that they need not be read again.
///
/// It saves reading a manifest; it proves nothing about a repository. Lists of referrers and tags
/// never come from it.
///
/// # Contract
///
/// - A returned manifest is one that was kept, with the requested digest. Anything else is
///   absent.
/// - It may forget any manifest at any time, and fail to keep one: a failure is an absence.
/// - Calls may come from several threads at once, and block only as long as reading or writing one
///   small file takes.
///
/// With the feature `testing`, `testing::manifest_cache` tests an implementation against this
/// contract.
pub trait ManifestCache: fmt::Debug + Send + Sync {
    /// Returns a manifest that was kept.
    fn manifest(&self, digest: &Digest) -> Option<Manifest>;

    /// Keeps a manifest.
    fn keep(&self, manifest: &Manifest);
}
