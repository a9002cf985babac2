use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::exit::{Exit, Failure};

/// Why the database of the service could not be read or written.
#[derive(Debug)]
pub(crate) struct StateError {
    database: PathBuf,
    kind: StateErrorKind,
    source: Box<dyn Error + Send + Sync>,
}

/// The classes of [`StateError`], by what an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateErrorKind {
    /// What the database holds cannot be relied on: a backup has to be put back.
    Damaged,
    /// There is no room for what is to be written.
    Full,
    /// The folder or the database cannot be written.
    ReadOnly,
    /// The disk or the machine failed.
    Io,
}

impl StateError {
    pub(super) fn new(database: &Path, source: rusqlite::Error) -> Self {
        let kind = match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StateErrorKind::Damaged,
            Some(ErrorCode::DiskFull) => StateErrorKind::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StateErrorKind::ReadOnly
            }
            Some(_) => StateErrorKind::Io,
            // A value that is not what this program writes.
            None => StateErrorKind::Damaged,
        };
        let source = match source {
            // Its own source says the same once more.
            rusqlite::Error::SqliteFailure(error, Some(said)) => {
                format!("{said} (SQLite code {})", error.extended_code).into()
            }
            other => Box::new(other) as Box<dyn Error + Send + Sync>,
        };
        Self {
            database: database.to_owned(),
            kind,
            source,
        }
    }

    /// Creates the error of a database whose content is wrong although it can be read.
    pub(super) fn damaged(database: &Path, reason: impl Into<String>) -> Self {
        Self {
            database: database.to_owned(),
            kind: StateErrorKind::Damaged,
            source: reason.into().into(),
        }
    }

    pub(super) fn io(database: &Path, source: std::io::Error) -> Self {
        Self {
            database: database.to_owned(),
            kind: StateErrorKind::Io,
            source: Box::new(source),
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::new(Exit::LocalIo, oci_content::with_causes(&error))
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database.display();
        match self.kind {
            StateErrorKind::Damaged => write!(
                f,
                "{database} is damaged, and is left as it is; stop the service, move the file and those beside it that begin \
                 with its name away, and put back a backup that `export-center backup` wrote"
            ),
            StateErrorKind::Full => {
                write!(f, "{database} cannot be written, because the disk is full")
            }
            StateErrorKind::ReadOnly => write!(
                f,
                "{database} cannot be written; the service needs its folder and the files in it for itself"
            ),
            StateErrorKind::Io => write!(f, "{database} cannot be read or written"),
        }
    }
}

impl Error for StateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}
