use std::io;
use std::path::{Path, PathBuf};

/// A failure to make an output file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct OutputError {
    path: PathBuf,
    kind: OutputErrorKind,
    reason: String,
    source: Option<io::Error>,
}

/// The classes of [`OutputError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputErrorKind {
    /// A file of that name exists and may not be replaced.
    Exists,
    /// Another run is writing the same file.
    Locked,
    /// The name is that of a folder, a link or a device, or cannot be the name of a file.
    NotAFile,
    /// The file system refused.
    Io,
}

impl OutputError {
    pub(super) fn new(path: &Path, kind: OutputErrorKind, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            reason: reason.into(),
            source: None,
        }
    }

    pub(super) fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self {
            path: path.to_owned(),
            kind: OutputErrorKind::Io,
            reason: "it cannot be written".into(),
            source: Some(source),
        }
    }

    /// Replaces the reason of an I/O error with a more specific one.
    pub(super) fn because(mut self, reason: &str) -> Self {
        self.reason = reason.to_owned();
        self
    }

    /// Returns the file or folder at fault.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the class.
    pub fn kind(&self) -> OutputErrorKind {
        self.kind
    }
}
