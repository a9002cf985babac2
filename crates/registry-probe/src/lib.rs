//! Finds out what an OCI registry can do, with the evidence.
//!
//! A [`Capability`] has three states and never comes from a host name or a version header: only an answer of the
//! referrers API decides, and what was asked and answered is kept as [`Evidence`].
//!
//! # Scope
//!
//! It discovers no referrers; `oci-referrers` does, and asks the API of every image again.

mod probe;

pub use oci_content::Capability;
pub use probe::{Probe, ProbeFailure, ProbeReport};
pub use registry_client::Evidence;
