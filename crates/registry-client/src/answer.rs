use oci_content::{Capability, Digest};

use crate::body::{Body, EMPTY};
use crate::referrers_list::ReferrersList;

/// What an answer to `GET /v2/<name>/referrers/<digest>` means. A pure function of the answer.
///
/// Only [`List`](Self::List) and [`SubjectUnknown`](Self::SubjectUnknown) are claims about referrers; from every
/// other variant nothing follows about how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersAnswer {
    /// The registry listed what it knows, perhaps nothing.
    List(ReferrersList),
    /// The registry has the API and says that it does not know the subject (Quay from 3.12 on: 400).
    SubjectUnknown,
    /// The API gave no answer: the referrers tag has to be asked.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#unavailable-referrers-api>
    #[non_exhaustive]
    NoAnswer {
        /// What follows about the registry.
        capability: Capability,
        /// Whether a 200 came with something other than a list.
        false_200: bool,
        /// Why, in a sentence fragment.
        reason: String,
    },
    /// 404 `NAME_UNKNOWN`: no answer either, and the subject decides whether the repository is there at all.
    RepositoryUnknown,
    /// 401 or 403: the subject, asked with the same credentials, tells whether only the API is blocked.
    Blocked,
    /// A 200 whose body cannot be read, which is no statement about referrers; why, in a sentence fragment.
    Unreadable(String),
    /// No answer now: a rate limit, a failure of the server, a status that no rule covers.
    #[non_exhaustive]
    Unavailable {
        /// Whether it was a rate limit.
        rate_limited: bool,
        /// Whether it was another host's, after a redirect. The registry may then keep its referrers under a tag: an
        /// index there settles the question.
        foreign: bool,
    },
}

/// What an answer to `GET /v2/<name>/manifests/<tag>` means for a referrers tag. A pure function of the answer.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersTagAnswer {
    /// The tag holds this index.
    List(ReferrersList),
    /// There is no such tag.
    Absent,
    /// The tag holds something that can be read and is no index; what, in words.
    NotAnIndex(&'static str),
    /// 403: a tag that cannot exist, asked with the same credentials, tells whether this is how the registry says 404.
    Denied,
    /// A 200 whose body cannot be read, which is no statement about referrers; why, in a sentence fragment.
    Unreadable(String),
    /// No answer: denied, a rate limit, a failure of the server, a status that no rule covers.
    #[non_exhaustive]
    Unavailable {
        /// Whether it was a rate limit.
        rate_limited: bool,
    },
}

/// The parts of an answer that decide what it means.
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
    /// Whether another host than the registry answered, after a redirect.
    pub foreign: bool,
}

impl<'a> AnswerParts<'a> {
    /// Creates the parts of an answer that the registry itself gave.
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
    /// Decides what the first page of an answer means.
    ///
    /// `docs/registry-compatibility.md` has the table: each class of status, by the host that answered and by what
    /// the body is.
    pub fn decide(answer: AnswerParts<'_>) -> Self {
        let code = |wanted: &str| answer.error_codes.iter().any(|code| code == wanted);
        // Another host's answer says nothing about what the registry can do.
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
            // 406: Artifactory before 7.90. 405, 410, 415, 501: a router that knows no such method or resource.
            400 | 405 | 406 | 410 | 415 | 501 => {
                no_answer(Capability::Unsupported, answer.status.to_string())
            }
            // 424 is what an artifact cache answers when its upstream failed. What no rule covers is no claim.
            status => Self::Unavailable {
                rate_limited: status == 429,
                foreign: answer.foreign,
            },
        }
    }
}

impl ReferrersTagAnswer {
    /// Decides what an answer for a referrers tag means. Whether an index is the subject itself, which GitLab answers
    /// for every subject, is the caller's to tell.
    ///
    /// A 404 counts from another host too: registries whose edge redirects every manifest (registry.k8s.io) have no
    /// other way to say that a tag does not exist.
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

/// Returns a subject that no registry holds, to ask what a registry answers for an unknown one.
///
/// Not all zeros: some registries refuse such a digest without looking any further.
pub fn nobody() -> Digest {
    Digest::of(b"a subject that nobody has pushed")
}
