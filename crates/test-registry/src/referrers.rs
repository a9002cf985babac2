use std::sync::PoisonError;
use std::time::Instant;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use oci_content::{
    Descriptor, Digest, Manifest, ManifestContent, RepositoryName, media_type, referrers_tag,
};
use registry_server::{ApiError, ErrorCode, Repository, Store as _};
use serde_json::json;
use url::form_urlencoded;

use crate::behaviour::{
    Absent, ArtifactTypes, BadSubject, Filter, Native, Pages, ReferrersApi, UnknownRepository,
    UnknownSubject,
};
use crate::list_cache::CachedList;
use crate::shared::Shared;

impl IntoResponse for Absent {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(self.content_type),
        );
        response
    }
}

/// Answers requests for the referrers API; `None` if the specification is followed.
pub(crate) fn answer(
    shared: &Shared,
    parts: &Parts,
    name: &str,
    subject: &str,
) -> Option<Response> {
    match &shared.profile.referrers {
        ReferrersApi::Specified => None,
        ReferrersApi::Absent(absent) => Some(absent.into_response()),
        ReferrersApi::Forbidden => {
            let message = "unauthorized to access the referrers";
            let refused = ApiError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message);
            Some(refused.into_response())
        }
        ReferrersApi::ToPackagePage => {
            // The digest is cut off, as in the observed redirects.
            let algorithm = subject.split(':').next().unwrap_or_default();
            let name = name.replace('/', "%2F");
            let path = format!("/-/v2/packages/container/package/{name}%2Freferrers%2F{algorithm}");
            Some(redirect(shared, StatusCode::SEE_OTHER, &path))
        }
        ReferrersApi::ToLoginPage => {
            Some(redirect(shared, StatusCode::FOUND, "/v3/signin/identifier"))
        }
        ReferrersApi::Native(native) => {
            let name = name.parse().ok()?;
            Some(list(shared, native, parts, &Repository::new(name), subject))
        }
    }
}

