//! What is asked, and what comes back.

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

/// What is asked.
pub(crate) struct Call<'a> {
    pub(crate) network: &'a Network,
    pub(crate) observer: Option<&'a Arc<dyn RequestObserver>>,
    pub(crate) registry: &'a Registry,
    pub(crate) repository: Option<&'a RepositoryName>,
    pub(crate) endpoint: Endpoint,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload<'a>,
    /// Sending it twice has the same effect as sending it once.
    pub(crate) idempotent: bool,
    pub(crate) access: Access,
    /// Another repository that the request reads from.
    pub(crate) mount_from: Option<&'a RepositoryName>,
    /// What the body of a 200 has to be.
    pub(crate) expect: Expect<'a>,
    /// The repository is going to be written, so that tokens are asked for that allow it.
    pub(crate) for_push: bool,
    /// Credentials are not to go along, whatever the registry demands.
    pub(crate) anonymous: bool,
}

/// What a request needs to be allowed.
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

/// What the body of a 200 has to be to count as an answer. Anything else is broken transport: it is asked for again,
/// and then an error.
#[derive(Clone, Copy)]
pub(crate) enum Expect<'a> {
    /// Whatever it is.
    Anything,
    /// Something that can be read: JSON that is whole, or what is plainly something else.
    Readable,
    /// The content of this digest.
    Content(&'a Digest),
}

/// What is done with the body of a 2xx answer.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// It is read, up to this many bytes; the name of the limit is for the error.
    Collect(u64, &'static str),
    /// It is left to the caller.
    Stream,
}

/// An answer that stands.
pub(crate) enum Reply {
    Response(Response),
    /// The head of a 2xx answer in [`Mode::Stream`], its body to come.
    Stream(Response, Box<Body>),
}

/// The body of an answer; holds the request's place among those in flight.
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

/// Returns where a redirect leads, as the server wrote it.
pub(crate) fn redirect(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = headers.get(LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}
