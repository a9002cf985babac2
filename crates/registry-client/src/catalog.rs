use std::fmt;

use http::Method;
use http::header::ACCEPT;
use oci_content::Registry;
use url::Url;

use crate::call::{Call, Expect, Mode, Reply};
use crate::client::Client;
use crate::error::Error;
use crate::observer::Endpoint;
use crate::repository::set;
use crate::response::Response;

/// The list of a registry's repositories.
///
/// The specification does not have it; distribution does, and many registries follow. Others have
/// none, deny it, or list only what the credentials may read.
/// <https://distribution.github.io/distribution/spec/api/#listing-repositories>
#[derive(Clone)]
pub struct Catalog {
    client: Client,
    registry: Registry,
}

impl Client {
    /// Returns the catalog of a registry. Nothing is sent.
    pub fn catalog(&self, registry: &Registry) -> Catalog {
        Catalog {
            client: self.clone(),
            registry: registry.clone(),
        }
    }
}

impl Catalog {
    /// Returns the registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Gets the first page, with `n` repositories per page if given.
    ///
    /// Tokens are requested with the scope `registry:catalog:*`.
    ///
    /// # Errors
    /// - [`ErrorKind::Unreadable`](crate::ErrorKind::Unreadable) when the body of a 200 cannot be
    ///   read, even after repeating the request.
    /// - When there is no usable answer, or it is larger than
    ///   [`max_list_bytes`](crate::ClientOptions::max_list_bytes).
    pub async fn repositories(&self, n: Option<u32>) -> Result<Response, Error> {
        let mut url = self.client.url(&self.registry, "/v2/_catalog")?;
        if let Some(n) = n {
            url.query_pairs_mut().append_pair("n", &n.to_string());
        }
        self.page(url).await
    }

    /// Returns the URL of the page after `page`, or `None` after the last one, as
    /// [`Repository::next_link`](crate::Repository::next_link) does.
    ///
    /// # Errors
    /// As for [`Repository::next_link`](crate::Repository::next_link). None of them means the end
    /// of the list.
    pub fn next_link(&self, page: &Response) -> Result<Option<Url>, Error> {
        self.client.next_link(&self.registry, page)
    }

    /// Gets another page, with a URL from [`next_link`](Self::next_link).
    ///
    /// # Errors
    /// - [`ErrorKind::UntrustedLink`](crate::ErrorKind::UntrustedLink) when the URL is not within
    ///   the registry's `/v2/`; nothing is sent.
    /// - As for the first page.
    pub async fn get_page(&self, url: &Url) -> Result<Response, Error> {
        self.client.check_page(&self.registry, url)?;
        self.page(url.clone()).await
    }

    async fn page(&self, url: Url) -> Result<Response, Error> {
        let mut call = Call {
            endpoint: Endpoint::Catalog,
            expect: Expect::Readable,
            ..self.client.call(&self.registry, None, Method::GET, url)
        };
        set(&mut call.headers, ACCEPT, "application/json");
        let limit = self.client.options().max_list_bytes;
        let mode = Mode::Collect(limit, "max_list_bytes");
        self.client.run(&call, mode).await.map(Reply::into_head)
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalog({})", self.registry)
    }
}
