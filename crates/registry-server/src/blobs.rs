use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::stream;
use http::{HeaderValue, Method, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use crate::call::{Call, parse_digest};
use crate::error::{ApiError, ErrorCode};
use crate::precondition::Precondition;
use crate::range::ByteRange;
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
            match ByteRange::requested(headers, size, &format!("\"{digest}\"")) {
                ByteRange::Whole => {}
                ByteRange::Part(part) => {
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                    let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                    response
                        .headers_mut()
                        .insert(header::CONTENT_RANGE, value(text));
                    range = part;
                }
                ByteRange::Unsatisfiable => {
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
