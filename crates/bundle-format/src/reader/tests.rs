use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use oci_content::Digest;
use proptest::prelude::*;

use super::*;
use crate::container::{GZIP_HEADER, TAR_END_BYTES, block_bytes, block_header};
use crate::manifest::BundleManifest;
use crate::writer::tests::{bundle_of, content, edge_blobs, write};

/// Reads a whole bundle.
fn read(input: impl Read, limits: Limits) -> Result<Vec<(EntryPath, Vec<u8>)>, ContainerError> {
    let mut reader = BundleReader::new(input, limits);
    let mut files = Vec::new();
    while let Some(head) = reader.next_entry()? {
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(ContainerError::from_io)?;
        assert_eq!(bytes.len() as u64, head.size);
        files.push((head.path, bytes));
    }
    assert_eq!(reader.next_entry().unwrap(), None);
    Ok(files)
}

fn kind(bytes: &[u8]) -> ContainerErrorKind {
    let error = read(bytes, Limits::default()).unwrap_err();
    assert!(error.offset() <= bytes.len() as u64, "{error}");
    error.kind()
}

fn with_manifest(
    manifest: &BundleManifest,
    files: &BTreeMap<EntryPath, Vec<u8>>,
) -> Vec<(EntryPath, Vec<u8>)> {
    let own = (EntryPath::MANIFEST, manifest.to_yaml().unwrap());
    let files = files
        .iter()
        .map(|(path, bytes)| (path.clone(), bytes.clone()));
    std::iter::once(own).chain(files).collect()
}

/// Gives one byte at a time.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(1);
        self.0.read(&mut buffer[..count])
    }
}

#[test]
fn what_was_written_is_read() {
    let (manifest, files) = bundle_of(&edge_blobs());
    let expected = with_manifest(&manifest, &files);
    for container in [Container::TarGz, Container::Tar] {
        let bytes = write(&manifest, &files, container);
        assert!(read(&*bytes, Limits::default()).unwrap() == expected);
        assert!(read(Dribble(&bytes), Limits::default()).unwrap() == expected);
        // Content that nobody asks for is checked all the same.
        let mut reader = BundleReader::new(&*bytes, Limits::default());
        let mut paths = Vec::new();
        while let Some(head) = reader.next_entry().unwrap() {
            paths.push(head.path);
        }
        assert!(paths.iter().eq(expected.iter().map(|(path, _)| path)));
        assert_eq!(reader.container(), Some(container));
        assert_eq!(reader.offset(), bytes.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sizes_come_back(sizes in prop::collection::vec(0_usize..200_000, 0..6), gzip: bool) {
        let blobs: Vec<_> = sizes.into_iter().map(content).collect();
        let (manifest, files) = bundle_of(&blobs);
        let container = if gzip { Container::TarGz } else { Container::Tar };
        let bytes = write(&manifest, &files, container);
        prop_assert!(read(&*bytes, Limits::default()).unwrap() == with_manifest(&manifest, &files));
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>, gzip: bool) {
        let mut input = if gzip { GZIP_HEADER.to_vec() } else { Vec::new() };
        input.extend(bytes);
        prop_assert!(read(&*input, Limits::default()).is_err());
    }
}

#[test]
fn a_bundle_that_is_cut_off_anywhere_is_refused() {
    let (manifest, files) = bundle_of(&[]);
    for container in [Container::TarGz, Container::Tar] {
        let bytes = write(&manifest, &files, container);
        for length in 0..bytes.len() {
            let found = kind(&bytes[..length]);
            let expected = match (length, container) {
                // Not even one header is there.
                (0, _) | (1, Container::TarGz) => {
                    found == ContainerErrorKind::NotABundle
                        || found == ContainerErrorKind::Truncated
                }
                (..512, Container::Tar) => found == ContainerErrorKind::NotABundle,
                _ => found == ContainerErrorKind::Truncated,
            };
            assert!(expected, "{container:?} cut off at {length}: {found:?}");
        }
    }
}

#[test]
fn a_gzip_bundle_with_any_bit_flipped_is_refused() {
    let (manifest, files) = bundle_of(&[]);
    let bytes = write(&manifest, &files, Container::TarGz);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(
            read(&*flipped, Limits::default()).is_err(),
            "bit flipped at {at}"
        );
    }
}

/// One entry of a tar archive that somebody else made.
fn entry(name: &str, type_flag: u8, content: &[u8]) -> Vec<u8> {
    let mut block = tar_header::encode(&EntryPath::MANIFEST, content.len() as u64);
    block[..100].fill(0);
    match name.rsplit_once('/') {
        Some((prefix, name)) if prefix.len() + name.len() > 99 => {
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes());
        }
        _ => block[..name.len()].copy_from_slice(name.as_bytes()),
    }
    block[156] = type_flag;
    seal(&mut block);
    with_content(&block, content)
}

