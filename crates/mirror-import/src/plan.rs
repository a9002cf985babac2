use std::collections::{BTreeMap, BTreeSet, HashMap};

use oci_content::{Descriptor, Digest, Reference, RepositoryName, Tag};
use oci_content::{DiscoveryRecord, ImageRecord, SourceRepository};

use crate::error::{ImportError, ImportErrorKind, ImportRemedy};
use crate::mapping::Mapping;
use crate::source::Source as Objects;
use crate::target::Entry;

/// Everything that an import will send, by repository. Making a plan has no effect on the target.
#[derive(Debug)]
pub(crate) struct ImportPlan {
    /// By repository at the target.
    pub(crate) repositories: BTreeMap<RepositoryName, RepositoryPlan>,
    /// The repository at the source of each repository at the target.
    pub(crate) sources: BTreeMap<RepositoryName, SourceRepository>,
}

/// A referrer: its subject, its digest, and the legacy tag that names it, if one does.
pub(crate) type Edge = (Digest, Digest, Option<Tag>);

/// What goes into one repository.
#[derive(Debug, Default)]
pub(crate) struct RepositoryPlan {
    /// The images, with the tag that each gets.
    pub(crate) images: Vec<(Reference, Digest, Option<Tag>)>,
    /// The blobs with their sizes.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    /// The blobs that the bundle leaves out because its base holds them, with their sizes; the
    /// target must have them.
    pub(crate) left_out: BTreeMap<Digest, u64>,
    /// The manifests in waves: a manifest needs only those of earlier waves. The order covers the
    /// whole graph, across images: children before the manifests that list them, subjects before
    /// their referrers.
    pub(crate) waves: Vec<Vec<Digest>>,
    /// The edges that a discovery must find again, sorted, each once.
    pub(crate) edges: Vec<Edge>,
    /// The subjects whose referrers the proof looks for: the images and their children.
    pub(crate) roots: BTreeSet<Digest>,
    /// The descriptors of all manifests, as a referrers list carries them.
    pub(crate) descriptors: BTreeMap<Digest, Descriptor>,
    /// Attestations that BuildKit keeps in an index; they are not subjects.
    attestations: BTreeSet<Digest>,
}

impl ImportPlan {
    /// Reads every manifest that the bundle lists and decides what goes where.
    ///
    /// # Errors
    ///
    /// When two sources meet in one repository, or the bundle cannot be read.
    pub(crate) async fn new(source: &dyn Objects, mapping: &Mapping) -> Result<Self, ImportError> {
        let graph = source.graph();
        let mut sources: BTreeMap<SourceRepository, Held<'_>> = BTreeMap::new();
        for image in &graph.images {
            sources
                .entry(SourceRepository::from(&image.reference))
                .or_default()
                .images
                .push(image);
        }
        for record in &graph.discovery {
            sources
                .entry(record.repository.clone())
                .or_default()
                .discovery
                .push(record);
        }
        let mut plan = Self {
            repositories: BTreeMap::new(),
            sources: BTreeMap::new(),
        };
        for (name, held) in sources {
            let target = mapping.target(&name)?;
            if let Some(other) = plan.sources.insert(target.clone(), name.clone()) {
                let message = format!(
                    "{other} and {name} would both go into {target}, and have to be kept apart"
                );
                let error = ImportError::new(ImportErrorKind::Usage, message);
                return Err(error.with_remedy(ImportRemedy::Map(name)));
            }
            let mut repository = RepositoryPlan::default();
            repository.fill(source, &held).await?;
            plan.repositories.insert(target, repository);
        }
        Ok(plan)
    }

    /// Returns what is published, by repository: the referrers with their legacy tags, then the
    /// images, whose tags appear last.
    ///
    /// Referrers without a legacy tag are left out unless `untagged` is set: there can be very many.
    pub(crate) fn entries(&self, untagged: bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, plan) in &self.repositories {
            let source = plan.images.first().map(|(source, _, _)| source.clone());
            let entry =
                |digest: &Digest| Entry::new(name.clone(), plan.descriptors[digest].clone());
            let edges = plan.edges.iter();
            for (_, referrer, tag) in edges.filter(|(_, _, tag)| untagged || tag.is_some()) {
                let mut entry = entry(referrer);
                entry.source.clone_from(&source);
                entry.tag.clone_from(tag);
                entries.push(entry);
            }
            entries.extend(plan.images(name));
        }
        entries
    }

    /// Returns the images, by repository.
    pub(crate) fn images(&self) -> impl Iterator<Item = Entry> {
        let repositories = self.repositories.iter();
        repositories.flat_map(|(name, plan)| plan.images(name))
    }

    /// Returns the number of edges in the graph.
    pub(crate) fn referrers(&self) -> usize {
        self.repositories
            .values()
            .map(|repository| repository.edges.len())
            .sum()
    }
}

