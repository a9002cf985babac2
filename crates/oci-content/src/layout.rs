use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::descriptor::Descriptor;
use crate::digest::{Algorithm, Digest, Hasher, VerifyError};
use crate::durable::{
    PARTIAL, lock as lock_file, open_lock, open_regular, partial_file, publish, remove_leftovers,
    replace_file,
};
use crate::media_type;

/// The annotation that names an entry of `index.json`:
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md#indexjson-file>
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An OCI image layout folder: `oci-layout`, `index.json` and `blobs/`.
///
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>
///
/// - A blob appears under its name only when it is whole: it is written under a temporary name in the same
///   folder, hashed, synced and renamed.
/// - `index.json` is replaced in one step, under a lock that other processes of this project take too; entries
///   and members that somebody else wrote are kept as they are.
/// - Only regular files are opened. A link at the place of a file is not followed, and a pipe or a device is not
///   waited for: both are [`Corrupt`](LayoutErrorKind::Corrupt). Folders may be links, as an operator makes them who
///   moves `blobs` to another disk.
/// - `oci-layout` may have 64 KiB, `index.json` 256 MiB.
#[derive(Clone, Debug)]
pub struct ImageLayout {
    root: PathBuf,
}

/// A failure to use a layout folder.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct LayoutError {
    path: PathBuf,
    kind: LayoutErrorKind,
    reason: String,
    source: Option<io::Error>,
}

/// The classes of [`LayoutError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutErrorKind {
    /// The folder is not an OCI image layout, or one of a later version.
    NotALayout,
    /// There is no such blob.
    NotFound,
    /// The blob is there with other bytes than its name says, or what has the name of a file is not a regular one.
    Corrupt,
    /// The blob is larger than the caller's limit, or a file of the layout than its own.
    TooLarge,
    /// The file system refused: space, permission, or a device error.
    Io,
}

impl LayoutError {
    fn new(path: &Path, kind: LayoutErrorKind, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            reason: reason.into(),
            source: None,
        }
    }

    fn io(path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => LayoutErrorKind::NotFound,
            io::ErrorKind::InvalidData => LayoutErrorKind::Corrupt,
            _ => LayoutErrorKind::Io,
        };
        Self {
            path: path.to_owned(),
            kind,
            reason: source.to_string(),
            source: Some(source),
        }
    }

    /// Returns the class.
    pub fn kind(&self) -> LayoutErrorKind {
        self.kind
    }
}

