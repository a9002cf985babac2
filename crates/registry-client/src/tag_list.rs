use oci_content::{MAX_FOREIGN_CHARS, bounded};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::body::present;
use crate::bounded_list::BoundedList;

/// One page of the list of a repository's tags, as [`Repository::tags`](crate::Repository::tags)
/// gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TagList {
    /// The tags in order, as the registry wrote them. They need not be valid.
    pub tags: Vec<String>,
    /// The number of tags beyond the limit. If it is not 0, this is not the whole page.
    pub unread: usize,
}

/// Why a body is not a list of tags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tag listing is malformed: {0}")]
pub struct TagListError(String);

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    /// `Some(None)` is `null`, which some registries send for an empty list.
    #[serde(default, borrow, deserialize_with = "present")]
    tags: Option<Option<&'a RawValue>>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

impl TagList {
    /// Parses the body of a page (end-8a) and keeps at most `max_tags` of its tags: a page of 32
    /// MiB has room for millions of short ones.
    ///
    /// A list that is `null` is empty, and so is a missing one if the body names the repository,
    /// which is how some registries answer without tags.
    ///
    /// # Errors
    /// When it is anything else, such as `{}` or a list of errors, which does not mean that there
    /// are no tags.
    pub fn parse(body: &[u8], max_tags: usize) -> Result<Self, TagListError> {
        let malformed = |error: serde_json::Error| {
            TagListError(bounded(&error.to_string(), MAX_FOREIGN_CHARS).into_owned())
        };
        // A derived `Deserialize` also accepts an array of the members.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(TagListError("it is not a JSON object".into()));
        }
        let body: Members<'_> = serde_json::from_slice(body).map_err(malformed)?;
        let is_named = body.name.is_some_and(|name| name.get().starts_with('"'));
        match (body.tags, body.errors) {
            (Some(Some(tags)), _) => {
                let list = BoundedList::read(tags.get(), max_tags).map_err(malformed)?;
                Ok(Self {
                    tags: list.read,
                    unread: list.unread,
                })
            }
            (Some(None), None) => Ok(Self::default()),
            (None, None) if is_named => Ok(Self::default()),
            _ => Err(TagListError("it has no `tags`".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_is_read_and_what_is_none_is_never_an_empty_one() {
        let read = |body: &str| {
            TagList::parse(body.as_bytes(), 2).map(|list| (list.tags.join(" "), list.unread))
        };
        for (body, tags, unread) in [
            (r#"{"name":"a","tags":["b","c"]}"#, "b c", 0),
            (r#"{"tags":["b","","x y"],"errors":null}"#, "b ", 1),
            (r#"{"name":"a","tags":[]}"#, "", 0),
            (r#" {"name":"a","tags":null}"#, "", 0),
            (r#"{"name":"a"}"#, "", 0),
            (r#"{"tags":null,"x":{}}"#, "", 0),
        ] {
            assert_eq!(read(body), Ok((tags.to_owned(), unread)), "{body}");
        }
        for (body, reason) in [
            ("{}", "it has no `tags`"),
            (r#"{"name":null}"#, "it has no `tags`"),
            (r#"{"name":"a","errors":[]}"#, "it has no `tags`"),
            (r#"{"tags":null,"errors":[]}"#, "it has no `tags`"),
            (r#"[null,["a"],null]"#, "it is not a JSON object"),
            ("", "it is not a JSON object"),
            (
                r#"{"tags":["a"]"#,
                "EOF while parsing an object at line 1 column 13",
            ),
            (
                r#"{"tags":"a"}"#,
                "invalid type: string \"a\", expected a list at line 1 column 3",
            ),
            (
                r#"{"tags":[1]}"#,
                "invalid type: integer `1`, expected a string at line 1 column 2",
            ),
        ] {
            let message = format!("the tag listing is malformed: {reason}");
            assert_eq!(read(body).unwrap_err().to_string(), message, "{body}");
        }
    }
}
