use std::path::PathBuf;

use bundle_format::{BundleManifest, Checksums, OutputFile, VolumeChecksum};
use mirror_plan::FoundImage;
use oci_content::{Completeness, Digest, DiscoveryMethod, Reference};
use serde::{Deserialize, Serialize};

/// What an export into a file wrote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportSummary {
    /// The path of the bundle.
    pub output: PathBuf,
    /// The size of the bundle in bytes.
    pub size: u64,
    /// The digest of the bundle, as in the checksum file next to it; for volumes, the digest of all
    /// volumes concatenated.
    pub sha256: Digest,
    /// The volumes of the bundle, in order; empty if it is one file.
    pub volumes: Vec<ExportedVolume>,
    /// When each part of the work was finished.
    pub times: ExportTimes,
    /// The bundle's `manifest.yaml`.
    pub manifest: BundleManifest,
    /// What was found of each image.
    pub images: Vec<ExportedImage>,
}

impl ExportSummary {
    /// Returns what is left to the base; `None` for a bundle without a base.
    pub fn base(&self) -> Option<ExportedBase> {
        let mut base = ExportedBase {
            manifest: self.manifest.base.clone()?,
            blobs: 0,
            bytes: 0,
        };
        for entry in self.manifest.left_out() {
            base.blobs += 1;
            base.bytes = base.bytes.saturating_add(entry.size);
        }
        Some(base)
    }
}

/// What a delta leaves out because its base holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportedBase {
    /// The digest of the `manifest.yaml` of the base.
    pub manifest: Digest,
    /// The number of blobs that are left out.
    pub blobs: usize,
    /// The size in bytes of the blobs that are left out.
    pub bytes: u64,
}

/// What an export into a sink of the caller wrote.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkSummary {
    /// The size of the bundle in bytes.
    pub size: u64,
    /// The digest of the bundle; `None` if the sink cannot be [read
    /// back](bundle_format::Sink::read_back).
    pub sha256: Option<Digest>,
    /// When each part of the work was over.
    pub times: ExportTimes,
    /// What the bundle says about itself.
    pub manifest: BundleManifest,
    /// What was found of each image.
    pub images: Vec<ExportedImage>,
}

/// When each part of an export was finished, measured from the start of the export.
///
/// The last two parts run at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExportTimes {
    /// Everything is found, and the bundle planned, in seconds.
    pub planned: f64,
    /// Every blob is downloaded and verified, in seconds.
    pub transferred: f64,
    /// The SHA-256 of the bundle is known, in seconds.
    pub checksum: f64,
    /// The bundle is on the disk, in seconds.
    pub synced: f64,
}

/// A volume of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportedVolume {
    /// The path of the volume.
    #[serde(rename = "file")]
    pub path: PathBuf,
    /// The size of the volume in bytes.
    pub size: u64,
    /// The digest of the volume, as in the checksum file next to it.
    pub sha256: Digest,
}

/// What was found of one image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportedImage {
    /// The image.
    pub reference: Reference,
    /// Its digest.
    pub digest: Digest,
    /// The referrers of the image and its children, at every level.
    pub referrers: usize,
    /// How the image's own referrers were found.
    pub method: DiscoveryMethod,
    /// Whether everything could be settled.
    pub status: Completeness,
}

impl From<&FoundImage> for ExportedImage {
    fn from(image: &FoundImage) -> Self {
        let graph = image.graph();
        let root = graph.report(image.digest());
        Self {
            reference: image.reference().clone(),
            digest: image.digest().clone(),
            referrers: graph.referrers.len(),
            method: root.map_or(DiscoveryMethod::FallbackTag, |report| report.method),
            status: graph.status(),
        }
    }
}

pub(crate) fn exported_volumes(output: &OutputFile, checksums: &Checksums) -> Vec<ExportedVolume> {
    let volume = |volume: &VolumeChecksum| ExportedVolume {
        path: output.volume_path(volume.number),
        size: volume.size,
        sha256: volume.sha256.clone(),
    };
    checksums.volumes.iter().map(volume).collect()
}
