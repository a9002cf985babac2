use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use oci_content::{LegacyTag, SourceKind, Tag, WarningCode, referrers_tag};
use registry_client::Repository;

use super::cached::Cached;
use super::catalog::{ListingEnd, TagCatalog, vanished};
use super::reader::{Reader, refusal, tagged_manifest};
use super::tag_fallback::denied_tag;
use crate::limits::Limits;
use crate::source::{Answer, Claim, Exchange, Outcome, Query, ReferrerSource, Warning};

/// The legacy tags that are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LegacyTags {
    /// Tags with the known suffixes, and any others that a listing of the repository's tags shows.
    #[default]
    All,
    /// Only tags with the known suffixes `.sig`, `.att` and `.sbom`.
    Known,
    /// No legacy tags.
    Off,
}

/// Legacy tags: `sha256-<hex>.sig`, `.att` and `.sbom`, as cosign wrote them before OCI 1.1, and
/// other suffixes.
///
/// The name of such a tag relates its manifest to the subject; the manifest needs no `subject`.
#[derive(Clone, Debug)]
pub struct LegacyTagReferrers {
    reader: Reader,
    catalog: Arc<TagCatalog>,
    which: LegacyTags,
    cached: Option<Cached>,
    /// Whether the cache probably has what the tags point at.
    seen_before: bool,
}

impl LegacyTagReferrers {
    /// Creates a source over the legacy tags of a repository, with the default limits.
    pub fn new(repository: Repository, which: LegacyTags) -> Self {
        let catalog = Arc::new(TagCatalog::new(Limits::default()));
        Self::shared(Reader::new(repository, None), catalog, which)
    }

    pub(crate) fn shared(reader: Reader, catalog: Arc<TagCatalog>, which: LegacyTags) -> Self {
        Self {
            reader,
            catalog,
            which,
            cached: None,
            seen_before: false,
        }
    }

    pub(crate) fn cached(mut self, cached: Option<Cached>, seen_before: bool) -> Self {
        self.cached = cached;
        self.seen_before = seen_before;
        self
    }

    /// Collects the tags to request, each with whether a listing shows it. What a listing could not
    /// tell goes into `answer`.
    async fn tags(&self, query: &Query, answer: &mut Answer) -> BTreeMap<Tag, bool> {
        let subject = query.subject();
        let known = || {
            let suffixes = LegacyTag::KNOWN_SUFFIXES.into_iter();
            suffixes
                .filter_map(|suffix| LegacyTag::known(subject, suffix))
                .map(|legacy| (legacy.tag(), false))
        };
        let mut tags = BTreeMap::new();
        if query.is_direct() {
            tags.extend(known());
        }
        if query.is_direct() && self.which == LegacyTags::Known {
            return tags;
        }
        let listing = self.catalog.listing(&self.reader).await;
        if query.is_direct() {
            let request = self.reader.request("tags/list");
            answer.exchanges.push(Exchange::new(
                SourceKind::LegacyTag,
                request,
                &listing.summary,
            ));
        }
        let prefix = format!("{}.", referrers_tag(subject));
        let listed = listing.starting_with(&prefix).filter(|tag| {
            let suffix = LegacyTag::from_tag(tag).map(|legacy| legacy.suffix().to_owned());
            suffix.is_some_and(|suffix| {
                self.which == LegacyTags::All
                    || LegacyTag::KNOWN_SUFFIXES.contains(&suffix.as_str())
            })
        });
        if listing.end != ListingEnd::Whole {
            // The listing does not show which tags are absent, so each known tag is requested.
            tags.extend(known());
        }
        tags.extend(listed.map(|tag| (tag.clone(), true)));
        match &listing.end {
            ListingEnd::Whole => {}
            _ if self.which == LegacyTags::Known => {}
            ListingEnd::Limited => {
                let message = "the repository has more tags than are read; other suffixes than .sig, .att and \
                               .sbom may be missed";
                answer
                    .warnings
                    .push(Warning::new(WarningCode::TagScanLimited, message));
            }
            ListingEnd::Denied => {
                let message = "listing the repository's tags is denied; other suffixes than .sig, .att and .sbom \
                               may be missed";
                answer
                    .warnings
                    .push(Warning::new(WarningCode::TagListDenied, message));
            }
            ListingEnd::Failed(problem) => answer.fail(problem.clone()),
        }
        tags
    }

    async fn read(&self, query: &Query, tag: Tag, listed: bool) -> Answer {
        let request = self.reader.request(&format!("manifests/{tag}"));
        let say = |answer: String| Exchange::new(SourceKind::LegacyTag, &request, answer);
        // A tag that may be absent is not looked up first: an absence would be asked for twice.
        if let Some(cached) = self.cached.as_ref().filter(|_| listed && self.seen_before) {
            match cached.by_tag(&self.reader, &tag).await {
                Ok(Some(known)) => {
                    let mut answer = Answer::list([Claim::tagged(tag, known)]);
                    answer.exchanges.push(say("200, read before".to_owned()));
                    return answer;
                }
                Ok(None) => {}
                Err(problem) => return Answer::failed(problem),
            }
        }
        let response = match self.reader.manifest(&tag).await {
            Ok(response) => response,
            Err(problem) => return Answer::failed(problem),
        };
        let status = response.status();
        let mut answer = match status.as_u16() {
            200 => match tagged_manifest(&tag, &response) {
                Ok(manifest) => {
                    if let Some(cached) = &self.cached {
                        cached.keep(&manifest);
                    }
                    Answer::list([Claim::tagged(tag, manifest)])
                }
                Err(problem) => Answer::failed(problem),
            },
            404 if listed => vanished(&tag),
            404 => Answer::none(),
            403 => denied_tag(&self.reader, query.subject(), &tag, &response).await,
            _ => Answer::failed(refusal(&response)),
        };
        answer.exchanges.push(say(match status.as_u16() {
            404 => format!("{status}, no such tag"),
            _ => status.to_string(),
        }));
        answer
    }
}

#[async_trait]
impl ReferrerSource for LegacyTagReferrers {
    fn kind(&self) -> SourceKind {
        SourceKind::LegacyTag
    }

    async fn referrers(&self, query: &Query) -> Answer {
        let mut answer = Answer::list([]);
        let tags = self.tags(query, &mut answer).await;
        let reads = tags
            .into_iter()
            .map(|(tag, listed)| self.read(query, tag, listed));
        for one in join_all(reads).await {
            answer.claims.extend(one.claims);
            answer.warnings.extend(one.warnings);
            answer.exchanges.extend(one.exchanges);
            for problem in one.errors {
                answer.fail(problem);
            }
            debug_assert!(
                one.outcome != Outcome::PartialList,
                "one tag holds one manifest"
            );
        }
        answer
    }
}
