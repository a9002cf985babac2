use std::time::Duration;

use oci_content::{Capability, ErrorCode, MAX_FOREIGN_CHARS, Registry, RepositoryName, bounded};
use registry_client::{Evidence, Response};
use serde::{Deserialize, Serialize};

use crate::fact::Fact;

/// The result of a probe: what a registry can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProbeReport {
    /// The registry.
    pub registry: Registry,
    /// The repository that was asked; `None` if none was given.
    pub repository: Option<RepositoryName>,
    /// Whether it has the referrers API.
    pub capability: Capability,
    /// The value of its version header, or `unknown`; for information only.
    pub version: String,
    /// The time that the answers took, in milliseconds in the JSON form.
    #[serde(rename = "probeMs", with = "millis")]
    pub elapsed: Duration,
    /// Why the probe failed; `None` if it did not.
    pub failure: Option<ProbeFailure>,
    /// The requests and their answers.
    pub evidence: Vec<Evidence>,
    /// Further facts; empty unless the report is from [`Probe::facts`](crate::Probe::facts).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Fact>,
    /// The age of the report, if it is from a [`ProbeCache`](crate::ProbeCache) and no request was
    /// sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<CacheHit>,
}

/// The age of an answer from a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CacheHit {
    /// Seconds since the registry was asked.
    pub age_seconds: u64,
    /// Seconds until the answer expires.
    pub expires_in_seconds: u64,
}

impl CacheHit {
    pub(crate) fn new(age: Duration, ttl: Duration) -> Self {
        Self {
            age_seconds: age.as_secs(),
            expires_in_seconds: ttl.saturating_sub(age).as_secs(),
        }
    }
}

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProbeFailure {
    /// The class of the failure.
    pub code: ErrorCode,
    /// What happened, as a sentence fragment.
    pub message: String,
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        time: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

impl ProbeReport {
    pub(crate) fn new(registry: &Registry, repository: Option<&RepositoryName>) -> Self {
        Self {
            registry: registry.clone(),
            repository: repository.cloned(),
            capability: Capability::Unknown,
            version: UNKNOWN_VERSION.to_owned(),
            elapsed: Duration::ZERO,
            failure: None,
            evidence: Vec::new(),
            facts: Vec::new(),
            cached: None,
        }
    }

    pub(crate) fn has_version(&self) -> bool {
        self.version != UNKNOWN_VERSION
    }

    /// Takes the version from the header that is documented to operators, or from the one that
    /// registries send.
    pub(crate) fn note_version(&mut self, response: &Response) {
        if let Some((_, version)) = version_header(response) {
            self.version = version;
        }
    }
}

const UNKNOWN_VERSION: &str = "unknown";

/// Returns the name and value of a version header. The value has at most 256 characters, none of
/// which could break a log line.
pub(crate) fn version_header(response: &Response) -> Option<(&'static str, String)> {
    let names = [
        "oci-distribution-api-version",
        "docker-distribution-api-version",
    ];
    names.into_iter().find_map(|name| {
        let value = response.header(name)?.chars();
        let value = value.filter(|c| c.is_ascii_graphic() && *c != ',' && *c != ')');
        let value: String = value.collect();
        let value = bounded(&value, MAX_FOREIGN_CHARS);
        (!value.is_empty()).then(|| (name, value.into_owned()))
    })
}

pub(crate) fn evidence(response: &Response, capability: Capability, reason: &str) -> Evidence {
    let headers = response.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let request = format!("GET {}", response.display_url());
    Evidence::new(request, capability, reason).with_answer(response.status().as_u16(), headers)
}
