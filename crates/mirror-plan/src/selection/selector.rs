use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{
    ErrorCode, MAX_FOREIGN_CHARS, Reference, Registry, SourceRepository, Tag, bounded,
};
use oci_referrers::{list_repositories, list_tags};
use registry_client::Client;

use super::dates::Dated;
use super::image_rule::ImageRule;
use super::repository_glob::RepositoryGlob;
use super::tag_rule::TagRule;
use super::verdict::{JudgedTag, TagVerdict};
use crate::error::{PlanError, PlanErrorKind, PlanRemedy};

/// The most tags of a repository that are read.
const MAX_TAGS: usize = 100_000;

/// The most tags that a selector holds, of all repositories.
const MAX_ALL_TAGS: usize = 1_000_000;

/// The most repositories of a catalog that are read.
const MAX_REPOSITORIES: usize = 100_000;

/// The number of repositories whose tags are listed at once.
const MAX_CONCURRENT_LISTINGS: usize = 8;

/// Applies rules to what registries list.
///
/// Each catalog and each repository is listed once in the life of a selector. A listing that fails
/// or breaks off is an error, and never a selection of less.
#[derive(Debug)]
pub struct Selector {
    client: Client,
    catalogs: BTreeMap<Registry, Vec<String>>,
    tags: BTreeMap<SourceRepository, Vec<Tag>>,
}

/// What a rule selects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Selected {
    /// The rule.
    pub rule: ImageRule,
    /// The images, each once: the newest first if the rule has an order, by repository.
    pub images: Vec<Reference>,
    /// The repositories whose tags the rule judged, by name; empty for a rule of one image.
    pub repositories: Vec<RepositoryTags>,
    /// What an operator should know about the selection, each a sentence.
    pub warnings: Vec<String>,
}

/// The tags of a repository, judged by a rule.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepositoryTags {
    /// The repository.
    pub repository: SourceRepository,
    /// Its tags: those that are selected first, the newest first.
    pub tags: Vec<JudgedTag>,
}

impl Selector {
    /// Creates a selector. Nothing is sent.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            catalogs: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Returns what each rule selects, in the order of the rules. A rule that selects nothing is not
    /// an error: it has no images, and a warning.
    ///
    /// # Errors
    ///
    /// When a catalog or the tags of a repository cannot be listed, a date that decides cannot be
    /// read, or there is too much of something; see [`PlanError::remedy`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends all requests. What was listed before is kept.
    pub async fn select(&mut self, rules: &[ImageRule]) -> Result<Vec<Selected>, PlanError> {
        for rule in rules {
            if let ImageRule::Repositories(glob, _) = rule {
                self.read_catalog(glob.registry()).await?;
            }
        }
        let about = rules.iter().map(|rule| self.repositories_of(rule));
        let about: Vec<_> = about.collect();
        let wanted = about.iter().flat_map(|(repositories, _)| repositories);
        self.read_tags(wanted.cloned().collect()).await?;
        let mut selected = Vec::with_capacity(rules.len());
        for (rule, (repositories, warnings)) in rules.iter().zip(about) {
            selected.push(self.judge(rule, repositories, warnings).await?);
        }
        Ok(selected)
    }

    async fn read_catalog(&mut self, registry: &Registry) -> Result<(), PlanError> {
        if self.catalogs.contains_key(registry) {
            return Ok(());
        }
        let listed = list_repositories(&self.client, registry, MAX_REPOSITORIES).await;
        let names = listed.map_err(|problem| {
            // A login page in place of a catalog is a registry without one.
            let kind = match problem.code {
                ErrorCode::TagListFailed => PlanErrorKind::Access,
                _ => PlanErrorKind::of_problem(&problem),
            };
            let what = format!("the repositories of {registry} could not be listed");
            PlanError::new(kind, what)
                .caused_by(problem)
                .with_remedy(PlanRemedy::NameRepositories)
        })?;
        self.catalogs.insert(registry.clone(), names);
        Ok(())
    }

