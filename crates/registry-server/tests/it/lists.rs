#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use std::num::NonZeroUsize;

use oci_content::{Descriptor, media_type};
use serde_json::{Value, json};

use crate::server::{Answer, Server, each, folder, image, memory, nowhere};

fn entries(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), media_type::IMAGE_INDEX);
    let body = answer.json();
    assert_eq!(
        (&body["schemaVersion"], &body["mediaType"]),
        (&json!(2), &json!(media_type::IMAGE_INDEX))
    );
    body["manifests"].as_array().unwrap().clone()
}

/// Follows next links to their end.
async fn walk(server: &Server, path: &str) -> Vec<Answer> {
    let mut pages = vec![server.get(path).await];
    while let Some(next) = pages[pages.len() - 1].next() {
        pages.push(server.get(&next).await);
    }
    pages
}

fn sorted(descriptors: &[&Descriptor]) -> Vec<Value> {
    let mut sorted = descriptors.to_vec();
    sorted.sort_by(|a, b| a.digest.cmp(&b.digest));
    sorted.iter().map(|descriptor| json!(descriptor)).collect()
}

#[tokio::test]
async fn end_8_tags_are_in_lexical_order_whatever_their_case() {
    for server in each().await {
        for tag in ["b", "C", "a", "B", "_"] {
            server.push_image("app", tag, "{}").await;
        }
        let listed = server.get("/v2/app/tags/list").await;
        assert_eq!(
            listed.json(),
            json!({"name": "app", "tags": ["_", "a", "B", "b", "C"]})
        );
        for (query, tags, next) in [
            (
                "n=2",
                json!(["_", "a"]),
                Some("/v2/app/tags/list?last=a&n=2"),
            ),
            (
                "n=2&last=a",
                json!(["B", "b"]),
                Some("/v2/app/tags/list?last=b&n=2"),
            ),
            ("n=2&last=b", json!(["C"]), None),
            ("n=5", json!(["_", "a", "B", "b", "C"]), None),
            ("last=aa", json!(["B", "b", "C"]), None),
            ("n=0", json!([]), None),
        ] {
            let page = server.get(&format!("/v2/app/tags/list?{query}")).await;
            assert_eq!((page.status, &page.json()["tags"]), (200, &tags), "{query}");
            assert_eq!(page.next().as_deref(), next, "{query}");
        }
        assert_eq!(server.get("/v2/app/tags/list?n=x").await.status, 400);
        assert_eq!(
            server.get("/v2/no/tags/list").await.error(),
            (404, "NAME_UNKNOWN".into())
        );
    }
}

#[tokio::test]
async fn end_8_pages_are_no_larger_than_the_registry_has_them() {
    let server = memory(|builder| builder.page_size(NonZeroUsize::new(2).unwrap())).await;
    for tag in ["a", "b", "c", "d", "e"] {
        server.push_image("app", tag, "{}").await;
    }
    let pages = walk(&server, "/v2/app/tags/list?n=1000").await;
    let tags: Vec<_> = pages
        .iter()
        .map(|page| page.json()["tags"].clone())
        .collect();
    assert_eq!(tags, [json!(["a", "b"]), json!(["c", "d"]), json!(["e"])]);
}