impl ImageLayout {
    /// Opens the layout at `root`.
    ///
    /// # Errors
    ///
    /// [`LayoutErrorKind::NotALayout`] when `oci-layout` is missing, unreadable or of another version than 1.
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
            Some(version) if version.starts_with("1.") => Ok(Self { root }),
            Some(version) => Err(LayoutError::new(
                &path,
                LayoutErrorKind::NotALayout,
                format!("image layout version {version:?} is not supported, only 1.x is"),
            )),
            None => Err(LayoutError::new(
                &path,
                LayoutErrorKind::NotALayout,
                "it names no imageLayoutVersion",
            )),
        }
    }

    /// Opens the layout at `root`, creating it where there is none. Temporary files that a killed run left, and that no
    /// running one holds, are removed.
    ///
    /// # Errors
    ///
    /// When the folder cannot be created or written, holds something else than a layout, or is of another version.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let root = root.into();
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| LayoutError::io(&path, error)
        };
        if !root.join("oci-layout").exists() {
            fs::create_dir_all(&root).map_err(io(&root))?;
            if !holds_only_leftovers(&root).map_err(io(&root))? {
                let reason = "the folder is not empty and is no OCI image layout; name another one";
                return Err(LayoutError::new(&root, LayoutErrorKind::NotALayout, reason));
            }
            let layout = Self { root: root.clone() };
            layout.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let layout = Self::open(root)?;
        // The folder of blobs comes last: where it is missing, a run was killed before its end.
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

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("blobs")
            .join(digest.algorithm().as_str())
            .join(digest.encoded())
    }

    /// Returns the size of a blob, or `None` when no regular file is there. The content is not checked.
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
    /// When it is not there or cannot be read.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, LayoutError> {
        let path = self.blob_path(digest);
        open_regular(&path).map_err(|error| LayoutError::io(&path, error))
    }

    /// Reads a whole blob of at most `max_bytes` and checks that it is the one.
    ///
    /// # Errors
    ///
    /// When it is not there, larger, or holds other bytes than its name says.
    pub fn read_blob(&self, digest: &Digest, max_bytes: u64) -> Result<Bytes, LayoutError> {
        let path = self.blob_path(digest);
        let bytes = read_whole(&path, self.open_blob(digest)?, max_bytes)?;
        if !digest.matches(&bytes) {
            let reason = format!(
                "its bytes hash to {}",
                Digest::compute(digest.algorithm(), &bytes)
            );
            return Err(LayoutError::new(&path, LayoutErrorKind::Corrupt, reason));
        }
        Ok(bytes.into())
    }

    /// Stores a blob that is in memory. One that is there is left alone if it has the same bytes, and replaced otherwise.
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

    /// Starts a blob of `size` bytes, to be written piece by piece and then [committed](BlobWriter::commit).
    ///
    /// # Errors
    ///
    /// When the temporary file cannot be created.
    pub fn blob_writer(&self, digest: &Digest, size: u64) -> Result<BlobWriter, LayoutError> {
        let path = self.blob_path(digest);
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        fs::create_dir_all(&folder).map_err(|error| LayoutError::io(&folder, error))?;
        let file = partial_file(&folder).map_err(|error| LayoutError::io(&folder, error))?;
        let hasher = Hasher::new(digest.algorithm());
        Ok(BlobWriter {
            file,
            path,
            hasher,
            digest: digest.clone(),
            size,
            written: 0,
        })
    }

    /// Starts a blob whose digest is named at its end only, as an upload is.
    ///
    /// # Errors
    ///
    /// When the temporary file cannot be created.
    pub fn partial_blob(&self) -> Result<PartialBlob, LayoutError> {
        // On the file system of the blobs, so that the finished one only has to be renamed.
        let folder = self.root.join("blobs");
        let file = partial_file(&folder).map_err(|error| LayoutError::io(&folder, error))?;
        Ok(PartialBlob {
            layout: self.clone(),
            file,
            hasher: Hasher::new(Algorithm::Sha256),
            written: 0,
        })
    }

    /// Removes a blob; one that is not there is no error.
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

    /// Adds entries to `index.json`. An entry with a `ref.name` takes the place of the one that has the name; an
    /// entry without one takes the place of an unnamed one with the same digest.
    ///
    /// # Errors
    ///
    /// When `index.json` cannot be read or replaced; it is then as it was.
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

    /// Removes from `index.json` what `keep` refuses.
    ///
    /// # Errors
    ///
    /// When `index.json` cannot be read or replaced; it is then as it was.
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
            // What Go programs write for an empty list.
            Some(Value::Null) => Ok((document, Vec::new())),
            _ => Err(malformed("malformed: `manifests` is no list".into())),
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

    /// Takes the lock of `index.json`, until the file is dropped.
    fn lock(&self) -> Result<File, LayoutError> {
        let path = self.root.join(INDEX_LOCK);
        let lock = open_lock(&path).map_err(|error| LayoutError::io(&path, error))?;
        lock_file(&lock, &path).map_err(|error| LayoutError::io(&path, error))?;
        Ok(lock)
    }

    /// Replaces a file at the top of the layout in one step.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        let path = self.root.join(name);
        replace_file(&path, bytes).map_err(|error| LayoutError::io(&path, error))
    }
}

const INDEX_LOCK: &str = ".index.lock";
const MAX_MARKER_BYTES: u64 = 64 << 10;
/// Half a million entries, each with a name.
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

/// Returns whether a folder holds nothing but what a run leaves that is killed while it makes a layout.
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
    /// Entries to write, each over an old one or behind the last.
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

