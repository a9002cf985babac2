//! Checks of a registry's first answer, and of access for this client.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use oci_content::{Capability, Reference, with_causes};
use registry_client::{
    Challenge, Client, ClientOptions, Credentials, ErrorKind, ManifestId, Response,
};
use registry_probe::{Fact, FactName, ProbeReport};

use super::exchange::{self, Connection, FirstAnswer, NoFirstAnswer};
use super::finding::Finding;
use super::tls;
use super::wire::Place;
use crate::exit::Exit;

/// The largest tolerated clock difference: beyond it, tokens and certificates fail.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Sends `GET /v2/` on an open connection and checks whether a registry answers.
pub(super) async fn ping<S: Connection>(
    place: &Place,
    options: &ClientOptions,
    address: SocketAddr,
    stream: S,
) -> Result<(FirstAnswer, Finding), Finding> {
    const CHECK: &str = "ping";
    let failed = |seen: String| Finding::failed(CHECK, Exit::Network, seen);
    let answer = match exchange::ask(stream, &place.first_request(), place.timeout).await {
        Ok(answer) => answer,
        Err(NoFirstAnswer::Silent) => {
            return Err(failed(format!(
                "{} accepted the connection and sent no answer within {}",
                place.peer(address),
                place.seconds()
            ))
            .cause("the registry hangs or is overloaded, or a firewall drops its packets")
            .remedy("try again with a longer --timeout; then ask the registry's operator"));
        }
        Err(none) => {
            let is_tls = none == NoFirstAnswer::SpeaksTls
                || (!place.speaks_tls && tls::is_spoken(place, options, address).await);
            return Err(if is_tls {
                plain_to_tls(place)
            } else {
                let what = match none {
                    NoFirstAnswer::Closed(how) => format!("closed the connection ({how})"),
                    _ => "sent something that is not HTTP".to_owned(),
                };
                failed(format!("{} {what}", place.peer(address)))
                    .cause("another service is at this port, or the registry is broken")
                    .remedy("check the port in the reference; then ask the registry's operator")
            });
        }
    };
    if !place.speaks_tls && answer.status == 400 && answer.body_has("HTTPS") {
        return Err(plain_to_tls(place));
    }
    let status = answer.status;
    let registry = &place.registry;
    if let Some(proxy) = place.proxy.as_ref().filter(|_| status == 407) {
        return Err(failed(format!("{} requires a login (407)", proxy.name()))
            .cause("the URL of the proxy has no user and password, or wrong ones")
            .remedy(
                "set HTTP_PROXY=http://USER:PASSWORD@HOST:PORT, with %40 for an @ in the password",
            ));
    }
    let finding = match status {
        _ if answer.is_page() && matches!(status, 200..400) => {
            return Err(failed(format!(
                "{registry} answers {status} with an HTML page, not like a registry"
            ))
            .cause("this is a web site, a login page, or a portal that wants you to sign in first")
            .remedy("check the name of the registry's API host; sign in to the network's portal in a browser"));
        }
        200 => Finding::good(
            CHECK,
            format!("a registry answers: 200{}", version(&answer)),
        ),
        401 => Finding::good(
            CHECK,
            format!(
                "a registry answers: 401, it asks for authentication{}",
                version(&answer)
            ),
        ),
        301..=399 => {
            let to = answer.header("location").unwrap_or("nowhere");
            // The query of a login redirect may contain a token.
            let to = to.split('?').next().unwrap_or(to);
            Finding::notice(CHECK, format!("{status}, it redirects to {to}"))
                .cause("the registry has moved, or something in front of it wants a login")
                .remedy("if the checks below fail, use the host that it redirects to")
        }
        403 => {
            return Err(Finding::failed(
                CHECK,
                Exit::Access,
                "403 before it has asked for authentication".to_owned(),
            )
            .cause("a firewall in front of the registry blocks this machine or network")
            .remedy("ask its operator to allow this machine's address"));
        }
        404 => {
            return Err(
                failed(format!("there is no registry at {registry}: /v2/ is 404"))
                    .cause("this is a web server, or the registry's API is at another host or port")
                    .remedy("check the name of the registry's API host"),
            );
        }
        429 => return Err(throttled(registry.as_str(), answer.header("retry-after"))),
        500.. => {
            return Err(
                failed(format!("{registry} answers {status}: it is not working"))
                    .cause(
                        "the registry or a service that it depends on is down, or a proxy cannot reach it",
                    )
                    .remedy("wait, then ask the registry's operator"),
            );
        }
        _ => Finding::notice(
            CHECK,
            format!("{status}, which is not the answer of a registry"),
        ),
    };
    Ok((answer, finding))
}

fn version(answer: &FirstAnswer) -> String {
    [
        "oci-distribution-api-version",
        "docker-distribution-api-version",
    ]
    .iter()
    .find_map(|name| Some(format!(", version {}", answer.header(name)?)))
    .unwrap_or_default()
}

