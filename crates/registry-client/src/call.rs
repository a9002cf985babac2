//! One call: as many requests as it takes to get an answer that stands.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION};
use http::{Method, StatusCode};
use oci_content::{Digest, Registry, RepositoryName};
use tokio::time::Instant;
use url::Url;

use crate::auth::{Carried, Progress};
use crate::bearer::Access;
use crate::body::Body as Content;
use crate::client::{Inner, Outside};
use crate::error::{Error, ErrorKind, Failure};
use crate::exchange::{self, About, Collected, MAX_ERROR_BODY, Open, Payload};
use crate::host::{Host, Place};
use crate::observer::Endpoint;
use crate::origin;
use crate::realm;
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
    /// What the body of a 200 has to be.
    pub(crate) expect: Expect<'a>,
    /// The repository is going to be written, so that tokens are asked for that allow it.
    pub(crate) for_push: bool,
    /// Credentials are not to go along, whatever the registry demands.
    pub(crate) anonymous: bool,
}

/// What the body of a 200 has to be to count as an answer. Anything else is broken transport: it is asked for again,
/// and then an error.
#[derive(Clone, Copy)]
pub(crate) enum Expect<'a> {
    /// Whatever it is.
    Anything,
    /// Something that can be read: JSON that is whole, or what is plainly something else.
    Readable,
    /// The content of this digest.
    Content(&'a Digest),
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
    /// The host that answered last.
    host: Arc<Host>,
    /// Bodies that came and could not be read.
    unreadable: u32,
}

