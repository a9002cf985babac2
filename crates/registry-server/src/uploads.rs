use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use oci_content::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::call::{Call, parse_repository};
use crate::error::{ApiError, ErrorCode};
use crate::response::value;
use crate::sessions::{Progress, unknown};
use crate::shared::{Shared, run};
use crate::store::Repository;
use crate::traffic::broken;

/// end-4a, end-4b and end-11:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs>
pub(crate) async fn start(shared: &Shared, call: Call, body: Body) -> Result<Response, ApiError> {
    if let Some(digest) = call.query.digest("mount")? {
        let from = match call.query.first("from") {
            Some(name) => Some(
                Repository::new(parse_repository(name)?)
                    .with_namespace(call.repository.namespace().cloned()),
            ),
            None => None,
        };
        let (repository, wanted) = (call.repository.clone(), digest.clone());
        let mounted = shared
            .store(move |store| store.mount(&repository, &wanted, from.as_ref()))
            .await?;
        if mounted {
            return Ok(created(&call.repository, &digest));
        }
    }
    let upload = shared.store(|store| store.upload()).await?;
    if let Some(digest) = call.query.digest("digest")? {
        let progress = Progress {
            upload: Some(upload),
        };
        let progress = Arc::new(AsyncMutex::new(progress)).lock_owned().await;
        let progress = receive(shared, progress, &call.parts.headers, body).await?;
        return complete(shared, progress, call.repository, digest).await;
    }
    let id = shared.sessions.open(&call, upload);
    let mut response = progress_response(StatusCode::ACCEPTED, &call.repository, &id, 0);
    if let Some(bytes) = shared.options.chunk_min_bytes {
        response
            .headers_mut()
            .insert("oci-chunk-min-length", bytes.into());
    }
    Ok(response)
}

/// end-13:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-a-blob-in-chunks>
pub(crate) fn status(shared: &Shared, call: &Call, id: &str) -> Result<Response, ApiError> {
    let upload = shared.sessions.find(call, id)?;
    // The answer would be outdated while a chunk is being received.
    let Ok(progress) = upload.try_lock() else {
        let message = "a chunk of this upload is being received";
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            ErrorCode::BlobUploadInvalid,
            message,
        ));
    };
    let written = progress.written();
    Ok(progress_response(
        StatusCode::NO_CONTENT,
        &call.repository,
        id,
        written,
    ))
}

/// end-5:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-a-blob-in-chunks>
pub(crate) async fn append(
    shared: &Shared,
    call: Call,
    id: &str,
    body: Body,
) -> Result<Response, ApiError> {
    let progress = shared.sessions.find(&call, id)?;
    let progress = progress.lock_owned().await;
    check_range(&call, &progress, id)?;
    let progress = receive(shared, progress, &call.parts.headers, body).await?;
    let written = progress.written();
    Ok(progress_response(
        StatusCode::ACCEPTED,
        &call.repository,
        id,
        written,
    ))
}

/// end-6: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs>
pub(crate) async fn finish(
    shared: &Shared,
    call: Call,
    id: &str,
    body: Body,
) -> Result<Response, ApiError> {
    let progress = shared.sessions.find(&call, id)?;
    let Some(digest) = call.query.digest("digest")? else {
        let message = "the query names no digest";
        return Err(ApiError::bad_request(ErrorCode::DigestInvalid, message));
    };
    let progress = progress.lock_owned().await;
    check_range(&call, &progress, id)?;
    let progress = receive(shared, progress, &call.parts.headers, body).await?;
    // The upload ends here, whether it succeeds or not.
    shared.sessions.close(id);
    complete(shared, progress, call.repository, digest).await
}

