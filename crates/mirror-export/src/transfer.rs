use std::io;
use std::sync::Arc;

use bundle_format::{BundleWriter, EntryPath, EntryWriter, OutputSink};
use oci_content::{Digest, VerifyError};
use registry_client::BlobSink;
use tokio::task::JoinSet;

use crate::content::Piece;
use crate::error::{ExportError, ExportErrorKind, transfer_failure};
use crate::observer::{ExportEvent, ExportObserver};

/// A place in the bundle that a download writes into. The writer hashes; nothing is stored anywhere else.
struct Place(EntryWriter<OutputSink>);

impl BlobSink for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.restart();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VerifyError> {
        self.0.finish()
    }
}

/// A blob that no repository could give, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) digest: Digest,
    pub(crate) error: ExportError,
}

/// Downloads blobs into their places, several at once; the first failure ends the others.
pub(crate) async fn download(
    writer: &Arc<BundleWriter<OutputSink>>,
    pieces: Vec<(Digest, Piece)>,
    at_once: usize,
    observer: &Arc<dyn ExportObserver>,
) -> Result<(), Failed> {
    let mut tasks = JoinSet::new();
    let mut queue = pieces.into_iter();
    loop {
        while tasks.len() < at_once {
            let Some((digest, piece)) = queue.next() else {
                break;
            };
            let (writer, observer) = (Arc::clone(writer), Arc::clone(observer));
            // Spawned, because hashing and writing are work for more than one processor.
            tasks.spawn(async move {
                let size = piece.size;
                match pull(&writer, &digest, &piece).await {
                    Ok(()) => {
                        observer.event(ExportEvent::Transferred { bytes: size });
                        Ok(())
                    }
                    Err(error) => Err(Failed { digest, error }),
                }
            });
        }
        match tasks.join_next().await {
            None => return Ok(()),
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(failed))) => {
                // None of them may hold the file open when this run has ended.
                tasks.shutdown().await;
                return Err(failed);
            }
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Asks each repository that has the blob, until one gives it.
async fn pull(
    writer: &BundleWriter<OutputSink>,
    digest: &Digest,
    piece: &Piece,
) -> Result<(), ExportError> {
    let path = EntryPath::blob(digest)
        .map_err(|error| ExportError::new(ExportErrorKind::Integrity, error.to_string()))?;
    let mut last = None;
    for repository in &piece.from {
        let mut place = Place(writer.entry(&path)?);
        match repository.pull_blob(digest, piece.size, &mut place).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let (kind, message) = transfer_failure(&error);
                let from = format!("{}/{}", repository.registry(), repository.name());
                last = Some(ExportError::new(
                    kind,
                    format!("{digest} from {from}: {message}"),
                ));
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        ExportError::new(
            ExportErrorKind::Incomplete,
            format!("no repository is known that has {digest}"),
        )
    }))
}
