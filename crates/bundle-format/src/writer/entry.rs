use std::io;
use std::sync::Arc;

use oci_content::{Digest, Hasher, VerifyError};

use super::encoder::{BUFFER_BYTES, Encoder};
use super::shared::{Shared, State};
use crate::entry_path::EntryPath;
use crate::entry_reader::{EntryReader, is_about_content};
use crate::read_at::ReadAt;
use crate::sink::Sink;

/// Writes one file of a bundle.
///
/// - Bytes come in order and are hashed as they pass.
/// - Dropped before [`finish`](Self::finish) succeeds, it leaves the file unwritten, and the file
///   can be started again.
#[derive(Debug)]
pub struct EntryWriter<S: Sink> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) path: EntryPath,
    pub(super) sha256: Digest,
    pub(super) size: u64,
    pub(super) hasher: Hasher,
    pub(super) written: u64,
    pub(super) encoder: Encoder,
    pub(super) done: bool,
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

    /// Returns the number of bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// With a [`VerifyError`] inside when there are more bytes than `manifest.yaml` lists; when the
    /// sink fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.written.saturating_add(bytes.len() as u64);
        if written > self.size {
            return Err(wrong_content(self.wrong_size(written)));
        }
        self.hasher.update(bytes);
        self.written = written;
        self.encoder.write(&self.shared.sink, bytes)?;
        self.complete_if_full()
    }

    /// Forgets everything that was written: the next byte is the first again. Does nothing once the
    /// file is [finished](Self::finish).
    pub fn restart(&mut self) {
        if self.done {
            return;
        }
        self.hasher = Hasher::new(self.sha256.algorithm());
        self.written = 0;
        self.encoder.restart();
    }

    /// Checks that the bytes are those that `manifest.yaml` lists; only then does the file count as
    /// written.
    ///
    /// After an error the file can be [restarted](Self::restart).
    ///
    /// # Errors
    ///
    /// With a [`VerifyError`] inside when size or SHA-256 do not match; when the sink fails.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.done {
            return Ok(());
        }
        self.verify().map_err(wrong_content)?;
        self.shared.sink.settled(self.encoder.range())?;
        self.set_done(self.encoder.crc.clone().finalize());
        Ok(())
    }

    fn verify(&self) -> Result<(), VerifyError> {
        if self.written != self.size {
            return Err(self.wrong_size(self.written));
        }
        self.sha256.verify(self.hasher.clone())?;
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

    /// Takes over the bytes in place, up to the last nonzero byte; returns the number of zeros that
    /// follow.
    pub(super) fn take_over(&mut self, mut reader: EntryReader<impl ReadAt>) -> io::Result<u64> {
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

    /// Skips bytes that are already in place.
    fn skip(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.encoder.skip(bytes);
    }

    pub(super) fn skip_zeros(&mut self, count: u64) {
        for_zeros(count, |zeros| self.skip(zeros));
    }

    /// Returns whether `zeros` zeros after the bytes in place complete the listed file.
    pub(super) fn is_whole_with(&self, zeros: u64) -> bool {
        if self.written + zeros != self.size {
            return false;
        }
        let mut hasher = self.hasher.clone();
        for_zeros(zeros, |zeros| hasher.update(zeros));
        hasher.finish() == self.sha256
    }

    pub(super) fn complete_if_full(&mut self) -> io::Result<()> {
        if self.written == self.size {
            self.encoder.complete(&self.shared.sink)
        } else {
            Ok(())
        }
    }
}

fn wrong_content(error: VerifyError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
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
                // A later run can continue from here. What cannot be written is fetched again.
                self.encoder.flush(&self.shared.sink).ok();
            }
            self.shared.progress().states.remove(&self.encoder.start);
        }
    }
}
