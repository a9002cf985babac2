use std::collections::{BTreeMap, BTreeSet};

use bundle_format::{DiscoveryRecord, ImageRecord, SourceRepository};
use oci_content::{Descriptor, Digest, Reference, RepositoryName, Tag};

use super::error::{ImportError, ImportErrorKind};
use super::mapping::Mapping;
use super::source::BundleSource;

/// Everything that an import will send, repository by repository. Making one has no effect.
#[derive(Debug)]
#[non_exhaustive]
pub struct ImportPlan {
    /// By repository at the target.
    pub repositories: BTreeMap<RepositoryName, RepositoryPlan>,
}

/// What goes into one repository.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RepositoryPlan {
    /// The images, with the tag that each gets.
    pub images: Vec<(Reference, Digest, Option<Tag>)>,
    /// The blobs with their sizes.
    pub blobs: BTreeMap<Digest, u64>,
    /// The blobs that the bundle leaves out because its base holds them, with their sizes; the target has to have them.
    pub left_out: BTreeMap<Digest, u64>,
    /// The manifests in waves: what is in one wave needs only what is in earlier ones. Images go first, children
    /// before those that list them; then referrers, a subject before what refers to it.
    pub waves: Vec<Vec<Digest>>,
    /// The edges that a discovery must find again: subject, referrer, legacy tag.
    pub edges: BTreeSet<(Digest, Digest, Option<Tag>)>,
    /// The subjects whose referrers are looked for, the images and their children.
    pub roots: BTreeSet<Digest>,
    /// The descriptors of all manifests, as a referrers list carries them.
    pub descriptors: BTreeMap<Digest, Descriptor>,
    /// Children of an index that BuildKit keeps there: no subjects.
    attestations: BTreeSet<Digest>,
}

impl ImportPlan {
    /// Reads every manifest that the bundle lists and decides what goes where.
    ///
    /// # Errors
    ///
    /// When two sources meet in one repository, or the bundle cannot be read.
    pub(super) fn new(bundle: &BundleSource, mapping: &Mapping) -> Result<Self, ImportError> {
        let manifest = bundle.manifest();
        let mut sources: BTreeMap<SourceRepository, Source<'_>> = BTreeMap::new();
        for image in &manifest.images {
            sources
                .entry(SourceRepository::from(&image.reference))
                .or_default()
                .images
                .push(image);
        }
        for record in &manifest.discovery {
            sources
                .entry(record.repository.clone())
                .or_default()
                .discovery
                .push(record);
        }
        let mut targets: BTreeMap<RepositoryName, SourceRepository> = BTreeMap::new();
        let mut plan = Self {
            repositories: BTreeMap::new(),
        };
        for (name, source) in sources {
            let target = mapping.target(&name)?;
            if let Some(other) = targets.insert(target.clone(), name.clone()) {
                let message = format!(
                    "{other} and {name} would both go into {target}; keep them apart with --keep-host, or with \
                     --map {name}=REPOSITORY"
                );
                return Err(ImportError::new(ImportErrorKind::Usage, message));
            }
            let mut repository = RepositoryPlan::default();
            repository.fill(bundle, &source)?;
            plan.repositories.insert(target, repository);
        }
        Ok(plan)
    }

    /// Returns the number of edges that the bundle holds.
    pub fn referrers(&self) -> usize {
        self.repositories
            .values()
            .map(|repository| repository.edges.len())
            .sum()
    }
}

/// What the bundle has of one repository.
#[derive(Default)]
struct Source<'b> {
    images: Vec<&'b ImageRecord>,
    discovery: Vec<&'b DiscoveryRecord>,
}

