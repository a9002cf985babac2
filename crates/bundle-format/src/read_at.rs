use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// Where a bundle is read at random: bytes at an offset, from several threads at once.
///
/// A file is one, and so are the volumes of a [`BundleFile`](crate::BundleFile), bytes in memory,
/// and ranges of an object over HTTP. With the feature `testing`, `testing::check_source` checks an
/// implementation.
///
/// # Contract
///
/// - A read returns at least one byte if there is one at `offset` and `buffer` is not empty. It may
///   return fewer bytes than fit. It returns 0 only at and beyond the end, and for an empty buffer.
/// - The bytes and their number stay the same. A source that breaks this leads to an error, never
///   to wrong content: what is read is compared with `manifest.yaml`.
/// - After an error of the kind [`Interrupted`](io::ErrorKind::Interrupted) the read is tried
///   again, after any other it is not.
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// Reads bytes that start at `offset`, in bytes from the start of the source, and returns their
    /// number.
    ///
    /// # Errors
    ///
    /// When the source cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Returns the size of the source in bytes.
    ///
    /// # Errors
    ///
    /// When the size cannot be found out.
    fn size(&self) -> io::Result<u64>;
}

macro_rules! forward_read_at {
    ($($pointer:ty),+) => {$(
        impl<R: ReadAt + ?Sized> ReadAt for $pointer {
            fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
                (**self).read_at(buffer, offset)
            }

            fn size(&self) -> io::Result<u64> {
                (**self).size()
            }
        }
    )+};
}

forward_read_at!(&R, Box<R>, Arc<R>);

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

macro_rules! read_slice {
    ($($memory:ty),+) => {$(
        impl ReadAt for $memory {
            fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
                self[..].read_at(buffer, offset)
            }

            fn size(&self) -> io::Result<u64> {
                self[..].size()
            }
        }
    )+};
}

read_slice!(Vec<u8>, Bytes);

/// Reads a [`ReadAt`] from its first byte to its last.
#[derive(Clone, Debug)]
pub struct Sequential<S> {
    source: S,
    offset: u64,
}

impl<S> Sequential<S> {
    /// Creates a reader that starts at the first byte of `source`.
    pub fn new(source: S) -> Self {
        Self { source, offset: 0 }
    }
}

impl<S: ReadAt> io::Read for Sequential<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Hands on what `source` holds in a range, or until it ends; returns where that was.
pub(crate) fn read_range(
    source: &(impl ReadAt + ?Sized),
    range: Range<u64>,
    mut take: impl FnMut(&[u8]),
) -> io::Result<u64> {
    const BUFFER_BYTES: u64 = 256 << 10;
    let left = |offset: u64| range.end.saturating_sub(offset).min(BUFFER_BYTES);
    let mut buffer = vec![0; usize::try_from(left(range.start)).unwrap_or_default()];
    let mut offset = range.start;
    while offset < range.end {
        let part = usize::try_from(left(offset)).unwrap_or_default();
        match source.read_at(&mut buffer[..part], offset) {
            Ok(0) => break,
            Ok(count) => {
                take(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(offset)
}
