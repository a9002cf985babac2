use std::fmt;

use oci_content::{Capability, MAX_MESSAGE_CHARS, bounded};
use registry_client::Evidence;
use serde::{Deserialize, Serialize};

/// One thing that a registry can or cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FactName {
    /// It has the referrers API.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
    ReferrersApi,
    /// It splits long referrers lists into pages, each with a `Link` to the next.
    ReferrersPaging,
    /// It filters referrers lists by artifact type, and says so in `OCI-Filters-Applied`.
    ReferrersFilter,
    /// It ends pages of tags after `n` tags, with a `Link` to the next page.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags>
    TagPaging,
    /// There is a proxy between this client and the registry. `Supported` means that there are
    /// signs of one. It is never `Unsupported`, since a proxy need not leave signs.
    Proxy,
    /// It announces rate limits in headers.
    RateLimit,
    /// It sends its version in a header, which is for information only.
    VersionHeader,
    /// It acknowledges a pushed `subject` with `OCI-Subject`, which only a push would show.
    OciSubject,
    /// It mounts blobs of other repositories, which only an upload would show.
    BlobMount,
}

impl FactName {
    /// Every fact, in the order in which they are reported.
    pub const ALL: [Self; 9] = [
        Self::ReferrersApi,
        Self::ReferrersPaging,
        Self::ReferrersFilter,
        Self::TagPaging,
        Self::Proxy,
        Self::RateLimit,
        Self::VersionHeader,
        Self::OciSubject,
        Self::BlobMount,
    ];

    /// Returns the word for this fact in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReferrersApi => "referrers-api",
            Self::ReferrersPaging => "referrers-paging",
            Self::ReferrersFilter => "referrers-filter",
            Self::TagPaging => "tag-paging",
            Self::Proxy => "proxy",
            Self::RateLimit => "rate-limit",
            Self::VersionHeader => "version-header",
            Self::OciSubject => "oci-subject",
            Self::BlobMount => "blob-mount",
        }
    }
}

impl fmt::Display for FactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What was found out about one capability of a registry, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fact {
    /// The name of the fact.
    pub name: FactName,
    /// The conclusion.
    pub capability: Capability,
    /// Whether the registry was asked. `false` for facts that only a write would show, since a
    /// probe never writes.
    pub asked: bool,
    /// The reason for the conclusion, as a sentence fragment of at most 1,024 characters.
    pub reason: String,
    /// The requests and their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

impl Fact {
    pub(crate) fn new(name: FactName, capability: Capability, reason: impl Into<String>) -> Self {
        Self {
            name,
            capability,
            asked: true,
            reason: bounded(&reason.into(), MAX_MESSAGE_CHARS).into_owned(),
            evidence: Vec::new(),
        }
    }

    pub(crate) fn unknown(name: FactName, reason: impl Into<String>) -> Self {
        Self::new(name, Capability::Unknown, reason)
    }

    pub(crate) fn not_asked(name: FactName, reason: &str) -> Self {
        Self {
            asked: false,
            ..Self::unknown(name, reason)
        }
    }

    pub(crate) fn because(mut self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    /// Returns whether the answer behind this may change any moment, so that it must not be cached.
    pub(crate) fn is_passing(&self) -> bool {
        let passing = |status: Option<u16>| match status {
            None => true,
            Some(status) => matches!(status, 401 | 403 | 408 | 429) || status >= 500,
        };
        self.asked
            && self.capability != Capability::Supported
            && self
                .evidence
                .iter()
                .any(|evidence| passing(evidence.status))
    }
}