pub(crate) fn redirect(shared: &Shared, status: StatusCode, path: &str) -> Response {
    let mut response = status.into_response();
    let host = &shared.foreign_host;
    if let Ok(location) = HeaderValue::from_str(&format!("http://{host}{path}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn list(
    shared: &Shared,
    native: &Native,
    parts: &Parts,
    repository: &Repository,
    subject: &str,
) -> Response {
    let Ok(subject) = subject.parse::<Digest>() else {
        return match native.bad_subject {
            BadSubject::Invalid => bad(ErrorCode::DigestInvalid, "invalid digest"),
            BadSubject::InvalidEmpty => StatusCode::BAD_REQUEST.into_response(),
            BadSubject::Unsupported => bad(ErrorCode::Unsupported, "invalid digest"),
            BadSubject::Empty => index(native, &[]),
        };
    };
    if !shared.store.contains(repository).unwrap_or(false) {
        match native.unknown_repository {
            UnknownRepository::Empty => {}
            UnknownRepository::NameUnknown => {
                return missing(ErrorCode::NameUnknown, "repository name not known");
            }
            UnknownRepository::ProjectNotFound => {
                let body = json!({"errors": [{
                    "code": "NOT_FOUND",
                    "message": format!("project {} not found", repository.name()),
                }]});
                return (StatusCode::NOT_FOUND, body.to_string()).into_response();
            }
        }
    }
    let is_known = shared.manifest(repository.name(), &subject).is_some();
    if !is_known {
        match native.unknown_subject {
            UnknownSubject::Empty => {}
            UnknownSubject::EmptyObject => {
                let mut response = "{}".into_response();
                set(&mut response, header::CONTENT_TYPE, native.content_type);
                return response;
            }
            UnknownSubject::ManifestInvalid => {
                return bad(ErrorCode::ManifestInvalid, "the subject is not there");
            }
            UnknownSubject::ManifestUnknown => {
                return missing(ErrorCode::ManifestUnknown, "manifest unknown");
            }
        }
    }
    if native.fails_on_missing
        && shared
            .lost()
            .iter()
            .any(|(from, _)| from == repository.name())
    {
        return match native.unknown_subject {
            UnknownSubject::EmptyObject => {
                missing(ErrorCode::ManifestUnknown, "artifact not found")
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        };
    }

    let all = entries(shared, native, repository.name(), &subject);
    let total = all.len();
    let query = parts.uri.query().unwrap_or_default();
    let query: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let wanted: Vec<_> = query
        .iter()
        .filter(|(key, _)| key == "artifactType")
        .map(|(_, value)| value.as_ref())
        .collect();
    let is_filtered = wanted.iter().any(|wanted| !wanted.is_empty());
    let mut entries = all;
    if is_filtered && native.filter != Filter::Ignored {
        entries.retain(|entry| {
            let own = entry.artifact_type.as_deref();
            own.is_some_and(|own| wanted.contains(&own))
        });
    }
    let field = |name: &str| {
        let found = query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_ref())
    };
    let (page, link, was_cached) = match native.pages {
        Pages::One => (entries, None, false),
        Pages::Bytes => walk(
            shared,
            parts,
            entries,
            field("cache"),
            field("page"),
            &wanted,
        ),
        Pages::Opaque(size) => {
            let host = shared.host.clone();
            let (page, link) = opaque(shared, parts, entries, size, field("nextToken"), &host);
            (page, link, false)
        }
        Pages::Upstream(size) => {
            let host = &shared.foreign_host;
            let (page, link) = opaque(shared, parts, entries, size, field("nextToken"), host);
            (page, link, false)
        }
    };
    let mut response = index(native, &page);
    let admits = match native.filter {
        Filter::Applied => is_filtered,
        Filter::AdmittedOnce => is_filtered && !was_cached,
        Filter::AdmittedWhenEmpty => !wanted.is_empty(),
        Filter::Ignored => false,
    };
    if admits {
        response.headers_mut().insert(
            "oci-filters-applied",
            HeaderValue::from_static("artifactType"),
        );
    }
    if native.total_count {
        response.headers_mut().insert("x-total-count", total.into());
    }
    if let Some(link) = link {
        set(&mut response, header::LINK, &link);
    }
    // The routes of go-containerregistry have this path only for GET.
    if matches!(native.bad_subject, BadSubject::Unsupported) && parts.method == Method::HEAD {
        return StatusCode::BAD_REQUEST.into_response();
    }
    response
}

/// Returns the whole list of the persona, from its cache if it has one.
fn entries(
    shared: &Shared,
    native: &Native,
    name: &RepositoryName,
    subject: &Digest,
) -> Vec<Descriptor> {
    let key = (name.to_string(), subject.clone());
    let ttl = native.cache.map(|ttl| shared.cache_ttl.unwrap_or(ttl));
    let lock = || {
        shared
            .lists
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    if let Some(ttl) = ttl
        && let Some(cached) = lock().get(&key)
        && cached.since.elapsed() < ttl
    {
        return cached.entries.clone();
    }
    let repository = Repository::new(name.clone());
    let mut entries = shared
        .store
        .referrers(&repository, subject)
        .unwrap_or_default();
    for entry in &mut entries {
        degrade(shared, native, name, entry);
    }
    if native.merges_tag {
        let tag = shared.store.resolve(&repository, &referrers_tag(subject));
        let tagged = tag
            .ok()
            .flatten()
            .and_then(|digest| shared.manifest(name, &digest));
        let tagged = tagged.and_then(|tagged| Manifest::parse(tagged, None).ok());
        for entry in tagged.iter().flat_map(Manifest::entries) {
            if entries.iter().all(|known| known.digest != entry.digest) {
                entries.push(entry.clone());
            }
        }
    }
    if native.scrambled {
        entries.sort_by_key(|entry| Digest::of(entry.digest.encoded().as_bytes()))
    } else {
        entries.sort_by(|a, b| a.digest.cmp(&b.digest))
    }
    if ttl.is_some() {
        let cached = CachedList {
            since: Instant::now(),
            entries: entries.clone(),
        };
        lock().insert(key, cached);
    }
    entries
}

/// Changes a correct descriptor to that of the persona.
fn degrade(shared: &Shared, native: &Native, name: &RepositoryName, entry: &mut Descriptor) {
    if !native.annotations {
        entry.annotations.clear();
    }
    let manifest = shared.manifest(name, &entry.digest);
    let Some(manifest) = manifest.and_then(|bytes| Manifest::parse(bytes, None).ok()) else {
        return;
    };
    let config_type = match manifest.content() {
        ManifestContent::Image { config, .. } => {
            config.as_ref().map(|config| config.media_type.clone())
        }
        _ => None,
    };
    match native.artifact_types {
        ArtifactTypes::Right => {}
        ArtifactTypes::OfConfig => entry.artifact_type = config_type,
        ArtifactTypes::OwnOnly if entry.artifact_type == config_type => entry.artifact_type = None,
        ArtifactTypes::OwnOnly => {}
    }
    if native.artifact_sizes {
        entry.size += manifest.blobs().map(|blob| blob.size).sum::<u64>();
    }
}

/// Answers with a page like olareg: pages are cut once by bytes, kept by the digest of the whole
/// list, and requested by number.
fn walk(
    shared: &Shared,
    parts: &Parts,
    entries: Vec<Descriptor>,
    cache: Option<&str>,
    page: Option<&str>,
    wanted: &[&str],
) -> (Vec<Descriptor>, Option<String>, bool) {
    let id = Digest::of(json!([entries, wanted]).to_string().as_bytes()).to_string();
    let mut walks = shared
        .lists
        .walks
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let was_cached = walks.contains_key(&id);
    let pages = walks
        .entry(id.clone())
        .or_insert_with(|| cut(shared, entries));
    // A list that has changed starts again from its beginning, with entries that were seen already.
    let at = match cache {
        Some(cache) if cache == id => page.and_then(|page| page.parse().ok()).unwrap_or(0),
        _ => 0,
    };
    let entries = pages.get(at).cloned().unwrap_or_default();
    let link = (at + 1 < pages.len()).then(|| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(wanted.iter().map(|wanted| ("artifactType", *wanted)));
        query.append_pair("cache", &id);
        query.append_pair("page", &(at + 1).to_string());
        format!("<{}?{}>; rel=next", parts.uri.path(), query.finish())
    });
    (entries, link, was_cached)
}

fn cut(shared: &Shared, entries: Vec<Descriptor>) -> Vec<Vec<Descriptor>> {
    let limit = shared.page_bytes.unwrap_or(oci_content::MAX_MANIFEST_BYTES);
    let most = shared.page_size.unwrap_or(usize::MAX);
    let mut pages = vec![Vec::new()];
    let mut used = 0;
    for entry in entries {
        let size = json!(entry).to_string().len() as u64;
        if size > limit {
            continue;
        }
        let full = pages.last().is_some_and(|page| page.len() >= most);
        if used + size > limit || full {
            pages.push(Vec::new());
            used = 0;
        }
        used += size;
        if let Some(page) = pages.last_mut() {
            page.push(entry);
        }
    }
    pages
}

fn opaque(
    shared: &Shared,
    parts: &Parts,
    entries: Vec<Descriptor>,
    size: usize,
    token: Option<&str>,
    host: &str,
) -> (Vec<Descriptor>, Option<String>) {
    let last = token.and_then(|token| URL_SAFE_NO_PAD.decode(token).ok());
    let last = last.and_then(|last| String::from_utf8(last).ok());
    let start = match last {
        Some(last) => entries.partition_point(|entry| entry.digest.to_string() <= last),
        None => 0,
    };
    let end = entries.len().min(start + shared.page_size.unwrap_or(size));
    let page = entries[start..end].to_vec();
    let link = page.last().filter(|_| end < entries.len()).map(|last| {
        let query = parts.uri.query().unwrap_or_default();
        let mut next = form_urlencoded::Serializer::new(String::new());
        let kept = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != "nextToken");
        next.extend_pairs(kept);
        let token = URL_SAFE_NO_PAD.encode(last.digest.to_string());
        next.append_pair("nextToken", &token);
        let path = parts.uri.path();
        format!("<http://{host}{path}?{}>; rel=\"next\"", next.finish())
    });
    (page, link)
}

fn index(native: &Native, entries: &[Descriptor]) -> Response {
    let body = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_INDEX,
        "manifests": entries,
    });
    let mut response = body.to_string().into_response();
    set(&mut response, header::CONTENT_TYPE, native.content_type);
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn bad(code: ErrorCode, message: &str) -> Response {
    ApiError::new(StatusCode::BAD_REQUEST, code, message).into_response()
}

fn missing(code: ErrorCode, message: &str) -> Response {
    ApiError::new(StatusCode::NOT_FOUND, code, message).into_response()
}
