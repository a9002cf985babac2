use std::borrow::Cow;

use oci_content::media_type;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::referrers_list::ReferrersList;

/// The kind of the body of an answer, according to its bytes and its content type.
///
/// The important distinction is between a body that can be read but is something else, which is a
/// statement of the registry, and one that cannot be read, which is not:
/// [`Unreadable`](Self::Unreadable) and [`Absent`](Self::Absent) never mean "there is nothing".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// A complete image index.
    Index(ReferrersList),
    /// Complete JSON of another kind, such as `{}`, `null` or an image manifest; described in
    /// words.
    OtherJson(&'static str),
    /// HTML, or other text with a content type that is not JSON; described in words.
    Page(&'static str),
    /// Neither: truncated JSON, JSON followed by something else, a byte order mark, bytes that are
    /// not text, or an index whose members have the wrong types; described in words.
    Unreadable(String),
    /// No bytes, or only white space.
    Absent,
}

impl Body {
    /// Reads a body.
    pub fn read(bytes: &[u8], content_type: Option<&str>) -> Self {
        match Kind::of(bytes, content_type) {
            Kind::Index {
                manifests,
                other_content_type,
            } => Self::Index(ReferrersList::read(manifests, other_content_type)),
            Kind::OtherJson(found) => Self::OtherJson(found),
            Kind::Page(found) => Self::Page(found),
            Kind::Unreadable(reason) => Self::Unreadable(reason),
            Kind::Absent => Self::Absent,
        }
    }

    /// Returns why a body cannot be read, if it cannot. The entries of a list are not parsed.
    pub(crate) fn unreadable(bytes: &[u8], content_type: Option<&str>) -> Option<String> {
        match Kind::of(bytes, content_type) {
            Kind::Unreadable(reason) => Some(reason),
            Kind::Absent => Some(EMPTY.into()),
            Kind::Index { .. } | Kind::OtherJson(_) | Kind::Page(_) => None,
        }
    }
}

/// A [`Body`] whose list has not been parsed yet.
enum Kind<'a> {
    Index {
        /// A list, or `null`.
        manifests: &'a RawValue,
        other_content_type: bool,
    },
    OtherJson(&'static str),
    Page(&'static str),
    Unreadable(String),
    Absent,
}

impl<'a> Kind<'a> {
    fn of(bytes: &'a [u8], content_type: Option<&str>) -> Self {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        let essence = content_type.map(media_type::essence).unwrap_or_default();
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let start = text.trim_ascii_start();
        match start.first() {
            None if text.len() == bytes.len() => return Self::Absent,
            // Markup is never JSON, whatever the content type: login pages are served as JSON too.
            Some(b'<') => return Self::Page("an HTML page"),
            _ if text.len() != bytes.len() => {
                return Self::Unreadable("JSON after a byte order mark".into());
            }
            _ => {}
        }
        let is_json = is_json(&essence);
        match serde_json::from_slice::<&RawValue>(bytes) {
            Ok(_) if start.starts_with(b"{") => Self::of_object(bytes, &essence),
            // Text such as `404` or `"gone"` happens to be JSON.
            Ok(_) if !is_json && !start.starts_with(b"[") => Self::Page("text"),
            Ok(_) => Self::OtherJson("other JSON"),
            Err(error) if is_json || start.starts_with(b"{") || start.starts_with(b"[") => {
                Self::Unreadable(format!("JSON that cannot be read ({error})"))
            }
            Err(_) if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) => {
                Self::Page("text")
            }
            Err(_) => Self::Unreadable("bytes that are neither JSON nor text".into()),
        }
    }

    /// Determines the kind of a complete JSON object.
    fn of_object(body: &'a [u8], essence: &str) -> Self {
        let members = match serde_json::from_slice::<Members<'_>>(body) {
            Ok(members) => members,
            Err(error) => return Self::Unreadable(format!("JSON that cannot be read ({error})")),
        };
        if members.layers.is_some() || members.config.is_some() {
            return Self::OtherJson("an image manifest");
        }
        let is_index_type = essence == media_type::IMAGE_INDEX;
        match members.media_type.as_deref().filter(|own| !own.is_empty()) {
            Some(media_type::IMAGE_INDEX) => {}
            Some(media_type::DOCKER_MANIFEST_LIST) => {
                return Self::OtherJson("a Docker manifest list");
            }
            Some(_) => return Self::OtherJson("a document of another media type"),
            None if essence == media_type::DOCKER_MANIFEST_LIST => {
                return Self::OtherJson("a Docker manifest list");
            }
            None if is_index_type || members.is_version_2() => {}
            None => return Self::OtherJson("other JSON"),
        }
        let Some(manifests) = members.manifests else {
            return Self::OtherJson("JSON without `manifests`");
        };
        if manifests.get() != "null" && !manifests.get().starts_with('[') {
            return Self::Unreadable("an index whose `manifests` is not a list".into());
        }
        Self::Index {
            manifests,
            other_content_type: !is_index_type,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    schema_version: Option<&'a RawValue>,
    #[serde(borrow)]
    media_type: Option<Cow<'a, str>>,
    /// `Some` with `null` is different from a missing member.
    #[serde(default, borrow, deserialize_with = "present")]
    manifests: Option<&'a RawValue>,
    #[serde(borrow)]
    layers: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
}

/// Reads a member that is present as `Some`, even if its value is `null`.
pub(crate) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl Members<'_> {
    fn is_version_2(&self) -> bool {
        self.schema_version
            .is_some_and(|version| version.get().trim_matches('"') == "2")
    }
}

/// The description of a body without bytes.
pub(crate) const EMPTY: &str = "an empty body";

/// Returns whether a media type means JSON: `application/json`, anything with the suffix `+json`,
/// and Docker's signed manifests.
fn is_json(essence: &str) -> bool {
    essence.ends_with("/json") || essence.ends_with("+json") || essence.ends_with("+prettyjws")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8], content_type: &str) -> String {
        let content_type = (!content_type.is_empty()).then_some(content_type);
        match Body::read(bytes, content_type) {
            Body::Index(list) => format!("index of {}", list.entries.len()),
            Body::OtherJson(_) => "other JSON".into(),
            Body::Page(_) => "page".into(),
            Body::Unreadable(_) => "unreadable".into(),
            Body::Absent => "absent".into(),
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_something_else() {
        const INDEX: &str = media_type::IMAGE_INDEX;
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
        let typed =
            |members: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}"{members}}}"#);
        let blanks = format!("{}{index}", " \r\n\t".repeat(1 << 20));
        for (content_type, bytes, expected) in [
            (INDEX, index.as_str(), "index of 0"),
            ("", &index, "index of 0"),
            ("text/html", &index, "index of 0"),
            (INDEX, &blanks, "index of 0"),
            (INDEX, &typed(r#","manifests":null"#), "index of 0"),
            (INDEX, "", "absent"),
            ("text/html", "", "absent"),
            (INDEX, " \n\t ", "absent"),
            (INDEX, "\u{feff}", "unreadable"),
            (INDEX, &format!("\u{feff}{index}"), "unreadable"),
            (INDEX, "\u{feff}<html>", "page"),
            (INDEX, "  <!doctype html>", "page"),
            ("text/html", "<html>", "page"),
            ("text/plain", "404 page not found", "page"),
            ("", "no such page", "page"),
            ("text/plain", "404", "page"),
            (INDEX, "404", "other JSON"),
            ("application/json", "null", "other JSON"),
            ("text/plain", "null", "page"),
            ("application/json", "[]", "other JSON"),
            ("text/plain", "[]", "other JSON"),
            ("application/json", "{}", "other JSON"),
            ("text/plain", "{}", "other JSON"),
            ("application/json", "404 page not found", "unreadable"),
            ("application/problem+json", "oops", "unreadable"),
            (INDEX, &index[..index.len() - 1], "unreadable"),
            (INDEX, "{", "unreadable"),
            ("text/html", &index[..20], "unreadable"),
            ("", "[1, 2", "unreadable"),
            (INDEX, &format!("{index}x"), "unreadable"),
            (INDEX, &format!("{index}{index}"), "unreadable"),
            // It claims to be an index, but its members are not those of one.
            (INDEX, &typed(r#","manifests":{}"#), "unreadable"),
            (INDEX, &typed(r#","manifests":"[]""#), "unreadable"),
            (
                INDEX,
                &typed(r#","manifests":[],"manifests":[1]"#),
                "unreadable",
            ),
            (INDEX, &typed(""), "other JSON"),
        ] {
            let shown: String = bytes.chars().take(60).collect();
            assert_eq!(
                kind(bytes.as_bytes(), content_type),
                expected,
                "{content_type:?} {shown:?}"
            );
        }
        for bytes in [&b"\x1f\x8b\x08\x00"[..], b"\0\0\0\0", b"\xff\xfe{\0}\0"] {
            assert_eq!(
                kind(bytes, "application/octet-stream"),
                "unreadable",
                "{bytes:?}"
            );
        }
        let latin = b"<html><p>\xfcber</html>";
        assert_eq!(kind(latin, ""), "page");
    }
}
