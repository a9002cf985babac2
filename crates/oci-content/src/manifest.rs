use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bounded::clip;
use crate::descriptor::{
    self, Descriptor, DescriptorError, ForeignAnnotations, ForeignDescriptor, annotations, filled,
    said,
};
use crate::digest::Digest;
use crate::json::{self, Object};
use crate::media_type;

/// The largest manifest that is read, in bytes: 4 MiB.
///
/// Registries are asked to take at least 4 megabytes, and none in wide use takes more:
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests>
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// A manifest: its original bytes, and what was parsed from them.
///
/// - The digest is computed from the bytes, never taken from a header.
/// - The bytes are what is stored and pushed; a manifest is never serialized again.
/// - Cheap to clone: copies share everything.
#[derive(Clone, Debug)]
pub struct Manifest(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    raw: Bytes,
    digest: Digest,
    meaning: Meaning,
}

/// The content that a manifest lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestContent {
    /// An image manifest, OCI or Docker schema 2.
    #[non_exhaustive]
    Image {
        /// The configuration. Only a manifest with an `artifactType` may lack one.
        config: Option<Box<Descriptor>>,
        /// The layers, in order.
        layers: Vec<Descriptor>,
    },
    /// An image index or a Docker manifest list.
    #[non_exhaustive]
    Index {
        /// The entries, in order: usually manifests, but possibly content of any type, such as the
        /// layers of a build cache.
        manifests: Vec<Descriptor>,
    },
    /// An artifact manifest of the image specification's release candidates.
    #[non_exhaustive]
    Artifact {
        /// The blobs, in order.
        blobs: Vec<Descriptor>,
    },
}

/// Why bytes cannot be used as a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manifest {digest}: {reason}")]
pub struct ManifestError {
    digest: Digest,
    kind: ManifestErrorKind,
    reason: String,
}

/// The classes of [`ManifestError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ManifestErrorKind {
    /// The bytes do not have the requested digest.
    Digest,
    /// The bytes are not a valid manifest of their type.
    Malformed,
    /// A well-formed document of an unsupported type, such as Docker schema 1.
    Unsupported,
    /// A document that can be read as two types.
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

impl Manifest {
    /// Parses a manifest that was requested by digest, after verifying the digest.
    ///
    /// # Errors
    ///
    /// [`ManifestErrorKind::Digest`] when the bytes hash to something else; otherwise as
    /// [`parse`](Self::parse).
    pub fn parse_verified(
        raw: Bytes,
        expected: &Digest,
        content_type: Option<&str>,
    ) -> Result<Self, ManifestError> {
        let digest = Digest::compute(expected.algorithm(), &raw);
        if digest != *expected {
            let reason = format!("the bytes do not hash to {expected}, which was requested");
            return Err(ManifestError {
                digest,
                kind: ManifestErrorKind::Digest,
                reason,
            });
        }
        Self::parse_as(raw, digest, content_type)
    }

    /// Parses a manifest; its digest is the SHA-256 of the bytes.
    ///
    /// `content_type` only matters if the document has no `mediaType`.
    ///
    /// `null` counts as missing. `layers`, `blobs` and, with an `artifactType`, `config` may be
    /// missing; `manifests` of an index may be `null`. The document must be UTF-8 with at most 128
    /// levels, and no object in it may have two members with the same name, not even in parts that
    /// are ignored.
    ///
    /// # Errors
    ///
    /// When the bytes are not a manifest, have an unsupported type, or can be read as two types
    /// (with both `manifests` and `layers`).
    pub fn parse(raw: Bytes, content_type: Option<&str>) -> Result<Self, ManifestError> {
        let digest = Digest::of(&raw);
        Self::parse_as(raw, digest, content_type)
    }

    fn parse_as(
        raw: Bytes,
        digest: Digest,
        content_type: Option<&str>,
    ) -> Result<Self, ManifestError> {
        match Members::read(&raw).and_then(|members| members.interpret(content_type)) {
            Ok(meaning) => Ok(Self(Arc::new(Parsed {
                raw,
                digest,
                meaning,
            }))),
            Err(Refusal(kind, reason)) => Err(ManifestError {
                digest,
                kind,
                reason,
            }),
        }
    }

    /// Returns the original bytes.
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

    /// Returns the media type: the document's own, else the content type that it came with.
    pub fn media_type(&self) -> &str {
        &self.0.meaning.media_type
    }

