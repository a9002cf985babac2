use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use oci_content::{Capability, Completeness, Digest, ErrorCode, Manifest, SourceKind, WarningCode};

use crate::claim::MergedClaim;
use crate::graph::{Referrer, ReferrerGraph, SubjectReport};
use crate::held::Held;
use crate::image::{ImageDepth, ImageTree};
use crate::limits::Limits;
use crate::manifests::ManifestFailure;
use crate::source::{Answer, Problem, Warning};
use crate::subject::{SubjectState, too_much};
use crate::verify::{Facts, Verdict, verify};

/// A task that is still to be done.
#[derive(Debug)]
pub(crate) enum Task {
    /// Ask the source at this index about this subject.
    Ask(Digest, usize),
    /// Read a manifest that was named as a referrer of the subject: subject, then referrer.
    Read(Digest, Digest),
    /// Read what is below this referrer, which is an index.
    Below(Manifest),
}

/// What a discovery knows so far and what it has still to ask. Does no I/O.
///
/// The result does not depend on the order in which answers come in.
#[derive(Debug)]
pub(crate) struct Walk {
    queue: VecDeque<Task>,
    subjects: BTreeMap<Digest, SubjectState>,
    referrers: Vec<Referrer>,
    /// The referrers that are indexes.
    indexes: BTreeMap<Digest, Index>,
    /// Pairs of a subject and a referrer of it that is too many levels away to be asked about.
    cut: BTreeSet<(Digest, Digest)>,
    /// The number of sources that are asked about each subject.
    sources: usize,
    /// The number of levels that the caller wants.
    wanted: Option<u32>,
    limits: Limits,
    keep: Keep,
    held: Arc<Held>,
    /// How much is read of an index whose children are subjects too.
    children: Option<ImageDepth>,
}

/// What the graph keeps although the walk itself no longer needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keep {
    pub(crate) manifests: bool,
    pub(crate) exchanges: bool,
}

/// A referrer that is an index.
#[derive(Debug)]
enum Index {
    /// Its children are not asked about, or not yet.
    Closed(Option<Manifest>),
    /// It is being read.
    Opening,
    Open(ImageTree),
}

impl Walk {
    /// Creates a walk that asks `sources` sources about each subject, down to `wanted` levels.
    pub(crate) fn new(sources: usize, wanted: Option<u32>, limits: Limits, keep: Keep) -> Self {
        Self {
            queue: VecDeque::new(),
            subjects: BTreeMap::new(),
            referrers: Vec::new(),
            indexes: BTreeMap::new(),
            cut: BTreeSet::new(),
            sources,
            wanted,
            limits,
            keep,
            held: Arc::new(Held::new(limits.max_bytes)),
            children: None,
        }
    }

    /// Shares the account of the memory that is held.
    pub(crate) fn held(mut self, held: Arc<Held>) -> Self {
        self.held = held;
        self
    }

    /// Asks for the referrers of the children of indexes as well.
    pub(crate) fn children(mut self, children: Option<ImageDepth>) -> Self {
        self.children = children;
        self
    }

    pub(crate) fn next_task(&mut self) -> Option<Task> {
        self.queue.pop_front()
    }

    /// Returns the number of subjects so far.
    pub(crate) fn subjects(&self) -> usize {
        self.subjects.len()
    }

    pub(crate) fn is_root(&self, subject: &Digest) -> bool {
        self.subjects
            .get(subject)
            .is_some_and(|state| state.depth == 0)
    }

