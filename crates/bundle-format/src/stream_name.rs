use std::fmt;
use std::str::FromStr;

use crate::path_grammar::{clip, is_short_name};

/// The name of a stream of bundles, within which `sequence` grows.
///
/// At most 64 characters of `[a-z0-9][a-z0-9._-]*`: a site keeps a file per stream, so the name
/// must be safe in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Box<str>);

/// A string that is not a stream name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a stream name: it has at most 64 lower-case letters, digits, '.', '_' and '-', and starts with a letter or digit"
)]
pub struct StreamNameError {
    text: String,
}

impl StreamName {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StreamName {
    /// Returns the stream of bundles that do not name one: `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for StreamName {
    type Err = StreamNameError;

    fn from_str(text: &str) -> Result<Self, StreamNameError> {
        if is_short_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(StreamNameError { text: clip(text) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_is_safe_in_a_path() {
        assert_eq!(StreamName::default().as_str(), "default");
        for good in ["a", "site-1.prod_eu", "9", &"x".repeat(64)] {
            assert_eq!(good.parse::<StreamName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "-a", "a/b", "A", "a b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<StreamName>().is_err(), "{bad}");
        }
    }
}
