use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::report::ProbeReport;

/// What registries were found to be able to do, as a JSON document for programs: version 1 of the form that `docs/json.md`
/// describes.
///
/// It is written and read with `serde`. A document of another version is an error; members that are not known are skipped,
/// since members may be added at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProbeDocument {
    schema_version: SchemaVersion,
    /// The registries, in the order in which they were asked for.
    pub registries: Vec<ProbeReport>,
}

impl ProbeDocument {
    /// The version of the form.
    pub const SCHEMA_VERSION: u32 = 1;

    /// Creates a document of some reports.
    pub fn new(registries: Vec<ProbeReport>) -> Self {
        Self {
            schema_version: SchemaVersion,
            registries,
        }
    }
}

/// The version of the form: there is one.
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
            let message =
                format!("schemaVersion {version} is not the version that is read, {known}");
            Err(D::Error::custom(message))
        }
    }
}
