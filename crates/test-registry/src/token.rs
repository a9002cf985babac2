use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use registry_server::{ApiError, ErrorCode};
use serde_json::json;
use url::form_urlencoded;

/// The token service: accounts, rules and issued tokens.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    accounts: Accounts,
    rules: TokenRules,
    issued: Mutex<HashMap<String, Issued>>,
    /// The currently valid tokens.
    refresh_tokens: Mutex<Vec<String>>,
}

/// The rules of a test for issuing and checking tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenRules {
    /// The lifetime, `None` for that of the persona.
    pub(crate) ttl: Option<Duration>,
    /// The prefix of repositories in scopes.
    pub(crate) scope_prefix: String,
    /// The status of the answer to a token with insufficient scope; `None` for 401.
    pub(crate) insufficient: Option<StatusCode>,
    pub(crate) several_scopes: SeveralScopes,
    /// The only actions that are granted; `None` for all.
    pub(crate) actions: Option<Vec<String>>,
    /// Whether a refresh token is valid once and is answered with the next one.
    pub(crate) rotates: bool,
}

/// The answer to a request for a token with several scopes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum SeveralScopes {
    #[default]
    Granted,
    FirstGranted,
    Refused(StatusCode),
}

/// The known users. If there are none, everybody may do everything.
#[derive(Clone, Default)]
pub(crate) struct Accounts {
    pub(crate) passwords: Vec<(String, String)>,
    pub(crate) refresh_tokens: Vec<String>,
    pub(crate) anonymous_pull: bool,
    pub(crate) private: HashSet<String>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let users: Vec<_> = self.passwords.iter().map(|(user, _)| user).collect();
        f.debug_struct("Accounts")
            .field("users", &users)
            .field("anonymous_pull", &self.anonymous_pull)
            .field("private", &self.private)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Issued {
    scopes: Vec<Scope>,
    expires: Instant,
    /// Whether the token was issued to an anonymous user.
    anonymous: bool,
}

/// A scope `repository:<name>:<actions>`:
/// <https://distribution.github.io/distribution/spec/auth/scope/>
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    repository: String,
    actions: Vec<String>,
}

impl Scope {
    fn parse(text: &str) -> Option<Self> {
        let (repository, actions) = text.strip_prefix("repository:")?.rsplit_once(':')?;
        Some(Self {
            repository: repository.to_owned(),
            actions: actions.split(',').map(str::to_owned).collect(),
        })
    }
}

/// The style of a token service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenStyle {
    pub(crate) ttl: Duration,
    /// Whether the answer has only `token`.
    pub(crate) token_only: bool,
    /// Whether the token service itself refuses repositories that cannot be read.
    pub(crate) refuses: bool,
}

/// The verdict on the credentials of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Granted,
    /// There are none, or they are invalid.
    Missing,
    /// The scope of the token is insufficient.
    Insufficient,
}

impl Accounts {
    pub(crate) fn are_open(&self) -> bool {
        self.passwords.is_empty() && self.refresh_tokens.is_empty()
    }

    /// Checks Basic credentials. `None` if there are none, `Some(false)` if they are wrong.
    pub(crate) fn basic(&self, headers: &HeaderMap) -> Option<bool> {
        let (user, password) = basic_credentials(headers)?;
        let known = self
            .passwords
            .iter()
            .any(|known| *known == (user.clone(), password.clone()));
        Some(known || self.are_open())
    }

    /// Returns whether a user may perform `action` in `repository`.
    fn allows(&self, known: bool, repository: &str, action: &str) -> bool {
        let private = self.private.contains(repository);
        known
            || (self.are_open() && !private)
            || (self.anonymous_pull && !private && action == "pull")
    }
}

fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = credential(headers, "basic")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn credential<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (given, credential) = value.split_once(' ')?;
    given
        .eq_ignore_ascii_case(scheme)
        .then_some(credential.trim())
}

impl Tokens {
    pub(crate) fn new(accounts: Accounts, rules: TokenRules) -> Self {
        Self {
            refresh_tokens: Mutex::new(accounts.refresh_tokens.clone()),
            accounts,
            rules,
            issued: Mutex::default(),
        }
    }

    pub(crate) fn rules(&self) -> &TokenRules {
        &self.rules
    }

