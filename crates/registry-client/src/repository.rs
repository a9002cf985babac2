use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, Method};
use oci_content::{Digest, Registry, RepositoryName, Tag, media_type};
use url::Url;

use crate::call::{Call, Expect, Mode, Reply};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::exchange::Payload;
use crate::failure::Failure;
use crate::observer::Endpoint;
use crate::response::Response;
use crate::stopwatch::Stopwatch;

/// One repository of one registry.
///
/// Every method returns the final answer, whatever its status; the documentation of the crate says
/// when it is an error instead.
#[derive(Clone)]
pub struct Repository {
    client: Client,
    registry: Registry,
    name: RepositoryName,
    for_push: bool,
}

/// The name of a manifest within its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ManifestId<'a> {
    /// The manifest that the tag points to.
    Tag(&'a Tag),
    /// The manifest with this digest.
    Digest(&'a Digest),
}

impl<'a> From<&'a Tag> for ManifestId<'a> {
    fn from(tag: &'a Tag) -> Self {
        Self::Tag(tag)
    }
}

impl<'a> From<&'a Digest> for ManifestId<'a> {
    fn from(digest: &'a Digest) -> Self {
        Self::Digest(digest)
    }
}

impl fmt::Display for ManifestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The condition under which a manifest is put under a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precondition<'a> {
    /// Nothing.
    #[default]
    None,
    /// The tag still has this entity tag (`If-Match`), which must be a strong one.
    Matches(&'a str),
    /// The tag does not exist (`If-None-Match: *`).
    Absent,
}

impl<'a> From<Option<&'a str>> for Precondition<'a> {
    fn from(entity_tag: Option<&'a str>) -> Self {
        entity_tag.map_or(Self::None, Self::Matches)
    }
}

impl Client {
    /// Returns a repository. Nothing is sent.
    pub fn repository(&self, registry: &Registry, name: &RepositoryName) -> Repository {
        Repository {
            client: self.clone(),
            registry: registry.clone(),
            name: name.clone(),
            for_push: false,
        }
    }
}

impl Repository {
    /// Declares that the repository will be written: tokens that allow `pull,push` are requested
    /// from the start.
    ///
    /// For a repository that does not exist yet, a registry may refuse a token for `pull` alone
    /// (Quay). If the token service refuses `pull,push`, requests that only read use `pull` alone.
    #[must_use]
    pub fn for_push(mut self) -> Self {
        self.for_push = true;
        self
    }

    /// Returns the registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the repository's name.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Returns the client that makes the requests.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Starts a stopwatch for calls to the registry, which leaves out the time that requests to it
    /// wait for its budget.
    pub fn stopwatch(&self) -> Stopwatch {
        self.client.stopwatch(&self.registry)
    }

    /// Gets a manifest (end-3). If it was requested by digest, the bytes of a 200 are verified.
    ///
    /// # Errors
    /// - [`ErrorKind::Integrity`] when they do not match, even after repeating the request.
    /// - [`ErrorKind::Unreadable`] when the manifest of a tag cannot be read, even after repeating
    ///   the request.
    /// - When there is no usable answer, or it is larger than
    ///   [`max_manifest_bytes`](crate::ClientOptions::max_manifest_bytes).
    pub async fn get_manifest(
        &self,
        id: impl Into<ManifestId<'_>> + Send,
    ) -> Result<Response, Error> {
        self.manifest(Method::GET, id.into()).await
    }

    /// Gets the headers of a manifest (end-3).
    ///
    /// # Errors
    /// When there is no usable answer.
    pub async fn head_manifest(
        &self,
        id: impl Into<ManifestId<'_>> + Send,
    ) -> Result<Response, Error> {
        self.manifest(Method::HEAD, id.into()).await
    }

