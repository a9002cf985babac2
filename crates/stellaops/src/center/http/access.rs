use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use registry_server::RequestOrigin;

use super::error::{ApiError, ErrorCode};
use crate::center::token::{Scope, Tokens};

/// The caller of a service without tokens.
const LOCAL: &str = "local";
const TENANT: &str = "x-stella-tenant";

/// Decides which requests are admitted.
#[derive(Debug)]
pub(crate) struct Access {
    hosts: RwLock<Hosts>,
    tenant: String,
    /// `None`: every user of this machine may do everything.
    tokens: Option<RwLock<Tokens>>,
}

/// The name of the token that a request was sent with, or `local` without tokens.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Arc<str>);

/// The hosts under which the service is reached. A page of another site whose name resolves to this machine sends its own
/// name instead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    names: Vec<String>,
    /// Whether every address counts, because all addresses of the machine are listened on.
    addresses: bool,
}

impl Hosts {
    /// Returns the hosts of a service: loopback, its address, and these names, which may begin with `*.`.
    pub(crate) fn new(listen: SocketAddr, names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<_> = names
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        names.push(listen.ip().to_string());
        Self {
            names,
            addresses: listen.ip().is_unspecified(),
        }
    }

    fn serves(&self, origin: &RequestOrigin<'_>) -> bool {
        let Some(host) = origin.host() else {
            // Browsers always send one.
            return true;
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_named = |name: &String| match name.strip_prefix("*.") {
            Some(parent) => bare.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => name == bare,
        };
        origin.is_for_loopback()
            || (self.addresses && bare.parse::<IpAddr>().is_ok())
            || self.names.iter().any(is_named)
    }
}

/// What a request must have to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Answered to everyone, under any host.
    Health,
    /// Answered to everyone.
    Nothing,
    Scope(Scope),
}

impl Need {
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        match path {
            "/healthz" | "/readyz" => Self::Health,
            "/.well-known/openapi" | "/style.css" | "/live.js" | "/icon.svg" => Self::Nothing,
            _ if !is_read(method) => Self::Scope(Scope::Run),
            _ => {
                let run = path.strip_prefix("/v1/exports/runs/");
                match run.and_then(|run| run.split_once('/')) {
                    Some((_, "download" | "manifest" | "report")) => Self::Scope(Scope::Download),
                    _ => Self::Scope(Scope::Read),
                }
            }
        }
    }
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

impl Access {
    pub(crate) fn new(hosts: Hosts, tenant: String, tokens: Option<Tokens>) -> Self {
        Self {
            hosts: RwLock::new(hosts),
            tenant,
            tokens: tokens.map(RwLock::new),
        }
    }

    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Replaces the hosts, from the next request on.
    pub(crate) fn replace_hosts(&self, hosts: Hosts) {
        *self.hosts.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Replaces the tokens, from the next request on.
    pub(crate) fn replace_tokens(&self, tokens: Tokens) {
        if let Some(current) = &self.tokens {
            *current.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        }
    }

    /// Admits a request, or refuses it. `None`: it needs no caller.
    pub(crate) fn admit(&self, parts: &Parts) -> Result<Option<Caller>, ApiError> {
        let need = Need::of(&parts.method, parts.uri.path());
        if need == Need::Health {
            return Ok(None);
        }
        self.check_origin(parts)?;
        let Need::Scope(scope) = need else {
            return Ok(None);
        };
        let caller = self.caller(parts, scope)?;
        let tenant = parts.headers.get(TENANT);
        if tenant.is_some_and(|tenant| tenant.as_bytes() != self.tenant.as_bytes()) {
            let message = "this service does not serve the tenant in X-Stella-Tenant";
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorCode::Tenant,
                message,
            ));
        }
        Ok(Some(caller))
    }

    /// Refuses what only a page of another site makes a browser send.
    fn check_origin(&self, parts: &Parts) -> Result<(), ApiError> {
        let refused = |message: String| {
            Err(ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorCode::Origin,
                message,
            ))
        };
        let origin = RequestOrigin::of(parts)
            .map_err(|error| ApiError::invalid("Host", error.to_string()))?;
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        if !hosts.serves(&origin) {
            let host = origin.host().unwrap_or_default();
            return refused(format!(
                "this service does not serve the host {host:?}; --allow-host adds a name"
            ));
        }
        if !origin.is_same_origin() {
            return refused("requests from another origin are refused".to_owned());
        }
        Ok(())
    }

    fn caller(&self, parts: &Parts, scope: Scope) -> Result<Caller, ApiError> {
        let Some(tokens) = &self.tokens else {
            return Ok(Caller(LOCAL.into()));
        };
        // A browser adds the password of Basic by itself, also to what a page of another site sends.
        let by_basic = is_read(&parts.method);
        let Some((name, text)) = credentials(&parts.headers, by_basic) else {
            let message = if by_basic {
                "a token is needed: as Bearer, or as the password of Basic with its name as the user"
            } else {
                "a token is needed, as Bearer"
            };
            return Err(unauthorized(message, by_basic));
        };
        let tokens = tokens.read().unwrap_or_else(PoisonError::into_inner);
        let Some(token) = tokens.find(name.as_deref(), &text) else {
            return Err(unauthorized("the token is not known", by_basic));
        };
        if !token.permits(scope) {
            let message = format!(
                "the token {} does not have the scope {}",
                token.name,
                scope.as_str()
            );
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorCode::Scope,
                message,
            ));
        }
        Ok(Caller(token.name.to_string().into()))
    }
}

