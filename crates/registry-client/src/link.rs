//! `Link` headers, which lead to the next page of a list.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
//! refers to RFC 5988, now <https://www.rfc-editor.org/rfc/rfc8288#section-3>.

use http::header::{HeaderMap, LINK};
use url::Url;

use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::origin::{resolve, same_origin};

/// Returns the URL of the next page, resolved against `page`.
///
/// A malformed header is an error if it could name a next page: stopping there would silently lose
/// the rest of the list.
pub(crate) fn next(
    headers: &HeaderMap,
    page: &Url,
    registry: &Url,
) -> Result<Option<Url>, Failure> {
    let mut found: Option<Url> = None;
    for value in headers.get_all(LINK) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let mut links = Links { rest: &value };
        for link in &mut links {
            if !link.is_next() {
                continue;
            }
            let target = trusted(link.target, page, registry)?;
            if target == *page {
                return Err(protocol("the page links to itself as the next one"));
            }
            match &found {
                Some(first) if *first != target => {
                    return Err(protocol("the page has two different next links"));
                }
                _ => found = Some(target),
            }
        }
        if links.rest.to_ascii_lowercase().contains("next") {
            return Err(protocol("the Link header cannot be read"));
        }
    }
    Ok(found)
}

fn trusted(target: &str, page: &Url, registry: &Url) -> Result<Url, Failure> {
    let untrusted = |text: String| Failure::new(ErrorKind::UntrustedLink, text);
    let url = resolve(page, target)
        .ok_or_else(|| untrusted("the next link is not a plain web address".into()))?;
    if !same_origin(&url, registry) {
        return Err(untrusted(format!(
            "the next link leads to {}, not to the registry",
            url.origin().ascii_serialization()
        )));
    }
    if !url.path().starts_with("/v2/") {
        return Err(untrusted(format!(
            "the next link leads to {}, outside /v2/",
            url.path()
        )));
    }
    Ok(url)
}

fn protocol(text: &str) -> Failure {
    Failure::new(ErrorKind::Protocol, text)
}

/// One `<target>; param=value; ...`.
#[derive(Debug, PartialEq, Eq)]
struct Link<'a> {
    target: &'a str,
    /// The value of the first `rel`; the others must be ignored (RFC 8288, section 3.3).
    rel: Option<String>,
}

impl Link<'_> {
    /// A link with a malformed `rel`, such as `rel='next'` or `rel=&quot;next&quot;`, or without
    /// one violates the RFC, but requesting one page too many loses nothing.
    fn is_next(&self) -> bool {
        let is_relation = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".:/#-_~?=%+".contains(&byte))
        };
        let Some(rel) = &self.rel else { return true };
        let mut relations = rel.split_ascii_whitespace().peekable();
        relations.peek().is_none()
            || relations.any(|rel| rel.eq_ignore_ascii_case("next") || !is_relation(rel))
    }
}

/// The links of one header value. What cannot be parsed stays in `rest`.
struct Links<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Links<'a> {
    type Item = Link<'a>;

    fn next(&mut self) -> Option<Link<'a>> {
        let start = self
            .rest
            .trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        let Some((target, mut rest)) = start.strip_prefix('<').and_then(|s| s.split_once('>'))
        else {
            self.rest = start;
            return None;
        };
        let mut rel = None;
        loop {
            rest = rest.trim_ascii_start();
            match rest.as_bytes().first() {
                None => break,
                Some(b',') => {
                    rest = &rest[1..];
                    break;
                }
                Some(b';') => {
                    let (name, value, after) = parameter(&rest[1..]);
                    if name.eq_ignore_ascii_case("rel") && rel.is_none() {
                        rel = Some(value);
                    }
                    rest = after;
                }
                // Junk between parameters is skipped up to the next separator.
                Some(_) => rest = &rest[rest.find([';', ',']).unwrap_or(rest.len())..],
            }
        }
        self.rest = rest;
        Some(Link { target, rel })
    }
}

