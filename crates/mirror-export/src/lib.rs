//! Writes a mirror bundle: images and everything that refers to them, in one file.
//!
//! An [`Exporter`] uses a [`Planner`](mirror_plan::Planner) to find what there is to carry. Then it
//! knows the place of every byte of the bundle, and downloads blobs straight into their places. A
//! question that could not be settled stops the export, or is recorded in the bundle if the caller
//! allows that.
//!
//! # Scope
//!
//! It prints nothing and reads no configuration file; an [`ExportObserver`] receives events. It
//! needs a tokio runtime and spawns transfers on it.

mod contents;
mod discarded;
mod document;
mod error;
mod exporter;
mod observer;
mod report;
mod request;
mod summary;
mod tally;
mod transfer;
mod writing;

pub use document::{ExportDocument, ExportedReferrers};
pub use error::{ExportError, ExportErrorKind, ExportRemedy};
pub use exporter::Exporter;
pub use observer::{ExportEvent, ExportObserver};
pub use request::{ExportRequest, FileOutput, SinkOutput};
pub use summary::{
    ExportSummary, ExportTimes, ExportedBase, ExportedImage, ExportedVolume, SinkSummary,
};
