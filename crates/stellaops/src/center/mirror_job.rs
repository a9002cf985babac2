//! A run of a job that mirrors.

use std::time::Instant;

use mirror_plan::Selector;

use super::runner::{Running, Work};
use crate::config::{JobTarget, MirrorTo};
use crate::exit::Failure;
use crate::jobs::job::Job;
use crate::jobs::mirror::{self, Progressed};
use crate::jobs::prune::{Mode, prune, selections};
use crate::log::escape;
use crate::render;

pub(super) async fn run(
    running: &Running<'_>,
    to: &MirrorTo,
    work: &mut Work,
) -> Result<(), Failure> {
    let context = running.context;
    let job = Job {
        name: &running.run.job,
        config: running.job,
        to,
    };
    let receipts = context.receipts_of(job.name.as_str())?;
    let started = Instant::now();
    let mut selector = Selector::new(context.client.clone());
    let choice = job.select(context, &mut selector).await?;
    let mut progressed = Progressed::default();
    let mirrored = mirror::run(context, &job, &receipts, choice, false, &mut progressed).await;
    context.metrics.job_ran(job.name, started.elapsed());
    let missing = progressed.report.iter().flat_map(|report| &report.missing);
    work.missing = missing
        .map(|lost| {
            let (referrer, subject) = (&lost.referrer, &lost.subject);
            escape(&format!("{referrer} of {subject} in {}", lost.repository))
        })
        .collect();
    mirrored?;
    match to {
        MirrorTo::Registry(registry) if registry.prune => prune_after(running, &job).await,
        MirrorTo::Registry(_) | MirrorTo::Layout(_) => Ok(()),
    }
}

/// Deletes what the job brought and no rule selects any more.
async fn prune_after(running: &Running<'_>, job: &Job<'_>) -> Result<(), Failure> {
    let context = running.context;
    let jobs = context.config.jobs.iter();
    let all: Vec<_> = jobs
        .filter_map(|(name, config)| match &config.to {
            JobTarget::Mirror(to) => Some(Job { name, config, to }),
            JobTarget::Bundle(_) => None,
        })
        .collect();
    let images = selections(context, &all).await?;
    let (report, pruned) = prune(context, Mode::Limited, job, &all, &images).await?;
    if !report.is_empty() {
        context.log.info(&format!(
            "Deleted at the target what no rule selects any more: {} and {}",
            render::count(report.pruned_tags(), "tag"),
            render::count(report.pruned_manifests(), "manifest")
        ));
    }
    pruned
}
