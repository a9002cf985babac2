use std::io;
use std::sync::{Arc, PoisonError};

use super::shared::{Progress, Shared, State};
use crate::checksums::{ChecksumHasher, Checksums};
use crate::container::{Container, GZIP_HEADER};
use crate::read_at::read_range;
use crate::sink::Sink;
use crate::volume_size::VolumeSize;

/// The SHA-256 of a whole bundle and of its volumes, computed while the bundle is written.
///
/// It follows the files in the order of the archive and waits until each is written and verified,
/// so that little is left to read at the end, and most of what it reads is still cached.
#[derive(Debug)]
pub struct Checksum<S> {
    shared: Arc<Shared<S>>,
    hasher: ChecksumHasher,
    /// The number of bytes of the bundle that were hashed.
    hashed: u64,
}

impl<S: Sink> Checksum<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, volume: Option<VolumeSize>) -> Self {
        Self {
            shared,
            hasher: ChecksumHasher::new(volume),
            hashed: 0,
        }
    }

    /// Computes the checksums; blocks until [`finish`](crate::BundleWriter::finish) has written the
    /// last byte. Returns `None` if the writer is dropped before. `hashed` is called with the
    /// number of bytes hashed since the last call.
    ///
    /// # Errors
    ///
    /// When the written bytes cannot be read.
    pub fn compute(mut self, mut hashed: impl FnMut(u64)) -> io::Result<Option<Checksums>> {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        if plan.container() == Container::TarGz {
            // The header is written last, and is always the same.
            self.hasher.update(&GZIP_HEADER);
            self.hashed = GZIP_HEADER.len() as u64;
            hashed(self.hashed);
        }
        for (_, entry) in plan.entries() {
            let done = |progress: &Progress| {
                matches!(progress.states.get(&entry.offset), Some(State::Done(_)))
            };
            if !self.wait(done) {
                return Ok(None);
            }
            self.read_to(entry.offset + entry.stored_bytes, &mut hashed)?;
        }
        if !self.wait(|progress| progress.framed) {
            return Ok(None);
        }
        self.read_to(plan.size(), &mut hashed)?;
        Ok(Some(self.hasher.finish()))
    }

    /// Waits until `reached`; returns `false` if the writer is dropped before.
    fn wait(&self, reached: impl Fn(&Progress) -> bool) -> bool {
        let waiting = |progress: &mut Progress| !reached(progress) && !progress.closed;
        let progress = self.shared.progress();
        let progress = self.shared.advanced.wait_while(progress, waiting);
        reached(&progress.unwrap_or_else(PoisonError::into_inner))
    }

    fn read_to(&mut self, end: u64, hashed: &mut impl FnMut(u64)) -> io::Result<()> {
        let written = self.shared.sink.read_back();
        // A checksum exists only if the sink can be read back.
        let written = written.ok_or(io::ErrorKind::Unsupported)?;
        let hasher = &mut self.hasher;
        let range = self.hashed..end;
        self.hashed = read_range(written, range, |bytes| {
            hasher.update(bytes);
            hashed(bytes.len() as u64);
        })?;
        if self.hashed < end {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }
}
