use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::{ArtifactManifest, ImageIndex, ImageManifest};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::descriptor::{Descriptor, DescriptorError, is_object};
use crate::digest::Digest;
use crate::media_type;

/// The largest manifest that is read, in bytes: 4 MiB.
///
/// Registries are asked to take at least 4 megabytes, and none in wide use takes more:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests>
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// A manifest: the bytes as they came, and what was read out of them.
///
/// - The digest is computed from the bytes, never taken from a header.
/// - The bytes are what is stored and pushed; nothing is ever serialised again.
/// - Cheap to clone: copies share everything.
#[derive(Clone, Debug)]
pub struct Manifest(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    raw: Bytes,
    digest: Digest,
    media_type: String,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    annotations: BTreeMap<String, String>,
    content: ManifestContent,
}

/// What a manifest lists.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ManifestContent {
    /// An image manifest, OCI or Docker schema 2.
    Image {
        /// The configuration.
        config: Box<Descriptor>,
        /// The layers, in order.
        layers: Vec<Descriptor>,
    },
    /// An image index or a Docker manifest list.
    Index {
        /// The manifests it lists, in order.
        manifests: Vec<Descriptor>,
    },
    /// An artifact manifest of the image specification's release candidates.
    Artifact {
        /// The blobs, in order.
        blobs: Vec<Descriptor>,
    },
}

/// Why bytes are no manifest that can be used.
#[derive(Debug, thiserror::Error)]
#[error("manifest {digest}: {reason}")]
pub struct ManifestError {
    digest: Digest,
    kind: ManifestErrorKind,
    reason: String,
}

/// The classes of [`ManifestError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestErrorKind {
    /// The bytes are not the ones that were asked for.
    Digest,
    /// The bytes are no manifest of the type they claim to be.
    Malformed,
    /// A well-formed document of a type that is not handled, such as Docker schema 1.
    Unsupported,
    /// One document that can be read as two types.
    TypeConfusion,
}

impl ManifestError {
    /// Returns the class.
    pub fn kind(&self) -> ManifestErrorKind {
        self.kind
    }

    /// Returns the digest of the bytes that were read.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// The members that decide which kind of manifest a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default, borrow)]
    manifests: Option<&'a RawValue>,
    #[serde(default, borrow)]
    layers: Option<&'a RawValue>,
    #[serde(default, borrow)]
    config: Option<&'a RawValue>,
    #[serde(default, borrow)]
    blobs: Option<&'a RawValue>,
    #[serde(default, borrow)]
    subject: Option<&'a RawValue>,
}

impl Shape<'_> {
    /// Tells whether everything that has to be a descriptor is an object: a derived reader also takes a list of
    /// the members in their order, which nobody else reads as a descriptor.
    fn has_object_descriptors(&self, media_type: &str) -> bool {
        let (config, list) = match media_type {
            media_type::IMAGE_MANIFEST | media_type::DOCKER_MANIFEST => (self.config, self.layers),
            media_type::ARTIFACT_MANIFEST => (None, self.blobs),
            _ => (None, self.manifests),
        };
        let single = [config, self.subject].into_iter().flatten();
        // A list that is none is left to the reader of the type, which says so.
        let list = list.and_then(|list| serde_json::from_str::<Vec<&RawValue>>(list.get()).ok());
        single
            .chain(list.into_iter().flatten())
            .all(|descriptor| is_object(descriptor.get()))
    }
}

impl Manifest {
    /// Reads a manifest that was asked for by digest, and checks that it is the one.
    ///
    /// # Errors
    ///
    /// [`ManifestErrorKind::Digest`] when the bytes hash to something else; otherwise as [`parse`](Self::parse).
    pub fn parse_verified(
        raw: Bytes,
        expected: &Digest,
        content_type: Option<&str>,
    ) -> Result<Self, ManifestError> {
        let digest = Digest::compute(expected.algorithm(), &raw);
        if digest != *expected {
            let reason = format!("{expected} was asked for, other bytes came");
            return Err(ManifestError {
                digest,
                kind: ManifestErrorKind::Digest,
                reason,
            });
        }
        Self::parse_as(raw, digest, content_type)
    }

