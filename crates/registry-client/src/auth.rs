//! The `Authorization` of requests, and how it changes after a 401 or 403.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use http::{Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use url::Url;

use crate::bearer::{Ask, Bearer, union};
use crate::call::{Access, Call, Mode, Reply};
use crate::challenge::{self, Demand};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::observer::Endpoint;
use crate::response::Response;
use crate::retry;
use crate::stopwatch::Stopwatch;
use crate::token::{Token, TokenRequest, Tokens, basic, bearer};

/// A token that is refused sooner than this after it was requested has not expired.
const JUST_NOW: Duration = Duration::from_secs(1);

/// The number of repositories that are remembered; forgetting one costs a 401.
const MAX_REMEMBERED: usize = 4096;

/// How long the absence of credentials is remembered; short, so that a login takes effect soon.
const ANONYMOUS_FOR: Duration = Duration::from_secs(60);

/// How often a registry that does not answer is asked for its challenge.
const MAX_FAILED_PINGS: u32 = 3;

/// What the client has learnt about the authentication that registries require.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    remembered: Mutex<HashMap<Place, Remembered>>,
    doors: Mutex<HashMap<Registry, Arc<AsyncMutex<Door>>>>,
    tokens: Tokens,
}

type Place = (Registry, Option<RepositoryName>);

/// The authentication that `/v2/` of a registry requires.
#[derive(Debug, Default)]
struct Door {
    /// `None` until the registry has answered; then what it demands of an anonymous request, if
    /// anything.
    demand: Option<Option<Demand>>,
    failures: u32,
}

#[derive(Clone, Debug)]
enum Remembered {
    /// There were no credentials at that time.
    Anonymous(Instant),
    Header(HeaderValue),
    Bearer(Bearer),
}

/// The authorization that a request carried.
#[derive(Clone, Debug)]
pub(crate) enum Carried {
    Nothing,
    Header(HeaderValue),
    Token(Token),
}

impl Carried {
    pub(crate) fn header(&self) -> Option<&HeaderValue> {
        match self {
            Self::Nothing => None,
            Self::Header(header) => Some(header),
            Self::Token(token) => Some(&token.header),
        }
    }
}

/// The progress of one call with its authentication: at most one challenge is met, one refusal
/// answered and one scope added.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    challenged: bool,
    refreshed: bool,
    refused: Option<u64>,
    /// What was asked for before the scopes of a challenge were added, and those scopes.
    widened: Option<(Ask, Vec<String>)>,
}

impl Progress {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            challenged: false,
            refreshed: false,
            refused: None,
            widened: None,
        }
    }
}

impl Auth {
    /// Returns the authorization of the next request: the one that its repository is known to
    /// require, else, if there are credentials, the one that the registry requires in general, else
    /// none.
    pub(crate) async fn carry(
        &self,
        call: &Call<'_>,
        progress: &Progress,
        requests: &mut u32,
        run: Run,
    ) -> Result<Carried, Error> {
        if call.anonymous {
            return Ok(Carried::Nothing);
        }
        let mut known = None;
        let remembered = match self.recall(call) {
            Some(remembered) => remembered,
            // This is the request that finds out what the registry requires.
            None if call.endpoint == Endpoint::Ping => return Ok(Carried::Nothing),
            None => {
                let (remembered, credentials) = self.introduce(call, requests, run).await?;
                known = credentials;
                remembered
            }
        };
        match remembered {
            Remembered::Anonymous(_) => Ok(Carried::Nothing),
            Remembered::Header(header) => Ok(Carried::Header(header)),
            Remembered::Bearer(bearer) => {
                let token = self
                    .token(call, progress, bearer, known, requests, run)
                    .await;
                token.map(Carried::Token)
            }
        }
    }

    /// Requests a token, with the next set of scopes if the service refuses one.
    async fn token(
        &self,
        call: &Call<'_>,
        progress: &Progress,
        mut bearer: Bearer,
        known: Option<Credentials>,
        requests: &mut u32,
        run: Run,
    ) -> Result<Token, Error> {
        let mut refusal = None;
        let mut tried: Vec<Vec<String>> = Vec::new();
        loop {
            let next = bearer
                .choices(call)
                .into_iter()
                .find(|(_, scopes)| !tried.contains(scopes));
            let Some((ask, scopes)) = next else {
                // `/v2/` does not say under which name the token service knows the repository.
                if bearer.met || call.access != Access::Pull {
                    break;
                }
                bearer.met = true;
                let demand = self
                    .ask_anonymously(call, call.url.clone(), call.endpoint, requests, run)
                    .await;
                if let Some(Some(Demand::Bearer { scopes, .. })) = demand {
                    bearer.learn(&scopes);
                }
                self.remember(call, Remembered::Bearer(bearer.clone()));
                continue;
            };
            let fetch = async {
                let credentials = match &known {
                    Some(known) => known.clone(),
                    None => credentials(call).await?,
                };
                let request = TokenRequest {
                    network: call.network,
                    observer: call.observer,
                    registry: call.registry,
                    registry_url: &call.url,
                    repository: call.repository,
                    realm: &bearer.realm,
                    service: bearer.service.as_deref(),
                    scopes: &scopes,
                    credentials: &credentials,
                };
                request.send(&self.tokens, requests).await
            };
            let token = self
                .tokens
                .valid(call.registry, &scopes.join(" "), progress.refused, fetch)
                .await;
            match token {
                Err(error) if is_refusal(&error) => {
                    refusal.get_or_insert(error);
                    tried.push(scopes);
                }
                Err(error) => return Err(error),
                Ok(token) => {
                    if ask != bearer.ask {
                        self.amend(call, |bearer| bearer.settle(ask));
                    }
                    return Ok(token);
                }
            }
        }
        self.amend(call, Bearer::discard);
        Err(refusal
            .unwrap_or_else(|| Error::new(call.registry, Failure::new(ErrorKind::Token, ""))))
    }

