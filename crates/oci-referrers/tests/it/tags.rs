//! Tags: asked for one by one, or answered for by one listing of all of them.

use oci_content::Capability::{Supported, Unsupported};
use oci_content::DiscoveryMethod::{FallbackTag, LegacyTag, Native};
use oci_content::{
    Algorithm, Completeness, Descriptor, Digest, ErrorCode, WarningCode, media_type, referrers_tag,
};
use oci_referrers::{LegacyTags, list_tags};
use test_registry::{Fault, Persona, RecordedRequest, Route, TestRegistry, Variant};

use crate::support::{
    API, APP, SBOM, TAG, discover, discovery, expect, limits, open, repository, sources,
};

/// An image with a `.sig` that is a known suffix and a `.vex` that is not.
fn image_with_legacy(registry: &TestRegistry) -> (Descriptor, Descriptor, Descriptor) {
    let image = registry.image(APP, "1.0");
    let signature = registry.legacy(APP, &image.digest, "sig", "s");
    let statement = registry.legacy(APP, &image.digest, "vex", "v");
    (image, signature, statement)
}

fn requests_for(registry: &TestRegistry, text: &str) -> Vec<RecordedRequest> {
    let requests = registry.requests().into_iter();
    requests
        .filter(|request| request.path.contains(text))
        .collect()
}

#[tokio::test]
async fn all_suffixes_are_found_by_a_listing() {
    let registry = open(Persona::Dist2).await;
    let (image, signature, statement) = image_with_legacy(&registry);
    let long = registry.legacy(APP, &image.digest, "my.own-suffix_2", "o");
    // Tags that only look like it.
    let encoded = image.digest.encoded();
    for stray in [
        format!("sha256-{encoded}sig"),
        format!("sha256-{}.sig", &encoded[1..]),
    ] {
        registry.tag(APP, &stray, &signature.digest);
    }
    let graph = discover(&registry, &image.digest).await;
    expect(LegacyTag, Unsupported)
        .legacy(&image.digest, &signature, "sig")
        .legacy(&image.digest, &statement, "vex")
        .legacy(&image.digest, &long, "my.own-suffix_2")
        .check(&graph);
}

#[tokio::test]
async fn known_suffixes_need_no_listing() {
    let registry = open(Persona::Dist2).await;
    let (image, signature, _) = image_with_legacy(&registry);
    let known = sources(&registry)
        .legacy_tags(LegacyTags::Known)
        .discovery(None);
    let graph = known.depth(Some(1)).run([image.digest.clone()]).await;
    expect(LegacyTag, Unsupported)
        .legacy(&image.digest, &signature, "sig")
        .check(&graph);
    assert!(requests_for(&registry, "/tags/list").is_empty());
    assert_eq!(
        registry.requests().len(),
        5,
        "API, referrers tag and three legacy tags"
    );
}

#[tokio::test]
async fn known_suffixes_of_deeper_subjects_are_answered_for_by_the_listing() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let signature = registry.legacy(APP, &a.digest, "sig", "s");
    registry.legacy(APP, &a.digest, "vex", "v");
    let known = sources(&registry)
        .legacy_tags(LegacyTags::Known)
        .discovery(None);
    let graph = known.run([image.digest.clone()]).await;
    expect(Native, Supported)
        .found(&a, API)
        .tagged(2, &a.digest, &signature, "sig", crate::support::LEGACY)
        .check(&graph);
    assert_eq!(requests_for(&registry, "/tags/list").len(), 1);
}

#[tokio::test]
async fn a_legacy_tag_that_holds_the_image_itself_is_no_referrer() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        for suffix in ["sbom", "sig", "own"] {
            let tag = format!("{}.{suffix}", referrers_tag(&image.digest));
            registry.tag(APP, &tag, &image.digest);
        }
        let graph = discover(&registry, &image.digest).await;
        assert_eq!(graph.referrers.len(), 0, "{persona}");
        assert_eq!(graph.status(), Completeness::Complete, "{persona}");
        let codes = graph.warnings().map(|warning| warning.code);
        let codes: Vec<_> = codes
            .filter(|code| *code == WarningCode::TagIsSubject)
            .collect();
        assert!(!codes.is_empty(), "{persona}");
    }
}

