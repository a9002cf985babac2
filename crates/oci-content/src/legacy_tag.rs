use crate::category::ArtifactCategory;
use crate::digest::{Algorithm, Digest};
use crate::tag::Tag;

/// A tag that names a referrer by convention: `sha256-<hex>.<suffix>`, as cosign wrote it before OCI 1.1.
///
/// What such a tag holds has no `subject` as a rule; it is related to its subject by the tag's name alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegacyTag {
    subject: Digest,
    suffix: Box<str>,
}

impl LegacyTag {
    /// The suffixes that can be asked for without a tag listing.
    pub const KNOWN_SUFFIXES: [&'static str; 3] = ["sig", "att", "sbom"];

    /// Reads a tag; `None` when it does not follow the convention.
    ///
    /// Only `sha256` subjects exist under it: a `sha512` subject's hex is longer than a tag may be.
    pub fn from_tag(tag: &Tag) -> Option<Self> {
        let rest = tag.as_str().strip_prefix("sha256-")?;
        let (encoded, suffix) = rest.split_at_checked(Algorithm::Sha256.encoded_len())?;
        let suffix = suffix
            .strip_prefix('.')
            .filter(|suffix| !suffix.is_empty())?;
        let subject = format!("sha256:{encoded}").parse().ok()?;
        Some(Self {
            subject,
            suffix: suffix.into(),
        })
    }

    /// Names the tag of `subject` with one of the [known suffixes](Self::KNOWN_SUFFIXES); `None` for a subject
    /// that the convention cannot name.
    pub fn known(subject: &Digest, suffix: &'static str) -> Option<Self> {
        (subject.algorithm() == Algorithm::Sha256).then(|| Self {
            subject: subject.clone(),
            suffix: suffix.into(),
        })
    }

    /// Returns the subject that the name speaks of.
    pub fn subject(&self) -> &Digest {
        &self.subject
    }

    /// Returns what stands after the dot.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Returns the tag itself.
    ///
    /// # Panics
    ///
    /// Never: both ways to make a value start from a tag or from a digest and a known suffix.
    pub fn tag(&self) -> Tag {
        format!("sha256-{}.{}", self.subject.encoded(), self.suffix)
            .parse()
            .expect("made from a tag, or from a digest and a known suffix")
    }

    /// Returns the category that the suffix stands for.
    pub fn category(&self) -> ArtifactCategory {
        match &*self.suffix {
            "sig" => ArtifactCategory::Signature,
            "att" => ArtifactCategory::Attestation,
            suffix => ArtifactCategory::of(suffix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixed_digest_tags_are_legacy_tags_and_nothing_else_is() {
        let subject = Digest::of(b"x");
        let tag = |text: String| text.parse::<Tag>().unwrap();
        let hex = subject.encoded();
        for (suffix, category) in [
            ("sig", ArtifactCategory::Signature),
            ("att", ArtifactCategory::Attestation),
            ("sbom", ArtifactCategory::Sbom),
            ("vex", ArtifactCategory::Vex),
            ("other.thing", ArtifactCategory::Other),
        ] {
            let legacy = LegacyTag::from_tag(&tag(format!("sha256-{hex}.{suffix}"))).unwrap();
            assert_eq!((legacy.subject(), legacy.suffix()), (&subject, suffix));
            assert_eq!(legacy.category(), category);
            assert_eq!(legacy.tag(), tag(format!("sha256-{hex}.{suffix}")));
        }
        for text in [
            format!("sha256-{hex}"),
            format!("sha256-{hex}."),
            format!("sha256-{hex}sig"),
            format!("sha256-{}.sig", &hex[1..]),
            format!("sha512-{hex}.sig"),
            "latest".to_owned(),
        ] {
            assert_eq!(LegacyTag::from_tag(&tag(text)), None);
        }
    }
}
