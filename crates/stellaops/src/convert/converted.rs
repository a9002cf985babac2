use std::collections::BTreeMap;

use oci_content::{Platform, ReferenceError, Registry, RepositoryName};

use super::names::{self, ImageName};
use super::note::Note;

/// How many characters of a target become the name of a job, which may have a few more.
const MAX_NAME: usize = 56;

/// What a peer's file says in terms of our configuration.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(super) registries: BTreeMap<Registry, RegistryEntry>,
    pub(super) jobs: Vec<Job>,
    pub(crate) notes: Vec<Note>,
}

/// The settings of a registry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RegistryEntry {
    pub(super) plain_http: bool,
    pub(super) insecure_skip_verify: bool,
    pub(super) max_in_flight: Option<u64>,
    pub(super) requests_per_second: Option<u64>,
    pub(super) ca_file: Option<String>,
    pub(super) client: Option<(String, String)>,
}

/// What a job has in common with no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JobKey {
    /// The registry of the target; `None` if the file names none.
    pub(super) registry: Option<Registry>,
    pub(super) prefix: String,
    pub(super) platforms: Vec<String>,
    pub(super) schedule: Option<Schedule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) cron: String,
    pub(super) time_zone: Option<String>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) key: JobKey,
    pub(super) images: Vec<ImageEntry>,
    /// Renames of repositories that the prefix alone does not place.
    pub(super) map: BTreeMap<String, String>,
    /// The source of each repository at the target, and the reverse.
    by_target: BTreeMap<String, String>,
    by_source: BTreeMap<String, String>,
}

/// An entry of `images`, with what is to be said about it.
#[derive(Debug)]
pub(super) struct ImageEntry {
    pub(super) selects: Selects,
    pub(super) tags: TagRule,
    pub(super) notes: Vec<Note>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selects {
    Reference(String),
    Repository(String),
    Repositories(String),
}

/// Which tags are selected; all where nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TagRule {
    pub(super) semver: Option<String>,
    pub(super) regex: Option<String>,
    pub(super) exclude: Option<String>,
}

impl Converted {
    /// Adds an entry to the job for `key`; `place` is its source and its target repository, if they are known.
    ///
    /// Two repositories that meet at the target go into different jobs, since one job refuses that.
    pub(super) fn add(
        &mut self,
        mut key: JobKey,
        place: Option<(&ImageName, &RepositoryName)>,
        entry: ImageEntry,
    ) {
        let mut rename = None;
        if let Some((source, target)) = place {
            match names::prefix(&source.repository, target) {
                Some(prefix) => key.prefix = prefix,
                None => rename = Some((source.source(), target.to_string())),
            }
        }
        let placed = place.map(|(source, target)| (source.source(), target.to_string()));
        let meets = |job: &Job| placed.as_ref().is_some_and(|placed| job.meets(placed));
        let found = self
            .jobs
            .iter()
            .position(|job| job.key == key && !meets(job));
        let at = found.unwrap_or_else(|| {
            self.jobs.push(Job {
                name: self.free_name(&key),
                key,
                images: Vec::new(),
                map: BTreeMap::new(),
                by_target: BTreeMap::new(),
                by_source: BTreeMap::new(),
            });
            self.jobs.len() - 1
        });
        let job = &mut self.jobs[at];
        job.map.extend(rename);
        if let Some((source, target)) = placed {
            job.by_target.insert(target.clone(), source.clone());
            job.by_source.insert(source, target);
        }
        let same = |known: &ImageEntry| {
            known.selects == entry.selects && known.tags == entry.tags && entry.notes.is_empty()
        };
        if !job.images.iter().any(same) {
            job.images.push(entry);
        }
    }

    /// Names a job after its target.
    fn free_name(&self, key: &JobKey) -> String {
        let target = key.registry.as_ref().map_or("mirror", Registry::as_str);
        let text = format!("{target}/{}", key.prefix);
        let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = text.chars().map(word).collect();
        let name: String = name.trim_matches('-').chars().take(MAX_NAME).collect();
        let is_free = |name: &str| self.jobs.iter().all(|job| job.name != name);
        if is_free(&name) {
            return name;
        }
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        numbered
            .into_iter()
            .find(|name| is_free(name))
            .unwrap_or(name)
    }

    /// Returns the settings of a registry, to be added to.
    pub(super) fn registry(&mut self, registry: Registry) -> &mut RegistryEntry {
        self.registries.entry(registry).or_default()
    }
}

impl JobKey {
    /// Returns where a repository goes; an error if the name would be too long.
    pub(super) fn below(&self, repository: &str) -> Result<RepositoryName, ReferenceError> {
        let name = format!("{}/{repository}", self.prefix);
        name.trim_start_matches('/').parse()
    }
}

impl Job {
    /// Returns whether the job has another source for this target, or another target for this source.
    fn meets(&self, (source, target): &(String, String)) -> bool {
        let other = |known: Option<&String>, wanted| known.is_some_and(|known| known != wanted);
        other(self.by_target.get(target), source) || other(self.by_source.get(source), target)
    }
}

/// Parses platforms into a sorted list.
pub(super) fn platforms<T: AsRef<str>>(texts: &[(usize, T)]) -> Result<Vec<String>, String> {
    let parse = |(line, text): &(usize, T)| {
        let text = text.as_ref();
        let platform = Platform::parse(text).map(|platform| platform.to_string());
        platform.ok_or_else(|| format!("platform {text:?} of line {line} is not OS/ARCH"))
    };
    let mut platforms = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    platforms.sort();
    platforms.dedup();
    Ok(platforms)
}
