//! The body of a blob upload, which is read, hashed again and monitored while it is sent.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use oci_content::{Digest, Hasher, VerifyError};
use tokio::time::Instant;

use crate::blob::{BlobSource, BlobStream};
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::options::ClientOptions;
use crate::toll::Toll;

/// The least distance between two checkpoints of a blob, in bytes.
const CHECKPOINT_BYTES: u64 = 8 << 20;

/// The number of checkpoints that a large blob has at most.
const MAX_CHECKPOINTS: u64 = 1_000;

/// The progress of an upload, for the stall detection and for the error of the caller.
#[derive(Debug)]
pub(crate) struct UploadState {
    sent: AtomicU64,
    complete: AtomicBool,
    /// Whether the source is waited for, which has limits of its own.
    is_waiting: AtomicBool,
    last: Mutex<Instant>,
    failure: Mutex<Option<Failure>>,
}

impl UploadState {
    fn new(is_complete: bool) -> Self {
        Self {
            sent: AtomicU64::new(0),
            complete: AtomicBool::new(is_complete),
            is_waiting: AtomicBool::new(false),
            last: Mutex::new(Instant::now()),
            failure: Mutex::new(None),
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Takes the failure of the source, if there was one.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        lock(&self.failure).take()
    }

    /// Returns when the upload counts as stalled if nothing is sent until then. A registry may hash
    /// or move the whole blob before it answers, hence the longer time at the end.
    pub(crate) fn deadline(&self, options: &ClientOptions) -> Instant {
        let patience: Duration = if self.complete.load(Ordering::Relaxed) {
            options.response_timeout.max(options.idle_timeout)
        } else {
            options.idle_timeout
        };
        if self.is_waiting.load(Ordering::Relaxed) {
            return Instant::now() + patience;
        }
        *lock(&self.last) + patience
    }

    fn moved(&self, bytes: usize) {
        self.is_waiting.store(false, Ordering::Relaxed);
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        *lock(&self.last) = Instant::now();
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
    pub(crate) slot: &'a Slot,
}

impl Part<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Returns a reader that has reached the first byte of the part. The bytes between the last
    /// checkpoint before it and the part are read and hashed again.
    async fn open(&self) -> io::Result<Reader> {
        let start = self.range.start;
        let mut reader = match self.slot.take(start) {
            Some(reader) => reader,
            None => {
                let (at, hasher) = self.slot.checkpoints.before(start, self.digest);
                Reader {
                    stream: self.source.open(at).await?,
                    hasher,
                    held: Bytes::new(),
                    at,
                    digest: self.digest.clone(),
                    size: self.size,
                    is_verified: false,
                    checkpoints: self.slot.checkpoints.clone(),
                }
            }
        };
        while reader.at < start {
            let limit = start - reader.at;
            poll_fn(|context| reader.poll_read(context, limit)).await?;
            // Skipping can take gigabytes, and other tasks need to run meanwhile.
            tokio::task::yield_now().await;
        }
        Ok(reader)
    }
}

/// What is kept of a blob between two parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// The reader, so that a blob in chunks is read only once.
    reader: Arc<Mutex<Option<Reader>>>,
    checkpoints: Checkpoints,
}

impl Slot {
    fn take(&self, at: u64) -> Option<Reader> {
        let reader = lock(&self.reader).take();
        reader.filter(|reader| reader.at == at)
    }

    fn put(&self, reader: Option<Reader>) {
        *lock(&self.reader) = reader;
    }
}

/// The state of the hash after a number of bytes of a blob, so that an upload can continue from there
/// without reading everything again.
#[derive(Clone, Debug, Default)]
struct Checkpoints(Arc<Mutex<Vec<(u64, Hasher)>>>);

impl Checkpoints {
    /// Returns the last one that is not after `place`, and forgets those that are.
    fn before(&self, place: u64, digest: &Digest) -> (u64, Hasher) {
        let mut known = lock(&self.0);
        known.retain(|(at, _)| *at <= place);
        let last = known.last().cloned();
        last.unwrap_or_else(|| (0, Hasher::new(digest.algorithm())))
    }

