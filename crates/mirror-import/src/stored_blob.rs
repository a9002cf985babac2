use oci_content::Digest;
use registry_client::{ErrorKind, Repository, VerifyingSink};

use crate::error::{ImportError, ImportErrorKind};
use crate::target::{Check, Holding};

/// Returns whether a repository has a blob. If the answer to a HEAD has no size, or `check` asks
/// for the content, the blob is read and hashed.
pub(crate) async fn holding(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    check: Check,
) -> Result<Holding, ImportError> {
    let what = name(repository, digest);
    let head = repository
        .head_blob(digest)
        .await
        .map_err(|error| ImportError::request(&what, error))?;
    match head.status().as_u16() {
        200 if check == Check::Content || head.content_length().is_none() => {
            read_back(repository, digest, size).await
        }
        200 if head.content_length() == Some(size) => Ok(Holding::Whole),
        200 => Ok(Holding::Damaged),
        404 => Ok(Holding::Nothing),
        _ => Err(ImportError::refused(&what, &head)),
    }
}

/// Reads and hashes a blob.
async fn read_back(
    repository: &Repository,
    digest: &Digest,
    size: u64,
) -> Result<Holding, ImportError> {
    let what = name(repository, digest);
    let mut sink = VerifyingSink::new(std::io::empty(), digest.clone(), size)
        .map_err(|error| ImportError::caused(ImportErrorKind::LocalIo, &what, error))?;
    match repository.pull_blob(digest, size, &mut sink).await {
        Ok(()) => Ok(Holding::Whole),
        Err(error) if error.kind() == ErrorKind::Integrity => Ok(Holding::Damaged),
        Err(error) => match error.response().map(|answer| answer.status().as_u16()) {
            Some(404) => Ok(Holding::Nothing),
            _ => Err(ImportError::request(what, error)),
        },
    }
}

fn name(repository: &Repository, digest: &Digest) -> String {
    format!(
        "{digest} in {}/{}",
        repository.registry(),
        repository.name()
    )
}
