mod kind;
mod stage;

use std::borrow::Cow;
use std::fmt;

use oci_content::{Digest, schema_version_1};
use serde::{Deserialize, Serialize};

use self::kind::Class;
pub use self::kind::{FindingKind, UnknownFindingKind};
pub use self::stage::{Severity, Stage};

/// The result of a validation.
///
/// Its JSON form is described in `docs/json.md`; [`schema_version`](Self::schema_version) is its
/// version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// The version of the JSON form: 1. A document of another version is not read.
    #[serde(deserialize_with = "schema_version_1")]
    pub schema_version: u32,
    /// What was validated, as the caller named it.
    pub file: String,
    /// Whether there are no errors. Warnings do not count.
    pub ok: bool,
    /// The findings, in the order of the stages.
    pub findings: Vec<Finding>,
    /// The key that verified the signature, as the SHA-256 of its DER form; `None` if no key was
    /// given.
    pub signed_by: Option<Digest>,
    /// The numbers of files, bytes, images and findings.
    pub counts: Counts,
}

/// One deviation of a bundle.
///
/// Texts have no control characters, whatever the bundle holds, so they can be printed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// The stage in which it was found.
    pub stage: Stage,
    /// Whether it makes the bundle unusable.
    pub severity: Severity,
    /// The kind of finding.
    pub kind: FindingKind,
    /// The file concerned.
    pub path: Option<String>,
    /// What should be there.
    pub expected: Option<String>,
    /// What is there.
    pub found: Option<String>,
    /// What to do. A program can add to it before it prints a report, such as what to type.
    pub remedy: Cow<'static, str>,
}

/// The numbers of files, bytes, images and findings of a validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Counts {
    /// The number of files that were read.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The number of images that `manifest.yaml` lists.
    pub images: u64,
    /// The number of distinct subjects that have referrers.
    pub subjects: u64,
    /// The number of distinct referrers.
    pub referrers: u64,
    /// The number of blobs that the bundle leaves to its base. The import checks whether the target
    /// has them.
    pub blobs_in_base: u64,
    /// Their bytes.
    pub blob_bytes_in_base: u64,
    /// The number of errors, including those that are not listed.
    pub errors: u64,
    /// The number of warnings, including those that are not listed.
    pub warnings: u64,
    /// The number of findings that are not listed, because there are too many of their kind.
    pub omitted: u64,
}

impl Finding {
    /// Returns the exit code that a command ends with when this is its first error.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.kind)?;
        if let Some(path) = &self.path {
            write!(f, ": {path}")?;
        }
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => write!(f, ": expected {expected}, found {found}"),
            (Some(expected), None) => write!(f, ": expected {expected}"),
            (None, Some(found)) => write!(f, ": {found}"),
            (None, None) => Ok(()),
        }
    }
}

impl Report {
    /// Returns the error that decides: the first in the order of the stages.
    ///
    /// A wrong checksum of the container is explained by a damaged file in it, so that file's error
    /// decides.
    pub fn first_error(&self) -> Option<&Finding> {
        let explained = self.findings.iter().any(|finding| {
            matches!(
                finding.kind,
                FindingKind::ReferrerChecksumMismatch | FindingKind::EntryChecksumMismatch
            )
        });
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .find(|finding| !(explained && finding.kind == FindingKind::GzipChecksum))
    }

    /// Returns the exit code of a command that validates: 0, or that of the [first
    /// error](Self::first_error).
    pub fn exit_code(&self) -> u8 {
        self.first_error().map_or(0, Finding::exit_code)
    }
}

/// Collects findings while a validation runs.
#[derive(Debug)]
pub(crate) struct Findings {
    strict: bool,
    /// A kind that is an error in this validation, although it is otherwise advice.
    refused: Option<FindingKind>,
    max_per_kind: usize,
    found: Vec<Finding>,
    per_kind: std::collections::BTreeMap<FindingKind, usize>,
    pub(crate) signed_by: Option<Digest>,
    pub(crate) counts: Counts,
    /// The offset in the container beyond which it could not be read.
    pub(crate) broken_at: Option<u64>,
}

