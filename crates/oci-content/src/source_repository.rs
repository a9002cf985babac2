use std::fmt;
use std::str::FromStr;

use crate::name::{ReferenceError, text_form};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::repository_name::RepositoryName;

/// A repository at the source: `registry.example.com/team/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRepository {
    registry: Registry,
    name: RepositoryName,
}

impl SourceRepository {
    /// Creates the name of a repository of `registry`.
    pub fn new(registry: Registry, name: RepositoryName) -> Self {
        Self { registry, name }
    }

    /// Returns the registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the repository's name within the registry.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }
}

impl From<&Reference> for SourceRepository {
    fn from(reference: &Reference) -> Self {
        Self::new(reference.registry().clone(), reference.repository().clone())
    }
}

impl fmt::Display for SourceRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl FromStr for SourceRepository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (registry, name) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self::new(registry.parse()?, name.parse()?))
    }
}

text_form!(SourceRepository);
