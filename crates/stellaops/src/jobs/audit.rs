//! Asking a target whether what was brought is still there.

use std::sync::Arc;
use std::time::SystemTime;

use import_validator::Report;
use mirror_import::{
    AuditFinding, AuditObserver, AuditReport, Auditor, ImportOptions, ImportReport, MapRule,
    RegistryTarget, Target,
};
use mirror_plan::{Known, PlanErrorKind, PlanObserver, Planner};
use oci_content::{ImageSource, Reference, Registry, SourceRepository};
use oci_referrers::Policy;

use super::copy;
use super::counting::Counting;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::planning::{self, Planning};
use crate::remedy;

/// Returns the target of a receipt.
pub(crate) fn target(context: &Context, receipt: &ImportReport) -> Result<RegistryTarget, Failure> {
    let registry = registry(receipt)?;
    Ok(RegistryTarget::new(context.client.clone(), registry))
}

fn registry(receipt: &ImportReport) -> Result<Registry, Failure> {
    receipt.target.parse().map_err(|_| {
        let message = format!(
            "{} is a folder, and only registries are audited; importing the same bundle again hashes everything in it",
            receipt.target
        );
        Failure::new(Exit::Usage, message)
    })
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

/// Applies a policy to what the target has now of the images of a receipt. Its rules know an image by the name of its
/// source, as they did when it was copied.
pub(crate) async fn judge(
    context: &Context,
    policy: &(Policy, SystemTime),
    receipt: &ImportReport,
) -> Result<Report, Failure> {
    let registry = registry(receipt)?;
    let mut request = planning::mirror_request(context, Vec::new());
    request.policy = Some(policy.clone());
    for image in &receipt.images {
        let source = SourceRepository::from(&image.source);
        let mut own = receipt.repositories.iter();
        let Some(own) = own.find(|own| own.source == source) else {
            continue;
        };
        let (registry, name) = (registry.clone(), own.target.clone());
        let copy = Reference::with_digest(registry, name, image.digest.clone());
        request.copies_of.insert(copy.clone(), image.source.clone());
        request.images.push(copy);
    }
    let planning = Arc::new(Planning::new(context, &context.progress, "audit"));
    let observer: Arc<dyn PlanObserver> = Arc::<Planning>::clone(&planning);
    let planner = Planner::new(context.client.clone(), observer);
    let found = planner.find(&request, |_| Ok(())).await;
    planning.end();
    let judged = found.and_then(|found| {
        let plan = found.plan(&Known::default())?;
        found.judge(&plan, false, &*planning)
    });
    let violations = match judged {
        Ok(()) => Vec::new(),
        Err(error) if error.kind() == PlanErrorKind::Policy => error.violations().to_vec(),
        Err(error) => return Err(failure::of_plan(&error)),
    };
    let mut report = Report::of_policy(&receipt.target, &violations);
    remedy::add_to(&mut report.findings);
    Ok(report)
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
