//! Deleting what a job brought and no rule selects any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use mirror_import::{
    PruneHistory, PruneObserver, PruneOptions, PruneReport, PruneRequest, PruneTarget, Pruner,
    RegistryTarget,
};
use mirror_plan::{JobName, Selector};
use oci_content::{Reference, SourceRepository};

use super::counting::Counting;
use super::job::Job;
use crate::config::MirrorTo;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::receipts::{Receipts, Record};

/// How much a prune may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Show,
    /// Any number of tags.
    Any,
    /// A quarter of a job's tags, or as many as its configuration says.
    Limited,
}

/// The share of a job's tags, in percent, that may be deleted without confirmation.
const MAX_PERCENT: u8 = 25;

/// Returns what each job selects now: every job that uses a target says what has to stay there.
pub(crate) async fn selections<'a>(
    context: &Context,
    jobs: &[Job<'a>],
) -> Result<BTreeMap<&'a JobName, Vec<Reference>>, Failure> {
    let mut selector = Selector::new(context.client.clone());
    let mut images = BTreeMap::new();
    for job in jobs {
        let choice = job.select(context, &mut selector).await?;
        images.insert(job.name, choice.images);
    }
    Ok(images)
}

/// Plans or prunes one job; what was deleted is among its receipts, whatever the result.
pub(crate) async fn prune(
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
    let receipts = context.receipts_of(job.name.as_str())?;
    let _held = match mode {
        Mode::Show => None,
        Mode::Any | Mode::Limited => receipts.hold()?,
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
    for name in receipts.newest_first()?.iter().rev() {
        match receipts.read(name)? {
            Record::Import(report) => {
                let added = history.add(&report);
                added.map_err(|error| {
                    let place = receipts.place_of(name);
                    failure::of_import(&error).and(&format!("it is {place}"))
                })?;
            }
            Record::Prune(report) => history.pruned(&report),
        }
    }
    for name in context.jobs_with_receipts()? {
        let is_configured = name
            .parse::<JobName>()
            .is_ok_and(|name| context.config.jobs.contains_key(&name));
        if is_configured {
            continue;
        }
        let others = context.receipts_of(&name)?;
        for name in others.newest_first()? {
            if let Record::Import(report) = others.read(&name)? {
                let added = history.protect(&report);
                added.map_err(|error| {
                    let place = others.place_of(&name);
                    failure::of_import(&error).and(&format!("it is {place}"))
                })?;
            }
        }
    }
    Ok(history)
}
