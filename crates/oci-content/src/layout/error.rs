use std::io;
use std::path::{Path, PathBuf};

/// A failure to use a layout folder. Its source is the error of the file system, or a
/// [`VerifyError`](crate::VerifyError).
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
    /// The folder is not an OCI image layout, or has an unsupported version.
    NotALayout,
    /// The blob does not exist.
    NotFound,
    /// The blob does not match its digest, or something other than a regular file is in its place.
    Corrupt,
    /// The blob is larger than the caller's limit, or another file of the layout is larger than its
    /// own.
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
