use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::name::{ReferenceError, string_type};

/// A registry as a reference names it: a host name or address, and optionally a port.
///
/// - Lower case; no scheme, path, user or query.
/// - IPv6 addresses are in brackets.
/// - A name that ends in a number must be an IPv4 address of four decimal numbers: URLs treat
///   `127.1` and `0x7f.1` as addresses too
///   (<https://url.spec.whatwg.org/#ends-in-a-number-checker>), so requests would go to a host
///   other than the one that is shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registry(Box<str>);
string_type!(Registry);

impl Registry {
    /// Returns `oci`, which stands for the registry in the names of images from layout folders. It is
    /// not a host, and nothing is requested from it.
    pub fn layouts() -> Self {
        Self(LAYOUTS.into())
    }

    /// Returns whether this is [`layouts`](Self::layouts).
    pub fn is_layouts(&self) -> bool {
        &*self.0 == LAYOUTS
    }

    /// Returns the host to send requests to: Docker Hub is called `docker.io` but answers
    /// elsewhere.
    pub fn api_host(&self) -> &str {
        match &*self.0 {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        }
    }

    /// Returns the name without the port, and without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        match self.0.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.0.split(':').next().unwrap_or(&self.0),
        }
    }

    /// Returns whether another name certainly stands for the same registry: the default port may be
    /// left out, Docker Hub and the loopback interface have several names.
    pub fn is_same(&self, other: &Self) -> bool {
        fn canonical(registry: &Registry) -> (&str, Option<&str>) {
            let host = registry.api_host();
            let host = host.strip_suffix(":443").unwrap_or(host);
            let names = ["localhost", "127.0.0.1", "[::1]"];
            let local = names.iter().find_map(|name| host.strip_prefix(name));
            match local.filter(|rest| rest.is_empty() || rest.starts_with(':')) {
                Some(port) => ("localhost", Some(port)),
                None => (host, None),
            }
        }
        canonical(self) == canonical(other)
    }

    /// Returns whether this is a loopback address or name, for which plain HTTP is the default.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host.ends_with(".localhost")
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

/// Without a dot and a port, it cannot be the registry of a reference otherwise.
const LAYOUTS: &str = "oci";

impl FromStr for Registry {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: &str| Err(ReferenceError::new("registry", text, reason));
        let text_lower = text.to_ascii_lowercase();
        let (host, port) = if let Some(rest) = text_lower.strip_prefix('[') {
            let Some((address, rest)) = rest.split_once(']') else {
                return fail("the bracket is not closed");
            };
            if address.parse::<Ipv6Addr>().is_err() {
                return fail("only an IPv6 address may be in brackets");
            }
            match rest.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if rest.is_empty() => (None, None),
                None => return fail("only a port may follow the bracket"),
            }
        } else {
            match text_lower.split_once(':') {
                Some((host, port)) => (Some(host), Some(port)),
                None => (Some(text_lower.as_str()), None),
            }
        };
        if let Some(host) = host {
            let label = |label: &str| {
                !label.is_empty()
                    && label.len() <= 63
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            if host.len() > 253 || !host.split('.').all(label) {
                return fail("a host name may have letters, digits, dots and hyphens only");
            }
            if ends_in_number(host) && host.parse::<Ipv4Addr>().is_err() {
                return fail("a host that ends in a number must be an IPv4 address, a.b.c.d");
            }
        }
        if let Some(port) = port
            && (port.starts_with('0')
                || !port.bytes().all(|b| b.is_ascii_digit())
                || port.parse::<u16>().is_err())
        {
            return fail("the port is not a number from 1 to 65535");
        }
        Ok(Self(text_lower.into()))
    }
}

fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    digits(last) || last.strip_prefix("0x").is_some_and(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_several_names() {
        let is_same = |one: &str, other: &str| {
            let other: Registry = other.parse().unwrap();
            one.parse::<Registry>().unwrap().is_same(&other)
        };
        for (one, other, same) in [
            ("a.test", "A.test:443", true),
            ("a.test", "a.test:80", false),
            ("docker.io", "registry-1.docker.io", true),
            ("localhost:5000", "127.0.0.1:5000", true),
            ("localhost:5000", "[::1]:5000", true),
            ("localhost:5000", "localhost:5001", false),
            ("127.0.0.1:5000", "127.0.0.2:5000", false),
            ("localhost.test", "127.0.0.1.test", false),
        ] {
            assert_eq!(is_same(one, other), same, "{one} {other}");
        }
    }

    #[test]
    fn loopback_is_the_machine_itself() {
        for (text, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.8.8", true),
            ("[::1]:5000", true),
            ("[::ffff:127.0.0.1]:5000", true),
            ("[::ffff:10.0.0.1]:5000", false),
            ("registry.localhost:80", true),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
            ("128.0.0.1", false),
        ] {
            assert_eq!(
                text.parse::<Registry>().unwrap().is_loopback(),
                expected,
                "{text}"
            );
        }
    }
}
