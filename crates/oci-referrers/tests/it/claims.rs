//! Each claim is held against the manifest itself.

use oci_content::Capability::{Supported, Unsupported};
use oci_content::DiscoveryMethod::{FallbackTag, Native};
use oci_content::{
    Algorithm, ArtifactCategory, Descriptor, Digest, ErrorCode, SourceKind, WarningCode,
    media_type, referrers_tag,
};
use serde_json::json;
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry};

use crate::support::{API, APP, SBOM, SIGNATURE, TAG, discover, discovery, expect, list, open};

const EMPTY: &str = media_type::EMPTY;

#[tokio::test]
async fn an_artifact_type_is_taken_from_the_manifest() {
    // Its lists have the config's type for every artifact type, and no annotations.
    let registry = open(Persona::Minimal).await;
    let image = registry.image(APP, "1.0");
    let a = Referrer::new(&image, SBOM, "a").annotation("k", "v");
    let a = registry.put_referrer(APP, a);
    let b = registry.put_referrer(APP, Referrer::new(&image, SIGNATURE, "b").typed_by_config());
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API)
        .found(&b, API)
        .warning_about(WarningCode::ArtifactTypeCorrected, &a.digest)
        .check(&graph);
    let found = |of: &Descriptor| {
        let mut all = graph.referrers.iter();
        all.find(|referrer| referrer.digest == of.digest)
            .unwrap()
            .clone()
    };
    assert_eq!(found(&a).artifact_type.as_deref(), Some(SBOM));
    assert_eq!(found(&a).category, ArtifactCategory::Sbom);
    assert_eq!(found(&a).annotations["k"], "v");
    assert_eq!(found(&b).artifact_type.as_deref(), Some(SIGNATURE));
    assert_eq!(found(&b).category, ArtifactCategory::Signature);
}

#[tokio::test]
async fn an_artifact_type_that_a_list_leaves_out_is_no_lie() {
    let registry = open(Persona::Quay).await;
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").typed_by_config());
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported).found(&a, API).check(&graph);
    assert_eq!(graph.referrers[0].artifact_type.as_deref(), Some(SBOM));
}

#[tokio::test]
async fn a_tag_index_that_an_old_client_wrote_is_corrected() {
    let registry = open(Persona::Ghcr).await;
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").annotation("k", "v"));
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .warning_about(WarningCode::ArtifactTypeCorrected, &a.digest)
        .check(&graph);
    assert_eq!(graph.referrers[0].artifact_type.as_deref(), Some(SBOM));
    assert_eq!(graph.referrers[0].annotations["k"], "v");
}

#[tokio::test]
async fn an_index_may_be_a_referrer_with_or_without_an_artifact_type() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let registry = open(persona).await;
        let image = registry.image(APP, "1.0");
        let typed = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").as_index());
        let untyped = Referrer::new(&image, SBOM, "b").as_untyped_index();
        let untyped = registry.put_referrer(APP, untyped);
        let graph = discover(&registry, &image.digest).await;
        let found: Vec<_> = [&typed, &untyped]
            .iter()
            .map(|of| {
                let found = graph
                    .referrers
                    .iter()
                    .find(|found| found.digest == of.digest);
                let found = found.unwrap();
                (
                    found.artifact_type.as_deref(),
                    found.media_type.as_str(),
                    found.depth,
                )
            })
            .collect();
        let index = media_type::IMAGE_INDEX;
        assert_eq!(
            found,
            [(Some(SBOM), index, 1), (None, index, 1)],
            "{persona}"
        );
        assert_eq!(
            graph.referrers.len(),
            2,
            "{persona}: a child of an index is no referrer"
        );
        assert_eq!(
            graph.errors().count() + graph.warnings().count(),
            0,
            "{persona}"
        );
    }
}

#[tokio::test]
async fn the_size_of_an_artifact_in_the_place_of_its_manifests_is_corrected() {
    let registry = open(Persona::Harbor28).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([image.digest.clone()])
        .await;
    expect(Native, Supported)
        .found(&a, API)
        .warning(WarningCode::ContentType)
        .warning_about(WarningCode::SizeMismatch, &a.digest)
        .warning_about(WarningCode::ArtifactTypeCorrected, &a.digest)
        .check(&graph);
    assert_eq!(graph.referrers[0].size, a.size);
    assert_eq!(graph.referrers[0].artifact_type.as_deref(), Some(SBOM));
}

