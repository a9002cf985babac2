//! Which `Authorization` a request carries, and what a 401 or 403 changes about it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use http::{Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};
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
use crate::token::{Token, TokenRequest, Tokens, basic, bearer};

/// A token that is refused sooner than this after it was asked for has not expired.
const JUST_NOW: Duration = Duration::from_secs(1);

/// More repositories than this are not remembered; forgetting one costs it a 401.
const MAX_REMEMBERED: usize = 4096;

/// How long it holds that there are no credentials, so that a login counts soon.
const ANONYMOUS_FOR: Duration = Duration::from_secs(60);

/// How often a registry is asked for its challenge when it gives no answer.
const MAX_FAILED_PINGS: u32 = 3;

/// What the client has learnt about how registries want to be asked.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    remembered: Mutex<HashMap<Place, Remembered>>,
    doors: Mutex<HashMap<Registry, Arc<AsyncMutex<Door>>>>,
    tokens: Tokens,
}

type Place = (Registry, Option<RepositoryName>);

/// What `/v2/` of a registry wants.
#[derive(Debug, Default)]
struct Door {
    /// `None` until it was asked; then what it demands of an anonymous request, if anything.
    demand: Option<Option<Demand>>,
    failures: u32,
}

#[derive(Clone, Debug)]
enum Remembered {
    /// There were no credentials at this time.
    Anonymous(Instant),
    Header(HeaderValue),
    Bearer(Bearer),
}

/// What a request carried.
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

/// How far one call is with its authentication: at most one challenge met, one refusal answered, and one scope
/// added.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    challenged: bool,
    refreshed: bool,
    refused: Option<u64>,
    /// What was asked before a challenge's scopes were added, and those scopes.
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
    /// Returns what the next request carries: what its repository has been found to want, else what the
    /// registry wants of everyone, where there are credentials, else nothing.
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
            // It is the question what the registry wants.
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

    /// Asks for a token, with the next set of scopes where the service refuses one.
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
                // The door does not say by which name the token service knows the repository.
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

    /// Decides after a 401 or 403 whether the same request is worth sending again, with something else to carry.
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
                // A token that this call has met a challenge with and just waited for will not get better, unless
                // it waited for something else in between, such as a rate limit.
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
                // Without a repository there is no scope, so an anonymous token would allow nothing.
                if call.repository.is_none() && credentials(call).await? == Credentials::Anonymous {
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

    /// Adds the scopes of a challenge to what is asked for, if that asks for more than the token that was refused.
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

    /// Finds out what to carry to a repository that nothing is known of: with credentials, the registry is asked
    /// once what it wants.
    ///
    /// Registries hide from anonymous users what is private, by a 404, a 403 or a shorter list, and give no
    /// challenge there.
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
        // Another call may have found it out meanwhile.
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
            // Where nothing is demanded at the door, more may be shown to those who say who they are.
            (None, Credentials::Bearer(token)) => bearer(token).map(Remembered::Header),
            _ => basic(&credentials).map(Remembered::Header),
        };
        let remembered = remembered.unwrap_or_else(|| Remembered::Anonymous(Instant::now()));
        if answered {
            self.remember(call, remembered.clone());
        }
        Ok((remembered, Some(credentials)))
    }

    /// Asks without credentials what is demanded at `url`, if anything; `None` when there is no answer that stands.
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
        // Not longer than one answer may take: the request itself is still to come, with all its tries.
        let limit = call.network.options.response_timeout;
        let reply = timeout(limit, run(question, self, Mode::Stream)).await;
        let Ok(Ok(reply)) = reply else {
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

    /// Changes what is remembered of a token service, if it is.
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

/// Makes the requests of a call. Handed in, because such a call needs authentication too.
pub(crate) type Run = for<'a> fn(Call<'a>, &'a Auth, Mode) -> BoxedReply<'a>;

pub(crate) type BoxedReply<'a> = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>;

/// Returns whether a token service has said that it does not give such a token.
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
