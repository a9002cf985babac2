use crate::category::ArtifactCategory;
use crate::digest::{Algorithm, Digest};
use crate::tag::Tag;

/// A tag that names a referrer by convention: `sha256-<hex>.<suffix>`, as cosign wrote before OCI
/// 1.1.
///
/// The manifest usually has no `subject`; only the tag relates it to its subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegacyTag {
    subject: Digest,
    suffix: Box<str>,
}

impl LegacyTag {
    /// The suffixes that are looked up without a tag listing.
    pub const KNOWN_SUFFIXES: [&'static str; 3] = ["sig", "att", "sbom"];

    /// Parses a tag; `None` if it does not follow the convention.
    ///
    /// The subject is always a sha256 digest: the hex of a sha512 digest does not fit into a tag.
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

    /// Returns the tag of `subject` with one of the [known suffixes](Self::KNOWN_SUFFIXES); `None`
    /// for a sha512 subject.
    pub fn known(subject: &Digest, suffix: &'static str) -> Option<Self> {
        (subject.algorithm() == Algorithm::Sha256).then(|| Self {
            subject: subject.clone(),
            suffix: suffix.into(),
        })
    }

    /// Returns the subject.
    pub fn subject(&self) -> &Digest {
        &self.subject
    }

    /// Returns the part after the dot.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Returns the tag itself.
    ///
    /// # Panics
    ///
    /// Never: a value is always created from a tag, or from a digest and a known suffix.
    pub fn tag(&self) -> Tag {
        format!("sha256-{}.{}", self.subject.encoded(), self.suffix)
            .parse()
            .expect("made from a tag, or from a digest and a known suffix")
    }

    /// Returns the category that the suffix indicates.
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
