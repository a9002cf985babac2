//! Puts a validated mirror bundle into a registry or an image layout folder, and proves that it arrived.
//!
//! An [`Importer`] takes a [`ValidatedBundle`](import_validator::ValidatedBundle), which only a validation without an error
//! makes; it sends what the target does not have, in an order in which nothing ever points at something incomplete, and ends by
//! asking the target itself for every referrer. What the target does not list is an error that names it.
//!
//! # Scope
//!
//! It reads no configuration and writes to no terminal. It needs a tokio runtime and spawns transfers on it.

mod base;
mod blob_push;
mod error;
mod importer;
mod layout_target;
mod ledger;
mod manifest_push;
mod mapping;
mod patience;
mod plan;
mod proof;
mod referrers_tag;
mod registry_target;
mod report;
mod source;

pub use error::{ImportError, ImportErrorKind};
pub use importer::{ImportObserver, ImportOptions, ImportTarget, Importer};
pub use ledger::{KnownSeries, Ledger, LedgerReport, LedgerVerdict};
pub use mapping::{MapRule, Mapping};
pub use plan::{ImportPlan, RepositoryPlan};
pub use report::{BaseReport, ImportReport, ImportedImage, MissingReferrer, TransferCounts};
