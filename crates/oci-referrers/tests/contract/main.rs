//! The contracts of the two source traits: every source of this crate keeps them, and the suites
//! catch those that do not.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

mod broken;
mod cache;
mod folder;
mod registry;