#[tokio::test]
async fn end_12_a_list_has_what_the_specification_wants_of_it() {
    for server in each().await {
        let app = server.push_image("app", "1.0", "{}").await;
        let path = format!("/v2/app/referrers/{}", app.digest);
        assert_eq!(entries(&server.get(&path).await), [json!(null); 0]);

        let sbom = server
            .push_referrer("app", &app, "application/spdx+json", "s")
            .await;
        let vex = server
            .push_referrer("app", &app, "application/vex+json", "v")
            .await;
        let config = server.push_blob("app", "{}").await;
        let document = image(&config, json!({"subject": app}));
        server
            .put(
                "app",
                "typed-by-config",
                media_type::IMAGE_MANIFEST,
                &document,
            )
            .await;
        let mut by_config = Descriptor::of(media_type::IMAGE_MANIFEST, document.as_bytes());
        by_config.artifact_type = Some(media_type::IMAGE_CONFIG.into());
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_INDEX,
            "manifests": [],
            "subject": app,
        });
        let document = document.to_string();
        server
            .put("app", "untyped", media_type::IMAGE_INDEX, &document)
            .await;
        let untyped = Descriptor::of(media_type::IMAGE_INDEX, document.as_bytes());

        let listed = server.get(&path).await;
        assert_eq!(
            entries(&listed),
            sorted(&[&sbom, &vex, &by_config, &untyped])
        );
        assert_eq!(listed.header("oci-filters-applied"), "");
        for (query, expected) in [
            ("artifactType=application/spdx%2Bjson", sorted(&[&sbom])),
            // Not escaped: the plus reads as a space.
            ("artifactType=application/spdx+json", sorted(&[&sbom])),
            (
                "artifactType=application/vnd.oci.image.config.v1%2Bjson",
                sorted(&[&by_config]),
            ),
            ("artifactType=none/such", vec![]),
            (
                "artifactType=application/spdx%2Bjson&artifactType=application/vex%2Bjson",
                sorted(&[&sbom, &vex]),
            ),
        ] {
            let filtered = server.get(&format!("{path}?{query}")).await;
            assert_eq!(entries(&filtered), expected, "{query}");
            assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
        }

        let deleted = server
            .delete(&format!("/v2/app/manifests/{}", sbom.digest))
            .await;
        assert_eq!(deleted.status, 202);
        assert_eq!(
            entries(&server.get(&path).await),
            sorted(&[&vex, &by_config, &untyped])
        );
    }
}

#[tokio::test]
async fn end_12_the_subject_need_not_be_there_and_a_moved_tag_unlists_nothing() {
    for server in each().await {
        let missing = Descriptor::of(media_type::IMAGE_MANIFEST, b"nowhere");
        let referrer = server.push_referrer("app", &missing, "a/b", "x").await;
        let path = format!("/v2/app/referrers/{}", missing.digest);
        assert_eq!(entries(&server.get(&path).await), [json!(referrer)]);

        let config = server.push_blob("app", "{}").await;
        let tagged = image(&config, json!({"subject": missing, "artifactType": "c/d"}));
        server
            .put("app", "t", media_type::IMAGE_MANIFEST, &tagged)
            .await;
        assert_eq!(entries(&server.get(&path).await).len(), 2);
        server.push_image("app", "t", "{}").await;
        assert_eq!(entries(&server.get(&path).await).len(), 2);
        server.delete("/v2/app/manifests/t").await;
        assert_eq!(entries(&server.get(&path).await).len(), 2);
    }
}

#[tokio::test]
async fn end_12_nothing_is_an_empty_list_and_no_digest_is_an_error() {
    for server in each().await {
        server.push_image("app", "1.0", "{}").await;
        for name in ["app", "no/such"] {
            let path = format!("/v2/{name}/referrers/{}", nowhere());
            assert_eq!(entries(&server.get(&path).await).len(), 0);
            assert_eq!(server.head(&path).await.status, 200);
        }
        let bad = server.get("/v2/app/referrers/sha256:x").await;
        assert_eq!(bad.error(), (400, "DIGEST_INVALID".into()));
    }
}

