use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::sync::Arc;

use bundle_format::{BundleManifest, EntryPath};
use bytes::Bytes;
use oci_content::{Digest, MAX_MANIFEST_BYTES, Manifest};
use registry_client::BlobSource;

use super::error::{ImportError, ImportErrorKind};
use crate::ValidatedBundle;

/// A validated bundle, read again piece by piece. What is read is verified again: the file may have changed since.
#[derive(Clone, Debug)]
pub(super) struct BundleSource {
    bundle: Arc<ValidatedBundle>,
    left_out: Arc<HashSet<Digest>>,
}

impl BundleSource {
    pub(super) fn new(bundle: Arc<ValidatedBundle>) -> Self {
        let left_out = bundle.manifest().left_out();
        let left_out = left_out.map(|entry| entry.sha256.clone()).collect();
        Self {
            bundle,
            left_out: Arc::new(left_out),
        }
    }

    pub(super) fn validated(&self) -> &ValidatedBundle {
        &self.bundle
    }

    pub(super) fn manifest(&self) -> &BundleManifest {
        self.bundle.manifest()
    }

    /// Returns the digest of the bundle's `manifest.yaml`.
    pub(super) fn manifest_digest(&self) -> &Digest {
        self.bundle.manifest_digest()
    }

    /// Returns the key by which the bundle's signature was verified.
    pub(super) fn signed_by(&self) -> Option<Digest> {
        self.bundle.signed_by()
    }

    pub(super) fn holds(&self, digest: &Digest) -> bool {
        let entries = &self.bundle.manifest().entries;
        entries.iter().any(|entry| entry.sha256 == *digest)
    }

    /// Tells whether a blob is left out, because the base holds it.
    pub(super) fn leaves_out(&self, digest: &Digest) -> bool {
        self.left_out.contains(digest)
    }

    /// Reads a manifest.
    pub(super) fn read_manifest(&self, digest: &Digest) -> Result<Manifest, ImportError> {
        let changed = |reason: String| {
            let message =
                format!("{digest} is no longer in the bundle as it was validated: {reason}");
            ImportError::new(ImportErrorKind::Integrity, message)
        };
        let path = EntryPath::blob(digest).map_err(|error| changed(error.to_string()))?;
        let raw = self
            .bundle
            .read(&path, MAX_MANIFEST_BYTES)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidData
                | ErrorKind::NotFound
                | ErrorKind::FileTooLarge
                | ErrorKind::UnexpectedEof => changed(error.to_string()),
                _ => ImportError::new(ImportErrorKind::LocalIo, format!("{path}: {error}")),
            })?;
        Manifest::parse_verified(Bytes::from(raw), digest, None)
            .map_err(|error| changed(error.to_string()))
    }

    pub(super) fn blob(&self, digest: &Digest) -> BundleBlob {
        BundleBlob {
            bundle: Arc::clone(&self.bundle),
            digest: digest.clone(),
        }
    }
}

/// One blob of a bundle, which can be read as often as a transfer needs to begin again. It is compared with its digest by
/// what takes it, an upload or a layout's writer, so it is not hashed a second time here.
#[derive(Debug)]
pub(super) struct BundleBlob {
    bundle: Arc<ValidatedBundle>,
    digest: Digest,
}

impl BlobSource for BundleBlob {
    fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        let path = EntryPath::blob(&self.digest).map_err(std::io::Error::other)?;
        self.bundle.open_unverified(&path)
    }
}
