//! Gzip and tar.

use std::io::{self, Read as _};

use bundle_format::{Container, EntryPath};
use import_validator::FindingKind::*;

use super::{Corpus, Input};
use crate::fixture::{Fixture, entry, frame, frame_with_end, header, pack, seal};

/// The entries of the smallest bundle, which a row may add to.
pub(super) fn entries() -> Vec<Vec<u8>> {
    let files = Fixture::small().files().into_iter();
    files
        .map(|(path, bytes)| entry(&header(&path.to_string(), bytes.len()), &bytes))
        .collect()
}

/// The smallest bundle with one field of the second header changed.
pub(super) fn changed(at: usize, value: &[u8]) -> Vec<u8> {
    let mut all = entries();
    let mut header: [u8; 512] = all[1][..512].try_into().unwrap();
    header[at..at + value.len()].copy_from_slice(value);
    all[1][..512].copy_from_slice(&seal(header));
    frame(&all, Container::TarGz)
}

/// The smallest bundle with an entry of another type before its second file.
fn with(name: &str, flag: u8, content: &[u8]) -> Vec<u8> {
    let mut block = header(name, content.len());
    block[156] = flag;
    let mut all = entries();
    all.insert(1, entry(&seal(block), content));
    frame(&all, Container::TarGz)
}

fn pax(record: &[u8]) -> Vec<u8> {
    with("PaxHeaders/x", b'x', record)
}

pub(super) fn rows(corpus: &mut Corpus) {
    gzip(corpus);
    tar_end(corpus);
    headers(corpus);
    extensions(corpus);
    types(corpus);
    order(corpus);
}

fn gzip(corpus: &mut Corpus) {
    let good = pack(&Fixture::small().files(), Container::TarGz);
    let length = good.len();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let appended = |tail: &[u8]| [&good, tail].concat();
    let other = pack(&Fixture::full().files(), Container::TarGz);
    let set = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    corpus.accepted(0, "the smallest bundle", good.clone());
    corpus.accepted(
        0,
        "an index with platforms, referrers on both and on referrers",
        other.clone(),
    );
    corpus.add(1, "empty-file", vec![], NotABundle, 3);
    let tar = pack(&Fixture::small().files(), Container::Tar);
    corpus.accepted(2, "not-gzip: a plain tar", tar.clone());
    corpus.add(
        2,
        "not-gzip: text",
        b"no bundle\n".repeat(100),
        NotABundle,
        3,
    );
    corpus.add(
        3,
        "gzip-empty",
        frame_with_end(&[], &[], Container::TarGz),
        TarEnd,
        3,
    );
    corpus.add(4, "gzip-crc", flipped(length - 8), GzipChecksum, 3);
    corpus.add(5, "gzip-isize", flipped(length - 4), GzipChecksum, 3);
    corpus.add(
        6,
        "gzip-cut-trailer",
        good[..length - 8].to_vec(),
        Truncated,
        3,
    );
    for (name, at) in [
        ("cut-at: the first byte", 1),
        ("cut-at: the gzip header", 9),
        ("cut-at: the first tar header", 300),
        ("cut-at: a block", 512 + 15),
        ("cut-at: half", length / 2),
        ("cut-at: the end blocks", length - 500),
        ("cut-at: the last byte", length - 1),
    ] {
        corpus.add(7, name, good[..at].to_vec(), Truncated, 3);
    }
    corpus.add(8, "flip-at: the gzip header", flipped(4), NotCanonical, 3);
    corpus.add(8, "flip-at: a block's length", flipped(11), GzipBlock, 3);
    corpus.add(8, "flip-at: a tar header", flipped(15 + 100), TarHeader, 3);
    corpus.add(
        9,
        "gzip-trailing",
        appended(b"fourteen bytes"),
        TrailingData,
        3,
    );
    let half = entries().len() / 2;
    let two = [
        frame_with_end(&entries()[..half], &[], Container::TarGz),
        frame(&entries()[half..], Container::TarGz),
    ];
    corpus.add(10, "gzip-two-members", two.concat(), TarEnd, 3);
    corpus.add(11, "concat-bundles", appended(&other), TrailingData, 3);
    let empty = frame_with_end(&[], &[], Container::TarGz);
    let members = [empty.repeat(100_000), good.clone()].concat();
    corpus.add(12, "gzip-empty-members", members, TarEnd, 3);
    corpus.add(13, "gzip-extra", set(3, 4), NotCanonical, 3);
    corpus.add(13, "gzip-name", set(3, 8), NotCanonical, 3);
    corpus.add(13, "gzip-comment", set(3, 16), NotCanonical, 3);
    corpus.add(13, "gzip-header-crc", set(3, 2), NotCanonical, 3);
    // What `gzip` makes of zeros: a dynamic block first. Not one bit of it is inflated.
    let bomb = || -> Box<dyn io::Read> {
        let head = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 0xed, 0xc1][..];
        Box::new(head.chain(io::repeat(0)))
    };
    corpus.row(
        14,
        "gzip-bomb: deflated",
        Input::Stream(bomb, 1 << 20),
        Some(NotCanonical),
        3,
    );
    for (name, magic) in [
        ("other-codec: zstd", &b"\x28\xb5\x2f\xfd"[..]),
        ("other-codec: xz", b"\xfd7zXZ\0"),
        ("other-codec: bzip2", b"BZh91AY&SY"),
        ("other-codec: zip", b"PK\x03\x04"),
    ] {
        corpus.add(15, name, [magic, &[0; 2_000]].concat(), NotABundle, 3);
    }
}

