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
use crate::link;
use crate::observer::Endpoint;
use crate::origin::same_origin;
use crate::response::Response;

/// One repository of one registry.
///
/// Every method returns the final answer whatever its status; see the crate's documentation for when it is
/// an error instead.
#[derive(Clone)]
pub struct Repository {
    client: Client,
    registry: Registry,
    name: RepositoryName,
    for_push: bool,
}

/// What names a manifest within its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ManifestId<'a> {
    /// What the tag holds now.
    Tag(&'a Tag),
    /// The manifest of this digest.
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

/// What has to hold of a tag for a manifest to be put under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precondition<'a> {
    /// Nothing.
    #[default]
    None,
    /// It holds what has this entity tag (`If-Match`), a strong one.
    Matches(&'a str),
    /// It does not exist (`If-None-Match: *`).
    Absent,
}

impl<'a> From<Option<&'a str>> for Precondition<'a> {
    fn from(entity_tag: Option<&'a str>) -> Self {
        entity_tag.map_or(Self::None, Self::Matches)
    }
}

impl Client {
    /// Names a repository. Nothing is sent.
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
    /// Says that the repository is going to be written: from the first request on, tokens are asked for that
    /// allow `pull,push`.
    ///
    /// Of a repository that does not exist yet, a registry may refuse a token for `pull` alone (Quay). A token
    /// service that gives no such token is asked for `pull` alone where a request only reads.
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

    /// Gets a manifest (end-3). The bytes of a 200 hash to the digest, where one was asked for.
    ///
    /// # Errors
    /// - [`ErrorKind::Integrity`] when they do not, also when asked for again.
    /// - [`ErrorKind::Unreadable`] when what a tag holds cannot be read, also when asked for again.
    /// - When there is no usable answer, or it is larger than
    ///   [`max_manifest_bytes`](crate::ClientOptions::max_manifest_bytes).
    pub async fn get_manifest(
        &self,
        id: impl Into<ManifestId<'_>> + Send,
    ) -> Result<Response, Error> {
        self.manifest(Method::GET, id.into()).await
    }

    /// Asks for the head of a manifest (end-3).
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

    /// Gets the first page of a subject's referrers (end-12a), with a filter by artifact type if one is
    /// given (end-12b). Whether the registry applied the filter says
    /// [`filter_applied`](Response::filter_applied).
    ///
    /// # Errors
    /// - [`ErrorKind::Unreadable`] when the body of a 200 cannot be read, also when asked for again.
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

    /// Gets the first page of the list of tags (end-8a), asking for `n` tags a page if given (end-8b).
    ///
    /// A page of `n` tags without a next link need not be the last one: there are registries that heed `n` and
    /// give no link (go-containerregistry's). Without `n` they list everything.
    ///
    /// # Errors
    /// - [`ErrorKind::Unreadable`] when the body of a 200 cannot be read, also when asked for again.
    /// - When there is no usable answer, or it is larger than
    ///   [`max_list_bytes`](crate::ClientOptions::max_list_bytes).
    pub async fn tags(&self, n: Option<u32>) -> Result<Response, Error> {
        let mut url = self.url("tags/list")?;
        if let Some(n) = n {
            url.query_pairs_mut().append_pair("n", &n.to_string());
        }
        self.page(url, Endpoint::Tags).await
    }

    /// Returns where the page after `page` is; `None` after the last one.
    ///
    /// Reads every `Link` header for `rel=next`, resolved against where `page` came from.
    ///
    /// # Errors
    /// - [`ErrorKind::UntrustedLink`] when it leads to another origin than the registry's, or out of `/v2/`.
    /// - [`ErrorKind::Protocol`] when it cannot be read, contradicts another one, or leads to `page` itself.
    ///
    /// None of these may be taken for the end of the list.
    pub fn next_link(&self, page: &Response) -> Result<Option<Url>, Error> {
        let registry = self.client.url(&self.registry, "/")?;
        link::next(page.headers(), page.url(), &registry).map_err(|failure| {
            let failure = failure.at(&Method::GET, page.url()).answered(page.clone());
            Error::new(&self.registry, failure)
        })
    }

    /// Gets a further page of a list, by a URL from [`Repository::next_link`].
    ///
    /// # Errors
    /// - [`ErrorKind::UntrustedLink`] when the URL is not within the registry's `/v2/`; nothing is sent.
    /// - As for the first page.
    pub async fn get_page(&self, url: &Url) -> Result<Response, Error> {
        let registry = self.client.url(&self.registry, "/")?;
        let plain = url.username().is_empty() && url.password().is_none();
        if !plain || !same_origin(url, &registry) || !url.path().starts_with("/v2/") {
            let failure = Failure::new(ErrorKind::UntrustedLink, "the page is not the registry's");
            return Err(Error::new(&self.registry, failure.at(&Method::GET, url)));
        }
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

    /// Puts a manifest as it is (end-7), under a tag or under its digest, on a condition if one is given. Not every
    /// registry heeds conditions; one that does answers 412 where they do not hold.
    ///
    /// By tag it is sent again only after answers which say that it was not acted upon: another writer may
    /// have moved the tag in between.
    ///
    /// # Errors
    /// When there is no usable answer, or `media_type` or an entity tag cannot be sent in a header.
    ///
    /// # Cancellation
    /// The registry may or may not have taken the manifest. To put the same bytes again does no harm by digest; by tag, read
    /// the tag first if others write it.
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
                let text = format!("{value:?} does not stand in the header {name}");
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

    /// Asks for the head of a blob (end-2).
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
        // Names, tags and digests hold nothing that means something in a path.
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

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) -> bool {
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
