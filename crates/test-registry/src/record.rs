use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::Bytes;
use futures::Stream;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use registry_server::Endpoint;

/// A request that a test registry received.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// The method, in upper case.
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent; empty if there was none.
    pub query: String,
    /// The scheme of `Authorization`, such as `Bearer`; `None` if there was no such header.
    pub authorization: Option<String>,
    /// The status of the answer; `None` while there is none, and if the connection was broken
    /// instead.
    pub status: Option<u16>,
    /// The time at which the head of the request was read.
    pub received: Instant,
    headers: HeaderMap,
}

impl RecordedRequest {
    /// Returns the first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the endpoint that the path names; `None` for the token service and other paths.
    pub fn endpoint(&self) -> Option<Endpoint> {
        Endpoint::of(&self.path)
    }
}

/// The requests to one listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    requests: Vec<RecordedRequest>,
    /// Incremented when the list is cleared, so that an answer is recorded for its own request or
    /// not at all.
    epoch: u64,
    in_flight: usize,
    max_in_flight: usize,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        // Nothing that happens under the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, parts: &Parts) -> InFlight {
        let mut headers = parts.headers.clone();
        let authorization = headers.get_mut(header::AUTHORIZATION).map(|value| {
            // Kept out of the output of failing tests.
            value.set_sensitive(true);
            let text = value.to_str().unwrap_or_default();
            text.split(' ').next().unwrap_or_default().to_owned()
        });
        let mut recorded = self.lock();
        recorded.requests.push(RecordedRequest {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            authorization,
            status: None,
            received: Instant::now(),
            headers,
        });
        recorded.in_flight += 1;
        recorded.max_in_flight = recorded.max_in_flight.max(recorded.in_flight);
        InFlight {
            recorder: self.clone(),
            epoch: recorded.epoch,
            at: recorded.requests.len() - 1,
        }
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.lock().requests.clone()
    }

    pub(crate) fn clear(&self) {
        let mut recorded = self.lock();
        recorded.requests.clear();
        recorded.epoch += 1;
        recorded.max_in_flight = recorded.in_flight;
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.lock().max_in_flight
    }
}

/// A request between its head and the last byte of its answer.
#[derive(Debug)]
pub(crate) struct InFlight {
    recorder: Recorder,
    epoch: u64,
    at: usize,
}

impl InFlight {
    /// Records the answer. The request is in flight until the body ends.
    pub(crate) fn answered(self, response: Response) -> Response {
        let mut recorded = self.recorder.lock();
        if recorded.epoch == self.epoch
            && let Some(request) = recorded.requests.get_mut(self.at)
        {
            request.status = Some(response.status().as_u16());
        }
        drop(recorded);
        let (mut parts, body) = response.into_parts();
        // The stream around the body does not know its length. Some answers must not have one:
        // https://www.rfc-editor.org/rfc/rfc9110#section-8.6
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
        if !bodiless && let Some(length) = axum::body::HttpBody::size_hint(&body).exact() {
            parts
                .headers
                .entry(header::CONTENT_LENGTH)
                .or_insert(length.into());
        }
        let body = Watched {
            body: body.into_data_stream(),
            _in_flight: self,
        };
        Response::from_parts(parts, Body::from_stream(body))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.recorder.lock().in_flight -= 1;
    }
}

struct Watched {
    body: BodyDataStream,
    _in_flight: InFlight,
}

impl Stream for Watched {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
