use std::fmt;
use std::io::{self, Read as _};
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, Stream};
use oci_content::{Digest, Hasher, VerifyError};

/// The size of the chunks that are read locally.
const READ_BYTES: usize = 256 << 10;

/// The destination of a pulled blob.
///
/// # Contract
/// - `written` is called once, before the first request: a sink that already has the first bytes of
///   the blob, from an earlier pull, only gets the rest.
/// - `write` gets the bytes in order, beginning with the first one that is missing, and never more
///   than the size of the blob.
/// - `restart` discards everything written so far; the next `write` begins with the first byte
///   again.
/// - `finish` is called after all bytes of the blob were written. It verifies the digest: the bytes
///   are the blob only if it returns `Ok`. After an error, `restart` and another transfer may
///   follow.
/// - All methods are called from an async task and should take no longer than a local write.
pub trait BlobSink: Send {
    /// Returns the number of leading bytes of the blob that it has. They need not be correct:
    /// `finish` verifies them.
    fn written(&self) -> u64 {
        0
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// Ends the pull with [`ErrorKind::LocalIo`](crate::ErrorKind::LocalIo).
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Discards everything that was written.
    ///
    /// # Errors
    /// Ends the pull with [`ErrorKind::LocalIo`](crate::ErrorKind::LocalIo).
    fn restart(&mut self) -> io::Result<()>;

    /// Verifies that what was written is the blob.
    ///
    /// # Errors
    /// When it is not.
    fn finish(&mut self) -> Result<(), VerifyError>;
}

/// The bytes of a blob from some byte on, in chunks of any size.
pub type BlobStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The source of a pushed blob.
///
/// # Contract
/// - Each `open` returns the bytes from `from` to the end of the blob: an upload that broke
///   continues where the registry stopped, or starts over.
/// - An error of [`Repository::stream_blob`](crate::Repository::stream_blob) passes through
///   unchanged.
/// - A stream that reads locally does so in an async task, and should take no longer than a local
///   read for each chunk.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// Opens the blob for reading from byte `from`, which is at most its size.
    ///
    /// # Errors
    /// Ends the push with [`ErrorKind::LocalIo`](crate::ErrorKind::LocalIo), or with
    /// [`ErrorKind::Source`](crate::ErrorKind::Source) if it is an [`Error`](crate::Error) about
    /// another registry.
    async fn open(&self, from: u64) -> io::Result<BlobStream>;

    /// Returns whether reading makes requests through this client, as
    /// [`stream_blob`](crate::Repository::stream_blob) does; by default `false`. Such an upload
    /// does not take a slot that the reading may need.
    fn makes_requests(&self) -> bool {
        false
    }
}

#[async_trait]
impl BlobSource for Bytes {
    async fn open(&self, from: u64) -> io::Result<BlobStream> {
        let start = usize::try_from(from).map_or(self.len(), |from| from.min(self.len()));
        let mut rest = self.slice(start..);
        let chunks = std::iter::from_fn(move || {
            let length = rest.len().min(READ_BYTES);
            (length > 0).then(|| Ok(rest.split_to(length)))
        });
        Ok(Box::pin(stream::iter(chunks)))
    }
}

/// Reads a blob in chunks of 256 KiB from byte `from` on. The bytes before it are read and dropped;
/// if the reader can seek, seek first, and pass 0.
pub fn read_blob(reader: impl io::Read + Send + 'static, from: u64) -> BlobStream {
    Box::pin(stream::try_unfold(
        (reader, from),
        |(mut reader, mut skipped)| async move {
            loop {
                let chunk_bytes = READ_BYTES as u64;
                let limit = if skipped > 0 {
                    skipped.min(chunk_bytes)
                } else {
                    chunk_bytes
                };
                let mut chunk = Vec::with_capacity(READ_BYTES);
                let read = reader.by_ref().take(limit).read_to_end(&mut chunk)?;
                if read == 0 {
                    return Ok(None);
                }
                if skipped == 0 {
                    return Ok(Some((Bytes::from(chunk), (reader, 0))));
                }
                skipped -= read as u64;
                // Skipping can take gigabytes, and other tasks need to run meanwhile.
                tokio::task::yield_now().await;
            }
        },
    ))
}

