use std::io::{self, Read};

use crate::container::{Container, TAR_BLOCK_BYTES, tar_bytes};
use crate::container_error::{ContainerError, ContainerErrorKind};
use crate::entry_path::{EntryPath, is_harmless};
use crate::framing::Framing;
use crate::limits::Limits;
use crate::path_grammar::clip;
use crate::tar_header::{self, Block, Header, Size};

/// Reads a bundle from its first byte to its last, once, in bounded memory.
///
/// - Exactly one encoding is accepted, so that every reader of gzip and tar sees the same files in
///   it.
/// - [`next_entry`](Self::next_entry) moves on to the next file, whose content [`Read`] then gives.
/// - The input is not known to be a bundle until [`next_entry`](Self::next_entry) returns `None`:
///   only then have the checksum and the end of the file been checked.
/// - The content is not compared with `manifest.yaml`; the caller, who has read it, does that.
#[derive(Debug)]
pub struct BundleReader<R> {
    framing: Framing<R>,
    limits: Limits,
    state: State,
    previous: Option<EntryPath>,
    content_left: u64,
    entries: u64,
    total_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Failed,
}

/// A file of a bundle, as its header gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EntryHead {
    /// The path of the file.
    pub path: EntryPath,
    /// The size of the file in bytes.
    pub size: u64,
}

impl<R: Read> BundleReader<R> {
    /// Reads the bundle that `input` gives. The input need not be buffered.
    pub fn new(input: R, limits: Limits) -> Self {
        Self {
            framing: Framing::new(input),
            limits,
            state: State::Reading,
            previous: None,
            content_left: 0,
            entries: 0,
            total_bytes: 0,
        }
    }

    /// Returns how the archive is stored, once the first file has been reached.
    pub fn container(&self) -> Option<Container> {
        self.framing.container()
    }

    /// Returns the number of bytes of the container that were used.
    pub fn offset(&self) -> u64 {
        self.framing.offset()
    }

    /// Moves on to the next file; the rest of the current one is read and checked. Returns `None`
    /// at the end of an intact container.
    ///
    /// A wrong checksum ([`ContainerErrorKind::GzipChecksum`]) is reported after the last file.
    ///
    /// # Errors
    ///
    /// When this is not the container of a bundle, or a limit is reached. Nothing can be read after
    /// that.
    pub fn next_entry(&mut self) -> Result<Option<EntryHead>, ContainerError> {
        match self.state {
            State::Reading => {}
            State::Ended => return Ok(None),
            State::Failed => return self.failed_before(),
        }
        let result = self.advance();
        match &result {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::Ended,
            Err(_) => self.state = State::Failed,
        }
        result
    }

    fn failed_before<T>(&self) -> Result<T, ContainerError> {
        let reason = "the bundle cannot be read beyond this point";
        self.framing.fail(ContainerErrorKind::Truncated, reason)
    }

    fn advance(&mut self) -> Result<Option<EntryHead>, ContainerError> {
        self.skip_content()?;
        let offset = self.framing.offset();
        let Some(header) = self.framing.next_header()? else {
            if self.previous.is_none() {
                let reason = "the archive is empty";
                return self.framing.fail(ContainerErrorKind::NoManifest, reason);
            }
            self.framing.finish()?;
            return Ok(None);
        };
        let head = self.examine(&header).map_err(|error| {
            // The error is in the entry, not after its header.
            let path = Header(&header).path();
            ContainerError::new(error.kind(), offset, error.reason()).with_path(clip(&path))
        })?;
        self.framing.begin(tar_bytes(head.size))?;
        self.content_left = head.size;
        self.previous = Some(head.path.clone());
        Ok(Some(head))
    }

