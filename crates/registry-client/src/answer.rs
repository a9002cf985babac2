use std::borrow::Cow;
use std::fmt;

use oci_content::{Capability, Descriptor, DescriptorError, Digest, media_type};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::body::Body;

/// What an answer to `GET /v2/<name>/referrers/<digest>` means. A pure function of the answer.
///
/// Only [`List`](Self::List) and [`SubjectUnknown`](Self::SubjectUnknown) are claims about referrers; from every
/// other variant nothing follows about how many there are.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReferrersAnswer {
    /// The registry listed what it knows, perhaps nothing.
    List(ReferrersList),
    /// The registry has the API and says that it does not know the subject (Quay from 3.12 on: 400).
    SubjectUnknown,
    /// The API gave no answer: the referrers tag has to be asked.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#unavailable-referrers-api>
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
#[derive(Debug)]
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
    Unavailable {
        /// Whether it was a rate limit.
        rate_limited: bool,
    },
}

/// Entries of one page of a list, or of one index, that are read: ten times what a discovery takes of one subject.
pub const MAX_LIST_ENTRIES: usize = 100_000;

/// A referrers list: the body of an image index, read entry by entry.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReferrersList {
    /// The entries in their order, up to [`MAX_LIST_ENTRIES`]; a malformed one does not spoil the others.
    pub entries: Vec<Result<Descriptor, DescriptorError>>,
    /// The number of entries beyond those. Where there are any, this is not the whole list.
    pub unread: usize,
    /// Whether the content type was another than an index has.
    pub other_content_type: bool,
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
        let unless_foreign = |capability| match answer.foreign {
            true => Capability::Unknown,
            false => capability,
        };
        let false_200 = |found: &str| Self::NoAnswer {
            capability: unless_foreign(Capability::Unsupported),
            false_200: true,
            reason: format!("200 with {found} instead of a referrers list"),
        };
        let no_answer = |capability, reason: String| Self::NoAnswer {
            capability: unless_foreign(capability),
            false_200: false,
            reason: match answer.foreign {
                true => format!("{reason} from another host"),
                false => reason,
            },
        };
        match answer.status {
            200 => match Body::read(answer.body, answer.content_type) {
                Body::Index(list) => Self::List(list),
                Body::OtherJson(found) | Body::Page(found) => false_200(found),
                Body::Unreadable(reason) => Self::Unreadable(reason),
                Body::Absent => Self::Unreadable("an empty body".into()),
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
                Body::Absent => Self::Unreadable("an empty body".into()),
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

impl ReferrersList {
    /// Reads a JSON object that is whole: a page of a referrers list, or what a referrers tag holds.
    pub(crate) fn read(body: &[u8], essence: &str) -> Body {
        let members = match serde_json::from_slice::<Members<'_>>(body) {
            Ok(members) => members,
            Err(error) => return Body::Unreadable(format!("JSON that cannot be read ({error})")),
        };
        if members.layers.is_some() || members.config.is_some() {
            return Body::OtherJson("an image manifest");
        }
        let is_index_type = essence == media_type::IMAGE_INDEX;
        match members.media_type.as_deref().filter(|own| !own.is_empty()) {
            Some(media_type::IMAGE_INDEX) => {}
            Some(media_type::DOCKER_MANIFEST_LIST) => {
                return Body::OtherJson("a Docker manifest list");
            }
            Some(_) => return Body::OtherJson("a document of another media type"),
            None if essence == media_type::DOCKER_MANIFEST_LIST => {
                return Body::OtherJson("a Docker manifest list");
            }
            None if is_index_type || members.is_version_2() => {}
            None => return Body::OtherJson("other JSON"),
        }
        let Some(manifests) = members.manifests else {
            return Body::OtherJson("JSON without `manifests`");
        };
        // `null` is what Go registries send for an empty list.
        let Ok(entries) = serde_json::from_str::<Option<Entries>>(manifests.get()) else {
            return Body::Unreadable("an index whose `manifests` is not a list".into());
        };
        let Entries { read, unread } = entries.unwrap_or_default();
        Body::Index(Self {
            entries: read,
            unread,
            other_content_type: !is_index_type,
        })
    }
}

/// The entries of one list, read one after the other: a page of 32 MiB has room for ten million empty ones.
#[derive(Default)]
struct Entries {
    read: Vec<Result<Descriptor, DescriptorError>>,
    unread: usize,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries = Entries::default();
                while let Some(raw) = list.next_element::<&RawValue>()? {
                    match entries.read.len() < MAX_LIST_ENTRIES {
                        true => entries.read.push(Descriptor::from_json(raw.get())),
                        false => entries.unread += 1,
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(default, borrow)]
    schema_version: Option<&'a RawValue>,
    #[serde(default, borrow)]
    media_type: Option<Cow<'a, str>>,
    /// `Some` with `null` is not the same as a member that is missing.
    #[serde(default, borrow, deserialize_with = "present")]
    manifests: Option<&'a RawValue>,
    #[serde(default, borrow)]
    layers: Option<&'a RawValue>,
    #[serde(default, borrow)]
    config: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Members<'_> {
    fn is_version_2(&self) -> bool {
        self.schema_version
            .is_some_and(|version| version.get().trim_matches('"') == "2")
    }
}