    /// Places a subject `depth` steps away from a root, and asks for its referrers if that has not
    /// been done.
    ///
    /// With legacy tags, paths of different lengths can lead to one manifest. The shortest decides
    /// even if it is found last: everything below then comes nearer, and may come within reach.
    ///
    /// The children of an index are at the depth of the index, since no referrer step leads to
    /// them.
    pub(crate) fn place(&mut self, parent: Option<Digest>, subject: Digest, depth: u32) {
        let mut places = vec![(parent, subject, depth)];
        while let Some((parent, subject, depth)) = places.pop() {
            if let Some(parent) = parent {
                if self.wanted.is_some_and(|wanted| depth >= wanted) {
                    continue;
                }
                if depth >= self.limits.max_levels {
                    self.cut.insert((parent, subject));
                    continue;
                }
            }
            let moved = match self.subjects.get_mut(&subject) {
                None => {
                    let state = SubjectState::at(depth);
                    self.subjects.insert(subject.clone(), state);
                    let asks = (0..self.sources).map(|place| Task::Ask(subject.clone(), place));
                    self.queue.extend(asks);
                    true
                }
                Some(state) if depth < state.depth => {
                    state.depth = depth;
                    let below = self.referrers.iter_mut();
                    for referrer in below.filter(|referrer| referrer.subject == subject) {
                        referrer.depth = depth + 1;
                        let digest = referrer.digest.clone();
                        places.push((Some(subject.clone()), digest, depth + 1));
                    }
                    true
                }
                Some(_) => false,
            };
            match self.indexes.get_mut(&subject) {
                Some(index @ Index::Closed(Some(_))) => {
                    if let Index::Closed(Some(root)) = std::mem::replace(index, Index::Opening) {
                        self.queue.push_back(Task::Below(root));
                    }
                }
                Some(Index::Open(tree)) if moved => {
                    let children = children(tree, self.children);
                    places.extend(children.map(|child| (None, child, depth)));
                }
                _ => {}
            }
        }
    }

    /// Takes the manifests below a referrer that is an index, and asks for their referrers.
    pub(crate) fn below(&mut self, tree: ImageTree) {
        let index = tree.root.digest().clone();
        let subjects: Vec<_> = children(&tree, self.children).collect();
        self.indexes.insert(index.clone(), Index::Open(tree));
        if let Some(depth) = self.subjects.get(&index).map(|state| state.depth) {
            for subject in subjects {
                self.place(None, subject, depth);
            }
        }
    }

    /// Takes the answer of one source and queues the manifests that it names for reading. With the
    /// last answer, the claims are settled.
    pub(crate) fn answered(
        &mut self,
        subject: &Digest,
        place: usize,
        mut answer: (SourceKind, Answer),
    ) {
        let Some(state) = self.subjects.get_mut(subject) else {
            return;
        };
        state.hold_answer(&self.held, &mut answer.1);
        for claim in &mut answer.1.claims {
            let digest = &claim.descriptor.digest;
            let read = claim.manifest.take();
            if let Some(manifest) = read.filter(|manifest| manifest.digest() == digest) {
                // Bytes that were read count for more than a failure to read them by digest.
                let facts = Facts::of(manifest, self.keep.manifests);
                let facts = state.hold(&self.held, Ok(facts));
                state.facts.insert(digest.clone(), Some(facts));
            } else if !state.facts.contains_key(digest)
                && state.facts.len() < self.limits.max_referrers_per_subject
            {
                state.facts.insert(digest.clone(), None);
                let task = Task::Read(subject.clone(), digest.clone());
                self.queue.push_back(task);
            }
        }
        // Not before the first answer: thousands of subjects may be waiting, and none of them needs
        // the memory yet.
        if state.answers.is_empty() {
            state.answers.resize_with(self.sources, || None);
        }
        if let Some(slot) = state.answers.get_mut(place) {
            *slot = Some(answer);
        }
        if state.answers.iter().all(Option::is_some) {
            let answers = std::mem::take(&mut state.answers);
            let claims = state.conclude(subject, answers.into_iter().flatten(), &self.limits);
            let settled = state.errors.is_empty() && state.open.is_empty();
            if !self.keep.exchanges && state.depth > 0 && settled {
                state.exchanges = Vec::new();
            }
            self.settle_all(subject, claims);
        }
    }

