use oci_content::{Digest, ErrorCode, Manifest, Reference, Tag};
use registry_client::Repository;

use super::cached;
use super::reader::{Reader, refusal};
use crate::manifest_cache::ManifestCache;
use crate::source::Problem;

/// The manifest that a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The manifest, verified against the digest of the reference. If the reference has only a tag,
    /// against the digest that the registry names, which need not be a SHA-256.
    pub manifest: Manifest,
    /// The digest that the tag points at now, if the reference has a tag and a digest and the tag
    /// has moved.
    pub tag_moved_to: Option<Digest>,
    /// Whether the manifest is from the cache: an earlier run has read it.
    pub from_cache: bool,
}

/// Why a reference could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The registry does not have it, or hides it from this client.
    #[error(
        "{reference} is not there: the registry answered 404{said}; check the repository and the tag"
    )]
    #[non_exhaustive]
    NotFound {
        /// The reference.
        reference: Reference,
        /// The message of the registry with a space before it, in brackets; empty if there was
        /// none.
        said: String,
    },
    /// It could not be read.
    #[error("{reference} could not be read{}", hint(reference, problem))]
    #[non_exhaustive]
    Failed {
        /// The reference.
        reference: Reference,
        /// What happened.
        #[source]
        problem: Problem,
    },
}

fn hint(reference: &Reference, problem: &Problem) -> String {
    match problem.code {
        ErrorCode::Denied => format!(" (check the credentials for {})", reference.registry()),
        _ => String::new(),
    }
}

/// Reads the manifest that a reference names. If it has a tag and a digest, the digest decides.
///
/// For a tag, the registry says in `Docker-Content-Digest` under which digest it keeps the
/// manifest, and referrers name that digest as their subject. It must be a digest of the bytes.
///
/// # Errors
///
/// [`NotFound`](ResolveError::NotFound) when the registry does not have it, and
/// [`Failed`](ResolveError::Failed) when access is denied, the registry cannot be reached, or the
/// bytes are malformed or not those of the digest.
///
/// # Cancellation
///
/// Dropping the future cancels the request and has no other effect.
pub async fn resolve(
    repository: &Repository,
    reference: &Reference,
) -> Result<Resolved, ResolveError> {
    resolve_with_cache(repository, reference, None).await
}

/// [Resolves](resolve) a reference, and takes the manifest from `cache` if the answer to a HEAD says
/// that the cache has what the reference names. A manifest that is read is kept there.
///
/// The registry is always asked, for a digest too: only the registry can say what it has. If the
/// answer to the HEAD names no digest or no size, or the cache does not have the manifest, the
/// manifest is read.
///
/// # Errors
///
/// As for [`resolve`].
///
/// # Cancellation
///
/// Dropping the future cancels the request and has no other effect.
pub async fn resolve_with_cache(
    repository: &Repository,
    reference: &Reference,
    cache: Option<&dyn ManifestCache>,
) -> Result<Resolved, ResolveError> {
    let reader = Reader::new(repository.clone(), None);
    let known = match cache {
        Some(cache) => known(&reader, reference, cache).await,
        None => None,
    };
    let from_cache = known.is_some();
    let manifest = match known {
        Some(known) => known,
        None => read(&reader, reference).await?,
    };
    if let Some(cache) = cache.filter(|_| !from_cache) {
        cache.keep(&manifest);
    }
    let tag_moved_to = match (reference.digest(), reference.tag()) {
        (Some(digest), Some(tag)) => moved(&reader, tag, digest, cache.is_some()).await,
        _ => None,
    };
    Ok(Resolved {
        manifest,
        tag_moved_to,
        from_cache,
    })
}

/// Returns what the cache has of a reference, if the registry says that it has it too.
async fn known(
    reader: &Reader,
    reference: &Reference,
    cache: &dyn ManifestCache,
) -> Option<Manifest> {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => {
            let known = cached::of(cache, digest)?;
            let is_there = cached::is_there(reader, &known).await;
            is_there.is_ok_and(|there| there).then_some(known)
        }
        (None, Some(tag)) => cached::by_tag(reader, tag, cache).await.ok().flatten(),
        (None, None) => None,
    }
}

/// Returns the digest that a tag points at if it is another one. A tag that cannot be read is not
/// said to have moved.
async fn moved(reader: &Reader, tag: &Tag, digest: &Digest, look_up: bool) -> Option<Digest> {
    if look_up && let Ok(head) = reader.head(tag).await {
        let named = head.content_digest().filter(|_| head.status() == 200);
        if let Some(named) = named.filter(|named| named.algorithm() == digest.algorithm()) {
            return (named != *digest).then_some(named);
        }
    }
    let now = reader.manifest(tag).await.ok()?;
    (now.status() == 200 && !digest.matches(now.body())).then(|| Digest::of(now.body()))
}

async fn read(reader: &Reader, reference: &Reference) -> Result<Manifest, ResolveError> {
    let failed = |problem| ResolveError::Failed {
        reference: reference.clone(),
        problem,
    };
    let response = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => reader.manifest(digest).await,
        (None, Some(tag)) => reader.manifest(tag).await,
        (None, None) => Err(Problem::new(
            ErrorCode::Malformed,
            "it has neither tag nor digest",
        )),
    }
    .map_err(failed)?;
    match response.status().as_u16() {
        200 => {}
        404 if !response.is_foreign() => {
            let said = response
                .error_message()
                .map(|said| format!(" ({said})"))
                .unwrap_or_default();
            return Err(ResolveError::NotFound {
                reference: reference.clone(),
                said,
            });
        }
        _ => return Err(failed(refusal(&response))),
    }
    let content_type = response.header("content-type");
    let body = || response.body().clone();
    match reference.digest() {
        Some(digest) => Manifest::parse_verified(body(), digest, content_type),
        None => Manifest::parse(body(), content_type).and_then(|manifest| {
            match response.content_digest() {
                Some(named) if named != *manifest.digest() => {
                    Manifest::parse_verified(body(), &named, content_type)
                }
                _ => Ok(manifest),
            }
        }),
    }
    .map_err(|error| failed(Problem::from(&error)))
}
