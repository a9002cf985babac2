use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use clap::Args;
use mirror_import::{ImportOptions, ImportReport, MirrorError, TagAction};
use mirror_plan::{JobLock, JobName, LockFile, Selector};
use oci_content::{Digest, MirrorGraph, Registry, replace_file};
use serde::Serialize;
use serde_json::Value;

use super::copy;
use super::job::{self, Failures, Job, JobArgs};
use super::prune::{self, JobPrune};
use crate::arguments::TextFormat;
use crate::commands::import;
use crate::commands::run::{Run, Running};
use crate::config::MirrorTo;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::job_lock::JobHeld;
use crate::metrics::ImageOutcome;
use crate::receipts::{self, Receipts, Record};
use crate::render;
use crate::small_file;

/// Run the jobs of the configuration: copy what their rules select, with everything that refers to it, and prove it
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) jobs: JobArgs,
    /// Move tags that point to something else at the target and that no earlier run made
    #[arg(long)]
    pub(crate) overwrite_tags: bool,
    /// Then delete what the jobs brought and no rule selects any more, like `prune: true` in the configuration
    #[arg(long, conflicts_with = "locked")]
    pub(crate) prune: bool,
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

const EXAMPLES: &str = "\
    stellaops mirror run --config stellaops.yaml\n\
    stellaops mirror run nightly --config stellaops.yaml --lock mirror.lock\n\
    stellaops mirror run --config stellaops.yaml --lock mirror.lock --locked";

impl Run for RunArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        Some(Vec::new())
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunDocument {
    schema_version: u32,
    jobs: Vec<JobRun>,
    /// What `mirror prune` prints of each job that was pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pruned: Option<Vec<JobPrune>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobRun {
    job: JobName,
    target: String,
    /// `done`, `nothing-selected` or `failed`.
    outcome: &'static str,
    receipt: Option<PathBuf>,
    report: Option<Value>,
    error: Option<String>,
}

/// What a run of a job has brought about, whether it succeeded or not.
#[derive(Default)]
struct Progressed {
    report: Option<ImportReport>,
    receipt: Option<PathBuf>,
}

async fn run(context: &Context, args: &RunArgs) -> Result<(), Failure> {
    let jobs = job::chosen(context, &args.jobs.jobs)?;
    let known = args.jobs.read_lock()?;
    if let Some(path) = args.jobs.lock.as_ref().filter(|_| !args.jobs.locked) {
        // Told before anything is copied.
        small_file::check_writable(path).map_err(|error| unwritten(path, &error))?;
    }
    let mut pins = Vec::new();
    let mut failures = Failures::default();
    // The jobs to prune.
    let mut due = Vec::new();
    let mut document = RunDocument {
        schema_version: 1,
        jobs: Vec::new(),
        pruned: None,
    };
    for job in &jobs {
        let own = context.for_job(job.name, job.config.window());
        // Each job has its own, because a job may have a window for its requests.
        let mut selector = Selector::new(own.client.clone());
        let started = Instant::now();
        let mut progressed = Progressed::default();
        let ran = run_job(
            &own,
            args,
            &mut selector,
            job,
            known.as_ref(),
            &mut progressed,
        )
        .await;
        context.metrics.job_ran(job.name, started.elapsed());
        let target = job.target(&own).0.name();
        if let TextFormat::Text = args.format {
            let report = progressed.report.as_ref().map(import::text);
            let text = report.unwrap_or_default();
            render::text(&format!("job {} -> {target}\n{text}", job.name))?;
        }
        let mut done = JobRun {
            job: job.name.clone(),
            target,
            outcome: "done",
            receipt: progressed.receipt,
            report: progressed.report.as_ref().map(import::json).transpose()?,
            error: None,
        };
        match ran {
            Ok(pinned) => {
                if done.report.is_none() {
                    done.outcome = "nothing-selected";
                }
                pins.push((job.name.clone(), pinned));
                let configured =
                    matches!(job.to, MirrorTo::Registry(to) if to.prune && !args.jobs.locked);
                if args.prune || configured {
                    due.push(job.name.clone());
                }
                context.metrics.job_succeeded(job.name, SystemTime::now());
            }
            Err(failure) => {
                let failure = args.jobs.explained(job, failure);
                done.outcome = "failed";
                done.error = Some(failure.to_string());
                failures.add(job.name, failure);
            }
        }
        document.jobs.push(done);
    }
    let pruned = if due.is_empty() {
        Ok(())
    } else {
        prune_after(context, args, &due, &mut document).await
    };
    let printed = match args.format {
        TextFormat::Json => render::json(&document),
        TextFormat::Text => Ok(()),
    };
    let written = write_lock(context, args, pins);
    let mut first = failures.end(context, jobs.len());
    for other in [pruned, printed, written] {
        match (&first, other) {
            (Ok(()), other) => first = other,
            (Err(_), Err(more)) => context.log.failure(&context.explained(more)),
            (Err(_), Ok(())) => {}
        }
    }
    first
}

/// Writes what was selected into the lock file, if there is one to write.
fn write_lock(
    context: &Context,
    args: &RunArgs,
    pins: Vec<(JobName, JobLock)>,
) -> Result<(), Failure> {
    let Some(path) = args.jobs.lock.as_ref().filter(|_| !args.jobs.locked) else {
        return Ok(());
    };
    // Other jobs may have been run with the same file in the meantime.
    let mut lock = args.jobs.read_lock()?.unwrap_or_default();
    lock.retain(|name| context.config.jobs.contains_key(name));
    for (name, job) in pins {
        lock.set(name, job);
    }
    replace_file(path, lock.to_yaml().as_bytes(), &context.gaps)
        .map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::LocalIo, format!("--lock {}: {error}", path.display()))
}