    /// Takes the result of reading a manifest.
    pub(crate) fn read(
        &mut self,
        subject: &Digest,
        digest: Digest,
        facts: Result<Facts, ManifestFailure>,
    ) {
        let Some(state) = self.subjects.get_mut(subject) else {
            return;
        };
        if matches!(state.facts.get(&digest), Some(None)) {
            let facts = state.hold(&self.held, facts);
            state.facts.insert(digest.clone(), Some(facts));
        }
        if let Some(claims) = state.claims.remove(&digest) {
            self.settle_all(subject, claims);
            if let Some(state) = self.subjects.get_mut(subject) {
                state.forget(&self.held, &digest);
            }
        }
    }

    /// Settles claims whose manifest has been read, and queues the manifests of the others.
    fn settle_all(&mut self, subject: &Digest, claims: Vec<MergedClaim>) {
        // Two legacy tags can name one manifest; what is known about it is dropped with the last of
        // its claims.
        let mut uses: HashMap<Digest, usize> = HashMap::new();
        for claim in &claims {
            *uses.entry(claim.descriptor.digest.clone()).or_default() += 1;
        }
        for claim in claims {
            let Some(state) = self.subjects.get_mut(subject) else {
                return;
            };
            let digest = claim.descriptor.digest.clone();
            match state.facts.get(&digest) {
                Some(Some(Ok(facts))) => {
                    let verdict = verify(subject, &claim, facts);
                    let uses = uses.entry(digest.clone()).or_default();
                    *uses = uses.saturating_sub(1);
                    if *uses == 0 {
                        state.forget(&self.held, &digest);
                    }
                    self.settle(subject, &claim, verdict);
                }
                Some(Some(Err(failure))) => {
                    let failure = failure.clone();
                    state.fail(&claim, failure);
                }
                Some(None) => state.claims.entry(digest).or_default().push(claim),
                None => {
                    state.facts.insert(digest.clone(), None);
                    state.claims.entry(digest.clone()).or_default().push(claim);
                    self.queue.push_back(Task::Read(subject.clone(), digest));
                }
            }
        }
        if let Some(state) = self.subjects.get_mut(subject)
            && state.claims.is_empty()
        {
            state.facts.clear();
            self.held.give_back(std::mem::take(&mut state.held));
        }
    }

    fn settle(&mut self, subject: &Digest, claim: &MergedClaim, verdict: Verdict) {
        let Some(state) = self.subjects.get_mut(subject) else {
            return;
        };
        match verdict {
            Verdict::Dropped(warning) => state.warnings.push(warning),
            Verdict::Referrer(mut referrer, warnings) => {
                state.warnings.extend(warnings);
                let digest = referrer.digest.clone();
                let tagged = referrer.sources.contains(&SourceKind::ReferrersTag);
                if state.api_listed && !claim.listed_by_api && tagged {
                    state.tag_added = true;
                    // A truncated list says nothing about what it omits.
                    if state.api_listed_all {
                        let message =
                            "the referrers tag names a referrer that the API does not list";
                        let warning = Warning::new(WarningCode::StaleTagIndex, message);
                        state.warnings.push(warning.about(&digest));
                    }
                }
                state.legacy_found |= claim.sources.contains(&SourceKind::LegacyTag);
                referrer.depth = state.depth + 1;
                let depth = referrer.depth;
                if !self.held.take(referrer.held()) {
                    state.errors.push(too_much().about(&digest));
                    return;
                }
                let index = referrer.manifest.clone();
                if let Some(index) = index.filter(|manifest| !manifest.entries().is_empty()) {
                    let closed = Index::Closed(self.children.map(|_| index));
                    self.indexes.entry(digest.clone()).or_insert(closed);
                }
                if !self.keep.manifests {
                    referrer.manifest = None;
                }
                self.referrers.push(*referrer);
                self.place(Some(subject.clone()), digest, depth);
            }
        }
    }

