//! Where a registry may lead. The realm of a challenge and the target of a redirect are chosen by
//! the server, so each is checked when it is read, and again for the addresses that its name
//! resolves to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use oci_content::Registry;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::origin::is_loopback;

/// An address that a registry must not lead to, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

/// The network that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Public,
    Loopback,
    LinkLocal,
    Private,
}

impl Space {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        match v4.octets() {
            [127 | 0, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            // Cloud providers put metadata services into 100.64/10 too; 168.63.129.16 is Azure's.
            [100, 64..=127, ..] | [168, 63, 129, 16] => Self::Private,
            // Protocols, documentation, 6to4 relays, benchmarks, multicast and reserved:
            // https://www.iana.org/assignments/iana-ipv4-special-registry/
            [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18..=19, ..] => Self::Private,
            [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => Self::Private,
            _ if v4.is_private() => Self::Private,
            _ => Self::Public,
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        let embedded = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match v6.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Self::Loopback,
            // IPv4-compatible and IPv4-mapped (RFC 4291), IPv4-translated (RFC 2765).
            [0, 0, 0, 0, 0, 0 | 0xffff, g, h] | [0, 0, 0, 0, 0xffff, 0, g, h] => embedded(g, h),
            // The translation prefixes of RFC 6052 and RFC 8215.
            [0x64, 0xff9b, 0 | 1, 0, 0, 0, g, h] => embedded(g, h),
            // 6to4, RFC 3056: the IPv4 address follows the prefix.
            [0x2002, b, c, ..] => embedded(b, c),
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            // Teredo, benchmarks, ORCHIDs and other protocols; documentation:
            // https://www.iana.org/assignments/iana-ipv6-special-registry/
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Private,
            // ISATAP, RFC 5214: the end of a tunnel.
            [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, g, h] => embedded(g, h),
            // Publicly assigned.
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Private,
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Private => "private or reserved",
        })
    }
}

/// Returns the network of a registry. It may lead into a non-public network only if all its own
/// addresses are in it.
pub(crate) async fn locate(registry: &Url) -> Space {
    let mut spaces = match registry.host() {
        Some(Host::Ipv4(v4)) => vec![Space::of(v4.into())],
        Some(Host::Ipv6(v6)) => vec![Space::of(v6.into())],
        Some(Host::Domain(_)) if is_loopback(registry) => vec![Space::Loopback],
        Some(Host::Domain(name)) => match tokio::net::lookup_host((name, 0)).await {
            Ok(addresses) => addresses.map(|address| Space::of(address.ip())).collect(),
            Err(_) => Vec::new(),
        },
        None => Vec::new(),
    };
    spaces.dedup();
    match spaces[..] {
        [space] => space,
        _ => Space::Public,
    }
}

/// Decides from its text alone whether a token may be requested at `realm`.
///
/// - `https`, or plain HTTP if registry and realm are both on this machine, or at the same host and
///   the registry itself uses plain HTTP.
/// - A literal non-public address only if the registry is in that network.
pub(crate) fn check(
    realm: &Url,
    registry: &Registry,
    registry_url: &Url,
    located: Space,
) -> Result<(), Refused> {
    let origin = realm.origin().ascii_serialization();
    let same_host = realm.host() == registry_url.host();
    let local = registry.is_loopback() && is_loopback(realm);
    if realm.scheme() != "https" && !local && !(same_host && registry_url.scheme() == "http") {
        return Err(Refused(format!(
            "the token service {origin} is not https; plain HTTP is only for one at the registry's own host, \
             where the registry itself is set to be reached over plain HTTP"
        )));
    }
    check_address(realm, registry_url, located)
        .map_err(|refused| Refused(format!("the token service is at {refused}")))
}

/// Decides from its text alone whether a registry may lead to `url`: to a literal non-public
/// address only if the registry is in that network.
pub(crate) fn check_address(url: &Url, registry_url: &Url, located: Space) -> Result<(), Refused> {
    let space = match url.host() {
        host if host == registry_url.host() => return Ok(()),
        Some(Host::Ipv4(v4)) => Space::of(v4.into()),
        Some(Host::Ipv6(v6)) => Space::of(v6.into()),
        _ if is_loopback(url) => Space::Loopback,
        _ => Space::Public,
    };
    if space == Space::Public || space == located {
        return Ok(());
    }
    let origin = url.origin().ascii_serialization();
    Err(Refused(format!("{origin}, {}", NotThere(space))))
}

/// Why a non-public address must not be used.
struct NotThere(Space);

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an address that is not public ({}), and the registry is not in that network",
            self.0
        )
    }
}

/// Resolves the names that a registry leads to, and refuses non-public addresses outside its
/// network.
#[derive(Clone)]
pub(crate) struct Guard {
    /// The names of the registry itself and of the proxies, which are connected to anyway.
    pub(crate) known: Vec<String>,
    pub(crate) located: Space,
}

