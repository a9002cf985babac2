use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use oci_content::VerifyError;

use super::*;
use crate::layout_files::{OCI_LAYOUT, index_descriptors, index_json};
use crate::manifest::{BundleManifest, EntryRecord, tests::sample};
use crate::memory_sink::MemorySink;
use crate::output_file::OutputFile;
use crate::read_at::ReadAt;
use crate::testing::PartSink;

/// Returns a sink of `size` bytes that holds nothing that a bundle has.
fn dirty(size: u64) -> Arc<MemorySink> {
    let sink = MemorySink::new();
    sink.reserve(size).unwrap();
    let dirt = vec![0xa5; usize::try_from(size).unwrap()];
    sink.write_at(&dirt, 0).unwrap();
    Arc::new(sink)
}

/// A manifest over these blobs, and the content of every file that it lists.
pub(crate) fn bundle_of(blobs: &[Vec<u8>]) -> (BundleManifest, BTreeMap<EntryPath, Vec<u8>>) {
    let mut manifest = sample();
    let mut files = BTreeMap::new();
    for name in ["image", "sbom", "signature", "legacy"] {
        let path = EntryPath::blob(&Digest::of(name.as_bytes())).unwrap();
        files.insert(path, name.as_bytes().to_vec());
    }
    for (record, artifact) in manifest.graph.referrers() {
        let copy = files[&EntryPath::blob(&artifact.digest).unwrap()].clone();
        let path = EntryPath::referrer(&record.subject, &artifact.digest).unwrap();
        files.insert(path, copy);
    }
    for blob in blobs {
        let digest = Digest::of(blob);
        let entry = EntryRecord::blob(&digest, blob.len() as u64).unwrap();
        files.insert(entry.path.clone(), blob.clone());
        manifest.entries.push(entry);
    }
    let index = index_json(&index_descriptors(
        &manifest.graph.images,
        &manifest.graph.discovery,
    ));
    files.insert(EntryPath::INDEX, index);
    files.insert(EntryPath::OCI_LAYOUT, OCI_LAYOUT.to_vec());
    manifest.settle(0);
    (manifest, files)
}

pub(crate) fn write(
    manifest: &BundleManifest,
    files: &BTreeMap<EntryPath, Vec<u8>>,
    container: Container,
) -> Vec<u8> {
    let plan = BundlePlan::new(manifest, container).unwrap();
    let sink = dirty(plan.size());
    let writer = BundleWriter::new(plan, Arc::clone(&sink)).unwrap();
    for (path, bytes) in files {
        writer.put(path, bytes).unwrap();
    }
    writer.finish().unwrap();
    sink.to_bytes()
}

/// Sizes around everything that has an edge: a tar block, a stored block, the writer's buffer.
pub(crate) fn edge_blobs() -> Vec<Vec<u8>> {
    let sizes = [
        0, 1, 511, 512, 513, 65_022, 65_023, 65_024, 65_534, 65_535, 65_536, 65_537, 130_559,
        131_070, 131_072, 262_144, 300_001,
    ];
    sizes.into_iter().map(content).collect()
}

/// Content that differs from size to size and does not repeat within a block.
pub(crate) fn content(size: usize) -> Vec<u8> {
    let mut state = u32::try_from(size).unwrap() ^ 0x9e37_79b9;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}

#[test]
fn a_bundle_has_the_same_bytes_whatever_the_order_and_the_pieces() {
    let (manifest, files) = bundle_of(&edge_blobs());
    for container in [Container::TarGz, Container::Tar] {
        let expected = write(&manifest, &files, container);
        for (seed, piece) in [(1_usize, 1), (2, 4_096), (3, 65_535), (4, 1 << 20)] {
            let plan = BundlePlan::new(&manifest, container).unwrap();
            let sink = dirty(plan.size());
            assert_eq!(plan.size(), expected.len() as u64);
            let writer = BundleWriter::new(plan, Arc::clone(&sink)).unwrap();
            let mut order: Vec<_> = files.iter().collect();
            order.sort_by_key(|(path, _)| Digest::of(format!("{seed}{path}").as_bytes()));
            std::thread::scope(|scope| {
                for half in order.chunks(order.len().div_ceil(2)) {
                    let writer = &writer;
                    scope.spawn(move || {
                        for (path, bytes) in half {
                            let mut entry = writer.entry(path).unwrap();
                            for piece in bytes.chunks(piece) {
                                entry.write(piece).unwrap();
                            }
                            entry.finish().unwrap();
                        }
                    });
                }
            });
            let summary = writer.finish().unwrap();
            assert_eq!(summary.size, expected.len() as u64);
            assert_eq!(summary.entries, files.len() as u64 + 1);
            assert!(sink.to_bytes() == expected, "{container:?}, seed {seed}");
        }
    }
}

