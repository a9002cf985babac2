mod error;
mod partial;
mod sink;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use oci_content::{Digest, FileSystemGaps, sync_dir, sync_file};

pub use self::error::{OutputError, OutputErrorKind};
use self::partial::{open_locked, parent, partial_path, refuse_existing, remove, rename};
use self::sink::Names;
pub use self::sink::OutputSink;
use crate::checksums::{ChecksumHasher, Checksums, VolumeChecksum};
use crate::read_at::read_range;
use crate::volume_names::{
    checksum_line, checksum_path, file_name, parse_volume_path, volume_path,
};
use crate::volume_size::VolumeSize;

/// A bundle that appears under its name only when it is whole: one file, or a set of volumes.
///
/// - While it is written it is `.<name>.partial` in the same folder, locked: a second run for the
///   same file fails at once.
/// - What an interrupted run left under that name is taken over, so that a bundle can be resumed.
/// - Volumes are renamed from the last to the first, so that if the first has its name, all have.
///   If a run is killed in between, the next one takes the names back. Their checksums are written
///   beside them: one file for each volume, and `<name>.sha256` for all.
/// - Dropped before [`publish`](Self::publish), it leaves nothing, unless [`keep`](Self::keep) was
///   called.
/// - Dropping it frees the lock: threads and tasks that still have its [`sink`](Self::sink) can
///   write nothing more.
#[derive(Debug)]
pub struct OutputFile {
    sink: OutputSink,
    overwrite: bool,
    resumed: bool,
    published: bool,
    kept: AtomicBool,
}

impl OutputFile {
    /// Starts the file `target`, or continues what an earlier run has left of it.
    ///
    /// # Errors
    ///
    /// When `target` exists and `overwrite` is not set, when another run is writing it, when it
    /// cannot be a file, or when the folder cannot be written.
    pub fn create(target: impl Into<PathBuf>, overwrite: bool) -> Result<Self, OutputError> {
        Self::start(target.into(), None, overwrite)
    }

    /// Starts the bundle `target` in volumes `target.001`, `target.002` and so on, or continues
    /// what an earlier run has left of them.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create), where `target` and all its volumes count as the existing
    /// bundle; and when `target` is itself the name of a volume.
    pub fn create_volumes(
        target: impl Into<PathBuf>,
        size: VolumeSize,
        overwrite: bool,
    ) -> Result<Self, OutputError> {
        let target = target.into();
        if let Some((bundle, _)) = parse_volume_path(&target) {
            let reason = format!(
                "this is the name of a volume, and volumes are numbered automatically: name the bundle, {}",
                file_name(&bundle)
            );
            return Err(OutputError::new(&target, OutputErrorKind::NotAFile, reason));
        }
        Self::start(target, Some(size), overwrite)
    }

    fn start(
        target: PathBuf,
        volume: Option<VolumeSize>,
        overwrite: bool,
    ) -> Result<Self, OutputError> {
        if target.file_name().is_none() {
            let reason = "it does not end in a file name";
            return Err(OutputError::new(&target, OutputErrorKind::NotAFile, reason));
        }
        let names = Names { target, volume };
        let gaps = FileSystemGaps::default();
        let partial = names.partial(1);
        // The volumes of a run that was killed while renaming them are not an existing bundle.
        let interrupted = volume.is_some() && is_file(&partial);
        if !interrupted {
            refuse_all_existing(&names, overwrite)?;
        }
        let first = open_locked(&partial, &names.name(1), &gaps)?;
        if interrupted {
            take_back(&names)?;
        }
        // The run that held the lock may just have ended successfully.
        refuse_all_existing(&names, overwrite)?;
        let metadata = first.metadata().map_err(|e| OutputError::io(&partial, e))?;
        Ok(Self {
            sink: OutputSink::new(names, first, gaps),
            overwrite,
            resumed: metadata.len() > 0,
            published: false,
            kept: AtomicBool::new(false),
        })
    }

    /// Records in `gaps` what the file system cannot do, including what was met so far. Applies to
    /// the sinks that are taken afterwards.
    #[must_use]
    pub fn with_gaps(mut self, gaps: FileSystemGaps) -> Self {
        gaps.add(&self.sink.gaps);
        self.sink.gaps = gaps;
        self
    }

    /// Returns the name of the bundle; the names of its volumes have a number appended.
    pub fn target(&self) -> &Path {
        &self.sink.names().target
    }

    /// Returns whether an earlier run has left something to continue.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Returns the place to write the bundle to and to read it from.
    pub fn sink(&self) -> OutputSink {
        self.sink.clone()
    }

    /// Returns the final name of a volume, the first of which is number 1; of a bundle in one file,
    /// its name.
    pub fn volume_path(&self, number: usize) -> PathBuf {
        self.sink.names().name(number)
    }

