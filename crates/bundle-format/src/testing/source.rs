use std::io;

use super::workload::{at_once, content};
use crate::read_at::ReadAt;

/// Checks that a source keeps the contract of [`ReadAt`]. `make` creates one that holds the bytes
/// that it is given.
///
/// Called several times, with 0 to 300,001 bytes.
///
/// # Panics
///
/// With the rule that is broken.
pub fn check_source<R: ReadAt>(mut make: impl FnMut(&[u8]) -> R) {
    for size in [0, 1, 511, 70_000, 300_001] {
        let bytes = content(size);
        check_reading(&make(&bytes), &bytes);
    }
}

/// Checks that `source` holds `bytes`, and reads them as the contract has it.
pub(super) fn check_reading(source: &dyn ReadAt, bytes: &[u8]) {
    let size = bytes.len() as u64;
    let found = source.size().expect("the size of a source is known");
    assert_eq!(found, size, "`size` is the number of bytes that there are");
    for length in [1, 100, 4_096, 1 << 20] {
        let starts = [0, 1, size / 3, size / 2, size.saturating_sub(1)];
        for start in starts.into_iter().filter(|start| *start < size) {
            check_read(source, bytes, start, length);
        }
    }
    // No bundle is larger than 2^62 bytes.
    for beyond in [size, size + 1, size + 1_000_000, 1 << 62] {
        let count = read(source, &mut [0; 64], beyond);
        assert_eq!(count, 0, "a read at or beyond the end returns 0");
    }
    let count = read(source, &mut [], 0);
    assert_eq!(count, 0, "a read into an empty buffer returns 0");
    at_once((0..4).map(|thread| {
        move || {
            for start in (thread * 1_000..size).step_by(10_007) {
                check_read(source, bytes, start, 5_000);
            }
        }
    }));
    check_read_to_end(source, bytes);
}

fn check_read(source: &dyn ReadAt, bytes: &[u8], start: u64, length: usize) {
    let mut buffer = vec![0; length];
    let count = read(source, &mut buffer, start);
    assert!(
        count > 0,
        "a read before the end returns at least one byte (at byte {start})"
    );
    assert!(
        count <= length,
        "a read returns no more bytes than the buffer has room for"
    );
    let start = usize::try_from(start).expect("the test fits into memory");
    assert!(
        bytes[start..].starts_with(&buffer[..count]),
        "a read returns the bytes at its offset (at byte {start})"
    );
}

fn check_read_to_end(source: &dyn ReadAt, bytes: &[u8]) {
    let (mut buffer, mut offset) = (vec![0; 8_192], 0);
    while offset < bytes.len() {
        let count = read(source, &mut buffer, offset as u64);
        assert!(
            count > 0 && bytes[offset..].starts_with(&buffer[..count]),
            "reads one after the other give all bytes, however short they are (at byte {offset})"
        );
        offset += count;
    }
}

/// Reads as the library does: again after an interruption, and not after another error.
pub(super) fn read(source: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> usize {
    const ATTEMPTS: usize = 1_000;
    for _ in 0..ATTEMPTS {
        match source.read_at(buffer, offset) {
            Ok(count) => return count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("a source can be read, at and beyond its end too: {error}"),
        }
    }
    panic!("a read that is interrupted comes to an end when it is tried again");
}
