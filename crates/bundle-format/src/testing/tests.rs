use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;

use super::{PartSink, check_sink, check_source};
use crate::bundle_file::BundleFile;
use crate::file_sink::FileSink;
use crate::memory_sink::MemorySink;
use crate::output_file::OutputFile;
use crate::read_at::ReadAt;
use crate::sink::Sink;
use crate::volume_size::VolumeSize;

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, bytes).unwrap();
    file
}

#[test]
fn bytes_in_memory_and_in_files_are_sources() {
    check_source(<[u8]>::to_vec);
    check_source(Bytes::copy_from_slice);
    check_source(|bytes| -> Box<[u8]> { bytes.into() });
    check_source(|bytes| -> Arc<dyn ReadAt> { Arc::new(bytes.to_vec()) });
    check_source(file_of);
    check_source(|bytes| {
        let sink = MemorySink::new();
        sink.reserve(bytes.len() as u64).unwrap();
        sink.write_at(bytes, 0).unwrap();
        sink
    });
}

#[test]
fn the_files_of_a_bundle_are_a_source() {
    let folder = tempfile::tempdir().unwrap();
    check_source(|bytes| {
        let path = folder.path().join("b.tgz");
        std::fs::write(&path, bytes).unwrap();
        BundleFile::open(&path).unwrap()
    });
    check_source(|bytes| {
        // Cut by hand, and one of the volumes is empty.
        let cuts = [bytes.len() / 3, bytes.len() / 3, bytes.len()];
        let mut start = 0;
        for (end, number) in cuts.into_iter().zip(1..) {
            let path = folder.path().join(format!("b.tar.{number:03}"));
            std::fs::write(&path, &bytes[start..end]).unwrap();
            start = end;
        }
        BundleFile::open(&folder.path().join("b.tar.001")).unwrap()
    });
}

#[test]
fn memory_and_files_are_sinks() {
    check_sink(MemorySink::new, MemorySink::to_bytes);
    check_sink(|| Arc::new(MemorySink::new()), |sink| sink.to_bytes());
    let kept = Arc::new(MemorySink::new());
    let object = || -> Arc<dyn Sink> {
        kept.reserve(0).unwrap();
        Arc::<MemorySink>::clone(&kept)
    };
    check_sink(object, |_| kept.to_bytes());

    let all = |file: &File| {
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        let count = ReadAt::read_at(file, &mut bytes, 0).unwrap();
        assert_eq!(count, bytes.len());
        bytes
    };
    let file = Arc::new(tempfile::tempfile().unwrap());
    let sink = || {
        file.set_len(0).unwrap();
        FileSink::new(Arc::clone(&file))
    };
    check_sink(sink, |_| all(&file));
}

#[test]
fn a_bundle_under_its_temporary_name_is_a_sink_in_one_file_and_in_volumes() {
    let folder = tempfile::tempdir().unwrap();
    let volumes = VolumeSize::tiny(65_536);
    for (name, volume) in [("b.tgz", None), ("c.tgz", Some(volumes))] {
        let target = folder.path().join(name);
        let create = || match volume {
            Some(volume) => OutputFile::create_volumes(&target, volume, false),
            None => OutputFile::create(&target, false),
        };
        let output = std::cell::RefCell::new(None);
        let make = || {
            output.take();
            let created = create().unwrap();
            let sink = created.sink();
            output.replace(Some(created));
            sink
        };
        let partial = |number: usize| {
            let number = volume.map(|_| format!(".{number:03}")).unwrap_or_default();
            folder.path().join(format!(".{name}{number}.partial"))
        };
        check_sink(make, |_| {
            let mut bytes = std::fs::read(partial(1)).unwrap();
            for number in 2.. {
                match volume.map(|_| std::fs::read(partial(number))) {
                    Some(Ok(more)) => bytes.extend(more),
                    _ => return bytes,
                }
            }
            bytes
        });
    }
}

#[test]
fn an_upload_in_parts_is_a_sink() {
    for part_bytes in [1, 1_000, 65_536, 1 << 20] {
        let part_bytes = NonZeroUsize::new(part_bytes).unwrap();
        check_sink(
            || PartSink::new(part_bytes),
            |sink| sink.object().expect("the parts are an object"),
        );
    }
}

