//! Gzip blocks, tar records and headers that hold the right files in another frame.

use bundle_format::Container;
use import_validator::FindingKind::*;

use super::Corpus;
use super::container::{changed, entries};
use crate::fixture::{entry, frame, frame_with_end, header, seal};

pub(super) fn rows(corpus: &mut Corpus) {
    blocks(corpus);
    headers(corpus);
    order(corpus);
}

/// Puts blocks of these kinds and contents behind a gzip header, with the right checksum.
fn gzip(blocks: &[(u8, &[u8])]) -> Vec<u8> {
    let archive: Vec<u8> = blocks
        .iter()
        .flat_map(|(_, block)| *block)
        .copied()
        .collect();
    // The frame of one entry without an end has the checksum at its end.
    let framed = frame_with_end(&[archive], &[], Container::TarGz);
    let mut bytes = framed[..10].to_vec();
    for (kind, block) in blocks {
        let length = u16::try_from(block.len()).unwrap();
        bytes.push(*kind);
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(*block);
    }
    bytes.extend(&framed[framed.len() - 8..]);
    bytes
}

fn blocks(corpus: &mut Corpus) {
    let all = entries();
    let end = [0; 1024];
    let files: Vec<(u8, &[u8])> = all.iter().map(|entry| (0, &entry[..])).collect();
    let with = |before: &[(u8, &'static [u8])], after: &[(u8, &[u8])]| {
        gzip(&[before, &files[..], after].concat())
    };
    corpus.accepted(99, "gzip-blocks: as they are", with(&[], &[(1, &end)]));
    let first: Vec<_> = all[0].chunks(512).map(|chunk| (0, chunk)).collect();
    let short = gzip(&[&first[..], &files[1..], &[(1, &end)]].concat());
    corpus.add(99, "gzip-blocks: shorter ones", short, NotCanonical, 3);
    let joined = [&all[0][..], &all[1][..]].concat();
    let across = gzip(&[&[(0, &joined[..])], &files[2..], &[(1, &end)]].concat());
    corpus.add(99, "gzip-blocks: one of two files", across, NotCanonical, 3);
    let empty = with(&[(0, b"")], &[(1, &end)]);
    corpus.add(
        99,
        "gzip-blocks: an empty one first",
        empty,
        NotCanonical,
        3,
    );
    let last = with(&[], &[(0, &end), (1, b"")]);
    corpus.add(99, "gzip-blocks: an empty one last", last, TarEnd, 3);
    let halves = with(&[], &[(0, &end[..512]), (1, &end[512..])]);
    corpus.add(99, "gzip-blocks: the end in two", halves, TarEnd, 3);
    let bits = with(&[], &[(0xf9, &end)]);
    corpus.add(99, "gzip-blocks: bits behind the type", bits, GzipBlock, 3);
    let good = frame(&all, Container::TarGz);
    let set = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    corpus.add(13, "gzip-text", set(3, 1), NotCanonical, 3);
    corpus.add(13, "gzip-level", set(8, 2), NotCanonical, 3);
    corpus.add(13, "gzip-system", set(9, 3), NotCanonical, 3);
    let behind = |tail: &[u8]| [&good, tail].concat();
    corpus.add(
        9,
        "gzip-trailing: zeros",
        behind(&[0; 512]),
        TrailingData,
        3,
    );
    let member = frame_with_end(&[], &[], Container::TarGz);
    corpus.add(
        12,
        "gzip-empty-members: behind",
        behind(&member),
        TrailingData,
        3,
    );
    let mut swapped = good.clone();
    let trailer = swapped.len() - 8;
    swapped[trailer..].rotate_left(4);
    corpus.add(
        5,
        "gzip-isize: in the place of the CRC",
        swapped,
        GzipChecksum,
        3,
    );
    // What GNU tar pads to: records of 20 blocks.
    let tar = frame(&all, Container::Tar);
    let padding = vec![0; 1024 + tar.len().next_multiple_of(10_240) - tar.len()];
    let record = |container| frame_with_end(&all, &padding, container);
    corpus.add(
        18,
        "tar-records of 20 blocks",
        record(Container::Tar),
        TrailingData,
        3,
    );
    corpus.add(
        18,
        "tar-records of 20 blocks in gzip",
        record(Container::TarGz),
        TarEnd,
        3,
    );
}

fn headers(corpus: &mut Corpus) {
    for (name, at, value) in [
        ("hdr-octal: blanks before it", 124, &b"         36\0"[..]),
        ("hdr-octal: no NUL", 124, b"000000000036"),
    ] {
        corpus.add(22, name, changed(at, value), NotCanonical, 3);
    }
    let hex = changed(124, b"0000000001e\0");
    corpus.add(22, "hdr-octal: a digit of hex", hex, TarHeader, 3);
    for (name, at, value) in [
        ("no magic", 257, &[0; 8][..]),
        ("the version of another year", 263, b"01"),
        ("devices without digits", 329, &[0; 16]),
    ] {
        corpus.add(47, name, changed(at, value), NotCanonical, 3);
    }
    // The same path, cut where its header has no need to be.
    let mut all = entries();
    let last = all.last_mut().unwrap();
    let path = std::str::from_utf8(&last[..100])
        .unwrap()
        .trim_end_matches('\0')
        .to_owned();
    let (prefix, name) = path.rsplit_once('/').unwrap();
    let mut block: [u8; 512] = last[..512].try_into().unwrap();
    block[..100].fill(0);
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes());
    last[..512].copy_from_slice(&seal(block));
    corpus.add(
        47,
        "a short path in two parts",
        frame(&all, Container::TarGz),
        NotCanonical,
        3,
    );
}

fn order(corpus: &mut Corpus) {
    let mut layout = entries();
    layout.swap(1, 2);
    let layout = frame(&layout, Container::TarGz);
    corpus.add(
        48,
        "order-wrong: index.json before oci-layout",
        layout,
        Order,
        3,
    );
    let mut late = entries();
    let referrer = late.remove(3);
    late.push(referrer);
    let late = frame(&late, Container::TarGz);
    corpus.add(
        48,
        "order-wrong: a referrer behind the blobs",
        late,
        Order,
        3,
    );
    let mut signed = entries();
    signed.insert(2, entry(&header("manifest.yaml.sigstore.json", 2), b"{}"));
    let signed = frame(&signed, Container::TarGz);
    corpus.add(
        48,
        "order-wrong: a signature behind oci-layout",
        signed,
        Order,
        3,
    );
}
