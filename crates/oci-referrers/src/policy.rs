mod date;
mod judge;
mod rule;

use std::time::{Duration, SystemTime};

use oci_content::{ArtifactCategory, Digest, Reference};

use crate::graph::ReferrerGraph;
use crate::image::ImageTree;
pub use date::{MAX_DATED_DOCUMENT_BYTES, created, document_date};
use rule::{Document, Rule, Unused};

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// What a policy is judged over.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct JudgedBundle {
    /// The images, each with everything that refers to it.
    pub images: Vec<JudgedImage>,
    /// Whether the bundle itself is signed by a key that the caller trusts.
    pub signed: bool,
}

/// An image as a policy sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JudgedImage {
    /// The name under which it was asked for.
    pub reference: Reference,
    /// The registry and repository that it goes into, where that is known: at an import.
    pub target: Option<String>,
    /// The manifest that the name stands for.
    pub digest: Digest,
    /// The image manifests of its platforms, with their names. Attestations that BuildKit keeps in an index are none.
    /// An image without an index is its own platform.
    pub platforms: Vec<(Digest, String)>,
    /// What refers to it, to its children and to those again.
    pub referrers: Vec<JudgedReferrer>,
}

/// A referrer as a policy sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JudgedReferrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// What it refers to.
    pub subject: Digest,
    /// Its artifact type, from its own manifest.
    pub artifact_type: Option<String>,
    /// What kind of statement it makes; of a legacy tag that of its suffix.
    pub category: ArtifactCategory,
    /// When the statement was made, where it says so.
    pub created: Option<SystemTime>,
}

/// Something that a rule of a policy forbids or misses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// What it is.
    pub kind: ViolationKind,
    /// The image that it is about; none where it is about the bundle.
    pub image: Option<Reference>,
    /// What should be there, with the name of the rule.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// The classes of [`Violation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ViolationKind {
    /// There are fewer referrers than a rule requires.
    RequiredReferrerMissing,
    /// There are enough, and too few of them are young enough.
    ReferrerTooOld,
    /// A referrer that a rule denies.
    DeniedReferrer,
    /// Something that has to be signed is not.
    RequiredSignatureMissing,
    /// A rule that is about no image of the bundle, and so has judged nothing. It forbids nothing either.
    RuleUnused,
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

impl Violation {
    /// Returns whether it forbids the bundle; else it is a warning.
    pub fn forbids(&self) -> bool {
        self.kind != ViolationKind::RuleUnused
    }
}

impl JudgedBundle {
    /// Creates a bundle without images.
    pub fn new(signed: bool) -> Self {
        Self {
            images: Vec::new(),
            signed,
        }
    }
}

impl JudgedImage {
    /// Creates an image that nothing refers to.
    pub fn new(reference: Reference, digest: Digest) -> Self {
        Self {
            reference,
            target: None,
            digest,
            platforms: Vec::new(),
            referrers: Vec::new(),
        }
    }

    /// Takes an image and its referrers from what was discovered. The dates are those of the annotations.
    pub fn discovered(reference: Reference, tree: &ImageTree, graph: &ReferrerGraph) -> Self {
        use oci_content::media_type;
        let root = &tree.root;
        let mut image = Self::new(reference, root.digest().clone());
        let children = tree.children.iter().filter(|child| {
            !child.is_attestation() && !media_type::is_index(&child.descriptor.media_type)
        });
        image.platforms = match media_type::is_index(root.media_type()) {
            false => vec![(root.digest().clone(), String::new())],
            true => children
                .map(|child| {
                    let name = child.descriptor.platform.as_ref().map(ToString::to_string);
                    (child.descriptor.digest.clone(), name.unwrap_or_default())
                })
                .collect(),
        };
        image.referrers = graph
            .referrers
            .iter()
            .map(|referrer| JudgedReferrer {
                digest: referrer.digest.clone(),
                subject: referrer.subject.clone(),
                artifact_type: referrer.artifact_type.clone(),
                category: referrer.category,
                created: created(&referrer.annotations),
            })
            .collect();
        image
    }
}

impl JudgedReferrer {
    /// Creates a referrer without artifact type and date.
    pub fn new(digest: Digest, subject: Digest, category: ArtifactCategory) -> Self {
        Self {
            digest,
            subject,
            artifact_type: None,
            category,
            created: None,
        }
    }
}

/// How far a date may lie in the future: clocks differ. One farther ahead would keep a document young for ever.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
