use oci_content::{Algorithm, Digest};
use reqwest::Method;

use crate::server::{Server, each, folder, memory, nowhere};

async fn begin(server: &Server) -> String {
    let begun = server
        .send(server.request(Method::POST, "/v2/app/blobs/uploads/"))
        .await;
    assert_eq!(begun.status, 202);
    begun.header("location").to_owned()
}

async fn patch(server: &Server, location: &str, range: &str, chunk: &'static str) -> (u16, String) {
    let request = server.request(Method::PATCH, location);
    let request = request.header("content-range", range).body(chunk);
    let answer = server.send(request).await;
    (answer.status, answer.header("range").to_owned())
}

async fn finish(server: &Server, location: &str, digest: &Digest, body: &'static str) -> u16 {
    let path = format!("{location}?digest={digest}");
    server
        .send(server.request(Method::PUT, &path).body(body))
        .await
        .status
}

#[tokio::test]
async fn end_2_a_blob_is_read_whole_in_parts_and_not_at_all_when_it_is_known() {
    for server in each().await {
        let blob = server.push_blob("app", "0123456789").await;
        let path = format!("/v2/app/blobs/{}", blob.digest);
        let whole = server.get(&path).await;
        assert_eq!(
            (whole.status, whole.body.as_slice()),
            (200, &b"0123456789"[..])
        );
        assert_eq!(
            whole.header("docker-content-digest"),
            blob.digest.to_string()
        );
        assert_eq!(whole.header("content-type"), "application/octet-stream");
        let head = server.head(&path).await;
        assert_eq!((head.status, head.header("content-length")), (200, "10"));

        let part = server
            .send(
                server
                    .request(Method::GET, &path)
                    .header("range", "bytes=2-4"),
            )
            .await;
        assert_eq!((part.status, part.body.as_slice()), (206, &b"234"[..]));
        assert_eq!(part.header("content-range"), "bytes 2-4/10");
        let beyond = server
            .send(
                server
                    .request(Method::GET, &path)
                    .header("range", "bytes=10-"),
            )
            .await;
        assert_eq!(beyond.error(), (416, "SIZE_INVALID".into()));
        assert_eq!(beyond.header("content-range"), "bytes */10");

        let request = server.request(Method::GET, &path);
        let known = server
            .send(request.header("if-none-match", whole.header("etag")))
            .await;
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
}

#[tokio::test]
async fn end_2_what_is_not_there_is_said_with_its_code() {
    for server in each().await {
        server.push_blob("app", "x").await;
        for (path, status, code) in [
            (format!("app/blobs/{}", nowhere()), 404, "BLOB_UNKNOWN"),
            (format!("other/blobs/{}", nowhere()), 404, "NAME_UNKNOWN"),
            ("app/blobs/sha256:x".into(), 400, "DIGEST_INVALID"),
            ("App/blobs/sha256:x".into(), 400, "NAME_INVALID"),
            ("app/things/x".into(), 404, "UNSUPPORTED"),
        ] {
            let answer = server.get(&format!("/v2/{path}")).await;
            assert_eq!(answer.error(), (status, code.into()), "{path}");
        }
    }
}

#[tokio::test]
async fn end_2_a_large_blob_streams_whole_from_a_folder() {
    let server = folder(|builder| builder).await;
    let bytes: Vec<u8> = (0..1_000_003u32).map(|at| at.to_le_bytes()[0]).collect();
    let digest = Digest::of(&bytes);
    let location = begin(&server).await;
    let path = format!("{location}?digest={digest}");
    let pushed = server
        .send(server.request(Method::PUT, &path).body(bytes.clone()))
        .await;
    assert_eq!(pushed.status, 201);
    let path = format!("/v2/app/blobs/{digest}");
    assert_eq!(server.get(&path).await.body, bytes);
    let request = server
        .request(Method::GET, &path)
        .header("range", "bytes=300000-999999");
    assert_eq!(server.send(request).await.body, bytes[300_000..1_000_000]);
}

#[tokio::test]
async fn end_4a_and_6_an_upload_in_one_piece_is_taken_with_its_digest_only() {
    for server in each().await {
        let digest = Digest::of(b"hello");
        let location = begin(&server).await;
        assert_eq!(finish(&server, &location, &nowhere(), "hello").await, 400);
        let location = begin(&server).await;
        let without = server
            .send(server.request(Method::PUT, &location).body("hello"))
            .await;
        assert_eq!(without.error(), (400, "DIGEST_INVALID".into()));
        assert_eq!(finish(&server, &location, &digest, "hello").await, 201);
        assert_eq!(finish(&server, &location, &digest, "hello").await, 404);
        assert_eq!(
            server.get(&format!("/v2/app/blobs/{digest}")).await.body,
            b"hello"
        );

        let sha512 = Digest::compute(Algorithm::Sha512, b"hello");
        let location = begin(&server).await;
        assert_eq!(finish(&server, &location, &sha512, "hello").await, 201);
        assert_eq!(
            server.get(&format!("/v2/app/blobs/{sha512}")).await.body,
            b"hello"
        );
    }
}

#[tokio::test]
async fn end_4b_a_wrong_digest_leaves_nothing() {
    for server in each().await {
        server.push_blob("app", "x").await;
        let path = format!("/v2/app/blobs/uploads/?digest={}", nowhere());
        let refused = server
            .send(server.request(Method::POST, &path).body("hello"))
            .await;
        assert_eq!(refused.error(), (400, "DIGEST_INVALID".into()));
        for digest in [nowhere(), Digest::of(b"hello")] {
            assert_eq!(
                server.get(&format!("/v2/app/blobs/{digest}")).await.status,
                404
            );
        }
    }
}

#[tokio::test]
async fn end_5_and_13_chunks_come_in_order() {
    for server in each().await {
        let digest = Digest::of(b"0123456789");
        let location = begin(&server).await;
        assert_eq!(
            patch(&server, &location, "4-7", "4567").await,
            (416, "0-0".into())
        );
        assert_eq!(
            patch(&server, &location, "0-3", "0123").await,
            (202, "0-3".into())
        );
        assert_eq!(
            patch(&server, &location, "0-3", "0123").await,
            (416, "0-3".into())
        );
        // A range that is not as long as the chunk, and one that is none.
        assert_eq!(patch(&server, &location, "4-8", "4567").await.0, 400);
        assert_eq!(patch(&server, &location, "7-4", "4567").await.0, 400);
        let status = server.get(&location).await;
        assert_eq!((status.status, status.header("range")), (204, "0-3"));
        assert_eq!(status.header("location"), location);
        let streamed = server.request(Method::PATCH, &location).body("4567");
        assert_eq!(server.send(streamed).await.header("range"), "0-7");
        assert_eq!(finish(&server, &location, &digest, "89").await, 201);
        assert_eq!(
            server.get(&format!("/v2/app/blobs/{digest}")).await.body,
            b"0123456789"
        );
        assert_eq!(
            server.get(&location).await.error(),
            (404, "BLOB_UPLOAD_UNKNOWN".into())
        );
    }
}

#[tokio::test]
async fn an_upload_session_can_be_cancelled_and_is_of_its_repository() {
    for server in each().await {
        let location = begin(&server).await;
        let elsewhere = location.replace("/app/", "/other/");
        assert_eq!(server.get(&elsewhere).await.status, 404);
        assert_eq!(server.delete(&location).await.status, 204);
        assert_eq!(server.get(&location).await.status, 404);
        assert_eq!(server.delete(&location).await.status, 404);
    }
}

#[tokio::test]
async fn end_11_a_blob_is_mounted_or_an_upload_begins() {
    for server in each().await {
        let blob = server.push_blob("from", "x").await;
        let mount = async |digest: &Digest, from: &str| {
            let path = format!("/v2/to/blobs/uploads/?mount={digest}{from}");
            server.send(server.request(Method::POST, &path)).await
        };
        let mounted = mount(&blob.digest, "&from=from").await;
        let path = format!("/v2/to/blobs/{}", blob.digest);
        assert_eq!(
            (mounted.status, mounted.header("location")),
            (201, path.as_str())
        );
        assert_eq!(server.get(&path).await.body, b"x");
        let begun = mount(&nowhere(), "&from=from").await;
        assert_eq!(begun.status, 202);
        assert_eq!(
            finish(&server, begun.header("location"), &nowhere(), "nowhere").await,
            201
        );
    }
}

#[tokio::test]
async fn end_11_without_a_source_only_a_pool_has_the_blob() {
    for (server, status) in each().await.into_iter().zip([202, 201]) {
        let blob = server.push_blob("from", "x").await;
        let path = format!("/v2/to/blobs/uploads/?mount={}", blob.digest);
        assert_eq!(
            server
                .send(server.request(Method::POST, &path))
                .await
                .status,
            status
        );
    }
}

#[tokio::test]
async fn end_10_a_blob_is_deleted() {
    for server in each().await {
        let blob = server.push_blob("app", "x").await;
        let path = format!("/v2/app/blobs/{}", blob.digest);
        assert_eq!(server.delete(&path).await.status, 202);
        assert_eq!(
            server.get(&path).await.error(),
            (404, "BLOB_UNKNOWN".into())
        );
        assert_eq!(
            server.delete(&path).await.error(),
            (404, "BLOB_UNKNOWN".into())
        );
    }
}

#[tokio::test]
async fn a_blob_over_the_limit_is_refused_before_and_while_it_comes() {
    let server = memory(|builder| builder.max_blob_bytes(4)).await;
    let location = begin(&server).await;
    assert_eq!(
        finish(&server, &location, &Digest::of(b"12345"), "12345").await,
        413
    );
    let location = begin(&server).await;
    assert_eq!(patch(&server, &location, "0-3", "1234").await.0, 202);
    assert_eq!(
        finish(&server, &location, &Digest::of(b"12345"), "5").await,
        413
    );
}

#[tokio::test]
async fn the_session_that_was_idle_longest_gives_way() {
    let server = memory(|builder| builder.max_upload_sessions(2)).await;
    let locations = [begin(&server).await, begin(&server).await];
    assert_eq!(server.get(&locations[0]).await.status, 204);
    let newest = begin(&server).await;
    assert_eq!(server.get(&locations[1]).await.status, 404);
    assert_eq!(server.get(&locations[0]).await.status, 204);
    assert_eq!(server.get(&newest).await.status, 204);
}

#[tokio::test]
async fn chunks_from_a_connection_that_broke_are_kept() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for server in each().await {
        let location = begin(&server).await;
        let url = server.request(Method::GET, &location).build().unwrap();
        let address = (
            url.url().host_str().unwrap().to_owned(),
            url.url().port().unwrap(),
        );
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head =
            format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n01234");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        drop(stream);
        assert_eq!(server.get(&location).await.header("range"), "0-4");
        assert_eq!(
            finish(&server, &location, &Digest::of(b"0123456789"), "56789").await,
            201
        );
    }
}

#[tokio::test]
async fn the_least_chunk_length_is_told() {
    let server = memory(|builder| builder.chunk_min_bytes(1024)).await;
    let begun = server
        .send(server.request(Method::POST, "/v2/app/blobs/uploads/"))
        .await;
    assert_eq!(begun.header("oci-chunk-min-length"), "1024");
}
