use std::collections::BTreeMap;

use bytes::Bytes;
use oci_content::{
    Descriptor, Digest, LegacyTag, Manifest, Platform, Tag, media_type, referrers_tag,
};
use registry_server::{Repository, Store as _, StoreError, StoredManifest};
use serde_json::{Value, json};

use crate::registry::{TestRegistry, repository_name};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image index with what it lists.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TestIndex {
    /// The index itself.
    pub descriptor: Descriptor,
    /// The images, in the order of the given platforms.
    pub children: Vec<Descriptor>,
    /// The attestations by BuildKit of the images, in the same order. Empty unless they were
    /// requested.
    pub attestations: Vec<Descriptor>,
}

/// A referrer that is to be inserted into a registry.
#[derive(Clone, Debug)]
pub struct Referrer {
    subject: Descriptor,
    artifact_type: Option<String>,
    config_type: String,
    payload: Bytes,
    annotations: BTreeMap<String, String>,
    as_index: bool,
    listing: Listing,
}

/// The places that list a referrer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// The API, or the referrers tag if there is no API.
    AsPushed,
    Tag,
    Both,
    NotByTag,
}

impl Referrer {
    /// Creates an image manifest with an artifact type, an empty config and `payload` as its only
    /// layer.
    pub fn new(
        subject: &Descriptor,
        artifact_type: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> Self {
        Self {
            subject: subject.clone(),
            artifact_type: Some(artifact_type.into()),
            config_type: media_type::EMPTY.into(),
            payload: payload.into(),
            annotations: BTreeMap::new(),
            as_index: false,
            listing: Listing::AsPushed,
        }
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Sets the artifact type as the media type of the config instead of as `artifactType`.
    #[must_use]
    pub fn typed_by_config(mut self) -> Self {
        if let Some(artifact_type) = self.artifact_type.take() {
            self.config_type = artifact_type;
        }
        self
    }

    /// Makes the referrer an image index that lists one image with the payload.
    #[must_use]
    pub fn as_index(mut self) -> Self {
        self.as_index = true;
        self
    }

    /// Makes the referrer an image index without an artifact type.
    #[must_use]
    pub fn as_untyped_index(mut self) -> Self {
        self.artifact_type = None;
        self.as_index()
    }

    /// Does not maintain the referrers tag, on any persona.
    #[must_use]
    pub fn without_tag_index(mut self) -> Self {
        self.listing = Listing::NotByTag;
        self
    }

    /// Lists the referrer in the referrers tag and not in the API, on every persona, as if it was
    /// pushed before there was an API.
    #[must_use]
    pub fn only_in_tag_index(mut self) -> Self {
        self.listing = Listing::Tag;
        self
    }

    /// Lists the referrer in the referrers tag and, if there is one, in the API.
    #[must_use]
    pub fn also_in_tag_index(mut self) -> Self {
        self.listing = Listing::Both;
        self
    }
}

/// Inserts content directly into the store, without recorded requests.
///
/// # Panics
///
/// Every method panics on an invalid repository name or tag, at the line of its caller.
impl TestRegistry {
    /// Inserts a blob.
    #[track_caller]
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::of("application/octet-stream", &bytes);
        let name = repository_name(repository);
        self.shared
            .store
            .insert_blob(&name, descriptor.digest.clone(), bytes);
        descriptor
    }

    /// Inserts a manifest under its SHA-256 digest. The bytes may be anything.
    #[track_caller]
    pub fn put_manifest(
        &self,
        repository: &str,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Descriptor {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.put_manifest_as(repository, &digest, media_type, bytes)
    }

    /// Inserts a manifest under a digest, which need not be that of the bytes.
    #[track_caller]
    pub fn put_manifest_as(
        &self,
        repository: &str,
        digest: &Digest,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
        self.shared.store.insert_manifest(
            &repository_name(repository),
            digest.clone(),
            StoredManifest::new(media_type, bytes),
        );
        descriptor
    }

    /// Points a tag at a digest, even if no manifest has that digest.
    #[track_caller]
    pub fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        let name = repository_name(repository);
        self.shared
            .store
            .insert_tag(&name, tag_named(tag), digest.clone());
    }

    /// Removes a manifest with its tags, or a blob.
    #[track_caller]
    pub fn delete(&self, repository: &str, digest: &Digest) {
        let repository = Repository::new(repository_name(repository));
        let store = &self.shared.store;
        sure(store.remove_manifest(&repository, digest));
        sure(store.remove_blob(&repository, digest));
    }

    /// Hides a manifest from the referrers API and keeps it, as if it was archived or older than
    /// the API.
    #[track_caller]
    pub fn hide_referrer(&self, repository: &str, digest: &Digest) {
        let name = repository_name(repository);
        self.shared.store.unlist_referrer(&name, digest);
    }

    /// Loses a manifest, until it is pushed again: every list still names it, but it cannot be read.
    #[track_caller]
    pub fn lose(&self, repository: &str, digest: &Digest) {
        let key = (repository_name(repository), digest.clone());
        self.shared.lost().insert(key);
    }

    /// Removes a tag and keeps the manifest.
    #[track_caller]
    pub fn untag(&self, repository: &str, tag: &str) {
        let repository = Repository::new(repository_name(repository));
        sure(
            self.shared
                .store
                .remove_tag(&repository, &tag_named(tag), &Default::default()),
        );
    }

    /// Returns the bytes of a manifest.
    #[track_caller]
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        let repository = Repository::new(repository_name(repository));
        let found = self.shared.store.manifest(&repository, digest);
        sure(found).map(|manifest| manifest.bytes)
    }

