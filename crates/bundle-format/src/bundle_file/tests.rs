use std::fs;
use std::io::Read as _;

use oci_content::Digest;
use proptest::prelude::*;

use super::*;
use crate::limits::Limits;
use crate::output_file::OutputFile;
use crate::plan::BundlePlan;
use crate::volume_fault::{VolumeFault, VolumeFaultKind};
use crate::writer::BundleWriter;
use crate::writer::tests::{bundle_of, content, write};
use crate::{BundleArchive, BundleReader, Container, EntryPath};

use crate::volume_fault::VolumeFaultKind::{Content, Missing, Size, Unexpected};

/// A folder with bundles in volumes.
struct Shelf(tempfile::TempDir);

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a bundle with these blobs in volumes of `size` bytes; returns its bytes.
    fn export(&self, name: &str, blobs: &[Vec<u8>], size: u64) -> Vec<u8> {
        let target = self.path(name);
        let (manifest, files) = bundle_of(blobs);
        let container = Container::from_file_name(&target);
        let output = OutputFile::create_volumes(&target, VolumeSize::tiny(size), false).unwrap();
        let plan = BundlePlan::new(&manifest, container).unwrap();
        let writer = BundleWriter::new(plan, output.sink()).unwrap();
        for (path, bytes) in &files {
            writer.put(path, bytes).unwrap();
        }
        writer.finish().unwrap();
        output.publish().unwrap();
        write(&manifest, &files, container)
    }

    fn open(&self, name: &str) -> BundleFile {
        BundleFile::open(&self.path(name)).unwrap()
    }

    /// Returns name, kind and reason of each fault.
    fn faults(&self, name: &str) -> Vec<(String, VolumeFaultKind, String)> {
        let faults = self.open(name).find_faults(&Limits::default());
        let fault = |fault: VolumeFault| {
            (
                file_name(fault.path()),
                fault.kind(),
                fault.reason().to_owned(),
            )
        };
        faults.into_iter().map(fault).collect()
    }

    #[track_caller]
    fn has_faults(&self, expected: &[(&str, VolumeFaultKind, &str)]) {
        let found = self.faults("b.tgz.001");
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for ((name, kind, reason), expected) in found.iter().zip(expected) {
            assert_eq!((name.as_str(), *kind), (expected.0, expected.1), "{reason}");
            assert!(reason.contains(expected.2), "{reason}");
        }
    }

    fn swap(&self, a: &str, b: &str) {
        let (old_a, old_b) = (
            fs::read(self.path(a)).unwrap(),
            fs::read(self.path(b)).unwrap(),
        );
        fs::write(self.path(a), old_b).unwrap();
        fs::write(self.path(b), old_a).unwrap();
    }

    fn cut(&self, name: &str, bytes: u64) {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(self.path(name))
            .unwrap();
        let size = file.metadata().unwrap().len();
        file.set_len(size - bytes).unwrap();
    }

    fn remove(&self, names: &[&str]) {
        for name in names {
            fs::remove_file(self.path(name)).unwrap();
        }
    }

    /// Removes every checksum file.
    fn forget_checksums(&self) {
        for entry in fs::read_dir(self.0.path()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "sha256")
            {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

fn read_whole(file: &BundleFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.reader().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Five volumes of 70,000 bytes, the last shorter.
fn five_volumes(shelf: &Shelf) -> Vec<u8> {
    let blobs: Vec<_> = [50_000, 100_000, 120_000, 30_000].map(content).into();
    let bytes = shelf.export("b.tgz", &blobs, 70_000);
    assert_eq!(bytes.len().div_ceil(70_000), 5);
    bytes
}

#[test]
fn volumes_one_behind_the_other_are_the_bundle_at_every_boundary() {
    // In the gzip header, in the first tar header, in manifest.yaml, and in the trailer.
    for size in [97_u64, 300, 700, 4_000] {
        for name in ["b.tgz", "b.tar"] {
            let shelf = Shelf::new();
            let expected = shelf.export(name, &[content(1_000)], size);
            let file = shelf.open(&format!("{name}.001"));
            assert_eq!(
                file.volumes().count(),
                expected.len().div_ceil(usize::try_from(size).unwrap())
            );
            assert!(read_whole(&file) == expected, "{name} {size}");
            assert_eq!(file.size().unwrap(), expected.len() as u64);
            let archive = BundleArchive::open(file.clone(), &Limits::default()).unwrap();
            for (path, _) in archive.plan().entries() {
                let mut entry = archive.open_entry(path).unwrap();
                io::copy(&mut entry, &mut io::sink()).unwrap();
            }
            assert_eq!(file.find_faults(&Limits::default()), []);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_size_of_volume_gives_the_same_bytes(
        size in 150_u64..30_000,
        blob in 0_usize..5_000,
        at in 0_u64..40_000,
        length in 1_usize..3_000,
    ) {
        let shelf = Shelf::new();
        let expected = shelf.export("b.tgz", &[content(blob)], size);
        let file = shelf.open("b.tgz.001");
        let volumes: Vec<_> = file.volumes().map(|path| fs::read(path).unwrap()).collect();
        prop_assert!(volumes.iter().rev().skip(1).all(|volume| volume.len() as u64 == size));
        prop_assert!(volumes.concat() == expected);
        prop_assert!(read_whole(&file) == expected);
        let mut part = vec![0; length];
        let count = file.read_at(&mut part, at).unwrap();
        let start = usize::try_from(at).unwrap().min(expected.len());
        prop_assert!(expected[start..].starts_with(&part[..count]));
        prop_assert_eq!(count == 0, start == expected.len());
        let list = crate::volume_names::read_checksums(&shelf.path("b.tgz.sha256")).unwrap();
        let digests: Vec<_> = list.into_iter().map(|(digest, _)| digest).collect();
        let hashed: Vec<_> = volumes.iter().map(|bytes| Digest::of(bytes)).collect();
        prop_assert_eq!(digests, hashed);
    }
}

#[test]
fn volumes_that_were_cut_by_hand_at_any_place_are_the_bundle() {
    let shelf = Shelf::new();
    let expected = shelf.export("b.tgz", &[content(5_000)], 1 << 20);
    let cuts = [0, 100, 4_000, 4_001, expected.len()];
    for (number, part) in cuts.windows(2).enumerate() {
        let name = format!("c.tgz.{:03}", number + 1);
        fs::write(shelf.path(&name), &expected[part[0]..part[1]]).unwrap();
    }
    assert!(read_whole(&shelf.open("c.tgz.001")) == expected);
}

#[test]
fn a_missing_volume_is_named_with_its_number() {
    for checksums in [true, false] {
        for (removed, missing) in [
            (
                vec!["b.tgz.003"],
                vec![("b.tgz.003", "volume 3 of 5 is missing")],
            ),
            (
                vec!["b.tgz.005"],
                vec![("b.tgz.005", "volume 5 of 5 is missing")],
            ),
            (
                vec!["b.tgz.002", "b.tgz.004"],
                vec![
                    ("b.tgz.002", "volume 2 of 5"),
                    ("b.tgz.004", "volume 4 of 5"),
                ],
            ),
        ] {
            let shelf = Shelf::new();
            five_volumes(&shelf);
            shelf.remove(&removed);
            if !checksums {
                shelf.forget_checksums();
            }
            let missing: Vec<_> = missing
                .iter()
                .map(|(name, part)| (*name, Missing, *part))
                .collect();
            shelf.has_faults(&missing);
            let quick = shelf.open("b.tgz.001").find_missing(&Limits::default());
            assert_eq!(quick.len(), missing.len());
        }
    }
}

#[test]
fn a_volume_is_missing_although_the_manifest_ends_in_it() {
    for (checksums, part) in [(true, "volume 2 of "), (false, "volume 2 is missing")] {
        let shelf = Shelf::new();
        shelf.export("b.tgz", &[content(1_000)], 700);
        if !checksums {
            shelf.forget_checksums();
        }
        shelf.remove(&["b.tgz.002"]);
        let faults = shelf.faults("b.tgz.001");
        let (name, kind, reason) = &faults[0];
        assert_eq!((name.as_str(), *kind), ("b.tgz.002", Missing));
        assert!(reason.contains(part), "{reason}");
        // Those that are there are not called missing.
        assert_eq!(faults.len(), 1, "{faults:#?}");
    }
}

#[test]
fn a_volume_that_is_cut_off_is_named() {
    for checksums in [true, false] {
        for name in ["b.tgz.001", "b.tgz.002", "b.tgz.004", "b.tgz.005"] {
            let shelf = Shelf::new();
            five_volumes(&shelf);
            shelf.cut(name, 1_000);
            if !checksums {
                shelf.forget_checksums();
            }
            shelf.has_faults(&[(name, Size, "it is truncated")]);
        }
    }
}

#[test]
fn of_two_volumes_the_checksums_tell_which_is_cut_off() {
    for name in ["b.tgz.001", "b.tgz.002"] {
        let shelf = Shelf::new();
        shelf.export("b.tgz", &[content(100_000)], 70_000);
        shelf.cut(name, 1_000);
        let faults = shelf.faults("b.tgz.001");
        let names: Vec<_> = faults.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(names, [name], "{faults:#?}");
    }
}

#[test]
fn a_volume_of_an_earlier_export_is_told_from_one_that_is_damaged() {
    let shelf = Shelf::new();
    five_volumes(&shelf);
    // The same layout, with another blob of the same size: framing and sizes agree.
    let old = Shelf::new();
    let mut blobs: Vec<_> = [50_000, 100_000, 120_000, 30_000].map(content).into();
    blobs.iter_mut().for_each(|blob| blob.reverse());
    old.export("b.tgz", &blobs, 70_000);
    for name in ["b.tgz.003", "b.tgz.003.sha256"] {
        fs::copy(old.path(name), shelf.path(name)).unwrap();
    }
    shelf.has_faults(&[(
        "b.tgz.003",
        Content,
        "intact but not the volume that b.tgz.sha256 lists",
    )]);

    let mut bytes = fs::read(shelf.path("b.tgz.004")).unwrap();
    bytes[35_000] ^= 1;
    fs::write(shelf.path("b.tgz.004"), bytes).unwrap();
    shelf.has_faults(&[
        (
            "b.tgz.003",
            Content,
            "it belongs to another bundle or export",
        ),
        ("b.tgz.004", Content, "it is damaged, or belongs to another"),
    ]);
    // Its own checksum file, which came with it, speaks for the old volume and against the damaged
    // one.
    shelf.remove(&["b.tgz.sha256"]);
    shelf.has_faults(&[(
        "b.tgz.004",
        Content,
        "its bytes do not match b.tgz.004.sha256",
    )]);
}

#[test]
fn swapped_volumes_are_told_which_they_are() {
    for (a, b) in [("b.tgz.002", "b.tgz.003"), ("b.tgz.002", "b.tgz.005")] {
        let shelf = Shelf::new();
        five_volumes(&shelf);
        shelf.swap(a, b);
        let number = |name: &str| name.trim_start_matches("b.tgz.00").to_owned();
        shelf.has_faults(&[
            (
                a,
                Content,
                &format!("by b.tgz.sha256 it is volume {}", number(b)),
            ),
            (
                b,
                Content,
                &format!("by b.tgz.sha256 it is volume {}", number(a)),
            ),
        ]);
    }
}

#[test]
fn a_volume_of_another_bundle_is_seen_where_a_file_begins_in_it() {
    let shelf = Shelf::new();
    let blobs = |seed: u8| {
        (0..40)
            .map(|byte| vec![byte ^ seed; 900])
            .collect::<Vec<_>>()
    };
    shelf.export("b.tgz", &blobs(0), 4_096);
    shelf.export("other.tgz", &blobs(0x40), 4_096);
    let foreign = || {
        let file = shelf.open("b.tgz.001");
        let archive = BundleArchive::open(file.clone(), &Limits::default()).unwrap();
        let faults = file.find_foreign(&archive);
        let faults = faults.into_iter().map(|fault| file_name(fault.path()));
        faults.collect::<Vec<_>>()
    };
    assert!(foreign().is_empty());
    let count = shelf.open("b.tgz.001").volumes().count();
    let manifest = shelf.open("b.tgz.001");
    let manifest = BundleArchive::open(manifest, &Limits::default()).unwrap();
    let mut entries = manifest.plan().entries();
    let blob = entries.find(|(path, _)| path.digest().is_some());
    let first = usize::try_from(blob.unwrap().1.offset / 4_096).unwrap() + 2;
    assert!(first + 5 < count);
    for number in first..=count {
        let (own, other) = (
            format!("b.tgz.{number:03}"),
            format!("other.tgz.{number:03}"),
        );
        let bytes = fs::read(shelf.path(&own)).unwrap();
        fs::copy(shelf.path(&other), shelf.path(&own)).unwrap();
        // A header may begin at the end of the volume before; the last one may hold nothing but an
        // end.
        let seen = foreign();
        assert!(
            seen.contains(&own) || number == count,
            "{own} of {count}: {seen:?}"
        );
        fs::write(shelf.path(&own), bytes).unwrap();
    }
    assert!(foreign().is_empty());
}

#[test]
fn the_first_volume_of_another_bundle_in_the_place_of_a_later_one_is_named() {
    let shelf = Shelf::new();
    five_volumes(&shelf);
    fs::copy(shelf.path("b.tgz.001"), shelf.path("b.tgz.002")).unwrap();
    shelf.has_faults(&[("b.tgz.002", Content, "another bundle begins here")]);
}

#[test]
fn a_volume_that_is_left_from_a_larger_export_is_named() {
    let shelf = Shelf::new();
    five_volumes(&shelf);
    fs::write(shelf.path("b.tgz.006"), content(500)).unwrap();
    shelf.has_faults(&[(
        "b.tgz.006",
        Unexpected,
        "has 5 volumes, so this one is left",
    )]);
}

#[test]
fn a_list_of_another_bundle_blames_nobody() {
    let shelf = Shelf::new();
    five_volumes(&shelf);
    let line = crate::volume_names::checksum_line(Path::new("b.tgz.001"), &Digest::of(b"other"));
    fs::write(shelf.path("b.tgz.sha256"), line).unwrap();
    shelf.has_faults(&[]);
}

#[test]
fn a_size_that_nobody_can_believe_makes_no_endless_list() {
    let shelf = Shelf::new();
    five_volumes(&shelf);
    shelf.forget_checksums();
    shelf.remove(&["b.tgz.002", "b.tgz.003", "b.tgz.004", "b.tgz.005"]);
    // What is left of the first holds the manifest and hardly more.
    let keep = BundleArchive::lay_out(shelf.open("b.tgz.001"), &Limits::default()).unwrap();
    let entry = keep.plan().entry(&EntryPath::OCI_LAYOUT).unwrap();
    let size = fs::metadata(shelf.path("b.tgz.001")).unwrap().len();
    shelf.cut("b.tgz.001", size - entry.offset - entry.stored_bytes);
    assert!(shelf.faults("b.tgz.001").len() < 999);
}

#[test]
fn another_volume_than_the_first_is_refused_and_the_first_named() {
    let shelf = Shelf::new();
    five_volumes(&shelf);
    let error = BundleFile::open(&shelf.path("b.tgz.003")).unwrap_err();
    assert_eq!(error.kind(), BundleFileErrorKind::NotFirst);
    assert!(error.reason().contains("volume 3") && error.reason().ends_with("give b.tgz.001"));
    let error = BundleFile::open(&shelf.path("b.tgz")).unwrap_err();
    assert_eq!(error.kind(), BundleFileErrorKind::InVolumes);
    assert!(
        error
            .reason()
            .ends_with("give the first of them, b.tgz.001"),
        "{error}"
    );
    let error = BundleFile::open(&shelf.path("c.tgz")).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(error.kind(), BundleFileErrorKind::Io);
    assert!(source.contains("No such file"), "{source}");
    assert!(!error.to_string().contains(&source), "{error}");
}

#[test]
fn a_bundle_in_one_file_may_have_the_name_of_a_volume() {
    let shelf = Shelf::new();
    let (manifest, files) = bundle_of(&[]);
    let bytes = write(&manifest, &files, Container::TarGz);
    for name in ["release.001", "release.002", "release.042"] {
        fs::write(shelf.path(name), &bytes).unwrap();
    }
    for name in ["release.001", "release.002", "release.042"] {
        let file = shelf.open(name);
        assert!(read_whole(&file) == bytes);
        assert_eq!(file.find_faults(&Limits::default()), []);
    }
}

#[test]
fn volumes_on_other_media_are_read_through_links() {
    let shelf = Shelf::new();
    let expected = five_volumes(&shelf);
    fs::create_dir(shelf.path("disc")).unwrap();
    fs::rename(shelf.path("b.tgz.002"), shelf.path("disc/b.tgz.002")).unwrap();
    std::os::unix::fs::symlink("disc/b.tgz.002", shelf.path("b.tgz.002")).unwrap();
    assert!(read_whole(&shelf.open("b.tgz.001")) == expected);
    shelf.remove(&["b.tgz.003"]);
    fs::create_dir(shelf.path("b.tgz.003")).unwrap();
    let error = BundleFile::open(&shelf.path("b.tgz.001")).unwrap_err();
    assert_eq!(error.path(), shelf.path("b.tgz.003"));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "it is not a regular file");
}

#[test]
fn the_volumes_of_a_place_are_told() {
    let shelf = Shelf::new();
    five_volumes(&shelf);
    let file = shelf.open("b.tgz.001");
    let at = |offset, length| {
        let (first, last) = file.volumes_at(offset, length).unwrap();
        (file_name(first), file_name(last))
    };
    let names = |a: &str, b: &str| (format!("b.tgz.{a}"), format!("b.tgz.{b}"));
    assert_eq!(at(0, 0), names("001", "001"));
    assert_eq!(at(69_999, 1), names("001", "001"));
    assert_eq!(at(69_999, 2), names("001", "002"));
    assert_eq!(at(70_000, 140_001), names("002", "004"));
    assert_eq!(at(u64::MAX, u64::MAX), names("005", "005"));
    fs::write(shelf.path("single"), "x").unwrap();
    assert_eq!(shelf.open("single").volumes_at(0, 1), None);
    assert_eq!(shelf.open("single").volumes().count(), 0);
}

#[test]
fn a_damaged_volume_is_met_by_the_reader_too() {
    let shelf = Shelf::new();
    five_volumes(&shelf);
    shelf.swap("b.tgz.002", "b.tgz.003");
    let file = shelf.open("b.tgz.001");
    let mut reader = BundleReader::new(file.reader(), Limits::default());
    let error = loop {
        match reader.next_entry() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("swapped volumes were accepted"),
            Err(error) => break error,
        }
    };
    let (first, _) = file.volumes_at(error.offset(), 1).unwrap();
    assert_eq!(file_name(first), "b.tgz.002", "{error}");
}
