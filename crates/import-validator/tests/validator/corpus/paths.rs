//! Paths, and what is there twice.

use bundle_format::{Container, EntryPath};
use import_validator::FindingKind::*;

use super::Corpus;
use super::container::entries;
use crate::fixture::{entry, frame, header, seal};

/// The smallest bundle with one file more, of this name.
fn named(name: &[u8]) -> Vec<u8> {
    let mut block = header("", 3);
    // A slash stands between the two.
    let (prefix, name) = if name.len() > 100 {
        (&name[..name.len() - 100], &name[name.len() - 99..])
    } else {
        (&b""[..], name)
    };
    block[..name.len()].copy_from_slice(name);
    block[345..345 + prefix.len()].copy_from_slice(prefix);
    let mut all = entries();
    all.push(entry(&seal(block), b"abc"));
    frame(&all, Container::TarGz)
}

pub(super) fn rows(corpus: &mut Corpus) {
    let long = format!("../a/{}", "a".repeat(99));
    let upper = EntryPath::blob(&oci_content::Digest::of(b"x")).unwrap();
    let upper = upper.to_string().to_uppercase();
    let unsafe_names: [(u32, &str, &[u8]); 23] = [
        (39, "name-dotdot", b"../manifest.yaml"),
        (39, "name-abs", b"/etc/passwd"),
        (39, "prefix-dotdot", long.as_bytes()),
        (40, "name-dot", b"./manifest.yaml"),
        (40, "dbl-slash", b"blobs//sha256"),
        (40, "trailing-slash-file", b"oci-layout/"),
        (40, "empty-name", b""),
        (41, "name-ctrl", b"a\nb"),
        (41, "name-escape", b"a\x1b[2Jb"),
        (41, "name-bidi", "a\u{202e}b".as_bytes()),
        (41, "name-invalid-utf8", b"a\xff\xfe"),
        (41, "backslash", b"a\\..\\b"),
        (41, "drive", b"C:x"),
        (42, "name-reserved: CON", b"con"),
        (42, "name-reserved: NUL.txt", b"NUL.txt"),
        (42, "name-reserved: COM1", b"a/com1"),
        (42, "name-reserved: LPT0", b"lpt0"),
        (42, "trailing dot", b"a."),
        (42, "trailing blank", b"a "),
        (45, "case-twins", b"Manifest.yaml"),
        (45, "case twin of a blob", upper.as_bytes()),
        (45, "nfc", "caf\u{e9}".as_bytes()),
        (45, "nfd", "cafe\u{301}".as_bytes()),
    ];
    for (number, name, path) in unsafe_names {
        corpus.add(number, name, named(path), UnsafePath, 7);
    }
    let deep = "a/".repeat(111);
    corpus.add(
        43,
        "name-long / deep",
        named(deep.trim_end_matches('/').as_bytes()),
        EntryNotListed,
        4,
    );

    let mut all = entries();
    all.insert(1, all[0].clone());
    corpus.add(
        44,
        "dup-entry: manifest.yaml, the same bytes",
        frame(&all, Container::TarGz),
        DuplicatePath,
        7,
    );
    let mut all = entries();
    all.insert(1, entry(&header("manifest.yaml", 3), b"abc"));
    corpus.add(
        44,
        "dup-entry: manifest.yaml, other bytes",
        frame(&all, Container::TarGz),
        DuplicatePath,
        7,
    );
    let mut all = entries();
    let last = all.last().unwrap().clone();
    all.push(last);
    corpus.add(
        44,
        "dup-entry: a blob",
        frame(&all, Container::TarGz),
        DuplicatePath,
        7,
    );

    for (name, path) in [
        ("extra-file: at the root", "notes.txt"),
        ("extra-file: a blob under sha512", "blobs/sha512/aa"),
    ] {
        corpus.add(67, name, named(path.as_bytes()), EntryNotListed, 4);
    }
    let digest = "f".repeat(64);
    corpus.add(
        67,
        "extra-file: a blob",
        named(format!("blobs/sha256/{digest}").as_bytes()),
        EntryNotListed,
        4,
    );
    for (name, hex, kind, exit_code) in [
        ("digest-upper in a path", "F".repeat(64), UnsafePath, 7),
        ("digest-short in a path", "f".repeat(63), EntryNotListed, 4),
        ("digest-long in a path", "f".repeat(65), EntryNotListed, 4),
        ("digest of 128 in a path", "f".repeat(80), EntryNotListed, 4),
    ] {
        corpus.add(
            57,
            name,
            named(format!("blobs/sha256/{hex}").as_bytes()),
            kind,
            exit_code,
        );
    }
}
