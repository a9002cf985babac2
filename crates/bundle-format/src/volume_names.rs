//! The names of volumes, and the checksum files beside them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
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

/// Returns the name of the bundle and the number of the volume, if `path` is the name of a volume.
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

/// Returns the line that `sha256sum` writes for a file and `sha256sum -c` reads: the digest and the
/// last part of the path.
///
/// A name with a newline, a carriage return or a backslash is escaped, which a backslash before the
/// digest marks. Names that are not UTF-8 stay as they are.
pub fn checksum_line(file: &Path, sha256: &Digest) -> Vec<u8> {
    let name = file.file_name().unwrap_or(file.as_os_str()).as_bytes();
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'\n' => escaped.extend(b"\\n"),
            b'\r' => escaped.extend(b"\\r"),
            b'\\' => escaped.extend(b"\\\\"),
            other => escaped.push(*other),
        }
    }
    let mark: &[u8] = if escaped == name { b"" } else { b"\\" };
    [mark, sha256.encoded().as_bytes(), b"  ", &escaped, b"\n"].concat()
}

/// Undoes the escapes of `sha256sum`; `None` if there is any other escape.
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = name.iter();
    let mut plain = Vec::with_capacity(name.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            other => *other,
        });
    }
    Some(plain)
}

/// Reads a checksum file: the digest and the name on each line. `None` if there is no such file, or
/// it has another form.
pub(crate) fn read_checksums(path: &Path) -> Option<Vec<(Digest, PathBuf)>> {
    // The longest names of the most volumes stay far below this.
    const MAX_BYTES: u64 = 1 << 20;
    const DIGEST_CHARS: usize = 64;
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    let mut file = File::open(path).ok()?.take(MAX_BYTES);
    file.read_to_end(&mut text).ok()?;
    let line = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let escaped = line.strip_prefix(b"\\");
        let (digest, name) = escaped.unwrap_or(line).split_at_checked(DIGEST_CHARS)?;
        let digest = std::str::from_utf8(digest).ok()?;
        let name = name.strip_prefix(b"  ")?;
        let name = match escaped {
            Some(_) => unescape(name)?,
            None => name.to_vec(),
        };
        let digest = format!("sha256:{digest}").parse().ok()?;
        Some((digest, OsString::from_vec(name).into()))
    };
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    text.split(|byte| *byte == b'\n').map(line).collect()
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
        let first = checksum_line(Path::new("x/b.tgz.001"), &one);
        let second = checksum_line(Path::new("b.tgz.002"), &two);
        let text = [first, second].concat();
        std::fs::write(&path, &text).unwrap();
        let read = read_checksums(&path);
        assert_eq!(
            read,
            Some(vec![(one, "b.tgz.001".into()), (two, "b.tgz.002".into())])
        );
        std::fs::write(&path, [&text[..], b"junk\n"].concat()).unwrap();
        assert_eq!(read_checksums(&path), None);
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert_eq!(read_checksums(&path), None);
        assert_eq!(read_checksums(folder.path()), None);
        assert_eq!(read_checksums(Path::new("no such file")), None);
    }

    #[test]
    fn names_are_escaped_as_sha256sum_does_and_read_back() {
        use std::process::Command;
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"1");
        let names: [&[u8]; 8] = [
            b"a b",
            b"  two  blanks ",
            b"back\\slash",
            b"new\nline",
            b"end\n",
            b"carriage\rreturn",
            b"\\n",
            b"no UTF-8: \xff",
        ];
        for name in names {
            let file = folder.path().join(OsStr::from_bytes(name));
            std::fs::write(&file, "1").unwrap();
            let line = checksum_line(&file, &digest);
            let list = folder.path().join("list");
            std::fs::write(&list, &line).unwrap();
            let shown = String::from_utf8_lossy(&line);
            let read = read_checksums(&list).unwrap();
            let expected = (digest.clone(), PathBuf::from(OsStr::from_bytes(name)));
            assert_eq!(read, [expected], "{shown}");
            // Older ones leave a carriage return as it is.
            let run = |command: &mut Command| command.current_dir(&folder).output();
            if let Ok(theirs) = run(Command::new("sha256sum")
                .arg("--")
                .arg(OsStr::from_bytes(name)))
                && !name.contains(&b'\r')
            {
                assert_eq!(String::from_utf8_lossy(&theirs.stdout), shown);
                let checked = run(Command::new("sha256sum").args(["-c", "list"])).unwrap();
                assert!(checked.status.success(), "{checked:?}");
            }
        }
        for line in ["\\{}  a\\x\n", "\\{}  a\\\n", "{} a\n", "{}\n", "\n", ""] {
            let list = folder.path().join("list");
            std::fs::write(&list, line.replace("{}", digest.encoded())).unwrap();
            assert_eq!(read_checksums(&list), None, "{line}");
        }
    }
}
