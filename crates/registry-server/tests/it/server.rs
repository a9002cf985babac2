#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use std::sync::Arc;

use oci_content::{Descriptor, Digest, ImageLayout, media_type};
use registry_server::{
    LayoutStore, MemoryStore, RegistryServer, RegistryServerBuilder, RunningServer, Store,
};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A registry that is served, and a client for it.
pub(crate) struct Server {
    running: RunningServer,
    client: Client,
    /// Where the layout is, if the store is one.
    pub(crate) folder: Option<TempDir>,
}

/// An answer that has been read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the status, and the first code of the error envelope.
    pub(crate) fn error(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/json");
        let code = self.json()["errors"][0]["code"].clone();
        (self.status, code.as_str().unwrap().to_owned())
    }

    /// Returns the target of the next link.
    pub(crate) fn next(&self) -> Option<String> {
        let link = self.headers.get("link")?.to_str().unwrap();
        let target = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
        Some(target.to_owned())
    }
}

/// Serves an empty store in memory.
pub(crate) async fn memory(
    configure: impl FnOnce(RegistryServerBuilder) -> RegistryServerBuilder,
) -> Server {
    serve(Arc::new(MemoryStore::new()), None, configure).await
}

/// Serves an empty layout whose pushes get the host `mirror.example`.
pub(crate) async fn folder(
    configure: impl FnOnce(RegistryServerBuilder) -> RegistryServerBuilder,
) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::create(folder.path().join("store")).unwrap();
    let store = LayoutStore::new(layout, Some("mirror.example".parse().unwrap()));
    serve(Arc::new(store), Some(folder), configure).await
}

/// Serves an empty store of each kind.
pub(crate) async fn each() -> [Server; 2] {
    [
        memory(|builder| builder).await,
        folder(|builder| builder).await,
    ]
}

pub(crate) async fn serve(
    store: Arc<dyn Store>,
    folder: Option<TempDir>,
    configure: impl FnOnce(RegistryServerBuilder) -> RegistryServerBuilder,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = configure(RegistryServer::builder(store)).build();
    let client = Client::builder()
        // No TLS here, and reading the machine's roots for each client takes longer than a test.
        .tls_certs_only([])
        .build()
        .unwrap();
    Server {
        running: server.serve(listener).unwrap(),
        client,
        folder,
    }
}

impl Server {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.running.addr());
        self.client.request(method, url)
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.send(self.request(Method::HEAD, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Pushes a blob with one request.
    pub(crate) async fn push_blob(&self, repository: &str, bytes: &str) -> Descriptor {
        let blob = Descriptor::of("application/octet-stream", bytes.as_bytes());
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
        let pushed = self
            .send(self.request(Method::POST, &path).body(bytes.to_owned()))
            .await;
        assert_eq!(pushed.status, 201);
        blob
    }

    pub(crate) async fn put(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        body: &str,
    ) -> Answer {
        let request = self.put_request(repository, reference, media_type, body);
        self.send(request).await
    }

    pub(crate) fn put_request(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        body: &str,
    ) -> RequestBuilder {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.request(Method::PUT, &path)
            .header("content-type", media_type)
            .body(body.to_owned())
    }

    /// Pushes an image whose config is `config`, under a tag.
    pub(crate) async fn push_image(
        &self,
        repository: &str,
        tag: &str,
        config: &'static str,
    ) -> Descriptor {
        let config = self.push_blob(repository, config).await;
        let document = image(&config, json!({}));
        let pushed = self
            .put(repository, tag, media_type::IMAGE_MANIFEST, &document)
            .await;
        assert_eq!(pushed.status, 201);
        Descriptor::of(media_type::IMAGE_MANIFEST, document.as_bytes())
    }

    /// Pushes a referrer by digest; what comes back is what a list shall say of it.
    pub(crate) async fn push_referrer(
        &self,
        repository: &str,
        subject: &Descriptor,
        artifact_type: &str,
        note: &str,
    ) -> Descriptor {
        let config = self.push_blob(repository, "{}").await;
        let members = json!({
            "subject": subject,
            "artifactType": artifact_type,
            "annotations": {"note": note},
        });
        let document = image(&config, members);
        let mut descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, document.as_bytes());
        let digest = descriptor.digest.to_string();
        let pushed = self
            .put(repository, &digest, media_type::IMAGE_MANIFEST, &document)
            .await;
        let acknowledged = (pushed.status, pushed.header("oci-subject"));
        assert_eq!(acknowledged, (201, subject.digest.to_string().as_str()));
        descriptor.artifact_type = Some(artifact_type.to_owned());
        descriptor.annotations.insert("note".into(), note.into());
        descriptor
    }
}

/// Writes an image manifest with this config, no layers, and further members.
pub(crate) fn image(config: &Descriptor, members: Value) -> String {
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_MANIFEST,
        "config": {
            "mediaType": media_type::IMAGE_CONFIG,
            "digest": config.digest,
            "size": config.size,
        },
        "layers": [],
    });
    for (name, value) in members.as_object().unwrap() {
        document[name] = value.clone();
    }
    document.to_string()
}

/// The digest of something that no store has.
pub(crate) fn nowhere() -> Digest {
    Digest::of(b"nowhere")
}
