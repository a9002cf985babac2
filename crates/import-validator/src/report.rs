use std::fmt;

use oci_content::Digest;
use serde::{Serialize, Serializer};

/// What a validation found.
///
/// Its JSON form is the one of `bundle validate --format json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// The version of the JSON form: 1.
    pub schema_version: u32,
    /// What was validated, as the caller named it.
    pub file: String,
    /// Whether there is no error. Warnings do not count.
    pub ok: bool,
    /// What was found, in the order of the stages.
    pub findings: Vec<Finding>,
    /// The key by which the signature was verified, as the SHA-256 of its DER form; none where no key was given.
    pub signed_by: Option<Digest>,
    /// How much there was.
    pub counts: Counts,
}

/// One thing that is not as it should be.
///
/// Texts hold no control characters, whatever the bundle holds, so they can be printed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Where in the validation it was found.
    pub stage: Stage,
    /// Whether it makes the bundle unusable.
    pub severity: Severity,
    /// What it is.
    pub kind: FindingKind,
    /// The file that it is about.
    pub path: Option<String>,
    /// What should be there.
    pub expected: Option<String>,
    /// What is there.
    pub found: Option<String>,
    /// What to do.
    pub remedy: &'static str,
}

/// The stages of a validation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Stage {
    /// The file as gzip and tar.
    Container,
    /// Entries that would do harm if they were extracted.
    Unsafe,
    /// The limits within which a bundle is read.
    Limit,
    /// The signature over `manifest.yaml`.
    Signature,
    /// `manifest.yaml`.
    Manifest,
    /// The OCI image layout, and whether everything that a manifest needs is there.
    Layout,
    /// Size and digest of every file.
    Digests,
    /// The graph of subjects and referrers.
    Referrers,
    /// The rules of the site.
    Policy,
}

/// Whether a finding makes a bundle unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// How much there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Counts {
    /// Files that were read.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Images that `manifest.yaml` lists.
    pub images: u64,
    /// Distinct subjects that have referrers.
    pub subjects: u64,
    /// Distinct referrers.
    pub referrers: u64,
    /// Blobs that the bundle leaves out because its base holds them. Whether the target has them is for the import.
    pub blobs_in_base: u64,
    /// Their bytes.
    pub blob_bytes_in_base: u64,
    /// Errors, those that are not listed included.
    pub errors: u64,
    /// Warnings, those that are not listed included.
    pub warnings: u64,
    /// Findings that are counted and not listed, because there are so many of their kind.
    pub omitted: u64,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $stage:ident, $exit:literal, $class:ident, $remedy:expr;)+) => {
        /// What a finding is. The name is the one in text and JSON.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum FindingKind {
            $($(#[$doc])* $name,)+
        }

        impl FindingKind {
            /// Every kind, in the order of the stages.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Returns the stage in which it is found.
            pub fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage,)+ }
            }

            /// Returns the exit code that a command ends with when this is its first error.
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)+ }
            }

            /// Returns when it is an error.
            fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)+ }
            }

            fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

/// When a kind is an error.
#[derive(Clone, Copy)]
enum Class {
    /// Always.
    Always,
    /// When the validation is strict; else a warning.
    Completeness,
    /// Never.
    Advice,
}

const TRANSFER_AGAIN: &str = "compare `sha256sum` of the file with the .sha256 file that was written beside it at \
    the source: if they differ, transfer it again; if they agree, export it again";
const VOLUME_AGAIN: &str = "bring this volume of the same export again, and check it with `sha256sum -c` and the \
    .sha256 file of its name";
const EXPORT_AGAIN: &str = "the bundle was made wrong or changed afterwards; export it again";
const UPSTREAM: &str = "the source registry has it like this; have the image or the referrer pushed again there, then export again";
const HOSTILE: &str =
    "no exporter writes this; do not extract the file, and find out where it comes from";
const RAISE_LIMIT: &str =
    "if a bundle of this size is what you expect, raise the limit that is named";
const NOT_AUTHENTIC: &str = "do not import it; ask who sent it for the bundle and its signature again, and compare \
    the key with the one that they sign with";
