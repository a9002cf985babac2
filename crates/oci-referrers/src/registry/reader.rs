use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use oci_content::{Digest, ErrorCode, Manifest, Tag};
use registry_client::{ManifestId, Repository, Response, Stopwatch};
use url::Url;

use super::cached::{Asks, Cached};
use crate::manifest_cache::ManifestCache;
use crate::manifests::{ManifestFailure, ManifestSource};
use crate::source::Problem;

/// A reader of one repository with a time limit, which returns every failure as a [`Problem`].
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    repository: Repository,
    limit: Option<(Stopwatch, Duration)>,
}

impl Reader {
    pub(crate) fn new(repository: Repository, time: Option<Duration>) -> Self {
        Self {
            limit: time.map(|time| (repository.stopwatch(), time)),
            repository,
        }
    }

    pub(crate) async fn manifest<'a>(
        &self,
        id: impl Into<ManifestId<'a>> + Send,
    ) -> Result<Response, Problem> {
        self.bounded(self.repository.get_manifest(id).boxed()).await
    }

    pub(crate) async fn head<'a>(
        &self,
        id: impl Into<ManifestId<'a>> + Send,
    ) -> Result<Response, Problem> {
        self.bounded(self.repository.head_manifest(id).boxed())
            .await
    }

    /// Returns the status of a manifest: that of a HEAD if it is 200, else that of a GET.
    /// Registries and proxies that do not serve HEAD answer it with 405, 501, 403 or 404.
    pub(crate) async fn status<'a>(
        &self,
        id: impl Into<ManifestId<'a>> + Send,
    ) -> Result<u16, Problem> {
        let id = id.into();
        match self.head(id).await {
            Ok(response) if response.status() == 200 => Ok(200),
            Err(problem) if problem.code == ErrorCode::Timeout => Err(problem),
            _ => Ok(self.manifest(id).await?.status().as_u16()),
        }
    }

    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Response, Problem> {
        self.bounded(self.repository.referrers(subject, None).boxed())
            .await
    }

    pub(crate) async fn tags(&self, page_size: Option<u32>) -> Result<Response, Problem> {
        self.bounded(self.repository.tags(page_size).boxed()).await
    }

    pub(crate) async fn page(&self, url: &Url) -> Result<Response, Problem> {
        self.bounded(self.repository.get_page(url).boxed()).await
    }

    pub(crate) fn next_link(&self, page: &Response) -> Result<Option<Url>, Problem> {
        self.repository
            .next_link(page)
            .map_err(|error| problem(&error))
    }

    /// Describes a request for an [`Exchange`](crate::Exchange).
    pub(crate) fn request(&self, what: &str) -> String {
        format!("GET /v2/{}/{what}", self.repository.name())
    }

    async fn bounded(
        &self,
        // A request is a large future, and a discovery is a deep stack.
        call: BoxFuture<'_, Result<Response, registry_client::Error>>,
    ) -> Result<Response, Problem> {
        let answer = match &self.limit {
            Some((stopwatch, time)) => stopwatch.within(*time, call).await.ok_or_else(|| {
                Problem::new(
                    ErrorCode::Timeout,
                    "the time limit for this image was reached",
                )
            })?,
            None => call.await,
        };
        answer.map_err(|error| problem(&error))
    }
}

/// Classifies a request that got no usable answer.
pub(super) fn problem(error: &registry_client::Error) -> Problem {
    Problem::new(error.code(), error.with_causes())
}

/// Classifies an answer that is not a success, after all retries.
pub(crate) fn refusal(response: &Response) -> Problem {
    let status = response.status().as_u16();
    let code = match status {
        401 | 403 => ErrorCode::Denied,
        429 => ErrorCode::RateLimited,
        _ => ErrorCode::ServerError,
    };
    let mut message = format!("{} answered {}", response.url().path(), response.status());
    if let Some(said) = response.error_message() {
        message = format!("{message} ({said})");
    }
    if let Some(wait) = response.retry_after() {
        message = format!("{message}, retry after {} s", wait.as_secs());
    }
    Problem::new(code, message)
}

/// Parses the manifest under a tag.
pub(crate) fn tagged_manifest(tag: &Tag, response: &Response) -> Result<Manifest, Problem> {
    Manifest::parse(response.body().clone(), response.header("content-type"))
        .map_err(|error| Problem::new(ErrorCode::Malformed, format!("tag {tag}: {error}")))
}

/// The manifests of one repository of a registry, each verified against its digest.
#[derive(Clone, Debug)]
pub struct RegistryManifests {
    reader: Reader,
    cached: Option<Cached>,
}

impl RegistryManifests {
    /// Creates a source of the manifests of a repository, without a deadline.
    pub fn new(repository: Repository) -> Self {
        Self::with_reader(Reader::new(repository, None))
    }

    /// Sets a time limit: `time` after this call, by a [`Stopwatch`], all reads that are not done
    /// fail with [`ErrorCode::Timeout`].
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.reader.limit = Some((self.reader.repository.stopwatch(), time));
        self
    }

    /// Sets a cache, in which manifests are kept, and from which they are taken without asking the
    /// registry. By default there is none.
    #[must_use]
    pub fn manifest_cache(self, cache: Option<Arc<dyn ManifestCache>>) -> Self {
        self.cached(cache.map(|cache| Cached::new(cache, Asks::None)))
    }

    pub(crate) fn cached(mut self, cached: Option<Cached>) -> Self {
        self.cached = cached;
        self
    }

    pub(crate) fn with_reader(reader: Reader) -> Self {
        Self {
            reader,
            cached: None,
        }
    }
}

#[async_trait]
impl ManifestSource for RegistryManifests {
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ManifestFailure> {
        if let Some(cached) = &self.cached {
            let known = cached.by_digest(&self.reader, digest).await;
            let known = known.map_err(|problem| ManifestFailure::Failed(problem.about(digest)))?;
            if let Some(known) = known {
                return Ok(known);
            }
        }
        let response = self
            .reader
            .manifest(digest)
            .await
            .map_err(ManifestFailure::Failed)?;
        match response.status().as_u16() {
            200 => {
                let content_type = response.header("content-type");
                let manifest =
                    Manifest::parse_verified(response.body().clone(), digest, content_type);
                let manifest = manifest.map_err(|error| {
                    ManifestFailure::Failed(Problem::from(&error).about(digest))
                })?;
                if let Some(cached) = &self.cached {
                    cached.keep(&manifest);
                }
                Ok(manifest)
            }
            // Only the registry itself can say that it does not have a manifest; its login page
            // cannot.
            404 if !response.is_foreign() && response.url().path().starts_with("/v2/") => {
                Err(ManifestFailure::NotFound)
            }
            _ => Err(ManifestFailure::Failed(refusal(&response).about(digest))),
        }
    }
}

/// Formats a number with the singular or plural of what is counted.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
