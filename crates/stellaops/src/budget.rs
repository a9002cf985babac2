//! Limits of a registry, as the configuration gives them.

use registry_client::RequestRate;
use serde::{Deserialize, Deserializer, de};

/// Reads `requests_per_second`: a number such as 50 or 0.5.
pub(crate) fn requests<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RequestRate>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.trim().parse::<f64>().ok();
    let rate = number.and_then(RequestRate::per_second);
    rate.map(Some).ok_or_else(|| {
        de::Error::custom(format!(
            "{text:?} is not a limit of requests per second; write a number above 0, such as 50 or 0.5"
        ))
    })
}
