use std::fmt;
use std::str::FromStr;

use oci_content::{MAX_FOREIGN_CHARS, bounded};
use regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 4096;

/// The largest compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// A regular expression that is searched for in tags.
///
/// - It matches anywhere in a tag unless it is anchored by `^` and `$`, and case-sensitively.
/// - Matching takes time proportional to the length of the tag, so there are no backreferences and
///   no look-around. The syntax is that of the crate
///   [`regex`](https://docs.rs/regex/latest/regex/#syntax), which is close to RE2's.
#[derive(Clone, Debug)]
pub struct TagPattern(Regex);

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a regular expression: {reason}")]
pub struct TagPatternError {
    pattern: String,
    reason: String,
}

impl TagPattern {
    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns whether the pattern is found in a text.
    pub fn is_found_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl FromStr for TagPattern {
    type Err = TagPatternError;

    fn from_str(text: &str) -> Result<Self, TagPatternError> {
        let fail = |reason: String| {
            Err(TagPatternError {
                pattern: bounded(text, MAX_FOREIGN_CHARS).into_owned(),
                reason,
            })
        };
        if text.is_empty() {
            return fail("it is empty, and would match every tag".into());
        }
        if text.len() > MAX_PATTERN_BYTES {
            return fail(format!("it is longer than {MAX_PATTERN_BYTES} bytes"));
        }
        if text.chars().any(char::is_control) {
            return fail("it has control characters".into());
        }
        let compiled = RegexBuilder::new(text)
            .size_limit(MAX_COMPILED_BYTES)
            .build();
        match compiled {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(limit)) => {
                fail(format!("it is larger than {limit} bytes when compiled"))
            }
            Err(error) => {
                // The lines before the last one show the pattern.
                let said = error.to_string();
                let reason = said.lines().next_back().unwrap_or_default();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                fail(bounded(reason, MAX_FOREIGN_CHARS).into_owned())
            }
        }
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for TagPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for TagPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_searched_for_anywhere() {
        for (pattern, text, expected) in [
            ("^1[.]", "1.2", true),
            ("^1[.]", "v1.2", false),
            ("-(rc|beta)", "1.2-rc1", true),
            ("(?i)RC", "1.2-rc1", true),
            (r"^v\d+$", "v12", true),
            (r"^v\d+$", "v12-x", false),
        ] {
            let compiled: TagPattern = pattern.parse().unwrap();
            assert_eq!(compiled.is_found_in(text), expected, "{pattern} {text}");
            assert_eq!(compiled.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_not_a_pattern_says_why_in_one_line() {
        for (pattern, reason) in [
            ("", "it is empty, and would match every tag"),
            ("^1[.", "unclosed character class"),
            (
                "(?=x)",
                "look-around, including look-ahead and look-behind, is not supported",
            ),
            (r"(a)\1", "backreferences are not supported"),
            ("a\nb", "it has control characters"),
            (
                r"(\w{100}){1000}",
                "it is larger than 1048576 bytes when compiled",
            ),
            (&"x".repeat(5000), "it is longer than 4096 bytes"),
        ] {
            let error = pattern.parse::<TagPattern>().unwrap_err().to_string();
            assert!(error.ends_with(reason), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn a_pattern_on_which_backtracking_takes_exponential_time_is_harmless() {
        let pattern: TagPattern = "^(a+)+$".parse().unwrap();
        assert!(!pattern.is_found_in(&format!("{}b", "a".repeat(127))));
    }
}
