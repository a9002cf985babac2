use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_content::{ArtifactCategory, Completeness, Digest, schema_version_1};
use serde::{Deserialize, Serialize};

use crate::summary::{ExportSummary, ExportedBase, ExportedImage, ExportedVolume};

/// What an export into a file wrote, as a JSON document for programs: version 1 of the form that
/// `docs/json.md` describes.
///
/// It is written and read with `serde`. A document of another version is an error; unknown members
/// are skipped, since members may be added at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ExportDocument {
    /// The version of the form: 1.
    #[serde(deserialize_with = "schema_version_1")]
    pub schema_version: u32,
    /// The path of the bundle.
    pub bundle: PathBuf,
    /// The size of the bundle in bytes.
    pub size: u64,
    /// The digest of the bundle; for volumes, the digest of all volumes concatenated.
    pub sha256: Digest,
    /// The volumes of the bundle, in order; empty if it is one file.
    pub volumes: Vec<ExportedVolume>,
    /// Whether everything could be settled.
    pub status: Completeness,
    /// What a delta leaves to its base; `None` for a bundle without a base.
    pub base: Option<ExportedBase>,
    /// What was found of each image.
    pub images: Vec<ExportedImage>,
    /// How many referrers the bundle holds.
    pub referrers: ExportedReferrers,
}

/// How many referrers a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ExportedReferrers {
    /// Distinct referrers.
    pub total: u64,
    /// Distinct subjects that at least one referrer refers to.
    pub subjects: u64,
    /// Images of the bundle without referrers, on the image itself and on its platform children.
    pub bare_images: u64,
    /// Distinct referrers by category; a category without one is left out.
    pub by_category: BTreeMap<ArtifactCategory, u64>,
}

impl From<&ExportSummary> for ExportDocument {
    fn from(summary: &ExportSummary) -> Self {
        let totals = &summary.manifest.referrers;
        Self {
            schema_version: 1,
            bundle: summary.output.clone(),
            size: summary.size,
            sha256: summary.sha256.clone(),
            volumes: summary.volumes.clone(),
            status: totals.status,
            base: summary.base(),
            images: summary.images.clone(),
            referrers: ExportedReferrers {
                total: totals.total,
                subjects: totals.subjects,
                bare_images: totals.bare_images,
                by_category: totals.by_category.clone(),
            },
        }
    }
}
