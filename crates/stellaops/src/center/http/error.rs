use std::collections::BTreeMap;
use std::error::Error;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use oci_content::with_causes;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use utoipa::ToSchema;

use crate::center::state::StateError;

/// What went wrong, for programs. The code of the first one is from StellaOps' own API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) enum ErrorCode {
    /// There is no such profile.
    #[serde(rename = "ERR_EXPORT_002")]
    UnknownProfile,
    /// A parameter, a header or the body is not what the API takes.
    #[serde(rename = "ERR_EXPORT_INVALID")]
    Invalid,
    /// No token, or one that is not known.
    #[serde(rename = "ERR_EXPORT_UNAUTHORIZED")]
    Unauthorized,
    /// The token does not permit this.
    #[serde(rename = "ERR_EXPORT_SCOPE")]
    Scope,
    /// The tenant is not the one of this service.
    #[serde(rename = "ERR_EXPORT_TENANT")]
    Tenant,
    /// The request is for another host, or a page of another site is behind it.
    #[serde(rename = "ERR_EXPORT_ORIGIN")]
    Origin,
    /// There is no such run, file or path.
    #[serde(rename = "ERR_EXPORT_NOT_FOUND")]
    NotFound,
    /// The path does not take this method.
    #[serde(rename = "ERR_EXPORT_METHOD")]
    Method,
    /// A run of the profile is under way; `details` has its `runId`.
    #[serde(rename = "ERR_EXPORT_RUN_ACTIVE")]
    RunActive,
    /// The run has ended already.
    #[serde(rename = "ERR_EXPORT_RUN_ENDED")]
    RunEnded,
    /// The `Idempotency-Key` was used for another request.
    #[serde(rename = "ERR_EXPORT_KEY_REUSED")]
    KeyReused,
    /// The range of a download does not exist.
    #[serde(rename = "ERR_EXPORT_RANGE")]
    Range,
    /// Too many requests of this kind at once.
    #[serde(rename = "ERR_EXPORT_QUOTA")]
    Quota,
    /// The state of the service cannot be read or written.
    #[serde(rename = "ERR_EXPORT_STATE")]
    State,
    /// The service is about to end.
    #[serde(rename = "ERR_EXPORT_STOPPING")]
    Stopping,
    /// A bug.
    #[serde(rename = "ERR_EXPORT_INTERNAL")]
    Internal,
}

/// The body of every answer that is an error.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Error)]
pub(crate) struct ErrorBody {
    code: ErrorCode,
    /// One sentence for people.
    message: String,
    /// What the error is about: `field` and `reason`, or `runId`.
    details: Vec<BTreeMap<String, String>>,
    /// That of `traceparent`, if it was sent.
    #[schema(
        example = "4bf92f3577b34da6a3ce929d0e0e4736",
        pattern = "^[0-9a-f]{32}$"
    )]
    trace_id: String,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

/// An error that is the answer to a request. [`complete`] writes its body, which depends on the request.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    details: Vec<BTreeMap<String, String>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Creates the answer to a request in which this field is wrong.
    pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::Invalid,
            format!("{field}: {reason}"),
        )
        .detail([("field", field.to_owned()), ("reason", reason)])
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, message)
    }

    /// Creates the answer when too many requests of this kind are under way.
    pub(crate) fn quota(message: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::Quota, message)
            .header(header::RETRY_AFTER, HeaderValue::from_static("10"))
    }

    /// Creates the answer to a method that the path does not take.
    pub(crate) fn method(method: &Method, allowed: Option<&'static str>) -> Self {
        let message = format!("this path does not take {method}");
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Method, message);
        match allowed {
            Some(allowed) => error.header(header::ALLOW, HeaderValue::from_static(allowed)),
            // The router adds it.
            None => error,
        }
    }

    pub(crate) fn internal(error: &dyn Error) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, ErrorCode::Internal, with_causes(error))
    }

    #[must_use]
    pub(crate) fn detail<const N: usize>(mut self, members: [(&str, String); N]) -> Self {
        let members = members.map(|(name, value)| (name.to_owned(), value));
        self.details.push(BTreeMap::from(members));
        self
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, ErrorCode::State, with_causes(&error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        for (name, value) in &self.headers {
            response.headers_mut().append(name, value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Completes an answer with what depends on its request: the body of an error.
pub(crate) fn complete(mut response: Response, trace: TraceId, wants_page: bool) -> Response {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_json = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        // What the router itself refuses; JSON is the answer of a handler.
        None if (status.is_client_error() || status.is_server_error()) && !is_json => {
            let code = if status.is_client_error() {
                ErrorCode::Invalid
            } else {
                ErrorCode::Internal
            };
            let reason = status.canonical_reason().unwrap_or("refused");
            ApiError::new(status, code, reason.to_lowercase())
        }
        None => return response,
    };
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let (kind, body) = if wants_page {
        let page = crate::center::page::failed(error.status.as_u16(), &error.message);
        ("text/html; charset=utf-8", page.into_string())
    } else {
        let body = ErrorBody {
            code: error.code,
            message: error.message,
            details: error.details,
            trace_id: trace.0,
            timestamp: Timestamp::now(),
        };
        // A struct of texts: it can be written.
        let body = serde_json::to_string(&body).unwrap_or_default();
        ("application/json; charset=utf-8", body)
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    *response.body_mut() = Body::from(body);
    response
}

/// What connects an answer with the lines of other logs.
#[derive(Clone, Debug)]
pub(crate) struct TraceId(String);

impl TraceId {
    /// Takes the id from `traceparent`, or makes one: <https://www.w3.org/TR/trace-context/#traceparent-header>.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get("traceparent")
            .and_then(|value| value.to_str().ok());
        let mut parts = given.unwrap_or_default().split('-');
        let id = parts.nth(1).unwrap_or_default();
        let is_id = id.len() == 32
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|byte| byte != b'0');
        if is_id {
            return Self(id.to_owned());
        }
        let mut bytes = [0; 16];
        // An id without random bytes only fails to connect anything.
        getrandom(&mut bytes, GetRandomFlags::empty()).ok();
        Self(format!("{:032x}", u128::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_that_of_the_caller_or_a_new_one() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            TraceId::of(&headers).0
        };
        let given = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(id(&format!("00-{given}-00f067aa0ba902b7-01")), given);
        for bad in ["", "00", "00-x-y-z", &format!("00-{}-a-01", "0".repeat(32))] {
            let made = id(bad);
            assert!(
                made.len() == 32 && made != given && made != "0".repeat(32),
                "{made}"
            );
        }
    }
}
