#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use std::sync::Arc;

use oci_content::{Descriptor, Digest, ImageLayout, REF_NAME, media_type, referrers_tag};
use registry_server::LayoutStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Server, folder, image, serve};

const IMAGE: &str = media_type::IMAGE_MANIFEST;

fn empty_layout() -> (TempDir, ImageLayout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = ImageLayout::create(folder.path().join("store")).unwrap();
    (folder, layout)
}

/// Writes an image into a layout, under a `ref.name` if there is one.
fn write(layout: &ImageLayout, ref_name: Option<&str>, members: Value) -> Descriptor {
    let config = Descriptor::of("a/b", b"{}");
    layout.write_blob(&config.digest, b"{}").unwrap();
    write_document(layout, ref_name, IMAGE, &image(&config, members))
}

fn write_document(
    layout: &ImageLayout,
    ref_name: Option<&str>,
    media_type: &str,
    document: &str,
) -> Descriptor {
    let descriptor = Descriptor::of(media_type, document.as_bytes());
    layout
        .write_blob(&descriptor.digest, document.as_bytes())
        .unwrap();
    let mut entry = descriptor.clone();
    if let Some(name) = ref_name {
        entry.annotations.insert(REF_NAME.into(), name.into());
    }
    layout.add_to_index(&[entry]).unwrap();
    descriptor
}

async fn serve_layout(store: LayoutStore) -> Server {
    serve(Arc::new(store), None, |builder| builder).await
}

async fn digest_of(server: &Server, path: &str) -> String {
    let answer = server.get(path).await;
    answer.header("docker-content-digest").to_owned()
}

fn named(name: &str) -> Value {
    json!({"annotations": {"name": name}})
}

fn names(layout: &ImageLayout) -> Vec<Option<String>> {
    let entries = layout.index().unwrap();
    let name = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    entries.iter().map(name).collect()
}

#[tokio::test]
async fn one_repository_name_on_two_hosts_is_told_apart_by_ns() {
    let (_folder, layout) = empty_layout();
    let a = write(&layout, Some("a.example/team/app:1.0"), named("a"));
    let b = write(&layout, Some("b.example:5000/team/app:1.0"), named("b"));
    let only_b = write(&layout, Some("b.example:5000/team/app:2.0"), named("b2"));
    let store = LayoutStore::new(layout.clone(), Some("b.example:5000".parse().unwrap()));
    let server = serve_layout(store).await;
    let tagged = "/v2/team/app/manifests/1.0";
    for (query, expected) in [("", &b), ("?ns=a.example", &a), ("?ns=b.example:5000", &b)] {
        let found = digest_of(&server, &format!("{tagged}{query}")).await;
        assert_eq!(found, expected.digest.to_string(), "{query}");
    }
    assert_eq!(
        server.get("/v2/team/app/tags/list").await.json()["tags"],
        json!(["1.0", "2.0"])
    );
    let of_a = server.get("/v2/team/app/tags/list?ns=a.example").await;
    assert_eq!(of_a.json()["tags"], json!(["1.0"]));
    let elsewhere = server.get("/v2/team/app/tags/list?ns=c.example").await;
    assert_eq!(elsewhere.error(), (404, "NAME_UNKNOWN".into()));
    assert_eq!(
        server.get("/v2/team/app/tags/list?ns=/").await.error(),
        (400, "NAME_INVALID".into())
    );
    // By digest it is one pool.
    let path = format!("/v2/team/app/manifests/{}?ns=a.example", only_b.digest);
    assert_eq!(server.get(&path).await.status, 200);
    let path = format!("/v2/other/manifests/{}", only_b.digest);
    assert_eq!(
        server.get(&path).await.error(),
        (404, "NAME_UNKNOWN".into())
    );

    let first_host = serve_layout(LayoutStore::new(layout, None)).await;
    assert_eq!(digest_of(&first_host, tagged).await, a.digest.to_string());
}

