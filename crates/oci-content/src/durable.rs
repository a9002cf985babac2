use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use tempfile::NamedTempFile;

use crate::gaps::{self, FileSystemGap, FileSystemGaps};

/// The prefix of temporary files. One that is left over belongs to a run that was killed.
pub(crate) const PARTIAL: &str = ".partial-";

/// Replaces or creates a file atomically: a reader sees the old bytes or the new ones, and a crash
/// leaves one or the other.
///
/// The bytes are written to a temporary file in the same folder, which is synced and renamed before
/// the folder is synced. The mode of the file is 0666 less the umask, whatever the mode of the file
/// that it replaces.
///
/// # Errors
///
/// When no file can be created in the folder, or writing fails. The old file is then untouched.
pub fn replace_file(path: &Path, bytes: &[u8], gaps: &FileSystemGaps) -> io::Result<()> {
    let mut file = partial_file(folder_of(path))?;
    file.write_all(bytes)?;
    publish(file, path, gaps).map(drop)
}

/// Writes into a device, a pipe or a terminal, and [replaces or creates](replace_file) a file.
///
/// Links are followed and kept. Below `/dev` and `/proc` nothing is replaced: a file there, such as
/// a redirected standard output, is appended to.
///
/// # Errors
///
/// As for [`replace_file`], and when nobody reads from the pipe.
pub fn write_file(path: &Path, bytes: &[u8], gaps: &FileSystemGaps) -> io::Result<()> {
    let of_the_system = path.starts_with("/dev") || path.starts_with("/proc");
    match fs::metadata(path) {
        Ok(there) if there.is_file() && !of_the_system => {
            replace_file(&fs::canonicalize(path)?, bytes, gaps)
        }
        Ok(there) if !there.is_dir() => write_through(path, bytes),
        _ => replace_file(path, bytes, gaps),
    }
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Waiting for a reader could take forever.
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NXIO) => {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "nobody reads from it",
            ));
        }
        file => file?,
    };
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    File::from(file).write_all(bytes)
}

/// Creates a temporary file that stays locked until it is dropped or gets its final name.
pub(crate) fn partial_file(folder: &Path) -> io::Result<NamedTempFile> {
    loop {
        let file = tempfile::Builder::new()
            .prefix(PARTIAL)
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        // On a file system without locks, a sweep cannot lock either: leftovers stay.
        flock(file.as_file(), FlockOperation::NonBlockingLockShared).ok();
        // A sweep may have removed it before it was locked.
        if file.as_file().metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// Removes the temporary files in a folder that nobody has locked. What cannot be opened or removed
/// stays.
pub(crate) fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            continue;
        }
        let path = entry.path();
        if let Ok(file) = open_regular(&path)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            fs::remove_file(&path).ok();
        }
    }
}

/// Opens a regular file for reading. Links are not followed, and pipes and devices are not waited
/// for: all are [`InvalidData`](io::ErrorKind::InvalidData).
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    open_as_regular(path, OFlags::RDONLY)
}

/// Opens or creates a regular file to lock it, and leaves its content alone.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    open_as_regular(path, OFlags::RDWR | OFlags::CREATE)
}

fn open_as_regular(path: &Path, flags: OFlags) -> io::Result<File> {
    let not_regular = || {
        let reason = "it is not a regular file, and links are not followed";
        io::Error::new(io::ErrorKind::InvalidData, reason)
    };
    let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags | safe, Mode::from_raw_mode(0o666)) {
        Ok(file) => File::from(file),
        // A link, a socket, or a folder opened for writing.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO | rustix::io::Errno::ISDIR) => {
            return Err(not_regular());
        }
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(not_regular())
    }
}

/// Gives a temporary file its final name, so that after a crash it is there completely or not at
/// all.
pub(crate) fn publish(file: NamedTempFile, path: &Path, gaps: &FileSystemGaps) -> io::Result<File> {
    sync_file(file.as_file(), path, gaps)?;
    let file = file.persist(path).map_err(|error| error.error)?;
    sync_dir(folder_of(path), gaps)?;
    Ok(file)
}

