//! The content of the demo's registry: this program as an image, with documents about it.

use base64::Engine as _;
use bytes::Bytes;
use oci_content::{Descriptor, Digest, LegacyTag, Platform, RepositoryName, Tag, media_type};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use registry_server::{MemoryStore, StoredManifest};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

pub(crate) const REPOSITORY: &str = "demo/stellaops";
pub(crate) const TAG: &str = env!("CARGO_PKG_VERSION");
const LOCK: &str = include_str!("../../../../../Cargo.lock");
const LICENCE: &str = include_str!("../../../../../LICENSE-MIT");

const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const OPENVEX: &str = "application/vnd.openvex+json";
const SIGNATURE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Puts the image and its referrers into a store.
pub(crate) fn fill(store: &MemoryStore) -> Result<(), Failure> {
    let name: RepositoryName = REPOSITORY.parse().map_err(internal)?;
    let content = Content {
        store,
        name,
        key: key()?,
    };
    let program = std::env::current_exe()
        .and_then(std::fs::read)
        .map_err(|error| {
            Failure::new(Exit::LocalIo, format!("this program's own file: {error}"))
        })?;

    let (own, other) = match std::env::consts::ARCH {
        "aarch64" => ("arm64", "amd64"),
        _ => ("amd64", "arm64"),
    };
    let with_program = content.image(
        own,
        &[
            ("usr/bin/stellaops", &program, 0o755),
            ("LICENSE", LICENCE.as_bytes(), 0o644),
        ],
    )?;
    // There is no second build of the program: the other platform contains only the licence.
    let without = content.image(other, &[("LICENSE", LICENCE.as_bytes(), 0o644)])?;
    let index = content.manifest(
        media_type::IMAGE_INDEX,
        &json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_INDEX,
            "manifests": [with_program, without],
        }),
    );
    content.tag(TAG, &index)?;

    let sbom = content.referrer(CYCLONEDX, &index, &sbom(LOCK))?;
    content.referrer(IN_TOTO, &index, &provenance(&index.digest))?;
    content.referrer(OPENVEX, &index, &vex(&index.digest))?;
    content.sign(&index)?;
    content.sign(&sbom)?;
    content.referrer(CYCLONEDX, &with_program, &sbom_of_platform(&with_program))?;
    content.sign_by_legacy_tag(&index)
}

/// Returns a key that is not secret: the signatures are real, but prove nothing.
fn key() -> Result<SigningKey, Failure> {
    SigningKey::from_slice(&[7; 32]).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, format!("the demo's content: {error}"))
}

struct Content<'a> {
    store: &'a MemoryStore,
    name: RepositoryName,
    key: SigningKey,
}

