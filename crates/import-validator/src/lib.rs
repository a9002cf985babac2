//! Proves a mirror bundle whole, or says exactly what is wrong with it.
//!
//! [`ImportValidator`] reads a bundle from any [`Read`](std::io::Read), from a file, from any
//! [`ReadAt`](bundle_format::ReadAt), or from the folder that it was extracted into, once and without side effects. Its
//! [`Report`] has findings with stable names, in the order of the stages, and a documented JSON form. A bundle without an
//! error becomes a [`ValidatedBundle`], the only thing that can be imported.
//!
//! ```
//! use import_validator::ImportValidator;
//!
//! let path = std::path::Path::new("no-such-bundle.tgz");
//! let validation = ImportValidator::new().strict(true).validate_path(path);
//! for finding in &validation.report.findings {
//!     eprintln!("{finding}\n  {}", finding.remedy);
//! }
//! assert!(validation.bundle.is_none());
//! assert_eq!(validation.report.exit_code(), 8);
//! ```
//!
//! # Scope
//!
//! The validator checks a bundle against its own claims and needs no network and no registry. With
//! the feature `signature` it also verifies who signed the bundle, by keys that the caller gives;
//! with the feature `policy` it applies rules that the caller gives. No feature brings HTTP or an
//! async runtime.

mod contents;
mod entries;
mod hashing;
mod layout;
mod limits;
mod objects;
mod observer;
mod omitted;
mod policy;
mod referrers;
mod report;
mod scan;
mod signature;
mod validated;
mod validator;
mod volumes;

pub use limits::ValidationLimits;
pub use observer::ValidationObserver;
pub use referrers::unsettled;
pub use report::{Counts, Finding, FindingKind, Report, Severity, Stage, UnknownFindingKind};
pub use validated::ValidatedBundle;
pub use validator::{ImportValidator, Validation};
