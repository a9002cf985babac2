//! Imports into registries and folders on this machine.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

mod any;
mod audit;
mod deltas;
mod faults;
mod folders;
mod from_folders;
mod mirror;
mod names;
mod observed;
mod order;
mod prune;
mod registries;
mod second_night;
mod support;
mod targets;
mod verdicts;
mod whole;
