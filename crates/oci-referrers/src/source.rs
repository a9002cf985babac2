use std::fmt;

use async_trait::async_trait;
use oci_content::{
    Capability, Descriptor, Digest, ErrorCode, MAX_MESSAGE_CHARS, Manifest, SourceKind, Tag,
    WarningCode, bounded,
};
use serde::{Deserialize, Serialize};

/// One place that names the referrers of a subject, within one repository.
///
/// # Contract
///
/// - [`Outcome::List`] with no claims means that the place *said* there are none; a failure is never that.
/// - A failure does not lose what was read before it: that is [`Outcome::PartialList`].
/// - Claims need no verification here: [`Discovery`](crate::Discovery) reads each manifest and checks it.
/// - The subject need not exist.
/// - Dropping the future cancels the request and leaves no state behind that a later call would trust.
///
/// With the feature `testing`, `testing::referrer_source` holds an implementor to it.
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
    /// Returns what kind of source this is: it stands beside every referrer that the source named.
    ///
    /// A source of your own is [`SourceKind::Other`]. The other kinds are for what asked that very place: where a source of
    /// the kind `referrers-tag` gives a list, a denied referrers API is [settled](Problem::settled_by_tag).
    fn kind(&self) -> SourceKind;

    /// Asks for all referrers of one subject, to the last page.
    async fn referrers(&self, query: &Query) -> Answer;
}

/// What a [`ReferrerSource`] is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    subject: Digest,
    direct: bool,
}

impl Query {
    /// Asks for the referrers of a subject that somebody named: tags are asked for one by one.
    pub fn direct(subject: Digest) -> Self {
        Self {
            subject,
            direct: true,
        }
    }

    /// Asks for the referrers of one of many subjects: one complete listing of the repository's tags may answer
    /// for all of them.
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

    /// Returns whether the subject is asked for on its own.
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

/// What a source answered: whether it did, what it named, and what it could not settle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Whether there is a list, and whether it is all of it.
    pub outcome: Outcome,
    /// What was named.
    pub claims: Vec<Claim>,
    /// What could not be settled; any of these makes the discovery incomplete, apart from those that a referrers tag
    /// [settles](Problem::settled_by_tag).
    pub errors: Vec<Problem>,
    /// What was noticed.
    pub warnings: Vec<Warning>,
    /// What follows about the referrers API; only a source that asked it says so. A list with `Supported` is the API's: from
    /// that, and not from the kind of the source, the discovery's method follows.
    pub capability: Option<Capability>,
    /// What was asked and answered, for people who want to know why.
    pub exchanges: Vec<Exchange>,
}

/// Whether a source gave a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// There is nothing here that could list referrers: no such API, no such tag. No claim about their number.
    NoAnswer,
    /// The whole list.
    List,
    /// The list up to a failure, which stands in [`Answer::errors`].
    PartialList,
}

impl Answer {
    /// Creates the answer of a source that gave its whole list.
    pub fn list(claims: impl IntoIterator<Item = Claim>) -> Self {
        Self {
            claims: claims.into_iter().collect(),
            ..Self::with_outcome(Outcome::List)
        }
    }

    /// Creates the answer of a source that has no list of this subject.
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

    /// Adds a failure; what was a whole list is a partial one from then on.
    pub fn fail(&mut self, problem: Problem) {
        if self.outcome == Outcome::List {
            self.outcome = Outcome::PartialList;
        }
        self.errors.push(problem);
    }
}

/// A manifest that a source names as a referrer. Not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// What the source says about the manifest.
    pub descriptor: Descriptor,
    /// The legacy tag that names it, from a source of the kind `legacy-tag`: what such a tag holds needs no `subject`. Other
    /// kinds have none.
    pub tag: Option<Tag>,
    /// The manifest, where the source has read it already.
    pub manifest: Option<Manifest>,
}

impl Claim {
    /// Creates a claim from a list's entry.
    ///
    /// Annotations, platform, `urls` and `data` of the entry are not kept, nor a type of more than 1 KiB: lists are long, and
    /// the manifest says it all.
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

    /// Creates a claim from what a legacy tag holds.
    pub fn tagged(tag: Tag, manifest: Manifest) -> Self {
        Self {
            tag: Some(tag),
            manifest: Some(manifest.clone()),
            ..Self::new(manifest.descriptor())
        }
    }
}

/// Something that could not be settled. Displays as its message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Problem {
    /// The class.
    pub code: ErrorCode,
    /// The manifest concerned, if it is one in particular.
    pub digest: Option<Digest>,
    /// The subject whose referrers were asked for, in what a discovery gives back.
    pub subject: Option<Digest>,
    /// The source that failed, if it was one in particular.
    pub source: Option<SourceKind>,
    /// What happened, in a sentence fragment.
    pub message: String,
    /// Whether a referrers tag that answers with an index makes up for it: the problem then does not count.
    ///
    /// For a source that gave no list because something before it refused, while the subject itself may be read. Not a
    /// member of the JSON form: it matters only until a discovery ends.
    #[serde(skip)]
    pub settled_by_tag: bool,
}

impl Problem {
    /// Creates a problem that concerns no manifest in particular.
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

    /// Names the manifest concerned.
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

/// Something that was noticed and does not make a discovery incomplete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warning {
    /// The class.
    pub code: WarningCode,
    /// The manifest concerned, if it is one in particular.
    pub digest: Option<Digest>,
    /// What was noticed, in a sentence fragment.
    pub message: String,
}

impl Warning {
    /// Creates a warning that concerns no manifest in particular.
    pub fn new(code: WarningCode, message: impl Into<String>) -> Self {
        Self {
            code,
            digest: None,
            message: cut(&message.into()),
        }
    }

    /// Names the manifest concerned.
    #[must_use]
    pub fn about(mut self, digest: &Digest) -> Self {
        self.digest = Some(digest.clone());
        self
    }
}

/// One request and its answer, in words.
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
    /// Creates a record.
    pub fn new(source: SourceKind, request: impl Into<String>, answer: impl Into<String>) -> Self {
        Self {
            source,
            request: cut(&request.into()),
            answer: cut(&answer.into()),
        }
    }
}

/// Cuts a message that holds what somebody else wrote.
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