const COMPLETE: &str = "run `stellaops referrers discover` on the image at the source, settle what it names, and export again";

kinds! {
    /// The file cannot be read.
    Io => Container, 8, Always, "check that the file is there, may be read, and that its medium is sound";
    /// Another volume than the first is named.
    VolumeNotFirst => Container, 2, Always, "name the first volume; the others are found beside it";
    /// A volume is not there.
    VolumeMissing => Container, 8, Always, "bring it into the folder of the first volume, or make a link to it there";
    /// A volume is shorter or longer than it was written.
    VolumeSize => Container, 3, Always, VOLUME_AGAIN;
    /// A volume holds other bytes than it was written with: of another bundle, of another export, or damaged ones.
    VolumeContent => Container, 4, Always, VOLUME_AGAIN;
    /// There is a volume behind the last one of the bundle.
    VolumeUnexpected => Container, 3, Always, "remove it from the folder of the first volume: it is of another export";
    /// Neither a gzip file nor a tar archive.
    NotABundle => Container, 3, Always, "name the bundle file that `stellaops bundle export` wrote";
    /// Gzip or tar in another encoding than a bundle has.
    NotCanonical => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// The file ends before the bundle does.
    Truncated => Container, 3, Always, TRANSFER_AGAIN;
    /// The framing of a stored block contradicts itself.
    GzipBlock => Container, 3, Always, TRANSFER_AGAIN;
    /// The checksum or the length in the gzip trailer is wrong.
    GzipChecksum => Container, 3, Always, TRANSFER_AGAIN;
    /// A tar header is damaged.
    TarHeader => Container, 3, Always, TRANSFER_AGAIN;
    /// A pax or GNU header changes another entry.
    TarExtension => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// Something else than zeros pads a file.
    TarPadding => Container, 3, Always, TRANSFER_AGAIN;
    /// The archive does not end in two zero blocks.
    TarEnd => Container, 3, Always, TRANSFER_AGAIN;
    /// A file is not in its place.
    Order => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// The first file is not `manifest.yaml`.
    NoManifest => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// There is something behind the end of the bundle.
    TrailingData => Container, 3, Always, TRANSFER_AGAIN;

    /// A link, a device or another entry that is no file.
    EntryType => Unsafe, 7, Always, HOSTILE;
    /// A path that leads out of a folder, or that two systems read in two ways.
    UnsafePath => Unsafe, 7, Always, HOSTILE;
    /// A path that is there twice.
    DuplicatePath => Unsafe, 7, Always, HOSTILE;

    /// `manifest.yaml` is too large.
    ManifestBytes => Limit, 6, Always, RAISE_LIMIT;
    /// The signature is too large.
    SignatureBytes => Limit, 6, Always, RAISE_LIMIT;
    /// There are too many files.
    Entries => Limit, 6, Always, RAISE_LIMIT;
    /// A file is too large.
    EntryBytes => Limit, 6, Always, RAISE_LIMIT;
    /// All files together are too large.
    TotalBytes => Limit, 6, Always, RAISE_LIMIT;
    /// `index.json` is too large.
    IndexBytes => Limit, 6, Always, RAISE_LIMIT;
    /// A manifest is larger than any registry takes.
    ObjectBytes => Limit, 6, Always, UPSTREAM;
    /// All manifests together are too large to be kept in memory.
    GraphBytes => Limit, 6, Always, RAISE_LIMIT;
    /// A subject has too many referrers.
    ReferrersPerSubject => Limit, 6, Always, RAISE_LIMIT;
    /// Indexes list indexes too deeply.
    IndexDepth => Limit, 6, Always, RAISE_LIMIT;

    /// A key is given, and the bundle is not signed.
    SignatureMissing => Signature, 5, Always, "export it with --sign-key, or give the signature that came beside it with --signature";
    /// The signature is none, or is written in another way than the format has.
    SignatureMalformed => Signature, 5, Always, NOT_AUTHENTIC;
    /// The signature is of another kind: another algorithm, a certificate, an envelope, a later version.
    SignatureUnsupported => Signature, 5, Always, "have it signed with an ECDSA key of the curve P-256, by `bundle export --sign-key` or `cosign sign-blob --key`";
    /// The signature is not one that the key has made over this `manifest.yaml`.
    SignatureInvalid => Signature, 5, Always, NOT_AUTHENTIC;

    /// `manifest.yaml` is of a version that this release does not know.
    ManifestVersion => Manifest, 3, Always, "update stellaops on this side to the release that exported the bundle";
    /// A line of `manifest.yaml` is not what the format has in its place.
    ManifestMalformed => Manifest, 3, Always, EXPORT_AGAIN;
    /// `manifest.yaml` says what it says in another encoding than the one the format has.
    ManifestNotCanonical => Manifest, 3, Always, EXPORT_AGAIN;
    /// Statements of `manifest.yaml` contradict each other.
    ManifestInconsistent => Manifest, 3, Always, EXPORT_AGAIN;

    /// `oci-layout` is not the marker of an image layout.
    LayoutMarker => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` is no index.
    IndexMalformed => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` does not list an image or a referrer of the bundle, or lists it otherwise.
    IndexEntryMissing => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` lists something that `manifest.yaml` does not know.
    IndexEntryUnexpected => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` and `manifest.yaml` have different digests for one name.
    ReferenceConflict => Layout, 3, Always, EXPORT_AGAIN;
    /// A file that has to be a manifest is none.
    ObjectMalformed => Layout, 3, Always, UPSTREAM;
    /// A manifest of a type that is not carried, such as Docker schema 1.
    ObjectUnsupported => Layout, 3, Always, UPSTREAM;
    /// One document that reads as two types of manifest.
    TypeConfusion => Layout, 3, Always, HOSTILE;
    /// A manifest is of another media type than what points at it says.
    MediaTypeMismatch => Layout, 3, Always, UPSTREAM;
    /// Something that a manifest needs is not in the bundle.
    ObjectMissing => Layout, 4, Always, EXPORT_AGAIN;
    /// Something is of another size than what points at it says.
    ObjectSizeMismatch => Layout, 4, Always, UPSTREAM;
    /// Content that a descriptor embeds is not the content of its digest.
    EmbeddedDataMismatch => Layout, 4, Always, UPSTREAM;
    /// The base that is given is not the bundle that this one is based on.
    BaseMismatch => Layout, 4, Always, "give the bundle that --base named at the export; `stellaops bundle inspect` shows the digest of its manifest.yaml";
    /// A blob that is left out because the base holds it, and the base that is given does not.
    BaseMissing => Layout, 4, Always, EXPORT_AGAIN;
    /// A file that is listed and that no image and no referrer needs.
    UnreferencedObject => Layout, 4, Advice, EXPORT_AGAIN;

    /// A referrer that is listed and not there.
    ReferrerMissing => Digests, 4, Always, EXPORT_AGAIN;
    /// A referrer with other bytes than its digest stands for.
    ReferrerChecksumMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A referrer of another size than the listed one.
    ReferrerSizeMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A file that is listed and not there.
    EntryMissing => Digests, 4, Always, EXPORT_AGAIN;
    /// A file with other bytes than its digest stands for.
    EntryChecksumMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A file of another size than the listed one.
    EntrySizeMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A file or folder that is there and not listed.
    EntryNotListed => Digests, 4, Always, "remove what does not belong to the bundle, or export it again";

    /// A referrer refers to another subject than the one it is listed under.
    SubjectMismatch => Referrers, 4, Always, EXPORT_AGAIN;
    /// A referrer refers to nothing, and no legacy tag explains it.
    ReferrerWithoutSubject => Referrers, 3, Always, EXPORT_AGAIN;
    /// A referrer is of another artifact type than the listed one.
    ArtifactTypeMismatch => Referrers, 4, Always, EXPORT_AGAIN;
    /// A referrer names its subject with another size or media type than the subject has.
    SubjectDescriptorMismatch => Referrers, 4, Completeness, UPSTREAM;
    /// A referrer whose subject the bundle does not hold.
    OrphanedReferrer => Referrers, 11, Completeness, "export the subject as well, or leave its referrers out";
    /// A manifest of the bundle refers to another one, and discovery did not list it.
    UnlistedReferrer => Referrers, 11, Completeness, COMPLETE;
    /// The export was not complete.
    BundleIncomplete => Referrers, 11, Completeness, COMPLETE;
    /// Discovery of the referrers of one subject was not complete.
    DiscoveryIncomplete => Referrers, 11, Completeness, COMPLETE;
    /// Something that discovery could not settle, or found stale or dangling.
    DiscoveryGap => Referrers, 11, Completeness, COMPLETE;
    /// Nobody has looked for referrers of an image.
    ImageNotDiscovered => Referrers, 11, Completeness, COMPLETE;
    /// The number of images without referrers is not the one that `manifest.yaml` gives.
    BareImagesMismatch => Referrers, 11, Completeness, EXPORT_AGAIN;

    /// An image has fewer referrers than a rule of the policy requires.
    RequiredReferrerMissing => Policy, 11, Always, "have it made and pushed at the source, then export again; or change the rule that is named";
    /// An image has the referrers that a rule requires, and they are older than it allows, or have no date.
    ReferrerTooOld => Policy, 11, Always, "have it made anew and pushed at the source, then export again; or change the rule that is named";
    /// An image has a referrer that a rule denies.
    DeniedReferrer => Policy, 11, Always, "have it removed at the source, then export again; or change the rule that is named";
    /// Something that a rule wants signed is not.
    RequiredSignatureMissing => Policy, 11, Always, "have it signed at the source, the bundle with --sign-key, then export again; to a validation, give the key with --key";
    /// A rule that is about no image of the bundle, so it has judged nothing.
    PolicyRuleUnused => Policy, 11, Advice, "compare the patterns of the rule with the repositories of the bundle";
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
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
    /// A checksum of the container that is wrong because a file in it is damaged is explained by that file, so the
    /// file's error decides.
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

    /// Returns the exit code of a command that validates: 0, or that of the [first error](Self::first_error).
    pub fn exit_code(&self) -> u8 {
        self.first_error().map_or(0, Finding::exit_code)
    }
}

