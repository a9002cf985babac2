//! Lenient reading of error bodies.
//!
//! The specification allows any format and, for JSON, asks for `{"errors": [{"code", "message"}]}`:
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes>
//! Registries also omit `code` (Artifactory), write `title` (Keygen), a single object instead of
//! the list, `null`, plain text or HTML.

use oci_content::{MAX_FOREIGN_CHARS, bounded};
use serde_json::Value;

/// The number of codes in one answer that are read.
const MAX_CODES: usize = 32;

/// Returns the codes in order, as written.
pub(crate) fn codes(body: &[u8]) -> Vec<String> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Vec::new();
    };
    errors(&value)
        .into_iter()
        .filter_map(|error| error.get("code").and_then(Value::as_str))
        .filter(|code| !code.is_empty())
        .map(tidy)
        .take(MAX_CODES)
        .collect()
}

/// Returns the first message of the envelope, or the first line of a plain text.
pub(crate) fn message(body: &[u8]) -> Option<String> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        let text = String::from_utf8_lossy(body);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        return (!line.starts_with('<')).then(|| tidy(line));
    };
    errors(&value)
        .into_iter()
        .find_map(|error| {
            // Token services write `error_description` and `details`.
            [
                "message",
                "title",
                "detail",
                "error_description",
                "details",
                "error",
            ]
            .iter()
            .filter_map(|key| error.get(key).and_then(Value::as_str))
            .find(|text| !text.trim().is_empty())
        })
        .or_else(|| value.as_str())
        .map(tidy)
}

fn errors(value: &Value) -> Vec<&Value> {
    match value.get("errors") {
        Some(Value::Array(list)) if !list.is_empty() => list.iter().collect(),
        Some(one @ Value::Object(_)) => vec![one],
        _ => vec![value],
    }
}

/// Cuts foreign text and removes control characters, so that it can be part of a log line.
fn tidy(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text = bounded(text.trim(), MAX_FOREIGN_CHARS);
    text.chars().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_of_any_shape_are_read_or_left() {
        for (body, expected_codes, expected_message) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                &["MANIFEST_UNKNOWN"][..],
                Some("manifest unknown"),
            ),
            (
                r#"{"errors":[{"code":"DENIED"},{"code":"X-OWN","message":"second"}]}"#,
                &["DENIED", "X-OWN"],
                Some("second"),
            ),
            (r#"{"errors":null}"#, &[], None),
            (r#"{"errors":[]}"#, &[], None),
            (r#"{"errors":[null,1,"x"]}"#, &[], None),
            (r#"{"errors":[{"code":null,"message":null}]}"#, &[], None),
            (r#"{"errors":[{"code":7}]}"#, &[], None),
            (
                r#"{"errors":[{"status":401,"message":"Unauthorized"}]}"#,
                &[],
                Some("Unauthorized"),
            ),
            (
                r#"{"errors":{"code":"UNSUPPORTED","message":"no list"}}"#,
                &["UNSUPPORTED"],
                Some("no list"),
            ),
            (r#"{"code":"NAME_UNKNOWN"}"#, &["NAME_UNKNOWN"], None),
            (
                r#"{"errors":[{"title":"Not found","detail":"gone","code":"NOT_FOUND"}]}"#,
                &["NOT_FOUND"],
                Some("Not found"),
            ),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                &[],
                Some("expired"),
            ),
            (
                r#"{"details":"incorrect username"}"#,
                &[],
                Some("incorrect username"),
            ),
            (r#""just a string""#, &[], Some("just a string")),
            ("null", &[], None),
            ("[]", &[], None),
            ("404 page not found\n", &[], Some("404 page not found")),
            ("a\x1b[31mb\nsecond", &[], Some("a [31mb")),
            ("<html><body>x</body></html>", &[], None),
            ("", &[], None),
            (
                "{\"errors\":[{\"code\":\"CUT",
                &[],
                Some("{\"errors\":[{\"code\":\"CUT"),
            ),
        ] {
            assert_eq!(codes(body.as_bytes()), expected_codes, "{body}");
            assert_eq!(
                message(body.as_bytes()).as_deref(),
                expected_message,
                "{body}"
            );
        }
        assert_eq!(message(b"\xff\xfe"), Some("\u{fffd}\u{fffd}".into()));
        assert_eq!(
            message("x".repeat(1000).as_bytes())
                .unwrap()
                .chars()
                .count(),
            256
        );
    }
}
