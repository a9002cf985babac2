//! The graph of subjects and referrers, and what makes it incomplete.

use bundle_format::Container;
use import_validator::{FindingKind, ImportValidator, Severity};
use oci_content::Missing;
use oci_content::{Completeness, Digest, SourceKind, media_type};
use serde_json::{Value, json};

use crate::fixture::{CYCLONEDX, Fixture, pack};

/// Asserts what is found with `--check-referrers`, without it and with strictness.
#[track_caller]
fn assert_found(fixture: Fixture, kinds: &[FindingKind], exit_code: u8, strict_exit_code: u8) {
    let bytes = pack(&fixture.files(), Container::TarGz);
    let validator = ImportValidator::new();
    let report = validator
        .clone()
        .check_referrers(true)
        .validate("bundle", &*bytes);
    let found: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(found, kinds, "{:#?}", report.findings);
    assert_eq!(report.exit_code(), exit_code);
    let strict = validator.strict(true).validate("bundle", &*bytes);
    let found: Vec<_> = strict.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(found, kinds, "strict");
    assert_eq!(strict.exit_code(), strict_exit_code, "strict");
}

/// An image and one referrer whose manifest is changed before it is stored.
fn with_referrer(change: impl Fn(&mut Value)) -> Fixture {
    let mut fixture = Fixture::empty();
    let image = fixture.image("image");
    fixture.add_image(&image);
    let mut referrer = fixture.referrer_json(&image, CYCLONEDX, "sbom");
    change(&mut referrer);
    let referrer = fixture.put(media_type::IMAGE_MANIFEST, &referrer);
    fixture.discover(&image, &[(&referrer, Some(CYCLONEDX))]);
    fixture
}

#[test]
fn a_referrer_has_to_refer_to_the_subject_it_is_listed_under() {
    use FindingKind::*;
    assert_found(with_referrer(|_| {}), &[], 0, 0);
    let other = Digest::of(b"other").to_string();
    let elsewhere = with_referrer(|referrer| referrer["subject"]["digest"] = json!(other));
    assert_found(elsewhere.clone(), &[SubjectMismatch], 4, 4);
    let nowhere = with_referrer(|referrer| {
        referrer.as_object_mut().unwrap().remove("subject");
    });
    assert_found(nowhere, &[ReferrerWithoutSubject], 3, 3);
    // Without --check-referrers, every byte is checked, and the graph is not.
    let bytes = pack(&elsewhere.files(), Container::TarGz);
    assert!(ImportValidator::new().validate("bundle", &*bytes).ok);
}

#[test]
fn a_referrer_has_to_have_the_artifact_type_it_is_listed_with() {
    let other = with_referrer(|referrer| referrer["artifactType"] = json!("a/b"));
    assert_found(other, &[FindingKind::ArtifactTypeMismatch], 4, 4);
    // Without one of its own, the type of its config counts.
    let config = with_referrer(|referrer| {
        referrer.as_object_mut().unwrap().remove("artifactType");
    });
    assert_found(config, &[FindingKind::ArtifactTypeMismatch], 4, 4);
}

#[test]
fn a_subject_descriptor_that_is_wrong_upstream_is_a_warning() {
    let size = with_referrer(|referrer| referrer["subject"]["size"] = json!(1));
    assert_found(size, &[FindingKind::SubjectDescriptorMismatch], 0, 4);
    let of_type = with_referrer(|referrer| {
        referrer["subject"]["mediaType"] = json!(media_type::IMAGE_INDEX);
    });
    assert_found(of_type, &[FindingKind::SubjectDescriptorMismatch], 0, 4);
}

#[test]
fn an_orphan_is_a_warning_and_with_strictness_an_error() {
    let mut fixture = Fixture::small();
    let gone = oci_content::Descriptor::of(media_type::IMAGE_MANIFEST, b"gone");
    let orphan = fixture.referrer(&gone, CYCLONEDX, "orphan");
    fixture.discover(&gone, &[(&orphan, Some(CYCLONEDX))]);
    assert_found(fixture.clone(), &[FindingKind::OrphanedReferrer], 0, 11);
    let bytes = pack(&fixture.files(), Container::TarGz);
    let report = ImportValidator::new()
        .check_referrers(true)
        .validate("bundle", &*bytes);
    let finding = &report.findings[0];
    assert_eq!(finding.severity, Severity::Warning);
    let path = finding.path.as_deref().unwrap();
    assert!(path.starts_with(&format!("referrers/sha256-{}/", gone.digest.encoded())));
    assert!(
        finding
            .to_string()
            .starts_with("warning: OrphanedReferrer: referrers/sha256-")
    );
}

