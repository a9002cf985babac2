//! The report is the same on any number of threads.

use std::num::NonZeroUsize;

use bundle_format::{BundlePlan, Container, EntryPath};
use import_validator::{FindingKind, ImportValidator, Report, ValidationLimits};

use crate::fixture::{Fixture, pack};

/// Around the size from which on a file is hashed on a thread of its own, and more together than all buffers hold.
const SIZES: [usize; 7] = [
    256 << 10,
    (256 << 10) + 1,
    (512 << 10) + 7,
    1_000_000,
    5 << 20,
    9_000_000,
    300_000,
];

fn fixture() -> Fixture {
    let mut fixture = Fixture::full();
    for (size, byte) in SIZES.into_iter().zip(1..) {
        let bytes: Vec<u8> = (0..=250)
            .cycle()
            .take(size)
            .map(|at: u8| at ^ byte)
            .collect();
        fixture.put_bytes("a/b", &bytes);
    }
    fixture
}

fn validate(bytes: &[u8], threads: usize, listed: usize) -> Report {
    let mut limits = ValidationLimits::default();
    limits.max_findings_per_kind = listed;
    limits.max_unlisted_entries = 1;
    ImportValidator::new()
        .check_referrers(true)
        .limits(limits)
        .threads(NonZeroUsize::new(threads).unwrap())
        .validate("bundle", bytes)
}

/// Validates on one thread, and sees that more find the same; also where only the first findings of a kind are listed.
fn same_on_all(what: &str, bytes: &[u8]) -> Report {
    for threads in [2, 3, 4, 64] {
        for listed in [2, 100] {
            let report = validate(bytes, 1, listed);
            let other = validate(bytes, threads, listed);
            assert_eq!(other.findings, report.findings, "{what}, {threads} threads");
            assert_eq!(other.counts, report.counts, "{what}, {threads} threads");
            assert_eq!(other.ok, report.ok, "{what}, {threads} threads");
        }
    }
    validate(bytes, 1, 100)
}

#[test]
fn what_is_found_and_in_which_order_does_not_depend_on_the_threads() {
    let mut fixture = fixture();
    let files = fixture.clone().files();
    fixture.list();
    let plan = BundlePlan::new(&fixture.manifest, Container::TarGz).unwrap();
    let bytes = pack(&files, Container::TarGz);
    assert!(same_on_all("whole", &bytes).ok);

    let places: Vec<usize> = plan
        .entries()
        .filter(|(path, _)| **path != EntryPath::MANIFEST)
        .map(|(_, entry)| usize::try_from(entry.offset).unwrap() + 5 + 512)
        .collect();
    let flipped = |places: &[usize]| {
        let mut bytes = bytes.clone();
        places.iter().for_each(|at| bytes[*at] ^= 0x20);
        bytes
    };
    for at in &places {
        let report = same_on_all(&format!("a bit flipped at {at}"), &flipped(&[*at]));
        assert_eq!(report.exit_code(), 4);
        assert_eq!(report.findings[0].kind, FindingKind::GzipChecksum);
    }
    let report = same_on_all("a bit flipped in each file", &flipped(&places));
    let damaged = report.findings.iter().filter(|finding| {
        matches!(
            finding.kind,
            FindingKind::EntryChecksumMismatch | FindingKind::ReferrerChecksumMismatch
        )
    });
    let mut damaged: Vec<_> = damaged.map(|finding| finding.path.clone()).collect();
    let mut listed: Vec<_> = plan
        .entries()
        .skip(1)
        .map(|(path, _)| Some(path.to_string()))
        .collect();
    damaged.sort();
    listed.sort();
    assert_eq!(damaged, listed);

    for length in (places[0]..bytes.len()).step_by(2_777_777) {
        let mut cut = flipped(&places[..4]);
        cut.truncate(length);
        let report = same_on_all(&format!("cut off at {length}"), &cut);
        assert!(!report.ok);
    }
}

#[test]
fn files_that_are_missing_or_that_nobody_listed_are_found_in_their_order() {
    let fixture = fixture();
    let mut files = fixture.clone().files();
    let listed: Vec<EntryPath> = files.keys().cloned().collect();
    for (path, byte) in listed.iter().rev().step_by(3).zip(0..) {
        let mut content = files.remove(path).unwrap();
        if byte % 2 == 0 {
            content.push(byte);
            files.insert(path.clone(), content);
        }
    }
    same_on_all("missing and too long", &pack(&files, Container::Tar));

    let mut files = fixture.files();
    for byte in 0..3u8 {
        let content = vec![byte; 400_000];
        let digest = oci_content::Digest::of(&content);
        files.insert(EntryPath::blob(&digest).unwrap(), content);
    }
    let report = same_on_all("not listed", &pack(&files, Container::TarGz));
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert!(kinds.contains(&FindingKind::EntryNotListed), "{kinds:?}");
    assert!(kinds.contains(&FindingKind::Entries), "{kinds:?}");
}