    /// Reads a manifest; its digest is the SHA-256 of the bytes.
    ///
    /// `content_type` decides only where the document has no `mediaType` of its own.
    ///
    /// # Errors
    ///
    /// When the bytes are no manifest, a manifest of a type that is not handled, or one that reads as two types
    /// (a document with both `manifests` and `layers`).
    pub fn parse(raw: Bytes, content_type: Option<&str>) -> Result<Self, ManifestError> {
        let digest = Digest::of(&raw);
        Self::parse_as(raw, digest, content_type)
    }

    fn parse_as(
        raw: Bytes,
        digest: Digest,
        content_type: Option<&str>,
    ) -> Result<Self, ManifestError> {
        let fail = |kind, reason: String| {
            Err(ManifestError {
                digest: digest.clone(),
                kind,
                reason,
            })
        };
        let malformed = |reason: String| ManifestError {
            digest: digest.clone(),
            kind: ManifestErrorKind::Malformed,
            reason,
        };
        let shape: Shape<'_> =
            serde_json::from_slice(&raw).map_err(|e| malformed(format!("not JSON: {e}")))?;
        if !raw.trim_ascii_start().starts_with(b"{") {
            return Err(malformed("not a JSON object".into()));
        }
        if depth(&raw) > MAX_DEPTH {
            return Err(malformed(format!("JSON of more than {MAX_DEPTH} levels")));
        }
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            let reason =
                "it has both `manifests` and `layers` or `config`, so it reads as two types".into();
            return fail(ManifestErrorKind::TypeConfusion, reason);
        }
        if shape.schema_version == Some(1) {
            let reason =
                "Docker schema 1 is not supported; have the image built or pushed again".into();
            return fail(ManifestErrorKind::Unsupported, reason);
        }
        let media_type = match (&shape.media_type, content_type.map(media_type::essence)) {
            (Some(own), _) => own.clone(),
            (None, Some(given)) if media_type::is_manifest(&given) => given,
            (None, _) if shape.manifests.is_some() => media_type::IMAGE_INDEX.to_owned(),
            (None, _) if shape.config.is_some() => media_type::IMAGE_MANIFEST.to_owned(),
            (None, _) => {
                return fail(
                    ManifestErrorKind::Malformed,
                    "no `mediaType`, and no content that tells".into(),
                );
            }
        };
        if !shape.has_object_descriptors(&media_type) {
            return Err(malformed("a descriptor is not an object".into()));
        }
        drop(shape);

        let one = |from: &oci_spec::image::Descriptor| Descriptor::try_from(from);
        let all = |from: &[oci_spec::image::Descriptor]| {
            from.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        let bad_json = |e: serde_json::Error| malformed(e.to_string());
        let bad_descriptor = |e: DescriptorError| malformed(e.to_string());
        let sorted =
            |map: &Option<std::collections::HashMap<String, String>>| -> BTreeMap<String, String> {
                map.iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect()
            };
        let (artifact_type, subject, annotations, content) = match media_type.as_str() {
            media_type::IMAGE_MANIFEST | media_type::DOCKER_MANIFEST => {
                let manifest: ImageManifest = serde_json::from_slice(&raw).map_err(bad_json)?;
                let config = Box::new(one(manifest.config()).map_err(bad_descriptor)?);
                // An image manifest without an artifact type has its config's media type for one:
                // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
                let artifact_type = match manifest.artifact_type() {
                    Some(own) if !own.to_string().is_empty() => own.to_string(),
                    _ => config.media_type.clone(),
                };
                let subject = manifest
                    .subject()
                    .as_ref()
                    .map(one)
                    .transpose()
                    .map_err(bad_descriptor)?;
                let layers = all(manifest.layers()).map_err(bad_descriptor)?;
                (
                    Some(artifact_type),
                    subject,
                    sorted(manifest.annotations()),
                    ManifestContent::Image { config, layers },
                )
            }
            media_type::IMAGE_INDEX | media_type::DOCKER_MANIFEST_LIST => {
                let index: ImageIndex = serde_json::from_slice(&raw).map_err(bad_json)?;
                let artifact_type = index.artifact_type().as_ref().map(ToString::to_string);
                let subject = index
                    .subject()
                    .as_ref()
                    .map(one)
                    .transpose()
                    .map_err(bad_descriptor)?;
                let manifests = all(index.manifests()).map_err(bad_descriptor)?;
                (
                    artifact_type,
                    subject,
                    sorted(index.annotations()),
                    ManifestContent::Index { manifests },
                )
            }
            media_type::ARTIFACT_MANIFEST => {
                let artifact: ArtifactManifest = serde_json::from_slice(&raw).map_err(bad_json)?;
                let artifact_type = Some(artifact.artifact_type().to_string());
                let subject = artifact
                    .subject()
                    .as_ref()
                    .map(one)
                    .transpose()
                    .map_err(bad_descriptor)?;
                let blobs = all(artifact.blobs()).map_err(bad_descriptor)?;
                (
                    artifact_type,
                    subject,
                    sorted(artifact.annotations()),
                    ManifestContent::Artifact { blobs },
                )
            }
            other => {
                let reason = format!(
                    "media type {:?} is no manifest that is handled",
                    crate::digest::clip(other)
                );
                return fail(ManifestErrorKind::Unsupported, reason);
            }
        };
        Ok(Self(Arc::new(Parsed {
            raw,
            digest,
            media_type,
            artifact_type,
            subject,
            annotations,
            content,
        })))
    }

