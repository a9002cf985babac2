use std::collections::{BTreeSet, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use futures::lock::Mutex;
use oci_content::{ErrorCode, Registry, Tag, TagKind, WarningCode};
use registry_client::{Catalog, Client, Repository, RepositoryList, Response, TagList};
use url::Url;

use super::reader::{Reader, counted, problem, refusal};
use crate::limits::Limits;
use crate::source::{Answer, Problem, Warning};

/// The number of tags that a page is requested with. Registries reduce it, and ACR takes at most
/// 1,000. If a registry refuses it, the listing is requested without a page size.
const PAGE_SIZE: u32 = 1_000;
/// The most empty pages in a row whose next links are followed.
const MAX_EMPTY_PAGES: usize = 100;
/// What is longer is not a tag:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>
const MAX_TAG_BYTES: usize = 128;
/// What is longer is not the name of a repository.
const MAX_REPOSITORY_BYTES: usize = 255;

/// The tags of one repository whose names contain digests, listed at most once for all sources.
#[derive(Debug)]
pub(crate) struct TagCatalog {
    limits: Limits,
    listing: Mutex<Option<Arc<TagListing>>>,
}

/// The result of listing a repository's tags.
#[derive(Debug)]
pub(crate) struct TagListing {
    /// The tags that begin like a referrers tag or a legacy tag; others are not kept.
    tags: BTreeSet<Tag>,
    pub(crate) end: ListingEnd,
    /// A summary in words.
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
    /// It failed half-way.
    Failed(Problem),
}

impl TagListing {
    /// Returns whether a tag exists; `None` if the listing does not tell.
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

    /// Returns the listing, and reads it if that has not been done.
    pub(crate) async fn listing(&self, reader: &Reader) -> Arc<TagListing> {
        let mut known = self.listing.lock().await;
        if let Some(listing) = &*known {
            return Arc::clone(listing);
        }
        let listing = Arc::new(self.list(reader).await);
        // A timeout tells nothing about the registry, so it is not kept.
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
            // The token service refuses on behalf of the registry.
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

/// Returns the answer for a tag that a listing shows but that is not there: it was removed since,
/// or its manifest was.
pub(crate) fn vanished(tag: &Tag) -> Answer {
    let mut answer = Answer::none();
    let message = format!("the tag listing names {tag}, which is not there");
    answer
        .warnings
        .push(Warning::new(WarningCode::DanglingReferrer, message));
    answer
}

/// Returns the code of a listing that fails half-way: `tag-list-failed` for every cause except a
/// timeout.
fn failed_code(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::Timeout => ErrorCode::Timeout,
        _ => ErrorCode::TagListFailed,
    }
}

/// Lists all tags of a repository, in the order in which the registry gives them: at most
/// `max_tags`, in at most 1,000 pages.
///
/// # Errors
///
/// When the listing is refused, fails half-way, or has more than `max_tags` tags. A partial list is
/// never returned.
///
/// # Cancellation
///
/// Dropping the future cancels the requests and loses what was listed.
pub async fn list_tags(repository: &Repository, max_tags: usize) -> Result<Vec<Tag>, Problem> {
    let reader = Reader::new(repository.clone(), None);
    list_all(&reader, max_tags).await
}

/// Lists the repositories of a registry by its catalog, in the order in which the registry gives
/// them: at most `max_repositories`, in at most 1,000 pages. The names need not be valid.
///
/// Some registries list only what the credentials may read.
///
/// # Errors
///
/// When there is no catalog or it is refused ([`ErrorCode::Denied`]), when it fails half-way, or
/// when it has more than `max_repositories` repositories. A partial list is never returned.
///
/// # Cancellation
///
/// Dropping the future cancels the requests and loses what was listed.
pub async fn list_repositories(
    client: &Client,
    registry: &Registry,
    max_repositories: usize,
) -> Result<Vec<String>, Problem> {
    list_all(&client.catalog(registry), max_repositories).await
}

async fn list_all<T: FromStr>(list: &impl PagedList, max: usize) -> Result<Vec<T>, Problem> {
    let mut walk = ListingWalk::default();
    let limits = Limits {
        max_tags: max,
        ..Limits::default()
    };
    let words = list.words();
    match walk.run(list, limits).await? {
        ListingEnd::Whole => Ok(walk
            .order
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect()),
        ListingEnd::Limited => Err(Problem::new(
            ErrorCode::Limit,
            format!("there are more than {max} {}", words.entries),
        )),
        ListingEnd::Denied => Err(Problem::new(
            ErrorCode::Denied,
            format!("the registry does not list its {}", words.entries),
        )),
        ListingEnd::Failed(problem) => Err(problem),
    }
}

/// A list in pages.
#[async_trait]
trait PagedList: Sync {
    fn words(&self) -> Words;

    async fn first(&self, page_size: Option<u32>) -> Result<Response, Problem>;

    async fn another(&self, url: &Url) -> Result<Response, Problem>;

    fn link(&self, page: &Response) -> Result<Option<Url>, Problem>;

    /// Parses a page. Returns at most `max` names, and the number of those that were not read.
    fn parse(&self, body: &[u8], max: usize) -> Result<(Vec<String>, usize), String>;
}

/// How a list differs from others.
struct Words {
    list: &'static str,
    entries: &'static str,
    /// What is longer is not a name of this list, in bytes.
    max_name_bytes: usize,
    /// Whether a 404 with the code `NAME_UNKNOWN` means that there are no entries.
    unknown_is_empty: bool,
}

#[async_trait]
impl PagedList for Reader {
    fn words(&self) -> Words {
        Words {
            list: "tag listing",
            entries: "tags",
            max_name_bytes: MAX_TAG_BYTES,
            unknown_is_empty: true,
        }
    }

    async fn first(&self, page_size: Option<u32>) -> Result<Response, Problem> {
        self.tags(page_size).await
    }

    async fn another(&self, url: &Url) -> Result<Response, Problem> {
        self.page(url).await
    }

    fn link(&self, page: &Response) -> Result<Option<Url>, Problem> {
        self.next_link(page)
    }

    fn parse(&self, body: &[u8], max: usize) -> Result<(Vec<String>, usize), String> {
        let list = TagList::parse(body, max).map_err(|error| error.to_string())?;
        Ok((list.tags, list.unread))
    }
}

#[async_trait]
impl PagedList for Catalog {
    fn words(&self) -> Words {
        Words {
            list: "catalog",
            entries: "repositories",
            max_name_bytes: MAX_REPOSITORY_BYTES,
            unknown_is_empty: false,
        }
    }

    async fn first(&self, page_size: Option<u32>) -> Result<Response, Problem> {
        let page = self.repositories(page_size).await;
        page.map_err(|error| problem(&error))
    }

    async fn another(&self, url: &Url) -> Result<Response, Problem> {
        self.get_page(url).await.map_err(|error| problem(&error))
    }

    fn link(&self, page: &Response) -> Result<Option<Url>, Problem> {
        self.next_link(page).map_err(|error| problem(&error))
    }

    fn parse(&self, body: &[u8], max: usize) -> Result<(Vec<String>, usize), String> {
        let list = RepositoryList::parse(body, max).map_err(|error| error.to_string())?;
        Ok((list.repositories, list.unread))
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
    async fn run(&mut self, list: &impl PagedList, limits: Limits) -> Result<ListingEnd, Problem> {
        let words = list.words();
        let what = words.list;
        let mut page_size = Some(PAGE_SIZE);
        let mut page = list.first(page_size).await?;
        if refuses_parameter(page.status().as_u16()) {
            page_size = None;
            page = list.first(page_size).await?;
        }
        match page.status().as_u16() {
            200 => {}
            401 | 403 => return Ok(ListingEnd::Denied),
            // Some registries (Cloudsmith) answer 404 NAME_UNKNOWN for a repository without tags.
            // Any other 404 comes from something that cannot list tags, and says nothing about
            // them.
            404 if words.unknown_is_empty
                && page.error_codes().iter().any(|code| code == "NAME_UNKNOWN") =>
            {
                return Ok(ListingEnd::Whole);
            }
            404 | 405 | 501 => return Ok(ListingEnd::Denied),
            _ => return Err(refusal(&page)),
        }
        let mut urls = HashSet::from([page.url().clone()]);
        let mut empty = 0;
        loop {
            self.pages += 1;
            let (count, last) = self.take(list, &page, limits.max_tags)?;
            empty = if count == 0 { empty + 1 } else { 0 };
            if self.seen.len() > limits.max_tags || self.cut {
                return Ok(ListingEnd::Limited);
            }
            let Some(next) = next(list, &page, page_size, count, last)? else {
                return Ok(ListingEnd::Whole);
            };
            if self.pages >= limits.max_pages {
                let message = format!("the {what} has more than {} pages", limits.max_pages);
                return Err(Problem::new(ErrorCode::TagListFailed, message));
            }
            // An empty page can have a next page: some registries filter page by page.
            if empty > MAX_EMPTY_PAGES {
                let message =
                    format!("the {what} has more than {MAX_EMPTY_PAGES} empty pages in a row");
                return Err(Problem::new(ErrorCode::TagListFailed, message));
            }
            if !urls.insert(next.url.clone()) {
                let message = format!("the {what} loops at {}", next.url.path());
                return Err(Problem::new(ErrorCode::TagListFailed, message));
            }
            let before = self.seen.len();
            page = list.another(&next.url).await?;
            match page.status().as_u16() {
                200 => {}
                // A page that was only guessed may be refused, but must not fail.
                404 | 405 if next.guessed => return Ok(ListingEnd::Whole),
                status if next.guessed && refuses_parameter(status) => {
                    return Ok(ListingEnd::Whole);
                }
                _ => return Err(refusal(&page)),
            }
            if next.guessed {
                // A registry that does not support `last` repeats tags that were seen before.
                let (_, last) = self.take(list, &page, limits.max_tags)?;
                if self.seen.len() == before || last.is_none() {
                    return Ok(ListingEnd::Whole);
                }
            }
        }
    }

    /// Takes the names of a page, up to `max` in all. Returns the number of names on the page, and
    /// the last one.
    fn take(
        &mut self,
        list: &impl PagedList,
        page: &Response,
        max: usize,
    ) -> Result<(usize, Option<String>), Problem> {
        let parsed = list.parse(page.body(), max.saturating_add(1));
        let (mut names, unread) =
            parsed.map_err(|reason| Problem::new(ErrorCode::TagListFailed, reason))?;
        let max_bytes = list.words().max_name_bytes;
        for name in names.iter().filter(|name| name.len() <= max_bytes) {
            if self.seen.len() > max {
                break;
            }
            let known: Arc<str> = name.as_str().into();
            if self.seen.insert(Arc::clone(&known)) {
                self.order.push(known);
            }
        }
        self.cut |= unread > 0;
        Ok((names.len() + unread, names.pop()))
    }
}

/// Returns whether a status says that the registry does not accept the parameters of a request.
/// Statuses about access rights, rate limits and missing lists do not.
fn refuses_parameter(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 401 | 403..=405 | 408 | 429)
}

/// Finds the page after `page`. `Link` decides. Since some registries omit it, a full page, or one
/// whose size the registry has chosen, may not be the last even without a `Link`.
fn next(
    list: &impl PagedList,
    page: &Response,
    page_size: Option<u32>,
    count: usize,
    last: Option<String>,
) -> Result<Option<NextPage>, Problem> {
    if let Some(url) = list.link(page)? {
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
    /// Whether no link names it.
    guessed: bool,
}
