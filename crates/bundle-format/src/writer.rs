use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use oci_content::{Digest, Hasher, VerifyError};

use crate::container::{
    Container, GZIP_HEADER, TAR_BLOCK_BYTES, TAR_END_BYTES, block_bytes, block_header, tar_bytes,
};
use crate::entry_path::EntryPath;
use crate::entry_reader::{EntryReader, is_about_content};
use crate::plan::{BundlePlan, PlannedEntry};
use crate::sink::{ReadAt, Sink};
use crate::tar_header;
use crate::volume_size::VolumeSize;

mod checksum;

pub use checksum::Checksum;

/// Writes a bundle, file by file, in any order and several at once.
///
/// Whatever the order, and however many threads took part, the bytes are the same.
#[derive(Debug)]
pub struct BundleWriter<S> {
    shared: Arc<Shared<S>>,
}

#[derive(Debug)]
struct Shared<S> {
    plan: BundlePlan,
    sink: S,
    progress: Mutex<Progress>,
    /// Tells those who wait for progress that there was some.
    advanced: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// What has been begun, by the offset of the file, which is shorter than its path; a file that is not in here has not.
    states: BTreeMap<u64, State>,
    /// The frame around the files is written: every byte is there.
    framed: bool,
    /// The writer is gone: nothing more will come.
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    /// Written and verified; the CRC-32 of its part of the tar archive.
    Done(u32),
}

/// What a writer has made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleSummary {
    /// The size of the bundle in bytes.
    pub size: u64,
    /// The number of files in it, `manifest.yaml` and its signature included.
    pub entries: u64,
    /// The digest of `manifest.yaml`, by which a later bundle names this one as its base.
    pub manifest: Digest,
}

/// What an earlier run has left of a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum Adopted<S: Sink> {
    /// All of it. It counts as written.
    Whole,
    /// Its first bytes, [`EntryWriter::written`] of them; the next one to be written is the one behind them.
    ///
    /// They are only likely to be right: of what a machine has written that lost its power, some may be missing. So it
    /// is [`EntryWriter::finish`] that judges, and after its error the file is [restarted](EntryWriter::restart).
    Begun(Box<EntryWriter<S>>),
    /// Nothing that is of use.
    Nothing,
}

/// A failure to write a bundle.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct WriteError {
    path: EntryPath,
    kind: WriteErrorKind,
    reason: String,
    source: Option<io::Error>,
}

/// The classes of [`WriteError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteErrorKind {
    /// `manifest.yaml` does not list such a file.
    NotListed,
    /// The file is being written, or has been.
    Taken,
    /// The bytes are not the ones that `manifest.yaml` lists.
    Content,
    /// Files are missing at the end.
    Missing,
    /// The sink refused.
    Io,
}

impl WriteError {
    fn new(path: &EntryPath, kind: WriteErrorKind, reason: impl Into<String>) -> Self {
        Self {
            path: path.clone(),
            kind,
            reason: reason.into(),
            source: None,
        }
    }

    fn io(path: &EntryPath, source: io::Error) -> Self {
        let kind = match source.get_ref() {
            Some(inner) if inner.is::<VerifyError>() => WriteErrorKind::Content,
            _ => WriteErrorKind::Io,
        };
        Self {
            path: path.clone(),
            kind,
            reason: source.to_string(),
            source: Some(source),
        }
    }

    /// Returns the class.
    pub fn kind(&self) -> WriteErrorKind {
        self.kind
    }

    /// Returns the file at fault; of several that are missing, the first.
    pub fn path(&self) -> &EntryPath {
        &self.path
    }
}

