use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use oci_content::Digest;
use registry_client::{BlobPush, BlobSource, BlobStream, Endpoint, Error, ErrorKind, Repository};

use crate::support::{Answer, Recorder, Seen, Server, answer, hang_up, name, options};

const BLOB: &[u8] = b"0123456789abcdefghij";

fn blob() -> (Digest, Bytes) {
    (Digest::of(BLOB), Bytes::from_static(BLOB))
}

async fn push(repository: &Repository, from: Option<&str>) -> Result<BlobPush, Error> {
    let (digest, bytes) = blob();
    let from = from.map(name);
    repository
        .push_blob(&digest, bytes.len() as u64, &bytes, from.as_ref())
        .await
}

fn session(location: &str) -> Answer {
    answer(202).header("Location", location)
}

fn sent(seen: &Seen) -> bool {
    assert_eq!(
        seen.header("content-type"),
        Some("application/octet-stream")
    );
    seen.body == BLOB
}

#[tokio::test]
async fn end_4a_and_6_send_the_blob_in_one_piece() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "POST" => {
            assert_eq!(seen.header("content-length"), Some("0"));
            session("/v2/team/app/blobs/uploads/id?_state=a%2Bb")
        }
        _ if sent(seen) => answer(201),
        _ => answer(400),
    })
    .await;
    let recorder = Arc::new(Recorder::default());
    let mut options = options();
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let done = push(&server.repository(options), None).await.unwrap();
    assert_eq!(done, BlobPush::Uploaded);
    let digest = Digest::of(BLOB).to_string().replace(':', "%3A");
    assert_eq!(
        server.lines(),
        [
            "POST /v2/team/app/blobs/uploads/".to_owned(),
            format!("PUT /v2/team/app/blobs/uploads/id?_state=a%2Bb&digest={digest}"),
        ]
    );
    let told = recorder.requests.lock().unwrap();
    assert!(told.iter().all(|told| told.endpoint == Endpoint::Upload));
    assert_eq!(told[1].sent_bytes, BLOB.len() as u64);
    assert!(!told[1].url.contains('?'));
}

#[tokio::test]
async fn an_upload_location_may_be_absolute_or_relative() {
    for location in ["HOST/v2/u/1", "/v2/u/1", "../../../../u/1"] {
        let server = Server::start(move |seen, _| match seen.method.as_str() {
            "POST" => {
                let host = format!("http://{}", seen.header("host").unwrap());
                session(&location.replace("HOST", &host))
            }
            _ => answer(201),
        })
        .await;
        push(&server.repository(options()), None).await.unwrap();
        assert!(
            server
                .lines()
                .last()
                .unwrap()
                .starts_with("PUT /v2/u/1?digest="),
            "{location}"
        );
    }
}

#[tokio::test]
async fn an_upload_location_elsewhere_gets_no_byte() {
    let other = Server::start(|_, _| answer(201)).await;
    let elsewhere = other.url("/v2/u/1");
    for location in [
        elsewhere.as_str(),
        "https://other.test/u",
        "http://user@127.0.0.1/u",
        "file:///u",
    ] {
        let location = location.to_owned();
        let server = Server::start(move |_, _| session(&location)).await;
        let error = push(&server.repository(options()), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UntrustedLink);
        assert_eq!(server.lines().len(), 1);
    }
    assert!(other.lines().is_empty());
    let server = Server::start(|_, _| answer(202)).await;
    let error = push(&server.repository(options()), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "no Location at all");
}

