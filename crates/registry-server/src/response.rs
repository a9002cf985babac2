use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

pub(crate) fn json(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = (status, body).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Creates a header value from text that this server has made: a digest, a path of checked names, a
/// number.
pub(crate) fn value(text: impl AsRef<str>) -> HeaderValue {
    // Those cannot hold anything that is invalid in a header. If they did, the value would be empty
    // instead of wrong.
    HeaderValue::from_str(text.as_ref()).unwrap_or(HeaderValue::from_static(""))
}