/// Parses `name`, `name=token` or `name="quoted"` and returns what follows.
fn parameter(text: &str) -> (&str, String, &str) {
    let text = text.trim_ascii_start();
    let end = text.find(['=', ';', ',']).unwrap_or(text.len());
    let name = text[..end].trim_ascii_end();
    let Some(value) = text[end..].strip_prefix('=') else {
        return (name, String::new(), &text[end..]);
    };
    let value = value.trim_ascii_start();
    let Some(quoted) = value.strip_prefix('"') else {
        let end = value
            .find(|c: char| c == ';' || c == ',' || c.is_ascii_whitespace())
            .unwrap_or(value.len());
        return (name, value[..end].to_owned(), &value[end..]);
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (name, out, &quoted[at + 1..]),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (name, out, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "https://r.test/v2/app/referrers/sha256:aa?n=2";
    const REGISTRY: &str = "https://r.test/";

    fn next_of(values: &[&str]) -> Result<Option<String>, (ErrorKind, String)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(LINK, value.parse().unwrap());
        }
        let page = Url::parse(PAGE).unwrap();
        next(&headers, &page, &Url::parse(REGISTRY).unwrap())
            .map(|url| url.map(String::from))
            .map_err(|failure| (failure.kind, failure.text))
    }

    #[test]
    fn the_next_link_is_found_in_every_form_the_rfc_and_registries_use() {
        let expected = Some("https://r.test/v2/app/tags/list?last=b".to_owned());
        for values in [
            &[r#"</v2/app/tags/list?last=b>; rel="next""#][..],
            &[r#"<https://r.test/v2/app/tags/list?last=b>; rel="next""#],
            &[r#"<HTTPS://R.test:443/v2/app/tags/list?last=b>;rel="next""#],
            &["</v2/app/tags/list?last=b>; rel=next"],
            &["</v2/app/tags/list?last=b>;rel=NEXT;title=x"],
            &[r#"</v2/app/tags/list?last=b> ; Rel = "prev next""#],
            &[r#"</v2/a>; rel="prev", </v2/app/tags/list?last=b>; rel="next""#],
            &[
                r#"</v2/a>; rel="prev""#,
                r#"</v2/app/tags/list?last=b>; rel="next""#,
            ],
            &[r#"</v2/app/tags/list?last=b>; rel="next", </v2/a>; rel="last""#],
            &[r#"</v2/app/tags/list?last=b>; title="a, \"b\"; rel=prev"; rel="next""#],
            &[r#"</v2/app/tags/list?last=b>; rel="next"; rel="prev""#],
            &["</v2/app/tags/list?last=b>"],
            &[
                "../tags/list?last=b",
                r#"<../tags/list?last=b>; rel="next""#,
            ],
            &[r#"</v2/app/tags/list?last=b>; rel="next""#; 2],
            &[", </v2/app/tags/list?last=b>; junk here; rel=\"next\","],
            // A malformed relation may have been meant as one.
            &["</v2/app/tags/list?last=b>; rel='next'"],
            &["</v2/app/tags/list?last=b>; rel=“next”"],
            &["</v2/app/tags/list?last=b>; rel=&quot;next&quot;"],
            &[r#"</v2/app/tags/list?last=b>; rel=\"next\""#],
            &[r#"</v2/app/tags/list?last=b>; rel="""#],
            &["</v2/app/tags/list?last=b>; rel"],
        ] {
            assert_eq!(next_of(values).as_ref(), Ok(&expected), "{values:?}");
        }
        assert_eq!(
            next_of(&["</v2/app/tags/list?last=a,b>; rel=next"]),
            Ok(Some("https://r.test/v2/app/tags/list?last=a,b".into()))
        );
    }

    #[test]
    fn no_next_link_is_no_next_page() {
        for values in [
            &[][..],
            &[""],
            &[r#"</v2/a>; rel="prev""#],
            &[r#"</v2/a>; rel="nextish""#],
            &[r#"<https://cdn.test/x>; rel="preconnect""#],
            &["garbage"],
            &[r#"</v2/a>; rel="prev"; rel="next""#],
        ] {
            assert_eq!(next_of(values), Ok(None), "{values:?}");
        }
    }

    #[test]
    fn a_next_link_elsewhere_is_an_error() {
        for target in [
            "https://evil.test/v2/app/tags/list",
            "https://r.test:8443/v2/app/tags/list",
            "http://r.test/v2/app/tags/list",
            "//evil.test/v2/app",
            "https://r.test@evil.test/v2/app",
            "https://user:pw@r.test/v2/app",
            "file:///v2/app",
            "/repository/app/v2/app/tags/list",
            "/v2/../admin",
            "/v2/%2e%2e/admin",
            "https://",
        ] {
            let (kind, _) = next_of(&[&format!("<{target}>; rel=\"next\"")]).unwrap_err();
            assert_eq!(kind, ErrorKind::UntrustedLink, "{target}");
        }
    }

    #[test]
    fn a_page_that_came_from_elsewhere_has_no_next_page_there() {
        let mut headers = HeaderMap::new();
        headers.append(
            LINK,
            "</v2/app/tags/list?last=b>; rel=next".parse().unwrap(),
        );
        let page = Url::parse("https://cdn.test/v2/app/tags/list").unwrap();
        let failure = next(&headers, &page, &Url::parse(REGISTRY).unwrap()).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::UntrustedLink);
    }

    #[test]
    fn a_link_that_would_end_the_walk_in_silence_is_an_error() {
        for values in [
            &["/v2/app/tags/list?last=b; rel=next"][..],
            &["</v2/app/tags/list?last=b; rel=\"next\""],
            &[
                "</v2/app/tags/list?last=b>; rel=next",
                "</v2/app/tags/list?last=c>; rel=next",
            ],
            &["<?n=2>; rel=next"],
        ] {
            let (kind, _) = next_of(values).unwrap_err();
            assert_eq!(kind, ErrorKind::Protocol, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic_or_leave_the_registry(
            values in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..80),
                    r#"(<[a-z/:@.%?\\]{0,30}>?|;|,| |rel=|"|next|\\|title="){0,12}"#
                        .prop_map(String::into_bytes),
                ],
                0..4,
            )
        ) {
            let mut headers = HeaderMap::new();
            for value in values {
                if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                    headers.append(LINK, value);
                }
            }
            let registry = Url::parse(REGISTRY).unwrap();
            if let Ok(Some(url)) = next(&headers, &Url::parse(PAGE).unwrap(), &registry) {
                prop_assert!(same_origin(&url, &registry));
                prop_assert!(url.path().starts_with("/v2/"));
                prop_assert!(url.username().is_empty() && url.password().is_none());
            }
        }
    }
}
