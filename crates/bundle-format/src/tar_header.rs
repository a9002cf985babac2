use std::ops::Range;

use crate::container::TAR_BLOCK_BYTES;
use crate::entry_path::EntryPath;

/// One block of a tar archive.
pub(crate) type Block = [u8; TAR_BLOCK_BYTES as usize];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: Range<usize> = 257..265;
const DEVICE_MAJOR: Range<usize> = 329..337;
const DEVICE_MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;

/// The largest size that eleven octal digits hold; a larger one is written in base 256.
const MAX_OCTAL_SIZE: u64 = (1 << 33) - 1;

/// Returns the header of a file, which has one encoding.
///
/// The header is ustar (POSIX.1-1988), with fixed values for all fields that depend on a machine or
/// a time.
pub(crate) fn encode(path: &EntryPath, size: u64) -> Block {
    let mut block = [0; TAR_BLOCK_BYTES as usize];
    let path = path.to_string();
    // Only a referrer's path is longer than the name field; its folder goes into the prefix.
    let (prefix, name) = if path.len() > NAME.len() {
        path.rsplit_once('/').unwrap_or(("", &path))
    } else {
        ("", path.as_str())
    };
    put(&mut block, NAME, name.as_bytes());
    put(&mut block, PREFIX, prefix.as_bytes());
    put(&mut block, MODE, b"0000644");
    put(&mut block, UID, b"0000000");
    put(&mut block, GID, b"0000000");
    put(&mut block, MTIME, b"00000000000");
    put(&mut block, MAGIC, b"ustar\x0000");
    put(&mut block, DEVICE_MAJOR, b"0000000");
    put(&mut block, DEVICE_MINOR, b"0000000");
    block[TYPE] = b'0';
    if size <= MAX_OCTAL_SIZE {
        put(&mut block, SIZE, format!("{size:011o}").as_bytes());
    } else {
        block[SIZE.start] = 0x80;
        block[SIZE.end - 8..SIZE.end].copy_from_slice(&size.to_be_bytes());
    }
    let checksum = checksum(&block);
    put(
        &mut block,
        CHECKSUM,
        format!("{checksum:06o}\0 ").as_bytes(),
    );
    block
}

fn put(block: &mut Block, field: Range<usize>, value: &[u8]) {
    block[field.start..field.start + value.len()].copy_from_slice(value);
}

/// Adds up the bytes of a header, with blanks in place of the checksum.
pub(crate) fn checksum(block: &Block) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..CHECKSUM.start])
        + sum(&[b' '; CHECKSUM.end - CHECKSUM.start])
        + sum(&block[CHECKSUM.end..])
}

/// A header that is read only to say what is wrong with it: a valid one equals the result of
/// [`encode`].
pub(crate) struct Header<'a>(pub(crate) &'a Block);

/// What the size field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Bytes(u64),
    /// A well-formed number that cannot be the size of a file: negative, or of more than 64 bits.
    OutOfRange,
    Malformed,
}

impl Header<'_> {
    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Returns whether the checksum is right, in any of the spellings in use.
    pub(crate) fn checksum_holds(&self) -> bool {
        octal(&self.0[CHECKSUM]) == Some(u64::from(checksum(self.0)))
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.0[TYPE]
    }

    /// Returns the path; bytes that are not UTF-8 are replaced, which no valid path survives.
    pub(crate) fn path(&self) -> String {
        let text = |field: &[u8]| {
            let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).into_owned()
        };
        let (prefix, name) = (text(&self.0[PREFIX]), text(&self.0[NAME]));
        // The old GNU format keeps other fields in place of the prefix.
        if self.0[MAGIC] == *b"ustar\x0000" && !prefix.is_empty() {
            format!("{prefix}/{name}")
        } else {
            name
        }
    }

    pub(crate) fn size(&self) -> Size {
        let field = &self.0[SIZE];
        if field[0] & 0x80 == 0 {
            return octal(field).map_or(Size::Malformed, Size::Bytes);
        }
        let (high, low) = field.split_at(field.len() - 8);
        let high = high.iter().enumerate();
        let fits = high
            .map(|(at, b)| if at == 0 { b & 0x7f } else { *b })
            .all(|b| b == 0);
        match low.try_into().map(u64::from_be_bytes) {
            Ok(size) if fits => Size::Bytes(size),
            _ => Size::OutOfRange,
        }
    }
}

/// Reads octal digits between blanks and NULs.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(['\0', ' ']);
    let digits = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    digits.then(|| u64::from_str_radix(text, 8).ok())?
}

#[cfg(test)]
mod tests {
    use oci_content::Digest;

    use super::*;

    #[test]
    fn a_header_reads_back_as_what_was_written() {
        let digest = Digest::of(b"x");
        for path in [
            EntryPath::MANIFEST,
            EntryPath::blob(&digest).unwrap(),
            EntryPath::referrer(&digest, &digest).unwrap(),
        ] {
            for size in [0, 1, 511, MAX_OCTAL_SIZE, MAX_OCTAL_SIZE + 1, 1 << 50] {
                let block = encode(&path, size);
                let header = Header(&block);
                assert!(header.checksum_holds() && !header.is_zero());
                assert_eq!(header.path(), path.to_string());
                assert_eq!(header.size(), Size::Bytes(size));
                assert_eq!(header.type_flag(), b'0');
            }
        }
    }

    #[test]
    fn sizes_that_no_file_has_are_told_apart_from_nonsense() {
        let mut block = encode(&EntryPath::MANIFEST, 0);
        let mut with = |size: &[u8; 12]| {
            block[SIZE].copy_from_slice(size);
            Header(&block).size()
        };
        assert_eq!(with(&[0xff; 12]), Size::OutOfRange);
        assert_eq!(with(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), Size::OutOfRange);
        assert_eq!(with(b"\x80\0\0\0\0\0\0\0\0\0\0\x05"), Size::Bytes(5));
        assert_eq!(with(b"zzzzzzzzzzz\0"), Size::Malformed);
        assert_eq!(with(b"           \0"), Size::Malformed);
        assert_eq!(with(b"       0017\0"), Size::Bytes(0o17));
    }
}
