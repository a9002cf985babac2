use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use bundle_format::{BundleManifest, EntryPath};
use oci_content::Digest;

use crate::objects::Objects;
use crate::signature::Proof;

/// What is known of a bundle after the pass.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) manifest: BundleManifest,
    pub(crate) manifest_digest: Digest,
    pub(crate) manifest_bytes: u64,
    pub(crate) proof: Proof,
    /// Whether every file was seen.
    pub(crate) complete: bool,
    /// Every blob that the bundle or its base holds, with its size.
    pub(crate) blobs: HashMap<Digest, u64>,
    /// What the base holds.
    pub(crate) in_base: HashSet<Digest>,
    /// Files that are missing or damaged, which has been reported.
    pub(crate) damaged: HashSet<EntryPath>,
    pub(crate) objects: Objects,
    /// When documents and manifests say that they were made, where a policy asks.
    pub(crate) dates: HashMap<Digest, SystemTime>,
    /// The bytes of `oci-layout`, when they are the listed ones.
    pub(crate) oci_layout: Option<Vec<u8>>,
    pub(crate) index: Index,
}

/// What is known of `index.json`.
#[derive(Debug)]
pub(crate) enum Index {
    /// Nothing: it is missing or damaged, which has been reported.
    Unread,
    /// It is the one that `manifest.yaml` determines.
    Expected,
    /// It has other bytes: those of a bundle with referrers tags, or of none.
    Other(Vec<u8>),
}

impl Contents {
    /// Returns whether the bundle itself holds content, and not only its base.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest) && !self.in_base.contains(digest)
    }
}
