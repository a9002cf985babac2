//! A disk that fails at each call in turn.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tests::{bundle_of, content, write};
use super::*;
use crate::output_file::{OutputFile, OutputSink};
use crate::read_at::ReadAt;

/// A file on a disk that is full from the call `at` on.
#[derive(Debug)]
struct Failing {
    file: OutputSink,
    calls: AtomicUsize,
    at: usize,
}

impl Failing {
    fn new(output: &OutputFile, at: usize) -> Arc<Self> {
        Arc::new(Self {
            file: output.sink(),
            calls: AtomicUsize::new(0),
            at,
        })
    }

    fn call(&self) -> io::Result<()> {
        if self.calls.fetch_add(1, Ordering::Relaxed) < self.at {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
}

impl Sink for Failing {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // A disk that fills up takes a part.
        let taken = self.call().map_or(bytes.len() / 2, |()| bytes.len());
        self.file.write_at(&bytes[..taken], offset)?;
        if taken == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        self.call()?;
        self.file.reserve(size)
    }

    fn settled(&self, _: Range<u64>) -> io::Result<()> {
        self.call()
    }

    fn sync(&self) -> io::Result<()> {
        self.call()?;
        self.file.sync()
    }

    fn read_back(&self) -> Option<&dyn ReadAt> {
        self.file.read_back()
    }
}

#[test]
fn a_disk_that_is_full_at_any_call_leaves_no_bundle_and_the_next_run_finishes_it() {
    let blobs: Vec<_> = [0, 600, 70_000, 300_000].into_iter().map(content).collect();
    let (manifest, files) = bundle_of(&blobs);
    let plan = || BundlePlan::new(&manifest, Container::TarGz).unwrap();
    let expected = write(&manifest, &files, Container::TarGz);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("b.tgz");
    let run = |output: &OutputFile, at: usize| {
        let sink = Failing::new(output, at);
        let run = || {
            let writer = BundleWriter::new(plan(), Arc::clone(&sink))?;
            for (path, bytes) in &files {
                let adopted = if output.is_resumed() {
                    writer.adopt(path)?
                } else {
                    Adopted::Nothing
                };
                match adopted {
                    Adopted::Whole => {}
                    Adopted::Begun(mut entry) => {
                        let begun = usize::try_from(entry.written()).unwrap();
                        let io = |error| WriteError::io(path, error);
                        entry.write(&bytes[begun..]).map_err(io)?;
                        entry.finish().unwrap();
                    }
                    Adopted::Nothing => writer.put(path, bytes)?,
                }
            }
            writer.finish()
        };
        let result = run();
        (result, sink.calls.load(Ordering::Relaxed))
    };
    let output = OutputFile::create(&target, false).unwrap();
    let (clean, calls) = run(&output, usize::MAX);
    clean.unwrap();
    drop(output);
    assert!(calls > files.len(), "{calls}");
    for at in 0..calls {
        let output = OutputFile::create(&target, false).unwrap();
        let (failed, _) = run(&output, at);
        let error = failed.unwrap_err();
        assert_eq!(error.kind(), WriteErrorKind::Io, "call {at}: {error}");
        output.keep();
        drop(output);
        assert!(!target.exists(), "call {at}");

        let output = OutputFile::create(&target, false).unwrap();
        run(&output, usize::MAX).0.unwrap();
        output.publish().unwrap();
        assert!(std::fs::read(&target).unwrap() == expected, "call {at}");
        std::fs::remove_file(&target).unwrap();
    }
}
