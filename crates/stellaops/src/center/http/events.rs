use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use serde::Serialize;

use super::error::ApiError;
use super::query::Query;
use super::resource::{ArtifactReady, RunResource};
use super::runs::{find, no_run};
use super::{Api, Endless, blocking};
use crate::center::view::RunEvent;

/// How often a comment shows proxies and clients that the connection is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a client reconnects after it lost the connection.
const RETRY: Duration = Duration::from_secs(3);
const LAST_EVENT_ID: &str = "last-event-id";

/// Reports a run while it happens
///
/// Server-sent events `started`, `progress`, `artifact_ready` and `finished`; the last one ends them. Their data is a run,
/// or for `artifact_ready` an output with its run. 204: the run has ended, and `Last-Event-ID` was its last event.
#[utoipa::path(
    get, path = "/v1/exports/runs/{runId}/events", operation_id = "watchRun", tag = "runs",
    params(
        ("runId" = String, Path, pattern = "^[0-9]{8}-[0-9]{6,18}$"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Only events after this one"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 204, description = "Nothing comes any more"),
        (status = 429, description = "Too many clients wait for events", body = super::error::ErrorBody),
    ),
)]
pub(crate) async fn watch(
    State(api): State<Api>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    Query::parse(&uri, &[])?;
    let run = find(&api, &id).await?;
    let after = last_event_id(&headers)?;
    let Ok(place) = Arc::clone(&api.watchers).try_acquire_owned() else {
        return Err(ApiError::quota("too many clients wait for events"));
    };
    let (own, center) = (run.id.clone(), api.center.clone());
    let events = blocking(move || Ok(center.events(&own, after)?)).await?;
    let mut events: BoxStream<'static, RunEvent> = events.ok_or_else(|| no_run(&id))?;
    if run.status.is_final() {
        // A browser reconnects when the events end, unless it is told that there are no more.
        match events.next().await {
            Some(first) => events = stream::once(async { first }).chain(events).boxed(),
            None => return Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }
    if method == Method::HEAD {
        events = stream::empty().boxed();
    }
    let retry = stream::once(async { Event::default().retry(RETRY) });
    let events = retry.chain(events.map(move |event| {
        // Held until the stream is dropped.
        let _place = &place;
        written(&event)
    }));
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("");
    let mut response = Sse::new(events.map(Ok::<_, Infallible>))
        .keep_alive(keep_alive)
        .into_response();
    response.extensions_mut().insert(Endless);
    // Otherwise nginx waits for more before it passes on anything.
    let unbuffered = HeaderValue::from_static("no");
    response
        .headers_mut()
        .insert("x-accel-buffering", unbuffered);
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Result<u64, ApiError> {
    let Some(id) = headers.get(LAST_EVENT_ID) else {
        return Ok(0);
    };
    let id = id.to_str().ok();
    let digits = id.filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()));
    let id = digits.map(|digits| digits.parse().unwrap_or(u64::MAX));
    id.ok_or_else(|| ApiError::invalid("Last-Event-ID", "it is the number of an event"))
}

fn written(event: &RunEvent) -> Event {
    let data = match &event.output {
        Some(output) => text(&ArtifactReady::new(&event.run, output, event.at)),
        None => text(&RunResource::from(&event.run)),
    };
    Event::default()
        .id(event.number.to_string())
        .event(event.kind.as_str())
        .data(data)
}

/// Structs of texts and numbers: they can be written.
fn text(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}
