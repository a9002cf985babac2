use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use oci_content::{Algorithm, Digest, MAX_MANIFEST_BYTES, Manifest};

use super::ManifestCache;

/// The prefix of temporary files.
const PARTIAL: &str = ".partial-";
/// A temporary file of this age belongs to a run that was killed.
const LEFTOVER: Duration = Duration::from_secs(60 * 60);
/// A file that is used again is marked as used at most this often.
const MARKED_EVERY: Duration = Duration::from_secs(60 * 60);
/// What the smallest file takes on most file systems, in bytes.
const BLOCK: u64 = 4096;

/// A folder of verified manifests, one file each, named `sha256/<hex>` or `sha512/<hex>`.
///
/// - A file holds the bytes of a manifest and nothing else. They are hashed whenever they are read;
///   a damaged file is removed and counts as absent.
/// - Only manifests whose media type [follows from their bytes](Manifest::own_media_type) are kept,
///   since the file has no other place for it.
/// - Files take at most [`max_bytes`](Self::max_bytes), in blocks of 4 KiB; beyond that, those that
///   were not used for the longest time are removed. This holds for up to eight processes that fill
///   one folder at once: each counts all files after every 64th of the limit that it adds. What is
///   larger than such a part is not kept.
/// - Files appear as a whole, by a rename, and nothing is locked. Files and folder can be removed
///   at any time.
/// - The folder is created when the first manifest is kept, for its owner only (0700).
/// - If the folder cannot be read or written, nothing is kept, and there is a [note](Self::notes).
#[derive(Debug)]
pub struct ManifestFolder {
    folder: PathBuf,
    max_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The bytes that were added since all files were counted; `None` before the first count.
    uncounted: Option<u64>,
    /// Reading or writing has failed; nothing is kept any more.
    failed: bool,
    notes: Vec<String>,
}

impl ManifestFolder {
    /// The size that files may take by default: 512 MiB.
    pub const DEFAULT_MAX_BYTES: u64 = 512 << 20;

