use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _, join_all};
use futures::stream::{FuturesUnordered, StreamExt as _};
use oci_content::{
    Capability, Completeness, Descriptor, Digest, DiscoveryMethod, ErrorCode, Manifest, SourceKind,
    Tag, WarningCode,
};

use crate::graph::{Referrer, ReferrerGraph, SubjectReport};
use crate::manifests::{ManifestFailure, ManifestSource};
use crate::source::{Answer, Claim, Exchange, Outcome, Problem, Query, ReferrerSource, Warning};
use crate::verify::{Verdict, verify};

/// From this many subjects on, one complete tag listing is cheaper than asking for each tag.
const MANY_SUBJECTS: usize = 25;

/// How much a discovery may take. Each limit that is reached is an error in the result, never a shorter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Referrers of one subject; 10,000 by default.
    pub max_referrers_per_subject: usize,
    /// Levels of referrers of referrers; 64 by default. Reached only by lying lists or a very odd graph.
    pub max_levels: u32,
    /// Questions under way at once; 64 by default. Requests are limited by the registry client below this.
    pub max_active: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_referrers_per_subject: 10_000,
            max_levels: 64,
            max_active: NonZeroUsize::new(64).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// Finds everything that refers to some subjects: the union of what all sources name, verified and followed to
/// the last level.
///
/// - A source that fails makes the result incomplete, never smaller in silence.
/// - Every claim is checked against the manifest itself: its digest, its `subject`, its artifact type.
/// - Each subject is asked for once, so lists that name each other end.
///
/// # Cancellation
///
/// Dropping the future ends all requests. To stop after a time and keep what was found, give the sources a
/// deadline: their failures then end the walk.
#[derive(Clone, Debug)]
pub struct Discovery {
    sources: Vec<Arc<dyn ReferrerSource>>,
    manifests: Arc<dyn ManifestSource>,
    limits: Limits,
    depth: Option<u32>,
    many: bool,
    keep_manifests: bool,
    configured: Capability,
}

impl Discovery {
    /// Creates a discovery without sources, which reads and verifies manifests through `manifests`.
    pub fn new(manifests: Arc<dyn ManifestSource>) -> Self {
        Self {
            sources: Vec::new(),
            manifests,
            limits: Limits::default(),
            depth: None,
            many: false,
            keep_manifests: false,
            configured: Capability::Unknown,
        }
    }

    /// Adds a source.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn ReferrerSource>) -> Self {
        self.sources.push(source);
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Stops after so many levels of referrers, because the caller wants no more; all levels by default.
    #[must_use]
    pub fn depth(mut self, depth: Option<u32>) -> Self {
        self.depth = depth;
        self
    }

    /// Tells that this run is one of many in the same repository, so that one tag listing may answer for all.
    #[must_use]
    pub fn one_of_many(mut self, many: bool) -> Self {
        self.many = many;
        self
    }

    /// Tells what is known about the referrers API where no source asks it; `Unknown` by default.
    #[must_use]
    pub fn configured(mut self, capability: Capability) -> Self {
        self.configured = capability;
        self
    }

    /// Keeps the manifests of the referrers in the graph.
    #[must_use]
    pub fn keep_manifests(mut self, keep: bool) -> Self {
        self.keep_manifests = keep;
        self
    }

    /// Runs the discovery.
    pub async fn run(&self, roots: impl IntoIterator<Item = Digest>) -> ReferrerGraph {
        let mut walk = Walk::new(self.depth, self.limits.max_levels);
        for root in roots {
            walk.place(None, root, 0);
        }
        let many = self.many || walk.queue.len() >= MANY_SUBJECTS;
        let mut active = FuturesUnordered::new();
        loop {
            while active.len() < self.limits.max_active.get() {
                match walk.queue.pop_front() {
                    Some(Task::Ask(subject)) => {
                        let direct = !many && walk.subjects[&subject].depth == 0;
                        active.push(self.ask(subject, direct));
                    }
                    Some(Task::Verify(subject, claim)) => active.push(self.read(subject, claim)),
                    None => break,
                }
            }
            match active.next().await {
                Some(Done::Asked(subject, answers)) => {
                    walk.answered(subject, answers, &self.limits)
                }
                Some(Done::Read(subject, claim, manifest)) => {
                    self.settle(&mut walk, subject, &claim, *manifest)
                }
                None => break,
            }
        }
        walk.finish(self.configured)
    }

