use oci_content::{Algorithm, Descriptor, Digest, media_type};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::json;

use crate::server::{each, folder, image, memory, nowhere};

const IMAGE: &str = media_type::IMAGE_MANIFEST;
const INDEX: &str = media_type::IMAGE_INDEX;

#[tokio::test]
async fn end_1_the_ping_says_that_this_is_a_registry() {
    for server in each().await {
        for path in ["/v2/", "/v2"] {
            let ping = server.get(path).await;
            let version = ping.header("docker-distribution-api-version");
            assert_eq!((ping.status, version), (200, "registry/2.0"));
        }
    }
}

#[tokio::test]
async fn end_3_and_7_a_manifest_comes_back_as_it_came() {
    for server in each().await {
        let config = server.push_blob("app", "{}").await;
        // Unusual space and an unknown member: what a parser would lose.
        let document = image(&config, json!({"x-own": [1]})).replacen('{', "{\n  ", 1);
        let digest = Digest::of(document.as_bytes()).to_string();
        let pushed = server.put("app", "1.0", IMAGE, &document).await;
        let location = format!("/v2/app/manifests/{digest}");
        assert_eq!(
            (pushed.status, pushed.header("location")),
            (201, location.as_str())
        );
        assert_eq!(pushed.header("docker-content-digest"), digest);
        assert_eq!(pushed.header("oci-subject"), "");
        for reference in ["1.0", &digest, &digest.replace(':', "%3A")] {
            let path = format!("/v2/app/manifests/{reference}");
            let pulled = server.get(&path).await;
            assert_eq!(
                (pulled.status, pulled.body.as_slice()),
                (200, document.as_bytes())
            );
            assert_eq!(pulled.header("content-type"), IMAGE);
            assert_eq!(pulled.header("docker-content-digest"), digest);
            let head = server.head(&path).await;
            let length = document.len().to_string();
            assert_eq!(
                (head.status, head.header("content-length")),
                (200, length.as_str())
            );
            let request = server.request(Method::GET, &path);
            let known = server
                .send(request.header("if-none-match", pulled.header("etag")))
                .await;
            assert_eq!((known.status, known.body.len()), (304, 0));
        }
    }
}

#[tokio::test]
async fn end_7_a_manifest_is_checked() {
    for server in each().await {
        let config = server.push_blob("app", "{}").await;
        let good = image(&config, json!({}));
        let other = nowhere().to_string();
        let missing = Descriptor::of("a/b", b"nowhere");
        let without_blob = image(&missing, json!({}));
        let without_child = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [missing],
        })
        .to_string();
        for (reference, media_type, document, status, code) in [
            (other.as_str(), IMAGE, good.as_str(), 400, "DIGEST_INVALID"),
            ("sha256:x", IMAGE, &good, 400, "DIGEST_INVALID"),
            (".x", IMAGE, &good, 400, "MANIFEST_INVALID"),
            ("x", INDEX, &good, 400, "MANIFEST_INVALID"),
            ("x", IMAGE, "{", 400, "MANIFEST_INVALID"),
            ("x", IMAGE, &without_blob, 400, "MANIFEST_BLOB_UNKNOWN"),
            ("x", INDEX, &without_child, 400, "MANIFEST_BLOB_UNKNOWN"),
        ] {
            let refused = server.put("app", reference, media_type, document).await;
            assert_eq!(refused.error(), (status, code.into()), "{document}");
        }
        let detail = server.put("app", "x", IMAGE, &without_blob).await.json();
        assert_eq!(detail["errors"][0]["detail"], other);
        assert_eq!(
            server.get("/v2/app/manifests/x").await.error(),
            (404, "MANIFEST_UNKNOWN".into())
        );
        assert_eq!(
            server.get("/v2/no/manifests/x").await.error(),
            (404, "NAME_UNKNOWN".into())
        );
        assert_eq!(
            server.get("/v2/app/manifests/.x").await.error(),
            (404, "MANIFEST_UNKNOWN".into())
        );
    }
}

