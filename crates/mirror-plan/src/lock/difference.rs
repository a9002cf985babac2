use std::collections::BTreeSet;

use super::JobLock;
use crate::selection::ImageRule;

/// A rule that a lock file and the rules of a job do not have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LockDifference {
    /// The job has a rule that is not locked.
    NotLocked(String),
    /// The lock file has a rule that the job does not have.
    NotConfigured(String),
}

impl JobLock {
    /// Compares the texts of the rules with those of a job. The order does not matter.
    pub fn differences(&self, rules: &[ImageRule]) -> Vec<LockDifference> {
        let configured: BTreeSet<String> = rules.iter().map(ToString::to_string).collect();
        let is_locked = |rule: &&String| self.rules.contains_key(*rule);
        let not_locked = configured.iter().filter(|rule| !is_locked(rule));
        let not_configured = self.rules.keys().filter(|rule| !configured.contains(*rule));
        not_locked
            .map(|rule| LockDifference::NotLocked(rule.clone()))
            .chain(not_configured.map(|rule| LockDifference::NotConfigured(rule.clone())))
            .collect()
    }
}
