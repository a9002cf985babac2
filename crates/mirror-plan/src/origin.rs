use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::task::Poll;

use futures::stream::{self, TryStreamExt as _};
use oci_content::{Digest, ImageLayout, LayoutErrorKind, VerifyError};
use registry_client::{BlobSink, BlobStream, Repository, read_blob};

use crate::error::{PlanError, PlanErrorKind};

/// A place that objects come from. Displays as users write it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Origin {
    /// A repository of a registry.
    Repository(Repository),
    /// An image layout folder.
    Layout(ImageLayout),
}

impl Origin {
    /// Returns the repository, if it is one.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Repository(repository) => Some(repository),
            Self::Layout(_) => None,
        }
    }

    /// Reads a blob of `size` bytes into `sink`, from where an earlier pull has stopped.
    ///
    /// # Errors
    ///
    /// [`Incomplete`](PlanErrorKind::Incomplete) when the blob is not there, and
    /// [`Integrity`](PlanErrorKind::Integrity) when what is there is not the blob.
    ///
    /// # Cancellation
    ///
    /// What the sink got so far stays there, unverified; a later pull into the same sink continues
    /// from there.
    pub async fn pull_blob(
        &self,
        digest: &Digest,
        size: u64,
        sink: &mut dyn BlobSink,
    ) -> Result<(), PlanError> {
        let what = || format!("{digest} from {self}");
        match self {
            Self::Repository(repository) => {
                let pulled = repository.pull_blob(digest, size, sink).await;
                pulled.map_err(|error| PlanError::transfer(what(), error))
            }
            Self::Layout(layout) => {
                let read = read(layout, digest, size, sink).await;
                read.map_err(|error| PlanError::read(what(), error))
            }
        }
    }

    /// Reads a blob of `size` bytes as a stream, from byte `from` on.
    ///
    /// The digest is not verified: the caller sees all bytes and hashes them. Errors about a
    /// repository are those of [`Repository::stream_blob`]; those about a folder have a
    /// [`LayoutError`](oci_content::LayoutError) or a [`VerifyError`] inside.
    pub fn stream_blob(&self, digest: &Digest, size: u64, from: u64) -> BlobStream {
        match self {
            Self::Repository(repository) => repository.stream_blob(digest, size, from),
            Self::Layout(layout) => match opened(layout, digest, size, from) {
                Ok(file) => read_blob(file, 0),
                Err(error) => Box::pin(stream::iter([Err(error)])),
            },
        }
    }

    /// Returns whether this place says that it does not have a blob.
    ///
    /// # Errors
    ///
    /// When it gives no answer.
    pub async fn lacks_blob(&self, digest: &Digest) -> Result<bool, PlanError> {
        match self {
            Self::Repository(repository) => {
                let head = repository.head_blob(digest).await;
                let head = head.map_err(|error| PlanError::transfer(digest.to_string(), error))?;
                Ok(head.status().as_u16() == 404)
            }
            Self::Layout(layout) => {
                let size = layout.blob_size(digest);
                let size = size.map_err(|error| PlanError::layout(digest.to_string(), error))?;
                Ok(size.is_none())
            }
        }
    }

    /// Returns the size of a blob as this place gives it; `None` if it gives none.
    pub async fn blob_size(&self, digest: &Digest) -> Option<u64> {
        match self {
            Self::Repository(repository) => {
                let head = repository.head_blob(digest).await.ok();
                let head = head.filter(|head| head.status() == 200)?;
                head.content_length()
            }
            Self::Layout(layout) => layout.blob_size(digest).ok()?,
        }
    }

    /// Returns whether both are the same place.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Repository(one), Self::Repository(other)) => {
                one.registry() == other.registry() && one.name() == other.name()
            }
            (Self::Layout(one), Self::Layout(other)) => one.root() == other.root(),
            _ => false,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repository) => {
                write!(f, "{}/{}", repository.registry(), repository.name())
            }
            Self::Layout(layout) => write!(f, "oci:{}", layout.root().display()),
        }
    }
}

/// Opens a blob of a folder at byte `from`, if it has the right size.
fn opened(layout: &ImageLayout, digest: &Digest, size: u64, from: u64) -> io::Result<File> {
    let mut file = layout.open_blob(digest).map_err(|error| {
        let kind = match error.kind() {
            LayoutErrorKind::NotFound => io::ErrorKind::NotFound,
            LayoutErrorKind::Corrupt => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    })?;
    let length = file.metadata()?.len();
    if length != size {
        return Err(VerifyError::size(digest, size, length).into());
    }
    file.seek(SeekFrom::Start(from))?;
    Ok(file)
}

/// Reads a blob of a folder into a sink. What the sink has from an earlier pull is read again only
/// if it turns out to be wrong.
async fn read(
    layout: &ImageLayout,
    digest: &Digest,
    size: u64,
    sink: &mut dyn BlobSink,
) -> io::Result<()> {
    let mut begun = sink.written();
    if begun > size {
        sink.restart()?;
        begun = 0;
    }
    loop {
        let mut chunks = read_blob(opened(layout, digest, size, begun)?, 0);
        let mut received = begun;
        while let Some(chunk) = chunks.try_next().await? {
            received += chunk.len() as u64;
            if received > size {
                break;
            }
            sink.write(&chunk)?;
            others_first().await;
        }
        // The file has changed since it was opened.
        if received != size {
            return Err(VerifyError::size(digest, size, received).into());
        }
        match sink.finish() {
            Ok(()) => return Ok(()),
            Err(error) if begun == 0 => return Err(error.into()),
            Err(_) => {
                sink.restart()?;
                begun = 0;
            }
        }
    }
}

/// Lets other tasks run: reading a file never waits by itself.
async fn others_first() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            Poll::Ready(())
        } else {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

impl PlanErrorKind {
    /// Returns the class of a failure to read from a folder.
    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Incomplete,
            io::ErrorKind::InvalidData => Self::Integrity,
            _ => Self::LocalIo,
        }
    }
}

impl PlanError {
    /// Creates the error for a file whose content could not be read, or is not what it should be.
    fn read(what: String, error: io::Error) -> Self {
        Self::new(PlanErrorKind::of_io(&error), what).caused_by(error)
    }
}
