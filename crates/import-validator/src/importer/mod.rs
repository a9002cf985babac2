//! Puts a validated bundle into a registry or a layout folder, and proves that it arrived.

mod error;
mod importer;
mod layout_target;
mod mapping;
mod plan;
mod proof;
mod referrers_tag;
mod registry_target;
mod report;
mod source;

pub use error::{ImportError, ImportErrorKind};
pub use importer::{ImportObserver, ImportOptions, ImportTarget, Importer};
pub use mapping::{MapRule, Mapping};
pub use plan::{ImportPlan, RepositoryPlan};
pub use report::{ImportReport, ImportedImage, MissingReferrer, TransferCounts};