    /// Returns the media type that follows from the bytes alone: the document's own, else the one
    /// that its content implies. `None` if that contradicts the content type that it came with, or
    /// if the content implies none.
    pub fn own_media_type(&self) -> Option<&str> {
        let known = &self.0.meaning.media_type;
        let is_artifact = known == media_type::ARTIFACT_MANIFEST;
        if self.0.meaning.says_type {
            Some(known)
        } else {
            self.0.meaning.derived.filter(|_| !is_artifact)
        }
    }

    /// Returns the artifact type as the specification derives it: `artifactType`, else, for an
    /// image manifest only, the media type of its config.
    pub fn artifact_type(&self) -> Option<&str> {
        self.0.meaning.artifact_type.as_deref()
    }

    /// Returns the manifest that this one refers to.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.0.meaning.subject.as_ref()
    }

    /// Returns the annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.0.meaning.annotations
    }

    /// Returns the content that the manifest lists.
    pub fn content(&self) -> &ManifestContent {
        &self.0.meaning.content
    }

    /// Returns all entries of an index, of any type, in order; empty for other manifests.
    pub fn entries(&self) -> &[Descriptor] {
        match &self.0.meaning.content {
            ManifestContent::Index { manifests } => manifests,
            _ => &[],
        }
    }

    /// Returns the manifests that an index lists, in order: the entries whose media type is that of
    /// a manifest.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> + Clone {
        let is_manifest = |entry: &&Descriptor| media_type::names_manifest(&entry.media_type);
        self.entries().iter().filter(is_manifest)
    }

    /// Returns the blobs that the manifest needs, in order: the config and layers of an image, the
    /// blobs of an artifact manifest, or those entries of an index that are not manifests, such as
    /// the layers and the config of a BuildKit cache.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> + Clone {
        let (config, rest) = match &self.0.meaning.content {
            ManifestContent::Image { config, layers } => (config.as_deref(), layers.as_slice()),
            ManifestContent::Index { manifests } => (None, manifests.as_slice()),
            ManifestContent::Artifact { blobs } => (None, blobs.as_slice()),
        };
        let is_index = matches!(self.0.meaning.content, ManifestContent::Index { .. });
        let is_blob =
            move |one: &&Descriptor| !(is_index && media_type::names_manifest(&one.media_type));
        config.into_iter().chain(rest).filter(is_blob)
    }

    /// Returns every descriptor in the manifest: [children](Self::children), [blobs](Self::blobs)
    /// and subject.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.children().chain(self.blobs()).chain(self.subject())
    }

    /// Returns the descriptor of this manifest, with its artifact type and annotations as a
    /// referrers list carries them.
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::new(
            &self.0.meaning.media_type,
            self.0.digest.clone(),
            self.size(),
        );
        descriptor
            .artifact_type
            .clone_from(&self.0.meaning.artifact_type);
        descriptor
            .annotations
            .clone_from(&self.0.meaning.annotations);
        descriptor
    }
}

impl PartialEq for Manifest {
    /// Compares the bytes and the media type.
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest() && self.media_type() == other.media_type()
    }
}

impl Eq for Manifest {}

/// What was parsed from a document.
#[derive(Debug)]
struct Meaning {
    media_type: String,
    /// Whether `media_type` comes from the document.
    says_type: bool,
    /// The media type that the content implies.
    derived: Option<&'static str>,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    annotations: BTreeMap<String, String>,
    content: ManifestContent,
}

/// Why a document is rejected.
struct Refusal(ManifestErrorKind, String);

impl Refusal {
    fn malformed(reason: impl Into<String>) -> Self {
        Self(ManifestErrorKind::Malformed, reason.into())
    }

    fn unsupported(reason: impl Into<String>) -> Self {
        Self(ManifestErrorKind::Unsupported, reason.into())
    }
}

impl From<DescriptorError> for Refusal {
    fn from(error: DescriptorError) -> Self {
        Self::malformed(error.to_string())
    }
}

/// The members that are used. `null` counts as missing, except for `manifests`, where Go programs
/// write it for an empty index. Descriptors are parsed once it is known which of them matter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    schema_version: Option<u32>,
    media_type: Option<String>,
    #[serde(default, borrow, deserialize_with = "json::present")]
    manifests: Option<Option<&'a RawValue>>,
    #[serde(borrow)]
    layers: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    blobs: Option<&'a RawValue>,
    #[serde(borrow)]
    subject: Option<&'a RawValue>,
    artifact_type: Option<String>,
    annotations: Option<ForeignAnnotations>,
}