fn tar_end(corpus: &mut Corpus) {
    let all = entries();
    let tar = frame(&all, Container::Tar);
    for (without, with, end, length) in [
        ("tar-no-eof", "tar-no-eof in gzip", 16, 0),
        ("tar-one-eof", "tar-one-eof in gzip", 17, 512),
    ] {
        let ended = |container| frame_with_end(&all, &vec![0; length], container);
        corpus.add(end, without, ended(Container::Tar), Truncated, 3);
        corpus.add(end, with, ended(Container::TarGz), TarEnd, 3);
    }
    let late = entry(&header("oci-layout", 3), b"abc");
    let behind = |tail: &[u8]| [&tar, tail].concat();
    corpus.add(18, "tar-after-eof", behind(&late), TrailingData, 3);
    let mut inside = all.clone();
    inside.push(vec![0; 1024]);
    inside.push(late);
    corpus.add(
        18,
        "tar-after-eof in gzip",
        frame(&inside, Container::TarGz),
        TarEnd,
        3,
    );
    corpus.add(
        19,
        "tar-after-eof-garbage",
        behind(b"garbage"),
        TrailingData,
        3,
    );
    let endless = || -> Box<dyn io::Read> {
        let tar = pack(&Fixture::small().files(), Container::Tar);
        Box::new(io::Cursor::new(tar).chain(io::repeat(0)))
    };
    corpus.row(
        20,
        "tar-eof-bomb",
        Input::Stream(endless, 1 << 20),
        Some(TrailingData),
        3,
    );
}

