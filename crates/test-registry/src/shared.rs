use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use oci_content::{Digest, RepositoryName};
use registry_server::{MemoryStore, RegistryServer, Repository, Store as _};

use crate::late::Late;
use crate::limiter::Limiter;
use crate::list_cache::ListCache;
use crate::persona::{Persona, Variant};
use crate::plan::Faults;
use crate::profile::Profile;
use crate::record::Recorder;
use crate::token::Tokens;

/// The state that all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) persona: Persona,
    pub(crate) variant: Option<Variant>,
    pub(crate) profile: Profile,
    /// Whether credentials are never required.
    pub(crate) open: bool,
    pub(crate) tag_index: bool,
    pub(crate) conditional_writes: bool,
    pub(crate) page_size: Option<usize>,
    pub(crate) page_bytes: Option<u64>,
    pub(crate) pull_limit: Option<u64>,
    pub(crate) cache_ttl: Option<Duration>,
    pub(crate) latency: Duration,
    pub(crate) max_body_bytes: Option<u64>,
    pub(crate) host: String,
    pub(crate) foreign_host: String,
    pub(crate) store: MemoryStore,
    pub(crate) server: RegistryServer,
    pub(crate) tokens: Tokens,
    pub(crate) faults: Faults,
    pub(crate) recorder: Recorder,
    pub(crate) foreign_recorder: Recorder,
    pub(crate) limiter: Limiter,
    pub(crate) lists: ListCache,
    pub(crate) late: Late,
    /// Manifests that lists still name, but that cannot be read.
    pub(crate) lost: Mutex<HashSet<(RepositoryName, Digest)>>,
}

impl Shared {
    pub(crate) fn lost(&self) -> MutexGuard<'_, HashSet<(RepositoryName, Digest)>> {
        // Nothing that happens under the lock can panic.
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_lost(&self, name: &RepositoryName, digest: &Digest) -> bool {
        self.lost().contains(&(name.clone(), digest.clone()))
    }

    /// Returns the bytes of a manifest, unless it is missing or lost.
    pub(crate) fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Option<Bytes> {
        if self.is_lost(name, digest) {
            return None;
        }
        let found = self.store.manifest(&Repository::new(name.clone()), digest);
        found.ok().flatten().map(|manifest| manifest.bytes)
    }
}
