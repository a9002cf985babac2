//! Media types of the image specification, of Docker's schema 2, and of what this project writes.

/// An OCI image manifest.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index; also the body of a referrers list.
pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The artifact manifest of the image specification's release candidates; still found in registries.
pub const ARTIFACT_MANIFEST: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// An OCI image configuration.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty descriptor's content, `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a client of a registry says it accepts when it asks for a manifest.
pub const ACCEPT_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.artifact.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Tells whether content of this type is a manifest of any kind, so that it has an address under `manifests/`.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(
        media_type,
        IMAGE_MANIFEST | ARTIFACT_MANIFEST | DOCKER_MANIFEST
    ) || is_index(media_type)
}

/// Tells whether content of this type lists other manifests.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, IMAGE_INDEX | DOCKER_MANIFEST_LIST)
}

/// Returns the type without its parameters, in lower case: what two content types are compared by.
pub fn essence(content_type: &str) -> String {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}
