use std::io;
use std::path::{Path, PathBuf};

/// A failure to use a layout folder. What the file system or a digest had to do with it is its source.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct LayoutError {
    path: PathBuf,
    kind: LayoutErrorKind,
    reason: String,
    source: Option<io::Error>,
}

/// The classes of [`LayoutError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayoutErrorKind {
    /// The folder is not an OCI image layout, or one of a later version.
    NotALayout,
    /// There is no such blob.
    NotFound,
    /// The blob is there with other bytes than its name says, or what has the name of a file is not a regular one.
    Corrupt,
    /// The blob is larger than the caller's limit, or a file of the layout than its own.
    TooLarge,
    /// The file system refused: space, permission, or a device error.
    Io,
}

impl LayoutError {
    pub(super) fn new(path: &Path, kind: LayoutErrorKind, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            reason: reason.into(),
            source: None,
        }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => LayoutErrorKind::NotFound,
            io::ErrorKind::InvalidData => LayoutErrorKind::Corrupt,
            _ => LayoutErrorKind::Io,
        };
        Self {
            path: path.to_owned(),
            kind,
            reason: "it cannot be used".into(),
            source: Some(source),
        }
    }

    /// Returns the class.
    pub fn kind(&self) -> LayoutErrorKind {
        self.kind
    }
}