#[test]
fn gnu_tar_reads_what_is_written_and_gzip_finds_the_checksum_right() {
    let (manifest, files) = bundle_of(&edge_blobs());
    let folder = tempfile::tempdir().unwrap();
    for (name, flags) in [("bundle.tgz", "z"), ("bundle.tar", "")] {
        let path = folder.path().join(name);
        std::fs::write(
            &path,
            write(&manifest, &files, Container::from_file_name(&path)),
        )
        .unwrap();
        let tar = |mode: &str, member: &[&str]| {
            let output = Command::new("tar")
                .arg(format!("-{mode}{flags}f"))
                .arg(&path)
                .args(member)
                .stderr(Stdio::inherit())
                .output();
            match output {
                Ok(output) => {
                    assert!(output.status.success(), "{output:?}");
                    Some(output.stdout)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => panic!("{error}"),
            }
        };
        let Some(listed) = tar("t", &[]) else {
            eprintln!("tar is not installed, nothing was compared");
            return;
        };
        let mut expected = "manifest.yaml\n".to_owned();
        expected.extend(files.keys().map(|path| format!("{path}\n")));
        assert_eq!(String::from_utf8(listed).unwrap(), expected);
        let yaml = tar("x", &["-O", "manifest.yaml"]).unwrap();
        assert_eq!(yaml, manifest.to_yaml().unwrap());
        for (path, bytes) in &files {
            assert_eq!(
                tar("x", &["-O", &path.to_string()]).unwrap(),
                *bytes,
                "{path}"
            );
        }
    }
}

#[test]
fn other_bytes_than_the_listed_ones_never_count_as_written() {
    let blob = content(100_000);
    let (manifest, files) = bundle_of(std::slice::from_ref(&blob));
    let path = EntryPath::blob(&Digest::of(&blob)).unwrap();
    let sink = Arc::new(MemorySink::new());
    let plan = BundlePlan::new(&manifest, Container::TarGz).unwrap();
    let writer = BundleWriter::new(plan, Arc::clone(&sink)).unwrap();
    for (path, bytes) in files.iter().filter(|(other, _)| **other != path) {
        writer.put(path, bytes).unwrap();
    }
    let kind = |error: WriteError| (error.kind(), error.path().clone());
    let missing = (WriteErrorKind::Missing, path.clone());
    assert_eq!(kind(writer.finish().unwrap_err()), missing);

    let mut entry = writer.entry(&path).unwrap();
    let taken = (WriteErrorKind::Taken, path.clone());
    assert_eq!(kind(writer.entry(&path).unwrap_err()), taken);
    entry.write(&blob[1..]).unwrap();
    let verify = |result: io::Result<()>| {
        let inner = result.unwrap_err().into_inner().unwrap();
        *inner.downcast::<VerifyError>().unwrap()
    };
    assert!(matches!(
        verify(entry.finish()),
        VerifyError::Size { found: 99_999, .. }
    ));
    let too_much = entry.write(b"xy").unwrap_err();
    assert!(too_much.get_ref().unwrap().is::<VerifyError>());
    entry.restart();
    let mut other = blob.clone();
    other[70_000] ^= 1;
    entry.write(&other).unwrap();
    assert!(matches!(verify(entry.finish()), VerifyError::Digest { .. }));
    drop(entry);
    assert_eq!(kind(writer.finish().unwrap_err()), missing);

    let mut entry = writer.entry(&path).unwrap();
    entry.write(&other[..80_000]).unwrap();
    entry.restart();
    entry.write(&blob).unwrap();
    entry.finish().unwrap();
    writer.finish().unwrap();
    assert_eq!(kind(writer.entry(&path).unwrap_err()), taken);
    let unlisted = EntryPath::blob(&Digest::of(b"?")).unwrap();
    let not_listed = (WriteErrorKind::NotListed, unlisted.clone());
    assert_eq!(kind(writer.entry(&unlisted).unwrap_err()), not_listed);
    assert!(sink.to_bytes() == write(&manifest, &files, Container::TarGz));
}

#[test]
fn an_interrupted_bundle_is_resumed_from_what_is_really_there() {
    let (manifest, files) = bundle_of(&edge_blobs());
    let folder = tempfile::tempdir().unwrap();
    for name in ["bundle.tgz", "bundle.tar"] {
        let target = folder.path().join(name);
        let container = Container::from_file_name(&target);
        let plan = BundlePlan::new(&manifest, container).unwrap();
        let damaged = EntryPath::blob(&Digest::of(&content(300_001))).unwrap();
        let unfinished = EntryPath::blob(&Digest::of(&content(262_144))).unwrap();

        let output = OutputFile::create(&target, false).unwrap();
        let writer = BundleWriter::new(plan.clone(), output.sink()).unwrap();
        for (path, bytes) in &files {
            let mut entry = writer.entry(path).unwrap();
            if *path == unfinished {
                assert_ne!(bytes[199_999], 0);
                entry.write(&bytes[..200_000]).unwrap();
                continue;
            }
            entry.write(bytes).unwrap();
            entry.finish().unwrap();
        }
        let at = plan.entry(&damaged).unwrap().offset + 200_000;
        let mut byte = [0];
        output.sink().read_at(&mut byte, at).unwrap();
        output.sink().write_at(&[!byte[0]], at).unwrap();
        drop(writer);
        output.keep();
        drop(output);

        let output = OutputFile::create(&target, false).unwrap();
        let writer = BundleWriter::new(plan, output.sink()).unwrap();
        let mut fetched = Vec::new();
        for (path, bytes) in &files {
            match writer.adopt(path).unwrap() {
                Adopted::Whole => {}
                Adopted::Begun(mut entry) => {
                    let begun = usize::try_from(entry.written()).unwrap();
                    fetched.push((path.clone(), begun));
                    entry.write(&bytes[begun..]).unwrap();
                    entry.finish().unwrap();
                }
                Adopted::Nothing => {
                    writer.put(path, bytes).unwrap();
                    fetched.push((path.clone(), 0));
                }
            }
            assert!(writer.is_done(path));
        }
        let mut expected = vec![(damaged, 0), (unfinished, 200_000)];
        expected.sort();
        assert_eq!(fetched, expected);
        writer.finish().unwrap();
        output.publish().unwrap();
        assert!(std::fs::read(&target).unwrap() == write(&manifest, &files, container));
    }
}

#[test]
fn a_signature_stands_behind_the_manifest() {
    let (manifest, files) = bundle_of(&[]);
    let plan = BundlePlan::new(&manifest, Container::TarGz).unwrap();
    let unsigned = plan.size();
    let plan = plan.with_signature(*b"{}");
    assert_eq!(plan.size(), unsigned + 517 + 512);
    let paths: Vec<_> = plan.entries().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths[..2], [EntryPath::MANIFEST, EntryPath::SIGNATURE]);
    let sink = Arc::new(MemorySink::new());
    let writer = BundleWriter::new(plan, Arc::clone(&sink)).unwrap();
    for (path, bytes) in &files {
        writer.put(path, bytes).unwrap();
    }
    assert_eq!(writer.finish().unwrap().entries, files.len() as u64 + 2);
}

