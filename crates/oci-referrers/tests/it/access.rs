//! Tokens and passwords on the way to a graph.

use std::time::Duration;

use oci_content::Capability::{Supported, Unknown};
use oci_content::DiscoveryMethod::{FallbackTag, Native};
use oci_content::{Completeness, ErrorCode, WarningCode};
use oci_referrers::RegistrySources;
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry};

use crate::support::{
    API, APP, Account, SBOM, discover, expect, options, options_with_account, repository_with,
    sources,
};

async fn closed(persona: Persona) -> TestRegistry {
    let builder = TestRegistry::builder(persona);
    builder
        .credentials(Account::USER, Account::PASSWORD)
        .start()
        .await
}

fn with_account(registry: &TestRegistry) -> RegistrySources {
    RegistrySources::new(repository_with(registry, options_with_account()))
}

fn tokens(registry: &TestRegistry) -> usize {
    let own = registry.requests().into_iter();
    let all = own.chain(registry.foreign_requests());
    all.filter(|request| request.endpoint().is_none() && request.path.ends_with("token"))
        .count()
}

#[tokio::test]
async fn every_persona_gives_the_same_graph_to_whoever_has_its_credentials() {
    for persona in Persona::ALL {
        let registry = closed(persona).await;
        let image = registry.image(APP, "1.0");
        let a = Referrer::new(&image, SBOM, "a").also_in_tag_index();
        let a = registry.put_referrer(APP, a);
        let b = Referrer::new(&a, SBOM, "b").also_in_tag_index();
        let b = registry.put_referrer(APP, b);
        let signature = registry.legacy(APP, &image.digest, "sig", "s");
        let statement = registry.legacy(APP, &image.digest, "vex", "v");
        let run = with_account(&registry).discovery(None);
        let graph = run.run([image.digest.clone()]).await;
        let mut found: Vec<_> = graph
            .referrers
            .iter()
            .map(|r| (r.depth, &r.digest))
            .collect();
        let mut expected = [
            (1, &a.digest),
            (2, &b.digest),
            (1, &signature.digest),
            (1, &statement.digest),
        ];
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{persona}");
        assert_eq!(
            graph.status(),
            Completeness::Complete,
            "{persona}: {:?}",
            graph.errors().collect::<Vec<_>>()
        );
        let root = graph.report(&image.digest).unwrap();
        assert_eq!(root.status, Completeness::Complete, "{persona}");
    }
}

#[tokio::test]
async fn a_registry_that_demands_credentials_tells_nobody_without() {
    for persona in [
        Persona::SpecFull,
        Persona::PagedBytes,
        Persona::Ecr,
        Persona::HubNow,
        Persona::Ghcr,
        Persona::Quay,
        Persona::Harbor28,
        Persona::Dist2,
        Persona::GitLab,
        Persona::ArtifactoryOld,
    ] {
        let registry = closed(persona).await;
        let image = registry.image(APP, "1.0");
        registry.referrer(APP, &image, SBOM, "a");
        let graph = discover(&registry, &image.digest).await;
        assert!(graph.referrers.is_empty(), "{persona}");
        let report = graph.report(&image.digest).unwrap();
        assert_eq!(report.capability, Unknown, "{persona}");
        assert!(!report.errors.is_empty(), "{persona}");
        for error in &report.errors {
            assert_eq!(
                error.code,
                ErrorCode::Denied,
                "{persona}: {}",
                error.message
            );
        }
    }
}

#[tokio::test]
async fn a_listing_that_no_token_opens_is_denied_and_not_broken() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    // Whatever token the listing is asked with, it asks for another one.
    let challenge = format!(
        "Bearer realm=\"{}\",service=\"x\",scope=\"repository:{APP}:list\"",
        registry.url("/token")
    );
    let again = Fault::statuses([401])
        .header("WWW-Authenticate", challenge)
        .forever();
    registry.fault(Route::tags(), again);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API)
        .warning(WarningCode::TagListDenied)
        .check(&graph);
}

