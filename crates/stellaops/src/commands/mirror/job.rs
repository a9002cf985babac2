//! The jobs of the configuration, as `mirror plan` and `mirror run` take them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use mirror_plan::{JobLock, JobName, LockDifference, LockFile, Selector};
use oci_content::Reference;

use crate::config::JobTarget;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::jobs::job::{Choice, Job};
use crate::render;
use crate::small_file;

/// A larger lock file is not read.
const MAX_LOCK_BYTES: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// The jobs [default: all of the configuration]
    #[arg(value_name = "JOB")]
    pub(crate) jobs: Vec<JobName>,
    /// The lock file, which pins what the rules select
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
    /// Take the images that the lock file pins, instead of those that the rules select now
    #[arg(long, requires = "lock")]
    pub(crate) locked: bool,
}

/// Returns the jobs with these names, or all. Those that write bundles are the service's: to name one is an error, others
/// are skipped.
pub(crate) fn chosen<'a>(context: &'a Context, names: &[JobName]) -> Result<Vec<Job<'a>>, Failure> {
    let jobs = &context.config.jobs;
    if jobs.is_empty() {
        let message = "the configuration has no jobs; name a file with `jobs:` by --config";
        return Err(Failure::new(Exit::Usage, message));
    }
    if let Some(unknown) = names.iter().find(|name| !jobs.contains_key(*name)) {
        let known: Vec<_> = jobs.keys().map(JobName::as_str).collect();
        let message = format!(
            "the configuration has no job {unknown}; it has {}",
            known.join(", ")
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let named: BTreeSet<&JobName> = names.iter().collect();
    let mut chosen = Vec::new();
    for (name, config) in jobs {
        let is_named = named.contains(name);
        if !named.is_empty() && !is_named {
            continue;
        }
        let JobTarget::Mirror(to) = &config.to else {
            let what = format!("job {name} writes bundles, which is for the service");
            if is_named {
                let message =
                    format!("{what}; `stellaops bundle export` writes one from export.images");
                return Err(Failure::new(Exit::Usage, message));
            }
            context.log.info(&format!("Skipping {name}: {what}"));
            continue;
        };
        chosen.push(Job { name, config, to });
    }
    Ok(chosen)
}

impl JobArgs {
    /// Reads the lock file, if one is named and it exists; a missing one is an error only if it is to be obeyed.
    pub(crate) fn read_lock(&self) -> Result<Option<LockFile>, Failure> {
        let Some(path) = &self.lock else {
            return Ok(None);
        };
        if !self.locked && !path.exists() {
            return Ok(None);
        }
        let name = format!("--lock {}", path.display());
        let bytes = small_file::read(path, MAX_LOCK_BYTES)
            .map_err(|error| Failure::new(Exit::Usage, format!("{name}: {error}")))?;
        let file = LockFile::parse(&bytes).map_err(|error| {
            let message = format!(
                "{name}: {}; `stellaops mirror run --lock` writes the file, and nothing else should; remove it to start anew",
                render::foreign(&error.to_string())
            );
            Failure::new(Exit::Usage, message)
        })?;
        Ok(Some(file))
    }

    fn lock_name(&self) -> String {
        let path = self.lock.as_deref().unwrap_or(Path::new(""));
        path.display().to_string()
    }

    /// Returns what a job mirrors: what the lock file pins, or what the rules select now.
    pub(crate) async fn choose(
        &self,
        context: &Context,
        selector: &mut Selector,
        job: &Job<'_>,
        lock: Option<&LockFile>,
    ) -> Result<Choice, Failure> {
        if self.locked {
            let lock = lock.and_then(|lock| lock.job(job.name));
            let images = self.pinned(job, lock)?;
            return Ok(Choice::of(Vec::new(), images));
        }
        job.select(context, selector).await
    }

    fn pinned(&self, job: &Job<'_>, lock: Option<&JobLock>) -> Result<Vec<Reference>, Failure> {
        let file = self.lock_name();
        let differs = |what: String| {
            let message = format!(
                "{what}; `stellaops mirror run {} --lock {file}` selects anew",
                job.name
            );
            Failure::new(Exit::Todo, message)
        };
        let Some(lock) = lock else {
            return Err(differs(format!("{file} has no job {}", job.name)));
        };
        let rules = job.rules();
        let differences = lock.differences(&rules);
        if let Some(first) = differences.first() {
            let what = match first {
                LockDifference::NotLocked(rule) => {
                    format!(
                        "job {} has the rule {rule}, which {file} does not have",
                        job.name
                    )
                }
                LockDifference::NotConfigured(rule) => {
                    format!(
                        "{file} has the rule {rule}, which job {} does not have",
                        job.name
                    )
                }
                _ => format!("{file} and job {} have different rules", job.name),
            };
            let more = match differences.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more differ"),
            };
            return Err(differs(format!("{what}{more}")));
        }
        Ok(rules
            .iter()
            .filter_map(|rule| lock.pins(rule))
            .flatten()
            .collect())
    }

    /// Explains a failure of a job: an image that a lock file pins may be gone.
    pub(crate) fn explained(&self, job: &Job<'_>, failure: Failure) -> Failure {
        if self.locked && failure.is(Exit::Access) {
            let file = self.lock_name();
            let name = job.name;
            failure.and(&format!(
                "{file} pins it; `stellaops mirror run {name} --lock {file}` selects anew"
            ))
        } else {
            failure
        }
    }
}

/// The outcomes of several jobs: each failure is logged, and the first one decides the exit code.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    failed: Vec<(JobName, Failure)>,
}

impl Failures {
    pub(crate) fn add(&mut self, job: &JobName, failure: Failure) {
        self.failed.push((job.clone(), failure));
    }

    /// Ends a command that went through `jobs` jobs.
    pub(crate) fn end(mut self, context: &Context, jobs: usize) -> Result<(), Failure> {
        if jobs == 1 {
            return self
                .failed
                .pop()
                .map_or(Ok(()), |(_, failure)| Err(failure));
        }
        let Some((_, first)) = self.failed.first() else {
            return Ok(());
        };
        let code = first.code();
        let mut names = Vec::new();
        for (name, failure) in self.failed {
            names.push(name.to_string());
            context.log.failure(&context.explained(failure));
        }
        let message = format!(
            "{} of {jobs} jobs did not succeed: {}",
            names.len(),
            names.join(", ")
        );
        Err(Failure::with_code(code, message))
    }
}
