use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// Something that a file system cannot do, such as some network file systems, FUSE and FAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileSystemGap {
    /// Locking files.
    Locks,
    /// Syncing files.
    FileSync,
    /// Syncing folders.
    FolderSync,
}

impl fmt::Display for FileSystemGap {
    /// Writes what cannot be guaranteed as a result.
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

/// A collector of what file systems could not do.
///
/// Everything in this workspace that writes files records gaps in a collector, its own or a clone
/// of the caller's. Clones share their content. A gap is not an error: the content is still written
/// and verified. The program decides how to tell its user what is not guaranteed.
#[derive(Clone, Debug, Default)]
pub struct FileSystemGaps(Arc<Mutex<Noted>>);

/// Where each gap was first met, until it is taken.
type Noted = BTreeMap<FileSystemGap, Option<PathBuf>>;

impl FileSystemGaps {
    /// Takes the gaps that have been met, each with the file or folder where it was first met. Each
    /// gap is returned only once.
    pub fn take(&self) -> Vec<(FileSystemGap, PathBuf)> {
        let mut noted = self.noted();
        let untold = noted.iter_mut();
        untold
            .filter_map(|(gap, path)| Some((*gap, path.take()?)))
            .collect()
    }

    /// Takes the gaps out of `other` and adds them.
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

/// Returns whether an error means that an operation is not supported, rather than that it failed.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOTTY)
    )
}

/// Replaces the answer of the file system in tests.
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
