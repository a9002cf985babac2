use std::str::FromStr;

use crate::name::{ReferenceError, string_type};

/// A tag: at most 128 characters of `[a-zA-Z0-9_][a-zA-Z0-9._-]*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);
string_type!(Tag);

impl Tag {
    pub(crate) fn latest() -> Self {
        Self("latest".into())
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: &str| Err(ReferenceError::new("tag", text, reason));
        if text.is_empty() {
            return fail("it is empty");
        }
        if text.len() > 128 {
            return fail("it is longer than 128 characters");
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !word(text.as_bytes()[0]) || !text.bytes().all(|b| word(b) || b == b'.' || b == b'-') {
            return fail(
                "it may have letters, digits, '_', '.' and '-', and must not start with '.' or '-'",
            );
        }
        Ok(Self(text.into()))
    }
}