/// Makes the entries of a folder durable. If the file system cannot do that, or the folder may not
/// be read, that is recorded in `gaps`.
///
/// # Errors
///
/// When the folder cannot be opened or synced.
pub fn sync_dir(folder: &Path, gaps: &FileSystemGaps) -> io::Result<()> {
    match File::open(folder) {
        Ok(open) => sync(&open, folder, FileSystemGap::FolderSync, gaps),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            gaps.note(FileSystemGap::FolderSync, folder);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Makes the content of a file durable. If the file system cannot do that, it is recorded in `gaps`
/// under `path`, which may be empty if it is not known.
///
/// # Errors
///
/// When the file cannot be synced.
pub fn sync_file(file: &File, path: &Path, gaps: &FileSystemGaps) -> io::Result<()> {
    sync(file, path, FileSystemGap::FileSync, gaps)
}

fn sync(file: &File, path: &Path, gap: FileSystemGap, gaps: &FileSystemGaps) -> io::Result<()> {
    match gaps::answer(gap).unwrap_or_else(|| file.sync_all()) {
        Err(error) if gaps::is_unsupported(&error) => {
            gaps.note(gap, path);
            Ok(())
        }
        result => result,
    }
}

/// Tries to lock a file exclusively; returns `false` if somebody else has locked it. If the file
/// system has no locks, that is recorded in `gaps` under `path`, and the file counts as locked.
///
/// The lock is released when the file and all its clones are closed.
///
/// # Errors
///
/// When locking fails for another reason.
pub fn try_lock(file: &File, path: &Path, gaps: &FileSystemGaps) -> io::Result<bool> {
    match lock_as(file, path, FlockOperation::NonBlockingLockExclusive, gaps) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        result => result.map(|()| true),
    }
}

/// Locks a file exclusively, waiting if necessary.
pub(crate) fn lock(file: &File, path: &Path, gaps: &FileSystemGaps) -> io::Result<()> {
    lock_as(file, path, FlockOperation::LockExclusive, gaps)
}

fn lock_as(
    file: &File,
    path: &Path,
    operation: FlockOperation,
    gaps: &FileSystemGaps,
) -> io::Result<()> {
    loop {
        let locked = match gaps::answer(FileSystemGap::Locks) {
            Some(answer) => answer,
            None => flock(file, operation).map_err(io::Error::from),
        };
        match locked {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if gaps::is_unsupported(&error) => {
                gaps.note(FileSystemGap::Locks, path);
                return Ok(());
            }
            result => return result,
        }
    }
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
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let gaps = FileSystemGaps::default();
        let other = tempfile::tempdir().unwrap();
        let plain = other.path().join("plain");
        fs::write(&plain, "").unwrap();
        for bytes in [&b"first"[..], b"second"] {
            replace_file(&path, bytes, &gaps).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(mode(&path), mode(&plain), "what the umask leaves");
        }
        // A folder cannot be replaced by a file: the error leaves no temporary file behind.
        replace_file(folder.path(), b"third", &gaps).unwrap_err();
        fs::create_dir(folder.path().join("taken")).unwrap();
        replace_file(&folder.path().join("taken"), b"third", &gaps).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_file_is_written_to_and_never_replaced() {
        use std::io::Read as _;
        use std::os::unix::fs::FileTypeExt as _;
        let write_file =
            |path: &Path, bytes: &[u8]| write_file(path, bytes, &FileSystemGaps::default());
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let pipe = at("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let error = write_file(&pipe, b"x").unwrap_err();
        assert_eq!(error.to_string(), "nobody reads from it");
        // More than a pipe holds at once.
        let long = vec![b'x'; 1 << 20];
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        while write_file(&pipe, &long).is_err() {
            std::thread::yield_now();
        }
        assert!(reader.join().unwrap() == long);
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        write_file(Path::new("/dev/null"), b"x").unwrap();
        let null = fs::metadata("/dev/null").unwrap();
        assert!(null.file_type().is_char_device());

        fs::write(at("file"), "old").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::os::unix::fs::symlink("pipe", at("pipe-link")).unwrap();
        write_file(&at("link"), b"new").unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        assert!(write_file(&at("pipe-link"), b"x").is_err());
        assert!(fs::symlink_metadata(at("pipe-link")).unwrap().is_symlink());
        write_file(&at("made"), b"made").unwrap();
        assert_eq!(fs::read(at("made")).unwrap(), b"made");
        write_file(folder.path(), b"x").unwrap_err();

        // A standard output redirected into a file.
        let mut open = File::options()
            .read(true)
            .append(true)
            .open(at("made"))
            .unwrap();
        use std::os::fd::AsRawFd as _;
        let fd = format!("/proc/self/fd/{}", open.as_raw_fd());
        write_file(Path::new(&fd), b" by hand").unwrap();
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "made by hand");
    }

    #[test]
    fn a_file_system_without_locks_and_syncs_is_gone_on_with_and_noted_once() {
        use rustix::io::Errno;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let work = |gaps: &FileSystemGaps| -> io::Result<()> {
            replace_file(&path, b"bytes", gaps)?;
            let layout = crate::ImageLayout::create(folder.path().join("layout"))
                .map_err(io::Error::other)?
                .with_gaps(gaps.clone());
            let digest = crate::Digest::of(b"hello");
            layout
                .write_blob(&digest, b"hello")
                .map_err(io::Error::other)?;
            let file = File::open(&path)?;
            assert!(try_lock(&file, &path, gaps)?);
            sync_dir(folder.path(), gaps)
        };
        let met = |gaps: &FileSystemGaps| {
            gaps.take()
                .into_iter()
                .map(|(gap, _)| gap)
                .collect::<Vec<_>>()
        };
        let gaps = FileSystemGaps::default();
        work(&gaps).unwrap();
        assert_eq!(gaps.take(), []);
        for errno in [
            Errno::INVAL,
            Errno::NOLCK,
            Errno::NOSYS,
            Errno::OPNOTSUPP,
            Errno::NOTTY,
        ] {
            gaps::refuse_with(Some(errno));
            let gaps = FileSystemGaps::default();
            work(&gaps).unwrap();
            work(&gaps).unwrap();
            let expected = [
                FileSystemGap::Locks,
                FileSystemGap::FileSync,
                FileSystemGap::FolderSync,
            ];
            assert_eq!(met(&gaps), expected, "{errno}");
            work(&gaps).unwrap();
            assert_eq!(met(&gaps), [], "{errno}");
        }
        // The errors of a broken or full disk are not gaps.
        for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS] {
            gaps::refuse_with(Some(errno));
            let refused = Errno::from_io_error(&work(&gaps).unwrap_err());
            assert_eq!(refused, Some(errno));
        }
        gaps::refuse_with(Some(Errno::WOULDBLOCK));
        assert!(!try_lock(&File::open(&path).unwrap(), &path, &gaps).unwrap());
        gaps::refuse_with(None);
        assert_eq!(gaps.take(), []);
    }
}
