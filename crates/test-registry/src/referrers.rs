use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// How a persona answers where the referrers API would be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReferrersApi {
    /// As the specification has it.
    Specified,
    /// There is none; this is what stands in its place.
    Absent(Absent),
}

/// An answer that says nothing about referrers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absent {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: &'static str,
}

/// The default of Go's router, which is what distribution answers on paths that it does not have.
pub(crate) const NO_ROUTE: Absent = Absent {
    status: StatusCode::NOT_FOUND,
    content_type: "text/plain; charset=utf-8",
    body: "404 page not found\n",
};

impl ReferrersApi {
    /// Tells whether a client can rely on it alone.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Self::Specified)
    }
}

impl IntoResponse for Absent {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(self.content_type),
        );
        response
    }
}
