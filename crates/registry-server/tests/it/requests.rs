#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use std::sync::{Arc, Mutex};

use registry_server::{AnsweredRequest, ServerObserver};
use reqwest::Method;

use crate::server::{memory, nowhere};

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl ServerObserver for Notes {
    fn answered(&self, request: &AnsweredRequest<'_>) {
        let AnsweredRequest {
            method,
            path,
            status,
            bytes,
            user,
            ..
        } = request;
        let status = status.map(|status| status.as_u16());
        let note = format!("{method} {path} {status:?} {bytes} {user:?}");
        self.0.lock().unwrap().push(note);
    }
}

#[tokio::test]
async fn each_request_is_told_of_once_with_the_bytes_of_its_answer() {
    let notes = Arc::new(Notes::default());
    let observer: Arc<dyn ServerObserver> = Arc::<Notes>::clone(&notes);
    let server = memory(|builder| builder.observer(observer)).await;
    let blob = server.push_blob("app", "hello").await;
    let path = format!("/v2/app/blobs/{}", blob.digest);
    server.get(&format!("{path}?x=secret")).await;
    server.head(&path).await;
    let missing = format!("/v2/app/blobs/{}", nowhere());
    let missing_bytes = server.get(&missing).await.body.len();
    server.send(server.request(Method::PATCH, "/")).await;
    // The last one is told of when its answer has been sent, which the client may know before.
    server.get("/v2/").await;
    let notes = notes.0.lock().unwrap().clone();
    let expected = [
        "POST /v2/app/blobs/uploads/ Some(201) 0 None".to_owned(),
        format!("GET {path} Some(200) 5 None"),
        format!("HEAD {path} Some(200) 0 None"),
        format!("GET {missing} Some(404) {missing_bytes} None"),
    ];
    assert_eq!(notes[..4], expected);
    assert!(notes[4].starts_with("PATCH / Some(404) "), "{notes:?}");
}

#[tokio::test]
async fn a_foreign_host_and_a_write_of_another_origin_are_refused() {
    let server = memory(|builder| builder.allowed_hosts(["mirror.example".to_owned()])).await;
    let with = |method: Method, name: &'static str, value: &'static str| {
        let path = match method {
            Method::POST => "/v2/app/blobs/uploads/",
            _ => "/v2/",
        };
        server.request(method, path).header(name, value)
    };
    let denied = (403, "DENIED".to_owned());
    for (name, value) in [("host", "evil.example"), ("host", "evil.example:5000")] {
        let read = server.send(with(Method::GET, name, value)).await;
        assert_eq!(read.error(), denied, "{value}");
        let written = server.send(with(Method::POST, name, value)).await;
        assert_eq!(written.error(), denied, "{value}");
    }
    for (name, value) in [("origin", "http://evil.example"), ("origin", "null")] {
        let read = server.send(with(Method::GET, name, value)).await;
        assert_eq!(read.status, 200);
        let written = server.send(with(Method::POST, name, value)).await;
        assert_eq!(written.error(), denied, "{value}");
    }
    for host in ["localhost", "mirror.example", "127.0.0.1:1"] {
        let answer = server.send(with(Method::POST, "host", host)).await;
        assert_eq!(answer.status, 202, "{host}");
    }
}

#[tokio::test]
async fn a_process_with_few_files_has_places_for_few_connections() {
    for files in [0, 1, 16, 1024, u64::MAX] {
        let server = memory(|builder| builder.open_files(files)).await;
        assert_eq!(server.get("/v2/").await.status, 200, "{files}");
        server.push_blob("app", "hello").await;
    }
}
