//! What an answer of the referrers API means when it is not a list: a fallback, or a question that
//! stays open.

use std::time::Duration;

use oci_content::Capability::{Supported, Unknown, Unsupported};
use oci_content::DiscoveryMethod::{FallbackTag, LegacyTag, Native};
use oci_content::{Descriptor, Digest, ErrorCode, WarningCode, media_type};
use oci_referrers::RegistrySources;
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry, Variant};

use crate::support::{
    API, API_AND_TAG, APP, LEGACY, SBOM, TAG, discover, discovery, expect, list, open, options,
    repository_with, sources,
};

/// An image with one referrer that API and tag list both.
fn image_with_listed(registry: &TestRegistry) -> (Descriptor, Descriptor) {
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").also_in_tag_index());
    (image, a)
}

#[tokio::test]
async fn a_login_page_with_status_200_is_no_list() {
    let registry = open(Persona::Html200).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let graph = discover(&registry, &image.digest).await;
    // The page is another host's, which says nothing about what the registry can do.
    expect(FallbackTag, Unknown)
        .found(&a, TAG)
        .warning(WarningCode::False200)
        .check(&graph);
}

#[tokio::test]
async fn a_200_whose_body_is_something_else_is_no_list_whatever_its_content_type() {
    let docker = r#"{"schemaVersion":2,
        "mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}"#;
    for (content_type, body) in [
        ("text/html", "<!doctype html><title>Sign in</title>"),
        (media_type::IMAGE_INDEX, "<!doctype html>"),
        ("application/json", "{}"),
        ("application/json", r#"{"message":"ok"}"#),
        ("application/json", "null"),
        ("text/plain", "404 page not found"),
        (
            "application/vnd.docker.distribution.manifest.list.v2+json",
            docker,
        ),
        (media_type::IMAGE_INDEX, docker),
    ] {
        let registry = open(Persona::SpecFull).await;
        let (image, a) = image_with_listed(&registry);
        registry.fault(
            Route::referrers(),
            Fault::body(200, content_type, body).forever(),
        );
        let graph = discover(&registry, &image.digest).await;
        expect(FallbackTag, Unsupported)
            .found(&a, TAG)
            .warning(WarningCode::False200)
            .check(&graph);
    }
}

#[tokio::test]
async fn the_platforms_of_a_docker_manifest_list_never_pass_for_referrers() {
    let registry = open(Persona::SpecFull).await;
    let (image, a) = image_with_listed(&registry);
    let platforms = registry.index(APP, "2.0", &["linux/amd64", "linux/arm64"]);
    let media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
    let entries: Vec<_> = platforms.children.iter().collect();
    let body = list(&entries).replacen(media_type::IMAGE_INDEX, media_type, 1);
    registry.fault(
        Route::referrers(),
        Fault::body(200, media_type, body).forever(),
    );
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .warning(WarningCode::False200)
        .check(&graph);
}

#[tokio::test]
async fn an_index_under_another_content_type_is_used() {
    for content_type in [
        "application/json; charset=utf-8",
        "text/plain",
        "application/xml",
    ] {
        let registry = open(Persona::SpecFull).await;
        let (image, a) = image_with_listed(&registry);
        let changed = Fault::pass().header("Content-Type", content_type).forever();
        registry.fault(Route::referrers().reference(&image.digest), changed);
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported)
            .found(&a, API_AND_TAG)
            .warning(WarningCode::ContentType)
            .check(&graph);
    }
    let registry = open(Persona::SpecFull).await;
    let (image, a) = image_with_listed(&registry);
    let changed = Fault::pass().without_header("Content-Type").forever();
    registry.fault(Route::referrers().reference(&image.digest), changed);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API_AND_TAG)
        .warning(WarningCode::ContentType)
        .check(&graph);
}

#[tokio::test]
async fn a_content_type_with_a_parameter_or_in_capitals_is_the_right_one() {
    for content_type in [
        "application/vnd.oci.image.index.v1+json; charset=utf-8",
        "Application/Vnd.OCI.Image.Index.V1+JSON",
    ] {
        let registry = open(Persona::SpecFull).await;
        let (image, a) = image_with_listed(&registry);
        let changed = Fault::pass().header("Content-Type", content_type).forever();
        registry.fault(Route::referrers(), changed);
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported)
            .found(&a, API_AND_TAG)
            .check(&graph);
    }
}

#[tokio::test]
async fn a_list_without_manifests_is_null_to_some_and_empty_to_us() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let body = list(&[]).replace("[]", "null");
    registry.fault(
        Route::referrers(),
        Fault::body(200, media_type::IMAGE_INDEX, body),
    );
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported).check(&graph);
}

