use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use oci_content::{Digest, RepositoryName, Tag};
use registry_server::{ApiError, Endpoint, ErrorCode, Repository, Store as _};

use crate::connection::Connection;
use crate::fault::Action;
use crate::manifests::{self, Reading};
use crate::persona::{Persona, Variant};
use crate::plan::Due;
use crate::profile::Auth;
use crate::route::{Asked, Host};
use crate::shared::Shared;
use crate::{apply, auth, referrers, tags};

pub(crate) fn router(shared: Arc<Shared>, host: Host) -> Router {
    Router::new().fallback(handle).with_state((shared, host))
}

/// Handles a request: record, fault, persona, fault.
async fn handle(
    State((shared, host)): State<(Arc<Shared>, Host)>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let recorder = match host {
        Host::Own => &shared.recorder,
        Host::Foreign => &shared.foreign_recorder,
    };
    let in_flight = recorder.begin(&parts);
    if !shared.latency.is_zero() {
        tokio::time::sleep(shared.latency).await;
    }
    let asked = Asked {
        host,
        is_token: shared.is_token(&parts, host),
        is_anonymous: shared.tokens.is_anonymous(&parts.headers),
    };
    let due = shared.faults.due(&parts, asked);
    let is_head = parts.method == Method::HEAD;
    if let Some(due) = &due
        && let Some(response) = shared.fail(due, &parts).await
    {
        return in_flight.answered(due.finish(response, is_head));
    }
    if due.as_ref().is_some_and(|due| due.fault.whole) {
        parts.headers.remove(header::RANGE);
    }
    if too_large(&parts, shared.max_body_bytes) {
        return in_flight.answered(apply::refuse_body(body).await);
    }
    let body = match &due {
        Some(due) => due.cut_request(body, &connection),
        None => body,
    };
    let mut response = match host {
        Host::Own => {
            let open = shared.open || due.as_ref().is_some_and(|due| due.fault.open);
            shared.answer(parts, body, open).await
        }
        Host::Foreign => shared.answer_elsewhere(parts, body).await,
    };
    if let Some(due) = due {
        response = due.change(response, is_head, &connection).await;
    }
    in_flight.answered(response)
}

fn too_large(parts: &Parts, max_bytes: Option<u64>) -> bool {
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length
        .zip(max_bytes)
        .is_some_and(|(length, max)| length > max)
}

impl Shared {
    /// Applies the parts of a fault that precede or replace the answer of the registry.
    async fn fail(&self, due: &Due, parts: &Parts) -> Option<Response> {
        if !due.fault.wait.is_zero() {
            tokio::time::sleep(due.fault.wait).await;
        }
        match due.fault.action {
            Action::ExpireToken => {
                self.tokens.expire_all();
                None
            }
            Action::RateLimited => Some(manifests::too_many_requests(self)),
            Action::RedirectElsewhere { status } => {
                let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
                Some(referrers::redirect(self, status, path))
            }
            _ => due.answer().await,
        }
    }

    fn is_token(&self, parts: &Parts, host: Host) -> bool {
        match self.profile.auth {
            Auth::Bearer { realm, foreign, .. } => {
                parts.uri.path() == realm && foreign == (host == Host::Foreign)
            }
            _ => false,
        }
    }

    async fn serve_token(&self, parts: &Parts, body: Body) -> Response {
        let Auth::Bearer { style, .. } = self.profile.auth else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let repositories = self.store.repositories();
        let exists = |name: &str| repositories.iter().any(|known| known.as_str() == name);
        self.tokens.serve(parts, body, style, exists).await
    }

