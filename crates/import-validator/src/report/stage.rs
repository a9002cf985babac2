use serde::{Deserialize, Serialize};

/// The stages of a validation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Stage {
    /// The container: gzip and tar.
    Container,
    /// Entries that would be harmful to extract.
    Unsafe,
    /// The limits within which a bundle is read.
    Limit,
    /// The signature over `manifest.yaml`.
    Signature,
    /// `manifest.yaml`.
    Manifest,
    /// The OCI image layout, and whether everything that a manifest needs is present.
    Layout,
    /// Size and digest of every file.
    Digests,
    /// The graph of subjects and referrers.
    Referrers,
    /// The rules of the site.
    Policy,
}

/// Whether a finding makes a bundle unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// The bundle is unusable.
    Error,
    /// The bundle is usable.
    Warning,
}
