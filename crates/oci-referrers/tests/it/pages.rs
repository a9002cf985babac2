//! Pages of the referrers API: all of them, or an incomplete result.

use std::time::{Duration, Instant};

use oci_content::Capability::Supported;
use oci_content::DiscoveryMethod::{Native, NativeAndTag};
use oci_content::{Completeness, Descriptor, Digest, ErrorCode, WarningCode, media_type};
use oci_referrers::{NativeReferrers, Outcome, Query, ReferrerSource as _, RegistrySources};
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry};

use crate::support::{
    API, API_AND_TAG, APP, SBOM, TAG, discover, discovery, expect, limits, list, open, options,
    repository, repository_with, sources,
};

/// A registry with pages of two, and an image with so many referrers, in the order in which they
/// are listed.
async fn paged(persona: Persona, referrers: usize) -> (TestRegistry, Digest, Vec<Descriptor>) {
    let registry = TestRegistry::builder(persona)
        .without_auth()
        .page_size(2)
        .start()
        .await;
    let image = registry.image(APP, "1.0");
    let put = |number| registry.referrer(APP, &image, SBOM, format!("{number}"));
    let mut all: Vec<_> = (0..referrers).map(put).collect();
    all.sort_by(|a, b| a.digest.cmp(&b.digest));
    (registry, image.digest, all)
}

/// The requests for the list of one subject, in order.
fn pages_asked(registry: &TestRegistry, subject: &Digest) -> Vec<String> {
    let requests = registry.requests().into_iter();
    let of_subject = requests.filter(|request| request.path.ends_with(&subject.to_string()));
    let of_list = of_subject.filter(|request| request.path.contains("/referrers/"));
    of_list.map(|request| request.query).collect()
}

#[tokio::test]
async fn all_pages_are_read() {
    for persona in [Persona::SpecFull, Persona::PagedBytes, Persona::Ecr] {
        let (registry, image, all) = paged(persona, 7).await;
        let graph = discover(&registry, &image).await;
        let expected = all
            .iter()
            .fold(expect(Native, Supported), |e, a| e.found(a, API));
        expected.check(&graph);
        assert_eq!(pages_asked(&registry, &image).len(), 4, "{persona}");
    }
}

#[tokio::test]
async fn the_limits_of_a_list_can_be_set_and_are_named_when_they_are_reached() {
    let (registry, image, _) = paged(Persona::SpecFull, 7).await;
    for (limits, named) in [
        (limits(|limits| limits.max_pages = 3), "more than 3 pages"),
        (
            limits(|limits| limits.max_referrers_per_subject = 3),
            "more than 3 entries",
        ),
    ] {
        let run = sources(&registry).limits(limits).discovery(None);
        let graph = run.run([image.clone()]).await;
        assert_eq!(graph.status(), Completeness::Incomplete);
        let errors: Vec<_> = graph.errors().collect();
        assert!(
            errors
                .iter()
                .any(|e| e.code == ErrorCode::Limit && e.message.contains(named)),
            "{errors:?}"
        );
        assert!(!graph.referrers.is_empty(), "what was read is kept");
    }
}

#[tokio::test]
async fn no_filter_is_sent_so_none_can_be_ignored_or_lied_about() {
    for persona in [
        Persona::SpecFull,
        Persona::Minimal,
        Persona::PagedBytes,
        Persona::Quay,
    ] {
        let (registry, image, all) = paged(persona, 3).await;
        let graph = discover(&registry, &image).await;
        assert_eq!(graph.referrers.len(), all.len());
        assert!(
            registry
                .requests()
                .iter()
                .all(|request| !request.query.contains("artifactType"))
        );
    }
}

#[tokio::test]
async fn a_page_that_is_throttled_is_asked_again_after_the_time_it_names() {
    let (registry, image, all) = paged(Persona::SpecFull, 8).await;
    let throttled = Fault::statuses([429]).header("Retry-After", "1").skip(2);
    registry.fault(Route::referrers().reference(&image), throttled);
    let started = Instant::now();
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([image.clone()])
        .await;
    let expected = all
        .iter()
        .fold(expect(Native, Supported), |e, a| e.found(a, API));
    expected.check(&graph);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let asked = pages_asked(&registry, &image);
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[2], asked[3], "the same page is asked again");
}

