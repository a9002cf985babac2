//! One call: as many requests as it takes to get an answer that stands.

use http::header::{AUTHORIZATION, HeaderMap, LOCATION};
use http::{Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use tokio::time::Instant;
use url::Url;

use crate::auth::{Access, Carried, Progress};
use crate::client::Inner;
use crate::error::{Error, ErrorKind, Failure};
use crate::exchange::{self, About, Collected, MAX_ERROR_BODY, Open, Payload};
use crate::host::Place;
use crate::observer::Endpoint;
use crate::origin;
use crate::response::Response;
use crate::retry::{self, Budget};

/// What is asked.
pub(crate) struct Call<'a> {
    pub(crate) client: &'a Inner,
    pub(crate) registry: &'a Registry,
    pub(crate) repository: Option<&'a RepositoryName>,
    pub(crate) endpoint: Endpoint,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload<'a>,
    /// Sending it twice has the same effect as sending it once.
    pub(crate) idempotent: bool,
    pub(crate) access: Access,
    /// Another repository that the request reads from.
    pub(crate) mount_from: Option<&'a RepositoryName>,
}

/// What is done with the body of a 2xx answer.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// It is read, up to this many bytes; the name of the limit is for the error.
    Collect(u64, &'static str),
    /// It is left to the caller.
    Stream,
}

/// An answer that stands.
pub(crate) enum Reply {
    Response(Response),
    /// The head of a 2xx answer in [`Mode::Stream`], its body to come.
    Stream(Response, Box<Body>),
}

/// The body of an answer; holds the request's place among those in flight.
pub(crate) struct Body {
    pub(crate) open: Open,
    _place: Place,
}