/// A [`BlobSink`] that writes to a file or anything else that can seek back to where it began.
#[derive(Debug)]
pub struct VerifyingSink<W> {
    inner: W,
    start: u64,
    digest: Digest,
    size: u64,
    hasher: Hasher,
    written: u64,
}

impl<W: io::Write + io::Seek + Send> VerifyingSink<W> {
    /// Creates a sink for the `size` bytes of `digest` that writes from the current position of
    /// `inner`.
    ///
    /// # Errors
    /// When the position cannot be determined.
    pub fn new(mut inner: W, digest: Digest, size: u64) -> io::Result<Self> {
        let start = inner.stream_position()?;
        let hasher = Hasher::new(digest.algorithm());
        Ok(Self {
            inner,
            start,
            digest,
            size,
            hasher,
            written: 0,
        })
    }

    /// Returns the inner writer. It holds the blob only after a successful pull.
    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: io::Write + io::Seek + Send> BlobSink for VerifyingSink<W> {
    fn written(&self) -> u64 {
        self.written
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.inner.seek(io::SeekFrom::Start(self.start))?;
        self.hasher = Hasher::new(self.digest.algorithm());
        self.written = 0;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VerifyError> {
        verify(&self.digest, self.size, self.written, &self.hasher)
    }
}

/// A [`BlobSink`] in memory, for small blobs.
pub struct MemorySink {
    bytes: Vec<u8>,
    digest: Digest,
    size: u64,
    hasher: Hasher,
    verified: bool,
}

impl MemorySink {
    /// Creates a sink for the `size` bytes of `digest`. No memory is reserved for a size that only
    /// a descriptor claims.
    pub fn new(digest: Digest, size: u64) -> Self {
        let hasher = Hasher::new(digest.algorithm());
        Self {
            bytes: Vec::new(),
            digest,
            size,
            hasher,
            verified: false,
        }
    }

    /// Returns the blob, if it is complete and its digest is correct.
    pub fn into_bytes(self) -> Option<Bytes> {
        self.verified.then(|| self.bytes.into())
    }
}

impl BlobSink for MemorySink {
    fn written(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.verified = false;
        self.bytes.extend_from_slice(bytes);
        self.hasher.update(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.verified = false;
        self.bytes.clear();
        self.hasher = Hasher::new(self.digest.algorithm());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VerifyError> {
        let written = self.bytes.len() as u64;
        verify(&self.digest, self.size, written, &self.hasher)?;
        self.verified = true;
        Ok(())
    }
}

impl fmt::Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("written", &self.bytes.len())
            .field("verified", &self.verified)
            .finish_non_exhaustive()
    }
}

fn verify(digest: &Digest, size: u64, written: u64, hasher: &Hasher) -> Result<(), VerifyError> {
    if written != size {
        return Err(VerifyError::size(digest, size, written));
    }
    digest.verify(hasher.clone())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_sink_starts_over_where_it_began() {
        let mut file = io::Cursor::new(Vec::new());
        file.write_all(b"head ").unwrap();
        let mut sink = VerifyingSink::new(file, Digest::of(b"hello"), 5).unwrap();
        sink.write(b"hal").unwrap();
        sink.write(b"lo").unwrap();
        assert!(matches!(sink.finish(), Err(VerifyError::Digest { .. })));
        sink.restart().unwrap();
        sink.write(b"hell").unwrap();
        assert!(matches!(sink.finish(), Err(VerifyError::Size { .. })));
        sink.write(b"o").unwrap();
        sink.finish().unwrap();
        assert_eq!(sink.into_inner().into_inner(), b"head hello");
    }

    #[test]
    fn memory_gives_nothing_that_was_not_verified() {
        let mut sink = MemorySink::new(Digest::of(b"hello"), 5);
        sink.write(b"hallo").unwrap();
        assert!(sink.finish().is_err());
        assert_eq!(sink.into_bytes(), None);

        let mut sink = MemorySink::new(Digest::of(b"hello"), 5);
        sink.write(b"x").unwrap();
        sink.restart().unwrap();
        sink.write(b"hello").unwrap();
        sink.finish().unwrap();
        assert_eq!(sink.into_bytes().unwrap(), "hello");
    }
}
