//! Limits of a registry, as the configuration gives them.

use std::num::NonZeroU64;

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

/// The least `bytes_per_second`: below it, a number without its unit is more likely than an intention.
const MIN_BYTES: u64 = 1000;

const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// Reads `bytes_per_second`: a whole number, which may have a unit, such as `20MB`.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<NonZeroU64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_bytes(&text).map(Some).map_err(de::Error::custom)
}

fn parse_bytes(text: &str) -> Result<NonZeroU64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = lower.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
    let (Some((_, unit)), false) = (unit, number.is_empty()) else {
        return Err(format!(
            "{text:?} is not a number of bytes per second; write a whole number, such as 20MB or 4MiB"
        ));
    };
    let bytes = number.parse::<u64>().ok();
    match bytes.and_then(|number| number.checked_mul(*unit)) {
        None => Err(format!(
            "{text:?} is more bytes per second than any line carries"
        )),
        Some(bytes) if bytes < MIN_BYTES => Err(format!(
            "{text:?} is {bytes} bytes per second, and the least is {MIN_BYTES}; write a unit, such as 20MB"
        )),
        Some(bytes) => Ok(NonZeroU64::MIN.saturating_add(bytes - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_second_are_a_whole_number_with_or_without_a_unit() {
        for (text, bytes) in [
            ("1000", 1000),
            ("20MB", 20_000_000),
            ("20 MB", 20_000_000),
            ("20mb", 20_000_000),
            ("4MiB", 4 << 20),
            ("1kB", 1000),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text).map(NonZeroU64::get), Ok(bytes), "{text}");
        }
        for (text, part) in [
            ("", "is not a number"),
            ("MB", "is not a number"),
            ("-1", "is not a number"),
            ("1.5MB", "is not a number"),
            ("20MB/s", "is not a number"),
            ("20Mbit", "is not a number"),
            ("0", "the least is 1000"),
            ("0MB", "the least is 1000"),
            ("20", "the least is 1000"),
            ("999B", "the least is 1000"),
            ("18446744073709551615KB", "than any line carries"),
            ("99999999999999999999", "than any line carries"),
        ] {
            let error = parse_bytes(text).unwrap_err();
            assert!(
                error.contains(part) && error.contains(&format!("{text:?}")),
                "{error}"
            );
        }
    }
}
