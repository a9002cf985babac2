use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use async_trait::async_trait;
use bundle_format::{EntryPath, StreamName};
use bytes::Bytes;
use import_validator::{Finding, ValidatedBundle};
use oci_content::{
    Completeness, Digest, MAX_MANIFEST_BYTES, Manifest, MirrorGraph, SourceRepository,
};
use registry_client::{BlobSource, BlobStream, read_blob};

use crate::error::{ImportError, ImportErrorKind};

/// Where a graph and its objects come from.
///
/// # Contract
///
/// - The [graph](Self::graph) never changes, and everything in it that is not [left
///   out](Self::leaves_out) can be read: each image and each referrer with everything that it
///   lists, unless the image's record says that it is omitted.
/// - Content matches its digest, or reading it is an error: the source verifies manifests, the
///   target verifies blobs.
/// - Objects are read in any order, several at once, and more than once.
/// - Dropping a future has no effect on later reads.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// Returns the graph to put into a target.
    fn graph(&self) -> &MirrorGraph;

    /// Returns where the graph comes from, for the report and the ledger.
    fn provenance(&self) -> Provenance;

    /// Returns whether the source has an object.
    fn holds(&self, digest: &Digest) -> bool;

    /// Returns whether a blob is left out because an earlier import brought it to the target. By
    /// default nothing is left out.
    fn leaves_out(&self, digest: &Digest) -> bool {
        let _ = digest;
        false
    }

    /// Returns the repositories that a blob comes from. A target that is the same registry mounts
    /// it from there. By default there is none.
    fn repositories_with(&self, digest: &Digest) -> Vec<SourceRepository> {
        let _ = digest;
        Vec::new()
    }

    /// Reads and verifies a manifest.
    ///
    /// # Errors
    ///
    /// When the manifest cannot be read ([`ImportErrorKind::LocalIo`],
    /// [`Network`](ImportErrorKind::Network)), or does not match its digest
    /// ([`Integrity`](ImportErrorKind::Integrity)).
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ImportError>;

    /// Returns a blob, which can be read again each time a transfer starts over. It is opened when
    /// it is sent.
    fn blob(&self, digest: &Digest) -> Arc<dyn BlobSource>;
}

/// Where a graph comes from, as the receipt records it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Provenance {
    /// The digest that stands for the whole source, such as that of a bundle's `manifest.yaml`.
    pub manifest: Option<Digest>,
    /// The key that verified a signature over the source, as the SHA-256 of its DER form.
    pub signed_by: Option<Digest>,
    /// The series that the source belongs to.
    pub stream: StreamName,
    /// The place of the source in the series; 0 means that it has none.
    pub sequence: u64,
    /// The digest of the `manifest.yaml` of the bundle that a delta is based on.
    pub base: Option<Digest>,
    /// Whether every question about referrers was settled.
    pub status: Completeness,
    /// The warnings of the source's validation.
    pub warnings: Vec<Finding>,
    /// The number of warnings that are not listed.
    pub warnings_omitted: u64,
}

impl Default for Provenance {
    fn default() -> Self {
        Self {
            manifest: None,
            signed_by: None,
            stream: StreamName::default(),
            sequence: 0,
            base: None,
            status: Completeness::Complete,
            warnings: Vec::new(),
            warnings_omitted: 0,
        }
    }
}

#[async_trait]
impl Source for ValidatedBundle {
    fn graph(&self) -> &MirrorGraph {
        &self.manifest().graph
    }

    fn provenance(&self) -> Provenance {
        let manifest = self.manifest();
        Provenance {
            manifest: Some(self.manifest_digest().clone()),
            signed_by: self.signed_by(),
            stream: manifest.stream.clone(),
            sequence: manifest.sequence,
            base: manifest.base.clone(),
            status: manifest.referrers.status,
            warnings: self.warnings().to_vec(),
            warnings_omitted: self.warnings_omitted(),
        }
    }

    fn holds(&self, digest: &Digest) -> bool {
        let path = EntryPath::blob(digest);
        path.is_ok_and(|path| self.manifest().file(&path).is_some())
    }

    fn leaves_out(&self, digest: &Digest) -> bool {
        let path = EntryPath::blob(digest);
        path.is_ok_and(|path| self.manifest().leaves_out(&path))
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ImportError> {
        let changed = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("{digest} is no longer in the bundle as it was validated");
            ImportError::caused(ImportErrorKind::Integrity, message, cause)
        };
        let path = EntryPath::blob(digest).map_err(|error| changed(error.into()))?;
        let raw = self
            .read(&path, MAX_MANIFEST_BYTES)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidData
                | ErrorKind::NotFound
                | ErrorKind::FileTooLarge
                | ErrorKind::UnexpectedEof => changed(error.into()),
                _ => ImportError::caused(ImportErrorKind::LocalIo, path.to_string(), error),
            })?;
        Manifest::parse_verified(Bytes::from(raw), digest, None)
            .map_err(|error| changed(error.into()))
    }

    fn blob(&self, digest: &Digest) -> Arc<dyn BlobSource> {
        Arc::new(BundleBlob {
            bundle: self.clone(),
            digest: digest.clone(),
        })
    }
}

/// A blob of a bundle. The upload or the layout's writer that takes it compares it with its digest,
/// so it is not hashed a second time here.
struct BundleBlob {
    bundle: ValidatedBundle,
    digest: Digest,
}

#[async_trait]
impl BlobSource for BundleBlob {
    async fn open(&self, from: u64) -> io::Result<BlobStream> {
        let path = EntryPath::blob(&self.digest).map_err(io::Error::other)?;
        Ok(read_blob(self.bundle.open_unverified(&path)?, from))
    }
}
