//! Whole calls against registries as they exist in practice.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use oci_content::{Digest, Tag, media_type};
use registry_client::{
    BlobPush, Client, ClientOptions, Credentials, ErrorKind, MemorySink, Repository,
};
use test_registry::{Fault, Framing, Persona, Route, TestRegistry};

use crate::bearer::{user, with};
use crate::support::{name, options};

fn repository(registry: &TestRegistry, options: ClientOptions) -> Repository {
    let client = Client::new(options).unwrap();
    client.repository(&registry.registry(), &name("team/app"))
}

/// Accepts `user` with `pass` wherever the persona demands credentials.
async fn start(persona: Persona) -> TestRegistry {
    TestRegistry::builder(persona)
        .credentials("user", "pass")
        .start()
        .await
}

#[tokio::test]
async fn every_persona_gives_its_manifests_blobs_and_tags() {
    for persona in Persona::ALL {
        let registry = start(persona).await;
        let image = registry.image("team/app", "1.0");
        for n in 0..7 {
            registry.tag("team/app", &format!("v{n}"), &image.digest);
        }
        let blob = registry.put_blob("team/app", vec![7; 300_000]);
        let repository = repository(&registry, with(user()));
        let tag: Tag = "1.0".parse().unwrap();
        let by_tag = repository.get_manifest(&tag).await.unwrap();
        assert_eq!(by_tag.status(), StatusCode::OK, "{persona}");
        assert!(image.digest.matches(by_tag.body()), "{persona}");
        let head = repository.head_manifest(&image.digest).await.unwrap();
        assert_eq!(head.status(), StatusCode::OK, "{persona}");

        let mut sink = MemorySink::new(blob.digest.clone(), blob.size);
        repository
            .pull_blob(&blob.digest, blob.size, &mut sink)
            .await
            .unwrap();
        assert_eq!(sink.into_bytes().unwrap().len(), 300_000, "{persona}");

        // It obeys `n` but sends no link to the rest.
        let n = (persona != Persona::Minimal).then_some(3);
        let mut page = repository.tags(n).await.unwrap();
        let mut tags = BTreeSet::new();
        for _ in 0..20 {
            assert_eq!(page.status(), StatusCode::OK, "{persona}");
            let list: serde_json::Value = serde_json::from_slice(page.body()).unwrap();
            let names = list["tags"].as_array().unwrap();
            tags.extend(names.iter().map(|tag| tag.as_str().unwrap().to_owned()));
            match repository.next_link(&page).unwrap() {
                Some(next) => page = repository.get_page(&next).await.unwrap(),
                None => break,
            }
            if persona == Persona::ArtifactoryOld {
                // Its next link leads to an error, which is not the end of the list.
                assert_eq!(page.status(), StatusCode::NOT_FOUND);
                break;
            }
        }
        let expected = registry.tags("team/app");
        if persona != Persona::ArtifactoryOld {
            assert_eq!(tags.len(), expected.len(), "{persona}: {tags:?}");
        }
    }
}

#[tokio::test]
async fn every_persona_that_can_be_written_to_takes_blobs_and_manifests() {
    for persona in Persona::ALL {
        if persona == Persona::EdgeProxy {
            continue;
        }
        let registry = start(persona).await;
        let repository = repository(&registry, with(user()));
        let config = Bytes::from_static(b"{}");
        let digest = Digest::of(&config);
        for blob in [config.clone(), Bytes::from(vec![3; 700_000])] {
            let digest = Digest::of(&blob);
            let pushed = repository
                .push_blob(&digest, blob.len() as u64, &blob, None)
                .await;
            assert_eq!(pushed.unwrap(), BlobPush::Uploaded, "{persona}");
            assert!(registry.has_blob("team/app", &digest), "{persona}");
        }
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{digest}","size":2}},"layers":[]}}"#,
            media_type::IMAGE_MANIFEST,
            media_type::IMAGE_CONFIG,
        );
        let manifest = Bytes::from(manifest);
        let answer = repository
            .put_manifest(
                &Digest::of(&manifest),
                manifest.clone(),
                media_type::IMAGE_MANIFEST,
                None,
            )
            .await
            .unwrap();
        assert_eq!(
            answer.status(),
            StatusCode::CREATED,
            "{persona}: {answer:?}"
        );
        let stored = registry.manifest("team/app", &Digest::of(&manifest));
        assert_eq!(stored, Some(manifest), "{persona}");
    }
}