#[tokio::test]
async fn pushes_are_named_in_full_and_what_has_no_tag_has_no_name() {
    let server = folder(|builder| builder).await;
    let path = server.folder.as_ref().unwrap().path().join("store");
    let layout = ImageLayout::open(path).unwrap();
    let app = server.push_image("team/app", "1.0", "{}").await;
    server.push_referrer("team/app", &app, "a/b", "x").await;
    let document = image(&Descriptor::of("a/b", b"{}"), named("ns"));
    let pushed = server
        .put("team/app", "2.0?ns=quay.io", IMAGE, &document)
        .await;
    assert_eq!(pushed.status, 201);
    let expected = [
        Some("mirror.example/team/app:1.0"),
        None,
        Some("quay.io/team/app:2.0"),
    ];
    assert_eq!(names(&layout), expected.map(|name| name.map(str::to_owned)));
    let text = std::fs::read_to_string(layout.blob_path(&app.digest)).unwrap();
    assert_eq!(
        text.as_bytes(),
        server.get("/v2/team/app/manifests/1.0").await.body
    );
}

#[tokio::test]
async fn bare_tags_are_one_repository() {
    let (_folder, layout) = empty_layout();
    let app = write(&layout, Some("1.0"), named("a"));
    write(&layout, Some("not a tag"), named("n"));
    let store = LayoutStore::new(layout.clone(), None).bare_tags_as("app".parse().unwrap());
    let server = serve_layout(store).await;
    assert_eq!(
        digest_of(&server, "/v2/app/manifests/1.0").await,
        app.digest.to_string()
    );
    assert_eq!(
        server.get("/v2/app/tags/list").await.json()["tags"],
        json!(["1.0"])
    );
    server.push_image("app", "2.0", "{}").await;
    assert!(names(&layout).contains(&Some("2.0".into())));
    // No host is known for any other repository.
    server.push_blob("other", "{}").await;
    let refused = server
        .put(
            "other",
            "x",
            IMAGE,
            &image(&Descriptor::of("a/b", b"{}"), json!({})),
        )
        .await;
    assert_eq!(refused.error(), (405, "UNSUPPORTED".into()));
}

#[tokio::test]
async fn referrers_that_only_a_tag_or_an_index_leads_to_are_listed() {
    let (_folder, layout) = empty_layout();
    let app = write(&layout, Some("a.example/app:1.0"), named("a"));
    // As regctl writes a layout: the referrer is in the referrers tag's index, and not in
    // index.json.
    let mut referrer = write(
        &layout,
        None,
        json!({"subject": app, "artifactType": "a/b"}),
    );
    layout
        .retain_in_index(|entry| entry.digest != referrer.digest)
        .unwrap();
    referrer.artifact_type = Some("a/b".into());
    let dangling = Descriptor::of(IMAGE, b"nowhere");
    let list = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_INDEX,
        "manifests": [referrer, dangling],
    });
    let tag = format!("a.example/app:{}", referrers_tag(&app.digest));
    write_document(
        &layout,
        Some(&tag),
        media_type::IMAGE_INDEX,
        &list.to_string(),
    );
    let server = serve_layout(LayoutStore::new(layout, None)).await;
    let listed = server
        .get(&format!("/v2/app/referrers/{}", app.digest))
        .await;
    assert_eq!(listed.json()["manifests"], json!([referrer]));
}

#[tokio::test]
async fn changes_that_others_make_are_seen() {
    let (_folder, layout) = empty_layout();
    let app = write(&layout, Some("a.example/app:1.0"), named("a"));
    let server = serve_layout(LayoutStore::new(layout.clone(), None)).await;
    let path = format!("/v2/app/referrers/{}", app.digest);
    for count in 0..5 {
        let listed = server.get(&path).await.json();
        assert_eq!(listed["manifests"].as_array().unwrap().len(), count);
        write(
            &layout,
            None,
            json!({"subject": app, "artifactType": format!("a/{count}")}),
        );
        write(
            &layout,
            Some(&format!("a.example/app:t{count}")),
            named("t"),
        );
        let tags = server.get("/v2/app/tags/list").await.json();
        assert_eq!(tags["tags"].as_array().unwrap().len(), count + 2);
    }
}