#[tokio::test]
async fn harbor_28_says_an_empty_object_for_an_unknown_subject_and_the_tag_is_asked() {
    let registry = open(Persona::Harbor28).await;
    registry.image(APP, "1.0");
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"not pushed yet");
    let a = registry.put_referrer(APP, Referrer::new(&subject, SBOM, "a").only_in_tag_index());
    let graph = discover(&registry, &subject.digest).await;
    let report = graph.report(&subject.digest).unwrap();
    let warnings: Vec<_> = report.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(
        (report.method, report.capability),
        (FallbackTag, Unsupported)
    );
    assert_eq!(warnings, [WarningCode::False200]);
    assert_eq!(graph.referrers[0].digest, a.digest);
}

#[tokio::test]
async fn statuses_of_a_router_without_the_endpoint_lead_to_the_tag() {
    for status in [400, 404, 405, 406, 410, 415, 501] {
        let registry = open(Persona::SpecFull).await;
        let (image, a) = image_with_listed(&registry);
        let answer = Fault::body(status, "text/plain", "no such thing\n").forever();
        registry.fault(Route::referrers(), answer);
        let graph = discover(&registry, &image.digest).await;
        expect(FallbackTag, Unsupported)
            .found(&a, TAG)
            .check(&graph);
    }
}

#[tokio::test]
async fn artifactory_before_7_90_says_406_and_403_for_tags_that_do_not_exist() {
    let registry = open(Persona::ArtifactoryOld).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .warning(WarningCode::TagDenied)
        .check(&graph);

    let registry = open(Persona::ArtifactoryOld).await;
    let image = registry.image(APP, "1.0");
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .warning(WarningCode::TagDenied)
        .check(&graph);
}

#[tokio::test]
async fn quay_refuses_an_unknown_subject_with_400_and_that_is_an_answer() {
    let registry = open(Persona::Quay).await;
    registry.image(APP, "1.0");
    let graph = discover(&registry, &Digest::of(b"unknown")).await;
    expect(Native, Supported).check(&graph);

    let before = TestRegistry::builder(Persona::Quay).variant(Variant::QuayBefore312);
    let registry = before.without_auth().start().await;
    registry.image(APP, "1.0");
    let graph = discover(&registry, &Digest::of(b"unknown")).await;
    expect(FallbackTag, Unsupported).check(&graph);
}

#[tokio::test]
async fn a_refused_digest_says_nothing_about_the_api() {
    let registry = open(Persona::SpecFull).await;
    let (image, a) = image_with_listed(&registry);
    let refused = r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#;
    registry.fault(
        Route::referrers(),
        Fault::body(400, "application/json", refused).forever(),
    );
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unknown).found(&a, TAG).check(&graph);
}

#[tokio::test]
async fn a_404_name_unknown_is_settled_by_the_subject() {
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#;
    let unknown = Fault::body(404, "application/json", unknown).forever();
    let registry = open(Persona::SpecFull).await;
    let (image, a) = image_with_listed(&registry);
    registry.fault(Route::referrers(), unknown.clone());
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .check(&graph);

    let registry = open(Persona::SpecFull).await;
    registry.image(APP, "1.0");
    registry.fault(Route::referrers(), unknown);
    let graph = discover(&registry, &Digest::of(b"not there")).await;
    expect(FallbackTag, Unknown)
        .error(ErrorCode::Denied)
        .check(&graph);
}

#[tokio::test]
async fn a_404_for_a_subject_that_is_not_there_does_not_make_the_api_absent() {
    for (persona, variant) in [
        (Persona::Quay, Some(Variant::QuayBefore312)),
        (Persona::Harbor28, None),
    ] {
        let mut builder = TestRegistry::builder(persona).without_auth();
        if let Some(variant) = variant {
            builder = builder.variant(variant);
        }
        let registry = builder.start().await;
        let mut subjects = vec![Digest::of(b"not there")];
        for number in 0..30 {
            let image = registry.image(APP, &format!("v{number}"));
            registry.referrer(APP, &image, "application/spdx+json", format!("{number}"));
            subjects.push(image.digest);
        }
        let sources = sources(&registry);
        let first = sources.discovery(None).run([subjects[0].clone()]).await;
        assert!(first.referrers.is_empty());
        let all = sources
            .discovery(None)
            .one_of_many(true)
            .run(subjects)
            .await;
        assert_eq!(all.referrers.len(), 30, "{persona}");
    }
}

