use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use oci_content::{Digest, ErrorCode, Manifest, Tag};

use super::reader::Reader;
use crate::manifest_cache::ManifestCache;
use crate::source::Problem;

/// The cache of manifests as one reader of a repository uses it.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    cache: Arc<dyn ManifestCache>,
    asks: Asks,
}

/// The manifests that the registry is asked for by HEAD although the cache has them.
#[derive(Clone, Debug)]
pub(crate) enum Asks {
    /// None: the source that named the digest has asked already.
    None,
    /// Those that the referrers API of the registry has not listed. Clients keep referrers tags,
    /// and forget to remove what they delete.
    Unlisted(Arc<Listed>),
    /// All: it is to be shown that the registry has them.
    All,
}

/// The digests that the referrers API has listed.
#[derive(Debug, Default)]
pub(crate) struct Listed(Mutex<HashSet<Digest>>);

impl Listed {
    pub(crate) fn add<'a>(&self, digests: impl Iterator<Item = &'a Digest>) {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listed.extend(digests.cloned());
    }

    fn has(&self, digest: &Digest) -> bool {
        let listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listed.contains(digest)
    }
}

impl Cached {
    pub(crate) fn new(cache: Arc<dyn ManifestCache>, asks: Asks) -> Self {
        Self { cache, asks }
    }

    /// Returns a manifest from the cache; `None` if it has to be read.
    pub(crate) async fn by_digest(
        &self,
        reader: &Reader,
        digest: &Digest,
    ) -> Result<Option<Manifest>, Problem> {
        let Some(known) = of(&*self.cache, digest) else {
            return Ok(None);
        };
        let asks = match &self.asks {
            Asks::None => false,
            Asks::Unlisted(listed) => !listed.has(digest),
            Asks::All => true,
        };
        if asks && !is_there(reader, &known).await? {
            return Ok(None);
        }
        Ok(Some(known))
    }

    pub(crate) async fn by_tag(
        &self,
        reader: &Reader,
        tag: &Tag,
    ) -> Result<Option<Manifest>, Problem> {
        by_tag(reader, tag, &*self.cache).await
    }

    pub(crate) fn keep(&self, manifest: &Manifest) {
        self.cache.keep(manifest);
    }
}

/// Returns what the cache has under a digest, and nothing that it mistakes for it.
pub(crate) fn of(cache: &dyn ManifestCache, digest: &Digest) -> Option<Manifest> {
    cache
        .manifest(digest)
        .filter(|known| known.digest() == digest)
}

/// Returns the manifest under a tag if the registry names its digest in the answer to a HEAD and
/// the cache has it; `None` if the tag has to be read.
pub(crate) async fn by_tag(
    reader: &Reader,
    tag: &Tag,
    cache: &dyn ManifestCache,
) -> Result<Option<Manifest>, Problem> {
    let head = match reader.head(tag).await {
        Ok(head) if head.status() == 200 => head,
        Err(problem) if problem.code == ErrorCode::Timeout => return Err(problem),
        _ => return Ok(None),
    };
    let known = head
        .content_digest()
        .and_then(|digest| of(cache, &digest))
        .filter(|known| head.content_length() == Some(known.size()));
    Ok(known)
}

/// Returns whether the registry says that it has a manifest. If its answer to a HEAD leaves a
/// doubt, the manifest has to be read.
pub(crate) async fn is_there(reader: &Reader, known: &Manifest) -> Result<bool, Problem> {
    match reader.head(known.digest()).await {
        Ok(head) => {
            let named = head.content_digest();
            Ok(head.status() == 200
                && head.content_length() == Some(known.size())
                && named.is_none_or(|named| named == *known.digest()))
        }
        Err(problem) if problem.code == ErrorCode::Timeout => Err(problem),
        Err(_) => Ok(false),
    }
}
