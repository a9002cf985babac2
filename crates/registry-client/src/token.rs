//! The token service: asks for bearer tokens and keeps them until shortly before they expire.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>,
//! <https://distribution.github.io/distribution/spec/auth/oauth/>

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded;

use crate::allowance::Waiter;
use crate::call::redirect;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind};
use crate::exchange::{self, About, Payload};
use crate::failure::Failure;
use crate::network::Network;
use crate::observer::{self, Endpoint, RequestObserver};
use crate::origin;
use crate::realm::{self, Space};
use crate::response::Response;
use crate::retry::{self, Budget};

/// The lifetime of a token if the service gives none or an implausible one.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// The longest lifetime that is believed; one request per hour costs nothing.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// Beyond this number of tokens, expired ones are dropped.
const MAX_SLOTS: usize = 4096;

/// The number of refresh tokens that are kept.
const MAX_REFRESH_TOKENS: usize = 256;

/// How often a request is repeated because a 2xx answer cannot be read.
const MAX_UNREADABLE: u32 = 2;

/// The length from which secrets are searched for in messages of a token service.
const MIN_SECRET: usize = 4;

/// A bearer token, as an `Authorization` header.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) id: u64,
    /// The scopes that it was requested for, separated by spaces.
    pub(crate) scope: Arc<str>,
    pub(crate) fetched: Instant,
    expires: Instant,
}

/// The tokens by registry and scope. The first caller without a valid one requests it; the others
/// wait for that answer.
#[derive(Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<(Registry, String), Arc<Slot>>>,
    next_id: AtomicU64,
    /// The refresh tokens that token services issued as replacements, by registry and stored
    /// refresh token.
    refresh_tokens: Mutex<HashMap<(Registry, String), Arc<RefreshToken>>>,
}

/// The replacement of a stored refresh token; locked while it is exchanged.
type RefreshToken = AsyncMutex<Option<String>>;

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Slot {
    rounds: AtomicU64,
    last: AsyncMutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    token: Option<Token>,
    failure: Option<Error>,
}

