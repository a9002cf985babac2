use bundle_format::Limits;

/// The limits of a validation. Exceeding one is an error that names it.
///
/// Start from [`ValidationLimits::default`] and set the fields that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ValidationLimits {
    /// The limits of the container and of `manifest.yaml`.
    pub bundle: Limits,
    /// The size of `index.json` in bytes. Default 64 MiB.
    pub max_index_bytes: u64,
    /// The size of all manifests in the bundle together, in bytes. Default 256 MiB. What they say
    /// is kept in memory, which takes a few times as much.
    pub max_graph_bytes: u64,
    /// The number of referrers that one subject has in one repository. Default 10,000.
    pub max_referrers_per_subject: usize,
    /// The number of files that `manifest.yaml` does not list. Default 10,000. Each of them is an
    /// error; after that many, the rest of the bundle is not read.
    pub max_unlisted_entries: u64,
    /// The depth to which indexes list indexes. Default 16.
    pub max_index_depth: usize,
    /// The number of findings of each kind that are listed; the others are only counted. Default
    /// 100.
    pub max_findings_per_kind: usize,
}

const MIB: u64 = 1 << 20;

impl Default for ValidationLimits {
    fn default() -> Self {
        Self {
            bundle: Limits::default(),
            max_index_bytes: 64 * MIB,
            max_graph_bytes: 256 * MIB,
            max_referrers_per_subject: 10_000,
            max_unlisted_entries: 10_000,
            max_index_depth: 16,
            max_findings_per_kind: 100,
        }
    }
}
