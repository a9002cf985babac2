use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use registry_client::{RequestEvent, RequestObserver, SilenceEvent, WaitEvent};
use serde_json::{Map, Value, json};

use crate::answer_headers;

/// The most requests that are kept.
const MAX_EVENTS: usize = 20_000;

/// Keeps every request with its answer, and passes everything on.
#[derive(Debug)]
pub(super) struct Trace {
    inner: Arc<dyn RequestObserver>,
    events: Mutex<Vec<Value>>,
}

impl Trace {
    pub(super) fn new(inner: Arc<dyn RequestObserver>) -> Self {
        Self {
            inner,
            events: Mutex::default(),
        }
    }

    /// Returns the events as lines of JSON, in the order in which the requests ended.
    pub(super) fn lines(&self) -> String {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = String::new();
        for event in events.iter() {
            writeln!(lines, "{event}").ok();
        }
        if events.len() == MAX_EVENTS {
            writeln!(
                lines,
                "{}",
                json!({ "event": "full", "events": MAX_EVENTS })
            )
            .ok();
        }
        lines
    }

    fn keep(&self, event: Value) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < MAX_EVENTS {
            events.push(event);
        }
    }
}

impl RequestObserver for Trace {
    fn wants_headers(&self) -> bool {
        true
    }

    fn request(&self, event: &RequestEvent<'_>) {
        let headers = event.headers.map(answer_headers::shown).unwrap_or_default();
        let headers: Map<_, _> = headers
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        self.keep(json!({
            "event": "request",
            "time": Timestamp::now(),
            "method": event.method.as_str(),
            "url": event.url.as_str(),
            "endpoint": event.endpoint.as_str(),
            "registry": event.registry,
            "status": event.status.map(|status| status.as_u16()),
            "error": event.error.map(|error| format!("{error:?}")),
            "try": event.attempt,
            "milliseconds": u64::try_from(event.elapsed.as_millis()).unwrap_or(u64::MAX),
            "received": event.body_bytes,
            "headers": headers,
        }));
        self.inner.request(event);
    }

    fn waiting(&self, event: &WaitEvent<'_>) {
        self.keep(json!({
            "event": "wait",
            "time": Timestamp::now(),
            "registry": event.registry,
            "seconds": event.wait.as_secs_f64(),
            "status": event.status.map(|status| status.as_u16()),
        }));
        self.inner.waiting(event);
    }

    fn silent(&self, event: &SilenceEvent<'_>) {
        self.keep(json!({
            "event": "silence",
            "time": Timestamp::now(),
            "registry": event.registry,
            "seconds": event.silence.as_secs(),
        }));
        self.inner.silent(event);
    }
}
