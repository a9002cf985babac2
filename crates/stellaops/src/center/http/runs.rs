use axum::body::{Body, HttpBody as _};
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use mirror_plan::JobName;

use super::access::Caller;
use super::error::{ApiError, ErrorCode};
use super::query::Query;
use super::resource::{
    Profile, ProfileKind, ProfileList, RunAccepted, RunLinks, RunList, RunRequest, RunResource,
};
use super::{Api, blocking, json};
use crate::center::model::{Run, RunId, RunStatus};
use crate::center::view::{RunQuery, SubmitError, Submitted};

/// The largest body of a request.
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_KEY_BYTES: usize = 255;
const CANCEL: &str = ":cancel";
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Lists the jobs of the configuration
#[utoipa::path(
    get, path = "/v1/exports/profiles", operation_id = "listProfiles", tag = "profiles",
    params(
        ("kind" = Option<ProfileKind>, Query, description = "Only profiles of this kind"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "50 by default"),
        ("cursor" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$", description = "`nextCursor` of the page before"),
    ),
    responses((status = 200, body = ProfileList)),
)]
pub(crate) async fn profiles(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let query = Query::parse(&uri, &["kind", "limit", "cursor"])?;
    let limit = query.limit()?;
    let kind: Option<ProfileKind> = query.value("kind")?;
    let cursor: Option<JobName> = query.value("cursor")?;
    let jobs = blocking(move || Ok(api.center.jobs())).await?;
    let wanted = jobs.iter().filter(|job| {
        kind.is_none_or(|kind| kind == ProfileKind::Mirror)
            && cursor.as_ref().is_none_or(|cursor| job.name > *cursor)
    });
    let mut profiles: Vec<_> = wanted.take(limit + 1).collect();
    let has_more = profiles.len() > limit;
    profiles.truncate(limit);
    let last = profiles.last().map(|job| job.name.to_string());
    json(
        StatusCode::OK,
        &ProfileList {
            profiles: profiles.into_iter().map(Profile::from).collect(),
            next_cursor: last.filter(|_| has_more),
        },
    )
}

/// Starts a run of a job
#[utoipa::path(
    post, path = "/v1/exports/runs", operation_id = "startRun", tag = "runs",
    params((
        "Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]{1,255}$",
        description = "The same key of the same caller gives the first run again for 24 hours",
    )),
    request_body = RunRequest,
    responses(
        (status = 202, body = RunAccepted, headers(("Location" = String, description = "Where the run is"))),
        (status = 409, description = "A run of the profile is under way, or the key was used for another request", body = super::error::ErrorBody),
    ),
)]
pub(crate) async fn submit(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    Query::parse(&uri, &[])?;
    let key = idempotency_key(&headers)?;
    let RunRequest { profile_id } = body(&headers, request).await?;
    let job: JobName = profile_id
        .parse()
        .map_err(|_| unknown_profile(&profile_id))?;
    let own = job.clone();
    let submitted =
        blocking(move || Ok(api.center.submit(&own, &caller.0, key.as_deref()))).await?;
    let (run, is_again) = match submitted {
        Ok(Submitted::New(run)) => (run, false),
        Ok(Submitted::Again(run)) => (run, true),
        Err(error) => return Err(of_submit(error, &job)),
    };
    let mut response = json(StatusCode::ACCEPTED, &RunAccepted::from(&run))?;
    let headers = response.headers_mut();
    let location = HeaderValue::try_from(RunLinks::of(&run.id).status());
    headers.insert(
        header::LOCATION,
        location.map_err(|error| ApiError::internal(&error))?,
    );
    if is_again {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Lists runs, newest first
#[utoipa::path(
    get, path = "/v1/exports/runs", operation_id = "listRuns", tag = "runs",
    params(
        ("profileId" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$", description = "Only runs of this job"),
        ("status" = Option<RunStatus>, Query, description = "Only runs with this status"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "50 by default"),
        ("cursor" = Option<String>, Query, pattern = "^[0-9]{8}-[0-9]{6,18}$", description = "`nextCursor` of the page before"),
    ),
    responses((status = 200, body = RunList)),
)]
pub(crate) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    let query = Query::parse(&uri, &["profileId", "status", "limit", "cursor"])?;
    let limit = query.limit()?;
    let wanted = RunQuery {
        job: query.value("profileId")?,
        status: query.value("status")?,
        before: query.value("cursor")?,
        limit: limit + 1,
    };
    let mut runs = blocking(move || Ok(api.center.runs(&wanted)?)).await?;
    let has_more = runs.len() > limit;
    runs.truncate(limit);
    let last = runs.last().map(|run| run.id.to_string());
    json(
        StatusCode::OK,
        &RunList {
            runs: runs.iter().map(RunResource::from).collect(),
            next_cursor: last.filter(|_| has_more),
        },
    )
}