#[test]
fn what_the_export_could_not_complete_is_passed_on() {
    use FindingKind::*;
    let mut fixture = Fixture::small();
    let record = &mut fixture.manifest.graph.discovery[0];
    record.missing.push(Missing::new("dangling-referrer"));
    assert_found(fixture.clone(), &[DiscoveryGap], 0, 11);
    fixture.manifest.graph.discovery[0].status = Completeness::Incomplete;
    let kinds = [BundleIncomplete, DiscoveryIncomplete, DiscoveryGap];
    assert_found(fixture, &kinds, 0, 11);
    let mut fixture = Fixture::small();
    fixture.manifest.graph.discovery.clear();
    let sbom = fixture.objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(sbom.len(), 6);
    fixture.manifest.referrers.bare_images = 1;
    let bytes = pack(&fixture.files(), Container::TarGz);
    let report = ImportValidator::new()
        .check_referrers(true)
        .validate("bundle", &*bytes);
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    // The referrer's manifest and its payload belong to nothing now, nor does the empty config.
    let unreferenced = [UnreferencedObject; 3];
    assert_eq!(kinds[..3], unreferenced);
    assert_eq!(kinds[3..], [ImageNotDiscovered]);
}

#[test]
fn a_manifest_that_refers_to_another_one_has_to_be_listed_as_its_referrer() {
    let mut fixture = Fixture::small();
    let image = fixture.manifest.graph.images[0].clone();
    let subject = oci_content::Descriptor::new(&image.media_type, image.digest, image.size);
    // It came along as an image of its own, and discovery did not name it.
    let unlisted = fixture.referrer(&subject, "a/b", "unlisted");
    let tag = "registry.example.com/team/app:attached".parse().unwrap();
    fixture
        .manifest
        .graph
        .images
        .push(oci_content::ImageRecord::new(
            tag,
            unlisted.digest.clone(),
            &unlisted.media_type,
            unlisted.size,
        ));
    fixture.discover(&unlisted, &[]);
    fixture.manifest.referrers.bare_images = 1;
    assert_found(fixture, &[FindingKind::UnlistedReferrer], 0, 11);
}

#[test]
fn what_a_manifest_that_is_carried_refers_to_is_listed_with_that_source() {
    let with = |listed: bool| {
        let mut fixture = Fixture::empty();
        let image = fixture.image("image");
        let attestation = fixture.referrer(&image, CYCLONEDX, "attestation");
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [image, attestation],
        });
        let index = fixture.put(media_type::IMAGE_INDEX, &index);
        fixture.add_image(&index);
        fixture.discover(&index, &[]);
        if listed {
            fixture.discover(&image, &[(&attestation, Some(CYCLONEDX))])
        } else {
            fixture.discover(&image, &[])
        }
        let records = fixture.manifest.graph.discovery.iter_mut();
        for artifact in records.flat_map(|record| &mut record.artifacts) {
            artifact.sources = vec![SourceKind::Manifest];
        }
        fixture.manifest.referrers.bare_images = u64::from(!listed);
        fixture
    };
    assert_found(with(true), &[], 0, 0);
    assert_found(with(false), &[FindingKind::UnlistedReferrer], 0, 11);
}

#[test]
fn images_without_referrers_are_counted_again() {
    let mut fixture = Fixture::small();
    fixture.manifest.referrers.bare_images = 1;
    assert_found(fixture, &[FindingKind::BareImagesMismatch], 0, 11);
    // A referrer of a platform counts for the image.
    let mut fixture = Fixture::full();
    let index = fixture.manifest.graph.images[0].digest.clone();
    fixture
        .manifest
        .graph
        .discovery
        .retain(|record| record.subject != index);
    let bytes = pack(&fixture.files(), Container::TarGz);
    let report = ImportValidator::new()
        .check_referrers(true)
        .validate("bundle", &*bytes);
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert!(
        !kinds.contains(&FindingKind::BareImagesMismatch),
        "{kinds:?}"
    );
}

#[test]
fn a_legacy_tag_stands_for_a_subject() {
    // The fixture's legacy signature has no subject; one that has another is still what its tag says.
    let fixture = Fixture::full();
    assert_found(fixture, &[], 0, 0);
}
