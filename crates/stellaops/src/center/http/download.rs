use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use registry_server::ByteRange;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::error::{ApiError, ErrorCode};
use super::query::Query;
use super::runs::find;
use super::{Api, blocking};
use crate::center::model::RunOutput;

/// The bytes that are read from a file at once, which is the most that an answer holds in memory.
const READ_BYTES: u64 = 256 * 1024;

/// Downloads the bundle of a run
///
/// A single range is answered with 206. `ETag` is the digest of the file, so `If-Range` resumes only the same file.
#[utoipa::path(
    get, path = "/v1/exports/runs/{runId}/download", operation_id = "downloadBundle", tag = "files",
    params(
        ("runId" = String, Path, pattern = "^[0-9]{8}-[0-9]{6,18}$"),
        ("output" = Option<u32>, Query, minimum = 1, maximum = 100000, description = "The number of the volume; 1 by default"),
        ("Range" = Option<String>, Header, description = "`bytes=FIRST-LAST`"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "`If-None-Match` has its digest"),
        (status = 416, description = "The range does not exist", body = super::error::ErrorBody),
    ),
)]
pub(crate) async fn bundle(
    State(api): State<Api>,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Response, ApiError> {
    let query = Query::parse(&parts.uri, &["output"])?;
    let number: u32 = query.value("output")?.unwrap_or(1);
    let Some(before) = number.checked_sub(1) else {
        return Err(ApiError::invalid("output", "volumes are counted from 1"));
    };
    file(&api, &id, "bundle", before as usize, &parts).await
}

/// Downloads `manifest.yaml` of the bundle of a run
#[utoipa::path(
    get, path = "/v1/exports/runs/{runId}/manifest", operation_id = "downloadManifest", tag = "files",
    params(("runId" = String, Path, pattern = "^[0-9]{8}-[0-9]{6,18}$")),
    responses((status = 200, body = Object, content_type = "application/yaml")),
)]
pub(crate) async fn manifest(
    State(api): State<Api>,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Response, ApiError> {
    Query::parse(&parts.uri, &[])?;
    file(&api, &id, "manifest", 0, &parts).await
}

/// Downloads the report of a run
#[utoipa::path(
    get, path = "/v1/exports/runs/{runId}/report", operation_id = "downloadReport", tag = "files",
    params(("runId" = String, Path, pattern = "^[0-9]{8}-[0-9]{6,18}$")),
    responses((status = 200, body = Object, content_type = "application/json")),
)]
pub(crate) async fn report(
    State(api): State<Api>,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Response, ApiError> {
    Query::parse(&parts.uri, &[])?;
    file(&api, &id, "report", 0, &parts).await
}

/// Answers with the file of a run that comes after this many of its kind.
async fn file(
    api: &Api,
    id: &str,
    kind: &'static str,
    before: usize,
    request: &Parts,
) -> Result<Response, ApiError> {
    let run = find(api, id).await?;
    let (method, headers) = (&request.method, &request.headers);
    let mut outputs = run.outputs.iter().filter(|output| output.kind == kind);
    let Some(output) = outputs.nth(before).cloned() else {
        let message = format!("the run {} has no such {kind}", run.id);
        return Err(ApiError::not_found(message));
    };
    let Ok(place) = Arc::clone(&api.files).try_acquire_owned() else {
        return Err(ApiError::quota("too many downloads at once"));
    };
    let own = output.clone();
    let file = blocking(move || open(&own)).await?;
    let size = output.size;
    let tag = format!("\"{}\"", output.sha256);
    let mut response = Response::new(Body::empty());
    let mut range = 0..size;
    if super::matches(headers, &tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        match ByteRange::requested(headers, size, &tag) {
            ByteRange::Part(part) if method == Method::GET => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                set(&mut response, "content-range", &text);
                range = part;
            }
            ByteRange::Unsatisfiable if method == Method::GET => {
                let message = format!("Range: the file has {size} bytes");
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                let error = ApiError::new(status, ErrorCode::Range, message);
                let all = HeaderValue::try_from(format!("bytes */{size}"));
                let all = all.map_err(|error| ApiError::internal(&error))?;
                return Err(error.header(header::CONTENT_RANGE, all));
            }
            _ => {}
        }
        let length = (range.end - range.start).into();
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        let content_type = match kind {
            "manifest" => "application/yaml",
            "report" => "application/json",
            _ => "application/octet-stream",
        };
        set(&mut response, "content-type", content_type);
        set(&mut response, "content-disposition", &disposition(&output));
        if let Some(digest) = representation_digest(&output.sha256) {
            set(&mut response, "repr-digest", &digest);
        }
        if method == Method::GET {
            *response.body_mut() = body(file, range, place);
        }
    }
    set(&mut response, "accept-ranges", "bytes");
    set(&mut response, "etag", &tag);
    set(&mut response, "cache-control", "private, no-cache");
    Ok(response)
}