/// Returns a run
#[utoipa::path(
    get, path = "/v1/exports/runs/{runId}", operation_id = "getRun", tag = "runs",
    params(("runId" = String, Path, pattern = "^[0-9]{8}-[0-9]{6,18}$")),
    responses((status = 200, body = RunResource)),
)]
pub(crate) async fn read(
    State(api): State<Api>,
    Path(id): Path<String>,
    method: Method,
    uri: Uri,
) -> Result<Response, ApiError> {
    if is_cancel(&id) {
        return Err(ApiError::method(&method, Some("POST")));
    }
    Query::parse(&uri, &[])?;
    let run = find(&api, &id).await?;
    json(StatusCode::OK, &RunResource::from(&run))
}

/// Returns whether the last part of a path, decoded or not, is that of [`act`].
pub(crate) fn is_cancel(part: &str) -> bool {
    part.ends_with(CANCEL) || part.to_ascii_lowercase().ends_with("%3acancel")
}

/// Ends a run; what was downloaded is kept
#[utoipa::path(
    post, path = "/v1/exports/runs/{runId}:cancel", operation_id = "cancelRun", tag = "runs",
    params(("runId" = String, Path, pattern = "^[0-9]{8}-[0-9]{6,18}$")),
    responses(
        (status = 202, body = RunResource),
        (status = 409, description = "The run has ended already", body = super::error::ErrorBody),
    ),
)]
pub(crate) async fn act(
    State(api): State<Api>,
    Path(target): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let Some(id) = target.strip_suffix(CANCEL) else {
        return Err(ApiError::method(request.method(), Some("GET,HEAD")));
    };
    Query::parse(request.uri(), &[])?;
    // It needs no body, and a form has one.
    if !request.body().is_end_stream() {
        check_json(request.headers())?;
    }
    let run = find(&api, id).await?;
    if run.status.is_final() {
        let message = format!("the run {id} has ended already: {}", run.status.as_str());
        let error = ApiError::new(StatusCode::CONFLICT, ErrorCode::RunEnded, message);
        return Err(error.detail([("runId", id.to_owned())]));
    }
    let id = run.id;
    let own = id.clone();
    let cancelled = blocking(move || Ok(api.center.cancel(&own)?)).await?;
    let run = cancelled.ok_or_else(|| no_run(id.as_str()))?;
    json(StatusCode::ACCEPTED, &RunResource::from(&run))
}

/// Returns the run with this id.
pub(crate) async fn find(api: &Api, id: &str) -> Result<Run, ApiError> {
    let parsed: RunId = id.parse().map_err(|_| no_run(id))?;
    let center = api.center.clone();
    let run = blocking(move || Ok(center.run(&parsed)?)).await?;
    run.ok_or_else(|| no_run(id))
}

pub(crate) fn no_run(id: &str) -> ApiError {
    ApiError::not_found(format!(
        "there is no run {:?}",
        oci_content::bounded(id, 64)
    ))
}

fn unknown_profile(name: &str) -> ApiError {
    let message = format!("there is no profile {:?}", oci_content::bounded(name, 64));
    ApiError::new(StatusCode::NOT_FOUND, ErrorCode::UnknownProfile, message)
}

fn of_submit(error: SubmitError, job: &JobName) -> ApiError {
    match error {
        SubmitError::UnknownJob => unknown_profile(job.as_str()),
        SubmitError::Busy(id) => {
            let message = format!("the run {id} of the profile {job} is under way");
            ApiError::new(StatusCode::CONFLICT, ErrorCode::RunActive, message)
                .detail([("runId", id.to_string())])
        }
        SubmitError::KeyReused => {
            let message = "this Idempotency-Key was used for another profile";
            ApiError::new(StatusCode::CONFLICT, ErrorCode::KeyReused, message)
        }
        SubmitError::Stopping => {
            let message = "the service is about to end and starts no runs";
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Stopping,
                message,
            )
            .header(header::RETRY_AFTER, HeaderValue::from_static("30"))
        }
        SubmitError::State(error) => error.into(),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(key), another) = (keys.next(), keys.next()) else {
        return Ok(None);
    };
    let text = key.to_str().ok();
    let text = text.filter(|text| {
        (1..=MAX_KEY_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match (text, another) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        _ => {
            let reason = "it is one key of 1 to 255 printable ASCII characters without spaces";
            Err(ApiError::invalid("Idempotency-Key", reason))
        }
    }
}

/// Refuses what a form of another site could send.
fn check_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "Content-Type: a POST is application/json";
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::Invalid,
        message,
    ))
}

async fn body(headers: &HeaderMap, request: Request<Body>) -> Result<RunRequest, ApiError> {
    check_json(headers)?;
    let bytes = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await;
    let bytes = bytes.map_err(|error| unread(&error))?;
    // Serde also reads a struct from an array of its members.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::invalid("body", "it is not a JSON object"));
    }
    serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid("body", error.to_string()))
}

/// Returns the answer to a body that did not arrive as a whole.
fn unread(error: &axum::Error) -> ApiError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut) {
            let status = StatusCode::REQUEST_TIMEOUT;
            return ApiError::new(
                status,
                ErrorCode::Invalid,
                "body: it did not arrive in time",
            );
        }
        if error.to_string().contains("length limit") {
            let message = format!("body: it is larger than {MAX_BODY_BYTES} bytes");
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::Invalid, message);
        }
        cause = error.source();
    }
    ApiError::invalid("body", "it is incomplete")
}
