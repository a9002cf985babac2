use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use oci_content::{
    Digest, Manifest, ManifestContent, RepositoryName, Tag, media_type, referrers_tag,
};
use registry_server::{ApiError, ErrorCode, Repository, Store as _};
use serde_json::json;

use crate::behaviour::{Deletes, Subject};
use crate::late::Seen;
use crate::persona::Persona;
use crate::referrers::redirect;
use crate::shared::Shared;

/// Answers requests for manifests and blobs where the persona differs, and leaves the rest to the
/// server.
pub(crate) fn read(shared: &Shared, parts: &Parts, name: &str, reference: &str) -> Reading {
    let profile = &shared.profile.manifests;
    if profile.redirected {
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        return Reading::Answer(redirect(shared, StatusCode::TEMPORARY_REDIRECT, path));
    }
    let Ok(repository) = name.parse::<RepositoryName>().map(Repository::new) else {
        return Reading::Server { as_reference: None };
    };
    let limit = shared.pull_limit.or(profile.pull_limit);
    if let Some(limit) = limit
        && parts.method == Method::GET
        && !shared.limiter.pull(limit)
    {
        return Reading::Answer(too_many_requests(shared));
    }
    let is_known = shared.store.contains(&repository).unwrap_or(false);
    if profile.unknown_names_hidden && !is_known {
        return Reading::Answer(unknown("manifest unknown"));
    }
    let tag = reference.parse::<Tag>().ok();
    let seen = match &tag {
        Some(_) => shared.late.read_tag(name, reference),
        None => Seen::Now,
    };
    let resolved = match &seen {
        Seen::Now => resolve(shared, name, reference),
        Seen::Before(digest) => Some(digest.clone()),
        Seen::Nothing => None,
    };
    if let Some(tag) = &tag
        && resolved.is_none()
    {
        if profile.digests_as_tags {
            let digest = tag.as_str().replacen('-', ":", 1).parse::<Digest>().ok();
            if let Some(digest) = digest.filter(|digest| referrers_tag(digest) == *tag) {
                return Reading::Server {
                    as_reference: Some(digest.to_string()),
                };
            }
        }
        if profile.absent_tags_forbidden {
            let body = r#"{"errors":[{"status":403,"message":"Forbidden"}]}"#;
            return Reading::Answer((StatusCode::FORBIDDEN, body).into_response());
        }
    }
    if let Some(digest) = &resolved {
        if shared.is_lost(repository.name(), digest) {
            return Reading::Answer(unknown("manifest unknown"));
        }
        if profile.needs_accept && !accepts_index(parts) && is_index(shared, &repository, digest) {
            return Reading::Answer(unknown(
                "OCI index found, but accept header does not support OCI indexes",
            ));
        }
    }
    match seen {
        Seen::Now => Reading::Server { as_reference: None },
        Seen::Before(digest) => Reading::Server {
            as_reference: Some(digest.to_string()),
        },
        Seen::Nothing => Reading::Answer(unknown("manifest unknown")),
    }
}

/// Returns the digest that a reference names, even if no manifest has it.
pub(crate) fn resolve(shared: &Shared, name: &str, reference: &str) -> Option<Digest> {
    match reference.parse() {
        Ok(tag) => {
            let repository = Repository::new(name.parse().ok()?);
            shared.store.resolve(&repository, &tag).unwrap_or_default()
        }
        Err(_no_tag) => reference.parse().ok(),
    }
}

/// The decision about a request for a manifest.
#[derive(Debug)]
pub(crate) enum Reading {
    Answer(Response),
    /// The server answers, for another reference if one is given.
    Server {
        as_reference: Option<String>,
    },
}

fn accepts_index(parts: &Parts) -> bool {
    let accepted = parts.headers.get_all(header::ACCEPT);
    let mut accepted = accepted.iter().filter_map(|value| value.to_str().ok());
    accepted.any(|accepted| accepted.contains(media_type::IMAGE_INDEX))
}

fn is_index(shared: &Shared, repository: &Repository, digest: &Digest) -> bool {
    let found = shared
        .store
        .manifest(repository, digest)
        .unwrap_or_default();
    found.is_some_and(|manifest| manifest.media_type == media_type::IMAGE_INDEX)
}

/// A pushed manifest that the server is to accept.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) request: Request<Body>,
    pub(crate) subject: Option<Digest>,
}

/// Accepts or refuses a pushed manifest like the persona.
pub(crate) async fn write(
    shared: &Shared,
    mut parts: Parts,
    body: Body,
    name: &str,
    reference: &str,
) -> Result<Push, Response> {
    let profile = &shared.profile.manifests;
    if let Some(limit) = profile.puts_per_second
        && !shared.limiter.put(limit)
    {
        return Err(too_many_requests(shared));
    }
    if profile.tags_immutable
        && reference.parse::<Tag>().is_ok()
        && resolve(shared, name, reference).is_some()
    {
        let body = json!({"errors": [{
            "code": "PRECONDITION",
            "message": format!("Failed to process request due to '{name}:{reference}' configured as immutable."),
        }]});
        let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
        let refused = (StatusCode::PRECONDITION_FAILED, headers, body.to_string());
        return Err(refused.into_response());
    }
    if !(profile.conditional_writes || shared.conditional_writes) {
        parts.headers.remove(header::IF_MATCH);
        parts.headers.remove(header::IF_NONE_MATCH);
    }
    if !profile.tag_parameter {
        parts.uri = path_only(parts.uri.path());
    }
    // One byte more than the limit of the server makes it refuse.
    let most = usize::try_from(oci_content::MAX_MANIFEST_BYTES).unwrap_or(usize::MAX) + 1;
    let Ok(bytes) = to_bytes(body, most).await else {
        let message = "the manifest is too large";
        let code = ErrorCode::SizeInvalid;
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code, message).into_response());
    };
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let manifest = Manifest::parse(bytes.clone(), content_type).ok();
    let refused = manifest
        .as_ref()
        .and_then(|manifest| refuse_push(shared, name, manifest));
    if let Some(refused) = refused {
        return Err(refused);
    }
    if profile.unchecked && reference.contains(':') {
        let digest = Digest::of(&bytes);
        parts.uri = path_only(&format!("/v2/{name}/manifests/{digest}"));
    }
    let subject = manifest.and_then(|manifest| Some(manifest.subject()?.digest.clone()));
    Ok(Push {
        request: Request::from_parts(parts, Body::from(bytes)),
        subject,
    })
}