fn plain_to_tls(place: &Place) -> Finding {
    let registry = &place.registry;
    let seen = format!("{registry} speaks TLS and was contacted in plain HTTP");
    Finding::failed("ping", Exit::Network, seen)
        .cause("plain HTTP is switched on for it: loopback is plain by default, others by --plain-http")
        .remedy(format!(
            "leave out --plain-http; for loopback, configure registries: {{\"{registry}\": {{plain_http: false}}}}"
        ))
}

pub(super) fn throttled(registry: &str, retry_after: Option<&str>) -> Finding {
    let wait = match retry_after {
        Some(wait) => format!("it says to wait {wait}{}", seconds_unit(wait)),
        None => "it does not say for how long".to_owned(),
    };
    Finding::failed(
        "rate limit",
        Exit::Network,
        format!("{registry} answers 429, too many requests; {wait}"),
    )
    .cause("this address or user has sent too many requests; others behind the same address count too")
    .remedy("log in for a higher limit; wait; send fewer requests at a time (registries.HOST.max_in_flight)")
}

fn seconds_unit(wait: &str) -> &'static str {
    if wait.bytes().all(|byte| byte.is_ascii_digit()) {
        " s"
    } else {
        ""
    }
}

/// Compares this machine's clock with the registry's.
pub(super) fn clock(answer: &FirstAnswer) -> Option<Finding> {
    let theirs = httpdate::parse_http_date(answer.header("date")?).ok()?;
    let now = SystemTime::now();
    let (off, word) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    Some(if off < CLOCK_TOLERANCE {
        Finding::good("clock", "agrees with the registry's")
    } else {
        Finding::notice(
            "clock",
            format!(
                "this machine's clock is {} {word} the registry's",
                humantime::format_duration(Duration::from_secs(off.as_secs()))
            ),
        )
        .cause("one of the two clocks is wrong; tokens and certificates are then refused")
        .remedy("check it (date -u; timedatectl set-ntp true keeps it right)")
    })
}

/// Requests the image like the other commands, and checks whether the registry grants access.
pub(super) async fn login(
    client: &Client,
    options: &ClientOptions,
    reference: &Reference,
    first: &FirstAnswer,
    logins: String,
) -> Result<Vec<Finding>, Vec<Finding>> {
    const CHECK: &str = "login";
    let registry = reference.registry();
    let demand = demand(first);
    let demanded = demand
        .clone()
        .unwrap_or_else(|| "it asks for no authentication".to_owned());
    let who = match &options.credentials {
        Some(source) => {
            match source
                .credentials(registry, Some(reference.repository()))
                .await
            {
                Ok(credentials) => who(credentials.as_ref()),
                Err(error) => {
                    return Err(vec![
                        Finding::failed(CHECK, Exit::Access, with_causes(&error))
                            .details([demanded])
                            .cause("the credentials file or its helper is broken")
                            .remedy(format!("docker login {registry}, or name another file with --registry-config")),
                    ]);
                }
            }
        }
        None => who(None),
    };
    let mut details = vec![demanded, format!("here: {}", who.text)];
    let repository = client.repository(registry, reference.repository());
    let head = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => repository.head_manifest(ManifestId::Digest(digest)).await,
        (None, Some(tag)) => repository.head_manifest(ManifestId::Tag(tag)).await,
        (None, None) => repository.tags(Some(1)).await,
    };
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            let (exit, cause, remedy) = match error.kind() {
                ErrorKind::Token => (
                    Exit::Access,
                    "the token service does not accept these credentials, or grants no access to this repository",
                    format!(
                        "docker login {registry}; check the repository's name and your rights to it"
                    ),
                ),
                ErrorKind::UntrustedRealm => (
                    Exit::Access,
                    "the registry names a token service to which credentials must not be sent",
                    "ask the registry's operator: its realm must be https, at a public address; where the \
                     registry itself is plain HTTP (--plain-http), it may be plain HTTP at the same host"
                        .to_owned(),
                ),
                ErrorKind::Credentials => (
                    Exit::Access,
                    "the credentials file or its helper is broken",
                    format!("docker login {registry}, or name another file with --registry-config"),
                ),
                _ => (
                    Exit::Network,
                    "the registry answered the ping and then stopped responding",
                    "try again with a longer --timeout; then ask the registry's operator"
                        .to_owned(),
                ),
            };
            if exit == Exit::Access {
                details.push(logins);
            }
            let finding = Finding::failed(CHECK, exit, with_causes(&error))
                .details(details)
                .cause(cause)
                .remedy(remedy);
            return Err(vec![finding]);
        }
    };
    let status = head.status().as_u16();
    let failed = |seen: String| Finding::failed(CHECK, Exit::Access, seen);
    let finding = match status {
        401 | 403 if !who.known => failed(format!(
            "{status}: {registry} requires a login for {}, and there are no credentials for it here",
            reference.repository()
        ))
        .cause(
            "the repository is private or does not exist, which registries answer alike",
        )
        .remedy(format!(
            "docker login {registry} (or podman login), then try again"
        )),
        401 => failed(format!("401: {registry} does not accept {}", who.text))
            .cause("the password or token is wrong or has expired")
            .remedy(format!("docker login {registry} again")),
        403 => failed(format!(
            "403: {} may not read {}",
            who.text,
            reference.repository()
        ))
        .cause("this user has no access to the repository, or it does not exist")
        .remedy("ask for pull access; check the repository's name"),
        429 => {
            let login = Finding::notice(CHECK, "undecided: it throttles requests").details(details);
            let retry_after = head.header("retry-after");
            return Err(vec![login, throttled(registry.as_str(), retry_after)]);
        }
        500.. => Finding::failed(CHECK, Exit::Network, format!("{registry} answers {status}"))
            .cause("the registry or a service that it depends on is down, or a proxy cannot reach it")
            .remedy("wait, then ask the registry's operator"),
        _ => {
            let seen = match (demand.is_some(), who.known) {
                (_, true) => format!("it grants access with {}", who.text),
                (true, false) => "it grants anonymous access, with a token".to_owned(),
                (false, false) => "it grants anonymous access".to_owned(),
            };
            return Ok(vec![
                Finding::good(CHECK, seen).details(details),
                rate_limit(&head),
            ]);
        }
    };
    if matches!(status, 401 | 403) {
        details.push(logins);
    }
    Err(vec![finding.details(details)])
}

