//! Bundles that leave out what their base holds.

use std::collections::BTreeMap;

use bundle_format::{BaseBundle, Container, EntryPath, EntryRecord, Limits};
use import_validator::{FindingKind, ImportValidator, Report};
use oci_content::Digest;

use crate::fixture::{Fixture, pack};

type Files = BTreeMap<EntryPath, Vec<u8>>;

fn base_of(files: &Files) -> BaseBundle {
    BaseBundle::parse(&files[&EntryPath::MANIFEST], &Limits::default()).unwrap()
}

/// Makes a delta: what `leave_out` says is left to `base`.
fn delta(mut fixture: Fixture, base: &Digest, leave_out: impl Fn(&EntryRecord) -> bool) -> Files {
    fixture.list();
    let index = fixture.clone().files()[&EntryPath::INDEX].clone();
    fixture.manifest.base = Some(base.clone());
    for entry in &mut fixture.manifest.entries {
        entry.base = leave_out(entry);
    }
    fixture.listed_files(&index)
}

fn validate(files: &Files, base: Option<BaseBundle>) -> Report {
    let bytes = pack(files, Container::TarGz);
    let mut validator = ImportValidator::new().strict(true);
    if let Some(base) = base {
        validator = validator.base(base);
    }
    validator.validate("delta", &*bytes)
}

fn kinds(report: &Report) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

fn is_layer(entry: &EntryRecord) -> bool {
    let layers = ["amd64", "arm64", "small"].map(|seed| format!("layer of {seed}"));
    layers
        .iter()
        .any(|layer| entry.sha256.matches(layer.as_bytes()))
}

#[test]
fn a_delta_is_valid_by_itself_and_says_how_much_it_leaves_out() {
    let base = Digest::of(b"base");
    let report = validate(&delta(Fixture::full(), &base, is_layer), None);
    assert_eq!(kinds(&report), [], "{:#?}", report.findings);
    let counts = report.counts;
    assert_eq!((counts.blobs_in_base, counts.blob_bytes_in_base), (2, 28));
    let whole = validate(&Fixture::full().files(), None).counts;
    assert_eq!(whole.blobs_in_base, 0);
    assert_eq!(counts.entries + counts.blobs_in_base, whole.entries);
}

#[test]
fn what_is_neither_in_a_delta_nor_in_its_base_is_missing_as_ever() {
    let layer = Digest::of(b"layer of small");
    let base = Digest::of(b"base");
    let mut fixture = Fixture::small();
    fixture.objects.remove(&layer).unwrap();
    let report = validate(&delta(fixture, &base, |_| false), None);
    assert_eq!(kinds(&report), [FindingKind::ObjectMissing]);

    let mut files = delta(Fixture::small(), &base, |_| false);
    files.remove(&EntryPath::blob(&layer).unwrap()).unwrap();
    assert_eq!(kinds(&validate(&files, None)), [FindingKind::EntryMissing]);
}

#[test]
fn a_file_for_what_is_left_out_is_not_listed() {
    let layer = b"layer of small".to_vec();
    let mut files = delta(Fixture::small(), &Digest::of(b"base"), is_layer);
    let path = EntryPath::blob(&Digest::of(&layer)).unwrap();
    assert!(files.insert(path, layer).is_none());
    let report = validate(&files, None);
    assert_eq!(kinds(&report), [FindingKind::EntryNotListed]);
}

#[test]
fn a_size_that_a_manifest_does_not_give_is_an_error_in_what_is_left_out_too() {
    let mut fixture = Fixture::small();
    fixture.list();
    let index = fixture.clone().files()[&EntryPath::INDEX].clone();
    fixture.manifest.base = Some(Digest::of(b"base"));
    let mut entries = fixture.manifest.entries.iter_mut();
    let entry = entries.find(|entry| is_layer(entry)).unwrap();
    (entry.base, entry.size) = (true, 1 << 61);
    let report = validate(&fixture.listed_files(&index), None);
    assert_eq!(kinds(&report), [FindingKind::ObjectSizeMismatch]);
    assert_eq!(report.counts.blob_bytes_in_base, 1 << 61);
}

#[test]
fn a_manifest_that_an_index_lists_is_not_left_to_the_base() {
    let mut fixture = Fixture::full();
    fixture.list();
    let of_a_platform = |entry: &EntryRecord| {
        let bytes = fixture.objects.get(&entry.sha256);
        bytes.is_some_and(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            text.contains(&Digest::of(b"layer of arm64").to_string())
        })
    };
    let files = delta(fixture.clone(), &Digest::of(b"base"), of_a_platform);
    let report = validate(&files, None);
    assert_eq!(kinds(&report), [FindingKind::ObjectMissing]);
    let found = report.findings[0].found.as_deref().unwrap();
    assert!(found.contains("all its manifests"), "{found}");
    assert_eq!(report.exit_code(), 4);
}

#[test]
fn what_nothing_needs_is_told_in_what_is_left_out_too() {
    let mut fixture = Fixture::small();
    fixture
        .objects
        .insert(Digest::of(b"junk"), b"junk".to_vec());
    let is_junk = |entry: &EntryRecord| entry.sha256 == Digest::of(b"junk");
    let report = validate(&delta(fixture, &Digest::of(b"base"), is_junk), None);
    assert_eq!(kinds(&report), [FindingKind::UnreferencedObject]);
}

#[test]
fn a_base_that_is_given_has_to_be_the_one_and_to_hold_what_is_left_out() {
    let old = Fixture::small().files();
    let base = base_of(&old);
    let files = delta(Fixture::small(), base.digest(), is_layer);
    assert_eq!(kinds(&validate(&files, Some(base))), []);

    let other = base_of(&Fixture::full().files());
    let report = validate(&files, Some(other.clone()));
    assert_eq!(kinds(&report), [FindingKind::BaseMismatch]);
    let found = report.findings[0].found.as_deref();
    assert_eq!(found, Some(other.digest().to_string().as_str()));

    // It names that base, which has other layers.
    let files = delta(Fixture::small(), other.digest(), is_layer);
    let report = validate(&files, Some(other.clone()));
    assert_eq!(kinds(&report), [FindingKind::BaseMissing]);
    assert_eq!(report.exit_code(), 4);

    let report = validate(&Fixture::small().files(), Some(other));
    assert_eq!(kinds(&report), [FindingKind::BaseMismatch]);
    let expected = report.findings[0].expected.as_deref();
    assert_eq!(expected, Some("none, since this is not a delta"));
}
