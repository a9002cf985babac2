use oci_content::{Capability, Digest};

use crate::body::{Body, EMPTY};
use crate::referrers_list::ReferrersList;

/// The meaning of an answer to `GET /v2/<name>/referrers/<digest>`, as a pure function of the
/// answer.
///
/// Only [`List`](Self::List) and [`SubjectUnknown`](Self::SubjectUnknown) are claims about
/// referrers; no other variant says how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersAnswer {
    /// The registry listed the referrers that it knows, possibly none.
    List(ReferrersList),
    /// The registry has the API but does not know the subject (Quay since 3.12 answers 400).
    SubjectUnknown,
    /// The API gave no answer: the referrers tag has to be looked up.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#unavailable-referrers-api>
    #[non_exhaustive]
    NoAnswer {
        /// What the answer shows about the registry.
        capability: Capability,
        /// Whether it was a 200 with something other than a list.
        false_200: bool,
        /// Why, in a sentence fragment.
        reason: String,
    },
    /// 404 `NAME_UNKNOWN`: no answer either. Whether the repository exists depends on whether the
    /// subject does.
    RepositoryUnknown,
    /// 401 or 403. Requesting the subject with the same credentials tells whether only the API is
    /// blocked.
    Blocked,
    /// A 200 whose body cannot be read, which says nothing about referrers; why, in a sentence
    /// fragment.
    Unreadable(String),
    /// Temporarily no answer: a rate limit, a server error, or an unexpected status.
    #[non_exhaustive]
    Unavailable {
        /// Whether it was a rate limit.
        rate_limited: bool,
        /// Whether another host answered, after a redirect. The registry may then keep its
        /// referrers under a tag: an index there settles the question.
        foreign: bool,
    },
}

/// The meaning of an answer to `GET /v2/<name>/manifests/<tag>` for a referrers tag, as a pure
/// function of the answer.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersTagAnswer {
    /// The tag holds this index.
    List(ReferrersList),
    /// The tag does not exist.
    Absent,
    /// The tag holds something readable that is not an index; described in words.
    NotAnIndex(&'static str),
    /// 403. Requesting a tag that cannot exist with the same credentials tells whether this is how
    ///      the registry says 404.
    Denied,
    /// A 200 whose body cannot be read, which says nothing about referrers; why, in a sentence
    /// fragment.
    Unreadable(String),
    /// No answer: denied, a rate limit, a server error, or an unexpected status.
    #[non_exhaustive]
    Unavailable {
        /// Whether it was a rate limit.
        rate_limited: bool,
    },
}

/// The parts of an answer that determine its meaning.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AnswerParts<'a> {
    /// The status, after redirects.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The error codes in the body.
    pub error_codes: &'a [String],
    /// The body.
    pub body: &'a [u8],
    /// Whether a host other than the registry answered, after a redirect.
    pub foreign: bool,
}

impl<'a> AnswerParts<'a> {
    /// Creates the parts of an answer from the registry itself.
    pub fn new(
        status: u16,
        content_type: Option<&'a str>,
        error_codes: &'a [String],
        body: &'a [u8],
    ) -> Self {
        Self {
            status,
            content_type,
            error_codes,
            body,
            foreign: false,
        }
    }
}

impl ReferrersAnswer {
    /// Decides what an answer with the first page means.
    ///
    /// The table is in `docs/registry-compatibility.md`: each class of status, by the host that
    /// answered and by the kind of body.
    pub fn decide(answer: AnswerParts<'_>) -> Self {
        let code = |wanted: &str| answer.error_codes.iter().any(|code| code == wanted);
        // An answer of another host says nothing about the capabilities of the registry.
        let unless_foreign = |capability| {
            if answer.foreign {
                Capability::Unknown
            } else {
                capability
            }
        };
        let false_200 = |found: &str| Self::NoAnswer {
            capability: unless_foreign(Capability::Unsupported),
            false_200: true,
            reason: format!("200 with {found} instead of a referrers list"),
        };
        let no_answer = |capability, reason: String| Self::NoAnswer {
            capability: unless_foreign(capability),
            false_200: false,
            reason: if answer.foreign {
                format!("{reason} from another host")
            } else {
                reason
            },
        };
        match answer.status {
            200 => match Body::read(answer.body, answer.content_type) {
                Body::Index(list) => Self::List(list),
                Body::OtherJson(found) | Body::Page(found) => false_200(found),
                Body::Unreadable(reason) => Self::Unreadable(reason),
                Body::Absent => Self::Unreadable(EMPTY.into()),
            },
            404 if code("NAME_UNKNOWN") && !answer.foreign => Self::RepositoryUnknown,
            // A registry that has the API must not answer 404:
            // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
            404 => no_answer(Capability::Unsupported, "404".into()),
            400 if !answer.foreign && (code("MANIFEST_INVALID") || code("MANIFEST_UNKNOWN")) => {
                Self::SubjectUnknown
            }
            400 if code("DIGEST_INVALID") => {
                no_answer(Capability::Unknown, "400, the digest was refused".into())
            }
            400 if code("TOOMANYREQUESTS") => Self::Unavailable {
                rate_limited: true,
                foreign: answer.foreign,
            },
            401 | 403 => Self::Blocked,
            // 406: Artifactory before 7.90. 405, 410, 415, 501: a router without such a method or
            // resource.
            400 | 405 | 406 | 410 | 415 | 501 => {
                no_answer(Capability::Unsupported, answer.status.to_string())
            }
            // An artifact cache answers 424 when its upstream failed. An unexpected status is not a
            // claim.
            status => Self::Unavailable {
                rate_limited: status == 429,
                foreign: answer.foreign,
            },
        }
    }
}

impl ReferrersTagAnswer {
    /// Decides what an answer for a referrers tag means. The caller has to check whether the index
    /// is the subject itself, as GitLab answers for every subject.
    ///
    /// A 404 from another host counts too: registries that redirect every manifest request
    /// (registry.k8s.io) have no other way to say that a tag does not exist.
    pub fn decide(answer: AnswerParts<'_>) -> Self {
        match answer.status {
            200 => match Body::read(answer.body, answer.content_type) {
                Body::Index(list) => Self::List(list),
                Body::OtherJson(found) | Body::Page(found) => Self::NotAnIndex(found),
                Body::Unreadable(reason) => Self::Unreadable(reason),
                Body::Absent => Self::Unreadable(EMPTY.into()),
            },
            404 => Self::Absent,
            403 => Self::Denied,
            status => Self::Unavailable {
                rate_limited: status == 429,
            },
        }
    }
}

/// Returns a subject that no registry holds, to find out how a registry answers for an unknown one.
///
/// It is not all zeros, because some registries reject such a digest without a lookup.
pub fn nobody() -> Digest {
    Digest::of(b"a subject that nobody has pushed")
}