#[tokio::test]
async fn one_404_does_not_make_an_api_absent_that_has_listed_something() {
    let before = TestRegistry::builder(Persona::Quay).variant(Variant::QuayBefore312);
    let registry = before.without_auth().start().await;
    let [first, second, third] = ["1.0", "2.0", "3.0"].map(|tag| registry.image(APP, tag));
    let a = registry.referrer(APP, &third, SBOM, "a");
    let sources = sources(&registry);
    let run = async |image: &Descriptor| {
        let discovery = sources.discovery(None).depth(Some(1)).one_of_many(true);
        discovery.run([image.digest.clone()]).await
    };
    expect(Native, Supported).check(&run(&first).await);
    let silent = Fault::body(404, "text/plain", "404 page not found\n");
    registry.fault(Route::referrers().reference(&second.digest), silent);
    expect(FallbackTag, Unsupported).check(&run(&second).await);
    expect(Native, Supported)
        .found(&a, API)
        .check(&run(&third).await);
}

#[tokio::test]
async fn harbor_27_denies_the_api_alone_and_the_tag_answers() {
    let registry = open(Persona::Harbor27).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    expect(FallbackTag, Unknown)
        .found(&a, TAG)
        .warning(WarningCode::CapabilityBlocked)
        .check(&graph);
}

#[tokio::test]
async fn an_api_that_is_denied_and_no_tag_leave_the_question_open() {
    let registry = open(Persona::Harbor27).await;
    let image = registry.image(APP, "1.0");
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unknown)
        .error(ErrorCode::Denied)
        .check(&graph);

    // A tag that is there and holds no index does not answer either.
    registry.legacy(APP, &image.digest, "sig", "s");
    let tag = oci_content::referrers_tag(&image.digest);
    let other = registry.image(APP, "other");
    registry.tag(APP, tag.as_str(), &other.digest);
    let signature = registry.resolve(APP, &format!("{tag}.sig")).unwrap();
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    let held = Descriptor::new(media_type::IMAGE_MANIFEST, signature, 0);
    expect(LegacyTag, Unknown)
        .legacy(&image.digest, &held, "sig")
        .warning(WarningCode::NotAnIndex)
        .error(ErrorCode::Denied)
        .check(&graph);
}

#[tokio::test]
async fn once_a_referrers_tag_answers_deeper_subjects_of_a_denied_api_need_none() {
    let registry = open(Persona::Harbor27).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    registry.legacy(APP, &a.digest, "sig", "s");
    let signature = format!("{}.sig", oci_content::referrers_tag(&a.digest));
    let signature = registry.resolve(APP, &signature).unwrap();
    let held = Descriptor::new(media_type::IMAGE_MANIFEST, signature, 0);
    let expected = expect(FallbackTag, Unknown)
        .found(&a, TAG)
        .tagged(2, &a.digest, &held, "sig", LEGACY)
        .warning(WarningCode::CapabilityBlocked);
    // Whichever answer comes last.
    let tag = oci_content::referrers_tag(&image.digest);
    for route in [
        Route::manifests().reference(&tag),
        Route::referrers().reference(&image.digest),
        Route::referrers().reference(&a.digest),
    ] {
        registry.clear_faults();
        registry.fault(route, Fault::delay(Duration::from_millis(200)).forever());
        let graph = discover(&registry, &image.digest).await;
        expected.check(&graph);
        let warned = graph.subjects.iter().map(|subject| subject.warnings.len());
        assert_eq!(warned.collect::<Vec<_>>(), [1, 1, 1]);
    }
    registry.clear_faults();

    // Another image needs a tag of its own; and a tag that holds something else is not absent.
    let other = registry.image(APP, "2.0");
    let both = [image.digest.clone(), other.digest.clone()];
    let graph = discovery(&registry).run(both).await;
    let errors: Vec<_> = graph
        .subjects
        .iter()
        .filter(|subject| !subject.errors.is_empty())
        .collect();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].subject, other.digest);
    let tag = oci_content::referrers_tag(&a.digest);
    registry.tag(APP, tag.as_str(), &other.digest);
    let graph = discover(&registry, &image.digest).await;
    expected
        .warning(WarningCode::NotAnIndex)
        .error(ErrorCode::Denied)
        .check(&graph);
}

#[tokio::test]
async fn a_denied_api_whose_subject_only_a_get_reads_is_blocked_all_the_same() {
    for status in [400, 403, 404, 405, 501] {
        let registry = open(Persona::Harbor27).await;
        let image = registry.image(APP, "1.0");
        let a = registry.referrer(APP, &image, SBOM, "a");
        let head = Route::manifests().method("HEAD");
        registry.fault(head, Fault::statuses([status]).forever());
        expect(FallbackTag, Unknown)
            .found(&a, TAG)
            .warning(WarningCode::CapabilityBlocked)
            .check(&discover(&registry, &image.digest).await);
    }
}

#[tokio::test]
async fn an_api_that_is_denied_and_configured_away_leaves_nothing_open() {
    let registry = open(Persona::Harbor27).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let sources = sources(&registry).configured(Some(Unsupported));
    let graph = sources.discovery(None).run([image.digest.clone()]).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .check(&graph);
}

