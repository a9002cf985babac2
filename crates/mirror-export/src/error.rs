use std::fmt;
use std::path::Path;

use bundle_format::{OutputError, OutputErrorKind, WriteError, WriteErrorKind};
use oci_content::ErrorCode;
use oci_referrers::{Problem, ResolveError, Violation};

/// Why no bundle was written, or why the one that was written is incomplete.
#[derive(Debug)]
pub struct ExportError {
    kind: ExportErrorKind,
    message: String,
    violations: Vec<Violation>,
}

/// The classes of [`ExportError`], by what a caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportErrorKind {
    /// The request cannot be carried out as it stands: the output exists, a reference is given twice.
    Usage,
    /// Another run is writing the same output; the same request can succeed when that has ended.
    Busy,
    /// The output cannot be written.
    LocalIo,
    /// A registry could not be reached or did not answer in time.
    Network,
    /// A registry refused, or does not have what was asked for.
    Access,
    /// Something could not be settled or is missing.
    Incomplete,
    /// Bytes are not what their digest says.
    Integrity,
    /// A documented limit was reached.
    Limit,
    /// The policy forbids the bundle; [`ExportError::violations`] says why.
    Policy,
}

impl ExportError {
    pub(crate) fn new(kind: ExportErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn policy(violations: Vec<Violation>) -> Self {
        let count = violations.iter().filter(|one| one.forbids()).count();
        let message = format!(
            "nothing was written, because the policy forbids it: {count} of its demands are not met"
        );
        Self {
            violations,
            ..Self::new(ExportErrorKind::Policy, message)
        }
    }

    /// Names the output, where that is what failed.
    pub(crate) fn at(mut self, output: &Path) -> Self {
        if self.kind == ExportErrorKind::LocalIo {
            self.message = format!("{}: {}", output.display(), self.message);
        }
        self
    }

    /// Returns the class.
    pub fn kind(&self) -> ExportErrorKind {
        self.kind
    }

    /// Returns what the policy found, warnings included; nothing where the error is another one.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExportError {}

impl From<OutputError> for ExportError {
    fn from(error: OutputError) -> Self {
        match error.kind() {
            OutputErrorKind::Exists => Self::new(
                ExportErrorKind::Usage,
                format!("{error}; --overwrite replaces it"),
            ),
            OutputErrorKind::Locked => Self::new(ExportErrorKind::Busy, error.to_string()),
            OutputErrorKind::NotAFile => Self::new(ExportErrorKind::Usage, error.to_string()),
            _ => Self::new(ExportErrorKind::LocalIo, error.to_string()),
        }
    }
}

impl From<WriteError> for ExportError {
    fn from(error: WriteError) -> Self {
        let kind = match error.kind() {
            WriteErrorKind::Io => ExportErrorKind::LocalIo,
            _ => ExportErrorKind::Integrity,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<&ResolveError> for ExportError {
    fn from(error: &ResolveError) -> Self {
        let kind = match error {
            ResolveError::NotFound { .. } => ExportErrorKind::Access,
            ResolveError::Failed { problem, .. } => kind_of(problem),
            _ => ExportErrorKind::Network,
        };
        Self::new(kind, error.to_string())
    }
}

/// Returns the class of a question that could not be settled and that everything hangs on.
pub(crate) fn kind_of(problem: &Problem) -> ExportErrorKind {
    match problem.code {
        ErrorCode::Denied => ExportErrorKind::Access,
        ErrorCode::Integrity => ExportErrorKind::Integrity,
        ErrorCode::Limit => ExportErrorKind::Limit,
        ErrorCode::Malformed => ExportErrorKind::Incomplete,
        _ => ExportErrorKind::Network,
    }
}

/// Returns the class of a blob transfer that failed, and the reason in a sentence fragment.
pub(crate) fn transfer_failure(error: &registry_client::Error) -> (ExportErrorKind, String) {
    use registry_client::ErrorKind;
    let status = error.response().map(|response| response.status().as_u16());
    let kind = match (error.kind(), status) {
        (ErrorKind::LocalIo, _) => ExportErrorKind::LocalIo,
        (ErrorKind::Integrity, _) => ExportErrorKind::Integrity,
        (ErrorKind::Status, Some(404 | 410)) => ExportErrorKind::Incomplete,
        (ErrorKind::Status | ErrorKind::Token, Some(401 | 403)) => ExportErrorKind::Access,
        (ErrorKind::UntrustedRealm | ErrorKind::Credentials, _) => ExportErrorKind::Access,
        (ErrorKind::LimitExceeded, _) => ExportErrorKind::Limit,
        _ => ExportErrorKind::Network,
    };
    (kind, error.with_causes())
}
