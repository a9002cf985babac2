use std::num::NonZeroUsize;

/// How much a discovery may take. A limit that is reached is an error in the result, never a shorter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// Referrers of one subject; 10,000 by default.
    pub max_referrers_per_subject: usize,
    /// Pages of one list of referrers or tags; 1,000 by default.
    pub max_pages: usize,
    /// Tags that are read of a repository's listing; 10,000 by default. Beyond, each tag is asked for: the one limit that
    /// does not make a result incomplete.
    pub max_tags: usize,
    /// Levels of referrers of referrers; 64 by default. Reached only by lying lists or a very odd graph.
    pub max_levels: u32,
    /// What one discovery holds at a time, in bytes: claims, referrers with their annotations, manifests that are
    /// [kept](Discovery::keep_manifests) or lie [below](Discovery::children) referrers, and what was asked and answered; 256 MiB by
    /// default. An estimate, from lengths and counts. What is being received does not count: the registry client bounds
    /// each answer, and how many there are at once.
    pub max_bytes: usize,
    /// Questions under way at once; 64 by default. Requests are limited by the registry client below this.
    pub max_active: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_referrers_per_subject: 10_000,
            max_pages: 1_000,
            max_tags: 10_000,
            max_levels: 64,
            max_bytes: 256 * 1024 * 1024,
            max_active: NonZeroUsize::new(64).unwrap_or(NonZeroUsize::MIN),
        }
    }
}