impl Findings {
    pub(crate) fn new(strict: bool, max_per_kind: usize) -> Self {
        Self {
            strict,
            refused: None,
            // The exit code needs one of each kind.
            max_per_kind: max_per_kind.max(1),
            found: Vec::new(),
            per_kind: std::collections::BTreeMap::new(),
            signed_by: None,
            counts: Counts::default(),
            broken_at: None,
        }
    }

    /// Turns a kind that is advice into an error.
    #[cfg(feature = "policy")]
    pub(crate) fn refuse(&mut self, kind: FindingKind) {
        self.refused = Some(kind);
    }

    pub(crate) fn add(&mut self, kind: FindingKind) -> Draft<'_> {
        let severity = match kind.class() {
            Class::Completeness if !self.strict => Severity::Warning,
            Class::Advice if self.refused != Some(kind) => Severity::Warning,
            Class::Completeness | Class::Always | Class::Advice => Severity::Error,
        };
        match severity {
            Severity::Error => self.counts.errors += 1,
            Severity::Warning => self.counts.warnings += 1,
        }
        let seen = self.per_kind.entry(kind).or_default();
        *seen += 1;
        if *seen > self.max_per_kind {
            self.counts.omitted += 1;
            return Draft(None);
        }
        self.found.push(Finding {
            stage: kind.stage(),
            severity,
            kind,
            path: None,
            expected: None,
            found: None,
            remedy: kind.remedy().into(),
        });
        Draft(self.found.last_mut())
    }

    pub(crate) fn has(&self, stage: Stage) -> bool {
        self.per_kind.keys().any(|kind| kind.stage() == stage)
    }

    pub(crate) fn has_error(&self, stage: Stage) -> bool {
        let errors = |finding: &&Finding| finding.severity == Severity::Error;
        self.found
            .iter()
            .filter(errors)
            .any(|finding| finding.stage == stage)
    }

    /// Returns the files of the bundle that are damaged.
    pub(crate) fn damaged(&self) -> impl Iterator<Item = &str> {
        let damaged = self.found.iter().filter(|finding| {
            matches!(
                finding.kind,
                FindingKind::ReferrerChecksumMismatch | FindingKind::EntryChecksumMismatch
            )
        });
        damaged.filter_map(|finding| finding.path.as_deref())
    }

    /// Returns the findings that are listed, and the number of further ones.
    pub(crate) fn into_listed(mut self) -> (Vec<Finding>, u64) {
        self.found.sort();
        (self.found, self.counts.omitted)
    }

    pub(crate) fn into_report(mut self, file: String) -> Report {
        self.found.sort();
        Report {
            schema_version: 1,
            file: printable(&file),
            ok: self.counts.errors == 0,
            findings: self.found,
            signed_by: self.signed_by,
            counts: self.counts,
        }
    }
}

/// A finding that is being described; `None` if it is only counted.
pub(crate) struct Draft<'a>(Option<&'a mut Finding>);

impl Draft<'_> {
    fn set(
        mut self,
        field: fn(&mut Finding) -> &mut Option<String>,
        text: impl fmt::Display,
    ) -> Self {
        if let Some(finding) = &mut self.0 {
            *field(finding) = Some(printable(&text.to_string()));
        }
        self
    }

    pub(crate) fn path(self, text: impl fmt::Display) -> Self {
        self.set(|finding| &mut finding.path, text)
    }

    pub(crate) fn expected(self, text: impl fmt::Display) -> Self {
        self.set(|finding| &mut finding.expected, text)
    }

    pub(crate) fn found(self, text: impl fmt::Display) -> Self {
        self.set(|finding| &mut finding.found, text)
    }
}