fn with_content(block: &Block, content: &[u8]) -> Vec<u8> {
    let mut bytes = block.to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn seal(block: &mut Block) {
    let checksum = format!("{:06o}\0 ", tar_header::checksum(block));
    block[148..156].copy_from_slice(checksum.as_bytes());
}

/// A header with some bytes changed and its checksum right again.
fn changed(at: usize, value: &[u8]) -> Block {
    let mut block = tar_header::encode(&EntryPath::MANIFEST, 3);
    block[at..at + value.len()].copy_from_slice(value);
    seal(&mut block);
    block
}

/// Puts entries into the frame that a bundle has, so that nothing is wrong but what is in them.
fn framed(entries: &[Vec<u8>], container: Container) -> Vec<u8> {
    let end = vec![0; TAR_END_BYTES as usize];
    let mut bytes = Vec::new();
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend(entry);
        let mut rest = &entry[..];
        while !rest.is_empty() {
            let length = block_bytes(rest.len() as u64);
            bytes.extend(block_header(length, false));
            bytes.extend(&rest[..length.into()]);
            rest = &rest[length.into()..];
        }
    }
    archive.extend(&end);
    match container {
        Container::Tar => archive,
        Container::TarGz => {
            let mut gzip = GZIP_HEADER.to_vec();
            gzip.extend(bytes);
            gzip.extend(block_header(TAR_END_BYTES, true));
            gzip.extend(&end);
            gzip.extend(crc32fast::hash(&archive).to_le_bytes());
            gzip.extend(&(archive.len() as u64).to_le_bytes()[..4]);
            gzip
        }
    }
}