struct Who {
    text: String,
    known: bool,
}

fn who(credentials: Option<&Credentials>) -> Who {
    let (text, known) = match credentials {
        Some(Credentials::Basic { username, .. }) => {
            (format!("credentials of user {username}"), true)
        }
        Some(Credentials::IdentityToken(_)) => ("credentials (an identity token)".to_owned(), true),
        Some(Credentials::Bearer(_)) => ("credentials (a bearer token)".to_owned(), true),
        _ => ("no credentials for it".to_owned(), false),
    };
    Who { text, known }
}

/// Describes the authentication that a registry asks for.
fn demand(first: &FirstAnswer) -> Option<String> {
    if first.status != 401 {
        return None;
    }
    let challenges = Challenge::read(first.headers("www-authenticate"));
    // Like the client: tokens before passwords.
    let challenge = challenges
        .iter()
        .find(|challenge| challenge.is_bearer())
        .or(challenges.first());
    let Some(challenge) = challenge else {
        return Some("it asks for authentication without naming a scheme".to_owned());
    };
    let realm = challenge.realm.as_deref().unwrap_or("(no realm)");
    Some(match (challenge.is_bearer(), &challenge.service) {
        (true, Some(service)) => {
            format!("it asks for a token from {realm} for the service {service}")
        }
        (true, None) => format!("it asks for a token from {realm}"),
        (false, _) => format!("it asks for user and password ({realm})"),
    })
}

fn rate_limit(head: &Response) -> Finding {
    const CHECK: &str = "rate limit";
    let number = |names: [&str; 2]| {
        let text = names.iter().find_map(|name| head.header(name))?;
        // Docker Hub adds the window: `100;w=21600`.
        text.split(';').next()?.trim().parse::<u64>().ok()
    };
    let limit = number(["ratelimit-limit", "x-ratelimit-limit"]);
    let remaining = number(["ratelimit-remaining", "x-ratelimit-remaining"]);
    match (limit, remaining) {
        (None, None) => Finding::good(CHECK, "it mentions none"),
        (limit, Some(remaining)) => {
            let of = limit
                .map(|limit| format!(" of {limit}"))
                .unwrap_or_default();
            let seen = format!("{remaining}{of} requests are left");
            if limit.is_some_and(|limit| remaining * 10 < limit) || remaining == 0 {
                Finding::notice(CHECK, seen)
                    .cause("an export may hit the limit, and then wait or end incomplete")
                    .remedy("log in for a higher limit, or wait until the window has passed")
            } else {
                Finding::good(CHECK, seen)
            }
        }
        (Some(limit), None) => Finding::good(CHECK, format!("{limit} requests in its window")),
    }
}

/// Reports whether a proxy or cache is in front of the registry.
pub(super) fn proxy(report: &ProbeReport) -> Finding {
    const CHECK: &str = "proxy";
    let fact = |name| report.facts.iter().find(|fact: &&Fact| fact.name == name);
    let Some(proxy) = fact(FactName::Proxy) else {
        return Finding::good(CHECK, "not looked for");
    };
    if proxy.capability != Capability::Supported {
        return Finding::good(CHECK, "no sign of one");
    }
    let asked = proxy
        .evidence
        .first()
        .map(|evidence| evidence.request.clone());
    let finding = Finding::notice(
        CHECK,
        format!("there is something in front of it: {}", proxy.reason),
    )
    .details(asked.map(|request| format!("seen at {request}")));
    match report.capability {
        Capability::Supported => finding
            .cause("a cache may answer with a list that is older than the registry's")
            .remedy("if referrers are missing, ask the upstream registry itself"),
        _ => finding
            .cause(
                "a proxy that does not pass on the referrers API hides what the upstream registry lists there; only \
                 referrers under tags can be found through it",
            )
            .remedy("mirror from the upstream registry itself, or have the proxy pass /v2/<name>/referrers/ on"),
    }
}
