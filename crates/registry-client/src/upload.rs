//! The body of a blob upload, which is read, hashed again and monitored while it is sent.

use std::fmt;
use std::io::{self, Read as _};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use oci_content::{Digest, VerifyError, VerifyingReader};
use tokio::time::Instant;

use crate::blob::BlobSource;
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::options::ClientOptions;

const CHUNK_BYTES: usize = 256 << 10;

/// The progress of an upload, for the stall detection and for the error of the caller.
#[derive(Debug)]
pub(crate) struct UploadState {
    sent: AtomicU64,
    complete: AtomicBool,
    last: Mutex<Instant>,
    failure: Mutex<Option<Failure>>,
}

impl UploadState {
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Takes the failure of the source, if there was one.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Returns when the upload counts as stalled if nothing is sent until then. A registry may hash
    /// or move the whole blob before it answers, hence the longer time at the end.
    pub(crate) fn deadline(&self, options: &ClientOptions) -> Instant {
        let patience: Duration = if self.complete.load(Ordering::Relaxed) {
            options.response_timeout.max(options.idle_timeout)
        } else {
            options.idle_timeout
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + patience
    }

    fn moved(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A range of a blob: the body of one request.
#[derive(Clone)]
pub(crate) struct Part<'a> {
    pub(crate) source: &'a dyn BlobSource,
    pub(crate) digest: &'a Digest,
    /// The size of the whole blob.
    pub(crate) size: u64,
    pub(crate) range: Range<u64>,
    pub(crate) reader: &'a Slot,
}

impl Part<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn open(&self) -> io::Result<Reader> {
        let reader = self.source.open()?;
        Ok(Reader {
            inner: VerifyingReader::new(reader, self.digest.clone(), self.size),
            left: self.size,
        })
    }
}

/// Holds the reader of a blob between two parts, so that a blob in chunks is read only once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Reader>>>);

impl Slot {
    fn take(&self) -> Option<Reader> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reader>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader of a blob from its first byte.
struct Reader {
    inner: VerifyingReader<Box<dyn io::Read + Send>>,
    left: u64,
}

impl Reader {
    /// Reads `bytes` bytes. The last ones of the blob are only returned after the whole blob has
    /// been verified, so that a file that changed can never complete an upload.
    fn read(&mut self, bytes: u64) -> io::Result<Bytes> {
        let mut chunk = vec![0; usize::try_from(bytes).unwrap_or(CHUNK_BYTES)];
        // If the source ends early, the verifying reader returns an error instead of the end of the
        // file.
        self.inner.read_exact(&mut chunk)?;
        self.left -= chunk.len() as u64;
        if self.left == 0 {
            self.check_end()?;
        }
        Ok(chunk.into())
    }

    fn check_end(&mut self) -> io::Result<()> {
        self.inner.read(&mut [0]).map(|_| ())
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// The chunks of a part.
struct Chunks {
    /// Returned to the slot at the end.
    reader: Option<Reader>,
    left: u64,
    state: Arc<UploadState>,
    slot: Slot,
}

/// Opens a part as a request body. The bytes before it are read and hashed too.
pub(crate) async fn body(part: &Part<'_>) -> Result<(reqwest::Body, Arc<UploadState>), Failure> {
    let local = |error| local(part.digest, error);
    let before = part.size - part.range.start;
    let mut reader = match part.reader.take().filter(|reader| reader.left == before) {
        Some(reader) => reader,
        None => part.open().map_err(local)?,
    };
    while reader.left > before {
        let bytes = (reader.left - before).min(CHUNK_BYTES as u64);
        reader.read(bytes).map_err(local)?;
        // Skipping can take gigabytes, and other tasks need to run meanwhile.
        tokio::task::yield_now().await;
    }
    let state = Arc::new(UploadState {
        sent: AtomicU64::new(0),
        complete: AtomicBool::new(part.bytes() == 0),
        last: Mutex::new(Instant::now()),
        failure: Mutex::new(None),
    });
    if part.size == 0 {
        reader.check_end().map_err(local)?;
        return Ok((Bytes::new().into(), state));
    }
    let chunks = Chunks {
        reader: Some(reader),
        left: part.bytes(),
        state: Arc::clone(&state),
        slot: part.reader.clone(),
    };
    let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    Ok((body, state))
}

impl Drop for Chunks {
    fn drop(&mut self) {
        *self.slot.lock() = self.reader.take();
    }
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.left == 0 {
            return None;
        }
        let bytes = self.left.min(CHUNK_BYTES as u64);
        match self.reader.as_mut()?.read(bytes) {
            Ok(chunk) => {
                self.left -= bytes;
                self.state.complete.store(self.left == 0, Ordering::Relaxed);
                self.state.moved(chunk.len());
                Some(Ok(chunk))
            }
            Err(error) => {
                self.reader = None;
                let kind = error.kind();
                let failure = failure(error);
                *self
                    .state
                    .failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(failure);
                // The connection only needs to know that the body was aborted.
                Some(Err(kind.into()))
            }
        }
    }
}

fn local(digest: &Digest, error: io::Error) -> Failure {
    let mut failure = failure(error);
    if failure.kind == ErrorKind::LocalIo {
        failure.text = format!("{digest} cannot be read for the upload");
    }
    failure
}

fn failure(error: io::Error) -> Failure {
    let verify = error
        .get_ref()
        .is_some_and(|inner| inner.is::<VerifyError>());
    if verify {
        Failure::new(ErrorKind::Integrity, "the source changed").caused_by(error)
    } else {
        Failure::new(ErrorKind::LocalIo, "the source of the upload failed").caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(
        bytes: &'static [u8],
        digest: &Digest,
        size: u64,
    ) -> (Vec<io::Result<Bytes>>, Option<ErrorKind>) {
        let state = Arc::new(UploadState {
            sent: AtomicU64::new(0),
            complete: AtomicBool::new(false),
            last: Mutex::new(Instant::now()),
            failure: Mutex::new(None),
        });
        let reader: Box<dyn io::Read + Send> = Box::new(bytes);
        let chunks = Chunks {
            reader: Some(Reader {
                inner: VerifyingReader::new(reader, digest.clone(), size),
                left: size,
            }),
            left: size,
            state: Arc::clone(&state),
            slot: Slot::default(),
        };
        let all = chunks.collect();
        (all, state.take_failure().map(|failure| failure.kind))
    }

    #[test]
    fn the_last_chunk_of_other_bytes_is_never_handed_out() {
        let digest = Digest::of(b"hello");
        let (all, failure) = chunks(b"hello", &digest, 5);
        assert_eq!(
            all.into_iter().collect::<io::Result<Vec<_>>>().unwrap(),
            ["hello"]
        );
        assert_eq!(failure, None);
        for bytes in [&b"hallo"[..], b"hell", b"hello!", b""] {
            let (all, failure) = chunks(bytes, &digest, 5);
            assert!(matches!(&all[..], [Err(_)]), "{bytes:?}");
            assert_eq!(failure, Some(ErrorKind::Integrity), "{bytes:?}");
        }
    }
}
