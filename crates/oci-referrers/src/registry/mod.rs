//! The sources that ask a registry.

mod cached;
mod catalog;
mod legacy;
mod native;
mod reader;
mod resolve;
mod sources;
mod tag_fallback;

pub use catalog::{list_repositories, list_tags};
pub use legacy::{LegacyTagReferrers, LegacyTags};
pub use native::NativeReferrers;
pub use reader::RegistryManifests;
pub use resolve::{ResolveError, Resolved, resolve, resolve_with_cache};
pub use sources::RegistrySources;
pub use tag_fallback::TagFallbackReferrers;
