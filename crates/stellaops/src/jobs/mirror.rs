//! A run of a job that mirrors.

use std::collections::{BTreeSet, HashSet};

use mirror_import::{ImportOptions, ImportReport, MirrorError, TagAction};
use mirror_plan::{JobLock, JobName};
use oci_content::{Digest, MirrorGraph};

use super::copy;
use super::job::{self, Choice, Job};
use crate::context::Context;
use crate::exit::Failure;
use crate::metrics::ImageOutcome;
use crate::receipts::{Receipts, Record};

/// What a run of a job has produced, whether it succeeded or not.
#[derive(Debug, Default)]
pub(crate) struct Progressed {
    pub(crate) report: Option<ImportReport>,
    /// Where the receipt is.
    pub(crate) receipt: Option<String>,
}

/// Copies what a job selects, proves it, and writes the receipt. Returns what the rules select, pinned.
///
/// The caller holds the [lock](Receipts::hold) on the job.
pub(crate) async fn run(
    context: &Context,
    job: &Job<'_>,
    receipts: &Receipts,
    choice: Choice,
    overwrite_tags: bool,
    progressed: &mut Progressed,
) -> Result<JobLock, Failure> {
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
    options.overwrite_tags = overwrite_tags;
    let mut before = None;
    let (identity, mut pruned) = (target.identity(None), BTreeSet::new());
    for name in receipts.newest_first()? {
        match receipts.read(&name) {
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
            // A pruned tag that is there again was made by somebody else.
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
            Ok(place) => progressed.receipt = Some(place),
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