    fn add(&self, at: u64, size: u64, hasher: &Hasher) {
        let mut known = lock(&self.0);
        let last = known.last().map_or(0, |(at, _)| *at);
        if at >= last + CHECKPOINT_BYTES.max(size / MAX_CHECKPOINTS) {
            known.push((at, hasher.clone()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reader of a blob that hashes what it reads.
struct Reader {
    stream: BlobStream,
    /// The state of the hash after the bytes that were read.
    hasher: Hasher,
    /// Bytes that were read and hashed, and not yet handed out.
    held: Bytes,
    /// The number of bytes that were handed out.
    at: u64,
    digest: Digest,
    size: u64,
    is_verified: bool,
    checkpoints: Checkpoints,
}

impl Reader {
    /// Reads up to `limit` bytes. The last ones of the blob are only returned after the whole blob
    /// has been verified, so that content that changed can never complete an upload.
    fn poll_read(&mut self, context: &mut Context<'_>, limit: u64) -> Poll<io::Result<Bytes>> {
        loop {
            let read = self.at + self.held.len() as u64;
            if read == self.size {
                ready!(self.poll_verified(context))?;
            }
            if !self.held.is_empty() || self.at == self.size {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let part = self.held.split_to(limit.min(self.held.len()));
                self.at += part.len() as u64;
                return Poll::Ready(Ok(part));
            }
            let Some(chunk) = ready!(self.stream.poll_next_unpin(context)) else {
                return Poll::Ready(Err(self.wrong_size(read)));
            };
            let chunk = chunk?;
            if chunk.len() as u64 > self.size - read {
                return Poll::Ready(Err(self.wrong_size(self.size + 1)));
            }
            self.hasher.update(&chunk);
            let read = read + chunk.len() as u64;
            self.checkpoints.add(read, self.size, &self.hasher);
            self.held = chunk;
        }
    }

    /// Verifies the digest, and that the source has ended.
    fn poll_verified(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_verified {
            match ready!(self.stream.poll_next_unpin(context)).transpose()? {
                Some(more) if more.is_empty() => {}
                Some(_) => return Poll::Ready(Err(self.wrong_size(self.size + 1))),
                None => {
                    self.digest.verify(self.hasher.clone())?;
                    self.is_verified = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wrong_size(&self, found: u64) -> io::Error {
        VerifyError::size(&self.digest, self.size, found).into()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("at", &self.at)
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

/// Opens a part as a request body, which pays `toll` on its way.
pub(crate) async fn body(
    part: &Part<'_>,
    toll: Option<Toll>,
) -> Result<(reqwest::Body, Arc<UploadState>), Failure> {
    let local = |error| local(part.digest, error);
    let mut reader = part.open().await.map_err(local)?;
    let state = Arc::new(UploadState::new(part.bytes() == 0));
    if part.size == 0 {
        let read = poll_fn(|context| reader.poll_read(context, 0)).await;
        read.map_err(local)?;
        return Ok((Bytes::new().into(), state));
    }
    let chunks = Chunks {
        reader: Some(reader),
        left: part.bytes(),
        state: Arc::clone(&state),
        slot: part.slot.clone(),
    };
    let body = match toll {
        Some(toll) => reqwest::Body::wrap_stream(paced(chunks, toll)),
        None => reqwest::Body::wrap_stream(chunks),
    };
    Ok((body, state))
}

/// Hands out chunks as the limit of bytes per second allows. Such a wait is no stall.
fn paced(chunks: Chunks, toll: Toll) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold((chunks, toll), |(mut chunks, mut toll)| async move {
        chunks.state.is_waiting.store(true, Ordering::Relaxed);
        toll.pay().await;
        chunks.state.moved(0);
        let chunk = chunks.next().await?;
        toll.owe(chunk.as_ref().map_or(0, Bytes::len));
        Some((chunk, (chunks, toll)))
    })
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.slot.put(self.reader.take());
    }
}

impl Stream for Chunks {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let left = self.left;
        let Some(reader) = self.reader.as_mut().filter(|_| left > 0) else {
            return Poll::Ready(None);
        };
        match reader.poll_read(context, left) {
            Poll::Pending => {
                self.state.is_waiting.store(true, Ordering::Relaxed);
                Poll::Pending
            }
            Poll::Ready(Ok(chunk)) => {
                self.left -= chunk.len() as u64;
                self.state.complete.store(self.left == 0, Ordering::Relaxed);
                self.state.moved(chunk.len());
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Err(error)) => {
                self.reader = None;
                let kind = error.kind();
                let failure = failure(error);
                *lock(&self.state.failure) = Some(failure);
                // The connection only needs to know that the body was aborted.
                Poll::Ready(Some(Err(kind.into())))
            }
        }
    }
}

fn local(digest: &Digest, error: io::Error) -> Failure {
    let mut failure = failure(error);
    if failure.kind != ErrorKind::Integrity {
        failure.text = format!("{digest} cannot be read for the upload");
    }
    failure
}

fn failure(error: io::Error) -> Failure {
    let cause = error.get_ref();
    if cause.is_some_and(|cause| cause.is::<VerifyError>()) {
        return Failure::new(ErrorKind::Integrity, "the source changed").caused_by(error);
    }
    const TEXT: &str = "the source of the upload failed";
    match error.downcast::<Error>() {
        Ok(remote) => Failure::new(ErrorKind::Source, TEXT).caused_by(remote),
        Err(local) => Failure::new(ErrorKind::LocalIo, TEXT).caused_by(local),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn chunks(
        bytes: &'static [u8],
        digest: &Digest,
        size: u64,
    ) -> (Vec<io::Result<Bytes>>, Option<ErrorKind>) {
        let (source, slot) = (Bytes::from_static(bytes), Slot::default());
        let part = Part {
            source: &source,
            digest,
            size,
            range: 0..size,
            slot: &slot,
        };
        let state = Arc::new(UploadState::new(false));
        let chunks = Chunks {
            reader: Some(part.open().await.unwrap()),
            left: size,
            state: Arc::clone(&state),
            slot: slot.clone(),
        };
        let all = chunks.collect().await;
        (all, state.take_failure().map(|failure| failure.kind))
    }

    #[tokio::test]
    async fn the_last_chunk_of_other_bytes_is_never_handed_out() {
        let digest = Digest::of(b"hello");
        let (all, failure) = chunks(b"hello", &digest, 5).await;
        assert_eq!(
            all.into_iter().collect::<io::Result<Vec<_>>>().unwrap(),
            ["hello"]
        );
        assert_eq!(failure, None);
        for bytes in [&b"hallo"[..], b"hell", b"hello!", b""] {
            let (all, failure) = chunks(bytes, &digest, 5).await;
            let has_last = all.iter().flatten().any(|chunk| chunk.ends_with(b"o"));
            assert!(!has_last && all.last().unwrap().is_err(), "{bytes:?}");
            assert_eq!(failure, Some(ErrorKind::Integrity), "{bytes:?}");
        }
    }

    /// A source that counts the bytes it gave, and gives them 1 MiB at a time.
    struct Counted {
        bytes: Bytes,
        given: AtomicU64,
    }

    #[async_trait::async_trait]
    impl BlobSource for Counted {
        async fn open(&self, from: u64) -> io::Result<BlobStream> {
            let rest = self.bytes.slice(usize::try_from(from).unwrap()..);
            self.given.fetch_add(rest.len() as u64, Ordering::Relaxed);
            let reader = io::Cursor::new(rest);
            Ok(crate::blob::read_blob(reader, 0))
        }
    }

    #[tokio::test]
    async fn a_part_further_on_is_read_from_the_last_checkpoint() {
        let bytes = Bytes::from(vec![7; 20 << 20]);
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let source = Counted {
            bytes,
            given: AtomicU64::new(0),
        };
        let slot = Slot::default();
        let part = |range: Range<u64>| Part {
            source: &source,
            digest: &digest,
            size,
            range,
            slot: &slot,
        };
        drop(part(size..size).open().await.unwrap());
        source.given.store(0, Ordering::Relaxed);
        // 17 MiB have been sent, and the reader is gone.
        let mut reader = part(17 << 20..size).open().await.unwrap();
        assert_eq!(source.given.load(Ordering::Relaxed), 4 << 20);
        let mut left = size - reader.at;
        while left > 0 {
            let chunk = poll_fn(|context| reader.poll_read(context, left)).await;
            left -= chunk.unwrap().len() as u64;
        }
        assert!(reader.is_verified);
    }
}
