//! The first words of a registry, and whether it lets this client in.

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

/// A clock that is further off breaks tokens and certificates.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Asks `GET /v2/` on a connection that is there, and says whether a registry answers.
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
                "{} took the connection and gave no answer within {}",
                place.peer(address),
                place.seconds()
            ))
            .cause("the registry hangs or is overloaded, or a firewall drops what it sends")
            .remedy("try again with a longer --timeout; then ask whoever runs the registry"));
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
                    .remedy("check the port in the reference; then ask whoever runs the registry")
            });
        }
    };
    if !place.speaks_tls && answer.status == 400 && answer.body_has("HTTPS") {
        return Err(plain_to_tls(place));
    }
    let status = answer.status;
    let registry = &place.registry;
    if let Some(proxy) = place.proxy.as_ref().filter(|_| status == 407) {
        return Err(failed(format!("{} wants a login (407)", proxy.name()))
            .cause("the URL of the proxy holds no user and password, or wrong ones")
            .remedy(
                "set HTTP_PROXY=http://USER:PASSWORD@HOST:PORT, with %40 for an @ in the password",
            ));
    }
    let finding = match status {
        _ if answer.is_page() && matches!(status, 200..400) => {
            return Err(failed(format!(
                "{registry} answers {status} with a page of HTML for people, not as a registry"
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
                "a registry answers: 401, it asks who you are{}",
                version(&answer)
            ),
        ),
        301..=399 => {
            let to = answer.header("location").unwrap_or("nowhere");
            // The query of a login redirect may hold a token.
            let to = to.split('?').next().unwrap_or(to);
            Finding::notice(CHECK, format!("{status}, it sends on to {to}"))
                .cause("the registry has moved, or something before it wants a login")
                .remedy("if the checks below fail, use the host that it sends on to")
        }
        403 => {
            return Err(Finding::failed(
                CHECK,
                Exit::Access,
                "403 before anybody has asked who you are".to_owned(),
            )
            .cause("a firewall before the registry does not let this machine or network in")
            .remedy("ask whoever runs it to let this machine's address in"));
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
                failed(format!("{registry} answers {status}: it is out of order"))
                    .cause(
                        "the registry or what it is built on is down, or a proxy cannot reach it",
                    )
                    .remedy("wait, then ask whoever runs the registry"),
            );
        }
        _ => Finding::notice(CHECK, format!("{status}, which a registry does not answer")),
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
    let seen = format!("{registry} speaks TLS, and was spoken to in plain HTTP");
    Finding::failed("ping", Exit::Network, seen)
        .cause("plain HTTP is switched on for it: loopback is plain by default, others by --plain-http")
        .remedy(format!(
            "leave --plain-http away; for loopback, configure registries: {{\"{registry}\": {{plain_http: false}}}}"
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
    .cause("this address or user has asked too much in a while; others behind the same address count too")
    .remedy("log in, for a higher limit; wait; ask less at a time (registries.HOST.max_in_flight)")
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

/// Asks for the image as the other commands would, and says whether the registry lets this client in.
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
        .unwrap_or_else(|| "it asks nobody who they are".to_owned());
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
                    "the token service does not know these credentials, or gives nobody rights to this repository",
                    format!(
                        "docker login {registry}; check the repository's name and your rights to it"
                    ),
                ),
                ErrorKind::UntrustedRealm => (
                    Exit::Access,
                    "the registry names a token service that no credentials may be sent to",
                    "ask whoever runs the registry: its realm has to be https, at a public address; where the \
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
                    "the registry answered the ping and then did not go on",
                    "try again with a longer --timeout; then ask whoever runs the registry"
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
            "{status}: {registry} wants a login for {}, and there are no credentials for it here",
            reference.repository()
        ))
        .cause(
            "the repository is not public, or not there, which registries answer in the same way",
        )
        .remedy(format!(
            "docker login {registry} (or podman login), then try again"
        )),
        401 => failed(format!("401: {registry} does not take {}", who.text))
            .cause("the password or token is wrong or has run out")
            .remedy(format!("docker login {registry} again")),
        403 => failed(format!(
            "403: {} may not read {}",
            who.text,
            reference.repository()
        ))
        .cause("this user has no right to the repository, or the repository is not there")
        .remedy("ask for the right to pull from it; check the repository's name"),
        429 => {
            let login = Finding::notice(CHECK, "not decided: it throttles").details(details);
            let retry_after = head.header("retry-after");
            return Err(vec![login, throttled(registry.as_str(), retry_after)]);
        }
        500.. => Finding::failed(CHECK, Exit::Network, format!("{registry} answers {status}"))
            .cause("the registry or what it is built on is down, or a proxy cannot reach it")
            .remedy("wait, then ask whoever runs the registry"),
        _ => {
            let seen = match (demand.is_some(), who.known) {
                (_, true) => format!("it lets {} in", who.text),
                (true, false) => "it lets anybody in, with an anonymous token".to_owned(),
                (false, false) => "it lets anybody in".to_owned(),
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

/// Says how a registry wants to be asked.
fn demand(first: &FirstAnswer) -> Option<String> {
    if first.status != 401 {
        return None;
    }
    let challenges = Challenge::read(first.headers("www-authenticate"));
    // As the client does it: a token comes before a password.
    let challenge = challenges
        .iter()
        .find(|challenge| challenge.is_bearer())
        .or(challenges.first());
    let Some(challenge) = challenge else {
        return Some("it asks who you are, and not how to say so".to_owned());
    };
    let realm = challenge.realm.as_deref().unwrap_or("(no realm)");
    Some(match (challenge.is_bearer(), &challenge.service) {
        (true, Some(service)) => {
            format!("it asks for a token of {realm} for the service {service}")
        }
        (true, None) => format!("it asks for a token of {realm}"),
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
        (None, None) => Finding::good(CHECK, "it speaks of none"),
        (limit, Some(remaining)) => {
            let of = limit
                .map(|limit| format!(" of {limit}"))
                .unwrap_or_default();
            let seen = format!("{remaining}{of} requests are left");
            if limit.is_some_and(|limit| remaining * 10 < limit) || remaining == 0 {
                Finding::notice(CHECK, seen)
                    .cause("an export may run into the limit, and then waits or ends incomplete")
                    .remedy("log in, for a higher limit, or wait until the window has passed")
            } else {
                Finding::good(CHECK, seen)
            }
        }
        (Some(limit), None) => Finding::good(CHECK, format!("{limit} requests in its window")),
    }
}

/// Says whether something stands before the registry.
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
        format!("something stands before it: {}", proxy.reason),
    )
    .details(asked.map(|request| format!("seen at {request}")));
    match report.capability {
        Capability::Supported => finding
            .cause("a cache may answer with a list that is older than the registry's")
            .remedy("if referrers are missing, ask the upstream registry itself"),
        _ => finding
            .cause(
                "a proxy that does not pass the referrers API on hides what the upstream registry lists there; only \
                 what is under tags can be found through it",
            )
            .remedy("mirror from the upstream registry itself, or have the proxy pass /v2/<name>/referrers/ on"),
    }
}
