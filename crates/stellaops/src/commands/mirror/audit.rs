use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use mirror_import::{AuditReport, AuditStatus, DriftKind, ImportReport, RegistryTarget, Target};
use oci_content::Registry;
use serde::Serialize;

use crate::arguments::{TableFormat, bundle_path};
use crate::commands::import;
use crate::commands::run::{Run, Running};
use crate::commands::validate;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::jobs::audit::{self, audit, place, target};
use crate::receipts;
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
    place: String,
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
    receipt: String,
    repaired: bool,
    #[serde(flatten)]
    report: AuditReport,
}

async fn run(context: &Context, args: &AuditArgs) -> Result<(), Failure> {
    let mut document = AuditDocument {
        schema_version: 1,
        audits: Vec::new(),
    };
    let mut failed: Option<Failure> = None;
    for audited in receipts(context, args)? {
        let target = target(context, &audited.receipt)?;
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
        if let Err(failure) = result {
            context.log.debug(&failure.to_string());
            failed.get_or_insert(failure);
        }
        document.audits.push(OneAudit {
            job: audited.job,
            receipt: audited.place,
            repaired,
            report,
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
            place: path.display().to_string(),
            receipt: receipts::read(path)?,
        }]);
    }
    let mut jobs = args.jobs.clone();
    if jobs.is_empty() {
        jobs = context.jobs_with_receipts()?;
    }
    let mut audited = Vec::new();
    for job in jobs {
        let own = context.receipts_of(&job)?;
        let Some((place, receipt)) = own.newest_proved()? else {
            let message = format!(
                "job {job} has no receipt of a run that was proved in {}; `stellaops mirror run {job}` writes one",
                own.place()
            );
            return Err(Failure::new(Exit::Usage, message));
        };
        context.log.info(&format!("Job {job}: auditing by {place}"));
        audited.push(Audited {
            job: Some(job),
            place,
            receipt,
        });
    }
    if audited.is_empty() {
        let message = "there are no receipts of jobs; name one with --receipt, or `stellaops mirror run` writes them";
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(audited)
}

/// Sends again what the source or the bundle still has.
async fn repair(
    context: &Context,
    args: &AuditArgs,
    receipt: &ImportReport,
    target: &RegistryTarget,
) -> Result<(), Failure> {
    let Some(path) = &args.file else {
        return audit::repair(context, receipt, target, args.overwrite_tags).await;
    };
    let options = audit::repair_options(receipt, args.overwrite_tags)?;
    let validator = validate::validator(true, false);
    let bundle = validate::validated_by(&context.progress, &validator, path)?;
    validate::warn(&context.log, &bundle);
    let target: Arc<dyn Target> = Arc::new(target.clone());
    let sent = import::import(bundle, target, options, &context.progress).await;
    sent.map(drop)
}

fn text(audits: &[OneAudit]) -> String {
    let mut text = String::new();
    for audit in audits {
        let report = &audit.report;
        text.push_str(&format!("{}\n  receipt {}\n", report.target, audit.receipt));
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