#[tokio::test]
async fn an_api_that_is_configured_away_is_not_asked() {
    let registry = open(Persona::Harbor27).await;
    let image = registry.image(APP, "1.0");
    let sources = sources(&registry).configured(Some(Unsupported));
    let graph = sources.discovery(None).run([image.digest.clone()]).await;
    expect(FallbackTag, Unsupported).check(&graph);
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| !request.path.contains("/referrers/"))
    );
}

#[tokio::test]
async fn a_403_of_the_api_alone_is_blocked_and_not_remembered() {
    let registry = open(Persona::SpecFull).await;
    let (image, a) = image_with_listed(&registry);
    registry.fault(Route::referrers(), Fault::statuses([403]));
    let sources = sources(&registry);
    let first = sources
        .discovery(None)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    expect(FallbackTag, Unknown)
        .found(&a, TAG)
        .warning(WarningCode::CapabilityBlocked)
        .check(&first);
    let second = sources
        .discovery(None)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    expect(Native, Supported)
        .found(&a, API_AND_TAG)
        .check(&second);
}

#[tokio::test]
async fn whoever_may_not_read_the_subject_learns_nothing() {
    for status in [401, 403] {
        let registry = open(Persona::SpecFull).await;
        let (image, _) = image_with_listed(&registry);
        registry.fault(Route::any(), Fault::statuses([status]).forever());
        let graph = discover(&registry, &image.digest).await;
        let report = graph.report(&image.digest).unwrap();
        assert!(graph.referrers.is_empty(), "{status}");
        assert_eq!(report.capability, Unknown, "{status}");
        assert!(!report.errors.is_empty(), "{status}");
        assert!(
            report
                .errors
                .iter()
                .all(|error| error.code == ErrorCode::Denied),
            "{status}"
        );
    }
}

#[tokio::test]
async fn an_api_that_cannot_answer_now_makes_the_result_incomplete_and_the_tag_is_read_all_the_same()
 {
    for (fault, code) in [
        (Fault::statuses([429]), ErrorCode::RateLimited),
        (Fault::statuses([500]), ErrorCode::ServerError),
        (Fault::statuses([502]), ErrorCode::ServerError),
        (Fault::statuses([503]), ErrorCode::ServerError),
        (Fault::statuses([504]), ErrorCode::ServerError),
        (Fault::statuses([424]), ErrorCode::ServerError),
        (Fault::statuses([418]), ErrorCode::ServerError),
        (Fault::reset(), ErrorCode::Network),
        (Fault::truncate_after(10), ErrorCode::Network),
        (Fault::stall(), ErrorCode::Timeout),
        (Fault::stall_after(10), ErrorCode::Timeout),
    ] {
        let registry = open(Persona::SpecFull).await;
        let (image, a) = image_with_listed(&registry);
        registry.fault(Route::referrers(), fault.forever());
        let mut options = options();
        options.retry.max_attempts = 2.try_into().unwrap();
        options.response_timeout = Duration::from_secs(1);
        options.idle_timeout = Duration::from_secs(1);
        let sources = RegistrySources::new(repository_with(&registry, options));
        let graph = sources
            .discovery(None)
            .depth(Some(1))
            .run([image.digest.clone()])
            .await;
        expect(FallbackTag, Unknown)
            .found(&a, TAG)
            .error(code)
            .check(&graph);
    }
}

#[tokio::test]
async fn an_api_that_recovers_within_the_retries_is_complete() {
    for statuses in [[429, 429], [500, 503], [502, 504]] {
        let registry = open(Persona::SpecFull).await;
        let image = registry.image(APP, "1.0");
        let a = registry.referrer(APP, &image, SBOM, "a");
        registry.fault(Route::referrers(), Fault::statuses(statuses));
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported).found(&a, API).check(&graph);
    }
}

#[tokio::test]
async fn a_cache_rule_whose_upstream_failed_says_nothing_about_referrers() {
    let edge = TestRegistry::builder(Persona::EdgeProxy).variant(Variant::EdgeFailedDependency);
    let registry = edge.start().await;
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").only_in_tag_index());
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    expect(FallbackTag, Unknown)
        .found(&a, TAG)
        .error(ErrorCode::ServerError)
        .check(&graph);
}

#[tokio::test]
async fn an_edge_that_forbids_the_api_is_blocked() {
    let edge = TestRegistry::builder(Persona::EdgeProxy).variant(Variant::EdgeForbidden);
    let registry = edge.start().await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    expect(FallbackTag, Unknown)
        .found(&a, TAG)
        .warning(WarningCode::CapabilityBlocked)
        .check(&graph);
}
