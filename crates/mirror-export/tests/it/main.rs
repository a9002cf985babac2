//! Exports from registries on loopback.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

mod completeness;
mod delta;
mod determinism;
mod faults;
mod folders;
mod interruption;
mod resume;
mod sinks;
mod support;
