use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use oci_content::RepositoryName;
use registry_server::{
    ApiError, Endpoint, ErrorCode, MemoryStore, RegistryServer, Repository, Store as _,
};

use crate::connection::Connection;
use crate::fault::{Action, Faults};
use crate::persona::Persona;
use crate::profile::{Auth, Profile};
use crate::record::Recorder;
use crate::referrers::ReferrersApi;
use crate::tags;
use crate::token::{Access, Tokens};

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) persona: Persona,
    pub(crate) profile: Profile,
    pub(crate) open: bool,
    pub(crate) tag_index: bool,
    pub(crate) page_size: Option<usize>,
    pub(crate) latency: Duration,
    pub(crate) host: String,
    pub(crate) store: MemoryStore,
    pub(crate) server: RegistryServer,
    pub(crate) tokens: Tokens,
    pub(crate) faults: Faults,
    pub(crate) recorder: Recorder,
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

/// Record, fault, persona, fault: the way of every request.
async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let in_flight = shared.recorder.begin(&parts);
    if !shared.latency.is_zero() {
        tokio::time::sleep(shared.latency).await;
    }
    let due = shared.faults.due(&parts, shared.is_token(&parts));
    if let Some(due) = &due {
        if matches!(due.fault.action, Action::ExpireToken) {
            shared.tokens.expire_all();
        }
        if let Some(response) = due.answer().await {
            return in_flight.answered(response);
        }
    }
    let is_head = parts.method == Method::HEAD;
    let mut response = shared.answer(parts, body).await;
    if let Some(due) = due {
        response = due.change(response, is_head, &connection).await;
    }
    in_flight.answered(response)
}

impl Shared {
    fn is_token(&self, parts: &Parts) -> bool {
        let Auth::Bearer { realm, .. } = self.profile.auth;
        parts.uri.path() == realm
    }

    async fn answer(&self, parts: Parts, body: Body) -> Response {
        let Auth::Bearer { realm, style } = self.profile.auth;
        if parts.uri.path() == realm {
            let repositories = self.store.repositories();
            let exists = |name: &str| repositories.iter().any(|known| known.as_str() == name);
            return self.tokens.serve(&parts, body, style, exists).await;
        }
        if let Some(refused) = self.refuse(&parts) {
            return refused;
        }
        let reads = [Method::GET, Method::HEAD].contains(&parts.method);
        match Endpoint::of(parts.uri.path()) {
            Some(Endpoint::Referrers { .. }) if reads => {
                if let ReferrersApi::Absent(absent) = self.profile.referrers {
                    return absent.into_response();
                }
            }
            Some(Endpoint::Tags { repository }) if reads => {
                if let (Some(listing), Ok(name)) = (&self.profile.tags, repository.parse()) {
                    let tags = self.tags_of(name);
                    return tags::answer(self, listing, &parts, &repository, tags);
                }
            }
            _ => {}
        }
        self.server.respond(Request::from_parts(parts, body)).await
    }

    /// Returns the tags of a repository, or `None` where there is no repository.
    fn tags_of(&self, name: RepositoryName) -> Option<Vec<String>> {
        let repository = Repository::new(name);
        let exists = self.store.contains(&repository).unwrap_or(false);
        let tags = self.store.tags(&repository).unwrap_or_default();
        exists.then(|| tags.iter().map(ToString::to_string).collect())
    }

    /// Asks for a token that reaches as far as the request.
    fn refuse(&self, parts: &Parts) -> Option<Response> {
        if self.open {
            return None;
        }
        let Auth::Bearer { realm, .. } = self.profile.auth;
        let endpoint = Endpoint::of(parts.uri.path())?;
        let (action, actions) = match parts.method {
            Method::GET | Method::HEAD => ("pull", "pull"),
            Method::DELETE => ("delete", "delete"),
            _ => ("push", "pull,push"),
        };
        let wanted = endpoint.repository().map(|name| (name, action));
        let access = self.tokens.check(&parts.headers, wanted);
        if access == Access::Granted {
            return None;
        }
        let mut challenge = format!(
            "Bearer realm=\"http://{host}{realm}\",service=\"{host}\"",
            host = self.host
        );
        if let Some((name, _)) = wanted {
            challenge.push_str(&format!(",scope=\"repository:{name}:{actions}\""));
        }
        let message = match access {
            Access::Insufficient => {
                challenge.push_str(",error=\"insufficient_scope\"");
                "the token does not reach so far"
            }
            _ => "authentication required",
        };
        let refused = ApiError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message);
        let mut response = refused.into_response();
        let headers = response.headers_mut();
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        headers.insert(
            "docker-distribution-api-version",
            HeaderValue::from_static("registry/2.0"),
        );
        Some(response)
    }
}
