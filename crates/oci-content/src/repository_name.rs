use std::str::FromStr;

use crate::name::{ReferenceError, string_type};

/// A repository's name within its registry.
///
/// At most 255 characters of
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Box<str>);
string_type!(RepositoryName);

impl FromStr for RepositoryName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: &str| Err(ReferenceError::new("repository name", text, reason));
        if text.is_empty() {
            return fail("it is empty");
        }
        if text.len() > 255 {
            return fail("it is longer than 255 characters");
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return fail("upper-case letters are not allowed");
        }
        if !text.split('/').all(is_path_component) {
            return fail(
                "each part must have lower-case letters and digits only, separated by '.', '_', '__' or hyphens",
            );
        }
        Ok(Self(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(|b| alphanumeric(*b))
        || !bytes.last().is_some_and(|b| alphanumeric(*b))
    {
        return false;
    }
    bytes
        .split(|b| alphanumeric(*b))
        .all(|separator| match separator {
            [] | b"." | b"_" | b"__" => true,
            run => run.iter().all(|b| *b == b'-'),
        })
}