impl Tokens {
    /// Returns a valid token for `scope` other than `refused`, getting one from `fetch` if there is
    /// none.
    pub(crate) async fn valid(
        &self,
        registry: &Registry,
        scope: &str,
        refused: Option<u64>,
        fetch: impl Future<Output = Result<(HeaderValue, Duration), Error>>,
    ) -> Result<Token, Error> {
        let slot = self.slot(registry, scope);
        let seen = slot.rounds.load(Ordering::Acquire);
        let mut last = slot.last.lock().await;
        if let Some(token) = &last.token
            && token.expires > Instant::now()
            && Some(token.id) != refused
        {
            return Ok(token.clone());
        }
        // Another caller made the request while this one waited. Its failure counts for this one
        // too, or else each of many waiting callers would fail in turn.
        if slot.rounds.load(Ordering::Acquire) > seen
            && let Some(failure) = &last.failure
        {
            return Err(failure.clone());
        }
        let fetched = Instant::now();
        let answer = fetch.await;
        slot.rounds.fetch_add(1, Ordering::Release);
        match answer {
            Ok((header, lifetime)) => {
                let margin = (lifetime / 10).min(Duration::from_secs(10));
                let token = Token {
                    header,
                    id: self.next_id.fetch_add(1, Ordering::Relaxed),
                    scope: scope.into(),
                    fetched,
                    expires: fetched + (lifetime - margin),
                };
                last.token = Some(token.clone());
                last.failure = None;
                Ok(token)
            }
            Err(failure) => {
                last.token = None;
                last.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    fn refresh_token(&self, registry: &Registry, stored: &str) -> Arc<RefreshToken> {
        let mut all = self
            .refresh_tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_REFRESH_TOKENS {
            all.clear();
        }
        let key = (registry.clone(), stored.to_owned());
        Arc::clone(all.entry(key).or_default())
    }

    fn slot(&self, registry: &Registry, scope: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_SLOTS {
            let now = Instant::now();
            slots.retain(|_, slot| match slot.last.try_lock() {
                Ok(last) => last.token.as_ref().is_some_and(|token| token.expires > now),
                Err(_) => true,
            });
        }
        let slot = slots
            .entry((registry.clone(), scope.to_owned()))
            .or_default();
        Arc::clone(slot)
    }
}

/// A request for a token.
pub(crate) struct TokenRequest<'a> {
    pub(crate) network: &'a Network,
    pub(crate) observer: Option<&'a Arc<dyn RequestObserver>>,
    pub(crate) registry: &'a Registry,
    pub(crate) registry_url: &'a Url,
    pub(crate) repository: Option<&'a RepositoryName>,
    pub(crate) realm: &'a Url,
    pub(crate) service: Option<&'a str>,
    /// One for each repository, such as `repository:team/app:pull`.
    pub(crate) scopes: &'a [String],
    pub(crate) credentials: &'a Credentials,
}

impl TokenRequest<'_> {
    /// Requests a token; `requests` counts the HTTP requests.
    pub(crate) async fn send(
        self,
        tokens: &Tokens,
        requests: &mut u32,
    ) -> Result<(HeaderValue, Duration), Error> {
        if let Credentials::Bearer(token) = self.credentials {
            // The registry accepts it as it is. The source is asked again after the default
            // lifetime, in case it has a newer one.
            return bearer(token)
                .map(|header| (header, DEFAULT_LIFETIME))
                .ok_or_else(|| {
                    let text = "the bearer token among the credentials cannot be sent in a header";
                    self.error(Failure::new(ErrorKind::Credentials, text))
                });
        }
        let granted = match self.credentials {
            Credentials::IdentityToken(stored) => self.exchange(tokens, stored, requests).await,
            _ => self.ask(None, requests).await,
        };
        granted
            .map(|granted| (granted.header, granted.lifetime))
            .map_err(|failure| self.error(failure))
    }

    /// Exchanges a refresh token, and keeps the replacement that the service may issue, since the
    /// old one may then be invalid. For the same reason there is only one exchange at a time.
    async fn exchange(
        &self,
        tokens: &Tokens,
        stored: &str,
        requests: &mut u32,
    ) -> Result<Granted, Failure> {
        let newest = tokens.refresh_token(self.registry, stored);
        let mut newest = newest.lock().await;
        let mut answer = self.ask(newest.as_deref().or(Some(stored)), requests).await;
        // The stored one may still be valid, or be valid again.
        let refused = |failure: &Failure| {
            let answer = failure.response.as_ref();
            answer.is_some_and(|answer| answer.status().is_client_error())
        };
        if newest.is_some() && answer.as_ref().is_err_and(refused) {
            *newest = None;
            answer = self.ask(Some(stored), requests).await;
        }
        let granted = answer?;
        if let Some(next) = &granted.refresh_token {
            *newest = Some(next.clone());
        }
        Ok(granted)
    }

    /// Makes requests until there is a final answer; `refresh_token` is exchanged, if given.
    async fn ask(
        &self,
        refresh_token: Option<&str>,
        requests: &mut u32,
    ) -> Result<Granted, Failure> {
        let started = Instant::now();
        let mut budget = Budget::new(self.network.options.retry);
        let mut unreadable = 0;
        let host = self.network.host(self.realm);
        let home = self.network.host(self.registry_url);
        let waiter = Waiter {
            registry: self.registry,
            observer: self.observer,
            held: &home.allowance.held,
        };
        loop {
            let place = match host.enter(&mut budget, waiter, false).await {
                Ok(place) => place,
                Err(answer) => return Err(self.refused(answer, refresh_token)),
            };
            let outcome = self
                .attempt(refresh_token, started, budget.tries(), requests)
                .await;
            drop(place);
            let (asked, status, failure) = match outcome {
                Ok(answer) if answer.status().is_success() => match parse(answer.body()) {
                    Ok(granted) => return Ok(granted),
                    // It may contain a secret, so the error does not contain the answer.
                    Err(text) => {
                        let readable = text != UNREADABLE;
                        let said = readable.then(|| self.said(&answer, refresh_token));
                        let text = format!("{text}{}", said.unwrap_or_default());
                        let failure =
                            Failure::new(ErrorKind::Token, text).at(&Method::GET, self.realm);
                        if readable || unreadable == MAX_UNREADABLE {
                            return Err(failure);
                        }
                        unreadable += 1;
                        (None, None, failure)
                    }
                },
                Ok(answer) => {
                    let status = answer.status();
                    let asked = answer.retry_after();
                    if status == StatusCode::TOO_MANY_REQUESTS
                        && let Some(wait) = asked
                        && wait <= self.network.options.retry.deadline
                    {
                        host.close_gate(wait, &answer);
                    }
                    let failure = self.refused(answer, refresh_token);
                    if !retry::is_transient(status) {
                        return Err(failure);
                    }
                    (asked, Some(status), failure)
                }
                Err(failure) if failure.transient => (None, None, failure),
                Err(failure) => return Err(failure),
            };
            let Some(wait) = budget.take_try(asked) else {
                return Err(failure);
            };
            observer::wait(self.observer, self.registry, wait, status).await;
        }
    }

    /// Sends one request and follows its redirects, each of which must lead to an allowed realm.
    async fn attempt(
        &self,
        refresh_token: Option<&str>,
        started: Instant,
        attempt: u32,
        requests: &mut u32,
    ) -> Result<Response, Failure> {
        let (method, mut url, mut headers, payload) = self.compose(refresh_token);
        let options = &self.network.options;
        let first = url.clone();
        let mut hops = 0;
        loop {
            let http = self
                .network
                .token_http(self.registry, self.registry_url, &url)
                .await?;
            *requests += 1;
            let about = About {
                registry: self.registry,
                repository: self.repository,
                endpoint: Endpoint::Token,
                attempt,
                observer: self.observer,
                bytes: None,
            };
            let open = exchange::send(
                &http,
                options,
                about,
                &method,
                &url,
                headers.clone(),
                &payload,
            )
            .await?;
            let target = redirect(open.status(), open.headers());
            let collected = open
                .collect(options.max_token_bytes, "max_token_bytes")
                .await?;
            let answer = Response {
                status: collected.status,
                headers: collected.headers,
                body: collected.body,
                coding: collected.coding,
                foreign: !origin::same_origin(&url, self.registry_url),
                url: url.clone(),
                requests: *requests,
                elapsed: started.elapsed(),
            };
            let Some(target) = target else {
                return Ok(answer);
            };
            let fail = |text: &str| Failure::new(ErrorKind::Redirect, text).at(&method, &url);
            hops += 1;
            if method != Method::GET {
                return Err(fail(
                    "the token service redirects a request that contains a secret",
                ));
            }
            if hops > options.max_redirects {
                return Err(fail("the token service redirects endlessly"));
            }
            let next = origin::resolve(&url, &target)
                .filter(|next| url.scheme() == "http" || next.scheme() == "https")
                .ok_or_else(|| fail("the token service does not redirect to a safe web address"))?;
            if !origin::same_origin(&next, &first) {
                headers.remove(AUTHORIZATION);
            }
            self.network.host(&next).allowance.charge(1);
            url = next;
        }
    }

    fn compose(&self, refresh_token: Option<&str>) -> (Method, Url, HeaderMap, Payload<'static>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut url = self.realm.clone();
        if let Some(token) = refresh_token {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "registry-client")
                .append_pair("refresh_token", token);
            if let Some(service) = self.service {
                form.append_pair("service", service);
            }
            if !self.scopes.is_empty() {
                form.append_pair("scope", &self.scopes.join(" "));
            }
            let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, media_type);
            let payload = Payload::Bytes(Bytes::from(form.finish()));
            return (Method::POST, url, headers, payload);
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in self.scopes {
                query.append_pair("scope", scope);
            }
        }
        if let Some(header) = basic(self.credentials) {
            headers.insert(AUTHORIZATION, header);
        }
        (Method::GET, url, headers, Payload::None)
    }

    fn refused(&self, answer: Response, refresh_token: Option<&str>) -> Failure {
        let said = self.said(&answer, refresh_token);
        let text = format!("the token service answers {}{said}", answer.status());
        Failure::new(ErrorKind::Token, text)
            .at(&Method::GET, answer.url())
            .answered(answer.clone())
    }

    /// Returns what the service says about an error, without the secret of the request.
    fn said(&self, answer: &Response, refresh_token: Option<&str>) -> String {
        let codes = || Some(answer.error_codes().join(", ")).filter(|codes| !codes.is_empty());
        let Some(mut said) = answer.error_message().or_else(codes) else {
            return String::new();
        };
        let password = match self.credentials {
            Credentials::Basic { password, .. } => Some(password.as_str()),
            _ => None,
        };
        for secret in [password, refresh_token].into_iter().flatten() {
            if secret.len() >= MIN_SECRET {
                said = said.replace(secret, "***");
            }
        }
        format!(": {said}")
    }

    fn error(&self, failure: Failure) -> Error {
        Error::new(self.registry, failure)
    }
}

