use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use oci_content::Registry;

use crate::call::{Call, Query, parse_repository};
use crate::endpoint::Endpoint;
use crate::error::{ApiError, ErrorCode};
use crate::exchange::Exchange;
use crate::response::json;
use crate::shared::Shared;
use crate::store::Repository;
use crate::{blobs, lists, manifests, origin, uploads};

/// Answers one request.
pub(crate) async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let observer = shared.observer.clone();
    let (mut exchange, request) = Exchange::begin(request, &shared.connections, observer);
    let (parts, body) = request.into_parts();
    let answered = match admit(&shared, &parts).await {
        Ok(user) => {
            if let Some(user) = &user {
                exchange.admitted(Arc::clone(user));
            }
            dispatch(&shared, parts, user, body).await
        }
        Err(error) => Err(error),
    };
    let mut response = exchange.answer(answered.unwrap_or_else(IntoResponse::into_response));
    // Optional, but clients that descend from Docker look for it:
    // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#legacy-docker-support-http-headers
    response.headers_mut().insert(
        "docker-distribution-api-version",
        HeaderValue::from_static("registry/2.0"),
    );
    response
}

/// Admits a request or refuses it. Returns the user, if there are users.
async fn admit(shared: &Shared, parts: &Parts) -> Result<Option<Arc<str>>, ApiError> {
    origin::check(parts, shared.options.hosts.as_deref())?;
    #[cfg(feature = "basic-auth")]
    if let Some(users) = &shared.users {
        return users.admit(&parts.headers).await.map(Some);
    }
    Ok(None)
}

async fn dispatch(
    shared: &Arc<Shared>,
    parts: Parts,
    user: Option<Arc<str>>,
    body: Body,
) -> Result<Response, ApiError> {
    let Some(endpoint) = Endpoint::of(parts.uri.path()) else {
        let message = "no endpoint of the distribution API has this path";
        return Err(ApiError::not_found(ErrorCode::Unsupported, message));
    };
    let reads = [Method::GET, Method::HEAD].contains(&parts.method);
    if shared.options.read_only && !reads {
        return Err(ApiError::not_allowed(
            "this registry is read-only",
            "GET, HEAD",
        ));
    }
    let query = Query::of(&parts);
    let namespace =
        match query.first("ns") {
            Some(host) => Some(host.parse::<Registry>().map_err(|error| {
                ApiError::bad_request(ErrorCode::NameInvalid, error.to_string())
            })?),
            None => None,
        };
    let Some(name) = endpoint.repository() else {
        return match (reads, endpoint) {
            (false, _) => Err(ApiError::not_allowed("only GET and HEAD", "GET, HEAD")),
            (true, Endpoint::Catalog) => lists::catalog(shared, &query, namespace).await,
            (true, _) => Ok(json(StatusCode::OK, "application/json", "{}".into())),
        };
    };
    let repository = Repository::new(parse_repository(name)?).with_namespace(namespace);
    let method = parts.method.clone();
    let call = Call {
        parts,
        query,
        repository,
        user,
    };
    match (endpoint, method) {
        (Endpoint::Blob { digest, .. }, Method::GET | Method::HEAD) => {
            blobs::read(shared, call, &digest).await
        }
        (Endpoint::Blob { digest, .. }, Method::DELETE) => {
            blobs::remove(shared, call, &digest).await
        }
        (Endpoint::Blob { .. }, _) => Err(ApiError::not_allowed(
            "a blob takes GET, HEAD and DELETE here; uploads go to blobs/uploads/",
            "GET, HEAD, DELETE",
        )),
        (Endpoint::Uploads { .. }, Method::POST) => uploads::start(shared, call, body).await,
        (Endpoint::Uploads { .. }, _) => {
            Err(ApiError::not_allowed("an upload begins with POST", "POST"))
        }
        (Endpoint::Upload { session, .. }, method) => match method {
            Method::GET => uploads::status(shared, &call, &session),
            Method::PATCH => uploads::append(shared, call, &session, body).await,
            Method::PUT => uploads::finish(shared, call, &session, body).await,
            Method::DELETE => uploads::cancel(shared, &call, &session),
            _ => Err(ApiError::not_allowed(
                "an upload session takes GET, PATCH, PUT and DELETE",
                "GET, PATCH, PUT, DELETE",
            )),
        },
        (Endpoint::Manifest { reference, .. }, method) => match method {
            Method::GET | Method::HEAD => manifests::read(shared, call, &reference).await,
            Method::PUT => manifests::write(shared, call, &reference, body).await,
            Method::DELETE => manifests::remove(shared, call, &reference).await,
            _ => Err(ApiError::not_allowed(
                "a manifest takes GET, HEAD, PUT and DELETE",
                "GET, HEAD, PUT, DELETE",
            )),
        },
        (Endpoint::Tags { .. }, Method::GET | Method::HEAD) => lists::tags(shared, call).await,
        (Endpoint::Referrers { digest, .. }, Method::GET | Method::HEAD) => {
            lists::referrers(shared, call, &digest).await
        }
        (Endpoint::Tags { .. } | Endpoint::Referrers { .. }, _) => {
            Err(ApiError::not_allowed("a list is read only", "GET, HEAD"))
        }
        (Endpoint::Ping | Endpoint::Catalog, _) => {
            unreachable!("they name no repository and were answered above")
        }
    }
}