#[tokio::test]
async fn what_is_needed_elsewhere_is_not_deleted() {
    let (_folder, layout) = empty_layout();
    let config = Descriptor::of("a/b", b"{}");
    let app = write(&layout, Some("a.example/app:1.0"), named("a"));
    write_document(
        &layout,
        Some("b.example/other:1.0"),
        IMAGE,
        std::str::from_utf8(&layout.read_blob(&app.digest, 1 << 20).unwrap()).unwrap(),
    );
    let server = serve_layout(LayoutStore::new(layout.clone(), None)).await;
    let blob = server
        .delete(&format!("/v2/app/blobs/{}", config.digest))
        .await;
    assert_eq!(blob.error(), (405, "UNSUPPORTED".into()));
    assert_eq!(
        server
            .delete(&format!("/v2/app/manifests/{}", app.digest))
            .await
            .status,
        202
    );
    assert_eq!(server.get("/v2/app/manifests/1.0").await.status, 404);
    assert_eq!(
        digest_of(&server, "/v2/other/manifests/1.0").await,
        app.digest.to_string()
    );
    assert_eq!(
        server
            .delete(&format!("/v2/other/manifests/{}", app.digest))
            .await
            .status,
        202
    );
    assert_eq!(layout.blob_size(&app.digest).unwrap(), None);
    assert_eq!(names(&layout), []);
    assert_eq!(
        server
            .delete(&format!("/v2/app/blobs/{}", config.digest))
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn a_damaged_or_lost_manifest_is_an_error_and_never_missing_from_a_list() {
    let (_folder, layout) = empty_layout();
    let app = write(&layout, Some("a.example/app:1.0"), named("a"));
    let good = write(
        &layout,
        None,
        json!({"subject": app, "artifactType": "a/b"}),
    );
    let bad = write(
        &layout,
        None,
        json!({"subject": app, "artifactType": "c/d"}),
    );
    let whole = std::fs::read(layout.blob_path(&bad.digest)).unwrap();
    let path = layout.blob_path(&bad.digest);
    std::fs::write(&path, "{}").unwrap();
    let server = serve_layout(LayoutStore::new(layout, None)).await;
    let manifest = |digest: &Digest| format!("/v2/app/manifests/{digest}");
    let list = format!("/v2/app/referrers/{}", app.digest);
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(&path).unwrap();
        }
        let answer = server.get(&list).await;
        assert_eq!(answer.error(), (500, "UNKNOWN".into()));
        let body = String::from_utf8_lossy(&answer.body);
        assert!(body.contains(&bad.digest.to_string()), "{body}");
        let status = server.get(&manifest(&bad.digest)).await.status;
        assert_eq!(status, if lost { 404 } else { 500 });
        assert_eq!(server.get(&manifest(&good.digest)).await.status, 200);
    }
    let digests = async || {
        let listed = server.get(&list).await.json();
        let listed = listed["manifests"].as_array().unwrap().iter();
        let mut listed: Vec<_> = listed.map(|entry| entry["digest"].clone()).collect();
        listed.sort_by_key(ToString::to_string);
        listed
    };
    std::fs::write(&path, whole).unwrap();
    let mut both = [good.digest.to_string(), bad.digest.to_string()];
    both.sort();
    assert_eq!(digests().await, both);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(server.delete(&manifest(&bad.digest)).await.status, 202);
    assert_eq!(digests().await, [good.digest.to_string()]);
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_no_file() {
    let server = folder(|builder| builder).await;
    let blobs = server.folder.as_ref().unwrap().path().join("store/blobs");
    let files = || {
        let entries = std::fs::read_dir(&blobs).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().path().is_file())
            .count()
    };
    let begun = server
        .send(server.request(reqwest::Method::POST, "/v2/app/blobs/uploads/"))
        .await;
    let location = begun.header("location").to_owned();
    let patch = server
        .request(reqwest::Method::PATCH, &location)
        .body("half");
    assert_eq!(server.send(patch).await.status, 202);
    assert_eq!(files(), 1);
    server.delete(&location).await;
    assert_eq!(files(), 0);
}

