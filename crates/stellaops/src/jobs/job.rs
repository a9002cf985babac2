//! A job of the configuration that goes to a registry or a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use mirror_import::{
    ImportErrorKind, ImportRemedy, LayoutTarget, Mapping, MirrorError, RegistryTarget, Target,
};
use mirror_plan::{ImageRule, JobLock, JobName, PlanRequest, Selected, Selector};
use oci_content::{Digest, ImageSource, Reference, with_causes};

use crate::arguments::policy;
use crate::config::{JobConfig, MirrorTo};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;
use crate::planning;
use crate::selection;

/// A job that goes to a registry or a folder.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) name: &'a JobName,
    pub(crate) config: &'a JobConfig,
    pub(crate) to: &'a MirrorTo,
}

/// What a job mirrors now.
#[derive(Debug)]
pub(crate) struct Choice {
    /// What each rule selects; empty if the images come from a lock file.
    pub(crate) selected: Vec<Selected>,
    /// The images, each once.
    pub(crate) images: Vec<Reference>,
}

impl Choice {
    pub(crate) fn of(selected: Vec<Selected>, mut images: Vec<Reference>) -> Self {
        let mut seen = BTreeSet::new();
        images.retain(|image| seen.insert(image.clone()));
        Self { selected, images }
    }
}

impl Job<'_> {
    /// Returns what the rules select now.
    pub(crate) async fn select(
        &self,
        context: &Context,
        selector: &mut Selector,
    ) -> Result<Choice, Failure> {
        let selected = selection::select(context, selector, &self.config.images).await?;
        let images = selected.iter().flat_map(|rule| &rule.images);
        let images = images.cloned().collect();
        Ok(Choice::of(selected, images))
    }

    pub(crate) fn rules(&self) -> Vec<ImageRule> {
        let entries = self.config.images.iter();
        entries.map(|entry| entry.rule.clone()).collect()
    }

    /// Returns where the job puts its images, and how repositories are named there.
    pub(crate) fn target(&self, context: &Context) -> (Arc<dyn Target>, Mapping) {
        let mut mapping = Mapping::default();
        let target: Arc<dyn Target> = match self.to {
            MirrorTo::Registry(to) => {
                mapping.clone_from(&to.mapping);
                let registry = to.registry.clone();
                let target = RegistryTarget::new(context.client.clone(), registry);
                Arc::new(target.manifest_cache(context.manifest_cache()))
            }
            MirrorTo::Layout(folder) => {
                Arc::new(LayoutTarget::new(folder).with_gaps(context.gaps.clone()))
            }
        };
        (target, mapping)
    }

    /// Returns what is asked of the source.
    pub(crate) fn request(
        &self,
        context: &Context,
        images: Vec<Reference>,
    ) -> Result<PlanRequest, Failure> {
        let images = images.into_iter().map(ImageSource::from).collect();
        let mut request = planning::mirror_request(context, images);
        request.platforms.clone_from(&self.config.platforms);
        if let Some(path) = &self.config.policy {
            let name = format!(
                "configuration: jobs: {}: policy {}",
                self.name,
                path.display()
            );
            request.policy = Some((policy::of_file(path, &name)?, SystemTime::now()));
        }
        self.check_prefixes(&request.images)?;
        Ok(request)
    }

    /// Refuses a target whose repositories the rules select from: each run would mirror what the one before made.
    fn check_prefixes(&self, images: &[Reference]) -> Result<(), Failure> {
        let MirrorTo::Registry(to) = self.to else {
            return Ok(());
        };
        let Some(prefix) = &to.mapping.prefix else {
            return Ok(());
        };
        let below = |image: &&Reference| {
            let name = image.repository().as_str();
            let rest = name.strip_prefix(prefix.as_str());
            image.registry().is_same(&to.registry)
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match images.iter().find(below) {
            Some(image) => {
                let message = format!(
                    "job {}: {image} is below the target {}/{prefix}, so each run would mirror what the one before made; \
                     leave it out, or choose another prefix",
                    self.name, to.registry
                );
                Err(Failure::new(Exit::Usage, message))
            }
            None => Ok(()),
        }
    }
}

/// Pins what rules select to the digests of the images.
pub(crate) fn pinned<'a>(
    selected: &[Selected],
    digests: impl IntoIterator<Item = (&'a Reference, &'a Digest)>,
) -> JobLock {
    let digests: BTreeMap<_, _> = digests.into_iter().collect();
    let mut lock = JobLock::new();
    for selected in selected {
        lock.add_rule(&selected.rule);
        for image in &selected.images {
            if let Some(digest) = digests.get(image) {
                lock.pin(&selected.rule, image, (*digest).clone());
            }
        }
    }
    lock
}

/// Returns the failure of a job, with what to write in the configuration.
pub(crate) fn failure(error: &MirrorError) -> Failure {
    match error {
        MirrorError::Incomplete(_) => {
            Failure::new(Exit::Incomplete, error.to_string()).and("nothing was sent")
        }
        MirrorError::Import(error) => match error.remedy() {
            Some(ImportRemedy::Map(from)) => Failure::new(Exit::Usage, with_causes(error)).and(
                &format!("`keep_host: true` in `to` does that, or `map: [\"{from}=REPOSITORY\"]`"),
            ),
            _ if error.kind() == ImportErrorKind::Unavailable => {
                Failure::new(Exit::Incomplete, with_causes(error))
            }
            _ => failure::of_import(error),
        },
        _ => failure::of_mirror(error),
    }
}