impl Guard {
    fn check(&self, name: &str, addresses: &[SocketAddr]) -> Result<(), Refused> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if self.known.contains(&name) {
            return Ok(());
        }
        // A single one among public addresses is refused too: which of them is used is not decided
        // here.
        for address in addresses.iter().map(SocketAddr::ip) {
            let space = Space::of(address);
            if space != Space::Public && space != self.located {
                let why = NotThere(space);
                return Err(Refused(format!("{name} resolves to {address}, {why}")));
            }
        }
        Ok(())
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            guard.check(name.as_str(), &addresses)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::exchange::{self, About, Payload};
    use crate::observer::Endpoint;
    use crate::options::ClientOptions;

    #[test]
    fn addresses_are_known_for_whom_they_reach() {
        for (space, addresses) in [
            (
                Space::Public,
                &[
                    "8.8.8.8",
                    "172.32.0.1",
                    "100.128.0.1",
                    "2606:4700::1",
                    "64:ff9b::808:808",
                    "2002:808:808::1",
                    "::8.8.8.8",
                    "::ffff:8.8.8.8",
                    "::ffff:0:8.8.8.8",
                    "64:ff9b:1::808:808",
                    "2606:4700::5efe:808:808",
                    "192.0.1.1",
                    "198.20.0.1",
                ][..],
            ),
            (
                Space::Loopback,
                &[
                    "127.0.0.1",
                    "127.8.8.8",
                    "0.0.0.0",
                    "::1",
                    "::",
                    "::ffff:127.0.0.1",
                    "64:ff9b::7f00:1",
                    "2002:7f00:1::1",
                    "::127.0.0.1",
                    "::ffff:0:127.0.0.1",
                    "::ffff:0.0.0.0",
                    "2606:4700::5efe:7f00:1",
                ],
            ),
            (
                Space::LinkLocal,
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "febf::1",
                    "::ffff:169.254.169.254",
                    "::169.254.169.254",
                    "::ffff:0:169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "64:ff9b:1::a9fe:a9fe",
                    "2002:a9fe:a9fe::1",
                    "2606:4700:0:1:200:5efe:a9fe:a9fe",
                ],
            ),
            (
                Space::Private,
                &[
                    "10.0.0.1",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "100.64.0.1",
                    "100.100.100.200",
                    "fd00::1",
                    "fc00::1",
                    "fec0::1",
                    "224.0.0.1",
                    "255.255.255.255",
                    "ff02::1",
                    "::ffff:10.0.0.1",
                    "::10.0.0.1",
                    "::ffff:0:10.0.0.1",
                    "64:ff9b::a00:1",
                    "64:ff9b:1:a00:0:100::",
                    "2002:a00:1::",
                    "2001:0:4136:e378:8000:63bf:f5ff:fffe",
                    "2001::1",
                    "2001:2::1",
                    "2001:20::1",
                    "2001:db8::1",
                    "3fff::1",
                    "100::1",
                    "4000::1",
                    "5f00::1",
                    "1::1",
                    "2606:4700::5efe:a00:1",
                    "192.0.0.192",
                    "192.0.2.1",
                    "192.88.99.1",
                    "198.18.0.1",
                    "198.19.255.255",
                    "198.51.100.1",
                    "203.0.113.1",
                    "240.0.0.1",
                    "168.63.129.16",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(Space::of(address.parse().unwrap()), space, "{address}");
            }
        }
    }

