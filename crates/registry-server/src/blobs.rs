use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use oci_content::Digest;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use crate::call::{Call, parse_digest};
use crate::error::{ApiError, ErrorCode};
use crate::precondition::Precondition;
use crate::response::value;
use crate::shared::Shared;
use crate::store::{Blob, BlobSource, StoreErrorKind};

/// end-2: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-blobs>
pub(crate) async fn read(shared: &Shared, call: Call, digest: &str) -> Result<Response, ApiError> {
    let digest = parse_digest(digest)?;
    let (repository, wanted) = (call.repository.clone(), digest.clone());
    let asks = call.parts.method == Method::HEAD;
    let place = shared.file_place().await?;
    let blob = shared
        .store(move |store| match store.blob(&repository, &wanted) {
            // A client that checks for a blob pushes it if it is missing, which repairs it.
            Err(error) if asks && error.kind() == StoreErrorKind::Damaged => Ok(None),
            found => found,
        })
        .await?;
    let Some(blob) = blob else {
        let message = format!("there is no blob {digest}");
        return Err(shared
            .unknown(call.repository, ErrorCode::BlobUnknown, message)
            .await);
    };
    let headers = &call.parts.headers;
    let size = blob.size();
    let mut response = Response::new(Body::empty());
    let mut range = 0..size;
    if Precondition::from_headers(headers).not_modified(Some(&digest)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        if call.parts.method == Method::GET {
            match requested_range(headers, size, &digest) {
                RangeRequest::Whole => {}
                RangeRequest::Part(part) => {
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                    let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                    response
                        .headers_mut()
                        .insert(header::CONTENT_RANGE, value(text));
                    range = part;
                }
                RangeRequest::Unsatisfiable => {
                    let message = format!("the blob has {size} bytes");
                    return Err(ApiError::new(
                        StatusCode::RANGE_NOT_SATISFIABLE,
                        ErrorCode::SizeInvalid,
                        message,
                    )
                    .header(header::CONTENT_RANGE, value(format!("bytes */{size}"))));
                }
            }
        }
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, (range.end - range.start).into());
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        if call.parts.method == Method::GET {
            *response.body_mut() = body(blob, range, place);
        }
    }
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert("docker-content-digest", value(digest.to_string()));
    headers.insert(header::ETAG, value(format!("\"{digest}\"")));
    Ok(response)
}

/// end-10: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#deleting-blobs>
pub(crate) async fn remove(
    shared: &Shared,
    call: Call,
    digest: &str,
) -> Result<Response, ApiError> {
    let digest = parse_digest(digest)?;
    let (repository, wanted) = (call.repository.clone(), digest.clone());
    let removed = shared
        .store(move |store| store.remove_blob(&repository, &wanted))
        .await?;
    if !removed {
        let message = format!("there is no blob {digest}");
        return Err(shared
            .unknown(call.repository, ErrorCode::BlobUnknown, message)
            .await);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

#[derive(Debug, PartialEq, Eq)]
enum RangeRequest {
    Whole,
    Part(Range<u64>),
    Unsatisfiable,
}

/// Parses `Range` by <https://www.rfc-editor.org/rfc/rfc9110#section-14.2>. A header that is not
/// understood is ignored, and so are several ranges.
fn requested_range(headers: &HeaderMap, size: u64, digest: &Digest) -> RangeRequest {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return RangeRequest::Whole;
    };
    // A client that resumes names the entity that it has a part of. A blob never changes, so only
    // its own tag matches.
    if text(header::IF_RANGE).is_some_and(|tag| tag != format!("\"{digest}\"")) {
        return RangeRequest::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else {
        return RangeRequest::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => return RangeRequest::Whole,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return RangeRequest::Whole,
    };
    if part.is_empty() {
        RangeRequest::Unsatisfiable
    } else {
        RangeRequest::Part(part)
    }
}

/// The bytes that are read from a file at once, which is the most that an answer holds in memory.
const READ_BYTES: u64 = 256 * 1024;

fn body(blob: Blob, range: Range<u64>, place: OwnedSemaphorePermit) -> Body {
    if let BlobSource::Memory(_) = &blob.source {
        // The range is within the size of the blob, so this read cannot fail.
        return blob.read(range).map_or_else(|_| Body::empty(), Body::from);
    }
    // Held while the file is open.
    let place = Arc::new(place);
    Body::from_stream(stream::try_unfold(range, move |range| {
        let (blob, place) = (blob.clone(), Arc::clone(&place));
        async move {
            let _place = place;
            if range.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let end = range.end.min(range.start.saturating_add(READ_BYTES));
            let chunk = spawn_blocking(move || blob.read(range.start..end));
            Ok(Some((
                chunk.await.map_err(io::Error::other)??,
                end..range.end,
            )))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        use RangeRequest::{Part, Unsatisfiable, Whole};
        let digest = Digest::of(b"");
        for (text, expected) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=2-", Part(2..10)),
            ("bytes=2-5", Part(2..6)),
            ("bytes=2-50", Part(2..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-30", Part(0..10)),
            ("bytes=9-99999999999999999999999", Part(9..10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=5-2", Whole),
            ("bytes=0-1,4-5", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("lines=1-2", Whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().unwrap());
            assert_eq!(requested_range(&headers, 10, &digest), expected, "{text}");
            headers.insert(header::IF_RANGE, "\"other\"".parse().unwrap());
            assert_eq!(requested_range(&headers, 10, &digest), Whole, "{text}");
        }
        assert_eq!(requested_range(&HeaderMap::new(), 10, &digest), Whole);
    }
}
