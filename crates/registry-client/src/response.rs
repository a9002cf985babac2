use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use oci_content::Digest;
use url::Url;

use crate::answer::{AnswerParts, ReferrersAnswer, ReferrersTagAnswer};
use crate::envelope;
use crate::origin::without_secrets;
use crate::rate_limit::{self, RateLimit};
use crate::retry;

/// The final answer to a call, whatever its status.
///
/// - The body of a 2xx answer is complete and within the limit of its call. Any other body is cut
///   at 64 KiB.
/// - A body is only verified where the method says so.
/// - `Debug` shows neither headers nor body.
#[derive(Clone)]
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The content coding that the body still has.
    pub(crate) coding: Option<String>,
    pub(crate) url: Url,
    pub(crate) foreign: bool,
    pub(crate) requests: u32,
    pub(crate) elapsed: Duration,
}

impl Response {
    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the first header with that name, if it is visible ASCII. It is not cut: use
    /// [`bounded`](oci_content::bounded) for messages.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body, which is empty for HEAD.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the URL of the answer, after redirects. Its query may contain a signature: print
    /// [`Response::display_url`] instead.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns [`Response::url`] without user information, query and fragment.
    pub fn display_url(&self) -> Url {
        without_secrets(&self.url)
    }

    /// Returns whether a redirect led to an origin (scheme, host or port) other than the
    /// registry's.
    pub fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Returns the number of HTTP requests of the call, including retries, redirect hops, replays
    /// after a 401 and token requests. It is 0 if a closed rate limit gate returned the answer that
    /// had closed it.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Returns how long the call took, including waits.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Returns the media type of `Content-Type` in lower case, without parameters.
    pub fn media_type(&self) -> Option<String> {
        let value = self.header(CONTENT_TYPE.as_str())?;
        let media_type = value.split(';').next().unwrap_or(value).trim();
        (!media_type.is_empty()).then(|| media_type.to_ascii_lowercase())
    }

    /// Returns what the answer to a request for the referrers of a subject means.
    pub fn referrers_answer(&self) -> ReferrersAnswer {
        let codes = self.error_codes();
        ReferrersAnswer::decide(self.parts(&codes))
    }

    /// Returns what the answer to a request for a referrers tag means.
    pub fn referrers_tag_answer(&self) -> ReferrersTagAnswer {
        ReferrersTagAnswer::decide(self.parts(&[]))
    }

    fn parts<'a>(&'a self, error_codes: &'a [String]) -> AnswerParts<'a> {
        let content_type = self.header(CONTENT_TYPE.as_str());
        AnswerParts {
            foreign: self.foreign,
            ..AnswerParts::new(self.status.as_u16(), content_type, error_codes, &self.body)
        }
    }

    /// Returns the error codes of the body in order, as written; empty if there are none.
    pub fn error_codes(&self) -> Vec<String> {
        envelope::codes(&self.body)
    }

    /// Returns the first error message of the body, at most 256 characters, without control
    /// characters.
    pub fn error_message(&self) -> Option<String> {
        envelope::message(&self.body)
    }

    /// Returns how long the server asks to wait, from when it answered: `Retry-After`, else for a
    /// 429 the reset of its rate limit. A header that is neither seconds nor a date, or asks for
    /// more than a day, is ignored.
    pub fn retry_after(&self) -> Option<Duration> {
        let asked = retry::retry_after(&self.headers).filter(rate_limit::is_plausible);
        asked.or_else(|| {
            let throttled = self.status == StatusCode::TOO_MANY_REQUESTS;
            throttled.then(|| self.rate_limit()?.reset).flatten()
        })
    }

    /// Returns the rate limit, if the registry sent one.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        RateLimit::of(&self.headers)
    }

    /// Returns the digest in `OCI-Subject`, with which a registry confirms that it processed the
    /// `subject` of a pushed manifest:
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>
    pub fn oci_subject(&self) -> Option<Digest> {
        self.header("oci-subject")?.trim().parse().ok()
    }

    /// Returns whether `OCI-Filters-Applied` names `filter`:
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
    pub fn filter_applied(&self, filter: &str) -> bool {
        self.headers
            .get_all("oci-filters-applied")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|name| name.trim().eq_ignore_ascii_case(filter))
    }

    /// Returns `Docker-Content-Digest`, which is only a claim of the registry: hash the body to
    /// verify it.
    pub fn content_digest(&self) -> Option<Digest> {
        self.header("docker-content-digest")?.trim().parse().ok()
    }

    /// Returns `Content-Length`, which for a HEAD is the size of what a GET would return.
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("url", &self.display_url().as_str())
            .field("foreign", &self.foreign)
            .field("body_bytes", &self.body.len())
            .field("requests", &self.requests)
            .field("elapsed", &self.elapsed)
            .finish_non_exhaustive()
    }
}
