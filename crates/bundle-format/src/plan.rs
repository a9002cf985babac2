use std::collections::BTreeMap;
use std::sync::Arc;

use oci_content::Digest;

use crate::container::{Container, tar_bytes};
use crate::entry_path::EntryPath;
use crate::manifest::{BundleManifest, ManifestError};

/// The position of every byte of a bundle, computed from its manifest alone.
#[derive(Clone, Debug)]
pub struct BundlePlan {
    container: Container,
    manifest_yaml: Arc<Vec<u8>>,
    signature: Option<Arc<[u8]>>,
    entries: BTreeMap<EntryPath, PlannedEntry>,
    size: u64,
}

/// The position of one file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PlannedEntry {
    /// The size of the file in bytes.
    pub size: u64,
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// Where its part of the container starts, in bytes from the start of the container.
    pub offset: u64,
    /// The number of bytes that its part of the container takes.
    pub stored_bytes: u64,
}

impl BundlePlan {
    /// Lays out the files that `manifest` lists.
    ///
    /// # Errors
    ///
    /// When the manifest cannot be encoded: see [`BundleManifest::to_yaml`].
    pub fn new(manifest: &BundleManifest, container: Container) -> Result<Self, ManifestError> {
        let manifest_yaml = Arc::new(manifest.to_yaml()?);
        Ok(Self::lay_out(manifest, manifest_yaml, None, container))
    }

    /// Lays out the same files with a signature after `manifest.yaml`.
    #[must_use]
    pub fn with_signature(self, signature: impl Into<Arc<[u8]>>) -> Self {
        let files = self
            .entries
            .into_iter()
            .filter(|(path, _)| *path != EntryPath::MANIFEST && *path != EntryPath::SIGNATURE);
        let files = files.map(|(path, entry)| (path, entry.size, entry.sha256));
        Self::place(
            files,
            self.manifest_yaml,
            Some(signature.into()),
            self.container,
        )
    }

    /// Lays out what `manifest` lists; `manifest_yaml` is its encoding.
    pub(crate) fn lay_out(
        manifest: &BundleManifest,
        manifest_yaml: Arc<Vec<u8>>,
        signature: Option<Arc<[u8]>>,
        container: Container,
    ) -> Self {
        let files = manifest.files().into_iter();
        let files = files.map(|(path, file)| (path, file.size, file.sha256));
        Self::place(files, manifest_yaml, signature, container)
    }

    /// Places the files one after the other; they come in the order of the archive.
    fn place(
        files: impl Iterator<Item = (EntryPath, u64, Digest)>,
        manifest_yaml: Arc<Vec<u8>>,
        signature: Option<Arc<[u8]>>,
        container: Container,
    ) -> Self {
        let own = |path, bytes: &[u8]| (path, bytes.len() as u64, Digest::of(bytes));
        let signed = signature
            .as_deref()
            .map(|bytes| own(EntryPath::SIGNATURE, bytes));
        let first = own(EntryPath::MANIFEST, &manifest_yaml);
        let mut offset = container.head_bytes();
        let files = std::iter::once(first).chain(signed).chain(files);
        let place = |(path, size, sha256)| {
            let stored_bytes = container.stored_bytes(tar_bytes(size));
            let entry = PlannedEntry {
                size,
                sha256,
                offset,
                stored_bytes,
            };
            offset += stored_bytes;
            (path, entry)
        };
        // Collected, not inserted: insertion in order would leave the map half empty.
        let entries = files.map(place).collect();
        let size = offset + container.tail_bytes();
        Self {
            container,
            manifest_yaml,
            signature,
            entries,
            size,
        }
    }

    /// Returns how the archive is stored.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Returns the size of the whole bundle in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the exact bytes of `manifest.yaml`.
    pub fn manifest_yaml(&self) -> &[u8] {
        &self.manifest_yaml
    }

    /// Returns the digest of `manifest.yaml`, which stands for the whole bundle.
    pub fn manifest_digest(&self) -> &Digest {
        // Every plan places `manifest.yaml` first.
        &self.entries[&EntryPath::MANIFEST].sha256
    }

    /// Returns the exact bytes of the signature, if there is one.
    pub fn signature(&self) -> Option<&[u8]> {
        self.signature.as_deref()
    }

    /// Returns the position of a file, if the bundle has it.
    pub fn entry(&self, path: &EntryPath) -> Option<&PlannedEntry> {
        self.entries.get(path)
    }

    /// Returns every file, in the order of the archive.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&EntryPath, &PlannedEntry)> {
        self.entries.iter()
    }
}
