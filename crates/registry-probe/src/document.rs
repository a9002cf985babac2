use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::report::ProbeReport;

/// The versioned JSON document about what registries can do, as `docs/json.md` describes it.
///
/// It is written and read with `serde`. Reading a document of another version is an error. Unknown
/// members are ignored, since members may be added at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProbeDocument {
    schema_version: SchemaVersion,
    /// The reports, in the order of the request.
    pub registries: Vec<ProbeReport>,
}

impl ProbeDocument {
    /// The version of this form of the document.
    pub const SCHEMA_VERSION: u32 = 1;

    /// Creates a document from reports.
    pub fn new(registries: Vec<ProbeReport>) -> Self {
        Self {
            schema_version: SchemaVersion,
            registries,
        }
    }
}

/// The one version that is written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SchemaVersion;

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(ProbeDocument::SCHEMA_VERSION)
    }
}

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = u64::deserialize(deserializer)?;
        let known = ProbeDocument::SCHEMA_VERSION;
        if version == u64::from(known) {
            Ok(Self)
        } else {
            let message = format!("schemaVersion {version} is not supported, only {known}");
            Err(D::Error::custom(message))
        }
    }
}
