use std::fmt;
use std::str::FromStr;

use oci_content::{MAX_FOREIGN_CHARS, Registry, bounded};
use oci_referrers::RepositoryPattern;

/// Repositories of one registry: `registry.example.com/team/*`.
///
/// `*` is anything between two slashes, `**` is anything. The registry is written in full.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryGlob {
    registry: Registry,
    pattern: RepositoryPattern,
}

/// Why a text does not name repositories.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{glob:?} does not name repositories (REGISTRY/PATTERN): {reason}")]
pub struct RepositoryGlobError {
    glob: String,
    reason: String,
}

impl RepositoryGlob {
    /// Returns the registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns whether a repository of the registry is meant.
    pub fn matches(&self, repository: &str) -> bool {
        self.pattern.matches(repository)
    }
}

impl FromStr for RepositoryGlob {
    type Err = RepositoryGlobError;

    fn from_str(text: &str) -> Result<Self, RepositoryGlobError> {
        let fail = |reason: String| RepositoryGlobError {
            glob: bounded(text, MAX_FOREIGN_CHARS).into_owned(),
            reason,
        };
        let (registry, pattern) = text.split_once('/').unwrap_or((text, ""));
        if registry.contains('*') {
            return Err(fail("the registry must be written in full".into()));
        }
        if pattern.is_empty() {
            return Err(fail("it has no pattern after the registry".into()));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "*/._-".contains(c);
        if let Some(other) = pattern.chars().find(|c| !allowed(*c)) {
            return Err(fail(format!(
                "{other:?} is not allowed; repository names have lower-case letters, digits and ./_-, and * is a wildcard"
            )));
        }
        Ok(Self {
            registry: registry.parse().map_err(|error| fail(format!("{error}")))?,
            pattern: pattern.parse().map_err(|error| fail(format!("{error}")))?,
        })
    }
}

impl fmt::Display for RepositoryGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_between_slashes_and_two_do_not() {
        let matches = |glob: &str, name: &str| {
            let glob: RepositoryGlob = glob.parse().unwrap();
            glob.matches(name)
        };
        assert!(matches("r.test:5000/team/*", "team/app"));
        assert!(!matches("r.test:5000/team/*", "team/app/x"));
        assert!(matches("r.test:5000/team/**", "team/app/x"));
        assert!(!matches("r.test:5000/*", "team/app"));
        assert!(matches("r.test:5000/**/app-*", "team/x/app-1"));
    }

    #[test]
    fn what_names_no_repositories_says_why() {
        for (text, reason) in [
            ("r.test", "it has no pattern after the registry"),
            ("*.test/app", "the registry must be written in full"),
            ("r.test/Team/*", "'T' is not allowed"),
            ("r.test/team/*:1.0", "':' is not allowed"),
            ("r.test/team/[a]", "'[' is not allowed"),
            ("a b/*", "is not a registry"),
        ] {
            let error = text.parse::<RepositoryGlob>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
