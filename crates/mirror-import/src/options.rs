use bundle_format::StreamName;
use oci_content::RepositoryName;

use crate::ledger::Ledger;
use crate::mapping::Mapping;

/// How a graph is put into a target.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Where repositories go.
    pub mapping: Mapping,
    /// Repositories of the target from which blobs that a delta leaves out may be mounted, beside those that the bundle goes
    /// into.
    pub mount_from: Vec<RepositoryName>,
    /// Whether a tag that holds something else at the target may be moved. Not by default.
    pub overwrite_tags: bool,
    /// Whether to plan only.
    pub dry_run: bool,
    /// Where the sequences of imported bundles are remembered. None by default: nothing is remembered, and nothing refused for it.
    pub ledger: Option<Ledger>,
    /// Whether a bundle may be imported although the ledger knows a later one, or another one with the same sequence.
    pub allow_rollback: bool,
    /// The only stream that a bundle may be of; of any by default.
    pub stream: Option<StreamName>,
    /// Whether a bundle without a sequence is refused: nothing could be said of its age.
    pub require_sequence: bool,
    /// Whether what a target has already is read and hashed, and sent again where it is not what it should be. Otherwise
    /// its size is compared.
    pub verify_existing: bool,
}
