//! Which images are mirrored: rules about tags and repositories.

mod dates;
mod image_rule;
mod pattern;
mod range;
mod repository_glob;
mod selector;
mod tag_rule;
mod verdict;

pub use image_rule::ImageRule;
pub use pattern::{TagPattern, TagPatternError};
pub use range::{VersionRange, VersionRangeError};
pub use repository_glob::{RepositoryGlob, RepositoryGlobError};
pub use selector::{RepositoryTags, Selected, Selector};
pub use tag_rule::{TagOrder, TagRule};
pub use verdict::{JudgedTag, TagVerdict};
