use std::fmt;

use async_trait::async_trait;
use oci_content::{
    Capability, Descriptor, Digest, ErrorCode, MAX_MESSAGE_CHARS, Manifest, ManifestError,
    ManifestErrorKind, SourceKind, Tag, WarningCode, bounded,
};
use serde::{Deserialize, Serialize};

/// One place that names the referrers of a subject, within one repository.
///
/// # Contract
///
/// - [`Outcome::List`] with no claims means that the place *said* that there are none. A failure is
///   never an empty list.
/// - What was read before a failure is kept: the outcome is then [`Outcome::PartialList`].
/// - Claims need not be verified: [`Discovery`](crate::Discovery) reads and checks each manifest.
/// - The subject need not exist.
/// - Dropping the future cancels the request and leaves no state behind that a later call would
///   trust.
///
/// With the feature `testing`, `testing::referrer_source` tests an implementation against this
/// contract.
///
/// ```
/// use oci_content::{Descriptor, ErrorCode, OtherSource, SourceKind};
/// use oci_referrers::{Answer, Claim, Problem, Query, ReferrerSource};
///
/// #[derive(Debug)]
/// struct Inventory {
///     name: OtherSource,
/// }
/// # impl Inventory {
/// #     async fn rows(&self, _: &oci_content::Digest) -> Result<Vec<Descriptor>, std::io::Error> { Ok(vec![]) }
/// # }
///
/// #[async_trait::async_trait]
/// impl ReferrerSource for Inventory {
///     fn kind(&self) -> SourceKind {
///         SourceKind::Other(self.name)
///     }
///
///     async fn referrers(&self, query: &Query) -> Answer {
///         match self.rows(query.subject()).await {
///             Ok(rows) => Answer::list(rows.into_iter().map(Claim::new)),
///             Err(error) => Answer::failed(Problem::new(ErrorCode::Network, error.to_string())),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait ReferrerSource: fmt::Debug + Send + Sync {
    /// Returns the kind of this source, which is recorded with every referrer that it names.
    ///
    /// A source of your own is [`SourceKind::Other`]. The other kinds are reserved for sources that
    /// really ask that place: if a source of the kind `referrers-tag` gives a list, a denied
    /// referrers API is [not an error](Problem::settled_by_tag).
    fn kind(&self) -> SourceKind;

    /// Lists all referrers of one subject, through the last page.
    async fn referrers(&self, query: &Query) -> Answer;
}

/// What a [`ReferrerSource`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    subject: Digest,
    direct: bool,
}

impl Query {
    /// Asks for the referrers of a single subject, whose tags are requested one by one.
    pub fn direct(subject: Digest) -> Self {
        Self {
            subject,
            direct: true,
        }
    }

    /// Asks for the referrers of one of many subjects, for which one complete listing of the
    /// repository's tags may serve instead of a request for each tag.
    pub fn one_of_many(subject: Digest) -> Self {
        Self {
            subject,
            direct: false,
        }
    }

    /// Returns the subject.
    pub fn subject(&self) -> &Digest {
        &self.subject
    }

    /// Returns whether this query is about a single subject, and not one of many.
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

/// What a source answered: whether it gave a list, what it named, and what failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Whether there is a list, and whether it is all of it.
    pub outcome: Outcome,
    /// The manifests that the source names as referrers.
    pub claims: Vec<Claim>,
    /// What failed. Any problem makes the discovery incomplete, except one that a referrers tag
    /// [settles](Problem::settled_by_tag).
    pub errors: Vec<Problem>,
    /// What was noticed without making the discovery incomplete.
    pub warnings: Vec<Warning>,
    /// What the answer shows about the referrers API; `None` from a source that did not ask it. A
    /// list with `Supported` counts as the API's list. The discovery method follows from this, and
    /// not from the kind of the source.
    pub capability: Option<Capability>,
    /// The requests and their answers, for people who want to know why.
    pub exchanges: Vec<Exchange>,
}

/// Whether a source gave a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// There is nothing here that could list referrers, such as no API or no tag. This says nothing
    /// about their number.
    NoAnswer,
    /// The whole list.
    List,
    /// The list up to a failure, which is in [`Answer::errors`].
    PartialList,
}

impl Answer {
    /// Creates the answer of a source that gave a whole list.
    pub fn list(claims: impl IntoIterator<Item = Claim>) -> Self {
        Self {
            claims: claims.into_iter().collect(),
            ..Self::with_outcome(Outcome::List)
        }
    }

    /// Creates the answer of a source that has no list for the subject.
    pub fn none() -> Self {
        Self::with_outcome(Outcome::NoAnswer)
    }

    /// Creates the answer of a source that failed before it named anything.
    pub fn failed(problem: Problem) -> Self {
        Self {
            errors: vec![problem],
            ..Self::with_outcome(Outcome::NoAnswer)
        }
    }

    /// Creates an empty answer with an outcome.
    pub fn with_outcome(outcome: Outcome) -> Self {
        Self {
            outcome,
            claims: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            capability: None,
            exchanges: Vec::new(),
        }
    }

    /// Adds a failure, which turns a whole list into a partial one.
    pub fn fail(&mut self, problem: Problem) {
        if self.outcome == Outcome::List {
            self.outcome = Outcome::PartialList;
        }
        self.errors.push(problem);
    }
}