#[tokio::test]
async fn end_11_mounts_or_goes_on_as_an_upload() {
    let digest = Digest::of(BLOB).to_string().replace(':', "%3A");
    let mount = format!("POST /v2/team/app/blobs/uploads/?mount={digest}&from=team%2Fbase");
    let plain = "POST /v2/team/app/blobs/uploads/".to_owned();
    for (status, expected, posts) in [
        (201, BlobPush::Mounted, vec![mount.clone()]),
        (202, BlobPush::Uploaded, vec![mount.clone()]),
        (403, BlobPush::Uploaded, vec![mount.clone(), plain.clone()]),
        (404, BlobPush::Uploaded, vec![mount.clone(), plain.clone()]),
        (405, BlobPush::Uploaded, vec![mount.clone(), plain.clone()]),
    ] {
        let server = Server::start(move |seen, _| match seen.method.as_str() {
            "POST" if seen.target.contains("mount=") => match status {
                202 => session("/v2/u/1"),
                status => answer(status),
            },
            "POST" => session("/v2/u/1"),
            _ => answer(201),
        })
        .await;
        let done = push(&server.repository(options()), Some("team/base")).await;
        assert_eq!(done.unwrap(), expected, "{status}");
        let lines = server.lines();
        let found: Vec<_> = lines
            .iter()
            .filter(|line| line.starts_with("POST"))
            .collect();
        assert_eq!(found, posts.iter().collect::<Vec<_>>(), "{status}");
    }
}

