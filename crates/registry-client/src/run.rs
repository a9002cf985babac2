//! One call: as many requests as it takes to get a final answer.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, StatusCode};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use url::Url;

use crate::allowance::{Waiter, closed};
use crate::auth::{Auth, BoxedReply, Carried, Progress};
use crate::body::Body as Content;
use crate::call::{Body, Call, Expect, Mode, Reply, redirect};
use crate::error::{Error, ErrorKind};
use crate::exchange::{self, About, Collected, MAX_ERROR_BODY, Payload};
use crate::failure::Failure;
use crate::host::Host;
use crate::network::Outside;
use crate::observer;
use crate::origin;
use crate::realm;
use crate::response::Response;
use crate::retry::{self, Budget};
use crate::window::Window;

/// The state that the requests of one call share.
struct State {
    budget: Budget,
    requests: u32,
    started: Instant,
    /// The host of the registry.
    home: Arc<Host>,
    /// The host that answered last.
    host: Arc<Host>,
    /// The number of bodies that could not be read.
    unreadable: u32,
}

/// How one request ended.
enum Attempt {
    Answered(Reply),
    /// The gate of a host opens too late; this is the answer that closed it.
    Gated(Response),
    /// A window closed while the request was in line.
    Closed,
}

impl Call<'_> {
    /// Makes requests until there is a final answer or the budget is used up.
    pub(crate) async fn run(&self, auth: &Auth, mode: Mode) -> Result<Reply, Error> {
        let home = self.network.host(&self.url);
        let mut state = State {
            budget: Budget::new(self.network.options.retry),
            requests: 0,
            started: Instant::now(),
            host: Arc::clone(&home),
            home,
            unreadable: 0,
        };
        self.answer(auth, mode, &mut state).await
    }

    async fn answer(&self, auth: &Auth, mode: Mode, state: &mut State) -> Result<Reply, Error> {
        let mut progress = Progress::new(state.started);
        let home = Arc::clone(&state.home);
        let waiter = Waiter {
            registry: self.registry,
            observer: self.observer,
            held: &home.allowance.held,
        };
        loop {
            waiter.windows(self.windows(&home)).await;
            // A request that a waiting one depends on does not line up behind it.
            let line = if self.anonymous {
                None
            } else {
                home.allowance.line(waiter).await
            };
            // Before taking a slot: a token request may need one at the same host.
            let carried = auth
                .carry(self, &progress, &mut state.requests, run_boxed)
                .await?;
            let sent = Instant::now();
            let outcome = match self.attempt(mode, &carried, state, waiter, line).await {
                Ok(Attempt::Answered(reply)) => Ok(reply),
                Ok(Attempt::Closed) => continue,
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
                        if state.unreadable < retry::MAX_UNREADABLE {
                            Err(failure.transient())
                        } else {
                            return self.stands(Err(failure));
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
                            Some(wait) if wait <= self.network.options.retry.deadline => {
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
                // The gate was already closed for longer, which was reported.
                Some((_, false)) => tokio::time::sleep(wait).await,
                _ => {
                    let status = status.map(|(status, _)| status);
                    observer::wait(self.observer, self.registry, wait, status).await;
                }
            }
        }
    }

    /// Returns why a 200 does not count as an answer, if its body is not what it must be.
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
                let text = format!("the {} bytes received do not hash to {digest}", body.len());
                return failure(ErrorKind::Integrity, text);
            }
            Expect::Readable => {}
        }
        if let Some(coding) = &answer.coding {
            let text = format!("the body has the content coding {coding}, which was not requested");
            return failure(ErrorKind::Unreadable, text);
        }
        // If the header repeats the digest in the URL, it says nothing about the list in the body.
        if let Some(named) = answer.content_digest()
            && !named.matches(body)
            && !self.url.path().ends_with(&named.to_string())
        {
            let text = format!(
                "the {} bytes received do not hash to {named}, as their header says",
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

    /// Sends one request and follows its redirects, respecting the gate and the limit of requests
    /// in flight of each host. The slot at one host is returned before taking the next one.
    async fn attempt(
        &self,
        mode: Mode,
        carried: &Carried,
        state: &mut State,
        waiter: Waiter<'_>,
        mut line: Option<SemaphorePermit<'_>>,
    ) -> Result<Attempt, Failure> {
        let options = &self.network.options;
        let mut url = self.url.clone();
        state.host = Arc::clone(&state.home);
        let mut headers = self.headers.clone();
        if let Some(authorization) = carried.header() {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let home = self.network.home(self.registry)?;
        let bytes = state.home.allowance.bytes();
        let is_fed = matches!(&self.payload, Payload::Part(part) if part.source.makes_requests());
        let mut outside = None;
        let mut hops = 0;
        loop {
            let entered = state.host.enter(&mut state.budget, waiter, is_fed);
            let place = match entered.await {
                Ok(place) => place,
                Err(answer) => return Ok(Attempt::Gated(answer)),
            };
            drop(line.take());
            if hops == 0 && closed(self.windows(&state.home)).is_some() {
                return Ok(Attempt::Closed);
            }
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
                observer: self.observer,
                bytes: bytes.as_ref(),
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
                // Read to the end, so that the connection can be reused.
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
                    let there = self
                        .network
                        .outside(self.registry, &self.url, &next)
                        .await?;
                    realm::check_address(&next, &self.url, there.located)
                        .map_err(|refused| refuse(format!("the redirect leads to {refused}")))?;
                    outside = Some(there);
                    headers.remove(AUTHORIZATION);
                }
                state.host = self.network.host(&next);
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

    /// Returns the windows that a request must keep to: the registry's and the caller's. A request
    /// that is part of the authentication of another one keeps to none, since that one did.
    fn windows<'h>(&'h self, home: &'h Host) -> [Option<&'h dyn Window>; 2] {
        if self.anonymous {
            [None, None]
        } else {
            let own = self.window.map(Arc::as_ref);
            [home.allowance.window(), own]
        }
    }

    /// Decides where a redirect leads.
    fn follow(&self, from: &Url, target: &str, status: StatusCode) -> Result<Url, String> {
        let Some(next) = origin::resolve(from, target) else {
            return Err("the redirect does not lead to a plain web address".into());
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

/// Makes the requests of a call that is part of the authentication of another one.
fn run_boxed<'a>(call: Call<'a>, auth: &'a Auth, mode: Mode) -> BoxedReply<'a> {
    Box::pin(async move { call.run(auth, mode).await })
}
