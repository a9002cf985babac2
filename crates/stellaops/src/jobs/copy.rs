//! Copying images from registries to a target, with log lines, metrics and progress.

use std::sync::Arc;

use mirror_import::{
    ImportObserver, ImportOptions, ImportReport, Importer, Mirror, MirrorError, Target,
};
use mirror_plan::{PlanObserver, PlanRequest, Planner};

use super::sending::Sending;
use crate::context::Context;
use crate::planning::Planning;

/// Copies images, with log lines, metrics and progress.
pub(crate) async fn copy(
    context: &Context,
    request: &PlanRequest,
    target: Arc<dyn Target>,
    options: ImportOptions,
    allow_incomplete: bool,
) -> Result<ImportReport, MirrorError> {
    let sending = Arc::new(Sending::new(&context.progress, "copy"));
    let told: Arc<dyn ImportObserver> = Arc::<Sending>::clone(&sending);
    let importer = Importer::new(target, options, told);
    let planning = Arc::new(Planning::new(context, &context.progress, "mirror"));
    let mirror = mirror(context, importer, &planning).allow_incomplete(allow_incomplete);
    let found = mirror.find(request).await;
    planning.end();
    let result = mirror.send(&found?).await;
    sending.end();
    result
}

/// Creates the mirror of a command, which reports its search by `planning`.
pub(crate) fn mirror(context: &Context, importer: Importer, planning: &Arc<Planning>) -> Mirror {
    let observer: Arc<dyn PlanObserver> = Arc::<Planning>::clone(planning);
    let planner = Planner::new(context.client.clone(), Arc::clone(&observer))
        .manifest_cache(context.manifest_cache());
    Mirror::new(planner, importer, observer)
}
