//! Where a token request may go. A challenge's realm is chosen by whoever answers for the registry, so it is
//! checked when it is read, at each redirect, and once more for the addresses that its name resolves to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use oci_content::Registry;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::origin::is_loopback;

/// A realm that may not be asked for a token, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

/// Whom an address reaches.
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
            IpAddr::V6(v6) => {
                let [a, b, .., g, h] = v6.segments();
                let embedded = |high: u16, low: u16| {
                    let [a, b] = high.to_be_bytes();
                    let [c, d] = low.to_be_bytes();
                    Self::of_v4(Ipv4Addr::new(a, b, c, d))
                };
                if v6.is_loopback() || v6.is_unspecified() {
                    Self::Loopback
                } else if v6.to_ipv4_mapped().is_some() || (a, b) == (0x64, 0xff9b) {
                    // IPv4-mapped, and the translators' prefix of RFC 6052.
                    embedded(g, h)
                } else if a == 0x2002 {
                    // 6to4, RFC 3056: the IPv4 address follows the prefix.
                    embedded(b, v6.segments()[2])
                } else if a & 0xffc0 == 0xfe80 {
                    Self::LinkLocal
                } else if a & 0xfe00 == 0xfc00 || a & 0xffc0 == 0xfec0 || v6.is_multicast() {
                    Self::Private
                } else {
                    Self::Public
                }
            }
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        let [a, b, c, _] = v4.octets();
        match (a, b, c) {
            (127 | 0, ..) => Self::Loopback,
            (169, 254, _) => Self::LinkLocal,
            // 100.64/10 is where cloud providers put metadata services as well.
            (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _) | (224.., ..) => Self::Private,
            _ if v4.is_private() => Self::Private,
            _ => Self::Public,
        }
    }
}

/// Where a registry is. Only where all its addresses are in one space that is not public may its token
/// service be there as well.
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

/// Decides whether a token may be asked for at `realm`, as far as its text tells.
///
/// - `https`, or plain HTTP where registry and realm are both on this machine.
/// - A literal address that is not public only where the registry is.
pub(crate) fn check(
    realm: &Url,
    registry: &Registry,
    registry_url: &Url,
    located: Space,
) -> Result<(), Refused> {
    let origin = realm.origin().ascii_serialization();
    if realm.scheme() != "https" && !(registry.is_loopback() && is_loopback(realm)) {
        return Err(Refused(format!("the token service {origin} is not https")));
    }
    if realm.host() == registry_url.host() {
        return Ok(());
    }
    let space = match realm.host() {
        Some(Host::Ipv4(v4)) => Space::of(v4.into()),
        Some(Host::Ipv6(v6)) => Space::of(v6.into()),
        _ if is_loopback(realm) => Space::Loopback,
        _ => Space::Public,
    };
    match space == Space::Public || space == located {
        true => Ok(()),
        false => Err(Refused(format!(
            "the token service {origin} is at an address that is not public, and the registry is not there"
        ))),
    }
}

/// Resolves names for token requests, and none into a space where the registry is not.
pub(crate) struct Guard {
    /// The registry's own name and those of the proxies: they are spoken to anyway.
    pub(crate) known: Vec<String>,
    pub(crate) located: Space,
}

impl Guard {
    fn check(&self, name: &str, addresses: &[SocketAddr]) -> Result<(), Refused> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let allowed = |address: &SocketAddr| {
            let space = Space::of(address.ip());
            space == Space::Public || space == self.located
        };
        // One address among public ones is refused as well: which of them is taken is not decided here.
        match self.known.contains(&name) || addresses.iter().all(allowed) {
            true => Ok(()),
            false => Err(Refused(format!(
                "the token service {name} resolves to an address that is not public, and the registry is \
                 not there"
            ))),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Self {
            known: self.known.clone(),
            located: self.located,
        };
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
    use crate::error::{ErrorKind, Failure};

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
                ],
            ),
            (
                Space::LinkLocal,
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "febf::1",
                    "::ffff:169.254.169.254",
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
        let send = async |known: &[&str]| {
            let guard = Guard {
                known: known.iter().map(|&name| name.to_owned()).collect(),
                located: Space::Public,
            };
            let http = reqwest::Client::builder().no_proxy().dns_resolver(guard);
            let url = format!("http://localhost:{port}/");
            let request = http.build().unwrap().get(url).send();
            tokio::time::timeout(std::time::Duration::from_millis(500), request).await
        };
        let error = send(&[]).await.unwrap().unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.kind, ErrorKind::UntrustedRealm);
        assert!(!failure.worth_repeating(true));
        assert!(
            send(&["localhost"]).await.is_err(),
            "connected, and nobody answers"
        );
    }
}
