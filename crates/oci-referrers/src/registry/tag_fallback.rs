use std::sync::Arc;

use async_trait::async_trait;
use oci_content::{Digest, ErrorCode, SourceKind, Tag, WarningCode, absent_tag, referrers_tag};
use registry_client::{ReferrersTagAnswer, Repository, Response};

use super::catalog::{TagCatalog, vanished};
use super::native::take_entries;
use super::reader::{Reader, counted, refusal};
use crate::limits::Limits;
use crate::source::{Answer, Exchange, Problem, Query, ReferrerSource, Warning};

/// The referrers tag: an index that clients keep under `sha256-<hex>` where a registry has no
/// referrers API.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
///
/// It is asked even if the API answers: after an upgrade of the registry, or if the API is
/// incomplete, the tag may list referrers that the API does not.
#[derive(Clone, Debug)]
pub struct TagFallbackReferrers {
    reader: Reader,
    catalog: Arc<TagCatalog>,
}

impl TagFallbackReferrers {
    /// Creates a source over the referrers tags of a repository, with the default limits.
    pub fn new(repository: Repository) -> Self {
        let catalog = Arc::new(TagCatalog::new(Limits::default()));
        Self::shared(Reader::new(repository, None), catalog)
    }

    pub(crate) fn shared(reader: Reader, catalog: Arc<TagCatalog>) -> Self {
        Self { reader, catalog }
    }
}

fn tag_is_subject(tag: &Tag) -> Answer {
    let mut answer = Answer::none();
    let message = format!("tag {tag} resolves to the subject itself");
    answer
        .warnings
        .push(Warning::new(WarningCode::TagIsSubject, message));
    answer
}

#[async_trait]
impl ReferrerSource for TagFallbackReferrers {
    fn kind(&self) -> SourceKind {
        SourceKind::ReferrersTag
    }

    async fn referrers(&self, query: &Query) -> Answer {
        let subject = query.subject();
        let tag = referrers_tag(subject);
        let listed = if query.is_direct() {
            None
        } else {
            self.catalog.listing(&self.reader).await.has(&tag)
        };
        if listed == Some(false) {
            return Answer::none();
        }
        let request = self.reader.request(&format!("manifests/{tag}"));
        let say = |answer: String| Exchange::new(SourceKind::ReferrersTag, &request, answer);
        let response = match self.reader.manifest(&tag).await {
            Ok(response) => response,
            Err(problem) => {
                let mut answer = Answer::failed(problem.clone());
                answer.exchanges.push(say(problem.message));
                return answer;
            }
        };
        let status = response.status();
        let (mut answer, said) = match response.referrers_tag_answer() {
            _ if status == 200 && subject.matches(response.body()) => (
                tag_is_subject(&tag),
                format!("{status}, the subject itself"),
            ),
            ReferrersTagAnswer::List(mut list) => {
                // The manifest under a tag states its own type; the header adds nothing.
                list.other_content_type = false;
                let said = counted(list.entries.len(), "entry", "entries");
                let mut answer = Answer::list([]);
                take_entries(&mut answer, list);
                (answer, format!("{status}, {said}"))
            }
            ReferrersTagAnswer::Absent => {
                let answer = match listed {
                    Some(true) => vanished(&tag),
                    _ => Answer::none(),
                };
                (answer, format!("{status}, no such tag"))
            }
            // The specification lets a client assume that there are no referrers then:
            // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
            ReferrersTagAnswer::NotAnIndex(found) => {
                let mut answer = Answer::none();
                let message = format!("tag {tag} holds {found} instead of an index; it is ignored");
                answer
                    .warnings
                    .push(Warning::new(WarningCode::NotAnIndex, message));
                (answer, format!("{status}, {found}"))
            }
            ReferrersTagAnswer::Denied => {
                let answer = denied_tag(&self.reader, subject, &tag, &response).await;
                (answer, status.to_string())
            }
            ReferrersTagAnswer::Unreadable(reason) => {
                let message = format!("tag {tag} holds {reason}");
                let answer = Answer::failed(Problem::new(ErrorCode::Malformed, message));
                (answer, format!("{status}, {reason}"))
            }
            _ => (Answer::failed(refusal(&response)), status.to_string()),
        };
        answer.exchanges.push(say(said));
        answer
    }
}

/// Decides what a 403 on a tag means. Artifactory's virtual repositories answer 403 for every tag
/// that does not exist. If this registry does so too, and the subject can be read, the tag counts
/// as absent.
pub(super) async fn denied_tag(
    reader: &Reader,
    subject: &Digest,
    tag: &Tag,
    response: &Response,
) -> Answer {
    let absent = async {
        if reader.status(subject).await? != 200 {
            return Ok::<bool, Problem>(false);
        }
        Ok(reader.status(&absent_tag(subject)).await? == 403)
    };
    match absent.await {
        Ok(true) => {
            let mut answer = Answer::none();
            let message =
                format!("tag {tag} is denied, as is a tag that cannot exist; it counts as absent");
            answer
                .warnings
                .push(Warning::new(WarningCode::TagDenied, message));
            answer
        }
        Ok(false) => Answer::failed(refusal(response)),
        Err(problem) => Answer::failed(problem),
    }
}