    fn examine(&mut self, block: &Block) -> Result<EntryHead, ContainerError> {
        use ContainerErrorKind::{
            DuplicatePath, EntryBytes, EntryType, NoManifest, NotABundle, NotCanonical, Order,
            TarEnd, TarExtension, TarHeader, UnknownPath, UnsafePath,
        };
        let header = Header(block);
        let fail = |kind, reason: &str| self.framing.fail(kind, reason);
        let first = self.previous.is_none();
        if header.is_zero() {
            return fail(TarEnd, "there is a zero block where a tar header belongs");
        }
        if !header.checksum_holds() {
            return if first && self.container() == Some(Container::Tar) {
                fail(NotABundle, "it is neither a gzip file nor a tar archive")
            } else {
                fail(TarHeader, "the checksum of a tar header is wrong")
            };
        }
        match header.type_flag() {
            b'0' => {}
            b'x' | b'g' | b'L' | b'K' => {
                let reason =
                    "a pax or GNU header changes another entry, and a bundle has no such headers";
                return fail(TarExtension, reason);
            }
            0 | b'5' => {
                let reason = "an entry is a folder or has no type, and a bundle has only files";
                return fail(NotCanonical, reason);
            }
            _ => {
                return fail(
                    EntryType,
                    "an entry is a link, a device or something else that is not a file",
                );
            }
        }
        let text = header.path();
        let Ok(path) = text.parse::<EntryPath>() else {
            return match () {
                () if !is_harmless(&text) => fail(UnsafePath, "a path is unsafe"),
                () if first => fail(NoManifest, "the first file is not manifest.yaml"),
                () => fail(UnknownPath, "a bundle has no such file"),
            };
        };
        match &self.previous {
            None if path != EntryPath::MANIFEST => {
                return fail(NoManifest, "the first file is not manifest.yaml");
            }
            Some(previous) if path == *previous || path == EntryPath::MANIFEST => {
                return fail(DuplicatePath, "a file is there twice");
            }
            Some(previous) if path < *previous => {
                return fail(Order, "a file is there twice, or is out of order");
            }
            _ => {}
        }
        let size = match header.size() {
            Size::Bytes(size) => size,
            Size::Malformed => return fail(TarHeader, "the size in a tar header is not a number"),
            Size::OutOfRange => {
                return fail(EntryBytes, "the size in a tar header is out of range");
            }
        };
        self.within_limits(&path, size)?;
        if tar_header::encode(&path, size) != *block {
            let reason = "a tar header has other fields than a bundle writes";
            return fail(NotCanonical, reason);
        }
        self.entries += 1;
        self.total_bytes += size;
        Ok(EntryHead { path, size })
    }

    fn within_limits(&self, path: &EntryPath, size: u64) -> Result<(), ContainerError> {
        let limits = &self.limits;
        let exceeds = |kind, what: &str, found: u64, limit: u64| {
            let reason = format!("{what}: {found} is more than the limit of {limit}");
            self.framing.fail(kind, reason)
        };
        limits.check_entry(path, size)?;
        // No file is larger, so the sums below stay in range under any limits.
        const MAX_BYTES: u64 = 1 << 62;
        if size > MAX_BYTES {
            let what = "the size of a file in bytes";
            return exceeds(ContainerErrorKind::EntryBytes, what, size, MAX_BYTES);
        }
        let total = self.total_bytes + size;
        if total > limits.max_total_bytes.min(MAX_BYTES) {
            let limit = limits.max_total_bytes;
            let what = "the size of all files in bytes";
            return exceeds(ContainerErrorKind::TotalBytes, what, total, limit);
        }
        if self.entries >= limits.max_entries {
            let (found, limit) = (self.entries.saturating_add(1), limits.max_entries);
            return exceeds(
                ContainerErrorKind::Entries,
                "the number of files",
                found,
                limit,
            );
        }
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), ContainerError> {
        let mut scratch = [0; 8 << 10];
        while self.content_left > 0 {
            self.read_content(&mut scratch)?;
        }
        self.check_padding()
    }

    fn read_content(&mut self, into: &mut [u8]) -> Result<usize, ContainerError> {
        let left = usize::try_from(self.content_left).unwrap_or(usize::MAX);
        let room = into.len().min(left);
        let count = self.framing.read(&mut into[..room])?;
        self.content_left -= count as u64;
        if self.content_left == 0 {
            self.check_padding()?;
        }
        Ok(count)
    }

    fn check_padding(&mut self) -> Result<(), ContainerError> {
        let mut padding = [0; TAR_BLOCK_BYTES as usize];
        while self.framing.tar_left() > 0 {
            let count = self.framing.read(&mut padding)?;
            if padding[..count].iter().any(|b| *b != 0) {
                let reason = "the padding after a file is not all zeros";
                return self.framing.fail(ContainerErrorKind::TarPadding, reason);
            }
        }
        Ok(())
    }
}

/// Reads the content of the current file.
impl<R: Read> Read for BundleReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.state == State::Failed {
            self.failed_before()?;
        }
        if buffer.is_empty() || self.content_left == 0 {
            return Ok(0);
        }
        self.read_content(buffer).map_err(|error| {
            self.state = State::Failed;
            error.into()
        })
    }
}

#[cfg(test)]
mod tests;
