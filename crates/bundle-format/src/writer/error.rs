use std::error::Error;
use std::fmt;
use std::io;

use oci_content::VerifyError;

use crate::entry_path::EntryPath;

/// A failure to write a bundle.
///
/// Its [source](Error::source) is a [`VerifyError`] if the bytes are not the listed ones, and the
/// [`io::Error`] of the sink if that failed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {kind}")]
pub struct WriteError {
    path: EntryPath,
    kind: WriteErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The classes of [`WriteError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WriteErrorKind {
    /// `manifest.yaml` does not list the file.
    NotListed,
    /// The file is being written, or was written.
    Taken,
    /// The bytes are not those that `manifest.yaml` lists.
    Content,
    /// A file was not written before the end.
    Missing,
    /// The sink failed.
    Io,
}

impl WriteError {
    pub(super) fn new(path: &EntryPath, kind: WriteErrorKind) -> Self {
        Self {
            path: path.clone(),
            kind,
            source: None,
        }
    }

    pub(super) fn io(path: &EntryPath, source: io::Error) -> Self {
        let (kind, source): (_, Box<dyn Error + Send + Sync>) =
            match source.downcast::<VerifyError>() {
                Ok(source) => (WriteErrorKind::Content, source.into()),
                Err(source) => (WriteErrorKind::Io, source.into()),
            };
        Self {
            source: Some(source),
            ..Self::new(path, kind)
        }
    }

    /// Returns the class.
    pub fn kind(&self) -> WriteErrorKind {
        self.kind
    }

    /// Returns the file at fault; of several that are missing, the first.
    pub fn path(&self) -> &EntryPath {
        &self.path
    }
}

impl fmt::Display for WriteErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotListed => "manifest.yaml does not list it",
            Self::Taken => "it is being written, or was written",
            Self::Content => "its bytes are not those that manifest.yaml lists",
            Self::Missing => "it was not written",
            Self::Io => "it cannot be written",
        })
    }
}