/// Reads `Authorization`: the name, if there is one, and the text of a token.
fn credentials(headers: &HeaderMap, by_basic: bool) -> Option<(Option<String>, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((None, rest.trim().as_bytes().to_vec()));
    }
    if !by_basic || !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // <https://www.rfc-editor.org/rfc/rfc7617#section-2>
    let decoded = STANDARD.decode(rest.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((Some(name), decoded[colon + 1..].to_vec()))
}

fn unauthorized(message: &str, by_basic: bool) -> ApiError {
    let status = StatusCode::UNAUTHORIZED;
    let mut error = ApiError::new(status, ErrorCode::Unauthorized, message);
    let bearer = HeaderValue::from_static("Bearer realm=\"export-center\"");
    error = error.header(header::WWW_AUTHENTICATE, bearer);
    if by_basic {
        let basic = HeaderValue::from_static("Basic realm=\"export-center\", charset=\"UTF-8\"");
        error = error.header(header::WWW_AUTHENTICATE, basic);
    }
    error
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const TOKENS: [(&str, &str); 3] = [
        ("reader", "export:read"),
        ("runner", "export:run"),
        ("all", "export:read,export:run,export:download"),
    ];

    fn access(listen: &str, tokens: bool) -> Access {
        let line = |(name, scopes): &(&str, &str)| {
            let digest = oci_content::Digest::of(format!("secret of {name}").as_bytes());
            format!("{name} {scopes} {}\n", digest.encoded())
        };
        let tokens = tokens.then(|| TOKENS.iter().map(line).collect::<String>().parse().unwrap());
        let hosts = Hosts::new(
            listen.parse().unwrap(),
            ["Mirror.example".to_owned(), "*.lab.example".to_owned()],
        );
        Access::new(hosts, "default".to_owned(), tokens)
    }

    fn admit(access: &Access, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match access.admit(&parts) {
            Ok(caller) => (
                200,
                caller.map_or_else(String::new, |caller| caller.0.to_string()),
            ),
            Err(error) => (error.status.as_u16(), error.message),
        }
    }

    fn bearer(name: &str) -> String {
        format!("Bearer secret of {name}")
    }

    fn basic(name: &str, of: &str) -> String {
        format!(
            "Basic {}",
            STANDARD.encode(format!("{name}:secret of {of}"))
        )
    }

    #[test]
    fn each_route_needs_its_scope_and_writes_take_no_basic() {
        let access = access("127.0.0.1:1", true);
        let status = |method: &str, path: &str, authorization: &str| {
            admit(&access, method, path, &[("authorization", authorization)]).0
        };
        for path in ["/healthz", "/readyz", "/.well-known/openapi", "/style.css"] {
            assert_eq!(
                admit(&access, "GET", path, &[]),
                (200, String::new()),
                "{path}"
            );
        }
        for path in [
            "/",
            "/metrics",
            "/v1/exports/runs",
            "/runs/x",
            "/v1/exports/runs/x",
            "/else",
        ] {
            assert_eq!(admit(&access, "GET", path, &[]).0, 401, "{path}");
            assert_eq!(status("GET", path, &bearer("reader")), 200, "{path}");
            assert_eq!(
                status("HEAD", path, &basic("reader", "reader")),
                200,
                "{path}"
            );
            assert_eq!(status("GET", path, &basic("reader", "all")), 401, "{path}");
            assert_eq!(status("GET", path, &basic("nobody", "all")), 401, "{path}");
            assert_eq!(status("GET", path, &bearer("runner")), 403, "{path}");
            assert_eq!(status("GET", path, "Bearer "), 401, "{path}");
            assert_eq!(status("GET", path, "Negotiate x"), 401, "{path}");
        }
        for file in ["download", "manifest", "report"] {
            let path = format!("/v1/exports/runs/x/{file}");
            assert_eq!(status("GET", &path, &bearer("reader")), 403, "{path}");
            assert_eq!(status("GET", &path, &basic("all", "all")), 200, "{path}");
        }
        for path in ["/v1/exports/runs", "/v1/exports/runs/x:cancel"] {
            assert_eq!(status("POST", path, &bearer("runner")), 200, "{path}");
            assert_eq!(status("POST", path, &bearer("reader")), 403, "{path}");
            assert_eq!(
                status("POST", path, &basic("runner", "runner")),
                401,
                "{path}"
            );
        }
    }

    #[test]
    fn without_tokens_everybody_on_the_machine_is_the_local_caller() {
        let access = access("127.0.0.1:1", false);
        assert_eq!(
            admit(&access, "POST", "/v1/exports/runs", &[]),
            (200, "local".to_owned())
        );
        let stranger = [("authorization", "Bearer x")];
        assert_eq!(admit(&access, "GET", "/", &stranger).0, 200);
    }

    #[test]
    fn only_its_own_hosts_are_served() {
        let asked = |access: &Access, host: &str| admit(access, "GET", "/", &[("host", host)]).0;
        let own = access("10.1.2.3:8443", false);
        let every = access("0.0.0.0:8443", false);
        for (host, status, on_every) in [
            ("localhost:8443", 200, 200),
            ("127.0.0.1", 200, 200),
            ("[::1]:8443", 200, 200),
            ("10.1.2.3:8443", 200, 200),
            ("10.1.2.4:8443", 403, 200),
            ("[fd00::1]:8443", 403, 200),
            ("mirror.example", 200, 200),
            ("MIRROR.example:443", 200, 200),
            ("a.lab.example", 200, 200),
            ("a.b.lab.example", 403, 403),
            ("lab.example", 403, 403),
            ("evil.example", 403, 403),
            ("10.1.2.3.evil.example", 403, 403),
            ("a b", 400, 400),
        ] {
            assert_eq!(asked(&own, host), status, "{host}");
            assert_eq!(asked(&every, host), on_every, "{host}");
        }
        assert_eq!(
            admit(&own, "GET", "/healthz", &[("host", "evil.example")]).0,
            200
        );
        let (_, message) = admit(&own, "GET", "/", &[("host", "evil.example")]);
        assert!(message.contains("--allow-host"), "{message}");
    }

    #[test]
    fn a_page_of_another_site_gets_nothing() {
        let access = access("127.0.0.1:1", false);
        let own = ("host", "localhost:1");
        for (headers, status) in [
            (&[own][..], 200),
            (&[own, ("origin", "http://localhost:1")], 200),
            (&[own, ("origin", "http://localhost:2")], 403),
            (&[own, ("origin", "null")], 403),
            (&[own, ("sec-fetch-site", "same-origin")], 200),
            (&[own, ("sec-fetch-site", "none")], 200),
            (&[own, ("sec-fetch-site", "same-site")], 403),
            (&[own, ("sec-fetch-site", "cross-site")], 403),
        ] {
            for (method, path) in [
                ("GET", "/"),
                ("GET", "/v1/exports/runs"),
                ("POST", "/v1/exports/runs"),
            ] {
                assert_eq!(
                    admit(&access, method, path, headers).0,
                    status,
                    "{path} {headers:?}"
                );
            }
        }
    }

    #[test]
    fn a_tenant_is_the_configured_one() {
        let access = access("127.0.0.1:1", true);
        let bearer = bearer("all");
        for (tenant, status) in [("default", 200), ("other", 403), ("", 403)] {
            let headers = [("authorization", bearer.as_str()), (TENANT, tenant)];
            assert_eq!(
                admit(&access, "GET", "/v1/exports/runs", &headers).0,
                status
            );
        }
    }
}