#[test]
fn an_upload_in_parts_refuses_what_a_writer_does_against_the_contract() {
    type Calls = fn(&PartSink) -> io::Result<()>;
    let broken: [(&str, Calls); 7] = [
        ("a write beyond the size that was reserved", |sink| {
            sink.write_at(b"xy", 9)
        }),
        ("a settling beyond the size", |sink| sink.settled(0..11)),
        ("a range without bytes", |sink| sink.settled(3..3)),
        ("never written", |sink| sink.settled(0..6)),
        ("a write of bytes that were settled already", |sink| {
            sink.settled(0..5)?;
            sink.write_at(b"x", 4)
        }),
        ("a settling of bytes that were settled already", |sink| {
            sink.settled(0..2)?;
            sink.settled(1..3)
        }),
        ("`sync` before every byte is settled", |sink| {
            sink.settled(0..5)?;
            sink.sync()
        }),
    ];
    for (rule, calls) in broken {
        let sink = PartSink::new(NonZeroUsize::new(4).unwrap());
        sink.reserve(10).unwrap();
        sink.write_at(b"01234", 0).unwrap();
        let error = calls(&sink).unwrap_err().to_string();
        assert!(error.contains(rule), "{error}");
        assert_eq!(sink.object(), None);
    }
    let sink = PartSink::new(NonZeroUsize::new(4).unwrap());
    sink.reserve(6).unwrap();
    sink.write_at(b"012345", 0).unwrap();
    assert_eq!(sink.sent(), 0);
    sink.settled(2..6).unwrap();
    assert_eq!(sink.sent(), 1);
    sink.settled(0..2).unwrap();
    sink.sync().unwrap();
    assert_eq!((sink.sent(), sink.object()), (2, Some(b"012345".to_vec())));
    let after = sink.write_at(b"x", 0).unwrap_err().to_string();
    assert!(after.contains("a write after `sync`"), "{after}");
}

const NOTHING: &[u8] = &[];

/// A rule that an implementation breaks, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    WritesShort,
    RefusesAnEarlierPlace,
    KeepsTheFirstWrite,
    GrowsOnly,
    ForgetsAtReserve,
    RemembersAfterReserve0,
    RefusesASecondReserve,
    ReadsBackLate,
    ReadsBackNothingSettled,
    ReadsBackNothingSynced,
    LosesWhatIsSettled,
    SettlesInOrderOnly,
    FailsToSync,
    SyncsShort,
}

#[derive(Debug)]
struct BrokenSink {
    broken: Broken,
    inner: MemorySink,
    /// What can be read back, where that is not what was written.
    stale: MemorySink,
    written_up_to: AtomicUsize,
    settled_up_to: AtomicUsize,
    reserved: AtomicUsize,
    settled: AtomicBool,
    synced: AtomicBool,
}

impl BrokenSink {
    fn new(broken: Broken) -> Self {
        Self {
            broken,
            inner: MemorySink::new(),
            stale: MemorySink::new(),
            written_up_to: AtomicUsize::new(0),
            settled_up_to: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            settled: AtomicBool::new(false),
            synced: AtomicBool::new(false),
        }
    }

    fn is(&self, broken: Broken) -> bool {
        self.broken == broken
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = self.inner.to_bytes();
        if self.is(Broken::SyncsShort) {
            bytes.pop();
        }
        bytes
    }
}

