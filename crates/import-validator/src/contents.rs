use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use bundle_format::{BundleManifest, EntryPath};
use oci_content::Digest;

use crate::objects::Objects;
use crate::signature::Proof;

/// What is known of a bundle after it was read.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) manifest: BundleManifest,
    pub(crate) manifest_digest: Digest,
    pub(crate) manifest_bytes: u64,
    pub(crate) proof: Proof,
    /// Whether every file was read.
    pub(crate) complete: bool,
    /// Every blob that the bundle or its base holds, with its size in bytes.
    pub(crate) blobs: HashMap<Digest, u64>,
    /// The blobs that are left to the base.
    pub(crate) in_base: HashSet<Digest>,
    /// Files that are missing or damaged, all of them reported.
    pub(crate) damaged: HashSet<EntryPath>,
    pub(crate) objects: Objects,
    /// The dates in documents and manifests, if a policy asks for them.
    pub(crate) dates: HashMap<Digest, SystemTime>,
    /// The bytes of `oci-layout`, if they are the listed ones.
    pub(crate) oci_layout: Option<Vec<u8>>,
    pub(crate) index: Index,
}

/// What is known of `index.json`.
#[derive(Debug)]
pub(crate) enum Index {
    /// It is missing or damaged, which was reported.
    Unread,
    /// It is the one that `manifest.yaml` determines.
    Expected,
    /// It has other bytes: those of a bundle with referrers tags, or invalid ones.
    Other(Vec<u8>),
}

impl Contents {
    /// Returns whether the bundle itself, and not its base, holds a blob.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest) && !self.in_base.contains(digest)
    }
}
