use std::error::Error as StdError;
use std::sync::Arc;

use http::Method;
use oci_content::{MAX_MESSAGE_CHARS, Registry, bounded};
use url::Url;

use crate::error::{BoxError, Error, ErrorKind, Inner};
use crate::origin::without_secrets;
use crate::response::Response;

/// A failed request, before it is known whether the call tries again. It becomes an [`Error`] if
/// not.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
    pub(crate) request: Option<Box<(Method, Url)>>,
    pub(crate) response: Option<Box<Response>>,
    pub(crate) source: Option<BoxError>,
    /// Whether nothing reached the server, so that even a request with side effects may be sent
    /// again.
    pub(crate) unsent: bool,
    /// Whether the same request may succeed later.
    pub(crate) transient: bool,
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

    /// Returns whether the same request can be sent again and may then succeed.
    pub(crate) fn worth_repeating(&self, idempotent: bool) -> bool {
        self.transient && (self.unsent || idempotent)
    }

    pub(crate) fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
}

/// Classifies an error of reqwest. The URL is removed, since reqwest prints its query.
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
            // The code of getaddrinfo is lost in `io::Error`; these are the messages for EAI_AGAIN
            // in glibc and musl. Any other failure means that the name does not exist.
            let text = oci_content::with_causes(&error);
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
