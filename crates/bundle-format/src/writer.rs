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
/// The bytes do not depend on the order or on the number of threads.
#[derive(Debug)]
pub struct BundleWriter<S> {
    shared: Arc<Shared<S>>,
}

/// The result of a writer.
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
    /// The whole file. It counts as written.
    Whole,
    /// The first [`EntryWriter::written`] bytes of the file; writing continues after them.
    ///
    /// These bytes may be wrong, since a machine that lost power may not have written all of them.
    /// [`EntryWriter::finish`] verifies the whole file; after its error the file is
    /// [restarted](EntryWriter::restart).
    Begun(Box<EntryWriter<S>>),
    /// Nothing of use.
    Nothing,
}

impl<S: Sink> BundleWriter<S> {
    /// Continues in a sink that may hold what an interrupted run has left; see
    /// [`adopt`](Self::adopt).
    ///
    /// Nothing is kept of another bundle, whose bytes could be mistaken for the start of files that
    /// are elsewhere now, or if the sink cannot be [read back](Sink::read_back).
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
    /// When the sink has no room or fails.
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
    /// When `manifest.yaml` does not list the file, or it is being written or was written.
    pub fn entry(&self, path: &EntryPath) -> Result<EntryWriter<S>, WriteError> {
        let (mut writer, _) = self.claim(path)?;
        // An empty file gets no call of `write` that would put its header there.
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
    /// As for [`entry`](Self::entry), and when `bytes` are not those that `manifest.yaml` lists, or
    /// the sink fails.
    pub fn put(&self, path: &EntryPath, bytes: &[u8]) -> Result<(), WriteError> {
        let mut writer = self.entry(path)?;
        writer
            .write(bytes)
            .map_err(|error| WriteError::io(path, error))?;
        writer.finish().map_err(|error| WriteError::io(path, error))
    }

    /// Takes over what an earlier run left of a file in the sink; nothing if the sink cannot be
    /// [read back](Sink::read_back).
    ///
    /// Every byte is read and hashed again, because an interrupted run is not trusted. Reserved
    /// space that was not written reads as zeros, so a file is taken to end at its last nonzero
    /// byte, unless its trailing zeros make it the listed file.
    ///
    /// # Errors
    ///
    /// When `manifest.yaml` does not list the file, when it is being written or was written, when
    /// the sink cannot be read or fails.
    pub fn adopt(&self, path: &EntryPath) -> Result<Adopted<S>, WriteError> {
        // Dropping the writer gives the claim back.
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
                // Many files may wait for their turn.
                writer.encoder.buffer.shrink_to_fit();
                Adopted::Begun(Box::new(writer))
            }
        })
    }

    /// Returns whether a file was written or taken over.
    pub fn is_done(&self, path: &EntryPath) -> bool {
        self.plan().entry(path).is_some_and(|entry| {
            let progress = self.shared.progress();
            matches!(progress.states.get(&entry.offset), Some(State::Done(_)))
        })
    }

    /// Returns a task that computes the SHA-256 of the whole bundle, and of its volumes if it has
    /// any, while it is written; `None` if the sink cannot be [read back](Sink::read_back).
    pub fn checksum(&self, volume: Option<VolumeSize>) -> Option<Checksum<S>> {
        self.shared.sink.read_back()?;
        Some(Checksum::new(Arc::clone(&self.shared), volume))
    }

    /// Ends the bundle: writes the frame around the files and makes everything durable.
    ///
    /// The first bytes of a gzip bundle are written last, so that an unfinished file is not a
    /// bundle.
    ///
    /// # Errors
    ///
    /// [`WriteErrorKind::Missing`] when a file was not written; when the sink fails.
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
            // The trailer keeps the length modulo 2^32:
            // https://www.rfc-editor.org/rfc/rfc1952#page-8
            tail.extend(&length.to_le_bytes()[..4]);
        } else {
            tail.extend(end);
        }
        self.end(&tail)
            .map_err(|error| WriteError::io(&EntryPath::MANIFEST, error))?;
        Ok(BundleSummary {
            size: plan.size(),
            entries: plan.entries().len() as u64,
            manifest: plan.manifest_digest().clone(),
        })
    }

    /// Writes the frame around the files; after a failure, only the parts that are not settled yet.
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
