use std::collections::BTreeMap;

use oci_content::{Capability, MAX_FOREIGN_CHARS, MAX_MESSAGE_CHARS, bounded};
use serde::{Deserialize, Serialize};

/// A request and its answer: the evidence for a [`Capability`].
///
/// It contains no credentials: only headers that never carry any are recorded, and the URL has no
/// query. Header values are cut at 256 characters, request and reason at 1,024.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Evidence {
    /// The request, such as `GET https://registry.example.com/v2/app/referrers/sha256:…`.
    pub request: String,
    /// The status of the answer; `None` when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The relevant headers of the answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What was concluded.
    pub capability: Capability,
    /// Why, in a sentence fragment.
    pub reason: String,
}

impl Evidence {
    /// The headers that are recorded.
    pub const HEADERS: [&'static str; 12] = [
        "content-type",
        "docker-distribution-api-version",
        "link",
        "oci-distribution-api-version",
        "oci-filters-applied",
        "oci-subject",
        "ratelimit-limit",
        "ratelimit-remaining",
        "retry-after",
        "server",
        "via",
        "www-authenticate",
    ];

    /// Creates a record without an answer.
    pub fn new(
        request: impl Into<String>,
        capability: Capability,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            request: message(&request.into()),
            status: None,
            headers: BTreeMap::new(),
            capability,
            reason: message(&reason.into()),
        }
    }

    /// Adds the answer: its status, and the relevant ones of `headers`.
    #[must_use]
    pub fn with_answer<'a>(
        mut self,
        status: u16,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        self.status = Some(status);
        for (name, value) in headers {
            if Self::HEADERS.contains(&name) {
                self.headers.insert(name.to_owned(), foreign(value));
            }
        }
        self
    }
    /// Returns whether all texts have the lengths that [`new`](Self::new) and
    /// [`with_answer`](Self::with_answer) ensure, which may not be so for a record that was read
    /// from a file.
    pub fn is_bounded(&self) -> bool {
        [&self.request, &self.reason]
            .into_iter()
            .all(|text| message(text) == **text)
            && self.headers.iter().all(|(name, value)| {
                Self::HEADERS.contains(&name.as_str()) && foreign(value) == *value
            })
    }
}

fn foreign(text: &str) -> String {
    bounded(text, MAX_FOREIGN_CHARS).into_owned()
}

fn message(text: &str) -> String {
    bounded(text, MAX_MESSAGE_CHARS).into_owned()
}
