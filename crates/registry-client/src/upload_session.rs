use http::Method;
use http::header::{LOCATION, RANGE};
use url::Url;

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::origin::{resolve, same_origin};
use crate::response::Response;

/// An upload session of a registry.
#[derive(Clone, Debug)]
pub(crate) struct UploadSession {
    /// The URL for the next request, which changes with each answer.
    pub(crate) url: Url,
    /// The number of bytes that the registry has.
    pub(crate) offset: u64,
    /// `OCI-Chunk-Min-Length`: the minimum size of all chunks but the last; 0 if there is none.
    pub(crate) min_chunk_bytes: u64,
    /// The offset at which it was resumed, if it was.
    pub(crate) resumed_at: Option<u64>,
}

impl UploadSession {
    /// Parses the answer to a POST (end-4a, end-11).
    pub(crate) fn opened(answer: &Response) -> Result<Self, Failure> {
        let Some(url) = location(answer, &Method::POST)? else {
            let text = "the upload session has no Location";
            let failure = Failure::new(ErrorKind::Protocol, text);
            return Err(failure
                .at(&Method::POST, answer.url())
                .answered(answer.clone()));
        };
        let min_chunk_bytes = answer
            .header("oci-chunk-min-length")
            .and_then(|bytes| bytes.trim().parse().ok())
            .unwrap_or(0);
        Ok(Self {
            url,
            offset: 0,
            min_chunk_bytes,
            resumed_at: None,
        })
    }

    /// Parses the answer to a chunk that ended before `end` (end-5).
    ///
    /// An impossible `Range` is ignored: the next chunk, or the digest at the end, shows what is
    /// wrong.
    pub(crate) fn advance(&mut self, answer: &Response, end: u64) -> Result<(), Failure> {
        if let Some(url) = location(answer, &Method::PATCH)? {
            self.url = url;
        }
        self.offset = received(answer)
            .filter(|received| (self.offset + 1..end).contains(received))
            .unwrap_or(end);
        Ok(())
    }

    /// Parses the answer to a status request for the upload of `size` bytes (end-13); `None` if
    /// there is nothing to resume from.
    pub(crate) fn found(mut self, answer: &Response, size: u64) -> Option<Self> {
        if !answer.status().is_success() {
            return None;
        }
        if let Some(url) = location(answer, &Method::GET).ok()? {
            self.url = url;
        }
        // Distribution answers `0-0` before the first byte.
        self.offset = received(answer).filter(|received| (2..=size).contains(received))?;
        self.resumed_at = Some(self.offset);
        Some(self)
    }
}

/// Parses the URL of a session. It must be at the origin of the registry.
fn location(answer: &Response, method: &Method) -> Result<Option<Url>, Failure> {
    let Some(location) = answer.header(LOCATION.as_str()) else {
        return Ok(None);
    };
    let fail = |text: String| {
        let failure = Failure::new(ErrorKind::UntrustedLink, text);
        Err(failure.at(method, answer.url()).answered(answer.clone()))
    };
    let Some(url) = resolve(answer.url(), location) else {
        return fail("the upload session is not at a plain web address".into());
    };
    if !same_origin(&url, answer.url()) {
        return fail(format!(
            "the upload session is at {}, not at the registry",
            url.origin().ascii_serialization()
        ));
    }
    Ok(Some(url))
}

/// Parses `Range: 0-<last byte>`; older versions of Docker's registry include the unit.
fn received(answer: &Response) -> Option<u64> {
    let range = answer.header(RANGE.as_str())?.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then(|| last.checked_add(1)).flatten()
}
