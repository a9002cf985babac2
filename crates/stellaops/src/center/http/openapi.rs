use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use oci_content::Digest;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, ContentBuilder, Info, License, ObjectBuilder, OpenApi, Ref, RefOr, Required,
    Response as Answer, ResponseBuilder, Type,
};
use utoipa::{Modify, OpenApi as _};

use super::access::Need;
use super::error::{ApiError, ErrorBody, ErrorCode};
use super::yaml::yaml;
use super::{download, events, health, matches, runs};

const TITLE: &str = "export-center";
const ABOUT: &str = "Runs the jobs of a mirror on schedule and on demand. The profiles and the document are those of \
    StellaOps' ExportCenter; the routes of runs are shaped after its drafts.";

#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        runs::profiles,
        runs::submit,
        runs::list,
        runs::read,
        runs::act,
        events::watch,
        download::bundle,
        download::manifest,
        download::report,
        health::live,
        health::ready,
        health::metrics,
        document,
    ),
    components(schemas(ErrorBody, ErrorCode)),
    modifiers(&Common),
    tags(
        (name = "profiles", description = "The jobs of the configuration"),
        (name = "runs", description = "Their runs"),
        (name = "files", description = "What runs have made"),
        (name = "service", description = "The service itself"),
    ),
)]
struct Document;

/// What holds for all routes.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut OpenApi) {
        let mut info = Info::new(TITLE, env!("CARGO_PKG_VERSION"));
        info.description = Some(ABOUT.to_owned());
        info.license = Some(License::new(env!("CARGO_PKG_LICENSE")));
        document.info = info;
        let components = document.components.get_or_insert_default();
        for (name, scheme) in [
            ("bearer", HttpAuthScheme::Bearer),
            ("basic", HttpAuthScheme::Basic),
        ] {
            let scheme = HttpBuilder::new().scheme(scheme).build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        for (path, item) in &mut document.paths.paths {
            let operations = [(Method::GET, &mut item.get), (Method::POST, &mut item.post)];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    complete(operation, &method, path);
                }
            }
        }
    }
}

/// Adds what the checks before a route's handler take and answer.
fn complete(operation: &mut Operation, method: &Method, path: &str) {
    let Need::Scope(scope) = Need::of(method, path) else {
        // An empty list: no token.
        operation.security = Some(Vec::new());
        return;
    };
    let needs = |scheme: &str| SecurityRequirement::new(scheme, [scope.as_str()]);
    let mut security = vec![needs("bearer")];
    if *method == Method::GET {
        security.push(needs("basic"));
    }
    operation.security = Some(security);
    let tenant = ParameterBuilder::new()
        .name("X-Stella-Tenant")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Where sent, the tenant of this service"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    operation.parameters.get_or_insert_default().push(tenant);
    let mut statuses = vec![
        ("400", "The request is not what the API takes"),
        ("401", "No token, or one that is not known"),
        (
            "403",
            "The token, the tenant or the origin does not permit this",
        ),
        ("429", "Too many requests of this kind at once"),
        (
            "503",
            "The state cannot be read or written, or the service is about to end",
        ),
        ("default", "Another error"),
    ];
    if path.contains('{') || *method == Method::POST {
        statuses.push(("404", "There is no such profile, run or file"));
    }
    if *method == Method::POST {
        statuses.push(("413", "The body is too large"));
        statuses.push(("415", "The body is not JSON"));
    }
    for (status, description) in statuses {
        let responses = &mut operation.responses.responses;
        responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(error(description)));
    }
}

fn error(description: &str) -> Answer {
    let schema = RefOr::Ref(Ref::from_schema_name("Error"));
    let content: Content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content)
        .build()
}

/// The document in both forms, with the tags of their content.
static FORMS: LazyLock<Result<[Form; 2], String>> = LazyLock::new(|| {
    let value = serde_json::to_value(Document::openapi()).map_err(|error| error.to_string())?;
    let form = |content_type, text: String| Form {
        content_type,
        tag: format!("\"{}\"", Digest::of(text.as_bytes())),
        text,
    };
    Ok([
        form("application/yaml", yaml(&value)),
        form("application/json", format!("{value:#}\n")),
    ])
});

