use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bundle_format::{BundleWriter, EntryPath, EntryWriter, Sink};
use mirror_plan::Piece;
use oci_content::{Digest, VerifyError};
use registry_client::BlobSink;
use tokio::task::JoinSet;

use crate::error::{ExportError, ExportErrorKind};
use crate::observer::{ExportEvent, ExportObserver};

/// A place in the bundle that a download writes into. The writer hashes; nothing is stored anywhere
/// else.
struct Place<'a, S: Sink> {
    writer: EntryWriter<S>,
    /// Why the output did not accept a blob whose bytes are right.
    refused: Option<io::Error>,
    observer: &'a dyn ExportObserver,
    /// The bytes that were reported to the observer.
    received: u64,
}

impl<S: Sink> Place<'_, S> {
    fn received(&mut self, bytes: u64) {
        self.received += bytes;
        self.observer.event(ExportEvent::Received { bytes });
    }

    fn discarded(&mut self) {
        let bytes = std::mem::take(&mut self.received);
        self.observer.event(ExportEvent::Discarded { bytes });
    }
}

impl<S: Sink> BlobSink for Place<'_, S> {
    fn written(&self) -> u64 {
        self.writer.written()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write(bytes)?;
        self.received(bytes.len() as u64);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.writer.restart();
        self.discarded();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VerifyError> {
        let Err(error) = self.writer.finish() else {
            return Ok(());
        };
        match error.downcast::<VerifyError>() {
            Ok(error) => Err(error),
            Err(error) => {
                self.refused = Some(error);
                Ok(())
            }
        }
    }
}

/// A blob that could not be fetched from any place, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) digest: Digest,
    pub(crate) error: ExportError,
}

/// The number of large blobs that are downloaded at once. Each takes up to a megabyte of buffers; a
/// few of them fill a slow network, and on a fast network fewer keep two processors busy.
const LARGE_AT_ONCE: usize = 8;
const LARGE_BYTES: u64 = 1 << 20;

/// Blobs of which an earlier run has left the first bytes.
pub(crate) type Begun<S> = BTreeMap<Digest, Box<EntryWriter<S>>>;

/// Downloads blobs into their places, several at once; the first failure ends the others.
pub(crate) async fn download<S: Sink + 'static>(
    writer: &Arc<BundleWriter<S>>,
    mut pieces: Vec<(&Digest, &Piece)>,
    mut begun: Begun<S>,
    at_once: usize,
    observer: &Arc<dyn ExportObserver>,
) -> Result<(), Failed> {
    long_first(&mut pieces, |(_, piece)| piece.size, at_once);
    let mut tasks = JoinSet::new();
    let (mut large, mut small): (VecDeque<_>, VecDeque<_>) = pieces
        .into_iter()
        .partition(|(_, piece)| piece.size >= LARGE_BYTES);
    let mut large_in_flight = 0;
    loop {
        while tasks.len() < at_once {
            let next = if large_in_flight < LARGE_AT_ONCE {
                large.pop_front().or_else(|| small.pop_front())
            } else {
                small.pop_front()
            };
            let Some((digest, piece)) = next else {
                break;
            };
            let is_large = piece.size >= LARGE_BYTES;
            large_in_flight += usize::from(is_large);
            let (writer, observer) = (Arc::clone(writer), Arc::clone(observer));
            let (digest, piece) = (digest.clone(), piece.clone());
            let begun = begun.remove(&digest);
            // Spawned, so that hashing and writing use more than one processor.
            tasks.spawn(async move {
                let size = piece.size;
                match pull(&writer, &digest, &piece, begun, &*observer).await {
                    Ok(()) => {
                        observer.event(ExportEvent::Transferred { bytes: size });
                        Ok(is_large)
                    }
                    Err(error) => Err(Failed { digest, error }),
                }
            });
        }
        match tasks.join_next().await {
            None => return Ok(()),
            Some(Ok(Ok(was_large))) => large_in_flight -= usize::from(was_large),
            Some(Ok(Err(failed))) => {
                // No task may hold the file open when this run has ended.
                tasks.shutdown().await;
                return Err(failed);
            }
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Sorts the blobs into the order in which they are requested.
///
/// They stay in the order of the file, which the checksum follows. Only blobs that are larger than
/// an even share of a transfer go first: if one of them started late, it would end long after all
/// others.
fn long_first<T>(blobs: &mut [T], size: impl Fn(&T) -> u64, at_once: usize) {
    let total: u64 = blobs.iter().map(&size).sum();
    let share = total / at_once as u64;
    blobs.sort_by_key(|blob| {
        let is_long = size(blob) > share;
        (!is_long, Reverse(if is_long { size(blob) } else { 0 }))
    });
}

/// Asks each place that has the blob, until one delivers it. If one breaks off, the next
/// resumes.
async fn pull<S: Sink>(
    writer: &BundleWriter<S>,
    digest: &Digest,
    piece: &Piece,
    begun: Option<Box<EntryWriter<S>>>,
    observer: &dyn ExportObserver,
) -> Result<(), ExportError> {
    let path = EntryPath::blob(digest)
        .map_err(|error| ExportError::new(ExportErrorKind::Integrity, error.to_string()))?;
    let mut place = Place {
        writer: match begun {
            Some(begun) => *begun,
            None => writer.entry(&path)?,
        },
        refused: None,
        observer,
        received: 0,
    };
    let mut last = None;
    for origin in &piece.from {
        match origin.pull_blob(digest, piece.size, &mut place).await {
            Ok(()) => {
                if let Some(error) = place.refused {
                    let message = format!("{path}: {error}");
                    return Err(ExportError::new(ExportErrorKind::LocalIo, message));
                }
                // Bytes that an earlier run had left were not downloaded now.
                place.received(piece.size.saturating_sub(place.received));
                return Ok(());
            }
            Err(error) => {
                place.discarded();
                let error = ExportError::from(error);
                if error.kind() == ExportErrorKind::Integrity {
                    place.writer.restart();
                }
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        ExportError::new(
            ExportErrorKind::Incomplete,
            format!("nothing is known that has {digest}"),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_longer_than_an_even_share_leaves_the_order_of_the_file() {
        // 100 bytes for 4 transfers: 25 for each.
        let mut sizes = [5, 27, 2, 25, 1, 40];
        long_first(&mut sizes, |size| *size, 4);
        assert_eq!(sizes, [40, 27, 5, 2, 25, 1]);
    }
}