#[tokio::test]
async fn end_12_pages_by_count_and_by_bytes_are_walked_to_the_end() {
    let by_count = |builder: registry_server::RegistryServerBuilder| {
        builder.page_size(NonZeroUsize::new(3).unwrap())
    };
    let by_bytes = |builder: registry_server::RegistryServerBuilder| builder.page_bytes(1300);
    for server in [
        memory(by_count).await,
        folder(by_count).await,
        memory(by_bytes).await,
    ] {
        let app = server.push_image("app", "1.0", "{}").await;
        let mut pushed = Vec::new();
        for number in 0..7 {
            let artifact_type = ["a/b+json", "c/d"][number % 2];
            pushed.push(
                server
                    .push_referrer("app", &app, artifact_type, &format!("{number}"))
                    .await,
            );
        }
        let path = format!("/v2/app/referrers/{}", app.digest);
        let pages = walk(&server, &path).await;
        assert_eq!(pages.len(), 3);
        let all: Vec<_> = pages.iter().flat_map(entries).collect();
        assert_eq!(all, sorted(&pushed.iter().collect::<Vec<_>>()));
        assert!(pages.iter().all(|page| page.body.len() < 1300));

        let pages = walk(&server, &format!("{path}?artifactType=a/b%2Bjson")).await;
        assert_eq!(pages.len(), 2);
        for page in &pages {
            assert_eq!(page.header("oci-filters-applied"), "artifactType");
        }
        assert_eq!(pages.iter().flat_map(entries).count(), 4);
    }
}

#[tokio::test]
async fn end_12_concurrent_pushes_are_all_listed() {
    for server in each().await {
        let app = server.push_image("app", "1.0", "{}").await;
        server.push_blob("app", "{}").await;
        let pushes = (0..24).map(|number| {
            let (server, app) = (&server, &app);
            async move {
                server
                    .push_referrer("app", app, "a/b", &format!("{number}"))
                    .await
            }
        });
        let pushed = futures::future::join_all(pushes).await;
        let listed = server
            .get(&format!("/v2/app/referrers/{}", app.digest))
            .await;
        assert_eq!(entries(&listed), sorted(&pushed.iter().collect::<Vec<_>>()));
    }
}

#[tokio::test]
async fn without_the_api_there_is_no_list_and_no_acknowledgement() {
    let server = memory(|builder| builder.referrers_api(false)).await;
    let app = server.push_image("app", "1.0", "{}").await;
    let document = image(
        &server.push_blob("app", "{}").await,
        json!({"subject": app}),
    );
    let pushed = server
        .put("app", "x", media_type::IMAGE_MANIFEST, &document)
        .await;
    assert_eq!((pushed.status, pushed.header("oci-subject")), (201, ""));
    let absent = server
        .get(&format!("/v2/app/referrers/{}", app.digest))
        .await;
    assert_eq!(absent.error(), (404, "UNSUPPORTED".into()));
}

#[tokio::test]
async fn the_catalog_lists_the_repositories_in_pages() {
    for server in each().await {
        let all = server.get("/v2/_catalog").await;
        assert_eq!(all.json(), json!({"repositories": []}));
        let names = ["a", "b/c", "b", "z9"];
        for name in names {
            server.push_image(name, "1.0", "{}").await;
        }
        let all = server.get("/v2/_catalog").await;
        let sorted = json!(["a", "b", "b/c", "z9"]);
        assert_eq!(all.json(), json!({"repositories": sorted}));
        assert_eq!(all.next(), None);
        for n in 1..6 {
            let mut found = Vec::new();
            let mut next = Some(format!("/v2/_catalog?n={n}"));
            while let Some(path) = next {
                let page = server.get(&path).await;
                let page_names = page.json()["repositories"].as_array().unwrap().clone();
                assert!((1..=n).contains(&page_names.len()), "{page_names:?}");
                found.extend(page_names);
                next = page.next();
            }
            assert_eq!(json!(found), sorted, "{n}");
        }
        let after = server.get("/v2/_catalog?last=b").await;
        assert_eq!(after.json()["repositories"], json!(["b/c", "z9"]));
        let none = server.get("/v2/_catalog?n=0").await;
        assert_eq!(none.json()["repositories"], json!([]));
        assert_eq!(none.next(), None);
        assert_eq!(server.get("/v2/_catalog?n=x").await.status, 400);
        assert_eq!(server.delete("/v2/_catalog").await.status, 405);
    }
}
