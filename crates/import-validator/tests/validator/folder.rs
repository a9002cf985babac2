//! Bundles on disk: files, folders, and what is read from them afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bundle_format::{Container, EntryPath};
use import_validator::{FindingKind, ImportValidator, Report, ValidationObserver};
use oci_content::Digest;

use crate::fixture::{Fixture, pack};

fn extract(files: &BTreeMap<EntryPath, Vec<u8>>, folder: &Path) {
    for (path, bytes) in files {
        let path = folder.join(path.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn kinds(report: &Report) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_validated_bundle_gives_every_file_again_wherever_it_came_from() {
    let files = Fixture::full().files();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("folder");
    extract(&files, &folder);
    for (name, container) in [("b.tgz", Container::TarGz), ("b.tar", Container::Tar)] {
        fs::write(place.path().join(name), pack(&files, container)).unwrap();
    }
    for name in ["b.tgz", "b.tar", "folder"] {
        let validation = ImportValidator::new()
            .strict(true)
            .validate_path(&place.path().join(name));
        assert_eq!(kinds(&validation.report), []);
        let bundle = validation.bundle.unwrap();
        assert_eq!(bundle.manifest().graph.images.len(), 1);
        assert_eq!(
            *bundle.manifest_digest(),
            Digest::of(&files[&EntryPath::MANIFEST])
        );
        for (path, expected) in &files {
            let mut bytes = Vec::new();
            bundle.open(path).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == *expected, "{name}: {path}");
            let length = expected.len() as u64;
            assert!(bundle.read(path, length).unwrap() == *expected);
            if length > 0 {
                let error = bundle.read(path, length - 1).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
            }
        }
        let unlisted = EntryPath::blob(&Digest::of(b"?")).unwrap();
        assert!(bundle.open(&unlisted).is_err());
    }
}

#[test]
fn what_changes_after_the_validation_is_not_read() {
    let files = Fixture::small().files();
    let place = tempfile::tempdir().unwrap();
    let layer = EntryPath::blob(&Digest::of(b"layer of small")).unwrap();
    let folder = place.path().join("folder");
    extract(&files, &folder);
    let archive = place.path().join("bundle.tgz");
    let bytes = pack(&files, Container::TarGz);
    fs::write(&archive, &bytes).unwrap();
    let validate = |path: &Path| ImportValidator::new().validate_path(path).bundle.unwrap();

    let from_folder = validate(&folder);
    fs::write(folder.join(layer.to_string()), b"other of small").unwrap();
    assert!(from_folder.read(&layer, 100).is_err());

    let from_archive = validate(&archive);
    let at = bytes
        .windows(14)
        .position(|window| window == b"layer of small")
        .unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    fs::write(&archive, damaged).unwrap();
    assert!(from_archive.read(&layer, 100).is_err());

    // Another file under the same name is not the one that was validated.
    fs::write(&archive, &bytes).unwrap();
    let from_archive = validate(&archive);
    fs::remove_file(&archive).unwrap();
    fs::write(&archive, b"another file").unwrap();
    assert_eq!(from_archive.read(&layer, 100).unwrap(), b"layer of small");
}

#[test]
fn a_bundle_with_an_error_cannot_be_imported_by_type() {
    let place = tempfile::tempdir().unwrap();
    let mut files = Fixture::small().files();
    files.insert(EntryPath::blob(&Digest::of(b"x")).unwrap(), b"x".to_vec());
    extract(&files, place.path());
    let validation = ImportValidator::new().validate_path(place.path());
    assert_eq!(kinds(&validation.report), [FindingKind::EntryNotListed]);
    assert!(validation.bundle.is_none());
    let nothing = ImportValidator::new().validate_path(&place.path().join("nothing"));
    assert_eq!(kinds(&nothing.report), [FindingKind::Io]);
    assert_eq!(nothing.report.exit_code(), 8);
}

#[test]
fn a_folder_may_hold_nothing_but_the_bundle() {
    use FindingKind::{EntryMissing, EntryNotListed, EntryType, NoManifest, UnsafePath};
    let files = Fixture::small().files();
    let with = |change: &dyn Fn(&Path)| {
        let place = tempfile::tempdir().unwrap();
        extract(&files, place.path());
        change(place.path());
        let report = ImportValidator::new().validate_path(place.path()).report;
        (kinds(&report), report.exit_code())
    };
    assert_eq!(with(&|_| {}), (vec![], 0));
    let write =
        |name: &'static str| move |folder: &Path| fs::write(folder.join(name), "x").unwrap();
    assert_eq!(with(&write("notes.txt")), (vec![EntryNotListed], 4));
    assert_eq!(with(&write("Manifest.yaml")), (vec![UnsafePath], 7));
    let folder = |folder: &Path| fs::create_dir(folder.join("more")).unwrap();
    assert_eq!(with(&folder), (vec![EntryNotListed], 4));
    let link = |folder: &Path| {
        fs::remove_file(folder.join("index.json")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("index.json")).unwrap();
    };
    assert_eq!(with(&link), (vec![EntryType, EntryMissing], 7));
    let gone = |folder: &Path| fs::remove_file(folder.join("manifest.yaml")).unwrap();
    assert_eq!(with(&gone), (vec![NoManifest], 3));
}

#[test]
fn a_pipe_is_validated_and_not_imported() {
    let place = tempfile::tempdir().unwrap();
    let pipe = place.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    let bytes = pack(&Fixture::small().files(), Container::TarGz);
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::write(pipe, bytes).unwrap())
    };
    let validation = ImportValidator::new().validate_path(&pipe);
    writer.join().unwrap();
    assert!(validation.report.ok, "{:#?}", validation.report.findings);
    assert!(validation.bundle.is_none());
}

#[derive(Debug, Default)]
struct Told {
    of: Mutex<Vec<Option<u64>>>,
    read: AtomicU64,
}

impl ValidationObserver for Told {
    fn started(&self, bytes: Option<u64>) {
        self.of.lock().unwrap().push(bytes);
    }

    fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[test]
fn an_observer_is_told_of_every_byte_of_as_many_as_it_was_told_there_are() {
    let files = Fixture::full().files();
    let place = tempfile::tempdir().unwrap();
    extract(&files, &place.path().join("folder"));
    let packed = pack(&files, Container::TarGz);
    fs::write(place.path().join("b.tgz"), &packed).unwrap();
    let in_folder = files.values().map(|bytes| bytes.len() as u64).sum();
    for (name, size) in [("b.tgz", packed.len() as u64), ("folder", in_folder)] {
        let told = Arc::new(Told::default());
        let observer = Arc::clone(&told) as Arc<dyn ValidationObserver>;
        let validator = ImportValidator::new().observer(observer);
        assert!(validator.validate_path(&place.path().join(name)).report.ok);
        assert_eq!(*told.of.lock().unwrap(), [Some(size)], "{name}");
        assert_eq!(told.read.load(Ordering::Relaxed), size, "{name}");
    }
    let told = Arc::new(Told::default());
    let observer = Arc::clone(&told) as Arc<dyn ValidationObserver>;
    let validator = ImportValidator::new().observer(observer);
    assert!(validator.validate("pipe", &packed[..]).ok);
    assert_eq!(*told.of.lock().unwrap(), [None]);
    assert_eq!(told.read.load(Ordering::Relaxed), packed.len() as u64);
}
