//! When a document was made, according to itself.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The size of the largest document that is searched for a date: 32 MiB.
pub const MAX_DATED_DOCUMENT_BYTES: u64 = 32 << 20;

/// Reads the date of a manifest from its annotation `org.opencontainers.image.created`.
///
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md#pre-defined-annotation-keys>
pub fn created(annotations: &BTreeMap<String, String>) -> Option<SystemTime> {
    parse_rfc3339(annotations.get("org.opencontainers.image.created")?)
}

/// Reads the date of a JSON document: CycloneDX, SPDX 2 and 3, OpenVEX, CSAF, and in-toto
/// statements with common predicates; bare, in a DSSE envelope, or in a Sigstore bundle. Returns
/// `None` for everything else.
pub fn document_date(bytes: &[u8]) -> Option<SystemTime> {
    if bytes.len() as u64 > MAX_DATED_DOCUMENT_BYTES {
        return None;
    }
    date_at(bytes, 0)
}

/// The most levels of wrapping: a Sigstore bundle holds an envelope, which holds a statement, which
/// holds a document.
const MAX_DEPTH: u32 = 3;

/// The members that can lead to a date. Each is read separately, so that one of an unexpected type
/// does not hide others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    creation_info: Option<&'a RawValue>,
    #[serde(borrow, rename = "@graph", default)]
    graph: Option<&'a RawValue>,
    #[serde(borrow, rename = "last_updated", default)]
    last_updated: Option<&'a RawValue>,
    // cosign's own predicates have it in capitals.
    #[serde(borrow, alias = "Timestamp", default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    document: Option<&'a RawValue>,
    #[serde(borrow, default)]
    run_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    predicate: Option<&'a RawValue>,
    #[serde(borrow, default)]
    dsse_envelope: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    // CycloneDX; then SLSA 1, SLSA 0.2 and cosign's scan results, the end of the run before its
    // beginning.
    timestamp: Option<String>,
    finished_on: Option<String>,
    build_finished_on: Option<String>,
    scan_finished_on: Option<String>,
    started_on: Option<String>,
    build_started_on: Option<String>,
    scan_started_on: Option<String>,
}

#[derive(Deserialize)]
struct Created {
    created: Option<String>,
}