impl<S: Sink + ReadAt> BundleWriter<S> {
    /// Goes on in a sink that may hold what an interrupted run has left; see [`adopt`](Self::adopt).
    ///
    /// Where that was another bundle, nothing of it is kept: its bytes would pass for the first ones of files that stand
    /// elsewhere now.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and when the sink cannot be read.
    pub fn resume(plan: BundlePlan, sink: S) -> Result<Self, WriteError> {
        let io = |error| WriteError::io(&EntryPath::MANIFEST, error);
        let holds = |path: &EntryPath| match plan.entry(path) {
            Some(entry) => {
                let reader = EntryReader::new(&sink, plan.container(), path, entry);
                Ok(reader.check()?.is_some())
            }
            None => Ok(true),
        };
        sink.reserve(plan.size()).map_err(io)?;
        let same =
            holds(&EntryPath::MANIFEST).map_err(io)? && holds(&EntryPath::SIGNATURE).map_err(io)?;
        if !same {
            sink.reserve(0).map_err(io)?;
        }
        Self::new(plan, sink)
    }
}

impl<S: Sink> BundleWriter<S> {
    /// Reserves the space, and writes `manifest.yaml` and the signature.
    ///
    /// # Errors
    ///
    /// When the sink has no room or refuses.
    pub fn new(plan: BundlePlan, sink: S) -> Result<Self, WriteError> {
        let shared = Arc::new(Shared {
            plan,
            sink,
            progress: Mutex::default(),
            advanced: Condvar::new(),
        });
        let reserved = shared.sink.reserve(shared.plan.size());
        reserved.map_err(|error| WriteError::io(&EntryPath::MANIFEST, error))?;
        let writer = Self { shared };
        writer.put(&EntryPath::MANIFEST, writer.plan().manifest_yaml())?;
        if let Some(signature) = writer.plan().signature() {
            writer.put(&EntryPath::SIGNATURE, signature)?;
        }
        Ok(writer)
    }

    /// Returns the plan that is being carried out.
    pub fn plan(&self) -> &BundlePlan {
        &self.shared.plan
    }

    /// Starts a file. Several may be written at once.
    ///
    /// # Errors
    ///
    /// When `manifest.yaml` does not list it, or it is being written or has been.
    pub fn entry(&self, path: &EntryPath) -> Result<EntryWriter<S>, WriteError> {
        let (mut writer, _) = self.claim(path)?;
        // A file of no bytes gets no call of `write` that could put its header there.
        writer
            .complete_if_full()
            .map_err(|error| WriteError::io(path, error))?;
        Ok(writer)
    }

    fn claim(&self, path: &EntryPath) -> Result<(EntryWriter<S>, &PlannedEntry), WriteError> {
        let Some(entry) = self.shared.plan.entry(path) else {
            let reason = "manifest.yaml does not list it";
            return Err(WriteError::new(path, WriteErrorKind::NotListed, reason));
        };
        let mut progress = self.shared.progress();
        if progress.states.contains_key(&entry.offset) {
            let reason = "it is being written, or has been";
            return Err(WriteError::new(path, WriteErrorKind::Taken, reason));
        }
        progress.states.insert(entry.offset, State::Open);
        drop(progress);
        let writer = EntryWriter {
            encoder: Encoder::new(path, entry, self.plan().container()),
            shared: Arc::clone(&self.shared),
            path: path.clone(),
            sha256: entry.sha256.clone(),
            size: entry.size,
            hasher: Hasher::new(entry.sha256.algorithm()),
            written: 0,
            done: false,
        };
        Ok((writer, entry))
    }

    /// Writes a whole file that is in memory.
    ///
    /// # Errors
    ///
    /// As for [`entry`](Self::entry), and when these are other bytes than `manifest.yaml` lists, or the sink refuses.
    pub fn put(&self, path: &EntryPath, bytes: &[u8]) -> Result<(), WriteError> {
        let mut writer = self.entry(path)?;
        writer
            .write(bytes)
            .map_err(|error| WriteError::io(path, error))?;
        writer
            .finish()
            .map_err(|error| WriteError::new(path, WriteErrorKind::Content, error.to_string()))
    }

