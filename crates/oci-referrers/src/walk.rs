use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use oci_content::{
    Capability, Completeness, Descriptor, Digest, DiscoveryMethod, ErrorCode, LegacyTag, Manifest,
    SourceKind, Tag, WarningCode,
};

use crate::discovery::Limits;
use crate::graph::{Referrer, ReferrerGraph, SubjectReport};
use crate::held::{self, Held};
use crate::image::{ImageDepth, ImageTree};
use crate::manifests::ManifestFailure;
use crate::source::{Answer, Claim, Exchange, Outcome, Problem, Warning};
use crate::verify::{Facts, Verdict, verify};

/// A question to be asked.
#[derive(Debug)]
pub(crate) enum Task {
    /// What does the source at this place say of this subject?
    Ask(Digest, usize),
    /// What is the manifest that was named as a referrer of the subject?
    Read(Digest, Digest),
    /// What is below this referrer, which is an index?
    Below(Manifest),
}

/// What a discovery knows so far, and what it has yet to ask. Does no I/O.
///
/// What comes out does not depend on the order in which answers come in.
#[derive(Debug)]
pub(crate) struct Walk {
    queue: VecDeque<Task>,
    subjects: BTreeMap<Digest, SubjectState>,
    referrers: Vec<Referrer>,
    /// The referrers that are indexes.
    indexes: BTreeMap<Digest, Index>,
    /// Subjects with the referrers of theirs that were too far away to be asked for.
    cut: BTreeSet<(Digest, Digest)>,
    /// How many are asked about each subject.
    sources: usize,
    /// Levels that the caller wants.
    wanted: Option<u32>,
    limits: Limits,
    keep: Keep,
    held: Arc<Held>,
    /// How far indexes are read whose children are subjects too.
    children: Option<ImageDepth>,
}

/// What is kept in the graph although the walk itself needs it no longer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keep {
    pub(crate) manifests: bool,
    pub(crate) exchanges: bool,
}

/// A referrer that is an index.
#[derive(Debug)]
enum Index {
    /// What is below it is not asked for, or not yet.
    Closed(Option<Manifest>),
    /// It is being read.
    Opening,
    Open(ImageTree),
}

#[derive(Debug, Default)]
struct SubjectState {
    depth: u32,
    /// The answers by the place of their source, until all are there.
    answers: Vec<Option<(SourceKind, Answer)>>,
    /// What is known of the manifests that were named; `None` while one is being read.
    facts: BTreeMap<Digest, Option<Result<Facts, ManifestFailure>>>,
    /// Claims whose manifest is being read.
    claims: BTreeMap<Digest, Vec<MergedClaim>>,
    /// The room that claims and facts take until all are settled.
    held: usize,
    capability: Option<Capability>,
    /// The API gave a list, whole or partial: its source says that it is supported, whatever the source is called.
    api_listed: bool,
    /// The API gave its whole list.
    api_listed_all: bool,
    /// The referrers tag is known not to exist.
    tag_absent: bool,
    /// The referrers tag holds an index.
    tag_listed: bool,
    tag_added: bool,
    legacy_found: bool,
    /// A source that is neither the API nor a tag gave a list.
    other_listed: bool,
    errors: Vec<Problem>,
    /// What counts unless a referrers tag of any subject holds an index.
    open: Vec<Problem>,
    warnings: Vec<Warning>,
    exchanges: Vec<Exchange>,
}

impl Walk {
    /// Creates a walk that asks so many sources about each subject, to the depth that is wanted.
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

    /// Shares the room for what is held.
    pub(crate) fn held(mut self, held: Arc<Held>) -> Self {
        self.held = held;
        self
    }

    /// Asks for the referrers of the children of indexes too.
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

    /// Places a subject so many steps away from a root, and asks for its referrers if nobody has yet.
    ///
    /// A legacy tag can lead to one manifest over ways of different lengths. The shortest decides, also when it is
    /// found last: what stands below comes nearer then, and may come within reach.
    ///
    /// The children of an index are as far away as the index: no referrer's step leads to them.
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
                    let state = SubjectState {
                        depth,
                        ..SubjectState::default()
                    };
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

    /// Takes what is below a referrer that is an index, and asks for the referrers of that.
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

    /// Takes the answer of one source, and has what it names read. With the last answer the claims are settled.
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
                // Bytes that are there count for more than a failure to read them by their digest.
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
        // Not before the first answer: of thousands of subjects that wait to be asked for, none needs the room.
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

    /// Takes what came of reading a manifest.
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