/// What the requests of one call share.
struct State {
    budget: Budget,
    requests: u32,
    started: Instant,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        client: &'a Inner,
        registry: &'a Registry,
        repository: Option<&'a RepositoryName>,
        method: Method,
        url: Url,
    ) -> Self {
        let idempotent = method == Method::GET || method == Method::HEAD;
        let access = match method {
            Method::GET | Method::HEAD => Access::Pull,
            Method::DELETE => Access::Delete,
            _ => Access::Push,
        };
        Self {
            client,
            registry,
            repository,
            endpoint: Endpoint::Manifest,
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::None,
            idempotent,
            access,
            mount_from: None,
        }
    }

    /// Makes requests until one answer stands or the budget is used up.
    pub(crate) async fn run(&self, mode: Mode) -> Result<Reply, Error> {
        let mut state = State {
            budget: Budget::new(self.client.options.retry),
            requests: 0,
            started: Instant::now(),
        };
        self.answer(mode, &mut state).await
    }

    async fn answer(&self, mode: Mode, state: &mut State) -> Result<Reply, Error> {
        let host = self.client.host(&self.url, self.registry.as_str());
        let auth = &self.client.auth;
        let mut progress = Progress::new(state.started);
        loop {
            // Before the place is taken: a token request may need one at the same host.
            let carried = auth.carry(self, &progress, &mut state.requests).await?;
            let place = match host.enter(&mut state.budget).await {
                Ok(place) => place,
                Err(mut answer) => {
                    answer.requests = state.requests;
                    answer.elapsed = state.started.elapsed();
                    return Ok(Reply::Response(answer));
                }
            };
            let sent = Instant::now();
            let outcome = self.attempt(mode, place, &carried, state).await;
            if let Ok(Reply::Response(answer)) = &outcome
                && answer.status() == StatusCode::UNAUTHORIZED
                && !answer.is_foreign()
                && auth
                    .challenged(self, answer, &carried, &mut progress)
                    .await?
            {
                continue;
            }
            let (wait, status) = match &outcome {
                Ok(reply) => {
                    let response = reply.head();
                    let status = response.status();
                    let throttled = status == StatusCode::TOO_MANY_REQUESTS;
                    if !throttled {
                        host.speed_up();
                    }
                    // Another host's rate limit says nothing about the registry.
                    let repeat = retry::is_transient(status)
                        && (self.idempotent || retry::is_refusal(status))
                        && !(throttled && response.is_foreign());
                    if !repeat {
                        return self.stands(outcome);
                    }
                    let asked = response.retry_after();
                    let mut news = true;
                    if throttled {
                        match asked.filter(|wait| !wait.is_zero()) {
                            Some(wait) if wait <= self.client.options.retry.deadline => {
                                news = host.close_gate(wait, response);
                            }
                            Some(_) => {}
                            None => host.slow_down(sent),
                        }
                    }
                    match state.budget.take_try(asked) {
                        Some(wait) => (wait, Some((status, news))),
                        None => return self.stands(outcome),
                    }
                }
                Err(failure) => match failure.worth_repeating(self.idempotent) {
                    true => match state.budget.take_try(None) {
                        Some(wait) => (wait, None),
                        None => return self.stands(outcome),
                    },
                    false => return self.stands(outcome),
                },
            };
            drop(outcome);
            match status {
                // The gate was closed for longer already, which was told.
                Some((_, false)) => tokio::time::sleep(wait).await,
                _ => {
                    let status = status.map(|(status, _)| status);
                    self.client.wait(self.registry, wait, status).await;
                }
            }
        }
    }

    fn stands(&self, outcome: Result<Reply, Failure>) -> Result<Reply, Error> {
        outcome.map_err(|failure| Error::new(self.registry, failure))
    }

    /// Sends one request and follows its redirects.
    async fn attempt(
        &self,
        mode: Mode,
        place: Place,
        carried: &Carried,
        state: &mut State,
    ) -> Result<Reply, Failure> {
        let options = &self.client.options;
        let mut url = self.url.clone();
        let mut headers = self.headers.clone();
        if let Some(authorization) = carried.header() {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let mut foreign = false;
        let mut hops = 0;
        loop {
            let pools = match foreign {
                true => &self.client.foreign,
                false => &self.client.home,
            };
            let http = pools.of(self.endpoint, &self.method);
            let about = About {
                registry: self.registry,
                repository: self.repository,
                endpoint: self.endpoint,
                attempt: state.budget.tries(),
            };
            state.requests += 1;
            let open = exchange::send(
                http,
                options,
                about,
                &self.method,
                &url,
                headers.clone(),
                &self.payload,
            )
            .await?;
            let head = |collected: Collected| Response {
                status: collected.status,
                headers: collected.headers,
                body: collected.body,
                url: url.clone(),
                foreign,
                requests: state.requests,
                elapsed: state.started.elapsed(),
            };
            if let Some(target) = redirect(open.status(), open.headers()) {
                // Read to its end, so that the connection can be used again.
                let answer = head(open.collect(MAX_ERROR_BODY, "64 KiB").await?);
                let refuse = |text: String| {
                    Failure::new(ErrorKind::Redirect, text)
                        .at(&self.method, &url)
                        .answered(answer.clone())
                };
                hops += 1;
                if hops > options.max_redirects {
                    return Err(refuse(format!(
                        "more than {} redirects",
                        options.max_redirects
                    )));
                }
                let next = self.follow(&url, &target, answer.status).map_err(refuse)?;
                if !origin::same_origin(&next, &self.url) {
                    foreign = true;
                    headers.remove(AUTHORIZATION);
                }
                url = next;
                continue;
            }
            return match mode {
                Mode::Stream if open.status().is_success() => {
                    let response = head(Collected {
                        status: open.status(),
                        headers: open.headers().clone(),
                        body: bytes::Bytes::new(),
                    });
                    let body = Body {
                        open,
                        _place: place,
                    };
                    Ok(Reply::Stream(response, Box::new(body)))
                }
                Mode::Stream => {
                    let collected = open.collect(MAX_ERROR_BODY, "64 KiB").await?;
                    Ok(Reply::Response(head(collected)))
                }
                Mode::Collect(limit, name) => {
                    Ok(Reply::Response(head(open.collect(limit, name).await?)))
                }
            };
        }
    }

    /// Decides where a redirect leads.
    fn follow(&self, from: &Url, target: &str, status: StatusCode) -> Result<Url, String> {
        let Some(next) = origin::resolve(from, target) else {
            return Err("the redirect leads to no plain web address".into());
        };
        let host = next.origin().ascii_serialization();
        if from.scheme() == "https" && next.scheme() == "http" {
            return Err(format!("the redirect leads to plain HTTP at {host}"));
        }
        let same = origin::same_origin(&next, &self.url);
        if !same && next.scheme() == "http" && !self.registry.is_loopback() {
            return Err(format!(
                "the redirect leads to plain HTTP at another host, {host}"
            ));
        }
        let read = self.method == Method::GET || self.method == Method::HEAD;
        let same_method = matches!(status.as_u16(), 307 | 308);
        let same_write = self.method == Method::PUT && same_method && same;
        if !read && !same_write {
            return Err(format!(
                "a redirect of a {} to {host} is not followed",
                self.method
            ));
        }
        Ok(next)
    }
}

impl Reply {
    fn head(&self) -> &Response {
        match self {
            Self::Response(response) | Self::Stream(response, _) => response,
        }
    }
}

/// Returns where a redirect leads, as the server wrote it.
pub(crate) fn redirect(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = headers.get(LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}
