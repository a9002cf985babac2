use axum::body::Body;
use axum::response::Response;
use http::{Version, header};

/// How the end of a body is told: <https://www.rfc-editor.org/rfc/rfc9112#section-6.3>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// By `Content-Length`.
    #[default]
    Length,
    /// In chunks, without a length.
    Chunked,
    /// By the end of the connection, as HTTP/1.0 does it.
    UntilClose,
}

impl Framing {
    /// Frames a body that has its `Content-Length` already.
    pub(crate) fn apply(self, response: Response) -> Response {
        if self == Self::Length {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        if self == Self::UntilClose {
            // hyper has no other way to leave the chunks out.
            parts.version = Version::HTTP_10;
        }
        // A stream, so that nobody finds its length out.
        Response::from_parts(parts, Body::from_stream(body.into_data_stream()))
    }
}
