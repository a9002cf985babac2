use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

/// What points at a piece of content: its type, digest and size.
///
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md>
///
/// Annotations are ordered, so that what is written from a descriptor has one form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// Where else the content may be had. Recorded, never asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations of the content, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, base64, as the descriptor carries it. Recorded, never used in the content's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The platform that the content is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The artifact type of the manifest that this points at, as the lister gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Creates a descriptor with the three members that it must have.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// Creates the descriptor of `bytes`.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Tells whether this is an attestation that BuildKit keeps as a child of an index: no platform image, and no
    /// referrer either.
    pub fn is_buildkit_attestation(&self) -> bool {
        self.annotations
            .get("vnd.docker.reference.type")
            .is_some_and(|kind| kind == "attestation-manifest")
    }

    /// Returns the digest of the platform child that a BuildKit attestation speaks of.
    pub fn buildkit_subject(&self) -> Option<Digest> {
        self.annotations
            .get("vnd.docker.reference.digest")?
            .parse()
            .ok()
    }
}

/// The platform that an image is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Platform {
    /// The operating system, a Go `GOOS` name.
    pub os: String,
    /// The processor architecture, a Go `GOARCH` name.
    pub architecture: String,
    /// The variant of the architecture, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the operating system, as Windows images carry it.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
}

impl Platform {
    /// Creates a platform from an operating system and an architecture.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: None,
            os_version: None,
        }
    }

    /// Reads `os/architecture` or `os/architecture/variant`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text
            .split('/')
            .map(|part| (!part.is_empty()).then_some(part));
        let mut platform = Self::new(parts.next()??, parts.next()??);
        platform.variant = match parts.next() {
            Some(variant) => Some(variant?.to_owned()),
            None => None,
        };
        parts.next().is_none().then_some(platform)
    }

    /// Tells whether an image for `other` is one that somebody who asked for this platform wants: a variant, if
    /// asked for, must be the same.
    pub fn selects(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant.is_none() || self.variant == other.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Why a descriptor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// The JSON is no descriptor.
    #[error("not a descriptor: {0}")]
    Json(String),
    /// The digest is malformed or of an algorithm that is not handled.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl TryFrom<&oci_spec::image::Descriptor> for Descriptor {
    type Error = DescriptorError;

    fn try_from(from: &oci_spec::image::Descriptor) -> Result<Self, DescriptorError> {
        Ok(Self {
            media_type: from.media_type().to_string(),
            digest: from.digest().to_string().parse()?,
            size: from.size(),
            urls: from.urls().clone().unwrap_or_default(),
            annotations: from
                .annotations()
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect(),
            data: from.data().clone(),
            platform: from.platform().as_ref().map(|platform| Platform {
                os: platform.os().to_string(),
                architecture: platform.architecture().to_string(),
                variant: platform.variant().clone(),
                os_version: platform.os_version().clone(),
            }),
            artifact_type: from.artifact_type().as_ref().map(ToString::to_string),
        })
    }
}

impl Descriptor {
    /// Reads one descriptor out of JSON that somebody else wrote, with the strictness of the specification.
    ///
    /// # Errors
    ///
    /// When a required member is missing or has the wrong type, or the digest is not one this project handles.
    pub fn from_json(json: &str) -> Result<Self, DescriptorError> {
        // A derived reader also takes a list of the members in their order, which is no descriptor.
        if !is_object(json) {
            return Err(DescriptorError::Json("not an object".into()));
        }
        let parsed: oci_spec::image::Descriptor =
            serde_json::from_str(json).map_err(|error| DescriptorError::Json(error.to_string()))?;
        Self::try_from(&parsed)
    }
}

/// Tells whether a JSON value, if it is one, is an object.
pub(crate) fn is_object(json: &str) -> bool {
    json.trim_ascii_start().starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_descriptors_are_read_strictly() {
        let digest = Digest::of(b"x");
        let good = format!(
            r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"artifactType":"c/d","annotations":{{"k":"v"}}}}"#
        );
        let descriptor = Descriptor::from_json(&good).unwrap();
        assert_eq!((descriptor.digest, descriptor.size), (digest.clone(), 1));
        assert_eq!(descriptor.artifact_type.as_deref(), Some("c/d"));
        for bad in [
            r#"{"mediaType":"a/b","size":1}"#.to_owned(),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":-1}}"#),
            r#"{"mediaType":"a/b","digest":"sha256:../../x","size":1}"#.to_owned(),
            r#"{"mediaType":"a/b","digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1}"#
                .to_owned(),
            "null".to_owned(),
            format!(r#"["a/b","{digest}",1]"#),
        ] {
            assert!(Descriptor::from_json(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_platform_selects_by_variant_only_when_asked() {
        let arm = Platform::parse("linux/arm64").unwrap();
        let v8 = Platform::parse("linux/arm64/v8").unwrap();
        assert!(arm.selects(&v8) && v8.selects(&v8) && !v8.selects(&arm));
        for bad in ["linux", "linux/", "/amd64", "linux/arm/v7/x", ""] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
    }
}
