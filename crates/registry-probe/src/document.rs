use oci_content::schema_version_1;
use serde::{Deserialize, Serialize};

use crate::report::ProbeReport;

/// The versioned JSON document about what registries can do, as `docs/json.md` describes it.
///
/// It is written and read with `serde`. Reading a document of another version is an error. Unknown
/// members are ignored, since members may be added at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProbeDocument {
    #[serde(deserialize_with = "schema_version_1")]
    schema_version: u32,
    /// The reports, in the order of the request.
    pub registries: Vec<ProbeReport>,
}

impl ProbeDocument {
    /// The version of this form of the document.
    pub const SCHEMA_VERSION: u32 = 1;

    /// Creates a document from reports.
    pub fn new(registries: Vec<ProbeReport>) -> Self {
        Self {
            schema_version: Self::SCHEMA_VERSION,
            registries,
        }
    }
}
