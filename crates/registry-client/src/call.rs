//! A call to a registry, and its answer.

use std::sync::Arc;

use http::header::{HeaderMap, LOCATION};
use http::{Method, StatusCode};
use oci_content::{Digest, Registry, RepositoryName};
use url::Url;

use crate::exchange::{Open, Payload};
use crate::host::Place;
use crate::network::Network;
use crate::observer::{Endpoint, RequestObserver};
use crate::response::Response;
use crate::window::Window;

/// A call to a registry, which may take several requests.
pub(crate) struct Call<'a> {
    pub(crate) network: &'a Network,
    pub(crate) observer: Option<&'a Arc<dyn RequestObserver>>,
    /// The caller's window, in addition to that of the registry.
    pub(crate) window: Option<&'a Arc<dyn Window>>,
    pub(crate) registry: &'a Registry,
    pub(crate) repository: Option<&'a RepositoryName>,
    pub(crate) endpoint: Endpoint,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload<'a>,
    /// Whether sending it twice has the same effect as sending it once.
    pub(crate) idempotent: bool,
    pub(crate) access: Access,
    /// Another repository that the request reads from, for a mount.
    pub(crate) mount_from: Option<&'a RepositoryName>,
    /// What the body of a 200 must be.
    pub(crate) expect: Expect<'a>,
    /// Whether the repository will be written, so that tokens are requested that allow it.
    pub(crate) for_push: bool,
    /// Whether no credentials are sent, whatever the registry demands.
    pub(crate) anonymous: bool,
}

/// The permission that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
    Delete,
}

impl Access {
    pub(crate) fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "pull,push,delete",
        }
    }
}

/// What the body of a 200 must be to count as an answer. Anything else is a transport failure: the
/// request is repeated, and finally fails.
#[derive(Clone, Copy)]
pub(crate) enum Expect<'a> {
    /// Anything.
    Anything,
    /// Something readable: complete JSON, or something that is clearly not JSON.
    Readable,
    /// The content of this digest.
    Content(&'a Digest),
}

/// What is done with the body of a 2xx answer.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// It is read, up to this number of bytes; the error names the limit.
    Collect(u64, &'static str),
    /// The caller reads it.
    Stream,
}

/// A final answer.
pub(crate) enum Reply {
    Response(Response),
    /// The head of a 2xx answer in [`Mode::Stream`], and its body, yet to be read.
    Stream(Response, Box<Body>),
}

/// The body of an answer. It holds the slot of the request among those in flight.
pub(crate) struct Body {
    pub(crate) open: Open,
    pub(crate) _place: Place,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        network: &'a Network,
        observer: Option<&'a Arc<dyn RequestObserver>>,
        registry: &'a Registry,
        repository: Option<&'a RepositoryName>,
        method: Method,
        url: Url,
    ) -> Self {
        let idempotent = method == Method::GET || method == Method::HEAD;
        let access = match method {
            Method::GET | Method::HEAD => Access::Pull,
            Method::DELETE => Access::Delete,
            _ => Access::Push,
        };
        Self {
            network,
            observer,
            window: None,
            registry,
            repository,
            endpoint: Endpoint::Manifest,
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::None,
            idempotent,
            access,
            mount_from: None,
            expect: Expect::Anything,
            for_push: false,
            anonymous: false,
        }
    }
}

impl Reply {
    pub(crate) fn into_head(self) -> Response {
        match self {
            Self::Response(response) | Self::Stream(response, _) => response,
        }
    }

    pub(crate) fn head(&self) -> &Response {
        match self {
            Self::Response(response) | Self::Stream(response, _) => response,
        }
    }
}

/// Returns the target of a redirect, as the server wrote it.
pub(crate) fn redirect(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = headers.get(LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}
