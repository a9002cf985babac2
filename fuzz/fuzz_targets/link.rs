//! `Link` headers, one per line: nothing panics, a next link never leaves the registry, and none is
//! missed behind a parameter.

#![no_main]

use fuzz::headers;
use http::{HeaderMap, HeaderValue, header::LINK};
use libfuzzer_sys::fuzz_target;
use registry_client::fuzzing::next_link;
use url::Url;

const REGISTRY: &str = "https://r.test/";
const PAGE: &str = "https://r.test/v2/app/tags/list?n=2";
const NEXT: &str = "https://r.test/v2/app/tags/list?n=2&last=b";

fuzz_target!(|data: &[u8]| {
    let registry = Url::parse(REGISTRY).unwrap();
    let page = Url::parse(PAGE).unwrap();
    let headers = headers(&LINK, data);
    if let Ok(Some(next)) = next_link(&headers, &page, &registry) {
        assert!(next.as_str().starts_with("https://r.test/v2/"), "{next}");
        assert!(!next.as_str().contains('#'), "{next}");
        assert_ne!(next, page);
        assert_eq!(Url::parse(next.as_str()).unwrap(), next);
    }

    // The same page, answered by the host that a redirect led to.
    let elsewhere = Url::parse("http://cdn.test:8080/v2/app/tags/list").unwrap();
    if let Ok(Some(next)) = next_link(&headers, &elsewhere, &registry) {
        assert!(next.as_str().starts_with("https://r.test/v2/"), "{next}");
    }

    // RFC 8288 allows any parameter before `rel`; quoted, it may contain any text.
    let mut quoted = b"<?n=2&last=b>; title=\"".to_vec();
    for byte in data {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.extend(b"\"; rel=\"next\"");
    if let Ok(value) = HeaderValue::from_bytes(&quoted) {
        let headers = HeaderMap::from_iter([(LINK, value)]);
        let next = next_link(&headers, &page, &registry).unwrap();
        assert_eq!(next.unwrap().as_str(), NEXT);
    }
});