    async fn answer(&self, parts: Parts, body: Body, open: bool) -> Response {
        if self.is_token(&parts, Host::Own) {
            return self.serve_token(&parts, body).await;
        }
        let endpoint = Endpoint::of(parts.uri.path());
        let reads = [Method::GET, Method::HEAD].contains(&parts.method);
        let of_manifest = matches!(endpoint, Some(Endpoint::Ping | Endpoint::Manifest { .. }));
        let mut response = self.persona(endpoint, parts, body, open).await;
        if reads && of_manifest {
            manifests::tell_pull_limit(self, &mut response);
        }
        let headers = response.headers_mut();
        if self.profile.manifests.no_entity_tags {
            headers.remove(header::ETAG);
        }
        let version = ("docker-distribution-api-version", "registry/2.0");
        for (name, value) in self.profile.headers.iter().chain([&version]) {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        response
    }

    /// Answers like the persona, and lets the server answer where the persona follows the
    /// specification.
    async fn persona(
        &self,
        endpoint: Option<Endpoint>,
        parts: Parts,
        body: Body,
        open: bool,
    ) -> Response {
        let reads = [Method::GET, Method::HEAD].contains(&parts.method);
        if reads
            && self.profile.referrers.precedes_auth()
            && let Some(Endpoint::Referrers {
                repository, digest, ..
            }) = &endpoint
            && let Some(response) = referrers::answer(self, &parts, repository, digest)
        {
            return response;
        }
        if !open && let Some(refused) = auth::refuse(self, &parts) {
            return refused;
        }
        self.content(endpoint, parts, body).await
    }

    /// Answers an admitted request.
    async fn content(&self, endpoint: Option<Endpoint>, parts: Parts, body: Body) -> Response {
        let unseen = match &endpoint {
            Some(Endpoint::Referrers {
                repository, digest, ..
            }) if parts.method == Method::GET => self.late.read_referrers(repository, digest),
            Some(Endpoint::Tags { repository, .. }) if parts.method == Method::GET => {
                self.late.unseen_tags(repository)
            }
            _ => Vec::new(),
        };
        let response = self.punctual_content(endpoint, parts, body).await;
        if unseen.is_empty() {
            response
        } else {
            apply::omit(response, &unseen).await
        }
    }

    async fn punctual_content(
        &self,
        endpoint: Option<Endpoint>,
        parts: Parts,
        body: Body,
    ) -> Response {
        let method = parts.method.clone();
        let reads = [Method::GET, Method::HEAD].contains(&method);
        match endpoint {
            Some(Endpoint::Referrers {
                repository, digest, ..
            }) if reads => {
                if let Some(response) = referrers::answer(self, &parts, &repository, &digest) {
                    return response;
                }
            }
            Some(Endpoint::Ping) if reads => {
                if let Some(ping) = self.profile.ping {
                    return ping.into_response();
                }
            }
            Some(Endpoint::Tags { repository, .. }) if reads => {
                if let (Some(listing), Ok(name)) = (&self.profile.tags, repository.parse()) {
                    let tags = self.tags_of(name);
                    return tags::answer(self, listing, &parts, &repository, tags);
                }
            }
            Some(Endpoint::Blob { .. }) if reads && self.profile.manifests.redirected => {
                let path = parts.uri.path();
                return referrers::redirect(self, StatusCode::TEMPORARY_REDIRECT, path);
            }
            Some(Endpoint::Blob { .. }) if method == Method::DELETE => {
                if let Some(refused) = manifests::refuse_delete(self, true) {
                    return refused;
                }
            }
            Some(Endpoint::Manifest {
                repository,
                reference,
                ..
            }) => {
                return self
                    .manifest_request(parts, body, &repository, &reference)
                    .await;
            }
            Some(Endpoint::Uploads { .. } | Endpoint::Upload { .. }) => {
                return self.upload_request(parts, body).await;
            }
            _ => {}
        }
        self.server.respond(Request::from_parts(parts, body)).await
    }

    async fn manifest_request(
        &self,
        mut parts: Parts,
        body: Body,
        name: &str,
        reference: &str,
    ) -> Response {
        match parts.method {
            Method::GET | Method::HEAD => match manifests::read(self, &parts, name, reference) {
                Reading::Answer(response) => return response,
                Reading::Server { as_reference } => {
                    if let Some(reference) = as_reference {
                        let path = format!("/v2/{name}/manifests/{reference}");
                        parts.uri = manifests::path_only(&path);
                    }
                }
            },
            Method::PUT if !self.profile.read_only => {
                let push = match manifests::write(self, parts, body, name, reference).await {
                    Ok(push) => push,
                    Err(refused) => return refused,
                };
                let before = manifests::resolve(self, name, reference);
                let mut response = self.server.respond(push.request).await;
                if response.status().is_success() {
                    self.delay_push(name, reference, before, push.subject.as_ref(), &response);
                }
                manifests::acknowledge(self, push.subject, &mut response);
                self.make_absolute(&mut response, None);
                return response;
            }
            Method::DELETE => {
                if let Some(refused) = manifests::refuse_delete(self, false) {
                    return refused;
                }
            }
            _ => {}
        }
        self.server.respond(Request::from_parts(parts, body)).await
    }

    /// Restores what was lost if it is pushed again, and hides pushed content for as long as the test
    /// demands.
    fn delay_push(
        &self,
        name: &str,
        reference: &str,
        before: Option<Digest>,
        subject: Option<&Digest>,
        response: &Response,
    ) {
        if reference.parse::<Tag>().is_ok() {
            self.late.push_tag(name, reference, before);
        }
        let digest = response.headers().get("docker-content-digest");
        let digest: Option<Digest> = digest.and_then(|digest| digest.to_str().ok()?.parse().ok());
        if let (Ok(name), Some(digest)) = (name.parse(), &digest) {
            self.lost().remove(&(name, digest.clone()));
        }
        if let (Some(subject), Some(digest)) = (subject, digest) {
            self.late.push_referrer(name, subject.clone(), digest);
        }
    }

    async fn upload_request(&self, parts: Parts, body: Body) -> Response {
        const STATE: &str = "_state=c3RhdGU";
        let query = parts.uri.query().unwrap_or_default();
        let begins = parts.method == Method::POST;
        if self.profile.absolute_locations
            && !begins
            && !query.split('&').any(|field| field == STATE)
        {
            let message = "the upload's state did not come back";
            let code = ErrorCode::BlobUploadInvalid;
            return ApiError::new(StatusCode::BAD_REQUEST, code, message).into_response();
        }
        let mut response = self.server.respond(Request::from_parts(parts, body)).await;
        // 201 names a blob, other statuses name the session.
        let is_session = response.status() != StatusCode::CREATED;
        self.make_absolute(&mut response, is_session.then_some(STATE));
        response
    }

    fn make_absolute(&self, response: &mut Response, state: Option<&str>) {
        if !self.profile.absolute_locations {
            return;
        }
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        if let Some(path) = location.filter(|location| location.starts_with('/')) {
            let state = state.map_or_else(String::new, |state| format!("?{state}"));
            let location = format!("http://{}{path}{state}", self.host);
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
        }
    }

    /// Returns the tags of a repository, or `None` if it does not exist.
    fn tags_of(&self, name: RepositoryName) -> Option<Vec<String>> {
        let repository = Repository::new(name);
        let exists = self.store.contains(&repository).unwrap_or(false);
        let tags = self.store.tags(&repository).unwrap_or_default();
        exists.then(|| tags.iter().map(ToString::to_string).collect())
    }

    /// Answers on the second host: as a token service, as a page that a persona redirects to, or
    /// with the content, as a storage behind signed addresses or the upstream of a proxy.
    async fn answer_elsewhere(&self, parts: Parts, body: Body) -> Response {
        if self.is_token(&parts, Host::Foreign) {
            return self.serve_token(&parts, body).await;
        }
        if let Some(endpoint) = Endpoint::of(parts.uri.path()) {
            let reads = [Method::GET, Method::HEAD].contains(&parts.method);
            // A proxy would redirect clients of its upstream to the upstream.
            let is_upstream = self.profile.manifests.redirected;
            return match (reads, is_upstream) {
                (false, _) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
                (true, true) => self.server.respond(Request::from_parts(parts, body)).await,
                (true, false) => self.content(Some(endpoint), parts, body).await,
            };
        }
        let page = |status: StatusCode, content_type: &'static str, body: &'static str| {
            (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
        };
        const HTML: &str = "text/html; charset=utf-8";
        match (self.persona, self.variant) {
            (Persona::Ghcr303, Some(Variant::Ghcr303TooManyRequests)) => page(
                StatusCode::TOO_MANY_REQUESTS,
                "text/plain",
                "Too many requests\n",
            ),
            (Persona::Ghcr303, Some(Variant::Ghcr303Html)) => {
                page(StatusCode::OK, HTML, "<!doctype html><title>GitHub</title>")
            }
            (Persona::Html200, _) => page(
                StatusCode::OK,
                HTML,
                "<!doctype html><title>Sign in</title>",
            ),
            _ => page(
                StatusCode::NOT_FOUND,
                "text/plain; charset=utf-8",
                "Not Found",
            ),
        }
    }
}
