//! Redirects: where an answer comes from decides what it says, and credentials do not travel.

use oci_content::Capability::{Supported, Unknown};
use oci_content::DiscoveryMethod::{FallbackTag, Native};
use oci_content::{Descriptor, ErrorCode, WarningCode, media_type, referrers_tag};
use oci_referrers::RegistrySources;
use test_registry::{Fault, Persona, Route, TestRegistry, Variant};

use crate::support::{
    API, APP, Account, SBOM, TAG, discover, discovery, expect, list, open, options_with_account,
    repository_with,
};

#[tokio::test]
async fn github_s_redirect_to_a_404_or_a_page_is_no_answer() {
    for variant in [None, Some(Variant::Ghcr303Html)] {
        let mut builder = TestRegistry::builder(Persona::Ghcr303);
        if let Some(variant) = variant {
            builder = builder.variant(variant);
        }
        let registry = builder.start().await;
        let image = registry.image(APP, "1.0");
        let a = registry.referrer(APP, &image, SBOM, "a");
        let graph = discover(&registry, &image.digest).await;
        let mut expected = expect(FallbackTag, Unknown)
            .found(&a, TAG)
            .warning_about(WarningCode::ArtifactTypeCorrected, &a.digest);
        if variant == Some(Variant::Ghcr303Html) {
            expected = expected.warning(WarningCode::False200);
        }
        expected.check(&graph);
        let foreign = registry.foreign_requests();
        assert!(!foreign.is_empty());
        assert!(
            foreign
                .iter()
                .all(|request| request.authorization.is_none())
        );
    }
}

#[tokio::test]
async fn a_rate_limit_behind_github_s_redirect_is_settled_by_the_tag_of_each_subject() {
    let builder = TestRegistry::builder(Persona::Ghcr303).variant(Variant::Ghcr303TooManyRequests);
    let registry = builder.start().await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let expected = expect(FallbackTag, Unknown)
        .found(&a, TAG)
        .warning(WarningCode::CapabilityBlocked)
        .warning_about(WarningCode::ArtifactTypeCorrected, &a.digest);
    let graph = discover(&registry, &image.digest).await;
    // The referrer is a subject too, and nobody wrote a tag for it.
    let unsettled = expected.clone().error(ErrorCode::RateLimited);
    unsettled.check(&graph);

    registry.referrers_tag_index(APP, &a.digest, &[]);
    let graph = discover(&registry, &image.digest).await;
    expected.check(&graph);
}

#[tokio::test]
async fn manifests_at_another_host_are_read_without_credentials() {
    let elsewhere = open(Persona::SpecFull).await;
    let builder = TestRegistry::builder(Persona::SpecFull);
    let registry = builder
        .credentials(Account::USER, Account::PASSWORD)
        .start()
        .await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let bytes = registry.manifest(APP, &a.digest).unwrap();
    elsewhere.put_manifest(APP, media_type::IMAGE_MANIFEST, bytes);
    let path = format!("/v2/{APP}/manifests/{}", a.digest);
    let moved = Fault::redirect(elsewhere.url(&path), 307).forever();
    registry.fault(Route::manifests().reference(&a.digest), moved);
    let sources = RegistrySources::new(repository_with(&registry, options_with_account()));
    let graph = sources.discovery(None).run([image.digest.clone()]).await;
    expect(Native, Supported).found(&a, API).check(&graph);
    let foreign = elsewhere.requests();
    assert_eq!(foreign.len(), 1);
    assert_eq!(foreign[0].authorization, None);
    assert_eq!(foreign[0].header("cookie"), None);
    assert!(
        registry
            .requests()
            .iter()
            .any(|request| request.authorization.is_some())
    );
}

#[tokio::test]
async fn a_proxy_that_keeps_manifests_elsewhere_is_read_as_any_other() {
    let registry = TestRegistry::start(Persona::EdgeProxy).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let signature = registry.legacy(APP, &image.digest, "sig", "s");
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, oci_content::Capability::Unsupported)
        .found(&a, TAG)
        .legacy(&image.digest, &signature, "sig")
        .check(&graph);
}

#[tokio::test]
async fn only_the_registry_itself_can_say_that_a_manifest_is_gone() {
    let elsewhere = open(Persona::SpecFull).await;
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let path = format!("/v2/{APP}/manifests/{}", a.digest);
    let moved = Fault::redirect(elsewhere.url(&path), 307).forever();
    registry.fault(Route::manifests().reference(&a.digest), moved);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .error_about(ErrorCode::ServerError, &a.digest)
        .check(&graph);
}

#[tokio::test]
async fn a_list_from_another_host_is_verified_like_any_other() {
    let elsewhere = open(Persona::SpecFull).await;
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let invented = Descriptor::of(media_type::IMAGE_MANIFEST, b"invented");
    let listed = Fault::body(200, media_type::IMAGE_INDEX, list(&[&a, &invented]));
    elsewhere.fault(Route::any(), listed);
    let moved = Fault::redirect(elsewhere.url("/list"), 307);
    registry.fault(Route::referrers().reference(&image.digest), moved);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API)
        .warning_about(WarningCode::DanglingReferrer, &invented.digest)
        .check(&graph);
}

#[tokio::test]
async fn a_next_link_of_a_list_from_another_host_is_not_followed_there() {
    let elsewhere = open(Persona::SpecFull).await;
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let listed = Fault::body(200, media_type::IMAGE_INDEX, list(&[&a]));
    elsewhere.fault(
        Route::any(),
        listed.header("Link", "</v2/next>; rel=\"next\""),
    );
    let moved = Fault::redirect(elsewhere.url("/list"), 307);
    registry.fault(Route::referrers().reference(&image.digest), moved);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API)
        .error(ErrorCode::UntrustedLink)
        .check(&graph);
    assert_eq!(elsewhere.requests().len(), 1);
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_errors() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    registry.referrers_tag_index(APP, &image.digest, std::slice::from_ref(&a));
    for to in ["?again", "ftp://127.0.0.1/", "//"] {
        for (route, method, capability, sources) in [
            (Route::referrers(), FallbackTag, Unknown, TAG),
            (
                Route::manifests().reference(referrers_tag(&image.digest)),
                Native,
                Supported,
                API,
            ),
        ] {
            registry.clear_faults();
            registry.fault(route, Fault::redirect(to, 307).forever());
            let run = discovery(&registry).depth(Some(1));
            let graph = run.run([image.digest.clone()]).await;
            expect(method, capability)
                .found(&a, sources)
                .error(ErrorCode::ServerError)
                .check(&graph);
        }
    }
}
