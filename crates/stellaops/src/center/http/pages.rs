use axum::extract::{Path, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::Markup;

use super::error::ApiError;
use super::runs::find;
use super::{Api, blocking};
use crate::center::model::{RunId, RunStatus};
use crate::center::page::{self, Clock, RunView, StatusView};
use crate::center::view::RunQuery;

/// What a browser loads and does on the page: its own style and script, and events of its own service.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The runs in the list at the end of the page.
const RECENT: usize = 25;
/// The runs that are shown as under way.
const MAX_RUNNING: usize = 50;

pub(crate) async fn status(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let query = uri.query().unwrap_or_default();
    let before = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "before");
    let before: Option<RunId> = match before {
        Some((_, text)) => Some(
            text.parse()
                .map_err(|error: &str| ApiError::invalid("before", error))?,
        ),
        None => None,
    };
    let page = blocking(move || {
        let view = status_view(&api, before)?;
        Ok(page::status(&view))
    });
    Ok(html(page.await?))
}

fn status_view(api: &Api, before: Option<RunId>) -> Result<StatusView, ApiError> {
    let center = &api.center;
    let under_way = |status| RunQuery {
        status: Some(status),
        limit: MAX_RUNNING,
        ..RunQuery::default()
    };
    let mut running = center.runs(&under_way(RunStatus::Running))?;
    running.extend(center.runs(&under_way(RunStatus::Queued))?);
    let is_first = before.is_none();
    let mut runs = center.runs(&RunQuery {
        before,
        limit: RECENT + 1,
        ..RunQuery::default()
    })?;
    let has_older = runs.len() > RECENT;
    runs.truncate(RECENT);
    Ok(StatusView {
        clock: clock(),
        problems: api.problems(),
        ended: center.ended()?,
        running,
        jobs: center.jobs(),
        registries: center.registries(),
        audits: center.audits()?,
        older: runs.last().map(|run| run.id.clone()).filter(|_| has_older),
        runs,
        is_first,
    })
}

pub(crate) async fn run(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let run = find(&api, &id).await?;
    let page = blocking(move || {
        let view = RunView {
            clock: clock(),
            log: api
                .center
                .log_of(&run.id)
                .map_err(|error| error.to_string()),
            next: api.center.next_run(&run.job),
            run,
        };
        Ok(page::run(&view))
    });
    Ok(html(page.await?))
}

fn clock() -> Clock {
    Clock {
        now: Timestamp::now(),
        zone: TimeZone::system(),
    }
}

fn html(page: Markup) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (content_type, page.into_string()).into_response()
}

pub(crate) async fn style() -> Response {
    asset("text/css; charset=utf-8", page::STYLE)
}

pub(crate) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", page::SCRIPT)
}

pub(crate) async fn icon() -> Response {
    asset("image/svg+xml", page::ICON)
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}