impl RepositoryPlan {
    fn fill(&mut self, bundle: &BundleSource, source: &Source<'_>) -> Result<(), ImportError> {
        let mut seen = BTreeSet::new();
        for image in &source.images {
            let omitted: BTreeSet<&Digest> =
                image.omitted.iter().map(|child| &child.digest).collect();
            self.images.push((
                image.reference.clone(),
                image.digest.clone(),
                image.reference.tag().cloned(),
            ));
            let mut waves = Vec::new();
            self.walk(bundle, &image.digest, &omitted, &mut seen, &mut waves)?;
            let subjects = waves
                .iter()
                .flatten()
                .filter(|digest| !self.attestations.contains(digest));
            self.roots.extend(subjects.cloned());
            self.roots.insert(image.digest.clone());
            add_waves(&mut self.waves, 0, waves);
        }
        for record in &source.discovery {
            for artifact in &record.artifacts {
                self.edges.insert((
                    record.subject.clone(),
                    artifact.digest.clone(),
                    artifact.tag.clone(),
                ));
            }
        }
        let referrers: BTreeSet<&Digest> =
            self.edges.iter().map(|(_, referrer, _)| referrer).collect();
        let subjects = self.edges.iter().map(|(subject, _, _)| subject);
        let unreached: Vec<Digest> = subjects
            .filter(|subject| !referrers.contains(subject))
            .cloned()
            .collect();
        self.roots.extend(unreached);
        for level in self.subjects_first() {
            let start = self.waves.len();
            for digest in level {
                let mut waves = Vec::new();
                self.walk(bundle, &digest, &BTreeSet::new(), &mut seen, &mut waves)?;
                add_waves(&mut self.waves, start, waves);
            }
        }
        Ok(())
    }

    /// Returns the number of manifests.
    pub fn manifests(&self) -> usize {
        self.waves.iter().map(Vec::len).sum()
    }

    /// Orders the referrers so that a subject goes before what refers to it: some registries refuse a referrer
    /// without its subject.
    fn subjects_first(&self) -> Vec<Vec<Digest>> {
        let mut below: BTreeMap<&Digest, Vec<&Digest>> = BTreeMap::new();
        let mut referrers = BTreeSet::new();
        for (subject, referrer, _) in &self.edges {
            below.entry(subject).or_default().push(referrer);
            referrers.insert(referrer);
        }
        let mut level: Vec<&Digest> = below
            .keys()
            .copied()
            .filter(|subject| !referrers.contains(subject))
            .collect();
        let mut levels: Vec<Vec<Digest>> = Vec::new();
        let mut placed = BTreeSet::new();
        while !level.is_empty() {
            let next: Vec<&Digest> = level
                .iter()
                .filter_map(|subject| below.get(subject))
                .flatten()
                .copied()
                .collect();
            level = next
                .into_iter()
                .filter(|referrer| placed.insert(*referrer))
                .collect();
            levels.push(level.iter().copied().cloned().collect());
        }
        // What only refers to itself in a circle, by the names of legacy tags, goes last.
        levels.push(
            referrers
                .into_iter()
                .filter(|referrer| !placed.contains(referrer))
                .cloned()
                .collect(),
        );
        levels
    }

    /// Notes a manifest with all that it needs, and returns how many waves it takes: one more than its children.
    fn walk(
        &mut self,
        bundle: &BundleSource,
        digest: &Digest,
        omitted: &BTreeSet<&Digest>,
        seen: &mut BTreeSet<Digest>,
        waves: &mut Vec<Vec<Digest>>,
    ) -> Result<usize, ImportError> {
        if !seen.insert(digest.clone()) {
            return Ok(0);
        }
        let manifest = bundle.read_manifest(digest)?;
        let mut wave = 0;
        for child in manifest
            .children()
            .iter()
            .filter(|child| !omitted.contains(&child.digest))
        {
            if child.is_buildkit_attestation() {
                self.attestations.insert(child.digest.clone());
            }
            wave = wave.max(self.walk(bundle, &child.digest, omitted, seen, waves)?);
        }
        for blob in manifest.blobs() {
            let blobs = match bundle.leaves_out(&blob.digest) {
                true => &mut self.left_out,
                false => &mut self.blobs,
            };
            blobs.insert(blob.digest.clone(), blob.size);
        }
        self.descriptors
            .insert(digest.clone(), manifest.descriptor());
        if waves.len() <= wave {
            waves.resize(wave + 1, Vec::new());
        }
        waves[wave].push(digest.clone());
        Ok(wave + 1)
    }
}

/// Puts waves beside those that begin at `start`.
fn add_waves(all: &mut Vec<Vec<Digest>>, start: usize, waves: Vec<Vec<Digest>>) {
    for (offset, wave) in waves.into_iter().enumerate() {
        match all.get_mut(start + offset) {
            Some(known) => known.extend(wave),
            None => all.push(wave),
        }
    }
}
