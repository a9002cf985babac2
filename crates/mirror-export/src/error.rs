use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use bundle_format::{OutputError, OutputErrorKind, WriteError, WriteErrorKind};
use mirror_plan::{PlanError, PlanErrorKind};
use oci_referrers::Violation;

/// Why no bundle was written.
#[derive(Debug)]
pub struct ExportError {
    kind: ExportErrorKind,
    /// The output, if the output is what failed.
    at: Option<PathBuf>,
    message: String,
    remedy: Option<ExportRemedy>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What a caller can change about a request so that it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportRemedy {
    /// Set [`ExportRequest::allow_incomplete`](crate::ExportRequest::allow_incomplete) to write an
    /// incomplete bundle.
    AllowIncomplete,
    /// Set [`FileOutput::overwrite`](crate::FileOutput::overwrite) to replace the existing bundle.
    Overwrite,
}

/// The classes of [`ExportError`], by what a caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportErrorKind {
    /// The request cannot be carried out: for example, the output exists.
    Usage,
    /// Another run is writing the same output; the same request can succeed when that run has
    /// ended.
    Busy,
    /// The output cannot be written.
    LocalIo,
    /// A registry could not be reached or did not answer in time.
    Network,
    /// A registry refused, or does not have what was asked for.
    Access,
    /// Something could not be settled or is missing.
    Incomplete,
    /// Content does not match its digest.
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
            at: None,
            message: message.into(),
            remedy: None,
            source: None,
        }
    }

    /// Wraps another error, whose message says everything.
    fn of(kind: ExportErrorKind, error: impl Error + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Box::new(error)),
            ..Self::new(kind, "")
        }
    }

    pub(crate) fn io(error: std::io::Error) -> Self {
        Self::of(ExportErrorKind::LocalIo, error)
    }

    pub(crate) fn with_remedy(mut self, remedy: ExportRemedy) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// Names the output, if the output is what failed.
    pub(crate) fn at(mut self, output: &Path) -> Self {
        if self.kind == ExportErrorKind::LocalIo {
            self.at = Some(output.to_owned());
        }
        self
    }

    /// Returns the class.
    pub fn kind(&self) -> ExportErrorKind {
        self.kind
    }

    /// Returns what the caller can change so that the export succeeds.
    pub fn remedy(&self) -> Option<ExportRemedy> {
        self.remedy
    }

    /// Returns what the policy found, including warnings; empty for other errors.
    pub fn violations(&self) -> &[Violation] {
        let plan = self.source.as_ref();
        let plan = plan.and_then(|source| source.downcast_ref::<PlanError>());
        plan.map_or(&[], PlanError::violations)
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{}: ", at.display())?;
        }
        match &self.source {
            Some(source) if self.message.is_empty() => source.fmt(f),
            _ => f.write_str(&self.message),
        }
    }
}

impl Error for ExportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        // The wrapped error is displayed already, so its own cause is the next one.
        if self.message.is_empty() {
            source.source()
        } else {
            Some(source)
        }
    }
}

impl From<PlanError> for ExportError {
    fn from(error: PlanError) -> Self {
        let kind = match error.kind() {
            PlanErrorKind::Usage => ExportErrorKind::Usage,
            PlanErrorKind::LocalIo => ExportErrorKind::LocalIo,
            PlanErrorKind::Access => ExportErrorKind::Access,
            PlanErrorKind::Incomplete => ExportErrorKind::Incomplete,
            PlanErrorKind::Integrity => ExportErrorKind::Integrity,
            PlanErrorKind::Limit => ExportErrorKind::Limit,
            PlanErrorKind::Policy => ExportErrorKind::Policy,
            _ => ExportErrorKind::Network,
        };
        Self::of(kind, error)
    }
}

impl From<OutputError> for ExportError {
    fn from(error: OutputError) -> Self {
        let kind = match error.kind() {
            OutputErrorKind::Exists | OutputErrorKind::NotAFile => ExportErrorKind::Usage,
            OutputErrorKind::Locked => ExportErrorKind::Busy,
            _ => ExportErrorKind::LocalIo,
        };
        let exists = error.kind() == OutputErrorKind::Exists;
        Self {
            remedy: exists.then_some(ExportRemedy::Overwrite),
            ..Self::of(kind, error)
        }
    }
}

impl From<WriteError> for ExportError {
    fn from(error: WriteError) -> Self {
        let kind = match error.kind() {
            WriteErrorKind::Io => ExportErrorKind::LocalIo,
            _ => ExportErrorKind::Integrity,
        };
        Self::of(kind, error)
    }
}