    /// Returns the bytes as they came.
    pub fn raw(&self) -> &Bytes {
        &self.0.raw
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// Returns the size of the bytes.
    pub fn size(&self) -> u64 {
        self.0.raw.len() as u64
    }

    /// Returns the media type: the document's own, else the one it came with.
    pub fn media_type(&self) -> &str {
        &self.0.media_type
    }

    /// Returns the artifact type as the specification derives it: `artifactType`, else for an image manifest the
    /// media type of its config. An index without one has none.
    pub fn artifact_type(&self) -> Option<&str> {
        self.0.artifact_type.as_deref()
    }

    /// Returns the manifest that this one refers to.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.0.subject.as_ref()
    }

    /// Returns the annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.0.annotations
    }

    /// Returns what the manifest lists.
    pub fn content(&self) -> &ManifestContent {
        &self.0.content
    }

    /// Returns the manifests that an index lists; none for every other kind.
    pub fn children(&self) -> &[Descriptor] {
        match &self.0.content {
            ManifestContent::Index { manifests } => manifests,
            _ => &[],
        }
    }

    /// Returns the blobs that the manifest needs: config and layers, or an artifact manifest's blobs.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, rest) = match &self.0.content {
            ManifestContent::Image { config, layers } => (Some(config.as_ref()), layers.as_slice()),
            ManifestContent::Index { .. } => (None, &[][..]),
            ManifestContent::Artifact { blobs } => (None, blobs.as_slice()),
        };
        config.into_iter().chain(rest)
    }

    /// Returns the descriptor of this manifest, with its artifact type and annotations as a referrers list
    /// carries them.
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor =
            Descriptor::new(&self.0.media_type, self.0.digest.clone(), self.size());
        descriptor.artifact_type.clone_from(&self.0.artifact_type);
        descriptor.annotations.clone_from(&self.0.annotations);
        descriptor
    }
}

/// Levels of JSON within JSON, in members that nobody reads as well: what one reader skips, another one walks into.
const MAX_DEPTH: usize = 128;