#[derive(Deserialize)]
struct RunDetails {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Csaf {
    tracking: Tracking,
}

#[derive(Deserialize)]
struct Tracking {
    current_release_date: String,
}

fn date_at(bytes: &[u8], depth: u32) -> Option<SystemTime> {
    let document: Document<'_> = serde_json::from_slice(bytes).ok()?;
    let inner = |raw: &RawValue| {
        if depth < MAX_DEPTH {
            date_at(raw.get().as_bytes(), depth + 1)
        } else {
            None
        }
    };
    let text = |raw: Option<&RawValue>| read::<String>(raw).and_then(|text| parse_rfc3339(&text));
    let created = |node: Option<Created>| {
        node.and_then(|node| node.created.as_deref().and_then(parse_rfc3339))
    };
    let run = read::<RunDetails>(document.run_details).map(|run| run.metadata);
    None.or_else(|| document.dsse_envelope.and_then(inner))
        .or_else(|| document.predicate.and_then(inner))
        .or_else(|| {
            let payload = read::<String>(document.payload)?;
            let decoded = STANDARD.decode(&payload);
            let decoded = decoded.or_else(|_| URL_SAFE.decode(&payload)).ok()?;
            (depth < MAX_DEPTH).then(|| date_at(&decoded, depth + 1))?
        })
        .or_else(|| read(document.metadata).and_then(metadata_date))
        .or_else(|| run.and_then(metadata_date))
        .or_else(|| created(read(document.creation_info)))
        .or_else(|| {
            // SPDX 3 keeps the same thing in a node of its graph.
            let nodes = read::<Vec<Option<Created>>>(document.graph)?;
            nodes.into_iter().find_map(created)
        })
        .or_else(|| text(document.last_updated))
        .or_else(|| text(document.timestamp))
        .or_else(|| {
            parse_rfc3339(
                &read::<Csaf>(document.document)?
                    .tracking
                    .current_release_date,
            )
        })
}

fn read<T: DeserializeOwned>(raw: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn metadata_date(metadata: Metadata) -> Option<SystemTime> {
    let texts = [
        metadata.timestamp,
        metadata.finished_on,
        metadata.build_finished_on,
        metadata.scan_finished_on,
        metadata.started_on,
        metadata.build_started_on,
        metadata.scan_started_on,
    ];
    texts.iter().flatten().find_map(|text| parse_rfc3339(text))
}

/// Reads a date and time with an offset, <https://www.rfc-editor.org/rfc/rfc3339#section-5.6>, of
/// 1970 or later; fractions of a second are dropped. `None` for everything else.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse::<i64>().ok())?
    };
    let is = |at: usize, any: &[u8]| {
        text.as_bytes()
            .get(at)
            .is_some_and(|byte| any.contains(byte))
    };
    let separated = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        // A leap second.
        && second <= 60;
    if !separated || !in_range {
        return None;
    }
    let mut rest = text.get(19..)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == fraction.len() {
            return None;
        }
    }
    let offset = match rest.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), digits @ ..] if digits.len() == 5 && digits[2] == b':' => {
            let at = text.len() - 5;
            let (hours, minutes) = (number(at, at + 2)?, number(at + 3, at + 5)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = (hours * 60 + minutes) * 60;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let seconds =
        days_since_1970(year, month, day) * 86_400 + (hour * 60 + minute) * 60 + second - offset;
    let seconds = u64::try_from(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Days from the year 1 to the start of `year`, in the calendar extended backwards.
    let before = |year: i64| {
        let past = year - 1;
        past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400)
    };
    let months: i64 = (1..month).map(|month| days_in_month(year, month)).sum();
    before(year) - before(1970) + months + day - 1
}

/// Formats the day of a time, in UTC.
pub(super) fn day(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let mut days = i64::try_from(since.unwrap_or_default().as_secs() / 86_400).unwrap_or(i64::MAX);
    let (mut year, mut month) = (1970, 1);
    // Dates are read with four digits for the year.
    while year < 9_999 && days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    while month < 12 && days >= days_in_month(year, month) {
        days -= days_in_month(year, month);
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        let time = parse_rfc3339(text)?;
        Some(
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        )
    }

    #[test]
    fn dates_are_read_as_the_rfc_writes_them() {
        // Seconds as `date -u -d TEXT +%s` gives them.
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1985-04-12T23:20:50.52Z", 482_196_050),
            ("1996-12-19T16:39:57-08:00", 851_042_397),
            ("1990-12-31T23:59:60Z", 662_688_000),
            ("2000-02-29t12:00:00z", 951_825_600),
            ("2026-11-25 02:00:00+05:30", 1_795_552_200),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "2026-11-25",
            "2026-11-25T02:00:00",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T02:00:00.Z",
            "2026-11-25T02:00:00+0530",
            "2026-11-25T02:00:00+24:00",
            "2026-11-25T02:00:00Z ",
            "+026-11-25T02:00:00Z",
            "1969-12-31T23:59:59Z",
            "２026-11-25T02:00:00Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_day_is_written_as_it_was_read() {
        for text in [
            "1970-01-01",
            "2000-02-29",
            "2026-11-25",
            "2100-12-31",
            "9999-12-31",
        ] {
            assert_eq!(
                day(parse_rfc3339(&format!("{text}T23:59:59Z")).unwrap()),
                text
            );
        }
    }

    #[test]
    fn documents_in_use_say_when_they_were_made() {
        let date = "2026-11-01T10:00:00Z";
        let expected = parse_rfc3339(date);
        let statement = r#"{"_type":"https://in-toto.io/Statement/v1","predicate":{"runDetails":{"metadata":{"startedOn":"2020-01-01T00:00:00Z","finishedOn":"DATE"}}}}"#
            .replace("DATE", date);
        let envelope = format!(
            r#"{{"payloadType":"application/vnd.in-toto+json","payload":"{}","signatures":[]}}"#,
            STANDARD.encode(&statement)
        );
        let sigstore = format!(r#"{{"mediaType":"a/b","dsseEnvelope":{envelope}}}"#);
        let wrapped = [statement, envelope, sigstore];
        let plain = [
            r#"{"bomFormat":"CycloneDX","metadata":{"timestamp":"DATE"}}"#,
            r#"{"spdxVersion":"SPDX-2.3","creationInfo":{"created":"DATE","creators":[]}}"#,
            r#"{"@context":"x","@graph":[{"type":"Person"},{"type":"CreationInfo","created":"DATE"}]}"#,
            r#"{"@context":"https://openvex.dev/ns/v0.2.0","timestamp":"2020-01-01T00:00:00Z","last_updated":"DATE"}"#,
            r#"{"timestamp":"DATE"}"#,
            r#"{"document":{"tracking":{"current_release_date":"DATE"}}}"#,
            r#"{"predicate":{"metadata":{"buildFinishedOn":"DATE"}}}"#,
            r#"{"predicate":{"metadata":{"scanFinishedOn":"DATE"}}}"#,
            r#"{"predicate":{"Data":"x","Timestamp":"DATE"}}"#,
            r#"{"predicate":{"creationInfo":{"created":"DATE"}}}"#,
            // A member of an unexpected type does not hide one that is right.
            r#"{"metadata":"none","predicate":7,"document":null,"timestamp":"DATE"}"#,
        ];
        let plain = plain.iter().map(|text| text.replace("DATE", date));
        for text in plain.chain(wrapped) {
            assert_eq!(document_date(text.as_bytes()), expected, "{text}");
        }
        for text in [
            "{}",
            "[]",
            "",
            "SPDXVersion: SPDX-2.3",
            r#"{"metadata":{"timestamp":"yesterday"}}"#,
            r#"{"timestamp":"2026-11-01T10:00:00Z","timestamp":"2020-01-01T00:00:00Z"}"#,
            r#"{"payload":"!"}"#,
            // Deeper than any format wraps a document.
            r#"{"predicate":{"predicate":{"predicate":{"predicate":{"timestamp":"2026-11-01T10:00:00Z"}}}}}"#,
        ] {
            assert_eq!(document_date(text.as_bytes()), None, "{text}");
        }
    }
}
