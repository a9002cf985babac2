use oci_content::{Digest, media_type};

use super::*;
use crate::limits::Limits;

/// An image, an SBOM on it, a signature on the SBOM and a legacy signature on the image, with one blob each.
pub(crate) fn sample() -> BundleManifest {
    let blob = |name: &str| (Digest::of(name.as_bytes()), name.len() as u64);
    let (image, image_size) = blob("image");
    let (sbom, sbom_size) = blob("sbom");
    let (signature, signature_size) = blob("signature");
    let (legacy, legacy_size) = blob("legacy");
    let reference: Reference = "registry.example.com/team/app:1.0".parse().unwrap();
    let repository = SourceRepository::from(&reference);
    let manifest_type = media_type::IMAGE_MANIFEST;
    let record = |subject: &Digest| {
        DiscoveryRecord::new(
            repository.clone(),
            subject.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        )
    };
    let artifact = |subject: &Digest, digest: &Digest, artifact_type: &str, size| {
        let artifact_type = Some(artifact_type.to_owned());
        let mut artifact =
            ArtifactRecord::new(subject, digest.clone(), artifact_type, manifest_type, size)
                .unwrap();
        artifact.sources = vec![SourceKind::ReferrersApi];
        artifact
    };
    let mut on_image = record(&image);
    let cyclonedx = "application/vnd.cyclonedx+json";
    on_image
        .artifacts
        .push(artifact(&image, &sbom, cyclonedx, sbom_size));
    let mut tagged = artifact(&image, &legacy, media_type::IMAGE_CONFIG, legacy_size);
    tagged.sources = vec![SourceKind::LegacyTag];
    tagged.tag = Some(format!("sha256-{}.sig", image.encoded()).parse().unwrap());
    tagged.category = ArtifactCategory::Signature;
    on_image.artifacts.push(tagged);
    on_image.missing.push(Missing {
        code: "dangling-referrer".into(),
        digest: Some(blob("gone").0),
        source: Some("referrers-tag".into()),
    });
    let mut on_sbom = record(&sbom);
    let notation = "application/vnd.cncf.notary.signature";
    on_sbom
        .artifacts
        .push(artifact(&sbom, &signature, notation, signature_size));

    let mut manifest = BundleManifest::new(StreamName::default(), 1);
    let mut asked = ImageRecord::new(reference, image.clone(), manifest_type, image_size);
    asked
        .omitted
        .push(OmittedChild::new(blob("child").0, "platform"));
    manifest.images.push(asked);
    manifest.discovery = vec![on_image, on_sbom];
    for (digest, size) in [image, sbom, signature, legacy].into_iter().zip([
        image_size,
        sbom_size,
        signature_size,
        legacy_size,
    ]) {
        manifest
            .entries
            .push(EntryRecord::blob(&digest, size).unwrap());
    }
    let index = crate::index_json(&crate::index_descriptors(
        &manifest.images,
        &manifest.discovery,
    ));
    manifest
        .entries
        .push(EntryRecord::of(EntryPath::INDEX, &index));
    manifest
        .entries
        .push(EntryRecord::of(EntryPath::OCI_LAYOUT, crate::OCI_LAYOUT));
    manifest.settle(0);
    manifest
}

fn parse(bytes: &[u8]) -> Result<BundleManifest, ManifestError> {
    BundleManifest::parse(bytes, &Limits::default())
}

#[test]
fn the_sample_has_the_encoding_that_the_specification_shows() {
    let yaml = String::from_utf8(sample().to_yaml().unwrap()).unwrap();
    let expected = include_str!("sample.yaml");
    assert_eq!(yaml, expected);
    assert_eq!(parse(yaml.as_bytes()).unwrap(), sample());
}

#[test]
fn an_empty_bundle_has_an_encoding_too() {
    let mut manifest = BundleManifest::new("site-1".parse().unwrap(), 0);
    for path in [EntryPath::INDEX, EntryPath::OCI_LAYOUT] {
        manifest.entries.push(EntryRecord::of(path, b""));
    }
    manifest.settle(0);
    let yaml = manifest.to_yaml().unwrap();
    assert_eq!(parse(&yaml).unwrap(), manifest);
    let text = String::from_utf8(yaml).unwrap();
    assert!(
        text.contains("  by_category: {}\nimages: []\ndiscovery: []\nentries:\n"),
        "{text}"
    );
}
