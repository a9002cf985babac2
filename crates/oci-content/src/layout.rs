mod blob_writer;
mod error;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::descriptor::Descriptor;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::durable::{
    PARTIAL, lock as lock_file, open_lock, open_regular, remove_leftovers, replace_file,
};
use crate::gaps::FileSystemGaps;
use crate::media_type;

use self::blob_writer::blob_path;
pub use self::blob_writer::{BlobWriter, PartialBlob};
pub use self::error::{LayoutError, LayoutErrorKind};

/// The annotation that names an entry of `index.json`:
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md#indexjson-file>
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation with which containerd and BuildKit name an entry of `index.json` in full.
pub const CONTAINERD_IMAGE_NAME: &str = "io.containerd.image.name";

/// An OCI image layout folder: `oci-layout`, `index.json` and `blobs/`.
///
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>
///
/// - A blob appears under its name only when it is complete: it is written under a temporary name
///   in the same folder, hashed, synced and renamed.
/// - `index.json` is replaced atomically, under a lock that other processes of this project
///   respect; entries and members from other programs are kept as they are.
/// - Only regular files are opened. A link in place of a file is not followed, and a pipe or a
///   device is not waited for: all are [`Corrupt`](LayoutErrorKind::Corrupt). Folders may be links,
///   for operators who move `blobs` to another disk.
/// - `oci-layout` is limited to 64 KiB, `index.json` to 256 MiB.
#[derive(Clone, Debug)]
pub struct ImageLayout {
    root: PathBuf,
    gaps: FileSystemGaps,
}