/// Opens a file that is still the one that the run made, as far as its size shows.
fn open(output: &RunOutput) -> Result<File, ApiError> {
    let gone = |reason: String| {
        let message = format!("{}: {reason}", output.path.display());
        Err(ApiError::not_found(message))
    };
    let file = match File::open(&output.path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return gone("it is not there any more; `keep` of the job removes old ones".to_owned());
        }
        Err(error) => return Err(ApiError::internal(&error)),
    };
    let metadata = file
        .metadata()
        .map_err(|error| ApiError::internal(&error))?;
    if !metadata.is_file() || metadata.len() != output.size {
        return gone("it is not the file that the run made".to_owned());
    }
    Ok(file)
}

fn body(file: File, range: Range<u64>, place: OwnedSemaphorePermit) -> Body {
    let file = Arc::new(file);
    // Held while the file is open.
    let place = Arc::new(place);
    Body::from_stream(stream::try_unfold(range, move |range| {
        let (file, place) = (Arc::clone(&file), Arc::clone(&place));
        async move {
            let _place = place;
            if range.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let end = range.end.min(range.start.saturating_add(READ_BYTES));
            let length = usize::try_from(end - range.start).unwrap_or_default();
            let chunk = spawn_blocking(move || {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, range.start)?;
                Ok::<_, io::Error>(Bytes::from(bytes))
            });
            let chunk = chunk.await.map_err(io::Error::other)??;
            Ok(Some((chunk, end..range.end)))
        }
    }))
}

/// Sets a header to text that has no line ends.
fn set(response: &mut Response, name: &'static str, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, value);
    }
}

/// Returns the name under which a file is saved: <https://www.rfc-editor.org/rfc/rfc6266>.
fn disposition(output: &RunOutput) -> String {
    let name = output.path.file_name().unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-+".contains(*c);
    let plain: String = name
        .to_string_lossy()
        .chars()
        .map(|c| if is_plain(&c) { c } else { '_' })
        .collect();
    format!("attachment; filename=\"{plain}\"")
}

/// Returns `Repr-Digest` for a digest in hexadecimal: <https://www.rfc-editor.org/rfc/rfc9530#section-3>.
fn representation_digest(sha256: &str) -> Option<String> {
    let hex = sha256.strip_prefix("sha256:")?;
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes = (0..hex.len())
        .step_by(2)
        .map(byte)
        .collect::<Option<Vec<_>>>()?;
    Some(format!("sha-256=:{}:", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_saved_under_names_without_surprises() {
        let named = |path: &str| {
            disposition(&RunOutput {
                kind: "bundle".to_owned(),
                path: path.into(),
                sha256: String::new(),
                size: 0,
            })
        };
        assert_eq!(
            named("/srv/nightly-17.tgz.001"),
            "attachment; filename=\"nightly-17.tgz.001\""
        );
        assert_eq!(named("/srv/a\"b\n;é"), "attachment; filename=\"a_b___\"");
    }

    #[test]
    fn a_digest_is_also_given_as_http_spells_it() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(
            representation_digest(empty).as_deref(),
            Some("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:")
        );
        assert_eq!(representation_digest("sha256:x"), None);
        assert_eq!(representation_digest("é"), None);
    }
}