    /// Returns whether the repository has a blob.
    #[track_caller]
    pub fn has_blob(&self, repository: &str, digest: &Digest) -> bool {
        let repository = Repository::new(repository_name(repository));
        let found = self.shared.store.blob(&repository, digest);
        sure(found).is_some()
    }

    /// Returns the digest that a tag points at.
    #[track_caller]
    pub fn resolve(&self, repository: &str, tag: &str) -> Option<Digest> {
        let repository = Repository::new(repository_name(repository));
        let found = self.shared.store.resolve(&repository, &tag_named(tag));
        sure(found)
    }

    /// Returns the tags of a repository, sorted.
    #[track_caller]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let repository = Repository::new(repository_name(repository));
        let found = self.shared.store.tags(&repository);
        sure(found).iter().map(ToString::to_string).collect()
    }

    /// Inserts and tags an image with its own config and two layers.
    #[track_caller]
    pub fn image(&self, repository: &str, tag: &str) -> Descriptor {
        let layers = [1, 2].map(|layer| format!("layer {layer} of {repository}:{tag}"));
        self.image_with_layers(repository, tag, layers)
    }

    /// Inserts and tags an image with a config and these layers.
    #[track_caller]
    pub fn image_with_layers(
        &self,
        repository: &str,
        tag: &str,
        layers: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Descriptor {
        let platform = Platform::new("linux", "amd64");
        let name = format!("{repository}:{tag}");
        let descriptor = self.put_image(repository, &name, &platform, layers);
        self.tag(repository, tag, &descriptor.digest);
        descriptor
    }

    /// Inserts and tags an image index with an image for each platform, such as `linux/amd64`.
    #[track_caller]
    pub fn index(&self, repository: &str, tag: &str, platforms: &[&str]) -> TestIndex {
        self.put_index(repository, tag, platforms, false)
    }

    /// Inserts and tags an image index as BuildKit writes it: with an attestation beside each
    /// image, which is a child of the index and not a referrer.
    #[track_caller]
    pub fn index_with_attestations(
        &self,
        repository: &str,
        tag: &str,
        platforms: &[&str],
    ) -> TestIndex {
        self.put_index(repository, tag, platforms, true)
    }

    /// Inserts a referrer: an image manifest with an artifact type and `payload` as its only layer.
    ///
    /// On a persona without a referrers API, the referrers tag is maintained as by a client, unless
    /// [`without_tag_index`](crate::TestRegistryBuilder::without_tag_index) is set.
    #[track_caller]
    pub fn referrer(
        &self,
        repository: &str,
        subject: &Descriptor,
        artifact_type: &str,
        payload: impl Into<Bytes>,
    ) -> Descriptor {
        let referrer = Referrer::new(subject, artifact_type, payload);
        self.put_referrer(repository, referrer)
    }

    /// Inserts a referrer, and maintains the referrers tag as [`referrer`](Self::referrer) does.
    ///
    /// Returns the descriptor of a correct referrers list.
    #[track_caller]
    pub fn put_referrer(&self, repository: &str, referrer: Referrer) -> Descriptor {
        let subject = &referrer.subject;
        let config = self.put_blob(repository, "{}");
        let layer = self.put_blob(repository, referrer.payload.clone());
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": entry(&referrer.config_type, &config),
            "layers": [entry("application/octet-stream", &layer)],
        });
        let mut media_type = media_type::IMAGE_MANIFEST;
        if referrer.as_index {
            let child = self.put_manifest(repository, media_type, document.to_string());
            media_type = media_type::IMAGE_INDEX;
            document = json!({
                "schemaVersion": 2,
                "mediaType": media_type,
                "manifests": [entry(media_type::IMAGE_MANIFEST, &child)],
            });
        }
        document["subject"] = entry(&subject.media_type, subject);
        if let Some(artifact_type) = &referrer.artifact_type {
            document["artifactType"] = json!(artifact_type);
        }
        if !referrer.annotations.is_empty() {
            document["annotations"] = json!(referrer.annotations);
        }
        let mut descriptor = self.put_manifest(repository, media_type, document.to_string());
        let config_type = referrer.config_type;
        descriptor.artifact_type = match (referrer.artifact_type, referrer.as_index) {
            (None, false) => Some(config_type.clone()),
            (artifact_type, _) => artifact_type,
        };
        descriptor.annotations = referrer.annotations;
        if referrer.listing == Listing::Tag {
            self.hide_referrer(repository, &descriptor.digest);
        }
        let tagged = match referrer.listing {
            Listing::AsPushed => self.shared.tag_index && !self.shared.profile.referrers.is_there(),
            Listing::Tag | Listing::Both => true,
            Listing::NotByTag => false,
        };
        if tagged {
            let mut listed = descriptor.clone();
            if self.shared.profile.poor_tag_index {
                listed.artifact_type = Some(config_type);
                listed.annotations.clear();
            }
            self.add_to_tag_index(repository, &subject.digest, listed);
        }
        descriptor
    }

    /// Writes the referrers tag of a subject: an image index with exactly these entries, correct or
    /// not.
    #[track_caller]
    pub fn referrers_tag_index(
        &self,
        repository: &str,
        subject: &Digest,
        entries: &[Descriptor],
    ) -> Descriptor {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_INDEX,
            "manifests": entries,
        });
        let descriptor =
            self.put_manifest(repository, media_type::IMAGE_INDEX, document.to_string());
        let tag = referrers_tag(subject);
        self.tag(repository, tag.as_str(), &descriptor.digest);
        descriptor
    }

    /// Inserts an artifact as cosign did before there were referrers: a manifest without a subject,
    /// with the tag `sha256-<hex>.<suffix>`.
    ///
    /// # Panics
    ///
    /// When the digest of the subject is not SHA-256, because such a tag cannot name it.
    #[track_caller]
    pub fn legacy(
        &self,
        repository: &str,
        subject: &Digest,
        suffix: &str,
        payload: impl Into<Bytes>,
    ) -> Descriptor {
        let layer_type = match suffix {
            "sig" => "application/vnd.dev.cosign.simplesigning.v1+json",
            "att" => "application/vnd.dsse.envelope.v1+json",
            "sbom" => "text/spdx+json",
            _ => "application/octet-stream",
        };
        let tag = tag_named(&format!("sha256-{}.{suffix}", subject.encoded()));
        assert!(
            LegacyTag::from_tag(&tag).is_some(),
            "{tag} is no legacy tag"
        );
        let layer = self.put_blob(repository, payload);
        let config = json!({
            "architecture": "",
            "os": "",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        });
        let config = self.put_blob(repository, config.to_string());
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": entry(media_type::IMAGE_CONFIG, &config),
            "layers": [entry(layer_type, &layer)],
        });
        let descriptor =
            self.put_manifest(repository, media_type::IMAGE_MANIFEST, document.to_string());
        self.tag(repository, tag.as_str(), &descriptor.digest);
        descriptor
    }

    #[track_caller]
    fn add_to_tag_index(&self, repository: &str, subject: &Digest, added: Descriptor) {
        let tag = referrers_tag(subject);
        let old = self.resolve(repository, tag.as_str());
        let old = old.and_then(|digest| self.manifest(repository, &digest));
        let old = old.and_then(|bytes| Manifest::parse(bytes, None).ok());
        let mut entries = old.map_or_else(Vec::new, |old| old.entries().to_vec());
        if entries.iter().all(|entry| entry.digest != added.digest) {
            entries.push(added);
        }
        self.referrers_tag_index(repository, subject, &entries);
    }

    #[track_caller]
    fn put_image(
        &self,
        repository: &str,
        name: &str,
        platform: &Platform,
        layers: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Descriptor {
        let layers: Vec<_> = layers
            .into_iter()
            .map(|layer| self.put_blob(repository, layer))
            .collect();
        let digests: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
        let mut config = json!(platform);
        config["config"] = json!({"Labels": {"name": name}});
        config["rootfs"] = json!({"type": "layers", "diff_ids": digests});
        let config = self.put_blob(repository, config.to_string());
        let layers: Vec<_> = layers.iter().map(|layer| entry(LAYER, layer)).collect();
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": entry(media_type::IMAGE_CONFIG, &config),
            "layers": layers,
        });
        self.put_manifest(repository, media_type::IMAGE_MANIFEST, document.to_string())
    }

    #[track_caller]
    fn put_index(
        &self,
        repository: &str,
        tag: &str,
        platforms: &[&str],
        attested: bool,
    ) -> TestIndex {
        let mut children = Vec::new();
        let mut attestations = Vec::new();
        for text in platforms {
            let Some(platform) = Platform::parse(text) else {
                panic!("{text:?} is no platform");
            };
            let name = format!("{repository}:{tag} for {platform}");
            let mut child =
                self.put_image(repository, &name, &platform, [format!("layer of {name}")]);
            child.platform = Some(platform);
            if attested {
                attestations.push(self.put_attestation(repository, &name, &child));
            }
            children.push(child);
        }
        let listed: Vec<_> = children.iter().chain(&attestations).collect();
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_INDEX,
            "manifests": listed,
        });
        let descriptor =
            self.put_manifest(repository, media_type::IMAGE_INDEX, document.to_string());
        self.tag(repository, tag, &descriptor.digest);
        TestIndex {
            descriptor,
            children,
            attestations,
        }
    }

    /// <https://github.com/moby/buildkit/blob/v0.16.0/docs/attestations/attestation-storage.md>
    #[track_caller]
    fn put_attestation(&self, repository: &str, name: &str, of: &Descriptor) -> Descriptor {
        let unknown = Platform::new("unknown", "unknown");
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": name, "digest": {"sha256": of.digest.encoded()}}],
        });
        let layer = self.put_blob(repository, statement.to_string());
        let mut config = json!(unknown);
        config["rootfs"] = json!({"type": "layers", "diff_ids": [layer.digest]});
        let config = self.put_blob(repository, config.to_string());
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": entry(media_type::IMAGE_CONFIG, &config),
            "layers": [entry("application/vnd.in-toto+json", &layer)],
        });
        let mut descriptor =
            self.put_manifest(repository, media_type::IMAGE_MANIFEST, document.to_string());
        descriptor.platform = Some(unknown);
        for (key, value) in [
            ("vnd.docker.reference.type", "attestation-manifest".into()),
            ("vnd.docker.reference.digest", of.digest.to_string()),
        ] {
            descriptor.annotations.insert(key.into(), value);
        }
        descriptor
    }
}

/// Returns the three members of a descriptor in a manifest.
fn entry(media_type: &str, of: &Descriptor) -> Value {
    json!({"mediaType": media_type, "digest": of.digest, "size": of.size})
}

fn sure<T>(answer: Result<T, StoreError>) -> T {
    answer.expect("a store in memory does not fail")
}

#[track_caller]
fn tag_named(text: &str) -> Tag {
    match text.parse() {
        Ok(tag) => tag,
        Err(error) => panic!("{error}"),
    }
}