    /// Takes over what an earlier run left of a file in the sink, which `partial` reads.
    ///
    /// Every byte is read and hashed again: what a run that did not end has left is not trusted. Space that was reserved
    /// and not written reads as zeros, so a file reaches as far as its last byte that is not zero, or, if that makes it
    /// the file that is listed, to its end.
    ///
    /// # Errors
    ///
    /// When `manifest.yaml` does not list the file, when it is being written or has been, when `partial` cannot
    /// be read, or the sink refuses.
    pub fn adopt(&self, path: &EntryPath, partial: impl ReadAt) -> Result<Adopted<S>, WriteError> {
        // The claim is given back when it is dropped.
        let (mut writer, entry) = self.claim(path)?;
        let reader = EntryReader::new(partial, self.plan().container(), path, entry);
        let zeros = writer
            .take_over(reader.unverified())
            .map_err(|error| WriteError::io(path, error))?;
        if writer.is_whole_with(zeros) {
            writer.skip_zeros(zeros);
            writer
                .complete_if_full()
                .map_err(|error| WriteError::io(path, error))?;
            return Ok(match writer.finish() {
                Ok(()) => Adopted::Whole,
                Err(_) => Adopted::Nothing,
            });
        }
        Ok(match writer.written {
            0 => Adopted::Nothing,
            // All bytes are there, and some are wrong.
            written if written == writer.size => Adopted::Nothing,
            _ => {
                // Many may wait for their turn.
                writer.encoder.buffer.shrink_to_fit();
                Adopted::Begun(Box::new(writer))
            }
        })
    }

    /// Returns whether a file has been written or taken over.
    pub fn is_done(&self, path: &EntryPath) -> bool {
        self.plan().entry(path).is_some_and(|entry| {
            let progress = self.shared.progress();
            matches!(progress.states.get(&entry.offset), Some(State::Done(_)))
        })
    }

    /// Returns what computes the SHA-256 of the whole bundle, and of its volumes if it has any, while it is written;
    /// `written` reads the sink.
    pub fn checksum<R: ReadAt>(&self, written: R, volume: Option<VolumeSize>) -> Checksum<S, R> {
        Checksum::new(Arc::clone(&self.shared), written, volume)
    }

    /// Ends the bundle: writes the frame around the files and makes everything durable.
    ///
    /// The first bytes are written last, so that what was not ended is no bundle.
    ///
    /// # Errors
    ///
    /// [`WriteErrorKind::Missing`] when a file has not been written; when the sink refuses.
    pub fn finish(&self) -> Result<BundleSummary, WriteError> {
        let plan = self.plan();
        let mut crc = crc32fast::Hasher::new();
        let progress = self.shared.progress();
        for (path, entry) in plan.entries() {
            let Some(State::Done(part)) = progress.states.get(&entry.offset) else {
                let reason = "it has not been written";
                return Err(WriteError::new(path, WriteErrorKind::Missing, reason));
            };
            let length = tar_bytes(entry.size);
            crc.combine(&crc32fast::Hasher::new_with_initial_len(*part, length));
        }
        drop(progress);
        let end = [0; TAR_END_BYTES as usize];
        crc.update(&end);
        let mut tail = Vec::new();
        if plan.container() == Container::TarGz {
            tail.extend(block_header(TAR_END_BYTES, true));
            tail.extend(end);
            let length = crc.total_len();
            tail.extend(crc.finalize().to_le_bytes());
            // The trailer keeps the length modulo 2^32: https://www.rfc-editor.org/rfc/rfc1952#page-8
            tail.extend(&length.to_le_bytes()[..4]);
        } else {
            tail.extend(end);
        }
        let write = || -> io::Result<()> {
            let sink = &self.shared.sink;
            sink.write_at(&tail, plan.size() - tail.len() as u64)?;
            if plan.container() == Container::TarGz {
                sink.write_at(&GZIP_HEADER, 0)?;
            }
            self.shared.progress().framed = true;
            self.shared.advanced.notify_all();
            sink.sync()
        };
        write().map_err(|error| WriteError::io(&EntryPath::MANIFEST, error))?;
        Ok(BundleSummary {
            size: plan.size(),
            entries: plan.entries().len() as u64,
            manifest: Digest::of(plan.manifest_yaml()),
        })
    }
}

