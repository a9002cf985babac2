use std::io;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use registry_server::{ApiError, ErrorCode};
use serde_json::Value;
use tokio::time::sleep;

use crate::connection::Connection;
use crate::fault::Action;
use crate::plan::Due;

/// The pause before a connection is broken, so that written bytes are sent first.
const SETTLE: Duration = Duration::from_millis(30);

impl Due {
    /// Answers instead of the registry, if the fault does that.
    pub(crate) async fn answer(&self) -> Option<Response> {
        match &self.fault.action {
            Action::Statuses(statuses) => {
                let status = statuses[self.used % statuses.len()];
                (!status.is_success()).then(|| status_response(status))
            }
            Action::Body {
                status,
                content_type,
                bytes,
            } => {
                let mut response = (*status, bytes.clone()).into_response();
                response.headers_mut().remove(header::CONTENT_TYPE);
                if let Ok(value) = HeaderValue::from_str(content_type)
                    && !value.is_empty()
                {
                    response.headers_mut().insert(header::CONTENT_TYPE, value);
                }
                Some(response)
            }
            Action::Redirect { to, status } => {
                let mut response = status.into_response();
                if let Ok(to) = HeaderValue::from_str(to) {
                    response.headers_mut().insert(header::LOCATION, to);
                }
                Some(response)
            }
            Action::Stall(None) => std::future::pending().await,
            _ => None,
        }
    }

    /// Cuts off the request body, if the fault does that.
    pub(crate) fn cut_request(&self, body: Body, connection: &Connection) -> Body {
        let Action::BreakUpload(bytes) = self.fault.action else {
            return body;
        };
        let start = (body.into_data_stream(), Some(bytes));
        let connection = connection.clone();
        let pieces = stream::unfold(start, move |(mut body, left)| {
            let connection = connection.clone();
            async move {
                let left = left?;
                if left > 0
                    && let Some(Ok(mut piece)) = body.next().await
                {
                    piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - piece.len() as u64;
                    return Some((io::Result::Ok(piece), (body, Some(left))));
                }
                connection.reset();
                Some((Err(io::ErrorKind::ConnectionReset.into()), (body, None)))
            }
        });
        Body::from_stream(pieces)
    }

    /// Changes the answer of the registry.
    pub(crate) async fn change(
        &self,
        response: Response,
        is_head: bool,
        connection: &Connection,
    ) -> Response {
        let connection = connection.clone();
        let response = match self.fault.action {
            Action::Reset(None) => {
                connection.reset();
                response
            }
            // There is no body, and the length is still that of a GET.
            _ if is_head => response,
            Action::Stall(Some(bytes)) => cut(response, bytes, stream::pending()).await,
            Action::Truncate(bytes) => {
                let end = stream::once(async {
                    sleep(SETTLE).await;
                    Err(io::ErrorKind::UnexpectedEof.into())
                });
                cut(response, bytes, end).await
            }
            Action::Reset(Some(bytes)) => {
                let end = stream::once(async move {
                    sleep(SETTLE).await;
                    connection.reset();
                    Err(io::ErrorKind::ConnectionReset.into())
                });
                cut(response, bytes, end).await
            }
            Action::Shorten(to) => {
                rewrite(response, |bytes| {
                    bytes.truncate(usize::try_from(to).unwrap_or(usize::MAX))
                })
                .await
            }
            Action::Corrupt(at) => {
                rewrite(response, |bytes| {
                    let last = bytes.len().saturating_sub(1);
                    let at = usize::try_from(at).unwrap_or(usize::MAX).min(last);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 0xff;
                    }
                })
                .await
            }
            Action::Extend => rewrite(response, |bytes| bytes.push(b'\n')).await,
            Action::Prefix(ref prefix) => {
                rewrite(response, |bytes| {
                    bytes.splice(..0, prefix.iter().copied());
                })
                .await
            }
            Action::Omit(ref entries) => omit(response, entries).await,
            Action::Encoded(ref codings) => {
                let names: Vec<_> = codings.iter().map(|coding| coding.name()).collect();
                let mut response = rewrite(response, |bytes| {
                    for coding in codings {
                        *bytes = coding.encode(bytes);
                    }
                })
                .await;
                if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
                    response
                        .headers_mut()
                        .insert(header::CONTENT_ENCODING, names);
                }
                response
            }
            Action::Slow(bytes_per_second) => slowed(response, bytes_per_second).await,
            _ => response,
        };
        match self.fault.action {
            // Headers and framing of a list of statuses apply to its errors only.
            Action::Statuses(_) => response,
            _ => self.finish(response, is_head),
        }
    }

    /// Applies headers and framing of the fault to an answer.
    pub(crate) fn finish(&self, mut response: Response, is_head: bool) -> Response {
        for (name, value) in &self.fault.headers {
            match value {
                Some(value) => response.headers_mut().insert(name, value.clone()),
                None => response.headers_mut().remove(name),
            };
        }
        if is_head {
            response
        } else {
            self.fault.framing.apply(response)
        }
    }
}

