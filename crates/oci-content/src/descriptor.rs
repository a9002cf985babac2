use std::collections::BTreeMap;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::bounded::{MAX_FOREIGN_CHARS, bounded, clip};
use crate::digest::{Digest, DigestError};
use crate::json::Object;

/// A pointer to content: its media type, digest and size.
///
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md>
///
/// Annotations are sorted, so a descriptor has one serialized form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// Other places that offer the content. Recorded, but never fetched from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations of the content, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The embedded content, in base64. Recorded, but never used instead of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The platform that the content is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The artifact type of the manifest that this points to, according to the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Creates a descriptor with the three required members.
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

    /// Returns whether this is an attestation that BuildKit stores as a child of an index. It is
    /// neither an image for a platform nor a referrer.
    pub fn is_buildkit_attestation(&self) -> bool {
        self.annotations
            .get("vnd.docker.reference.type")
            .is_some_and(|kind| kind == "attestation-manifest")
    }

    /// Returns whether the embedded content, if there is any, matches the digest and the size.
    ///
    /// <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#embedded-content>
    pub fn data_holds(&self) -> bool {
        let Some(data) = &self.data else {
            return true;
        };
        STANDARD
            .decode(data)
            .is_ok_and(|bytes| bytes.len() as u64 == self.size && self.digest.matches(&bytes))
    }

    /// Returns the digest of the image that a BuildKit attestation is about.
    pub fn buildkit_subject(&self) -> Option<Digest> {
        self.annotations
            .get("vnd.docker.reference.digest")?
            .parse()
            .ok()
    }
}

/// The platform that an image is for. What the index leaves out is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

    /// Parses `os/architecture` or `os/architecture/variant`; `None` if it is neither. `FromStr`
    /// says why.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    /// Returns whether a request for this platform selects an image for `other`. A variant only
    /// matters if it was requested. An operating system or architecture that `other` does not name
    /// rules nothing out: containerd runs such images too.
    pub fn selects(&self, other: &Self) -> bool {
        let agrees = |wanted: &str, named: &str| named.is_empty() || wanted == named;
        agrees(&self.os, &other.os)
            && agrees(&self.architecture, &other.architecture)
            && (self.variant.is_none() || self.variant == other.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (text, slash) in [(&self.os, "/"), (&self.architecture, "")] {
            let text = if text.is_empty() { "unknown" } else { text };
            write!(f, "{text}{slash}")?;
        }
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// A string that is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: it is written OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    /// Parses `os/architecture` or `os/architecture/variant`.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<_> = text.split('/').collect();
        let (os, architecture, variant) = match *parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(PlatformError(clip(text))),
        };
        if parts.contains(&"") {
            return Err(PlatformError(clip(text)));
        }
        let mut platform = Self::new(os, architecture);
        platform.variant = variant.map(str::to_owned);
        Ok(platform)
    }
}

impl TryFrom<&str> for Platform {
    type Error = PlatformError;

    fn try_from(text: &str) -> Result<Self, PlatformError> {
        text.parse()
    }
}

/// Why a descriptor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// The JSON is not a descriptor.
    #[error("not a descriptor: {0}")]
    Json(String),
    /// The digest is malformed or uses an unsupported algorithm.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A descriptor as other programs write it. Go programs write `null` for an empty list or map and
/// accept it for any empty value, so every member that is not needed to fetch the content may be
/// `null`, empty or missing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForeignDescriptor {
    media_type: Option<String>,
    digest: Option<String>,
    size: Option<u64>,
    urls: Option<Vec<String>>,
    annotations: Option<ForeignAnnotations>,
    data: Option<String>,
    platform: Option<ForeignPlatform>,
    artifact_type: Option<String>,
}

impl ForeignDescriptor {
    /// Returns whether all members are empty, which is how Go programs write that there is no
    /// descriptor.
    pub(crate) fn is_empty(&self) -> bool {
        let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        empty(&self.media_type) && empty(&self.digest) && self.size.unwrap_or(0) == 0
    }

    pub(crate) fn into_descriptor(self) -> Result<Descriptor, DescriptorError> {
        if self.is_empty() {
            return Err(DescriptorError::Json("it is empty".into()));
        }
        let missing = |member: &str| DescriptorError::Json(format!("no `{member}`"));
        Ok(Descriptor {
            media_type: self.media_type.unwrap_or_default(),
            digest: filled(self.digest)
                .ok_or_else(|| missing("digest"))?
                .parse()?,
            size: self.size.ok_or_else(|| missing("size"))?,
            urls: self.urls.unwrap_or_default(),
            annotations: annotations(self.annotations),
            data: filled(self.data),
            platform: self.platform.and_then(ForeignPlatform::platform),
            artifact_type: filled(self.artifact_type),
        })
    }
}

