use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::Method;
use oci_content::{ErrorCode, MAX_FOREIGN_CHARS, Registry, bounded};
use url::Url;

use crate::response::Response;

/// Why a call has no usable answer.
///
/// An answer that is not 2xx is no error but a [`Response`]; see the crate's documentation.
/// Cheap to clone. Neither `Display` nor `Debug` shows a query, a credential or a header.
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

/// What an [`Error`] means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The host name did not resolve.
    Dns,
    /// No connection could be made; nothing was sent.
    Connect,
    /// The TLS session failed, mostly because a certificate is not trusted.
    Tls,
    /// Nothing came within the time allowed.
    Timeout,
    /// The connection broke after the request was sent, or the body ended early.
    Reset,
    /// A redirect that is not followed: too many, to plain HTTP, to an address that is not public where the
    /// registry is not, of a write, or one that cannot be read.
    Redirect,
    /// A `Link` or an upload's `Location` points where this client does not go.
    UntrustedLink,
    /// The realm of a bearer challenge is not one that may see a request; nothing was sent there.
    UntrustedRealm,
    /// The token service gave no token; [`Error::response`] is its answer if there was one.
    Token,
    /// The credentials could not be had: a credential file or helper failed.
    Credentials,
    /// The answer is larger than the limit, which the text names.
    LimitExceeded,
    /// The bytes are not those of the digest that was asked for.
    Integrity,
    /// The body of a 200 cannot be read, also when asked for again: it is empty, ends in the middle, begins with a byte
    /// order mark, has a content coding other than gzip or deflate, or is not what its own `Docker-Content-Digest` says.
    Unreadable,
    /// A blob was refused; [`Error::response`] is the registry's last answer.
    Status,
    /// The caller's source or sink failed.
    LocalIo,
    /// The answer breaks the protocol.
    Protocol,
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            Self::Dns => "the host name did not resolve",
            Self::Connect => "no connection could be made",
            Self::Tls => "the TLS session failed",
            Self::Timeout => "no answer in time",
            Self::Reset => "the connection broke",
            Self::Redirect => "the redirect is not followed",
            Self::UntrustedLink => "the link is not followed",
            Self::UntrustedRealm => "the token service is not trusted",
            Self::Token => "the token service gave no token",
            Self::Credentials => "the credentials could not be had",
            Self::LimitExceeded => "the answer is too large",
            Self::Integrity => "the bytes are not what was asked for",
            Self::Unreadable => "the answer cannot be read",
            Self::Status => "the registry refused",
            Self::LocalIo => "reading or writing locally failed",
            Self::Protocol => "the answer breaks the protocol",
        }
    }
}

impl Error {
    /// Returns what the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the word by which a discovery speaks of such a failure.
    pub fn code(&self) -> ErrorCode {
        match self.kind() {
            ErrorKind::Timeout => ErrorCode::Timeout,
            ErrorKind::UntrustedLink => ErrorCode::UntrustedLink,
            ErrorKind::LimitExceeded => ErrorCode::Limit,
            ErrorKind::Integrity => ErrorCode::Integrity,
            ErrorKind::Unreadable => ErrorCode::Malformed,
            ErrorKind::UntrustedRealm | ErrorKind::Credentials => ErrorCode::Denied,
            // A token service that is down denies nothing.
            ErrorKind::Token => match self.response().map(|answer| answer.status().as_u16()) {
                Some(400..=403) => ErrorCode::Denied,
                Some(429) => ErrorCode::RateLimited,
                _ => ErrorCode::ServerError,
            },
            // The registry was reached; what it said leads nowhere.
            ErrorKind::Redirect | ErrorKind::Protocol => ErrorCode::ServerError,
            _ => ErrorCode::Network,
        }
    }

    /// Returns the registry that was spoken to.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Returns where the failed request went, without user information, query and fragment.
    pub fn url(&self) -> Option<&Url> {
        self.0.request.as_ref().map(|(_, url)| url)
    }

    /// Returns the answer that the error is about, if there was one.
    pub fn response(&self) -> Option<&Response> {
        self.0.response.as_ref()
    }

    /// Writes the error with its causes, each once: what a report or a log line shows.
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