    fn ask(&self, subject: Digest, direct: bool) -> BoxFuture<'_, Done> {
        async move {
            let query = match direct {
                true => Query::direct(subject.clone()),
                false => Query::one_of_many(subject.clone()),
            };
            let answers = self.sources.iter().map(|source| {
                let query = &query;
                async move { (source.kind(), source.referrers(query).await) }
            });
            Done::Asked(subject, join_all(answers).await)
        }
        .boxed()
    }

    fn read(&self, subject: Digest, mut claim: Box<MergedClaim>) -> BoxFuture<'_, Done> {
        async move {
            let manifest = match claim.manifest.take() {
                Some(manifest) => Ok(manifest),
                None => self.manifests.manifest(&claim.descriptor.digest).await,
            };
            Done::Read(subject, claim, Box::new(manifest))
        }
        .boxed()
    }

    fn settle(
        &self,
        walk: &mut Walk,
        subject: Digest,
        claim: &MergedClaim,
        manifest: Result<Manifest, ManifestFailure>,
    ) {
        let Some(state) = walk.subjects.get_mut(&subject) else {
            return;
        };
        let digest = claim.descriptor.digest.clone();
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(ManifestFailure::NotFound) => {
                let message = format!("{} names a manifest that is not there", claim.named_by());
                state
                    .warnings
                    .push(Warning::new(WarningCode::DanglingReferrer, message).about(&digest));
                return;
            }
            Err(ManifestFailure::Failed(problem)) => {
                state.errors.push(problem.about(&digest));
                return;
            }
        };
        match verify(&subject, claim, &manifest) {
            Verdict::Dropped(warning) => state.warnings.push(warning),
            Verdict::Referrer(mut referrer, warnings) => {
                state.warnings.extend(warnings);
                let listed = referrer.sources.contains(&SourceKind::ReferrersApi);
                let tagged = referrer.sources.contains(&SourceKind::ReferrersTag);
                if state.api_listed && !listed && tagged {
                    state.tag_added = true;
                    // Of a list that broke off nobody can say what it does not name.
                    if state.api_listed_all {
                        let message =
                            "the referrers tag names a referrer that the API does not list";
                        let warning = Warning::new(WarningCode::StaleTagIndex, message);
                        state.warnings.push(warning.about(&digest));
                    }
                }
                if claim.sources.contains(&SourceKind::LegacyTag) {
                    state.legacy_found = true;
                }
                referrer.depth = state.depth + 1;
                let depth = referrer.depth;
                if self.keep_manifests {
                    referrer.manifest = Some(manifest);
                }
                walk.referrers.push(*referrer);
                walk.place(Some(subject), digest, depth);
            }
        }
    }
}

/// A question to be asked.
enum Task {
    /// Who refers to this subject?
    Ask(Digest),
    /// Is this claim about the subject true?
    Verify(Digest, Box<MergedClaim>),
}

/// A question that was answered.
enum Done {
    Asked(Digest, Vec<(SourceKind, Answer)>),
    Read(
        Digest,
        Box<MergedClaim>,
        Box<Result<Manifest, ManifestFailure>>,
    ),
}

/// What all sources together say about one manifest.
#[derive(Debug)]
pub(crate) struct MergedClaim {
    pub(crate) descriptor: Descriptor,
    pub(crate) sources: BTreeSet<SourceKind>,
    pub(crate) tag: Option<Tag>,
    manifest: Option<Manifest>,
}

