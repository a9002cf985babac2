use oci_content::Reference;

/// Something that violates a rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Violation {
    /// The class of the violation.
    pub kind: ViolationKind,
    /// The image concerned; `None` if it is about the bundle.
    pub image: Option<Reference>,
    /// What the rule demands, with its name.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// The classes of [`Violation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ViolationKind {
    /// An image has fewer referrers than a rule requires.
    RequiredReferrerMissing,
    /// An image has enough referrers, but too few of them are recent enough.
    ReferrerTooOld,
    /// A referrer that a rule denies.
    DeniedReferrer,
    /// Something that a rule requires to be signed is not.
    RequiredSignatureMissing,
    /// A rule applies to no image of the bundle, so it has checked nothing. This forbids nothing.
    RuleUnused,
}

impl Violation {
    /// Returns whether this forbids the bundle. If not, it is a warning.
    pub fn forbids(&self) -> bool {
        self.kind != ViolationKind::RuleUnused
    }
}