    async fn manifest(&self, method: Method, id: ManifestId<'_>) -> Result<Response, Error> {
        let mut call = self.call(method, self.url(&format!("manifests/{id}"))?);
        call.expect = match id {
            ManifestId::Tag(_) => Expect::Readable,
            ManifestId::Digest(digest) => Expect::Content(digest),
        };
        set(&mut call.headers, ACCEPT, media_type::ACCEPT_MANIFEST);
        let limit = self.client.options().max_manifest_bytes;
        self.collect(call, limit, "max_manifest_bytes").await
    }

    /// Gets the first page of the referrers of a subject (end-12a), filtered by artifact type if
    /// one is given (end-12b). [`filter_applied`](Response::filter_applied) returns whether the
    /// registry applied the filter.
    ///
    /// # Errors
    /// - [`ErrorKind::Unreadable`] when the body of a 200 cannot be read, even after repeating the
    ///   request.
    /// - When there is no usable answer, or it is larger than
    ///   [`max_list_bytes`](crate::ClientOptions::max_list_bytes).
    pub async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Response, Error> {
        let mut url = self.url(&format!("referrers/{subject}"))?;
        if let Some(artifact_type) = artifact_type {
            url.query_pairs_mut()
                .append_pair("artifactType", artifact_type);
        }
        self.page(url, Endpoint::Referrers).await
    }

    /// Gets the first page of the list of tags (end-8a), with `n` tags per page if given (end-8b).
    ///
    /// A page of `n` tags without a link to the next one need not be the last: some registries obey
    /// `n` but send no link (go-containerregistry's). Without `n` they list everything.
    ///
    /// # Errors
    /// - [`ErrorKind::Unreadable`] when the body of a 200 cannot be read, even after repeating the
    ///   request.
    /// - When there is no usable answer, or it is larger than
    ///   [`max_list_bytes`](crate::ClientOptions::max_list_bytes).
    pub async fn tags(&self, n: Option<u32>) -> Result<Response, Error> {
        let mut url = self.url("tags/list")?;
        if let Some(n) = n {
            url.query_pairs_mut().append_pair("n", &n.to_string());
        }
        self.page(url, Endpoint::Tags).await
    }

    /// Returns the URL of the page after `page`, or `None` after the last one.
    ///
    /// Every `Link` header is searched for `rel=next` and resolved against the URL of `page`.
    ///
    /// # Errors
    /// - [`ErrorKind::UntrustedLink`] when it leads to an origin other than the registry's, or out
    ///   of `/v2/`.
    /// - [`ErrorKind::Protocol`] when it is malformed, contradicts another one, or leads to `page`
    ///   itself.
    ///
    /// None of these means the end of the list.
    pub fn next_link(&self, page: &Response) -> Result<Option<Url>, Error> {
        self.client.next_link(&self.registry, page)
    }

    /// Gets another page of a list, with a URL from [`Repository::next_link`].
    ///
    /// # Errors
    /// - [`ErrorKind::UntrustedLink`] when the URL is not within the registry's `/v2/`; nothing is
    ///   sent.
    /// - As for the first page.
    pub async fn get_page(&self, url: &Url) -> Result<Response, Error> {
        self.client.check_page(&self.registry, url)?;
        let endpoint = if url.path().ends_with("/tags/list") {
            Endpoint::Tags
        } else {
            Endpoint::Referrers
        };
        self.page(url.clone(), endpoint).await
    }

    async fn page(&self, url: Url, endpoint: Endpoint) -> Result<Response, Error> {
        let mut call = self.call(Method::GET, url);
        call.endpoint = endpoint;
        call.expect = Expect::Readable;
        let accept = match endpoint {
            Endpoint::Tags => "application/json",
            _ => media_type::IMAGE_INDEX,
        };
        set(&mut call.headers, ACCEPT, accept);
        let limit = self.client.options().max_list_bytes;
        self.collect(call, limit, "max_list_bytes").await
    }

