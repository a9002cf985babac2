use std::io;
use std::path::Path;
use std::time::Instant;

use clap::Args;
use jiff::Timestamp;
use mirror_plan::{JobLock, JobName, LockFile, Selector};
use oci_content::{Registry, replace_file};
use serde::Serialize;
use serde_json::Value;

use super::job::{self, Failures, JobArgs};
use super::prune::{self, JobPrune};
use crate::arguments::TextFormat;
use crate::commands::import;
use crate::commands::run::{Run, Running};
use crate::config::MirrorTo;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::jobs::job::Job;
use crate::jobs::mirror::{self, Progressed};
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
    receipt: Option<String>,
    report: Option<Value>,
    error: Option<String>,
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
                context.metrics.job_succeeded(job.name, Timestamp::now());
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
    let receipts = context.receipts_of(job.name.as_str())?;
    let _held = receipts.hold()?;
    let choice = args.jobs.choose(context, selector, job, lock).await?;
    mirror::run(
        context,
        job,
        &receipts,
        choice,
        args.overwrite_tags,
        progressed,
    )
    .await
}