#[tokio::test]
async fn end_7_layers_that_are_kept_elsewhere_need_not_be_there() {
    for server in each().await {
        let config = server.push_blob("app", "{}").await;
        let mut elsewhere = Descriptor::of("a/b", b"elsewhere");
        elsewhere.urls = vec!["https://example.com/layer".into()];
        let kept = "application/vnd.oci.image.layer.nondistributable.v1.tar";
        let document = image(
            &config,
            json!({"layers": [elsewhere, Descriptor::of(kept, b"k")]}),
        );
        assert_eq!(server.put("app", "1.0", IMAGE, &document).await.status, 201);
    }
}

#[tokio::test]
async fn end_7_a_manifest_over_the_limit_is_413_and_one_at_the_limit_is_taken() {
    for server in each().await {
        let empty = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
        let limit = 4 << 20;
        let at = " ".repeat(limit - empty.len()) + &empty;
        assert_eq!(server.put("app", "x", INDEX, &at).await.status, 201);
        let over = server.put("app", "x", INDEX, &format!(" {at}")).await;
        assert_eq!(over.error(), (413, "SIZE_INVALID".into()));
    }
}

#[tokio::test]
async fn sparse_manifests_are_taken_where_they_are_asked_for() {
    let server = memory(|builder| builder.sparse_manifests(true)).await;
    let document = image(&Descriptor::of("a/b", b"nowhere"), json!({}));
    assert_eq!(server.put("app", "x", IMAGE, &document).await.status, 201);
}

#[tokio::test]
async fn a_sha512_manifest_is_known_by_its_own_digest() {
    for server in each().await {
        let config = server.push_blob("app", "{}").await;
        let document = image(&config, json!({}));
        let digest = Digest::compute(Algorithm::Sha512, document.as_bytes()).to_string();
        assert_eq!(
            server.put("app", &digest, IMAGE, &document).await.status,
            201
        );
        let pulled = server.get(&format!("/v2/app/manifests/{digest}")).await;
        assert_eq!(pulled.header("docker-content-digest"), digest);
    }
}

#[tokio::test]
async fn tags_beside_a_digest_are_all_set() {
    for server in each().await {
        let config = server.push_blob("app", "{}").await;
        let document = image(&config, json!({}));
        let digest = Digest::of(document.as_bytes());
        let pushed = server
            .put("app", &format!("{digest}?tag=a&tag=b"), IMAGE, &document)
            .await;
        let set: Vec<HeaderValue> = pushed.headers.get_all("oci-tag").iter().cloned().collect();
        assert_eq!(
            (pushed.status, set),
            (201, vec!["a".parse().unwrap(), "b".parse().unwrap()])
        );
        assert_eq!(
            server.get("/v2/app/manifests/b").await.body,
            document.as_bytes()
        );
        let refused = server
            .put("app", &format!("{digest}?tag=.a"), IMAGE, &document)
            .await;
        assert_eq!(refused.status, 400);
    }
}

#[tokio::test]
async fn a_write_happens_only_when_its_condition_holds() {
    for server in each().await {
        let first = server.push_image("app", "x", "{}").await;
        let other = image(
            &server.push_blob("app", "{}").await,
            json!({"annotations": {"a": "b"}}),
        );
        let first_tag = format!("\"{}\"", first.digest);
        let put = |name: &'static str, value: String| {
            server
                .put_request("app", "x", IMAGE, &other)
                .header(name, value)
        };
        for (name, value, status) in [
            ("if-none-match", "*".to_owned(), 412),
            ("if-match", "\"other\"".to_owned(), 412),
            ("if-match", first_tag.clone(), 201),
            ("if-match", first_tag.clone(), 412),
        ] {
            let answer = server.send(put(name, value.clone())).await;
            assert_eq!(answer.status, status, "{name}: {value}");
        }
        let delete = || server.request(Method::DELETE, "/v2/app/manifests/x");
        assert_eq!(
            server
                .send(delete().header("if-match", &first_tag))
                .await
                .status,
            412
        );
        let now = format!("\"{}\"", Digest::of(other.as_bytes()));
        assert_eq!(
            server.send(delete().header("if-match", now)).await.status,
            202
        );
    }
}