#[tokio::test]
async fn tokens_of_another_host_are_shared_and_refreshed() {
    let registry = start(Persona::HubNow).await;
    let image = registry.image("team/app", "1.0");
    let mut options = with(user());
    options.max_in_flight = 32.try_into().unwrap();
    let repository = repository(&registry, options);
    let calls = (0..32).map(|_| repository.head_manifest(&image.digest));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(registry.foreign_requests().len(), 1, "one token for all");
    assert!(registry.max_in_flight_seen() <= 32);
    registry.expire_tokens();
    let answer = repository.head_manifest(&image.digest).await.unwrap();
    assert_eq!((answer.status(), answer.requests()), (StatusCode::OK, 3));
    assert_eq!(registry.foreign_requests().len(), 2);
}

#[tokio::test]
async fn a_token_that_expires_while_its_request_is_throttled_is_refreshed() {
    let registry = start(Persona::Ghcr).await;
    let image = registry.image("team/app", "1.0");
    let wait = Fault::statuses([429]).header("Retry-After", "2");
    registry.fault(Route::manifests(), wait);
    registry.fault(Route::manifests(), Fault::expire_token());
    let repository = repository(&registry, with(user()));
    let answer = repository.get_manifest(&image.digest).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let statuses = registry.requests();
    let statuses: Vec<_> = statuses
        .iter()
        .filter(|request| request.path.contains("/manifests/"))
        .filter_map(|request| request.status)
        .collect();
    assert_eq!(statuses, [429, 401, 200]);
}

#[tokio::test]
async fn a_refresh_token_is_enough_and_a_wrong_password_is_not() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .refresh_token("refresh")
        .start()
        .await;
    let image = registry.image("team/app", "1.0");
    let options = with(Credentials::IdentityToken("refresh".into()));
    let answer = repository(&registry, options)
        .get_manifest(&image.digest)
        .await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);

    let registry = start(Persona::SpecFull).await;
    let image = registry.image("team/app", "1.0");
    let wrong = Credentials::basic("user", "wrong");
    let answer = repository(&registry, with(wrong))
        .get_manifest(&image.digest)
        .await;
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Token);
    let status = error.response().unwrap().status();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_blob_survives_what_happens_on_the_way() {
    for fault in [
        Fault::reset_after(100_000),
        Fault::truncate_after(100_000),
        Fault::shorten(100_000),
        Fault::shorten(100_000).framing(Framing::Chunked),
        Fault::corrupt_byte(200_000),
        Fault::stall_after(100_000),
        Fault::statuses([500, 503]),
        Fault::expire_token(),
        Fault::reset(),
    ] {
        let registry = start(Persona::SpecFull).await;
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let blob = registry.put_blob("team/app", bytes.clone());
        let text = format!("{fault:?}");
        registry.fault(Route::blobs(), fault);
        let mut options = with(user());
        options.idle_timeout = Duration::from_millis(300);
        let repository = repository(&registry, options);
        let mut sink = MemorySink::new(blob.digest.clone(), blob.size);
        let pulled = repository
            .pull_blob(&blob.digest, blob.size, &mut sink)
            .await;
        assert!(pulled.is_ok(), "{text}: {pulled:?}");
        assert_eq!(sink.into_bytes().unwrap(), bytes, "{text}");
    }
    let registry = start(Persona::SpecFull).await;
    let blob = registry.put_blob("team/app", vec![7; 1000]);
    registry.fault(Route::blobs(), Fault::corrupt_byte(3).forever());
    let mut sink = MemorySink::new(blob.digest.clone(), blob.size);
    let error = repository(&registry, with(user()))
        .pull_blob(&blob.digest, blob.size, &mut sink)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
}

#[tokio::test]
async fn requests_in_flight_are_counted_by_the_server_as_well() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .latency(Duration::from_millis(20))
        .start()
        .await;
    let image = registry.image("team/app", "1.0");
    let repository = repository(&registry, options());
    let calls = (0..60).map(|_| repository.get_manifest(&image.digest));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    let most = registry.max_in_flight_seen();
    assert!((2..=16).contains(&most), "{most}");
}