impl<'a> Members<'a> {
    fn read(raw: &'a [u8]) -> Result<Self, Refusal> {
        // A parser may ignore invalid UTF-8 in what it skips; others replace it and see a different
        // document.
        let text = std::str::from_utf8(raw).map_err(|_| Refusal::malformed("not UTF-8"))?;
        let not_json =
            |error: serde_json::Error| Refusal::malformed(format!("not JSON: {}", said(&error)));
        let Object(members) = serde_json::from_str(text).map_err(not_json)?;
        if json::depth(text) > json::MAX_DEPTH {
            let reason = format!("JSON of more than {} levels", json::MAX_DEPTH);
            return Err(Refusal::malformed(reason));
        }
        let _: json::Unambiguous = serde_json::from_str(text).map_err(not_json)?;
        Ok(members)
    }

    fn interpret(self, content_type: Option<&str>) -> Result<Meaning, Refusal> {
        if self.manifests.flatten().is_some() && (self.layers.is_some() || self.config.is_some()) {
            let reason =
                "it has both `manifests` and `layers` or `config`, so it reads as two types";
            return Err(Refusal(ManifestErrorKind::TypeConfusion, reason.into()));
        }
        match self.schema_version {
            None | Some(2) => {}
            Some(1) => {
                let reason =
                    "Docker schema 1 is not supported; have the image built or pushed again";
                return Err(Refusal::unsupported(reason));
            }
            Some(other) => {
                let reason = format!("schemaVersion {other} is not supported");
                return Err(Refusal::unsupported(reason));
            }
        }
        let own_type = filled(self.media_type);
        let says_type = own_type.is_some();
        let derived = if self.config.is_some() {
            Some(media_type::IMAGE_MANIFEST)
        } else {
            self.manifests.map(|_| media_type::IMAGE_INDEX)
        };
        let given = content_type.map(media_type::essence);
        let media_type = own_type
            .or(given.filter(|given| media_type::is_manifest(given)))
            .or(derived.map(str::to_owned))
            .ok_or_else(|| Refusal::malformed("no `mediaType`, and the content implies none"))?;
        if !media_type::is_manifest(&media_type) {
            let media_type = clip(&media_type);
            let reason = format!("media type {media_type:?} is not that of a supported manifest");
            return Err(Refusal::unsupported(reason));
        }
        if media_type != media_type::ARTIFACT_MANIFEST && self.schema_version.is_none() {
            return Err(Refusal::malformed("no `schemaVersion`"));
        }
        if media_type::is_index(&media_type) && self.manifests.is_none() {
            return Err(Refusal::malformed("no `manifests`"));
        }
        let mut artifact_type = filled(self.artifact_type);
        let content = match media_type.as_str() {
            media_type::IMAGE_MANIFEST | media_type::DOCKER_MANIFEST => {
                let config = self.config.map(config_of).transpose()?;
                let config = config.flatten();
                if artifact_type.is_none() {
                    // The artifact type of an image manifest defaults to the media type of its
                    // config:
                    // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers
                    let config = config.as_ref();
                    let config = config.ok_or_else(|| Refusal::malformed("no `config`"))?;
                    artifact_type = filled(Some(config.media_type.clone()));
                }
                ManifestContent::Image {
                    config: config.map(Box::new),
                    layers: descriptors(self.layers)?,
                }
            }
            media_type::ARTIFACT_MANIFEST => ManifestContent::Artifact {
                blobs: descriptors(self.blobs)?,
            },
            _ => ManifestContent::Index {
                manifests: descriptors(self.manifests.flatten())?,
            },
        };
        let subject = self.subject.map(|json| Descriptor::from_json(json.get()));
        Ok(Meaning {
            media_type,
            says_type,
            derived,
            artifact_type,
            subject: subject.transpose()?,
            annotations: annotations(self.annotations),
            content,
        })
    }
}

/// Parses the config; `None` if all its members are empty.
fn config_of(json: &RawValue) -> Result<Option<Descriptor>, DescriptorError> {
    let Object(config): Object<ForeignDescriptor> = descriptor::read(json.get())?;
    (!config.is_empty())
        .then(|| config.into_descriptor())
        .transpose()
}

fn descriptors(json: Option<&RawValue>) -> Result<Vec<Descriptor>, DescriptorError> {
    let Some(json) = json else {
        return Ok(Vec::new());
    };
    let list: Vec<Object<ForeignDescriptor>> = descriptor::read(json.get())?;
    list.into_iter()
        .map(|Object(one)| one.into_descriptor())
        .collect()
}

#[cfg(test)]
mod tests;
