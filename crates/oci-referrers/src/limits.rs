use std::num::NonZeroUsize;

/// The limits of a discovery. Reaching one is an error in the result, never a silently shorter
/// list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// The most referrers of one subject; 10,000 by default.
    pub max_referrers_per_subject: usize,
    /// The most pages of one list of referrers or tags; 1,000 by default.
    pub max_pages: usize,
    /// The most tags that are read from a repository's listing; 10,000 by default. Beyond it, each
    /// tag is requested on its own. This is the one limit that does not make a result incomplete.
    pub max_tags: usize,
    /// The most levels of referrers of referrers; 64 by default.
    pub max_levels: u32,
    /// The most memory that the results of one discovery may take, in bytes; 256 MiB by default.
    ///
    /// An estimate from lengths and counts of claims, referrers with their annotations, manifests
    /// that are [kept](crate::Discovery::keep_manifests) or lie [below](crate::Discovery::children)
    /// referrers, and requests with their answers. Answers in transit do not count: the registry
    /// client limits their size and number.
    pub max_bytes: usize,
    /// The most lookups at once; 64 by default. The registry client further limits requests at
    /// once.
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
