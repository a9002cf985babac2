//! Asking a target whether what was brought is still there.

use std::sync::Arc;

use mirror_import::{
    AuditFinding, AuditObserver, AuditReport, Auditor, ImportOptions, ImportReport, MapRule,
    RegistryTarget, Target,
};
use oci_content::{ImageSource, Registry};

use super::copy;
use super::counting::Counting;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::planning;

/// Returns the target of a receipt.
pub(crate) fn target(context: &Context, receipt: &ImportReport) -> Result<RegistryTarget, Failure> {
    let registry: Registry = receipt.target.parse().map_err(|_| {
        let message = format!(
            "{} is a folder, and only registries are audited; importing the same bundle again hashes everything in it",
            receipt.target
        );
        Failure::new(Exit::Usage, message)
    })?;
    Ok(RegistryTarget::new(context.client.clone(), registry))
}

/// Compares a target with a receipt.
pub(crate) async fn audit(
    context: &Context,
    target: &RegistryTarget,
    receipt: &ImportReport,
) -> (AuditReport, Result<(), Failure>) {
    let observer = Arc::new(Counting::new(&context.progress, "audit"));
    let told: Arc<dyn AuditObserver> = Arc::<Counting>::clone(&observer);
    let (report, result) = Auditor::new(target.clone(), told).audit(receipt).await;
    observer.end();
    (report, result.map_err(|error| failure::of_import(&error)))
}

/// Returns how what a receipt records is sent again.
pub(crate) fn repair_options(
    receipt: &ImportReport,
    overwrite_tags: bool,
) -> Result<ImportOptions, Failure> {
    let mut options = ImportOptions::default();
    options.overwrite_tags = overwrite_tags;
    options.verify_existing = true;
    for record in &receipt.repositories {
        let rule: Result<MapRule, _> = format!("{}={}", record.source, record.target).parse();
        let rule = rule.map_err(|error| failure::of_import(&error))?;
        options.mapping.rules.push(rule);
    }
    Ok(options)
}

/// Sends again what the source still has.
pub(crate) async fn repair(
    context: &Context,
    receipt: &ImportReport,
    target: &RegistryTarget,
    overwrite_tags: bool,
) -> Result<(), Failure> {
    let target: Arc<dyn Target> = Arc::new(target.clone());
    let options = repair_options(receipt, overwrite_tags)?;
    let images = receipt.graph.iter().flat_map(|graph| &graph.images);
    let images = images.map(|image| image.reference.clone().pinned_to(image.digest.clone()));
    let request = planning::mirror_request(context, images.map(ImageSource::from).collect());
    let copied = copy::copy(context, &request, target, options, false).await;
    copied.map(drop).map_err(|error| failure::of_mirror(&error))
}

/// Returns where a finding is.
pub(crate) fn place(finding: &AuditFinding) -> String {
    let repository = &finding.repository;
    let mut place = match &finding.tag {
        Some(tag) => format!("{repository}:{tag}"),
        None => format!("{repository}@{}", finding.digest),
    };
    if let Some(subject) = &finding.subject {
        place = format!("{place} of {subject}");
    }
    if let Some(found) = &finding.found {
        place = format!("{place} is {found}");
    }
    place
}
