use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use url::Url;

use crate::error::ErrorKind;
use crate::request_rate::RequestRate;
use crate::window::Window;

/// An observer of every single HTTP request: first tries, retries, redirect hops and token
/// requests.
///
/// Its methods are called from within the request, so they must return quickly and not block.
pub trait RequestObserver: fmt::Debug + Send + Sync {
    /// Is called when a request is over.
    fn request(&self, event: &RequestEvent<'_>);

    /// Returns whether the headers of answers are wanted, which are not kept otherwise.
    fn wants_headers(&self) -> bool {
        false
    }

    /// Is called when a call waits before it tries again, or for [the client's own
    /// budget](crate::HostOptions).
    ///
    /// When a 429 with `Retry-After` closes the gate for all requests to a host, it is called once.
    /// For a wait for the budget it is called again every ten minutes.
    fn waiting(&self, event: &WaitEvent<'_>) {
        let _ = event;
    }

    /// Is called when nothing has been received for 5 s, and every 10 s from then on. Not called
    /// while a blob is being sent.
    fn silent(&self, event: &SilenceEvent<'_>) {
        let _ = event;
    }
}

/// Waits before the next try, and reports it to the observer.
pub(crate) async fn wait(
    observer: Option<&Arc<dyn RequestObserver>>,
    registry: &Registry,
    wait: Duration,
    status: Option<StatusCode>,
) {
    let event = WaitEvent {
        registry,
        wait,
        waited: Duration::ZERO,
        status,
        reason: WaitReason::Retry,
    };
    event.report(observer);
    tokio::time::sleep(wait).await;
}

/// The endpoint that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/v2/`
    Ping,
    /// `/v2/<name>/manifests/<reference>`
    Manifest,
    /// `/v2/<name>/referrers/<digest>`, including further pages.
    Referrers,
    /// `/v2/<name>/tags/list`, including further pages.
    Tags,
    /// `/v2/_catalog`, including further pages.
    Catalog,
    /// `/v2/<name>/blobs/<digest>`
    Blob,
    /// `/v2/<name>/blobs/uploads/`, including the sessions that it opens.
    Upload,
    /// The realm of a bearer challenge.
    Token,
}

impl Endpoint {
    /// Returns the lower-case name for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Manifest => "manifest",
            Self::Referrers => "referrers",
            Self::Tags => "tags",
            Self::Catalog => "catalog",
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

/// An HTTP request that is over, including its body.
///
/// If it has neither a status nor an error, the caller dropped the request
/// before there was an answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct RequestEvent<'a> {
    /// The method.
    pub method: &'a Method,
    /// What the request is for.
    pub endpoint: Endpoint,
    /// The registry that the call is about; a redirect hop or a token request may go to another
    /// host.
    pub registry: &'a Registry,
    /// The repository that the call is about; `None` for a ping and for the catalog.
    pub repository: Option<&'a RepositoryName>,
    /// The URL of the request, without user information, query and fragment.
    pub url: &'a Url,
    /// The status of the answer.
    pub status: Option<StatusCode>,
    /// The headers of the answer, if the observer [wants them](RequestObserver::wants_headers).
    ///
    /// They may contain secrets, such as cookies and signed locations.
    pub headers: Option<&'a HeaderMap>,
    /// What broke the request; also set if the head arrived and the body failed.
    pub error: Option<ErrorKind>,
    /// The time from sending to the end of the body. For a blob this includes the time spent in the
    /// caller's sink.
    pub elapsed: Duration,
    /// The number of the try within its call, from 1; redirect hops share it.
    pub attempt: u32,
    /// The number of bytes of the answer's body that were read.
    pub body_bytes: u64,
    /// The number of bytes of the request's body that were handed to the connection.
    pub sent_bytes: u64,
}

/// A wait of a call.
#[derive(Debug)]
#[non_exhaustive]
pub struct WaitEvent<'a> {
    /// The registry that the call is about.
    pub registry: &'a Registry,
    /// How long the wait is from now on; an estimate for a limit of requests or bytes.
    pub wait: Duration,
    /// How long the call has waited already; zero when the wait begins.
    pub waited: Duration,
    /// The status that caused it; `None` if the connection broke, or for another reason than
    /// [`WaitReason::Retry`]. 429 is a rate limit.
    pub status: Option<StatusCode>,
    /// What is waited for.
    pub reason: WaitReason<'a>,
}

impl WaitEvent<'_> {
    pub(crate) fn report(&self, observer: Option<&Arc<dyn RequestObserver>>) {
        let Self {
            registry,
            wait,
            status,
            reason,
            ..
        } = self;
        tracing::debug!(%registry, ?wait, ?status, ?reason, "waiting");
        if let Some(observer) = observer {
            observer.waiting(self);
        }
    }
}

/// What a call waits for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WaitReason<'a> {
    /// Another try.
    Retry,
    /// The client's own limit of requests per second.
    Requests(RequestRate),
    /// The client's own limit of the bytes of blobs per second. Only the first wait of each transfer
    /// is reported.
    Bytes(NonZeroU64),
    /// The window in which requests may be sent.
    Window(&'a dyn Window),
}

/// A request without an answer so far, or an answer that has stalled.
#[derive(Debug)]
#[non_exhaustive]
pub struct SilenceEvent<'a> {
    /// The registry that the call is about.
    pub registry: &'a Registry,
    /// The URL of the request, without user information, query and fragment.
    pub url: &'a Url,
    /// How long nothing has been received.
    pub silence: Duration,
}