#[tokio::test]
async fn a_manifest_that_is_another_one_is_a_failure_of_integrity() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let b = registry.referrer(APP, &image, SBOM, "b");
    let other = registry.manifest(APP, &b.digest).unwrap();
    registry.put_manifest_as(APP, &a.digest, media_type::IMAGE_MANIFEST, other);
    let entries = list(&[&a, &b]);
    let listed = Fault::body(200, media_type::IMAGE_INDEX, entries);
    registry.fault(Route::referrers().reference(&image.digest), listed);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&b, API)
        .error_about(ErrorCode::Integrity, &a.digest)
        .check(&graph);
}

#[tokio::test]
async fn a_manifest_with_a_flipped_bit_is_a_failure_of_integrity() {
    for fault in [Fault::corrupt_byte(20), Fault::extend(), Fault::shorten(20)] {
        let registry = open(Persona::SpecFull).await;
        let image = registry.image(APP, "1.0");
        let a = registry.referrer(APP, &image, SBOM, "a");
        registry.fault(Route::manifests().reference(&a.digest), fault.forever());
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported)
            .error_about(ErrorCode::Integrity, &a.digest)
            .check(&graph);
    }
}

#[tokio::test]
async fn what_a_tag_gives_counts_for_more_than_a_failure_to_read_it_by_its_digest() {
    for fault in [
        Fault::corrupt_byte(20),
        Fault::statuses([500]),
        Fault::body(404, "application/json", "{}"),
    ] {
        for late in ["tag", "digest"] {
            let registry = open(Persona::SpecFull).await;
            let image = registry.image(APP, "1.0");
            let a = registry.referrer(APP, &image, SBOM, "a");
            let tag = format!("{}.sbom", referrers_tag(&image.digest));
            registry.tag(APP, &tag, &a.digest);
            let by_digest = Route::manifests().reference(&a.digest);
            let time = std::time::Duration::from_millis(200);
            let fault = fault.clone().forever();
            match late {
                "tag" => {
                    registry.fault(Route::manifests().reference(&tag), Fault::delay(time));
                    registry.fault(by_digest, fault);
                }
                _ => registry.fault(by_digest, fault.after(time)),
            }
            let graph = discover(&registry, &image.digest).await;
            let both = [SourceKind::ReferrersApi, SourceKind::LegacyTag];
            expect(Native, Supported)
                .tagged(1, &image.digest, &a, "sbom", &both)
                .check(&graph);
        }
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_an_error_and_not_a_dangling_entry() {
    for (fault, code) in [
        (Fault::statuses([500]), ErrorCode::ServerError),
        (Fault::statuses([429]), ErrorCode::RateLimited),
        (Fault::statuses([403]), ErrorCode::Denied),
        (Fault::statuses([410]), ErrorCode::ServerError),
        (Fault::reset(), ErrorCode::Network),
        (Fault::redirect("/v2/", 307), ErrorCode::Integrity),
        (
            Fault::redirect("http://127.0.0.1:1/", 307),
            ErrorCode::Network,
        ),
    ] {
        let registry = open(Persona::SpecFull).await;
        let image = registry.image(APP, "1.0");
        let a = registry.referrer(APP, &image, SBOM, "a");
        let b = registry.referrer(APP, &image, SBOM, "b");
        registry.fault(Route::manifests().reference(&a.digest), fault.forever());
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported)
            .found(&b, API)
            .error_about(code, &a.digest)
            .check(&graph);
    }
}

#[tokio::test]
async fn what_hashes_right_and_is_no_manifest_is_malformed() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let text = registry.put_manifest(APP, media_type::IMAGE_MANIFEST, "no JSON");
    let listed = Fault::body(200, media_type::IMAGE_INDEX, list(&[&text]));
    registry.fault(Route::referrers().reference(&image.digest), listed);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .error_about(ErrorCode::Malformed, &text.digest)
        .check(&graph);
}

