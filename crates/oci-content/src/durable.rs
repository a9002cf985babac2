use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What the name of a temporary file begins with; one that is left over is of a run that was killed.
pub(crate) const PARTIAL: &str = ".partial-";

/// Replaces a file as a whole, or makes it: a reader sees the old bytes or the new ones, and a crash leaves one or the other.
///
/// The bytes are written to a temporary file in the same folder, which is synced, renamed, and its folder synced. The file
/// can be read by everyone.
///
/// # Errors
///
/// When the folder takes no file, or the disk refuses; the old file is then untouched.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(PARTIAL)
        .tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    publish(file, path)
}

/// Gives a temporary file its final name so that a crash leaves either nothing or all of it there.
pub(crate) fn publish(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_dir(folder_of(path))
}

/// Makes the names in a folder durable.
///
/// # Errors
///
/// When the folder cannot be opened or synced.
pub fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for bytes in [&b"first"[..], b"second"] {
            replace_file(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644);
        }
        // A folder cannot be replaced by a file: the error leaves no temporary file behind.
        replace_file(folder.path(), b"third").unwrap_err();
        fs::create_dir(folder.path().join("taken")).unwrap();
        replace_file(&folder.path().join("taken"), b"third").unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
