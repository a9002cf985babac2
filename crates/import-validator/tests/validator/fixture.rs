//! Bundles that are made by hand, right and wrong.

use std::collections::BTreeMap;

use bundle_format::{
    BundleManifest, Container, EntryPath, EntryRecord, OCI_LAYOUT, StreamName, index_descriptors,
    index_json,
};
use oci_content::{ArtifactRecord, DiscoveryRecord, ImageRecord, OmittedChild, SourceRepository};
use oci_content::{
    Capability, Descriptor, Digest, DiscoveryMethod, Reference, SourceKind, media_type,
};
use serde_json::{Value, json};

pub(crate) const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";
pub(crate) const SIGNATURE: &str = "application/vnd.cncf.notary.signature";

/// The content of a bundle and what its `manifest.yaml` says, until it is packed.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) manifest: BundleManifest,
    /// Everything below `blobs/`.
    pub(crate) objects: BTreeMap<Digest, Vec<u8>>,
}

pub(crate) fn digest_of(value: &Value) -> Digest {
    Digest::of(value.to_string().as_bytes())
}

pub(crate) fn reference() -> Reference {
    "registry.example.com/team/app:1.0".parse().unwrap()
}

impl Fixture {
    pub(crate) fn empty() -> Self {
        Self {
            manifest: BundleManifest::new(StreamName::default(), 1),
            objects: BTreeMap::new(),
        }
    }

    /// One image with one layer, and one SBOM on it.
    pub(crate) fn small() -> Self {
        let mut fixture = Self::empty();
        let image = fixture.image("small");
        fixture.add_image(&image);
        let sbom = fixture.referrer(&image, CYCLONEDX, "sbom");
        fixture.discover(&image, &[(&sbom, Some(CYCLONEDX))]);
        fixture
    }

    /// An index with two platforms and an attestation child; an SBOM and a legacy signature on the index, a
    /// signature on the SBOM, an attestation on one platform.
    pub(crate) fn full() -> Self {
        let mut fixture = Self::empty();
        let amd64 = fixture.image("amd64");
        let arm64 = fixture.image("arm64");
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_INDEX,
            "manifests": [amd64, arm64],
        });
        let index = fixture.put(media_type::IMAGE_INDEX, &index);
        fixture.add_image(&index);
        let sbom = fixture.referrer(&index, CYCLONEDX, "sbom");
        let signature = fixture.referrer(&sbom, SIGNATURE, "signature on the sbom");
        let attestation = fixture.referrer(&amd64, IN_TOTO, "attestation");
        let legacy = fixture.image("legacy signature");
        fixture.discover(&index, &[(&sbom, Some(CYCLONEDX))]);
        fixture.discover(&sbom, &[(&signature, Some(SIGNATURE))]);
        fixture.discover(&amd64, &[(&attestation, Some(IN_TOTO))]);
        let tag = format!("sha256-{}.sig", index.digest.encoded())
            .parse()
            .unwrap();
        let mut tagged = artifact(&legacy, Some(media_type::IMAGE_CONFIG));
        tagged.sources = vec![SourceKind::LegacyTag];
        tagged.tag = Some(tag);
        let mut records = fixture.manifest.graph.discovery.iter_mut();
        let record = records
            .find(|record| record.subject == index.digest)
            .unwrap();
        record.artifacts.push(tagged);
        fixture
    }

    pub(crate) fn put_bytes(&mut self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        self.objects
            .insert(descriptor.digest.clone(), bytes.to_vec());
        descriptor
    }

    pub(crate) fn put(&mut self, media_type: &str, value: &Value) -> Descriptor {
        self.put_bytes(media_type, value.to_string().as_bytes())
    }

    /// An image manifest with a config and a layer of its own.
    pub(crate) fn image(&mut self, seed: &str) -> Descriptor {
        let config =
            json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": seed}}});
        let config = self.put(media_type::IMAGE_CONFIG, &config);
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let layer = self.put_bytes(layer_type, format!("layer of {seed}").as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "config": config,
            "layers": [layer],
        });
        self.put(media_type::IMAGE_MANIFEST, &manifest)
    }

    /// The JSON of a referrer, to be changed before it is put.
    pub(crate) fn referrer_json(
        &mut self,
        subject: &Descriptor,
        artifact_type: &str,
        payload: &str,
    ) -> Value {
        let config = self.put_bytes(media_type::EMPTY, b"{}");
        let layer = self.put(artifact_type, &json!({"payload": payload}));
        let subject = Descriptor::new(&subject.media_type, subject.digest.clone(), subject.size);
        json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "artifactType": artifact_type,
            "config": config,
            "layers": [layer],
            "subject": subject,
        })
    }

    pub(crate) fn referrer(
        &mut self,
        subject: &Descriptor,
        artifact_type: &str,
        payload: &str,
    ) -> Descriptor {
        let json = self.referrer_json(subject, artifact_type, payload);
        self.put(media_type::IMAGE_MANIFEST, &json)
    }

    pub(crate) fn add_image(&mut self, image: &Descriptor) {
        self.manifest.graph.images.push(ImageRecord::new(
            reference(),
            image.digest.clone(),
            &image.media_type,
            image.size,
        ));
    }

    pub(crate) fn discover(
        &mut self,
        subject: &Descriptor,
        artifacts: &[(&Descriptor, Option<&str>)],
    ) {
        let mut record = DiscoveryRecord::new(
            SourceRepository::from(&reference()),
            subject.digest.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        );
        for (referrer, artifact_type) in artifacts {
            record.artifacts.push(artifact(referrer, *artifact_type));
        }
        self.manifest.graph.discovery.push(record);
    }

    /// Lists everything that there is, and settles.
    pub(crate) fn list(&mut self) {
        let index = index_json(&index_descriptors(
            &self.manifest.graph.images,
            &self.manifest.graph.discovery,
        ));
        self.list_with_index(&index);
    }

    pub(crate) fn list_with_index(&mut self, index: &[u8]) {
        let entries = self.objects.iter();
        let entries =
            entries.map(|(digest, bytes)| EntryRecord::blob(digest, bytes.len() as u64).unwrap());
        self.manifest.entries = entries.collect();
        let fixed = [
            (EntryPath::INDEX, index),
            (EntryPath::OCI_LAYOUT, OCI_LAYOUT),
        ];
        let fixed = fixed.map(|(path, bytes)| EntryRecord::of(path, bytes));
        self.manifest.entries.extend(fixed);
        let bare = self.manifest.referrers.bare_images;
        self.manifest.settle(bare);
    }

    /// Returns the files of the bundle, `manifest.yaml` included.
    pub(crate) fn files(mut self) -> BTreeMap<EntryPath, Vec<u8>> {
        let index = index_json(&index_descriptors(
            &self.manifest.graph.images,
            &self.manifest.graph.discovery,
        ));
        self.list_with_index(&index);
        self.listed_files(&index)
    }

    /// Returns the files that `manifest.yaml` lists as it stands.
    pub(crate) fn listed_files(&self, index: &[u8]) -> BTreeMap<EntryPath, Vec<u8>> {
        let mut files = BTreeMap::new();
        for path in self.manifest.files().into_keys() {
            let bytes = match path.digest() {
                Some(digest) => self.objects[digest].clone(),
                None if path == EntryPath::INDEX => index.to_vec(),
                None => OCI_LAYOUT.to_vec(),
            };
            files.insert(path, bytes);
        }
        files.insert(EntryPath::MANIFEST, self.manifest.to_yaml().unwrap());
        files
    }
}