#[tokio::test]
async fn a_malformed_entry_does_not_spoil_the_others() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    for bad in [
        json!({"mediaType": "a/b", "size": 1}),
        json!({"mediaType": "a/b", "size": 1, "digest": "sha256:../../etc/passwd"}),
        json!({"mediaType": "a/b", "size": 1, "digest": format!("sha256:{}", "A".repeat(64))}),
        json!({"mediaType": "a/b", "size": -1, "digest": Digest::of(b"x")}),
        json!({"mediaType": "a/b", "size": 1, "digest": "md5:d41d8cd98f00b204e9800998ecf8427e"}),
        json!(null),
        json!("text"),
    ] {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::IMAGE_INDEX,
            "manifests": [bad, a],
        });
        registry.clear_faults();
        let listed = Fault::body(200, media_type::IMAGE_INDEX, document.to_string());
        registry.fault(Route::referrers().reference(&image.digest), listed);
        let graph = discover(&registry, &image.digest).await;
        expect(Native, Supported)
            .found(&a, API)
            .error(ErrorCode::Malformed)
            .check(&graph);
    }
}

#[tokio::test]
async fn a_malformed_entry_of_a_tag_is_an_error_too() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_INDEX,
        "manifests": [{"mediaType": "a/b", "size": 1, "digest": "sha256:0"}, a],
    });
    let index = registry.put_manifest(APP, media_type::IMAGE_INDEX, document.to_string());
    registry.tag(APP, referrers_tag(&image.digest).as_str(), &index.digest);
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .error(ErrorCode::Malformed)
        .check(&graph);
}

#[tokio::test]
async fn sha512_subjects_that_share_a_tag_get_their_own_referrers() {
    // The tag keeps 64 of 128 characters. Digests that agree in them cannot be computed, so nothing
    // has them.
    let start = Digest::compute(Algorithm::Sha512, b"subject");
    let subject = |end: char| {
        let encoded = format!("{}{}", &start.encoded()[..64], end.to_string().repeat(64));
        let digest: Digest = format!("sha512:{encoded}").parse().unwrap();
        Descriptor::new(media_type::IMAGE_MANIFEST, digest, 7)
    };
    let (first, second) = (subject('0'), subject('1'));
    assert_eq!(referrers_tag(&first.digest), referrers_tag(&second.digest));
    let registry = open(Persona::Dist2).await;
    let a = registry.referrer(APP, &first, SBOM, "a");
    let b = registry.referrer(APP, &second, SBOM, "b");
    for (subject, own, other) in [(&first, &a, &b), (&second, &b, &a)] {
        let graph = discover(&registry, &subject.digest).await;
        expect(FallbackTag, Unsupported)
            .found(own, TAG)
            .warning_about(WarningCode::SubjectMismatch, &other.digest)
            .check(&graph);
    }
}

#[tokio::test]
async fn a_sha512_subject_is_asked_for_under_its_whole_digest() {
    let registry = open(Persona::SpecFull).await;
    let bytes = registry
        .manifest(APP, &registry.image(APP, "1.0").digest)
        .unwrap();
    let digest = Digest::compute(Algorithm::Sha512, &bytes);
    let image = registry.put_manifest_as(APP, &digest, media_type::IMAGE_MANIFEST, bytes);
    let a = registry.referrer(APP, &image, SBOM, "a");
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported).found(&a, API).check(&graph);
}

#[tokio::test]
async fn a_referrer_of_another_subject_is_dropped() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let other = registry.image(APP, "2.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let b = registry.referrer(APP, &other, SBOM, "b");
    let listed = Fault::body(200, media_type::IMAGE_INDEX, list(&[&a, &b, &other]));
    registry.fault(Route::referrers().reference(&image.digest), listed);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .found(&a, API)
        .warning_about(WarningCode::SubjectMismatch, &b.digest)
        .warning_about(WarningCode::SubjectMismatch, &other.digest)
        .check(&graph);
}

