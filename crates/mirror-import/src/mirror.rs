use std::error::Error;
use std::fmt;
use std::sync::Arc;

use mirror_plan::{Found, Known, PlanError, PlanObserver, PlanRequest, Planner};
use oci_content::SourceRepository;

use crate::error::{ImportError, ImportErrorKind};
use crate::importer::Importer;
use crate::layout_target::LayoutTarget;
use crate::planned::PlannedSource;
use crate::report::ImportReport;
use crate::survey::Survey;
use crate::target::Target as _;

/// Copies images, with everything that refers to them, from registries or folders into a target, without a
/// file in between, and proves that all of it arrived.
///
/// Manifests are read once, by the planner; blobs are streamed from registry to registry. The rules
/// of the [`Importer`] hold: order, resumption, repairs, proof and report.
#[derive(Clone, Debug)]
pub struct Mirror {
    planner: Planner,
    importer: Importer,
    observer: Arc<dyn PlanObserver>,
    allow_incomplete: bool,
}

impl Mirror {
    /// Creates a mirror. `observer` receives the warnings of a policy; the planner and the importer
    /// have observers of their own.
    pub fn new(planner: Planner, importer: Importer, observer: Arc<dyn PlanObserver>) -> Self {
        Self {
            planner,
            importer,
            observer,
            allow_incomplete: false,
        }
    }

    /// Sets whether images are copied although something about them could not be settled or is
    /// missing; the report then says so. By default nothing is sent.
    #[must_use]
    pub fn allow_incomplete(mut self, allow: bool) -> Self {
        self.allow_incomplete = allow;
        self
    }

    /// Finds the images of a request and copies them.
    ///
    /// # Errors
    ///
    /// When something cannot be found, read, sent or proved; see [`MirrorError`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all transfers. What has arrived stays, without the tags that were
    /// not made yet; the next run continues from there.
    pub async fn copy(&self, request: &PlanRequest) -> Result<ImportReport, MirrorError> {
        let found = self.find(request).await?;
        self.send(&found).await
    }

    /// Finds the images of a request, and everything that refers to them. Nothing is sent.
    ///
    /// # Errors
    ///
    /// When an image cannot be read or lacks something that the request demands, or would be copied
    /// onto itself.
    pub async fn find(&self, request: &PlanRequest) -> Result<Found, MirrorError> {
        for image in &request.images {
            let (source, target) = (SourceRepository::from(image), self.importer.target());
            let into = self.importer.mapping().target(&source)?;
            if target.own_repository(&source).as_ref() == Some(&into) {
                let message = format!(
                    "{image} would be copied onto itself: {source} is the source and the target"
                );
                return Err(ImportError::new(ImportErrorKind::Usage, message).into());
            }
        }
        for source in &request.layouts {
            let target = self.importer.target().identity(None);
            if LayoutTarget::new(source.folder()).identity(None) == target {
                let message = format!("{source} would be copied onto itself");
                return Err(ImportError::new(ImportErrorKind::Usage, message).into());
            }
        }
        Ok(self.planner.find(request, |_| Ok(())).await?)
    }

    /// Compares what was found with what the target has. Nothing is changed.
    ///
    /// # Errors
    ///
    /// When no image can be carried, the policy forbids them, or the target does not answer all
    /// questions.
    pub async fn survey(&self, found: &Found) -> Result<(Survey, Vec<String>), MirrorError> {
        let plan = found.plan(&Known::default())?;
        found.judge(&plan, false, &*self.observer)?;
        let missing = plan.missing.clone();
        let source = Arc::new(PlannedSource::new(plan));
        Ok((self.importer.survey(source).await?, missing))
    }

    /// Copies what was found.
    ///
    /// A blob that turns out to be gone makes everything that needs it incomplete: it is left out if
    /// that is [allowed](Self::allow_incomplete), else the mirror ends without the tags.
    ///
    /// # Errors
    ///
    /// When something cannot be read, sent or proved.
    pub async fn send(&self, found: &Found) -> Result<ImportReport, MirrorError> {
        let mut known = Known::default();
        loop {
            let plan = found.plan(&known)?;
            if !plan.missing.is_empty() && !self.allow_incomplete {
                return Err(MirrorError::Incomplete(plan.missing));
            }
            found.judge(&plan, false, &*self.observer)?;
            let sent = self
                .importer
                .import(Arc::new(PlannedSource::new(plan)))
                .await;
            match sent.as_ref().err().and_then(ImportError::unavailable) {
                Some(blob) if known.unavailable.insert(blob.clone()) => {}
                _ => return Ok(sent?),
            }
        }
    }
}

/// Why a mirror failed. A second run continues where this one stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum MirrorError {
    /// The images could not be found, or the policy forbids them; nothing was sent.
    Plan(PlanError),
    /// Something could not be settled or is missing, as the texts say, and incomplete images are
    /// not allowed.
    Incomplete(Vec<String>),
    /// Something could not be sent or proved.
    Import(ImportError),
}

impl fmt::Display for MirrorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::Incomplete(missing) => {
                const SHOWN: usize = 5;
                let shown = missing.iter().take(SHOWN).cloned().collect::<Vec<_>>();
                write!(
                    f,
                    "something could not be settled or is missing: {}",
                    shown.join("; ")
                )?;
                match missing.len().saturating_sub(SHOWN) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
            Self::Import(error) => error.fmt(f),
        }
    }
}

impl Error for MirrorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Plan(error) => error.source(),
            Self::Incomplete(_) => None,
            Self::Import(error) => error.source(),
        }
    }
}

impl From<PlanError> for MirrorError {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<ImportError> for MirrorError {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}
