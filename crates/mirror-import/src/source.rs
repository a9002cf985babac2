use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bundle_format::{BundleManifest, EntryPath};
use bytes::Bytes;
use oci_content::{Digest, MAX_MANIFEST_BYTES, Manifest};
use registry_client::BlobSource;

use crate::error::{ImportError, ImportErrorKind};
use crate::importer::ImportObserver;
use import_validator::ValidatedBundle;

/// A validated bundle, read again piece by piece. What is read is verified again: the file may have changed since.
#[derive(Clone, Debug)]
pub(crate) struct BundleSource {
    bundle: Arc<ValidatedBundle>,
    left_out: Arc<HashSet<Digest>>,
    observer: Arc<dyn ImportObserver>,
}

impl BundleSource {
    pub(crate) fn new(bundle: Arc<ValidatedBundle>, observer: Arc<dyn ImportObserver>) -> Self {
        let left_out = bundle.manifest().left_out();
        let left_out = left_out.map(|entry| entry.sha256.clone()).collect();
        Self {
            bundle,
            left_out: Arc::new(left_out),
            observer,
        }
    }

    pub(crate) fn validated(&self) -> &ValidatedBundle {
        &self.bundle
    }

    pub(crate) fn manifest(&self) -> &BundleManifest {
        self.bundle.manifest()
    }

    /// Returns the digest of the bundle's `manifest.yaml`.
    pub(crate) fn manifest_digest(&self) -> &Digest {
        self.bundle.manifest_digest()
    }

    /// Returns the key by which the bundle's signature was verified.
    pub(crate) fn signed_by(&self) -> Option<Digest> {
        self.bundle.signed_by()
    }

    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        let entries = &self.bundle.manifest().entries;
        entries.iter().any(|entry| entry.sha256 == *digest)
    }

    /// Returns whether a blob is left out, because the base holds it.
    pub(crate) fn leaves_out(&self, digest: &Digest) -> bool {
        self.left_out.contains(digest)
    }

    /// Reads a manifest.
    pub(crate) fn read_manifest(&self, digest: &Digest) -> Result<Manifest, ImportError> {
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

    pub(crate) fn blob(&self, digest: &Digest) -> BundleBlob {
        BundleBlob {
            bundle: Arc::clone(&self.bundle),
            digest: digest.clone(),
            told: Told {
                observer: Arc::clone(&self.observer),
                bytes: Arc::default(),
            },
        }
    }
}

/// One blob of a bundle, which can be read as often as a transfer needs to begin again. It is compared with its digest by
/// what takes it, an upload or a layout's writer, so it is not hashed a second time here.
#[derive(Debug)]
pub(crate) struct BundleBlob {
    bundle: Arc<ValidatedBundle>,
    digest: Digest,
    told: Told,
}

impl BundleBlob {
    /// Tells the observer of the bytes that were not read because the target had them.
    pub(crate) fn arrived(&self, size: u64) {
        self.told.until(size);
    }
}

impl BlobSource for BundleBlob {
    fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        let path = EntryPath::blob(&self.digest).map_err(std::io::Error::other)?;
        let content = self.bundle.open_unverified(&path)?;
        self.told.start_again();
        Ok(Box::new(ToldReader {
            content,
            told: self.told.clone(),
        }))
    }
}

/// The bytes of one blob that the observer was told of.
#[derive(Clone, Debug)]
struct Told {
    observer: Arc<dyn ImportObserver>,
    bytes: Arc<AtomicU64>,
}

impl Told {
    fn more(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.observer.advanced(bytes);
    }

    fn until(&self, size: u64) {
        self.more(size.saturating_sub(self.bytes.load(Ordering::Relaxed)));
    }

    fn start_again(&self) {
        match self.bytes.swap(0, Ordering::Relaxed) {
            0 => {}
            bytes => self.observer.set_back(bytes),
        }
    }
}

struct ToldReader {
    content: Box<dyn Read + Send>,
    told: Told,
}

impl Read for ToldReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.told.more(count as u64);
        Ok(count)
    }
}
