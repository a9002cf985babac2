use oci_content::{Capability, Descriptor, DescriptorError, Digest, media_type};
use serde::Deserialize;
use serde_json::value::RawValue;

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
        /// Whether a 200 came with something else than a list.
        false_200: bool,
        /// Why, in a sentence fragment.
        reason: String,
    },
    /// 404 `NAME_UNKNOWN`: no answer either, and the subject decides whether the repository is there at all.
    RepositoryUnknown,
    /// 401 or 403: the subject, asked with the same credentials, tells whether only the API is blocked.
    Blocked,
    /// The registry could not answer now; 429 among them.
    Unavailable {
        /// Whether it was a rate limit.
        rate_limited: bool,
    },
}

/// A referrers list: the body of an image index, read entry by entry.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReferrersList {
    /// The entries in their order; a malformed one does not spoil the others.
    pub entries: Vec<Result<Descriptor, DescriptorError>>,
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
    pub fn decide(answer: AnswerParts<'_>) -> Self {
        let code = |wanted: &str| answer.error_codes.iter().any(|code| code == wanted);
        let no_answer = |capability, reason: String| Self::NoAnswer {
            capability,
            false_200: false,
            reason,
        };
        match answer.status {
            200 => match ReferrersList::parse(answer.body, answer.content_type) {
                Ok(list) => Self::List(list),
                Err(NotAnIndex { found }) => Self::NoAnswer {
                    // A page of another host says nothing about what the registry can do.
                    capability: if answer.foreign {
                        Capability::Unknown
                    } else {
                        Capability::Unsupported
                    },
                    false_200: true,
                    reason: format!("200 with {found} instead of a referrers list"),
                },
            },
            404 if answer.foreign => no_answer(Capability::Unknown, "404 from another host".into()),
            429 if answer.foreign => no_answer(Capability::Unknown, "429 from another host".into()),
            404 if code("NAME_UNKNOWN") => Self::RepositoryUnknown,
            // A registry that has the API must not answer 404:
            // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
            404 => no_answer(Capability::Unsupported, "404".into()),
            400 if code("MANIFEST_INVALID") || code("MANIFEST_UNKNOWN") => Self::SubjectUnknown,
            400 if code("DIGEST_INVALID") => {
                no_answer(Capability::Unknown, "400, the digest was refused".into())
            }
            401 | 403 => Self::Blocked,
            429 => Self::Unavailable { rate_limited: true },
            // 406: Artifactory before 7.90. 405, 410, 415, 501: a router that knows no such method or resource.
            400 | 405 | 406 | 410 | 415 | 501 => {
                no_answer(Capability::Unsupported, answer.status.to_string())
            }
            // 424 is what an artifact cache answers when its upstream failed. What no rule covers is no claim.
            _ => Self::Unavailable {
                rate_limited: false,
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

/// A body that is no image index, and what it is instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an image index but {found}")]
pub struct NotAnIndex {
    found: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    /// `Some(None)` is `null`, which Go registries send for an empty list.
    #[serde(default, borrow, deserialize_with = "present")]
    manifests: Option<Option<Vec<&'a RawValue>>>,
    #[serde(default, borrow)]
    layers: Option<&'a RawValue>,
    #[serde(default, borrow)]
    config: Option<&'a RawValue>,
}

fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

impl ReferrersList {
    /// Reads an image index: a page of a referrers list, or what a referrers tag holds.
    ///
    /// # Errors
    ///
    /// When the body is anything else, whatever its content type says: HTML, other JSON, a Docker manifest list.
    pub fn parse(body: &[u8], content_type: Option<&str>) -> Result<Self, NotAnIndex> {
        let content_type = content_type.map(media_type::essence).unwrap_or_default();
        let not_an_index = |found: String| Err(NotAnIndex { found });
        let parsed: Body<'_> = match serde_json::from_slice(body) {
            // A derived reader also takes the members in a list: `[2, null, []]` claims nothing.
            Ok(_) if !body.trim_ascii_start().starts_with(b"{") => {
                return not_an_index("other JSON".into());
            }
            Ok(parsed) => parsed,
            Err(_) if body.is_empty() => return not_an_index("an empty body".into()),
            Err(_) if content_type == "text/html" || body.trim_ascii_start().starts_with(b"<") => {
                return not_an_index("an HTML page".into());
            }
            Err(_) => return not_an_index("a body that is no such JSON".into()),
        };
        if parsed.layers.is_some() || parsed.config.is_some() {
            return not_an_index("an image manifest".into());
        }
        let is_index_type = content_type == media_type::IMAGE_INDEX;
        match parsed.media_type.as_deref() {
            Some(media_type::IMAGE_INDEX) => {}
            Some(media_type::DOCKER_MANIFEST_LIST) => {
                return not_an_index("a Docker manifest list".into());
            }
            Some(_) => return not_an_index("a document of another media type".into()),
            None if content_type == media_type::DOCKER_MANIFEST_LIST => {
                return not_an_index("a Docker manifest list".into());
            }
            None if is_index_type || parsed.schema_version == Some(2) => {}
            None => return not_an_index("other JSON".into()),
        }
        let Some(manifests) = parsed.manifests else {
            return not_an_index("JSON without `manifests`".into());
        };
        let entries = manifests
            .unwrap_or_default()
            .into_iter()
            .map(|raw| Descriptor::from_json(raw.get()));
        Ok(Self {
            entries: entries.collect(),
            other_content_type: !is_index_type,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = media_type::IMAGE_INDEX;

    fn decide(status: u16, content_type: &str, codes: &[&str], body: &str) -> String {
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        let content_type = (!content_type.is_empty()).then_some(content_type);
        say(ReferrersAnswer::decide(AnswerParts::new(
            status,
            content_type,
            &codes,
            body.as_bytes(),
        )))
    }

    fn say(answer: ReferrersAnswer) -> String {
        match answer {
            ReferrersAnswer::List(list) => format!(
                "list {}{}{}",
                list.entries.iter().filter(|entry| entry.is_ok()).count(),
                if list.entries.iter().any(Result::is_err) {
                    " malformed"
                } else {
                    ""
                },
                if list.other_content_type {
                    " content-type"
                } else {
                    ""
                },
            ),
            ReferrersAnswer::SubjectUnknown => "subject unknown".into(),
            ReferrersAnswer::NoAnswer {
                capability,
                false_200,
                ..
            } => {
                format!(
                    "no answer, {capability}{}",
                    if false_200 { ", false 200" } else { "" }
                )
            }
            ReferrersAnswer::RepositoryUnknown => "repository unknown".into(),
            ReferrersAnswer::Blocked => "blocked".into(),
            ReferrersAnswer::Unavailable { rate_limited: true } => "rate limited".into(),
            ReferrersAnswer::Unavailable {
                rate_limited: false,
            } => "unavailable".into(),
        }
    }

    #[test]
    fn each_answer_means_one_thing() {
        let digest = Digest::of(b"x");
        let entry = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1}}"#);
        let index = |entries: &str| {
            format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":{entries}}}"#)
        };
        let docker = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{entry}]}}"#,
            media_type::DOCKER_MANIFEST_LIST
        );
        for (status, content_type, codes, body, expected) in [
            (200, INDEX, &[][..], index("[]"), "list 0"),
            (200, INDEX, &[], index(&format!("[{entry}]")), "list 1"),
            (
                200,
                &format!("{}; charset=utf-8", INDEX.to_uppercase()),
                &[],
                index("[]"),
                "list 0",
            ),
            (200, INDEX, &[], index("null"), "list 0"),
            (
                200,
                INDEX,
                &[],
                index(&format!(r#"[{entry},{{"digest":"x"}}]"#)),
                "list 1 malformed",
            ),
            (200, INDEX, &[], r#"{"manifests":[]}"#.into(), "list 0"),
            // Harbor 2.8.0 to 2.9.x.
            (
                200,
                "application/json; charset=utf-8",
                &[],
                index("[]"),
                "list 0 content-type",
            ),
            (200, "", &[], index("[]"), "list 0 content-type"),
            (
                200,
                "application/json",
                &[],
                "{}".into(),
                "no answer, unsupported, false 200",
            ),
            (
                200,
                INDEX,
                &[],
                "{}".into(),
                "no answer, unsupported, false 200",
            ),
            (
                200,
                INDEX,
                &[],
                "[]".into(),
                "no answer, unsupported, false 200",
            ),
            (
                200,
                INDEX,
                &[],
                format!(r#"[2,"{INDEX}",[]]"#),
                "no answer, unsupported, false 200",
            ),
            (
                200,
                INDEX,
                &[],
                String::new(),
                "no answer, unsupported, false 200",
            ),
            (
                200,
                INDEX,
                &[],
                "<html>".into(),
                "no answer, unsupported, false 200",
            ),
            (
                200,
                "text/html",
                &[],
                "<!doctype html>".into(),
                "no answer, unsupported, false 200",
            ),
            (
                200,
                INDEX,
                &[],
                docker.clone(),
                "no answer, unsupported, false 200",
            ),
            (
                200,
                media_type::DOCKER_MANIFEST_LIST,
                &[],
                docker,
                "no answer, unsupported, false 200",
            ),
            (
                200,
                INDEX,
                &[],
                r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.into(),
                "no answer, unsupported, false 200",
            ),
            (
                404,
                "text/plain",
                &[],
                "404 page not found".into(),
                "no answer, unsupported",
            ),
            (
                404,
                "application/json",
                &["MANIFEST_UNKNOWN"],
                String::new(),
                "no answer, unsupported",
            ),
            (
                404,
                "application/json",
                &["NAME_UNKNOWN"],
                String::new(),
                "repository unknown",
            ),
            (
                400,
                "application/json",
                &["MANIFEST_INVALID"],
                String::new(),
                "subject unknown",
            ),
            (
                400,
                "application/json",
                &["DIGEST_INVALID"],
                String::new(),
                "no answer, unknown",
            ),
            (400, "", &[], String::new(), "no answer, unsupported"),
            (405, "", &[], String::new(), "no answer, unsupported"),
            (406, "", &[], String::new(), "no answer, unsupported"),
            (
                501,
                "",
                &["UNSUPPORTED"],
                String::new(),
                "no answer, unsupported",
            ),
            (401, "", &[], String::new(), "blocked"),
            (403, "", &["DENIED"], String::new(), "blocked"),
            (424, "", &[], String::new(), "unavailable"),
            (429, "", &["TOOMANYREQUESTS"], String::new(), "rate limited"),
            (500, "", &[], String::new(), "unavailable"),
            (503, "", &[], String::new(), "unavailable"),
            (418, "", &[], String::new(), "unavailable"),
            (204, "", &[], String::new(), "unavailable"),
        ] {
            assert_eq!(
                decide(status, content_type, codes, &body),
                expected,
                "{status} {content_type} {body}"
            );
        }
    }

    #[test]
    fn an_answer_of_another_host_says_nothing_about_the_registry() {
        for (status, body, expected) in [
            (404, "Not Found", "no answer, unknown"),
            (429, "slow down", "no answer, unknown"),
            (200, "<html>", "no answer, unknown, false 200"),
            (503, "", "unavailable"),
            (403, "", "blocked"),
        ] {
            let parts = AnswerParts {
                foreign: true,
                ..AnswerParts::new(status, None, &[], body.as_bytes())
            };
            assert_eq!(say(ReferrersAnswer::decide(parts)), expected, "{status}");
        }
    }
}
