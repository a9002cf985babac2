use std::io::{self, Read};

use crate::container::{
    Container, GZIP_HEADER, MAX_BLOCK_BYTES, TAR_BLOCK_BYTES, TAR_END_BYTES, block_bytes,
    block_header,
};
use crate::container_error::{ContainerError, ContainerErrorKind};
use crate::tar_header::{Block, Header};

/// Reads the framing of a container: hands out the tar archive inside, and accepts exactly one
/// encoding.
#[derive(Debug)]
pub(crate) struct Framing<R> {
    input: R,
    /// Bytes that were read from the input and are not used yet.
    buffer: Box<[u8]>,
    unread: std::ops::Range<usize>,
    /// The number of bytes that were used.
    offset: u64,
    container: Option<Container>,
    crc: crc32fast::Hasher,
    /// The number of bytes of the tar archive that remain of the current entry.
    tar_left: u64,
    /// The number of bytes that remain of the current stored block; in a plain archive, of the
    /// entry.
    block_left: u64,
}

const BUFFER_BYTES: usize = 256 << 10;

impl<R: Read> Framing<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER_BYTES].into(),
            unread: 0..0,
            offset: 0,
            container: None,
            crc: crc32fast::Hasher::new(),
            tar_left: 0,
            block_left: 0,
        }
    }

    /// Returns the container, once the first bytes have been read.
    pub(crate) fn container(&self) -> Option<Container> {
        self.container
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn tar_left(&self) -> u64 {
        self.tar_left
    }

    pub(crate) fn fail<T>(
        &self,
        kind: ContainerErrorKind,
        reason: impl Into<String>,
    ) -> Result<T, ContainerError> {
        Err(ContainerError::new(kind, self.offset, reason))
    }

    /// Returns the bytes in the buffer, filling it if it is empty; empty at the end of the input.
    fn fill(&mut self) -> Result<&[u8], ContainerError> {
        while self.unread.is_empty() {
            match self.input.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => self.unread = 0..count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ContainerError::io(self.offset, error)),
            }
        }
        Ok(&self.buffer[self.unread.clone()])
    }

    fn consume(&mut self, count: usize) {
        self.unread.start += count;
        self.offset += count as u64;
    }

    /// Reads as many bytes as there are, up to the length of `into`.
    fn read_up_to(&mut self, into: &mut [u8]) -> Result<usize, ContainerError> {
        let mut done = 0;
        while done < into.len() {
            let bytes = self.fill()?;
            let count = bytes.len().min(into.len() - done);
            if count == 0 {
                break;
            }
            into[done..done + count].copy_from_slice(&bytes[..count]);
            self.consume(count);
            done += count;
        }
        Ok(done)
    }

    fn read_exact(&mut self, into: &mut [u8], what: &str) -> Result<(), ContainerError> {
        if self.read_up_to(into)? == into.len() {
            Ok(())
        } else {
            self.fail(
                ContainerErrorKind::Truncated,
                format!("the file ends in {what}"),
            )
        }
    }

    /// Reads the first bytes, which show the container.
    fn start(&mut self) -> Result<Container, ContainerError> {
        if let Some(container) = self.container {
            return Ok(container);
        }
        let bytes = self.fill()?;
        let other = match bytes {
            [] => Some("it is empty"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("it is compressed with zstd"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("it is compressed with xz"),
            [b'B', b'Z', b'h', ..] => Some("it is compressed with bzip2"),
            [b'P', b'K', 3, 4, ..] => Some("it is a zip archive"),
            _ => None,
        };
        if let Some(reason) = other {
            return self.fail(ContainerErrorKind::NotABundle, reason);
        }
        let container = if bytes[0] == GZIP_HEADER[0] {
            Container::TarGz
        } else {
            Container::Tar
        };
        if container == Container::TarGz {
            let mut header = [0; GZIP_HEADER.len()];
            self.read_exact(&mut header, "the gzip header")?;
            if header[..2] != GZIP_HEADER[..2] {
                let reason = "it is neither a gzip file nor a tar archive";
                return self.fail(ContainerErrorKind::NotABundle, reason);
            }
            if header != GZIP_HEADER {
                let reason = "its gzip header is not that of a bundle";
                return self.fail(ContainerErrorKind::NotCanonical, reason);
            }
        }
        self.container = Some(container);
        Ok(container)
    }

    /// Reads the header of the next entry, or the two zero blocks that end the archive.
    ///
    /// [`begin`](Self::begin) must follow with the size that the header gives.
    pub(crate) fn next_header(&mut self) -> Result<Option<Block>, ContainerError> {
        let container = self.start()?;
        let mut header = [0; TAR_BLOCK_BYTES as usize];
        if container == Container::TarGz {
            let (length, last) = self.read_block_header()?;
            if last {
                self.read_end(length)?;
                return Ok(None);
            }
            if length < TAR_BLOCK_BYTES {
                let reason = "a stored block does not start with a tar header";
                return self.fail(ContainerErrorKind::NotCanonical, reason);
            }
            self.block_left = length.into();
        }
        let first = self.offset == 0;
        let count = self.read_up_to(&mut header)?;
        if count < header.len() {
            let (kind, reason) = if first {
                (
                    ContainerErrorKind::NotABundle,
                    "it is neither a gzip file nor a tar archive",
                )
            } else {
                (
                    ContainerErrorKind::Truncated,
                    "the file ends in a tar header",
                )
            };
            return self.fail(kind, reason);
        }
        self.crc.update(&header);
        if container == Container::Tar && Header(&header).is_zero() {
            let mut second = header;
            self.read_exact(&mut second, "the end of the archive")?;
            return if Header(&second).is_zero() {
                Ok(None)
            } else {
                self.fail(
                    ContainerErrorKind::TarEnd,
                    "the archive ends with one zero block, not two",
                )
            };
        }
        Ok(Some(header))
    }

    fn read_block_header(&mut self) -> Result<(u16, bool), ContainerError> {
        let mut bytes = [0; 5];
        self.read_exact(&mut bytes, "the header of a stored block")?;
        let length = u16::from_le_bytes([bytes[1], bytes[2]]);
        let last = bytes[0] & 1 != 0;
        if bytes[0] & 0b110 != 0 {
            let reason = "a block is not stored but compressed, or its header is damaged";
            return self.fail(ContainerErrorKind::NotCanonical, reason);
        }
        if bytes != block_header(length, last) {
            let reason = "the header of a stored block contradicts itself";
            return self.fail(ContainerErrorKind::GzipBlock, reason);
        }
        Ok((length, last))
    }

    /// Reads the last stored block.
    fn read_end(&mut self, length: u16) -> Result<(), ContainerError> {
        let mut end = [0; TAR_END_BYTES as usize];
        if length != TAR_END_BYTES {
            let reason = format!("the last stored block has {length} bytes, not 1024");
            return self.fail(ContainerErrorKind::TarEnd, reason);
        }
        self.read_exact(&mut end, "the end of the archive")?;
        self.crc.update(&end);
        if end.iter().all(|b| *b == 0) {
            Ok(())
        } else {
            self.fail(
                ContainerErrorKind::TarEnd,
                "the end of the archive is not all zeros",
            )
        }
    }

    /// Starts an entry whose header has been read and that takes `tar_bytes` bytes of the archive.
    pub(crate) fn begin(&mut self, tar_bytes: u64) -> Result<(), ContainerError> {
        self.tar_left = tar_bytes - u64::from(TAR_BLOCK_BYTES);
        match self.container {
            Some(Container::TarGz) => {
                let expected = u64::from(block_bytes(tar_bytes));
                if self.block_left != expected {
                    let reason = format!(
                        "a stored block has {} bytes where the entry takes {expected}",
                        self.block_left
                    );
                    return self.fail(ContainerErrorKind::NotCanonical, reason);
                }
                self.block_left -= u64::from(TAR_BLOCK_BYTES);
            }
            _ => self.block_left = self.tar_left,
        }
        Ok(())
    }

    /// Reads bytes of the current entry: at least one, or 0 at its end.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, ContainerError> {
        if into.is_empty() || self.tar_left == 0 {
            return Ok(0);
        }
        if self.block_left == 0 {
            let (length, last) = self.read_block_header()?;
            let expected = block_bytes(self.tar_left);
            if last {
                let reason = "the archive ends inside an entry";
                return self.fail(ContainerErrorKind::Truncated, reason);
            }
            if length != expected {
                let reason = format!(
                    "a stored block has {length} bytes where it should have {expected}, of at most {MAX_BLOCK_BYTES}"
                );
                return self.fail(ContainerErrorKind::NotCanonical, reason);
            }
            self.block_left = length.into();
        }
        let room = usize::try_from(self.block_left).unwrap_or(usize::MAX);
        let bytes = self.fill()?;
        let count = bytes.len().min(into.len()).min(room);
        if count == 0 {
            return self.fail(ContainerErrorKind::Truncated, "the file ends in an entry");
        }
        into[..count].copy_from_slice(&bytes[..count]);
        self.crc.update(&into[..count]);
        self.consume(count);
        self.block_left -= count as u64;
        self.tar_left -= count as u64;
        Ok(count)
    }

    /// Reads what follows the archive: the gzip trailer, and the end of the file.
    pub(crate) fn finish(&mut self) -> Result<(), ContainerError> {
        if self.container == Some(Container::TarGz) {
            let mut trailer = [0; 8];
            self.read_exact(&mut trailer, "the gzip trailer")?;
            let length = self.crc.total_len();
            let crc = self.crc.clone().finalize();
            if trailer[..4] != crc.to_le_bytes() || trailer[4..] != length.to_le_bytes()[..4] {
                let reason = "the checksum or the length at the end is not that of the content";
                return self.fail(ContainerErrorKind::GzipChecksum, reason);
            }
        }
        if self.fill()?.is_empty() {
            Ok(())
        } else {
            self.fail(
                ContainerErrorKind::TrailingData,
                "there is data after the end of the bundle",
            )
        }
    }
}
