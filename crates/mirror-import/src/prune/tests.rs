//! Random histories of a repository that several jobs and other people use.

mod model;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use oci_content::{
    ArtifactRecord, Capability, Digest, DiscoveryMethod, DiscoveryRecord, ImageRecord, MirrorGraph,
    RepositoryName, SourceRepository, Tag, media_type,
};
use tokio::runtime::Runtime;

use self::model::{Model, Rights, State, TARGET, Watched};
use self::random::Random;
use crate::importer::empty_report;
use crate::prune::{PruneOptions, PruneRequest, Pruner};
use crate::prune_history::PruneHistory;
use crate::prune_report::PruneReport;
use crate::prune_target::{PruneTarget, StoredManifest};
use crate::report::{ImportReport, ImportedRepository, ImportedTag, TagAction};

const IMAGES: usize = 6;
const JOBS: usize = 2;

fn name() -> RepositoryName {
    "app".parse().unwrap()
}

fn source() -> SourceRepository {
    "source.example.com/app".parse().unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn leaf(text: &str) -> StoredManifest {
    StoredManifest::new(digest(text))
}

fn index(text: &str, entries: &[&StoredManifest]) -> StoredManifest {
    let mut index = leaf(text);
    index.entries = Some(entries.iter().map(|own| own.digest.clone()).collect());
    index
}

/// An index of an index.
fn nested(text: &str, entry: &StoredManifest) -> StoredManifest {
    let mut nested = index(text, &[entry]);
    nested.indexes = vec![entry.digest.clone()];
    nested
}

fn on(subject: &StoredManifest, mut referrer: StoredManifest) -> StoredManifest {
    referrer.subject = Some(subject.digest.clone());
    referrer
}

/// An image of the source, with everything that it lists (before it) and what refers to it.
#[derive(Clone, Debug)]
struct Image {
    image: StoredManifest,
    children: Vec<StoredManifest>,
    /// Subjects before what refers to them.
    referrers: Vec<StoredManifest>,
    legacy: Option<(Tag, StoredManifest)>,
}

fn images() -> Vec<Image> {
    let images = (0..IMAGES).map(|number| {
        // Some children are shared, and one image is a child of another one.
        let own = leaf(&format!("child {number}"));
        let shared = leaf(&format!("child {}", number / 2 * 2));
        let image = match number {
            1 => leaf("child 0"),
            2 => leaf("image 2"),
            4 => nested(
                "image 4",
                &index("image 3", &[&leaf("child 3"), &leaf("child 2")]),
            ),
            _ => index(&format!("image {number}"), &[&own, &shared]),
        };
        let children = if number == 4 {
            let inner = index("image 3", &[&leaf("child 3"), &leaf("child 2")]);
            vec![leaf("child 3"), leaf("child 2"), inner]
        } else if image.entries.is_some() {
            vec![own.clone(), shared]
        } else {
            Vec::new()
        };
        let sbom = on(&image, leaf(&format!("sbom {number}")));
        let signature = on(&sbom, leaf(&format!("signature {number}")));
        let part = leaf(&format!("part {number}"));
        let set = on(&image, index(&format!("set {number}"), &[&part]));
        let of_child = on(&own, leaf(&format!("on child {number}")));
        let mut referrers = vec![sbom, signature];
        if number % 3 == 0 {
            referrers.extend([part, set]);
        }
        if !children.is_empty() && number % 2 == 1 {
            referrers.push(of_child);
        }
        let legacy = (number % 2 == 0).then(|| {
            let tag = format!("sha256-{}.sig", image.digest.encoded());
            (tag.parse().unwrap(), leaf(&format!("legacy {number}")))
        });
        Image {
            image,
            children,
            referrers,
            legacy,
        }
    });
    images.collect()
}

/// What a job has done so far.
#[derive(Debug, Default)]
struct Job {
    selected: BTreeMap<Tag, usize>,
    receipts: Vec<Receipt>,
    tags: BTreeMap<Tag, Digest>,
    made: BTreeSet<Digest>,
}

#[derive(Debug)]
enum Receipt {
    Import(Box<ImportReport>),
    Prune(PruneReport),
}

impl Job {
    fn select(&mut self, random: &mut Random) {
        self.selected.clear();
        for _ in 0..1 + random.below(3) {
            let tag = format!("v{}", random.below(4)).parse().unwrap();
            self.selected.insert(tag, random.index(IMAGES));
        }
    }

    /// Mirrors what is selected; after `life` writes it is killed and leaves no receipt.
    fn import(&mut self, state: &mut State, images: &[Image], mut life: u64) {
        let mut record = ImportedRepository::new(source(), name());
        let mut graph = MirrorGraph::new();
        let mut tags = Vec::new();
        let mut wanted = Vec::new();
        for (tag, number) in &self.selected {
            let image = &images[*number];
            let all = image.children.iter().chain([&image.image]);
            for manifest in all.chain(&image.referrers) {
                life = match life.checked_sub(1) {
                    Some(left) => left,
                    None => return,
                };
                let is_new = !state.manifests.contains_key(&manifest.digest);
                if is_new {
                    state.put(manifest);
                }
                if let Some(subject) = &manifest.subject {
                    state.list(subject, &manifest.digest);
                }
                if is_new || !record.made.contains(&manifest.digest) {
                    record.add(manifest.digest.clone(), is_new);
                }
            }
            if let Some((tag, manifest)) = &image.legacy {
                let is_new = !state.manifests.contains_key(&manifest.digest);
                state.put(manifest);
                if is_new || !record.made.contains(&manifest.digest) {
                    record.add(manifest.digest.clone(), is_new);
                }
                wanted.push((tag.clone(), manifest.digest.clone()));
            }
            wanted.push((tag.clone(), image.image.digest.clone()));
            describe(&mut graph, tag, image);
        }
        wanted.sort();
        wanted.dedup();
        for (tag, digest) in wanted {
            life = match life.checked_sub(1) {
                Some(left) => left,
                None => return,
            };
            let before = state.tags.insert(tag.clone(), digest.clone());
            let is_made = before.as_ref() != Some(&digest);
            if is_made {
                self.tags.insert(tag.clone(), digest.clone());
            } else if self.tags.get(&tag) != Some(&digest) {
                self.tags.remove(&tag);
            }
            tags.push(ImportedTag {
                repository: name(),
                tag,
                digest,
                before,
                action: if is_made {
                    TagAction::Made
                } else {
                    TagAction::Present
                },
            });
        }
        self.made.extend(record.made.iter().cloned());
        graph.settle();
        let mut report = empty_report();
        report.target = TARGET.to_owned();
        report.target_identity = Some(TARGET.to_owned());
        report.graph = Some(graph);
        report.repositories = vec![record];
        report.tags = tags;
        // Receipts are kept as text.
        let text = serde_json::to_string(&report).unwrap();
        let read = serde_json::from_str(&text).unwrap();
        self.receipts.push(Receipt::Import(Box::new(read)));
    }

    fn history(&self) -> PruneHistory {
        let mut history = PruneHistory::new(TARGET);
        for receipt in &self.receipts {
            match receipt {
                Receipt::Import(report) => assert!(history.add(report).unwrap()),
                Receipt::Prune(report) => history.pruned(report),
            }
        }
        history
    }

    fn pruned(&mut self, report: PruneReport) {
        for record in &report.repositories {
            for (tag, digest) in &record.tags {
                if self.tags.get(tag) == Some(digest) {
                    self.tags.remove(tag);
                }
            }
            for digest in &record.manifests {
                self.made.remove(digest);
            }
        }
        self.receipts.push(Receipt::Prune(report));
    }
}

fn describe(graph: &mut MirrorGraph, tag: &Tag, image: &Image) {
    let reference = format!("{}:{tag}", source()).parse().unwrap();
    let digest = image.image.digest.clone();
    graph
        .images
        .push(ImageRecord::new(reference, digest.clone(), "", 1));
    let mut found: BTreeMap<Digest, Vec<ArtifactRecord>> = BTreeMap::new();
    for referrer in &image.referrers {
        let Some(subject) = &referrer.subject else {
            continue;
        };
        let media_type = match referrer.entries {
            Some(_) => media_type::IMAGE_INDEX,
            None => media_type::IMAGE_MANIFEST,
        };
        let artifact = ArtifactRecord::new(referrer.digest.clone(), None, media_type, 1);
        found.entry(subject.clone()).or_default().push(artifact);
    }
    if let Some((tag, legacy)) = &image.legacy {
        let media_type = media_type::IMAGE_MANIFEST;
        let mut artifact = ArtifactRecord::new(legacy.digest.clone(), None, media_type, 1);
        artifact.tag = Some(tag.clone());
        found.entry(digest).or_default().push(artifact);
    }
    for (subject, artifacts) in found {
        let method = DiscoveryMethod::Native;
        let mut record = DiscoveryRecord::new(source(), subject, Capability::Supported, method);
        record.artifacts = artifacts;
        graph.discovery.push(record);
    }
}

/// A history, and what became of it.
#[derive(Debug)]
struct Run {
    model: Arc<Model>,
    jobs: Vec<Job>,
    random: Random,
    violations: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    deletions: usize,
    prunes: usize,
    kills: usize,
}

impl Run {
    fn new(seed: u64, is_stale: bool) -> Self {
        let mut random = Random::new(seed);
        let state = State {
            native: random.below(2) == 0,
            deletes_tags: random.below(3) > 0,
            ..State::default()
        };
        let mut watched = Watched::new(state, Random::new(seed ^ 0x5eed));
        watched.is_stale = is_stale;
        let mut jobs: Vec<Job> = (0..JOBS).map(|_| Job::default()).collect();
        for job in &mut jobs {
            job.select(&mut random);
        }
        Self {
            model: Arc::new(Model(Mutex::new(watched))),
            jobs,
            random,
            violations: Vec::new(),
        }
    }

    fn go(&mut self, runtime: &Runtime, images: &[Image], counts: &mut Counts) {
        let steps = 4 + self.random.below(8);
        for _ in 0..steps {
            let job = self.random.index(JOBS);
            match self.random.below(10) {
                0..=3 => {
                    let is_killed = self.random.below(6) == 0;
                    let life = if is_killed {
                        self.random.below(20)
                    } else {
                        u64::MAX
                    };
                    let mut watched = self.model.0.lock().unwrap();
                    self.jobs[job].import(&mut watched.state, images, life);
                }
                4 | 5 => self.jobs[job].select(&mut self.random),
                6 => {
                    let writes = 1 + self.random.below(3);
                    let mut watched = self.model.0.lock().unwrap();
                    (0..writes).for_each(|_| watched.somebody_writes());
                }
                _ => {
                    let writers = [0, 5, 25][self.random.index(3)];
                    let life = (self.random.below(3) == 0).then(|| self.random.below(60));
                    self.prune(runtime, job, writers, life, counts);
                }
            }
        }
        for job in 0..JOBS {
            self.last_prune(runtime, job, counts);
        }
    }

    fn prune(
        &mut self,
        runtime: &Runtime,
        job: usize,
        writers: u64,
        life: Option<u64>,
        counts: &mut Counts,
    ) -> bool {
        let mut request = PruneRequest::new(self.jobs[job].history());
        let selected = self.jobs.iter().flat_map(|job| job.selected.keys());
        request.tags = selected.map(|tag| (name(), tag.clone())).collect();
        {
            let mut watched = self.model.0.lock().unwrap();
            watched.begin(Rights {
                tags: self.jobs[job].tags.clone(),
                made: self.jobs[job].made.clone(),
                selected: request.tags.iter().map(|(_, tag)| tag.clone()).collect(),
                ..Rights::default()
            });
            watched.writers = writers;
            watched.life = life;
        }
        let target: Arc<dyn PruneTarget> = Arc::<Model>::clone(&self.model);
        let pruner = Pruner::new(target, PruneOptions::default(), Arc::new(()));
        let (report, result) = runtime.block_on(pruner.run(&request));
        let mut watched = self.model.0.lock().unwrap();
        let is_killed = watched.life == Some(0);
        watched.writers = 0;
        watched.life = None;
        counts.prunes += 1;
        counts.kills += usize::from(is_killed);
        counts.deletions += std::mem::take(&mut watched.deletions);
        self.violations.append(&mut watched.violations);
        drop(watched);
        if !is_killed {
            self.jobs[job].pruned(report);
        }
        result.is_ok()
    }

    /// Prunes while nobody else writes, and checks what is there then.
    fn last_prune(&mut self, runtime: &Runtime, job: usize, counts: &mut Counts) {
        let before = self.model.0.lock().unwrap().state.clone();
        let is_whole = self.prune(runtime, job, 0, None, counts);
        if !is_whole {
            self.violations.push("a quiet prune did not finish".into());
        }
        let deletions = counts.deletions;
        if !self.prune(runtime, job, 0, None, counts) || counts.deletions != deletions {
            self.violations
                .push("a second prune had something left to do".into());
        }
        let after = self.model.0.lock().unwrap().state.clone();
        for broken in after.broken().difference(&before.broken()) {
            self.violations
                .push(format!("broken by the prune: {broken:?}"));
        }
        let gone: BTreeSet<Digest> = before.manifests.keys().cloned().collect();
        for orphan in after.orphans(&gone) {
            self.violations
                .push(format!("the list {orphan} has no subject"));
        }
    }
}

/// Runs histories and returns the first with a violation.
fn first_violation(seeds: std::ops::Range<u64>, is_stale: bool) -> (Option<String>, Counts) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let images = images();
    let mut counts = Counts::default();
    for seed in seeds {
        let mut run = Run::new(seed, is_stale);
        run.go(&runtime, &images, &mut counts);
        if let Some(violation) = run.violations.first() {
            return (Some(format!("seed {seed}: {violation}")), counts);
        }
    }
    (None, counts)
}

#[test]
fn in_ten_thousand_histories_nothing_is_lost_that_was_visible_and_nothing_that_is_not_ours() {
    let parts = (0..4).map(|part| part * 2_500..(part + 1) * 2_500);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .map(|seeds| scope.spawn(|| first_violation(seeds, false)))
            .collect();
        let ends = threads.into_iter().map(|thread| thread.join().unwrap());
        ends.collect()
    });
    for (violation, counts) in parts {
        assert_eq!(violation, None);
        // The histories are worth something.
        assert!(counts.deletions > 2_500, "{counts:?}");
        assert!(counts.kills > 200, "{counts:?}");
    }
}

#[test]
fn a_pruner_that_does_not_look_again_is_caught() {
    let (violation, _) = first_violation(0..2_000, true);
    assert!(violation.is_some());
}
