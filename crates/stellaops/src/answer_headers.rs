//! Headers of answers, without what may be secret in them.

use http::HeaderMap;

use crate::render;

/// Headers whose values are shown: those about the protocol, caches and limits.
const SHOWN: [&str; 35] = [
    "age",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "docker-content-digest",
    "docker-distribution-api-version",
    "docker-ratelimit-source",
    "docker-upload-uuid",
    "etag",
    "expires",
    "last-modified",
    "oci-chunk-min-length",
    "oci-distribution-api-version",
    "oci-filters-applied",
    "oci-subject",
    "range",
    "ratelimit-limit",
    "ratelimit-remaining",
    "retry-after",
    "server",
    "transfer-encoding",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-cache",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-served-by",
];
/// URLs, in whose queries signatures and cursors are.
const URLS: [&str; 2] = ["link", "location"];
const HIDDEN: &str = "***";

/// Returns the headers with their values, in the order of their names. A value that may be secret is `***`.
pub(crate) fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut shown: Vec<_> = headers
        .iter()
        .map(|(name, value)| {
            let name = name.as_str();
            let value = String::from_utf8_lossy(value.as_bytes());
            let value = if SHOWN.contains(&name) {
                render::foreign(&value)
            } else if URLS.contains(&name) {
                render::foreign(&without_queries(&value))
            } else {
                HIDDEN.to_owned()
            };
            (name.to_owned(), value)
        })
        .collect();
    shown.sort();
    shown
}

/// Hides the queries of URLs, and users with passwords in them.
fn without_queries(value: &str) -> String {
    let mut shown = String::new();
    let mut rest = value;
    while let Some(start) = rest.find(['?', '#']) {
        let end = rest[start..]
            .find(['>', ' ', ','])
            .map_or(rest.len(), |length| start + length);
        shown.push_str(&rest[..=start]);
        shown.push_str(HIDDEN);
        rest = &rest[end..];
    }
    shown.push_str(rest);
    match (shown.find("://"), shown.find('@')) {
        (Some(scheme), Some(at)) if scheme < at && !shown[scheme + 3..at].contains('/') => {
            format!("{}{HIDDEN}{}", &shown[..scheme + 3], &shown[at..])
        }
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_hidden() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("set-cookie", "session=hunter2"),
            (
                "location",
                "https://u:hunter2@cdn.test/blob?sig=hunter2&x=1",
            ),
            ("link", "</v2/a/tags/list?last=hunter2>; rel=\"next\""),
            ("x-secret", "hunter2"),
            ("retry-after", "5\u{9b}"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let shown = shown(&headers);
        let shown: Vec<_> = shown
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "content-type: application/json",
                "link: </v2/a/tags/list?***>; rel=\"next\"",
                "location: https://***@cdn.test/blob?***",
                "retry-after: 5\\u{9b}",
                "set-cookie: ***",
                "x-secret: ***",
            ]
        );
    }
}
