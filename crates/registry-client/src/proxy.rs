//! The choice of a proxy, with the rules of Go's clients (`golang.org/x/net/http/httpproxy`):
//! settings that work for docker, podman and skopeo work here.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use crate::build_error::BuildError;
use crate::origin::is_loopback;

/// The proxies to connect through, with the semantics of Go's clients.
///
/// - `http` and `https` URLs; one without a scheme is `http`. SOCKS is an error.
/// - The URL may hold a user and a password, which `Debug` does not show.
///
/// A proxy resolves host names itself, so the addresses of token services and redirect targets
/// cannot be checked here unless they are literal.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyOptions {
    /// URL of the proxy for `https` requests. Default: none.
    pub https: Option<String>,
    /// URL of the proxy for `http` requests. Default: none.
    pub http: Option<String>,
    /// Hosts that are connected to directly, in the syntax of the `NO_PROXY` variable, separated by
    /// commas: `*` is all hosts, `example.com` the domain and its subdomains, `.example.com` and
    /// `*.example.com` its subdomains only; addresses and ranges (`10.0.0.0/8`) are allowed too.
    /// All but ranges may have a port. Loopback is always connected to directly.
    pub no_proxy: String,
}

impl fmt::Debug for ProxyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyOptions")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// Parsed [`ProxyOptions`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    https: Option<Url>,
    http: Option<Url>,
    direct: Direct,
}

impl Proxies {
    pub(crate) fn new(options: &ProxyOptions) -> Result<Self, BuildError> {
        let read = |url: &Option<String>, scheme: &str| {
            url.as_deref()
                .map(str::trim)
                .filter(|url| !url.is_empty())
                .map(|url| proxy_url(url, scheme))
                .transpose()
        };
        Ok(Self {
            https: read(&options.https, "https")?,
            http: read(&options.http, "http")?,
            direct: Direct::parse(&options.no_proxy),
        })
    }

    /// Returns the proxy for a request to `url`; `None` connects directly.
    pub(crate) fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        }?;
        (!self.direct.covers(url)).then_some(proxy)
    }

    /// Returns the proxies themselves.
    pub(crate) fn urls(&self) -> impl Iterator<Item = &Url> {
        [&self.https, &self.http].into_iter().flatten()
    }
}

/// Parses the URL of a proxy; without a scheme it is `http`.
///
/// The URL may contain a password, so no error quotes it.
fn proxy_url(text: &str, scheme: &str) -> Result<Url, BuildError> {
    let fail = |why: &str| {
        let text = format!("the proxy for {scheme} cannot be used: {why}");
        Err(BuildError::plain(text))
    };
    // Not left to the parser, for which `proxy.example.com:3128` is a URL with the scheme
    // `proxy.example.com`.
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("http://{text}"))
    };
    match url {
        Ok(url) if !url.has_host() => fail("its URL has no host"),
        Ok(url) => match url.scheme() {
            "http" | "https" => Ok(url),
            "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
                fail("SOCKS is not supported; use an HTTP proxy")
            }
            _ => fail("its URL has to begin with http:// or https://"),
        },
        Err(_) => fail("it is not a URL"),
    }
}

/// The hosts that are connected to directly, as in the `NO_PROXY` variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Direct {
    all: bool,
    entries: Vec<(Pattern, Option<u16>)>,
}

/// The hosts that an entry of the list covers.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// An address and the number of its leading bits that matter.
    Addresses(IpAddr, u8),
    /// A domain, and whether it is covered itself; its subdomains always are.
    Domain { name: String, itself: bool },
}

impl Direct {
    fn parse(list: &str) -> Self {
        let mut direct = Self::default();
        for entry in list.split(',').map(|entry| entry.trim().to_lowercase()) {
            if entry == "*" {
                direct.all = true;
            } else if let Some(range) = range(&entry) {
                direct.entries.push((range, None));
            } else if let Some(entry) = host_and_port(&entry) {
                direct.entries.push(entry);
            }
        }
        direct
    }

    fn covers(&self, url: &Url) -> bool {
        if self.all || is_loopback(url) {
            return true;
        }
        let (Some(host), port) = (url.host(), url.port_or_known_default()) else {
            return false;
        };
        self.entries
            .iter()
            .any(|(pattern, only)| (only.is_none() || *only == port) && pattern.matches(&host))
    }
}

impl Pattern {
    fn matches(&self, host: &Host<&str>) -> bool {
        match (self, host) {
            (Self::Addresses(network, bits), Host::Ipv4(address)) => {
                within((*address).into(), *network, *bits)
            }
            (Self::Addresses(network, bits), Host::Ipv6(address)) => {
                within(address.to_canonical(), *network, *bits)
            }
            (Self::Domain { name, itself }, Host::Domain(host)) => {
                match host.to_ascii_lowercase().strip_suffix(name.as_str()) {
                    Some("") => *itself,
                    Some(front) => front.ends_with('.'),
                    None => false,
                }
            }
            _ => false,
        }
    }
}

/// Parses `ADDRESS/BITS`.
fn range(entry: &str) -> Option<Pattern> {
    let (address, bits) = entry.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (bits <= longest).then_some(Pattern::Addresses(address, bits))
}

