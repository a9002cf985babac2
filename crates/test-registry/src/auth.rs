use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use registry_server::{ApiError, Endpoint, ErrorCode, Repository, Store as _};
use serde_json::json;

use crate::profile::{Auth, Challenge};
use crate::shared::Shared;
use crate::token::Access;

/// Asks for credentials that are sufficient for the request; `None` if it has them.
pub(crate) fn refuse(shared: &Shared, parts: &Parts) -> Option<Response> {
    match shared.profile.auth {
        Auth::None => None,
        Auth::Basic {
            realm,
            without_code,
        } => {
            let accounts = shared.tokens.accounts();
            let reads = [Method::GET, Method::HEAD].contains(&parts.method);
            let known = accounts.basic(&parts.headers) == Some(true);
            if known || accounts.are_open() || (accounts.anonymous_pull && reads) {
                return None;
            }
            let challenge = format!("Basic realm=\"{realm}\"");
            Some(if without_code {
                let body = json!({"errors": [{"status": 401, "message": "Bad credentials"}]});
                let content_type = "application/json;charset=ISO-8859-1";
                let headers = [(header::CONTENT_TYPE, content_type)];
                let refused = (StatusCode::UNAUTHORIZED, headers, body.to_string());
                with_challenge(refused.into_response(), &challenge)
            } else {
                unauthorized("authentication required", &challenge)
            })
        }
        Auth::Bearer {
            realm,
            foreign,
            challenge,
            ..
        } => {
            let host = if foreign {
                &shared.foreign_host
            } else {
                &shared.host
            };
            bearer(shared, parts, &format!("http://{host}{realm}"), challenge)
        }
    }
}

fn bearer(shared: &Shared, parts: &Parts, realm: &str, style: Challenge) -> Option<Response> {
    let endpoint = Endpoint::of(parts.uri.path())?;
    let (action, actions) = match parts.method {
        Method::GET | Method::HEAD => ("pull", "pull"),
        Method::DELETE => ("delete", "delete"),
        _ => ("push", "pull,push"),
    };
    let wanted = endpoint.repository().map(|name| (name, action));
    let mut access = shared.tokens.check(&parts.headers, wanted);
    if access == Access::Granted
        && style == Challenge::UnknownIsDenied
        && action == "pull"
        && let Some((name, _)) = wanted
        && !exists(shared, name)
    {
        access = Access::Insufficient;
    }
    if access == Access::Granted {
        return None;
    }
    let mut challenge = format!("Bearer realm=\"{realm}\",service=\"{}\"", shared.host);
    let has_no_route = matches!(endpoint, Endpoint::Referrers { .. });
    if style == Challenge::Placeholder && has_no_route {
        challenge.push_str(",scope=\"repository:user/image:pull\"");
    } else if let Some((name, _)) = wanted {
        let prefix = &shared.tokens.rules().scope_prefix;
        challenge.push_str(&format!(",scope=\"repository:{prefix}{name}:{actions}\""));
    }
    Some(match access {
        Access::Insufficient => {
            challenge.push_str(",error=\"insufficient_scope\"");
            let mut refused = unauthorized("the token does not reach so far", &challenge);
            if let Some(status) = shared.tokens.rules().insufficient {
                *refused.status_mut() = status;
            }
            refused
        }
        _ => unauthorized("authentication required", &challenge),
    })
}

fn exists(shared: &Shared, name: &str) -> bool {
    let repository = name.parse().map(Repository::new);
    repository.is_ok_and(|repository| shared.store.contains(&repository).unwrap_or(false))
}

fn unauthorized(message: &str, challenge: &str) -> Response {
    let refused = ApiError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message);
    with_challenge(refused.into_response(), challenge)
}

fn with_challenge(mut response: Response, challenge: &str) -> Response {
    if let Ok(challenge) = HeaderValue::from_str(challenge) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
