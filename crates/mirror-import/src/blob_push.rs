use oci_content::{Digest, RepositoryName};
use registry_client::{BlobPush, ErrorKind, Repository, Response, VerifyingSink};

use crate::error::{ImportError, ImportErrorKind};
use crate::patience::Patience;
use crate::source::BundleSource;

/// What a target has of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    Whole,
    /// It says that it has it, and it is of another size or content.
    Damaged,
    Nothing,
}

/// Asks for a blob. A size that the answer to a HEAD does not say, or that a caller will not take its word for, is found
/// out by reading and hashing the blob.
pub(crate) async fn holding(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    read: bool,
) -> Result<Holding, ImportError> {
    let what = name(repository, digest);
    let head = repository
        .head_blob(digest)
        .await
        .map_err(|error| ImportError::request(&what, &error))?;
    match head.status().as_u16() {
        200 if read || length(&head).is_none() => read_back(repository, digest, size).await,
        200 if length(&head) == Some(size) => Ok(Holding::Whole),
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
        .map_err(|error| ImportError::new(ImportErrorKind::LocalIo, format!("{what}: {error}")))?;
    match repository.pull_blob(digest, size, &mut sink).await {
        Ok(()) => Ok(Holding::Whole),
        Err(error) if error.kind() == ErrorKind::Integrity => Ok(Holding::Damaged),
        Err(error) => match error.response().map(|answer| answer.status().as_u16()) {
            Some(404) => Ok(Holding::Nothing),
            _ => Err(ImportError::request(&what, &error)),
        },
    }
}

/// Sends a blob, and looks whether it is there: a registry that took it need not have kept it. Waits for one that shows it
/// late, and sends it once more to one that does not show it.
pub(crate) async fn push(
    repository: &Repository,
    bundle: &BundleSource,
    digest: &Digest,
    size: u64,
    mount_from: Option<&RepositoryName>,
    patience: std::time::Duration,
) -> Result<BlobPush, ImportError> {
    let what = format!(
        "{digest} into {}/{}",
        repository.registry(),
        repository.name()
    );
    let source = bundle.blob(digest);
    let send = |mount_from| repository.push_blob(digest, size, &source, mount_from);
    let failed = |error| ImportError::request(&what, &error);
    let mut done = send(mount_from).await.map_err(failed)?;
    let mut there = shown(repository, digest, size, patience).await?;
    if there != Holding::Whole {
        done = send(None).await.map_err(failed)?;
        there = shown(repository, digest, size, patience).await?;
    }
    let found = match there {
        Holding::Whole => {
            source.arrived(size);
            return Ok(done);
        }
        Holding::Damaged => "has something else in its place",
        Holding::Nothing => "does not have it",
    };
    let message = format!("{what}: it was sent twice, the target took it, and it {found}");
    Err(ImportError::new(ImportErrorKind::Incomplete, message))
}

/// Looks for a blob that was sent.
async fn shown(
    repository: &Repository,
    digest: &Digest,
    size: u64,
    patience: std::time::Duration,
) -> Result<Holding, ImportError> {
    let mut patience = Patience::new(patience);
    loop {
        match holding(repository, digest, size, false).await? {
            Holding::Nothing if patience.wait().await => {}
            // What a HEAD says of the size is not always right; what the blob is decides.
            Holding::Damaged => return read_back(repository, digest, size).await,
            there => return Ok(there),
        }
    }
}

/// Returns the size that the answer to a HEAD gives.
pub(crate) fn length(head: &Response) -> Option<u64> {
    head.header("content-length")?.trim().parse().ok()
}

fn name(repository: &Repository, digest: &Digest) -> String {
    format!(
        "{digest} in {}/{}",
        repository.registry(),
        repository.name()
    )
}