/// Parses an address or a domain, with or without a port.
fn host_and_port(entry: &str) -> Option<(Pattern, Option<u16>)> {
    let unbracketed = |host: &str| {
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(host).to_owned()
    };
    let (host, port) = match entry.rsplit_once(':') {
        // Several colons without brackets are an IPv6 address.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            // A port that is not a number matches nothing, as in Go.
            (unbracketed(host), Some(port.parse().ok()?))
        }
        _ => (unbracketed(entry), None),
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Some((Pattern::Addresses(address, bits), port));
    }
    let host = host
        .strip_prefix('*')
        .filter(|host| host.starts_with('.'))
        .unwrap_or(&host);
    let (name, itself) = match host.strip_prefix('.') {
        Some(name) => (name, false),
        None => (host, true),
    };
    if name.is_empty() {
        return None;
    }
    // In the form that URLs use: internationalized names in ASCII.
    let name = match Host::parse(name) {
        Ok(Host::Domain(name)) => name,
        _ => name.to_owned(),
    };
    Some((Pattern::Domain { name, itself }, port))
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |difference: u128, width: u32| {
        difference.checked_shr(width - u32::from(bits)).unwrap_or(0) == 0
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits() ^ b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(https: &str, http: &str, no_proxy: &str) -> ProxyOptions {
        ProxyOptions {
            https: Some(https.to_owned()),
            http: Some(http.to_owned()),
            no_proxy: no_proxy.to_owned(),
        }
    }

    /// The forms in the documentation of `httpproxy`.
    #[test]
    fn hosts_are_connected_directly_as_go_does_it() {
        let list = "foobar.com, .barbaz.net,10.0.0.1,172.16.0.0/12 , 192.168.1.7:8443,,*.wild.test,\
                    port.test:5000,fd00::1,[fd00::2]:443,[fd00::3],2001:db8::/32,B\u{fc}cher.test,bad.test:x,.:80";
        let proxies = Proxies::new(&options("http://p:1", "http://p:2", list)).unwrap();
        for (url, direct) in [
            ("https://localhost/", true),
            ("https://127.0.0.1/", true),
            ("https://127.0.0.2:5000/", true),
            ("https://[::1]/", true),
            ("https://[::2]/", false),
            ("http://10.0.0.1/", true),
            ("https://10.0.0.1:5000/", true),
            ("https://10.0.0.2/", false),
            ("https://[::ffff:10.0.0.1]/", true),
            ("https://172.16.0.1/", true),
            ("https://172.31.255.255/", true),
            ("https://172.32.0.1/", false),
            ("https://192.168.1.7:8443/", true),
            ("https://192.168.1.7/", false),
            ("https://foobar.com/", true),
            ("https://www.foobar.com/", true),
            ("https://FOOBAR.com:5000/", true),
            ("https://foofoobar.com/", false),
            ("https://foobar.com.evil.test/", false),
            ("https://barbaz.net/", false),
            ("https://www.barbaz.net/", true),
            ("https://wild.test/", false),
            ("https://a.wild.test/", true),
            ("https://a.b.wild.test/", true),
            ("https://notwild.test/", false),
            ("https://port.test/", false),
            ("https://port.test:5000/", true),
            ("https://sub.port.test:5000/", true),
            ("https://[fd00::1]/", true),
            ("https://[fd00::2]/", true),
            ("https://[fd00::2]:5000/", false),
            ("https://[fd00::3]/", true),
            ("https://[2001:db8:1::1]/", true),
            ("https://[2001:db9::1]/", false),
            ("https://b\u{fc}cher.test/", true),
            ("https://bad.test/", false),
            ("https://registry.example.com/", false),
        ] {
            let proxy = proxies.of(&Url::parse(url).unwrap());
            assert_eq!(proxy.is_none(), direct, "{url}");
        }
        let url = |text: &str| Url::parse(text).unwrap();
        for all in ["*", "a.test, *"] {
            let proxies = Proxies::new(&options("http://p:1", "http://p:2", all)).unwrap();
            assert_eq!(proxies.of(&url("https://registry.example.com/")), None);
        }
        let proxies = Proxies::new(&options("http://p:1", "http://p:2", "")).unwrap();
        let port = |text: &str| proxies.of(&url(text)).and_then(Url::port);
        assert_eq!(port("https://r.test/"), Some(1));
        assert_eq!(port("http://r.test/"), Some(2));
        let proxies = Proxies::new(&options("", "http://p:2", "")).unwrap();
        assert_eq!(proxies.of(&url("https://r.test/")), None, "none for https");
    }

    #[test]
    fn a_proxy_without_a_scheme_is_http_and_one_that_cannot_be_used_is_an_error() {
        for (text, expected) in [
            ("proxy.example.com:3128", "http://proxy.example.com:3128/"),
            ("localhost:3128", "http://localhost:3128/"),
            ("10.0.0.9:3128", "http://10.0.0.9:3128/"),
            ("[fd00::1]:3128", "http://[fd00::1]:3128/"),
            ("proxy", "http://proxy/"),
            ("user:pass@proxy:3128", "http://user:pass@proxy:3128/"),
            (" HTTP://proxy:8080 ", "http://proxy:8080/"),
            ("https://proxy", "https://proxy/"),
        ] {
            let read = Proxies::new(&options(text, "", "")).unwrap();
            assert_eq!(read.https.unwrap().as_str(), expected, "{text}");
        }
        for (text, why) in [
            ("socks5://user:secret@proxy:1080", "SOCKS is not supported"),
            ("socks5h://secret@proxy:1080", "SOCKS is not supported"),
            ("ftp://user:secret@proxy", "has to begin with http://"),
            ("http://user:secret@[", "not a URL"),
            ("http://secret@", "not a URL"),
        ] {
            let error = Proxies::new(&options(text, "", "")).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(why) && !shown.contains("secret"), "{shown}");
        }
    }
}
