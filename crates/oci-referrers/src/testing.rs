//! Test suites for implementations of [`ReferrerSource`](crate::ReferrerSource),
//! [`ManifestSource`](crate::ManifestSource) and [`ManifestCache`](crate::ManifestCache).
//!
//! An implementor provides a place: how content gets into it, and how it is made to fail. The suite
//! calls the source over that place, and panics with a sentence that names the broken rule.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use async_trait::async_trait;
//! use oci_content::{Descriptor, Digest, ErrorCode, OtherSource, SourceKind};
//! use oci_referrers::testing::{ReferrerPlace, referrer_source};
//! use oci_referrers::{Answer, Claim, Problem, Query, ReferrerSource};
//!
//! /// Rows of subject and referrer; `None` when the database is gone.
//! type Rows = Arc<Mutex<Option<Vec<(Digest, Descriptor)>>>>;
//!
//! #[derive(Debug)]
//! struct Inventory(Rows);
//!
//! #[async_trait]
//! impl ReferrerSource for Inventory {
//!     fn kind(&self) -> SourceKind {
//!         OtherSource::new("inventory").map_or(SourceKind::Manifest, SourceKind::Other)
//!     }
//!
//!     async fn referrers(&self, query: &Query) -> Answer {
//!         let Some(rows) = &*self.0.lock().unwrap() else {
//!             return Answer::failed(Problem::new(ErrorCode::Network, "the database is gone"));
//!         };
//!         let of_subject = rows.iter().filter(|(subject, _)| subject == query.subject());
//!         Answer::list(of_subject.map(|(_, referrer)| Claim::new(referrer.clone())))
//!     }
//! }
//!
//! struct Database(Rows);
//!
//! #[async_trait]
//! impl ReferrerPlace for Database {
//!     fn source(&self) -> Arc<dyn ReferrerSource> {
//!         Arc::new(Inventory(Arc::clone(&self.0)))
//!     }
//!
//!     async fn refer(&self, subject: &Descriptor, number: usize) -> Digest {
//!         let referrer = Descriptor::of("text/plain", format!("{subject:?} {number}").as_bytes());
//!         let digest = referrer.digest.clone();
//!         self.0.lock().unwrap().get_or_insert_default().push((subject.digest.clone(), referrer));
//!         digest
//!     }
//!
//!     async fn fail(&self) {
//!         *self.0.lock().unwrap() = None;
//!     }
//! }
//!
//! # futures::executor::block_on(async {
//! referrer_source(|| async { Database(Rows::default()) }).await;
//! # });
//! ```

mod cache;
mod dropped;
mod manifests;
mod referrers;

pub use cache::manifest_cache;
pub use manifests::{ManifestPlace, manifest_source};
pub use referrers::{ReferrerPlace, referrer_source};
