//! What each call sends, and that every status is returned.

use bytes::Bytes;
use http::StatusCode;
use oci_content::{Digest, Tag, media_type};
use wiremock::matchers::{body_bytes, header, method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{name, options};

use registry_client::{Client, ErrorKind, Repository};

async fn server() -> (MockServer, Repository) {
    let server = MockServer::start().await;
    let host = server.address().to_string();
    let client = Client::new(options()).unwrap();
    let repository = client.repository(&host.parse().unwrap(), &name("team/app"));
    (server, repository)
}

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

#[tokio::test]
async fn end_3_names_every_manifest_type_it_takes() {
    let (server, repository) = server().await;
    let accept = [
        media_type::IMAGE_INDEX,
        media_type::IMAGE_MANIFEST,
        media_type::ARTIFACT_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
        media_type::DOCKER_MANIFEST,
    ];
    for verb in ["GET", "HEAD"] {
        Mock::given(method(verb))
            .and(path("/v2/team/app/manifests/1.0"))
            .and(wiremock::matchers::headers("accept", accept.to_vec()))
            .and(header("accept-encoding", "identity"))
            .respond_with(
                ResponseTemplate::new(200)
                    .insert_header("Docker-Content-Digest", Digest::of(b"{}").to_string())
                    .set_body_raw(
                        "{}",
                        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
                    ),
            )
            .expect(1)
            .mount(&server)
            .await;
    }
    let answer = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.body(), "{}");
    assert_eq!(
        answer.media_type().as_deref(),
        Some(media_type::IMAGE_MANIFEST)
    );
    assert_eq!(answer.content_digest(), Some(Digest::of(b"{}")));
    assert_eq!((answer.requests(), answer.is_foreign()), (1, false));
    let head = repository.head_manifest(&tag()).await.unwrap();
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn end_12_escapes_the_artifact_type_and_reads_the_filter_header() {
    let (server, repository) = server().await;
    let subject = Digest::of(b"subject");
    let endpoint = format!("/v2/team/app/referrers/{subject}");
    Mock::given(path(&*endpoint))
        .and(query_param(
            "artifactType",
            "application/vnd.cyclonedx+json",
        ))
        .and(header("accept", media_type::IMAGE_INDEX))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_string("{}")
                .insert_header("OCI-Filters-Applied", "x, ArtifactType"),
        )
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(path(&*endpoint))
        .and(query_param_is_missing("artifactType"))
        .respond_with(ResponseTemplate::new(404))
        .expect(1)
        .mount(&server)
        .await;
    let filtered = repository
        .referrers(&subject, Some("application/vnd.cyclonedx+json"))
        .await
        .unwrap();
    assert!(filtered.filter_applied("artifactType"));
    assert!(filtered.url().query().unwrap().contains("cyclonedx%2Bjson"));
    let all = repository.referrers(&subject, None).await.unwrap();
    assert!(!all.filter_applied("artifactType"));
    assert_eq!(all.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn end_8_pages_are_followed_to_the_last() {
    let (server, repository) = server().await;
    let page = |link: Option<&str>, body: &'static str| {
        let answer = ResponseTemplate::new(200).set_body_string(body);
        match link {
            Some(link) => answer.insert_header("Link", link),
            None => answer,
        }
    };
    Mock::given(path("/v2/team/app/tags/list"))
        .and(query_param("n", "2"))
        .and(query_param_is_missing("last"))
        .and(header("accept", "application/json"))
        .respond_with(page(
            Some("</v2/team/app/tags/list?n=2&last=b>; rel=\"next\""),
            "1",
        ))
        .mount(&server)
        .await;
    let absolute = format!(
        "<http://{}/v2/team/app/tags/list?n=2&last=d>; rel=next",
        server.address()
    );
    Mock::given(query_param("last", "b"))
        .respond_with(page(Some(&absolute), "2"))
        .mount(&server)
        .await;
    Mock::given(query_param("last", "d"))
        .respond_with(page(None, "3"))
        .mount(&server)
        .await;
    let mut answer = repository.tags(Some(2)).await.unwrap();
    let mut bodies = vec![answer.body().clone()];
    while let Some(next) = repository.next_link(&answer).unwrap() {
        answer = repository.get_page(&next).await.unwrap();
        bodies.push(answer.body().clone());
    }
    assert_eq!(bodies, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_page_of_another_origin_is_never_asked_for() {
    let (server, repository) = server().await;
    Mock::given(method("GET"))
        .respond_with(
            ResponseTemplate::new(200)
                .set_body_string("{}")
                .insert_header("Link", "<https://other.test/v2/x?secret=1>; rel=\"next\""),
        )
        .expect(1)
        .mount(&server)
        .await;
    let page = repository.tags(None).await.unwrap();
    let error = repository.next_link(&page).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UntrustedLink);
    assert!(error.to_string().ends_with(
        "/v2/team/app/tags/list: the next link leads to https://other.test, not to the registry"
    ));
    assert_eq!(error.response().unwrap().status(), StatusCode::OK);
    for url in [
        "https://other.test/v2/x",
        "http://127.0.0.1:1/v2/x",
        &format!("http://{}/other", server.address()),
        &format!("http://user@{}/v2/x", server.address()),
    ] {
        let error = repository
            .get_page(&url.parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UntrustedLink, "{url}");
    }
}

#[tokio::test]
async fn end_7_puts_the_bytes_as_they_are() {
    let (server, repository) = server().await;
    let bytes = Bytes::from_static(b"{ \"any\" : 1 }\n");
    let digest = Digest::of(&bytes);
    Mock::given(method("PUT"))
        .and(path(format!("/v2/team/app/manifests/{digest}")))
        .and(header("content-type", media_type::IMAGE_MANIFEST))
        .and(body_bytes(bytes.to_vec()))
        .respond_with(
            ResponseTemplate::new(201).insert_header("OCI-Subject", Digest::of(b"s").to_string()),
        )
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("PUT"))
        .and(path("/v2/team/app/manifests/1.0"))
        .and(header("if-match", "\"etag\""))
        .respond_with(ResponseTemplate::new(412))
        .expect(1)
        .mount(&server)
        .await;
    let answer = repository
        .put_manifest(&digest, bytes.clone(), media_type::IMAGE_MANIFEST, None)
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.oci_subject(), Some(Digest::of(b"s")));
    let answer = repository
        .put_manifest(
            &tag(),
            bytes.clone(),
            media_type::IMAGE_MANIFEST,
            Some("\"etag\""),
        )
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::PRECONDITION_FAILED);
    let error = repository
        .put_manifest(&tag(), bytes, "a\nb", None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn every_final_status_is_a_value() {
    let (server, repository) = server().await;
    for status in [
        204, 400, 401, 403, 404, 405, 406, 410, 413, 415, 416, 418, 424, 451, 501, 505,
    ] {
        server.reset().await;
        Mock::given(method("GET"))
            .respond_with(
                ResponseTemplate::new(status)
                    .set_body_string(r#"{"errors":[{"code":"X","message":"why"}]}"#),
            )
            .expect(1)
            .mount(&server)
            .await;
        let answer = repository.get_manifest(&tag()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.requests(), 1, "{status} is final");
        if status != 204 {
            assert_eq!(answer.error_codes(), ["X"]);
            assert_eq!(answer.error_message().as_deref(), Some("why"));
        }
        server.verify().await;
    }
}

#[tokio::test]
async fn a_ping_and_a_delete_go_where_the_specification_says() {
    let (server, repository) = server().await;
    Mock::given(method("GET"))
        .and(path("/v2/"))
        .respond_with(
            ResponseTemplate::new(401)
                .insert_header("Docker-Distribution-API-Version", "registry/2.0")
                .insert_header(
                    "WWW-Authenticate",
                    "Bearer realm=\"http://127.0.0.1:1/token\"",
                ),
        )
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("DELETE"))
        .and(path("/v2/team/app/manifests/1.0"))
        .respond_with(ResponseTemplate::new(202))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("HEAD"))
        .and(path(format!("/v2/team/app/blobs/{}", Digest::of(b"x"))))
        .respond_with(ResponseTemplate::new(200).insert_header("Content-Length", "7"))
        .expect(1)
        .mount(&server)
        .await;
    let registry = repository.registry();
    let ping = repository.client().ping(registry).await.unwrap();
    assert_eq!(
        ping.status(),
        StatusCode::UNAUTHORIZED,
        "anonymous: no token"
    );
    assert_eq!(
        ping.header("docker-distribution-api-version"),
        Some("registry/2.0")
    );
    let deleted = repository.delete_manifest(&tag()).await.unwrap();
    assert_eq!(deleted.status(), StatusCode::ACCEPTED);
    let head = repository.head_blob(&Digest::of(b"x")).await.unwrap();
    assert_eq!(head.header("content-length"), Some("7"));
}