/// A blob of a layout while it is being written; dropped before [`commit`](Self::commit), it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    file: tempfile::NamedTempFile,
    path: PathBuf,
    hasher: Hasher,
    digest: Digest,
    size: u64,
    written: u64,
}

impl BlobWriter {
    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// When more bytes come than were announced, or the file system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.written += bytes.len() as u64;
        if self.written > self.size {
            return Err(self.corrupt(VerifyError::Size {
                digest: self.digest.clone(),
                expected: self.size,
                found: self.written,
            }));
        }
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(|error| LayoutError::io(&self.path, error))
    }

    /// Checks what was written and gives it its name.
    ///
    /// # Errors
    ///
    /// When size or digest are not the announced ones, or the file system refuses; nothing is left then.
    pub fn commit(self) -> Result<(), LayoutError> {
        if self.written != self.size {
            return Err(self.corrupt(VerifyError::Size {
                digest: self.digest.clone(),
                expected: self.size,
                found: self.written,
            }));
        }
        let found = self.hasher.clone().finish();
        if found != self.digest {
            return Err(self.corrupt(VerifyError::Digest {
                expected: self.digest.clone(),
                found,
            }));
        }
        publish(self.file, &self.path)
            .map(drop)
            .map_err(|error| LayoutError::io(&self.path, error))
    }

    fn corrupt(&self, error: VerifyError) -> LayoutError {
        LayoutError::new(&self.path, LayoutErrorKind::Corrupt, error.to_string())
    }
}

/// A blob of a layout that is being written before its digest is known; dropped before [`commit`](Self::commit), it
/// leaves nothing.
#[derive(Debug)]
pub struct PartialBlob {
    layout: ImageLayout,
    file: tempfile::NamedTempFile,
    hasher: Hasher,
    written: u64,
}

impl PartialBlob {
    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.file
            .write_all(bytes)
            .map_err(|error| LayoutError::io(self.file.path(), error))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Returns how many bytes have been added.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Checks what was written, gives it the name of its digest, and returns the file. Whatever has that name is
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`LayoutErrorKind::Corrupt`] when the bytes do not hash to `digest`, or when the file system refuses; nothing is
    /// left then.
    pub fn commit(self, digest: &Digest) -> Result<File, LayoutError> {
        let path = self.layout.blob_path(digest);
        let io = |error| LayoutError::io(&path, error);
        let found = match digest.algorithm() {
            Algorithm::Sha256 => self.hasher.finish(),
            // Named at the end only, so the bytes are read once more.
            other => hash_file(self.file.reopen().map_err(io)?, other).map_err(io)?,
        };
        if found != *digest {
            let reason = format!("{digest} was announced, the bytes hash to {found}");
            return Err(LayoutError::new(&path, LayoutErrorKind::Corrupt, reason));
        }
        let folder = path.parent().unwrap_or(&self.layout.root);
        fs::create_dir_all(folder).map_err(io)?;
        publish(self.file, &path).map_err(io)
    }
}

