use std::str::FromStr;

use oci_content::RepositoryName;
use oci_content::SourceRepository;

use crate::error::{ImportError, ImportErrorKind};

/// Maps the repositories of a source to repositories at the target: by default
/// `PREFIX/<repository>`, without the source registry.
///
/// The first rule that names the repository decides; if there is none,
/// [`keep_host`](Self::keep_host) and the prefix apply.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Mapping {
    /// The prefix of every repository that no rule names.
    pub prefix: Option<RepositoryName>,
    /// Whether the source registry's name follows the prefix. Not by default.
    pub keep_host: bool,
    /// The renames.
    pub rules: Vec<MapRule>,
}

/// A rename: the repository `from`, with its registry, goes into `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapRule {
    from: SourceRepository,
    to: RepositoryName,
}

impl FromStr for MapRule {
    type Err = ImportError;

    fn from_str(text: &str) -> Result<Self, ImportError> {
        let fail = |reason: String| {
            let message =
                format!("{text:?} is not a mapping (REGISTRY/REPOSITORY=REPOSITORY): {reason}");
            ImportError::new(ImportErrorKind::Usage, message)
        };
        let (from, to) = text
            .split_once('=')
            .ok_or_else(|| fail("it has no '='".into()))?;
        let from = from.parse().map_err(|error| fail(format!("{error}")))?;
        let to = to.parse().map_err(|error| fail(format!("{error}")))?;
        Ok(Self { from, to })
    }
}

impl Mapping {
    /// Returns the repository at the target.
    ///
    /// # Errors
    ///
    /// When prefix, host and name together are not a valid repository name.
    pub fn target(&self, source: &SourceRepository) -> Result<RepositoryName, ImportError> {
        if let Some(rule) = self.rules.iter().find(|rule| rule.from == *source) {
            return Ok(rule.to.clone());
        }
        let mut parts = Vec::new();
        if let Some(prefix) = &self.prefix {
            parts.push(prefix.to_string());
        }
        if self.keep_host {
            // A port's colon and an IPv6 address's brackets are not allowed in a repository name.
            let host = source.registry().as_str();
            parts.push(
                host.replace(['[', ']'], "")
                    .replace(':', "-")
                    .trim_matches('-')
                    .to_owned(),
            );
        }
        parts.push(source.name().to_string());
        parts.join("/").parse().map_err(|error| {
            ImportError::new(
                ImportErrorKind::Usage,
                format!("{source} cannot be placed at the target: {error}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_go_first_then_prefix_and_host() {
        let source: SourceRepository = "localhost:5000/team/app".parse().unwrap();
        let mut mapping = Mapping::default();
        assert_eq!(mapping.target(&source).unwrap().as_str(), "team/app");
        mapping.prefix = Some("mirror".parse().unwrap());
        assert_eq!(mapping.target(&source).unwrap().as_str(), "mirror/team/app");
        mapping.keep_host = true;
        assert_eq!(
            mapping.target(&source).unwrap().as_str(),
            "mirror/localhost-5000/team/app"
        );
        mapping
            .rules
            .push("localhost:5000/team/app=other/name".parse().unwrap());
        assert_eq!(mapping.target(&source).unwrap().as_str(), "other/name");
        assert!(
            "a.b/c"
                .parse::<MapRule>()
                .unwrap_err()
                .to_string()
                .contains("it has no '='")
        );
    }
}
