use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_content::{Algorithm, Digest, Hasher, sync_dir};
use rustix::fs::{FlockOperation, RenameFlags};
use rustix::io::Errno;

use crate::sink::{FileSink, ReadAt as _};

/// A file that appears under its name only when it is whole.
///
/// - While it is written it is `.<name>.partial` in the same folder, locked: a second run that wants the same file
///   fails at once.
/// - What an interrupted run left under that name is taken over, so that a bundle can be resumed.
/// - Dropped before [`publish`](Self::publish), it leaves nothing, unless [`keep`](Self::keep) was called.
#[derive(Debug)]
pub struct OutputFile {
    target: PathBuf,
    partial: PathBuf,
    file: Arc<File>,
    overwrite: bool,
    resumed: bool,
    published: bool,
    kept: AtomicBool,
}

/// A failure to make an output file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct OutputError {
    path: PathBuf,
    kind: OutputErrorKind,
    reason: String,
    source: Option<io::Error>,
}

/// The classes of [`OutputError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputErrorKind {
    /// There is a file of that name, and it may not be replaced.
    Exists,
    /// Another run is writing the same file.
    Locked,
    /// The name is that of a folder, a link, a device, or of nothing that can be a file.
    NotAFile,
    /// The file system refused.
    Io,
}

impl OutputError {
    fn new(path: &Path, kind: OutputErrorKind, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            reason: reason.into(),
            source: None,
        }
    }

    fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self {
            path: path.to_owned(),
            kind: OutputErrorKind::Io,
            reason: source.to_string(),
            source: Some(source),
        }
    }

    /// Returns the class.
    pub fn kind(&self) -> OutputErrorKind {
        self.kind
    }
}

impl OutputFile {
    /// Starts the file `target`, or goes on with what an earlier run has left of it.
    ///
    /// # Errors
    ///
    /// When `target` exists and `overwrite` is not set, when another run is writing it, when it can be no file, or
    /// when the folder cannot be written.
    pub fn create(target: impl Into<PathBuf>, overwrite: bool) -> Result<Self, OutputError> {
        let target = target.into();
        let Some(name) = target.file_name() else {
            let reason = "it ends in no name for a file";
            return Err(OutputError::new(&target, OutputErrorKind::NotAFile, reason));
        };
        let mut partial_name = OsString::from(".");
        partial_name.push(name);
        partial_name.push(".partial");
        let partial = target.with_file_name(partial_name);
        refuse_existing(&target, overwrite)?;
        let file = open_locked(&partial, &target)?;
        // The run that held the lock may have ended just now, with success.
        refuse_existing(&target, overwrite)?;
        let resumed = file
            .metadata()
            .map_err(|e| OutputError::io(&partial, e))?
            .len()
            > 0;
        Ok(Self {
            target,
            partial,
            file: Arc::new(file),
            overwrite,
            resumed,
            published: false,
            kept: AtomicBool::new(false),
        })
    }

    /// Returns the final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Tells whether an earlier run has left something, which is still in the file.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Returns the file itself, open for reading and writing.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Returns the file as a place to write a bundle to.
    pub fn sink(&self) -> FileSink {
        FileSink::new(Arc::clone(&self.file))
    }

    /// Reads the whole file and computes its SHA-256.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn sha256(&self) -> Result<Digest, OutputError> {
        const BUFFER_BYTES: usize = 1 << 20;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut offset = 0;
        loop {
            match self.file.read_at(&mut buffer, offset) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(OutputError::io(&self.partial, error)),
            }
        }
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    ///
    /// When a file of that name has appeared meanwhile and may not be replaced, or the file system refuses; nothing
    /// is left then.
    pub fn publish(mut self) -> Result<(), OutputError> {
        let io = |error| OutputError::io(&self.target, error);
        self.file.sync_all().map_err(io)?;
        refuse_existing(&self.target, self.overwrite)?;
        rename(&self.partial, &self.target, self.overwrite)?;
        self.published = true;
        sync_dir(parent(&self.target)).map_err(|error| OutputError::io(&self.target, error))
    }

    /// Leaves what has been written under its temporary name when this is dropped, for a later run to go on with.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.published && !*self.kept.get_mut() {
            // The lock is held, so this is our file. If it cannot be removed, the next run takes it over.
            drop(fs::remove_file(&self.partial));
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn refuse_existing(target: &Path, overwrite: bool) -> Result<(), OutputError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OutputError::io(target, error)),
        // Replacing a device or a link by a file is never what the name was given for.
        Ok(metadata) if !metadata.is_file() => Err(OutputError::new(
            target,
            OutputErrorKind::NotAFile,
            "it exists and is no regular file",
        )),
        Ok(_) if overwrite => Ok(()),
        Ok(_) => Err(exists(target)),
    }
}

fn exists(target: &Path) -> OutputError {
    OutputError::new(target, OutputErrorKind::Exists, "the file exists")
}

