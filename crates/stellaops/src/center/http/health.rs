use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use super::resource::{Readiness, ReadinessStatus};
use super::{Api, blocking, json};

/// Says that the service lives
#[utoipa::path(
    get, path = "/healthz", operation_id = "live", tag = "service",
    responses((status = 200, body = String, content_type = "text/plain")),
)]
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// Says whether the service can work
#[utoipa::path(
    get, path = "/readyz", operation_id = "ready", tag = "service",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)),
)]
pub(crate) async fn ready(State(api): State<Api>) -> Result<Response, ApiError> {
    let reasons = blocking(move || Ok(api.problems())).await?;
    let (code, status) = if reasons.is_empty() {
        (StatusCode::OK, ReadinessStatus::Ready)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, ReadinessStatus::NotReady)
    };
    json(code, &Readiness { status, reasons })
}

/// Returns the metrics in the text format of Prometheus
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "service",
    responses((status = 200, body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        api.center.metrics().render(),
    )
        .into_response()
}