pub(crate) fn artifact(referrer: &Descriptor, artifact_type: Option<&str>) -> ArtifactRecord {
    let mut artifact = ArtifactRecord::new(
        referrer.digest.clone(),
        artifact_type.map(str::to_owned),
        &referrer.media_type,
        referrer.size,
    );
    artifact.sources = vec![SourceKind::ReferrersApi];
    artifact
}

pub(crate) fn omit(image: &mut ImageRecord, digest: &Digest) {
    image
        .omitted
        .push(OmittedChild::new(digest.clone(), "platform"));
}

/// Packs files as docs/bundle-format.md says, whatever is in them: a second implementation of the container, which
/// shares nothing with the one that is tested.
pub(crate) fn pack(files: &BTreeMap<EntryPath, Vec<u8>>, container: Container) -> Vec<u8> {
    let entries = files.iter();
    let entries: Vec<_> = entries
        .map(|(path, bytes)| entry(&header(&path.to_string(), bytes.len()), bytes))
        .collect();
    frame(&entries, container)
}

/// The header of a file, with its checksum.
pub(crate) fn header(path: &str, size: usize) -> [u8; 512] {
    let (prefix, name) = if path.len() > 100 {
        path.rsplit_once('/').unwrap()
    } else {
        ("", path)
    };
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0        0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\x000000000\0");
    put(345, prefix.as_bytes());
    seal(header)
}

/// Puts the checksum of a header right.
pub(crate) fn seal(mut header: [u8; 512]) -> [u8; 512] {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A header, the content behind it, and its padding.
pub(crate) fn entry(header: &[u8; 512], content: &[u8]) -> Vec<u8> {
    let mut entry = [header, content].concat();
    entry.resize(entry.len().div_ceil(512) * 512, 0);
    entry
}

/// Puts entries into the frame that a bundle has.
pub(crate) fn frame(entries: &[Vec<u8>], container: Container) -> Vec<u8> {
    frame_with_end(entries, &[0; 1024], container)
}

/// The same with another end of the archive.
pub(crate) fn frame_with_end(entries: &[Vec<u8>], end: &[u8], container: Container) -> Vec<u8> {
    let archive = [&entries.concat(), end].concat();
    if container == Container::Tar {
        return archive;
    }
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    for entry in entries {
        for block in entry.chunks(65_535) {
            push_block(&mut gzip, block, 0);
        }
    }
    push_block(&mut gzip, end, 1);
    gzip.extend(crc32(&archive).to_le_bytes());
    gzip.extend(u32::try_from(archive.len()).unwrap().to_le_bytes());
    gzip
}

fn push_block(blocks: &mut Vec<u8>, block: &[u8], last: u8) {
    let length = u16::try_from(block.len()).unwrap();
    blocks.push(last);
    blocks.extend(length.to_le_bytes());
    blocks.extend((!length).to_le_bytes());
    blocks.extend(block);
}

/// CRC-32 bit by bit, from <https://www.rfc-editor.org/rfc/rfc1952#section-8>.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
