use bundle_format::Limits;

/// The bounds of a validation. A limit that is reached is an error that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ValidationLimits {
    /// The limits of the container and of `manifest.yaml`.
    pub bundle: Limits,
    /// The size of `index.json` in bytes. Default 64 MiB.
    pub max_index_bytes: u64,
    /// The size of all manifests in the bundle together, in bytes. Default 256 MiB. What they say is kept in memory
    /// and takes a few times as much.
    pub max_graph_bytes: u64,
    /// The number of referrers that one subject has in one repository. Default 10,000.
    pub max_referrers_per_subject: usize,
    /// The number of files that `manifest.yaml` does not list. Default 10,000. Each is an error; beyond these, the rest of
    /// the bundle is not read.
    pub max_unlisted_entries: u64,
    /// How deep indexes list indexes. Default 16.
    pub max_index_depth: usize,
    /// How many findings of each kind are listed; the others are counted. Default 100.
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
