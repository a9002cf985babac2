use axum::body::Body;
use axum::response::Response;
use http::{Version, header};

/// The way in which the end of a body is marked:
/// <https://www.rfc-editor.org/rfc/rfc9112#section-6.3>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// `Content-Length`.
    #[default]
    Length,
    /// Chunks, without a length.
    Chunked,
    /// The end of the connection, as in HTTP/1.0.
    UntilClose,
}

impl Framing {
    /// Frames a body that already has a `Content-Length`.
    pub(crate) fn apply(self, response: Response) -> Response {
        if self == Self::Length {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        if self == Self::UntilClose {
            // hyper omits the chunks only for HTTP/1.0.
            parts.version = Version::HTTP_10;
        }
        // As a stream, whose length is unknown.
        Response::from_parts(parts, Body::from_stream(body.into_data_stream()))
    }
}
