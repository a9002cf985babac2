use std::fmt;
use std::str::FromStr;

use oci_content::{MAX_FOREIGN_CHARS, bounded};
use semver::{Version, VersionReq};

/// A requirement of versions, such as `>=1.2, <2`.
///
/// - The syntax is [Cargo's](https://docs.rs/semver/latest/semver/struct.VersionReq.html): all
///   comma-separated comparisons must hold; `1.2` means `^1.2`.
/// - A pre-release matches only if a comparison names a pre-release of the same version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange(VersionReq);

/// Why a text is not a requirement of versions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{range:?} is not a version requirement: {reason}")]
pub struct VersionRangeError {
    range: String,
    reason: String,
}

impl VersionRange {
    pub(crate) fn contains(&self, version: &Version) -> bool {
        self.0.matches(version)
    }
}

impl FromStr for VersionRange {
    type Err = VersionRangeError;

    fn from_str(text: &str) -> Result<Self, VersionRangeError> {
        let fail = |reason: String| VersionRangeError {
            range: bounded(text, MAX_FOREIGN_CHARS).into_owned(),
            reason,
        };
        if text.trim().is_empty() {
            return Err(fail("it is empty".into()));
        }
        match VersionReq::parse(text) {
            Ok(requirement) => Ok(Self(requirement)),
            Err(_) if text.contains("||") => Err(fail(
                "alternatives by || are not supported; write one rule for each".into(),
            )),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

/// Writes the requirement in one spelling, whatever its blanks were.
impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses a tag as a version; a leading `v` and missing parts are allowed, as in `v1.2`.
pub(crate) fn version(tag: &str) -> Option<Version> {
    let text = tag.strip_prefix('v').unwrap_or(tag);
    let core_end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(core_end);
    let padded = match core.split('.').count() {
        1 => format!("{core}.0.0{rest}"),
        2 => format!("{core}.0{rest}"),
        _ => text.to_owned(),
    };
    Version::parse(&padded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_written_in_one_spelling() {
        for (text, same) in [
            (">=1.2, <2", ">=1.2, <2"),
            (" >= 1.2 ,<2 ", ">=1.2, <2"),
            ("1.2", "^1.2"),
            ("*", "*"),
        ] {
            let range: VersionRange = text.parse().unwrap();
            assert_eq!(range.to_string(), same);
            assert_eq!(same.parse::<VersionRange>(), Ok(range));
        }
    }

    #[test]
    fn what_is_not_a_range_says_why() {
        for (text, reason) in [
            ("", "it is empty"),
            (
                "1 || 2",
                "alternatives by || are not supported; write one rule for each",
            ),
            (
                "latest",
                "unexpected character 'l' while parsing major version number",
            ),
        ] {
            let error = text.parse::<VersionRange>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{text:?} is not a version requirement: {reason}")
            );
        }
    }

    #[test]
    fn tags_are_versions_with_or_without_a_v_and_with_missing_parts() {
        for (tag, expected) in [
            ("1.2.3", Some("1.2.3")),
            ("v1.2", Some("1.2.0")),
            ("7", Some("7.0.0")),
            ("1.2-rc.1", Some("1.2.0-rc.1")),
            ("latest", None),
            ("1.2.3.4", None),
            ("V1.2", None),
            ("2024.01.05", None),
            ("99999999999999999999", None),
        ] {
            let parsed = version(tag).map(|version| version.to_string());
            assert_eq!(parsed.as_deref(), expected, "{tag}");
        }
    }
}
