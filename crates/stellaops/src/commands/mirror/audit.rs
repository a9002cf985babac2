use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use import_validator::Report;
use mirror_import::{
    AuditFinding, AuditObserver, AuditReport, AuditStatus, Auditor, DriftKind, ImportOptions,
    ImportReport, MapRule, RegistryTarget, Target,
};
use mirror_plan::{Known, PlanErrorKind, PlanObserver, Planner};
use oci_content::{ImageSource, Reference, Registry, SourceRepository};
use oci_referrers::Policy;
use serde::Serialize;

use super::copy;
use super::counting::Counting;
use crate::arguments::policy::{self, PolicyArgs};
use crate::arguments::{TableFormat, bundle_path};
use crate::commands::import;
use crate::commands::run::{Run, Running};
use crate::commands::validate;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::planning::{self, Planning};
use crate::receipts::{self, Receipts};
use crate::remedy;
use crate::render;

/// Ask a target whether everything that was brought is still there, unchanged, and discoverable
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// The jobs whose newest receipts are audited [default: every job that has receipts]
    #[arg(value_name = "JOB", conflicts_with = "receipt")]
    pub(crate) jobs: Vec<String>,
    /// The receipt of an import or a copy, instead of those of jobs
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
    /// Send again what the source still has, and audit once more
    #[arg(long)]
    pub(crate) repair: bool,
    /// Repair from this bundle, instead of from the source
    #[arg(long, value_name = "BUNDLE", requires_all = ["repair", "receipt"], value_parser = bundle_path())]
    pub(crate) file: Option<PathBuf>,
    /// Move tags back that somebody has moved
    #[arg(long, requires = "repair")]
    pub(crate) overwrite_tags: bool,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Output format
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: TableFormat,
}

const EXAMPLES: &str = "\
    stellaops mirror audit --receipt receipt.json\n\
    stellaops mirror audit nightly --config stellaops.yaml --repair\n\
    stellaops mirror audit --receipt receipt.json --repair --file bundle.tgz";

impl Run for AuditArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        Some(Vec::new())
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

