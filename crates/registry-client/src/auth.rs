//! Which `Authorization` a request carries, and what a 401 changes about it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use oci_content::{Registry, RepositoryName};
use tokio::time::Instant;
use url::Url;

use crate::call::Call;
use crate::challenge::{self, Challenge};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Failure};
use crate::response::Response;
use crate::token::{Token, TokenRequest, Tokens, basic};

/// A token that is refused sooner than this after it was asked for has not expired.
const JUST_NOW: Duration = Duration::from_secs(1);

/// More repositories than this are not remembered; forgetting one costs it a 401.
const MAX_REMEMBERED: usize = 4096;

/// What a request needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
    Delete,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "pull,push,delete",
        }
    }
}

/// What the client has learnt about how registries want to be asked.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    remembered: Mutex<HashMap<Place, Remembered>>,
    tokens: Tokens,
}

type Place = (Registry, Option<RepositoryName>);

#[derive(Clone, Debug)]
enum Remembered {
    Basic(HeaderValue),
    Bearer { realm: Url, service: Option<String> },
}

/// What a request carried.
#[derive(Clone, Debug)]
pub(crate) enum Carried {
    Nothing,
    Basic(HeaderValue),
    Token(Token),
}

impl Carried {
    pub(crate) fn header(&self) -> Option<&HeaderValue> {
        match self {
            Self::Nothing => None,
            Self::Basic(header) => Some(header),
            Self::Token(token) => Some(&token.header),
        }
    }
}

/// How far one call is with its authentication: at most one challenge met and one refusal answered.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    challenged: bool,
    refreshed: bool,
    refused: Option<u64>,
}

impl Progress {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            challenged: false,
            refreshed: false,
            refused: None,
        }
    }
}

impl Auth {
    /// Returns what the next request carries: nothing until the repository has been challenged once.
    pub(crate) async fn carry(
        &self,
        call: &Call<'_>,
        progress: &Progress,
        requests: &mut u32,
    ) -> Result<Carried, Error> {
        let remembered = {
            let all = self
                .remembered
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.get(&place(call)).cloned()
        };
        let (realm, service) = match remembered {
            None => return Ok(Carried::Nothing),
            Some(Remembered::Basic(header)) => return Ok(Carried::Basic(header)),
            Some(Remembered::Bearer { realm, service }) => (realm, service),
        };
        let scopes = scopes(call);
        let fetch = async {
            let credentials = credentials(call).await?;
            let request = TokenRequest {
                client: call.client,
                registry: call.registry,
                registry_url: &call.url,
                repository: call.repository,
                realm: &realm,
                service: service.as_deref(),
                scopes: &scopes,
                credentials: &credentials,
            };
            request.send(requests).await
        };
        self.tokens
            .valid(call.registry, &scopes.join(" "), progress.refused, fetch)
            .await
            .map(Carried::Token)
    }

    /// Decides after a 401 whether the same request is worth sending again, with something else to carry.
    pub(crate) async fn challenged(
        &self,
        call: &Call<'_>,
        answer: &Response,
        carried: &Carried,
        progress: &mut Progress,
    ) -> Result<bool, Error> {
        let Some(challenge) = challenge::pick(answer.headers()) else {
            return Ok(false);
        };
        match carried {
            Carried::Nothing if progress.challenged => return Ok(false),
            Carried::Nothing => progress.challenged = true,
            Carried::Token(_) if progress.refreshed => return Ok(false),
            // A token that this call has just waited for will not get better, unless it waited for something else
            // in between, such as a rate limit.
            Carried::Token(token)
                if token.fetched >= progress.started && token.fetched.elapsed() < JUST_NOW =>
            {
                return Ok(false);
            }
            Carried::Token(token) => {
                progress.refreshed = true;
                progress.refused = Some(token.id);
            }
            Carried::Basic(_) if progress.refreshed || progress.challenged => return Ok(false),
            Carried::Basic(_) => progress.refreshed = true,
        }
        let remembered = match challenge {
            Challenge::Bearer { realm, service } => {
                // Without a repository there is no scope, so an anonymous token would allow nothing.
                if call.repository.is_none() && credentials(call).await? == Credentials::Anonymous {
                    return Ok(false);
                }
                Remembered::Bearer { realm, service }
            }
            Challenge::Basic => {
                let Some(header) = basic(&credentials(call).await?) else {
                    return Ok(false);
                };
                if carried.header() == Some(&header) {
                    return Ok(false);
                }
                Remembered::Basic(header)
            }
        };
        let mut all = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_REMEMBERED {
            all.clear();
        }
        all.insert(place(call), remembered);
        Ok(true)
    }
}

fn place(call: &Call<'_>) -> Place {
    (call.registry.clone(), call.repository.cloned())
}

fn scopes(call: &Call<'_>) -> Vec<String> {
    let Some(repository) = call.repository else {
        return Vec::new();
    };
    let mut scopes = vec![format!("repository:{repository}:{}", call.access.actions())];
    scopes.extend(
        call.mount_from
            .filter(|from| *from != repository)
            .map(|from| format!("repository:{from}:pull")),
    );
    scopes
}

async fn credentials(call: &Call<'_>) -> Result<Credentials, Error> {
    let Some(source) = &call.client.options.credentials else {
        return Ok(Credentials::Anonymous);
    };
    let found = source
        .credentials(call.registry, call.repository)
        .await
        .map_err(|error| {
            let failure = Failure::new(ErrorKind::Credentials, "").caused_by(error);
            Error::new(call.registry, failure)
        })?;
    Ok(found.unwrap_or(Credentials::Anonymous))
}