fn headers(corpus: &mut Corpus) {
    let mut all = entries();
    all[1][148] ^= 1;
    corpus.add(
        21,
        "hdr-checksum",
        frame(&all, Container::TarGz),
        TarHeader,
        3,
    );
    corpus.add(
        22,
        "hdr-octal",
        changed(124, b"zzzzzzzzzzz\0"),
        TarHeader,
        3,
    );
    corpus.add(
        23,
        "hdr-base256-neg",
        changed(124, &[0xff; 12]),
        EntryBytes,
        6,
    );
    let huge = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    corpus.add(24, "hdr-size-huge", changed(124, huge), EntryBytes, 6);
    corpus.add(
        24,
        "hdr-base256-small",
        changed(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x1e"),
        NotCanonical,
        3,
    );
    corpus.add(
        25,
        "hdr-size-past-end in gzip",
        changed(124, b"00004000000\0"),
        NotCanonical,
        3,
    );
    let mut all = entries();
    let last = all.len() - 1;
    let mut block: [u8; 512] = all[last][..512].try_into().unwrap();
    block[124..136].copy_from_slice(b"00004000000\0");
    all[last][..512].copy_from_slice(&seal(block));
    corpus.add(
        25,
        "hdr-size-past-end",
        frame(&all, Container::Tar),
        Truncated,
        3,
    );
    let mut all = entries();
    *all[1].last_mut().unwrap() = 1;
    corpus.add(
        26,
        "hdr-padding",
        frame(&all, Container::TarGz),
        TarPadding,
        3,
    );
    for (name, at, value) in [
        ("setuid", 100, &b"0006777\0"[..]),
        ("odd-owner", 108, b"0001750\0"),
        ("odd-owner by name", 265, b"root\0"),
        ("mtime", 136, b"14000000000\0"),
        ("mtime-neg", 136, &[0xff; 12]),
        ("link name on a file", 157, b"/etc/passwd"),
        ("GNU magic", 257, b"ustar  \0"),
    ] {
        corpus.add(47, name, changed(at, value), NotCanonical, 3);
    }
}

fn extensions(corpus: &mut Corpus) {
    let hidden = frame_with_end(&[entry(&header("evil", 4), b"evil")], &[], Container::Tar);
    let mut all = entries();
    let mut extension = header("PaxHeaders/x", 13);
    extension[156] = b'x';
    all.insert(1, entry(&seal(extension), b"13 size=1024\n"));
    all.insert(2, entry(&header("oci-layout", 0), &hidden));
    corpus.add(
        27,
        "pax-size-0",
        frame(&all, Container::Tar),
        TarExtension,
        3,
    );
    corpus.add(28, "pax-size-small", pax(b"10 size=0\n"), TarExtension, 3);
    let mut all = entries();
    let mut long = header("././@LongLink", 11);
    long[156] = b'L';
    all.insert(1, entry(&seal(extension), b"12 size=512\n"));
    all.insert(2, entry(&seal(long), b"oci-layout\0"));
    corpus.add(
        29,
        "pax-then-L",
        frame(&all, Container::Tar),
        TarExtension,
        3,
    );
    corpus.add(
        30,
        "pax-dup-path",
        pax(b"10 path=a\n10 path=b\n"),
        TarExtension,
        3,
    );
    corpus.add(
        31,
        "pax-global",
        with("g", b'g', b"14 size=1000\n"),
        TarExtension,
        3,
    );
    corpus.add(32, "pax-bad-record", pax(b"99 nonsense"), TarExtension, 3);
    let mut huge = header("././@LongLink", 0);
    huge[156] = b'L';
    huge[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\x02\0\0\0\0");
    let mut all = entries();
    all.insert(1, seal(huge).to_vec());
    corpus.add(
        33,
        "gnu-L-huge",
        frame(&all, Container::Tar),
        TarExtension,
        3,
    );
    corpus.add(
        34,
        "gnu-L-vs-pax",
        with("././@LongLink", b'L', b"other\0"),
        TarExtension,
        3,
    );
    corpus.add(
        35,
        "sparse-pax",
        pax(b"22 GNU.sparse.major=1\n"),
        TarExtension,
        3,
    );
    corpus.add(
        39,
        "pax-dotdot",
        pax(b"22 path=../../etc/evil\n"),
        TarExtension,
        3,
    );
    corpus.add(41, "pax-nul", pax(b"12 path=a\0b\n"), TarExtension, 3);
}

fn types(corpus: &mut Corpus) {
    let link = |name: &str, flag: u8, target: &str, content: &[u8]| {
        let mut block = header(name, content.len());
        block[156] = flag;
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        entry(&seal(block), content)
    };
    let inserted = |entry: Vec<u8>| {
        let mut all = entries();
        all.insert(1, entry);
        frame(&all, Container::TarGz)
    };
    corpus.add(
        35,
        "sparse-old",
        with("oci-layout", b'S', b""),
        EntryType,
        7,
    );
    for (name, path, target) in [
        ("symlink-abs", "oci-layout", "/etc/passwd"),
        ("symlink-rel", "oci-layout", "../.."),
        ("symlink-then-file", "blobs", ".."),
    ] {
        corpus.add(
            36,
            name,
            inserted(link(path, b'2', target, b"")),
            EntryType,
            7,
        );
    }
    corpus.add(
        37,
        "hardlink",
        inserted(link("oci-layout", b'1', "manifest.yaml", b"")),
        EntryType,
        7,
    );
    let with_data = link("oci-layout", b'1', "manifest.yaml", &[1; 512]);
    corpus.add(37, "hardlink-with-data", inserted(with_data), EntryType, 7);
    for (name, flag) in [
        ("character device", b'3'),
        ("block device", b'4'),
        ("fifo", b'6'),
        ("contiguous", b'7'),
        ("unknown-Z", b'Z'),
        ("volume-V", b'V'),
    ] {
        corpus.add(38, name, with("oci-layout", flag, b""), EntryType, 7);
    }
    corpus.add(
        38,
        "folder entry",
        with("blobs", b'5', b""),
        NotCanonical,
        3,
    );
}

fn order(corpus: &mut Corpus) {
    let mut all = entries();
    let first = all.remove(0);
    all.push(first.clone());
    corpus.add(
        48,
        "order-wrong: manifest.yaml last",
        frame(&all, Container::TarGz),
        NoManifest,
        3,
    );
    let mut all = entries();
    all[3..].reverse();
    corpus.add(
        48,
        "order-wrong: files swapped",
        frame(&all, Container::TarGz),
        Order,
        3,
    );
    corpus.add(
        49,
        "no-manifest",
        frame(&entries()[1..], Container::TarGz),
        NoManifest,
        3,
    );
    let rooted = Fixture::small()
        .files()
        .into_iter()
        .map(|(path, bytes)| entry(&header(&format!("bundle/{path}"), bytes.len()), &bytes));
    let rooted: Vec<_> = rooted.collect();
    corpus.add(
        49,
        "two-roots: all below bundle/",
        frame(&rooted, Container::TarGz),
        NoManifest,
        3,
    );
    // A flood of files that nobody listed, in their order.
    let flood = || -> Box<dyn io::Read> {
        let mut small = Fixture::small().files();
        let tar = entry(
            &header("manifest.yaml", small[&EntryPath::MANIFEST].len()),
            &small.remove(&EntryPath::MANIFEST).unwrap(),
        );
        let files = (0_u64..).map(|number| header(&format!("blobs/sha256/{number:064x}"), 0));
        Box::new(io::Cursor::new(tar).chain(Headers(files, io::Cursor::new(Vec::new()))))
    };
    let input = || Input::Stream(flood, 8 << 20);
    corpus.row(46, "entries-10M", input(), Some(Entries), 6);
    let counted = corpus.row(
        46,
        "entries-10M, over the number of files",
        input(),
        Some(Entries),
        6,
    );
    let mut limits = import_validator::ValidationLimits::default();
    limits.bundle.max_entries = 1_000;
    counted.validator = counted.validator.clone().limits(limits);
}

/// Headers one after the other, made as they are read.
struct Headers<I>(I, io::Cursor<Vec<u8>>);

impl<I: Iterator<Item = [u8; 512]>> io::Read for Headers<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.position() == self.1.get_ref().len() as u64 {
            self.1 = io::Cursor::new(self.0.next().map_or(Vec::new(), |header| header.to_vec()));
        }
        self.1.read(buffer)
    }
}
