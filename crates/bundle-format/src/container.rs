use std::path::Path;

/// How the archive of a bundle is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Container {
    /// A tar archive inside one gzip member of stored blocks: `bundle.tgz`.
    TarGz,
    /// The same tar archive without gzip, for tools that do not read compressed ones: `bundle.tar`.
    Tar,
}

impl Container {
    /// Chooses the container by the name of the file: `.tar` is the plain archive, everything else
    /// is gzip.
    pub fn from_file_name(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(extension) if extension.eq_ignore_ascii_case("tar") => Self::Tar,
            _ => Self::TarGz,
        }
    }

    /// Returns the number of bytes before the first entry.
    pub(crate) fn head_bytes(self) -> u64 {
        match self {
            Self::TarGz => GZIP_HEADER.len() as u64,
            Self::Tar => 0,
        }
    }

    /// Returns the number of bytes after the last entry.
    pub(crate) fn tail_bytes(self) -> u64 {
        match self {
            Self::TarGz => BLOCK_HEADER_BYTES + u64::from(TAR_END_BYTES) + GZIP_TRAILER_BYTES,
            Self::Tar => TAR_END_BYTES.into(),
        }
    }

    /// Returns the number of bytes that `tar_bytes` of one entry take in the container.
    pub(crate) fn stored_bytes(self, tar_bytes: u64) -> u64 {
        match self {
            Self::TarGz => {
                tar_bytes + BLOCK_HEADER_BYTES * tar_bytes.div_ceil(MAX_BLOCK_BYTES.into())
            }
            Self::Tar => tar_bytes,
        }
    }
}

/// The gzip header of every bundle: deflate, no flags, no time, no extra flags, unknown system.
///
/// <https://www.rfc-editor.org/rfc/rfc1952#section-2.3>
pub(crate) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// CRC-32 and length.
pub(crate) const GZIP_TRAILER_BYTES: u64 = 8;
/// Type and padding, length, and the length's complement.
///
/// <https://www.rfc-editor.org/rfc/rfc1951#section-3.2.4>
pub(crate) const BLOCK_HEADER_BYTES: u64 = 5;
/// The largest number of bytes in one stored block.
pub(crate) const MAX_BLOCK_BYTES: u16 = u16::MAX;
/// The two zero blocks that end a tar archive.
pub(crate) const TAR_END_BYTES: u16 = 1024;
/// The unit of a tar archive.
pub(crate) const TAR_BLOCK_BYTES: u16 = 512;

/// Returns the bytes that a file of `size` bytes takes in the tar archive: header, content and
/// padding.
pub(crate) fn tar_bytes(size: u64) -> u64 {
    let block = u64::from(TAR_BLOCK_BYTES);
    block + size.next_multiple_of(block)
}

/// Returns the number of bytes in the next stored block of an entry of which `tar_left` bytes
/// remain.
pub(crate) fn block_bytes(tar_left: u64) -> u16 {
    u16::try_from(tar_left).unwrap_or(MAX_BLOCK_BYTES)
}

/// Returns the header of a stored block of `length` bytes.
pub(crate) fn block_header(length: u16, last: bool) -> [u8; 5] {
    let [low, high] = length.to_le_bytes();
    [u8::from(last), low, high, !low, !high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_chooses_the_container() {
        for (name, container) in [
            ("bundle.tgz", Container::TarGz),
            ("bundle.tar.gz", Container::TarGz),
            ("bundle", Container::TarGz),
            ("a/bundle.tar", Container::Tar),
            ("BUNDLE.TAR", Container::Tar),
        ] {
            assert_eq!(Container::from_file_name(Path::new(name)), container);
        }
    }

    #[test]
    fn blocks_start_anew_at_each_entry_and_hold_at_most_65535_bytes() {
        for (tar_bytes, stored) in [
            (512, 517),
            (65_024, 65_029),
            (65_535, 65_540),
            (65_536, 65_546),
            (131_070, 131_080),
            (131_072, 131_087),
        ] {
            assert_eq!(Container::TarGz.stored_bytes(tar_bytes), stored);
        }
    }
}
