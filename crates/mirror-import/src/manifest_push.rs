use oci_content::{Digest, Manifest, Tag, absent_tag};
use registry_client::{ErrorKind, ManifestId, Precondition, Repository, Response, nobody};

use crate::error::{ImportError, ImportErrorKind};
use crate::source::Source;

/// Puts a manifest under its digest, or under a tag.
///
/// - If the target lacks something that it claimed to have, that is sent, and then the manifest
///   once more.
/// - If the answer is lost, the target is asked what it holds. A tag that holds nothing yet is put
///   again.
pub(crate) async fn push(
    repository: &Repository,
    source: &dyn Source,
    digest: &Digest,
    tag: Option<&Tag>,
) -> Result<(), ImportError> {
    const MAX_ATTEMPTS: usize = 3;
    let name = format!("{}/{}", repository.registry(), repository.name());
    let (id, what) = match tag {
        Some(tag) => (ManifestId::Tag(tag), format!("tag {name}:{tag}")),
        None => (
            ManifestId::Digest(digest),
            format!("manifest {name}@{digest}"),
        ),
    };
    let manifest = source.manifest(digest).await?;
    let mut attempt = 1;
    loop {
        let answer = repository
            .put_manifest(
                id,
                manifest.raw().clone(),
                manifest.media_type(),
                Precondition::None,
            )
            .await;
        let more = attempt < MAX_ATTEMPTS;
        attempt += 1;
        if let Ok(response) = &answer {
            if response.status().is_success() {
                return Ok(());
            }
            if more && misses_content(response) {
                send_content(repository, source, &manifest).await?;
                continue;
            }
        }
        let unsettled = is_unsettled(&answer);
        let error = match answer {
            Ok(response) if misses_content(&response) && needs_base(source, &manifest) => {
                let refused = ImportError::refused(&what, &response);
                let message = format!(
                    "{refused}; the target said that it has what this delta leaves out; import the base again"
                );
                ImportError::new(ImportErrorKind::BaseMissing, message)
            }
            Ok(response) => ImportError::refused(&what, &response),
            Err(error) => ImportError::request(&what, error),
        };
        if !unsettled {
            return Err(error);
        }
        match held(repository, id).await {
            Some(there) if there.as_ref() == Some(digest) => return Ok(()),
            // Under its digest it has been sent more than once already.
            Some(None) if more && tag.is_some() => {}
            _ => return Err(error),
        }
    }
}

/// Returns whether a write may have succeeded although the answer does not say so.
pub(crate) fn is_unsettled(answer: &Result<Response, registry_client::Error>) -> bool {
    match answer {
        Ok(response) => matches!(
            response.status().as_u16(),
            408 | 499 | 500 | 502 | 504 | 522
        ),
        Err(error) => matches!(error.kind(), ErrorKind::Reset | ErrorKind::Timeout),
    }
}

/// Returns whether a manifest was refused because of what it names.
pub(crate) fn misses_content(response: &Response) -> bool {
    let unknown = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];
    let codes = response.error_codes();
    !response.status().is_success() && codes.iter().any(|code| unknown.contains(&code.as_str()))
}

fn needs_base(source: &dyn Source, manifest: &Manifest) -> bool {
    let mut blobs = manifest.blobs();
    blobs.any(|blob| source.leaves_out(&blob.digest))
}

/// Reads what is under a name; `None` if the registry itself says that there is nothing.
pub(crate) async fn read(
    repository: &Repository,
    id: ManifestId<'_>,
    what: &str,
) -> Result<Option<Response>, ImportError> {
    let response = repository.get_manifest(id).await;
    let response = response.map_err(|error| ImportError::request(what, error))?;
    match response.status().as_u16() {
        200 => Ok(Some(response)),
        404 if !response.is_foreign() => Ok(None),
        403 if matches!(id, ManifestId::Tag(_)) && denies_absent_tags(repository).await? => {
            Ok(None)
        }
        _ => Err(ImportError::refused(what, &response)),
    }
}

/// Returns whether a 403 on a tag means that there is no such tag, as it does in Artifactory's
/// virtual repositories.
///
/// It does if a tag that cannot exist is denied as well, and something else in the repository may
/// be read. If nothing may be read, a 403 says nothing about a tag.
pub(crate) async fn denies_absent_tags(repository: &Repository) -> Result<bool, ImportError> {
    let what = format!("{}/{}", repository.registry(), repository.name());
    let failed = |error| ImportError::request(&what, error);
    let absent = absent_tag(&nobody());
    let tag = repository.get_manifest(&absent).await.map_err(failed)?;
    if tag.status() != 403 {
        return Ok(false);
    }
    let digest = nobody();
    let unknown = repository.head_manifest(&digest).await.map_err(failed)?;
    if unknown.status() == 404 {
        return Ok(true);
    }
    let tags = repository.tags(None).await.map_err(failed)?;
    Ok(matches!(tags.status().as_u16(), 200 | 404))
}

/// Sends everything that a manifest names, regardless of what the target claims to have.
async fn send_content(
    repository: &Repository,
    source: &dyn Source,
    manifest: &Manifest,
) -> Result<(), ImportError> {
    let blobs = manifest.blobs();
    for blob in blobs.filter(|blob| !source.leaves_out(&blob.digest)) {
        let content = source.blob(&blob.digest);
        repository
            .push_blob(&blob.digest, blob.size, &*content, None)
            .await
            .map_err(|error| ImportError::request(blob.digest.to_string(), error))?;
    }
    // Children that the bundle omits cannot be sent. Some registries refuse a missing subject as if
    // it were a blob.
    let children = manifest.children().map(|child| &child.digest);
    let subject = manifest.subject().map(|subject| &subject.digest);
    for digest in children
        .chain(subject)
        .filter(|digest| source.holds(digest))
    {
        let child = source.manifest(digest).await?;
        let response = repository
            .put_manifest(
                digest,
                child.raw().clone(),
                child.media_type(),
                Precondition::None,
            )
            .await
            .map_err(|error| ImportError::request(digest.to_string(), error))?;
        if !response.status().is_success() {
            return Err(ImportError::refused(&digest.to_string(), &response));
        }
    }
    Ok(())
}

/// Reads what is stored under a tag or a digest: `Some(None)` means nothing, `None` means unknown.
pub(crate) async fn held(repository: &Repository, id: ManifestId<'_>) -> Option<Option<Digest>> {
    let response = repository.get_manifest(id).await.ok()?;
    match response.status().as_u16() {
        200 => Some(Some(Digest::of(response.body()))),
        404 => Some(None),
        _ => None,
    }
}
