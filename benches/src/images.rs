use oci_content::Descriptor;
use test_registry::TestRegistry;

/// How many images there are.
pub const IMAGES: u64 = 10;

/// Where they are.
pub const REPOSITORY: &str = "mirror/app";

/// Bytes that do not compress: a counter through a multiplicative hash.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// Returns the tag of an image.
pub fn tag(number: u64) -> String {
    format!("v{number}")
}

/// Fills a registry with [`IMAGES`] images of two platforms with three layers each, and six referrers of each image.
pub fn fill(registry: &TestRegistry, layer_bytes: usize) {
    let repository = REPOSITORY;
    for number in 0..IMAGES {
        let children: Vec<Descriptor> = (0..2u64)
            .map(|platform| {
                let layers = (0..3u64)
                    .map(|layer| noise(1 + number * 100 + platform * 10 + layer, layer_bytes));
                let tag = format!("v{number}-{platform}");
                let image = registry.image_with_layers(repository, &tag, layers);
                registry.untag(repository, &tag);
                image
            })
            .collect();
        let listed: Vec<String> = children
            .iter()
            .zip(["amd64", "arm64"])
            .map(|(child, architecture)| {
                format!(
                    r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                    child.media_type, child.digest, child.size,
                )
            })
            .collect();
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            oci_content::media_type::IMAGE_INDEX,
            listed.join(","),
        );
        let index = registry.put_manifest(repository, oci_content::media_type::IMAGE_INDEX, index);
        registry.tag(repository, &tag(number), &index.digest);
        let sbom = registry.referrer(
            repository,
            &index,
            "application/vnd.cyclonedx+json",
            noise(number + 5000, 200_000),
        );
        registry.referrer(
            repository,
            &index,
            "application/vnd.in-toto+json",
            noise(number + 6000, 20_000),
        );
        for (subject, seed) in [(&index, 7000), (&sbom, 8000)] {
            registry.referrer(
                repository,
                subject,
                "application/vnd.cncf.notary.signature",
                noise(number + seed, 2_000),
            );
        }
        for (child, seed) in children.iter().zip([9000, 9500]) {
            registry.referrer(
                repository,
                child,
                "application/spdx+json",
                noise(number + seed, 50_000),
            );
        }
    }
}

/// Adds to half of the images what cosign made before there were referrers: a signature, an attestation and an SBOM, each
/// under a tag. Returns the number of tags.
///
/// # Panics
///
/// If the registry was not [filled](fill).
pub fn legacy_tags(registry: &TestRegistry) -> usize {
    let mut made = 0;
    for number in 0..IMAGES / 2 {
        let subject = registry
            .resolve(REPOSITORY, &tag(number))
            .expect("the images were filled in");
        for (suffix, bytes) in [("sig", 300), ("att", 3_000), ("sbom", 30_000)] {
            let payload = noise(number + bytes as u64, bytes);
            registry.legacy(REPOSITORY, &subject, suffix, payload);
            made += 1;
        }
    }
    made
}
