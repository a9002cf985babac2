#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use oci_content::{Descriptor, Digest, media_type};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use test_registry::TestRegistry;

/// A client without any manners of its own: it follows nothing and retries nothing.
pub(crate) fn client() -> Client {
    Client::builder()
        // No TLS here, and reading the machine's roots for each client takes longer than a test.
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// An answer that has been read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    /// Returns a header, or nothing of it.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns the first code of an error envelope.
    pub(crate) fn code(&self) -> String {
        let code = &self.json()["errors"][0]["code"];
        code.as_str().unwrap_or_default().to_owned()
    }

    /// Returns the digests that an index lists.
    pub(crate) fn digests(&self) -> Vec<String> {
        let body = self.json();
        let entries = body["manifests"].as_array().cloned().unwrap_or_default();
        let digest = |entry: &Value| entry["digest"].as_str().unwrap().to_owned();
        entries.iter().map(digest).collect()
    }

    pub(crate) fn tags(&self) -> Vec<String> {
        serde_json::from_value(self.json()["tags"].clone()).unwrap()
    }

    /// Returns the target of `Link`, and whatever parameters follow it.
    pub(crate) fn link(&self) -> Option<(String, String)> {
        let link = self.headers.get("link")?.to_str().unwrap();
        let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
        Some((target.to_owned(), parameters.to_owned()))
    }
}

/// Describes a request with a token that may do everything in `repository`.
pub(crate) fn request(
    registry: &TestRegistry,
    method: Method,
    repository: &str,
    path: &str,
) -> RequestBuilder {
    let scope = format!("repository:{repository}:pull,push,delete");
    let token = registry.issue_token(&[&scope]);
    let url = if path.starts_with('/') {
        registry.url(path)
    } else {
        registry.url(&format!("/v2/{repository}/{path}"))
    };
    client()
        .request(method, url)
        .header("accept", media_type::ACCEPT_MANIFEST)
        .bearer_auth(token)
}

pub(crate) async fn get(registry: &TestRegistry, repository: &str, path: &str) -> Answer {
    Answer::of(request(registry, Method::GET, repository, path)).await
}

pub(crate) async fn referrers(
    registry: &TestRegistry,
    repository: &str,
    subject: &Digest,
) -> Answer {
    get(registry, repository, &format!("referrers/{subject}")).await
}

/// Asks without credentials.
pub(crate) async fn anonymous(registry: &TestRegistry, path: &str) -> Answer {
    Answer::of(client().get(registry.url(path))).await
}

/// Pushes a manifest with a subject and an empty config, whose blobs are there.
pub(crate) async fn push_referrer(
    registry: &TestRegistry,
    repository: &str,
    subject: &Descriptor,
    config_type: &str,
) -> Answer {
    let config = registry.put_blob(repository, "{}");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_MANIFEST,
        "artifactType": "application/vnd.example",
        "config": {"mediaType": config_type, "digest": config.digest, "size": 2},
        "layers": [],
        "subject": subject,
    })
    .to_string();
    let path = format!("manifests/{}", Digest::of(manifest.as_bytes()));
    let request = request(registry, Method::PUT, repository, &path)
        .header("content-type", media_type::IMAGE_MANIFEST)
        .body(manifest);
    Answer::of(request).await
}

/// A subject that no repository has.
pub(crate) fn unknown_subject() -> Descriptor {
    Descriptor::of(media_type::IMAGE_MANIFEST, b"nowhere")
}
