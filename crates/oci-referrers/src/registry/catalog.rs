use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use futures::lock::Mutex;
use oci_content::{ErrorCode, Tag, TagKind, WarningCode};
use registry_client::{Repository, Response, TagList};
use url::Url;

use super::reader::{Reader, counted, refusal};
use crate::limits::Limits;
use crate::source::{Answer, Problem, Warning};

/// Tags asked for in one page. Registries clamp it, and ACR takes at most 1,000; where it is refused, the registry's own
/// size is taken.
const PAGE_SIZE: u32 = 1_000;
/// Empty pages in a row that are followed by their next links.
const MAX_EMPTY_PAGES: usize = 100;
/// What is longer is no tag:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>
const MAX_TAG_BYTES: usize = 128;

/// The tags of one repository that speak of digests, listed at most once for all who ask.
#[derive(Debug)]
pub(crate) struct TagCatalog {
    limits: Limits,
    listing: Mutex<Option<Arc<TagListing>>>,
}

/// What a listing of a repository's tags gave.
#[derive(Debug)]
pub(crate) struct TagListing {
    /// The tags that begin like a referrers tag or a legacy tag; all others are not kept.
    tags: BTreeSet<Tag>,
    pub(crate) end: ListingEnd,
    /// What was asked and answered, in words.
    pub(crate) summary: String,
}

/// How a listing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListingEnd {
    /// Every tag was seen.
    Whole,
    /// There are more tags than are read.
    Limited,
    /// The registry refuses to list, or cannot.
    Denied,
    /// It broke.
    Failed(Problem),
}

impl TagListing {
    /// Returns whether a tag exists; `None` when the listing cannot say.
    pub(crate) fn has(&self, tag: &Tag) -> Option<bool> {
        match (self.tags.contains(tag), &self.end) {
            (true, _) => Some(true),
            (false, ListingEnd::Whole) => Some(false),
            (false, _) => None,
        }
    }

    /// Returns the tags that begin with `prefix`.
    pub(crate) fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Tag> {
        let from = prefix.parse::<Tag>().ok();
        let all = from
            .map(|from| self.tags.range(from..))
            .into_iter()
            .flatten();
        all.take_while(move |tag| tag.as_str().starts_with(prefix))
    }
}

impl TagCatalog {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            listing: Mutex::new(None),
        }
    }

    /// Returns the listing, reading it if nobody has yet.
    pub(crate) async fn listing(&self, reader: &Reader) -> Arc<TagListing> {
        let mut known = self.listing.lock().await;
        if let Some(listing) = &*known {
            return Arc::clone(listing);
        }
        let listing = Arc::new(self.list(reader).await);
        // Who ran out of time did not learn anything about the registry; the next one may have more time.
        let timed_out = matches!(&listing.end, ListingEnd::Failed(problem) if problem.code == ErrorCode::Timeout);
        if !timed_out {
            *known = Some(Arc::clone(&listing));
        }
        listing
    }

    async fn list(&self, reader: &Reader) -> TagListing {
        let mut walk = ListingWalk::default();
        let end = match walk.run(reader, self.limits).await {
            Ok(end) => end,
            // A token service refuses what a registry would refuse itself.
            Err(problem) if problem.code == ErrorCode::Denied && walk.pages == 0 => {
                ListingEnd::Denied
            }
            Err(problem) => ListingEnd::Failed(Problem {
                code: failed_code(problem.code),
                ..problem
            }),
        };
        let summary = format!(
            "{} in {}, {}",
            counted(walk.seen.len(), "tag", "tags"),
            counted(walk.pages, "page", "pages"),
            match &end {
                ListingEnd::Whole => "all of them".to_owned(),
                ListingEnd::Limited => format!("more than the limit of {}", self.limits.max_tags),
                ListingEnd::Denied => "denied".to_owned(),
                ListingEnd::Failed(problem) => problem.message.clone(),
            }
        );
        let tags = walk
            .order
            .iter()
            .filter_map(|tag| tag.parse::<Tag>().ok())
            .filter(|tag| tag.kind() != TagKind::Plain)
            .collect();
        TagListing { tags, end, summary }
    }
}

/// Notices that a tag which a listing has shown is not there: it was removed in between, or names what is gone.
pub(crate) fn vanished(tag: &Tag) -> Answer {
    let mut answer = Answer::none();
    let message = format!("the tag listing names {tag}, which is not there");
    answer
        .warnings
        .push(Warning::new(WarningCode::DanglingReferrer, message));
    answer
}

/// A listing that breaks is `tag-list-failed`, whatever broke it; only the end of the time keeps its own code.
fn failed_code(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::Timeout => ErrorCode::Timeout,
        _ => ErrorCode::TagListFailed,
    }
}

/// Lists all tags of a repository, in the order in which the registry gives them: at most `max_tags`, in at most 1,000
/// pages.
///
/// # Errors
///
/// When the listing is refused, breaks, or has more than `max_tags` tags: a part of it is no answer.
///
/// # Cancellation
///
/// Dropping the future ends the request; what was listed until then is lost.
pub async fn list_tags(repository: &Repository, max_tags: usize) -> Result<Vec<Tag>, Problem> {
    let reader = Reader::new(repository.clone(), None);
    let mut walk = ListingWalk::default();
    let limits = Limits {
        max_tags,
        ..Limits::default()
    };
    match walk.run(&reader, limits).await? {
        ListingEnd::Whole => Ok(walk
            .order
            .iter()
            .filter_map(|tag| tag.parse().ok())
            .collect()),
        ListingEnd::Limited => Err(Problem::new(
            ErrorCode::Limit,
            format!("there are more than {max_tags} tags"),
        )),
        ListingEnd::Denied => Err(Problem::new(
            ErrorCode::Denied,
            "the registry does not list its tags",
        )),
        ListingEnd::Failed(problem) => Err(problem),
    }
}

