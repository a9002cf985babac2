use oci_content::{Algorithm, Digest, Manifest, media_type};

use crate::manifest_cache::ManifestCache;

/// Tests a [`ManifestCache`] against its contract. `cache` creates an empty one.
///
/// - What was not kept is absent.
/// - What comes back is what was kept, with the same bytes, digest and media type. A cache may
///   forget, so an absence breaks no rule.
/// - Keeping a manifest twice is not an error.
///
/// # Panics
///
/// When a rule is broken.
pub fn manifest_cache<C: ManifestCache>(cache: impl FnOnce() -> C) {
    let cache = cache();
    let kept = samples();
    for manifest in &kept {
        let found = cache.manifest(manifest.digest());
        assert!(
            found.is_none(),
            "what was not kept must be absent: {found:?}"
        );
    }
    for manifest in kept.iter().chain(&kept) {
        cache.keep(manifest);
        for manifest in &kept {
            let Some(found) = cache.manifest(manifest.digest()) else {
                continue;
            };
            assert_eq!(
                (found.raw(), found.digest(), found.media_type()),
                (manifest.raw(), manifest.digest(), manifest.media_type()),
                "what comes back must be what was kept"
            );
        }
    }
}

/// Returns manifests of several types, under digests of both algorithms, with and without a media
/// type of their own.
fn samples() -> Vec<Manifest> {
    let config = Digest::of(b"{}");
    let image = |own_type: &str, more: &str| {
        format!(
            r#"{{"schemaVersion":2{own_type},"config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[]{more}}}"#,
            media_type::EMPTY
        )
    };
    let typed = |name: &str| format!(r#","mediaType":"{name}""#);
    let documents = [
        (image(&typed(media_type::IMAGE_MANIFEST), ""), None),
        (image("", ""), None),
        (image(&typed(media_type::DOCKER_MANIFEST), ""), None),
        // Only the registry says what it is.
        (image("", " "), Some(media_type::DOCKER_MANIFEST)),
        (r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), None),
    ];
    let mut samples = Vec::new();
    for (document, content_type) in documents {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::compute(algorithm, document.as_bytes());
            let raw = document.clone().into_bytes().into();
            let parsed = Manifest::parse_verified(raw, &digest, content_type);
            samples.push(parsed.unwrap_or_else(|error| panic!("a sample is a manifest: {error}")));
        }
    }
    samples
}
