use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bundle_format::{BaseBundle, Limits, SigningKey, StreamName, VolumeSize};
use oci_content::{Capability, Platform, Reference, Registry};
use oci_referrers::{LegacyTags, Policy};

/// What to export, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportRequest {
    /// The images.
    pub images: Vec<Reference>,
    /// The bundle to write: `NAME.tar` is not compressed, any other name is gzip.
    pub output: PathBuf,
    /// Write the bundle in volumes `NAME.tgz.001`, `NAME.tgz.002` and so on of this size; in one file by default.
    pub volume_size: Option<VolumeSize>,
    /// Replace the bundle if it exists.
    pub overwrite: bool,
    /// The platforms to carry; all when empty.
    pub platforms: Vec<Platform>,
    /// Write the bundle even where something could not be settled.
    pub allow_incomplete: bool,
    /// Artifact types that every image must have a referrer of.
    pub require_artifact_types: Vec<String>,
    /// What the images have to have before anything is written, and the time from which ages count.
    pub policy: Option<(Policy, SystemTime)>,
    /// List each subject's referrers under a referrers tag in `index.json` too.
    pub layout_tags: bool,
    /// The series that the bundle belongs to.
    pub stream: StreamName,
    /// The bundle's place in the series; 0 is no place.
    pub sequence: u64,
    /// The bundle that the target has already: what it holds of configs, layers and payloads is listed and left out.
    pub base: Option<BaseBundle>,
    /// The key that signs the bundle, if it is to be signed.
    pub sign_key: Option<SigningKey>,
    /// The legacy tags to look for.
    pub legacy_tags: LegacyTags,
    /// Time for everything that is asked about one image before its blobs: the probe of its registry, what its reference
    /// leads to, and the discovery of its referrers; 120 s by default.
    pub discovery_timeout: Duration,
    /// The largest `manifest.yaml` that is written, in bytes; by default what readers take by theirs, 128 MiB. As soon as more
    /// has been found than that can list, the export ends.
    pub max_manifest_bytes: u64,
    /// Images whose referrers are discovered at once; 4 by default.
    pub max_concurrent_discoveries: NonZeroUsize,
    /// Blobs that are downloaded at once; 16 by default. No more than 8 of them are of 1 MiB or more.
    pub max_concurrent_transfers: NonZeroUsize,
    /// What is configured about the referrers API of some registries.
    pub configured: BTreeMap<Registry, Capability>,
}

impl ExportRequest {
    /// Creates a request with the defaults.
    pub fn new(images: Vec<Reference>, output: impl Into<PathBuf>) -> Self {
        let nonzero = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        Self {
            images,
            output: output.into(),
            volume_size: None,
            overwrite: false,
            platforms: Vec::new(),
            allow_incomplete: false,
            require_artifact_types: Vec::new(),
            policy: None,
            layout_tags: false,
            stream: StreamName::default(),
            sequence: 0,
            base: None,
            sign_key: None,
            legacy_tags: LegacyTags::All,
            discovery_timeout: Duration::from_secs(120),
            max_manifest_bytes: Limits::default().max_manifest_bytes,
            max_concurrent_discoveries: nonzero(4),
            max_concurrent_transfers: nonzero(16),
            configured: BTreeMap::new(),
        }
    }
}