/// Returns the header of HTTP Basic authentication, for credentials that have a user and a
/// password.
pub(crate) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { username, password } = credentials else {
        return None;
    };
    if credentials.are_empty() {
        return None;
    }
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    sensitive(&format!("Basic {encoded}"))
}

/// Returns the header that carries a bearer token.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// An answer of a token service.
struct Granted {
    header: HeaderValue,
    lifetime: Duration,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: serde_json::Value,
}

const UNREADABLE: &str = "the answer of the token service is not a token object";

fn parse(body: &[u8]) -> Result<Granted, &'static str> {
    // serde accepts an array of the members too.
    let answer: TokenAnswer = match body.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(body).map_err(|_| UNREADABLE)?,
        _ => return Err(UNREADABLE),
    };
    let given = |token: &String| !token.is_empty();
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(given)
        .ok_or("the token service's answer has no token")?;
    Ok(Granted {
        header: bearer(&token).ok_or("the token cannot be sent in a header")?,
        lifetime: lifetime(&answer.expires_in),
        refresh_token: answer.refresh_token.filter(given),
    })
}

fn lifetime(expires_in: &serde_json::Value) -> Duration {
    let seconds = expires_in
        .as_f64()
        .or_else(|| expires_in.as_str()?.trim().parse().ok());
    match seconds {
        Some(seconds) if seconds >= 1.0 => {
            Duration::try_from_secs_f64(seconds).map_or(MAX_LIFETIME, |d| d.min(MAX_LIFETIME))
        }
        _ => DEFAULT_LIFETIME,
    }
}

