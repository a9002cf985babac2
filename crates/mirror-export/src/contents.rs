use std::collections::BTreeMap;

use bundle_format::{
    BundleManifest, EntryPath, EntryRecord, OCI_LAYOUT, index_descriptors, index_json,
    referrers_tag_indexes,
};
use bytes::Bytes;
use mirror_plan::{Content, FoundImage, MirrorPlan};
use oci_content::{Descriptor, Digest};

use crate::error::{ExportError, ExportErrorKind};
use crate::request::ExportRequest;

/// What a bundle says and holds.
pub(crate) struct Contents {
    pub(crate) manifest: BundleManifest,
    pub(crate) content: Content,
    pub(crate) index: Vec<u8>,
}

impl Contents {
    /// Makes a bundle of what is mirrored.
    pub(crate) fn new(
        request: &ExportRequest,
        images: &[FoundImage],
        plan: MirrorPlan,
    ) -> Result<Self, ExportError> {
        let mut content = plan.content;
        let mut manifest = BundleManifest::new(request.stream.clone(), request.sequence);
        manifest.graph = plan.graph;
        let mut index = index_json(&index_entries(request, images, &manifest, &mut content));
        index.shrink_to_fit();
        let own = [
            EntryRecord::of(EntryPath::OCI_LAYOUT, OCI_LAYOUT),
            EntryRecord::of(EntryPath::INDEX, &index),
        ];
        manifest.entries.extend(own);
        if let Some(base) = &request.base {
            manifest.base = Some(base.digest().clone());
            for (digest, size) in content.leave_out(|digest, size| base.holds(digest, size)) {
                let mut entry = EntryRecord::new(blob_path(&digest)?, size, digest);
                entry.base = true;
                manifest.entries.push(entry);
            }
        }
        manifest.entries.reserve_exact(content.pieces().len());
        for (digest, piece) in content.pieces() {
            let entry = EntryRecord::new(blob_path(digest)?, piece.size, digest.clone());
            manifest.entries.push(entry);
        }
        manifest.settle(plan.bare_images);
        Ok(Self {
            manifest,
            content,
            index,
        })
    }
}

pub(crate) fn blob_path(digest: &Digest) -> Result<EntryPath, ExportError> {
    EntryPath::blob(digest)
        .map_err(|error| ExportError::new(ExportErrorKind::Integrity, error.to_string()))
}

/// Returns the entries of `index.json`. With `layout_tags`, each subject's referrers are also
/// listed in an index under its referrers tag, where regctl looks for them.
fn index_entries(
    request: &ExportRequest,
    images: &[FoundImage],
    manifest: &BundleManifest,
    content: &mut Content,
) -> Vec<Descriptor> {
    let graph = &manifest.graph;
    let mut entries = index_descriptors(&graph.images, &graph.discovery);
    if !request.layout_tags {
        return entries;
    }
    let known = images.iter().flat_map(FoundImage::descriptors);
    let descriptors: BTreeMap<_, _> = known.map(|own| (&own.digest, own)).collect();
    let own = |digest: &Digest| descriptors.get(digest).copied();
    for (entry, bytes) in referrers_tag_indexes(&graph.images, &graph.discovery, own) {
        content.add_raw(entry.digest.clone(), Bytes::from(bytes));
        entries.push(entry);
    }
    entries
}
