//! What an implementation of [`Sink`](crate::Sink) or [`ReadAt`](crate::ReadAt) is checked with:
//! with the feature `testing`.
//!
//! The checks are plain functions that panic with the rule that is broken. They are called in a
//! test:
//!
//! ```
//! use bundle_format::testing::{check_sink, check_source};
//! use bundle_format::{FileSink, MemorySink};
//! use std::sync::Arc;
//!
//! # fn main() {
//! check_sink(MemorySink::new, MemorySink::to_bytes);
//! check_source(|bytes| bytes.to_vec());
//! # }
//! ```
//!
//! [`PartSink`] stands on the other side: it refuses every call by which a writer breaks the contract.

mod part_sink;
mod sink;
mod source;
mod workload;

pub use self::part_sink::PartSink;
pub use self::sink::check_sink;
pub use self::source::check_source;

#[cfg(test)]
mod tests;