#[tokio::test]
async fn no_legacy_tag_is_asked_for_when_they_are_off() {
    let registry = open(Persona::Dist2).await;
    let (image, ..) = image_with_legacy(&registry);
    let off = sources(&registry)
        .legacy_tags(LegacyTags::Off)
        .discovery(None);
    let graph = off.run([image.digest.clone()]).await;
    expect(FallbackTag, Unsupported).check(&graph);
    let asked: Vec<_> = registry
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    let tag = referrers_tag(&image.digest);
    let expected = [
        format!("/v2/{APP}/manifests/{tag}"),
        format!("/v2/{APP}/referrers/{}", image.digest),
    ];
    let mut sorted = asked.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
}

#[tokio::test]
async fn a_sha512_subject_has_no_legacy_tags() {
    let registry = open(Persona::Dist2).await;
    registry.image(APP, "1.0");
    let subject = Digest::compute(Algorithm::Sha512, b"subject");
    let graph = discover(&registry, &subject).await;
    expect(FallbackTag, Unsupported).check(&graph);
    assert!(requests_for(&registry, ".sig").is_empty());
}

#[tokio::test]
async fn every_way_to_page_a_listing_is_walked_to_its_end() {
    for (persona, page) in [
        (Persona::SpecFull, 3),
        (Persona::PagedBytes, 3),
        (Persona::Ecr, 3),
        (Persona::Quay, 3),
        (Persona::Ghcr, 3),
        (Persona::Harbor28, 3),
        (Persona::Dist2, 3),
        (Persona::Dist3, 3),
        (Persona::GitLab, 3),
        (Persona::EdgeProxy, 3),
    ] {
        let builder = TestRegistry::builder(persona).without_auth();
        let registry = builder.page_size(page).start().await;
        let (image, signature, statement) = image_with_legacy(&registry);
        for number in 0..20 {
            registry.tag(APP, &format!("v{number}"), &image.digest);
        }
        let run = discovery(&registry).depth(Some(1));
        let graph = run.run([image.digest.clone()]).await;
        let mut found: Vec<_> = graph.referrers.iter().map(|found| &found.digest).collect();
        let mut expected = [&signature.digest, &statement.digest];
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{persona}");
        assert_eq!(graph.errors().count(), 0, "{persona}");
    }
}

#[tokio::test]
async fn a_listing_without_links_that_begins_anew_behind_its_end_is_read_once() {
    for tags in [999, 1_000, 1_001, 2_000] {
        let registry = open(Persona::Minimal).await;
        let (image, signature, statement) = image_with_legacy(&registry);
        for number in 0..tags - 3 {
            registry.tag(APP, &format!("v{number:04}"), &image.digest);
        }
        assert_eq!(registry.tags(APP).len(), tags);
        let run = discovery(&registry).depth(Some(1));
        let graph = run.run([image.digest.clone()]).await;
        expect(Native, Supported)
            .legacy(&image.digest, &signature, "sig")
            .legacy(&image.digest, &statement, "vex")
            .check(&graph);
        assert!(requests_for(&registry, "/tags/list").len() <= 3, "{tags}");
    }
}

#[tokio::test]
async fn a_throttled_listing_in_no_order_is_read_to_its_end() {
    let registry = TestRegistry::builder(Persona::Ecr)
        .without_auth()
        .page_size(100)
        .start()
        .await;
    let (image, signature, statement) = image_with_legacy(&registry);
    for number in 0..4_997 {
        registry.tag(APP, &format!("v{number}"), &image.digest);
    }
    for page in [0, 7, 20, 48] {
        registry.fault(Route::tags(), Fault::statuses([429]).skip(page));
    }
    let run = discovery(&registry).depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    expect(Native, Supported)
        .legacy(&image.digest, &signature, "sig")
        .legacy(&image.digest, &statement, "vex")
        .check(&graph);
    assert_eq!(requests_for(&registry, "/tags/list").len(), 54);
}