/// Cancels a session, as in distribution and in the next version of the specification:
/// <https://github.com/opencontainers/distribution-spec/blob/967efdc/spec.md#cancel-a-blob-upload>
pub(crate) fn cancel(shared: &Shared, call: &Call, id: &str) -> Result<Response, ApiError> {
    shared.sessions.find(call, id)?;
    shared.sessions.close(id);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Refuses a chunk that is not the next one, or whose length differs from its range.
fn check_range(call: &Call, progress: &Progress, id: &str) -> Result<(), ApiError> {
    let headers = &call.parts.headers;
    let Some(range) = headers.get(header::CONTENT_RANGE) else {
        return Ok(());
    };
    let written = progress.written();
    let parsed = range.to_str().ok().and_then(|range| {
        // Docker clients send the unit and a total, which are not in the specification.
        let range = range
            .trim()
            .trim_start_matches("bytes")
            .trim_start_matches(['=', ' ']);
        let (first, last) = range.split('/').next()?.split_once('-')?;
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        Some((first, last.checked_sub(first)?.checked_add(1)?))
    });
    let Some((first, length)) = parsed else {
        let message = "Content-Range is not of the form `<start>-<end>`";
        return Err(ApiError::bad_request(ErrorCode::BlobUploadInvalid, message));
    };
    if first != written {
        let message = format!("the next chunk begins at byte {written}, not at {first}");
        let answer = ApiError::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            ErrorCode::BlobUploadInvalid,
            message,
        );
        return Err(answer
            .header(header::LOCATION, value(location(&call.repository, id)))
            .header(header::RANGE, value(range_of(written))));
    }
    match content_length(headers) {
        Some(announced) if announced != length => {
            let message = format!("the range has {length} bytes, the body {announced}");
            Err(ApiError::bad_request(ErrorCode::SizeInvalid, message))
        }
        _ => Ok(()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Adds the body to the upload. Bytes that arrived before a connection broke are kept, so that the
/// client can resume.
async fn receive(
    shared: &Shared,
    mut progress: OwnedMutexGuard<Progress>,
    headers: &HeaderMap,
    body: Body,
) -> Result<OwnedMutexGuard<Progress>, ApiError> {
    let limit = shared.options.max_blob_bytes;
    let too_large = || {
        let message = format!("a blob may have at most {limit} bytes");
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::SizeInvalid,
            message,
        )
    };
    let announced = content_length(headers).unwrap_or(0);
    if progress.written().saturating_add(announced) > limit {
        return Err(too_large());
    }
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk: Bytes = chunk.map_err(|error| broken(&error, ErrorCode::BlobUploadInvalid))?;
        if progress.written().saturating_add(chunk.len() as u64) > limit {
            return Err(too_large());
        }
        let (returned, written) = run(shared.store.blocks(), move || {
            let upload = progress.upload.as_mut();
            let written = upload.map(|upload| upload.write(&chunk));
            if !matches!(written, Some(Ok(()))) {
                progress.upload = None;
            }
            (progress, written)
        })
        .await?;
        progress = returned;
        written.ok_or_else(|| unknown("that failed before"))??;
    }
    Ok(progress)
}

async fn complete(
    shared: &Shared,
    mut progress: OwnedMutexGuard<Progress>,
    repository: Repository,
    digest: Digest,
) -> Result<Response, ApiError> {
    let Some(upload) = progress.upload.take() else {
        return Err(unknown("that failed before"));
    };
    drop(progress);
    let response = created(&repository, &digest);
    run(shared.store.blocks(), move || {
        upload.finish(&repository, &digest)
    })
    .await??;
    Ok(response)
}

fn location(repository: &Repository, id: &str) -> String {
    let namespace = repository.namespace();
    let query = namespace.map_or_else(String::new, |host| format!("?ns={host}"));
    format!("/v2/{}/blobs/uploads/{id}{query}", repository.name())
}

/// The value of `Range`. It cannot express an empty range; distribution also answers `0-0` before
/// the first byte.
fn range_of(written: u64) -> String {
    format!("0-{}", written.saturating_sub(1))
}

fn progress_response(
    status: StatusCode,
    repository: &Repository,
    id: &str,
    written: u64,
) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(location(repository, id)));
    headers.insert(header::RANGE, value(range_of(written)));
    headers.insert("docker-upload-uuid", value(id));
    response
}

fn created(repository: &Repository, digest: &Digest) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    let path = format!("/v2/{}/blobs/{digest}", repository.name());
    headers.insert(header::LOCATION, value(path));
    headers.insert("docker-content-digest", value(digest.to_string()));
    response
}
