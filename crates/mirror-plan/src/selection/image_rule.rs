use std::fmt;

use oci_content::{Reference, Registry, SourceRepository};

use super::repository_glob::RepositoryGlob;
use super::tag_rule::TagRule;

/// What selects images: a reference, or the tags of repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageRule {
    /// One image, whatever its tag looks like.
    Image(Reference),
    /// Tags of a repository.
    Repository(SourceRepository, TagRule),
    /// Tags of every repository of a registry's catalog that a pattern matches.
    Repositories(RepositoryGlob, TagRule),
}

/// Writes the rule in one spelling, by which a lock file recognises it.
impl fmt::Display for ImageRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(reference) => reference.fmt(f),
            Self::Repository(repository, tags) => write!(f, "{repository} {tags}"),
            Self::Repositories(glob, tags) => write!(f, "{glob} (by the catalog) {tags}"),
        }
    }
}

impl ImageRule {
    /// Returns the registry that the images are in.
    pub fn registry(&self) -> &Registry {
        match self {
            Self::Image(reference) => reference.registry(),
            Self::Repository(repository, _) => repository.registry(),
            Self::Repositories(glob, _) => glob.registry(),
        }
    }

    /// Returns the rule of the tags; `None` for one image.
    pub fn tags(&self) -> Option<&TagRule> {
        match self {
            Self::Image(_) => None,
            Self::Repository(_, tags) | Self::Repositories(_, tags) => Some(tags),
        }
    }
}
