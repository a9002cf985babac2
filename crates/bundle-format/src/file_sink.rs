use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use oci_content::FileSystemGaps;

use crate::read_at::ReadAt;
use crate::sink::Sink;

/// A file that a bundle is written to.
///
/// It has no name and no lock: see [`OutputFile`](crate::OutputFile) for a file that appears only
/// when it is whole.
#[derive(Clone, Debug)]
pub struct FileSink {
    file: Arc<File>,
    gaps: FileSystemGaps,
}

impl FileSink {
    /// Creates a sink that writes to `file`, which must be open for reading and writing.
    pub fn new(file: Arc<File>) -> Self {
        Self {
            file,
            gaps: FileSystemGaps::default(),
        }
    }

    /// Records in `gaps` that the file system cannot sync the file, where that is so.
    #[must_use]
    pub fn with_gaps(mut self, gaps: FileSystemGaps) -> Self {
        self.gaps = gaps;
        self
    }
}

impl Sink for FileSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_at(&self.file, bytes, offset)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        reserve(&self.file, size)
    }

    fn sync(&self) -> io::Result<()> {
        oci_content::sync_file(&self.file, Path::new(""), &self.gaps)
    }

    fn read_back(&self) -> Option<&dyn ReadAt> {
        Some(&*self.file)
    }
}

/// Writes to a file, and has the kernel begin to put it on the disk.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)?;
    start_write_back(file, offset, bytes.len() as u64);
    Ok(())
}

/// Sets the length of a file and takes the space for it.
pub(crate) fn reserve(file: &File, size: u64) -> io::Result<()> {
    file.set_len(size)?;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        // The file system has no way to take space ahead (FAT, some network file systems), or the
        // bundle is empty: the length is set, and a full disk shows at a write.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => {
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Has the kernel start to write what fills a window, so that the last fsync does not wait for all
/// of the bundle.
///
/// This is only advice: a refusal does not change the result.
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