impl MergedClaim {
    /// Tells whether only a tag's name relates the manifest to its subject.
    pub(crate) fn by_name_only(&self) -> bool {
        self.sources
            .iter()
            .all(|source| *source == SourceKind::LegacyTag)
    }

    fn named_by(&self) -> String {
        let names: Vec<_> = self.sources.iter().map(|source| source.as_str()).collect();
        names.join(" and ")
    }
}

struct Walk {
    queue: VecDeque<Task>,
    subjects: BTreeMap<Digest, SubjectState>,
    referrers: Vec<Referrer>,
    /// Subjects with the referrers of theirs that were too far away to be asked for.
    cut: BTreeSet<(Digest, Digest)>,
    /// Levels that the caller wants.
    wanted: Option<u32>,
    max_levels: u32,
}

#[derive(Default)]
struct SubjectState {
    depth: u32,
    capability: Option<Capability>,
    /// The API gave a list, whole or partial.
    api_listed: bool,
    /// The API gave its whole list.
    api_listed_all: bool,
    /// The referrers tag is known not to exist.
    tag_absent: bool,
    tag_added: bool,
    legacy_found: bool,
    errors: Vec<Problem>,
    warnings: Vec<Warning>,
    exchanges: Vec<Exchange>,
}

impl Walk {
    fn new(wanted: Option<u32>, max_levels: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            subjects: BTreeMap::new(),
            referrers: Vec::new(),
            cut: BTreeSet::new(),
            wanted,
            max_levels,
        }
    }

    /// Places a subject so many steps away from a root, and asks for its referrers if nobody has yet.
    ///
    /// A legacy tag can lead to one manifest over ways of different lengths. The shortest decides, also when it is
    /// found last: what stands below comes nearer then, and may come within reach.
    fn place(&mut self, parent: Option<Digest>, subject: Digest, depth: u32) {
        let mut places = vec![(parent, subject, depth)];
        while let Some((parent, subject, depth)) = places.pop() {
            if let Some(parent) = parent {
                if self.wanted.is_some_and(|wanted| depth >= wanted) {
                    continue;
                }
                if depth >= self.max_levels {
                    self.cut.insert((parent, subject));
                    continue;
                }
            }
            match self.subjects.get_mut(&subject) {
                None => {
                    let state = SubjectState {
                        depth,
                        ..SubjectState::default()
                    };
                    self.subjects.insert(subject.clone(), state);
                    self.queue.push_back(Task::Ask(subject));
                }
                Some(state) if depth < state.depth => {
                    state.depth = depth;
                    let below = self.referrers.iter_mut();
                    for referrer in below.filter(|referrer| referrer.subject == subject) {
                        referrer.depth = depth + 1;
                        let digest = referrer.digest.clone();
                        places.push((Some(subject.clone()), digest, depth + 1));
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn answered(&mut self, subject: Digest, answers: Vec<(SourceKind, Answer)>, limits: &Limits) {
        let Some(state) = self.subjects.get_mut(&subject) else {
            return;
        };
        let mut blocked = false;
        let mut tag_listed = false;
        let mut tag_silent = false;
        let mut claims: Vec<(SourceKind, Claim)> = Vec::new();
        for (kind, answer) in answers {
            let listed = matches!(answer.outcome, Outcome::List | Outcome::PartialList);
            blocked |= answer.outcome == Outcome::Blocked;
            match kind {
                SourceKind::ReferrersApi => {
                    state.api_listed |= listed;
                    state.api_listed_all |= answer.outcome == Outcome::List;
                }
                SourceKind::ReferrersTag => {
                    tag_listed |= listed;
                    tag_silent |= answer.outcome == Outcome::NoAnswer && answer.errors.is_empty();
                }
                _ => {}
            }
            state.capability = state.capability.or(answer.capability);
            state.warnings.extend(answer.warnings);
            state.exchanges.extend(answer.exchanges);
            state
                .errors
                .extend(answer.errors.into_iter().map(|mut problem| {
                    problem.source.get_or_insert(kind);
                    problem
                }));
            claims.extend(answer.claims.into_iter().map(|claim| (kind, claim)));
        }
        state.tag_absent = tag_silent && !tag_listed;
        if blocked && tag_listed {
            let message = "the referrers API is denied although the subject may be read; the referrers tag answers";
            state
                .warnings
                .push(Warning::new(WarningCode::CapabilityBlocked, message));
        } else if blocked {
            let message = "the referrers API is denied although the subject may be read, and no referrers tag answers";
            let mut problem = Problem::new(ErrorCode::Denied, message);
            problem.source = Some(SourceKind::ReferrersApi);
            state.errors.push(problem);
        }
        let mut claims = merge(claims);
        if claims.len() > limits.max_referrers_per_subject {
            claims.truncate(limits.max_referrers_per_subject);
            let message = format!(
                "more than {} referrers of one subject",
                limits.max_referrers_per_subject
            );
            state
                .errors
                .push(Problem::new(ErrorCode::Limit, message).about(&subject));
        }
        self.queue.extend(
            claims
                .into_iter()
                .map(|claim| Task::Verify(subject.clone(), Box::new(claim))),
        );
    }

    fn finish(mut self, configured: Capability) -> ReferrerGraph {
        for (subject, digest) in std::mem::take(&mut self.cut) {
            // A shorter way may have been found since.
            if self.subjects.contains_key(&digest) {
                continue;
            }
            if let Some(state) = self.subjects.get_mut(&subject) {
                let message = format!("referrers are followed for {} levels", self.max_levels);
                let problem = Problem::new(ErrorCode::Limit, message);
                state.errors.push(problem.about(&digest));
            }
        }
        let subjects = self
            .subjects
            .into_iter()
            .map(|(subject, state)| SubjectReport {
                subject,
                depth: state.depth,
                capability: state.capability.unwrap_or(configured),
                method: match (state.api_listed, state.tag_added) {
                    (true, false) => DiscoveryMethod::Native,
                    (true, true) => DiscoveryMethod::NativeAndTag,
                    (false, _) if state.tag_absent && state.legacy_found => {
                        DiscoveryMethod::LegacyTag
                    }
                    (false, _) => DiscoveryMethod::FallbackTag,
                },
                status: match state.errors.is_empty() {
                    true => Completeness::Complete,
                    false => Completeness::Incomplete,
                },
                errors: state.errors,
                warnings: state.warnings,
                exchanges: state.exchanges,
            });
        let mut graph = ReferrerGraph {
            referrers: self.referrers,
            subjects: subjects.collect(),
        };
        graph.sort();
        graph
    }
}

/// Brings the claims about one manifest together. A second legacy tag on one manifest stays a claim of its own,
/// so that the tag is not lost.
fn merge(claims: Vec<(SourceKind, Claim)>) -> Vec<MergedClaim> {
    let mut merged: Vec<MergedClaim> = Vec::new();
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut tags: HashSet<Tag> = HashSet::new();
    for (kind, claim) in claims {
        if let Some(tag) = &claim.tag
            && !tags.insert(tag.clone())
        {
            continue;
        }
        match places.get(&claim.descriptor.digest) {
            Some(place) if merged[*place].tag.is_none() || claim.tag.is_none() => {
                let known = &mut merged[*place];
                known.sources.insert(kind);
                known.tag = known.tag.take().or(claim.tag);
                known.manifest = known.manifest.take().or(claim.manifest);
                if kind == SourceKind::ReferrersApi {
                    known.descriptor = claim.descriptor;
                }
            }
            _ => {
                places.insert(claim.descriptor.digest.clone(), merged.len());
                merged.push(MergedClaim {
                    descriptor: claim.descriptor,
                    sources: BTreeSet::from([kind]),
                    tag: claim.tag,
                    manifest: claim.manifest,
                });
            }
        }
    }
    merged
}
