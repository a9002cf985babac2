use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use mirror_import::{
    PruneHistory, PruneObserver, PruneOptions, PruneReport, PruneRequest, PruneTarget, Pruner,
    RegistryTarget,
};
use mirror_plan::{JobName, Selector};
use oci_content::{Reference, Registry, SourceRepository};
use serde::Serialize;

use super::counting::Counting;
use super::job::{self, Failures, Job};
use crate::arguments::TableFormat;
use crate::commands::run::{Run, Running};
use crate::config::MirrorTo;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::job_lock::JobHeld;
use crate::receipts::{Receipts, Record, read_record};
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

/// How much a prune may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing.
    Show,
    /// Any number of tags.
    Any,
    /// A quarter of a job's tags, or as many as its configuration says.
    Limited,
}

/// The share of a job's tags, in percent, that goes without being asked for.
const MAX_PERCENT: u8 = 25;

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
    let mut selector = Selector::new(context.client.clone());
    let mut images: BTreeMap<&JobName, Vec<Reference>> = BTreeMap::new();
    // Every job that uses a target says what has to stay there: if one cannot, nothing is deleted.
    let all = job::chosen(context, &[])?;
    for job in &all {
        let choice = job.select(context, &mut selector).await?;
        images.insert(job.name, choice.images);
    }
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

/// Plans or prunes one job; what was deleted is among its receipts, whatever the result.
async fn prune(
    context: &Context,
    mode: Mode,
    job: &Job<'_>,
    all: &[Job<'_>],
    images: &BTreeMap<&JobName, Vec<Reference>>,
) -> Result<(PruneReport, Result<(), Failure>), Failure> {
    let MirrorTo::Registry(to) = job.to else {
        let message = format!(
            "job {} goes to a folder, and only registries are pruned",
            job.name
        );
        return Err(Failure::new(Exit::Usage, message));
    };
    if images.get(job.name).is_none_or(Vec::is_empty) {
        let message = format!(
            "job {} selects nothing, and then everything that it brought would go; nothing was deleted",
            job.name
        );
        return Err(Failure::new(Exit::Incomplete, message));
    }
    let receipts = Receipts::of_job(job.name.as_str(), context.gaps.clone())?;
    let _held = match mode {
        Mode::Show => None,
        Mode::Any | Mode::Limited => Some(JobHeld::take(
            job.name.as_str(),
            receipts.folder(),
            &context.gaps,
        )?),
    };
    let target = Arc::new(RegistryTarget::new(
        context.client.clone(),
        to.registry.clone(),
    ));
    let history = history(context, &receipts, &*target)?;
    let mut request = PruneRequest::new(history);
    let mut is_current = false;
    for other in all {
        let MirrorTo::Registry(own) = other.to else {
            continue;
        };
        if !own.registry.is_same(&to.registry) {
            continue;
        }
        for image in images.get(other.name).into_iter().flatten() {
            let place = own.mapping.target(&SourceRepository::from(image));
            let place = place.map_err(|error| failure::of_import(&error))?;
            let (tag, digest) = (image.tag(), image.digest());
            is_current |= other.name == job.name && request.history.knows(&place, tag, digest);
            match (tag, digest) {
                (Some(tag), _) => {
                    request.tags.insert((place, tag.clone()));
                }
                (None, Some(digest)) => {
                    request.digests.insert((place, digest.clone()));
                }
                (None, None) => {}
            }
        }
    }
    if request.history.tags() > 0 && !is_current {
        let message = format!(
            "job {} has not brought anything of what it selects now, and everything that it brought before would go; \
             nothing was deleted; run the job first",
            job.name
        );
        return Err(Failure::new(Exit::Incomplete, message));
    }
    let observer = Arc::new(Counting::new(&context.progress, "prune"));
    let told: Arc<dyn PruneObserver> = Arc::<Counting>::clone(&observer);
    let mut options = PruneOptions::default();
    if mode == Mode::Limited {
        options.max_tags = to.max_prune;
        options.max_percent = to.max_prune.is_none().then_some(MAX_PERCENT);
    }
    let pruner = Pruner::new(target, options, told);
    let pruned = if mode != Mode::Show {
        let (report, result) = pruner.run(&request).await;
        let mut result = result.map_err(|error| failure::of_import(&error));
        if !report.is_empty()
            && let Err(unwritten) = receipts.write(&report)
        {
            match &result {
                Ok(()) => result = Err(unwritten),
                Err(_) => context.log.failure(&unwritten),
            }
        }
        Ok((report, result))
    } else {
        let planned = pruner.plan(&request).await;
        let planned = planned.map_err(|error| failure::of_import(&error))?;
        Ok((planned, Ok(())))
    };
    observer.end();
    pruned
}

/// Reads what the receipts of a job say, and what the receipts of jobs say that this configuration does not have.
fn history(
    context: &Context,
    receipts: &Receipts,
    target: &dyn PruneTarget,
) -> Result<PruneHistory, Failure> {
    let mut history = PruneHistory::new(target.identity());
    for path in receipts.newest_first()?.iter().rev() {
        match read_record(path)? {
            Record::Import(report) => {
                let added = history.add(&report);
                added.map_err(|error| {
                    failure::of_import(&error).and(&format!("it is {}", path.display()))
                })?;
            }
            Record::Prune(report) => history.pruned(&report),
        }
    }
    for name in Receipts::jobs()? {
        let is_configured = name
            .parse::<JobName>()
            .is_ok_and(|name| context.config.jobs.contains_key(&name));
        if is_configured {
            continue;
        }
        let others = Receipts::of_job(&name, context.gaps.clone())?;
        for path in others.newest_first()? {
            if let Record::Import(report) = read_record(&path)? {
                let added = history.protect(&report);
                added.map_err(|error| {
                    failure::of_import(&error).and(&format!("it is {}", path.display()))
                })?;
            }
        }
    }
    Ok(history)
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
