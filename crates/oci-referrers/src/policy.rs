mod date;
mod judge;
mod judged;
mod rule;
mod violation;

use std::time::SystemTime;

use oci_content::Reference;

pub use date::{MAX_DATED_DOCUMENT_BYTES, created, document_date};
pub use judged::{JudgedBundle, JudgedImage, JudgedReferrer};
use rule::{Document, Rule, Unused};
pub use violation::{Violation, ViolationKind};

/// What a site demands of the referrers of its images.
///
/// - It is read from a small YAML file, `docs/policy.md`; a key that is not known is an error.
/// - [`judge`](Self::judge) is a function of what was found and of a time. Nothing is asked, read or verified: whether
///   an entry of a graph is what it says is settled before, by a discovery or by the validation of a bundle.
/// - A signature counts by being there. Whose it is, and whether it is right, is for the tool of its kind.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// Why text is no policy: one sentence that names the key and the line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{reason}")]
pub struct PolicyError {
    reason: String,
    place: Option<(u64, u64)>,
}

impl PolicyError {
    /// Returns the line and the column that it is about, each counted from 1, where it is about one.
    pub fn place(&self) -> Option<(u64, u64)> {
        self.place
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    ///
    /// When it is no YAML, has a key that is not known, or says something that no rule can mean.
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
                // The lines behind the first one quote the file.
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

    /// Returns whether a rule asks how old something is: only then is [`JudgedReferrer::created`] looked at.
    pub fn needs_dates(&self) -> bool {
        self.rules.iter().any(Rule::needs_dates)
    }

    /// Returns whether a rule asks how old this referrer of this image is.
    pub fn needs_date_of(&self, image: &Reference, referrer: &JudgedReferrer) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.selects(image, None) && rule.needs_date_of(referrer))
    }

    /// Judges; the findings stand in the order of the rules, and of the images below each.
    pub fn judge(&self, bundle: &JudgedBundle, now: SystemTime) -> Vec<Violation> {
        self.rules
            .iter()
            .flat_map(|rule| judge::rule(rule, bundle, now))
            .collect()
    }
}

#[cfg(test)]
mod tests;
