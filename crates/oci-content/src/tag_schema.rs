use crate::digest::{Algorithm, Digest};
use crate::legacy_tag::LegacyTag;
use crate::tag::Tag;

/// The length to which a referrers tag cuts the encoded part of a digest.
const MAX_ENCODED: usize = 64;

/// Returns the referrers tag of a subject, under which clients maintain the list on registries
/// without the API.
///
/// The encoded part is cut to 64 characters, so two sha512 subjects can share one tag: what the tag
/// holds must be checked against the full digest.
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
///
/// # Panics
///
/// Never: the characters of a [`Digest`] are allowed in a tag.
pub fn referrers_tag(subject: &Digest) -> Tag {
    let encoded = &subject.encoded()[..MAX_ENCODED];
    let tag = format!("{}-{encoded}", subject.algorithm());
    // Both algorithms encode to at least 64 characters of lower-case hex.
    tag.parse()
        .expect("a digest's characters are tag characters")
}

/// Returns a tag that does not exist, to find out how a registry answers for one.
///
/// It is the referrers tag of `subject` followed by `-absent`, so it is neither a referrers tag nor
/// a [legacy tag](LegacyTag).
///
/// # Panics
///
/// Never: it has 78 characters, fewer than the limit of 128.
pub fn absent_tag(subject: &Digest) -> Tag {
    let tag = format!("{}-absent", referrers_tag(subject));
    tag.parse().expect("a tag of 78 characters")
}

/// The purpose of a tag, as far as its text shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TagKind {
    /// An ordinary tag.
    Plain,
    /// A [referrers tag](referrers_tag): `sha256-<hex>`.
    #[non_exhaustive]
    Referrers {
        /// The subject; `None` if the tag contains only a part of its digest, as for sha512.
        subject: Option<Digest>,
    },
    /// A tag that names one referrer: `sha256-<hex>.<suffix>`.
    Legacy(LegacyTag),
}

impl Tag {
    /// Returns the purpose of the tag, as far as its text shows.
    pub fn kind(&self) -> TagKind {
        if let Some(legacy) = LegacyTag::from_tag(self) {
            return TagKind::Legacy(legacy);
        }
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let parts = self.as_str().split_once('-');
        let parts = parts.and_then(|(name, hex)| Some((name.parse::<Algorithm>().ok()?, hex)));
        match parts {
            Some((algorithm, hex)) if hex.len() == MAX_ENCODED && hex.bytes().all(is_hex) => {
                TagKind::Referrers {
                    subject: format!("{algorithm}:{hex}").parse().ok(),
                }
            }
            _ => TagKind::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referrers_tag_is_cut_to_64_characters() {
        let sha256 = Digest::of(b"x");
        assert_eq!(
            referrers_tag(&sha256).as_str(),
            format!("sha256-{}", sha256.encoded())
        );
        let sha512 = Digest::compute(Algorithm::Sha512, b"x");
        assert_eq!(
            referrers_tag(&sha512).as_str(),
            format!("sha512-{}", &sha512.encoded()[..64])
        );
    }

    #[test]
    fn the_text_of_a_tag_tells_what_it_is_for() {
        let sha256 = Digest::of(b"x");
        let sha512 = Digest::compute(Algorithm::Sha512, b"x");
        let kind = |text: &str| text.parse::<Tag>().unwrap().kind();
        let subject = Some(sha256.clone());
        assert_eq!(
            referrers_tag(&sha256).kind(),
            TagKind::Referrers { subject }
        );
        let cut = TagKind::Referrers { subject: None };
        assert_eq!(referrers_tag(&sha512).kind(), cut);
        let legacy = LegacyTag::known(&sha256, "sig").unwrap();
        assert_eq!(legacy.tag().kind(), TagKind::Legacy(legacy));
        let hex = sha256.encoded();
        for plain in [
            "latest".to_owned(),
            "sha256-".to_owned(),
            format!("sha256-{}", &hex[1..]),
            format!("sha256-{hex}0"),
            format!("sha256-{}", hex.to_uppercase()),
            format!("md5-{hex}"),
            hex.to_owned(),
            format!("sha512-{hex}.sig"),
            absent_tag(&sha256).to_string(),
            absent_tag(&sha512).to_string(),
        ] {
            assert_eq!(kind(&plain), TagKind::Plain, "{plain}");
        }
    }
}