fn refuse_push(shared: &Shared, name: &str, manifest: &Manifest) -> Option<Response> {
    let profile = &shared.profile.manifests;
    let names_type = raw_member(manifest.raw(), "artifactType");
    if profile.artifacts_refused && (manifest.subject().is_some() || names_type) {
        let refused = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Unsupported,
            "Invalid JSON syntax",
        );
        return Some(refused.into_response());
    }
    if let (
        Some(allowed),
        ManifestContent::Image {
            config: Some(config),
            ..
        },
    ) = (profile.config_types, manifest.content())
        && !allowed.contains(&config.media_type.as_str())
    {
        let message = format!("unknown media type: {}", config.media_type);
        let code = ErrorCode::ManifestInvalid;
        return Some(ApiError::new(StatusCode::BAD_REQUEST, code, message).into_response());
    }
    if let Some(code) = profile.subject_must_exist
        && let Some(subject) = manifest.subject()
        && let Ok(name) = name.parse()
        && shared.manifest(&name, &subject.digest).is_none()
    {
        let message = "the subject is not there";
        return Some(ApiError::new(StatusCode::NOT_FOUND, code, message).into_response());
    }
    None
}

fn raw_member(json: &Bytes, name: &str) -> bool {
    let document = serde_json::from_slice::<serde_json::Value>(json);
    document.is_ok_and(|document| document.get(name).is_some())
}

/// Changes the acknowledgement of the subject to that of the persona.
pub(crate) fn acknowledge(shared: &Shared, subject: Option<Digest>, response: &mut Response) {
    let headers = response.headers_mut();
    match shared.profile.manifests.subject {
        Subject::Honest => {}
        Subject::NeverAcknowledged => {
            headers.remove("oci-subject");
        }
        Subject::AlwaysAcknowledged => {
            if let Some(subject) = subject
                && response.status().is_success()
            {
                set(response, "oci-subject", &subject.to_string());
            }
        }
    }
}

/// Reports the remaining pulls, like Docker Hub.
pub(crate) fn tell_pull_limit(shared: &Shared, response: &mut Response) {
    const WINDOW: &str = ";w=21600";
    if let Some(default) = shared.profile.manifests.pull_limit {
        let limit = shared.pull_limit.unwrap_or(default);
        let left = shared.limiter.left(limit);
        set(response, "ratelimit-limit", &format!("{limit}{WINDOW}"));
        set(response, "ratelimit-remaining", &format!("{left}{WINDOW}"));
    }
}

/// Refuses one request too many in the words of the persona.
pub(crate) fn too_many_requests(shared: &Shared) -> Response {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let code = ErrorCode::TooManyRequests;
    let with_type = |content_type: &'static str, body: &'static str| {
        (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
    };
    let mut response = match shared.persona {
        Persona::HubNow | Persona::HubLiar => {
            let message = "You have reached your pull rate limit.";
            ApiError::new(status, code, message).into_response()
        }
        Persona::Ghcr | Persona::Ghcr303 => {
            let message = "retry-after: 1.16676ms, allowed: 44000/minute";
            ApiError::new(status, code, message).into_response()
        }
        Persona::Ecr => ApiError::new(status, code, "Rate exceeded").into_response(),
        Persona::Quay => with_type(
            "text/html",
            "<html><head><title>429 Too Many Requests</title></head></html>",
        ),
        Persona::EdgeProxy => with_type("text/plain", "Ref A: 0 Ref B: 0 Ref C: 0"),
        _ => {
            let refused = ApiError::new(status, code, "too many requests").into_response();
            ([(header::RETRY_AFTER, "1")], refused).into_response()
        }
    };
    tell_pull_limit(shared, &mut response);
    response
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Refuses a deletion in the words of the persona; `None` if it deletes.
pub(crate) fn refuse_delete(shared: &Shared, is_blob: bool) -> Option<Response> {
    match shared.profile.manifests.deletes {
        Deletes::All => None,
        Deletes::ManifestsOnly if !is_blob => None,
        Deletes::ManifestsOnly => {
            let body = r#"{"errors":[{"status":405,"message":"Method Not Allowed"}]}"#;
            Some((StatusCode::METHOD_NOT_ALLOWED, body).into_response())
        }
        Deletes::None => {
            let message = "the operation is unsupported";
            let code = ErrorCode::Unsupported;
            Some(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, code, message).into_response())
        }
    }
}

fn unknown(message: &str) -> Response {
    ApiError::new(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown, message).into_response()
}

pub(crate) fn path_only(path: &str) -> Uri {
    path.parse().unwrap_or_else(|_never| Uri::from_static("/"))
}
