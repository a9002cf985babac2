use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::container::GZIP_HEADER;
use crate::read_at::{ReadAt, Sequential};
use crate::volume_names::{file_name, parse_volume_path, volume_path};
use crate::volume_size::VolumeSize;

/// The bytes of a bundle: those of one file, or of its volumes one after the other.
///
/// - The first volume is named; the others are looked up beside it, where they may be links.
/// - Volumes hold nothing but the bytes of the bundle, so reading them proves no more than reading
///   one file. When validation fails, [`find_faults`](Self::find_faults) says which of them are
///   wrong.
#[derive(Clone, Debug)]
pub struct BundleFile {
    pub(crate) parts: Arc<[Part]>,
    /// The name of the bundle, if it is in volumes.
    pub(crate) volumes_of: Option<Arc<Path>>,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    regular: bool,
    start: u64,
    /// The size when it was opened, in bytes.
    pub(crate) size: u64,
}

/// Why the files of a bundle cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct BundleFileError {
    path: PathBuf,
    kind: BundleFileErrorKind,
    reason: String,
    source: Option<io::Error>,
}

/// The classes of [`BundleFileError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BundleFileErrorKind {
    /// A volume other than the first is named.
    NotFirst,
    /// There is no such file, but there are volumes of it.
    InVolumes,
    /// The file is not there, or cannot be opened.
    Io,
}

impl BundleFileError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            kind: BundleFileErrorKind::Io,
            reason: "it cannot be opened".to_owned(),
            source: Some(source),
        }
    }

    /// Returns the file at fault.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the class.
    pub fn kind(&self) -> BundleFileErrorKind {
        self.kind
    }

    /// Returns the reason without the file, and without the [source](std::error::Error::source).
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl BundleFile {
    /// Opens the file at `path`, and if its name ends in `.001` the volumes that follow it.
    ///
    /// The first file may be a pipe, which can be [read](Self::reader) once and only from its
    /// start.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened, or `path` names a volume other than the first.
    pub fn open(path: &Path) -> Result<Self, BundleFileError> {
        let first = Part::open(path, true, 0).map_err(|error| absent(path, error))?;
        let mut parts = vec![first];
        let (bundle, number) = match parse_volume_path(path) {
            Some(parsed) if parts[0].regular => parsed,
            _ => return Ok(Self::new(parts, None)),
        };
        if number > 1 {
            // A bundle in one file may have such a name too.
            if parts[0].begins_a_bundle() {
                return Ok(Self::new(parts, None));
            }
            let first = volume_path(&bundle, 1);
            let reason = format!(
                "this is volume {number} of a bundle, which is read from its first volume: give {}",
                file_name(&first)
            );
            return Err(BundleFileError {
                path: path.to_owned(),
                kind: BundleFileErrorKind::NotFirst,
                reason,
                source: None,
            });
        }
        let mut start = parts[0].size;
        for number in 2..=VolumeSize::MAX_VOLUMES {
            let path = volume_path(&bundle, number);
            let part = match Part::open(&path, false, start) {
                Ok(part) => part,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(BundleFileError::io(&path, error)),
            };
            // The first volume of another bundle may have this name, and does not belong to this
            // one.
            if part.begins_a_bundle() {
                break;
            }
            start += part.size;
            parts.push(part);
        }
        Ok(Self::new(parts, Some(bundle)))
    }

    fn new(parts: Vec<Part>, volumes_of: Option<PathBuf>) -> Self {
        Self {
            parts: parts.into(),
            volumes_of: volumes_of.map(Into::into),
        }
    }

    /// Returns whether the bundle can be read at any offset, which a pipe or a device cannot.
    pub fn is_regular(&self) -> bool {
        self.parts[0].regular
    }

    /// Returns the names of the volumes up to the first missing one; none if the
    /// bundle is one file.
    pub fn volumes(&self) -> impl Iterator<Item = &Path> {
        let parts = self.parts.iter().filter(|_| self.volumes_of.is_some());
        parts.map(|part| &*part.path)
    }

    /// Returns the first and the last of the volumes that hold `length` bytes at `offset`; `None`
    /// if the bundle is one file.
    pub fn volumes_at(&self, offset: u64, length: u64) -> Option<(&Path, &Path)> {
        self.volumes_of.as_ref()?;
        let last = offset.saturating_add(length.saturating_sub(1));
        let path = |offset| &*self.parts[self.part_at(offset)].path;
        Some((path(offset), path(last)))
    }

    /// Returns a reader of the whole bundle, from its start.
    pub fn reader(&self) -> Box<dyn Read + Send> {
        match self.is_regular() {
            true => Box::new(Sequential::new(self.clone())),
            // A pipe cannot be read at an offset.
            false => Box::new(Pipe(self.clone())),
        }
    }

    /// Returns the index of the part that holds `offset`; beyond the end it is the last.
    pub(crate) fn part_at(&self, offset: u64) -> usize {
        let behind = self.parts.partition_point(|part| part.start <= offset);
        behind.saturating_sub(1)
    }
}

impl ReadAt for BundleFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let place = self.part_at(offset);
        let part = &self.parts[place];
        let within = offset - part.start;
        let room = if place + 1 == self.parts.len() {
            usize::MAX
        } else {
            usize::try_from(part.size - within).unwrap_or(usize::MAX)
        };
        let count = buffer.len().min(room);
        part.file.read_at(&mut buffer[..count], within)
    }

    fn size(&self) -> io::Result<u64> {
        match self.parts.last() {
            Some(last) => Ok(last.start + last.file.size()?),
            None => Ok(0),
        }
    }
}

struct Pipe(BundleFile);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0.parts[0].file).read(buffer)
    }
}

impl Part {
    fn open(path: &Path, first: bool, start: u64) -> io::Result<Self> {
        // Opening a pipe would wait for its writer; only the first file may be one.
        if !first && !path.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            file,
            regular: metadata.is_file(),
            start,
            size: metadata.len(),
        })
    }

    /// Returns whether the file starts as a bundle does, and so is not a later volume.
    fn begins_a_bundle(&self) -> bool {
        const TAR_START: &[u8] = b"manifest.yaml\0";
        let mut start = [0; TAR_START.len()];
        let read = self.file.read_at(&mut start, 0);
        let start = &start[..read.unwrap_or(0)];
        start.starts_with(&GZIP_HEADER) || start == TAR_START
    }
}

/// Says what was probably meant when there is no such file.
fn absent(path: &Path, error: io::Error) -> BundleFileError {
    let first = volume_path(path, 1);
    if error.kind() != io::ErrorKind::NotFound || !first.is_file() {
        return BundleFileError::io(path, error);
    }
    BundleFileError {
        path: path.to_owned(),
        kind: BundleFileErrorKind::InVolumes,
        reason: format!(
            "the bundle is in volumes: give the first of them, {}",
            file_name(&first)
        ),
        source: None,
    }
}

#[cfg(test)]
mod tests;