impl ImageLayout {
    /// Opens the layout at `root`.
    ///
    /// # Errors
    ///
    /// [`LayoutErrorKind::NotALayout`] when `oci-layout` is missing, malformed or of a version
    /// other than 1.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let root = root.into();
        let path = root.join("oci-layout");
        let marker = match open_regular(&path) {
            Ok(marker) => read_whole(&path, marker, MAX_MARKER_BYTES)?,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                let reason = "not an OCI image layout: it has no oci-layout file";
                return Err(LayoutError::new(&root, LayoutErrorKind::NotALayout, reason));
            }
            Err(error) => return Err(LayoutError::io(&path, error)),
        };
        let version = serde_json::from_slice::<Value>(&marker)
            .ok()
            .and_then(|marker| {
                marker
                    .get("imageLayoutVersion")?
                    .as_str()
                    .map(str::to_owned)
            });
        match version {
            Some(version) if version.starts_with("1.") => Ok(Self {
                root,
                gaps: FileSystemGaps::default(),
            }),
            Some(version) => Err(LayoutError::new(
                &path,
                LayoutErrorKind::NotALayout,
                format!("image layout version {version:?} is not supported, only 1.x is"),
            )),
            None => Err(LayoutError::new(
                &path,
                LayoutErrorKind::NotALayout,
                "it has no imageLayoutVersion",
            )),
        }
    }

    /// Opens the layout at `root`, creating it if necessary. Temporary files left by a killed run
    /// are removed, unless a running one has locked them.
    ///
    /// # Errors
    ///
    /// When the folder cannot be created or written, contains something other than a layout, or has
    /// an unsupported version.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let root = root.into();
        let gaps = FileSystemGaps::default();
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| LayoutError::io(&path, error)
        };
        if !root.join("oci-layout").exists() {
            fs::create_dir_all(&root).map_err(io(&root))?;
            if !holds_only_leftovers(&root).map_err(io(&root))? {
                let reason =
                    "the folder is neither empty nor an OCI image layout; choose another one";
                return Err(LayoutError::new(&root, LayoutErrorKind::NotALayout, reason));
            }
            let layout = Self {
                root: root.clone(),
                gaps: gaps.clone(),
            };
            layout.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let layout = Self::open(root)?.with_gaps(gaps);
        // The folder of blobs comes last: if it is missing, the run that created the layout was
        // killed.
        let blobs = layout.root.join("blobs");
        if !blobs.exists() {
            let _lock = layout.lock()?;
            if !layout.root.join("index.json").exists() {
                layout.replace("index.json", &index_json(Map::new(), Vec::new()))?;
            }
            let blobs = blobs.join("sha256");
            fs::create_dir_all(&blobs).map_err(io(&blobs))?;
        }
        let blobs = layout.root.join("blobs");
        let algorithms = [Algorithm::Sha256, Algorithm::Sha512];
        let folders = algorithms.map(|algorithm| blobs.join(algorithm.as_str()));
        for folder in [&layout.root, &blobs].into_iter().chain(&folders) {
            remove_leftovers(folder);
        }
        Ok(layout)
    }

    /// Records in `gaps` what the file system cannot do, including what has been met so far.
    #[must_use]
    pub fn with_gaps(mut self, gaps: FileSystemGaps) -> Self {
        gaps.add(&self.gaps);
        self.gaps = gaps;
        self
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of a blob, whether it exists or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.root, digest)
    }

    /// Returns the size of a blob, or `None` if there is no regular file. The content is not
    /// checked.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, LayoutError> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LayoutError::io(&path, error)),
        }
    }

    /// Opens a blob for reading. The content is not checked: wrap it in a
    /// [`VerifyingReader`](crate::VerifyingReader).
    ///
    /// # Errors
    ///
    /// When it does not exist or cannot be read.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, LayoutError> {
        let path = self.blob_path(digest);
        open_regular(&path).map_err(|error| LayoutError::io(&path, error))
    }

    /// Reads a blob of at most `max_bytes` and verifies it.
    ///
    /// # Errors
    ///
    /// When it does not exist, is larger, or does not match its digest.
    pub fn read_blob(&self, digest: &Digest, max_bytes: u64) -> Result<Bytes, LayoutError> {
        let path = self.blob_path(digest);
        let bytes = read_whole(&path, self.open_blob(digest)?, max_bytes)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let verified = digest.verify(hasher);
        verified.map_err(|error| LayoutError::io(&path, error.into()))?;
        Ok(bytes.into())
    }

    /// Stores a blob that is in memory. An existing one is left alone if it has the same bytes, and
    /// replaced otherwise.
    ///
    /// # Errors
    ///
    /// When the bytes do not hash to `digest`, or the file system refuses.
    pub fn write_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), LayoutError> {
        let size = bytes.len() as u64;
        if self.blob_size(digest)? == Some(size) && self.read_blob(digest, size).is_ok() {
            return Ok(());
        }
        let mut writer = self.blob_writer(digest, bytes.len() as u64)?;
        writer.write(bytes)?;
        writer.commit()
    }

    /// Starts a blob of `size` bytes, to be written piece by piece and then
    /// [committed](BlobWriter::commit).
    ///
    /// # Errors
    ///
    /// When the temporary file cannot be created.
    pub fn blob_writer(&self, digest: &Digest, size: u64) -> Result<BlobWriter, LayoutError> {
        BlobWriter::new(self.blob_path(digest), digest, size, self.gaps.clone())
    }

    /// Starts a blob whose digest is only known at the end, as in an upload.
    ///
    /// # Errors
    ///
    /// When the temporary file cannot be created.
    pub fn partial_blob(&self) -> Result<PartialBlob, LayoutError> {
        PartialBlob::new(&self.root, self.gaps.clone())
    }

    /// Removes a blob; it is not an error if it does not exist.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), LayoutError> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LayoutError::io(&path, error))
            }
            _ => Ok(()),
        }
    }

    /// Reads the descriptors that `index.json` lists.
    ///
    /// # Errors
    ///
    /// When `index.json` cannot be read or is malformed.
    pub fn index(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let (_, manifests) = self.read_index()?;
        manifests
            .iter()
            .map(|entry| self.descriptor(entry))
            .collect()
    }

    /// Adds entries to `index.json`. An entry with a `ref.name` replaces the one with that name; an
    /// entry without a name replaces an unnamed one with the same digest.
    ///
    /// # Errors
    ///
    /// When `index.json` cannot be read or replaced; it is then unchanged.
    pub fn add_to_index(&self, entries: &[Descriptor]) -> Result<(), LayoutError> {
        self.edit_index(|descriptors| {
            let mut changes = Vec::new();
            for entry in entries {
                let name = entry.annotations.get(REF_NAME);
                let place = descriptors.iter().position(|old| {
                    let old_name = old.annotations.get(REF_NAME);
                    old_name == name && (name.is_some() || old.digest == entry.digest)
                });
                changes.push((place, entry.clone()));
            }
            IndexEdit {
                changes,
                keep: vec![true; descriptors.len()],
            }
        })
    }

    /// Removes the entries of `index.json` for which `keep` returns `false`.
    ///
    /// # Errors
    ///
    /// When `index.json` cannot be read or replaced; it is then unchanged.
    pub fn retain_in_index(&self, keep: impl Fn(&Descriptor) -> bool) -> Result<(), LayoutError> {
        self.edit_index(|descriptors| IndexEdit {
            changes: Vec::new(),
            keep: descriptors.iter().map(keep).collect(),
        })
    }

    fn edit_index(&self, edit: impl FnOnce(&[Descriptor]) -> IndexEdit) -> Result<(), LayoutError> {
        let _lock = self.lock()?;
        let (document, mut manifests) = self.read_index()?;
        let descriptors = manifests
            .iter()
            .map(|entry| self.descriptor(entry))
            .collect::<Result<Vec<_>, _>>()?;
        let IndexEdit { changes, keep } = edit(&descriptors);
        for (place, entry) in changes {
            let entry = serde_json::to_value(&entry).expect("a descriptor has string keys only");
            match place {
                Some(place) => manifests[place] = entry,
                None => manifests.push(entry),
            }
        }
        let mut keep = keep.into_iter().chain(std::iter::repeat(true));
        manifests.retain(|_| keep.next().unwrap_or(true));
        self.replace("index.json", &index_json(document, manifests))
    }

    fn read_index(&self) -> Result<(Map<String, Value>, Vec<Value>), LayoutError> {
        let path = self.root.join("index.json");
        let file = open_regular(&path).map_err(|error| LayoutError::io(&path, error))?;
        let bytes = read_whole(&path, file, MAX_INDEX_BYTES)?;
        let malformed =
            |reason: String| LayoutError::new(&path, LayoutErrorKind::NotALayout, reason);
        let mut document: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|error| malformed(format!("malformed: {error}")))?;
        match document.remove("manifests") {
            Some(Value::Array(manifests)) => Ok((document, manifests)),
            // Go programs write `null` for an empty list.
            Some(Value::Null) => Ok((document, Vec::new())),
            _ => Err(malformed("malformed: `manifests` is not a list".into())),
        }
    }

    fn descriptor(&self, entry: &Value) -> Result<Descriptor, LayoutError> {
        Descriptor::from_json(&entry.to_string()).map_err(|error| {
            let reason = format!("malformed entry: {error}");
            LayoutError::new(
                &self.root.join("index.json"),
                LayoutErrorKind::NotALayout,
                reason,
            )
        })
    }

    /// Locks `index.json` until the returned file is dropped.
    fn lock(&self) -> Result<File, LayoutError> {
        let path = self.root.join(INDEX_LOCK);
        let lock = open_lock(&path).map_err(|error| LayoutError::io(&path, error))?;
        lock_file(&lock, &path, &self.gaps).map_err(|error| LayoutError::io(&path, error))?;
        Ok(lock)
    }

    /// Replaces a file at the top of the layout atomically.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        let path = self.root.join(name);
        replace_file(&path, bytes, &self.gaps).map_err(|error| LayoutError::io(&path, error))
    }
}

