//! The contract of [`Store`], as checks that a store's own tests run.
//!
//! Each check panics with a sentence that names the broken rule. [`store`] runs them all:
//!
//! ```
//! use registry_server::{MemoryStore, Repository, testing};
//!
//! let [repository, other] = ["team/app", "team/other"].map(|name| Repository::new(name.parse().unwrap()));
//! testing::store(&MemoryStore::new(), &repository, &other);
//! ```
//!
//! A check writes to the repositories that it is given and expects that no check of the same name
//! has written to them before. What else the store holds does not matter.

mod calls;
mod changes;
mod concurrency;
mod content;

pub use changes::{preconditions, referrers, removals, tags};
pub use concurrency::{concurrent_reads, concurrent_writes};
pub use content::{blobs, manifests, mounts, repositories, uploads};

use crate::store::{Repository, Store};

/// Runs every check of this module. `other` is a second repository, for [`mounts`].
///
/// # Panics
///
/// When the store breaks a rule.
pub fn store(store: &dyn Store, repository: &Repository, other: &Repository) {
    repositories(store, repository);
    blobs(store, repository);
    uploads(store, repository);
    mounts(store, repository, other);
    manifests(store, repository);
    tags(store, repository);
    referrers(store, repository);
    preconditions(store, repository);
    removals(store, repository);
    concurrent_writes(store, repository);
    concurrent_reads(store, repository);
}

#[cfg(test)]
mod tests;
