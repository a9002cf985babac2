//! The nouns of the OCI image specification, as types that only hold valid values.
//!
//! A [`Digest`], [`RepositoryName`], [`Tag`] or [`Reference`] is always valid, so it is safe in a
//! URL, in a path and in a log line. A [`Manifest`] keeps its original bytes beside what was parsed
//! from them, because a manifest is identified by its bytes and must be stored and pushed
//! unchanged.
//!
//! ```
//! use oci_content::{Digest, Reference, referrers_tag};
//!
//! let reference: Reference = "registry.example.com/team/app:1.0".parse()?;
//! assert_eq!(reference.repository().as_str(), "team/app");
//!
//! let subject = Digest::of(b"hello");
//! assert_eq!(referrers_tag(&subject).as_str(), subject.to_string().replace(':', "-"));
//! # Ok::<(), oci_content::ReferenceError>(())
//! ```
//!
//! # Scope
//!
//! No HTTP, no bundles, no async. Manifests are never serialized again: their bytes are kept.

mod bounded;
mod category;
mod descriptor;
mod digest;
mod discovery;
mod durable;
mod gaps;
mod graph;
mod image_source;
mod json;
mod layout;
mod layout_reference;
mod legacy_tag;
mod manifest;
pub mod media_type;
mod name;
mod reference;
mod registry;
mod repository_name;
mod schema_version;
mod source_repository;
mod tag;
mod tag_schema;

pub use bounded::{MAX_FOREIGN_CHARS, MAX_MESSAGE_CHARS, bounded, with_causes};
pub use category::ArtifactCategory;
pub use descriptor::{Descriptor, DescriptorError, Platform, PlatformError};
pub use digest::{Algorithm, Digest, DigestError, Hasher, VerifyError, VerifyingReader};
pub use discovery::{
    Capability, Completeness, DiscoveryMethod, ErrorCode, OtherSource, SourceKind, WarningCode,
};
pub use durable::{replace_file, sync_dir, sync_file, try_lock, write_file};
pub use gaps::{FileSystemGap, FileSystemGaps};
pub use graph::{ArtifactRecord, DiscoveryRecord, ImageRecord, MirrorGraph, Missing, OmittedChild};
pub use image_source::ImageSource;
pub use layout::{
    BlobWriter, CONTAINERD_IMAGE_NAME, ImageLayout, LayoutError, LayoutErrorKind, PartialBlob,
    REF_NAME,
};
pub use layout_reference::LayoutReference;
pub use legacy_tag::LegacyTag;
pub use manifest::{
    MAX_MANIFEST_BYTES, Manifest, ManifestContent, ManifestError, ManifestErrorKind,
};
pub use name::ReferenceError;
pub use reference::Reference;
pub use registry::Registry;
pub use repository_name::RepositoryName;
pub use schema_version::schema_version_1;
pub use source_repository::SourceRepository;
pub use tag::Tag;
pub use tag_schema::{TagKind, absent_tag, referrers_tag};