impl<S> Drop for BundleWriter<S> {
    fn drop(&mut self) {
        self.shared.progress().closed = true;
        self.shared.advanced.notify_all();
    }
}

impl<S> Shared<S> {
    /// A thread that panicked has left no half-made state: each change is one insertion, removal or assignment.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one file of a bundle.
///
/// - Bytes come in order and are hashed as they pass.
/// - Dropped before [`finish`](Self::finish) has succeeded, it leaves the file unwritten; it can be started again.
#[derive(Debug)]
pub struct EntryWriter<S: Sink> {
    shared: Arc<Shared<S>>,
    path: EntryPath,
    sha256: Digest,
    size: u64,
    hasher: Hasher,
    written: u64,
    encoder: Encoder,
    done: bool,
}

impl<S: Sink> EntryWriter<S> {
    /// Returns the path of the file.
    pub fn path(&self) -> &EntryPath {
        &self.path
    }

    /// Returns the size that the file will have, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns how many bytes of it are there.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// With a [`VerifyError`] inside when more bytes come than `manifest.yaml` lists; when the sink refuses.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.written.saturating_add(bytes.len() as u64);
        if written > self.size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                self.wrong_size(written),
            ));
        }
        self.hasher.update(bytes);
        self.written = written;
        self.encoder.write(&self.shared.sink, bytes)?;
        self.complete_if_full()
    }

    /// Forgets everything that was written: the next byte is the first again.
    pub fn restart(&mut self) {
        self.hasher = Hasher::new(self.sha256.algorithm());
        self.written = 0;
        self.encoder.restart();
    }

    /// Checks that these are the bytes that `manifest.yaml` lists; only then the file counts as written.
    ///
    /// After an error the file can be [restarted](Self::restart).
    ///
    /// # Errors
    ///
    /// When size or SHA-256 are others.
    pub fn finish(&mut self) -> Result<(), VerifyError> {
        if self.written != self.size {
            return Err(self.wrong_size(self.written));
        }
        self.sha256.verify(self.hasher.clone())?;
        self.set_done(self.encoder.crc.clone().finalize());
        Ok(())
    }

    fn set_done(&mut self, crc: u32) {
        self.done = true;
        self.shared
            .progress()
            .states
            .insert(self.encoder.start, State::Done(crc));
        self.shared.advanced.notify_all();
    }

    fn wrong_size(&self, found: u64) -> VerifyError {
        VerifyError::size(&self.sha256, self.size, found)
    }

    /// Takes over what is in its place, as far as the last byte that is not zero; returns how many zeros follow.
    fn take_over(&mut self, mut reader: EntryReader<impl ReadAt>) -> io::Result<u64> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut zeros = 0;
        loop {
            let count = match io::Read::read(&mut reader, &mut buffer) {
                Ok(0) => return Ok(zeros),
                Ok(count) => count,
                Err(error) if is_about_content(&error) => return Ok(zeros),
                Err(error) => return Err(error),
            };
            let bytes = &buffer[..count];
            let behind = bytes.iter().rposition(|byte| *byte != 0);
            let behind = behind.map_or(0, |last| last + 1);
            if behind > 0 {
                self.skip_zeros(std::mem::take(&mut zeros));
                self.skip(&bytes[..behind]);
            }
            zeros += (count - behind) as u64;
        }
    }

    /// Goes past bytes that are in their place already.
    fn skip(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.encoder.skip(bytes);
    }

    fn skip_zeros(&mut self, count: u64) {
        for_zeros(count, |zeros| self.skip(zeros));
    }

    /// Returns whether so many zeros behind what is there make it the file that is listed.
    fn is_whole_with(&self, zeros: u64) -> bool {
        if self.written + zeros != self.size {
            return false;
        }
        let mut hasher = self.hasher.clone();
        for_zeros(zeros, |zeros| hasher.update(zeros));
        hasher.finish() == self.sha256
    }

    fn complete_if_full(&mut self) -> io::Result<()> {
        match self.written == self.size {
            true => self.encoder.complete(&self.shared.sink),
            false => Ok(()),
        }
    }
}