#[test]
fn the_checksum_follows_the_writing_in_any_order() {
    let (manifest, files) = bundle_of(&[vec![1; 300_000], vec![2; 70_000], Vec::new()]);
    for container in [Container::TarGz, Container::Tar] {
        for reversed in [false, true] {
            let sink = Arc::new(MemorySink::new());
            let plan = BundlePlan::new(&manifest, container).unwrap();
            let writer = BundleWriter::new(plan, Arc::clone(&sink)).unwrap();
            let checksum = writer.checksum(None).unwrap();
            let checksum = std::thread::spawn(move || checksum.compute(|_| {}));
            let mut order: Vec<_> = files.iter().collect();
            if reversed {
                order.reverse();
            }
            for (path, bytes) in order {
                writer.put(path, bytes).unwrap();
            }
            writer.finish().unwrap();
            let checksums = checksum.join().unwrap().unwrap().unwrap();
            assert_eq!(checksums.whole, Digest::of(&sink.to_bytes()));
        }
    }
}

#[test]
fn the_checksum_of_a_bundle_that_is_given_up_is_none() {
    let (manifest, files) = bundle_of(&[vec![1; 1000]]);
    let sink = Arc::new(MemorySink::new());
    let plan = BundlePlan::new(&manifest, Container::TarGz).unwrap();
    let writer = BundleWriter::new(plan, Arc::clone(&sink)).unwrap();
    let checksum = writer.checksum(None).unwrap();
    let checksum = std::thread::spawn(move || checksum.compute(|_| {}));
    for (path, bytes) in files.iter().take(2) {
        writer.put(path, bytes).unwrap();
    }
    drop(writer);
    assert_eq!(checksum.join().unwrap().unwrap(), None);
}

/// Writes a bundle the way a bad network does: in pieces, from two threads, each file begun again,
/// some with wrong bytes.
fn write_badly<S: Sink>(writer: &BundleWriter<S>, files: &BTreeMap<EntryPath, Vec<u8>>) {
    let files: Vec<_> = files.iter().rev().collect();
    std::thread::scope(|scope| {
        for half in files.chunks(files.len().div_ceil(2)) {
            scope.spawn(move || {
                for (path, bytes) in half {
                    let mut entry = writer.entry(path).unwrap();
                    entry.write(&bytes[..bytes.len() / 2]).unwrap();
                    entry.restart();
                    let wrong: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
                    entry.write(&wrong).unwrap();
                    assert!(bytes.is_empty() || entry.finish().is_err());
                    drop(entry);
                    let mut entry = writer.entry(path).unwrap();
                    for piece in bytes.chunks(50_000) {
                        entry.write(piece).unwrap();
                    }
                    entry.finish().unwrap();
                    // A caller that is not sure does no harm.
                    entry.restart();
                    entry.finish().unwrap();
                    assert!(entry.write(b"more").is_err());
                }
            });
        }
    });
}

