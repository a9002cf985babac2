use std::io;

use oci_content::VerifyError;

use crate::entry_path::EntryPath;

/// A failure to write a bundle.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct WriteError {
    path: EntryPath,
    kind: WriteErrorKind,
    reason: String,
    source: Option<io::Error>,
}

/// The classes of [`WriteError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteErrorKind {
    /// `manifest.yaml` does not list such a file.
    NotListed,
    /// The file is being written, or has been.
    Taken,
    /// The bytes are not the ones that `manifest.yaml` lists.
    Content,
    /// Files are missing at the end.
    Missing,
    /// The sink refused.
    Io,
}

impl WriteError {
    pub(super) fn new(path: &EntryPath, kind: WriteErrorKind, reason: impl Into<String>) -> Self {
        Self {
            path: path.clone(),
            kind,
            reason: reason.into(),
            source: None,
        }
    }

    pub(super) fn io(path: &EntryPath, source: io::Error) -> Self {
        let kind = match source.get_ref() {
            Some(inner) if inner.is::<VerifyError>() => WriteErrorKind::Content,
            _ => WriteErrorKind::Io,
        };
        Self {
            path: path.clone(),
            kind,
            reason: source.to_string(),
            source: Some(source),
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