#[tokio::test]
async fn a_page_that_fails_for_good_makes_the_list_a_partial_one() {
    let html = || Fault::body(200, "text/html", "<!doctype html>");
    let other = || Fault::body(200, "application/json", r#"{"message":"ok"}"#);
    for (fault, code) in [
        (Fault::statuses([500]), ErrorCode::PageFailed),
        (Fault::statuses([404]), ErrorCode::PageFailed),
        (Fault::statuses([400]), ErrorCode::PageFailed),
        (html(), ErrorCode::PageFailed),
        (other(), ErrorCode::PageFailed),
        (Fault::shorten(20), ErrorCode::Malformed),
        (Fault::statuses([403]), ErrorCode::Denied),
        (Fault::statuses([401]), ErrorCode::Denied),
        (Fault::statuses([429]), ErrorCode::RateLimited),
        (Fault::reset(), ErrorCode::Network),
        (Fault::stall(), ErrorCode::Timeout),
    ] {
        let (registry, image, all) = paged(Persona::SpecFull, 8).await;
        registry.fault(
            Route::referrers().reference(&image),
            fault.skip(2).forever(),
        );
        let mut options = options();
        options.retry.max_attempts = 2.try_into().unwrap();
        options.response_timeout = Duration::from_secs(1);
        let sources = RegistrySources::new(repository_with(&registry, options));
        let graph = sources.discovery(None).run([image.clone()]).await;
        let expected = all[..4]
            .iter()
            .fold(expect(Native, Supported), |e, a| e.found(a, API));
        expected.error(code).check(&graph);
    }
}

#[tokio::test]
async fn the_tag_helps_out_when_a_page_fails_and_is_not_called_stale_for_it() {
    let (registry, image, all) = paged(Persona::SpecFull, 6).await;
    registry.referrers_tag_index(APP, &image, &all);
    let broken = Fault::statuses([500]).skip(2).forever();
    registry.fault(Route::referrers().reference(&image), broken);
    let graph = discover(&registry, &image).await;
    let expected = expect(NativeAndTag, Supported).error(ErrorCode::PageFailed);
    let expected = all[..4]
        .iter()
        .fold(expected, |e, a| e.found(a, API_AND_TAG));
    let expected = all[4..].iter().fold(expected, |e, a| e.found(a, TAG));
    expected.check(&graph);
}

#[tokio::test]
async fn every_form_of_a_next_link_is_followed() {
    let (registry, image, all) = paged(Persona::SpecFull, 2).await;
    let (a, b) = (&all[0], &all[1]);
    let path = format!("/v2/{APP}/referrers/{image}");
    for link in [
        format!("<{path}?page=2>; rel=\"next\""),
        format!("<{path}?page=2>; rel=next"),
        format!("<{path}?page=2>;rel=NEXT"),
        format!(
            "<{}>; rel=\"next\"",
            registry.url(&format!("{path}?page=2"))
        ),
        "<?page=2>; rel=\"next\"".to_owned(),
        format!("<{path}?page=0>; rel=\"prev\", <{path}?page=2>; rel=\"next\""),
        format!("<{path}?page=2>; title=\"a, b\"; rel=\"last next\""),
    ] {
        registry.clear_faults();
        let first = Fault::body(200, media_type::IMAGE_INDEX, list(&[a])).header("Link", &link);
        let second = Fault::body(200, media_type::IMAGE_INDEX, list(&[b]));
        registry.fault(Route::referrers().reference(&image), first);
        registry.fault(Route::referrers().containing("page=2"), second);
        let graph = discover(&registry, &image).await;
        expect(Native, Supported)
            .found(a, API)
            .found(b, API)
            .check(&graph);
    }
}

#[tokio::test]
async fn a_previous_link_is_no_next_one() {
    let (registry, image, all) = paged(Persona::SpecFull, 1).await;
    let first = Fault::pass().header("Link", "<?page=0>; rel=\"prev\"");
    registry.fault(Route::referrers().reference(&image), first);
    let graph = discover(&registry, &image).await;
    expect(Native, Supported).found(&all[0], API).check(&graph);
    assert_eq!(pages_asked(&registry, &image).len(), 1);
}

#[tokio::test]
async fn an_empty_last_page_is_harmless() {
    let (registry, image, all) = paged(Persona::SpecFull, 2).await;
    let first = Fault::pass().header("Link", "<?page=2>; rel=\"next\"");
    let second = Fault::body(200, media_type::IMAGE_INDEX, list(&[]));
    registry.fault(Route::referrers().reference(&image), first);
    registry.fault(Route::referrers().reference(&image), second);
    let graph = discover(&registry, &image).await;
    expect(Native, Supported)
        .found(&all[0], API)
        .found(&all[1], API)
        .check(&graph);
}

#[tokio::test]
async fn a_next_link_to_another_origin_is_not_followed() {
    let elsewhere = open(Persona::SpecFull).await;
    let (registry, image, all) = paged(Persona::SpecFull, 1).await;
    let path = format!("/v2/{APP}/referrers/{image}?page=2");
    let secure = registry.url(&path).replacen("http:", "https:", 1);
    for link in [
        elsewhere.url(&path),
        format!("//{}{path}", elsewhere.host()),
        secure,
        format!("http://user:password@{}{path}", elsewhere.host()),
        "http://localhost:1/v2/".to_owned(),
        "file:///etc/hostname".to_owned(),
        registry.url("/other/than/v2"),
    ] {
        registry.clear_faults();
        let first = Fault::pass().header("Link", format!("<{link}>; rel=\"next\""));
        registry.fault(Route::referrers().reference(&image), first);
        let graph = discover(&registry, &image).await;
        expect(Native, Supported)
            .found(&all[0], API)
            .error(ErrorCode::UntrustedLink)
            .check(&graph);
        assert!(!format!("{graph:?}").contains("password"));
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_proxy_that_passes_the_links_of_its_upstream_on_is_incomplete() {
    let edge = TestRegistry::builder(Persona::EdgeProxy)
        .variant(test_registry::Variant::EdgeUpstreamLink)
        .page_size(2);
    let registry = edge.start().await;
    let image = registry.image(APP, "1.0");
    let put = |number| registry.referrer(APP, &image, SBOM, format!("{number}"));
    let mut all: Vec<_> = (0..3).map(put).collect();
    all.sort_by(|a, b| a.digest.cmp(&b.digest));
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&all[0], API)
        .found(&all[1], API)
        .error(ErrorCode::UntrustedLink)
        .check(&graph);
    let foreign = registry.foreign_requests();
    assert!(
        foreign
            .iter()
            .all(|request| !request.path.contains("/referrers/"))
    );
}

#[tokio::test]
async fn a_list_that_goes_in_a_circle_ends() {
    for links in [
        &["<?page=1>", "<?page=2>", "<?page=1>"][..],
        &["<?page=1>", "<?page=1>"],
    ] {
        let (registry, image, all) = paged(Persona::SpecFull, 1).await;
        for link in links {
            let page = Fault::pass().header("Link", format!("{link}; rel=\"next\""));
            registry.fault(Route::referrers().reference(&image), page);
        }
        let graph = discover(&registry, &image).await;
        expect(Native, Supported)
            .found(&all[0], API)
            .error(ErrorCode::PageFailed)
            .check(&graph);
        assert!(pages_asked(&registry, &image).len() <= 3);
    }
}

#[tokio::test]
async fn a_link_header_that_cannot_be_read_is_no_end_of_the_list() {
    let (registry, image, all) = paged(Persona::SpecFull, 1).await;
    let page = Fault::pass().header("Link", "/v2/page=2; rel=\"next\"");
    registry.fault(Route::referrers().reference(&image), page);
    let graph = discover(&registry, &image).await;
    expect(Native, Supported)
        .found(&all[0], API)
        .error(ErrorCode::PageFailed)
        .check(&graph);
}

#[tokio::test]
async fn a_thousand_pages_are_enough() {
    let (registry, image, all) = paged(Persona::SpecFull, 1).await;
    for number in 0..1_000 {
        let page = Fault::pass().header("Link", format!("<?page={number}>; rel=\"next\""));
        registry.fault(Route::referrers().reference(&image), page);
    }
    let graph = discover(&registry, &image).await;
    expect(Native, Supported)
        .found(&all[0], API)
        .error(ErrorCode::Limit)
        .check(&graph);
    assert_eq!(pages_asked(&registry, &image).len(), 1_000);
}

#[tokio::test]
async fn ten_thousand_entries_on_pages_are_enough() {
    let (registry, image, _) = paged(Persona::SpecFull, 0).await;
    let entry = |number: u32| Descriptor::of(media_type::IMAGE_MANIFEST, &number.to_be_bytes());
    let entries: Vec<_> = (0..10_001).map(entry).collect();
    let entries: Vec<_> = entries.iter().collect();
    let page = Fault::body(200, media_type::IMAGE_INDEX, list(&entries));
    let route = || Route::referrers().reference(&image);
    registry.fault(route(), page.clone());
    let source = NativeReferrers::new(repository(&registry));
    let answer = source.referrers(&Query::direct(image.clone())).await;
    assert_eq!(
        (answer.outcome, answer.claims.len()),
        (Outcome::List, 10_001)
    );

    registry.fault(route(), page.header("Link", "<?page=2>; rel=\"next\""));
    let answer = source.referrers(&Query::direct(image.clone())).await;
    assert_eq!(answer.outcome, Outcome::PartialList);
    assert_eq!(answer.errors[0].code, ErrorCode::Limit);
    assert_eq!(pages_asked(&registry, &image).len(), 2);
}

#[tokio::test]
async fn a_list_larger_than_a_manifest_may_be_is_read() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let big = "x".repeat(3_900_000);
    let a = registry.put_referrer(
        APP,
        Referrer::new(&image, SBOM, "a").annotation("big", &big),
    );
    let b = registry.put_referrer(
        APP,
        Referrer::new(&image, SBOM, "b").annotation("big", &big),
    );
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    expect(Native, Supported)
        .found(&a, API)
        .found(&b, API)
        .check(&graph);
}

#[tokio::test]
async fn a_list_over_the_limit_is_incomplete_and_not_empty() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let big = "x".repeat(10_000);
    registry.put_referrer(
        APP,
        Referrer::new(&image, SBOM, "a").annotation("big", &big),
    );
    let mut options = options();
    options.max_list_bytes = 10_000;
    let sources = RegistrySources::new(repository_with(&registry, options));
    let graph = sources.discovery(None).run([image.digest.clone()]).await;
    let report = graph.report(&image.digest).unwrap();
    assert_eq!(
        report.errors.iter().map(|e| e.code).collect::<Vec<_>>(),
        [ErrorCode::Limit]
    );
    assert_eq!(graph.referrers.len(), 0);
}

#[tokio::test]
async fn a_descriptor_that_the_registry_drops_from_its_pages_is_found_by_the_tag() {
    let registry = TestRegistry::builder(Persona::PagedBytes)
        .without_auth()
        .page_bytes(2_000)
        .start()
        .await;
    let image = registry.image(APP, "1.0");
    let big = Referrer::new(&image, SBOM, "big").annotation("big", "x".repeat(2_000));
    let big = registry.put_referrer(APP, big.also_in_tag_index());
    let small = registry.referrer(APP, &image, SBOM, "small");
    let graph = discover(&registry, &image.digest).await;
    expect(NativeAndTag, Supported)
        .found(&big, TAG)
        .found(&small, API)
        .warning_about(WarningCode::StaleTagIndex, &big.digest)
        .check(&graph);
}
