use std::fmt;
use std::str::FromStr;

use oci_content::{MAX_FOREIGN_CHARS, bounded, media_type};
use serde::Deserialize;

/// A pattern of repositories, with or without their registry: `*` is anything between two slashes,
/// `**` is anything. It matches whole names, case-sensitively.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct RepositoryPattern(String);

/// Why a text is not a pattern of repositories.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0}")]
pub struct RepositoryPatternError(String);

impl RepositoryPattern {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern matches the whole of `name`. It takes time proportional to the
    /// product of their lengths.
    pub fn matches(&self, name: &str) -> bool {
        matches_repository(&self.0, name)
    }
}

impl TryFrom<String> for RepositoryPattern {
    type Error = RepositoryPatternError;

    fn try_from(pattern: String) -> Result<Self, RepositoryPatternError> {
        let shown = bounded(&pattern, MAX_FOREIGN_CHARS);
        let last = pattern.rsplit('/').next().unwrap_or(&pattern);
        let wrong = |reason| Err(RepositoryPatternError(format!("{shown:?} {reason}")));
        if pattern.is_empty() || pattern.contains(|c: char| c.is_whitespace() || c == '@') {
            return wrong("is no pattern of a repository");
        }
        if last.contains(':') && pattern.contains('/') {
            return wrong("has a tag, and rules are about repositories");
        }
        Ok(Self(pattern))
    }
}

impl FromStr for RepositoryPattern {
    type Err = RepositoryPatternError;

    fn from_str(text: &str) -> Result<Self, RepositoryPatternError> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A part of a pattern.
#[derive(Clone, Copy, PartialEq)]
enum Piece {
    Byte(u8),
    /// Any characters except slashes.
    Within,
    Anything,
}

/// Returns whether a pattern matches a repository.
fn matches_repository(pattern: &str, name: &str) -> bool {
    let mut pieces: Vec<Piece> = Vec::new();
    for byte in pattern.bytes() {
        match (byte, pieces.last_mut()) {
            (b'*', Some(last @ Piece::Within)) => *last = Piece::Anything,
            (b'*', _) => pieces.push(Piece::Within),
            (byte, _) => pieces.push(Piece::Byte(byte)),
        }
    }
    matches(&pieces, name)
}

/// Returns whether a pattern matches an artifact type. As for all media types, case, surrounding
/// blanks and parameters do not count. `*` is anything.
pub(super) fn matches_type(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (media_type::essence(pattern), media_type::essence(name));
    let piece = |byte| match byte {
        b'*' => Piece::Anything,
        byte => Piece::Byte(byte),
    };
    let pieces: Vec<_> = pattern.bytes().map(piece).collect();
    matches(&pieces, &name)
}

/// Returns whether a pattern matches a whole text. Takes time proportional to the product of their
/// lengths.
fn matches(pieces: &[Piece], text: &str) -> bool {
    // For each number of leading pieces, whether they match the text so far.
    let mut reached = vec![false; pieces.len() + 1];
    reached[0] = true;
    let skip_empty = |reached: &mut [bool]| {
        for (at, piece) in pieces.iter().enumerate() {
            reached[at + 1] |= reached[at] && !matches!(piece, Piece::Byte(_));
        }
    };
    skip_empty(&mut reached);
    for byte in text.bytes() {
        let mut next = vec![false; pieces.len() + 1];
        for (at, piece) in pieces.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match piece {
                Piece::Byte(own) => next[at + 1] |= *own == byte,
                Piece::Within => next[at] |= byte != b'/',
                Piece::Anything => next[at] = true,
            }
        }
        skip_empty(&mut next);
        reached = next;
    }
    reached[pieces.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_between_slashes_and_two_do_not() {
        for (pattern, name, expected) in [
            ("r.test/team/app", "r.test/team/app", true),
            ("r.test/team/app", "r.test/team/app2", false),
            ("r.test/team/*", "r.test/team/app", true),
            ("r.test/team/*", "r.test/team/a/b", false),
            ("r.test/*/app", "r.test/team/app", true),
            ("r.test/t*m/a*", "r.test/team/app", true),
            ("r.test/**", "r.test/team/a/b", true),
            ("r.test/**", "r.test2/team", false),
            ("**/app", "r.test/team/app", true),
            ("**/app", "r.test/team/app/x", false),
            ("r.test/**/x/*", "r.test/a/b/x/y", true),
            ("r.test/**/x/**", "r.test/a/x/b/x/y", true),
            ("*", "r.test/app", false),
            ("**", "r.test/app", true),
            ("localhost:5000/*", "localhost:5000/app", true),
        ] {
            assert_eq!(
                matches_repository(pattern, name),
                expected,
                "{pattern} {name}"
            );
        }
        for own in [
            "Application/SPDX+JSON",
            " application/spdx+json\t",
            "application/spdx+json; v=2",
        ] {
            assert!(matches_type("application/spdx+json", own), "{own:?}");
            assert!(matches_type(" APPLICATION/*", own), "{own:?}");
        }
        // Patterns on which backtracking matchers take exponential time.
        let text = format!("{}b", "a".repeat(1_000));
        assert!(!matches_repository(&"**a".repeat(200), &text));
        assert!(matches_type(
            "application/vnd.*+json",
            "application/vnd.a/b+json"
        ));
        assert!(!matches_type(
            "application/vnd.*+json",
            "application/vnd.a+jsonx"
        ));
    }
}
