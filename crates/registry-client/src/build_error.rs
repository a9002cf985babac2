use crate::error::BoxError;

/// Why a [`Client`](crate::Client) cannot be created: an option is invalid.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct BuildError {
    text: String,
    source: Option<BoxError>,
}

impl BuildError {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            source: None,
        }
    }

    pub(crate) fn new(text: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self {
            text: text.into(),
            source: Some(source.into()),
        }
    }
}
