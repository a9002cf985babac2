use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::Method;
use oci_content::{ErrorCode, MAX_FOREIGN_CHARS, MAX_MESSAGE_CHARS, Registry, bounded};
use url::Url;

use crate::response::Response;

/// Why a call has no usable answer.
///
/// An answer that is not 2xx is no error but a [`Response`]; see the crate's documentation.
/// Cheap to clone. Neither `Display` nor `Debug` shows a query, a credential or a header.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    registry: Registry,
    request: Option<(Method, Url)>,
    text: String,
    response: Option<Response>,
    source: Option<BoxError>,
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
    pub(crate) fn new(registry: &Registry, failure: Failure) -> Self {
        Self(Arc::new(Inner {
            kind: failure.kind,
            registry: registry.clone(),
            request: failure
                .request
                .map(|request| (request.0, without_secrets(&request.1))),
            text: bounded(&failure.text, MAX_MESSAGE_CHARS).into_owned(),
            response: failure.response.map(|response| *response),
            source: failure.source,
        }))
    }

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

/// An [`Error`] in the making: what went wrong in one request, before the call knows whether to try again.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
    pub(crate) request: Option<Box<(Method, Url)>>,
    pub(crate) response: Option<Box<Response>>,
    pub(crate) source: Option<BoxError>,
    /// Nothing reached the server, so that even a request with an effect may be sent again.
    pub(crate) unsent: bool,
    /// The same request may succeed later.
    pub(crate) transient: bool,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            request: None,
            response: None,
            source: None,
            unsent: false,
            transient: false,
        }
    }

    pub(crate) fn at(mut self, method: &Method, url: &Url) -> Self {
        self.request
            .get_or_insert_with(|| Box::new((method.clone(), url.clone())));
        self
    }

    pub(crate) fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn answered(mut self, response: Response) -> Self {
        self.response = Some(Box::new(response));
        self
    }

    /// Returns whether the same request may be sent again and may then succeed.
    pub(crate) fn worth_repeating(&self, idempotent: bool) -> bool {
        self.transient && (self.unsent || idempotent)
    }

    pub(crate) fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
}

/// Tells what broke a request. The URL is taken out of the error, since reqwest prints its query.
impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(refused) = find_cause::<crate::realm::Refused>(&error) {
            return Self::new(ErrorKind::UntrustedRealm, "").caused_by(refused.clone());
        }
        let mut text = None;
        let (kind, transient) = if let Some(tls) = find_cause::<rustls::Error>(&error) {
            text = crate::tls::describe(tls);
            (ErrorKind::Tls, false)
        } else if error.is_dns() {
            // getaddrinfo's code does not survive in `io::Error`; these are the texts of EAI_AGAIN in
            // glibc and musl. Any other failure means that the name does not exist.
            let text = chain_text(&error);
            let again = text.contains("Temporary failure") || text.contains("Try again");
            (ErrorKind::Dns, again)
        } else if error.is_timeout() {
            (ErrorKind::Timeout, true)
        } else if error.is_connect() {
            (ErrorKind::Connect, true)
        } else {
            (ErrorKind::Reset, true)
        };
        let mut failure = Self::new(kind, text.unwrap_or_default());
        failure.unsent = error.is_connect() || error.is_dns();
        failure.transient = transient;
        failure.caused_by(error)
    }
}

fn find_cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `io::Error::source` skips the error that it wraps.
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
            && let Some(found) = find_cause(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn chain_text(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// Returns the URL without what can hold a secret: user information, query, fragment.
pub(crate) fn without_secrets(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only on URLs without a host, which hold no user information.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}