impl Sink for BrokenSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let place = usize::try_from(offset).unwrap();
        if self.is(Broken::RefusesAnEarlierPlace)
            && self.written_up_to.fetch_max(place, Ordering::Relaxed) > place
        {
            return Err(io::ErrorKind::NotSeekable.into());
        }
        if self.is(Broken::KeepsTheFirstWrite) && !bytes.is_empty() {
            let mut there = vec![0; bytes.len()];
            self.inner.read_at(&mut there, offset)?;
            if there.iter().any(|byte| *byte != 0) {
                return Ok(());
            }
        }
        let taken = match self.broken {
            Broken::WritesShort => bytes.len().min(60_000),
            _ => bytes.len(),
        };
        self.inner.write_at(&bytes[..taken], offset)
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        let earlier = self.reserved.fetch_add(1, Ordering::Relaxed);
        if self.is(Broken::RefusesASecondReserve) && earlier > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.is(Broken::GrowsOnly) && self.inner.size()? > size {
            return Ok(());
        }
        if self.is(Broken::ForgetsAtReserve) {
            self.inner.reserve(0)?;
        }
        if self.is(Broken::RemembersAfterReserve0) && size == 0 {
            let bytes = self.inner.to_bytes();
            self.stale.reserve(bytes.len() as u64)?;
            self.stale.write_at(&bytes, 0)?;
        }
        self.settled.store(false, Ordering::Relaxed);
        self.inner.reserve(size)?;
        if self.is(Broken::RemembersAfterReserve0) && self.stale.size()? == size {
            self.inner.write_at(&self.stale.to_bytes(), 0)?;
        }
        if self.is(Broken::ReadsBackLate) {
            self.stale.reserve(size)?;
        }
        Ok(())
    }

    fn settled(&self, range: Range<u64>) -> io::Result<()> {
        let end = usize::try_from(range.end).unwrap();
        if self.is(Broken::SettlesInOrderOnly)
            && self.settled_up_to.fetch_max(end, Ordering::Relaxed) > end
        {
            return Err(io::ErrorKind::NotSeekable.into());
        }
        if self.is(Broken::LosesWhatIsSettled) && range.start == 0 {
            self.inner.write_at(&[0; 8], 0)?;
        }
        self.settled.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.synced.store(true, Ordering::Relaxed);
        match self.broken {
            Broken::FailsToSync => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn read_back(&self) -> Option<&dyn ReadAt> {
        let gone = self.is(Broken::ReadsBackNothingSettled) && self.settled.load(Ordering::Relaxed)
            || self.is(Broken::ReadsBackNothingSynced) && self.synced.load(Ordering::Relaxed);
        Some(match self.broken {
            Broken::ReadsBackLate => &self.stale,
            _ if gone => &NOTHING,
            _ => &self.inner,
        })
    }
}

/// Runs a check that is to fail, and returns what it says.
fn broken_rule(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the check finds what is broken");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn a_sink_that_breaks_a_rule_is_told_which() {
    let rules = [
        (
            Broken::WritesShort,
            "what is read back is what was written last",
        ),
        (Broken::RefusesAnEarlierPlace, "`write_at` takes all bytes"),
        (
            Broken::KeepsTheFirstWrite,
            "what is read back is what was written last",
        ),
        (
            Broken::GrowsOnly,
            "after `reserve` the place has exactly that size",
        ),
        (
            Broken::ForgetsAtReserve,
            "after a `reserve` of the same size",
        ),
        (Broken::RemembersAfterReserve0, "after `reserve(0)` nothing"),
        (Broken::RefusesASecondReserve, "`reserve` makes room"),
        (
            Broken::ReadsBackLate,
            "what is read back is what was written last",
        ),
        (
            Broken::ReadsBackNothingSettled,
            "can be read back, after it was settled",
        ),
        (
            Broken::ReadsBackNothingSynced,
            "can be read back, after `sync`",
        ),
        (
            Broken::LosesWhatIsSettled,
            "what is read back is what was written last, after it was settled",
        ),
        (
            Broken::SettlesInOrderOnly,
            "`settled` takes ranges in any order",
        ),
        (
            Broken::FailsToSync,
            "`sync` succeeds when everything is settled",
        ),
        (Broken::SyncsShort, "after `sync` the place holds the bytes"),
    ];
    for (broken, rule) in rules {
        let found = broken_rule(|| {
            check_sink(|| BrokenSink::new(broken), BrokenSink::contents);
        });
        assert!(found.contains(rule), "{broken:?}: {found}");
    }
}

/// A source with a fault.
#[derive(Debug)]
struct BrokenSource {
    bytes: Vec<u8>,
    fault: &'static str,
    reads: AtomicUsize,
}

impl ReadAt for BrokenSource {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        let size = self.bytes.len() as u64;
        match self.fault {
            "ends early" if offset > 200_000 => Ok(0),
            "fails at the end" if offset >= size => Err(io::ErrorKind::UnexpectedEof.into()),
            "wraps around" if offset > size => self.bytes.read_at(buffer, 0),
            "starts elsewhere" if (1..size).contains(&offset) => {
                self.bytes.read_at(buffer, offset - 1)
            }
            "claims too much" => Ok(self.bytes.read_at(buffer, offset)? * 2),
            "shares a position" => self.bytes.read_at(buffer, (reads * 100) as u64),
            "fills an empty buffer" if buffer.is_empty() => Ok(1),
            "is interrupted forever" => Err(io::ErrorKind::Interrupted.into()),
            _ => self.bytes.read_at(buffer, offset),
        }
    }

    fn size(&self) -> io::Result<u64> {
        match self.fault {
            "does not know its size" => Err(io::ErrorKind::Unsupported.into()),
            "forgets a byte" => Ok((self.bytes.len() as u64).saturating_sub(1)),
            _ => self.bytes.size(),
        }
    }
}

#[test]
fn a_source_that_breaks_a_rule_is_told_which() {
    let rules = [
        (
            "ends early",
            "a read before the end returns at least one byte",
        ),
        ("fails at the end", "at and beyond its end too"),
        ("wraps around", "a read at or beyond the end returns 0"),
        ("starts elsewhere", "a read returns the bytes at its offset"),
        (
            "claims too much",
            "no more bytes than the buffer has room for",
        ),
        ("shares a position", "a read before the end returns"),
        (
            "fills an empty buffer",
            "a read into an empty buffer returns 0",
        ),
        (
            "is interrupted forever",
            "comes to an end when it is tried again",
        ),
        ("does not know its size", "the size of a source is known"),
        ("forgets a byte", "`size` is the number of bytes"),
    ];
    for (fault, rule) in rules {
        let found = broken_rule(|| {
            check_source(|bytes| BrokenSource {
                bytes: bytes.to_vec(),
                fault,
                reads: AtomicUsize::new(0),
            });
        });
        assert!(found.contains(rule), "{fault}: {found}");
    }
}

#[test]
fn short_reads_and_interruptions_are_allowed() {
    #[derive(Debug)]
    struct Slow(Vec<u8>, AtomicUsize);
    impl ReadAt for Slow {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            if self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let most = buffer.len().min(100);
            self.0.read_at(&mut buffer[..most], offset)
        }

        fn size(&self) -> io::Result<u64> {
            self.0.size()
        }
    }
    check_source(|bytes| Slow(bytes.to_vec(), AtomicUsize::new(0)));
}
