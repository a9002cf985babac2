use std::collections::{BTreeMap, BTreeSet};

use bundle_format::StreamName;
use oci_content::{Digest, RepositoryName, Tag};

use crate::ledger::Ledger;
use crate::mapping::Mapping;

/// How a graph is put into a target.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Where repositories go.
    pub mapping: Mapping,
    /// Further repositories of the target from which blobs that a delta leaves out may be mounted.
    /// The repositories that the bundle goes into are always considered.
    pub mount_from: Vec<RepositoryName>,
    /// Whether a tag that exists at the target with another digest may be moved. Not by default.
    pub overwrite_tags: bool,
    /// Tags that may be moved although [`overwrite_tags`](Self::overwrite_tags) is not set, each with
    /// the digests that it may have had: those that earlier imports gave it. None by default.
    pub own_tags: BTreeMap<(RepositoryName, Tag), BTreeSet<Digest>>,
    /// Whether this is a dry run, which plans and checks but sends nothing. Not by default.
    pub dry_run: bool,
    /// The ledger that records the sequences of imported bundles. `None` by default: nothing is
    /// recorded, and no bundle is refused because of its sequence.
    pub ledger: Option<Ledger>,
    /// Whether a bundle may be imported although the ledger has recorded a later one, or a
    /// different one with the same sequence.
    pub allow_rollback: bool,
    /// The only stream whose bundles are accepted; any stream by default.
    pub stream: Option<StreamName>,
    /// Whether a bundle without a sequence is refused, since its age is unknown. Not by default.
    pub require_sequence: bool,
    /// Whether objects that the target has already are read and hashed, and sent again if they are
    /// wrong. By default only their size is compared.
    pub verify_existing: bool,
}
