use std::collections::BTreeSet;

use oci_content::{Completeness, Digest, RepositoryName};
use oci_referrers::{Discovery, ReferrerGraph};

use crate::error::{ImportError, ImportErrorKind};
use crate::plan::{Edge, RepositoryPlan};
use crate::report::{ImportReport, MissingReferrer};

/// The number of images and subjects that are discovered at once: the result is compared, and then
/// dropped.
pub(crate) const ROOTS_AT_ONCE: usize = 256;

/// The referrers that a discovery at the target found in a repository, compared with those of the
/// graph.
#[derive(Debug)]
pub(crate) struct Comparison<'p> {
    name: &'p RepositoryName,
    /// Whether each edge of the graph was found.
    found: Vec<bool>,
    plan: &'p RepositoryPlan,
    reasons: Vec<String>,
}

impl<'p> Comparison<'p> {
    /// Discovers from all roots of a repository, in batches.
    pub(crate) async fn of(
        name: &'p RepositoryName,
        plan: &'p RepositoryPlan,
        discovery: &Discovery,
    ) -> Self {
        let mut comparison = Self::empty(name, plan);
        let roots: Vec<&Digest> = plan.roots.iter().collect();
        comparison.look(discovery.clone(), &roots).await;
        comparison
    }

    /// Discovers what the subjects of the graph have, and nothing further: what has no referrers in
    /// the graph is not asked about. One listing of tags answers for all.
    pub(crate) async fn of_subjects(
        name: &'p RepositoryName,
        plan: &'p RepositoryPlan,
        discovery: &Discovery,
    ) -> Self {
        let mut comparison = Self::empty(name, plan);
        let mut subjects: Vec<&Digest> = plan.edges.iter().map(|(subject, _, _)| subject).collect();
        subjects.dedup();
        let discovery = discovery.clone().one_of_many(true).depth(Some(1));
        comparison.look(discovery, &subjects).await;
        comparison
    }

    fn empty(name: &'p RepositoryName, plan: &'p RepositoryPlan) -> Self {
        Self {
            name,
            found: vec![false; plan.edges.len()],
            plan,
            reasons: Vec::new(),
        }
    }

    /// Discovers once more from the subjects of what was not found. What was found of those
    /// subjects before has to be found again: their lists may have changed since.
    pub(crate) async fn again(&mut self, discovery: &Discovery) {
        self.reasons.clear();
        let subjects: BTreeSet<&Digest> = self.lost().map(|(subject, _, _)| subject).collect();
        for ((subject, _, _), found) in self.plan.edges.iter().zip(&mut self.found) {
            *found &= !subjects.contains(subject);
        }
        let subjects: Vec<&Digest> = subjects.into_iter().collect();
        self.look(discovery.clone(), &subjects).await;
    }

    async fn look(&mut self, discovery: Discovery, roots: &[&Digest]) {
        let discovery = if roots.len() > ROOTS_AT_ONCE {
            discovery.one_of_many(true)
        } else {
            discovery
        };
        for roots in roots.chunks(ROOTS_AT_ONCE) {
            let roots = roots.iter().copied().cloned();
            self.add(&discovery.run(roots).await);
        }
    }

    /// Returns whether everything was found.
    pub(crate) fn is_whole(&self) -> bool {
        !self.found.contains(&false)
    }

    /// Returns the edges that were found.
    pub(crate) fn found(&self) -> impl Iterator<Item = &'p Edge> {
        let edges = self.plan.edges.iter().zip(&self.found);
        edges.filter(|(_, found)| **found).map(|(edge, _)| edge)
    }

    /// Returns the edges that were not found.
    pub(crate) fn lost(&self) -> impl Iterator<Item = &'p Edge> {
        let edges = self.plan.edges.iter().zip(&self.found);
        edges.filter(|(_, found)| !**found).map(|(edge, _)| edge)
    }

    fn add(&mut self, graph: &ReferrerGraph) {
        for known in &graph.referrers {
            // A referrer in a list counts as found, whether or not a legacy tag names it as well.
            for tag in [None, known.tag.as_ref()] {
                let key = (&known.subject, &known.digest, tag);
                let edges = &self.plan.edges;
                let place = edges.binary_search_by(|(subject, referrer, tag)| {
                    (subject, referrer, tag.as_ref()).cmp(&key)
                });
                if let Ok(place) = place {
                    self.found[place] = true;
                }
            }
        }
        if graph.status() == Completeness::Incomplete {
            let messages = graph.errors().map(|problem| problem.message.clone());
            self.reasons.extend(messages);
        }
    }

    /// Returns what was not found, and the reasons of an incomplete discovery, in words.
    pub(crate) fn missing(&self) -> (Vec<MissingReferrer>, Vec<String>) {
        let missing = self
            .lost()
            .map(|edge| MissingReferrer::new(self.name, edge));
        (missing.collect(), self.reasons.clone())
    }
}

/// Succeeds if everything was found; otherwise the error names what was not.
pub(crate) fn conclude(report: &mut ImportReport, reasons: &[String]) -> Result<(), ImportError> {
    report.referrers_found = report.referrers_expected - report.missing.len();
    let Some(first) = report.missing.first() else {
        return Ok(());
    };
    let more = match report.missing.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let why = reasons
        .first()
        .map(|reason| format!("; {reason}"))
        .unwrap_or_default();
    let message = format!(
        "{} of {} referrers were found at {}: it does not list {} as a referrer of {} in {}{more}{why}; a second \
         import sends them again",
        report.referrers_found,
        report.referrers_expected,
        report.target,
        first.referrer,
        first.subject,
        first.repository,
    );
    Err(ImportError::new(ImportErrorKind::Incomplete, message).with_report(report.clone()))
}
