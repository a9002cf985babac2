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

/// The largest size that eleven octal digits hold; beyond it the size stands in base 256.
const MAX_OCTAL_SIZE: u64 = (1 << 33) - 1;

/// Returns the one header that a file has.
///
/// ustar as POSIX.1-1988 defines it, with every field that says something about a machine or a moment fixed.
pub(crate) fn encode(path: &EntryPath, size: u64) -> Block {
    let mut block = [0; TAR_BLOCK_BYTES as usize];
    let path = path.to_string();
    // Only a referrer's path is longer than the name field; its folder goes into the prefix.
    let (prefix, name) = match path.len() > NAME.len() {
        true => path.rsplit_once('/').unwrap_or(("", &path)),
        false => ("", path.as_str()),
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

/// Adds up the header, with blanks in the place of the checksum.
fn checksum(block: &Block) -> u32 {
    let outside = |(at, byte): (usize, &u8)| match CHECKSUM.contains(&at) {
        true => u32::from(b' '),
        false => u32::from(*byte),
    };
    block.iter().enumerate().map(outside).sum()
}