#[tokio::test]
async fn fifty_thousand_tags_are_more_than_are_read_unless_somebody_says_so() {
    let registry = open(Persona::Dist3).await;
    let image = registry.image(APP, "1.0");
    for number in 0..50_000 {
        registry.tag(APP, &format!("a{number:05}"), &image.digest);
    }
    let signature = registry.legacy(APP, &image.digest, "sig", "s");
    let statement = registry.legacy(APP, &image.digest, "vex", "v");
    let run = discovery(&registry).depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    expect(LegacyTag, Unsupported)
        .legacy(&image.digest, &signature, "sig")
        .warning(WarningCode::TagScanLimited)
        .check(&graph);
    assert!(requests_for(&registry, "/tags/list").len() <= 11);

    registry.clear_requests();
    let run = sources(&registry)
        .limits(limits(|limits| limits.max_tags = 60_000))
        .discovery(None)
        .depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    expect(LegacyTag, Unsupported)
        .legacy(&image.digest, &signature, "sig")
        .legacy(&image.digest, &statement, "vex")
        .check(&graph);
    assert_eq!(requests_for(&registry, "/tags/list").len(), 51);
}

#[tokio::test]
async fn beyond_the_limit_each_tag_of_a_deeper_subject_is_asked_for() {
    let registry = TestRegistry::builder(Persona::Dist3)
        .without_auth()
        .page_size(2)
        .start()
        .await;
    let image = registry.image(APP, "1.0");
    for number in 0..10 {
        registry.tag(APP, &format!("a{number}"), &image.digest);
    }
    let a = registry.referrer(APP, &image, SBOM, "a");
    let b = registry.referrer(APP, &a, SBOM, "b");
    let signature = registry.legacy(APP, &a.digest, "sig", "s");
    let run = sources(&registry)
        .limits(limits(|limits| limits.max_tags = 3))
        .discovery(None);
    let graph = run.run([image.digest.clone()]).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .found_at(2, &b, TAG)
        .tagged(2, &a.digest, &signature, "sig", crate::support::LEGACY)
        .warning(WarningCode::TagScanLimited)
        .check(&graph);
}

#[tokio::test]
async fn a_listing_that_is_denied_is_a_warning_and_known_tags_are_asked_for() {
    for fault in [
        Fault::statuses([401]),
        Fault::statuses([403]),
        Fault::statuses([405]),
        Fault::statuses([501]),
        Fault::body(404, "text/plain", "404 page not found"),
    ] {
        let registry = open(Persona::SpecFull).await;
        let (image, signature, _) = image_with_legacy(&registry);
        let a = registry.referrer(APP, &image, SBOM, "a");
        let of_a = registry.legacy(APP, &a.digest, "att", "t");
        registry.fault(Route::tags(), fault.forever());
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported)
            .found(&a, API)
            .legacy(&image.digest, &signature, "sig")
            .tagged(2, &a.digest, &of_a, "att", crate::support::LEGACY)
            .warning(WarningCode::TagListDenied)
            .check(&graph);

        let known = sources(&registry)
            .legacy_tags(LegacyTags::Known)
            .discovery(None);
        let graph = known.depth(Some(1)).run([image.digest.clone()]).await;
        expect(Native, Supported)
            .found(&a, API)
            .legacy(&image.digest, &signature, "sig")
            .check(&graph);
    }
}

#[tokio::test]
async fn a_repository_without_tags_may_be_an_unknown_name_to_its_listing() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    registry.untag(APP, "1.0");
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#;
    registry.fault(
        Route::tags(),
        Fault::body(404, "application/json", unknown).forever(),
    );
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported).check(&graph);
}

#[tokio::test]
async fn a_listing_that_is_null_has_no_tags() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let body = format!(r#"{{"name":"{APP}","tags":null}}"#);
    registry.fault(
        Route::tags(),
        Fault::body(200, "application/json", body).forever(),
    );
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported).check(&graph);
}

