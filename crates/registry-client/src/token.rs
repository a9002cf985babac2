//! The token service: asks for bearer tokens and keeps them until shortly before they expire.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>,
//! <https://distribution.github.io/distribution/spec/auth/oauth/>

use std::collections::HashMap;
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

use crate::call::redirect;
use crate::client::Inner;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Failure};
use crate::exchange::{self, About, Payload};
use crate::observer::Endpoint;
use crate::origin;
use crate::realm::{self, Space};
use crate::response::Response;
use crate::retry::{self, Budget};

/// What a token service that names no time means, and what stands in for a time that makes no sense.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// Longer is not believed; asking once an hour costs nothing.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// More tokens than this are not kept once they have expired.
const MAX_SLOTS: usize = 4096;

/// A bearer token as the `Authorization` header that carries it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) id: u64,
    pub(crate) fetched: Instant,
    expires: Instant,
}

/// The tokens, by registry and scope. Whoever finds none valid asks; all others wait for that answer.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<(Registry, String), Arc<Slot>>>,
    next_id: AtomicU64,
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
    /// Returns a valid token for `scope` other than `refused`, asking `fetch` for one if there is none.
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
        // Another caller asked while this one waited: its failure is this one's as well, else each of many
        // waiting callers would try in vain.
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
    pub(crate) client: &'a Inner,
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
    /// Asks the service; `requests` counts what that took.
    pub(crate) async fn send(self, requests: &mut u32) -> Result<(HeaderValue, Duration), Error> {
        if let Credentials::Bearer(token) = self.credentials {
            // The registry takes it as it is. Asked for again after the default time, in case the source
            // has a newer one.
            return bearer(token)
                .map(|header| (header, DEFAULT_LIFETIME))
                .ok_or_else(|| {
                    let text = "the bearer token among the credentials does not stand in a header";
                    self.error(Failure::new(ErrorKind::Credentials, text))
                });
        }
        let answer = self
            .ask(requests)
            .await
            .map_err(|failure| self.error(failure))?;
        parse(answer.body()).map_err(|text| {
            // Whatever it is, it may hold a secret, so the answer does not go along.
            let failure = Failure::new(ErrorKind::Token, text);
            self.error(failure.at(&Method::GET, self.realm))
        })
    }

    async fn ask(&self, requests: &mut u32) -> Result<Response, Failure> {
        let started = Instant::now();
        let mut budget = Budget::new(self.client.options.retry);
        let name = self.realm.host_str().unwrap_or_default();
        let host = self.client.host(self.realm, name);
        loop {
            let place = match host.enter(&mut budget).await {
                Ok(place) => place,
                Err(answer) => return Err(refused(answer)),
            };
            let outcome = self.attempt(started, budget.tries(), requests).await;
            drop(place);
            let (asked, status) = match &outcome {
                Ok(answer) if retry::is_transient(answer.status()) => {
                    (answer.retry_after(), Some(answer.status()))
                }
                Err(failure) if failure.transient => (None, None),
                Ok(answer) if answer.status().is_success() => return outcome,
                Ok(_) => return outcome.and_then(|answer| Err(refused(answer))),
                Err(_) => return outcome,
            };
            if let (Ok(answer), Some(StatusCode::TOO_MANY_REQUESTS), Some(wait)) =
                (&outcome, status, asked)
                && wait <= self.client.options.retry.deadline
            {
                host.close_gate(wait, answer);
            }
            let Some(wait) = budget.take_try(asked) else {
                return outcome.and_then(|answer| Err(refused(answer)));
            };
            self.client.wait(self.registry, wait, status).await;
        }
    }

    /// Sends one request and follows its redirects, each of which has to be a realm that may be asked.
    async fn attempt(
        &self,
        started: Instant,
        attempt: u32,
        requests: &mut u32,
    ) -> Result<Response, Failure> {
        let (method, mut url, mut headers, payload) = self.compose();
        let options = &self.client.options;
        let first = url.clone();
        let mut hops = 0;
        loop {
            let http = self
                .client
                .token_http(self.registry, self.registry_url, &url)
                .await?;
            *requests += 1;
            let about = About {
                registry: self.registry,
                repository: self.repository,
                endpoint: Endpoint::Token,
                attempt,
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
                    "the token service redirects a request that holds a secret",
                ));
            }
            if hops > options.max_redirects {
                return Err(fail("the token service redirects without end"));
            }
            let next = origin::resolve(&url, &target)
                .filter(|next| url.scheme() == "http" || next.scheme() == "https")
                .ok_or_else(|| fail("the token service redirects to no safe web address"))?;
            if !origin::same_origin(&next, &first) {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
    }

    fn compose(&self) -> (Method, Url, HeaderMap, Payload<'static>) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut url = self.realm.clone();
        if let Credentials::IdentityToken(token) = self.credentials {
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

    fn error(&self, failure: Failure) -> Error {
        Error::new(self.registry, failure)
    }
}

fn refused(answer: Response) -> Failure {
    let text = format!("the token service answers {}", answer.status());
    Failure::new(ErrorKind::Token, text)
        .at(&Method::GET, answer.url())
        .answered(answer.clone())
}

/// Returns the header of HTTP Basic authentication, for credentials that have a user and a password.
pub(crate) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { username, password } = credentials else {
        return None;
    };
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    sensitive(&format!("Basic {encoded}"))
}

fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: serde_json::Value,
}

fn parse(body: &[u8]) -> Result<(HeaderValue, Duration), &'static str> {
    let answer: TokenAnswer = serde_json::from_slice(body)
        .map_err(|_| "the token service answers with no token object")?;
    let token = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())
        .ok_or("the token service's answer has no token")?;
    let header = bearer(&token).ok_or("the token does not stand in a header")?;
    Ok((header, lifetime(&answer.expires_in)))
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

impl Inner {
    /// Returns the HTTP client for a token request to `url`, after checking that it may be asked.
    async fn token_http(
        &self,
        registry: &Registry,
        registry_url: &Url,
        url: &Url,
    ) -> Result<reqwest::Client, Failure> {
        let refuse = |refused: realm::Refused| {
            Failure::new(ErrorKind::UntrustedRealm, refused.to_string()).at(&Method::GET, url)
        };
        // At the registry's own origin its client certificate is at home, and nothing has to be guarded.
        if origin::same_origin(url, registry_url) {
            realm::check(url, registry, registry_url, Space::Public).map_err(refuse)?;
            return Ok(self.home.of(Endpoint::Token, &Method::GET).clone());
        }
        let outside = self.outside(registry_url).await?;
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
        let header = |body: &str| parse(body.as_bytes()).map(|(header, _)| header);
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
            r#"{"token":""}"#,
            r#"{"token":7}"#,
            r#"{"token":"a\nb"}"#,
        ] {
            assert!(header(body).is_err(), "{body}");
        }
    }
}
