//! Finds out what an OCI registry can do, with the evidence.
//!
//! A [`Capability`] has three values. It follows from an answer of the referrers API, never from a
//! host name or a version header, and the request and its answer are kept as [`Evidence`].
//! [`Probe::probe`] only asks the referrers API; [`Probe::facts`] finds out everything that can be
//! learned by reading.
//!
//! A [`ProbeCache`] keeps answers for 6 hours by default. It never keeps answers that may change
//! any moment.
//!
//! # Scope
//!
//! This crate does not discover referrers. `oci-referrers` does, and asks the API again for every
//! image, whatever a cache holds. A probe never writes to a registry, so facts that only a push
//! would show are reported as not asked.

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