#[tokio::test]
async fn what_a_lying_list_and_a_legacy_tag_both_name_is_kept_for_the_tags_sake() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let signature = registry.legacy(APP, &image.digest, "sig", "s");
    let listed = Fault::body(200, media_type::IMAGE_INDEX, list(&[&signature]));
    registry.fault(Route::referrers().reference(&image.digest), listed);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported)
        .legacy(&image.digest, &signature, "sig")
        .warning_about(WarningCode::SubjectMismatch, &signature.digest)
        .check(&graph);
    assert_eq!(graph.referrers[0].category, ArtifactCategory::Signature);

    // The same from a referrers tag that a client wrote by hand.
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let signature = registry.legacy(APP, &image.digest, "sig", "s");
    registry.referrers_tag_index(APP, &image.digest, std::slice::from_ref(&signature));
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .legacy(&image.digest, &signature, "sig")
        .warning_about(WarningCode::SubjectMismatch, &signature.digest)
        .check(&graph);
}

#[tokio::test]
async fn an_entry_that_a_list_names_twice_is_one() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let listed = Fault::body(200, media_type::IMAGE_INDEX, list(&[&a, &a, &a]));
    registry.fault(Route::referrers().reference(&image.digest), listed);
    let graph = discover(&registry, &image.digest).await;
    expect(Native, Supported).found(&a, API).check(&graph);
    let read = registry.requests().into_iter();
    let read = read.filter(|request| request.path.ends_with(&a.digest.to_string()));
    assert_eq!(
        read.filter(|request| request.path.contains("/manifests/"))
            .count(),
        1
    );
}

#[tokio::test]
async fn gitlab_resolves_the_tag_to_the_subject_and_its_platforms_are_no_referrers() {
    let registry = open(Persona::GitLab).await;
    let index = registry.index(APP, "1.0", &["linux/amd64", "linux/arm64"]);
    let graph = discover(&registry, &index.descriptor.digest).await;
    expect(FallbackTag, Unsupported)
        .warning(WarningCode::TagIsSubject)
        .check(&graph);

    let a = registry.referrer(APP, &index.descriptor, SBOM, "a");
    let graph = discovery(&registry)
        .depth(Some(1))
        .run([index.descriptor.digest.clone()])
        .await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .check(&graph);
}

#[tokio::test]
async fn a_tag_that_holds_something_else_than_an_index_is_ignored() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let other = registry.image(APP, "2.0");
    let tag = referrers_tag(&image.digest);
    let docker = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [other],
    });
    let media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
    let docker = registry.put_manifest(APP, media_type, docker.to_string());
    let text = registry.put_manifest(APP, "text/plain", "nothing of the kind");
    for held in [&other, &docker, &text] {
        registry.tag(APP, tag.as_str(), &held.digest);
        let graph = discover(&registry, &image.digest).await;
        expect(FallbackTag, Unsupported)
            .warning(WarningCode::NotAnIndex)
            .check(&graph);
    }
}

#[tokio::test]
async fn a_manifest_of_a_legacy_tag_that_is_none_is_malformed() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let text = registry.put_manifest(APP, media_type::IMAGE_MANIFEST, "no JSON");
    let tag = format!("{}.sig", referrers_tag(&image.digest));
    registry.tag(APP, &tag, &text.digest);
    let graph = discover(&registry, &image.digest).await;
    expect(FallbackTag, Unsupported)
        .error(ErrorCode::Malformed)
        .check(&graph);
}

#[tokio::test]
async fn every_referrer_that_is_kept_has_the_bytes_of_its_digest() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, EMPTY, "a").as_index());
    let signature = registry.legacy(APP, &image.digest, "sig", "s");
    let keeping = discovery(&registry).keep_manifests(true);
    let graph = keeping.run([image.digest.clone()]).await;
    let mut kept: Vec<_> = graph
        .referrers
        .iter()
        .map(|referrer| {
            let manifest = referrer.manifest.as_ref().unwrap();
            assert_eq!(Digest::of(manifest.raw()), referrer.digest);
            referrer.digest.clone()
        })
        .collect();
    kept.sort();
    let mut expected = [a.digest, signature.digest];
    expected.sort();
    assert_eq!(kept, expected);
    assert!(
        graph
            .referrers
            .iter()
            .all(|referrer| referrer.subject == image.digest)
    );
    assert!(
        graph
            .referrers
            .iter()
            .any(|r| r.sources.contains(&SourceKind::LegacyTag))
    );
}
