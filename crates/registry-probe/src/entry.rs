use std::collections::BTreeMap;

use oci_content::{Registry, RepositoryName};

use crate::report::ProbeReport;
use crate::scope::CredentialScope;

/// What was asked: the key of an answer in the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) registry: Registry,
    pub(crate) repository: Option<RepositoryName>,
    pub(crate) scope: CredentialScope,
    /// Whether further facts were asked for.
    pub(crate) facts: bool,
}

/// An answer, with its time in seconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) report: ProbeReport,
}

pub(crate) type Entries = BTreeMap<Key, Entry>;

impl Key {
    pub(crate) fn new(
        registry: &Registry,
        repository: Option<&RepositoryName>,
        scope: CredentialScope,
        facts: bool,
    ) -> Self {
        Self {
            registry: registry.clone(),
            repository: repository.cloned(),
            scope,
            facts,
        }
    }

    /// Returns the keys whose entries can answer this one: an entry with facts also answers for the
    /// referrers API alone.
    pub(crate) fn answered_by(&self) -> [Self; 2] {
        let with_facts = Self {
            facts: true,
            ..self.clone()
        };
        [self.clone(), with_facts]
    }
}
