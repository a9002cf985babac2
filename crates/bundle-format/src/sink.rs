use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// Where a bundle is written: any place that takes bytes at an offset, in any order and from several threads.
///
/// # Contract
///
/// - [`write_at`](Self::write_at) writes all bytes or fails; calls at places that do not overlap may run at once.
/// - Bytes that were never written may read as anything.
pub trait Sink: Send + Sync {
    /// Writes `bytes` at `offset`, in bytes from the start.
    ///
    /// # Errors
    ///
    /// When not all bytes could be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the place exactly `size` bytes long, and takes the space if that can be done.
    ///
    /// # Errors
    ///
    /// When there is no room for so many bytes.
    fn reserve(&self, size: u64) -> io::Result<()>;

    /// Makes everything that was written durable.
    ///
    /// # Errors
    ///
    /// When something that was written may be lost.
    fn sync(&self) -> io::Result<()>;
}

/// Where a bundle is read at random: bytes at an offset, from several threads.
pub trait ReadAt: Send + Sync {
    /// Reads some bytes at `offset`; 0 is the end.
    ///
    /// # Errors
    ///
    /// When the place cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Returns the number of bytes there are.
    ///
    /// # Errors
    ///
    /// When the place cannot be asked.
    fn size(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Arc<R> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }
}

impl ReadAt for Vec<u8> {
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

/// Reads a source from its start.
#[derive(Debug)]
pub(crate) struct Sequential<S> {
    source: S,
    offset: u64,
}

impl<S> Sequential<S> {
    pub(crate) fn new(source: S) -> Self {
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
    source: &impl ReadAt,
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

/// A file as the place that a bundle is written to.
#[derive(Clone, Debug)]
pub struct FileSink(Arc<File>);

impl FileSink {
    /// Writes to `file`, which must be open for writing.
    pub fn new(file: Arc<File>) -> Self {
        Self(file)
    }
}

impl Sink for FileSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)?;
        start_write_back(&self.0, offset, bytes.len() as u64);
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)?;
        match rustix::fs::fallocate(&*self.0, rustix::fs::FallocateFlags::empty(), 0, size) {
            // The file system has no way to take space ahead (FAT, some network file systems), or the bundle is
            // empty: the length is set, and a full disk shows at a write.
            Err(
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL,
            ) => Ok(()),
            other => Ok(other?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        oci_content::sync_file(&self.0, Path::new(""))
    }
}

/// Has the kernel start to write what fills a window, so that the last fsync does not wait for all of the bundle.
///
/// Advice only: a refusal changes nothing about the result.
#[cfg(target_os = "linux")]
fn start_write_back(file: &File, offset: u64, length: u64) {
    const WINDOW: u64 = 8 << 20;
    let (first, next) = (offset / WINDOW, (offset + length) / WINDOW);
    if let Some(filled) = std::num::NonZero::new((next - first) * WINDOW) {
        let advice = rustix::fs::Advice::DontNeed;
        let _ = rustix::fs::fadvise(file, first * WINDOW, Some(filled), advice);
    }
}

#[cfg(not(target_os = "linux"))]
fn start_write_back(_file: &File, _offset: u64, _length: u64) {}