/// Returns how deep the lists and objects of a JSON document are within each other.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(Bytes::copy_from_slice(json.as_bytes()), content_type)
    }

    fn descriptor(media_type: &str) -> String {
        format!(
            r#"{{"mediaType":"{media_type}","digest":"{}","size":1}}"#,
            Digest::of(b"x")
        )
    }

    #[test]
    fn an_artifact_type_comes_from_the_manifest_else_from_its_config() {
        let config = descriptor("application/vnd.example.config");
        let image = |more: &str| {
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]{more}}}"#,
                media_type::IMAGE_MANIFEST
            )
        };
        let own = parse(&image(r#","artifactType":"a/b""#), None).unwrap();
        assert_eq!(own.artifact_type(), Some("a/b"));
        let none = parse(&image(""), None).unwrap();
        assert_eq!(none.artifact_type(), Some("application/vnd.example.config"));
        let index = parse(r#"{"schemaVersion":2,"manifests":[]}"#, None).unwrap();
        assert_eq!(
            (index.artifact_type(), index.media_type()),
            (None, media_type::IMAGE_INDEX)
        );
    }

    #[test]
    fn every_blob_and_the_subject_are_found() {
        let image = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{},{}],"subject":{}}}"#,
            media_type::IMAGE_MANIFEST,
            descriptor("c/c"),
            descriptor("l/1"),
            descriptor("l/2"),
            descriptor(media_type::IMAGE_INDEX),
        );
        let manifest = parse(&image, None).unwrap();
        let types: Vec<_> = manifest
            .blobs()
            .map(|blob| blob.media_type.as_str())
            .collect();
        assert_eq!(types, ["c/c", "l/1", "l/2"]);
        assert_eq!(
            manifest.subject().unwrap().media_type,
            media_type::IMAGE_INDEX
        );
        assert_eq!(manifest.raw(), image.as_bytes());
    }

    #[test]
    fn documents_that_are_no_usable_manifest_are_refused_by_class() {
        use ManifestErrorKind::{Malformed, TypeConfusion, Unsupported};
        let (config, index) = (descriptor("c/c"), media_type::IMAGE_INDEX);
        let digest = Digest::of(b"x");
        for (json, kind) in [
            (
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[],"layers":[]}}"#
                ),
                TypeConfusion,
            ),
            (
                format!(r#"{{"schemaVersion":2,"manifests":[],"config":{config}}}"#),
                TypeConfusion,
            ),
            (
                r#"{"schemaVersion":1,"name":"x","tag":"y"}"#.to_owned(),
                Unsupported,
            ),
            (
                r#"{"schemaVersion":2,"mediaType":"text/html"}"#.to_owned(),
                Unsupported,
            ),
            (r#"{"schemaVersion":2}"#.to_owned(), Malformed),
            ("<html>".to_owned(), Malformed),
            ("[]".to_owned(), Malformed),
            // What serde reads as a struct without being told: its members in a list.
            (format!(r#"[2,"{index}",[]]"#), Malformed),
            (
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[["a/b","{digest}",1]]}}"#
                ),
                Malformed,
            ),
            (
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[],"subject":["a/b","{digest}",1]}}"#
                ),
                Malformed,
            ),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"{index}"}}"#),
                Malformed,
            ),
            (
                r#"{"schemaVersion":2,"schemaVersion":2,"manifests":[]}"#.to_owned(),
                Malformed,
            ),
        ] {
            assert_eq!(parse(&json, None).unwrap_err().kind(), kind, "{json}");
        }
        let other = Manifest::parse_verified(Bytes::from_static(b"{}"), &Digest::of(b"x"), None);
        assert_eq!(other.unwrap_err().kind(), ManifestErrorKind::Digest);
    }

    #[test]
    fn json_that_is_too_deep_is_no_manifest_wherever_it_is() {
        let index = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            let text = format!(r#"{{"schemaVersion":2,"x":{open}"\"[[["{close},"manifests":[]}}"#);
            parse(&text, None)
        };
        assert!(index(127).is_ok());
        let error = index(128).unwrap_err();
        assert_eq!(error.kind(), ManifestErrorKind::Malformed);
        assert!(
            error.to_string().contains("more than 128 levels"),
            "{error}"
        );
    }

    #[test]
    fn a_content_type_decides_only_where_the_document_does_not() {
        let docker = parse(
            r#"{"schemaVersion":2,"manifests":[]}"#,
            Some(media_type::DOCKER_MANIFEST_LIST),
        )
        .unwrap();
        assert_eq!(docker.media_type(), media_type::DOCKER_MANIFEST_LIST);
        let lying = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            media_type::IMAGE_INDEX
        );
        assert_eq!(
            parse(&lying, Some("text/plain")).unwrap().media_type(),
            media_type::IMAGE_INDEX
        );
    }
}
