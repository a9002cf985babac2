use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use url::Url;

use crate::error::ErrorKind;

/// Is told about every single HTTP request: first tries, retries, redirect hops and token requests.
///
/// Called from within the request, so an implementation returns quickly and does not block.
pub trait RequestObserver: fmt::Debug + Send + Sync {
    /// One request is over.
    fn request(&self, event: &RequestEvent<'_>);

    /// A call waits before it tries again.
    ///
    /// A gate that closes for all requests to a host, after a 429 with `Retry-After`, is told once.
    fn waiting(&self, event: &WaitEvent<'_>) {
        let _ = event;
    }

    /// Nothing has come for a while although a request has been sent: told after 5 s of silence, and every 10 s from
    /// then on. Not told while a blob is being sent.
    fn silent(&self, event: &SilenceEvent<'_>) {
        let _ = event;
    }
}

/// Waits before another try, and tells the observer.
pub(crate) async fn wait(
    observer: Option<&Arc<dyn RequestObserver>>,
    registry: &Registry,
    wait: Duration,
    status: Option<StatusCode>,
) {
    tracing::debug!(%registry, ?wait, ?status, "waiting before another try");
    if let Some(observer) = observer {
        observer.waiting(&WaitEvent {
            registry,
            wait,
            status,
        });
    }
    tokio::time::sleep(wait).await;
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/v2/`
    Ping,
    /// `/v2/<name>/manifests/<reference>`
    Manifest,
    /// `/v2/<name>/referrers/<digest>` and its further pages.
    Referrers,
    /// `/v2/<name>/tags/list` and its further pages.
    Tags,
    /// `/v2/<name>/blobs/<digest>`
    Blob,
    /// `/v2/<name>/blobs/uploads/` and the session it opens.
    Upload,
    /// The realm of a bearer challenge.
    Token,
}

impl Endpoint {
    /// Returns a lower-case name for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Manifest => "manifest",
            Self::Referrers => "referrers",
            Self::Tags => "tags",
            Self::Blob => "blob",
            Self::Upload => "upload",
            Self::Token => "token",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One HTTP request that is over, its body included.
///
/// Holds no header. With neither status nor error the caller dropped the request before there was an answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct RequestEvent<'a> {
    /// The method.
    pub method: &'a Method,
    /// What the request is for.
    pub endpoint: Endpoint,
    /// The registry that the call is about; a redirect hop or a token request may go to another host.
    pub registry: &'a Registry,
    /// The repository that the call is about; `None` for a ping.
    pub repository: Option<&'a RepositoryName>,
    /// Where the request went, without user information, query and fragment.
    pub url: &'a Url,
    /// The status of the answer.
    pub status: Option<StatusCode>,
    /// What broke the request; also set when the head came and the body failed.
    pub error: Option<ErrorKind>,
    /// From sending to the end of the body. For a blob this includes what the caller's sink took.
    pub elapsed: Duration,
    /// Which try of its call this is, from 1; redirect hops share the number.
    pub attempt: u32,
    /// Bytes of the answer's body that were read.
    pub body_bytes: u64,
    /// Bytes of the request's body that were handed to the connection.
    pub sent_bytes: u64,
}

/// A wait before another try.
#[derive(Debug)]
#[non_exhaustive]
pub struct WaitEvent<'a> {
    /// The registry that the call is about.
    pub registry: &'a Registry,
    /// How long the wait is.
    pub wait: Duration,
    /// The status that caused it; `None` when the connection broke. 429 is a rate limit.
    pub status: Option<StatusCode>,
}

/// A request without an answer, or an answer that has come to a standstill.
#[derive(Debug)]
#[non_exhaustive]
pub struct SilenceEvent<'a> {
    /// The registry that the call is about.
    pub registry: &'a Registry,
    /// Where the request went, without user information, query and fragment.
    pub url: &'a Url,
    /// For how long nothing has come.
    pub silence: Duration,
}
