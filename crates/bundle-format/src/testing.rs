//! What an implementation of [`Sink`](crate::Sink) or [`ReadAt`](crate::ReadAt) is checked with: with the feature `testing`.
//!
//! The checks are plain functions that panic with the rule that is broken. They are called in a test:
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

pub use self::part_sink::PartSink;
pub use self::sink::check_sink;
pub use self::source::check_source;

/// Bytes that differ from one place to the next, and from one `size` to another.
fn content(size: usize) -> Vec<u8> {
    let mut state = size as u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

/// Runs tasks at the same time, each on a thread of its own. What one of them says when it panics is said here.
fn at_once(tasks: impl Iterator<Item = impl FnOnce() + Send>) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = tasks.map(|task| scope.spawn(task)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[cfg(test)]
mod tests;