/// Escapes what a terminal, a log or a reader could misinterpret, and truncates what is too long.
fn printable(text: &str) -> String {
    const MAX_CHARS: usize = 400;
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == MAX_CHARS {
            out.push('…');
            break;
        }
        match c {
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::kind::TRANSFER_AGAIN;
    use super::*;

    #[test]
    fn kinds_are_declared_in_the_order_of_their_stages() {
        let stages: Vec<_> = FindingKind::ALL.iter().map(|kind| kind.stage()).collect();
        assert!(stages.is_sorted());
        for kind in FindingKind::ALL {
            let remedy = kind.remedy();
            assert!(!remedy.is_empty(), "{kind}");
            // What to type is for the binaries to say.
            assert!(
                !remedy.contains("--") && !remedy.contains("stellaops"),
                "{remedy}"
            );
        }
    }

    #[test]
    fn the_exit_code_is_that_of_the_first_error_in_the_order_of_the_stages() {
        let code = |strict, kinds: &[FindingKind]| {
            let mut findings = Findings::new(strict, 10);
            for kind in kinds {
                findings.add(*kind);
            }
            findings.into_report("x".into()).exit_code()
        };
        use FindingKind::*;
        assert_eq!(code(false, &[]), 0);
        assert_eq!(code(false, &[ReferrerMissing, ManifestVersion]), 3);
        assert_eq!(code(false, &[ReferrerMissing, UnsafePath]), 7);
        assert_eq!(code(false, &[OrphanedReferrer, UnreferencedObject]), 0);
        assert_eq!(code(true, &[OrphanedReferrer, UnreferencedObject]), 11);
        assert_eq!(code(true, &[OrphanedReferrer, EntryMissing]), 4);
        assert_eq!(code(false, &[GzipChecksum]), 3);
        assert_eq!(code(false, &[ReferrerChecksumMismatch, GzipChecksum]), 4);
        assert_eq!(
            code(false, &[EntryChecksumMismatch, GzipChecksum, TarEnd]),
            3
        );
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let mut findings = Findings::new(false, 3);
        for number in 0..10 {
            findings.add(FindingKind::EntryNotListed).path(number);
        }
        findings.add(FindingKind::ReferrerMissing);
        let report = findings.into_report("x".into());
        assert_eq!(report.findings.len(), 4);
        assert_eq!((report.counts.errors, report.counts.omitted), (11, 7));
    }

    #[test]
    fn what_a_bundle_holds_cannot_write_to_a_terminal() {
        let mut findings = Findings::new(false, 3);
        findings
            .add(FindingKind::UnsafePath)
            .path("\u{1b}[2Jé\u{202e}\n")
            .found("x".repeat(1_000));
        let report = findings.into_report("a\rb".into());
        assert_eq!(report.file, "a\\u{d}b");
        let finding = &report.findings[0];
        let path = finding.path.as_deref();
        assert_eq!(path, Some("\\u{1b}[2Jé\\u{202e}\\u{a}"));
        assert_eq!(finding.found.as_ref().unwrap().chars().count(), 401);
    }

    #[test]
    fn the_json_form_is_the_documented_one() {
        let mut findings = Findings::new(false, 3);
        findings
            .add(FindingKind::ReferrerSizeMismatch)
            .path("referrers/x")
            .expected(5)
            .found(6);
        let report = findings.into_report("bundle.tgz".into());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "schemaVersion": 1,
                "file": "bundle.tgz",
                "ok": false,
                "findings": [{
                    "stage": "digests",
                    "kind": "ReferrerSizeMismatch",
                    "severity": "error",
                    "path": "referrers/x",
                    "expected": "5",
                    "found": "6",
                    "remedy": TRANSFER_AGAIN,
                }],
                "signedBy": null,
                "counts": {
                    "entries": 0, "bytes": 0, "images": 0, "subjects": 0, "referrers": 0,
                    "blobsInBase": 0, "blobBytesInBase": 0,
                    "errors": 1, "warnings": 0, "omitted": 0,
                },
            })
        );
        assert_eq!(
            serde_json::from_value::<Report>(json.clone()).unwrap(),
            report
        );
        for (member, value, reason) in [
            (
                "/schemaVersion",
                2.into(),
                "schemaVersion 2 is not supported, only 1",
            ),
            (
                "/findings/0/kind",
                "Unheard".into(),
                "\"Unheard\" is not a kind",
            ),
        ] {
            let mut other = json.clone();
            *other.pointer_mut(member).unwrap() = value;
            let error = serde_json::from_value::<Report>(other)
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
