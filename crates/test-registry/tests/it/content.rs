#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use oci_content::{Descriptor, Digest, Manifest, ManifestContent, media_type, referrers_tag};
use test_registry::{Persona, Referrer, TestRegistry};

use crate::client::{get, referrers};

fn parsed(registry: &TestRegistry, of: &Descriptor) -> Manifest {
    let bytes = registry.manifest("app", &of.digest).unwrap();
    assert_eq!(bytes.len() as u64, of.size);
    Manifest::parse_verified(bytes, &of.digest, None).unwrap()
}

/// Everything that an image names is there.
fn assert_whole(registry: &TestRegistry, image: &Manifest) {
    for blob in image.blobs() {
        assert!(registry.has_blob("app", &blob.digest), "{}", blob.digest);
    }
    for child in image.entries() {
        assert_whole(registry, &parsed(registry, child));
    }
}

#[tokio::test]
async fn images_and_indexes_are_whole_and_each_is_another() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let one = registry.image("app", "1.0");
    let two = registry.image("app", "2.0");
    assert_ne!(one.digest, two.digest);
    assert_whole(&registry, &parsed(&registry, &one));
    let index = registry.index("app", "index", &["linux/amd64", "linux/arm64/v8"]);
    let manifest = parsed(&registry, &index.descriptor);
    assert_whole(&registry, &manifest);
    assert_eq!(manifest.entries(), index.children);
    let platforms: Vec<_> = index
        .children
        .iter()
        .map(|child| child.platform.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64/v8"]);
    assert_eq!(registry.tags("app"), ["1.0", "2.0", "index"]);
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn buildkit_attestations_are_children_and_no_referrers() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let index = registry.index_with_attestations("app", "1.0", &["linux/amd64", "linux/arm64"]);
    let manifest = parsed(&registry, &index.descriptor);
    assert_whole(&registry, &manifest);
    let children = manifest.entries();
    assert_eq!(children.len(), 4);
    for (attestation, child) in index.attestations.iter().zip(&index.children) {
        assert!(children.contains(attestation) && attestation.is_buildkit_attestation());
        assert_eq!(attestation.buildkit_subject().as_ref(), Some(&child.digest));
        assert_eq!(
            referrers(&registry, "app", &child.digest).await.digests(),
            [""; 0]
        );
    }
}

#[tokio::test]
async fn referrers_come_in_every_form_that_a_list_can_hold() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("app", "1.0");
    for (referrer, artifact_type, media_type) in [
        (
            Referrer::new(&image, "a/b", "1"),
            Some("a/b"),
            media_type::IMAGE_MANIFEST,
        ),
        (
            Referrer::new(&image, "a/b", "2").typed_by_config(),
            Some("a/b"),
            media_type::IMAGE_MANIFEST,
        ),
        (
            Referrer::new(&image, "a/b", "3").as_index(),
            Some("a/b"),
            media_type::IMAGE_INDEX,
        ),
        (
            Referrer::new(&image, "a/b", "4").as_untyped_index(),
            None,
            media_type::IMAGE_INDEX,
        ),
    ] {
        let put = registry.put_referrer("app", referrer.annotation("k", "v"));
        let manifest = parsed(&registry, &put);
        assert_whole(&registry, &manifest);
        assert_eq!(
            manifest.subject().map(|subject| &subject.digest),
            Some(&image.digest)
        );
        assert_eq!(
            (manifest.artifact_type(), manifest.media_type()),
            (artifact_type, media_type)
        );
        assert_eq!(put.artifact_type.as_deref(), artifact_type);
        let listed = referrers(&registry, "app", &image.digest).await.json();
        let listed = listed["manifests"].as_array().unwrap();
        assert!(listed.contains(&serde_json::json!(put)));
    }
}

