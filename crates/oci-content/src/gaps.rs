use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// Something that a file system has no way to do, as some network file systems, FUSE and FAT have not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What the file systems that were written to could not do.
///
/// Whatever writes files records such gaps in a collector: its own, or the caller's, which is handed in as a clone. Clones
/// share what they hold. A gap fails nothing: the content is written and verified all the same. What it takes away is for
/// a program to tell its user.
#[derive(Clone, Debug, Default)]
pub struct FileSystemGaps(Arc<Mutex<Noted>>);

/// Where each gap was met first, until that was taken.
type Noted = BTreeMap<FileSystemGap, Option<PathBuf>>;

impl FileSystemGaps {
    /// Takes the gaps that have been met, each with the file or folder where it was met first. A gap is returned once.
    pub fn take(&self) -> Vec<(FileSystemGap, PathBuf)> {
        let mut noted = self.noted();
        let untold = noted.iter_mut();
        untold
            .filter_map(|(gap, path)| Some((*gap, path.take()?)))
            .collect()
    }

    /// Adds the gaps that `other` has met and that were not taken from it.
    pub fn add(&self, other: &Self) {
        for (gap, path) in other.take() {
            self.note(gap, &path);
        }
    }

    pub(crate) fn note(&self, gap: FileSystemGap, path: &Path) {
        self.noted()
            .entry(gap)
            .or_insert_with(|| Some(path.to_owned()));
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // Each change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
pub(crate) use tests::{answer, refuse_with};

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static REFUSAL: Cell<Option<Errno>> = const { Cell::new(None) };
    }

    pub(crate) fn answer(_: FileSystemGap) -> Option<io::Result<()>> {
        REFUSAL.get().map(|errno| Err(errno.into()))
    }

    pub(crate) fn refuse_with(errno: Option<Errno>) {
        REFUSAL.set(errno);
    }

    #[test]
    fn a_gap_is_taken_once_from_all_that_share_it() {
        let gaps = FileSystemGaps::default();
        let (locks, sync) = (FileSystemGap::Locks, FileSystemGap::FileSync);
        gaps.note(sync, Path::new("first"));
        gaps.clone().note(sync, Path::new("second"));
        assert_eq!(gaps.take(), [(sync, "first".into())]);
        let other = FileSystemGaps::default();
        other.note(sync, Path::new("third"));
        other.note(locks, Path::new("third"));
        gaps.add(&other);
        assert_eq!(gaps.clone().take(), [(locks, "third".into())]);
        assert_eq!((gaps.take(), other.take()), (vec![], vec![]));
    }
}
