//! `--explain`: every request and its answer.

use std::collections::BTreeMap;

use oci_content::Digest;
use oci_referrers::SubjectReport;

use super::Found;
use crate::render;

/// The widest line of an explanation that is not wrapped, for a terminal of 80 columns.
const EXPLAINED_WIDTH: usize = 78;

impl Found {
    pub(super) fn explanation(&self) -> String {
        let mut text = String::from("\nWhat was asked, and what came back:\n");
        // Most subjects are referrers without referrers of their own; those with the same answers share one line.
        let mut quiet: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut reports: Vec<_> = self.graph.subjects.iter().collect();
        reports
            .sort_by_key(|report| (report.depth, Some(&report.subject) != self.subject.as_ref()));
        for report in reports {
            if is_quiet(report) && self.graph.referrers_of(&report.subject).next().is_none() {
                let subject = render::short(&report.subject);
                quiet.entry(answers(report)).or_default().push(subject);
                continue;
            }
            text.push_str(&format!(
                "  {}{} (referrers API {}, {})\n",
                self.place(&report.subject),
                render::short(&report.subject),
                report.capability,
                report.method
            ));
            for exchange in &report.exchanges {
                let (source, answer) = (exchange.source, &exchange.answer);
                let request = without_long_digests(&exchange.request);
                let line = format!("    {source:13}  {request} -> {answer}");
                if line.chars().count() <= EXPLAINED_WIDTH {
                    text.push_str(&format!("{line}\n"))
                } else {
                    text.push_str(&format!(
                        "    {source:13}  {request}\n    {:13}  -> {answer}\n",
                        ""
                    ))
                }
            }
        }
        for (answers, subjects) in quiet {
            let count = subjects.len();
            text.push_str(&format!("  nothing refers to {count} more ({answers}):\n"));
            for subjects in subjects.chunks(3) {
                text.push_str(&format!("    {}\n", subjects.join(", ")));
            }
        }
        text.push_str("  --format json shows every request and full digests\n");
        text
    }

    /// Returns what a subject is within the image, if it is part of it.
    fn place(&self, subject: &Digest) -> String {
        let child = self
            .children
            .iter()
            .find(|child| child.descriptor.digest == *subject);
        match child.and_then(|child| child.descriptor.platform.as_ref()) {
            Some(platform) => format!("[{}] ", render::foreign(&platform.to_string())),
            None if self.subject.as_ref() == Some(subject) => "the image ".to_owned(),
            None => String::new(),
        }
    }
}

/// Returns whether a subject is a referrer about which there is nothing unusual to tell.
fn is_quiet(report: &SubjectReport) -> bool {
    report.depth > 0 && report.errors.is_empty() && report.warnings.is_empty()
}

/// Summarises the answers of the sources about a subject.
fn answers(report: &SubjectReport) -> String {
    if report.exchanges.is_empty() {
        return "a listing of the repository's tags answered".to_owned();
    }
    let answers: Vec<_> = report
        .exchanges
        .iter()
        .map(|exchange| format!("{} {}", exchange.source, exchange.answer))
        .collect();
    answers.join(", ")
}

/// Shortens digests, and tags made from them, as the tree does.
fn without_long_digests(request: &str) -> String {
    const SHOWN: usize = 12;
    const WHOLE: usize = 64;
    let mut text = String::new();
    let mut rest = request;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let length = rest[start..]
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(rest.len() - start);
        let end = start + length;
        if length >= WHOLE {
            text.push_str(&rest[..start + SHOWN]);
            text.push('…');
        } else {
            text.push_str(&rest[..end])
        }
        rest = &rest[end..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digests_are_shortened() {
        let hex = "0123456789abcdef".repeat(4);
        for (request, expected) in [
            (
                format!("GET /v2/app/referrers/sha256:{hex}"),
                "GET /v2/app/referrers/sha256:0123456789ab…",
            ),
            (
                format!("GET /v2/cafe/manifests/sha256-{hex}.sig and {hex}{hex}"),
                "GET /v2/cafe/manifests/sha256-0123456789ab….sig and 0123456789ab…",
            ),
            (
                "GET /v2/deadbeef/é/tags/list".to_owned(),
                "GET /v2/deadbeef/é/tags/list",
            ),
        ] {
            assert_eq!(without_long_digests(&request), expected);
        }
    }
}
