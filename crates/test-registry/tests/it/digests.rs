use oci_content::{Algorithm, Descriptor, Digest, media_type};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::client::{get, referrers};

#[tokio::test]
async fn a_tag_names_a_sha512_digest_that_can_be_read_and_has_referrers() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("app", "1.0");
    let bytes = registry.manifest("app", &image.digest).unwrap();
    let digest = Digest::compute(Algorithm::Sha512, &bytes);
    let media_type = media_type::IMAGE_MANIFEST;
    let image = registry.put_manifest_as("app", &digest, media_type, bytes);
    registry.tag("app", "1.0", &digest);
    let subject: &Descriptor = &image;
    let referrer = registry.referrer("app", subject, "a/b", "x");
    for reference in ["1.0", &digest.to_string()] {
        let read = get(&registry, "app", &format!("manifests/{reference}")).await;
        let seen = (read.status, read.header("docker-content-digest"));
        assert_eq!(seen, (200, digest.to_string().as_str()));
    }
    let listed = referrers(&registry, "app", &digest).await.digests();
    assert_eq!(listed, [referrer.digest.to_string()]);
}

#[tokio::test]
async fn a_digest_header_can_be_another_bodys() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    registry.image("app", "1.0");
    let other = Digest::of(b"another body").to_string();
    registry.fault(
        Route::manifests(),
        Fault::pass().header("Docker-Content-Digest", &other),
    );
    let read = get(&registry, "app", "manifests/1.0").await;
    assert_eq!(read.header("docker-content-digest"), other);
    assert_ne!(Digest::of(&read.body).to_string(), other);
}
