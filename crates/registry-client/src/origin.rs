use url::{Host, Url};

/// Returns whether two URLs have the same scheme, host and port.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    // Opaque origins (of `data:` and the like) are unequal to everything, including themselves.
    a.origin() == b.origin()
}

/// Returns whether the host is a loopback name or address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        None => false,
    }
}

/// Resolves a URL from an answer against the URL of that answer.
///
/// The result is always `http` or `https` with a host, without a fragment and without user
/// information, which would be sent as credentials.
pub(crate) fn resolve(base: &Url, target: &str) -> Option<Url> {
    let mut url = base.join(target).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    url.set_fragment(None);
    Some(url)
}

/// Returns the URL without the parts that can contain a secret: user information, query and
/// fragment.
pub(crate) fn without_secrets(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only on URLs without a host, which hold no user information.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let url = |text: &str| Url::parse(text).unwrap();
        let base = url("https://registry.example.com/v2/");
        for (other, same) in [
            ("https://registry.example.com/x?y", true),
            ("https://registry.example.com:443/", true),
            ("https://REGISTRY.example.com/", true),
            ("https://registry.example.com:8443/", false),
            ("http://registry.example.com/", false),
            ("https://example.com/", false),
            ("https://registry.example.com.evil.test/", false),
            ("data:text/plain,x", false),
        ] {
            assert_eq!(same_origin(&base, &url(other)), same, "{other}");
        }
    }

    #[test]
    fn only_plain_web_urls_resolve() {
        let base = Url::parse("https://r.test/v2/app/tags/list?n=2").unwrap();
        for (target, expected) in [
            ("/v2/x", Some("https://r.test/v2/x")),
            ("?last=b", Some("https://r.test/v2/app/tags/list?last=b")),
            ("//other.test/y#f", Some("https://other.test/y")),
            ("../../../../etc", Some("https://r.test/etc")),
            ("https://user@r.test/", None),
            ("https://user:pw@r.test/", None),
            ("file:///etc/passwd", None),
            ("data:,x", None),
            ("https://", None),
        ] {
            assert_eq!(
                resolve(&base, target).map(String::from).as_deref(),
                expected,
                "{target}"
            );
        }
    }

    #[test]
    fn loopback_hosts_are_known_in_every_spelling() {
        for (text, expected) in [
            ("http://localhost:1/", true),
            ("http://a.localhost./", true),
            ("http://127.1/", true),
            ("http://0x7f000001/", true),
            ("http://[::1]/", true),
            ("http://[::ffff:127.0.0.1]/", true),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), expected, "{text}");
        }
    }
}
