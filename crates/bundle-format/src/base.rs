use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use oci_content::{Digest, SourceRepository};

use crate::entry_path::{EntryKind, EntryPath};
use crate::limits::Limits;
use crate::manifest::{BundleManifest, EntryRecord, ManifestError};

/// The bundle that a delta is based on, reduced to what a delta needs: its digest, its
/// repositories, and the blobs that a target holds after importing it.
///
/// - It is made from the exact bytes of `manifest.yaml`, so the rest of the base is not needed.
/// - A base can be a delta itself. What its own base holds counts as its own; an importer checks
///   whether the target has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseBundle {
    digest: Digest,
    repositories: BTreeSet<SourceRepository>,
    /// Shared by all clones: there can be very many.
    blobs: Arc<HashMap<Digest, u64>>,
}

impl BaseBundle {
    /// Reads the `manifest.yaml` of the base.
    ///
    /// # Errors
    ///
    /// As for [`BundleManifest::parse`].
    pub fn parse(manifest_yaml: &[u8], limits: &Limits) -> Result<Self, ManifestError> {
        let manifest = BundleManifest::parse(manifest_yaml, limits)?;
        let images = manifest.graph.images.iter().map(|image| &image.reference);
        let repositories = images.map(SourceRepository::from);
        let found = manifest
            .graph
            .discovery
            .iter()
            .map(|r| r.repository.clone());
        let repositories = repositories.chain(found).collect();
        let entries = manifest.entries.into_iter();
        let blobs = entries.filter(|entry| matches!(entry.path.kind(), EntryKind::Blob(_)));
        Ok(Self {
            digest: Digest::of(manifest_yaml),
            repositories,
            blobs: Arc::new(blobs.map(|entry| (entry.sha256, entry.size)).collect()),
        })
    }

    /// Returns the digest of its `manifest.yaml`, by which a delta names it.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the repositories, at the source, of its images and referrers.
    pub fn repositories(&self) -> impl Iterator<Item = &SourceRepository> {
        self.repositories.iter()
    }

    /// Returns whether the base holds a blob with this digest and this size in bytes.
    pub fn holds(&self, digest: &Digest, size: u64) -> bool {
        self.blobs.get(digest) == Some(&size)
    }
}

impl BundleManifest {
    /// Returns the blobs that the base holds and that are not in this bundle, sorted by path. Only
    /// a delta has any.
    pub fn left_out(&self) -> impl Iterator<Item = &EntryRecord> {
        self.entries.iter().filter(|entry| entry.base)
    }

    /// Returns whether a file is one of those that are [left out](Self::left_out).
    pub fn leaves_out(&self, path: &EntryPath) -> bool {
        self.entry(path).is_some_and(|entry| entry.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry_path::EntryPath;
    use crate::layout_files::OCI_LAYOUT;
    use crate::stream_name::StreamName;

    #[test]
    fn a_base_holds_what_it_lists_whether_in_its_own_file_or_in_its_own_base() {
        let (own, earlier) = (Digest::of(b"own"), Digest::of(b"earlier"));
        let mut manifest = BundleManifest::new(StreamName::default(), 2);
        manifest.base = Some(Digest::of(b"the first"));
        manifest.entries = vec![
            EntryRecord::of(EntryPath::INDEX, b"{}"),
            EntryRecord::of(EntryPath::OCI_LAYOUT, OCI_LAYOUT),
            EntryRecord::blob(&own, 3).unwrap(),
            EntryRecord::blob(&earlier, 7).unwrap(),
        ];
        manifest.entries[3].base = true;
        manifest.settle(0);
        let left_out: Vec<_> = manifest.left_out().map(|entry| &entry.sha256).collect();
        assert_eq!(left_out, [&earlier]);

        let yaml = manifest.to_yaml().unwrap();
        let base = BaseBundle::parse(&yaml, &Limits::default()).unwrap();
        assert_eq!(*base.digest(), Digest::of(&yaml));
        assert!(base.holds(&own, 3) && base.holds(&earlier, 7));
        assert!(!base.holds(&own, 4), "another size is another blob");
        assert!(
            !base.holds(&Digest::of(b"{}"), 2),
            "index.json is not a blob"
        );
        assert!(BaseBundle::parse(b"format: x\n", &Limits::default()).is_err());
    }
}
