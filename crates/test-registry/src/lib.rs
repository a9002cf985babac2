//! A registry for integration tests that behaves like real registries.
//!
//! A [`TestRegistry`] listens on a port of 127.0.0.1 and behaves like its [`Persona`]. [`Fault`]s
//! make single answers go wrong, and every request is [recorded](TestRegistry::requests). A fault
//! that never happened [fails the test](TestRegistry::unused_faults).
//!
//! ```
//! use test_registry::{Fault, Persona, Route, TestRegistry};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let registry = TestRegistry::start(Persona::Dist2).await;
//! let image = registry.image("team/app", "1.0");
//! let sbom = registry.referrer("team/app", &image, "application/spdx+json", "{}");
//! registry.fault(Route::manifests(), Fault::statuses([429, 429, 200]).header("Retry-After", "1"));
//! # // This example sends no requests.
//! # registry.allow_unused_faults();
//! # assert_eq!(sbom.artifact_type.as_deref(), Some("application/spdx+json"));
//! # }
//! ```
//!
//! # Scope
//!
//! For tests: content is in memory, and misuse panics. It shares no code with the client of this
//! workspace, so that both cannot share a mistake.

mod apply;
mod auth;
mod behaviour;
mod coding;
mod connection;
mod content;
mod fault;
mod framing;
mod late;
mod limiter;
mod list_cache;
mod manifests;
mod persona;
mod pipeline;
mod plan;
mod profile;
mod record;
mod referrers;
mod registry;
mod route;
mod shared;
mod tags;
mod token;
mod unused;

pub use coding::Coding;
pub use content::{Referrer, TestIndex};
pub use fault::Fault;
pub use framing::Framing;
pub use late::Lateness;
pub use persona::{Persona, UnknownPersona, Variant};
pub use record::RecordedRequest;
pub use registry::{TestRegistry, TestRegistryBuilder};
pub use route::Route;
pub use unused::UnusedFault;
