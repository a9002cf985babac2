//! One HTTP request and its answer, bounded in time and in bytes, and reported to the observer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use url::Url;

use crate::allowance;
use crate::coding;
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::observer::{Endpoint, RequestEvent, RequestObserver, SilenceEvent};
use crate::options::ClientOptions;
use crate::origin::without_secrets;
use crate::toll::Toll;
use crate::upload::{self, Part, UploadState};

/// The size at which the body of an answer other than 2xx is cut, in bytes.
pub(crate) const MAX_ERROR_BODY: u64 = 64 << 10;

/// The body of a request, which can be sent more than once.
#[derive(Clone)]
pub(crate) enum Payload<'a> {
    None,
    Bytes(Bytes),
    Part(Part<'a>),
}

/// What a request is about, for the observer.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) repository: Option<&'a RepositoryName>,
    pub(crate) endpoint: Endpoint,
    pub(crate) attempt: u32,
    pub(crate) observer: Option<&'a Arc<dyn RequestObserver>>,
    /// The limit of the bytes of blobs.
    pub(crate) bytes: Option<&'a Arc<allowance::Bytes>>,
}

impl About<'_> {
    fn toll(&self) -> Option<Toll> {
        let bytes = Arc::clone(self.bytes?);
        Some(Toll::new(bytes, self.registry, self.observer))
    }
}

/// An answer whose head has been received.
#[derive(Debug)]
pub(crate) struct Open {
    response: reqwest::Response,
    report: Report,
    idle_timeout: Duration,
    /// The number of bytes that must arrive within `idle_timeout`.
    min_bytes: u64,
    /// The time waited and the bytes received since the last `min_bytes` were complete.
    window: (Duration, u64),
    toll: Option<Toll>,
}

/// Sends one request and waits for the head of its answer.
pub(crate) async fn send(
    http: &reqwest::Client,
    options: &ClientOptions,
    about: About<'_>,
    method: &Method,
    url: &Url,
    mut headers: HeaderMap,
    payload: &Payload<'_>,
) -> Result<Open, Failure> {
    // Digests are computed over the bytes as the registry stores them. Some servers and caches
    // encode them all the same.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut request = http.request(method.clone(), url.clone());
    let mut state = None;
    match payload {
        Payload::None if *method == Method::GET || *method == Method::HEAD => {}
        Payload::None => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        Payload::Bytes(bytes) => request = request.body(bytes.clone()),
        Payload::Part(part) => {
            let (body, upload) = upload::body(part, about.toll())
                .await
                .map_err(|failure| failure.at(method, url))?;
            headers.insert(CONTENT_LENGTH, HeaderValue::from(part.bytes()));
            request = request.body(body);
            state = Some(upload);
        }
    }
    let mut report = Report::new(about, method, url, payload, state.clone());
    let answer = watch(request.headers(headers).send(), options, state.as_deref());
    let answer = match state {
        Some(_) => answer.await,
        None => report.attend(answer).await,
    };
    match answer {
        Ok(response) => {
            report.status = Some(response.status());
            let observer = report.observer.as_ref();
            if observer.is_some_and(|observer| observer.wants_headers()) {
                report.headers = Some(response.headers().clone());
            }
            Ok(Open {
                response,
                report,
                idle_timeout: options.idle_timeout,
                min_bytes: options.min_bytes(options.idle_timeout),
                window: (Duration::ZERO, 0),
                toll: about.toll().filter(|_| about.endpoint == Endpoint::Blob),
            })
        }
        Err(failure) => {
            // A failing source also breaks the connection, but it is the cause.
            let mut failure = state
                .and_then(|state| state.take_failure())
                .unwrap_or(failure);
            // The guard that resolves names does not know whether a redirect or a realm led to
            // them.
            if failure.kind == ErrorKind::UntrustedRealm && about.endpoint != Endpoint::Token {
                failure.kind = ErrorKind::Redirect;
            }
            report.error = Some(failure.kind);
            Err(failure.at(method, url))
        }
    }
}

async fn watch(
    send: impl Future<Output = reqwest::Result<reqwest::Response>>,
    options: &ClientOptions,
    upload: Option<&UploadState>,
) -> Result<reqwest::Response, Failure> {
    let Some(upload) = upload else {
        let limit = options.response_timeout;
        return match timeout(limit, send).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(timed_out(format!("no answer within {limit:?}"))),
        };
    };
    let mut send = std::pin::pin!(send);
    loop {
        tokio::select! {
            answer = &mut send => return answer.map_err(Failure::from),
            () = sleep_until(upload.deadline(options)) => {
                if upload.deadline(options) <= Instant::now() {
                    return Err(timed_out(format!("the upload stalled after {} bytes", upload.sent())));
                }
            }
        }
    }
}

fn timed_out(text: String) -> Failure {
    Failure::new(ErrorKind::Timeout, text).transient()
}

impl Open {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Waits until the limit of the bytes of blobs lets the next chunk pass.
    pub(crate) async fn pay(&mut self) {
        if let Some(toll) = &mut self.toll {
            toll.pay().await;
        }
    }

