use http::{HeaderMap, header};
use oci_content::Digest;

/// A condition of a write: what a tag must hold (`If-Match`, `If-None-Match`), and what content
/// must be there.
///
/// The specification lets clients use it to protect a referrers tag that several of them write:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests-with-subject>
#[derive(Clone, Debug, Default)]
pub struct Precondition {
    if_match: Option<EntityTags>,
    if_none_match: Option<EntityTags>,
    content: Vec<Digest>,
}

#[derive(Clone, Debug)]
enum EntityTags {
    Any,
    OneOf(Vec<String>),
}

impl EntityTags {
    /// Reads a list of entity tags. Weak ones are ignored unless `weak` is set.
    fn from_headers(headers: &HeaderMap, name: header::HeaderName, weak: bool) -> Option<Self> {
        let mut tags = Vec::new();
        let mut present = false;
        for value in headers.get_all(name) {
            present = true;
            for tag in value.to_str().unwrap_or_default().split(',') {
                let tag = tag.trim();
                if tag == "*" {
                    return Some(Self::Any);
                }
                let tag = match tag.strip_prefix("W/") {
                    Some(tag) if weak => tag,
                    Some(_) => continue,
                    None => tag,
                };
                tags.push(tag.trim_matches('"').to_owned());
            }
        }
        present.then_some(Self::OneOf(tags))
    }

    fn matches(&self, current: Option<&Digest>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::OneOf(tags), Some(digest)) => tags.contains(&digest.to_string()),
        }
    }
}

impl Precondition {
    /// Reads the condition from the headers of a request. The entity tag of a manifest is its
    /// digest.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self {
            if_match: EntityTags::from_headers(headers, header::IF_MATCH, false),
            if_none_match: EntityTags::from_headers(headers, header::IF_NONE_MATCH, true),
            content: Vec::new(),
        }
    }

    /// Demands that the tag holds this digest: `If-Match`.
    pub fn if_match(digest: &Digest) -> Self {
        Self {
            if_match: Some(EntityTags::OneOf(vec![digest.to_string()])),
            ..Self::default()
        }
    }

    /// Demands that the tag does not exist: `If-None-Match: *`.
    pub fn if_absent() -> Self {
        Self {
            if_none_match: Some(EntityTags::Any),
            ..Self::default()
        }
    }

    /// Also demands that these blobs and manifests are there when the write happens.
    #[must_use]
    pub fn with_content(mut self, needed: Vec<Digest>) -> Self {
        self.content = needed;
        self
    }

    /// Returns the content that must be there.
    pub fn content(&self) -> &[Digest] {
        &self.content
    }

    /// Returns whether a tag that holds `current` may be written.
    pub fn allows(&self, current: Option<&Digest>) -> bool {
        self.if_match
            .as_ref()
            .is_none_or(|tags| tags.matches(current))
            && !self.not_modified(current)
    }

    /// Returns whether a read of `current` needs no body because the client already has it.
    pub(crate) fn not_modified(&self, current: Option<&Digest>) -> bool {
        self.if_none_match
            .as_ref()
            .is_some_and(|tags| tags.matches(current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_about_the_digest_that_a_tag_holds() {
        let digest = Digest::of(b"x");
        let other = Digest::of(b"y");
        let quoted = format!("\"{digest}\"");
        let list = format!("\"a\", {quoted}");
        let weak = format!("W/{quoted}");
        for (name, value, on_digest, on_other, on_none) in [
            (header::IF_MATCH, quoted.as_str(), true, false, false),
            (header::IF_MATCH, &list, true, false, false),
            (header::IF_MATCH, &weak, false, false, false),
            (header::IF_MATCH, "*", true, true, false),
            (header::IF_NONE_MATCH, &quoted, false, true, true),
            (header::IF_NONE_MATCH, &weak, false, true, true),
            (header::IF_NONE_MATCH, "*", false, false, true),
            (header::ACCEPT, "*", true, true, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name.clone(), value.parse().unwrap());
            let condition = Precondition::from_headers(&headers);
            let allowed = [Some(&digest), Some(&other), None].map(|now| condition.allows(now));
            assert_eq!(allowed, [on_digest, on_other, on_none], "{name}: {value}");
        }
    }
}
