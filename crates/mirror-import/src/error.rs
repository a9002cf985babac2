use std::error::Error;
use std::fmt;
use std::io;

use bundle_format::StreamName;
use mirror_plan::PlanErrorKind;
use oci_content::{Digest, LayoutError, LayoutErrorKind, SourceRepository, VerifyError};
use registry_client::{ErrorKind, Response};

use crate::report::ImportReport;

/// Why an import failed. A second run resumes where this one stopped.
#[derive(Debug)]
pub struct ImportError {
    kind: ImportErrorKind,
    message: String,
    remedy: Option<ImportRemedy>,
    report: Option<Box<ImportReport>>,
    unavailable: Option<Digest>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The classes of [`ImportError`], by what a caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImportErrorKind {
    /// The request cannot be carried out: two source repositories map to one target repository, or
    /// a rule is malformed.
    Usage,
    /// The bundle, the target folder or the ledger cannot be read or written.
    LocalIo,
    /// The target could not be reached or did not answer in time.
    Network,
    /// The target refused the request, or a tag has another digest and may not be moved.
    Access,
    /// The bundle is a delta, and the target does not have what it leaves out: import its base
    /// first.
    BaseMissing,
    /// The bundle is no longer what was validated.
    Integrity,
    /// The ledger has recorded a later bundle of the series, or a different one with the same
    /// sequence; or the bundle is of an unwanted stream, or has no sequence where one is required.
    Authenticity,
    /// Everything was sent, and something is not found at the target.
    Incomplete,
    /// The registry or the folder that a blob comes from does not have it any more;
    /// [`ImportError::unavailable`] names it.
    Unavailable,
}

/// What a caller can change about an import so that it succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImportRemedy {
    /// Set [`ImportOptions::overwrite_tags`](crate::ImportOptions::overwrite_tags) to move the tag.
    OverwriteTags,
    /// Set [`ImportOptions::allow_rollback`](crate::ImportOptions::allow_rollback) to import the
    /// bundle this once.
    AllowRollback,
    /// Set [`ImportOptions::stream`](crate::ImportOptions::stream) to this stream, which is the
    /// bundle's.
    Stream(StreamName),
    /// Raise [`PruneOptions::max_percent`](crate::PruneOptions::max_percent) or
    /// [`PruneOptions::max_tags`](crate::PruneOptions::max_tags), whichever was exceeded, if that
    /// many tags are meant to go.
    PruneMore,
    /// Add a [`Mapping`](crate::Mapping) rule that keeps this repository apart from another one.
    Map(SourceRepository),
}