const INDEX_LOCK: &str = ".index.lock";
const MAX_MARKER_BYTES: u64 = 64 << 10;
/// Enough for half a million entries with names.
const MAX_INDEX_BYTES: u64 = 256 << 20;

fn read_whole(path: &Path, file: File, max_bytes: u64) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| LayoutError::io(path, error))?;
    if bytes.len() as u64 > max_bytes {
        let reason = format!("larger than the limit of {max_bytes} bytes");
        return Err(LayoutError::new(path, LayoutErrorKind::TooLarge, reason));
    }
    Ok(bytes)
}

/// Returns whether a folder contains nothing but the leftovers of a run that was killed while it
/// created a layout.
fn holds_only_leftovers(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name != INDEX_LOCK && !name.starts_with(PARTIAL) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct IndexEdit {
    /// Entries to write, each over an old one or at the end.
    changes: Vec<(Option<usize>, Descriptor)>,
    /// Which of the old entries stay.
    keep: Vec<bool>,
}

fn index_json(mut document: Map<String, Value>, manifests: Vec<Value>) -> Vec<u8> {
    document.entry("schemaVersion").or_insert_with(|| 2.into());
    document
        .entry("mediaType")
        .or_insert_with(|| media_type::IMAGE_INDEX.into());
    document.insert("manifests".into(), manifests.into());
    Value::Object(document).to_string().into_bytes()
}

#[cfg(test)]
mod tests;
