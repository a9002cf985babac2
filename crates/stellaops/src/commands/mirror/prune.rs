use clap::Args;
use mirror_import::PruneReport;
use mirror_plan::JobName;
use oci_content::Registry;
use serde::Serialize;

use super::job::{self, Failures};
use crate::arguments::TableFormat;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::Failure;
use crate::jobs::prune::{Mode, prune, selections};
use crate::render;

/// Show what jobs brought and no rule selects any more, and delete it with --yes
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct PruneArgs {
    /// The jobs [default: all of the configuration]
    #[arg(value_name = "JOB")]
    pub(crate) jobs: Vec<JobName>,
    /// Delete what is shown
    #[arg(long)]
    pub(crate) yes: bool,
    /// Output format
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: TableFormat,
}

const EXAMPLES: &str = "\
    stellaops mirror prune --config stellaops.yaml\n\
    stellaops mirror prune nightly --config stellaops.yaml --yes";

impl Run for PruneArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        Some(Vec::new())
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PruneDocument {
    schema_version: u32,
    jobs: Vec<JobPrune>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobPrune {
    job: JobName,
    report: Option<PruneReport>,
    error: Option<String>,
}

async fn run(context: &Context, args: &PruneArgs) -> Result<(), Failure> {
    let mode = if args.yes { Mode::Any } else { Mode::Show };
    let (jobs, failures) = prune_jobs(context, &args.jobs, mode).await?;
    let count = jobs.len();
    match args.format {
        TableFormat::Json => render::json(&PruneDocument {
            schema_version: 1,
            jobs,
        })?,
        TableFormat::Table => render::text(&text(&jobs, args.yes))?,
    }
    failures.end(context, count)
}

/// Prunes jobs after they have run, and returns what was deleted, and what failed.
pub(super) async fn after_run(
    context: &Context,
    jobs: &[JobName],
) -> Result<(Vec<JobPrune>, Failures), Failure> {
    prune_jobs(context, jobs, Mode::Limited).await
}

async fn prune_jobs(
    context: &Context,
    jobs: &[JobName],
    mode: Mode,
) -> Result<(Vec<JobPrune>, Failures), Failure> {
    let jobs = job::chosen(context, jobs)?;
    let all = job::chosen(context, &[])?;
    let images = selections(context, &all).await?;
    let mut failures = Failures::default();
    let mut pruned = Vec::new();
    for job in &jobs {
        let own = context.for_job(job.name, job.config.window());
        let (report, result) = match prune(&own, mode, job, &all, &images).await {
            Ok((report, result)) => (Some(report), result),
            Err(failure) => (None, Err(failure)),
        };
        pruned.push(JobPrune {
            job: job.name.clone(),
            error: result.as_ref().err().map(ToString::to_string),
            report,
        });
        if let Err(failure) = result {
            failures.add(job.name, failure);
        }
    }
    Ok((pruned, failures))
}

pub(super) fn text(jobs: &[JobPrune], is_done: bool) -> String {
    let mut text = String::new();
    for job in jobs {
        text.push_str(&format!("job {}\n", job.job));
        let Some(report) = &job.report else {
            continue;
        };
        for own in &report.repositories {
            let name = &own.repository;
            for (tag, digest) in &own.tags {
                text.push_str(&format!("- {name}:{tag} {}\n", render::short(digest)));
            }
            if !own.manifests.is_empty() {
                let count = render::count(own.manifests.len(), "manifest");
                text.push_str(&format!("- {name}: {count}\n"));
            }
            for kept in &own.kept {
                let what = match &kept.tag {
                    Some(tag) => format!("{name}:{tag}"),
                    None => format!("{name}@{}", kept.digest),
                };
                let by = kept.by.as_ref().map(|by| format!(" ({by})"));
                let by = by.unwrap_or_default();
                text.push_str(&format!("  {what} stays: {}{by}\n", kept.reason));
            }
            for new in &own.appeared {
                let what = match (&new.tag, &new.subject) {
                    (Some(tag), _) => format!("{name}:{tag}"),
                    (None, Some(subject)) => format!("{name}@{} on {subject}", new.digest),
                    (None, None) => format!("{name}@{}", new.digest),
                };
                text.push_str(&format!("  {what} appeared in the meantime\n"));
            }
        }
        text.push_str(&format!(
            "{} of {} and {} {}\n",
            report.pruned_tags(),
            render::count(report.tags, "tag"),
            render::count(report.pruned_manifests(), "manifest"),
            match (is_done, report.is_empty()) {
                (true, _) => "deleted",
                (false, true) => "would go",
                (false, false) => "would go; --yes deletes them",
            }
        ));
    }
    text
}