#[tokio::test]
async fn concurrent_writers_with_conditions_lose_nothing() {
    for server in each().await {
        let writers = (0..8).map(|writer| {
            let server = &server;
            async move {
                loop {
                    let old = server.get("/v2/app/manifests/list").await;
                    let (mut document, condition) = match old.status {
                        200 => (old.json(), ("if-match", old.header("etag").to_owned())),
                        _ => (
                            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}),
                            ("if-none-match", "*".to_owned()),
                        ),
                    };
                    document["annotations"][format!("w{writer}")] = json!("here");
                    let put = server.put_request("app", "list", INDEX, &document.to_string());
                    match server
                        .send(put.header(condition.0, condition.1))
                        .await
                        .status
                    {
                        201 => break,
                        status => assert_eq!(status, 412),
                    }
                }
            }
        });
        futures::future::join_all(writers).await;
        let list = server.get("/v2/app/manifests/list").await.json();
        assert_eq!(list["annotations"].as_object().unwrap().len(), 8);
    }
}

#[tokio::test]
async fn end_9_a_tag_is_deleted_alone_and_a_digest_with_its_tags() {
    for server in each().await {
        let app = server.push_image("app", "1.0", "{}").await;
        server.push_image("app", "2.0", "{}").await;
        let by_digest = format!("/v2/app/manifests/{}", app.digest);
        assert_eq!(server.delete("/v2/app/manifests/1.0").await.status, 202);
        assert_eq!(server.get("/v2/app/manifests/1.0").await.status, 404);
        assert_eq!(server.get(&by_digest).await.status, 200);
        assert_eq!(server.get("/v2/app/manifests/2.0").await.status, 200);
        assert_eq!(
            server.delete("/v2/app/manifests/1.0").await.error(),
            (404, "MANIFEST_UNKNOWN".into())
        );

        assert_eq!(server.delete(&by_digest).await.status, 202);
        for path in [by_digest.as_str(), "/v2/app/manifests/2.0"] {
            assert_eq!(
                server.get(path).await.error(),
                (404, "MANIFEST_UNKNOWN".into())
            );
        }
        let tags = server.get("/v2/app/tags/list").await;
        assert_eq!((tags.status, &tags.json()["tags"]), (200, &json!([])));
        assert_eq!(
            server.delete(&by_digest).await.error(),
            (404, "MANIFEST_UNKNOWN".into())
        );
    }
}

#[tokio::test]
async fn a_read_only_registry_changes_nothing() {
    for server in [
        memory(|builder| builder.read_only(true)).await,
        folder(|builder| builder.read_only(true)).await,
    ] {
        for (method, path) in [
            (Method::POST, "blobs/uploads/"),
            (Method::PUT, "manifests/x"),
            (Method::PATCH, "blobs/uploads/x"),
            (Method::DELETE, "manifests/x"),
        ] {
            let refused = server
                .send(server.request(method, &format!("/v2/app/{path}")))
                .await;
            assert_eq!(refused.error(), (405, "UNSUPPORTED".into()));
            assert_eq!(refused.header("allow"), "GET, HEAD");
        }
        assert_eq!(server.get("/v2/").await.status, 200);
    }
}

#[tokio::test]
async fn a_method_that_an_endpoint_does_not_have_is_405() {
    for server in each().await {
        for (method, path, allow) in [
            (Method::POST, "/v2/", "GET, HEAD"),
            (Method::PUT, "/v2/app/tags/list", "GET, HEAD"),
            (
                Method::POST,
                "/v2/app/manifests/x",
                "GET, HEAD, PUT, DELETE",
            ),
            (Method::GET, "/v2/app/blobs/uploads/", "POST"),
            (
                Method::POST,
                "/v2/app/blobs/uploads/x",
                "GET, PATCH, PUT, DELETE",
            ),
        ] {
            let refused = server.send(server.request(method, path)).await;
            assert_eq!(refused.error(), (405, "UNSUPPORTED".into()), "{path}");
            assert_eq!(refused.header("allow"), allow);
        }
    }
}
