use std::io;

use oci_content::{Digest, Hasher};

use crate::container::{Container, TAR_BLOCK_BYTES, block_bytes, block_header, tar_bytes};
use crate::container_error::{ContainerError, ContainerErrorKind};
use crate::entry_path::EntryPath;
use crate::plan::PlannedEntry;
use crate::read_at::ReadAt;
use crate::tar_header;

/// Reads the content of one file of a bundle, without reading the files before it.
///
/// - The framing around the content must be exactly what the plan determines.
/// - The end is reported only if size and SHA-256 match `manifest.yaml`; a caller that stops before
///   the end has verified nothing. A reader from
///   [`open_unverified`](crate::BundleArchive::open_unverified) leaves that to its caller.
#[derive(Debug)]
pub struct EntryReader<S> {
    source: S,
    container: Container,
    header: Box<tar_header::Block>,
    sha256: Digest,
    /// The next byte to read, from the start of the container.
    offset: u64,
    /// Bytes of the tar archive that are still to come: header, content and padding.
    tar_left: u64,
    content_left: u64,
    block_left: u64,
    buffer: Vec<u8>,
    /// The part of the buffer that is unread.
    unread: std::ops::Range<usize>,
    started: bool,
    /// `None` at the end, and where the caller verifies.
    hasher: Option<Hasher>,
    crc: crc32fast::Hasher,
}

const BUFFER_BYTES: usize = 256 << 10;

impl<S: ReadAt> EntryReader<S> {
    pub(crate) fn new(
        source: S,
        container: Container,
        path: &EntryPath,
        entry: &PlannedEntry,
    ) -> Self {
        Self {
            source,
            container,
            header: Box::new(tar_header::encode(path, entry.size)),
            sha256: entry.sha256.clone(),
            offset: entry.offset,
            tar_left: tar_bytes(entry.size),
            content_left: entry.size,
            block_left: 0,
            buffer: Vec::new(),
            unread: 0..0,
            started: false,
            hasher: Some(Hasher::new(entry.sha256.algorithm())),
            crc: crc32fast::Hasher::new(),
        }
    }

    /// Leaves it to the caller to compare the content.
    pub(crate) fn unverified(mut self) -> Self {
        self.hasher = None;
        self
    }

    /// Reads everything and returns the CRC-32 of its part of the tar archive; `None` if the bytes
    /// are not those of the plan.
    pub(crate) fn check(mut self) -> io::Result<Option<u32>> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match io::Read::read(&mut self, &mut buffer) {
                Ok(0) => return Ok(Some(self.crc.finalize())),
                Ok(_) => {}
                Err(error) if is_about_content(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn fail<T>(&self, kind: ContainerErrorKind, reason: &str) -> io::Result<T> {
        Err(ContainerError::new(kind, self.offset, reason).into())
    }

    /// Fills the buffer if it is empty.
    fn fill(&mut self) -> io::Result<()> {
        if !self.unread.is_empty() {
            return Ok(());
        }
        let wanted = self.container.stored_bytes(self.tar_left);
        let wanted = usize::try_from(wanted)
            .unwrap_or(BUFFER_BYTES)
            .min(BUFFER_BYTES);
        self.buffer.resize(wanted, 0);
        loop {
            match self.source.read_at(&mut self.buffer, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ContainerError::io(self.offset, error).into()),
                Ok(0) => return self.fail(ContainerErrorKind::Truncated, "the file ends early"),
                Ok(count) => {
                    self.unread = 0..count;
                    return Ok(());
                }
            }
        }
    }

    /// Takes exactly `wanted.len()` bytes of framing and compares them.
    fn expect(&mut self, mut wanted: &[u8], kind: ContainerErrorKind) -> io::Result<()> {
        while !wanted.is_empty() {
            self.fill()?;
            let count = wanted.len().min(self.unread.len());
            let start = self.unread.start;
            if self.buffer[start..start + count] != wanted[..count] {
                return self.fail(kind, "it is not what manifest.yaml determines");
            }
            self.consume(count);
            wanted = &wanted[count..];
        }
        Ok(())
    }

    fn consume(&mut self, count: usize) {
        self.unread.start += count;
        self.offset += count as u64;
    }

    /// Reads the header of the next block, where one is due.
    fn enter_block(&mut self) -> io::Result<()> {
        if self.block_left > 0 || self.tar_left == 0 {
            return Ok(());
        }
        self.block_left = match self.container {
            Container::TarGz => {
                let length = block_bytes(self.tar_left);
                let header = block_header(length, false);
                self.expect(&header, ContainerErrorKind::GzipBlock)?;
                length.into()
            }
            Container::Tar => self.tar_left,
        };
        Ok(())
    }

    /// Compares the next bytes of the tar archive with bytes that are known.
    fn expect_tar(&mut self, mut wanted: &[u8], kind: ContainerErrorKind) -> io::Result<()> {
        self.crc.update(wanted);
        while !wanted.is_empty() {
            self.enter_block()?;
            let block_left = usize::try_from(self.block_left).unwrap_or(usize::MAX);
            let (now, later) = wanted.split_at(wanted.len().min(block_left));
            self.expect(now, kind)?;
            self.block_left -= now.len() as u64;
            self.tar_left -= now.len() as u64;
            wanted = later;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else {
            return Ok(());
        };
        let padding = usize::try_from(self.tar_left).unwrap_or_default();
        let zeros = [0; TAR_BLOCK_BYTES as usize];
        self.expect_tar(&zeros[..padding], ContainerErrorKind::TarPadding)?;
        Ok(self.sha256.verify(hasher)?)
    }
}

/// Returns whether an error says that bytes are wrong, rather than unreadable.
pub(crate) fn is_about_content(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        inner.is::<oci_content::VerifyError>()
            || inner
                .downcast_ref::<ContainerError>()
                .is_some_and(|error| error.kind() != ContainerErrorKind::Io)
    })
}

impl<S: ReadAt> io::Read for EntryReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if !self.started {
            self.started = true;
            let header = self.header.clone();
            self.expect_tar(&*header, ContainerErrorKind::TarHeader)?;
        }
        if self.content_left == 0 {
            self.finish()?;
            return Ok(0);
        }
        self.enter_block()?;
        self.fill()?;
        let left = self.content_left.min(self.block_left);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let count = left.min(buffer.len()).min(self.unread.len());
        let start = self.unread.start;
        let bytes = &self.buffer[start..start + count];
        buffer[..count].copy_from_slice(bytes);
        if let Some(hasher) = &mut self.hasher {
            self.crc.update(bytes);
            hasher.update(bytes);
        }
        self.consume(count);
        self.block_left -= count as u64;
        self.tar_left -= count as u64;
        self.content_left -= count as u64;
        Ok(count)
    }
}