    /// Decides after a 401 or 403 whether to send the request again with another authorization.
    pub(crate) async fn challenged(
        &self,
        call: &Call<'_>,
        answer: &Response,
        carried: &Carried,
        progress: &mut Progress,
    ) -> Result<bool, Error> {
        let Some(demand) = challenge::pick(answer.headers()) else {
            return Ok(false);
        };
        if call.endpoint == Endpoint::Ping {
            self.door(call.registry).lock().await.demand = Some(Some(demand.clone()));
        }
        let forbidden = answer.status() == StatusCode::FORBIDDEN;
        match carried {
            Carried::Nothing if progress.challenged => return Ok(false),
            Carried::Nothing => progress.challenged = true,
            Carried::Token(token) => {
                if let Some((before, added)) = progress.widened.take() {
                    self.amend(call, |bearer| bearer.narrow(before, &added));
                    return Ok(false);
                }
                if let Demand::Bearer { scopes, .. } = &demand
                    && let Some(widened) = self.widen(call, &token.scope, scopes)
                {
                    progress.widened = Some(widened);
                    return Ok(true);
                }
                // A token that was just requested to meet a challenge of this call will not be
                // better the next time, unless the call waited for something in between, such as a
                // rate limit.
                let fresh = progress.challenged
                    && token.fetched >= progress.started
                    && token.fetched.elapsed() < JUST_NOW;
                if progress.refreshed || forbidden || fresh {
                    return Ok(false);
                }
                progress.refreshed = true;
                progress.refused = Some(token.id);
            }
            Carried::Header(_) if progress.refreshed || progress.challenged => return Ok(false),
            Carried::Header(_) if forbidden && demand == Demand::Basic => return Ok(false),
            Carried::Header(_) => progress.refreshed = true,
        }
        match demand {
            Demand::Bearer {
                realm,
                service,
                scopes,
            } => {
                // A ping has no scope, so an anonymous token would be useless.
                let has_scope = call.repository.is_some() || call.endpoint == Endpoint::Catalog;
                if !has_scope && credentials(call).await? == Credentials::Anonymous {
                    return Ok(false);
                }
                let mut bearer = match self.recall(call) {
                    Some(Remembered::Bearer(bearer)) => bearer,
                    _ => Bearer::new(realm.clone(), service.clone()),
                };
                (bearer.realm, bearer.service, bearer.met) = (realm, service, true);
                bearer.learn(&scopes);
                self.remember(call, Remembered::Bearer(bearer));
            }
            Demand::Basic => {
                let Some(header) = basic(&credentials(call).await?) else {
                    return Ok(false);
                };
                if carried.header() == Some(&header) {
                    return Ok(false);
                }
                self.remember(call, Remembered::Header(header));
            }
        }
        Ok(true)
    }

    /// Adds the scopes of a challenge to the request, if that asks for more than the refused token.
    fn widen(&self, call: &Call<'_>, asked: &str, theirs: &[String]) -> Option<(Ask, Vec<String>)> {
        let asked: Vec<_> = asked.split_terminator(' ').map(str::to_owned).collect();
        let mut widened = None;
        self.amend(call, |bearer| {
            let new: Vec<_> = theirs
                .iter()
                .filter(|scope| !bearer.useless.contains(scope))
                .cloned()
                .collect();
            if union(&asked, &new) != asked {
                bearer.learn(&new);
                widened = Some((bearer.ask, new));
                bearer.ask = Ask::Both;
            }
        });
        widened
    }

