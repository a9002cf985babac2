//! Puts a graph of images and everything that refers to them into a target, and proves that it
//! arrived.
//!
//! | noun | what it is | here |
//! |---|---|---|
//! | [`Source`] | where a graph and its objects come from | [`ValidatedBundle`](import_validator::ValidatedBundle), [`PlannedSource`] |
//! | [`MirrorGraph`](oci_content::MirrorGraph) | images and referrers, pinned by digest | |
//! | [`Target`] | where they are put | [`RegistryTarget`], [`LayoutTarget`] |
//!
//! An [`Importer`] sends what the target does not have, in an order in which nothing ever points at
//! something incomplete. At the end it asks the target itself for every referrer; a referrer that
//! the target does not list is an error that names it.
//!
//! # Scope
//!
//! It reads no configuration and writes to no terminal. It needs a tokio runtime and spawns
//! transfers on it.

mod audit;
mod audit_report;
mod base;
mod blob_task;
mod error;
mod first_look;
mod importer;
mod layout_target;
mod ledger;
mod ledger_report;
mod manifest_push;
mod mapping;
mod mirror;
mod observed;
mod options;
mod patience;
mod plan;
mod planned;
mod proof;
mod proving;
mod prune;
mod prune_decision;
mod prune_history;
mod prune_look;
mod prune_registry;
mod prune_report;
mod prune_target;
mod pruning;
mod referrers_tag;
mod registry_target;
mod report;
mod sequence;
mod source;
mod stored_blob;
mod survey;
mod target;
#[cfg(feature = "testing")]
pub mod testing;

pub use audit::{AuditObserver, Auditor};
pub use audit_report::{AuditFinding, AuditReport, AuditStatus, AuditedObject, DriftKind};
pub use error::{ImportError, ImportErrorKind, ImportRemedy};
pub use importer::Importer;
pub use layout_target::LayoutTarget;
pub use ledger::Ledger;
pub use ledger_report::{KnownSeries, LedgerReport, LedgerVerdict};
pub use mapping::{MapRule, Mapping};
pub use mirror::{Mirror, MirrorError};
pub use observed::ImportObserver;
pub use options::ImportOptions;
pub use planned::PlannedSource;
pub use prune::{PruneObserver, PruneOptions, PruneRequest, Pruner};
pub use prune_history::PruneHistory;
pub use prune_report::{Appeared, Kept, KeptReason, PruneKind, PruneReport, PrunedRepository};
pub use prune_target::{Deletion, PruneTarget, StoredManifest};
pub use registry_target::RegistryTarget;
pub use report::{
    BaseReport, ImportReport, ImportedImage, ImportedRepository, ImportedTag, MissingReferrer,
    TagAction, TransferCounts,
};
pub use source::{Provenance, Source};
pub use survey::{Survey, SurveyedImage};
pub use target::{BlobPut, Check, Entry, Holding, Published, Target, TargetProfile};