/// Refuses a body like nginx:
/// <https://nginx.org/en/docs/http/ngx_http_core_module.html#client_max_body_size>.
///
/// The body is still read, as nginx does for a while. Otherwise the reset of the connection could
/// overtake the answer.
pub(crate) async fn refuse_body(body: Body) -> Response {
    let mut body = body.into_data_stream();
    while let Some(Ok(_)) = body.next().await {}
    const PAGE: &str = "<html><head><title>413 Request Entity Too Large</title></head></html>\r\n";
    let html = [(header::CONTENT_TYPE, "text/html")];
    (StatusCode::PAYLOAD_TOO_LARGE, html, PAGE).into_response()
}

/// Creates an answer with a status and the envelope that registries send with it.
fn status_response(status: StatusCode) -> Response {
    let code = match status.as_u16() {
        401 => ErrorCode::Unauthorized,
        403 => ErrorCode::Denied,
        404 => ErrorCode::ManifestUnknown,
        405 | 406 | 415 | 501 => ErrorCode::Unsupported,
        413 | 416 => ErrorCode::SizeInvalid,
        429 => ErrorCode::TooManyRequests,
        _ => ErrorCode::Unknown,
    };
    ApiError::new(status, code, "this answer is a planned fault").into_response()
}

async fn collect(body: Body) -> Bytes {
    // The body is in memory, because a test registry reads from nowhere else.
    to_bytes(body, usize::MAX).await.unwrap_or_default()
}

/// Sends the first `bytes` bytes of the body, then `end`, with the length of the whole body.
async fn cut(
    response: Response,
    bytes: u64,
    end: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = collect(body).await;
    parts
        .headers
        .insert(header::CONTENT_LENGTH, body.len().into());
    let kept = usize::try_from(bytes).unwrap_or(usize::MAX).min(body.len());
    let start = stream::iter([Ok(body.slice(..kept))]);
    Response::from_parts(parts, Body::from_stream(start.chain(end)))
}

/// Omits entries from a list of tags or manifests.
pub(crate) async fn omit(response: Response, entries: &[String]) -> Response {
    rewrite(response, |bytes| {
        let Ok(mut document) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        for list in ["tags", "manifests"] {
            if let Some(list) = document.get_mut(list).and_then(Value::as_array_mut) {
                list.retain(|entry| {
                    let name = entry.get("digest").unwrap_or(entry).as_str();
                    name.is_none_or(|name| entries.iter().all(|left_out| left_out != name))
                });
            }
        }
        *bytes = document.to_string().into_bytes();
    })
    .await
}

async fn rewrite(response: Response, change: impl FnOnce(&mut Vec<u8>)) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut bytes = collect(body).await.to_vec();
    change(&mut bytes);
    parts
        .headers
        .insert(header::CONTENT_LENGTH, bytes.len().into());
    Response::from_parts(parts, Body::from(bytes))
}

async fn slowed(response: Response, bytes_per_second: u64) -> Response {
    const PIECES_PER_SECOND: u64 = 20;
    let (mut parts, body) = response.into_parts();
    let body = collect(body).await;
    parts
        .headers
        .insert(header::CONTENT_LENGTH, body.len().into());
    // At lower rates: single bytes, further apart.
    let piece = (bytes_per_second / PIECES_PER_SECOND).max(1);
    let pause = Duration::from_secs_f64(piece as f64 / bytes_per_second as f64);
    let piece = usize::try_from(piece).unwrap_or(usize::MAX);
    let pieces = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(pause).await;
        let now = rest.split_to(piece.min(rest.len()));
        Some((io::Result::Ok(now), rest))
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}