    pub(crate) fn finish(mut self, configured: Capability) -> ReferrerGraph {
        for (subject, digest) in std::mem::take(&mut self.cut) {
            // A shorter path may have been found since.
            if self.subjects.contains_key(&digest) {
                continue;
            }
            if let Some(state) = self.subjects.get_mut(&subject) {
                let message = format!(
                    "referrers are followed at most {} levels deep",
                    self.limits.max_levels
                );
                let problem = Problem::new(ErrorCode::Limit, message);
                state.errors.push(problem.about(&digest));
            }
        }
        let tags_answer = self.subjects.values().any(|state| state.tag_listed);
        for state in self.subjects.values_mut() {
            for problem in std::mem::take(&mut state.open) {
                state.settle_by_tag(problem, tags_answer);
            }
        }
        for referrer in &self.referrers {
            if let Some(Index::Open(tree)) = self.indexes.get(&referrer.digest)
                && let Some(state) = self.subjects.get_mut(&referrer.subject)
            {
                state.errors.extend(tree.problems.iter().cloned());
            }
        }
        for (subject, state) in &mut self.subjects {
            for problem in &mut state.errors {
                problem.subject = Some(subject.clone());
            }
        }
        let mut indexes = BTreeMap::new();
        let mut unopened = BTreeSet::new();
        for (digest, index) in self.indexes {
            match index {
                Index::Open(tree) => {
                    indexes.insert(digest, tree);
                }
                _ if self.subjects.contains_key(&digest) => {
                    unopened.insert(digest);
                }
                _ => {}
            }
        }
        let subjects = self
            .subjects
            .into_iter()
            .map(|(subject, state)| SubjectReport {
                subject,
                depth: state.depth,
                capability: state.capability.unwrap_or(configured),
                method: state.method(),
                status: if state.errors.is_empty() {
                    Completeness::Complete
                } else {
                    Completeness::Incomplete
                },
                errors: state.errors,
                warnings: state.warnings,
                exchanges: state.exchanges,
            });
        let mut graph = ReferrerGraph {
            referrers: self.referrers,
            subjects: subjects.collect(),
            indexes,
            unopened,
        };
        graph.sort();
        graph
    }
}

/// Returns the subjects below an index; without attestations if only indexes were read, as for an
/// image.
fn children(tree: &ImageTree, depth: Option<ImageDepth>) -> impl Iterator<Item = Digest> + use<> {
    let subjects = match depth {
        Some(ImageDepth::Manifests) => tree.all_subjects(),
        _ => tree.subjects(),
    };
    subjects.into_iter().skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Outcome;

    #[test]
    fn a_failure_that_a_referrers_tag_settles_counts_only_without_one() {
        let subject = Digest::of(b"image");
        for code in [
            ErrorCode::RateLimited,
            ErrorCode::ServerError,
            ErrorCode::Denied,
        ] {
            for tag in [Answer::list([]), Answer::none()] {
                let answers = tag.outcome == Outcome::List;
                let mut walk = Walk::new(2, None, Limits::default(), Keep::default());
                walk.place(None, subject.clone(), 0);
                let api = Answer::failed(Problem::new(code, "no list").unless_tag_answers());
                walk.answered(&subject, 0, (SourceKind::ReferrersApi, api));
                walk.answered(&subject, 1, (SourceKind::ReferrersTag, tag));
                let graph = walk.finish(Capability::Unknown);
                let errors: Vec<_> = graph.errors().map(|problem| problem.code).collect();
                let warnings: Vec<_> = graph.warnings().map(|warning| warning.code).collect();
                if answers {
                    assert_eq!(
                        (errors, warnings),
                        (vec![], vec![WarningCode::CapabilityBlocked])
                    );
                } else {
                    assert_eq!((errors, warnings), (vec![code], vec![]));
                }
            }
        }
    }
}
