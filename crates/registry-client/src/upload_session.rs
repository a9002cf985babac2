use http::Method;
use http::header::{LOCATION, RANGE};
use url::Url;

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::origin::{resolve, same_origin};
use crate::response::Response;

/// An upload that a registry has opened.
#[derive(Clone, Debug)]
pub(crate) struct UploadSession {
    /// Where it goes on; changes with each answer.
    pub(crate) url: Url,
    /// Bytes that it has.
    pub(crate) offset: u64,
    /// `OCI-Chunk-Min-Length`: what each chunk but the last must have; 0 without one.
    pub(crate) min_chunk_bytes: u64,
    /// Where it went on after something had broken, as the registry said.
    pub(crate) resumed_at: Option<u64>,
}

impl UploadSession {
    /// Reads the answer to a POST (end-4a, end-11).
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

    /// Reads the answer to a chunk that ended before `end` (end-5).
    ///
    /// A `Range` that cannot be is passed over: the next chunk, or the digest at the end, shows what it was.
    pub(crate) fn advance(&mut self, answer: &Response, end: u64) -> Result<(), Failure> {
        if let Some(url) = location(answer, &Method::PATCH)? {
            self.url = url;
        }
        self.offset = received(answer)
            .filter(|received| (self.offset + 1..end).contains(received))
            .unwrap_or(end);
        Ok(())
    }

    /// Reads the answer to the question what the session holds of a blob of `size` bytes (end-13); `None` where
    /// that is nothing to go on from.
    pub(crate) fn found(mut self, answer: &Response, size: u64) -> Option<Self> {
        if !answer.status().is_success() {
            return None;
        }
        if let Some(url) = location(answer, &Method::GET).ok()? {
            self.url = url;
        }
        // `0-0` is what distribution answers before the first byte.
        self.offset = received(answer).filter(|received| (2..=size).contains(received))?;
        self.resumed_at = Some(self.offset);
        Some(self)
    }
}

/// Reads where a session goes on. Only the registry's own origin is gone to.
fn location(answer: &Response, method: &Method) -> Result<Option<Url>, Failure> {
    let Some(location) = answer.header(LOCATION.as_str()) else {
        return Ok(None);
    };
    let fail = |text: String| {
        let failure = Failure::new(ErrorKind::UntrustedLink, text);
        Err(failure.at(method, answer.url()).answered(answer.clone()))
    };
    let Some(url) = resolve(answer.url(), location) else {
        return fail("the upload session is at no plain web address".into());
    };
    if !same_origin(&url, answer.url()) {
        return fail(format!(
            "the upload session is at {}, not at the registry",
            url.origin().ascii_serialization()
        ));
    }
    Ok(Some(url))
}

/// Reads `Range: 0-<last byte>`; Docker's registry once wrote the unit as well.
fn received(answer: &Response) -> Option<u64> {
    let range = answer.header(RANGE.as_str())?.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then(|| last.checked_add(1)).flatten()
}