/// A manifest that a source names as a referrer, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// What the source says about the manifest.
    pub descriptor: Descriptor,
    /// The legacy tag that names it; only from a source of the kind `legacy-tag`. A manifest under
    /// such a tag needs no `subject`.
    pub tag: Option<Tag>,
    /// The manifest, if the source has already read it.
    pub manifest: Option<Manifest>,
}

impl Claim {
    /// Creates a claim from an entry of a list.
    ///
    /// Annotations, platform, `urls` and `data` of the entry are dropped, and so are types of more
    /// than 1 KiB: lists are long, and the manifest has all of it.
    pub fn new(entry: Descriptor) -> Self {
        const MAX_TYPE_BYTES: usize = 1024;
        let short = |text: &String| text.len() <= MAX_TYPE_BYTES;
        let media_type = Some(entry.media_type).filter(short).unwrap_or_default();
        let mut descriptor = Descriptor::new(media_type, entry.digest, entry.size);
        descriptor.artifact_type = entry.artifact_type.filter(short);
        Self {
            descriptor,
            tag: None,
            manifest: None,
        }
    }

    /// Creates a claim from a legacy tag and the manifest under it.
    pub fn tagged(tag: Tag, manifest: Manifest) -> Self {
        Self {
            tag: Some(tag),
            manifest: Some(manifest.clone()),
            ..Self::new(manifest.descriptor())
        }
    }
}

/// A failure that makes a discovery incomplete. Displays as its message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Problem {
    /// The class of the problem.
    pub code: ErrorCode,
    /// The manifest concerned; `None` if it is about no particular one.
    pub digest: Option<Digest>,
    /// The subject whose referrers were asked for; set by the discovery.
    pub subject: Option<Digest>,
    /// The source that failed; `None` if no particular one did.
    pub source: Option<SourceKind>,
    /// What happened, as a sentence fragment of at most 1,024 characters.
    pub message: String,
    /// Whether the problem is dropped when a referrers tag answers with an index.
    ///
    /// Set by a source that was refused a list although the subject itself can be read. Not part of
    /// the JSON form, since it only matters until the discovery ends.
    #[serde(skip)]
    pub settled_by_tag: bool,
}

impl Problem {
    /// Creates a problem that is about no particular manifest.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            digest: None,
            subject: None,
            source: None,
            message: cut(&message.into()),
            settled_by_tag: false,
        }
    }

    /// Sets the manifest concerned.
    #[must_use]
    pub fn about(mut self, digest: &Digest) -> Self {
        self.digest = Some(digest.clone());
        self
    }

    /// Drops the problem if a referrers tag of the subject answers with an index.
    #[must_use]
    pub fn unless_tag_answers(mut self) -> Self {
        self.settled_by_tag = true;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl From<&ManifestError> for Problem {
    fn from(error: &ManifestError) -> Self {
        let code = match error.kind() {
            ManifestErrorKind::Digest => ErrorCode::Integrity,
            _ => ErrorCode::Malformed,
        };
        Self::new(code, error.to_string())
    }
}

/// An observation that does not make a discovery incomplete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warning {
    /// The class of the warning.
    pub code: WarningCode,
    /// The manifest concerned; `None` if it is about no particular one.
    pub digest: Option<Digest>,
    /// What was noticed, as a sentence fragment of at most 1,024 characters.
    pub message: String,
}

impl Warning {
    /// Creates a warning that is about no particular manifest.
    pub fn new(code: WarningCode, message: impl Into<String>) -> Self {
        Self {
            code,
            digest: None,
            message: cut(&message.into()),
        }
    }

    /// Sets the manifest concerned.
    #[must_use]
    pub fn about(mut self, digest: &Digest) -> Self {
        self.digest = Some(digest.clone());
        self
    }
}

/// One request and its answer, in words of at most 1,024 characters each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exchange {
    /// The source that asked.
    pub source: SourceKind,
    /// The request, without credentials.
    pub request: String,
    /// The answer.
    pub answer: String,
}

impl Exchange {
    /// Creates a record of a request and its answer.
    pub fn new(source: SourceKind, request: impl Into<String>, answer: impl Into<String>) -> Self {
        Self {
            source,
            request: cut(&request.into()),
            answer: cut(&answer.into()),
        }
    }
}

/// Shortens a message that may quote a registry.
fn cut(message: &str) -> String {
    bounded(message, MAX_MESSAGE_CHARS).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_at_length_is_cut() {
        let long = "é".repeat(10_000);
        let problem = Problem::new(ErrorCode::Malformed, &long);
        assert!(problem.message.chars().count() <= 1025 && problem.message.ends_with("é…"));
    }

    #[test]
    fn of_a_lists_entry_is_kept_what_the_manifest_is_held_against() {
        let long = "x".repeat(2_000);
        let mut entry = Descriptor::of("a/b", b"x");
        entry.annotations.insert("key".into(), long.clone());
        entry.urls.push(long.clone());
        entry.data = Some(long.clone());
        entry.artifact_type = Some("c/d".into());
        let mut expected = Descriptor::of("a/b", b"x");
        expected.artifact_type = Some("c/d".into());
        assert_eq!(Claim::new(entry.clone()).descriptor, expected);
        entry.artifact_type = Some(long);
        assert_eq!(Claim::new(entry).descriptor.artifact_type, None);
    }
}