#[tokio::test]
async fn a_listing_that_is_none_is_never_an_empty_one() {
    let name = format!(r#"{{"name":"{APP}"}}"#);
    let null = r#"{"tags":null}"#.to_owned();
    let whole = format!(r#"{{"name":"{APP}","tags":["1.0"]}}"#);
    for (content_type, body, is_list) in [
        ("application/json", name.clone(), true),
        ("text/plain", null.clone(), true),
        ("text/plain", whole.clone(), true),
        ("application/json", "{}".into(), false),
        ("application/json", r#"{"errors":[]}"#.into(), false),
        (
            "application/json",
            format!(r#"{{"name":"{APP}","errors":[]}}"#),
            false,
        ),
        (
            "application/json",
            r#"{"tags":null,"errors":[{"code":"UNKNOWN"}]}"#.into(),
            false,
        ),
        ("application/json", r#"{"name":null}"#.into(), false),
        ("application/json", r#"{"tags":{}}"#.into(), false),
        ("application/json", r#"{"tags":[1]}"#.into(), false),
        ("application/json", "null".into(), false),
        ("application/json", "[]".into(), false),
        ("application/json", r#"["team/app",["1.0"]]"#.into(), false),
        ("application/json", String::new(), false),
        ("application/json", whole[..whole.len() - 1].into(), false),
        ("text/html", "<!doctype html>".into(), false),
    ] {
        let registry = open(Persona::SpecFull).await;
        let image = registry.image(APP, "1.0");
        let fault = Fault::body(200, content_type, body.clone()).forever();
        registry.fault(Route::tags(), fault);
        let graph = discover(&registry, &image.digest).await;
        let expected = expect(Native, Supported);
        match is_list {
            true => expected.check(&graph),
            false => expected.error(ErrorCode::TagListFailed).check(&graph),
        }
        let listed = list_tags(&repository(&registry), 10).await;
        assert_eq!(listed.is_ok(), is_list, "{body}: {listed:?}");
    }
}

#[tokio::test]
async fn a_page_size_that_is_refused_is_left_to_the_registry() {
    for status in [400, 406, 413, 416, 422] {
        for with_link in [true, false] {
            let registry = TestRegistry::builder(Persona::SpecFull).without_auth();
            let registry = registry.page_size(2).start().await;
            let (image, _, statement) = image_with_legacy(&registry);
            for number in 0..3 {
                registry.tag(APP, &format!("v{number}"), &image.digest);
            }
            let refusal = Fault::statuses([status]).forever();
            registry.fault(Route::tags().containing("n=1000"), refusal);
            if !with_link {
                registry.fault(
                    Route::tags(),
                    Fault::pass().without_header("Link").forever(),
                );
            }
            let graph = discover(&registry, &image.digest).await;
            assert_eq!(graph.errors().count(), 0, "{:#?}", graph.subjects);
            let tags = graph
                .referrers
                .iter()
                .filter_map(|known| known.tag.as_ref());
            let vex = tags.filter(|tag| tag.as_str().ends_with(".vex")).count();
            assert_eq!(vex, usize::from(statement.size > 0));
            let listed = list_tags(&repository(&registry), 100).await.unwrap();
            assert_eq!(
                listed.len(),
                registry.tags(APP).len(),
                "{status} {with_link}"
            );
        }
    }
    // What is not about the page size is what it was.
    for (status, code) in [(429, ErrorCode::RateLimited), (500, ErrorCode::ServerError)] {
        let registry = open(Persona::SpecFull).await;
        registry.image(APP, "1.0");
        registry.fault(Route::tags(), Fault::statuses([status]).forever());
        let listed = list_tags(&repository(&registry), 10).await;
        assert_eq!(listed.unwrap_err().code, code);
        let asked = registry.requests().into_iter();
        let mut asked = asked.filter(|request| request.path.ends_with("/tags/list"));
        assert!(asked.all(|request| request.query.contains("n=1000")));
    }
}

#[tokio::test]
async fn a_page_that_was_guessed_may_be_refused_but_not_fail() {
    for (status, end) in [
        (400, None),
        (404, None),
        (403, Some(ErrorCode::Denied)),
        (429, Some(ErrorCode::RateLimited)),
        (503, Some(ErrorCode::ServerError)),
    ] {
        let registry = open(Persona::SpecFull).await;
        let image = registry.image(APP, "1.0");
        for number in 0..999 {
            registry.tag(APP, &format!("v{number}"), &image.digest);
        }
        let fault = Fault::statuses([status]).forever();
        registry.fault(Route::tags().containing("last="), fault);
        let listed = list_tags(&repository(&registry), 10_000).await;
        assert_eq!(listed.err().map(|problem| problem.code), end, "{status}");
    }
}

#[tokio::test]
async fn a_listing_that_breaks_is_an_error_and_known_tags_are_asked_for() {
    let html = Fault::body(200, "text/html", "<!doctype html>");
    let text = Fault::body(200, "application/json", r#"{"tags":"none"}"#);
    let circle = Fault::pass().header("Link", format!("</v2/{APP}/tags/list?n=2>; rel=\"next\""));
    let itself = Fault::pass().header("Link", "<?n=1000>; rel=\"next\"");
    let elsewhere = Fault::pass().header("Link", "<http://127.0.0.1:1/v2/>; rel=\"next\"");
    for fault in [
        Fault::statuses([500]).forever(),
        Fault::statuses([503]).skip(1).forever(),
        Fault::statuses([404]).skip(1).forever(),
        Fault::statuses([403]).skip(1).forever(),
        Fault::statuses([429]).skip(2).forever(),
        Fault::reset().skip(1).forever(),
        html.clone().forever(),
        html.skip(1).forever(),
        text.forever(),
        circle.forever(),
        itself.forever(),
        elsewhere.forever(),
    ] {
        let registry = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .page_size(2)
            .start()
            .await;
        let (image, signature, _) = image_with_legacy(&registry);
        for number in 0..10 {
            registry.tag(APP, &format!("a{number}"), &image.digest);
        }
        registry.fault(Route::tags(), fault);
        let run = discovery(&registry).depth(Some(1));
        let graph = run.run([image.digest.clone()]).await;
        expect(Native, Supported)
            .legacy(&image.digest, &signature, "sig")
            .error(ErrorCode::TagListFailed)
            .check(&graph);
        assert!(requests_for(&registry, "/tags/list").len() < 15);
    }
}

#[tokio::test]
async fn what_a_broken_listing_has_shown_is_used() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .page_size(3)
        .start()
        .await;
    let (image, signature, statement) = image_with_legacy(&registry);
    registry.tag(APP, "z", &image.digest);
    registry.fault(Route::tags(), Fault::statuses([500]).skip(1).forever());
    let run = discovery(&registry).depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    expect(Native, Supported)
        .legacy(&image.digest, &signature, "sig")
        .legacy(&image.digest, &statement, "vex")
        .error(ErrorCode::TagListFailed)
        .check(&graph);
}

#[tokio::test]
async fn a_next_link_with_a_wrong_path_breaks_the_listing() {
    // Artifactory's leaves the repository's first part out, and counts instead of naming the last
    // tag.
    let artifactory = TestRegistry::builder(Persona::ArtifactoryOld).without_auth();
    let registry = artifactory.page_size(2).start().await;
    let (image, signature, _) = image_with_legacy(&registry);
    let run = discovery(&registry).depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    let found: Vec<_> = graph.referrers.iter().map(|found| &found.digest).collect();
    assert!(found.contains(&&signature.digest));
    let errors: Vec<_> = graph.errors().map(|error| error.code).collect();
    assert_eq!(errors, [ErrorCode::TagListFailed]);
}

#[tokio::test]
async fn a_last_tag_that_has_vanished_breaks_the_listing() {
    let zot = TestRegistry::builder(Persona::SpecFull).variant(Variant::Zot);
    let registry = zot.without_auth().page_size(2).start().await;
    let (image, signature, statement) = image_with_legacy(&registry);
    registry.tag(APP, "z", &image.digest);
    let gone = Fault::pass().header("Link", format!("</v2/{APP}/tags/list?last=gone>; rel=next"));
    registry.fault(Route::tags(), gone);
    let run = discovery(&registry).depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    let expected = expect(Native, Supported)
        .legacy(&image.digest, &signature, "sig")
        .error(ErrorCode::TagListFailed);
    // The first page holds `1.0` and the `.sig`; nobody has shown the `.vex`.
    expected.check(&graph);
    assert!(
        graph
            .referrers
            .iter()
            .all(|found| found.digest != statement.digest)
    );
}

#[tokio::test]
async fn a_thousand_pages_of_tags_are_enough() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .page_size(1)
        .start()
        .await;
    let image = registry.image(APP, "1.0");
    for number in 0..1_100 {
        registry.tag(APP, &format!("a{number}"), &image.digest);
    }
    let run = discovery(&registry).depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    expect(Native, Supported)
        .error(ErrorCode::TagListFailed)
        .check(&graph);
    assert_eq!(requests_for(&registry, "/tags/list").len(), 1_000);
}

#[tokio::test]
async fn a_tag_that_is_denied_counts_as_absent_only_where_one_that_cannot_exist_is_denied_too() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let tag = referrers_tag(&image.digest);
    let denied = Fault::statuses([403]).forever();
    registry.fault(Route::manifests().reference(&tag), denied.clone());
    let run = discovery(&registry).depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    expect(Native, Supported)
        .found(&a, API)
        .error(ErrorCode::Denied)
        .check(&graph);

    registry.clear_faults();
    registry.fault(
        Route::manifests().containing("manifests/sha256-"),
        denied.clone(),
    );
    let graph = run.run([image.digest.clone()]).await;
    expect(Native, Supported)
        .found(&a, API)
        .warning(WarningCode::TagDenied)
        .check(&graph);

    // Where HEAD is not served, a GET tells the same.
    for status in [403, 405] {
        let head = Route::manifests().method("HEAD");
        registry.clear_faults();
        registry.fault(head.clone(), Fault::statuses([status]).forever());
        let tags = Route::manifests().containing("manifests/sha256-");
        registry.fault(tags, denied.clone());
        let graph = run.run([image.digest.clone()]).await;
        expect(Native, Supported)
            .found(&a, API)
            .warning(WarningCode::TagDenied)
            .check(&graph);
        registry.clear_faults();
        registry.fault(head, Fault::statuses([status]).forever());
        registry.fault(Route::manifests().reference(&tag), denied.clone());
        let graph = run.run([image.digest.clone()]).await;
        expect(Native, Supported)
            .found(&a, API)
            .error(ErrorCode::Denied)
            .check(&graph);
    }

    // Who may not read the subject either learns nothing from it.
    registry.clear_faults();
    registry.fault(
        Route::manifests().containing("manifests/sha256-"),
        denied.clone(),
    );
    registry.fault(Route::manifests().reference(&image.digest), denied);
    let graph = run.run([image.digest.clone()]).await;
    expect(Native, Supported)
        .found(&a, API)
        .error(ErrorCode::Denied)
        .check(&graph);
}

#[tokio::test]
async fn a_legacy_tag_that_is_denied_counts_as_absent_on_the_same_terms() {
    let registry = open(Persona::SpecFull).await;
    let (image, _, statement) = image_with_legacy(&registry);
    let denied = Fault::statuses([403]).forever();
    registry.fault(Route::manifests().containing(".sig"), denied);
    let run = discovery(&registry).depth(Some(1));
    let graph = run.run([image.digest.clone()]).await;
    expect(Native, Supported)
        .legacy(&image.digest, &statement, "vex")
        .error(ErrorCode::Denied)
        .check(&graph);
}

#[tokio::test]
async fn a_tag_that_cannot_be_read_makes_the_result_incomplete() {
    for (fault, code) in [
        (Fault::statuses([401]), ErrorCode::Denied),
        (Fault::statuses([429]), ErrorCode::RateLimited),
        (Fault::statuses([500]), ErrorCode::ServerError),
        (Fault::statuses([400]), ErrorCode::ServerError),
        (Fault::reset(), ErrorCode::Network),
        (Fault::redirect("?again", 307), ErrorCode::ServerError),
    ] {
        for suffix in ["", ".sig", ".vex"] {
            let registry = open(Persona::SpecFull).await;
            let (image, ..) = image_with_legacy(&registry);
            let a = registry.referrer(APP, &image, SBOM, "a");
            let tag = format!("{}{suffix}", referrers_tag(&image.digest));
            registry.fault(Route::manifests().reference(tag), fault.clone().forever());
            let run = discovery(&registry).depth(Some(1));
            let graph = run.run([image.digest.clone()]).await;
            let errors: Vec<_> = graph.errors().map(|error| error.code).collect();
            assert_eq!(errors, [code], "{suffix:?} {fault:?}");
            assert!(graph.referrers.iter().any(|found| found.digest == a.digest));
            let lost = usize::from(!suffix.is_empty());
            assert_eq!(graph.referrers.len(), 3 - lost, "{suffix:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_tag_that_the_listing_shows_and_that_is_gone_since_is_noticed() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let tag = format!("{}.vex", referrers_tag(&image.digest));
    registry.tag(APP, &tag, &Digest::of(b"gone"));
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .warning(WarningCode::DanglingReferrer)
        .check(&graph);
}

#[tokio::test]
async fn an_empty_page_of_tags_may_have_a_next_one() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let vex = registry.legacy(APP, &image.digest, "vex", "legacy");
    for tags in ["[]", "null"] {
        let page = format!(r#"{{"name":"{APP}","tags":{tags}}}"#);
        let first = Fault::body(200, "application/json", page).header(
            "Link",
            format!("</v2/{APP}/tags/list?last=a>; rel=\"next\""),
        );
        registry.fault(Route::tags(), first);
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported)
            .legacy(&image.digest, &vex, "vex")
            .check(&graph);
    }
}

#[tokio::test]
async fn a_listing_of_nothing_but_empty_pages_breaks() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    for page in 0..=100 {
        let body = format!(r#"{{"name":"{APP}","tags":[]}}"#);
        let next = format!("</v2/{APP}/tags/list?last={page}>; rel=\"next\"");
        registry.fault(
            Route::tags(),
            Fault::body(200, "application/json", body).header("Link", next),
        );
    }
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .error(ErrorCode::TagListFailed)
        .check(&graph);
}

#[tokio::test]
async fn a_legacy_tag_may_hold_an_index() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let held = registry.index(APP, "2.0", &["linux/amd64"]).descriptor;
    let tag = format!("{}.sbom", referrers_tag(&image.digest));
    registry.tag(APP, &tag, &held.digest);
    let graph = discover(&registry, &image.digest).await;
    expect(LegacyTag, Unsupported)
        .legacy(&image.digest, &held, "sbom")
        .check(&graph);
    assert_eq!(graph.referrers[0].media_type, media_type::IMAGE_INDEX);
    assert_eq!(graph.referrers[0].artifact_type, None);
}

#[tokio::test]
async fn list_tags_gives_all_of_them_in_the_order_of_the_registry_or_fails() {
    let registry = TestRegistry::builder(Persona::Ecr)
        .without_auth()
        .page_size(3)
        .start()
        .await;
    let image = registry.image(APP, "1.0");
    for number in 0..9 {
        registry.tag(APP, &format!("a{number}"), &image.digest);
    }
    let repository = repository(&registry);
    let listed = list_tags(&repository, 10).await.unwrap();
    let mut sorted: Vec<_> = listed.iter().map(ToString::to_string).collect();
    assert_ne!(
        sorted,
        registry.tags(APP),
        "the registry has an order of its own"
    );
    sorted.sort();
    assert_eq!(sorted, registry.tags(APP));

    let limited = list_tags(&repository, 5).await.unwrap_err();
    assert_eq!(limited.code, ErrorCode::Limit);
    registry.fault(Route::tags(), Fault::statuses([403]));
    assert_eq!(
        list_tags(&repository, 10).await.unwrap_err().code,
        ErrorCode::Denied
    );
    registry.fault(Route::tags(), Fault::statuses([500]).skip(1).forever());
    assert_eq!(
        list_tags(&repository, 10).await.unwrap_err().code,
        ErrorCode::ServerError
    );
}