    /// Returns the next chunk of the body, or `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let patience = self.idle_timeout.saturating_sub(self.window.0);
        let started = Instant::now();
        let answer = timeout(patience, self.response.chunk());
        let answer = self.report.attend(answer).await;
        self.window.0 += started.elapsed();
        let failure = match answer {
            Ok(Ok(Some(bytes))) => {
                if let Some(toll) = &mut self.toll {
                    toll.owe(bytes.len());
                }
                self.report.body_bytes += bytes.len() as u64;
                self.window.1 += bytes.len() as u64;
                if self.window.1 >= self.min_bytes {
                    self.window = (Duration::ZERO, 0);
                }
                return Ok(Some(bytes));
            }
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => Failure::from(error),
            Err(_) => timed_out(format!(
                "the body stalled: {} bytes in {:?}, less than {}",
                self.window.1,
                self.idle_timeout,
                self.min_bytes.max(1)
            )),
        };
        self.report.error = Some(failure.kind);
        Err(failure.at(&self.report.method, &self.report.url))
    }

    /// Reads the whole body: up to `limit` bytes of a 2xx answer, and the beginning of any other.
    pub(crate) async fn collect(
        mut self,
        limit: u64,
        limit_name: &str,
    ) -> Result<Collected, Failure> {
        let success = self.status().is_success();
        let cut = if success { limit } else { MAX_ERROR_BODY };
        let announced = self.response.content_length().unwrap_or(0);
        if success && announced > limit && self.report.method != Method::HEAD {
            return Err(self.over(limit, limit_name));
        }
        // Copied, because a chunk is part of the buffer of the connection and would keep all of it
        // in memory.
        let expected = announced.min(cut).min(MAX_ERROR_BODY);
        let mut body = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
        while let Some(chunk) = self.chunk().await? {
            let room = cut.saturating_sub(body.len() as u64);
            if chunk.len() as u64 > room {
                if success {
                    return Err(self.over(limit, limit_name));
                }
                let room = usize::try_from(room).unwrap_or(chunk.len());
                body.extend_from_slice(&chunk[..room]);
                break;
            }
            body.extend_from_slice(&chunk);
        }
        let headers = std::mem::take(self.response.headers_mut());
        let (body, coding) = match coding::take_off(&headers, body, cut) {
            Ok(plain) => (plain, None),
            Err(coding::Refused::TooLarge) if success => return Err(self.over(limit, limit_name)),
            Err(coding::Refused::TooLarge) => (Vec::new(), None),
            Err(coding::Refused::Unknown(body, coding)) => (body, Some(coding)),
        };
        Ok(Collected {
            status: self.status(),
            headers,
            body: body.into_boxed_slice().into(),
            coding,
        })
    }

    fn over(&mut self, limit: u64, limit_name: &str) -> Failure {
        self.report.error = Some(ErrorKind::LimitExceeded);
        let text = format!("the answer is larger than {limit_name} ({limit} bytes)");
        Failure::new(ErrorKind::LimitExceeded, text).at(&self.report.method, &self.report.url)
    }
}

/// An answer that was read completely.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The content coding that was not removed, because it is unknown or does not match the body.
    pub(crate) coding: Option<String>,
}

/// Reports a request to the observer when it is dropped, so that a cancelled one is reported too.
#[derive(Debug)]
struct Report {
    observer: Option<Arc<dyn RequestObserver>>,
    registry: Registry,
    repository: Option<RepositoryName>,
    endpoint: Endpoint,
    method: Method,
    url: Url,
    attempt: u32,
    started: Instant,
    status: Option<StatusCode>,
    headers: Option<HeaderMap>,
    error: Option<ErrorKind>,
    body_bytes: u64,
    sent_bytes: u64,
    upload: Option<Arc<UploadState>>,
}

impl Report {
    fn new(
        about: About<'_>,
        method: &Method,
        url: &Url,
        payload: &Payload<'_>,
        upload: Option<Arc<UploadState>>,
    ) -> Self {
        Self {
            observer: about.observer.cloned(),
            registry: about.registry.clone(),
            repository: about.repository.cloned(),
            endpoint: about.endpoint,
            method: method.clone(),
            url: without_secrets(url),
            attempt: about.attempt,
            started: Instant::now(),
            status: None,
            headers: None,
            error: None,
            body_bytes: 0,
            sent_bytes: match payload {
                Payload::Bytes(bytes) => bytes.len() as u64,
                Payload::None | Payload::Part(_) => 0,
            },
            upload,
        }
    }

    /// Waits for an answer and reports silence to the observer meanwhile.
    async fn attend<T>(&self, answer: impl Future<Output = T>) -> T {
        const FIRST: Duration = Duration::from_secs(5);
        const NEXT: Duration = Duration::from_secs(10);
        let Some(observer) = &self.observer else {
            return answer.await;
        };
        let started = Instant::now();
        let mut answer = std::pin::pin!(answer);
        let mut next = started + FIRST;
        loop {
            if let Ok(answer) = timeout_at(next, &mut answer).await {
                return answer;
            }
            next += NEXT;
            observer.silent(&SilenceEvent {
                registry: &self.registry,
                url: &self.url,
                silence: started.elapsed(),
            });
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let Some(observer) = &self.observer else {
            return;
        };
        let sent = self.upload.as_ref().map_or(0, |upload| upload.sent());
        observer.request(&RequestEvent {
            method: &self.method,
            endpoint: self.endpoint,
            registry: &self.registry,
            repository: self.repository.as_ref(),
            url: &self.url,
            status: self.status,
            headers: self.headers.as_ref(),
            error: self.error,
            elapsed: self.started.elapsed(),
            attempt: self.attempt,
            body_bytes: self.body_bytes,
            sent_bytes: self.sent_bytes + sent,
        });
    }
}
