mod difference;
mod emit;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use oci_content::{Digest, Reference};

use crate::job_name::JobName;
use crate::selection::ImageRule;

pub use difference::LockDifference;
pub use parse::LockFileError;

/// Which digest each image has that the rules of jobs select.
///
/// - The file has one encoding: sorted, with one line for each pinned image, and with nothing that
///   depends on time or on the order of the configuration.
/// - Referrers are not pinned: they are discovered again each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockFile {
    jobs: BTreeMap<JobName, JobLock>,
}

/// What a lock file says about one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobLock {
    /// By the text of the rule. An image has its name without a digest, unless it was given by its
    /// digest alone.
    rules: BTreeMap<String, BTreeMap<Reference, Digest>>,
}

impl LockFile {
    /// The first line, which names the version of the form.
    pub const FORMAT: &'static str = "stellaops-mirror-lock/v1";

    /// Creates a lock file without jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what is pinned for a job; `None` if the file does not have the job.
    pub fn job(&self, name: &JobName) -> Option<&JobLock> {
        self.jobs.get(name)
    }

    /// Sets what is pinned for a job.
    pub fn set(&mut self, name: JobName, job: JobLock) {
        self.jobs.insert(name, job);
    }

    /// Removes the jobs that `keep` does not know.
    pub fn retain(&mut self, keep: impl Fn(&JobName) -> bool) {
        self.jobs.retain(|name, _| keep(name));
    }
}

impl JobLock {
    /// Creates a lock without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule, which pins nothing yet.
    pub fn add_rule(&mut self, rule: &ImageRule) {
        self.rules.entry(rule.to_string()).or_default();
    }

    /// Pins an image that a rule selects.
    pub fn pin(&mut self, rule: &ImageRule, image: &Reference, digest: Digest) {
        let pins = self.rules.entry(rule.to_string()).or_default();
        pins.insert(named(image), digest);
    }

    /// Returns the pinned images of a rule, each with the digest that it is pinned to; `None` if
    /// the rule is not locked.
    pub fn pins(&self, rule: &ImageRule) -> Option<Vec<Reference>> {
        let pins = self.rules.get(&rule.to_string())?;
        Some(
            pins.iter()
                .map(|(image, digest)| pinned(image, digest))
                .collect(),
        )
    }

    /// Returns the digest that an image is pinned to by any rule.
    pub fn digest(&self, image: &Reference) -> Option<&Digest> {
        let image = named(image);
        self.rules.values().find_map(|pins| pins.get(&image))
    }
}

/// Returns the name under which an image is pinned: by tag if it has one.
fn named(image: &Reference) -> Reference {
    let (registry, repository) = (image.registry().clone(), image.repository().clone());
    match image.tag() {
        Some(tag) => Reference::with_tag(registry, repository, tag.clone()),
        None => image.clone(),
    }
}

fn pinned(image: &Reference, digest: &Digest) -> Reference {
    image.clone().pinned_to(digest.clone())
}