/// Bytes of a blob that is hashed once for each state of its file.
fn large() -> String {
    "large ".repeat(100_000)
}

#[tokio::test]
async fn a_link_or_a_pipe_in_the_folder_is_not_served_and_takes_no_thread() {
    let server = folder(|builder| builder).await;
    let app = server.push_image("app", "1.0", "{}").await;
    let store = server.folder.as_ref().unwrap().path().join("store");
    let layout = ImageLayout::open(store).unwrap();
    let secret = server.folder.as_ref().unwrap().path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let linked = layout.blob_path(&Digest::of(b"secret"));
    std::os::unix::fs::symlink(&secret, &linked).unwrap();
    let pipe = layout.blob_path(&Digest::of(b"pipe"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for bytes in [&b"secret"[..], b"pipe"] {
        let digest = Digest::of(bytes);
        for path in [
            format!("/v2/app/blobs/{digest}"),
            format!("/v2/app/manifests/{digest}"),
        ] {
            // More than a runtime has threads that may wait.
            for _ in 0..600 {
                assert_eq!(server.get(&path).await.error(), (500, "UNKNOWN".into()));
            }
        }
        server
            .push_blob("app", std::str::from_utf8(bytes).unwrap())
            .await;
        let answer = server.get(&format!("/v2/app/blobs/{digest}")).await;
        assert_eq!((answer.status, answer.body), (200, bytes.to_vec()));
    }
    // Each lock of the index goes through this file.
    std::fs::remove_file(layout.root().join(".index.lock")).unwrap();
    std::os::unix::fs::symlink(&secret, layout.root().join(".index.lock")).unwrap();
    let document = image(&Descriptor::of("a/b", b"{}"), named("other"));
    let refused = server.put("app", "2.0", IMAGE, &document).await;
    assert_eq!(refused.error(), (500, "UNKNOWN".into()));
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    let found = digest_of(&server, "/v2/app/manifests/1.0").await;
    assert_eq!(found, app.digest.to_string());
}

#[tokio::test]
async fn a_blob_is_served_only_as_what_it_hashes_to_and_a_push_mends_it() {
    let server = folder(|builder| builder).await;
    server.push_image("app", "1.0", "{}").await;
    let store = server.folder.as_ref().unwrap().path().join("store");
    let layout = ImageLayout::open(store).unwrap();
    for good in ["small".to_owned(), large()] {
        server.push_blob("app", &good).await;
        let digest = Digest::of(good.as_bytes());
        let path = format!("/v2/app/blobs/{digest}");
        let file = layout.blob_path(&digest);
        for damaged in [
            good.to_uppercase(),
            good[1..].to_owned(),
            String::new(),
            format!("{good}."),
        ] {
            let whole = server.get(&path).await;
            assert_eq!((whole.status, whole.body.len()), (200, good.len()));
            std::fs::write(&file, &damaged).unwrap();
            assert_eq!(server.get(&path).await.error(), (500, "UNKNOWN".into()));
            let part = server.request(reqwest::Method::GET, &path);
            let part = part.header("range", "bytes=1-2");
            assert_eq!(server.send(part).await.status, 500);
            // Whoever asks before pushing has to push.
            let asked = server.request(reqwest::Method::HEAD, &path);
            assert_eq!(server.send(asked).await.status, 404);
            let mount = format!("/v2/app/blobs/uploads/?mount={digest}&from=app");
            let mount = server.request(reqwest::Method::POST, &mount);
            assert_eq!(server.send(mount).await.status, 202);
            let document = image(&Descriptor::of("a/b", good.as_bytes()), named("needs it"));
            let refused = server.put("app", "2.0", IMAGE, &document).await;
            assert_eq!(refused.error(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
            server.push_blob("app", &good).await;
        }
        assert_eq!(server.get(&path).await.body, good.as_bytes());
    }
}

#[tokio::test]
async fn pushing_a_damaged_manifest_again_mends_it_and_its_place_among_the_referrers() {
    let server = folder(|builder| builder).await;
    let app = server.push_image("app", "1.0", "{}").await;
    let store = server.folder.as_ref().unwrap().path().join("store");
    let layout = ImageLayout::open(store).unwrap();
    let config = Descriptor::of("a/b", b"{}");
    let members = json!({"subject": app, "artifactType": "a/b"});
    let document = image(&config, members);
    let digest = Digest::of(document.as_bytes());
    let path = format!("/v2/app/manifests/{digest}");
    let referrers = format!("/v2/app/referrers/{}", app.digest);
    for again in [digest.to_string(), "tag".to_owned()] {
        for damaged in [document.to_uppercase(), "{}".to_owned()] {
            assert_eq!(
                server.put("app", &again, IMAGE, &document).await.status,
                201
            );
            let listed = server.get(&referrers).await.json();
            assert_eq!(listed["manifests"].as_array().unwrap().len(), 1);
            std::fs::write(layout.blob_path(&digest), &damaged).unwrap();
            // A store that is opened now has never seen it whole.
            let store = LayoutStore::new(layout.clone(), Some("mirror.example".parse().unwrap()));
            let server = serve_layout(store).await;
            assert_eq!(server.get(&path).await.error(), (500, "UNKNOWN".into()));
            assert_eq!(
                server.put("app", &again, IMAGE, &document).await.status,
                201
            );
            assert_eq!(server.get(&path).await.body, document.as_bytes());
            let listed = server.get(&referrers).await.json();
            assert_eq!(listed["manifests"].as_array().unwrap().len(), 1);
        }
    }
    std::fs::write(layout.blob_path(&digest), "{}").unwrap();
    let asked = server.request(reqwest::Method::HEAD, &path);
    assert_eq!(server.send(asked).await.status, 404);
    assert_eq!(server.delete(&path).await.status, 202);
    assert_eq!(server.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_manifest_that_another_one_needs_is_not_deleted() {
    let server = folder(|builder| builder).await;
    let child = server.push_image("app", "child", "{}").await;
    let text = server.get("/v2/app/manifests/child").await.body;
    let text = String::from_utf8(text).unwrap();
    let list = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_INDEX,
        "manifests": [child],
    })
    .to_string();
    let index = server
        .put("app", "list", media_type::IMAGE_INDEX, &list)
        .await;
    assert_eq!(index.status, 201);
    let holder = image(&child, named("it is the config"));
    assert_eq!(
        server.put("app", "holder", IMAGE, &holder).await.status,
        201
    );
    let path = format!("/v2/app/manifests/{}", child.digest);
    for other in [&holder, &list] {
        let refused = server.delete(&path).await;
        assert_eq!(refused.error(), (405, "UNSUPPORTED".into()));
        assert_eq!(server.get(&path).await.body, text.as_bytes());
        assert_eq!(server.get("/v2/app/manifests/child").await.status, 200);
        let other = Digest::of(other.as_bytes());
        let other = format!("/v2/app/manifests/{other}");
        assert_eq!(server.delete(&other).await.status, 202);
    }
    // Its subject is not what a referrer needs.
    server.push_referrer("app", &child, "a/b", "x").await;
    assert_eq!(server.delete(&path).await.status, 202);
    assert_eq!(server.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_blob_and_the_manifest_that_needs_it_are_both_there_or_the_push_fails() {
    let server = Arc::new(folder(|builder| builder).await);
    server.push_image("app", "1.0", "{}").await;
    for round in 0..20 {
        let blob = format!("blob {round}");
        server.push_blob("app", &blob).await;
        let blob = Descriptor::of("a/b", blob.as_bytes());
        let path = format!("/v2/app/blobs/{}", blob.digest);
        let deletion = server.delete(&path);
        let document = image(&blob, named("race"));
        let (deleted, pushed) =
            futures::join!(deletion, server.put("app", "race", IMAGE, &document));
        let there = server.get(&path).await.status == 200;
        assert_eq!(there, deleted.status == 405, "{deleted:?}");
        assert_eq!(there, pushed.status == 201, "{pushed:?}");
    }
}
