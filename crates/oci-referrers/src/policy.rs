mod date;
mod judge;
mod judged;
mod repository_pattern;
mod rule;
mod violation;

use std::time::SystemTime;

use oci_content::Reference;

pub use date::{MAX_DATED_DOCUMENT_BYTES, created, document_date, parse_rfc3339};
pub use judged::{JudgedBundle, JudgedImage, JudgedReferrer};
pub use repository_pattern::{RepositoryPattern, RepositoryPatternError};
use rule::{Document, Rule, Unused};
pub use violation::{Violation, ViolationKind};

/// The rules of a site about the referrers of its images.
///
/// - It is read from a small YAML file, which `docs/policy.md` describes; an unknown key is an
///   error.
/// - [`judge`](Self::judge) is a pure function of what was found and of a time. Entries of a graph
///   are verified before, by a discovery or by the validation of a bundle.
/// - A signature counts if it is there. Who made it, and whether it is valid, is for other tools to
///   check.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// Why a text is not a policy; one sentence that names the key and the line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{reason}")]
pub struct PolicyError {
    reason: String,
    place: Option<(u64, u64)>,
}

impl PolicyError {
    /// Returns the line and column of the error, each counted from 1, if it has a place.
    pub fn place(&self) -> Option<(u64, u64)> {
        self.place
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    ///
    /// When it is not YAML, has an unknown key, or has a rule without a meaning.
    pub fn parse(yaml: &str) -> Result<Self, PolicyError> {
        match serde_saphyr::from_str::<Document>(yaml) {
            Ok(document) => {
                let mut rules = document.rules.0;
                if document.unused == Unused::Allow {
                    rules
                        .iter_mut()
                        .for_each(|rule| rule.unused = Unused::Allow);
                }
                Ok(Self { rules })
            }
            Err(error) => {
                // The lines after the first quote the file.
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                let reason = first.strip_prefix("error: ").unwrap_or(first);
                Err(PolicyError {
                    reason: reason.to_owned(),
                    place: error.location().map(|place| (place.line(), place.column())),
                })
            }
        }
    }

    /// Returns whether a rule depends on ages; if not, [`JudgedReferrer::created`] is ignored.
    pub fn needs_dates(&self) -> bool {
        self.rules.iter().any(Rule::needs_dates)
    }

    /// Returns whether a rule depends on the age of this referrer of this image.
    pub fn needs_date_of(&self, image: &Reference, referrer: &JudgedReferrer) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.selects(image, None) && rule.needs_date_of(referrer))
    }

    /// Returns the violations, in the order of the rules and then of the images. Ages are measured
    /// at `now`.
    pub fn judge(&self, bundle: &JudgedBundle, now: SystemTime) -> Vec<Violation> {
        self.rules
            .iter()
            .flat_map(|rule| judge::rule(rule, bundle, now))
            .collect()
    }
}

#[cfg(test)]
mod tests;