    /// Uploads a manifest unchanged (end-7), under a tag or under its digest, subject to a
    /// condition if one is given. Not every registry supports conditions; one that does answers 412
    /// if the condition is not met.
    ///
    /// By tag, it is only sent again after answers which say that it was not processed: another
    /// writer may have moved the tag in the meantime.
    ///
    /// # Errors
    /// When there is no usable answer, or `media_type` or an entity tag cannot be sent in a header.
    ///
    /// # Cancellation
    /// The registry may or may not have stored the manifest. Uploading the same bytes again is safe
    /// by digest; by tag, read the tag first if others write it.
    pub async fn put_manifest(
        &self,
        id: impl Into<ManifestId<'_>> + Send,
        bytes: Bytes,
        media_type: &str,
        condition: impl Into<Precondition<'_>> + Send,
    ) -> Result<Response, Error> {
        let (id, condition) = (id.into(), condition.into());
        let (if_match, if_none_match) = match condition {
            Precondition::None => (None, None),
            Precondition::Matches(entity_tag) => (Some(entity_tag), None),
            Precondition::Absent => (None, Some("*")),
        };
        let mut call = self.call(Method::PUT, self.url(&format!("manifests/{id}"))?);
        call.idempotent = matches!(id, ManifestId::Digest(_)) && condition == Precondition::None;
        call.payload = Payload::Bytes(bytes);
        for (name, value) in [
            (CONTENT_TYPE, Some(media_type)),
            (IF_MATCH, if_match),
            (IF_NONE_MATCH, if_none_match),
        ] {
            if let Some(value) = value
                && !set(&mut call.headers, name.clone(), value)
            {
                let text = format!("{value:?} cannot be sent in the header {name}");
                let failure = Failure::new(ErrorKind::Protocol, text).at(&call.method, &call.url);
                return Err(Error::new(&self.registry, failure));
            }
        }
        let limit = self.client.options().max_manifest_bytes;
        self.collect(call, limit, "max_manifest_bytes").await
    }

    /// Deletes a manifest or a tag (end-9).
    ///
    /// # Errors
    /// When there is no usable answer.
    ///
    /// # Cancellation
    /// The registry may or may not have deleted it.
    pub async fn delete_manifest(
        &self,
        id: impl Into<ManifestId<'_>> + Send,
    ) -> Result<Response, Error> {
        let url = self.url(&format!("manifests/{}", id.into()))?;
        let call = self.call(Method::DELETE, url);
        let limit = self.client.options().max_manifest_bytes;
        self.collect(call, limit, "max_manifest_bytes").await
    }

    /// Gets the headers of a blob (end-2).
    ///
    /// # Errors
    /// When there is no usable answer.
    pub async fn head_blob(&self, digest: &Digest) -> Result<Response, Error> {
        let mut call = self.call(Method::HEAD, self.url(&format!("blobs/{digest}"))?);
        call.endpoint = Endpoint::Blob;
        let limit = self.client.options().max_manifest_bytes;
        self.collect(call, limit, "max_manifest_bytes").await
    }

    pub(crate) fn url(&self, path: &str) -> Result<Url, Error> {
        // Names, tags and digests contain no characters with a meaning in a path.
        let path = format!("/v2/{}/{path}", self.name);
        self.client.url(&self.registry, &path)
    }

    pub(crate) fn call(&self, method: Method, url: Url) -> Call<'_> {
        Call {
            for_push: self.for_push,
            ..self
                .client
                .call(&self.registry, Some(&self.name), method, url)
        }
    }

    pub(crate) async fn collect(
        &self,
        call: Call<'_>,
        limit: u64,
        limit_name: &'static str,
    ) -> Result<Response, Error> {
        let mode = Mode::Collect(limit, limit_name);
        self.client.run(&call, mode).await.map(Reply::into_head)
    }
}

pub(crate) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> bool {
    match HeaderValue::from_str(value) {
        Ok(value) => {
            headers.insert(name, value);
            true
        }
        Err(_) => false,
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({}/{})", self.registry, self.name)
    }
}
