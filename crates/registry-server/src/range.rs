use std::ops::Range;

use http::{HeaderMap, header};

/// What `Range` of a GET asks for: <https://www.rfc-editor.org/rfc/rfc9110#section-14.2>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "an answer is one of 200, 206 and 416"
)]
pub enum ByteRange {
    /// Everything: no range is asked for, or the header is to be ignored.
    Whole,
    /// These bytes, of which there is at least one.
    Part(Range<u64>),
    /// Bytes that do not exist.
    Unsatisfiable,
}

impl ByteRange {
    /// Reads the headers of a request for content of this size with this strong entity tag (in its
    /// quotes). A header that is not understood is ignored, and so are several ranges.
    pub fn requested(headers: &HeaderMap, size: u64, tag: &str) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
            return Self::Whole;
        };
        // A client that resumes names the content that it has a part of.
        if text(header::IF_RANGE).is_some_and(|given| given != tag) {
            return Self::Whole;
        }
        let Some((first, last)) = range.trim().split_once('-') else {
            return Self::Whole;
        };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().unwrap_or(u64::MAX))
        };
        let part = match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => return Self::Whole,
            (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
            (Some(first), None) if last.is_empty() => first..size,
            (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
            _ => return Self::Whole,
        };
        if part.is_empty() {
            Self::Unsatisfiable
        } else {
            Self::Part(part)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        use ByteRange::{Part, Unsatisfiable, Whole};
        let asked = |headers: &HeaderMap| ByteRange::requested(headers, 10, "\"own\"");
        for (text, expected) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=2-", Part(2..10)),
            ("bytes=2-5", Part(2..6)),
            ("bytes=2-50", Part(2..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-30", Part(0..10)),
            ("bytes=9-99999999999999999999999", Part(9..10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=5-2", Whole),
            ("bytes=0-1,4-5", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("lines=1-2", Whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().unwrap());
            assert_eq!(asked(&headers), expected, "{text}");
            headers.insert(header::IF_RANGE, "\"own\"".parse().unwrap());
            assert_eq!(asked(&headers), expected, "{text}");
            headers.insert(header::IF_RANGE, "\"other\"".parse().unwrap());
            assert_eq!(asked(&headers), Whole, "{text}");
        }
        assert_eq!(asked(&HeaderMap::new()), Whole);
    }
}
