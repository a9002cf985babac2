mod checksum;
mod encoder;
mod entry;
mod error;
mod shared;

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use oci_content::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use self::encoder::Encoder;
use self::shared::{Shared, State};
use crate::container::{Container, GZIP_HEADER, TAR_END_BYTES, block_header, tar_bytes};
use crate::entry_path::EntryPath;
use crate::entry_reader::{EntryReader, is_about_content};
use crate::plan::{BundlePlan, PlannedEntry};
use crate::sink::Sink;
use crate::volume_size::VolumeSize;

pub use self::checksum::Checksum;
pub use self::entry::EntryWriter;
pub use self::error::{WriteError, WriteErrorKind};

/// Writes a bundle, file by file, in any order and several at once.
///
/// Whatever the order, and however many threads took part, the bytes are the same.
#[derive(Debug)]
pub struct BundleWriter<S> {
    shared: Arc<Shared<S>>,
}

/// What a writer has made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

impl<S: Sink> BundleWriter<S> {
    /// Goes on in a sink that may hold what an interrupted run has left; see [`adopt`](Self::adopt).
    ///
    /// Where that was another bundle, nothing of it is kept: its bytes would pass for the first ones of files that stand
    /// elsewhere now. Nothing is kept either where the sink cannot be [read back](Sink::read_back).
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and when the sink cannot be read.
    pub fn resume(plan: BundlePlan, sink: S) -> Result<Self, WriteError> {
        let io = |error| WriteError::io(&EntryPath::MANIFEST, error);
        let holds = |path: &EntryPath| match (plan.entry(path), sink.read_back()) {
            (Some(entry), Some(left)) => {
                let reader = EntryReader::new(left, plan.container(), path, entry);
                Ok(reader.check()?.is_some())
            }
            (Some(_), None) => Ok(false),
            (None, _) => Ok(true),
        };
        sink.reserve(plan.size()).map_err(io)?;
        let same =
            holds(&EntryPath::MANIFEST).map_err(io)? && holds(&EntryPath::SIGNATURE).map_err(io)?;
        if !same {
            sink.reserve(0).map_err(io)?;
        }
        Self::new(plan, sink)
    }

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
            frame: Mutex::default(),
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
            return Err(WriteError::new(path, WriteErrorKind::NotListed));
        };
        let mut progress = self.shared.progress();
        if progress.states.contains_key(&entry.offset) {
            return Err(WriteError::new(path, WriteErrorKind::Taken));
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
        writer.finish().map_err(|error| WriteError::io(path, error))
    }

    /// Takes over what an earlier run left of a file in the sink; nothing where the sink cannot be
    /// [read back](Sink::read_back).
    ///
    /// Every byte is read and hashed again: what a run that did not end has left is not trusted. Space that was reserved
    /// and not written reads as zeros, so a file reaches as far as its last byte that is not zero, or, if that makes it
    /// the file that is listed, to its end.
    ///
    /// # Errors
    ///
    /// When `manifest.yaml` does not list the file, when it is being written or has been, when the sink cannot be read or
    /// refuses.
    pub fn adopt(&self, path: &EntryPath) -> Result<Adopted<S>, WriteError> {
        // The claim is given back when it is dropped.
        let (mut writer, entry) = self.claim(path)?;
        let Some(left) = self.shared.sink.read_back() else {
            return Ok(Adopted::Nothing);
        };
        let reader = EntryReader::new(left, self.plan().container(), path, entry);
        let zeros = writer
            .take_over(reader.unverified())
            .map_err(|error| WriteError::io(path, error))?;
        if writer.is_whole_with(zeros) {
            writer.skip_zeros(zeros);
            writer
                .complete_if_full()
                .map_err(|error| WriteError::io(path, error))?;
            return match writer.finish() {
                Ok(()) => Ok(Adopted::Whole),
                Err(error) if is_about_content(&error) => Ok(Adopted::Nothing),
                Err(error) => Err(WriteError::io(path, error)),
            };
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

    /// Returns what computes the SHA-256 of the whole bundle, and of its volumes if it has any, while it is written. `None`
    /// where the sink cannot be [read back](Sink::read_back).
    pub fn checksum(&self, volume: Option<VolumeSize>) -> Option<Checksum<S>> {
        self.shared.sink.read_back()?;
        Some(Checksum::new(Arc::clone(&self.shared), volume))
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
                return Err(WriteError::new(path, WriteErrorKind::Missing));
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
        self.end(&tail)
            .map_err(|error| WriteError::io(&EntryPath::MANIFEST, error))?;
        Ok(BundleSummary {
            size: plan.size(),
            entries: plan.entries().len() as u64,
            manifest: Digest::of(plan.manifest_yaml()),
        })
    }

    /// Writes the frame around the files; where that failed before, what is not settled of it.
    fn end(&self, tail: &[u8]) -> io::Result<()> {
        let Shared { plan, sink, .. } = &*self.shared;
        let tail = (plan.size() - tail.len() as u64, tail);
        let parts = [tail, (0, &GZIP_HEADER[..])];
        let parts = match plan.container() {
            Container::TarGz => &parts[..],
            Container::Tar => &parts[..1],
        };
        let mut settled = self.shared.frame();
        for (offset, bytes) in &parts[*settled..] {
            sink.write_at(bytes, *offset)?;
            sink.settled(*offset..*offset + bytes.len() as u64)?;
            *settled += 1;
        }
        self.shared.progress().framed = true;
        self.shared.advanced.notify_all();
        sink.sync()
    }
}

impl<S> Drop for BundleWriter<S> {
    fn drop(&mut self) {
        self.shared.progress().closed = true;
        self.shared.advanced.notify_all();
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
pub(crate) mod tests;
