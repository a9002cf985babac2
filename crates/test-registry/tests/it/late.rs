use std::time::{Duration, Instant};

use oci_content::media_type;
use reqwest::Method;
use test_registry::{Lateness, Persona, TestRegistry};

use crate::client::{Answer, get, push_referrer, referrers, request};

async fn push_tag(registry: &TestRegistry, tag: &str, content: impl Into<reqwest::Body>) {
    let path = format!("manifests/{tag}");
    let request = request(registry, Method::PUT, "app", &path)
        .header("content-type", media_type::IMAGE_MANIFEST)
        .body(content);
    assert_eq!(Answer::of(request).await.status, 201);
}

#[tokio::test]
async fn a_pushed_referrer_is_listed_after_so_many_looks() {
    for persona in [Persona::SpecFull, Persona::PagedBytes, Persona::Quay] {
        let builder = TestRegistry::builder(persona).late_referrers(Lateness::Reads(2));
        let registry = builder.start().await;
        let image = registry.image("app", "1.0");
        let old = registry.referrer("app", &image, "a/b", "old");
        let pushed = push_referrer(&registry, "app", &image, media_type::EMPTY).await;
        assert_eq!(pushed.status, 201, "{persona}");
        for _ in 0..2 {
            let seen = referrers(&registry, "app", &image.digest).await;
            assert_eq!(seen.digests(), [old.digest.to_string()], "{persona}");
        }
        let seen = referrers(&registry, "app", &image.digest).await.digests();
        assert_eq!(seen.len(), 2, "{persona}");
        let location = pushed.header("docker-content-digest").to_owned();
        assert!(seen.contains(&location), "{persona}");
    }
}

#[tokio::test]
async fn a_pushed_referrer_is_listed_after_some_time() {
    let time = Duration::from_millis(400);
    let builder = TestRegistry::builder(Persona::SpecFull).late_referrers(Lateness::Time(time));
    let registry = builder.start().await;
    let image = registry.image("app", "1.0");
    let begin = Instant::now();
    push_referrer(&registry, "app", &image, media_type::EMPTY).await;
    while referrers(&registry, "app", &image.digest)
        .await
        .digests()
        .is_empty()
    {
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
    assert!(begin.elapsed() >= time);
}

#[tokio::test]
async fn a_pushed_tag_is_absent_or_what_it_was_until_it_can_be_seen() {
    for (persona, absent) in [(Persona::SpecFull, 404), (Persona::ArtifactoryOld, 403)] {
        let builder = TestRegistry::builder(persona).late_tags(Lateness::Reads(2));
        let registry = builder.start().await;
        let image = registry.image("app", "moved");
        let other = registry.image("app", "other");
        let manifest = registry.manifest("app", &other.digest).unwrap();
        push_tag(&registry, "new", manifest.clone()).await;
        push_tag(&registry, "moved", manifest).await;
        let listed = get(&registry, "app", "tags/list").await.tags();
        assert_eq!(listed, ["moved", "other"], "{persona}");
        for method in [Method::GET, Method::HEAD] {
            let new = request(&registry, method.clone(), "app", "manifests/new");
            assert_eq!(Answer::of(new).await.status, absent, "{persona}");
            let moved = request(&registry, method, "app", "manifests/moved");
            let moved = Answer::of(moved).await;
            let digest = moved.header("docker-content-digest").to_owned();
            assert_eq!(digest, image.digest.to_string(), "{persona}");
        }
        for tag in ["new", "moved"] {
            let seen = get(&registry, "app", &format!("manifests/{tag}")).await;
            let digest = seen.header("docker-content-digest").to_owned();
            assert_eq!(digest, other.digest.to_string(), "{persona}");
        }
        let listed = get(&registry, "app", "tags/list").await.tags();
        assert_eq!(listed, ["moved", "new", "other"], "{persona}");
    }
}

#[tokio::test]
async fn what_a_test_puts_in_is_seen_at_once() {
    let late = Lateness::Reads(5);
    let builder = TestRegistry::builder(Persona::SpecFull).late_tags(late);
    let registry = builder.late_referrers(late).start().await;
    let image = registry.image("app", "1.0");
    registry.referrer("app", &image, "a/b", "x");
    assert_eq!(get(&registry, "app", "manifests/1.0").await.status, 200);
    let seen = referrers(&registry, "app", &image.digest).await.digests();
    assert_eq!(seen.len(), 1);
}
