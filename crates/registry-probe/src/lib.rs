//! Finds out what an OCI registry can do, with the evidence.
//!
//! A [`Capability`] has three states and never comes from a host name or a version header: only an answer of the
//! referrers API decides, and what was asked and answered is kept as [`Evidence`]. [`Probe::probe`] asks for the
//! referrers API alone, [`Probe::facts`] for everything that reading can tell.
//!
//! A [`ProbeCache`] keeps answers for 6 hours by default. It never keeps what may be another answer in a moment.
//!
//! # Scope
//!
//! It discovers no referrers; `oci-referrers` does, and asks the API of every image again, whatever a cache holds. It
//! never writes to a registry, so what only a push would tell is reported as not asked.

mod cache;
mod document;
mod entry;
mod fact;
mod facts;
mod probe;
mod report;
mod scope;
mod stored;

pub use cache::ProbeCache;
pub use document::ProbeDocument;
pub use fact::{Fact, FactName};
pub use oci_content::Capability;
pub use probe::Probe;
pub use registry_client::Evidence;
pub use report::{CacheHit, ProbeFailure, ProbeReport};