impl Content<'_> {
    fn blob(&self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.store
            .insert_blob(&self.name, descriptor.digest.clone(), bytes.into());
        descriptor
    }

    fn manifest(&self, media_type: &str, document: &Value) -> Descriptor {
        let bytes = Bytes::from(document.to_string());
        let descriptor = Descriptor::of(media_type, &bytes);
        let manifest = StoredManifest::new(media_type, bytes);
        self.store
            .insert_manifest(&self.name, descriptor.digest.clone(), manifest);
        descriptor
    }

    fn tag(&self, tag: &str, target: &Descriptor) -> Result<(), Failure> {
        let tag: Tag = tag.parse().map_err(internal)?;
        self.store
            .insert_tag(&self.name, tag, target.digest.clone());
        Ok(())
    }

    fn image(
        &self,
        architecture: &str,
        files: &[(&str, &[u8], u32)],
    ) -> Result<Descriptor, Failure> {
        let layer = layer(files).map_err(internal)?;
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Entrypoint": ["/usr/bin/stellaops"] },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
        });
        let config = config.to_string().into_bytes();
        let mut descriptor = self.manifest(
            media_type::IMAGE_MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": media_type::IMAGE_MANIFEST,
                "config": self.blob(media_type::IMAGE_CONFIG, config),
                "layers": [self.blob(LAYER, layer)],
            }),
        );
        descriptor.platform = Some(Platform::new("linux", architecture));
        Ok(descriptor)
    }

    fn referrer(
        &self,
        artifact_type: &str,
        subject: &Descriptor,
        document: &Value,
    ) -> Result<Descriptor, Failure> {
        let payload = serde_json::to_vec_pretty(document).map_err(internal)?;
        Ok(self.artifact(
            artifact_type,
            Some(subject),
            self.blob(artifact_type, payload),
        ))
    }

    fn artifact(
        &self,
        artifact_type: &str,
        subject: Option<&Descriptor>,
        layer: Descriptor,
    ) -> Descriptor {
        let mut document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_MANIFEST,
            "artifactType": artifact_type,
            "config": self.blob(media_type::EMPTY, b"{}".to_vec()),
            "layers": [layer],
        });
        if let Some(subject) = subject {
            document["subject"] = json!({ "mediaType": subject.media_type, "digest": subject.digest, "size": subject.size });
        }
        self.manifest(media_type::IMAGE_MANIFEST, &document)
    }

    /// Signs a digest like cosign: a document that names it, with the signature in an annotation.
    fn signed(&self, subject: &Descriptor) -> Result<Descriptor, Failure> {
        let payload = serde_json::to_vec(&json!({
            "critical": {
                "identity": { "docker-reference": REPOSITORY },
                "image": { "docker-manifest-digest": subject.digest },
                "type": "cosign container image signature",
            },
            "optional": null,
        }))
        .map_err(internal)?;
        let signature: Signature = self.key.sign(&payload);
        let signature = base64::engine::general_purpose::STANDARD.encode(signature.to_der());
        let mut layer = self.blob(SIMPLE_SIGNING, payload);
        layer
            .annotations
            .insert("dev.cosignproject.cosign/signature".into(), signature);
        Ok(layer)
    }

    fn sign(&self, subject: &Descriptor) -> Result<Descriptor, Failure> {
        Ok(self.artifact(SIGNATURE, Some(subject), self.signed(subject)?))
    }

    fn sign_by_legacy_tag(&self, subject: &Descriptor) -> Result<(), Failure> {
        let artifact = self.artifact(SIGNATURE, None, self.signed(subject)?);
        match LegacyTag::known(&subject.digest, "sig") {
            Some(legacy) => self.tag(legacy.tag().as_str(), &artifact),
            None => Ok(()),
        }
    }
}

fn layer(files: &[(&str, &[u8], u32)]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, path, *bytes)?;
    }
    archive.into_inner()
}

/// Makes the CycloneDX SBOM of this program's dependencies from the lock file that it was built with.
fn sbom(lock: &str) -> Value {
    let packages = lock.split("[[package]]").skip(1).map(|package| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")))?;
            line.strip_suffix('"')
        };
        let (name, version) = (value("name").unwrap_or_default(), value("version").unwrap_or_default());
        let mut component = json!({
            "type": "library", "name": name, "version": version, "purl": format!("pkg:cargo/{name}@{version}"),
        });
        if let Some(checksum) = value("checksum") {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        component
    });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": { "type": "application", "name": "stellaops", "version": TAG } },
        "components": packages.collect::<Vec<_>>(),
    })
}

fn sbom_of_platform(platform: &Descriptor) -> Value {
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": { "type": "container", "name": REPOSITORY, "version": platform.digest } },
        "components": [{ "type": "file", "name": "/usr/bin/stellaops" }, { "type": "file", "name": "/LICENSE" }],
    })
}

fn provenance(subject: &Digest) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": REPOSITORY, "digest": { "sha256": subject.encoded() } }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": { "buildType": "https://example.com/stellaops/demo/v1", "externalParameters": {} },
            "runDetails": { "builder": { "id": "https://example.com/stellaops/demo" } },
        },
    })
}

fn vex(subject: &Digest) -> Value {
    json!({
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://example.com/vex/demo-1",
        "author": "StellaOps demo",
        "version": 1,
        "statements": [{
            "vulnerability": { "name": "CVE-0000-0000" },
            "products": [{ "@id": format!("pkg:oci/stellaops@{subject}") }],
            "status": "not_affected",
            "justification": "component_not_present",
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sbom_lists_the_packages_of_the_lock_file() {
        let sbom = sbom(LOCK);
        let components = sbom["components"].as_array().unwrap();
        let serde = components
            .iter()
            .find(|component| component["name"] == "serde")
            .unwrap();
        assert!(
            serde["purl"]
                .as_str()
                .unwrap()
                .starts_with("pkg:cargo/serde@1.")
        );
        assert_eq!(serde["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(components.len(), LOCK.matches("[[package]]").count());
    }
}