struct Form {
    content_type: &'static str,
    tag: String,
    text: String,
}

/// Describes the API
///
/// As YAML, or as JSON where `Accept` prefers it.
#[utoipa::path(
    get, path = "/.well-known/openapi", operation_id = "describe", tag = "service",
    responses(
        (status = 200, content(
            (String = "application/yaml"),
            (Object = "application/json"),
        ), headers(
            ("ETag" = String, description = "`\"sha256:<hex>\"` of the document"),
            ("X-Export-Oas-Version" = String),
        )),
        (status = 304, description = "`If-None-Match` has its digest"),
    ),
)]
pub(crate) async fn document(headers: HeaderMap) -> Result<Response, ApiError> {
    let forms = FORMS.as_ref().map_err(|error| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        ApiError::new(status, ErrorCode::Internal, error.as_str())
    })?;
    let [in_yaml, in_json] = forms;
    let form = if prefers_json(&headers) {
        in_json
    } else {
        in_yaml
    };
    let mut response = Response::new(Body::empty());
    if matches(&headers, &form.tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(form.text.as_str());
        let content_type = HeaderValue::from_static(form.content_type);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&form.tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert("x-export-oas-version", HeaderValue::from_static("v1"));
    let caching = HeaderValue::from_static("private, must-revalidate");
    headers.insert(header::CACHE_CONTROL, caching);
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Reads `Accept`, of which the most specific entry counts: <https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1>.
fn prefers_json(headers: &HeaderMap) -> bool {
    const YAML: [&str; 4] = [
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
        "application/vnd.oai.openapi",
    ];
    const JSON: [&str; 2] = ["application/json", "application/vnd.oai.openapi+json"];
    let accept = headers.get_all(header::ACCEPT).iter();
    let text = accept
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>()
        .join(",");
    let weight = |names: &[&str]| {
        let weights = text.split(',').filter_map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let kind = parts.next()?.to_ascii_lowercase();
            let specific = match kind.as_str() {
                "*/*" => 0,
                "application/*" => 1,
                kind if names.contains(&kind) => 2,
                _ => return None,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            Some((specific, weight.unwrap_or(1.0)))
        });
        let most = weights.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        most.map_or(0.0, |(_, weight)| weight)
    };
    weight(&JSON) > weight(&YAML)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn yaml_is_answered_unless_json_is_preferred() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("application/json", true),
            ("application/json, */*;q=0.5", true),
            ("application/json;q=0.5, */*", false),
            ("application/yaml, application/json", false),
            ("application/yaml;q=0.9, application/json", true),
            ("text/html, */*;q=0.8", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(prefers_json(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn the_document_has_every_route_and_only_schemas_that_exist() {
        let [in_yaml, in_json] = FORMS.as_ref().unwrap();
        let document: Value = serde_json::from_str(&in_json.text).unwrap();
        let same: Value = serde_saphyr::from_str(&in_yaml.text).unwrap();
        assert_eq!(document, same);
        let paths = document["paths"].as_object().unwrap();
        let routes: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys();
                methods.map(move |method| format!("{method} {path}"))
            })
            .collect();
        let wanted = [
            "get /.well-known/openapi",
            "get /healthz",
            "get /metrics",
            "get /readyz",
            "get /v1/exports/profiles",
            "get /v1/exports/runs",
            "get /v1/exports/runs/{runId}",
            "get /v1/exports/runs/{runId}/download",
            "get /v1/exports/runs/{runId}/events",
            "get /v1/exports/runs/{runId}/manifest",
            "get /v1/exports/runs/{runId}/report",
            "post /v1/exports/runs",
            "post /v1/exports/runs/{runId}:cancel",
        ];
        assert_eq!(routes, BTreeSet::from(wanted.map(str::to_owned)));
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in in_json.text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        let download = &document["paths"]["/v1/exports/runs/{runId}/download"]["get"];
        assert_eq!(download["security"][0]["bearer"][0], "export:download");
        let start = &document["paths"]["/v1/exports/runs"]["post"];
        assert_eq!(start["security"].as_array().unwrap().len(), 1);
        assert!(start["responses"]["409"].is_object());
    }
}
