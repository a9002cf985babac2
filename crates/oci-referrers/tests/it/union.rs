//! The union of referrers API, referrers tag and legacy tags.

use oci_content::Capability::{Supported, Unsupported};
use oci_content::DiscoveryMethod::{FallbackTag, LegacyTag, Native, NativeAndTag};
use oci_content::{Descriptor, Digest, SourceKind, WarningCode, media_type, referrers_tag};
use test_registry::{Persona, Referrer, TestRegistry};

use crate::support::{API, API_AND_TAG, APP, SBOM, SIGNATURE, TAG, discover, expect, open};

#[tokio::test]
async fn an_empty_list_and_no_tag_are_no_referrers() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported).check(&graph);
}

#[tokio::test]
async fn a_404_and_then_a_missing_tag_are_no_referrers() {
    for persona in [
        Persona::Dist2,
        Persona::Dist3,
        Persona::HubLiar,
        Persona::Ghcr,
    ] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        let graph = discover(&registry, &image.digest).await;
        expect(FallbackTag, Unsupported).check(&graph);
    }
}

#[tokio::test]
async fn a_404_makes_the_tag_the_list() {
    for persona in [Persona::Dist2, Persona::Dist3, Persona::HubLiar] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        let a = registry.referrer(APP, &image, SBOM, "a");
        let b = registry.referrer(APP, &image, SIGNATURE, "b");
        let graph = discover(&registry, &image.digest).await;
        expect(FallbackTag, Unsupported)
            .found(&a, TAG)
            .found(&b, TAG)
            .check(&graph);
    }
}

#[tokio::test]
async fn every_persona_with_an_api_lists_what_it_was_given() {
    for persona in [
        Persona::SpecFull,
        Persona::PagedBytes,
        Persona::Ecr,
        Persona::HubNow,
    ] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        let a = registry.referrer(APP, &image, SBOM, "a");
        let b = registry.referrer(APP, &image, SIGNATURE, "b");
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported)
            .found(&a, API)
            .found(&b, API)
            .check(&graph);
    }
}

#[tokio::test]
async fn a_stale_tag_adds_what_is_true_of_it_to_the_api() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let b = registry.referrer(APP, &image, SBOM, "b");
    let c = registry.put_referrer(APP, Referrer::new(&image, SBOM, "c").only_in_tag_index());
    let gone = Descriptor::of(media_type::IMAGE_MANIFEST, b"pruned");
    registry.referrers_tag_index(APP, &image.digest, &[a.clone(), c.clone(), gone.clone()]);
    let graph = discover(&registry, &image.digest).await;
    expect(NativeAndTag, Supported)
        .found(&a, API_AND_TAG)
        .found(&b, API)
        .found(&c, TAG)
        .warning_about(WarningCode::StaleTagIndex, &c.digest)
        .warning_about(WarningCode::DanglingReferrer, &gone.digest)
        .check(&graph);
}

#[tokio::test]
async fn a_tag_that_adds_nothing_leaves_the_method_native() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").also_in_tag_index());
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API_AND_TAG)
        .check(&graph);
}

#[tokio::test]
async fn what_was_pushed_before_the_api_was_switched_on_is_found_by_the_tag() {
    for persona in [Persona::SpecFull, Persona::HubNow, Persona::Ecr] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        let [a, b] = ["a", "b"].map(|payload| {
            registry.put_referrer(
                APP,
                Referrer::new(&image, SBOM, payload).only_in_tag_index(),
            )
        });
        let graph = discover(&registry, &image.digest).await;
        expect(NativeAndTag, Supported)
            .found(&a, TAG)
            .found(&b, TAG)
            .warning_about(WarningCode::StaleTagIndex, &a.digest)
            .warning_about(WarningCode::StaleTagIndex, &b.digest)
            .check(&graph);
    }
}

#[tokio::test]
async fn quay_lists_what_the_tag_names_and_both_are_noted() {
    let registry = open(Persona::Quay).await;
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").only_in_tag_index());
    let b = registry.referrer(APP, &image, SBOM, "b");
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API_AND_TAG)
        .found(&b, API)
        .check(&graph);
}

