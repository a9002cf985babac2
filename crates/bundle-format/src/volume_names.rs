//! The names of the files of a bundle in volumes, and the checksum files beside them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use oci_content::Digest;

/// Returns the name of a volume, the first of which is number 1.
pub(crate) fn volume_path(bundle: &Path, number: usize) -> PathBuf {
    suffixed(bundle, &format!(".{number:03}"))
}

/// Returns the name of the checksum file of a bundle or of a volume.
pub(crate) fn checksum_path(file: &Path) -> PathBuf {
    suffixed(file, ".sha256")
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns the name of the bundle and the number, if this is the name of a volume.
pub(crate) fn parse_volume_path(path: &Path) -> Option<(PathBuf, usize)> {
    let name = path.file_name()?.as_bytes();
    let (stem, suffix) = name.split_at_checked(name.len().checked_sub(4)?)?;
    let digits = suffix.strip_prefix(b".")?;
    if stem.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    (number > 0).then(|| (path.with_file_name(OsStr::from_bytes(stem)), number))
}

/// Returns the last part of a path, for a sentence or a line of a checksum file.
pub(crate) fn file_name(path: &Path) -> String {
    let name = path.file_name().map(OsStr::to_owned);
    let name: OsString = name.unwrap_or_else(|| path.as_os_str().to_owned());
    name.to_string_lossy().into_owned()
}

/// Returns a line of a checksum file, as `sha256sum -c` reads it.
pub(crate) fn checksum_line(file: &Path, sha256: &Digest) -> String {
    format!("{}  {}\n", sha256.encoded(), file_name(file))
}

/// Reads a checksum file: the digest and the name on each line. `None` when there is none, or it is something else.
pub(crate) fn read_checksums(path: &Path) -> Option<Vec<(Digest, PathBuf)>> {
    // The longest name and the most volumes stay far below.
    const MAX_BYTES: u64 = 1 << 20;
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let mut file = File::open(path).ok()?.take(MAX_BYTES);
    file.read_to_string(&mut text).ok()?;
    let line = |line: &str| {
        let (digest, name) = line.split_once("  ")?;
        Some((format!("sha256:{digest}").parse().ok()?, name.into()))
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_volumes_have_three_digits() {
        let bundle = Path::new("a/b.tgz");
        assert_eq!(volume_path(bundle, 1), Path::new("a/b.tgz.001"));
        assert_eq!(volume_path(bundle, 999), Path::new("a/b.tgz.999"));
        for (name, parsed) in [
            ("a/b.tgz.001", Some(("a/b.tgz", 1))),
            ("b.042", Some(("b", 42))),
            ("b.000", None),
            ("b.tgz", None),
            ("b.1", None),
            ("b.0001", None),
            ("b.0 1", None),
            (".001", None),
            ("001", None),
            ("", None),
            ("..", None),
            ("b.٣٣٣", None),
        ] {
            let parsed = parsed.map(|(bundle, number)| (PathBuf::from(bundle), number));
            assert_eq!(parse_volume_path(Path::new(name)), parsed, "{name}");
        }
    }

    #[test]
    fn a_checksum_file_is_read_back_and_anything_else_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.tgz.sha256");
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let text = checksum_line(Path::new("x/b.tgz.001"), &one)
            + &checksum_line(Path::new("b.tgz.002"), &two);
        std::fs::write(&path, &text).unwrap();
        let read = read_checksums(&path);
        assert_eq!(
            read,
            Some(vec![(one, "b.tgz.001".into()), (two, "b.tgz.002".into())])
        );
        std::fs::write(&path, format!("{text}junk\n")).unwrap();
        assert_eq!(read_checksums(&path), None);
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert_eq!(read_checksums(&path), None);
        assert_eq!(read_checksums(folder.path()), None);
        assert_eq!(read_checksums(Path::new("no such file")), None);
    }
}
