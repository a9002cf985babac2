//! Finds everything that refers to an OCI image, on any registry, and says what it could not
//! settle.
//!
//! A [`ReferrerSource`] is one place that names referrers. A [`Discovery`] asks several sources,
//! takes the union of their answers, checks every claim against the manifest itself, and goes on to
//! the referrers of referrers. The result is a [`ReferrerGraph`]. If its status is `complete` and
//! it is empty, the registry said that there are no referrers.
//!
//! | source | asks |
//! |---|---|
//! | `NativeReferrers` | the referrers API, all pages |
//! | `TagFallbackReferrers` | the referrers tag, `sha256-<hex>` |
//! | `LegacyTagReferrers` | tags such as `sha256-<hex>.sig` |
//! | [`LayoutReferrers`] | an image layout folder |
//! | `OciClientReferrers` | an `oci_client::Client` that the embedding service has |
//!
//! The first three need the feature `registry`, the last one `oci-client`. Without features the
//! crate has no HTTP and no async runtime.
//!
//! A [`ManifestCache`] keeps verified manifests between runs, so that the next one reads lists only.
//!
//! With the feature `policy`, a `Policy` checks a graph against the rules of a site. With
//! `testing`, the contracts of [`ReferrerSource`], [`ManifestSource`] and [`ManifestCache`] are test
//! suites for implementors.
//!
//! # Scope
//!
//! It does not probe registries, write bundles or verify signatures.

mod claim;
mod discovery;
mod document;
mod folded;
mod further;
mod graph;
mod held;
mod image;
mod layout;
mod limits;
mod manifest_cache;
mod manifests;
#[cfg(feature = "oci-client")]
mod oci_client;
#[cfg(feature = "policy")]
mod policy;
#[cfg(feature = "registry")]
mod registry;
mod source;
mod subject;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;
mod walk;

pub use discovery::Discovery;
pub use document::{DiscoveryDocument, ListedChild, ListedExchange, ListedReferrer, ListedSubject};
pub use folded::FoldedProblem;
pub use further::FurtherSources;
pub use graph::{Referrer, ReferrerGraph, SubjectReport};
pub use image::{Child, ImageDepth, ImageTree};
pub use layout::{LayoutImage, LayoutImageError, LayoutImageErrorKind, LayoutReferrers};
pub use limits::Limits;
pub use manifest_cache::{ManifestCache, ManifestFolder};
pub use manifests::{ManifestFailure, ManifestSource};
#[cfg(feature = "oci-client")]
pub use oci_client::OciClientReferrers;
#[cfg(feature = "policy")]
pub use policy::{
    JudgedBundle, JudgedImage, JudgedReferrer, MAX_DATED_DOCUMENT_BYTES, Policy, PolicyError,
    RepositoryPattern, RepositoryPatternError, Violation, ViolationKind, created, document_date,
    parse_rfc3339,
};
#[cfg(feature = "registry")]
pub use registry::{
    LegacyTagReferrers, LegacyTags, NativeReferrers, RegistryManifests, RegistrySources,
    ResolveError, Resolved, TagFallbackReferrers, list_repositories, list_tags, resolve,
    resolve_with_cache,
};
pub use source::{Answer, Claim, Exchange, Outcome, Problem, Query, ReferrerSource, Warning};
