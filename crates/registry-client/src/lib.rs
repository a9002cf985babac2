//! A client for OCI registries: tokens, retries, rate limits, paging, limits, blobs.
//!
//! A [`Client`] makes the requests of the [distribution
//! specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md) that a
//! mirror needs, for one [`Repository`] at a time.
//!
//! - **An answer is a value.** Whatever its status, the final answer is an `Ok` [`Response`] with
//!   status, headers and body, even a 429 or 503 that outlasted all retries: the caller decides. An
//!   [`Error`] means that there is no usable answer. Only [`Repository::pull_blob`] and
//!   [`Repository::push_blob`] turn a status into an error.
//! - **Bounded.** Bodies, redirects, tries and times have limits with defaults; see
//!   [`ClientOptions`].
//! - **Untrusting.** Manifests and lists are returned as bytes for the caller to check; blobs are
//!   verified.
//! - **Credentials stay home.** They are sent to the origin that they are for and to the token
//!   service that it names, provided that the service uses https, or is at the host of a registry
//!   that itself uses plain HTTP, and is not inside a network that the registry is not part of. If
//!   there are credentials, `GET /v2/` is requested once to find out what the registry demands, and
//!   every request is authenticated from the start: private content may be hidden from anonymous
//!   users without a challenge.
//! - **Patient.** All requests to a host obey its `Retry-After`, a broken transfer continues where
//!   it stopped, and a [`RequestObserver`] is told of every request and every wait.
//! - **Within a budget.** [`HostOptions`] limit the requests per second to a registry, the bytes of
//!   blobs per second, and the times of day in which it is used; a [`Stopwatch`] leaves such
//!   waits out.
//!
//! ```
//! use oci_content::Tag;
//! use registry_client::{Client, ClientOptions};
//! use test_registry::{Persona, TestRegistry};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = TestRegistry::start(Persona::SpecFull).await;
//! let image = registry.image("team/app", "1.0");
//!
//! let client = Client::new(ClientOptions::default())?;
//! let repository = client.repository(&registry.registry(), &"team/app".parse()?);
//! let tag: Tag = "1.0".parse()?;
//! let answer = repository.get_manifest(&tag).await?;
//! assert!(image.digest.matches(answer.body()));
//! # Ok(())
//! # }
//! ```
//!
//! # Scope
//!
//! No interpretation of manifests and lists, no bundles, no cache on disk. The only processes
//! started are the credential helpers that a [`DockerConfig`] names; neither the environment nor a
//! home directory is read. The `urls` of a descriptor are never fetched.

mod allowance;
mod answer;
mod auth;
mod bearer;
mod blob;
mod body;
mod bounded_list;
mod build_error;
mod call;
mod capability;
mod catalog;
mod certs_folder;
mod challenge;
mod client;
mod coding;
mod credentials;
mod docker_config;
mod envelope;
mod error;
mod exchange;
mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod link;
mod network;
mod observer;
#[cfg(feature = "oci-client")]
mod oci_client_auth;
mod options;
mod origin;
mod pace;
mod pem;
mod proxy;
mod pull;
mod push;
mod rate_limit;
mod realm;
mod referrers_list;
mod repository;
mod repository_list;
mod request_rate;
mod response;
mod retry;
mod run;
mod stopwatch;
mod tag_list;
mod tls;
mod token;
mod toll;
mod upload;
mod upload_session;
mod window;

pub use answer::{AnswerParts, ReferrersAnswer, ReferrersTagAnswer, nobody};
pub use blob::{BlobSink, BlobSource, BlobStream, MemorySink, VerifyingSink, read_blob};
pub use body::Body;
pub use build_error::BuildError;
pub use capability::Evidence;
pub use catalog::Catalog;
pub use challenge::Challenge;
pub use client::Client;
pub use credentials::{CredentialError, CredentialSource, Credentials};
pub use docker_config::DockerConfig;
pub use error::{Error, ErrorKind};
pub use observer::{Endpoint, RequestEvent, RequestObserver, SilenceEvent, WaitEvent, WaitReason};
pub use options::{ClientOptions, HostOptions, Http2};
pub use proxy::ProxyOptions;
pub use push::BlobPush;
pub use rate_limit::RateLimit;
pub use referrers_list::{MAX_LIST_ENTRIES, ReferrersList};
pub use repository::{ManifestId, Precondition, Repository};
pub use repository_list::{RepositoryList, RepositoryListError};
pub use request_rate::RequestRate;
pub use response::Response;
pub use retry::RetryPolicy;
pub use stopwatch::Stopwatch;
pub use tag_list::{TagList, TagListError};
pub use window::Window;
