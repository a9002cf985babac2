use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::error::LayoutError;
use crate::digest::{Algorithm, Digest, Hasher, VerifyError};
use crate::durable::{partial_file, publish};
use crate::gaps::FileSystemGaps;

/// A blob of a layout while it is written. If it is dropped before [`commit`](Self::commit),
/// nothing is left.
#[derive(Debug)]
pub struct BlobWriter {
    file: tempfile::NamedTempFile,
    path: PathBuf,
    hasher: Hasher,
    digest: Digest,
    size: u64,
    written: u64,
    gaps: FileSystemGaps,
}

impl BlobWriter {
    pub(super) fn new(
        path: PathBuf,
        digest: &Digest,
        size: u64,
        gaps: FileSystemGaps,
    ) -> Result<Self, LayoutError> {
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(|error| LayoutError::io(folder, error))?;
        let file = partial_file(folder).map_err(|error| LayoutError::io(folder, error))?;
        Ok(Self {
            file,
            path,
            hasher: Hasher::new(digest.algorithm()),
            digest: digest.clone(),
            size,
            written: 0,
            gaps,
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// When there are more bytes than announced, or writing fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.written += bytes.len() as u64;
        if self.written > self.size {
            return Err(self.wrong_size());
        }
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(|error| LayoutError::io(&self.path, error))
    }

    /// Verifies what was written and gives it its name.
    ///
    /// # Errors
    ///
    /// When size or digest do not match, or the file system refuses; nothing is left then.
    pub fn commit(self) -> Result<(), LayoutError> {
        if self.written != self.size {
            return Err(self.wrong_size());
        }
        let verified = self.digest.verify(self.hasher).map_err(io::Error::from);
        verified
            .and_then(|()| publish(self.file, &self.path, &self.gaps))
            .map(drop)
            .map_err(|error| LayoutError::io(&self.path, error))
    }

    fn wrong_size(&self) -> LayoutError {
        let error = VerifyError::size(&self.digest, self.size, self.written);
        LayoutError::io(&self.path, error.into())
    }
}

/// A blob of a layout that is written before its digest is known. If it is dropped before
/// [`commit`](Self::commit), nothing is left.
#[derive(Debug)]
pub struct PartialBlob {
    root: PathBuf,
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    written: u64,
    gaps: FileSystemGaps,
}

impl PartialBlob {
    pub(super) fn new(root: &Path, gaps: FileSystemGaps) -> Result<Self, LayoutError> {
        // On the file system of the blobs, so that the finished one only has to be renamed.
        let folder = root.join("blobs");
        let file = partial_file(&folder).map_err(|error| LayoutError::io(&folder, error))?;
        Ok(Self {
            root: root.to_owned(),
            file,
            hasher: Hasher::new(Algorithm::Sha256),
            written: 0,
            gaps,
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.file
            .write_all(bytes)
            .map_err(|error| LayoutError::io(self.file.path(), error))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Returns the number of bytes that have been added.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Verifies what was written, gives it the name of its digest, and returns the file. An
    /// existing blob is replaced.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](super::LayoutErrorKind::Corrupt) when the bytes do not hash to `digest`, or when
    /// the file system refuses; nothing is left then.
    pub fn commit(self, digest: &Digest) -> Result<File, LayoutError> {
        let path = blob_path(&self.root, digest);
        let io = |error| LayoutError::io(&path, error);
        let hasher = match digest.algorithm() {
            Algorithm::Sha256 => self.hasher,
            // The digest is only known now, so the bytes are read again.
            other => hash_file(self.file.reopen().map_err(io)?, other).map_err(io)?,
        };
        digest.verify(hasher).map_err(|error| io(error.into()))?;
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder).map_err(io)?;
        publish(self.file, &path, &self.gaps).map_err(io)
    }
}

fn hash_file(mut file: File, algorithm: Algorithm) -> io::Result<Hasher> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher);
        }
        hasher.update(&buffer[..count]);
    }
}

/// Returns the path of a blob of the layout in `root`.
pub(super) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    let blobs = root.join("blobs");
    blobs
        .join(digest.algorithm().as_str())
        .join(digest.encoded())
}
