use std::collections::BTreeMap;

use oci_content::{Registry, RepositoryName};

use crate::report::ProbeReport;
use crate::scope::CredentialScope;

/// What an answer is an answer to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) registry: Registry,
    pub(crate) repository: Option<RepositoryName>,
    pub(crate) scope: CredentialScope,
    /// More was asked for than the referrers API.
    pub(crate) facts: bool,
}

/// An answer, and when it was given in seconds since 1970.
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

    /// Returns the keys whose entries answer this one: one with facts answers for the referrers API as well.
    pub(crate) fn answered_by(&self) -> [Self; 2] {
        let with_facts = Self {
            facts: true,
            ..self.clone()
        };
        [self.clone(), with_facts]
    }
}