    /// Creates a cache in a folder, which need not exist. This reads and writes nothing.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            max_bytes: Self::DEFAULT_MAX_BYTES,
            state: Mutex::default(),
        }
    }

    /// Sets the size that files may take, in bytes.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Takes the notes about why manifests are not kept, as sentence fragments that name the
    /// folder. None of them is an error: manifests are then read from their registries.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notes)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.of_algorithm(digest.algorithm()).join(digest.encoded())
    }

    fn of_algorithm(&self, algorithm: Algorithm) -> PathBuf {
        self.folder.join(algorithm.to_string())
    }

    fn read(&self, digest: &Digest) -> io::Result<Option<Manifest>> {
        let path = self.path(digest);
        let known = fs::symlink_metadata(&path)?;
        if known.is_file() && known.len() <= MAX_MANIFEST_BYTES {
            let mut raw = Vec::new();
            let mut file = File::open(&path)?;
            (&mut file)
                .take(MAX_MANIFEST_BYTES + 1)
                .read_to_end(&mut raw)?;
            if let Ok(manifest) = Manifest::parse_verified(Bytes::from(raw), digest, None) {
                mark_as_used(&file, &known);
                return Ok(Some(manifest));
            }
        }
        fs::remove_file(&path)?;
        Ok(None)
    }

    fn write(&self, manifest: &Manifest) -> io::Result<()> {
        let path = self.path(manifest.digest());
        if path.try_exists()? {
            return Ok(());
        }
        let parent = self.of_algorithm(manifest.digest().algorithm());
        let partial = || {
            tempfile::Builder::new()
                .prefix(PARTIAL)
                .tempfile_in(&parent)
        };
        let mut file = match partial() {
            Err(error) if is_absent(&error) => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&parent)?;
                partial()?
            }
            file => file?,
        };
        file.write_all(manifest.raw())?;
        self.make_room(taken(manifest.size()))?;
        // Not synced: after a crash the file may be damaged, and is then removed when it is read.
        file.persist(&path)?;
        Ok(())
    }

    /// Accounts for a file that is about to be added, and counts all files when it is time.
    fn make_room(&self, added: u64) -> io::Result<()> {
        {
            let mut state = self.state();
            match &mut state.uncounted {
                Some(uncounted) if *uncounted + added <= self.share() => {
                    *uncounted += added;
                    return Ok(());
                }
                uncounted => *uncounted = Some(added),
            }
        }
        self.trim()
    }

    /// Returns the bytes that one process may add before it counts all files again.
    fn share(&self) -> u64 {
        self.max_bytes / 64
    }

    /// Removes what was not used for the longest time if there is too much.
    fn trim(&self) -> io::Result<()> {
        let mut files = Vec::new();
        self.each_file(|_, known| files.push((modified(known), taken(known.len()))))?;
        let mut total: u64 = files.iter().map(|(_, size)| size).sum();
        // The rest is for what this process and others add before they count again.
        if total <= self.max_bytes / 8 * 7 {
            return Ok(());
        }
        let goal = self.max_bytes / 4 * 3;
        files.sort_unstable();
        let mut left = total;
        let last = files.iter().find(|(_, size)| {
            left -= size;
            left <= goal
        });
        let Some((newest, _)) = last.copied() else {
            return Ok(());
        };
        drop(files);
        self.each_file(|path, known| {
            if total > goal && modified(known) <= newest {
                fs::remove_file(path).ok();
                total = total.saturating_sub(taken(known.len()));
            }
        })
    }

    /// Calls `each` with every manifest's file, and removes the leftovers of runs that were killed.
    fn each_file(&self, mut each: impl FnMut(&Path, &Metadata)) -> io::Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let entries = match fs::read_dir(self.of_algorithm(algorithm)) {
                Ok(entries) => entries,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            for entry in entries.flatten() {
                // It may be gone by now.
                let Ok(known) = entry.metadata() else {
                    continue;
                };
                if !entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                    each(&entry.path(), &known);
                } else if age(&known).is_some_and(|age| age >= LEFTOVER) {
                    fs::remove_file(entry.path()).ok();
                }
            }
        }
        Ok(())
    }

    /// Notes a failure, once for all of them: without the folder there is only no cache.
    fn fail(&self, error: &io::Error) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.failed, true) {
            let folder = self.folder.display();
            state
                .notes
                .push(format!("{folder}: {error}; manifests are not kept"));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ManifestCache for ManifestFolder {
    fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        match self.read(digest) {
            Ok(found) => found,
            // Another process may remove it at any time.
            Err(error) if is_absent(&error) => None,
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    fn keep(&self, manifest: &Manifest) {
        let follows = manifest.own_media_type() == Some(manifest.media_type());
        if !follows || taken(manifest.size()) > self.share() || self.state().failed {
            return;
        }
        match self.write(manifest) {
            // Somebody has removed the folder in the meantime.
            Err(error) if !is_absent(&error) => self.fail(&error),
            _ => {}
        }
    }
}

/// Returns whether there is nothing at a path.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Returns what a file of this size takes.
fn taken(size: u64) -> u64 {
    size.max(1).next_multiple_of(BLOCK)
}

fn modified(known: &Metadata) -> SystemTime {
    known.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns the time since a file was modified; `None` if that lies in the future.
fn age(known: &Metadata) -> Option<Duration> {
    SystemTime::now().duration_since(modified(known)).ok()
}

/// Sets the time of the last use. The access time would not do: most file systems are mounted so
/// that it is seldom written.
fn mark_as_used(file: &File, known: &Metadata) {
    if age(known).is_none_or(|age| age >= MARKED_EVERY) {
        // On a read-only file system nothing is removed either.
        file.set_modified(SystemTime::now()).ok();
    }
}

#[cfg(test)]
mod tests;
