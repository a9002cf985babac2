use std::sync::Arc;

use http::request::Parts;
use oci_content::{Digest, RepositoryName};
use url::form_urlencoded;

use crate::error::{ApiError, ErrorCode};
use crate::store::Repository;

/// The query of a request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(parts: &Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads a digest parameter.
    pub(crate) fn digest(&self, name: &str) -> Result<Option<Digest>, ApiError> {
        self.first(name).map(parse_digest).transpose()
    }
}

/// A request with its parsed path.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) query: Query,
    pub(crate) repository: Repository,
    pub(crate) user: Option<Arc<str>>,
}

pub(crate) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: oci_content::DigestError| {
        ApiError::bad_request(ErrorCode::DigestInvalid, error.to_string())
    })
}

pub(crate) fn parse_repository(text: &str) -> Result<RepositoryName, ApiError> {
    text.parse().map_err(|error: oci_content::ReferenceError| {
        ApiError::bad_request(ErrorCode::NameInvalid, error.to_string())
    })
}