/// How one request ended.
enum Attempt {
    Answered(Reply),
    /// The answer that closed the gate of a host, which opens too late.
    Gated(Response),
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
            expect: Expect::Anything,
            for_push: false,
            anonymous: false,
        }
    }

    /// Makes requests until one answer stands or the budget is used up.
    pub(crate) async fn run(&self, mode: Mode) -> Result<Reply, Error> {
        let mut state = State {
            budget: Budget::new(self.client.options.retry),
            requests: 0,
            started: Instant::now(),
            host: self.client.host(&self.url, self.registry.as_str()),
            unreadable: 0,
        };
        self.answer(mode, &mut state).await
    }

    async fn answer(&self, mode: Mode, state: &mut State) -> Result<Reply, Error> {
        let auth = &self.client.auth;
        let mut progress = Progress::new(state.started);
        loop {
            // Before the place is taken: a token request may need one at the same host.
            let carried = auth.carry(self, &progress, &mut state.requests).await?;
            let sent = Instant::now();
            let outcome = match self.attempt(mode, &carried, state).await {
                Ok(Attempt::Answered(reply)) => Ok(reply),
                Ok(Attempt::Gated(mut answer)) => {
                    answer.requests = state.requests;
                    answer.elapsed = state.started.elapsed();
                    return Ok(Reply::Response(answer));
                }
                Err(failure) => Err(failure),
            };
            if let Ok(Reply::Response(answer)) = &outcome
                && matches!(
                    answer.status(),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
                )
                && !self.anonymous
                && !answer.is_foreign()
                && auth
                    .challenged(self, answer, &carried, &mut progress)
                    .await?
            {
                continue;
            }
            let outcome = match outcome {
                Ok(Reply::Response(answer)) => match self.unreadable(&answer) {
                    None => Ok(Reply::Response(answer)),
                    Some(failure) => {
                        state.unreadable += 1;
                        match state.unreadable < retry::MAX_UNREADABLE {
                            true => Err(failure.transient()),
                            false => return self.stands(Err(failure)),
                        }
                    }
                },
                other => other,
            };
            let (wait, status) = match &outcome {
                Ok(reply) => {
                    let response = reply.head();
                    let status = response.status();
                    let throttled = status == StatusCode::TOO_MANY_REQUESTS;
                    if !throttled {
                        state.host.speed_up();
                    }
                    let repeat = retry::is_transient(status)
                        && (self.idempotent || retry::is_refusal(status));
                    if !repeat {
                        return self.stands(outcome);
                    }
                    let asked = response.retry_after();
                    let mut news = true;
                    if throttled {
                        match asked.filter(|wait| !wait.is_zero()) {
                            Some(wait) if wait <= self.client.options.retry.deadline => {
                                news = state.host.close_gate(wait, response);
                            }
                            Some(_) => {}
                            None => state.host.slow_down(sent),
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

    /// Returns why a 200 is no answer, if its body is not what it has to be.
    fn unreadable(&self, answer: &Response) -> Option<Failure> {
        if self.method != Method::GET || answer.status() != StatusCode::OK {
            return None;
        }
        let failure = |kind, text: String| {
            let failure = Failure::new(kind, text).at(&self.method, answer.url());
            Some(failure.answered(answer.clone()))
        };
        let body = answer.body();
        match self.expect {
            Expect::Anything => return None,
            Expect::Content(digest) if digest.matches(body) => return None,
            Expect::Content(digest) => {
                let text = format!("the {} bytes that came do not hash to {digest}", body.len());
                return failure(ErrorKind::Integrity, text);
            }
            Expect::Readable => {}
        }
        if let Some(coding) = &answer.coding {
            let text = format!("the body has the content coding {coding}, which was not asked for");
            return failure(ErrorKind::Unreadable, text);
        }
        // Where a digest was asked for, a header that repeats it says nothing about the list that comes with it.
        if let Some(named) = answer.content_digest()
            && !named.matches(body)
            && !self.url.path().ends_with(&named.to_string())
        {
            let text = format!(
                "the {} bytes that came do not hash to {named}, as their header says",
                body.len()
            );
            return failure(ErrorKind::Unreadable, text);
        }
        let content_type = answer.header(CONTENT_TYPE.as_str());
        let reason = Content::unreadable(body, content_type)?;
        failure(ErrorKind::Unreadable, format!("the answer is {reason}"))
    }

    fn stands(&self, outcome: Result<Reply, Failure>) -> Result<Reply, Error> {
        outcome.map_err(|failure| Error::new(self.registry, failure))
    }

    /// Sends one request and follows its redirects, at each host behind its gate and within its limit of requests in
    /// flight. The place at one host is given back before the next one is taken.
    async fn attempt(
        &self,
        mode: Mode,
        carried: &Carried,
        state: &mut State,
    ) -> Result<Attempt, Failure> {
        let options = &self.client.options;
        let mut url = self.url.clone();
        state.host = self.client.host(&url, self.registry.as_str());
        let mut headers = self.headers.clone();
        if let Some(authorization) = carried.header() {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let home = self.client.home(self.registry)?;
        let mut outside = None;
        let mut hops = 0;
        loop {
            let place = match Arc::clone(&state.host).enter(&mut state.budget).await {
                Ok(place) => place,
                Err(answer) => return Ok(Attempt::Gated(answer)),
            };
            let foreign = outside.is_some();
            let pools = match &outside {
                Some(Outside { pools, .. }) => pools,
                None => &home,
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
                coding: collected.coding,
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
                    let there = self.client.outside(self.registry, &self.url, &next).await?;
                    realm::check_address(&next, &self.url, there.located)
                        .map_err(|refused| refuse(format!("the redirect leads to {refused}")))?;
                    outside = Some(there);
                    headers.remove(AUTHORIZATION);
                }
                let name = origin::host_and_port(&next);
                state.host = self.client.host(&next, &name);
                url = next;
                continue;
            }
            return match mode {
                Mode::Stream if open.status().is_success() => {
                    let response = head(Collected {
                        status: open.status(),
                        headers: open.headers().clone(),
                        body: bytes::Bytes::new(),
                        coding: None,
                    });
                    let body = Body {
                        open,
                        _place: place,
                    };
                    Ok(Attempt::Answered(Reply::Stream(response, Box::new(body))))
                }
                Mode::Stream => {
                    let collected = open.collect(MAX_ERROR_BODY, "64 KiB").await?;
                    Ok(Attempt::Answered(Reply::Response(head(collected))))
                }
                Mode::Collect(limit, name) => {
                    let collected = open.collect(limit, name).await?;
                    Ok(Attempt::Answered(Reply::Response(head(collected))))
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
