use std::collections::BTreeSet;

use oci_content::{Completeness, Digest, RepositoryName, Tag};
use oci_referrers::ReferrerGraph;

use super::error::{ImportError, ImportErrorKind};
use super::plan::RepositoryPlan;
use super::report::{ImportReport, MissingReferrer};

/// Compares what a discovery at the target found with what the bundle holds; returns what is missing.
pub(super) fn missing(
    name: &RepositoryName,
    plan: &RepositoryPlan,
    graph: &ReferrerGraph,
) -> Vec<MissingReferrer> {
    let found: BTreeSet<(&Digest, &Digest, Option<&Tag>)> = graph
        .referrers
        .iter()
        .map(|referrer| (&referrer.subject, &referrer.digest, referrer.tag.as_ref()))
        .collect();
    let edges: BTreeSet<(&Digest, &Digest)> = graph.edges();
    let is_missing = |edge: &&(Digest, Digest, Option<Tag>)| {
        let (subject, referrer, tag) = edge;
        match tag {
            Some(tag) => !found.contains(&(subject, referrer, Some(tag))),
            None => !edges.contains(&(subject, referrer)),
        }
    };
    let missing = plan.edges.iter().filter(is_missing);
    missing
        .map(|(subject, referrer, tag)| MissingReferrer {
            repository: name.to_string(),
            subject: subject.clone(),
            referrer: referrer.clone(),
            tag: tag.clone(),
        })
        .collect()
}

/// Ends an import: everything was found, or an error names what was not.
pub(super) fn conclude(report: &mut ImportReport, reasons: &[String]) -> Result<(), ImportError> {
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

/// Returns why a discovery at the target could not settle something, in words.
pub(super) fn reasons(graph: &ReferrerGraph) -> Vec<String> {
    match graph.status() {
        Completeness::Complete => Vec::new(),
        _ => graph
            .errors()
            .map(|problem| problem.message.clone())
            .collect(),
    }
}