#[tokio::test]
async fn a_referrer_is_listed_where_the_test_wants_it() {
    for persona in [Persona::SpecFull, Persona::Dist3] {
        let has_api = persona == Persona::SpecFull;
        for (form, by_api, by_tag) in [
            (0, has_api, !has_api),
            (1, has_api, false),
            (2, false, true),
            (3, has_api, true),
        ] {
            let registry = TestRegistry::start(persona).await;
            let image = registry.image("app", "1.0");
            let referrer = Referrer::new(&image, "a/b", "x");
            let referrer = match form {
                0 => referrer,
                1 => referrer.without_tag_index(),
                2 => referrer.only_in_tag_index(),
                _ => referrer.also_in_tag_index(),
            };
            let put = registry.put_referrer("app", referrer);
            let listed = referrers(&registry, "app", &image.digest).await.digests();
            let path = format!("manifests/{}", referrers_tag(&image.digest));
            let tagged = get(&registry, "app", &path).await.digests();
            let digest = put.digest.to_string();
            let found = (listed.contains(&digest), tagged.contains(&digest));
            assert_eq!(found, (by_api, by_tag), "{persona} {form}");
        }
    }
}

#[tokio::test]
async fn a_tag_index_gathers_and_can_be_written_wrong() {
    let registry = TestRegistry::start(Persona::Dist2).await;
    let image = registry.image("app", "1.0");
    let first = registry.referrer("app", &image, "a/b", "1");
    let second = registry.referrer("app", &image, "a/b", "2");
    let tag = referrers_tag(&image.digest);
    let index = registry.resolve("app", tag.as_str()).unwrap();
    let index = registry.manifest("app", &index).unwrap();
    let index = Manifest::parse(index, None).unwrap();
    assert_eq!(index.entries(), [first, second]);
    let wrong = Descriptor::of("a/b", b"nowhere");
    let written = registry.referrers_tag_index("app", &image.digest, &[wrong]);
    assert_eq!(registry.resolve("app", tag.as_str()), Some(written.digest));
}

#[tokio::test]
async fn legacy_artifacts_have_a_tag_and_no_subject() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("app", "1.0");
    for suffix in ["sig", "att", "sbom", "vex"] {
        let put = registry.legacy("app", &image.digest, suffix, suffix);
        let tag = format!("sha256-{}.{suffix}", image.digest.encoded());
        assert_eq!(registry.resolve("app", &tag), Some(put.digest.clone()));
        let manifest = parsed(&registry, &put);
        assert_whole(&registry, &manifest);
        assert!(manifest.subject().is_none());
        let ManifestContent::Image { config, .. } = manifest.content() else {
            panic!("{put:?} is no image");
        };
        let config = config.as_ref().unwrap();
        assert_eq!(config.media_type, media_type::IMAGE_CONFIG);
    }
    assert_eq!(
        referrers(&registry, "app", &image.digest).await.digests(),
        [""; 0]
    );
}

#[tokio::test]
async fn what_is_deleted_untagged_hidden_and_lost_is_gone_from_where_it_should_be() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("app", "1.0");
    let referrer = |payload: &'static str| registry.referrer("app", &image, "a/b", payload);
    let (deleted, hidden, lost) = (referrer("d"), referrer("h"), referrer("l"));
    registry.delete("app", &deleted.digest);
    registry.hide_referrer("app", &hidden.digest);
    registry.lose("app", &lost.digest);
    registry.untag("app", "1.0");
    let listed = referrers(&registry, "app", &image.digest).await.digests();
    assert_eq!(listed, [lost.digest.to_string()]);
    for (of, status) in [(&deleted, 404), (&hidden, 200), (&lost, 404), (&image, 200)] {
        let path = format!("manifests/{}", of.digest);
        assert_eq!(get(&registry, "app", &path).await.status, status);
    }
    assert_eq!(get(&registry, "app", "manifests/1.0").await.status, 404);
}

#[tokio::test]
async fn a_manifest_can_be_put_under_a_digest_that_it_does_not_have() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let digest = Digest::of(b"other");
    registry.put_manifest_as("app", &digest, media_type::IMAGE_MANIFEST, "{}");
    let answer = get(&registry, "app", &format!("manifests/{digest}")).await;
    assert_eq!((answer.status, answer.text()), (200, "{}"));
}