    /// Determines the authorization for a repository that nothing is known about. If there are
    /// credentials, the registry is asked once what it requires.
    ///
    /// Registries hide private content from anonymous users with a 404, a 403 or a shorter list,
    /// without a challenge.
    async fn introduce(
        &self,
        call: &Call<'_>,
        requests: &mut u32,
        run: Run,
    ) -> Result<(Remembered, Option<Credentials>), Error> {
        if call.network.options.credentials.is_none() {
            return Ok((Remembered::Anonymous(Instant::now()), None));
        }
        let door = self.door(call.registry);
        let mut door = door.lock().await;
        // Another call may have found out in the meantime.
        if let Some(remembered) = self.recall(call) {
            return Ok((remembered, None));
        }
        let credentials = credentials(call).await?;
        if credentials == Credentials::Anonymous {
            let remembered = Remembered::Anonymous(Instant::now());
            self.remember(call, remembered.clone());
            return Ok((remembered, None));
        }
        let demand = match &door.demand {
            Some(demand) => Some(demand.clone()),
            None if door.failures >= MAX_FAILED_PINGS => Some(None),
            None => {
                let mut url = call.url.clone();
                url.set_path("/v2/");
                url.set_query(None);
                door.demand = self
                    .ask_anonymously(call, url, Endpoint::Ping, requests, run)
                    .await;
                door.failures += u32::from(door.demand.is_none());
                door.demand.clone()
            }
        };
        let answered = demand.is_some();
        let remembered = match (demand.flatten(), &credentials) {
            (Some(Demand::Bearer { realm, service, .. }), _) => {
                Some(Remembered::Bearer(Bearer::new(realm, service)))
            }
            // A registry that demands nothing at `/v2/` may still show more to authenticated users.
            (None, Credentials::Bearer(token)) => bearer(token).map(Remembered::Header),
            _ => basic(&credentials).map(Remembered::Header),
        };
        let remembered = remembered.unwrap_or_else(|| Remembered::Anonymous(Instant::now()));
        if answered {
            self.remember(call, remembered.clone());
        }
        Ok((remembered, Some(credentials)))
    }

    /// Finds out without credentials what is demanded at `url`, if anything; `None` if there is no
    /// final answer.
    async fn ask_anonymously(
        &self,
        call: &Call<'_>,
        url: Url,
        endpoint: Endpoint,
        requests: &mut u32,
        run: Run,
    ) -> Option<Option<Demand>> {
        let repository = call.repository.filter(|_| endpoint != Endpoint::Ping);
        let question = Call {
            endpoint,
            anonymous: true,
            ..Call::new(
                call.network,
                call.observer,
                call.registry,
                repository,
                Method::GET,
                url,
            )
        };
        // Limited to the time for one answer: the actual request is still to come, with all its
        // tries.
        let limit = call.network.options.response_timeout;
        let held = Arc::clone(&call.network.host(&call.url).allowance.held);
        let asked = run(question, self, Mode::Stream);
        let Some(Ok(reply)) = Stopwatch::start(held).within(limit, asked).await else {
            *requests += 1;
            return None;
        };
        let answer = reply.into_head();
        *requests += answer.requests();
        let status = answer.status();
        if status.is_server_error() || retry::is_transient(status) {
            return None;
        }
        let denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let own = denied && !answer.is_foreign();
        Some(own.then(|| challenge::pick(answer.headers())).flatten())
    }

    fn door(&self, registry: &Registry) -> Arc<AsyncMutex<Door>> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        if doors.len() >= MAX_REMEMBERED {
            doors.clear();
        }
        Arc::clone(doors.entry(registry.clone()).or_default())
    }

    fn recall(&self, call: &Call<'_>) -> Option<Remembered> {
        let all = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(&place(call))
            .filter(|remembered| match remembered {
                Remembered::Anonymous(since) => since.elapsed() < ANONYMOUS_FOR,
                Remembered::Header(_) | Remembered::Bearer(_) => true,
            })
            .cloned()
    }

    fn remember(&self, call: &Call<'_>, remembered: Remembered) {
        let mut all = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_REMEMBERED {
            all.clear();
        }
        all.insert(place(call), remembered);
    }

    /// Changes what is remembered about a token service, if anything.
    fn amend(&self, call: &Call<'_>, change: impl FnOnce(&mut Bearer)) {
        let mut all = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(Remembered::Bearer(bearer)) = all.get_mut(&place(call)) {
            change(bearer);
        }
    }
}

/// Makes the requests of a call. It is passed in because such a call needs authentication too.
pub(crate) type Run = for<'a> fn(Call<'a>, &'a Auth, Mode) -> BoxedReply<'a>;

pub(crate) type BoxedReply<'a> = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>;

/// Returns whether a token service refused to issue the token.
fn is_refusal(error: &Error) -> bool {
    let status = error.response().map(Response::status);
    error.kind() == ErrorKind::Token
        && status.is_some_and(|status| status.is_client_error() && !retry::is_transient(status))
}

fn place(call: &Call<'_>) -> Place {
    (call.registry.clone(), call.repository.cloned())
}

async fn credentials(call: &Call<'_>) -> Result<Credentials, Error> {
    let Some(source) = &call.network.options.credentials else {
        return Ok(Credentials::Anonymous);
    };
    let found = source
        .credentials(call.registry, call.repository)
        .await
        .map_err(|error| {
            let failure = Failure::new(ErrorKind::Credentials, "").caused_by(error);
            Error::new(call.registry, failure)
        })?;
    Ok(found
        .filter(|credentials| !credentials.are_empty())
        .unwrap_or(Credentials::Anonymous))
}