/// Opens the temporary file and locks it.
fn open_locked(partial: &Path, target: &Path) -> Result<File, OutputError> {
    let io = |error| OutputError::io(partial, error);
    // Another run may publish or remove the file between our opening and locking it; then the lock is on a file
    // that no longer has the name.
    const ATTEMPTS: u32 = 16;
    for _ in 0..ATTEMPTS {
        let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(no_follow.bits().cast_signed())
            .open(partial)
            .map_err(io)?;
        let ours = file.metadata().map_err(io)?;
        if !ours.is_file() {
            let reason = "it exists and is no regular file";
            return Err(OutputError::new(partial, OutputErrorKind::NotAFile, reason));
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(locked(target)),
            Err(error) => return Err(OutputError::io(partial, error)),
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

fn rename(partial: &Path, target: &Path, overwrite: bool) -> Result<(), OutputError> {
    if !overwrite {
        let here = rustix::fs::CWD;
        match rustix::fs::renameat_with(here, partial, here, target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(exists(target)),
            // The file system cannot refuse to replace (FAT, some network file systems). The target was not there
            // a moment ago, and our lock keeps other runs of this program away.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(OutputError::io(target, error)),
        }
    }
    fs::rename(partial, target).map_err(|error| OutputError::io(target, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(output: &OutputFile, bytes: &[u8]) {
        use crate::sink::Sink as _;
        output.sink().reserve(bytes.len() as u64).unwrap();
        output.sink().write_at(bytes, 0).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
            .into_iter()
            .map(|name| name.into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("bundle.tgz");
        let output = OutputFile::create(&target, false).unwrap();
        write(&output, b"one");
        assert_eq!(names(folder.path()), [".bundle.tgz.partial"]);
        drop(output);
        assert!(names(folder.path()).is_empty());
        let output = OutputFile::create(&target, false).unwrap();
        write(&output, b"two");
        assert_eq!(output.sha256().unwrap(), Digest::of(b"two"));
        output.publish().unwrap();
        assert_eq!(names(folder.path()), ["bundle.tgz"]);
        assert_eq!(fs::read(&target).unwrap(), b"two");
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("bundle.tgz");
        fs::write(&target, "old").unwrap();
        let error = OutputFile::create(&target, false).unwrap_err();
        assert_eq!(error.kind(), OutputErrorKind::Exists);
        let output = OutputFile::create(&target, true).unwrap();
        write(&output, b"new");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        output.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        fs::remove_file(&target).unwrap();
        let output = OutputFile::create(&target, false).unwrap();
        fs::write(&target, "came meanwhile").unwrap();
        assert_eq!(
            output.publish().unwrap_err().kind(),
            OutputErrorKind::Exists
        );
        assert_eq!(names(folder.path()), ["bundle.tgz"]);
    }

    #[test]
    fn a_name_that_can_no_longer_be_given_is_an_error_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("in/bundle.tgz");
        let partial = folder.path().join("in/.bundle.tgz.partial");
        type Mishap = fn(&Path, &Path) -> io::Result<()>;
        let mishaps: [(Mishap, OutputErrorKind); 3] = [
            (
                |target, _| fs::create_dir(target),
                OutputErrorKind::NotAFile,
            ),
            (|_, partial| fs::remove_file(partial), OutputErrorKind::Io),
            (
                |target, _| fs::remove_dir_all(parent(target)),
                OutputErrorKind::Io,
            ),
        ];
        for overwrite in [false, true] {
            for (mishap, kind) in mishaps {
                fs::create_dir_all(parent(&target)).unwrap();
                let output = OutputFile::create(&target, overwrite).unwrap();
                write(&output, b"new");
                mishap(&target, &partial).unwrap();
                let error = output.publish().unwrap_err();
                assert_eq!(error.kind(), kind, "{error}");
                assert!(error.to_string().contains("bundle.tgz: "), "{error}");
                assert!(!target.is_file() && !partial.exists());
                drop(fs::remove_dir(&target));
            }
        }
    }

    #[test]
    fn a_second_run_that_wants_the_same_file_fails_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("bundle.tgz");
        let first = OutputFile::create(&target, false).unwrap();
        let error = OutputFile::create(&target, false).unwrap_err();
        assert_eq!(error.kind(), OutputErrorKind::Locked);
        write(&first, b"first");
        first.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"first");
    }

    #[test]
    fn what_an_interrupted_run_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("bundle.tgz");
        let output = OutputFile::create(&target, false).unwrap();
        assert!(!output.is_resumed());
        write(&output, b"half");
        output.keep();
        drop(output);
        let output = OutputFile::create(&target, false).unwrap();
        assert!(output.is_resumed());
        assert_eq!(output.sha256().unwrap(), Digest::of(b"half"));
    }

    #[test]
    fn links_folders_and_devices_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kind =
            |path: PathBuf, overwrite| OutputFile::create(path, overwrite).unwrap_err().kind();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        assert_eq!(kind(link, true), OutputErrorKind::NotAFile);
        assert_eq!(
            kind(folder.path().to_owned(), true),
            OutputErrorKind::NotAFile
        );
        assert_eq!(kind("/dev/null".into(), true), OutputErrorKind::NotAFile);
        assert_eq!(kind("/".into(), true), OutputErrorKind::NotAFile);
        let partial = folder.path().join(".x.partial");
        std::os::unix::fs::symlink("/tmp/elsewhere", partial).unwrap();
        assert_eq!(kind(folder.path().join("x"), false), OutputErrorKind::Io);
        assert!(!Path::new("/tmp/elsewhere").exists());
        let nowhere = folder.path().join("no/such/folder/x");
        assert_eq!(kind(nowhere, false), OutputErrorKind::Io);
    }
}