impl ImportError {
    /// Creates an error without a cause.
    pub fn new(kind: ImportErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            remedy: None,
            report: None,
            unavailable: None,
            source: None,
        }
    }

    /// Creates an error with a cause, which the message should not repeat.
    pub fn caused(
        kind: ImportErrorKind,
        message: impl Into<String>,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            source: Some(cause.into()),
            ..Self::new(kind, message)
        }
    }

    pub(crate) fn with_remedy(mut self, remedy: ImportRemedy) -> Self {
        self.remedy = Some(remedy);
        self
    }

    pub(crate) fn with_report(mut self, report: ImportReport) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// Returns the class.
    pub fn kind(&self) -> ImportErrorKind {
        self.kind
    }

    /// Returns what the caller can change so that the import succeeds.
    pub fn remedy(&self) -> Option<&ImportRemedy> {
        self.remedy.as_ref()
    }

    /// Returns what was done and what is missing, if the import sent a manifest or got as far as
    /// its proof. Tags are only listed once they may have been made.
    pub fn report(&self) -> Option<&ImportReport> {
        self.report.as_deref()
    }

    /// Returns the blob that the source turned out not to have, if that is why the import failed. A
    /// plan without it may succeed.
    pub fn unavailable(&self) -> Option<&Digest> {
        self.unavailable.as_ref()
    }

    /// Names the blob that an [`Unavailable`](ImportErrorKind::Unavailable) error is about.
    pub(crate) fn about(mut self, blob: &Digest) -> Self {
        if self.kind == ImportErrorKind::Unavailable {
            self.unavailable = Some(blob.clone());
        }
        self
    }

    /// Classifies a request that got no usable answer.
    pub(crate) fn request(what: impl Into<String>, error: registry_client::Error) -> Self {
        let cause = Error::source(&error);
        let remote = cause.and_then(|cause| cause.downcast_ref());
        if let (ErrorKind::Source, Some(cause)) = (error.kind(), remote) {
            return Self::caused(kind_of_source(cause), what, error);
        }
        let local = cause.and_then(|cause| cause.downcast_ref());
        if let (ErrorKind::LocalIo, Some(kind)) = (error.kind(), local.and_then(kind_of_folder)) {
            return Self::caused(kind, what, error);
        }
        let status = error.response().map(|response| response.status().as_u16());
        let kind = match (error.kind(), status) {
            (ErrorKind::Status | ErrorKind::Token, Some(status)) => kind_of(status),
            (ErrorKind::UntrustedRealm | ErrorKind::Credentials, _) => ImportErrorKind::Access,
            (ErrorKind::LocalIo, _) => ImportErrorKind::LocalIo,
            (ErrorKind::Integrity, _) => ImportErrorKind::Integrity,
            _ => ImportErrorKind::Network,
        };
        Self::caused(kind, what, error)
    }

    /// Classifies a failure to read content for the target; `what` names the content.
    pub(crate) fn reading(what: impl Into<String>, error: io::Error) -> Self {
        match error.downcast::<registry_client::Error>() {
            Ok(remote) => Self::caused(kind_of_source(&remote), what, remote),
            Err(local) => {
                let kind = kind_of_folder(&local).unwrap_or(match local.kind() {
                    io::ErrorKind::InvalidData => ImportErrorKind::Integrity,
                    _ => ImportErrorKind::LocalIo,
                });
                Self::caused(kind, what, local)
            }
        }
    }

    /// Classifies an answer with an error status.
    pub(crate) fn refused(what: &str, response: &Response) -> Self {
        let status = response.status();
        let said = response
            .error_message()
            .map(|said| format!(" ({said})"))
            .unwrap_or_default();
        Self::new(
            kind_of(status.as_u16()),
            format!("{what}: the registry answered {status}{said}"),
        )
    }

    pub(crate) fn layout(what: impl Into<String>, error: LayoutError) -> Self {
        let kind = match error.kind() {
            LayoutErrorKind::NotALayout => ImportErrorKind::Usage,
            LayoutErrorKind::Corrupt => ImportErrorKind::Integrity,
            _ => ImportErrorKind::LocalIo,
        };
        Self::caused(kind, what, error)
    }
}

/// Classifies the failure of the registry that content comes from.
fn kind_of_source(error: &registry_client::Error) -> ImportErrorKind {
    match PlanErrorKind::of_transfer(error) {
        PlanErrorKind::LocalIo => ImportErrorKind::LocalIo,
        PlanErrorKind::Integrity => ImportErrorKind::Integrity,
        PlanErrorKind::Incomplete => ImportErrorKind::Unavailable,
        PlanErrorKind::Access => ImportErrorKind::Access,
        _ => ImportErrorKind::Network,
    }
}

/// Classifies the failure of a folder that content comes from; `None` for other failures.
fn kind_of_folder(error: &io::Error) -> Option<ImportErrorKind> {
    let inner = error.get_ref()?;
    if inner.is::<VerifyError>() {
        return Some(ImportErrorKind::Integrity);
    }
    Some(match inner.downcast_ref::<LayoutError>()?.kind() {
        LayoutErrorKind::NotFound => ImportErrorKind::Unavailable,
        LayoutErrorKind::Corrupt => ImportErrorKind::Integrity,
        _ => ImportErrorKind::LocalIo,
    })
}

fn kind_of(status: u16) -> ImportErrorKind {
    match status {
        408 | 429 | 499 | 500..=599 => ImportErrorKind::Network,
        _ => ImportErrorKind::Access,
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ImportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