#[tokio::test]
async fn docker_hub_denies_a_repository_that_does_not_exist() {
    let registry = TestRegistry::start(Persona::HubNow).await;
    let subject = oci_content::Digest::of(b"nowhere");
    let graph = discover(&registry, &subject).await;
    expect(FallbackTag, Unknown)
        .error(ErrorCode::Denied)
        .warning(WarningCode::TagListDenied)
        .check(&graph);
}

#[tokio::test]
async fn a_token_that_expires_between_two_pages_is_replaced_once() {
    let builder = TestRegistry::builder(Persona::SpecFull).page_size(2);
    let registry = builder.start().await;
    let image = registry.image(APP, "1.0");
    let put = |number| registry.referrer(APP, &image, SBOM, format!("{number}"));
    let all: Vec<_> = (0..6).map(put).collect();
    let source = sources(&registry);
    let discovery = source.discovery(None).depth(Some(1));
    let expected = all
        .iter()
        .fold(expect(Native, Supported), |e, a| e.found(a, API));
    expected.check(&discovery.run([image.digest.clone()]).await);
    let before = tokens(&registry);
    assert_eq!(before, 1);

    let expired = Fault::expire_token().skip(1);
    registry.fault(Route::referrers().reference(&image.digest), expired);
    expected.check(&discovery.run([image.digest.clone()]).await);
    assert_eq!(tokens(&registry), before + 1);
    let pages: Vec<_> = registry
        .requests()
        .into_iter()
        .filter(|request| {
            request
                .path
                .ends_with(&format!("/referrers/{}", image.digest))
        })
        .map(|request| (request.query, request.status.unwrap()))
        .collect();
    let second = &pages[pages.len() - 4..];
    assert_eq!(
        second.iter().map(|page| page.1).collect::<Vec<_>>(),
        [200, 401, 200, 200]
    );
    assert_eq!(second[1].0, second[2].0, "the same page is asked again");
}

#[tokio::test]
async fn a_token_service_that_fails_makes_the_result_incomplete() {
    for (fault, code) in [
        (Fault::statuses([403]), ErrorCode::Denied),
        (Fault::statuses([500]), ErrorCode::ServerError),
        (Fault::statuses([429]), ErrorCode::RateLimited),
        (Fault::reset(), ErrorCode::Network),
        (
            Fault::body(200, "text/html", "<!doctype html>"),
            ErrorCode::ServerError,
        ),
    ] {
        let registry = TestRegistry::start(Persona::SpecFull).await;
        let image = registry.image(APP, "1.0");
        registry.referrer(APP, &image, SBOM, "a");
        registry.fault(Route::token(), fault.clone().forever());
        let mut options = options();
        options.response_timeout = Duration::from_secs(1);
        let sources = RegistrySources::new(repository_with(&registry, options));
        let graph = sources.discovery(None).run([image.digest.clone()]).await;
        let report = graph.report(&image.digest).unwrap();
        assert_eq!(report.capability, Unknown);
        let sources: Vec<_> = report.errors.iter().map(|e| (e.source, e.code)).collect();
        let api = Some(oci_content::SourceKind::ReferrersApi);
        assert!(sources.contains(&(api, code)), "{fault:?}: {sources:?}");
        assert!(graph.referrers.is_empty());
    }
}

#[tokio::test]
async fn pulls_that_are_used_up_leave_what_was_read_before() {
    let builder = TestRegistry::builder(Persona::HubNow).pull_limit(12);
    let registry = builder.start().await;
    let image = registry.image(APP, "1.0");
    for number in 0..20 {
        registry.referrer(APP, &image, SBOM, format!("{number}"));
    }
    let graph = discover(&registry, &image.digest).await;
    assert_eq!(graph.status(), Completeness::Incomplete);
    assert!(
        graph
            .errors()
            .all(|error| error.code == ErrorCode::RateLimited)
    );
    let unread = graph
        .errors()
        .filter(|error| error.digest.is_some())
        .count();
    assert_eq!(graph.referrers.len() + unread, 20, "each is found or named");
    assert!(!graph.referrers.is_empty());
}
