use std::error::Error;
use std::fmt;

use oci_content::{ErrorCode, LayoutError, LayoutErrorKind, with_causes};
use oci_referrers::{LayoutImageError, LayoutImageErrorKind, Problem, ResolveError, Violation};
use registry_client::ErrorKind;

/// Why nothing can be mirrored.
#[derive(Debug)]
pub struct PlanError {
    kind: PlanErrorKind,
    message: String,
    violations: Vec<Violation>,
    remedy: Option<PlanRemedy>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What mends a [`PlanError`]. A program adds how that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlanRemedy {
    /// Name the repositories one by one instead of by a pattern over the registry's catalog.
    NameRepositories,
    /// Name the images one by one instead of by a rule about the tags of their repository.
    NameImages,
}

/// The classes of [`PlanError`], by what a caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// The request cannot be carried out: it names no image.
    Usage,
    /// A certificate, a key, a credentials file or an image layout folder on this machine cannot be
    /// read.
    LocalIo,
    /// A registry could not be reached or did not answer in time.
    Network,
    /// A registry refused, or it or a folder does not have what was asked for.
    Access,
    /// Something could not be settled or is missing.
    Incomplete,
    /// Content does not match its digest.
    Integrity,
    /// A documented limit was reached.
    Limit,
    /// The policy forbids it; [`PlanError::violations`] says why.
    Policy,
}

impl PlanError {
    /// Creates an error without a cause.
    pub fn new(kind: PlanErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            violations: Vec::new(),
            remedy: None,
            source: None,
        }
    }

    #[must_use]
    pub(crate) fn with_remedy(mut self, remedy: PlanRemedy) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// Creates the error for a blob that could not be requested or transferred; `what` names it.
    pub fn transfer(what: impl Into<String>, error: registry_client::Error) -> Self {
        Self::new(PlanErrorKind::of_transfer(&error), what).caused_by(error)
    }

    /// Creates the error for a blob that could not be read from a folder; `what` names it.
    pub(crate) fn layout(what: impl Into<String>, error: LayoutError) -> Self {
        let kind = match error.kind() {
            LayoutErrorKind::NotFound => PlanErrorKind::Incomplete,
            LayoutErrorKind::Corrupt => PlanErrorKind::Integrity,
            LayoutErrorKind::TooLarge => PlanErrorKind::Limit,
            _ => PlanErrorKind::LocalIo,
        };
        Self::new(kind, what).caused_by(error)
    }

    /// Sets the cause, which the message should not repeat.
    #[must_use]
    pub(crate) fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(cause));
        self
    }

    pub(crate) fn policy(violations: Vec<Violation>) -> Self {
        let count = violations.iter().filter(|one| one.forbids()).count();
        let message = format!(
            "nothing was written or sent, because the policy forbids it: {count} of its demands are not met"
        );
        Self {
            violations,
            ..Self::new(PlanErrorKind::Policy, message)
        }
    }

    /// Returns the class.
    pub fn kind(&self) -> PlanErrorKind {
        self.kind
    }

    /// Returns what mends it, if anything in particular does.
    pub fn remedy(&self) -> Option<PlanRemedy> {
        self.remedy
    }

    /// Returns what the policy found, including warnings; empty for other errors.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for PlanError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<ResolveError> for PlanError {
    fn from(error: ResolveError) -> Self {
        let kind = match &error {
            ResolveError::NotFound { .. } => PlanErrorKind::Access,
            ResolveError::Failed { problem, .. } => PlanErrorKind::of_problem(problem),
            _ => PlanErrorKind::Network,
        };
        let message = error.to_string();
        let source: Option<Box<dyn Error + Send + Sync>> = match error {
            ResolveError::Failed { problem, .. } => Some(Box::new(problem)),
            _ => None,
        };
        Self {
            source,
            ..Self::new(kind, message)
        }
    }
}

impl From<LayoutImageError> for PlanError {
    fn from(error: LayoutImageError) -> Self {
        let kind = match error.kind() {
            LayoutImageErrorKind::NotFound => PlanErrorKind::Access,
            LayoutImageErrorKind::NotALayout | LayoutImageErrorKind::Ambiguous => {
                PlanErrorKind::Usage
            }
            LayoutImageErrorKind::Malformed => PlanErrorKind::Incomplete,
            LayoutImageErrorKind::Limit => PlanErrorKind::Limit,
            _ => PlanErrorKind::LocalIo,
        };
        // What it wraps is displayed already.
        Self::new(kind, with_causes(&error))
    }
}

impl PlanErrorKind {
    /// Returns the class of a problem with a file of a folder.
    pub(crate) fn of_local(problem: &Problem) -> Self {
        match problem.code {
            ErrorCode::ServerError => Self::LocalIo,
            _ => Self::of_problem(problem),
        }
    }

    /// Returns the class of a problem that prevents planning.
    pub(crate) fn of_problem(problem: &Problem) -> Self {
        match problem.code {
            ErrorCode::Denied => Self::Access,
            ErrorCode::Integrity => Self::Integrity,
            ErrorCode::Limit => Self::Limit,
            ErrorCode::Malformed => Self::Incomplete,
            _ => Self::Network,
        }
    }

    /// Returns the class of a failed blob transfer: [`Incomplete`](Self::Incomplete) if the
    /// registry does not have the blob.
    pub fn of_transfer(error: &registry_client::Error) -> Self {
        let status = error.response().map(|response| response.status().as_u16());
        match (error.kind(), status) {
            (ErrorKind::LocalIo, _) => Self::LocalIo,
            (ErrorKind::Integrity, _) => Self::Integrity,
            (ErrorKind::Status, Some(404 | 410)) => Self::Incomplete,
            (ErrorKind::Status | ErrorKind::Token, Some(401 | 403)) => Self::Access,
            (ErrorKind::UntrustedRealm | ErrorKind::Credentials, _) => Self::Access,
            (ErrorKind::LimitExceeded, _) => Self::Limit,
            _ => Self::Network,
        }
    }
}
