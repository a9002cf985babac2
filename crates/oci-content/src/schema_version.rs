use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Reads the `schemaVersion` of a JSON document that exists in version 1 only: for
/// `#[serde(deserialize_with = …)]`.
///
/// # Errors
///
/// When it is another version, or not a number.
pub fn schema_version_1<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u64::deserialize(deserializer)? {
        1 => Ok(1),
        other => {
            let reason = format_args!("schemaVersion {other} is not supported, only 1");
            Err(D::Error::custom(reason))
        }
    }
}
