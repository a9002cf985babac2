use std::time::SystemTime;

use oci_content::{ArtifactCategory, Digest, Reference, media_type};

use super::date::created;
use crate::graph::ReferrerGraph;
use crate::image::ImageTree;

/// The images that a policy judges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JudgedBundle {
    /// The images, each with all its referrers.
    pub images: Vec<JudgedImage>,
    /// Whether the bundle itself is signed by a key that the caller trusts.
    pub signed: bool,
}

/// An image as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JudgedImage {
    /// The reference that was asked for.
    pub reference: Reference,
    /// The registry and repository that it is imported into; `None` if that is not known.
    pub target: Option<String>,
    /// The digest of the manifest that the reference leads to.
    pub digest: Digest,
    /// The image manifests of its platforms, with the names of the platforms; without attestations
    /// that BuildKit keeps in an index. An image without an index is its own platform.
    pub platforms: Vec<(Digest, String)>,
    /// The referrers of the image, of its children, and of those referrers.
    pub referrers: Vec<JudgedReferrer>,
}

/// A referrer as a policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct JudgedReferrer {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The digest of the manifest that it refers to.
    pub subject: Digest,
    /// Its artifact type, from its own manifest.
    pub artifact_type: Option<String>,
    /// The kind of statement it makes; for a legacy tag, the one of its suffix.
    pub category: ArtifactCategory,
    /// When the statement was made, if it says so.
    pub created: Option<SystemTime>,
}

impl JudgedBundle {
    /// Creates a bundle without images.
    pub fn new(signed: bool) -> Self {
        Self {
            images: Vec::new(),
            signed,
        }
    }
}

impl JudgedImage {
    /// Creates an image without referrers.
    pub fn new(reference: Reference, digest: Digest) -> Self {
        Self {
            reference,
            target: None,
            digest,
            platforms: Vec::new(),
            referrers: Vec::new(),
        }
    }

    /// Creates an image from the result of a discovery. Dates are taken from annotations.
    pub fn discovered(reference: Reference, tree: &ImageTree, graph: &ReferrerGraph) -> Self {
        let root = &tree.root;
        let mut image = Self::new(reference, root.digest().clone());
        let children = tree.children.iter().filter(|child| {
            !child.is_attestation() && !media_type::is_index(&child.descriptor.media_type)
        });
        image.platforms = if media_type::is_index(root.media_type()) {
            children
                .map(|child| {
                    let name = child.descriptor.platform.as_ref().map(ToString::to_string);
                    (child.descriptor.digest.clone(), name.unwrap_or_default())
                })
                .collect()
        } else {
            vec![(root.digest().clone(), String::new())]
        };
        image.referrers = graph
            .referrers
            .iter()
            .map(|referrer| JudgedReferrer {
                digest: referrer.digest.clone(),
                subject: referrer.subject.clone(),
                artifact_type: referrer.artifact_type.clone(),
                category: referrer.category,
                created: created(&referrer.annotations),
            })
            .collect();
        image
    }
}

impl JudgedReferrer {
    /// Creates a referrer without artifact type and date.
    pub fn new(digest: Digest, subject: Digest, category: ArtifactCategory) -> Self {
        Self {
            digest,
            subject,
            artifact_type: None,
            category,
            created: None,
        }
    }
}