#[tokio::test]
async fn end_11_alone_answers_with_any_status_and_sends_nothing() {
    for status in [201, 202, 404, 405] {
        let server = Server::start(move |_, _| answer(status)).await;
        let from = name("team/base");
        let repository = server.repository(options());
        let answer = repository.mount_blob(&Digest::of(BLOB), &from).await;
        assert_eq!(answer.unwrap().status().as_u16(), status);
        assert_eq!(server.lines().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_lost_session_starts_over() {
    for lost in [
        answer(404),
        answer(416),
        answer(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#),
        answer(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#),
        answer(500),
        hang_up(),
    ] {
        let server = Server::start(move |seen, before| match seen.method.as_str() {
            "POST" => session(&format!("/v2/u/{before}")),
            "HEAD" => answer(404),
            _ if seen.target.starts_with("/v2/u/0") => lost.clone(),
            _ if sent(seen) => answer(201),
            _ => answer(400),
        })
        .await;
        push(&server.repository(options()), None).await.unwrap();
        let posts = server.lines();
        let posts = posts.iter().filter(|line| line.starts_with("POST"));
        assert_eq!(posts.count(), 2);
    }
}

#[tokio::test]
async fn a_session_that_is_throttled_goes_on_where_it_is() {
    for status in [429, 503] {
        let server = Server::start(move |seen, before| match seen.method.as_str() {
            "POST" => session("/v2/u/1"),
            _ if before < 3 => answer(status),
            _ if sent(seen) => answer(201),
            _ => answer(400),
        })
        .await;
        push(&server.repository(options()), None).await.unwrap();
        let verbs: Vec<_> = server.seen().into_iter().map(|seen| seen.method).collect();
        assert_eq!(verbs, ["POST", "PUT", "PUT", "PUT"], "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_after_the_commit_is_found_by_a_head() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "POST" => session("/v2/u/1"),
        "HEAD" => answer(200),
        _ => hang_up(),
    })
    .await;
    push(&server.repository(options()), None).await.unwrap();
    let verbs: Vec<_> = server.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(verbs, ["POST", "PUT", "HEAD"]);
}

#[tokio::test]
async fn sessions_that_are_lost_forever_end_the_push() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "POST" => session("/v2/u/1"),
        _ => answer(404),
    })
    .await;
    let error = push(&server.repository(options()), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Status);
    assert_eq!(error.response().unwrap().status().as_u16(), 404);
    let puts = server
        .seen()
        .iter()
        .filter(|seen| seen.method == "PUT")
        .count();
    assert_eq!(puts, 6);
}

#[tokio::test]
async fn a_refusal_is_final() {
    for (status, verb) in [
        (401, "POST"),
        (403, "POST"),
        (405, "POST"),
        (400, "PUT"),
        (413, "PUT"),
        (403, "PUT"),
    ] {
        let server = Server::start(move |seen, _| match seen.method.as_str() {
            method if method == verb => answer(status).body(r#"{"errors":[{"code":"DENIED"}]}"#),
            "POST" => session("/v2/u/1"),
            _ => answer(404),
        })
        .await;
        let error = push(&server.repository(options()), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Status);
        let response = error.response().unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.error_codes(), ["DENIED"]);
        assert!(
            error.to_string().contains("the upload of sha256:"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_empty_blob_has_a_length() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "POST" => session("/v2/u/1"),
        _ => {
            assert_eq!(seen.header("content-length"), Some("0"));
            answer(201)
        }
    })
    .await;
    let repository = server.repository(options());
    let digest = Digest::of(b"");
    let done = repository.push_blob(&digest, 0, &Bytes::new(), None).await;
    assert_eq!(done.unwrap(), BlobPush::Uploaded);
    let error = repository
        .push_blob(&digest, 0, &Bytes::from_static(b"x"), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
}

struct Broken;

#[async_trait]
impl BlobSource for Broken {
    async fn open(&self, _: u64) -> io::Result<BlobStream> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

#[tokio::test]
async fn a_source_that_fails_or_has_changed_never_completes_an_upload() {
    let start = || {
        Server::start(|seen, _| match seen.method.as_str() {
            "POST" => session("/v2/u/1"),
            "PUT" => answer(201),
            _ => answer(404),
        })
    };
    let digest = Digest::of(BLOB);
    let server = start().await;
    let repository = server.repository(options());
    let error = repository
        .push_blob(&digest, 20, &Broken, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LocalIo);
    let large = Bytes::from(vec![7; 600_000]);
    let other = Digest::of(b"other");
    for (bytes, digest, size) in [
        (Bytes::from_static(b"0123456789abcdefghiJ"), &digest, 20),
        (Bytes::from_static(b"short"), &digest, 20),
        (Bytes::from_static(b"longer than twenty bytes"), &digest, 20),
        (large, &other, 600_000),
    ] {
        let server = start().await;
        let repository = server.repository(options());
        let error = repository
            .push_blob(digest, size, &bytes, None)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error:?}");
        for seen in server.seen() {
            assert!((seen.body.len() as u64) < size);
        }
    }
}

#[tokio::test]
async fn a_large_blob_goes_through_and_a_stalled_one_does_not_hang() {
    let bytes = Bytes::from(
        (0..3_000_000_u32)
            .map(|i| (i % 251) as u8)
            .collect::<Vec<_>>(),
    );
    let digest = Digest::of(&bytes);
    let expected = digest.clone();
    let server = Server::start(move |seen, _| match seen.method.as_str() {
        "POST" => session("/v2/u/1"),
        _ if expected.matches(&seen.body) => answer(201),
        _ => answer(400),
    })
    .await;
    let repository = server.repository(options());
    repository
        .push_blob(&digest, bytes.len() as u64, &bytes, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upload_that_nobody_reads_does_not_hang() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut post, _) = listener.accept().await.unwrap();
        let _ = post.read(&mut [0; 4096]).await.unwrap();
        let answer =
            "HTTP/1.1 202 X\r\nConnection: close\r\nContent-Length: 0\r\nLocation: /u\r\n\r\n";
        post.write_all(answer.as_bytes()).await.unwrap();
        drop(post);
        let (_put, _) = listener.accept().await.unwrap();
        // The question whether the blob exists is not answered either.
        drop(listener);
        std::future::pending::<()>().await;
    });
    let large = Bytes::from(vec![7; 64 << 20]);
    let digest = Digest::of(&large);
    let mut options = options();
    options.idle_timeout = Duration::from_secs(1);
    options.retry.max_attempts = std::num::NonZeroU32::MIN;
    let recorder = Arc::new(Recorder::default());
    options.observer = Some(Arc::<Recorder>::clone(&recorder));
    let client = registry_client::Client::new(options).unwrap();
    let repository = client.repository(&host.parse().unwrap(), &name("a"));
    let error = repository
        .push_blob(&digest, large.len() as u64, &large, None)
        .await
        .unwrap_err();
    server.abort();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().contains("the upload stalled after"),
        "{error}"
    );
    let told = recorder.requests.lock().unwrap();
    assert!(told[1].sent_bytes < 64 << 20);
}
