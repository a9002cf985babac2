//! A file under its temporary name, and its way to the final one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use oci_content::FileSystemGaps;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::error::{OutputError, OutputErrorKind};

/// Returns the name that a file has while it is written.
pub(super) fn partial_path(file: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".partial");
    file.with_file_name(name)
}

/// Opens a temporary file, creating it if necessary. A file that has another name is refused:
/// writing it would change the content under that name.
pub(super) fn open(partial: &Path) -> Result<File, OutputError> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(no_follow.bits().cast_signed())
        .open(partial)
        .map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => {
                let reason =
                    "it is a symbolic link, and a bundle is not written through links; remove it";
                OutputError::new(partial, OutputErrorKind::NotAFile, reason)
            }
            Some(Errno::NXIO | Errno::ISDIR) => not_a_file(partial),
            _ => not_made(partial, error),
        })?;
    let metadata = file
        .metadata()
        .map_err(|error| OutputError::io(partial, error))?;
    if !metadata.is_file() {
        return Err(not_a_file(partial));
    }
    if metadata.nlink() > 1 {
        let reason = "the file has another name (a hard link) and would change under that name too; remove this one";
        return Err(OutputError::new(partial, OutputErrorKind::NotAFile, reason));
    }
    Ok(file)
}

/// Says why a temporary file cannot be created: usually because of its folder, which the user
/// named.
fn not_made(partial: &Path, error: io::Error) -> OutputError {
    let folder = parent(partial);
    let reason = match (error.kind(), fs::metadata(folder)) {
        (io::ErrorKind::NotFound, Err(_)) => "there is no such folder",
        (io::ErrorKind::NotADirectory, _) => "it is not a folder",
        (io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied, Ok(_)) => {
            return OutputError::io(folder, error).because("cannot create a file in this folder");
        }
        _ => return OutputError::io(partial, error),
    };
    OutputError::new(folder, OutputErrorKind::Io, reason)
}

/// Opens the temporary file of `target` and locks it.
pub(super) fn open_locked(
    partial: &Path,
    target: &Path,
    gaps: &FileSystemGaps,
) -> Result<File, OutputError> {
    let io = |error| OutputError::io(partial, error);
    // Another run may publish or remove the file after we opened and before we locked it; the lock
    // is then on a file that no longer has this name.
    const ATTEMPTS: u32 = 16;
    for _ in 0..ATTEMPTS {
        let file = open(partial)?;
        let ours = file.metadata().map_err(io)?;
        if !oci_content::try_lock(&file, partial, gaps).map_err(io)? {
            return Err(locked(target));
        }
        match fs::symlink_metadata(partial) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                return Ok(file);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
    }
    Err(locked(target))
}

fn locked(target: &Path) -> OutputError {
    let reason = "another run is writing this file";
    OutputError::new(target, OutputErrorKind::Locked, reason)
}

fn not_a_file(path: &Path) -> OutputError {
    let reason = "it exists and is not a regular file";
    OutputError::new(path, OutputErrorKind::NotAFile, reason)
}

pub(super) fn refuse_existing(target: &Path, overwrite: bool) -> Result<(), OutputError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(not_made(target, error)),
        Err(error) => Err(OutputError::io(target, error)),
        // Nobody who names a device or a link wants it replaced by a file.
        Ok(metadata) if !metadata.is_file() => Err(not_a_file(target)),
        Ok(_) if overwrite => Ok(()),
        Ok(_) => Err(exists(target)),
    }
}

fn exists(target: &Path) -> OutputError {
    OutputError::new(target, OutputErrorKind::Exists, "the file exists")
}

pub(super) fn rename(partial: &Path, target: &Path, overwrite: bool) -> Result<(), OutputError> {
    if !overwrite {
        let here = rustix::fs::CWD;
        match rustix::fs::renameat_with(here, partial, here, target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(exists(target)),
            // The file system cannot refuse to replace (FAT, some network file systems). The target
            // was not there a moment ago, and our lock keeps other runs of this program away.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(OutputError::io(target, error)),
        }
    }
    fs::rename(partial, target).map_err(|error| OutputError::io(target, error))
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> Result<(), OutputError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OutputError::io(path, error)),
        _ => Ok(()),
    }
}

/// Returns the folder that holds a file.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
