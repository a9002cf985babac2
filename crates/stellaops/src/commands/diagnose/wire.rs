//! From the name to the first connection: what needs no registry at the other end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use oci_content::Registry;
use registry_client::ClientOptions;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::finding::Finding;
use crate::exit::Exit;
use crate::render;

/// Where a registry is said to be.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) registry: Registry,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) speaks_tls: bool,
    /// Time that each answer may take.
    pub(super) timeout: Duration,
}

impl Place {
    pub(super) fn new(
        registry: &Registry,
        options: &ClientOptions,
        timeout: Duration,
    ) -> Option<Self> {
        let plain = options.speaks_plain_http(registry);
        let scheme = if plain { "http" } else { "https" };
        let url = url::Url::parse(&format!("{scheme}://{}/", registry.api_host())).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(Self {
            registry: registry.clone(),
            host,
            port: url.port_or_known_default()?,
            speaks_tls: !plain,
            timeout,
        })
    }

    pub(super) fn seconds(&self) -> String {
        format!("{} s", self.timeout.as_secs())
    }

    /// Writes host and port as a request's `Host` header has them.
    pub(super) fn authority(&self) -> String {
        self.registry.api_host().to_owned()
    }

    /// Finds the addresses of the host.
    pub(super) async fn resolve(&self) -> Result<(Vec<SocketAddr>, Finding), Finding> {
        const CHECK: &str = "name resolution";
        let host = &self.host;
        if let Ok(address) = host.parse::<IpAddr>() {
            let seen = format!("{host} is an address already");
            return Ok((
                vec![SocketAddr::new(address, self.port)],
                Finding::good(CHECK, seen),
            ));
        }
        let failed = |seen: String| Finding::failed(CHECK, Exit::Network, seen);
        let found = match timeout(self.timeout, lookup_host((host.as_str(), self.port))).await {
            Ok(found) => found,
            Err(_) => {
                let seen = format!(
                    "no name server answered for {host} within {}",
                    self.seconds()
                );
                return Err(failed(seen)
                    .cause("the name servers of this machine cannot be reached")
                    .remedy("check /etc/resolv.conf, the VPN and the firewall"));
            }
        };
        let mut addresses = match found {
            Ok(addresses) => addresses.collect::<Vec<_>>(),
            // Neither getaddrinfo's code nor a kind of its own survives in `io::Error`: these are the texts of
            // EAI_AGAIN in glibc and musl.
            Err(error)
                if ["Temporary failure", "Try again"]
                    .iter()
                    .any(|text| error.to_string().contains(text)) =>
            {
                return Err(
                    failed(format!("no name server could say what {host} is ({error})"))
                        .cause("the name servers of this machine cannot be reached, or do not know this domain")
                        .remedy(format!("check /etc/resolv.conf, the VPN and the spelling of {host}")),
                );
            }
            Err(error) => {
                return Err(failed(format!("there is no host {host} ({error})"))
                    .cause("the name is misspelt, or known inside another network only")
                    .remedy(
                        "check the spelling; inside a company, check the VPN and the search domain",
                    ));
            }
        };
        addresses.dedup();
        let list: Vec<_> = addresses
            .iter()
            .map(|address| address.ip().to_string())
            .collect();
        let seen = format!("{host} is {}", list.join(", "));
        Ok((addresses, Finding::good(CHECK, seen)))
    }

    /// Connects to the first address that takes a connection.
    pub(super) async fn connect(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(SocketAddr, Finding), Finding> {
        const CHECK: &str = "connection";
        let mut failures = Vec::new();
        let mut last = None;
        for address in addresses {
            let started = Instant::now();
            match timeout(self.timeout, TcpStream::connect(address)).await {
                Ok(Ok(_)) => {
                    let millis = started.elapsed().as_millis();
                    let seen = format!("{address} took it after {millis} ms");
                    return Ok((*address, Finding::good(CHECK, seen).details(failures)));
                }
                Ok(Err(error)) => {
                    failures.push(format!("{address}: {error}"));
                    last = Some(error.kind());
                }
                Err(_) => {
                    failures.push(format!("{address}: no answer within {}", self.seconds()));
                    last = Some(io::ErrorKind::TimedOut);
                }
            }
        }
        let (host, port) = (&self.host, self.port);
        let (seen, cause, remedy) = match last {
            Some(io::ErrorKind::ConnectionRefused) => (
                format!("{host} refuses connections at port {port}"),
                "the registry is not running, or listens at another port",
                "check that the registry runs, and the port in the reference",
            ),
            Some(io::ErrorKind::TimedOut) => (
                format!("{host} does not answer at port {port}"),
                "a firewall drops the packets, or the address is an old one",
                "ask whoever runs the firewall between here and there; check the address",
            ),
            Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => (
                format!("there is no way from here to {host}"),
                "this machine has no route to that network",
                "check the network connection, the VPN and IPv6",
            ),
            _ => (
                format!("no connection to {host} at port {port}"),
                "something between here and there breaks connections",
                "try from another machine of the same network",
            ),
        };
        let tried = match addresses.len() {
            0 | 1 => Vec::new(),
            count => {
                failures.push(format!("{} tried", render::count(count, "address")));
                failures
            }
        };
        Err(Finding::failed(CHECK, Exit::Network, seen)
            .details(tried)
            .cause(cause)
            .remedy(remedy))
    }

    /// Makes one more connection to an address that has taken one.
    pub(super) async fn stream(&self, address: SocketAddr) -> io::Result<TcpStream> {
        match timeout(self.timeout, TcpStream::connect(address)).await {
            Ok(stream) => stream,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