    /// Returns whether a request has neither credentials nor a token that was issued for
    /// credentials.
    pub(crate) fn is_anonymous(&self, headers: &HeaderMap) -> bool {
        match credential(headers, "bearer") {
            Some(token) => self
                .lock()
                .get(token)
                .is_some_and(|issued| issued.anonymous),
            None => !headers.contains_key(header::AUTHORIZATION),
        }
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Issued>> {
        // Nothing that happens under the lock can panic.
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn expire_all(&self) {
        self.lock().clear();
    }

    /// Issues a token for these scopes to anybody.
    pub(crate) fn issue<'a>(
        &self,
        scopes: impl IntoIterator<Item = &'a str>,
        ttl: Duration,
        anonymous: bool,
    ) -> String {
        let token = unguessable();
        let issued = Issued {
            scopes: scopes.into_iter().filter_map(Scope::parse).collect(),
            expires: Instant::now() + ttl,
            anonymous,
        };
        self.lock().insert(token.clone(), issued);
        token
    }

    /// Checks the bearer token of a request. Without a repository, any token is sufficient.
    pub(crate) fn check(&self, headers: &HeaderMap, wanted: Option<(&str, &str)>) -> Access {
        let issued = self.lock();
        let Some(token) = credential(headers, "bearer").and_then(|token| issued.get(token)) else {
            return Access::Missing;
        };
        if token.expires <= Instant::now() {
            return Access::Missing;
        }
        let Some((repository, action)) = wanted else {
            return Access::Granted;
        };
        let reaches = |scope: &Scope| {
            let names = |known: &String| known == action || known == "*";
            let known = scope.repository.strip_prefix(&self.rules.scope_prefix);
            known == Some(repository) && scope.actions.iter().any(names)
        };
        if token.scopes.iter().any(reaches) {
            Access::Granted
        } else {
            Access::Insufficient
        }
    }

    fn refresh_tokens(&self) -> MutexGuard<'_, Vec<String>> {
        // Nothing that happens under the lock can panic.
        self.refresh_tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces a refresh token by another one.
    fn rotate(&self, used: Option<&str>) -> String {
        let next = unguessable();
        let mut good = self.refresh_tokens();
        good.retain(|known| Some(known.as_str()) != used);
        good.push(next.clone());
        next
    }

    /// Answers a request to the token service: `GET`, or the OAuth2 `POST`.
    ///
    /// `exists` returns whether a repository exists.
    pub(crate) async fn serve(
        &self,
        parts: &Parts,
        body: Body,
        style: TokenStyle,
        exists: impl Fn(&str) -> bool,
    ) -> Response {
        const MAX_FORM_BYTES: usize = 64 * 1024;
        let text = match parts.method {
            Method::GET => parts.uri.query().unwrap_or_default().as_bytes().to_vec(),
            Method::POST => match to_bytes(body, MAX_FORM_BYTES).await {
                Ok(form) => form.to_vec(),
                Err(_too_long_or_broken) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            },
            _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
        let fields: Vec<(String, String)> = form_urlencoded::parse(&text).into_owned().collect();
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let known = match (field("refresh_token"), field("username"), field("password")) {
            (Some(given), _, _) => Some(self.refresh_tokens().iter().any(|token| token == given)),
            (None, Some(user), Some(password)) => {
                let given = (user.to_owned(), password.to_owned());
                Some(self.accounts.are_open() || self.accounts.passwords.contains(&given))
            }
            _ => self.accounts.basic(&parts.headers),
        };
        // Wrong credentials are not treated like missing ones.
        if known == Some(false) {
            return refused(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized);
        }
        let known = known == Some(true);
        if !known && !self.accounts.are_open() && !self.accounts.anonymous_pull {
            return refused(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized);
        }
        let asked = fields.iter().filter(|(key, _)| key == "scope");
        let asked = asked.flat_map(|(_, scopes)| scopes.split(' '));
        let mut asked: Vec<_> = asked.filter_map(Scope::parse).collect();
        match self.rules.several_scopes {
            SeveralScopes::Granted => {}
            SeveralScopes::FirstGranted => asked.truncate(1),
            SeveralScopes::Refused(status) if asked.len() > 1 => {
                return refused(status, ErrorCode::Denied);
            }
            SeveralScopes::Refused(_) => {}
        }
        let mut granted = Vec::new();
        for mut scope in asked {
            let prefix = &self.rules.scope_prefix;
            let name = scope.repository.strip_prefix(prefix);
            let name = name.unwrap_or(&scope.repository);
            let only_reads = scope.actions.iter().all(|action| action == "pull");
            let readable = self.accounts.allows(known, name, "pull");
            if style.refuses && (!readable || (only_reads && !exists(name))) {
                return refused(StatusCode::FORBIDDEN, ErrorCode::Denied);
            }
            scope.actions.retain(|action| {
                let mut allowed = self.rules.actions.iter().flatten();
                self.accounts.allows(known, name, action)
                    && (self.rules.actions.is_none() || allowed.any(|allowed| allowed == action))
            });
            granted.push(format!(
                "repository:{}:{}",
                scope.repository,
                scope.actions.join(",")
            ));
        }
        let ttl = self.rules.ttl.unwrap_or(style.ttl);
        let token = self.issue(granted.iter().map(String::as_str), ttl, !known);
        let mut answer = if style.token_only {
            json!({"token": token})
        } else {
            json!({
                "token": token,
                "access_token": token,
                "expires_in": ttl.as_secs(),
            })
        };
        let offline = field("access_type") == Some("offline");
        if self.rules.rotates && known && (offline || field("refresh_token").is_some()) {
            answer["refresh_token"] = self.rotate(field("refresh_token")).into();
        }
        let mut response = answer.to_string().into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}

fn unguessable() -> String {
    let word = || RandomState::new().hash_one(Instant::now());
    format!("{:016x}{:016x}", word(), word())
}

fn refused(status: StatusCode, code: ErrorCode) -> Response {
    ApiError::new(status, code, "the token service refuses").into_response()
}