/// Collects findings while a validation runs.
#[derive(Debug)]
pub(crate) struct Findings {
    strict: bool,
    max_per_kind: usize,
    found: Vec<Finding>,
    per_kind: std::collections::BTreeMap<FindingKind, usize>,
    pub(crate) signed_by: Option<Digest>,
    pub(crate) counts: Counts,
    /// The byte of the container where it could not be read any further.
    pub(crate) broken_at: Option<u64>,
}

impl Findings {
    pub(crate) fn new(strict: bool, max_per_kind: usize) -> Self {
        Self {
            strict,
            // One of each kind is what the exit code is made from.
            max_per_kind: max_per_kind.max(1),
            found: Vec::new(),
            per_kind: std::collections::BTreeMap::new(),
            signed_by: None,
            counts: Counts::default(),
            broken_at: None,
        }
    }

    pub(crate) fn add(&mut self, kind: FindingKind) -> Draft<'_> {
        let severity = match kind.class() {
            Class::Completeness if !self.strict => Severity::Warning,
            Class::Advice => Severity::Warning,
            Class::Completeness | Class::Always => Severity::Error,
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
            remedy: kind.remedy(),
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

/// A finding that is being described; nothing, when it is only counted.
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

/// Escapes what a terminal, a log or a reader could take for something else, and cuts what is too long.
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
    use super::*;

    #[test]
    fn kinds_are_declared_in_the_order_of_their_stages() {
        let stages: Vec<_> = FindingKind::ALL.iter().map(|kind| kind.stage()).collect();
        assert!(stages.is_sorted());
        for kind in FindingKind::ALL {
            assert!(!kind.remedy().is_empty(), "{kind}");
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
        let json = serde_json::to_value(findings.into_report("bundle.tgz".into())).unwrap();
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
    }
}
