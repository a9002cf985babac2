//! Serves content as an OCI registry.
//!
//! A [`Store`] keeps the content: [`LayoutStore`] in an OCI image layout folder, [`MemoryStore`] in
//! memory, for tests and demonstrations. [`RegistryServer`] serves a store through the endpoints of
//! the distribution specification, including the referrers API.
//!
//! ```
//! use std::sync::Arc;
//! use registry_server::{MemoryStore, RegistryServer};
//!
//! # #[tokio::main]
//! # async fn main() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let server = RegistryServer::builder(Arc::new(MemoryStore::new())).build();
//! let running = server.serve(listener)?;
//! let ping = reqwest::get(format!("http://{}/v2/", running.addr())).await;
//! assert_eq!(ping.map(|answer| answer.status().as_u16()).ok(), Some(200));
//! running.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! What surrounds the registry is public as well, for servers of other APIs: [`ConnectionLimits`]
//! serves any router, [`Exchange`] accounts for its requests, [`RequestOrigin`] recognises requests
//! that a page of another site has made a browser send, [`ByteRange`] reads `Range`.
//!
//! # Scope
//!
//! The API of the [distribution specification
//! v1.1.1](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md) over plain
//! HTTP, or over TLS with the feature `tls`; for everybody, or for users with passwords with the
//! feature `basic-auth`. Also `/v2/_catalog`, as in distribution. Nothing else: no permissions by
//! repository, no tokens, no upstream, no garbage collection. Put it behind a proxy that provides
//! what is missing, or keep it on loopback.

mod blobs;
mod builder;
mod call;
mod checked;
mod connections;
mod dispatch;
mod endpoint;
mod error;
mod exchange;
#[cfg(feature = "basic-auth")]
mod htpasswd;
mod layout_store;
mod layout_view;
mod lists;
mod manifests;
mod memory;
mod origin;
mod precondition;
mod range;
mod response;
mod server;
mod sessions;
mod shared;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
mod traffic;
mod uploads;

pub use builder::RegistryServerBuilder;
pub use connections::ConnectionLimits;
pub use endpoint::Endpoint;
pub use error::{ApiError, ErrorCode};
pub use exchange::Exchange;
#[cfg(feature = "basic-auth")]
pub use htpasswd::{Htpasswd, HtpasswdError};
pub use layout_store::LayoutStore;
pub use memory::MemoryStore;
pub use origin::{MalformedHost, RequestOrigin};
pub use precondition::Precondition;
pub use range::ByteRange;
pub use server::{RegistryServer, RunningServer};
pub use store::{Blob, BlobUpload, Repository, Store, StoreError, StoreErrorKind, StoredManifest};
#[cfg(feature = "tls")]
pub use tls::{TlsError, TlsErrorKind, mutual_tls_config, tls_config};
pub use traffic::{AnsweredRequest, ServerObserver};
