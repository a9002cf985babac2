use std::io;
use std::ops::Range;

use crate::container::{Container, TAR_BLOCK_BYTES, block_bytes, block_header, tar_bytes};
use crate::entry_path::EntryPath;
use crate::plan::PlannedEntry;
use crate::sink::Sink;
use crate::tar_header;

/// Turns a file's content into its part of the container.
#[derive(Debug)]
pub(super) struct Encoder {
    container: Container,
    header: Box<tar_header::Block>,
    tar_bytes: u64,
    pub(super) start: u64,
    /// The offset of the buffer's first byte.
    offset: u64,
    pub(super) buffer: Vec<u8>,
    /// The number of bytes of the tar archive that are not encoded yet.
    tar_left: u64,
    block_left: u64,
    pub(super) crc: crc32fast::Hasher,
}

/// Large enough that a call of the sink costs little beside the copy; each file in progress has
/// one.
pub(super) const BUFFER_BYTES: usize = 128 << 10;
/// What a part adds to the buffer besides its own bytes: a tar header, block headers, padding.
const FRAMING_BYTES: usize = 2 << 10;

impl Encoder {
    pub(super) fn new(path: &EntryPath, entry: &PlannedEntry, container: Container) -> Self {
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

    pub(super) fn restart(&mut self) {
        self.offset = self.start;
        self.tar_left = self.tar_bytes;
        self.block_left = 0;
        self.buffer.clear();
        self.crc = crc32fast::Hasher::new();
        let header = self.header.clone();
        // A header fits into the first block and into an empty buffer.
        self.push(&*header);
    }

    pub(super) fn write(&mut self, sink: &impl Sink, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(BUFFER_BYTES / 2) {
            self.push(part);
            if self.buffer.len() >= BUFFER_BYTES / 2 {
                self.flush(sink)?;
            }
        }
        Ok(())
    }

    /// Skips bytes that are already in place, like everything before them.
    pub(super) fn skip(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(BUFFER_BYTES / 2) {
            self.push(part);
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
        }
    }

    /// Adds the padding and writes the rest of the buffer.
    pub(super) fn complete(&mut self, sink: &impl Sink) -> io::Result<()> {
        // After the content only the padding is left, less than a block.
        let zeros = [0; TAR_BLOCK_BYTES as usize];
        let padding = usize::try_from(self.tar_left).unwrap_or_default();
        self.push(&zeros[..padding]);
        self.flush(sink)
    }

    /// Returns the range of the file in the container, with its header and padding.
    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.start + self.container.stored_bytes(self.tar_bytes)
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

    pub(super) fn flush(&mut self, sink: &impl Sink) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        sink.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
