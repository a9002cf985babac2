use super::source::{check_reading, read};
use super::workload::{at_once, content};
use crate::read_at::ReadAt;
use crate::sink::Sink;

/// Checks that a sink keeps the contract of [`Sink`]. `make` creates one that nothing was written
/// to; `contents` returns what the place of a sink holds after [`sync`](Sink::sync).
///
/// Writes a few bundles of up to 300,001 bytes, from several threads.
///
/// # Panics
///
/// With the rule that is broken.
pub fn check_sink<S: Sink>(mut make: impl FnMut() -> S, contents: impl Fn(&S) -> Vec<u8>) {
    let bytes = content(300_001);
    let sink = make();
    reserve(&sink, bytes.len());
    check_size(&sink, bytes.len());
    write_twice(&sink, &bytes);
    check_read_back(&sink, &bytes, "as soon as it was written");
    settle(&sink, bytes.len());
    check_read_back(&sink, &bytes, "after it was settled");
    sync(&sink);
    check_read_back(&sink, &bytes, "after `sync`");
    assert!(
        contents(&sink) == bytes,
        "after `sync` the place holds the bytes that were written last, and no others"
    );

    check_starting_over(&make(), &contents);
    if sink.read_back().is_some() {
        check_leftovers(&make());
    }
}

/// Another plan for the same place: longer, then shorter than before.
fn check_starting_over<S: Sink>(sink: &S, contents: &impl Fn(&S) -> Vec<u8>) {
    let mut bytes = Vec::new();
    for size in [100_000, 200_000, 70_000] {
        bytes = content(size);
        reserve(sink, size);
        check_size(sink, size);
        write_in_any_order(sink, &bytes);
        settle(sink, size);
    }
    sync(sink);
    assert!(
        contents(sink) == bytes,
        "`reserve` starts over: the place holds the last bundle and nothing of those before"
    );
}

/// What an interrupted run leaves, and what the next one makes of it.
fn check_leftovers(sink: &impl Sink) {
    let bytes = content(150_000);
    reserve(sink, bytes.len());
    write_in_any_order(sink, &bytes);
    reserve(sink, bytes.len());
    check_read_back(sink, &bytes, "after a `reserve` of the same size");
    reserve(sink, 0);
    check_size(sink, 0);
    reserve(sink, bytes.len());
    let short = "what was reserved is there, written or not";
    let left = read_whole(read_back(sink), bytes.len(), short);
    let same = left.iter().zip(&bytes).filter(|(left, byte)| left == byte);
    // Some are the same by chance.
    assert!(
        same.count() < bytes.len() / 2,
        "after `reserve(0)` nothing that was written before comes back"
    );
}

fn reserve(sink: &impl Sink, size: usize) {
    let reserved = sink.reserve(size as u64);
    reserved.expect("`reserve` makes room for the bundle, whatever was there");
}

fn sync(sink: &impl Sink) {
    sink.sync()
        .expect("`sync` succeeds when everything is settled");
}

fn read_back(sink: &impl Sink) -> &dyn ReadAt {
    sink.read_back()
        .expect("a sink that can be read back always can")
}

fn check_size(sink: &impl Sink, size: usize) {
    if let Some(written) = sink.read_back() {
        let found = written.size().expect("the size of what is there is known");
        assert_eq!(
            found, size as u64,
            "after `reserve` the place has exactly that size"
        );
    }
}

fn read_whole(source: &dyn ReadAt, size: usize, short: &str) -> Vec<u8> {
    let (mut found, mut offset) = (vec![0; size], 0);
    while offset < size {
        let count = read(source, &mut found[offset..], offset as u64);
        assert!(count > 0, "{short}");
        offset += count;
    }
    found
}

fn check_read_back(sink: &impl Sink, bytes: &[u8], when: &str) {
    let Some(written) = sink.read_back() else {
        return;
    };
    let short = format!("all that was written can be read back, {when}");
    let found = read_whole(written, bytes.len(), &short);
    assert!(
        found == bytes,
        "what is read back is what was written last, {when}"
    );
    check_reading(written, bytes);
}

/// Writes other bytes first, as a download does that has to start over.
fn write_twice(sink: &impl Sink, bytes: &[u8]) {
    let wrong: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
    write_in_any_order(sink, &wrong[..bytes.len() / 2]);
    write_in_any_order(sink, bytes);
}

/// Writes pieces of all lengths, on four threads, the last ones first.
fn write_in_any_order(sink: &impl Sink, bytes: &[u8]) {
    let quarter = bytes.len().div_ceil(4);
    let parts = bytes.chunks(quarter).enumerate();
    at_once(parts.rev().map(|(number, part)| {
        move || {
            let mut end = part.len();
            for length in [1, 10, 512, 4_097, 65_535].into_iter().cycle() {
                if end == 0 {
                    break;
                }
                let start = end.saturating_sub(length);
                let offset = (number * quarter + start) as u64;
                let written = sink.write_at(&part[start..end], offset);
                written.expect("`write_at` takes all bytes within the size that was reserved");
                end = start;
            }
        }
    }));
}

/// Settles everything, in ranges of all lengths, on two threads.
fn settle(sink: &impl Sink, size: usize) {
    let (mut ranges, mut start) = (Vec::new(), 0);
    for length in [10, 1_541, 70_000, 517].into_iter().cycle() {
        if start == size {
            break;
        }
        let end = (start + length).min(size);
        ranges.push(start as u64..end as u64);
        start = end;
    }
    ranges.reverse();
    let halves = ranges.chunks(ranges.len().div_ceil(2));
    at_once(halves.map(|half| {
        move || {
            for range in half {
                let settled = sink.settled(range.clone());
                settled.expect("`settled` takes ranges in any order and from any thread");
            }
        }
    }));
}
