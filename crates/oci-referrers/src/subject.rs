use std::collections::BTreeMap;

use oci_content::{
    Capability, Digest, DiscoveryMethod, ErrorCode, LegacyTag, SourceKind, Tag, WarningCode,
};

use crate::claim::{MergedClaim, SourcedClaim, merge};
use crate::held::{self, Held};
use crate::limits::Limits;
use crate::manifests::ManifestFailure;
use crate::source::{Answer, Exchange, Outcome, Problem, Warning};
use crate::verify::Facts;

/// What a discovery knows about one subject so far.
#[derive(Debug, Default)]
pub(crate) struct SubjectState {
    pub(crate) depth: u32,
    /// The answers by the index of their source, until all have come.
    pub(crate) answers: Vec<Option<(SourceKind, Answer)>>,
    /// What is known about the manifests that were named; `None` while one is being read.
    pub(crate) facts: BTreeMap<Digest, Option<Result<Facts, ManifestFailure>>>,
    /// Claims whose manifest is being read.
    pub(crate) claims: BTreeMap<Digest, Vec<MergedClaim>>,
    /// The bytes that claims and facts take until all claims are settled.
    pub(crate) held: usize,
    pub(crate) capability: Option<Capability>,
    /// The API gave a list, whole or partial: the source of the list says that the API is
    /// supported, whatever its kind.
    pub(crate) api_listed: bool,
    /// The API gave its whole list.
    pub(crate) api_listed_all: bool,
    /// The referrers tag is known to be absent.
    tag_absent: bool,
    /// The referrers tag holds an index.
    pub(crate) tag_listed: bool,
    pub(crate) tag_added: bool,
    pub(crate) legacy_found: bool,
    /// A source that is neither the API nor a tag gave a list.
    other_listed: bool,
    pub(crate) errors: Vec<Problem>,
    /// Problems that count unless a referrers tag of some subject holds an index.
    pub(crate) open: Vec<Problem>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) exchanges: Vec<Exchange>,
}

impl SubjectState {
    /// Creates the state of a subject `depth` steps away from a root, of which nothing is known
    /// yet.
    pub(crate) fn at(depth: u32) -> Self {
        Self {
            depth,
            ..Self::default()
        }
    }

    /// Accounts for an answer, and drops the part of it that exceeds the memory limit.
    pub(crate) fn hold_answer(&mut self, held: &Held, answer: &mut Answer) {
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

    /// Drops what is known about a manifest.
    pub(crate) fn forget(&mut self, held: &Held, digest: &Digest) {
        if let Some(Some(Ok(facts))) = self.facts.remove(digest) {
            self.held -= facts.held();
            held.give_back(facts.held());
        }
    }

    /// Accounts for what was read of a manifest.
    pub(crate) fn hold(
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

    /// Returns how the referrers were found. Answers and findings decide it, never the kind that a
    /// source claims.
    pub(crate) fn method(&self) -> DiscoveryMethod {
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

    /// Draws conclusions from all answers together, and returns the claims that they make.
    pub(crate) fn conclude(
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
                if problem.settled_by_tag {
                    unless_tag_answers.push(problem)
                } else {
                    self.errors.push(problem)
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
                    let message = "a legacy tag is said to name it, but the claim has no tag for this subject";
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
            // Clients that keep a referrers tag for one subject of a repository keep one for every
            // subject that has referrers, because they cannot use the API.
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

    /// Turns a problem into a warning if referrers tags make up for it.
    pub(crate) fn settle_by_tag(&mut self, mut problem: Problem, answers: bool) {
        if !answers {
            problem.message.push_str(", and no referrers tag answers");
            self.errors.push(problem);
        } else {
            let who = if self.tag_listed {
                "the referrers tag answers"
            } else {
                "the repository keeps referrers tags, and this subject has none"
            };
            let message = format!("{}; {who}", problem.message);
            self.warnings
                .push(Warning::new(WarningCode::CapabilityBlocked, message));
        }
    }

    /// Records that the manifest of a claim could not be read.
    pub(crate) fn fail(&mut self, claim: &MergedClaim, failure: ManifestFailure) {
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

/// Returns the problem of a discovery that has reached its memory limit.
pub(crate) fn too_much() -> Problem {
    let message = "the results exceed the memory limit of a discovery";
    Problem::new(ErrorCode::Limit, message)
}

/// Returns whether a warning about a referrers tag implies that the tag exists.
fn holds_something(code: WarningCode) -> bool {
    matches!(code, WarningCode::NotAnIndex | WarningCode::False200)
}

/// Returns whether a tag is a legacy tag of the subject, so that its name alone relates its
/// manifest to the subject.
fn speaks_of(tag: &Tag, subject: &Digest) -> bool {
    LegacyTag::from_tag(tag).is_some_and(|tag| tag.subject() == subject)
}
