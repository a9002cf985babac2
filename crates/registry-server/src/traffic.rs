use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use bytes::{Buf as _, Bytes};
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use crate::connections::{Connection, PROGRESS_BYTES, Running};
use crate::error::{ApiError, ErrorCode};

/// Observes the requests to a server.
pub trait ServerObserver: fmt::Debug + Send + Sync + 'static {
    /// Called when the last byte of an answer was handed to the connection, or when the client left
    /// earlier. Must not block.
    fn answered(&self, request: &AnsweredRequest<'_>);
}

/// A finished request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AnsweredRequest<'a> {
    /// The method as the client sent it, which may be any token.
    pub method: &'a Method,
    /// The path as the client sent it, not decoded and without the query. Only the limit of the
    /// head limits its length.
    pub path: &'a str,
    /// The status of the answer; `None` if the client left before it.
    pub status: Option<StatusCode>,
    /// The bytes of the answer's body that were handed to the connection.
    pub bytes: u64,
    /// The time from the head of the request to the end of the answer.
    pub elapsed: Duration,
    /// The user that the request was admitted for.
    pub user: Option<&'a str>,
}

/// The record of a request. Dropping it reports it to the observer.
#[derive(Debug)]
pub(crate) struct Record {
    observer: Option<Arc<dyn ServerObserver>>,
    method: Method,
    path: String,
    started: Instant,
    pub(crate) status: Option<StatusCode>,
    pub(crate) user: Option<Arc<str>>,
    bytes: u64,
}

impl Record {
    pub(crate) fn new(
        observer: Option<Arc<dyn ServerObserver>>,
        method: Method,
        path: &str,
    ) -> Self {
        Self {
            observer,
            method,
            path: path.to_owned(),
            started: Instant::now(),
            status: None,
            user: None,
            bytes: 0,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(observer) = &self.observer {
            observer.answered(&AnsweredRequest {
                method: &self.method,
                path: &self.path,
                status: self.status,
                bytes: self.bytes,
                elapsed: self.started.elapsed(),
                user: self.user.as_deref(),
            });
        }
    }
}

/// The body of an answer, with its bytes counted.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: Body,
    pub(crate) record: Record,
    pub(crate) running: Option<Running>,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::remaining);
                self.record.bytes += bytes as u64;
            }
            Some(Err(_)) | None => self.running = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request, which fails when it stalls. The time runs only while somebody waits for
/// the body.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: Body,
    connection: Option<Arc<Connection>>,
    time: Duration,
    left: Duration,
    progress: u64,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    deadline: Pin<Box<Sleep>>,
    _running: Option<Running>,
}

impl Incoming {
    pub(crate) fn new(body: Body, time: Duration, connection: Option<Arc<Connection>>) -> Self {
        Self {
            body,
            connection,
            time,
            left: time,
            progress: 0,
            waiting: None,
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(waiting) = this.waiting.take() {
                this.left = this.left.saturating_sub(waiting.since.elapsed());
            }
            if let Some(Ok(frame)) = &frame {
                this.progress += frame.data_ref().map_or(0, Bytes::remaining) as u64;
            }
            if this.progress >= PROGRESS_BYTES {
                (this.progress, this.left) = (0, this.time);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let waiting = this.waiting.get_or_insert_with(|| Waiting {
            since: Instant::now(),
            deadline: Box::pin(tokio::time::sleep(this.left)),
            _running: this.connection.as_ref().map(Connection::receiving),
        });
        std::task::ready!(waiting.deadline.as_mut().poll(cx));
        this.waiting = None;
        let stalled = io::Error::new(io::ErrorKind::TimedOut, "the body has stalled");
        Poll::Ready(Some(Err(stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns the error for a body that did not arrive completely.
pub(crate) fn broken(error: &axum::Error, code: ErrorCode) -> ApiError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            let message = "the body has stalled";
            return ApiError::new(StatusCode::REQUEST_TIMEOUT, code, message);
        }
        cause = error.source();
    }
    ApiError::bad_request(code, "the body is incomplete")
}
