use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::store::{StoreError, StoreErrorKind};

/// An error code of the specification.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The blob is not known to the repository.
    BlobUnknown,
    /// The upload cannot be completed.
    BlobUploadInvalid,
    /// There is no such upload session.
    BlobUploadUnknown,
    /// The digest is malformed or does not match the content.
    DigestInvalid,
    /// The manifest names a blob or a manifest that the repository does not have.
    ManifestBlobUnknown,
    /// The manifest is malformed.
    ManifestInvalid,
    /// The manifest is not known to the repository.
    ManifestUnknown,
    /// The name of the repository is malformed.
    NameInvalid,
    /// The repository is not known to the registry.
    NameUnknown,
    /// A length does not match the content, or exceeds a limit.
    SizeInvalid,
    /// Credentials are needed.
    Unauthorized,
    /// The credentials do not suffice.
    Denied,
    /// The operation is not offered.
    Unsupported,
    /// Too many requests.
    TooManyRequests,
    /// The registry itself failed. Not in the specification; distribution uses this code.
    Unknown,
}

impl ErrorCode {
    /// Returns the code in upper case, as the specification spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// An error answer: a status, the error envelope of the specification, and headers.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    errors: Vec<Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    /// Creates an error answer with one entry in its envelope.
    pub fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            errors: vec![json!({"code": code.as_str(), "message": message.into()})],
            headers: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Creates the answer to a manifest whose content is missing, with one entry for each digest.
    pub(crate) fn missing_content(missing: impl IntoIterator<Item = String>) -> Self {
        let entry = |digest: String| {
            json!({
                "code": ErrorCode::ManifestBlobUnknown.as_str(),
                "message": "the manifest names content that the repository does not have",
                "detail": digest,
            })
        };
        Self {
            status: StatusCode::BAD_REQUEST,
            errors: missing.into_iter().map(entry).collect(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn bad_request(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn not_found(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn not_allowed(message: impl Into<String>, allow: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Unsupported,
            message,
        )
        .header(header::ALLOW, HeaderValue::from_static(allow))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.kind() == StoreErrorKind::Missing {
            return Self::missing_content([error.to_string()]);
        }
        let (status, code) = match error.kind() {
            StoreErrorKind::Digest => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
            StoreErrorKind::Precondition => {
                (StatusCode::PRECONDITION_FAILED, ErrorCode::ManifestInvalid)
            }
            StoreErrorKind::Refused => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported),
            StoreErrorKind::Missing | StoreErrorKind::Damaged | StoreErrorKind::Failed => {
                (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown)
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "errors": self.errors }).to_string();
        let mut response = (self.status, body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}
