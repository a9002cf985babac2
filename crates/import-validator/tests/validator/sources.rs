//! Bundles that are neither files nor folders: bytes in memory, and what else is read at an offset.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bundle_format::{Container, EntryPath, ReadAt};
use import_validator::{FindingKind, ImportValidator, ValidatedBundle};

use crate::fixture::{Fixture, pack};

fn validator() -> ImportValidator {
    ImportValidator::new().strict(true)
}

/// Reads every file of a bundle, several at once, and compares it with the fixture's.
fn read_all(bundle: &ValidatedBundle) {
    let files = Fixture::full().files();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for (path, bytes) in &files {
                    assert_eq!(&bundle.read(path, 1 << 20).unwrap(), bytes, "{path}");
                }
            });
        }
    });
    let unlisted = EntryPath::blob(&oci_content::Digest::of(b"?")).unwrap();
    let error = bundle.open(&unlisted).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_bundle_in_memory_is_validated_and_its_files_are_read() {
    for container in [Container::TarGz, Container::Tar] {
        let bytes = pack(&Fixture::full().files(), container);
        let expected = validator().validate("b", &*bytes);
        let shared: Arc<[u8]> = bytes.clone().into();
        let validations = [
            validator().validate_source("b", bytes),
            validator().validate_source("b", shared),
        ];
        for validation in validations {
            assert_eq!(validation.report, expected);
            let bundle = validation.bundle.unwrap();
            read_all(&bundle);
            read_all(&bundle.clone());
        }
    }
}

#[test]
fn a_damaged_bundle_in_memory_has_the_findings_of_a_file_and_cannot_be_opened() {
    let mut bytes = pack(&Fixture::full().files(), Container::TarGz);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let expected = validator().validate("b", &*bytes);
    let validation = validator().validate_source("b", bytes);
    assert_eq!(validation.report, expected);
    assert!(!validation.report.ok && validation.bundle.is_none());
}

/// A source that changes, or breaks, after so many reads.
#[derive(Debug)]
struct Unreliable {
    first: Vec<u8>,
    then: Option<Vec<u8>>,
    reads_left: AtomicU64,
}

impl ReadAt for Unreliable {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = |left: u64| Some(left.saturating_sub(1));
        let left = self
            .reads_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        match (left, &self.then) {
            (Ok(1..), _) => self.first.read_at(buffer, offset),
            (_, Some(then)) => then.read_at(buffer, offset),
            (_, None) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    fn size(&self) -> io::Result<u64> {
        self.first.size()
    }
}

#[test]
fn a_source_that_breaks_or_changes_is_a_finding() {
    let first = pack(&Fixture::small().files(), Container::TarGz);
    let other = pack(&Fixture::full().files(), Container::TarGz);
    let validate = |then: Option<&Vec<u8>>, reads: u64| {
        let source = Arc::new(Unreliable {
            first: first.clone(),
            then: then.cloned(),
            reads_left: AtomicU64::new(reads),
        });
        let validation = validator().validate_source("b", Arc::clone(&source));
        (
            validation,
            reads - source.reads_left.load(Ordering::Relaxed),
        )
    };
    let (whole, reads) = validate(None, u64::MAX);
    assert!(whole.bundle.is_some());
    // What is read last is read again, to open the bundle.
    for (then, reads, expected) in [
        (None, 0, "connection reset"),
        (None, reads - 1, "the file changed while it was read: "),
        (
            Some(&other),
            reads - 1,
            "the file changed while it was read: ",
        ),
    ] {
        let (validation, _) = validate(then, reads);
        assert!(validation.bundle.is_none());
        let found = &validation.report.findings[0];
        assert_eq!(found.kind, FindingKind::Io);
        let text = found.found.as_deref().unwrap();
        assert!(text.contains(expected), "{text}");
    }
}
