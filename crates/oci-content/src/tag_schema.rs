use crate::digest::Digest;
use crate::tag::Tag;

/// Returns the referrers tag of a subject: where a client keeps the list on a registry without the API.
///
/// The encoded part is cut to 64 characters, so two `sha512` subjects can share one tag: what the tag holds
/// must be checked against the full subject digest.
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
///
/// # Panics
///
/// Never: a [`Digest`] holds nothing that a tag may not hold.
pub fn referrers_tag(subject: &Digest) -> Tag {
    const MAX_ENCODED: usize = 64;
    let encoded = &subject.encoded()[..MAX_ENCODED];
    let tag = format!("{}-{encoded}", subject.algorithm().as_str());
    // Both algorithms encode to at least 64 characters of lower-case hex.
    tag.parse()
        .expect("a digest's characters are tag characters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

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
}
