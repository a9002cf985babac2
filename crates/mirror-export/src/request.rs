use std::num::NonZeroUsize;
use std::path::PathBuf;

use bundle_format::{BaseBundle, Container, Limits, SigningKey, StreamName, VolumeSize};
use mirror_plan::PlanRequest;
use oci_content::Reference;

/// What to export, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportRequest {
    /// The images, and how their referrers are found. What the [base](Self::base) holds is added to
    /// its [`held`](PlanRequest::held).
    pub plan: PlanRequest,
    /// Whether the bundle is written even if something could not be settled. Not by default.
    pub allow_incomplete: bool,
    /// Whether `index.json` also lists each subject's referrers under a referrers tag. Not by
    /// default.
    pub layout_tags: bool,
    /// The series that the bundle belongs to.
    pub stream: StreamName,
    /// The bundle's place in the series; 0 means that it has none.
    pub sequence: u64,
    /// A bundle that the target has already: the configs, layers and payloads that it holds are
    /// listed and left out.
    pub base: Option<BaseBundle>,
    /// The key that signs the bundle, if it is to be signed.
    pub sign_key: Option<SigningKey>,
    /// The largest `manifest.yaml` that is written, in bytes; by default the default limit of
    /// readers, 128 MiB. The export ends as soon as it has found more than that can list.
    pub max_manifest_bytes: u64,
    /// The number of blobs that are downloaded at once; 16 by default. At most 8 of them are of 1
    /// MiB or more.
    pub max_concurrent_transfers: NonZeroUsize,
}

impl ExportRequest {
    /// Creates a request with the defaults.
    pub fn new(images: Vec<Reference>) -> Self {
        Self {
            plan: PlanRequest::new(images),
            allow_incomplete: false,
            layout_tags: false,
            stream: StreamName::default(),
            sequence: 0,
            base: None,
            sign_key: None,
            max_manifest_bytes: Limits::default().max_manifest_bytes,
            max_concurrent_transfers: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// The file, or the volumes, that a bundle is written to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileOutput {
    /// The path of the bundle: `NAME.tar` is not compressed, any other name is gzip.
    pub path: PathBuf,
    /// The size of the volumes `NAME.tgz.001`, `NAME.tgz.002` and so on; one file by default.
    pub volume_size: Option<VolumeSize>,
    /// Whether an existing bundle is replaced. Not by default.
    pub overwrite: bool,
}

impl FileOutput {
    /// Creates an output of one file, which must not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            volume_size: None,
            overwrite: false,
        }
    }
}

/// A sink of the caller that a bundle is written to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkOutput<S> {
    /// The sink.
    pub sink: S,
    /// How the archive is stored; gzip by default.
    pub container: Container,
    /// Whether an earlier run may have left a part of the bundle in the sink. Not by default. The
    /// sink then has to be one that can be [read back](bundle_format::Sink::read_back).
    pub resumes: bool,
}

impl<S> SinkOutput<S> {
    /// Creates an output for a sink that holds nothing yet.
    pub fn new(sink: S) -> Self {
        Self {
            sink,
            container: Container::TarGz,
            resumes: false,
        }
    }
}