    /// Settles claims whose manifest has been read, and has the others read.
    fn settle_all(&mut self, subject: &Digest, claims: Vec<MergedClaim>) {
        // Two legacy tags can name one manifest; with the last of its claims, what is known of it goes.
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
                    // Of a list that broke off nobody can say what it does not name.
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
                if !self.held.take(held::of_referrer(&referrer)) {
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
            // A shorter way may have been found since.
            if self.subjects.contains_key(&digest) {
                continue;
            }
            if let Some(state) = self.subjects.get_mut(&subject) {
                let message = format!(
                    "referrers are followed for {} levels",
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
            indexes,
            unopened,
        };
        graph.sort();
        graph
    }
}

impl SubjectState {
    /// Makes room for an answer, and drops of it what is too much.
    fn hold_answer(&mut self, held: &Held, answer: &mut Answer) {
        if !held.take(held::of_words(answer)) {
            answer.exchanges = Vec::new();
            answer.warnings = Vec::new();
            answer.errors.truncate(1);
            answer.fail(too_much());
        }
        let mut room = answer.claims.iter().map(|claim| {
            let bytes = held::of_claim(claim);
            held.take(bytes).then_some(bytes)
        });
        let taken: Vec<usize> = room.by_ref().map_while(|bytes| bytes).collect();
        self.held += taken.iter().sum::<usize>();
        if taken.len() < answer.claims.len() {
            answer.claims.truncate(taken.len());
            answer.claims.shrink_to_fit();
            answer.fail(too_much());
        }
    }

    /// Drops what is known of a manifest.
    fn forget(&mut self, held: &Held, digest: &Digest) {
        if let Some(Some(Ok(facts))) = self.facts.remove(digest) {
            self.held -= facts.held();
            held.give_back(facts.held());
        }
    }

    /// Makes room for what was read of a manifest.
    fn hold(
        &mut self,
        held: &Held,
        facts: Result<Facts, ManifestFailure>,
    ) -> Result<Facts, ManifestFailure> {
        let facts = facts?;
        if !held.take(facts.held()) {
            return Err(ManifestFailure::Failed(too_much()));
        }
        self.held += facts.held();
        Ok(facts)
    }

    /// Says how the referrers were found, from what was answered and found: a source's name decides nothing.
    fn method(&self) -> DiscoveryMethod {
        if self.api_listed {
            if self.tag_added {
                DiscoveryMethod::NativeAndTag
            } else {
                DiscoveryMethod::Native
            }
        } else if self.tag_absent && self.legacy_found {
            DiscoveryMethod::LegacyTag
        } else if self.other_listed && !self.tag_listed && !self.legacy_found {
            DiscoveryMethod::Other
        } else {
            DiscoveryMethod::FallbackTag
        }
    }

    /// Draws what follows from all answers together, and returns what they name.
    fn conclude(
        &mut self,
        subject: &Digest,
        answers: impl Iterator<Item = (SourceKind, Answer)>,
        limits: &Limits,
    ) -> Vec<MergedClaim> {
        let mut unless_tag_answers: Vec<Problem> = Vec::new();
        let mut tag_silent = false;
        let mut tag_missing = false;
        let mut claims: Vec<SourcedClaim> = Vec::new();
        for (kind, answer) in answers {
            let listed = matches!(answer.outcome, Outcome::List | Outcome::PartialList);
            let by_api = listed && answer.capability == Some(Capability::Supported);
            self.api_listed |= by_api;
            self.api_listed_all |= by_api && answer.outcome == Outcome::List;
            match kind {
                SourceKind::ReferrersTag => {
                    let silent = answer.outcome == Outcome::NoAnswer && answer.errors.is_empty();
                    let noticed = answer.warnings.iter().map(|warning| warning.code);
                    self.tag_listed |= listed;
                    tag_silent |= silent;
                    tag_missing |= silent && !noticed.into_iter().any(holds_something);
                }
                SourceKind::LegacyTag => {}
                _ => self.other_listed |= listed && !by_api,
            }
            self.capability = match (self.capability, answer.capability) {
                (None | Some(Capability::Unknown), Some(said)) => Some(said),
                (Some(_), Some(Capability::Supported)) => answer.capability,
                (known, _) => known,
            };
            self.warnings.extend(answer.warnings);
            self.exchanges.extend(answer.exchanges);
            for mut problem in answer.errors {
                problem.source.get_or_insert(kind);
                match problem.settled_by_tag {
                    true => unless_tag_answers.push(problem),
                    false => self.errors.push(problem),
                }
            }
            for mut claim in answer.claims {
                if kind != SourceKind::LegacyTag {
                    claim.tag = None;
                } else if !claim
                    .tag
                    .as_ref()
                    .is_some_and(|tag| speaks_of(tag, subject))
                {
                    let message =
                        "it is named by a legacy tag, and no tag of the subject comes with it";
                    let mut problem = Problem::new(ErrorCode::Malformed, message);
                    problem.source = Some(kind);
                    self.errors.push(problem.about(&claim.descriptor.digest));
                    continue;
                }
                claims.push(SourcedClaim {
                    source: kind,
                    by_api,
                    claim,
                });
            }
        }
        self.tag_absent = tag_silent && !self.tag_listed;
        for problem in unless_tag_answers {
            // Clients that keep a referrers tag for one subject of a repository keep it for every subject that has
            // referrers, because they could not use the API.
            if problem.code == ErrorCode::Denied && self.depth > 0 && tag_missing {
                self.open.push(problem);
            } else {
                self.settle_by_tag(problem, self.tag_listed);
            }
        }
        let mut claims = merge(claims);
        if claims.len() > limits.max_referrers_per_subject {
            claims.truncate(limits.max_referrers_per_subject);
            let message = format!(
                "more than {} referrers of one subject",
                limits.max_referrers_per_subject
            );
            let problem = Problem::new(ErrorCode::Limit, message);
            self.errors.push(problem.about(subject));
        }
        claims
    }

    /// Drops a problem if referrers tags answer in its place.
    fn settle_by_tag(&mut self, mut problem: Problem, answers: bool) {
        if !answers {
            problem.message.push_str(", and no referrers tag answers");
            self.errors.push(problem);
        } else {
            let who = match self.tag_listed {
                true => "the referrers tag answers",
                false => "the repository keeps referrers tags, and this subject has none",
            };
            let message = format!("{}; {who}", problem.message);
            self.warnings
                .push(Warning::new(WarningCode::CapabilityBlocked, message));
        }
    }

    /// Notes that a claim's manifest could not be looked at.
    fn fail(&mut self, claim: &MergedClaim, failure: ManifestFailure) {
        let digest = &claim.descriptor.digest;
        match failure {
            ManifestFailure::NotFound => {
                let message = format!("{} names a manifest that is not there", claim.named_by());
                let warning = Warning::new(WarningCode::DanglingReferrer, message);
                self.warnings.push(warning.about(digest));
            }
            ManifestFailure::Failed(problem) => self.errors.push(problem.about(digest)),
        }
    }
}

fn too_much() -> Problem {
    let message = "what was found takes more memory than a discovery may";
    Problem::new(ErrorCode::Limit, message)
}

/// Returns whether a warning of a referrers tag says that the tag exists.
fn holds_something(code: WarningCode) -> bool {
    matches!(code, WarningCode::NotAnIndex | WarningCode::False200)
}

/// Returns the subjects below an index: with only its indexes read, no attestations, as for an image.
fn children(tree: &ImageTree, depth: Option<ImageDepth>) -> impl Iterator<Item = Digest> + use<> {
    let subjects = match depth {
        Some(ImageDepth::Manifests) => tree.all_subjects(),
        _ => tree.subjects(),
    };
    subjects.into_iter().skip(1)
}

/// What one source says about one manifest.
struct SourcedClaim {
    source: SourceKind,
    /// The source has shown that it is the referrers API.
    by_api: bool,
    claim: Claim,
}

/// What all sources together say about one manifest.
#[derive(Debug)]
pub(crate) struct MergedClaim {
    pub(crate) descriptor: Descriptor,
    /// In their order, each once.
    pub(crate) sources: Vec<SourceKind>,
    /// The legacy tag that names it, exactly where one of the sources is a legacy tag.
    pub(crate) tag: Option<Tag>,
    listed_by_api: bool,
}

impl MergedClaim {
    /// Returns whether only a tag's name relates the manifest to its subject.
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

/// Brings the claims about one manifest together. A second legacy tag on one manifest stays a claim of its own,
/// so that the tag is not lost.
fn merge(claims: Vec<SourcedClaim>) -> Vec<MergedClaim> {
    let mut merged: Vec<MergedClaim> = Vec::new();
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut tags: HashSet<Tag> = HashSet::new();
    for SourcedClaim {
        source,
        by_api,
        claim,
    } in claims
    {
        if let Some(tag) = &claim.tag
            && !tags.insert(tag.clone())
        {
            continue;
        }
        match places.get(&claim.descriptor.digest) {
            Some(place) if merged[*place].tag.is_none() || claim.tag.is_none() => {
                let known = &mut merged[*place];
                if let Err(place) = known.sources.binary_search(&source) {
                    known.sources.insert(place, source);
                }
                known.listed_by_api |= by_api;
                known.tag = known.tag.take().or(claim.tag);
                if source == SourceKind::ReferrersApi {
                    known.descriptor = claim.descriptor;
                }
            }
            _ => {
                places.insert(claim.descriptor.digest.clone(), merged.len());
                merged.push(MergedClaim {
                    descriptor: claim.descriptor,
                    sources: vec![source],
                    tag: claim.tag,
                    listed_by_api: by_api,
                });
            }
        }
    }
    merged
}

/// Returns whether a tag is a legacy tag of the subject: its name alone relates what it holds to the subject.
fn speaks_of(tag: &Tag, subject: &Digest) -> bool {
    LegacyTag::from_tag(tag).is_some_and(|tag| tag.subject() == subject)
}

#[cfg(test)]
mod tests {
    use super::*;

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