    #[tokio::test]
    async fn a_realm_is_https_or_on_the_loopback_of_a_loopback_registry() {
        for (registry, realm, allowed) in [
            ("r.test", "https://r.test/token", true),
            ("r.test", "https://r.test:8443/token", true),
            ("r.test", "https://auth.test/token", true),
            ("r.test", "https://8.8.8.8/token", true),
            ("r.test", "http://r.test/token", false),
            ("r.test", "http://auth.test/token", false),
            ("r.test", "http://127.0.0.1/token", false),
            ("r.test", "https://127.0.0.1/token", false),
            ("r.test", "https://localhost/token", false),
            ("r.test", "https://169.254.169.254/latest/meta-data", false),
            ("r.test", "https://[::ffff:169.254.169.254]/", false),
            ("r.test", "https://10.0.0.1/token", false),
            ("r.test", "https://0x7f.1/token", false),
            ("r.test", "https://2130706433/token", false),
            ("r.test", "https://017700000001/token", false),
            ("r.test", "https://127.0.0.1./token", false),
            ("r.test", "https://%31%32%37.0.0.1/token", false),
            ("r.test", "https://１２７。０。０。１/token", false),
            ("r.test", "https://localhost./token", false),
            ("r.test", "https://a.LocalHost./token", false),
            ("r.test", "https://0/token", false),
            ("r.test", "https://[::127.0.0.1]/token", false),
            ("r.test", "https://[::ffff:0:10.0.0.1]/token", false),
            ("r.test", "https://[2001:0:1::1]/token", false),
            ("r.test", "https://0xa9fea9fe/latest/meta-data", false),
            ("10.0.0.1:5000", "https://10.0.0.2/token", true),
            ("10.0.0.1:5000", "https://169.254.169.254/", false),
            ("10.0.0.1:5000", "https://127.0.0.1/token", false),
            ("10.0.0.1:5000", "http://10.0.0.1:5000/token", false),
            ("127.0.0.1:5000", "http://127.0.0.1:5001/token", true),
            ("127.0.0.1:5000", "http://localhost:5001/token", true),
            ("localhost:5000", "http://127.0.0.1:5001/token", true),
            ("127.0.0.1:5000", "https://auth.test/token", true),
            ("127.0.0.1:5000", "http://auth.test/token", false),
            ("127.0.0.1:5000", "http://10.0.0.1/token", false),
            ("127.0.0.1:5000", "https://10.0.0.1/token", false),
        ] {
            let name: Registry = registry.parse().unwrap();
            let url = Url::parse(&format!("https://{registry}/")).unwrap();
            let located = match registry {
                "r.test" => Space::Public,
                _ => locate(&url).await,
            };
            let realm = Url::parse(realm).unwrap();
            let answer = check(&realm, &name, &url, located);
            assert_eq!(answer.is_ok(), allowed, "{registry} {realm} {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_registry_in_plain_http_may_have_its_realm_there_too() {
        for (registry, realm, allowed) in [
            ("r.test:5000", "http://r.test:5000/token", true),
            ("r.test:5000", "http://R.test:5001/token", true),
            ("r.test:5000", "http://r.test/token", true),
            ("r.test:5000", "https://r.test/token", true),
            ("10.0.0.1:5000", "http://10.0.0.1:5001/token", true),
            ("[fd00::1]:5000", "http://[fd00::1]:5001/token", true),
            ("10.0.0.1:5000", "http://10.0.0.2:5000/token", false),
            ("r.test:5000", "http://auth.r.test:5000/token", false),
            ("r.test:5000", "http://r.test.evil.test/token", false),
            ("r.test:5000", "http://127.0.0.1:5000/token", false),
            ("r.test:5000", "http://169.254.169.254/token", false),
        ] {
            let name: Registry = registry.parse().unwrap();
            let url = Url::parse(&format!("http://{registry}/")).unwrap();
            let realm = Url::parse(realm).unwrap();
            let answer = check(&realm, &name, &url, Space::Public);
            assert_eq!(answer.is_ok(), allowed, "{registry} {realm} {answer:?}");
            let url = Url::parse(&format!("https://{registry}/")).unwrap();
            let secure = check(&realm, &name, &url, Space::Public);
            assert_eq!(
                secure.is_ok(),
                realm.scheme() == "https",
                "{registry} {realm}"
            );
        }
    }

    #[test]
    fn one_inner_address_among_public_ones_is_refused() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let both = [address("8.8.8.8"), address("10.0.0.1")];
        let guard = |located| Guard {
            known: vec!["r.test".into()],
            located,
        };
        let public = guard(Space::Public);
        assert!(public.check("auth.test", &both[..1]).is_ok());
        assert!(public.check("auth.test", &both).is_err());
        assert!(public.check("auth.test", &[address("127.0.0.1")]).is_err());
        assert!(
            public.check("R.test.", &both).is_ok(),
            "the registry's own name"
        );
        assert!(guard(Space::Private).check("auth.test", &both).is_ok());
        assert!(guard(Space::Loopback).check("auth.test", &both).is_err());
    }

    #[tokio::test]
    async fn a_client_with_a_guard_refuses_before_it_connects() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = Url::parse(&format!("http://localhost:{port}/")).unwrap();
        let registry: Registry = "r.test".parse().unwrap();
        let options = ClientOptions {
            response_timeout: std::time::Duration::from_millis(500),
            ..ClientOptions::default()
        };
        let send = async |known: &[&str], endpoint: Endpoint| {
            let guard = Guard {
                known: known.iter().map(|&name| name.to_owned()).collect(),
                located: Space::Public,
            };
            let http = reqwest::Client::builder().no_proxy().dns_resolver(guard);
            let about = About {
                registry: &registry,
                repository: None,
                endpoint,
                attempt: 1,
                observer: None,
                bytes: None,
            };
            let (http, headers) = (http.build().unwrap(), http::HeaderMap::new());
            let (get, nothing) = (http::Method::GET, Payload::None);
            exchange::send(&http, &options, about, &get, &url, headers, &nothing)
                .await
                .unwrap_err()
        };
        for (endpoint, kind) in [
            (Endpoint::Token, ErrorKind::UntrustedRealm),
            (Endpoint::Blob, ErrorKind::Redirect),
            (Endpoint::Referrers, ErrorKind::Redirect),
        ] {
            let failure = send(&[], endpoint).await;
            assert_eq!(failure.kind, kind);
            assert!(!failure.worth_repeating(true));
            let text = Error::new(&registry, failure).with_causes();
            let address = if text.contains("::1") {
                "::1"
            } else {
                "127.0.0.1"
            };
            let why = format!(
                "localhost resolves to {address}, an address that is not public (loopback), and the registry is \
                 not in that network"
            );
            assert!(text.ends_with(&why), "{text}");
        }
        let failure = send(&["localhost"], Endpoint::Blob).await;
        assert_eq!(
            failure.kind,
            ErrorKind::Timeout,
            "connected, and nobody answers"
        );
    }
}
