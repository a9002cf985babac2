use std::fmt;
use std::sync::Arc;

use oci_content::SourceRepository;

use crate::source::ReferrerSource;

/// The caller's sources of referrers, which are asked in addition to those of a registry. By
/// default there are none.
#[derive(Clone, Default)]
pub struct FurtherSources(Option<Arc<Sources>>);

type Sources = dyn Fn(&SourceRepository) -> Vec<Arc<dyn ReferrerSource>> + Send + Sync;

impl FurtherSources {
    /// Creates sources from a function that returns those of a repository.
    pub fn new(
        sources: impl Fn(&SourceRepository) -> Vec<Arc<dyn ReferrerSource>> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(sources)))
    }

    /// Returns the sources of one repository.
    pub fn of(&self, repository: &SourceRepository) -> Vec<Arc<dyn ReferrerSource>> {
        self.0
            .as_ref()
            .map_or_else(Vec::new, |sources| sources(repository))
    }
}

impl fmt::Debug for FurtherSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FurtherSources").finish_non_exhaustive()
    }
}
