use oci_content::{Digest, ErrorCode, Manifest, Reference};
use registry_client::Repository;

use super::reader::{Reader, refusal};
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
    let reader = Reader::new(repository.clone(), None);
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
    let manifest = match reference.digest() {
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
    .map_err(|error| failed(Problem::from(&error)))?;
    let mut tag_moved_to = None;
    if let (Some(digest), Some(tag)) = (reference.digest(), reference.tag())
        && let Ok(now) = reader.manifest(tag).await
        && now.status() == 200
        && !digest.matches(now.body())
    {
        tag_moved_to = Some(Digest::of(now.body()));
    }
    Ok(Resolved {
        manifest,
        tag_moved_to,
    })
}