#[derive(Default)]
struct ListingWalk {
    seen: HashSet<Arc<str>>,
    order: Vec<Arc<str>>,
    pages: usize,
    /// Whether a page had more tags than were read of it.
    cut: bool,
}

impl ListingWalk {
    async fn run(&mut self, reader: &Reader, limits: Limits) -> Result<ListingEnd, Problem> {
        let mut page_size = Some(PAGE_SIZE);
        let mut page = reader.tags(page_size).await?;
        if refuses_parameter(page.status().as_u16()) {
            page_size = None;
            page = reader.tags(page_size).await?;
        }
        match page.status().as_u16() {
            200 => {}
            401 | 403 => return Ok(ListingEnd::Denied),
            // A repository without tags is 404 NAME_UNKNOWN on some registries (Cloudsmith). Any other 404 comes
            // from something that cannot list, and says nothing about tags.
            404 if page.error_codes().iter().any(|code| code == "NAME_UNKNOWN") => {
                return Ok(ListingEnd::Whole);
            }
            404 | 405 | 501 => return Ok(ListingEnd::Denied),
            _ => return Err(refusal(&page)),
        }
        let mut urls = HashSet::from([page.url().clone()]);
        let mut empty = 0;
        loop {
            self.pages += 1;
            let (count, last) = self.take(&page, limits.max_tags)?;
            empty = if count == 0 { empty + 1 } else { 0 };
            if self.seen.len() > limits.max_tags || self.cut {
                return Ok(ListingEnd::Limited);
            }
            let Some(next) = next(reader, &page, page_size, count, last)? else {
                return Ok(ListingEnd::Whole);
            };
            if self.pages >= limits.max_pages {
                let message = format!("the tag listing has more than {} pages", limits.max_pages);
                return Err(Problem::new(ErrorCode::TagListFailed, message));
            }
            // A page can be empty and have a next one: registries that filter do so page by page.
            if empty > MAX_EMPTY_PAGES {
                let message =
                    format!("the tag listing has more than {MAX_EMPTY_PAGES} empty pages in a row");
                return Err(Problem::new(ErrorCode::TagListFailed, message));
            }
            if !urls.insert(next.url.clone()) {
                let message = format!("the tag listing goes in a circle at {}", next.url.path());
                return Err(Problem::new(ErrorCode::TagListFailed, message));
            }
            let before = self.seen.len();
            page = reader.page(&next.url).await?;
            match page.status().as_u16() {
                200 => {}
                // What was only tried beyond the last page is allowed to be refused, not to fail.
                404 | 405 if next.guessed => return Ok(ListingEnd::Whole),
                status if next.guessed && refuses_parameter(status) => {
                    return Ok(ListingEnd::Whole);
                }
                _ => return Err(refusal(&page)),
            }
            if next.guessed {
                // A registry that does not know `last` answers with tags that were seen before.
                let (_, last) = self.take(&page, limits.max_tags)?;
                if self.seen.len() == before || last.is_none() {
                    return Ok(ListingEnd::Whole);
                }
            }
        }
    }

    /// Notes the tags of a page, as long as there are no more than `max_tags`; returns how many it has, and the last one.
    fn take(
        &mut self,
        page: &Response,
        max_tags: usize,
    ) -> Result<(usize, Option<String>), Problem> {
        let list = TagList::parse(page.body(), max_tags.saturating_add(1))
            .map_err(|error| Problem::new(ErrorCode::TagListFailed, error.to_string()))?;
        for tag in list.tags.iter().filter(|tag| tag.len() <= MAX_TAG_BYTES) {
            if self.seen.len() > max_tags {
                break;
            }
            let known: Arc<str> = tag.as_str().into();
            if self.seen.insert(Arc::clone(&known)) {
                self.order.push(known);
            }
        }
        self.cut |= list.unread > 0;
        let mut tags = list.tags;
        Ok((tags.len() + list.unread, tags.pop()))
    }
}

/// Returns whether a status says that the registry does not take a request as it was put: what is neither a matter of
/// rights or rates, nor says that there is no such list.
fn refuses_parameter(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 401 | 403..=405 | 408 | 429)
}

/// Finds the page after `page`. `Link` decides; a full page without one, or one whose size the registry has chosen, may
/// still not be the last, since registries exist that leave it out.
fn next(
    reader: &Reader,
    page: &Response,
    page_size: Option<u32>,
    count: usize,
    last: Option<String>,
) -> Result<Option<NextPage>, Problem> {
    if let Some(url) = reader.next_link(page)? {
        return Ok(Some(NextPage {
            url,
            guessed: false,
        }));
    }
    let Some(last) = last else { return Ok(None) };
    if page_size.is_some_and(|size| count != size as usize) {
        return Ok(None);
    }
    let mut url = page.url().clone();
    url.set_query(None);
    if let Some(size) = page_size {
        url.query_pairs_mut().append_pair("n", &size.to_string());
    }
    url.query_pairs_mut().append_pair("last", &last);
    Ok(Some(NextPage { url, guessed: true }))
}

struct NextPage {
    url: Url,
    /// No link named it.
    guessed: bool,
}
