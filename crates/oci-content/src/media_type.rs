//! Media types of the image specification, of Docker's schema 2, and of what this project writes.

/// An OCI image manifest.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index; also the body of a referrers list.
pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The artifact manifest of the image specification's release candidates; still found in
/// registries.
pub const ARTIFACT_MANIFEST: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// An OCI image configuration.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty descriptor's content, `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The `Accept` header for requests for a manifest.
pub const ACCEPT_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.artifact.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Returns whether content of this type is a supported manifest, which registries serve under
/// `manifests/`.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(
        media_type,
        IMAGE_MANIFEST | ARTIFACT_MANIFEST | DOCKER_MANIFEST
    ) || is_index(media_type)
}

/// Returns whether an index entry of this type counts as a manifest, supported or not. An entry of
/// any other type is a blob, such as the layers and the config of a build cache.
///
/// An unsupported manifest does not count as a blob, because what it lists would then be ignored;
/// neither does an entry without a type.
pub fn names_manifest(media_type: &str) -> bool {
    let essence = essence(media_type);
    essence.is_empty() || essence.contains(".manifest.") || essence == IMAGE_INDEX
}

/// Returns whether content of this type lists other manifests.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, IMAGE_INDEX | DOCKER_MANIFEST_LIST)
}

/// Returns the type in lower case and without parameters, to compare content types.
pub fn essence(content_type: &str) -> String {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_index_lists_is_a_manifest_or_a_blob_by_its_type() {
        for manifest in [
            IMAGE_MANIFEST,
            IMAGE_INDEX,
            ARTIFACT_MANIFEST,
            DOCKER_MANIFEST,
            DOCKER_MANIFEST_LIST,
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "application/vnd.cncf.oras.artifact.manifest.v1+json",
            "Application/vnd.oci.image.index.v1+json; charset=utf-8",
            "",
        ] {
            assert!(names_manifest(manifest), "{manifest}");
        }
        for blob in [
            IMAGE_CONFIG,
            EMPTY,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.buildkit.cacheconfig.v0",
            "application/octet-stream",
            "application/json",
        ] {
            assert!(!names_manifest(blob), "{blob}");
        }
    }
}