/// A receipt to audit.
struct Audited {
    job: Option<String>,
    path: PathBuf,
    receipt: ImportReport,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditDocument {
    schema_version: u32,
    audits: Vec<OneAudit>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OneAudit {
    job: Option<String>,
    receipt: PathBuf,
    repaired: bool,
    #[serde(flatten)]
    report: AuditReport,
    /// What a policy demands and the target does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Report>,
}

async fn run(context: &Context, args: &AuditArgs) -> Result<(), Failure> {
    let mut document = AuditDocument {
        schema_version: 1,
        audits: Vec::new(),
    };
    let mut failed: Option<Failure> = None;
    let demanded = policy::read(&args.policy)?;
    for audited in receipts(context, args)? {
        let registry = registry(&audited.receipt)?;
        let target = RegistryTarget::new(context.client.clone(), registry.clone());
        let (mut report, mut result) = audit(context, &target, &audited.receipt).await;
        let mut repaired = false;
        if args.repair && report.status == AuditStatus::Drifted {
            match repair(context, args, &audited.receipt, &target).await {
                Ok(()) => {
                    (report, result) = audit(context, &target, &audited.receipt).await;
                    repaired = true;
                }
                Err(failure) => result = Err(failure),
            }
        }
        if let Some(job) = &audited.job {
            context.metrics.drifted(job, &report);
        }
        let mut policy = None;
        if let Some(demanded) = &demanded {
            match judge(context, demanded, &audited.receipt, &registry).await {
                Ok(judged) => policy = Some(judged),
                Err(failure) => result = result.and(Err(failure)),
            }
        }
        if policy
            .as_ref()
            .is_some_and(|policy| policy.exit_code() != 0)
        {
            let message = format!("{registry} does not satisfy the policy");
            result = result.and(Err(Failure::new(Exit::Incomplete, message)));
        }
        if let Err(failure) = result {
            context.log.debug(&failure.to_string());
            failed.get_or_insert(failure);
        }
        document.audits.push(OneAudit {
            job: audited.job,
            receipt: audited.path,
            repaired,
            report,
            policy,
        });
    }
    match args.format {
        TableFormat::Json => render::json(&document)?,
        TableFormat::Table => render::text(&text(&document.audits))?,
    }
    failed.map_or(Ok(()), Err)
}

/// Finds the receipts: the one that is named, or the newest proved one of each job.
fn receipts(context: &Context, args: &AuditArgs) -> Result<Vec<Audited>, Failure> {
    if let Some(path) = &args.receipt {
        return Ok(vec![Audited {
            job: None,
            path: path.clone(),
            receipt: receipts::read(path)?,
        }]);
    }
    let mut jobs = args.jobs.clone();
    if jobs.is_empty() {
        jobs = Receipts::jobs()?;
    }
    let mut audited = Vec::new();
    for job in jobs {
        let own = Receipts::of_job(&job, context.gaps.clone())?;
        let Some((path, receipt)) = own.newest_proved()? else {
            let message = format!(
                "job {job} has no receipt of a run that was proved in {}; `stellaops mirror run {job}` writes one",
                own.folder().display()
            );
            return Err(Failure::new(Exit::Usage, message));
        };
        context
            .log
            .info(&format!("Job {job}: auditing by {}", path.display()));
        audited.push(Audited {
            job: Some(job),
            path,
            receipt,
        });
    }
    if audited.is_empty() {
        let message = "there are no receipts of jobs; name one with --receipt, or `stellaops mirror run` writes them";
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(audited)
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

async fn audit(
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
async fn judge(
    context: &Context,
    policy: &(Policy, SystemTime),
    receipt: &ImportReport,
    registry: &Registry,
) -> Result<Report, Failure> {
    let mut request = planning::mirror_request(context, Vec::new());
    request.policy = Some(policy.clone());
    for image in &receipt.images {
        let mut own = receipt.repositories.iter();
        let source = SourceRepository::from(&image.source);
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
    let mut report = Report::of_policy(registry.as_ref(), &violations);
    remedy::add_to(&mut report.findings);
    Ok(report)
}

/// Sends again what the source or the bundle still has.
async fn repair(
    context: &Context,
    args: &AuditArgs,
    receipt: &ImportReport,
    target: &RegistryTarget,
) -> Result<(), Failure> {
    let target: Arc<dyn Target> = Arc::new(target.clone());
    let mut options = ImportOptions::default();
    options.overwrite_tags = args.overwrite_tags;
    options.verify_existing = true;
    for record in &receipt.repositories {
        let rule: Result<MapRule, _> = format!("{}={}", record.source, record.target).parse();
        let rule = rule.map_err(|error| failure::of_import(&error))?;
        options.mapping.rules.push(rule);
    }
    if let Some(path) = &args.file {
        let validator = validate::validator(true, false);
        let bundle = validate::validated_by(&context.progress, &validator, path)?;
        validate::warn(&context.log, &bundle);
        let sent = import::import(bundle, target, options, &context.progress).await;
        return sent.map(drop);
    }
    let images = receipt.graph.iter().flat_map(|graph| &graph.images);
    let images = images.map(|image| image.reference.clone().pinned_to(image.digest.clone()));
    let request = planning::mirror_request(context, images.map(ImageSource::from).collect());
    let copied = copy::copy(context, &request, target, options, false).await;
    copied.map(drop).map_err(|error| failure::of_mirror(&error))
}

fn text(audits: &[OneAudit]) -> String {
    let mut text = String::new();
    for audit in audits {
        let report = &audit.report;
        text.push_str(&format!(
            "{}\n  receipt {}\n",
            report.target,
            audit.receipt.display()
        ));
        let mut table = render::Table::new(["KIND", "WHAT", "WHERE", "CAUSE"]);
        for finding in &report.findings {
            table.row([
                finding.kind.to_string(),
                finding.object.to_string(),
                place(finding),
                finding.cause().to_owned(),
            ]);
        }
        if !report.findings.is_empty() {
            text.push_str(&table.to_string());
        }
        if let Some(policy) = &audit.policy {
            text.push_str(&validate::findings(policy, None));
        }
        for question in &report.unanswered {
            text.push_str(&format!("no answer: {}\n", render::foreign(question)));
        }
        text.push_str(&format!(
            "{} tags, {} manifests, {} blobs and {} referrers compared: {} missing, {} changed, {} extra\n",
            report.tags,
            report.manifests,
            report.blobs,
            report.referrers,
            report.count(DriftKind::Missing),
            report.count(DriftKind::Changed),
            report.count(DriftKind::Extra),
        ));
    }
    text
}

fn place(finding: &AuditFinding) -> String {
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
