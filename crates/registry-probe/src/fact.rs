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
    /// It splits a long referrers list into pages, with a `Link` to the next.
    ReferrersPaging,
    /// It filters a referrers list by artifact type, says so in `OCI-Filters-Applied`, and really does.
    ReferrersFilter,
    /// It ends a page of tags after `n`, with a `Link` to the next page.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags>
    TagPaging,
    /// Something stands between this client and the registry. `Supported`: there are signs of it. Never
    /// `Unsupported`, since a proxy need not show itself.
    Proxy,
    /// It tells in headers how much may be asked.
    RateLimit,
    /// It tells its version in a header, which decides nothing.
    VersionHeader,
    /// It acknowledges a pushed `subject` with `OCI-Subject`. Only a push would tell.
    OciSubject,
    /// It mounts a blob of another repository. Only an upload would tell.
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

    /// Returns the word that stands in JSON.
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

/// What was found out about one thing, and why that is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fact {
    /// The thing.
    pub name: FactName,
    /// What was concluded.
    pub capability: Capability,
    /// `false` when nothing was asked, because only a write would tell: a probe never writes.
    pub asked: bool,
    /// Why, in a sentence fragment.
    pub reason: String,
    /// What was asked and answered.
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

    /// Returns whether the answer behind it may be another one in a moment: nothing that may be kept.
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
