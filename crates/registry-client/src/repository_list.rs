use oci_content::{MAX_FOREIGN_CHARS, bounded};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::body::present;
use crate::bounded_list::BoundedList;

/// One page of the list of a registry's repositories, as
/// [`Catalog::repositories`](crate::Catalog::repositories) gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepositoryList {
    /// The names in order, as the registry wrote them. They need not be valid.
    pub repositories: Vec<String>,
    /// The number of repositories beyond the limit. If it is not 0, this is not the whole page.
    pub unread: usize,
}

/// Why a body is not a list of repositories.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the catalog is malformed: {0}")]
pub struct RepositoryListError(String);

#[derive(Deserialize)]
struct Members<'a> {
    /// `Some(None)` is `null`, which Go programs write for an empty list.
    #[serde(default, borrow, deserialize_with = "present")]
    repositories: Option<Option<&'a RawValue>>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

impl RepositoryList {
    /// Parses the body of a page and keeps at most `max_repositories` of its names: a page of 32
    /// MiB has room for millions of short ones. A list that is `null` is empty.
    ///
    /// # Errors
    /// When it is anything else, such as `{}` or a list of errors, which does not mean that there
    /// are no repositories.
    pub fn parse(body: &[u8], max_repositories: usize) -> Result<Self, RepositoryListError> {
        let malformed = |error: serde_json::Error| {
            RepositoryListError(bounded(&error.to_string(), MAX_FOREIGN_CHARS).into_owned())
        };
        // A derived `Deserialize` also accepts an array of the members.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(RepositoryListError("it is not a JSON object".into()));
        }
        let body: Members<'_> = serde_json::from_slice(body).map_err(malformed)?;
        match (body.repositories, body.errors) {
            (Some(Some(names)), _) => {
                let list = BoundedList::read(names.get(), max_repositories).map_err(malformed)?;
                Ok(Self {
                    repositories: list.read,
                    unread: list.unread,
                })
            }
            (Some(None), None) => Ok(Self::default()),
            _ => Err(RepositoryListError("it has no `repositories`".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_repositories_is_read_and_anything_else_is_never_an_empty_one() {
        let read = |body: &str| {
            RepositoryList::parse(body.as_bytes(), 2)
                .map(|list| (list.repositories.join(" "), list.unread))
        };
        for (body, names, unread) in [
            (r#"{"repositories":["a","b/c"]}"#, "a b/c", 0),
            (r#"{"repositories":["a","b","c"],"errors":null}"#, "a b", 1),
            (r#" {"repositories":[]}"#, "", 0),
            (r#"{"repositories":null}"#, "", 0),
        ] {
            assert_eq!(read(body), Ok((names.to_owned(), unread)), "{body}");
        }
        for (body, reason) in [
            ("{}", "it has no `repositories`"),
            (
                r#"{"repositories":null,"errors":[]}"#,
                "it has no `repositories`",
            ),
            (r#"[["a"],null]"#, "it is not a JSON object"),
            ("", "it is not a JSON object"),
            (
                r#"{"repositories":["a"]"#,
                "EOF while parsing an object at line 1 column 21",
            ),
            (
                r#"{"repositories":[1]}"#,
                "invalid type: integer `1`, expected a string at line 1 column 2",
            ),
        ] {
            let message = format!("the catalog is malformed: {reason}");
            assert_eq!(read(body).unwrap_err().to_string(), message, "{body}");
        }
    }
}
