use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clap::Args;
use mirror_import::{ImportOptions, Importer, Survey, SurveyedImage};
use mirror_plan::{
    Found, JobLock, JobName, JudgedTag, LockFile, RepositoryTags, Selected, Selector, TagRule,
    TagVerdict,
};
use oci_content::{Digest, Reference, Registry};
use serde::Serialize;

use super::job::{self, Failures, JobArgs};
use crate::arguments::TableFormat;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::jobs::copy;
use crate::jobs::job::{Choice, Job, failure, pinned};
use crate::planning::Planning;
use crate::render::{self, Table};

/// Show what `mirror run` would do: what each rule selects and why not the rest, and what the target does not have
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) jobs: JobArgs,
    /// Output format
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: TableFormat,
}

const EXAMPLES: &str = "\
    stellaops mirror plan --config stellaops.yaml\n\
    stellaops mirror plan nightly --config stellaops.yaml --lock mirror.lock --format json";

impl Run for PlanArgs {
    fn registries(&self) -> Option<Vec<Registry>> {
        Some(Vec::new())
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanDocument<'a> {
    schema_version: u32,
    jobs: &'a [JobPlan],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JobPlan {
    job: JobName,
    target: String,
    rules: Vec<RulePlan>,
    images: Vec<ImagePlan>,
    /// What the source could not settle.
    missing: Vec<String>,
    /// The numbers of objects that the target does not have.
    manifests: usize,
    blobs: usize,
    blob_bytes: u64,
    referrers: usize,
    /// Whether a run would have something to do.
    has_work: bool,
    error: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RulePlan {
    rule: String,
    images: usize,
    warnings: Vec<String>,
    repositories: Vec<RepositoryPlan>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RepositoryPlan {
    repository: String,
    tags: Vec<TagPlan>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TagPlan {
    tag: String,
    verdict: &'static str,
    reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImagePlan {
    source: Reference,
    target: String,
    digest: Digest,
    state: &'static str,
    /// What the tag is at the target.
    held: Option<Digest>,
    /// What a lock file pins, if one is named.
    locked: Option<Digest>,
    /// The referrers to bring, of the image's repository; listed once for each subject.
    referrers: usize,
}

async fn run(context: &Context, args: &PlanArgs) -> Result<(), Failure> {
    let jobs = job::chosen(context, &args.jobs.jobs)?;
    let lock = args.jobs.read_lock()?;
    let mut selector = Selector::new(context.client.clone());
    let (mut plans, mut failures) = (Vec::new(), Failures::default());
    for job in &jobs {
        match plan(context, args, &mut selector, job, lock.as_ref()).await {
            Ok(plan) => {
                if !plan.missing.is_empty() {
                    let message = format!(
                        "job {}: something could not be settled or is missing at the source, so a run would send nothing: {}",
                        job.name, plan.missing[0]
                    );
                    failures.add(job.name, Failure::new(Exit::Incomplete, message));
                }
                plans.push(plan);
            }
            Err(failure) => {
                let failure = args.jobs.explained(job, failure);
                plans.push(JobPlan::failed(context, job, &failure));
                failures.add(job.name, failure);
            }
        }
    }
    match args.format {
        TableFormat::Json => render::json(&PlanDocument {
            schema_version: 1,
            jobs: &plans,
        })?,
        TableFormat::Table => {
            for plan in &plans {
                render::text(&table(plan))?;
            }
        }
    }
    failures.end(context, jobs.len())?;
    let busy: Vec<_> = plans.iter().filter(|plan| plan.has_work).collect();
    match busy.first() {
        None => Ok(()),
        Some(_) => {
            let names: Vec<_> = busy.iter().map(|plan| plan.job.to_string()).collect();
            let message = format!("`mirror run` has something to do: {}", names.join(", "));
            Err(Failure::new(Exit::Todo, message).into_answer())
        }
    }
}

async fn plan(
    context: &Context,
    args: &PlanArgs,
    selector: &mut Selector,
    job: &Job<'_>,
    lock: Option<&LockFile>,
) -> Result<JobPlan, Failure> {
    let choice = args.jobs.choose(context, selector, job, lock).await?;
    let (target, mapping) = job.target(context);
    let mut plan = JobPlan::new(job, target.name(), &choice);
    let locked = lock.and_then(|lock| lock.job(job.name));
    // A lock file that says something else is written anew.
    let writes_lock = args.jobs.lock.is_some() && !args.jobs.locked;
    if choice.images.is_empty() {
        plan.has_work = writes_lock && locked != Some(&pinned(&choice.selected, []));
        return Ok(plan);
    }
    let request = job.request(context, choice.images)?;
    let mut options = ImportOptions::default();
    options.mapping = mapping;
    let planning = Arc::new(Planning::new(context, &context.progress, "plan"));
    let importer = Importer::new(target, options, Arc::new(()));
    let mirror = copy::mirror(context, importer, &planning);
    let found = mirror.find(&request).await;
    planning.end();
    let found = found.map_err(|error| failure(&error))?;
    let surveyed = mirror.survey(&found).await;
    let (survey, missing) = surveyed.map_err(|error| failure(&error))?;
    plan.missing = missing;
    plan.fill(&found, &survey, locked);
    let now = plan.images.iter();
    let now = now.map(|image| (&image.source, &image.digest));
    let rewrites = writes_lock && locked != Some(&pinned(&choice.selected, now));
    plan.has_work |= rewrites;
    Ok(plan)
}

impl JobPlan {
    fn new(job: &Job<'_>, target: String, choice: &Choice) -> Self {
        Self {
            job: job.name.clone(),
            target,
            rules: choice.selected.iter().map(RulePlan::new).collect(),
            images: Vec::new(),
            missing: Vec::new(),
            manifests: 0,
            blobs: 0,
            blob_bytes: 0,
            referrers: 0,
            has_work: false,
            error: None,
        }
    }

    fn failed(context: &Context, job: &Job<'_>, failure: &Failure) -> Self {
        let choice = Choice {
            selected: Vec::new(),
            images: Vec::new(),
        };
        let target = job.target(context).0.name();
        let mut plan = Self::new(job, target, &choice);
        plan.error = Some(failure.to_string());
        plan
    }

    fn fill(&mut self, found: &Found, survey: &Survey, lock: Option<&JobLock>) {
        let missing = survey.referrers.iter();
        let missing: BTreeSet<_> = missing
            .map(|edge| (&edge.subject, &edge.referrer))
            .collect();
        let graphs = found.images.iter();
        let graphs: BTreeMap<_, _> = graphs
            .map(|image| (image.reference(), image.graph()))
            .collect();
        let referrers = |image: &SurveyedImage| {
            let graph = graphs.get(&image.source);
            let edges = graph.into_iter().flat_map(|graph| &graph.referrers);
            let edges: BTreeSet<_> = edges.map(|edge| (&edge.subject, &edge.digest)).collect();
            edges.intersection(&missing).count()
        };
        self.images = survey
            .images
            .iter()
            .map(|image| ImagePlan {
                source: image.source.clone(),
                target: image.target.clone(),
                digest: image.digest.clone(),
                state: match &image.held {
                    None => "new",
                    Some(held) if *held == image.digest => "present",
                    Some(_) => "changed",
                },
                held: image.held.clone(),
                locked: lock.and_then(|lock| lock.digest(&image.source)).cloned(),
                referrers: referrers(image),
            })
            .collect();
        self.manifests = survey.manifests;
        self.blobs = survey.blobs;
        self.blob_bytes = survey.blob_bytes;
        self.referrers = survey.referrers.len();
        self.has_work = survey.has_work();
    }
}

impl RulePlan {
    fn new(selected: &Selected) -> Self {
        let tags = selected.rule.tags().cloned().unwrap_or_default();
        let repositories = selected.repositories.iter();
        Self {
            rule: selected.rule.to_string(),
            images: selected.images.len(),
            warnings: selected.warnings.clone(),
            repositories: repositories
                .map(|judged| RepositoryPlan::new(judged, &tags))
                .collect(),
        }
    }
}

impl RepositoryPlan {
    fn new(judged: &RepositoryTags, rule: &TagRule) -> Self {
        let tag = |judged: &JudgedTag| TagPlan {
            tag: judged.tag.to_string(),
            verdict: judged.verdict.as_str(),
            reason: judged.verdict.reason(rule),
        };
        Self {
            repository: judged.repository.to_string(),
            tags: judged.tags.iter().map(tag).collect(),
        }
    }

    /// Describes the tags that are not selected, by reason.
    fn unselected(&self) -> Vec<String> {
        const SHOWN: usize = 8;
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let selected = TagVerdict::Selected.as_str();
        for tag in self.tags.iter().filter(|tag| tag.verdict != selected) {
            by_reason.entry(&tag.reason).or_default().push(&tag.tag);
        }
        let line = |(reason, tags): (&str, Vec<&str>)| {
            let shown = tags[..tags.len().min(SHOWN)].join(", ");
            let more = match tags.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("  not selected: {shown}{more}: {reason}")
        };
        by_reason.into_iter().map(line).collect()
    }
}

fn table(plan: &JobPlan) -> String {
    let mut text = format!("job {} -> {}\n", plan.job, plan.target);
    for rule in &plan.rules {
        let images = render::count(rule.images as u64, "image");
        text.push_str(&format!("{}: {images}\n", rule.rule));
        for repository in &rule.repositories {
            let lines = repository.unselected();
            if rule.repositories.len() > 1 && !lines.is_empty() {
                text.push_str(&format!("  {}\n", repository.repository));
            }
            for line in lines {
                text.push_str(&format!("{line}\n"));
            }
        }
    }
    if let Some(error) = &plan.error {
        return format!("{text}failed: {error}\n");
    }
    if !plan.images.is_empty() {
        let mut table = Table::new(["IMAGE", "STATE", "DIGEST", "TARGET", "REFERRERS"]);
        for image in &plan.images {
            let state = match &image.held {
                Some(held) if image.state == "changed" => {
                    format!("changed from {}", render::short(held))
                }
                _ => image.state.to_owned(),
            };
            let referrers = match image.referrers {
                0 => "present".to_owned(),
                count => format!("{count} to bring"),
            };
            table.row([
                image.source.to_string(),
                state,
                render::short(&image.digest),
                image.target.clone(),
                referrers,
            ]);
        }
        text.push_str(&format!("{table}\n"));
    }
    for missing in &plan.missing {
        text.push_str(&format!("missing at the source: {missing}\n"));
    }
    if plan.has_work {
        text.push_str(&format!(
            "to bring: {}, {}, {} of {}\n",
            render::count(plan.referrers as u64, "referrer"),
            render::count(plan.manifests as u64, "manifest"),
            render::count(plan.blobs as u64, "blob"),
            render::bytes(plan.blob_bytes),
        ));
    } else {
        text.push_str("nothing to do\n");
    }
    text
}