/// Annotations as other programs write them.
pub(crate) type ForeignAnnotations = BTreeMap<String, Option<String>>;

#[derive(Deserialize)]
struct ForeignPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    /// Only its type is checked.
    #[serde(rename = "os.features")]
    _os_features: Option<Vec<String>>,
}

impl ForeignPlatform {
    /// Returns the platform, or `None` if it is empty.
    fn platform(self) -> Option<Platform> {
        let platform = Platform {
            os: self.os.unwrap_or_default(),
            architecture: self.architecture.unwrap_or_default(),
            variant: filled(self.variant),
            os_version: filled(self.os_version),
        };
        (platform != Platform::new("", "")).then_some(platform)
    }
}

/// Reads JSON that has descriptors in it.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, DescriptorError> {
    serde_json::from_str(json).map_err(|error| DescriptorError::Json(said(&error)))
}

/// Returns the message of the JSON parser, cut, since it quotes values of any length.
pub(crate) fn said(error: &serde_json::Error) -> String {
    bounded(&error.to_string(), MAX_FOREIGN_CHARS).into_owned()
}

/// Returns a text unless it is empty.
pub(crate) fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Returns annotations, with an empty value for each `null`.
pub(crate) fn annotations(from: Option<ForeignAnnotations>) -> BTreeMap<String, String> {
    let from = from.into_iter().flatten();
    from.map(|(key, value)| (key, value.unwrap_or_default()))
        .collect()
}

impl Descriptor {
    /// Parses a descriptor from another program.
    ///
    /// `digest` and `size` are required. The other members may be missing, `null` or empty, as Go
    /// programs write and accept them: an empty `artifactType`, `data`, `variant` or `platform`
    /// counts as missing.
    ///
    /// # Errors
    ///
    /// When `digest` or `size` is missing, a member has the wrong type, or the digest uses an
    /// unsupported algorithm.
    pub fn from_json(json: &str) -> Result<Self, DescriptorError> {
        read::<Object<ForeignDescriptor>>(json)?.0.into_descriptor()
    }
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
            "{}".to_owned(),
            format!(r#"["a/b","{digest}",1]"#),
            r#"{"mediaType":"","digest":"","size":0}"#.to_owned(),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}"}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":null}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":"1"}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1.5}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"size":1}}"#),
            format!(r#"{{"mediaType":7,"digest":"{digest}","size":1}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"urls":"u"}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"urls":[null]}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"annotations":[]}}"#),
            format!(
                r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"annotations":{{"k":1}}}}"#
            ),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"data":7}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"platform":"linux"}}"#),
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"platform":{{"os":1}}}}"#),
            format!(
                r#"{{"mediaType":"a/b","digest":"{digest}","size":1,"platform":{{"os.features":1}}}}"#
            ),
        ] {
            assert!(Descriptor::from_json(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_go_programs_write_for_empty_values_is_empty() {
        let digest = Digest::of(b"x");
        let plain = Descriptor::new("a/b", digest.clone(), 1);
        for more in [
            "",
            r#","urls":null"#,
            r#","urls":[]"#,
            r#","annotations":null"#,
            r#","annotations":{}"#,
            r#","data":null"#,
            r#","data":"""#,
            r#","artifactType":null"#,
            r#","artifactType":"""#,
            r#","platform":null"#,
            r#","platform":{}"#,
            r#","platform":{"architecture":"","os":""}"#,
            r#","platform":{"architecture":null,"os":null,"variant":"","os.version":"","os.features":null}"#,
        ] {
            let json = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1{more}}}"#);
            assert_eq!(Descriptor::from_json(&json).unwrap(), plain, "{more}");
        }
        for media_type in ["", r#""mediaType":null,"#, r#""mediaType":"","#] {
            let json = format!(r#"{{{media_type}"digest":"{digest}","size":0}}"#);
            let read = Descriptor::from_json(&json).unwrap();
            assert_eq!(read, Descriptor::new("", digest.clone(), 0), "{media_type}");
        }
        let json = format!(
            r#"{{"digest":"{digest}","size":1,"annotations":{{"k":null}},"platform":{{"architecture":"arm64","variant":"v8"}}}}"#
        );
        let read = Descriptor::from_json(&json).unwrap();
        assert_eq!(read.annotations["k"], "");
        assert_eq!(read.platform.unwrap().to_string(), "unknown/arm64/v8");
    }

    #[test]
    fn a_platform_that_an_index_leaves_out_rules_nothing_out() {
        let wanted = Platform::parse("linux/amd64").unwrap();
        for (os, architecture, selected) in [
            ("linux", "amd64", true),
            ("", "amd64", true),
            ("linux", "", true),
            ("", "arm64", false),
            ("windows", "", false),
            ("unknown", "unknown", false),
        ] {
            let platform = Platform::new(os, architecture);
            assert_eq!(wanted.selects(&platform), selected, "{platform}");
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