fn hash_file(mut file: File, algorithm: Algorithm) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, ImageLayout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = ImageLayout::create(folder.path().join("store")).unwrap();
        (folder, layout)
    }

    #[test]
    fn a_blob_is_there_whole_or_not_at_all() {
        let (_folder, layout) = layout();
        let digest = Digest::of(b"hello");
        let mut short = layout.blob_writer(&digest, 5).unwrap();
        short.write(b"hell").unwrap();
        assert_eq!(short.commit().unwrap_err().kind(), LayoutErrorKind::Corrupt);
        let mut other = layout.blob_writer(&digest, 5).unwrap();
        other.write(b"hallo").unwrap();
        assert_eq!(other.commit().unwrap_err().kind(), LayoutErrorKind::Corrupt);
        let mut long = layout.blob_writer(&digest, 5).unwrap();
        assert_eq!(
            long.write(b"hello!").unwrap_err().kind(),
            LayoutErrorKind::Corrupt
        );
        drop(long);
        let blobs = layout.blob_path(&digest).parent().unwrap().to_owned();
        assert_eq!(fs::read_dir(&blobs).unwrap().count(), 0);
        layout.write_blob(&digest, b"hello").unwrap();
        assert_eq!(layout.read_blob(&digest, 5).unwrap(), "hello");
        assert_eq!(
            layout.read_blob(&digest, 4).unwrap_err().kind(),
            LayoutErrorKind::TooLarge
        );
        fs::write(layout.blob_path(&digest), b"hallo").unwrap();
        assert_eq!(
            layout.read_blob(&digest, 5).unwrap_err().kind(),
            LayoutErrorKind::Corrupt
        );
    }

    #[test]
    fn an_index_with_null_for_its_entries_is_an_empty_one() {
        let (_folder, layout) = layout();
        let null = r#"{"schemaVersion":2,"manifests":null}"#;
        fs::write(layout.root().join("index.json"), null).unwrap();
        assert!(layout.index().unwrap().is_empty());
        let added = Descriptor::of(media_type::IMAGE_MANIFEST, b"one");
        layout.add_to_index(std::slice::from_ref(&added)).unwrap();
        assert_eq!(layout.index().unwrap(), [added]);
        for other in [r#"{"schemaVersion":2}"#, r#"{"manifests":{}}"#, "null"] {
            fs::write(layout.root().join("index.json"), other).unwrap();
            assert!(layout.index().is_err(), "{other}");
        }
    }

    #[test]
    fn an_index_entry_takes_the_place_of_its_name_and_others_stay_as_they_are() {
        let (_folder, layout) = layout();
        let named = |name: &str, bytes: &[u8]| {
            let mut descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, bytes);
            descriptor.annotations.insert(REF_NAME.into(), name.into());
            descriptor
        };
        let foreign = format!(
            r#"{{"schemaVersion":2,"x-own":1,"manifests":[{{"mediaType":"a/b","digest":"{}","size":1,"x-other":[1]}}]}}"#,
            Digest::of(b"f")
        );
        fs::write(layout.root().join("index.json"), foreign).unwrap();
        layout
            .add_to_index(&[named("1.0", b"one"), named("2.0", b"two")])
            .unwrap();
        layout.add_to_index(&[named("1.0", b"three")]).unwrap();
        let digests: Vec<_> = layout
            .index()
            .unwrap()
            .into_iter()
            .map(|d| d.digest)
            .collect();
        assert_eq!(
            digests,
            [Digest::of(b"f"), Digest::of(b"three"), Digest::of(b"two")]
        );
        let text = fs::read_to_string(layout.root().join("index.json")).unwrap();
        assert!(
            text.contains(r#""x-own":1"#) && text.contains(r#""x-other":[1]"#),
            "{text}"
        );
        layout
            .retain_in_index(|d| d.digest != Digest::of(b"three"))
            .unwrap();
        assert_eq!(layout.index().unwrap().len(), 2);
    }

    #[test]
    fn what_a_killed_creation_left_is_taken_over() {
        const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
        for left in [
            &[(".partial-x", "{")][..],
            &[(".index.lock", "")],
            &[("oci-layout", LAYOUT), (".partial-x", "{")],
            &[
                ("oci-layout", LAYOUT),
                ("index.json", r#"{"schemaVersion":2,"manifests":[]}"#),
            ],
        ] {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in left {
                fs::write(folder.path().join(name), text).unwrap();
            }
            let layout = ImageLayout::create(folder.path()).unwrap();
            assert_eq!(layout.index().unwrap(), Vec::new(), "{left:?}");
            let mut writer = layout.blob_writer(&Digest::of(b"x"), 1).unwrap();
            writer.write(b"x").unwrap();
            writer.commit().unwrap();
        }
        // An index that is lost is not one that was never there.
        let (_folder, layout) = layout();
        fs::remove_file(layout.root().join("index.json")).unwrap();
        assert!(ImageLayout::create(layout.root()).is_ok());
        assert!(layout.index().is_err());
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_no_layout() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("letter.txt"), "x").unwrap();
        let error = ImageLayout::create(folder.path()).unwrap_err();
        assert_eq!(error.kind(), LayoutErrorKind::NotALayout);
        assert_eq!(
            ImageLayout::open(folder.path()).unwrap_err().kind(),
            LayoutErrorKind::NotALayout
        );
        fs::write(
            folder.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"2.0.0"}"#,
        )
        .unwrap();
        assert!(
            ImageLayout::open(folder.path())
                .unwrap_err()
                .to_string()
                .contains("\"2.0.0\" is not supported")
        );
    }

    #[test]
    fn a_link_or_a_pipe_at_the_place_of_a_file_is_not_opened_and_its_target_is_untouched() {
        use std::os::unix::fs::symlink;
        let digest = Digest::of(b"hello");
        let pipe = |path: &Path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        };
        let entry = Descriptor::of(media_type::IMAGE_MANIFEST, b"hello");
        for name in ["oci-layout", "index.json", ".index.lock", "blob"] {
            for linked in [true, false] {
                let (folder, layout) = layout();
                let target = folder.path().join("target");
                fs::write(&target, "hello").unwrap();
                let path = match name {
                    "blob" => layout.blob_path(&digest),
                    name => layout.root().join(name),
                };
                fs::remove_file(&path).ok();
                match linked {
                    true => symlink(&target, &path).unwrap(),
                    false => pipe(&path),
                }
                let refused = match name {
                    "oci-layout" => ImageLayout::open(layout.root()).unwrap_err(),
                    "index.json" => layout.index().unwrap_err(),
                    "blob" => layout.open_blob(&digest).unwrap_err(),
                    _ => layout
                        .add_to_index(std::slice::from_ref(&entry))
                        .unwrap_err(),
                };
                assert_eq!(
                    refused.kind(),
                    LayoutErrorKind::Corrupt,
                    "{name}: {refused}"
                );
                assert_eq!(layout.blob_size(&digest).unwrap(), None);
                // A write replaces what has the name of the blob, never what the link leads to.
                layout.write_blob(&digest, b"hello").unwrap();
                assert_eq!(layout.read_blob(&digest, 5).unwrap(), "hello");
                assert_eq!(fs::read(&target).unwrap(), b"hello");
            }
        }
    }

    #[test]
    fn a_blob_with_other_bytes_of_the_same_size_is_replaced() {
        let (_folder, layout) = layout();
        let digest = Digest::of(b"hello");
        for damaged in [&b"hallo"[..], b"hell", b""] {
            fs::write(layout.blob_path(&digest), damaged).unwrap();
            layout.write_blob(&digest, b"hello").unwrap();
            assert_eq!(layout.read_blob(&digest, 5).unwrap(), "hello");
        }
    }

    #[test]
    fn what_killed_runs_left_is_removed_and_what_running_ones_write_is_not() {
        let (_folder, layout) = layout();
        let digest = Digest::of(b"hello");
        let mut writer = layout.blob_writer(&digest, 5).unwrap();
        let mut partial = layout.partial_blob().unwrap();
        let blobs = layout.root().join("blobs");
        let places = [
            layout.root().to_owned(),
            blobs.clone(),
            blobs.join("sha256"),
        ];
        for place in &places {
            fs::write(place.join(".partial-left"), "he").unwrap();
            fs::write(place.join("partial-other"), "he").unwrap();
        }
        ImageLayout::create(layout.root()).unwrap();
        for place in &places {
            assert!(!place.join(".partial-left").exists(), "{place:?}");
            assert!(place.join("partial-other").exists(), "{place:?}");
        }
        writer.write(b"hello").unwrap();
        writer.commit().unwrap();
        partial.write(b"hello").unwrap();
        partial.commit(&digest).unwrap();
        assert_eq!(layout.read_blob(&digest, 5).unwrap(), "hello");
        let hidden = |place: &Path| {
            let entries = fs::read_dir(place).unwrap();
            entries
                .filter(|entry| {
                    let name = entry.as_ref().unwrap().file_name();
                    name.to_string_lossy().starts_with(PARTIAL)
                })
                .count()
        };
        assert_eq!(places.map(|place| hidden(&place)), [0, 0, 0]);
    }
}