impl Network {
    /// Returns the HTTP client for a token request to `url`, after checking that it is allowed.
    async fn token_http(
        &self,
        registry: &Registry,
        registry_url: &Url,
        url: &Url,
    ) -> Result<reqwest::Client, Failure> {
        let refuse = |refused: realm::Refused| {
            Failure::new(ErrorKind::UntrustedRealm, refused.to_string()).at(&Method::GET, url)
        };
        // At the origin of the registry itself, its client certificate may be used and no address
        // has to be guarded.
        if origin::same_origin(url, registry_url) {
            realm::check(url, registry, registry_url, Space::Public).map_err(refuse)?;
            let pools = self.home(registry)?;
            return Ok(pools.of(Endpoint::Token, &Method::GET).clone());
        }
        let outside = self.outside(registry, registry_url, url).await?;
        realm::check(url, registry, registry_url, outside.located).map_err(refuse)?;
        Ok(outside.pools.of(Endpoint::Token, &Method::GET).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_that_makes_no_sense_is_sixty_seconds() {
        for (text, seconds) in [
            ("300", 300),
            ("\"300\"", 300),
            ("1", 1),
            ("3599.5", 3599),
            ("1e18", 3600),
            ("1e300", 3600),
            ("0", 60),
            ("-1", 60),
            ("null", 60),
            ("\"soon\"", 60),
            ("[]", 60),
        ] {
            let value = serde_json::from_str(text).unwrap();
            assert_eq!(lifetime(&value).as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn a_token_is_read_under_both_names_and_junk_is_refused() {
        let header = |body: &str| parse(body.as_bytes()).map(|granted| granted.header);
        for body in [
            r#"{"token":"abc"}"#,
            r#"{"access_token":"abc"}"#,
            r#"{"token":"abc","access_token":"other"}"#,
            r#"{"token":"","access_token":"abc","expires_in":null}"#,
            r#"{"token":null,"access_token":"abc","issued_at":"x"}"#,
        ] {
            let header = header(body).unwrap();
            assert_eq!(header, "Bearer abc", "{body}");
            assert!(header.is_sensitive());
        }
        for body in [
            "",
            "<html>",
            "{}",
            "[]",
            r#"["abc","abc","abc",300]"#,
            "\u{feff}{\"token\":\"abc\"}",
            r#"{"token":""}"#,
            r#"{"token":7}"#,
            r#"{"token":"a\nb"}"#,
        ] {
            assert!(header(body).is_err(), "{body}");
        }
    }
}