/// Prunes the jobs that ran.
async fn prune_after(
    context: &Context,
    args: &RunArgs,
    due: &[JobName],
    document: &mut RunDocument,
) -> Result<(), Failure> {
    let (pruned, failures) = prune::after_run(context, due).await?;
    if let TextFormat::Text = args.format {
        render::text(&format!("prune\n{}", prune::text(&pruned, true)))?;
    }
    document.pruned = Some(pruned);
    failures.end(context, due.len())
}

/// Runs one job, and returns what its rules select, pinned.
async fn run_job(
    context: &Context,
    args: &RunArgs,
    selector: &mut Selector,
    job: &Job<'_>,
    lock: Option<&LockFile>,
    progressed: &mut Progressed,
) -> Result<JobLock, Failure> {
    let receipts = Receipts::of_job(job.name.as_str(), context.gaps.clone())?;
    let _held = JobHeld::take(job.name.as_str(), receipts.folder(), &context.gaps)?;
    let choice = args.jobs.choose(context, selector, job, lock).await?;
    if choice.images.is_empty() {
        context.log.warn(&format!(
            "job {}: nothing is selected, so nothing is copied",
            job.name
        ));
        return Ok(job::pinned(&choice.selected, []));
    }
    let images = choice.images.len();
    let request = job.request(context, choice.images)?;
    let (target, mapping) = job.target(context);
    let mut options = ImportOptions::default();
    options.mapping = mapping;
    // A tag that moved at the source moves here too, if it is what an earlier run made it.
    options.overwrite_tags = args.overwrite_tags;
    let mut before = None;
    let (identity, mut pruned) = (target.identity(None), BTreeSet::new());
    for path in receipts.newest_first()? {
        match receipts::read_record(&path) {
            Ok(Record::Import(report))
                if report.target_identity.as_deref() == Some(identity.as_str()) =>
            {
                for tag in &report.tags {
                    let name = (tag.repository.clone(), tag.tag.clone());
                    if !pruned.contains(&name) {
                        let own = options.own_tags.entry(name).or_default();
                        own.insert(tag.digest.clone());
                    }
                }
                before = before.or_else(|| report.graph.filter(|_| report.proved));
            }
            Ok(Record::Import(_)) => {}
            // What was pruned and is there again is somebody else's.
            Ok(Record::Prune(report)) => {
                pruned.extend(report.repositories.iter().flat_map(|own| {
                    let tags = own.tags.keys();
                    tags.map(|tag| (own.repository.clone(), tag.clone()))
                }))
            }
            Err(failure) => context.log.warn(&format!("job {}: {failure}", job.name)),
        }
    }
    let result = copy::copy(context, &request, target, options, false).await;
    let report = match &result {
        Ok(report) => Some(report),
        Err(MirrorError::Import(error)) => error.report(),
        Err(_) => None,
    };
    if let Some(report) = report {
        progressed.report = Some(report.clone());
        match receipts.write(report) {
            Ok(path) => progressed.receipt = Some(path),
            Err(unwritten) if result.is_ok() => return Err(unwritten),
            Err(unwritten) => context.log.failure(&unwritten),
        }
    }
    match result {
        Ok(report) => {
            count(context, job.name, &report);
            if let (Some(before), Some(now)) = (&before, &report.graph) {
                warn_of_lost(context, job.name, before, now);
            }
            let copied = report.images.iter();
            let copied = copied.map(|image| (&image.source, &image.digest));
            Ok(job::pinned(&choice.selected, copied))
        }
        Err(error) => {
            let outcome = ImageOutcome::Failed;
            context.metrics.job_images(job.name, outcome, images as u64);
            Err(job::failure(&error))
        }
    }
}

/// Names the referrers that the run before brought and that the source does not have any more. They stay at the target.
fn warn_of_lost(context: &Context, job: &JobName, before: &MirrorGraph, now: &MirrorGraph) {
    const SHOWN: usize = 20;
    let images = now.images.iter().map(|image| &image.digest);
    let records = now.discovery.iter().map(|record| &record.subject);
    let there: HashSet<&Digest> = now.referrers().map(|(_, own)| &own.digest).collect();
    let known: HashSet<&Digest> = images.chain(records).chain(there.iter().copied()).collect();
    let mut lost = before
        .referrers()
        .filter(|(record, own)| known.contains(&record.subject) && !there.contains(&own.digest));
    for (record, own) in lost.by_ref().take(SHOWN) {
        context.log.warn(&format!(
            "job {job}: {} no longer has {} {} of {}, which an earlier run brought; it stays at the target",
            record.repository, own.category, own.digest, record.subject
        ));
    }
    match lost.count() {
        0 => {}
        more => context.log.warn(&format!(
            "job {job}: the sources no longer have {more} more referrers that an earlier run brought"
        )),
    }
}

/// Counts the images of a job by what became of their tags.
fn count(context: &Context, job: &JobName, report: &ImportReport) {
    let mut present = 0;
    for image in &report.images {
        let mut tags = report.tags.iter();
        let is_present = image.tag.as_ref().is_none_or(|tag| {
            tags.any(|made| {
                made.tag == *tag && made.digest == image.digest && made.action == TagAction::Present
            })
        });
        present += u64::from(is_present);
    }
    let made = report.images.len() as u64 - present;
    context.metrics.job_images(job, ImageOutcome::Copied, made);
    context
        .metrics
        .job_images(job, ImageOutcome::Present, present);
}
