//! The body of a blob upload: read, hashed again and watched while it is sent.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use oci_content::{Digest, VerifyError, VerifyingReader};
use tokio::time::Instant;

use crate::blob::BlobSource;
use crate::error::{ErrorKind, Failure};
use crate::options::ClientOptions;

const CHUNK_BYTES: usize = 256 << 10;

/// How far an upload is, for the watchdog and for the caller's error.
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

    /// Returns what the source did wrong, once.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Returns when the upload counts as stalled if nothing moves until then. A registry may hash or move
    /// the whole blob before it answers, hence the longer time at the end.
    pub(crate) fn deadline(&self, options: &ClientOptions) -> Instant {
        let patience: Duration = match self.complete.load(Ordering::Relaxed) {
            true => options.response_timeout.max(options.idle_timeout),
            false => options.idle_timeout,
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + patience
    }

    fn moved(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// The chunks of a blob. The last one is handed out only after all bytes were found to be the blob's, so that
/// a file that changed can never complete an upload.
struct Chunks {
    reader: VerifyingReader<Box<dyn io::Read + Send>>,
    left: u64,
    state: Arc<UploadState>,
    over: bool,
}

/// Opens `source` as a request body.
pub(crate) fn body(
    source: &dyn BlobSource,
    digest: &Digest,
    size: u64,
) -> Result<(reqwest::Body, Arc<UploadState>), Failure> {
    let reader = source.open().map_err(|error| local(digest, error))?;
    let state = Arc::new(UploadState {
        sent: AtomicU64::new(0),
        complete: AtomicBool::new(size == 0),
        last: Mutex::new(Instant::now()),
        failure: Mutex::new(None),
    });
    let mut chunks = Chunks {
        reader: VerifyingReader::new(reader, digest.clone(), size),
        left: size,
        state: Arc::clone(&state),
        over: false,
    };
    if size == 0 {
        chunks.check_end().map_err(|error| local(digest, error))?;
        return Ok((Bytes::new().into(), state));
    }
    let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    Ok((body, state))
}

impl Chunks {
    fn read(&mut self) -> io::Result<Bytes> {
        let want = usize::try_from(self.left)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let mut chunk = vec![0; want];
        // A source that ends early is an error of the verifying reader, not an end of file here.
        self.reader.read_exact(&mut chunk)?;
        self.left -= want as u64;
        if self.left == 0 {
            self.check_end()?;
            self.state.complete.store(true, Ordering::Relaxed);
        }
        Ok(chunk.into())
    }

    fn check_end(&mut self) -> io::Result<()> {
        self.reader.read(&mut [0]).map(|_| ())
    }
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over || self.left == 0 {
            return None;
        }
        match self.read() {
            Ok(chunk) => {
                self.state.moved(chunk.len());
                Some(Ok(chunk))
            }
            Err(error) => {
                self.over = true;
                let kind = error.kind();
                let failure = failure(error);
                *self
                    .state
                    .failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(failure);
                // The connection only has to learn that the body is broken off.
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
    match verify {
        true => Failure::new(ErrorKind::Integrity, "the source changed").caused_by(error),
        false => {
            Failure::new(ErrorKind::LocalIo, "the source of the upload failed").caused_by(error)
        }
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
            reader: VerifyingReader::new(reader, digest.clone(), size),
            left: size,
            state: Arc::clone(&state),
            over: false,
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
