use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use oci_content::{Digest, Hasher, ImageLayout, LayoutError, LayoutErrorKind, MAX_MANIFEST_BYTES};

use crate::store::{Blob, StoreError, StoreErrorKind};

/// The largest file, in bytes, that is read and hashed at each request. Larger ones are hashed once
/// for each state.
const SMALL_BYTES: u64 = 256 * 1024;

/// Identifies a state of a file. Programs cannot set the change time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            seconds: metadata.ctime(),
            nanoseconds: metadata.ctime_nsec(),
        }
    }

    fn of_file(file: &File) -> Result<Self, StoreError> {
        Ok(Self::of(&file.metadata().map_err(StoreError::failed)?))
    }
}

/// The blobs of a layout that matched their digests, each with the state in which it did.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// An entry is locked while its file is hashed, so that concurrent requests hash it once.
    files: Mutex<HashMap<Digest, Arc<Mutex<Option<Stamp>>>>>,
}

impl Checked {
    /// Opens a blob and verifies its digest; `None` when it is not there.
    pub(crate) fn open(
        &self,
        layout: &ImageLayout,
        digest: &Digest,
    ) -> Result<Option<Blob>, StoreError> {
        let mut file = match layout.open_blob(digest) {
            Ok(file) => file,
            Err(error) if error.kind() == LayoutErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(digest, error)),
        };
        let stamp = Stamp::of_file(&file)?;
        if stamp.size <= SMALL_BYTES {
            let mut bytes = Vec::new();
            file.take(SMALL_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(StoreError::failed)?;
            return if digest.matches(&bytes) {
                Ok(Some(Blob::from_bytes(bytes.into())))
            } else {
                Err(damaged(digest))
            };
        }
        let entry = self.entry(digest);
        let mut known = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != Some(stamp) {
            *known = None;
            let mut hasher = Hasher::new(digest.algorithm());
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let count = file.read(&mut buffer).map_err(StoreError::failed)?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
            }
            if hasher.finish() != *digest || Stamp::of_file(&file)? != stamp {
                return Err(damaged(digest));
            }
            *known = Some(stamp);
        }
        Ok(Some(Blob::from_file(file, stamp.size)))
    }

    /// Records a file that this process has just hashed and named.
    pub(crate) fn wrote(&self, digest: &Digest, file: &File) {
        if let Ok(stamp) = Stamp::of_file(file)
            && stamp.size > SMALL_BYTES
        {
            let entry = self.entry(digest);
            *entry.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
        }
    }

    pub(crate) fn forget(&self, digest: &Digest) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(digest);
    }

    fn entry(&self, digest: &Digest) -> Arc<Mutex<Option<Stamp>>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(files.entry(digest.clone()).or_default())
    }
}

fn damaged(digest: &Digest) -> StoreError {
    let reason = format!("the bytes stored as {digest} do not match it; push it again");
    StoreError::new(StoreErrorKind::Damaged, reason)
}

/// What a layout has under the digest of a manifest.
pub(crate) enum Kept {
    /// Bytes that hash to the digest.
    Bytes(Bytes),
    /// More bytes than a manifest may have, so something else.
    TooLarge,
    Absent,
}

/// Reads the bytes of a manifest; an error when they do not match the digest.
pub(crate) fn read_manifest(layout: &ImageLayout, digest: &Digest) -> Result<Kept, StoreError> {
    match layout.read_blob(digest, MAX_MANIFEST_BYTES) {
        Ok(bytes) => Ok(Kept::Bytes(bytes)),
        Err(error) => match error.kind() {
            LayoutErrorKind::NotFound => Ok(Kept::Absent),
            LayoutErrorKind::TooLarge => Ok(Kept::TooLarge),
            _ => Err(unreadable(digest, error)),
        },
    }
}

/// Turns a failed read into an error that says whether the file is damaged or the file system
/// failed.
fn unreadable(digest: &Digest, error: LayoutError) -> StoreError {
    match error.kind() {
        LayoutErrorKind::Corrupt => damaged(digest),
        _ => StoreError::failed(error),
    }
}
