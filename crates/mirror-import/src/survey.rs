use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_content::{Digest, Reference, RepositoryName, Tag};

use crate::error::{ImportError, ImportErrorKind};
use crate::importer::Importer;
use crate::plan::{ImportPlan, RepositoryPlan};
use crate::proof::Comparison;
use crate::report::MissingReferrer;
use crate::sequence::answers_for_all;
use crate::source::Source;
use crate::target::{Check, Entry, Holding, Target};

/// What a target has of a graph, found without changing anything.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Survey {
    /// The name of the target.
    pub target: String,
    /// The images, by repository at the target.
    pub images: Vec<SurveyedImage>,
    /// The referrers that the target does not list, or does not have under their legacy tag.
    pub referrers: Vec<MissingReferrer>,
    /// The number of referrers in the graph, counted once for each subject.
    pub referrers_expected: usize,
    /// The number of manifests that the target does not have, each counted once for each
    /// repository.
    pub manifests: usize,
    /// The number of blobs that the target does not have, or has with another size, each counted
    /// once for each repository.
    pub blobs: usize,
    /// The sizes of those blobs.
    pub blob_bytes: u64,
}

/// An image, and what the target has under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurveyedImage {
    /// The name of the image at the source.
    pub source: Reference,
    /// The name of the image at the target.
    pub target: String,
    /// The repository at the target.
    pub repository: RepositoryName,
    /// The digest of the image.
    pub digest: Digest,
    /// What its name is at the target; `None` if there is no such name.
    pub held: Option<Digest>,
}

impl Survey {
    /// Returns whether an import would have something to do.
    pub fn has_work(&self) -> bool {
        let is_there = |image: &SurveyedImage| image.held.as_ref() == Some(&image.digest);
        self.blobs + self.manifests + self.referrers.len() > 0 || !self.images.iter().all(is_there)
    }
}

impl Importer {
    /// Compares the graph of `source` with what the target has: names, manifests and blobs by their
    /// size, and referrers by the discovery that proves an import. Nothing is changed.
    ///
    /// # Errors
    ///
    /// When two sources would meet at the target, or the target does not answer all questions: what
    /// could not be asked is not missing.
    pub async fn survey(&self, source: Arc<dyn Source>) -> Result<Survey, ImportError> {
        let plan = ImportPlan::new(&*source, self.mapping()).await?;
        let target = self.target();
        let mut survey = Survey {
            target: target.name(),
            images: Vec::new(),
            referrers: Vec::new(),
            referrers_expected: plan.referrers(),
            manifests: 0,
            blobs: 0,
            blob_bytes: 0,
        };
        let entries = plan.entries(false);
        let answers = target.held(&entries, Check::Size).await;
        answers_for_all("held", entries.len(), answers.len())?;
        let mut names: BTreeMap<RepositoryName, Names> = BTreeMap::new();
        for (entry, held) in entries.into_iter().zip(answers) {
            let names = names.entry(entry.repository.clone()).or_default();
            names.add(target, entry, held?, &mut survey.images);
        }
        for (name, plan) in &plan.repositories {
            let names = names.remove(name).unwrap_or_default();
            survey.repository(target, name, plan, &names).await?;
        }
        Ok(survey)
    }
}

/// What the target has under the names of a repository.
#[derive(Default)]
struct Names {
    /// Whether it has any of them.
    any: bool,
    /// The legacy tags that do not name their referrer.
    wrong_tags: BTreeSet<Tag>,
}

impl Names {
    fn add(
        &mut self,
        target: &dyn Target,
        entry: Entry,
        held: Option<Digest>,
        images: &mut Vec<SurveyedImage>,
    ) {
        self.any |= held.is_some();
        let digest = entry.descriptor.digest.clone();
        if entry.is_image {
            let name = target.entry_name(&entry);
            images.extend(entry.source.map(|source| SurveyedImage {
                source,
                target: name,
                repository: entry.repository,
                digest,
                held,
            }));
        } else if held != Some(digest) {
            self.wrong_tags.extend(entry.tag);
        }
    }
}

impl Survey {
    async fn repository(
        &mut self,
        target: &dyn Target,
        name: &RepositoryName,
        plan: &RepositoryPlan,
        names: &Names,
    ) -> Result<(), ImportError> {
        let blobs = plan.blobs.iter().chain(&plan.left_out);
        if !names.any {
            // A repository without any of the names may not exist, and need not be asked about more.
            self.manifests += plan.descriptors.len();
            self.blobs += plan.blobs.len();
            self.blob_bytes += plan.blobs.values().sum::<u64>();
            let edges = plan.edges.iter();
            self.referrers
                .extend(edges.map(|edge| MissingReferrer::new(name, edge)));
            return Ok(());
        }
        let at_once = target.profile().max_concurrent.get();
        let mut answers = stream::iter(blobs)
            .map(|(digest, size)| async move {
                let holding = target.blob(name, digest, *size, Check::Size).await?;
                Ok::<_, ImportError>((holding, *size))
            })
            .buffer_unordered(at_once)
            .boxed();
        while let Some((holding, size)) = answers.try_next().await? {
            if holding != Holding::Whole {
                self.blobs += 1;
                self.blob_bytes += size;
            }
        }
        drop(answers);
        let comparison = Comparison::of(name, plan, &target.discovery(name, Check::Size)?).await;
        let found = comparison.found().map(|(_, referrer, _)| referrer);
        let found: BTreeSet<&Digest> = found.collect();
        let left = plan.descriptors.iter();
        let left = left.filter(|(digest, _)| !found.contains(*digest));
        let mut answers =
            stream::iter(left)
                .map(|(_, manifest)| async move {
                    target.has_manifest(name, manifest, Check::Size).await
                })
                .buffer_unordered(at_once)
                .boxed();
        while let Some(has) = answers.try_next().await? {
            self.manifests += usize::from(!has);
        }
        drop(answers);
        let (mut missing, reasons) = comparison.missing();
        if let Some(reason) = reasons.first()
            && !missing.is_empty()
        {
            let target = &self.target;
            let message =
                format!("the referrers in {name} at {target} could not be settled: {reason}");
            return Err(ImportError::new(ImportErrorKind::Incomplete, message));
        }
        let missed: BTreeSet<(Digest, Digest)> = missing
            .iter()
            .map(|edge| (edge.subject.clone(), edge.referrer.clone()))
            .collect();
        for edge in &plan.edges {
            let (subject, referrer, tag) = edge;
            let is_wrong = tag
                .as_ref()
                .is_some_and(|tag| names.wrong_tags.contains(tag));
            if is_wrong && !missed.contains(&(subject.clone(), referrer.clone())) {
                missing.push(MissingReferrer::new(name, edge));
            }
        }
        self.referrers.extend(missing);
        Ok(())
    }
}
