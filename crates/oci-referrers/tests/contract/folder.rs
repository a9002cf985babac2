//! The sources of an image layout folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use oci_content::{
    Descriptor, Digest, ImageLayout, LegacyTag, REF_NAME, SourceKind, media_type, referrers_tag,
};
use oci_referrers::testing::{ManifestPlace, ReferrerPlace, manifest_source, referrer_source};
use oci_referrers::{LayoutReferrers, ManifestSource, ReferrerSource};
use serde_json::json;
use tempfile::TempDir;

struct Folder {
    layout: ImageLayout,
    kind: SourceKind,
    /// What the referrers tags list.
    listed: Mutex<Vec<(Digest, Descriptor)>>,
    _folder: TempDir,
}

impl Folder {
    fn new(kind: SourceKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            layout: ImageLayout::create(folder.path().join("layout")).unwrap(),
            kind,
            listed: Mutex::default(),
            _folder: folder,
        }
    }

    fn write(&self, raw: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, raw);
        self.layout.write_blob(&descriptor.digest, raw).unwrap();
        descriptor
    }

    fn list(&self, mut entry: Descriptor, name: Option<String>) {
        entry
            .annotations
            .extend(name.map(|name| (REF_NAME.to_owned(), name)));
        self.layout.add_to_index(&[entry]).unwrap();
    }

    fn blobs(&self) -> impl Iterator<Item = std::path::PathBuf> {
        let folder = self.layout.root().join("blobs/sha256");
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    }
}

fn damage(path: &Path) {
    fs::write(path, b"other bytes").unwrap();
}

#[async_trait]
impl ReferrerPlace for Folder {
    fn source(&self) -> Arc<dyn ReferrerSource> {
        let folder = LayoutReferrers::open(self.layout.clone()).unwrap();
        let mut sources = folder.sources().into_iter();
        sources.find(|source| source.kind() == self.kind).unwrap()
    }

    async fn refer(&self, subject: &Descriptor, number: usize) -> Digest {
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": Descriptor::of(media_type::EMPTY, b"{}"),
            "layers": [],
            "annotations": { "of": subject.digest, "number": number.to_string() },
        });
        if self.kind != SourceKind::LegacyTag {
            document["subject"] = json!(subject);
        }
        let referrer = self.write(document.to_string().as_bytes());
        let digest = referrer.digest.clone();
        let tag = referrers_tag(&subject.digest);
        match self.kind {
            SourceKind::LegacyTag => {
                let suffix = LegacyTag::KNOWN_SUFFIXES[number];
                self.list(referrer, Some(format!("{tag}.{suffix}")));
            }
            SourceKind::ReferrersTag => {
                let mut listed = self.listed.lock().unwrap();
                listed.push((subject.digest.clone(), referrer));
                let of_subject = listed.iter().filter(|(of, _)| *of == subject.digest);
                let entries: Vec<_> = of_subject.map(|(_, referrer)| referrer).collect();
                let index = json!({
                    "schemaVersion": 2,
                    "mediaType": media_type::IMAGE_INDEX,
                    "manifests": entries,
                });
                let mut index = self.write(index.to_string().as_bytes());
                index.media_type = media_type::IMAGE_INDEX.to_owned();
                self.layout
                    .retain_in_index(|entry| {
                        entry.annotations.get(REF_NAME) != Some(&tag.to_string())
                    })
                    .unwrap();
                self.list(index, Some(tag.to_string()));
            }
            _ => self.list(referrer, None),
        }
        digest
    }

    async fn fail(&self) {
        self.blobs().for_each(|path| damage(&path));
    }

    async fn fail_half_way(&self, _: &Descriptor) -> Option<BTreeSet<Digest>> {
        if self.kind == SourceKind::ReferrersTag {
            // One document lists all.
            return None;
        }
        let mut blobs = self.blobs();
        damage(&blobs.next().unwrap());
        let digest = |path: std::path::PathBuf| {
            let encoded = path.file_name().unwrap().to_str().unwrap();
            format!("sha256:{encoded}").parse().unwrap()
        };
        Some(blobs.map(digest).collect())
    }
}

#[tokio::test]
async fn every_source_of_a_folder_keeps_the_contract() {
    for kind in [
        SourceKind::Manifest,
        SourceKind::ReferrersTag,
        SourceKind::LegacyTag,
    ] {
        referrer_source(|| async { Folder::new(kind) }).await;
    }
}

#[async_trait]
impl ManifestPlace for Folder {
    fn source(&self) -> Arc<dyn ManifestSource> {
        Arc::new(LayoutReferrers::open(self.layout.clone()).unwrap())
    }

    async fn put(&self, raw: &[u8]) {
        let descriptor = self.write(raw);
        self.list(descriptor, None);
    }

    async fn corrupt(&self, digest: &Digest) {
        damage(&self.layout.blob_path(digest));
    }

    async fn fail(&self) {
        for path in self.blobs() {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
    }
}

#[tokio::test]
async fn the_manifests_of_a_folder_keep_the_contract() {
    manifest_source(|| async { Folder::new(SourceKind::Manifest) }).await;
}