/// What the source has of one repository.
#[derive(Default)]
struct Held<'b> {
    images: Vec<&'b ImageRecord>,
    discovery: Vec<&'b DiscoveryRecord>,
}

impl RepositoryPlan {
    fn images(&self, name: &RepositoryName) -> impl Iterator<Item = Entry> {
        self.images.iter().map(|(source, digest, tag)| {
            let mut entry = Entry::new(name.clone(), self.descriptors[digest].clone());
            entry.source = Some(source.clone());
            entry.tag.clone_from(tag);
            entry.is_image = true;
            entry
        })
    }

    async fn fill(&mut self, source: &dyn Objects, held: &Held<'_>) -> Result<(), ImportError> {
        let mut needs = Needs::new();
        // What an image omits is nowhere in the bundle, and such an image can be a referrer.
        let images = source.graph().images.iter();
        let omitted: BTreeSet<&Digest> = images
            .flat_map(|image| &image.omitted)
            .map(|child| &child.digest)
            .collect();
        for image in &held.images {
            self.images.push((
                image.reference.clone(),
                image.digest.clone(),
                image.reference.tag().cloned(),
            ));
            let reached = self
                .walk(source, &image.digest, &omitted, &mut needs)
                .await?;
            self.roots.extend(reached);
            self.roots.insert(image.digest.clone());
        }
        let attestations = &self.attestations;
        let images: BTreeSet<&Digest> = held.images.iter().map(|image| &image.digest).collect();
        self.roots
            .retain(|root| !attestations.contains(root) || images.contains(root));
        for record in &held.discovery {
            for artifact in &record.artifacts {
                self.edges.push((
                    record.subject.clone(),
                    artifact.digest.clone(),
                    artifact.tag.clone(),
                ));
            }
        }
        self.edges.sort_unstable();
        self.edges.dedup();
        self.edges.shrink_to_fit();
        let referrers: BTreeSet<&Digest> =
            self.edges.iter().map(|(_, referrer, _)| referrer).collect();
        let subjects = self.edges.iter().map(|(subject, _, _)| subject);
        let unreached: Vec<Digest> = subjects
            .filter(|subject| !referrers.contains(subject))
            .cloned()
            .collect();
        let referrers: Vec<Digest> = referrers.into_iter().cloned().collect();
        for digest in &referrers {
            self.walk(source, digest, &omitted, &mut needs).await?;
        }
        self.roots.extend(unreached);
        // What a legacy tag names need not have a `subject`.
        for (subject, referrer, _) in &self.edges {
            if let Some(need) = needs.get_mut(referrer)
                && !need.needed.contains(subject)
            {
                need.named.push(subject.clone());
            }
        }
        self.waves = waves(&needs);
        Ok(())
    }

    /// Adds a manifest and everything that it lists, to any depth, and returns the digests of all
    /// of them.
    ///
    /// A manifest that several walks reach is read once.
    async fn walk(
        &mut self,
        source: &dyn Objects,
        root: &Digest,
        omitted: &BTreeSet<&Digest>,
        needs: &mut Needs,
    ) -> Result<BTreeSet<Digest>, ImportError> {
        let mut reached = BTreeSet::from([root.clone()]);
        let mut left = vec![root.clone()];
        while let Some(digest) = left.pop() {
            if !needs.contains_key(&digest) {
                needs.insert(digest.clone(), self.read(source, &digest).await?);
            }
            for child in &needs[&digest].children {
                if !omitted.contains(child) && reached.insert(child.clone()) {
                    left.push(child.clone());
                }
            }
        }
        Ok(reached)
    }

    /// Reads a manifest and adds the blobs that it needs.
    async fn read(&mut self, source: &dyn Objects, digest: &Digest) -> Result<Need, ImportError> {
        let manifest = source.manifest(digest).await?;
        let mut need = Need::default();
        need.needed
            .extend(manifest.subject().map(|subject| subject.digest.clone()));
        for child in manifest.children() {
            if child.is_buildkit_attestation() {
                self.attestations.insert(child.digest.clone());
            }
            need.children.push(child.digest.clone());
            need.needed.push(child.digest.clone());
        }
        for blob in manifest.blobs() {
            let blobs = if source.leaves_out(&blob.digest) {
                &mut self.left_out
            } else {
                &mut self.blobs
            };
            blobs.insert(blob.digest.clone(), blob.size);
        }
        self.descriptors
            .insert(digest.clone(), manifest.descriptor());
        Ok(need)
    }
}

