use oci_content::Reference;

/// Something that a rule of a policy forbids or misses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl Violation {
    /// Returns whether it forbids the bundle; else it is a warning.
    pub fn forbids(&self) -> bool {
        self.kind != ViolationKind::RuleUnused
    }
}
