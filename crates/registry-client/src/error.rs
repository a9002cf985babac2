use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::Method;
use oci_content::{ErrorCode, MAX_FOREIGN_CHARS, Registry, bounded};
use url::Url;

use crate::response::Response;

/// Why a call has no usable answer.
///
/// An answer that is not 2xx is not an error but a [`Response`]; see the documentation of the
/// crate. Cheap to clone. Neither `Display` nor `Debug` shows a query, a credential or a header.
#[derive(Clone)]
pub struct Error(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) kind: ErrorKind,
    pub(crate) registry: Registry,
    pub(crate) request: Option<(Method, Url)>,
    pub(crate) text: String,
    pub(crate) response: Option<Response>,
    pub(crate) source: Option<BoxError>,
}

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// The classes of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The host name did not resolve.
    Dns,
    /// No connection could be established; nothing was sent.
    Connect,
    /// The TLS session failed, usually because a certificate is not trusted.
    Tls,
    /// There was no answer in time.
    Timeout,
    /// The connection broke after the request was sent, or the body ended early.
    Reset,
    /// A redirect that is not followed: one too many, to plain HTTP, to a non-public address
    /// outside the network of the registry, of a write, or a malformed one.
    Redirect,
    /// A `Link`, or the `Location` of an upload, leads to a place that this client does not use.
    UntrustedLink,
    /// The realm of a bearer challenge is not trusted; nothing was sent there.
    UntrustedRealm,
    /// The token service issued no token; [`Error::response`] is its answer, if there was one.
    Token,
    /// The credentials could not be obtained: a credential file or helper failed.
    Credentials,
    /// The answer is larger than the limit that the text names.
    LimitExceeded,
    /// The bytes do not have the requested digest.
    Integrity,
    /// The body of a 200 cannot be read, even after repeating the request: it is empty or
    /// truncated, begins with a byte order mark, has a content coding other than gzip or deflate,
    /// or does not match its own `Docker-Content-Digest`.
    Unreadable,
    /// A blob was refused; [`Error::response`] is the registry's last answer.
    Status,
    /// The caller's source or sink failed.
    LocalIo,
    /// The registry that an uploaded blob comes from failed; the cause is its [`Error`].
    Source,
    /// The answer breaks the protocol.
    Protocol,
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            Self::Dns => "the host name did not resolve",
            Self::Connect => "no connection could be established",
            Self::Tls => "the TLS session failed",
            Self::Timeout => "no answer in time",
            Self::Reset => "the connection broke",
            Self::Redirect => "the redirect is not followed",
            Self::UntrustedLink => "the link is not followed",
            Self::UntrustedRealm => "the token service is not trusted",
            Self::Token => "the token service issued no token",
            Self::Credentials => "the credentials could not be obtained",
            Self::LimitExceeded => "the answer is too large",
            Self::Integrity => "the bytes are not what was requested",
            Self::Unreadable => "the answer cannot be read",
            Self::Status => "the registry refused",
            Self::LocalIo => "reading or writing locally failed",
            Self::Source => "reading the blob from where it comes from failed",
            Self::Protocol => "the answer breaks the protocol",
        }
    }
}

impl Error {
    /// Returns the class.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the error code that a discovery reports for such a failure.
    pub fn code(&self) -> ErrorCode {
        match self.kind() {
            ErrorKind::Timeout => ErrorCode::Timeout,
            ErrorKind::UntrustedLink => ErrorCode::UntrustedLink,
            ErrorKind::LimitExceeded => ErrorCode::Limit,
            ErrorKind::Integrity => ErrorCode::Integrity,
            ErrorKind::Unreadable => ErrorCode::Malformed,
            ErrorKind::UntrustedRealm | ErrorKind::Credentials => ErrorCode::Denied,
            // A token service that is down does not deny anything.
            ErrorKind::Token => match self.response().map(|answer| answer.status().as_u16()) {
                Some(400..=403) => ErrorCode::Denied,
                Some(429) => ErrorCode::RateLimited,
                _ => ErrorCode::ServerError,
            },
            // The registry was reached, but its answer is unusable.
            ErrorKind::Redirect | ErrorKind::Protocol => ErrorCode::ServerError,
            _ => ErrorCode::Network,
        }
    }

    /// Returns the registry that the call was about.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Returns the URL of the failed request, without user information, query and fragment.
    pub fn url(&self) -> Option<&Url> {
        self.0.request.as_ref().map(|(_, url)| url)
    }

    /// Returns the answer that the error is about, if there was one.
    pub fn response(&self) -> Option<&Response> {
        self.0.response.as_ref()
    }

    /// Returns the text of the error with its causes, each once, for a report or a log line.
    pub fn with_causes(&self) -> String {
        oci_content::with_causes(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.request {
            Some((method, url)) => {
                write!(f, "{method} {}: ", bounded(url.as_str(), MAX_FOREIGN_CHARS))?;
            }
            None => write!(f, "registry {}: ", self.0.registry)?,
        }
        match self.0.text.as_str() {
            "" => f.write_str(self.0.kind.describe()),
            text => f.write_str(text),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("text", &format_args!("{self}"))
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