/// What must be at the target before a manifest, whether the bundle holds it or not.
///
/// There is one for each manifest, with a digest or two: sets would take several times the memory. A
/// digest may be listed twice.
#[derive(Debug, Default)]
struct Need {
    children: Vec<Digest>,
    /// The manifests that it names by digest: its children and its subject.
    needed: Vec<Digest>,
    /// Its subjects according to legacy tags.
    named: Vec<Digest>,
}

/// Every manifest of a repository.
type Needs = BTreeMap<Digest, Need>;

/// Orders all manifests of a repository: each one is a wave later than the last of what it needs.
///
/// Digests cannot form a cycle, but the names of legacy tags can: then the manifests that only such
/// a name holds back go next.
fn waves(needs: &Needs) -> Vec<Vec<Digest>> {
    let mut open: HashMap<&Digest, usize> = HashMap::new();
    let mut needed_by: HashMap<&Digest, Vec<&Digest>> = HashMap::new();
    for (digest, need) in needs {
        let there = need.needed.iter().chain(&need.named);
        let there = there.filter(|other| *other != digest && needs.contains_key(*other));
        let mut count = 0;
        for other in there {
            needed_by.entry(other).or_default().push(digest);
            count += 1;
        }
        open.insert(digest, count);
    }
    let mut wave: Vec<&Digest> = needs.keys().filter(|digest| open[digest] == 0).collect();
    let mut waves = Vec::new();
    while !open.is_empty() {
        if wave.is_empty() {
            let is_free = |need: &Need| !need.needed.iter().any(|other| open.contains_key(other));
            let left = needs.iter().filter(|(digest, _)| open.contains_key(digest));
            wave = left
                .filter(|(_, need)| is_free(need))
                .map(|(digest, _)| digest)
                .collect();
        }
        for digest in &wave {
            open.remove(digest);
        }
        let mut next = Vec::new();
        for digest in &wave {
            for later in needed_by.remove(digest).unwrap_or_default() {
                if let Some(count) = open.get_mut(later) {
                    *count -= 1;
                    if *count == 0 {
                        next.push(later);
                    }
                }
            }
        }
        waves.push(wave.into_iter().cloned().collect());
        next.sort_unstable();
        wave = next;
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    #[test]
    fn children_and_subjects_go_before_what_names_them_however_they_are_nested() {
        // name, children, subjects
        let graph: &[(&str, &[&str], &[&str])] = &[
            ("index", &["amd64", "attestation"], &[]),
            ("latest", &["amd64", "attestation"], &[]),
            ("amd64", &[], &[]),
            ("attestation", &[], &["amd64"]),
            ("outer", &["middle"], &[]),
            ("outermost", &["outer", "middle"], &[]),
            ("middle", &["index"], &[]),
            ("sbom", &[], &["outermost"]),
            ("set", &["part"], &["amd64"]),
            ("part", &[], &[]),
            ("on part", &[], &["part"]),
            ("on set", &[], &["set"]),
            ("dangling", &["not in the bundle"], &["nor this"]),
            // By the names of legacy tags.
            ("circle one", &["part"], &["circle two"]),
            ("circle two", &[], &["circle one", "circle two"]),
            ("on circle", &[], &["circle one"]),
        ];
        let needs: Needs = graph
            .iter()
            .map(|(name, children, subjects)| {
                let mut need = Need::default();
                let subjects = subjects.iter().copied().map(digest);
                if name.starts_with("circle") {
                    need.named.extend(subjects);
                } else {
                    need.needed.extend(subjects);
                }
                need.needed.extend(children.iter().copied().map(digest));
                (digest(name), need)
            })
            .collect();
        let waves = waves(&needs);
        assert_eq!(waves.iter().map(Vec::len).sum::<usize>(), graph.len());
        let place = |name: &str| {
            waves
                .iter()
                .position(|wave| wave.contains(&digest(name)))
                .unwrap()
        };
        for (name, children, subjects) in graph {
            for other in children.iter().chain(*subjects) {
                let circle = name.starts_with("circle") && other.starts_with("circle");
                if needs.contains_key(&digest(other)) && !circle {
                    assert!(place(other) < place(name), "{other} before {name}");
                }
            }
        }
    }
}