    async fn read_tags(&mut self, mut wanted: BTreeSet<SourceRepository>) -> Result<(), PlanError> {
        wanted.retain(|repository| !self.tags.contains_key(repository));
        let mut held: usize = self.tags.values().map(Vec::len).sum();
        let client = &self.client;
        let reads = wanted.into_iter().map(|repository| async move {
            let client = client.repository(repository.registry(), repository.name());
            let listed = list_tags(&client, MAX_TAGS).await.map_err(|problem| {
                let kind = PlanErrorKind::of_problem(&problem);
                let what = format!("the tags of {repository} could not be listed");
                PlanError::new(kind, what)
                    .caused_by(problem)
                    .with_remedy(PlanRemedy::NameImages)
            })?;
            Ok::<_, PlanError>((repository, listed))
        });
        let mut reads = stream::iter(reads).buffer_unordered(MAX_CONCURRENT_LISTINGS);
        while let Some((repository, tags)) = reads.try_next().await? {
            held += tags.len();
            if held > MAX_ALL_TAGS {
                let message = format!(
                    "the rules are about more than {MAX_ALL_TAGS} tags; select fewer repositories"
                );
                return Err(PlanError::new(PlanErrorKind::Limit, message));
            }
            self.tags.insert(repository, tags);
        }
        Ok(())
    }

    /// Returns the repositories that a rule is about, and warnings.
    fn repositories_of(&self, rule: &ImageRule) -> (Vec<SourceRepository>, Vec<String>) {
        match rule {
            ImageRule::Image(_) => (Vec::new(), Vec::new()),
            ImageRule::Repository(repository, _) => (vec![repository.clone()], Vec::new()),
            ImageRule::Repositories(glob, _) => self.matching(glob),
        }
    }

    fn matching(&self, glob: &RepositoryGlob) -> (Vec<SourceRepository>, Vec<String>) {
        let (mut found, mut warnings) = (Vec::new(), Vec::new());
        let names = self.catalogs.get(glob.registry()).into_iter().flatten();
        for name in names.filter(|name| glob.matches(name)) {
            match name.parse() {
                Ok(name) => found.push(SourceRepository::new(glob.registry().clone(), name)),
                Err(_) => warnings.push(format!(
                    "{glob} matches {:?}, which is not the name of a repository; it is not mirrored",
                    bounded(name, MAX_FOREIGN_CHARS)
                )),
            }
        }
        found.sort();
        (found, warnings)
    }

    async fn judge(
        &self,
        rule: &ImageRule,
        repositories: Vec<SourceRepository>,
        warnings: Vec<String>,
    ) -> Result<Selected, PlanError> {
        let mut selected = Selected {
            rule: rule.clone(),
            images: Vec::new(),
            repositories: Vec::new(),
            warnings,
        };
        let Some(tags) = rule.tags() else {
            if let ImageRule::Image(image) = rule {
                selected.images.push(image.clone());
            }
            return Ok(selected);
        };
        let (mut looked_at, count) = (0, repositories.len());
        for repository in repositories {
            let judged = self
                .judge_tags(&repository, tags, &mut selected.warnings)
                .await?;
            looked_at += judged.len();
            let chosen = judged
                .iter()
                .filter(|judged| judged.verdict == TagVerdict::Selected);
            selected.images.extend(chosen.map(|judged| {
                let (registry, name) = (repository.registry().clone(), repository.name().clone());
                Reference::with_tag(registry, name, judged.tag.clone())
            }));
            selected.repositories.push(RepositoryTags {
                repository,
                tags: judged,
            });
        }
        if selected.images.is_empty() {
            let of = match rule {
                ImageRule::Repositories(..) => format!(" in {count} repositories"),
                _ => String::new(),
            };
            let warning = format!("{rule} selects nothing: none of {looked_at} tags{of}");
            selected.warnings.push(warning);
        }
        Ok(selected)
    }

    async fn judge_tags(
        &self,
        repository: &SourceRepository,
        rule: &TagRule,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<JudgedTag>, PlanError> {
        let tags = self
            .tags
            .get(repository)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let candidates = rule.to_date(tags);
        if candidates.is_empty() {
            return Ok(rule.judge(tags.iter().cloned(), &BTreeMap::new()));
        }
        let client = self
            .client
            .repository(repository.registry(), repository.name());
        let dated = Dated::read(&client, candidates).await?;
        let there = tags.iter().filter(|tag| !dated.vanished.contains(*tag));
        let mut judged = rule.judge(there.cloned(), &dated.dates);
        judged.extend(dated.vanished.into_iter().map(|tag| JudgedTag {
            tag,
            verdict: TagVerdict::Vanished,
        }));
        let undated = dated.dates.values().filter(|date| date.is_none()).count();
        if undated > 0 {
            warnings.push(format!(
                "{undated} of the {} tags of {repository} whose dates were read have none, and count as the oldest",
                dated.dates.len()
            ));
        }
        Ok(judged)
    }
}
