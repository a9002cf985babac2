use crate::container_error::{ContainerError, ContainerErrorKind};
use crate::entry_path::EntryPath;

/// The bounds within which a bundle is read.
///
/// Start from [`Limits::default`] and set the fields that differ. Nothing is compressed, so no
/// limit on a compression ratio is needed. Exceeding a limit is an error that names it, never a
/// shorter result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Limits {
    /// The size of `manifest.yaml` in bytes. Default 128 MiB.
    pub max_manifest_bytes: u64,
    /// The size of the signature file in bytes. Default 64 KiB.
    pub max_signature_bytes: u64,
    /// The number of files in the bundle. Default 1,000,000.
    pub max_entries: u64,
    /// The size of one file in bytes. Default 1 TiB.
    pub max_entry_bytes: u64,
    /// The size of all files together in bytes. Default 8 TiB.
    pub max_total_bytes: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_manifest_bytes: 128 * MIB,
            max_signature_bytes: 64 * KIB,
            max_entries: 1_000_000,
            max_entry_bytes: TIB,
            max_total_bytes: 8 * TIB,
        }
    }
}

impl Limits {
    /// Checks the size of one file.
    ///
    /// # Errors
    ///
    /// When the size is over the limit for that file:
    /// [`max_manifest_bytes`](Self::max_manifest_bytes),
    /// [`max_signature_bytes`](Self::max_signature_bytes) or
    /// [`max_entry_bytes`](Self::max_entry_bytes).
    pub fn check_entry(&self, path: &EntryPath, size: u64) -> Result<(), ContainerError> {
        let (kind, limit) = match path {
            path if *path == EntryPath::MANIFEST => {
                (ContainerErrorKind::ManifestBytes, self.max_manifest_bytes)
            }
            path if *path == EntryPath::SIGNATURE => {
                (ContainerErrorKind::SignatureBytes, self.max_signature_bytes)
            }
            _ => (ContainerErrorKind::EntryBytes, self.max_entry_bytes),
        };
        if size <= limit {
            return Ok(());
        }
        let reason =
            format!("the size of a file in bytes: {size} is more than the limit of {limit}");
        Err(ContainerError::new(kind, 0, reason).with_path(path.to_string()))
    }
}