#[test]
fn hostile_entries_are_refused_by_class_in_both_containers() {
    use ContainerErrorKind::*;
    let manifest = || entry("manifest.yaml", b'0', b"abc");
    let blob = |name: &str| {
        let digest = Digest::of(name.as_bytes());
        EntryPath::blob(&digest).unwrap().to_string()
    };
    let file = |name: &str| vec![manifest(), entry(name, b'0', b"abc")];
    let typed = |flag: u8| vec![manifest(), entry("oci-layout", flag, b"")];
    let lone = |block: Block| vec![with_content(&block, b"abc")];
    let pax = |record: &str| {
        vec![
            manifest(),
            entry("PaxHeaders/x", b'x', record.as_bytes()),
            entry("oci-layout", b'0', b"abc"),
        ]
    };
    let mut sorted = [blob("a"), blob("b")];
    sorted.sort();
    let [low, high] = sorted;
    let referrer = EntryPath::referrer(&Digest::of(b"s"), &Digest::of(b"r"))
        .unwrap()
        .to_string();
    let mut dirty_padding = manifest();
    dirty_padding[600] = 1;
    let mut bad_checksum = manifest();
    bad_checksum[148] ^= 1;
    let long = "a".repeat(100);
    let deep = "a/".repeat(49);
    let cases: Vec<(&str, Vec<Vec<u8>>, ContainerErrorKind)> = vec![
        ("nothing", vec![], NoManifest),
        ("checksum", vec![manifest(), bad_checksum], TarHeader),
        ("size zzz", lone(changed(124, b"zzzzzzzzzzz\0")), TarHeader),
        ("negative size", lone(changed(124, &[0xff; 12])), EntryBytes),
        (
            "size of 2^63-1",
            lone(changed(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff")),
            ManifestBytes,
        ),
        (
            "size in base 256 for no reason",
            lone(changed(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x03")),
            NotCanonical,
        ),
        (
            "size past the end",
            lone(changed(124, b"00004000000\0")),
            NotCanonical,
        ),
        ("dirty padding", vec![dirty_padding], TarPadding),
        ("pax size", pax("16 size=1048576\n"), TarExtension),
        ("pax path", pax("22 path=../../etc/evil\n"), TarExtension),
        ("pax nonsense", pax("99 nonsense"), TarExtension),
        (
            "pax global",
            vec![entry("g", b'g', b"14 size=1000\n"), manifest()],
            TarExtension,
        ),
        (
            "gnu long name",
            vec![manifest(), entry("././@LongLink", b'L', b"oci-layout\0")],
            TarExtension,
        ),
        (
            "gnu long link",
            vec![manifest(), entry("././@LongLink", b'K', b"oci-layout\0")],
            TarExtension,
        ),
        ("sparse", typed(b'S'), EntryType),
        ("hard link", typed(b'1'), EntryType),
        ("symbolic link", typed(b'2'), EntryType),
        ("character device", typed(b'3'), EntryType),
        ("block device", typed(b'4'), EntryType),
        ("fifo", typed(b'6'), EntryType),
        ("contiguous", typed(b'7'), EntryType),
        ("unknown type", typed(b'Z'), EntryType),
        ("volume", typed(b'V'), EntryType),
        ("folder", typed(b'5'), NotCanonical),
        ("no type", typed(0), NotCanonical),
        ("dot dot", file("../manifest.yaml"), UnsafePath),
        (
            "dot dot in the prefix",
            file(&format!("../{long}")),
            UnsafePath,
        ),
        ("absolute", file("/etc/passwd"), UnsafePath),
        ("dot", file("./oci-layout"), UnsafePath),
        ("double slash", file("blobs//sha256"), UnsafePath),
        ("trailing slash", file("oci-layout/"), UnsafePath),
        ("no name", file(""), UnsafePath),
        ("line feed", file("a\nb"), UnsafePath),
        ("escape", file("a\u{1b}[2Jb"), UnsafePath),
        ("bidi", file("a\u{202e}b"), UnsafePath),
        ("backslash", file("a\\..\\b"), UnsafePath),
        ("drive", file("C:x"), UnsafePath),
        ("reserved", file("NUL.txt"), UnsafePath),
        ("reserved with a number", file("a/com1"), UnsafePath),
        ("trailing dot", file("a."), UnsafePath),
        ("trailing blank", file("a "), UnsafePath),
        ("long and deep", file(&format!("{deep}{long}")), UnknownPath),
        ("case twin", file("Manifest.yaml"), UnsafePath),
        (
            "case twin of a blob",
            file(&blob("a").to_uppercase()),
            UnsafePath,
        ),
        ("not UTF-8", lone(changed(0, b"a\xff\xfe")), UnsafePath),
        ("unknown file", file("notes.txt"), UnknownPath),
        (
            "sha512 blob",
            file(&format!("blobs/sha512/{}", "a".repeat(64))),
            UnknownPath,
        ),
        ("manifest twice", file("manifest.yaml"), DuplicatePath),
        (
            "blob twice",
            vec![manifest(), entry(&low, b'0', b""), entry(&low, b'0', b"")],
            DuplicatePath,
        ),
        (
            "blobs out of order",
            vec![manifest(), entry(&high, b'0', b""), entry(&low, b'0', b"")],
            Order,
        ),
        (
            "blob before referrer",
            vec![
                manifest(),
                entry(&low, b'0', b""),
                entry(&referrer, b'0', b""),
            ],
            Order,
        ),
        (
            "manifest last",
            vec![entry("oci-layout", b'0', b""), manifest()],
            NoManifest,
        ),
        (
            "all below a folder",
            vec![entry("bundle/manifest.yaml", b'0', b"")],
            NoManifest,
        ),
        ("mode", lone(changed(100, b"0006777\0")), NotCanonical),
        ("owner", lone(changed(108, b"0001750\0")), NotCanonical),
        ("owner's name", lone(changed(265, b"root\0")), NotCanonical),
        ("time", lone(changed(136, b"14000000000\0")), NotCanonical),
        (
            "negative time",
            lone(changed(136, &[0xff; 12])),
            NotCanonical,
        ),
        (
            "link name",
            lone(changed(157, b"/etc/passwd")),
            NotCanonical,
        ),
        ("GNU magic", lone(changed(257, b"ustar  \0")), NotCanonical),
        (
            "device number",
            lone(changed(329, b"0000001\0")),
            NotCanonical,
        ),
        ("rest of the block", lone(changed(511, b"x")), NotCanonical),
        (
            "name split elsewhere",
            vec![manifest(), {
                let mut block = tar_header::encode(&low.parse().unwrap(), 0);
                block[..100].fill(0);
                block[..64].copy_from_slice(&low.as_bytes()[13..]);
                block[345..357].copy_from_slice(b"blobs/sha256");
                seal(&mut block);
                block.to_vec()
            }],
            NotCanonical,
        ),
        (
            "zero block inside",
            vec![manifest(), vec![0; 512], entry(&low, b'0', b"")],
            TarEnd,
        ),
        (
            "entry after the end",
            vec![manifest(), vec![0; 1024], entry(&low, b'0', b"")],
            TarEnd,
        ),
    ];
    for (name, entries, expected) in cases {
        for container in [Container::TarGz, Container::Tar] {
            let found = kind(&framed(&entries, container));
            let expected = match (name, container) {
                // Without stored blocks nothing tells that the size does not fit.
                ("size past the end", Container::Tar) => Truncated,
                // A stored block cannot be empty of a header; a plain archive ends at two zero
                // blocks.
                ("entry after the end", Container::Tar) => TrailingData,
                // The first header decides whether this is a tar archive at all.
                _ => expected,
            };
            assert_eq!(found, expected, "{name}, {container:?}");
        }
    }
}

#[test]
fn other_gzip_framings_are_refused_by_class() {
    use ContainerErrorKind::*;
    let (manifest, files) = bundle_of(&[content(70_000)]);
    let good = write(&manifest, &files, Container::TarGz);
    let length = good.len();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let appended = |tail: &[u8]| [&good[..], tail].concat();
    let plain = write(&manifest, &files, Container::Tar);
    // One stored block that runs over from the first entry into the second.
    let run_over = {
        let mut bytes = GZIP_HEADER.to_vec();
        bytes.extend(block_header(65_535, false));
        bytes.extend(&plain[..65_535]);
        bytes
    };
    let end = length - 8 - TAR_END_BYTES as usize - 5;
    let members = [&good[..], &GZIP_HEADER, &good[10..]].concat();
    let cases: Vec<(&str, Vec<u8>, ContainerErrorKind)> = vec![
        ("nothing", vec![], NotABundle),
        (
            "text",
            b"hello, this is no bundle\n".repeat(100),
            NotABundle,
        ),
        ("zstd", b"\x28\xb5\x2f\xfd....".to_vec(), NotABundle),
        ("xz", b"\xfd7zXZ\0....".to_vec(), NotABundle),
        ("bzip2", b"BZh91AY&SY".to_vec(), NotABundle),
        ("zip", b"PK\x03\x04....".to_vec(), NotABundle),
        (
            "compressed with LZW",
            b"\x1f\x9d........".to_vec(),
            NotABundle,
        ),
        ("zeros", vec![0; 4096], NoManifest),
        (
            "checksum",
            with(length - 8, !good[length - 8]),
            GzipChecksum,
        ),
        (
            "length",
            with(length - 4, good[length - 4].wrapping_add(1)),
            GzipChecksum,
        ),
        ("no trailer", good[..length - 8].to_vec(), Truncated),
        ("garbage behind", appended(b"garbage"), TrailingData),
        ("zeros behind", appended(&[0; 512]), TrailingData),
        ("a second member", members, TrailingData),
        ("method", with(2, 7), NotCanonical),
        ("a name in the header", with(3, 8), NotCanonical),
        ("a time in the header", with(4, 1), NotCanonical),
        (
            "the flags of the slowest compression",
            with(8, 2),
            NotCanonical,
        ),
        ("the system", with(9, 3), NotCanonical),
        ("a compressed block", with(10, 0b010), NotCanonical),
        ("a reserved block", with(10, 0b110), NotCanonical),
        ("bits of padding", with(10, 0b1000), GzipBlock),
        ("length and complement", with(11, !good[11]), GzipBlock),
        ("the last block too early", with(10, 1), TarEnd),
        ("no last block", with(end, 0), TarEnd),
        ("blocks that do not start anew", run_over, NotCanonical),
        ("something in the last block", with(end + 500, 1), TarEnd),
        (
            "entries of no manifest",
            framed(&[], Container::TarGz),
            NoManifest,
        ),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(kind(&bytes), expected, "{name}");
    }
    for (name, bytes, expected) in [
        (
            "one zero block",
            plain[..plain.len() - 512].to_vec(),
            Truncated,
        ),
        (
            "no zero block",
            plain[..plain.len() - 1024].to_vec(),
            Truncated,
        ),
        (
            "garbage in the end",
            {
                let mut bytes = plain.clone();
                *bytes.last_mut().unwrap() = 1;
                bytes
            },
            TarEnd,
        ),
        (
            "more zeros than two blocks",
            [&plain[..], &[0; 512]].concat(),
            TrailingData,
        ),
    ] {
        assert_eq!(kind(&bytes), expected, "{name}");
    }
}

#[test]
fn what_another_tool_packed_again_is_told_apart() {
    let (manifest, files) = bundle_of(&[content(1_000)]);
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("again");
    for (path, bytes) in with_manifest(&manifest, &files) {
        let path = folder.path().join("bundle").join(path.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let names = [
        "manifest.yaml",
        "oci-layout",
        "index.json",
        "referrers",
        "blobs",
    ];
    for (flags, format, names) in [
        ("-czf", "gnu", &["."][..]),
        ("-czf", "ustar", &names),
        ("-cf", "gnu", &["."]),
        ("-cf", "gnu", &names),
        ("-cf", "ustar", &["."]),
        ("-cf", "ustar", &names),
        ("-cf", "pax", &names),
        ("-cf", "v7", &["manifest.yaml"]),
    ] {
        let status = Command::new("tar")
            .arg("-C")
            .arg(folder.path().join("bundle"))
            .args([&format!("--format={format}"), flags])
            .arg(&packed)
            .args(names)
            .stderr(Stdio::inherit())
            .status();
        match status {
            Ok(status) => assert!(status.success()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                eprintln!("tar is not installed, nothing was compared");
                return;
            }
            Err(error) => panic!("{error}"),
        }
        let found = kind(&std::fs::read(&packed).unwrap());
        assert!(
            found.suggests_repacking(),
            "{flags} {format} {names:?}: {found:?}"
        );
    }
}

#[test]
fn every_limit_is_an_error_that_names_it() {
    use ContainerErrorKind::*;
    let (manifest, files) = bundle_of(&[content(1_000)]);
    let bytes = write(&manifest, &files, Container::TarGz);
    let entries = files.len() as u64 + 1;
    let yaml = manifest.to_yaml().unwrap().len() as u64;
    let total = yaml + files.values().map(|bytes| bytes.len() as u64).sum::<u64>();
    type Set = fn(&mut Limits, u64);
    let cases: [(Set, u64, ContainerErrorKind); 4] = [
        (|limits, value| limits.max_entries = value, entries, Entries),
        (
            |limits, value| limits.max_manifest_bytes = value,
            yaml,
            ManifestBytes,
        ),
        (
            |limits, value| limits.max_entry_bytes = value,
            1_000,
            EntryBytes,
        ),
        (
            |limits, value| limits.max_total_bytes = value,
            total,
            TotalBytes,
        ),
    ];
    for (set, enough, expected) in cases {
        let mut limits = Limits::default();
        set(&mut limits, enough);
        assert_eq!(read(&*bytes, limits).unwrap().len() as u64, entries);
        set(&mut limits, enough - 1);
        let error = read(&*bytes, limits).unwrap_err();
        assert_eq!(error.kind(), expected);
        assert!(
            error
                .reason()
                .ends_with(&format!("limit of {}", enough - 1)),
            "{error}"
        );
    }
    let signature = framed(
        &[
            entry("manifest.yaml", b'0', b""),
            entry("manifest.yaml.sigstore.json", b'0', b"{}"),
        ],
        Container::TarGz,
    );
    let limits = Limits {
        max_signature_bytes: 1,
        ..Limits::default()
    };
    assert_eq!(
        read(&*signature, limits).unwrap_err().kind(),
        SignatureBytes
    );
    // Without any limit, the sums stay in range.
    let no_limits = Limits {
        max_manifest_bytes: u64::MAX,
        max_signature_bytes: u64::MAX,
        max_entries: u64::MAX,
        max_entry_bytes: u64::MAX,
        max_total_bytes: u64::MAX,
    };
    let huge = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    let huge = framed(&[changed(124, huge).to_vec()], Container::TarGz);
    assert_eq!(read(&*huge, no_limits).unwrap_err().kind(), EntryBytes);
}

#[test]
fn a_failed_reader_stays_failed() {
    let (manifest, files) = bundle_of(&[content(70_000)]);
    let bytes = write(&manifest, &files, Container::TarGz);
    let mut reader = BundleReader::new(&bytes[..bytes.len() - 2_000], Limits::default());
    let error = loop {
        match reader.next_entry() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a truncated bundle ended"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ContainerErrorKind::Truncated);
    assert!(reader.next_entry().is_err());
    assert!(reader.read(&mut [0; 10]).is_err());
    let broken = BundleReader::new(FailingInput, Limits::default()).next_entry();
    let broken = broken.unwrap_err();
    assert_eq!(broken.kind(), ContainerErrorKind::Io);
    assert_eq!(broken.to_string(), "cannot be read, at byte 0");
    let source = std::error::Error::source(&broken).unwrap();
    assert_eq!(source.to_string(), "the stick was pulled");
}

struct FailingInput;

impl Read for FailingInput {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the stick was pulled"))
    }
}
