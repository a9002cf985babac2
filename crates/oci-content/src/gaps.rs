use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// Something that a file system has no way to do, as some network file systems, FUSE and FAT have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FileSystemGap {
    /// To lock a file.
    Locks,
    /// To say that a file is on the disk.
    FileSync,
    /// To say that the names in a folder are on the disk.
    FolderSync,
}

impl fmt::Display for FileSystemGap {
    /// Writes what cannot be guaranteed because of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Locks => {
                "files cannot be locked, so a second run that writes there at the same time is not noticed"
            }
            Self::FileSync => {
                "files cannot be synced, so what was written last may be lost if the power fails"
            }
            Self::FolderSync => {
                "folders cannot be synced, so files that were named last may be gone if the power fails"
            }
        })
    }
}

/// Where each gap was met first, until that was told.
type Noted = BTreeMap<FileSystemGap, Option<PathBuf>>;

static NOTED: Mutex<Noted> = Mutex::new(Noted::new());

fn noted() -> MutexGuard<'static, Noted> {
    // Each change is one call.
    NOTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what this process has met that a file system cannot do, each with the file or folder where it was met first, and
/// each once.
///
/// Such a gap fails nothing: the content is written and verified all the same. What it takes away is for a program to tell its
/// user.
pub fn file_system_gaps() -> Vec<(FileSystemGap, PathBuf)> {
    untold(&mut noted())
}

fn untold(noted: &mut Noted) -> Vec<(FileSystemGap, PathBuf)> {
    let untold = noted.iter_mut();
    untold
        .filter_map(|(gap, path)| Some((*gap, path.take()?)))
        .collect()
}

pub(crate) fn note(gap: FileSystemGap, path: &Path) {
    #[cfg(test)]
    tests::NOTED.with_borrow_mut(|gaps| gaps.insert(gap));
    enter(&mut noted(), gap, path);
}

fn enter(noted: &mut Noted, gap: FileSystemGap, path: &Path) {
    noted.entry(gap).or_insert_with(|| Some(path.to_owned()));
}

/// Returns whether an error says that there is no such thing, and not that it has failed.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOTTY)
    )
}

/// Answers in the place of a file system, in tests.
#[cfg(not(test))]
pub(crate) fn answer(_: FileSystemGap) -> Option<io::Result<()>> {
    None
}

#[cfg(test)]
pub(crate) use tests::{answer, of_this_test, refuse_with};

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;

    use super::*;

    thread_local! {
        static REFUSAL: Cell<Option<Errno>> = const { Cell::new(None) };
        pub(super) static NOTED: RefCell<BTreeSet<FileSystemGap>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(crate) fn answer(_: FileSystemGap) -> Option<io::Result<()>> {
        REFUSAL.get().map(|errno| Err(errno.into()))
    }

    pub(crate) fn refuse_with(errno: Option<Errno>) {
        REFUSAL.set(errno);
    }

    pub(crate) fn of_this_test() -> Vec<FileSystemGap> {
        NOTED.take().into_iter().collect()
    }

    #[test]
    fn a_gap_is_told_once() {
        let mut noted = Noted::new();
        let (locks, sync) = (FileSystemGap::Locks, FileSystemGap::FileSync);
        enter(&mut noted, sync, Path::new("first"));
        enter(&mut noted, sync, Path::new("second"));
        assert_eq!(untold(&mut noted), [(sync, "first".into())]);
        enter(&mut noted, sync, Path::new("third"));
        enter(&mut noted, locks, Path::new("third"));
        assert_eq!(untold(&mut noted), [(locks, "third".into())]);
        assert_eq!(untold(&mut noted), []);
    }
}
