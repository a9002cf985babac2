//! Bundles that were damaged, cut off or added to on their way.

use std::io::Cursor;

use bundle_format::{BundlePlan, BundleWriter, Container, EntryPath, MemorySink};
use import_validator::{FindingKind, ImportValidator, Report};

use crate::fixture::{Fixture, pack};

fn validate(bytes: &[u8]) -> Report {
    ImportValidator::new()
        .check_referrers(true)
        .validate("bundle", Cursor::new(bytes))
}

fn kinds(report: &Report) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_whole_bundle_has_no_findings() {
    for container in [Container::TarGz, Container::Tar] {
        let report = ImportValidator::new()
            .strict(true)
            .validate("bundle", &*pack(&Fixture::full().files(), container));
        assert!(
            report.ok && report.findings.is_empty(),
            "{:#?}",
            report.findings
        );
        assert_eq!(report.exit_code(), 0);
        let counts = report.counts;
        assert_eq!(
            (counts.images, counts.subjects, counts.referrers),
            (1, 3, 4)
        );
        // manifest.yaml, oci-layout, index.json, four referrers; an index, three images of three files each, three
        // referrers of two files each, and the empty config that they share.
        assert_eq!(counts.entries, 3 + 4 + 1 + 9 + 6 + 1);
    }
}

#[test]
fn the_writer_makes_the_bytes_that_the_specification_gives() {
    let mut fixture = Fixture::full();
    fixture.put_bytes("a/b", &vec![7; 200_000]);
    let files = fixture.clone().files();
    fixture.list();
    for container in [Container::TarGz, Container::Tar] {
        let sink = MemorySink::new();
        let plan = BundlePlan::new(&fixture.manifest, container).unwrap();
        let writer = BundleWriter::new(plan, &sink).unwrap();
        for (path, bytes) in files
            .iter()
            .filter(|(path, _)| **path != EntryPath::MANIFEST)
        {
            writer.put(path, bytes).unwrap();
        }
        writer.finish().unwrap();
        assert!(sink.to_bytes() == pack(&files, container));
    }
}

/// Runs a case for every `step`-th number below `count`, on two threads.
fn for_each(count: usize, step: usize, case: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for start in 0..2 {
            let case = &case;
            scope.spawn(move || (start * step..count).step_by(2 * step).for_each(case));
        }
    });
}

/// The reader's own tests cut off a plain archive everywhere. The step has no factor in common with a block of tar,
/// so every kind of place is met.
const STEP_IN_TAR: usize = 5;

#[test]
fn a_bundle_that_is_cut_off_anywhere_is_refused() {
    let files = Fixture::small().files();
    for (container, step) in [(Container::TarGz, 1), (Container::Tar, STEP_IN_TAR)] {
        let bytes = pack(&files, container);
        assert!(validate(&bytes).ok);
        for_each(bytes.len(), step, |length| {
            let report = validate(&bytes[..length]);
            assert_eq!(
                report.exit_code(),
                3,
                "cut off at {length}: {:?}",
                report.findings
            );
            // What has not been reached is not called missing.
            assert_eq!(report.findings.len(), 1);
        });
    }
}

#[test]
fn a_bundle_with_any_bit_flipped_is_refused() {
    let files = Fixture::small().files();
    let bytes = pack(&files, Container::TarGz);
    for_each(bytes.len(), 1, |at| {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let report = validate(&flipped);
        assert!(!report.ok, "bit flipped at {at}");
        assert!((3..=7).contains(&report.exit_code()), "bit flipped at {at}");
    });
}

#[test]
fn a_plain_archive_with_any_bit_flipped_outside_of_the_list_is_refused() {
    let files = Fixture::small().files();
    let bytes = pack(&files, Container::Tar);
    let list = 512..512 + files[&EntryPath::MANIFEST].len();
    for_each(bytes.len(), STEP_IN_TAR, |at| {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let report = validate(&flipped);
        // Without gzip nothing but a signature covers the list itself: `sequence: 1` and `sequence: 3` are both
        // well-formed.
        assert!(!report.ok || list.contains(&at), "bit flipped at {at}");
    });
}

#[test]
fn damage_in_a_file_is_reported_as_that_file_and_as_the_checksum() {
    let mut fixture = Fixture::full();
    let files = fixture.clone().files();
    fixture.list();
    let plan = BundlePlan::new(&fixture.manifest, Container::TarGz).unwrap();
    let bytes = pack(&files, Container::TarGz);
    for (path, content) in files
        .iter()
        .filter(|(path, _)| **path != EntryPath::MANIFEST)
    {
        // The first byte of the content, behind the headers of the block and of the file.
        let at = usize::try_from(plan.entry(path).unwrap().offset).unwrap() + 5 + 512;
        assert!(bytes[at..].starts_with(content));
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let report = validate(&damaged);
        let expected = if path.to_string().starts_with("referrers/") {
            FindingKind::ReferrerChecksumMismatch
        } else {
            FindingKind::EntryChecksumMismatch
        };
        assert_eq!(
            kinds(&report),
            [FindingKind::GzipChecksum, expected],
            "{path}"
        );
        assert_eq!(report.exit_code(), 4, "{path}");
        let finding = &report.findings[1];
        assert_eq!(finding.path, Some(path.to_string()));
        let text = finding.to_string();
        assert!(
            text.starts_with(&format!("error: {expected}: {path}: expected sha256:")),
            "{text}"
        );
    }
}

#[test]
fn a_checksum_that_nothing_explains_is_a_malformed_container() {
    let mut bytes = pack(&Fixture::small().files(), Container::TarGz);
    let at = bytes.len() - 8;
    bytes[at] ^= 1;
    let report = validate(&bytes);
    assert_eq!(kinds(&report), [FindingKind::GzipChecksum]);
    assert_eq!(report.exit_code(), 3);
}

#[test]
fn what_is_not_a_bundle_says_what_to_do() {
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x4c, 0x4a, 6, 0];
    let report = validate(&gzip);
    assert_eq!(kinds(&report), [FindingKind::NotCanonical]);
    assert!(report.findings[0].remedy.contains("pack the folder"));
    let report = validate(b"");
    assert_eq!(kinds(&report), [FindingKind::NotABundle]);
    assert_eq!(
        report.findings[0].to_string(),
        "error: NotABundle: it is empty"
    );
    let report = validate(&[pack(&Fixture::small().files(), Container::TarGz), vec![0]].concat());
    assert_eq!(kinds(&report), [FindingKind::TrailingData]);
}