    /// Reads the whole bundle after it was written and computes the digests. `hashed` is called
    /// with the number of bytes hashed since the last call.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn checksums(&self, mut hashed: impl FnMut(u64)) -> Result<Checksums, OutputError> {
        let names = self.sink.names();
        let mut hasher = ChecksumHasher::new(names.volume);
        let read = read_range(&self.sink, 0..u64::MAX, |bytes| {
            hasher.update(bytes);
            hashed(bytes.len() as u64);
        });
        read.map_err(|error| OutputError::io(&names.partial(1), error))?;
        Ok(hasher.finish())
    }

    /// Writes `<name>.sha256` beside a bundle in one file, as `sha256sum -c` reads it. Volumes get
    /// theirs from [`publish_with`](Self::publish_with).
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn write_checksum(&self, whole: &Digest) -> Result<(), OutputError> {
        let target = self.target();
        let line = checksum_line(target, whole);
        write_durably(&checksum_path(target), &line, &self.sink.gaps)
    }

    /// Makes everything durable and gives it its name. For volumes, everything is read once more to
    /// compute the checksums beside them.
    ///
    /// # Errors
    ///
    /// As for [`publish_with`](Self::publish_with), and when a file cannot be read.
    pub fn publish(self) -> Result<(), OutputError> {
        let checksums = match self.sink.names().volume {
            Some(_) => self.checksums(|_| {})?.volumes,
            None => Vec::new(),
        };
        self.publish_with(&checksums)
    }

    /// Makes everything durable and gives it its name; the checksums `volumes` are written beside
    /// the volumes, if it has any.
    ///
    /// Volumes that replace a bundle leave nothing of it, even if it had more volumes or was one
    /// file.
    ///
    /// # Errors
    ///
    /// When a file of that name has appeared meanwhile and may not be replaced, or the file system
    /// refuses. Nothing new is left in that case.
    pub fn publish_with(mut self, volumes: &[VolumeChecksum]) -> Result<(), OutputError> {
        let names = self.sink.names();
        let files = self.sink.files();
        for (place, file) in files.iter().enumerate() {
            let io = |error| OutputError::io(&names.name(place + 1), error);
            sync_file(file, &names.name(place + 1), &self.sink.gaps).map_err(io)?;
        }
        refuse_all_existing(names, self.overwrite)?;
        if names.volume.is_some() {
            if self.overwrite {
                remove_replaced(names, files.len())?;
            }
            write_checksums(names, volumes, &self.sink.gaps)?;
        }
        for number in (1..=files.len()).rev() {
            let (partial, name) = (names.partial(number), names.name(number));
            if let Err(error) = rename(&partial, &name, self.overwrite) {
                // Best effort: the error that is returned says what is wrong.
                for number in number + 1..=files.len() {
                    drop(fs::rename(names.name(number), names.partial(number)));
                }
                return Err(error);
            }
        }
        let folder = parent(&names.target);
        let synced =
            sync_dir(folder, &self.sink.gaps).map_err(|error| OutputError::io(folder, error));
        self.published = true;
        synced
    }

    /// Keeps what was written under its temporary name when this is dropped, so that a later run
    /// can continue it.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.published && !*self.kept.get_mut() {
            let names = self.sink.names();
            // The lock is held, so these files are ours. The next run takes over any that cannot be
            // removed. The first goes last, because the lock goes with it.
            for number in (1..=self.sink.files().len()).rev() {
                drop(remove(&names.partial(number)));
            }
        }
        self.sink.close();
    }
}

/// Refuses to start if a bundle of this name exists in any form, unless it may be replaced.
fn refuse_all_existing(names: &Names, overwrite: bool) -> Result<(), OutputError> {
    refuse_existing(&names.target, overwrite)?;
    match names.volume {
        Some(_) => (1..=names.max_files())
            .try_for_each(|number| refuse_existing(&volume_path(&names.target, number), overwrite)),
        None => Ok(()),
    }
}

/// Takes back the names of volumes from a run that was killed before it renamed the first.
///
/// Such a run is recognised by the last volumes having their names, the first ones only their
/// temporary names, and none both: only [`OutputFile::publish_with`] leaves this state.
fn take_back(names: &Names) -> Result<(), OutputError> {
    let unnamed = (1..=names.max_files()).take_while(|number| is_file(&names.partial(*number)));
    let first = unnamed.count() + 1;
    let named = (first..=names.max_files()).take_while(|number| is_file(&names.name(*number)));
    let named: Vec<_> = named.collect();
    let behind = first + named.len();
    let others = (1..first).chain(behind..=names.max_files());
    let is_there = |path: PathBuf| path.symlink_metadata().is_ok();
    let mut unnamed = first..=names.max_files();
    if others
        .into_iter()
        .any(|number| is_there(names.name(number)))
        || unnamed.any(|number| is_there(names.partial(number)))
    {
        return Ok(());
    }
    // In this order, a run that is killed here leaves the same state.
    for number in named {
        rename(&names.name(number), &names.partial(number), false)?;
    }
    Ok(())
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file())
}

/// Removes what volumes replace: the same bundle as one file, its first volume, and the volumes
/// after `count`. Without the first, the others are not a bundle while they are replaced one by
/// one.
fn remove_replaced(names: &Names, count: usize) -> Result<(), OutputError> {
    for number in std::iter::once(1).chain(count + 1..=names.max_files()) {
        let volume = names.name(number);
        remove(&volume)?;
        remove(&checksum_path(&volume))?;
    }
    remove(&names.target)
}

/// Writes the checksum file of each volume, and the one of all.
fn write_checksums(
    names: &Names,
    volumes: &[VolumeChecksum],
    gaps: &FileSystemGaps,
) -> Result<(), OutputError> {
    let mut all = Vec::new();
    for volume in volumes {
        let path = names.name(volume.number);
        let line = checksum_line(&path, &volume.sha256);
        write_durably(&checksum_path(&path), &line, gaps)?;
        all.extend(line);
    }
    write_durably(&checksum_path(&names.target), &all, gaps)
}

fn write_durably(path: &Path, text: &[u8], gaps: &FileSystemGaps) -> Result<(), OutputError> {
    let io = |error| OutputError::io(path, error);
    let partial = partial_path(path);
    // A file that an interrupted run has left here is not continued.
    remove(&partial)?;
    let mut file = File::create_new(&partial).map_err(io)?;
    file.write_all(text).map_err(io)?;
    sync_file(&file, path, gaps).map_err(io)?;
    fs::rename(&partial, path).map_err(io)
}

#[cfg(test)]
mod tests;
