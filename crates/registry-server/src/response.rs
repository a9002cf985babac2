use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

pub(crate) fn json(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = (status, body).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Makes a header value of text that this server made: a digest, a path of checked names, a number.
pub(crate) fn value(text: impl AsRef<str>) -> HeaderValue {
    // What cannot stand in a header is left out instead of sent wrong; the types above have none of it.
    HeaderValue::from_str(text.as_ref()).unwrap_or(HeaderValue::from_static(""))
}