#[tokio::test]
async fn an_archived_referrer_is_found_when_a_tag_names_it_and_is_out_of_reach_otherwise() {
    let registry = open(Persona::Ecr).await;
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").also_in_tag_index());
    let b = registry.referrer(APP, &image, SBOM, "b");
    registry.hide_referrer(APP, &a.digest);
    registry.hide_referrer(APP, &b.digest);
    let graph = discover(&registry, &image.digest).await;
    expect(NativeAndTag, Supported)
        .found(&a, TAG)
        .warning_about(WarningCode::StaleTagIndex, &a.digest)
        .check(&graph);
}

#[tokio::test]
async fn legacy_tags_are_found_beside_the_api() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let expected = expect(Native, Supported).found(&a, API);
    let expected = ["sig", "att", "sbom"]
        .iter()
        .fold(expected, |expected, suffix| {
            let held = registry.legacy(APP, &image.digest, suffix, *suffix);
            expected.legacy(&image.digest, &held, suffix)
        });
    expected.check(&discover(&registry, &image.digest).await);
}

#[tokio::test]
async fn legacy_tags_alone_are_a_method_of_their_own() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let signature = registry.legacy(APP, &image.digest, "sig", "s");
    let attestation = registry.legacy(APP, &image.digest, "att", "t");
    let graph = discover(&registry, &image.digest).await;
    expect(LegacyTag, Unsupported)
        .legacy(&image.digest, &signature, "sig")
        .legacy(&image.digest, &attestation, "att")
        .check(&graph);
    let found = &graph.referrers[0];
    assert_eq!(
        found.artifact_type.as_deref(),
        Some(media_type::IMAGE_CONFIG)
    );
    assert_eq!(found.subject, image.digest);
}

#[tokio::test]
async fn a_referrer_that_a_legacy_tag_names_as_well_is_one_entry_with_both_sources() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let tag = format!("{}.sbom", referrers_tag(&image.digest));
    registry.tag(APP, &tag, &a.digest);
    let graph = discover(&registry, &image.digest).await;
    let both = [SourceKind::ReferrersApi, SourceKind::LegacyTag];
    expect(Native, Supported)
        .tagged(1, &image.digest, &a, "sbom", &both)
        .check(&graph);
}

#[tokio::test]
async fn two_legacy_tags_on_one_manifest_are_both_kept() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let held = registry.legacy(APP, &image.digest, "sig", "s");
    registry.tag(
        APP,
        &format!("{}.att", referrers_tag(&image.digest)),
        &held.digest,
    );
    let graph = discover(&registry, &image.digest).await;
    expect(LegacyTag, Unsupported)
        .legacy(&image.digest, &held, "sig")
        .legacy(&image.digest, &held, "att")
        .check(&graph);
}

#[tokio::test]
async fn an_entry_whose_manifest_is_gone_is_dropped_with_a_warning() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let lost = registry.referrer(APP, &image, SBOM, "z");
    registry.lose(APP, &lost.digest);
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .warning_about(WarningCode::DanglingReferrer, &lost.digest)
        .check(&graph);
}

#[tokio::test]
async fn one_lost_manifest_that_silences_an_api_leaves_the_tag() {
    for builder in [
        TestRegistry::builder(Persona::SpecFull).variant(test_registry::Variant::Zot),
        TestRegistry::builder(Persona::Harbor28),
    ] {
        let registry = builder.without_auth().start().await;
        let image = registry.image(APP, "1.0");
        let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").also_in_tag_index());
        let lost = registry.referrer(APP, &image, SBOM, "z");
        registry.lose(APP, &lost.digest);
        let graph = discover(&registry, &image.digest).await;
        expect(FallbackTag, Unsupported)
            .found(&a, TAG)
            .check(&graph);
    }
}

#[tokio::test]
async fn a_subject_that_is_not_there_may_still_have_referrers() {
    let registry = open(Persona::SpecFull).await;
    let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"to be pushed");
    let a = registry.referrer(APP, &subject, SBOM, "a");
    let graph = discover(&registry, &subject.digest).await;
    expect(Native, Supported).found(&a, API).check(&graph);
}

#[tokio::test]
async fn a_repository_that_is_not_there_has_no_referrers_where_every_source_says_so() {
    let registry = open(Persona::SpecFull).await;
    let graph = discover(&registry, &Digest::of(b"nobody")).await;
    expect(Native, Supported).check(&graph);
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| request.method == "GET")
    );
}