fn for_zeros(mut count: u64, mut take: impl FnMut(&[u8])) {
    let zeros = [0; 4 << 10];
    while count > 0 {
        let part = count.min(zeros.len() as u64);
        take(&zeros[..usize::try_from(part).unwrap_or_default()]);
        count -= part;
    }
}

impl<S: Sink> Drop for EntryWriter<S> {
    fn drop(&mut self) {
        if !self.done {
            if self.written > 0 {
                // For a later run to go on from. What cannot be written is fetched again.
                self.encoder.flush(&self.shared.sink).ok();
            }
            self.shared.progress().states.remove(&self.encoder.start);
        }
    }
}

/// Turns a file's content into its part of the container.
#[derive(Debug)]
struct Encoder {
    container: Container,
    header: Box<tar_header::Block>,
    tar_bytes: u64,
    start: u64,
    /// Where the buffer's first byte belongs.
    offset: u64,
    buffer: Vec<u8>,
    /// Bytes of the tar archive that have not been encoded.
    tar_left: u64,
    block_left: u64,
    crc: crc32fast::Hasher,
}

/// Large enough that a call of the sink costs little beside the copy; each file that is being written has one.
const BUFFER_BYTES: usize = 128 << 10;
/// What a part adds to the buffer beside its own bytes: a tar header, block headers, padding.
const FRAMING_BYTES: usize = 2 << 10;

impl Encoder {
    fn new(path: &EntryPath, entry: &PlannedEntry, container: Container) -> Self {
        let header = Box::new(tar_header::encode(path, entry.size));
        let tar_bytes = tar_bytes(entry.size);
        let content = usize::try_from(entry.size).unwrap_or(BUFFER_BYTES);
        let capacity = content.min(BUFFER_BYTES) + FRAMING_BYTES;
        let mut encoder = Self {
            container,
            header,
            tar_bytes,
            start: entry.offset,
            offset: entry.offset,
            buffer: Vec::with_capacity(capacity),
            tar_left: tar_bytes,
            block_left: 0,
            crc: crc32fast::Hasher::new(),
        };
        encoder.restart();
        encoder
    }

    fn restart(&mut self) {
        self.offset = self.start;
        self.tar_left = self.tar_bytes;
        self.block_left = 0;
        self.buffer.clear();
        self.crc = crc32fast::Hasher::new();
        let header = self.header.clone();
        // A header fits into the first block and into an empty buffer.
        self.push(&*header);
    }

    fn write(&mut self, sink: &impl Sink, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(BUFFER_BYTES / 2) {
            self.push(part);
            if self.buffer.len() >= BUFFER_BYTES / 2 {
                self.flush(sink)?;
            }
        }
        Ok(())
    }

    /// Goes past bytes that are in their place already, and so is what stands before them.
    fn skip(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(BUFFER_BYTES / 2) {
            self.push(part);
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
        }
    }

    /// Adds the padding and hands over what is left.
    fn complete(&mut self, sink: &impl Sink) -> io::Result<()> {
        // What is left of the tar archive when the content is there is the padding, less than a block.
        let zeros = [0; TAR_BLOCK_BYTES as usize];
        let padding = usize::try_from(self.tar_left).unwrap_or_default();
        self.push(&zeros[..padding]);
        self.flush(sink)
    }

    fn push(&mut self, mut bytes: &[u8]) {
        self.crc.update(bytes);
        while !bytes.is_empty() {
            if self.block_left == 0 {
                self.block_left = match self.container {
                    Container::TarGz => {
                        let length = block_bytes(self.tar_left);
                        self.buffer.extend(block_header(length, false));
                        u64::from(length)
                    }
                    Container::Tar => self.tar_left,
                };
            }
            let room = usize::try_from(self.block_left).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            self.block_left -= now.len() as u64;
            self.tar_left -= now.len() as u64;
            bytes = later;
        }
    }

    fn flush(&mut self, sink: &impl Sink) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        sink.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
pub(crate) mod tests;
