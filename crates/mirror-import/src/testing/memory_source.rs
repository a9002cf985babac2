use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_content::{
    ArtifactRecord, Capability, Descriptor, Digest, DiscoveryMethod, DiscoveryRecord, ImageRecord,
    Manifest, MirrorGraph, SourceKind, SourceRepository, media_type,
};
use registry_client::BlobSource;
use serde_json::json;

use crate::error::{ImportError, ImportErrorKind};
use crate::source::{Provenance, Source};

/// A source in memory: one image with an SBOM, a signature on that SBOM, and a second SBOM.
#[derive(Clone, Debug)]
pub struct MemorySource {
    graph: MirrorGraph,
    objects: BTreeMap<Digest, Bytes>,
    /// The manifests, each after everything that it names; the image is the first.
    manifests: Vec<Descriptor>,
    blobs: Vec<Digest>,
}

impl MemorySource {
    /// Creates the source that [`check_target`](super::check_target) uses.
    ///
    /// # Panics
    ///
    /// Never: the sample is well-formed.
    pub fn sample() -> Self {
        let reference = "source.example.com/suite/app:1.0".parse();
        let reference = reference.expect("it is a reference");
        let repository = SourceRepository::from(&reference);
        let mut source = Self {
            graph: MirrorGraph::new(),
            objects: BTreeMap::new(),
            manifests: Vec::new(),
            blobs: Vec::new(),
        };
        let image = source.manifest_of(None, media_type::IMAGE_CONFIG, "layer of the image");
        let sbom = "application/vnd.cyclonedx+json";
        let first = source.manifest_of(Some(&image), sbom, "the first SBOM");
        let signature = source.manifest_of(
            Some(&first),
            "application/vnd.example.signature",
            "a signature",
        );
        let second = source.manifest_of(Some(&image), sbom, "the second SBOM");
        let record = ImageRecord::new(
            reference,
            image.digest.clone(),
            &image.media_type,
            image.size,
        );
        source.graph.images.push(record);
        for (subject, referrers) in [(&image, vec![&first, &second]), (&first, vec![&signature])] {
            let mut record = DiscoveryRecord::new(
                repository.clone(),
                subject.digest.clone(),
                Capability::Supported,
                DiscoveryMethod::Native,
            );
            for referrer in referrers {
                let mut artifact = ArtifactRecord::new(
                    referrer.digest.clone(),
                    referrer.artifact_type.clone(),
                    &referrer.media_type,
                    referrer.size,
                );
                artifact.sources.push(SourceKind::ReferrersApi);
                record.artifacts.push(artifact);
            }
            source.graph.discovery.push(record);
        }
        source.graph.settle();
        source
    }

    /// Returns the descriptor of the image.
    pub fn image(&self) -> &Descriptor {
        &self.manifests[0]
    }

    /// Returns the descriptor of the first SBOM.
    pub fn sbom(&self) -> &Descriptor {
        &self.manifests[1]
    }

    pub(super) fn referrers_of_image(&self) -> Vec<&Descriptor> {
        vec![&self.manifests[1], &self.manifests[3]]
    }

    /// Returns the blobs with their sizes in bytes.
    pub fn blobs(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.blobs.iter().map(|digest| (digest, self.size(digest)))
    }

    /// Returns the manifests, each after everything that it names.
    pub(super) fn manifests_in_order(&self) -> Vec<Descriptor> {
        self.manifests.clone()
    }

    pub(super) fn size(&self, digest: &Digest) -> u64 {
        self.objects[digest].len() as u64
    }

    fn add(&mut self, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::of("application/octet-stream", &bytes);
        self.objects.insert(descriptor.digest.clone(), bytes);
        descriptor
    }

    /// Adds a manifest with one layer.
    fn manifest_of(
        &mut self,
        subject: Option<&Descriptor>,
        artifact_type: &str,
        content: &str,
    ) -> Descriptor {
        let mut config = self.add(format!("{{\"of\":\"{content}\"}}"));
        config.media_type = if subject.is_some() {
            "application/vnd.example.config.v1+json".to_owned()
        } else {
            media_type::IMAGE_CONFIG.to_owned()
        };
        let layer = self.add(content.repeat(1_000));
        self.blobs
            .extend([config.digest.clone(), layer.digest.clone()]);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": config,
            "layers": [layer],
        });
        if let Some(subject) = subject {
            let mut named =
                Descriptor::new(&subject.media_type, subject.digest.clone(), subject.size);
            named.artifact_type = None;
            manifest["subject"] = json!(named);
            manifest["artifactType"] = json!(artifact_type);
        }
        let raw = Bytes::from(manifest.to_string());
        let parsed = Manifest::parse(raw.clone(), None).expect("it is a manifest");
        let descriptor = parsed.descriptor();
        self.objects.insert(descriptor.digest.clone(), raw);
        self.manifests.push(descriptor.clone());
        descriptor
    }
}

#[async_trait]
impl Source for MemorySource {
    fn graph(&self) -> &MirrorGraph {
        &self.graph
    }

    fn provenance(&self) -> Provenance {
        Provenance::default()
    }

    fn holds(&self, digest: &Digest) -> bool {
        self.objects.contains_key(digest)
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ImportError> {
        let raw = self.objects.get(digest).cloned().ok_or_else(|| {
            ImportError::new(ImportErrorKind::Integrity, format!("there is no {digest}"))
        })?;
        Manifest::parse_verified(raw, digest, None).map_err(|error| {
            ImportError::caused(ImportErrorKind::Integrity, digest.to_string(), error)
        })
    }

    fn blob(&self, digest: &Digest) -> Arc<dyn BlobSource> {
        Arc::new(self.objects.get(digest).cloned().unwrap_or_default())
    }
}
