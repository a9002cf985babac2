//! Writes a mirror bundle: images and everything that refers to them, in one file.
//!
//! An [`Exporter`] has a [`Planner`](mirror_plan::Planner) find what there is to carry, knows then every byte that the bundle
//! will hold, and downloads blobs straight into their places. What could not be settled stops the export, or is written into the bundle where the caller allows it.
//!
//! # Scope
//!
//! It prints nothing and reads no configuration file; an [`ExportObserver`] is told what happens. It needs a tokio
//! runtime and spawns transfers on it.

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

pub use document::{ExportDocument, ExportedBase, ExportedReferrers};
pub use error::{ExportError, ExportErrorKind, ExportRemedy};
pub use exporter::Exporter;
pub use observer::{ExportEvent, ExportObserver};
pub use request::{ExportRequest, FileOutput, SinkOutput};
pub use summary::{ExportSummary, ExportTimes, ExportedImage, ExportedVolume, SinkSummary};
