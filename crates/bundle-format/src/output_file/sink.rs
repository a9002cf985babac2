use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use oci_content::FileSystemGaps;
use rustix::fs::FlockOperation;

use super::partial;
use crate::file_sink;
use crate::read_at::ReadAt;
use crate::sink::Sink;
use crate::volume_names::volume_path;
use crate::volume_size::VolumeSize;

/// The sink of an [`OutputFile`](crate::OutputFile), which also reads what was written: one file,
/// or volumes.
#[derive(Clone, Debug)]
pub struct OutputSink {
    names: Arc<Names>,
    /// A bundle's size is known only when it is planned, and it can be planned again: the first
    /// file is there from the start, the others are made by [`reserve`](Sink::reserve).
    files: Arc<RwLock<Vec<Arc<File>>>>,
    pub(super) gaps: FileSystemGaps,
}

/// The names of the files of a bundle.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) target: PathBuf,
    /// The size of its volumes; `None` if it is one file.
    pub(super) volume: Option<VolumeSize>,
}

impl Names {
    /// Returns the final name of a file; the first is number 1.
    pub(super) fn name(&self, number: usize) -> PathBuf {
        match self.volume {
            Some(_) => volume_path(&self.target, number),
            None => self.target.clone(),
        }
    }

    /// Returns the name that a file has while it is written.
    pub(super) fn partial(&self, number: usize) -> PathBuf {
        partial::partial_path(&self.name(number))
    }

    /// Returns the maximum size of a file in bytes.
    fn max_bytes(&self) -> u64 {
        self.volume.map_or(u64::MAX, VolumeSize::bytes)
    }

    /// Returns the maximum number of files.
    pub(super) fn max_files(&self) -> usize {
        match self.volume {
            Some(_) => VolumeSize::MAX_VOLUMES,
            None => 1,
        }
    }
}

impl OutputSink {
    pub(super) fn new(names: Names, first: File, gaps: FileSystemGaps) -> Self {
        Self {
            names: Arc::new(names),
            files: Arc::new(RwLock::new(vec![Arc::new(first)])),
            gaps,
        }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Returns the files as they are now.
    pub(super) fn files(&self) -> Vec<Arc<File>> {
        self.held().clone()
    }

    /// Returns the files and keeps them open until the guard is dropped; [`close`](Self::close)
    /// waits for that.
    fn held(&self) -> RwLockReadGuard<'_, Vec<Arc<File>>> {
        // A thread that panicked has left no half-made list: each change is one call.
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of the file in which `offset` lies, from 0, and where in it.
    fn place_of(&self, offset: u64) -> (usize, u64) {
        let max_bytes = self.names.max_bytes();
        let place = usize::try_from(offset / max_bytes).unwrap_or(usize::MAX);
        (place, offset % max_bytes)
    }

    /// Closes the files and releases the lock, after waiting for writes in progress. Tasks and
    /// threads that still have this sink can then neither write nor read.
    pub(super) fn close(&self) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = files.first() {
            // A thread in the middle of an fsync keeps the file open until it is done.
            rustix::fs::flock(first, FlockOperation::Unlock).ok();
        }
        files.clear();
    }

    /// Returns how many of `length` bytes at `within` fit into the same file.
    fn room(&self, within: u64, length: usize) -> usize {
        let room = self.names.max_bytes() - within;
        usize::try_from(room).unwrap_or(usize::MAX).min(length)
    }

    /// Creates or removes files until there are `count`, at least 1.
    fn resize(&self, count: usize) -> io::Result<()> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, ENDED));
        }
        while files.len() < count {
            let path = self.names.partial(files.len() + 1);
            files.push(Arc::new(partial::open(&path).map_err(io::Error::other)?));
        }
        files.truncate(count);
        drop(files);
        // Files left by a longer plan, of this run or an earlier one, are not part of this bundle.
        for number in count + 1..=self.names.max_files() {
            partial::remove(&self.names.partial(number)).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Sink for OutputSink {
    fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let (place, within) = self.place_of(offset);
            let files = self.held();
            let Some(file) = files.get(place) else {
                let reason = if files.is_empty() {
                    ENDED
                } else {
                    "a write past the end of the bundle"
                };
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            };
            let (now, later) = bytes.split_at(self.room(within, bytes.len()));
            file_sink::write_at(file, now, within)?;
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        let count = match self.names.volume {
            Some(volume) => volume
                .volumes_of(size)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
            None => 1,
        };
        self.resize(count)?;
        let max_bytes = self.names.max_bytes();
        let mut left = size;
        let files = self.held();
        for file in files.iter() {
            let own = left.min(max_bytes);
            let reserved = file_sink::reserve(file, own);
            reserved.map_err(|error| with_sizes(&files, error, size))?;
            left -= own;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut files = self.files().into_iter();
        files.try_for_each(|file| oci_content::sync_file(&file, &self.names.target, &self.gaps))
    }

    fn read_back(&self) -> Option<&dyn ReadAt> {
        Some(self)
    }
}

/// Adds how much space is needed and available to an error of a full disk.
fn with_sizes(files: &[Arc<File>], error: io::Error, needed: u64) -> io::Error {
    let room = files.first().map(rustix::fs::fstatvfs);
    let Some(Ok(room)) = room.filter(|_| error.kind() == io::ErrorKind::StorageFull) else {
        return error;
    };
    // Space that the files already take is available to them.
    let own = files
        .iter()
        .filter_map(|file| Some(file.metadata().ok()?.blocks() * 512));
    let free = own.fold(
        room.f_bavail.saturating_mul(room.f_frsize),
        u64::saturating_add,
    );
    let reason = format!("{error}: the bundle needs {needed} bytes, and {free} are available");
    io::Error::new(error.kind(), reason)
}

impl ReadAt for OutputSink {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (place, within) = self.place_of(offset);
        let files = self.held();
        let Some(file) = files.get(place) else {
            return Ok(0);
        };
        let room = self.room(within, buffer.len());
        file.read_at(&mut buffer[..room], within)
    }

    fn size(&self) -> io::Result<u64> {
        self.files().iter().map(ReadAt::size).sum()
    }
}

const ENDED: &str = "a write to a bundle after its run has ended";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutputFile;

    #[test]
    fn where_there_is_too_little_room_it_is_said_how_much() {
        let folder = tempfile::tempdir().unwrap();
        let output = OutputFile::create(folder.path().join("b.tgz"), false).unwrap();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = with_sizes(&output.sink().files(), full, 1 << 60);
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let text = error.to_string();
        let needed = format!("the bundle needs {} bytes, and ", 1_u64 << 60);
        let (_, free) = text.split_once(&needed).unwrap();
        let free = free.strip_suffix(" are available").unwrap();
        assert!(free.parse::<u64>().unwrap() < 1 << 60, "{text}");
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        let text = with_sizes(&output.sink().files(), other, 1).to_string();
        assert!(!text.contains("bytes"), "{text}");
    }
}