#[test]
fn an_upload_in_parts_can_stand_behind_the_sink() {
    let (manifest, files) = bundle_of(&edge_blobs());
    for container in [Container::TarGz, Container::Tar] {
        let expected = write(&manifest, &files, container);
        for part_bytes in [4_096, 100_000, 5 << 20] {
            let sink = Arc::new(PartSink::new(NonZeroUsize::new(part_bytes).unwrap()));
            let plan = BundlePlan::new(&manifest, container).unwrap();
            let object: Arc<dyn Sink> = Arc::<PartSink>::clone(&sink);
            let writer = BundleWriter::new(plan, object).unwrap();
            write_badly(&writer, &files);
            assert_eq!(sink.object(), None);
            writer.finish().unwrap();
            assert!(sink.object().unwrap() == expected, "{container:?}");
            assert_eq!(sink.sent(), expected.len().div_ceil(part_bytes));
        }
    }
}

#[test]
fn parts_are_sent_while_the_rest_is_still_written() {
    let (manifest, files) = bundle_of(&[content(3 << 20)]);
    let sink = PartSink::new(NonZeroUsize::new(64 << 10).unwrap());
    let plan = BundlePlan::new(&manifest, Container::TarGz).unwrap();
    let writer = BundleWriter::new(plan, &sink).unwrap();
    let large = EntryPath::blob(&Digest::of(&content(3 << 20))).unwrap();
    writer.put(&large, &files[&large]).unwrap();
    assert!(sink.sent() > 40, "{}", sink.sent());
}

#[test]
fn what_cannot_be_read_back_is_begun_anew_and_has_no_checksum() {
    let (manifest, files) = bundle_of(&[content(100_000)]);
    let sink = PartSink::new(NonZeroUsize::new(50_000).unwrap());
    let plan = BundlePlan::new(&manifest, Container::TarGz).unwrap();
    let writer = BundleWriter::resume(plan, &sink).unwrap();
    assert!(writer.checksum(None).is_none());
    for (path, bytes) in &files {
        assert!(matches!(writer.adopt(path).unwrap(), Adopted::Nothing));
        writer.put(path, bytes).unwrap();
    }
    writer.finish().unwrap();
    assert!(sink.object().unwrap() == write(&manifest, &files, Container::TarGz));
}

#[test]
fn what_is_adopted_is_settled_and_what_a_sink_could_not_keep_is_written_again() {
    /// Refuses every second range, and counts the bytes of the others.
    #[derive(Debug, Default)]
    struct Settling {
        memory: MemorySink,
        calls: AtomicU64,
        settled: AtomicU64,
    }
    impl Sink for Settling {
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.memory.write_at(bytes, offset)
        }

        fn reserve(&self, size: u64) -> io::Result<()> {
            self.settled.store(0, Ordering::Relaxed);
            self.memory.reserve(size)
        }

        fn settled(&self, range: Range<u64>) -> io::Result<()> {
            if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.settled
                .fetch_add(range.end - range.start, Ordering::Relaxed);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            self.memory.sync()
        }

        fn read_back(&self) -> Option<&dyn ReadAt> {
            self.memory.read_back()
        }
    }
    let (manifest, files) = bundle_of(&edge_blobs());
    let plan = BundlePlan::new(&manifest, Container::TarGz).unwrap();
    let sink = Settling::default();
    let again = |mut result: Box<dyn FnMut() -> Result<(), WriteError> + '_>| {
        while let Err(error) = result() {
            assert_eq!(error.kind(), WriteErrorKind::Io);
        }
    };
    let begin = || match BundleWriter::resume(plan.clone(), &sink) {
        Err(_) => BundleWriter::resume(plan.clone(), &sink).unwrap(),
        Ok(writer) => writer,
    };
    let writer = begin();
    for (path, bytes) in files.iter().take(10) {
        again(Box::new(|| writer.put(path, bytes)));
    }
    drop(writer);
    let writer = begin();
    for (path, bytes) in &files {
        again(Box::new(|| match writer.adopt(path)? {
            Adopted::Whole => Ok(()),
            _ => writer.put(path, bytes),
        }));
    }
    again(Box::new(|| writer.finish().map(drop)));
    again(Box::new(|| writer.finish().map(drop)));
    assert!(sink.memory.to_bytes() == write(&manifest, &files, Container::TarGz));
    assert_eq!(sink.settled.load(Ordering::Relaxed), plan.size());
}
