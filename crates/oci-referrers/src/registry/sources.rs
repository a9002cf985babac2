use std::sync::Arc;
use std::time::Duration;

use oci_content::Capability;
use registry_client::Repository;

use super::cached::{Asks, Cached, Listed};
use super::catalog::TagCatalog;
use super::legacy::{LegacyTagReferrers, LegacyTags};
use super::native::{ApiState, NativeReferrers};
use super::reader::{Reader, RegistryManifests};
use super::tag_fallback::TagFallbackReferrers;
use crate::discovery::Discovery;
use crate::limits::Limits;
use crate::manifest_cache::ManifestCache;

/// The sources of one repository, which share one tag listing and what is known about the referrers
/// API.
///
/// Create new sources for each run: the listing is read once and never again.
#[derive(Clone, Debug)]
pub struct RegistrySources {
    repository: Repository,
    catalog: Arc<TagCatalog>,
    api: Arc<ApiState>,
    configured: Option<Capability>,
    legacy: LegacyTags,
    limits: Limits,
    cache: Option<Arc<dyn ManifestCache>>,
    seen_before: bool,
    proving: bool,
}

impl RegistrySources {
    /// Creates the sources of a repository, with all legacy tags and the default limits.
    pub fn new(repository: Repository) -> Self {
        Self {
            repository,
            catalog: Arc::new(TagCatalog::new(Limits::default())),
            api: Arc::default(),
            configured: None,
            legacy: LegacyTags::All,
            limits: Limits::default(),
            cache: None,
            seen_before: false,
            proving: false,
        }
    }

    /// Selects which legacy tags are searched; all by default.
    #[must_use]
    pub fn legacy_tags(mut self, legacy: LegacyTags) -> Self {
        self.legacy = legacy;
        self
    }

    /// Sets what is configured about the referrers API. With `Unsupported` the API is not asked;
    /// nothing is configured by default.
    #[must_use]
    pub fn configured(mut self, capability: Option<Capability>) -> Self {
        self.configured = capability;
        self
    }

    /// Replaces the limits of the lists and of the discoveries over them.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.catalog = Arc::new(TagCatalog::new(limits));
        self.limits = limits;
        self
    }

    /// Sets a cache of manifests; none by default. Lists and tags are never taken from it.
    ///
    /// A manifest that the cache has is not asked for again if the referrers API lists it. What
    /// only a referrers tag lists is looked up by HEAD, because clients keep that list: an entry
    /// whose manifest was deleted is dangling, whether or not the cache still has it.
    #[must_use]
    pub fn manifest_cache(mut self, cache: Option<Arc<dyn ManifestCache>>) -> Self {
        self.cache = cache;
        self
    }

    /// Says whether the cache probably has what the lists name, because an earlier run read it. Not
    /// by default. A legacy tag is then looked up by HEAD before it is read, and the referrers API
    /// is asked about one subject of many before the others.
    #[must_use]
    pub fn seen_before(mut self, seen_before: bool) -> Self {
        self.seen_before = seen_before;
        self
    }

    /// Sets whether the discovery is to show that the registry has the manifests that it lists:
    /// each that the cache has is looked up by HEAD, even if the API lists it. Not by default.
    #[must_use]
    pub fn proving(mut self, proving: bool) -> Self {
        self.proving = proving;
        self
    }

    /// Creates a discovery over these sources.
    ///
    /// With a `timeout`, counted from this call by a [`Stopwatch`](registry_client::Stopwatch),
    /// requests that are not done in time fail. The result is then incomplete and has what was
    /// found in time; a wait for the client's own budget does not count. The last tenth of the time is
    /// reserved for reading manifests that were named before; lists and tags are no longer
    /// requested in it.
    pub fn discovery(&self, timeout: Option<Duration>) -> Discovery {
        let until = |time: Option<Duration>| Reader::new(self.repository.clone(), time);
        let listed = self.cache.as_ref().filter(|_| !self.proving);
        let listed = listed.map(|_| Arc::new(Listed::default()));
        let cached = self.cache.as_ref().map(|cache| {
            let asks = listed.clone().map_or(Asks::All, Asks::Unlisted);
            Cached::new(Arc::clone(cache), asks)
        });
        let manifests = RegistryManifests::with_reader(until(timeout)).cached(cached.clone());
        let reader = until(timeout.map(|timeout| timeout - timeout / 10));
        let mut discovery = Discovery::new(Arc::new(manifests)).limits(self.limits);
        match self.configured {
            Some(Capability::Unsupported) => {
                discovery = discovery.configured(Capability::Unsupported)
            }
            _ => {
                let native =
                    NativeReferrers::shared(reader.clone(), Arc::clone(&self.api), self.limits);
                discovery =
                    discovery.source(Arc::new(native.listed(listed).one_first(self.seen_before)));
            }
        }
        let tag = TagFallbackReferrers::shared(reader.clone(), Arc::clone(&self.catalog));
        discovery = discovery.source(Arc::new(tag));
        if self.legacy != LegacyTags::Off {
            let legacy = LegacyTagReferrers::shared(reader, Arc::clone(&self.catalog), self.legacy);
            discovery = discovery.source(Arc::new(legacy.cached(cached, self.seen_before)));
        }
        discovery
    }
}
