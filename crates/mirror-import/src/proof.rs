use std::collections::{BTreeSet, HashMap};

use oci_content::{Completeness, Digest, RepositoryName, Tag};
use oci_referrers::{Discovery, ReferrerGraph};

use crate::error::{ImportError, ImportErrorKind};
use crate::plan::RepositoryPlan;
use crate::report::{ImportReport, MissingReferrer};

/// The number of images and subjects that are discovered at once: the result is compared, and then
/// dropped.
const ROOTS_AT_ONCE: usize = 256;

/// The referrers that a discovery at the target found in a repository, compared with those of the
/// graph.
#[derive(Debug)]
pub(crate) struct Comparison<'p> {
    name: &'p RepositoryName,
    /// Every edge of the graph, and its place in `found`.
    places: HashMap<(&'p Digest, &'p Digest, Option<&'p Tag>), usize>,
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
        let edges = plan.edges.iter();
        let keys = edges.map(|(subject, referrer, tag)| (subject, referrer, tag.as_ref()));
        let mut comparison = Self {
            name,
            places: keys.zip(0..).collect(),
            found: vec![false; plan.edges.len()],
            plan,
            reasons: Vec::new(),
        };
        let roots: Vec<&Digest> = plan.roots.iter().collect();
        comparison.look(discovery, &roots).await;
        comparison
    }

    /// Discovers once more from the subjects of what was not found.
    pub(crate) async fn again(&mut self, discovery: &Discovery) {
        self.reasons.clear();
        let edges = self.plan.edges.iter().zip(&self.found);
        let subjects = edges.filter(|(_, found)| !**found);
        let subjects: BTreeSet<&Digest> = subjects.map(|((subject, _, _), _)| subject).collect();
        let subjects: Vec<&Digest> = subjects.into_iter().collect();
        self.look(discovery, &subjects).await;
    }

    async fn look(&mut self, discovery: &Discovery, roots: &[&Digest]) {
        let many = roots.len() > ROOTS_AT_ONCE;
        let discovery = discovery.clone().one_of_many(many);
        for roots in roots.chunks(ROOTS_AT_ONCE) {
            let roots = roots.iter().copied().cloned();
            self.add(&discovery.run(roots).await);
        }
    }

    /// Returns whether everything was found.
    pub(crate) fn is_whole(&self) -> bool {
        !self.found.contains(&false)
    }

    fn add(&mut self, graph: &ReferrerGraph) {
        for known in &graph.referrers {
            // A referrer in a list counts as found, whether or not a legacy tag names it as well.
            for tag in [None, known.tag.as_ref()] {
                let place = self.places.get(&(&known.subject, &known.digest, tag));
                if let Some(place) = place {
                    self.found[*place] = true;
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
        let edges = self.plan.edges.iter().zip(&self.found);
        let missing = edges.filter(|(_, found)| !**found);
        let missing = missing.map(|((subject, referrer, tag), _)| MissingReferrer {
            repository: self.name.to_string(),
            subject: subject.clone(),
            referrer: referrer.clone(),
            tag: tag.clone(),
        });
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
